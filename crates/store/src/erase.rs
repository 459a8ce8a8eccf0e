//! Erasing an agent, or the rest of a session, a page of rows at a time.
//!
//! Of a session that a commit erased, its messages go first, then its runs, and last what is in its inbox, with the mark by which
//! a restart finds it. Of an agent:
//!
//! Messages on their way out go first, then runs, sessions, configurations, the prompts that only its runs name, and last
//! the agent itself. Each page removes the rows that are
//! found by others before those others, so a crash between two pages loses nothing that the next page needs, and
//! any page may be repeated. Only an agent in state `deleting` is erased.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::agent::{AgentState, ErasureCounts};
use dromia_contracts::id::{AgentId, RunId, SessionId, TenantId};
use dromia_contracts::store::{AnswerPut, WriteBatch};

use crate::body::{BodyLocation, FileBodies};
use crate::column_codes::{self, StoredEnum as _};

/// Files to be removed once the rows that named them are durably gone.
#[derive(Debug, Default)]
pub(crate) struct UnlinkList {
    pub(crate) bodies: Vec<(TenantId, [u8; 32])>,
    /// A tenant that is gone, whose directory goes too.
    pub(crate) directory: Option<TenantId>,
}

impl UnlinkList {
    pub(crate) fn remove_files(self, files: &FileBodies) {
        for (tenant, hash) in self.bodies {
            if let Err(error) = files.remove(tenant, &hash) {
                tracing::warn!(%error, "a body's file stays until the next sweep");
            }
        }
        if let Some(tenant) = self.directory
            && let Err(error) = files.remove_tenant(tenant)
        {
            tracing::warn!(%error, "the directory of an erased tenant stays until the next sweep");
        }
    }
}

/// What is erased.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ErasedOwner {
    /// An agent in state `deleting`.
    Agent(AgentId),
    /// A session that a commit erased.
    Session(SessionId),
}

/// Erases at most one page. Returns what went, and whether nothing of the owner is left.
pub(crate) fn erase_one_page(
    db: &Connection,
    tenant: TenantId,
    owner: ErasedOwner,
) -> rusqlite::Result<((ErasureCounts, bool), UnlinkList)> {
    let agent = match owner {
        ErasedOwner::Agent(agent) => agent,
        ErasedOwner::Session(session) => match agent_of_erased(db, tenant, session)? {
            Some(agent) => agent,
            None => return Ok(((ErasureCounts::default(), true), UnlinkList::default())),
        },
    };
    let mut page = ErasurePage {
        db,
        tenant,
        agent,
        left: WriteBatch::ROWS_MAX,
        erased: ErasureCounts::default(),
        unlink: UnlinkList::default(),
    };
    let done = match owner {
        ErasedOwner::Agent(_) => page.erase()?,
        ErasedOwner::Session(session) => page.erase_hidden(session.as_bytes())?,
    };
    Ok(((page.erased, done), page.unlink))
}

/// Finds the agent of a session that was erased and has rows left.
fn agent_of_erased(
    db: &Connection,
    tenant: TenantId,
    session: SessionId,
) -> rusqlite::Result<Option<AgentId>> {
    db.prepare_cached(
        "SELECT erased_agent FROM hidden_sessions WHERE tenant = ?1 AND session = ?2 AND erased_agent IS NOT NULL",
    )?
    .query_row(params![tenant.as_bytes(), session.as_bytes()], |row| column_codes::read_bytes(row, 0))
    .optional()
    .map(|found| found.map(AgentId::from_bytes))
}

struct ErasurePage<'a> {
    db: &'a Connection,
    tenant: TenantId,
    agent: AgentId,
    /// Rows that may still go.
    left: usize,
    erased: ErasureCounts,
    unlink: UnlinkList,
}

impl ErasurePage<'_> {
    fn erase(&mut self) -> rusqlite::Result<bool> {
        let state: Option<i64> = self
            .db
            .prepare_cached("SELECT state FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .query_row(params![self.tenant.as_bytes(), self.agent.as_bytes()], |row| row.get(0))
            .optional()?;
        if state != Some(AgentState::Deleting.stored_code()) {
            // Gone already, or not to be erased: either way there is nothing to come back for.
            return Ok(true);
        }
        // What changes gave may say what the agent was; that they were carried out is kept.
        self.delete_rows(
            "UPDATE answers SET answer = ?2 WHERE (tenant, key) IN \
             (SELECT tenant, key FROM answers WHERE tenant = ?1 AND length(answer) > 1 LIMIT ?3)",
            AnswerPut::NOT_KEPT,
        )?;
        if self.left == 0 {
            return Ok(false);
        }
        let first = "SELECT delivery FROM deliveries INDEXED BY deliveries_agent \
                     WHERE tenant = ?1 AND agent = ?2 ORDER BY delivery LIMIT 1";
        let agent = *self.agent.as_bytes();
        if !self.erase_deliveries(first, &agent)? || !self.erase_approvals()? {
            return Ok(false);
        }
        while let Some(run) = self.next("SELECT run FROM runs INDEXED BY runs_agent WHERE tenant = ?1 AND agent = ?2 ORDER BY run LIMIT 1")? {
            if !self.erase_run(&run)? {
                return Ok(false);
            }
        }
        while let Some(session) = self
            .next("SELECT session FROM sessions WHERE tenant = ?1 AND agent = ?2 ORDER BY session LIMIT 1")?
        {
            if !self.erase_session(&session)? {
                return Ok(false);
            }
        }
        let hidden = "SELECT session FROM hidden_sessions WHERE tenant = ?1 AND erased_agent = ?2 ORDER BY session LIMIT 1";
        while let Some(session) = self.next(hidden)? {
            if !self.erase_session(&session)? {
                return Ok(false);
            }
        }
        let agent = self.agent;
        let revisions = self.delete_rows(
            "DELETE FROM revisions WHERE (tenant, agent, number) IN \
             (SELECT tenant, agent, number FROM revisions WHERE tenant = ?1 AND agent = ?2 LIMIT ?3)",
            agent.as_bytes(),
        )?;
        tracing::trace!(revisions, "configurations erased");
        if self.left == 0 {
            return Ok(false);
        }
        if !self.erase_counts(&agent.to_string())? {
            return Ok(false);
        }
        self.delete_rows(
            "DELETE FROM file_labels WHERE (tenant, agent, path) IN \
             (SELECT tenant, agent, path FROM file_labels WHERE tenant = ?1 AND agent = ?2 LIMIT ?3)",
            agent.as_bytes(),
        )?;
        if self.left == 0 {
            return Ok(false);
        }
        // What was made from them counts no more, because what it was made from is gone.
        self.delete_rows(
            "DELETE FROM capabilities WHERE (tenant, capability) IN \
             (SELECT tenant, capability FROM capabilities INDEXED BY capabilities_holder \
              WHERE tenant = ?1 AND holder = ?2 LIMIT ?3)",
            agent.as_bytes(),
        )?;
        if self.left == 0 {
            return Ok(false);
        }
        // Last of all and in one transaction with the agent: a claim that is refused meanwhile may still have kept one.
        if !self.erase_pins()? {
            return Ok(false);
        }
        self.db
            .prepare_cached("DELETE FROM agents WHERE tenant = ?1 AND agent = ?2")?
            .execute(params![self.tenant.as_bytes(), self.agent.as_bytes()])?;
        Ok(true)
    }

    /// Erases what is left of a session that a commit erased; returns whether all is gone.
    fn erase_hidden(&mut self, session: &[u8; 16]) -> rusqlite::Result<bool> {
        let first = "SELECT delivery FROM deliveries INDEXED BY deliveries_session \
                     WHERE tenant = ?1 AND session = ?2 LIMIT 1";
        if !self.erase_deliveries(first, session)? {
            return Ok(false);
        }
        let name = SessionId::from_bytes(*session).to_string();
        for sql in [
            "DELETE FROM approvals WHERE (tenant, approval) IN \
             (SELECT tenant, approval FROM approvals INDEXED BY approvals_agent \
              WHERE tenant = ?1 AND agent = ?4 AND json_extract(record, '$.session') = ?2 LIMIT ?3)",
            "DELETE FROM approval_rules WHERE (tenant, name) IN (SELECT tenant, name FROM approval_rules \
             WHERE tenant = ?1 AND ?4 IS NOT NULL AND json_extract(record, '$.session') = ?2 LIMIT ?3)",
        ] {
            let values = params![self.tenant.as_bytes(), name, self.rows_left(), self.agent.as_bytes()];
            self.left -= self.db.prepare_cached(sql)?.execute(values)?;
            if self.left == 0 {
                return Ok(false);
            }
        }
        let first = "SELECT run FROM runs INDEXED BY runs_session WHERE tenant = ?1 AND session = ?2 ORDER BY run LIMIT 1";
        while let Some(run) = self.next_of(first, session)? {
            if !self.erase_run(&run)? {
                return Ok(false);
            }
        }
        self.erase_session(session)
    }

    /// Erases messages of an owner with their attempts; returns whether all are gone.
    fn erase_deliveries(&mut self, first: &str, owner: &[u8; 16]) -> rusqlite::Result<bool> {
        while let Some(delivery) = self.next_of(first, owner)? {
            self.delete_rows(
                "DELETE FROM delivery_attempts WHERE (tenant, delivery, number) IN \
                 (SELECT tenant, delivery, number FROM delivery_attempts \
                  WHERE tenant = ?1 AND delivery = ?2 LIMIT ?3)",
                &delivery,
            )?;
            if self.left == 0 {
                return Ok(false);
            }
            self.db
                .prepare_cached("DELETE FROM deliveries WHERE tenant = ?1 AND delivery = ?2")?
                .execute(params![self.tenant.as_bytes(), delivery])?;
            self.left -= 1;
            self.erased.deliveries += 1;
        }
        Ok(true)
    }

    /// Erases the prompts that runs of no other agent name; returns whether the agent names none any more.
    fn erase_pins(&mut self) -> rusqlite::Result<bool> {
        let (db, tenant, agent) = (self.db, self.tenant, self.agent);
        let mut first = db.prepare_cached(
            "SELECT digest FROM pin_refs INDEXED BY pin_refs_agent WHERE tenant = ?1 AND agent = ?2 \
             ORDER BY digest LIMIT 1",
        )?;
        // A pin and what names it go together or wait together for the next page.
        while self.left >= 2 {
            let digest: Option<[u8; 32]> = first
                .query_row(params![tenant.as_bytes(), agent.as_bytes()], |row| {
                    column_codes::read_bytes(row, 0)
                })
                .optional()?;
            let Some(digest) = digest else { return Ok(true) };
            self.left -= db
                .prepare_cached("DELETE FROM pin_refs WHERE tenant = ?1 AND digest = ?2 AND agent = ?3")?
                .execute(params![tenant.as_bytes(), digest, agent.as_bytes()])?;
            self.left -= db
                .prepare_cached(
                    "DELETE FROM pins WHERE tenant = ?1 AND digest = ?2 \
                     AND NOT EXISTS (SELECT 1 FROM pin_refs r WHERE r.tenant = ?1 AND r.digest = ?2)",
                )?
                .execute(params![tenant.as_bytes(), digest])?;
        }
        Ok(false)
    }

    /// Erases what the agent asked approval for, and the rules that answer for it alone; returns whether all is gone.
    fn erase_approvals(&mut self) -> rusqlite::Result<bool> {
        let agent = self.agent;
        self.delete_rows(
            "DELETE FROM approvals WHERE (tenant, approval) IN \
             (SELECT tenant, approval FROM approvals INDEXED BY approvals_agent \
              WHERE tenant = ?1 AND agent = ?2 LIMIT ?3)",
            agent.as_bytes(),
        )?;
        if self.left == 0 {
            return Ok(false);
        }
        self.delete_rows(
            "DELETE FROM approval_rules WHERE (tenant, name) IN \
             (SELECT tenant, name FROM approval_rules WHERE tenant = ?1 AND agent = ?2 LIMIT ?3)",
            agent.as_bytes(),
        )?;
        Ok(self.left > 0)
    }

    fn next(&self, sql: &str) -> rusqlite::Result<Option<[u8; 16]>> {
        self.next_of(sql, self.agent.as_bytes())
    }

    fn next_of(&self, sql: &str, owner: &[u8; 16]) -> rusqlite::Result<Option<[u8; 16]>> {
        self.db
            .prepare_cached(sql)?
            .query_row(params![self.tenant.as_bytes(), owner], |row| column_codes::read_bytes(row, 0))
            .optional()
    }

    /// Returns whether the run is gone.
    fn erase_run(&mut self, run: &[u8; 16]) -> rusqlite::Result<bool> {
        let entries = self.erase_bodied(
            run,
            false,
            "SELECT seq, place, body_hash FROM entries WHERE tenant = ?1 AND run = ?2 ORDER BY seq DESC LIMIT ?3",
            "DELETE FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3",
        )?;
        self.erased.entries += entries;
        self.erase_items(run)?;
        self.delete_rows(
            "DELETE FROM claims WHERE (tenant, run, epoch) IN \
             (SELECT tenant, run, epoch FROM claims WHERE tenant = ?1 AND run = ?2 LIMIT ?3)",
            run,
        )?;
        self.delete_rows(
            "DELETE FROM run_checkpoints WHERE (tenant, run) IN \
             (SELECT tenant, run FROM run_checkpoints WHERE tenant = ?1 AND run = ?2 LIMIT ?3)",
            run,
        )?;
        if self.left == 0 {
            return Ok(false);
        }
        self.delete_rows(
            "DELETE FROM budget_open WHERE (tenant, run, budget) IN \
             (SELECT tenant, run, budget FROM budget_open WHERE tenant = ?1 AND run = ?2 LIMIT ?3)",
            run,
        )?;
        if self.left == 0 || !self.erase_counts(&RunId::from_bytes(*run).to_string())? {
            return Ok(false);
        }
        self.db
            .prepare_cached("DELETE FROM runs WHERE tenant = ?1 AND run = ?2")?
            .execute(params![self.tenant.as_bytes(), run])?;
        self.left -= 1;
        self.erased.runs += 1;
        Ok(true)
    }

    /// Returns whether the session is gone.
    fn erase_session(&mut self, session: &[u8; 16]) -> rusqlite::Result<bool> {
        self.erase_items(session)?;
        self.delete_rows(
            "DELETE FROM state WHERE (tenant, session, name) IN \
             (SELECT tenant, session, name FROM state WHERE tenant = ?1 AND session = ?2 LIMIT ?3)",
            session,
        )?;
        if self.left < 2 || !self.erase_counts(&SessionId::from_bytes(*session).to_string())? {
            return Ok(false);
        }
        if self.left < 2 {
            return Ok(false);
        }
        self.db
            .prepare_cached("DELETE FROM session_heads WHERE tenant = ?1 AND session = ?2")?
            .execute(params![self.tenant.as_bytes(), session])?;
        self.db
            .prepare_cached("DELETE FROM hidden_sessions WHERE tenant = ?1 AND session = ?2")?
            .execute(params![self.tenant.as_bytes(), session])?;
        self.db
            .prepare_cached("DELETE FROM sessions WHERE tenant = ?1 AND agent = ?2 AND session = ?3")?
            .execute(params![self.tenant.as_bytes(), self.agent.as_bytes(), session])?;
        self.left -= 2;
        self.erased.sessions += 1;
        Ok(true)
    }

    fn erase_items(&mut self, owner: &[u8; 16]) -> rusqlite::Result<()> {
        // The keys first: they are found by the items. A key that expired may name another item by now.
        let keys = self.delete_rows(
            "DELETE FROM keys WHERE tenant = ?1 AND key IN \
             (SELECT coalesce(i.key, i.item) FROM inbox i JOIN keys k \
              ON k.tenant = i.tenant AND k.key = coalesce(i.key, i.item) AND k.item = i.item \
              WHERE i.tenant = ?1 AND i.owner = ?2 LIMIT ?3)",
            owner,
        )?;
        tracing::trace!(keys, "keys erased");
        if self.left == 0 {
            return Ok(());
        }
        let items = self.erase_bodied(
            owner,
            true,
            "SELECT position, place, body_hash FROM inbox WHERE tenant = ?1 AND owner = ?2 ORDER BY position DESC LIMIT ?3",
            "DELETE FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3",
        )?;
        self.erased.items += items;
        Ok(())
    }

    /// Erases rows that may refer to bodies, with the references and the bodies that no other row refers to.
    fn erase_bodied(
        &mut self,
        owner: &[u8; 16],
        inbox: bool,
        select: &str,
        delete: &str,
    ) -> rusqlite::Result<u64> {
        let rows: Vec<(i64, i64, Option<[u8; 32]>)> = self
            .db
            .prepare_cached(select)?
            .query_map(params![self.tenant.as_bytes(), owner, self.rows_left()], |row| {
                Ok((row.get(0)?, row.get(1)?, column_codes::bytes_opt(row, 2)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut erased = 0;
        for (number, place, hash) in rows {
            let place = BodyLocation::from_code(place);
            let elsewhere = hash.filter(|_| matches!(place, Some(BodyLocation::Table | BodyLocation::File)));
            // A row, its reference and its body go together or wait together for the next page.
            if self.left < if elsewhere.is_some() { 3 } else { 1 } {
                self.left = 0;
                break;
            }
            if let Some(hash) = elsewhere {
                self.release_body(owner, inbox, number, &hash, place == Some(BodyLocation::File))?;
            }
            self.erased.bodies += u64::from(place == Some(BodyLocation::Row));
            self.db.prepare_cached(delete)?.execute(params![self.tenant.as_bytes(), owner, number])?;
            self.left -= 1;
            erased += 1;
        }
        Ok(erased)
    }

    fn release_body(
        &mut self,
        owner: &[u8; 16],
        inbox: bool,
        number: i64,
        hash: &[u8; 32],
        file: bool,
    ) -> rusqlite::Result<()> {
        let db = self.db;
        self.left -= db
            .prepare_cached(
                "DELETE FROM body_refs WHERE tenant = ?1 AND hash = ?2 AND owner = ?3 AND inbox = ?4 AND seq = ?5",
            )?
            .execute(params![self.tenant.as_bytes(), hash, owner, inbox, number])?;
        let gone = self
            .db
            .prepare_cached(
                "DELETE FROM bodies WHERE tenant = ?1 AND hash = ?2 \
                 AND NOT EXISTS (SELECT 1 FROM body_refs r WHERE r.tenant = ?1 AND r.hash = ?2)",
            )?
            .execute(params![self.tenant.as_bytes(), hash])?;
        self.left -= gone;
        self.erased.bodies += gone as u64;
        if gone > 0 && file {
            self.unlink.bodies.push((self.tenant, *hash));
        }
        Ok(())
    }

    /// Runs a statement that removes at most `?3` rows of `?2`.
    fn delete_rows(&mut self, sql: &str, owner: &[u8]) -> rusqlite::Result<usize> {
        let gone =
            self.db.prepare_cached(sql)?.execute(params![self.tenant.as_bytes(), owner, self.rows_left()])?;
        self.left -= gone;
        Ok(gone)
    }

    /// Erases what was counted for a subject; returns whether all is gone.
    fn erase_counts(&mut self, subject: &str) -> rusqlite::Result<bool> {
        let gone = self
            .db
            .prepare_cached(
                "DELETE FROM budget_used WHERE (tenant, subject, budget, begins) IN \
                 (SELECT tenant, subject, budget, begins FROM budget_used \
                  WHERE tenant = ?1 AND subject = ?2 LIMIT ?3)",
            )?
            .execute(params![self.tenant.as_bytes(), subject, self.rows_left()])?;
        self.left -= gone;
        Ok(self.left > 0)
    }

    fn rows_left(&self) -> i64 {
        i64::try_from(self.left).unwrap_or(0)
    }
}
