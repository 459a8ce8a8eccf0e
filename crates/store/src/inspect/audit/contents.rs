//! Rows whose key or column is a digest of what they hold: configurations of agents, pinned prompts, messages on their way
//! out, and items of inboxes. An edit of such a row but not of its digest is found here, and by every read of the row.
//!
//! These digests have no key, so an author who knows their recipe can make another one. Of a configuration the record
//! of its agent still names the old one (`rights`), of a prompt the journals pinned to it; of the others nothing does.

use rusqlite::params;

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, DeliveryId, RunId, SessionId};
use dromia_contracts::session::{InboxItem, InboxOwner};

use super::journals::unreadable_row;
use super::seals::ChainWalk;
use super::{AuditProblem, sessions};
use crate::column_codes::{self, stored_counter};
use crate::inspect::heads;
use crate::open_error::OpenError;
use crate::read::inbox::{ITEM_COLUMNS, StoredItem, complete_item, read_item};
use crate::read::journal::BodyReader;
use crate::reader::ReadFailure;
use crate::row::{delivery_columns, delivery_seal, read_delivery};

/// How many rows are read at a time; one may hold a message or a prompt.
const ROWS: i64 = 16;

/// A place before every id, and before every digest.
const FIRST_ID: [u8; 16] = [0; 16];

/// What is said of a row whose digest is another one.
const MISMATCH: &str = "it does not match its digest";

impl ChainWalk<'_> {
    /// Compares the rows of the tenant with their digests.
    pub(super) fn check_contents(&mut self, bodies: BodyReader<'_>) -> Result<(), OpenError> {
        let looked = self.check_revisions();
        self.unless_readable("revisions", looked)?;
        let looked = self.check_pins();
        self.unless_readable("pins", looked)?;
        let looked = self.check_deliveries();
        self.unless_readable("deliveries", looked)?;
        let looked = self.check_inboxes(bodies);
        self.unless_readable("inbox", looked)
    }

    /// Compares the heads of sessions with inboxes and runs, and rows with the check value that they carry.
    pub(super) fn check_sums(&mut self) -> Result<(), OpenError> {
        for compare in [heads::compare_heads, heads::compare_sealed_rows] {
            match compare(self.db, self.tenant) {
                Ok(found) => {
                    for heads::RowMismatch { row, detail } in found {
                        self.found_row(AuditProblem::RowChanged, row, None, Some(detail));
                    }
                }
                Err(error) => self.unless_readable("session_heads", Err(error))?,
            }
        }
        Ok(())
    }

    /// Reports a table with a row that cannot be read; what follows that row is not looked at.
    fn unless_readable(&mut self, table: &str, looked: rusqlite::Result<()>) -> Result<(), OpenError> {
        if let Err(error) = looked {
            let detail = unreadable_row(error)?;
            self.found_row(AuditProblem::RowChanged, format!("some row of {table}"), None, Some(detail));
        }
        Ok(())
    }

    fn report_mismatch(&mut self, row: String) {
        self.found_row(AuditProblem::RowChanged, row, None, Some(MISMATCH.to_owned()));
    }

    fn check_revisions(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT agent, digest, config, number FROM revisions \
             WHERE tenant = ?1 AND (agent, number) > (?2, ?3) ORDER BY agent, number LIMIT ?4",
        )?;
        let mut after = (FIRST_ID, 0_i64);
        loop {
            let page: Vec<([u8; 16], [u8; 32], String, i64)> = select
                .query_map(params![self.tenant.as_bytes(), after.0, after.1, ROWS], |row| {
                    let (agent, digest) =
                        (column_codes::read_bytes(row, 0)?, column_codes::read_bytes(row, 1)?);
                    Ok((agent, digest, row.get(2)?, row.get(3)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.0, last.3);
            for (agent, digest, config, _) in page {
                if *blake3::hash(config.as_bytes()).as_bytes() != digest {
                    self.report_mismatch(format!("revision of agent {}", AgentId::from_bytes(agent)));
                }
            }
        }
    }

    fn check_pins(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT digest, bytes FROM pins WHERE tenant = ?1 AND digest > ?2 ORDER BY digest LIMIT ?3",
        )?;
        let mut after = Vec::new();
        loop {
            let page: Vec<([u8; 32], Vec<u8>)> = select
                .query_map(params![self.tenant.as_bytes(), after, ROWS], |row| {
                    Ok((column_codes::read_bytes(row, 0)?, row.get(1)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.0.to_vec();
            for (digest, bytes) in page {
                if *blake3::hash(&bytes).as_bytes() != digest {
                    self.report_mismatch(format!("pin {}", Digest::from_bytes(digest)));
                }
            }
        }
    }

    fn check_deliveries(&mut self) -> rusqlite::Result<()> {
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
                    Ok((
                        delivery.id,
                        delivery_seal(&delivery, &body) == column_codes::read_bytes::<8>(row, 18)?,
                    ))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = *last.0.as_bytes();
            for (delivery, _) in page.into_iter().filter(|(_, is_sound)| !is_sound) {
                self.report_mismatch(format!("delivery {delivery}"));
            }
        }
    }

    fn check_inboxes(&mut self, bodies: BodyReader<'_>) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(&format!(
            "SELECT {ITEM_COLUMNS}, owner FROM inbox \
             WHERE tenant = ?1 AND (owner, position) > (?2, ?3) ORDER BY owner, position LIMIT ?4"
        ))?;
        let mut after = (FIRST_ID, 0);
        loop {
            let page: Vec<([u8; 16], StoredItem)> = select
                .query_map(params![self.tenant.as_bytes(), after.0, stored_counter(after.1), ROWS], |row| {
                    Ok((column_codes::read_bytes(row, 10)?, read_item(row)?))
                })?
                .collect::<Result<_, _>>()?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.0, last.1.item.position);
            for (owner, item) in page {
                let position = item.item.position;
                if let Some(detail) = self.taker_mismatch(&owner, &item.item)?
                    && let Some(row) = self.item_name(owner, position)?
                {
                    self.found_row(AuditProblem::RowChanged, row, None, Some(detail));
                }
                // The digest covers the owner's bytes, whatever they name.
                let session = InboxOwner::Session(SessionId::from_bytes(owner));
                let problem = match complete_item(&bodies, session, item) {
                    Ok(_) => continue,
                    Err(ReadFailure::Damaged { problem, .. }) => problem,
                    Err(ReadFailure::Sql(error)) => return Err(error),
                };
                // An item that was erased since the page was read is no finding.
                if let Some(row) = self.item_name(owner, position)? {
                    self.found_row(AuditProblem::RowChanged, row, None, Some(problem));
                }
            }
        }
    }

    /// Says how an item's row contradicts the journals: it names a run that did not take the item.
    fn taker_mismatch(&mut self, owner: &[u8; 16], item: &InboxItem) -> rusqlite::Result<Option<String>> {
        let Some(run) = item.taken_by else { return Ok(None) };
        if run.as_bytes() == owner {
            return self.signal_mismatch(run, item.position);
        }
        if let Some(taken) = self.taken.get(run.as_bytes()) {
            let is_taker =
                taken.session == *owner && taken.after < item.position && item.position <= taken.last;
            if is_taker || (item.position > taken.last && !self.is_journal_end(run, taken.last_seq)?) {
                return Ok(None);
            }
            return Ok(Some(format!("it names the run {run}, but that run's journal does not have it")));
        }
        // The journal of that run began after the journals were read, or it could not be read.
        let mut is_run = self.db.prepare_cached("SELECT 1 FROM runs WHERE tenant = ?1 AND run = ?2")?;
        let is_there = is_run.exists(params![self.tenant.as_bytes(), run.as_bytes()])?;
        if is_there || self.is_session_of_erased(owner)? || sessions::is_session_erased(self, owner)? {
            return Ok(None);
        }
        Ok(Some(format!("it names the run {run}, which does not exist")))
    }

    /// Returns whether a run has no entry behind the last one that was read: it may have gone on since.
    fn is_journal_end(&self, run: RunId, last_seq: u64) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached("SELECT 1 FROM runs WHERE tenant = ?1 AND run = ?2 AND last_seq = ?3")?
            .exists(params![self.tenant.as_bytes(), run.as_bytes(), stored_counter(last_seq)])
    }

    /// Says so where a signal's row says that its run took it and the run's journal, read to the end, does not.
    fn signal_mismatch(&self, run: RunId, position: u64) -> rusqlite::Result<Option<String>> {
        let Some(taken) = self.taken.get(run.as_bytes()) else { return Ok(None) };
        if position <= taken.signals {
            return Ok(None);
        }
        let is_same = self.is_journal_end(run, taken.last_seq)?;
        Ok(is_same.then(|| format!("it names the run {run}, but that run's journal does not have it")))
    }

    /// Returns whether a session's agent is being erased: its runs go before its inbox does.
    fn is_session_of_erased(&mut self, session: &[u8; 16]) -> rusqlite::Result<bool> {
        let agents: Vec<AgentId> = self
            .db
            .prepare_cached("SELECT agent FROM sessions WHERE tenant = ?1 AND session = ?2")?
            .query_map(params![self.tenant.as_bytes(), session], |row| {
                column_codes::read_bytes(row, 0).map(AgentId::from_bytes)
            })?
            .collect::<Result<_, _>>()?;
        for agent in &agents {
            if !self.is_agent_erased(*agent)? {
                return Ok(false);
            }
        }
        Ok(!agents.is_empty())
    }

    /// Names an item by its owner, if it is there still.
    fn item_name(&self, owner: [u8; 16], position: u64) -> rusqlite::Result<Option<String>> {
        let tenant = self.tenant.as_bytes();
        let mut is_there = self
            .db
            .prepare_cached("SELECT 1 FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3")?;
        if !is_there.exists(params![tenant, owner, stored_counter(position)])? {
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
