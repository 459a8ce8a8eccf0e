//! Custom state of sessions, and pins.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::audit::AuditChange;
use dromia_contracts::digest::Digest;
use dromia_contracts::entry::Entry;
use dromia_contracts::id::{AgentId, SessionId, WriteId};
use dromia_contracts::store::{CommitRefusal, Mutation, StatePut, TextPin, TurnClaim, WriteBatch};

use super::audit::ActList;
use super::session::SessionDrafts;
use super::{Checked, TableDraft, TenantDb};
use crate::check_value;
use crate::column_codes::{self, stored_counter};

/// The longest name of a state entry, in bytes.
const NAME_MAX: usize = 128;

/// A state entry that the batch writes.
#[derive(Debug)]
struct StateDraft<'b> {
    put: &'b StatePut,
    version: u64,
}

/// The current version of a state entry, in the table or in the draft.
#[derive(Default)]
struct StateEntryVersion {
    version: u64,
    write: Option<WriteId>,
}

/// The state entries and pins that the batch writes.
#[derive(Debug, Default)]
pub(super) struct StateDrafts<'b> {
    entries: Vec<StateDraft<'b>>,
    pins: Vec<&'b TextPin>,
    /// Pins that an agent names for the first time.
    pin_refs: Vec<(Digest, AgentId)>,
}

impl<'b> StateDrafts<'b> {
    pub(super) fn put_entry(
        &mut self,
        db: TenantDb<'_>,
        put: &'b StatePut,
        sessions: &mut SessionDrafts<'b>,
    ) -> Checked {
        if put.name.len() > NAME_MAX {
            return Err(CommitRefusal::Malformed(format!(
                "a state entry's name has at most {NAME_MAX} bytes"
            ))
            .into());
        }
        sessions.find_session(db, put.session)?;
        let found = self.find_version(db, put.session, &put.name)?;
        if found.write == Some(put.write) {
            return Ok(());
        }
        if put.expected.is_some_and(|expected| expected != found.version) {
            return Err(CommitRefusal::StateVersion { found: found.version }.into());
        }
        if found.version == 0 && self.count_entries(db, put.session)? >= StatePut::ENTRIES_MAX {
            let most = StatePut::ENTRIES_MAX;
            return Err(
                CommitRefusal::Malformed(format!("a session has at most {most} state entries")).into()
            );
        }
        self.entries.push(StateDraft { put, version: found.version + 1 });
        Ok(())
    }

    /// Counts the state entries of a session, those that the batch adds included.
    fn count_entries(&self, db: TenantDb<'_>, session: SessionId) -> Checked<usize> {
        let stored: usize = db
            .prepare_cached("SELECT count(*) FROM state WHERE tenant = ?1 AND session = ?2")?
            .query_row(params![db.tenant.as_bytes(), session.as_bytes()], |row| {
                column_codes::read_counter(row, 0)
            })
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX))?;
        let added = self.entries.iter().filter(|draft| draft.put.session == session && draft.version == 1);
        Ok(stored + added.count())
    }

    fn find_version(&self, db: TenantDb<'_>, session: SessionId, name: &str) -> Checked<StateEntryVersion> {
        let drafted =
            self.entries.iter().rev().find(|draft| draft.put.session == session && draft.put.name == name);
        if let Some(StateDraft { put, version }) = drafted {
            return Ok(StateEntryVersion { version: *version, write: Some(put.write) });
        }
        let found = db
            .prepare_cached(&format!(
                "{} WHERE tenant = ?1 AND session = ?2 AND name = ?3",
                check_value::STATE.select_sql()
            ))?
            .query_row(params![db.tenant.as_bytes(), session.as_bytes(), name], |row| {
                check_value::STATE.check_row(row)?;
                let write = WriteId::from_bytes(column_codes::read_bytes(row, 6)?);
                Ok(StateEntryVersion { version: column_codes::read_counter(row, 3)?, write: Some(write) })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    pub(super) fn put_pin(&mut self, db: TenantDb<'_>, pin: &'b TextPin) -> Checked {
        if blake3::hash(&pin.bytes).as_bytes() != pin.digest.as_bytes() {
            return Err(CommitRefusal::Malformed("a pin does not match its digest".into()).into());
        }
        let stands = self.pins.iter().any(|drafted| drafted.digest == pin.digest)
            || db
                .prepare_cached("SELECT 1 FROM pins WHERE tenant = ?1 AND digest = ?2")?
                .exists(params![db.tenant.as_bytes(), pin.digest.as_bytes()])?;
        if !stands {
            self.pins.push(pin);
        }
        Ok(())
    }

    /// Notes what the agent of a claim names: the prompt of a run that begins, and what the batch keeps for it though the
    /// claim may not be granted. By these notes an erasure finds the pins of an agent.
    pub(super) fn name_pins(
        &mut self,
        db: TenantDb<'_>,
        batch: &WriteBatch,
        claim: &TurnClaim,
        taker: Option<&TurnClaim>,
    ) -> Checked {
        let begun = match taker.and_then(|_| claim.entries.first()).map(|first| &first.entry) {
            Some(Entry::RunStarted(started)) => Some(started.prompt),
            Some(_) | None => None,
        };
        let kept = batch.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::PinPut(pin) => Some(pin.digest),
            _ => None,
        });
        for digest in begun.into_iter().chain(kept) {
            self.name_pin(db, digest, claim.agent)?;
        }
        Ok(())
    }

    /// Keeps the text of a document for the agent that it is given to.
    pub(super) fn put_document(&mut self, db: TenantDb<'_>, pin: &'b TextPin, agent: AgentId) -> Checked {
        self.put_pin(db, pin)?;
        self.name_pin(db, pin.digest, agent)
    }

    fn name_pin(&mut self, db: TenantDb<'_>, digest: Digest, agent: AgentId) -> Checked {
        let named = (digest, agent);
        let stands = self.pin_refs.contains(&named)
            || db
                .prepare_cached("SELECT 1 FROM pin_refs WHERE tenant = ?1 AND digest = ?2 AND agent = ?3")?
                .exists(params![db.tenant.as_bytes(), digest.as_bytes(), agent.as_bytes()])?;
        if !stands {
            self.pin_refs.push(named);
        }
        Ok(())
    }

    fn write_entries(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for StateDraft { put, version } in &self.entries {
            let values = params![
                db.tenant.as_bytes(),
                put.session.as_bytes(),
                put.name,
                stored_counter(*version),
                &put.value[..],
                put.at.as_millisecond(),
                put.write.as_bytes(),
            ];
            check_value::STATE.put_row(&db, values)?;
        }
        Ok(())
    }

    fn write_pins(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for pin in &self.pins {
            db.prepare_cached("INSERT INTO pins (tenant, digest, bytes) VALUES (?1, ?2, ?3)")?
                .execute(params![db.tenant.as_bytes(), pin.digest.as_bytes(), &pin.bytes[..]])?;
        }
        for (digest, agent) in &self.pin_refs {
            db.prepare_cached("INSERT INTO pin_refs (tenant, digest, agent) VALUES (?1, ?2, ?3)")?
                .execute(params![db.tenant.as_bytes(), digest.as_bytes(), agent.as_bytes()])?;
        }
        Ok(())
    }
}

impl TableDraft for StateDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        self.write_pins(db)?;
        self.write_entries(db)
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for StateDraft { put, .. } in &self.entries {
            let change = AuditChange::StatePut { session: put.session, name: put.name.clone() };
            acts.note_request(put.at, change);
        }
    }
}
