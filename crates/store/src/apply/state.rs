//! Custom state of sessions, and pins.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::entry::Entry;
use dromia_contracts::id::{SessionId, WriteId};
use dromia_contracts::store::{CommitRefusal, Mutation, StatePut, TextPin, TurnClaim, WriteBatch};

use super::{BatchDraft, Checked};
use crate::check_value;
use crate::column_codes::{self, stored_counter};

/// The longest name of a state entry, in bytes.
const NAME_MAX: usize = 128;

/// A state entry that the batch writes.
#[derive(Debug)]
pub(super) struct StateDraft<'b> {
    pub(super) put: &'b StatePut,
    version: u64,
}

/// The current version of a state entry, in the table or in the draft.
#[derive(Default)]
struct StateEntryVersion {
    version: u64,
    write: Option<WriteId>,
}

impl<'b> BatchDraft<'b> {
    pub(super) fn state_put(&mut self, db: &Connection, put: &'b StatePut) -> Checked {
        if put.name.len() > NAME_MAX {
            return Err(CommitRefusal::Malformed(format!(
                "a state entry's name has at most {NAME_MAX} bytes"
            ))
            .into());
        }
        self.find_session(db, put.session)?;
        let found = self.find_state(db, put.session, &put.name)?;
        if found.write == Some(put.write) {
            return Ok(());
        }
        if put.expected.is_some_and(|expected| expected != found.version) {
            return Err(CommitRefusal::StateVersion { found: found.version }.into());
        }
        if found.version == 0 && self.state_entries(db, put.session)? >= StatePut::ENTRIES_MAX {
            let most = StatePut::ENTRIES_MAX;
            return Err(
                CommitRefusal::Malformed(format!("a session has at most {most} state entries")).into()
            );
        }
        self.states.push(StateDraft { put, version: found.version + 1 });
        Ok(())
    }

    /// Counts the state entries of a session, those that the batch adds included.
    fn state_entries(&self, db: &Connection, session: SessionId) -> Checked<usize> {
        let stored: usize = db
            .prepare_cached("SELECT count(*) FROM state WHERE tenant = ?1 AND session = ?2")?
            .query_row(params![self.tenant.as_bytes(), session.as_bytes()], |row| {
                column_codes::read_counter(row, 0)
            })
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX))?;
        let added = self.states.iter().filter(|draft| draft.put.session == session && draft.version == 1);
        Ok(stored + added.count())
    }

    fn find_state(&self, db: &Connection, session: SessionId, name: &str) -> Checked<StateEntryVersion> {
        let drafted =
            self.states.iter().rev().find(|draft| draft.put.session == session && draft.put.name == name);
        if let Some(StateDraft { put, version }) = drafted {
            return Ok(StateEntryVersion { version: *version, write: Some(put.write) });
        }
        let found = db
            .prepare_cached(&format!(
                "{} WHERE tenant = ?1 AND session = ?2 AND name = ?3",
                check_value::STATE.select_sql()
            ))?
            .query_row(params![self.tenant.as_bytes(), session.as_bytes(), name], |row| {
                check_value::STATE.check_row(row)?;
                let write = WriteId::from_bytes(column_codes::read_bytes(row, 6)?);
                Ok(StateEntryVersion { version: column_codes::read_counter(row, 3)?, write: Some(write) })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    pub(super) fn pin_put(&mut self, db: &Connection, pin: &'b TextPin) -> Checked {
        if blake3::hash(&pin.bytes).as_bytes() != pin.digest.as_bytes() {
            return Err(CommitRefusal::Malformed("a pin does not match its digest".into()).into());
        }
        let stands = self.pins.iter().any(|drafted| drafted.digest == pin.digest)
            || db
                .prepare_cached("SELECT 1 FROM pins WHERE tenant = ?1 AND digest = ?2")?
                .exists(params![self.tenant.as_bytes(), pin.digest.as_bytes()])?;
        if !stands {
            self.pins.push(pin);
        }
        Ok(())
    }

    /// Notes what the agent of a claim names: the prompt of a run that begins, and what the batch keeps for it though the
    /// claim may not be granted. By these notes an erasure finds the pins of an agent.
    pub(super) fn name_pins(&mut self, db: &Connection, batch: &WriteBatch, claim: &TurnClaim) -> Checked {
        let begun = match self.taker.and_then(|_| claim.entries.first()).map(|first| &first.entry) {
            Some(Entry::RunStarted(started)) => Some(started.prompt),
            Some(_) | None => None,
        };
        let kept = batch.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::PinPut(pin) => Some(pin.digest),
            _ => None,
        });
        for digest in begun.into_iter().chain(kept) {
            let named = (digest, claim.agent);
            let stands = self.pin_refs.contains(&named)
                || db
                    .prepare_cached(
                        "SELECT 1 FROM pin_refs WHERE tenant = ?1 AND digest = ?2 AND agent = ?3",
                    )?
                    .exists(params![self.tenant.as_bytes(), digest.as_bytes(), claim.agent.as_bytes()])?;
            if !stands {
                self.pin_refs.push(named);
            }
        }
        Ok(())
    }

    pub(super) fn write_states(&self, db: &Connection) -> rusqlite::Result<u64> {
        for StateDraft { put, version } in &self.states {
            let values = params![
                self.tenant.as_bytes(),
                put.session.as_bytes(),
                put.name,
                stored_counter(*version),
                &put.value[..],
                put.at.as_millisecond(),
                put.write.as_bytes(),
            ];
            check_value::STATE.put_row(db, values)?;
        }
        Ok(self.states.len() as u64)
    }

    pub(super) fn write_pins(&self, db: &Connection) -> rusqlite::Result<u64> {
        for pin in &self.pins {
            db.prepare_cached("INSERT INTO pins (tenant, digest, bytes) VALUES (?1, ?2, ?3)")?
                .execute(params![self.tenant.as_bytes(), pin.digest.as_bytes(), &pin.bytes[..]])?;
        }
        for (digest, agent) in &self.pin_refs {
            db.prepare_cached("INSERT INTO pin_refs (tenant, digest, agent) VALUES (?1, ?2, ?3)")?
                .execute(params![self.tenant.as_bytes(), digest.as_bytes(), agent.as_bytes()])?;
        }
        Ok((self.pins.len() + self.pin_refs.len()) as u64)
    }
}
