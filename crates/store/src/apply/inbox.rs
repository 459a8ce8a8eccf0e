//! Inbox items and the keys that remember them.
//!
//! A key's row is written only where the caller sent a key or where the item has to wait: the item of a plain turn
//! is taken by the claim of its own batch and is found again by that claim's entries. Whether a key has expired is
//! judged by the time of the item that comes, so the answer does not depend on when its row is removed.

use rusqlite::{OptionalExtension as _, ToSql, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{ItemId, RunId, SessionId};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{CommitRefusal, InboxPut, KeyedItem, TurnClaim};

use super::agent::AgentDrafts;
use super::journal::{RunDrafts, write_body};
use super::session::SessionDrafts;
use super::{Checked, TableDraft, TenantDb};
use crate::body::{self, BodyLocation};
use crate::check_value;
use crate::column_codes::{self, StoredEnum as _, stored_counter};
use crate::read::key;
use crate::row::{ItemSeal, item_seal};

/// The longest key, in bytes.
const KEY_MAX: usize = 512;

/// An item that the batch puts.
#[derive(Debug)]
struct ItemDraft<'b> {
    put: &'b InboxPut,
    position: u64,
    taken_by: Option<RunId>,
}

/// The items that the batch puts, and those that its claim takes.
#[derive(Debug, Default)]
pub(super) struct InboxDrafts<'b> {
    items: Vec<ItemDraft<'b>>,
    /// The claim, once it is granted.
    taker: Option<&'b TurnClaim>,
    /// The items of earlier batches that runs take.
    taken: Vec<TakenPosition>,
}

/// An item of a session's inbox that a run takes.
#[derive(Debug, Clone, Copy)]
struct TakenPosition {
    session: SessionId,
    position: u64,
    run: RunId,
}

/// Where an item may go: the sessions and runs whose inboxes there are.
pub(super) struct InboxOwners<'d, 'b> {
    pub(super) agents: &'d mut AgentDrafts<'b>,
    pub(super) sessions: &'d mut SessionDrafts<'b>,
    pub(super) runs: &'d mut RunDrafts<'b>,
}

impl<'b> InboxDrafts<'b> {
    /// Puts an item, or finds it again; returns its position.
    pub(super) fn put_item(
        &mut self,
        db: TenantDb<'_>,
        put: &'b InboxPut,
        claim: Option<&TurnClaim>,
        owners: &mut InboxOwners<'_, 'b>,
    ) -> Checked<u64> {
        if put.key.as_ref().is_some_and(|key| key.key.len() > KEY_MAX) {
            return Err(CommitRefusal::Malformed(format!("a key has at most {KEY_MAX} bytes")).into());
        }
        if !put.owner.takes_kind(put.kind) {
            return Err(CommitRefusal::Malformed(
                "the item is of a kind that its inbox does not take".into(),
            )
            .into());
        }
        if let Some(found) = self.remembered_item(db, put)? {
            let request = put.key.as_ref().map_or_else(Digest::default, |key| key.request);
            if found.item != put.item {
                let KeyedItem { item, owner, position, request } = found;
                return Err(CommitRefusal::KeyTaken { item, owner, position, request }.into());
            }
            if found.owner != put.owner || found.request != request {
                return Err(CommitRefusal::Malformed(format!("{} is another item", put.item)).into());
            }
            return Ok(found.position);
        }
        if let Some(position) = self.taken_before(db, put, claim)? {
            return Ok(position);
        }
        let position = next_position(db, put, owners)?;
        self.items.push(ItemDraft { put, position, taken_by: None });
        Ok(position)
    }

    fn remembered_item(&self, db: TenantDb<'_>, put: &InboxPut) -> Checked<Option<KeyedItem>> {
        let drafted = self.items.iter().find(|draft| match (&draft.put.key, &put.key) {
            (Some(drafted), Some(key)) => drafted.key == key.key,
            (None, None) => draft.put.item == put.item,
            (Some(_), None) | (None, Some(_)) => false,
        });
        if let Some(draft) = drafted {
            return Ok(Some(KeyedItem {
                item: draft.put.item,
                owner: draft.put.owner,
                position: draft.position,
                request: draft.put.key.as_ref().map_or_else(Digest::default, |key| key.request),
            }));
        }
        Ok(key::find_key(&db, db.tenant, key_column(put), put.at)?)
    }

    /// Finds an item that the claim of this same batch, if it was granted earlier, took when it was first submitted.
    fn taken_before(
        &self,
        db: TenantDb<'_>,
        put: &InboxPut,
        claim: Option<&TurnClaim>,
    ) -> Checked<Option<u64>> {
        let Some(claim) = claim else { return Ok(None) };
        if put.owner != InboxOwner::Session(claim.session) {
            return Ok(None);
        }
        let Some(index) = claim.take.iter().position(|item| *item == put.item) else { return Ok(None) };
        let position = claim.after + 1 + index as u64;
        let found = self.item_at(db, claim.session, position)?;
        Ok((found == Some(put.item)).then_some(position))
    }

    /// Returns the item at a position of a session's inbox.
    pub(super) fn item_at(
        &self,
        db: TenantDb<'_>,
        session: SessionId,
        position: u64,
    ) -> Checked<Option<ItemId>> {
        let drafted = self
            .items
            .iter()
            .find(|draft| draft.position == position && draft.put.owner == InboxOwner::Session(session));
        if let Some(draft) = drafted {
            return Ok(Some(draft.put.item));
        }
        let found = db
            .prepare_cached("SELECT item FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3")?
            .query_row(params![db.tenant.as_bytes(), session.as_bytes(), stored_counter(position)], |row| {
                column_codes::read_bytes(row, 0)
            })
            .optional()?;
        Ok(found.map(ItemId::from_bytes))
    }

    /// Gives a run so many items after those that were taken before. Returns the position of the last one.
    pub(super) fn take_items(&mut self, session: SessionId, run: RunId, after: u64, count: usize) -> u64 {
        let upto = after + count as u64;
        for position in after + 1..=upto {
            let drafted = self
                .items
                .iter_mut()
                .find(|draft| draft.position == position && draft.put.owner == InboxOwner::Session(session));
            match drafted {
                Some(draft) => draft.taken_by = Some(run),
                None => self.taken.push(TakenPosition { session, position, run }),
            }
        }
        upto
    }

    /// Notes that the claim was granted.
    pub(super) fn grant_claim(&mut self, claim: &'b TurnClaim) {
        self.taker = Some(claim);
    }

    /// Returns the claim, if it was granted.
    pub(super) fn granted_claim(&self) -> Option<&'b TurnClaim> {
        self.taker
    }

    fn write_items(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for ItemDraft { put, position, taken_by } in &self.items {
            let place = BodyLocation::for_length(put.body.len());
            let body_hash = body::hash_body(&db.body_key, &put.body);
            let inline = (place == BodyLocation::Row).then_some(&put.body[..]);
            let seal = item_seal(&ItemSeal {
                owner: put.owner.as_bytes(),
                position: *position,
                item: put.item,
                at_ms: put.at.as_millisecond(),
                kind: put.kind.stored_code(),
                author: put.author.as_str(),
                body_hash: &body_hash,
            });
            db.prepare_cached(
                "INSERT INTO inbox \
                 (tenant, owner, position, item, at, kind, author, digest, taken_by, key, place, body, body_hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                put.owner.as_bytes(),
                stored_counter(*position),
                put.item.as_bytes(),
                put.at.as_millisecond(),
                put.kind.stored_code(),
                put.author.as_str(),
                seal,
                taken_by.as_ref().map(RunId::as_bytes),
                put.key.as_ref().map(|key| &key.key),
                place.stored_code(),
                inline,
                (place != BodyLocation::Row).then_some(body_hash),
            ])?;
            write_body(&db, db.tenant, &body_hash, &put.body, put.owner.as_bytes(), true, *position)?;
            if put.key.is_some() || taken_by.is_none() {
                let expires_at = put.key_expires_at();
                if expires_at.is_some() {
                    forget_keys(db, put)?;
                }
                // Its check found no live key; one that has expired is replaced.
                let values = params![
                    db.tenant.as_bytes(),
                    key_column(put),
                    put.item.as_bytes(),
                    put.owner.as_bytes(),
                    matches!(put.owner, InboxOwner::Run(_)),
                    stored_counter(*position),
                    put.key.as_ref().map(|key| key.request.as_bytes()),
                    expires_at.map(jiff::Timestamp::as_millisecond),
                ];
                check_value::KEYS.put_row(&db, values)?;
            }
        }
        Ok(())
    }

    /// Marks the items of earlier batches that runs took.
    fn write_taken(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for TakenPosition { session, position, run } in &self.taken {
            db.prepare_cached(
                "UPDATE inbox SET taken_by = ?4 WHERE tenant = ?1 AND owner = ?2 AND position = ?3",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                session.as_bytes(),
                stored_counter(*position),
                run.as_bytes(),
            ])?;
        }
        Ok(())
    }
}

impl TableDraft for InboxDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        self.write_items(db)?;
        self.write_taken(db)
    }
}

/// Counts an item into its inbox, if the inbox takes any.
fn next_position(db: TenantDb<'_>, put: &InboxPut, owners: &mut InboxOwners<'_, '_>) -> Checked<u64> {
    match put.owner {
        InboxOwner::Session(session) => {
            let draft = owners.sessions.find_session(db, session)?;
            match owners.agents.find_state(db, draft.agent)? {
                None => return Err(CommitRefusal::NotFound(draft.agent.to_string()).into()),
                Some(found @ (AgentState::Terminated | AgentState::Deleting)) => {
                    return Err(CommitRefusal::AgentState { found }.into());
                }
                Some(AgentState::Running | AgentState::Paused) => {}
            }
            draft.head.last += 1;
            draft.changed = true;
            Ok(draft.head.last)
        }
        InboxOwner::Run(run) => {
            let draft = owners.runs.find_run(db, run)?;
            // The run that takes signals has ended: an item here would wait for ever and say that it was accepted.
            if draft.head.status.is_terminal() {
                return Err(CommitRefusal::RunTerminal.into());
            }
            draft.signals_last += 1;
            draft.changed = true;
            Ok(draft.signals_last)
        }
    }
}

/// The key as its column has it: the caller's text, or the item's id as a blob, which equals no text.
fn key_column(put: &InboxPut) -> &dyn ToSql {
    match &put.key {
        Some(key) => &key.key,
        None => put.item.as_bytes(),
    }
}

/// Removes the oldest keys of the tenant that have expired at the item's time. Two for each that comes, so that
/// they grow fewer, and no batch does more than its share.
fn forget_keys(db: TenantDb<'_>, put: &InboxPut) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM keys WHERE (tenant, key) IN (SELECT tenant, key FROM keys INDEXED BY keys_expiring \
             WHERE tenant = ?1 AND expires_at <= ?2 ORDER BY expires_at LIMIT 2)",
    )?
    .execute(params![db.tenant.as_bytes(), put.at.as_millisecond()])?;
    Ok(())
}
