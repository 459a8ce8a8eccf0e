//! The inputs that runs and sessions began with, for people who look for one in a list.
//!
//! What it costs depends on the page: no file is opened and no journal is checked, so this is never for deciding.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::entry::Entry;
use dromia_contracts::id::{RunId, SessionId, TenantId};
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{OPENING_BYTES_MAX, OPENINGS_BYTES_MAX};

use super::inbox::{ITEM_COLUMNS, complete_item, read_item};
use super::journal::{BodyReader, unpack_fields};
use super::{Found, ScopeView};
use crate::column_codes::stored_counter;
use crate::reader::{ReadContext, ReadFailure};

/// Reads the input that each of these began with. What is damaged is absent here, and an error where it is read by itself.
pub(crate) fn read_openings(
    reading: &mut ReadContext,
    view: ScopeView,
    owners: &[InboxOwner],
) -> Found<Vec<Option<Bytes>>> {
    let ReadContext { db, keys, files, .. } = reading;
    let Some(key) = keys.get(db, view.tenant)? else { return Ok(vec![None; owners.len()]) };
    let bodies = BodyReader { db, files, tenant: view.tenant, key: &key };
    let mut left = OPENINGS_BYTES_MAX;
    let mut openings = Vec::with_capacity(owners.len());
    for owner in owners {
        let opening = match read_opening(&bodies, view, *owner) {
            Err(ReadFailure::Damaged { .. }) => None,
            opening => opening?.filter(|body| body.len() <= OPENING_BYTES_MAX.min(left)),
        };
        left -= opening.as_ref().map_or(0, Bytes::len);
        openings.push(opening);
    }
    Ok(openings)
}

fn read_opening(bodies: &BodyReader<'_>, view: ScopeView, owner: InboxOwner) -> Found<Option<Bytes>> {
    let place = match owner {
        InboxOwner::Session(session) => {
            super::session::by_id(bodies.db, view, session)?.map(|session| (session.id, 1))
        }
        InboxOwner::Run(run) => match super::run::by_id(bodies.db, view, run)? {
            Some(run) => first_taken(bodies.db, view.tenant, run.id)?,
            None => None,
        },
    };
    let Some((session, position)) = place else { return Ok(None) };
    let found = bodies
        .db
        .prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS} FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3"
        ))?
        .query_row(params![bodies.tenant.as_bytes(), session.as_bytes(), stored_counter(position)], read_item)
        .optional()?;
    match found.filter(|row| row.item.kind == ItemKind::Input && !row.body.is_file()) {
        Some(row) => Ok(complete_item(bodies, InboxOwner::Session(session), row)?.body),
        None => Ok(None),
    }
}

/// Returns the session of a run and the position of the first item that it took there, by the first entry of its journal.
fn first_taken(db: &Connection, tenant: TenantId, run: RunId) -> Found<Option<(SessionId, u64)>> {
    let row = db
        .prepare_cached(
            "SELECT kind, version, fields, packed FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = 1",
        )?
        .query_row(params![tenant.as_bytes(), run.as_bytes()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Option<Vec<u8>>>(3)?,
            ))
        })
        .optional()?;
    let Some((kind, version, mut fields, packed)) = row else { return Ok(None) };
    if let Some(packed) = packed {
        fields = unpack_fields(&packed, || format!("entry 1 of {run}"))?;
    }
    Ok(match Entry::decode(&kind, version, &fields) {
        Ok(Entry::RunStarted(started)) if !started.items.is_empty() => {
            Some((started.session, started.after + 1))
        }
        _ => None,
    })
}
