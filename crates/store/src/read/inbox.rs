//! Items of inboxes with their bodies, and the checks that a read makes of them.

use rusqlite::{Row, params};

use dromia_contracts::id::{ItemId, RunId};
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::PageRequest;

use super::journal::{BodyReader, StoredBody};
use super::{Found, ScopeView, row_limit};
use crate::column_codes::{self, StoredEnum as _, stored_counter};
use crate::reader::{ReadContext, ReadFailure};
use crate::row::{ItemSeal, item_seal};

/// An item's row; its body may lie elsewhere.
pub(crate) struct StoredItem {
    pub(crate) item: InboxItem,
    pub(super) body: StoredBody,
    pub(super) seal: [u8; 8],
}

pub(crate) const ITEM_COLUMNS: &str =
    "position, item, at, kind, author, digest, taken_by, place, body, body_hash";

pub(crate) fn read_item(row: &Row<'_>) -> rusqlite::Result<StoredItem> {
    let kind: ItemKind = column_codes::read_enum(row, 3)?;
    Ok(StoredItem {
        item: InboxItem {
            id: ItemId::from_bytes(column_codes::read_bytes(row, 1)?),
            position: column_codes::read_counter(row, 0)?,
            at: column_codes::read_time(row, 2)?,
            kind,
            author: Actor::new(row.get_ref(4)?.as_str()?),
            body: None,
            taken_by: column_codes::bytes_opt(row, 6)?.map(RunId::from_bytes),
        },
        seal: column_codes::read_bytes(row, 5)?,
        body: StoredBody::from_row(row, 7)?,
    })
}

/// Completes an item with its body, and checks it.
pub(crate) fn complete_item(bodies: &BodyReader<'_>, owner: InboxOwner, row: StoredItem) -> Found<InboxItem> {
    let StoredItem { mut item, body, seal } = row;
    let place = || format!("item {} of the inbox of {}", item.position, owner_name(owner));
    let (body, hash) = bodies.resolve_body(body, place)?;
    let Some(hash) = hash else { return Err(ReadFailure::damaged_row(place(), "it has no body")) };
    let expected = item_seal(&ItemSeal {
        owner: owner.as_bytes(),
        position: item.position,
        item: item.id,
        at_ms: item.at.as_millisecond(),
        kind: item.kind.stored_code(),
        author: item.author.as_str(),
        body_hash: &hash,
    });
    if expected != seal {
        return Err(ReadFailure::damaged_row(place(), "it does not match its digest"));
    }
    item.body = body;
    Ok(item)
}

fn owner_name(owner: InboxOwner) -> String {
    match owner {
        InboxOwner::Session(session) => session.to_string(),
        InboxOwner::Run(run) => run.to_string(),
    }
}

pub(crate) fn read_inbox(
    reading: &mut ReadContext,
    view: ScopeView,
    owner: InboxOwner,
    after: u64,
    limit: usize,
) -> Found<Vec<InboxItem>> {
    let ReadContext { db, keys, files, .. } = reading;
    let last = match owner {
        InboxOwner::Session(session) => {
            super::session::by_id(db, view, session)?.map(|session| session.head.last)
        }
        InboxOwner::Run(run) => super::run::by_id(db, view, run)?.map(|run| run.signals_last),
    };
    let (Some(last), Some(key)) = (last, keys.get(db, view.tenant)?) else { return Ok(Vec::new()) };
    let bodies = BodyReader { db, files, tenant: view.tenant, key: &key };
    let mut select = db.prepare_cached(&format!(
        "SELECT {ITEM_COLUMNS} FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position > ?3 \
         ORDER BY position LIMIT ?4"
    ))?;
    let found = select.query_map(
        params![view.tenant.as_bytes(), owner.as_bytes(), stored_counter(after), row_limit(limit)],
        read_item,
    )?;
    let mut items: Vec<InboxItem> = Vec::new();
    for row in found {
        let item = complete_item(&bodies, owner, row?)?;
        let expected = items.last().map_or(after, |before| before.position) + 1;
        if item.position != expected {
            return Err(ReadFailure::damaged_row(
                format!("the inbox of {}", owner_name(owner)),
                format!("item {expected} is missing"),
            ));
        }
        items.push(item);
    }
    let reached = items.last().map_or(after, |item| item.position);
    if items.len() < limit.min(PageRequest::<()>::LIMIT_MAX) && reached < last {
        return Err(ReadFailure::damaged_row(
            format!("the inbox of {}", owner_name(owner)),
            format!("it ends at {reached}, but its head says {last}"),
        ));
    }
    Ok(items)
}
