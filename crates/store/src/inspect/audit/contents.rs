//! Rows whose key or column is a digest of what they hold: configurations of agents, pinned prompts, messages on their way
//! out, and items of inboxes. Whoever edits such a row and not its digest is found here, as by whatever reads the row.
//!
//! No key goes into these digests, so whoever knows how they are made can make another one. Of a configuration the record of
//! its agent still names the old one (`rights`), of a prompt the journals that are pinned to it; of the others nothing does.

use rusqlite::params;

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, DeliveryId, RunId, SessionId};
use dromia_contracts::session::InboxOwner;

use super::AuditProblem;
use super::journals::unreadable;
use super::seals::Walk;
use crate::code::{self, stored};
use crate::open::OpenError;
use crate::read::journal::Bodies;
use crate::read::session::{ITEM_COLUMNS, StoredItem, complete_item, read_item};
use crate::reader::Problem;
use crate::row::{delivery_columns, delivery_seal, read_delivery};

/// How many rows are read at a time; one may hold a message or a prompt.
const ROWS: i64 = 16;

/// A place before every id, and before every digest.
const FIRST_ID: [u8; 16] = [0; 16];

/// What is said of a row whose digest is another one.
const MISMATCH: &str = "it does not match its digest";

impl Walk<'_> {
    /// Compares the rows of the tenant with their digests.
    pub(super) fn contents(&mut self, bodies: Bodies<'_>) -> Result<(), OpenError> {
        let looked = self.revisions();
        self.unless_readable("revisions", looked)?;
        let looked = self.pins();
        self.unless_readable("pins", looked)?;
        let looked = self.deliveries();
        self.unless_readable("deliveries", looked)?;
        let looked = self.inboxes(bodies);
        self.unless_readable("inbox", looked)
    }

    /// Tells of a table with a row that cannot be read; what follows that row is not looked at.
    fn unless_readable(&mut self, table: &str, looked: rusqlite::Result<()>) -> Result<(), OpenError> {
        if let Err(error) = looked {
            let detail = unreadable(error)?;
            self.found_row(AuditProblem::RowChanged, format!("some row of {table}"), None, Some(detail));
        }
        Ok(())
    }

    fn mismatched(&mut self, row: String) {
        self.found_row(AuditProblem::RowChanged, row, None, Some(MISMATCH.to_owned()));
    }

    fn revisions(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT agent, digest, config FROM revisions \
             WHERE tenant = ?1 AND (agent, digest) > (?2, ?3) ORDER BY agent, digest LIMIT ?4",
        )?;
        let mut after = (FIRST_ID, [0_u8; 32]);
        loop {
            let page: Vec<([u8; 16], [u8; 32], String)> = select
                .query_map(params![self.tenant.as_bytes(), after.0, after.1, ROWS], |row| {
                    Ok((code::bytes(row, 0)?, code::bytes(row, 1)?, row.get(2)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.0, last.1);
            for (agent, digest, config) in page {
                if *blake3::hash(config.as_bytes()).as_bytes() != digest {
                    self.mismatched(format!("revision of agent {}", AgentId::from_bytes(agent)));
                }
            }
        }
    }

    fn pins(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT digest, bytes FROM pins WHERE tenant = ?1 AND digest > ?2 ORDER BY digest LIMIT ?3",
        )?;
        let mut after = Vec::new();
        loop {
            let page: Vec<([u8; 32], Vec<u8>)> = select
                .query_map(params![self.tenant.as_bytes(), after, ROWS], |row| {
                    Ok((code::bytes(row, 0)?, row.get(1)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.0.to_vec();
            for (digest, bytes) in page {
                if *blake3::hash(&bytes).as_bytes() != digest {
                    self.mismatched(format!("pin {}", Digest::from_bytes(digest)));
                }
            }
        }
    }

    fn deliveries(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(concat!(
            "SELECT ",
            delivery_columns!(),
            ", digest, body FROM deliveries WHERE tenant = ?1 AND delivery > ?2 ORDER BY delivery LIMIT ?3"
        ))?;
        let mut after = FIRST_ID;
        loop {
            let page: Vec<(DeliveryId, bool)> = select
                .query_map(params![self.tenant.as_bytes(), after, ROWS], |row| {
                    let (delivery, body): (_, Vec<u8>) = (read_delivery(row, 0)?, row.get(19)?);
                    Ok((delivery.id, delivery_seal(&delivery, &body) == code::bytes::<8>(row, 18)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = *last.0.as_bytes();
            for (delivery, _) in page.into_iter().filter(|(_, is_sound)| !is_sound) {
                self.mismatched(format!("delivery {delivery}"));
            }
        }
    }

    fn inboxes(&mut self, bodies: Bodies<'_>) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS}, owner FROM inbox \
             WHERE tenant = ?1 AND (owner, position) > (?2, ?3) ORDER BY owner, position LIMIT ?4"
        ))?;
        let mut after = (FIRST_ID, 0);
        loop {
            let page: Vec<([u8; 16], StoredItem)> = select
                .query_map(params![self.tenant.as_bytes(), after.0, stored(after.1), ROWS], |row| {
                    Ok((code::bytes(row, 10)?, read_item(row)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.0, last.1.item.position);
            for (owner, item) in page {
                let position = item.item.position;
                // The digest covers the owner's bytes, whatever they name.
                let session = InboxOwner::Session(SessionId::from_bytes(owner));
                let problem = match complete_item(&bodies, session, item) {
                    Ok(_) => continue,
                    Err(Problem::Damaged { problem, .. }) => problem,
                    Err(Problem::Sql(error)) => return Err(error),
                };
                // What was erased since the page was read is missed by nobody.
                if let Some(row) = self.item_name(owner, position)? {
                    self.found_row(AuditProblem::RowChanged, row, None, Some(problem));
                }
            }
        }
    }

    /// Names an item by its owner, if it is there still.
    fn item_name(&self, owner: [u8; 16], position: u64) -> rusqlite::Result<Option<String>> {
        let tenant = self.tenant.as_bytes();
        let mut is_there = self
            .db
            .prepare_cached("SELECT 1 FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3")?;
        if !is_there.exists(params![tenant, owner, stored(position)])? {
            return Ok(None);
        }
        let mut is_run = self.db.prepare_cached("SELECT 1 FROM runs WHERE tenant = ?1 AND run = ?2")?;
        let owner = if is_run.exists(params![tenant, owner])? {
            RunId::from_bytes(owner).to_string()
        } else {
            SessionId::from_bytes(owner).to_string()
        };
        Ok(Some(format!("item {position} of the inbox of {owner}")))
    }
}
