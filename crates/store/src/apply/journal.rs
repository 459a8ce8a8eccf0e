//! Runs, their journals and takeovers.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::budget::BudgetPayer;
use dromia_contracts::digest::Digest;
use dromia_contracts::entry::Entry;
use dromia_contracts::id::{AgentId, ItemId, RunId, SessionId, TenantId};
use dromia_contracts::run::{RunHead, RunKind};
use dromia_contracts::store::{CommitRefusal, NewEntry, RunAppend, RunTakeover};

use super::budget::ChargedRun;
use super::{BatchDraft, Checked};
use crate::body::{self, BodyLocation};
use crate::chain::{self, ChainLink};
use crate::column_codes::{self, StoredEnum as _, stored_counter};
use crate::packed_fields;
use crate::row::{StoredRun, run_columns};

/// A run that the batch touches.
#[derive(Debug)]
pub(super) struct RunDraft {
    pub(super) run: RunId,
    pub(super) agent: AgentId,
    pub(super) session: SessionId,
    pub(super) kind: RunKind,
    pub(super) head: RunHead,
    pub(super) started_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) last_seq: u64,
    pub(super) epoch: u64,
    pub(super) entry_epoch: u64,
    pub(super) chain: [u8; 32],
    pub(super) signals_last: u64,
    pub(super) new: bool,
    pub(super) changed: bool,
}

/// A takeover that the batch records.
#[derive(Debug)]
pub(super) struct ClaimDraft {
    run: RunId,
    epoch: u64,
    holder: Digest,
    at: Timestamp,
}

/// A signal that an entry of the batch took.
#[derive(Debug)]
pub(super) struct SignalDraft {
    run: RunId,
    item: ItemId,
    position: u64,
}

/// An entry with everything that its row holds.
#[derive(Debug)]
pub(super) struct EntryDraft<'b> {
    pub(super) run: RunId,
    pub(super) seq: u64,
    epoch: u64,
    at: Timestamp,
    kind: &'static str,
    version: u16,
    fields: String,
    pub(super) chain: [u8; 32],
    body: Option<(&'b Bytes, [u8; 32])>,
}

impl<'b> BatchDraft<'b> {
    /// Finds a run of the tenant; an index into `runs`.
    pub(super) fn find_run(&mut self, db: &Connection, run: RunId) -> Checked<usize> {
        self.run_index(db, run)?.ok_or_else(|| CommitRefusal::NotFound(run.to_string()).into())
    }

    pub(super) fn run_index(&mut self, db: &Connection, run: RunId) -> Checked<Option<usize>> {
        if let Some(index) = self.runs.iter().position(|draft| draft.run == run) {
            return Ok(Some(index));
        }
        let found = db
            .prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = ?1 AND run = ?2"))?
            .query_row(params![self.tenant.as_bytes(), run.as_bytes()], |row| StoredRun::from_row(row, 0))
            .optional()?;
        Ok(found.map(|StoredRun { run, chain }| {
            self.runs.push(RunDraft {
                run: run.id,
                agent: run.agent,
                session: run.session,
                kind: run.kind,
                head: run.head,
                started_at: run.started_at,
                updated_at: run.updated_at,
                last_seq: run.last_seq,
                epoch: run.epoch,
                entry_epoch: run.entry_epoch,
                chain,
                signals_last: run.signals_last,
                new: false,
                changed: false,
            });
            self.runs.len() - 1
        }))
    }

    pub(super) fn run_append(
        &mut self,
        db: &Connection,
        append: &'b RunAppend,
        payer: Option<&BudgetPayer>,
    ) -> Checked {
        let Some(last) = append.entries.last() else {
            return Err(CommitRefusal::Malformed("an append has at least one entry".into()).into());
        };
        let index = self.find_run(db, append.run)?;
        let draft = &self.runs[index];
        if draft.last_seq > append.after && self.append_stands(db, draft, append)? {
            let session = draft.session;
            return self.note_waiting(db, append, session);
        }
        if draft.head.status.is_terminal() {
            return Err(CommitRefusal::RunTerminal.into());
        }
        if draft.epoch != append.epoch {
            return Err(CommitRefusal::EpochStale { found: draft.epoch }.into());
        }
        if draft.last_seq != append.after {
            return Err(CommitRefusal::SequenceMoved { found: draft.last_seq }.into());
        }
        let spending = ChargedRun::from_run(draft);
        self.charge_entries(db, payer, &spending, &append.entries)?;
        if payer.is_some() {
            self.touch_approvals(db, append.run, &append.entries)?;
        }
        let draft = &self.runs[index];
        let (entries, chain) =
            self.chain_entries(append.run, append.epoch, append.after, draft.chain, &append.entries);
        let draft = &mut self.runs[index];
        draft.head = append.head;
        draft.updated_at = last.at;
        draft.last_seq += append.entries.len() as u64;
        draft.entry_epoch = append.epoch;
        draft.chain = chain;
        draft.changed = true;
        let session = draft.session;
        self.entries.extend(entries);
        let signals = append.entries.iter().filter_map(|new| match &new.entry {
            Entry::SignalTaken(taken) => {
                Some(SignalDraft { run: append.run, item: taken.item, position: taken.position })
            }
            _ => None,
        });
        self.signals.extend(signals);
        if append.head.status.is_terminal() {
            let index = self.find_session(db, session)?;
            let session = &mut self.sessions[index];
            if session.head.active == Some(append.run) {
                session.head.active = None;
                session.changed = true;
            }
        }
        self.note_waiting(db, append, session)
    }

    /// Notes in the receipt whether the session that a terminal head freed has waiting items.
    fn note_waiting(&mut self, db: &Connection, append: &RunAppend, session: SessionId) -> Checked {
        if append.head.status.is_terminal() {
            let index = self.find_session(db, session)?;
            let head = self.sessions[index].head;
            self.receipt.waiting |= head.active.is_none() && head.last > head.taken;
        }
        Ok(())
    }

    /// Returns whether exactly these entries are stored at these numbers; equal digests cover all earlier ones.
    fn append_stands(&self, db: &Connection, run: &RunDraft, append: &'b RunAppend) -> Checked<bool> {
        let last = append.after + append.entries.len() as u64;
        if last > run.last_seq {
            return Ok(false);
        }
        let before = match append.after {
            0 => Some(chain::ORIGIN),
            after => self.chain_at(db, append.run, after)?,
        };
        let Some(before) = before else { return Ok(false) };
        let (_, chain) = self.chain_entries(append.run, append.epoch, append.after, before, &append.entries);
        Ok(self.chain_at(db, append.run, last)? == Some(chain))
    }

    pub(super) fn chain_at(&self, db: &Connection, run: RunId, seq: u64) -> Checked<Option<[u8; 32]>> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.run == run && entry.seq == seq) {
            return Ok(Some(entry.chain));
        }
        let found = db
            .prepare_cached("SELECT chain FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?
            .query_row(params![self.tenant.as_bytes(), run.as_bytes(), stored_counter(seq)], |row| {
                column_codes::read_bytes(row, 0)
            })
            .optional()?;
        Ok(found)
    }

    /// Numbers and chains entries after `after`, whose digest is `chain`. Returns them and the last digest.
    pub(super) fn chain_entries(
        &self,
        run: RunId,
        epoch: u64,
        after: u64,
        mut chain: [u8; 32],
        entries: &'b [NewEntry],
    ) -> (Vec<EntryDraft<'b>>, [u8; 32]) {
        let mut drafts = Vec::with_capacity(entries.len());
        for (seq, new) in (after + 1..).zip(entries) {
            let (kind, version) = new.entry.kind();
            let fields = new.entry.encode();
            let body = new.body.as_ref().map(|body| (body, body::hash_body(&self.body_key, body)));
            let body_hash = body.as_ref().map(|(_, hash)| hash);
            let link = ChainLink { seq, at: new.at, epoch, kind, version, fields: &fields, body_hash };
            chain = chain::next(&chain, &link);
            drafts.push(EntryDraft { run, seq, epoch, at: new.at, kind, version, fields, chain, body });
        }
        (drafts, chain)
    }

    pub(super) fn run_takeover(&mut self, db: &Connection, takeover: &RunTakeover) -> Checked {
        let index = self.find_run(db, takeover.run)?;
        let epoch = takeover.from_epoch.saturating_add(1);
        let drafted = self.claims.iter().find(|claim| claim.run == takeover.run && claim.epoch == epoch);
        let holder = match drafted {
            Some(claim) => Some(claim.holder),
            None => db
                .prepare_cached("SELECT holder FROM claims WHERE tenant = ?1 AND run = ?2 AND epoch = ?3")?
                .query_row(
                    params![self.tenant.as_bytes(), takeover.run.as_bytes(), stored_counter(epoch)],
                    |row| column_codes::read_digest(row, 0),
                )
                .optional()?,
        };
        if holder == Some(takeover.holder) {
            return Ok(());
        }
        let draft = &mut self.runs[index];
        if draft.head.status.is_terminal() {
            return Err(CommitRefusal::RunTerminal.into());
        }
        if draft.epoch != takeover.from_epoch {
            return Err(CommitRefusal::EpochStale { found: draft.epoch }.into());
        }
        draft.epoch = epoch;
        draft.changed = true;
        self.claims.push(ClaimDraft { run: takeover.run, epoch, holder: takeover.holder, at: takeover.at });
        Ok(())
    }

    pub(super) fn write_runs(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for draft in self.runs.iter().filter(|draft| draft.changed) {
            let head = &draft.head;
            let wake_at = head.wake_at.map(Timestamp::as_millisecond);
            if draft.new {
                db.prepare_cached(concat!(
                    "INSERT INTO runs (tenant, ",
                    run_columns!(),
                    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
                ))?
                .execute(params![
                    self.tenant.as_bytes(),
                    draft.run.as_bytes(),
                    draft.agent.as_bytes(),
                    draft.session.as_bytes(),
                    draft.kind.stored_code(),
                    head.status.stored_code(),
                    wake_at,
                    draft.started_at.as_millisecond(),
                    draft.updated_at.as_millisecond(),
                    stored_counter(draft.last_seq),
                    stored_counter(draft.epoch),
                    stored_counter(draft.entry_epoch),
                    draft.chain,
                    head.model_calls,
                    head.usage.input_tokens,
                    head.usage.output_tokens,
                    stored_counter(head.cost_micros),
                    stored_counter(draft.signals_last),
                ])?;
            } else {
                db.prepare_cached(
                    "UPDATE runs SET status = ?3, wake_at = ?4, updated_at = ?5, last_seq = ?6, epoch = ?7, \
                     entry_epoch = ?8, chain = ?9, model_calls = ?10, input_tokens = ?11, output_tokens = ?12, \
                     cost_micros = ?13, signals_last = ?14 WHERE tenant = ?1 AND run = ?2",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    draft.run.as_bytes(),
                    head.status.stored_code(),
                    wake_at,
                    draft.updated_at.as_millisecond(),
                    stored_counter(draft.last_seq),
                    stored_counter(draft.epoch),
                    stored_counter(draft.entry_epoch),
                    draft.chain,
                    head.model_calls,
                    head.usage.input_tokens,
                    head.usage.output_tokens,
                    stored_counter(head.cost_micros),
                    stored_counter(draft.signals_last),
                ])?;
            }
            rows += 1;
        }
        Ok(rows)
    }

    pub(super) fn write_claims(&self, db: &Connection) -> rusqlite::Result<u64> {
        for claim in &self.claims {
            db.prepare_cached(
                "INSERT INTO claims (tenant, run, epoch, holder, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                self.tenant.as_bytes(),
                claim.run.as_bytes(),
                stored_counter(claim.epoch),
                claim.holder.as_bytes(),
                claim.at.as_millisecond(),
            ])?;
        }
        Ok(self.claims.len() as u64)
    }

    /// Marks signals as taken, which their entries state as well.
    pub(super) fn write_signals(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for signal in &self.signals {
            rows += db
                .prepare_cached(
                    "UPDATE inbox SET taken_by = ?2 \
                     WHERE tenant = ?1 AND owner = ?2 AND position = ?3 AND item = ?4",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    signal.run.as_bytes(),
                    stored_counter(signal.position),
                    signal.item.as_bytes(),
                ])?;
        }
        Ok(rows as u64)
    }

    pub(super) fn write_entries(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for entry in &self.entries {
            let place =
                entry.body.map_or(BodyLocation::Nowhere, |(body, _)| BodyLocation::for_length(body.len()));
            let inline = entry.body.filter(|_| place == BodyLocation::Row).map(|(body, _)| &body[..]);
            let elsewhere = entry.body.filter(|_| place != BodyLocation::Row);
            let packed = packed_fields::pack(&entry.fields);
            db.prepare_cached(
                "INSERT INTO entries \
                 (tenant, run, seq, at, epoch, kind, version, fields, chain, place, body, body_hash, packed) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                self.tenant.as_bytes(),
                entry.run.as_bytes(),
                stored_counter(entry.seq),
                entry.at.as_millisecond(),
                stored_counter(entry.epoch),
                entry.kind,
                entry.version,
                if packed.is_some() { "" } else { entry.fields.as_str() },
                entry.chain,
                place.stored_code(),
                inline,
                elsewhere.map(|(_, hash)| hash),
                packed,
            ])?;
            rows += 1;
            if let Some((body, hash)) = elsewhere {
                rows += write_body(db, self.tenant, &hash, body, entry.run.as_bytes(), false, entry.seq)?;
            }
        }
        Ok(rows)
    }
}

/// Writes a body that does not lie in its row, and the reference that keeps it. A body that is there already
/// gets the reference only. Files were written before the transaction.
pub(super) fn write_body(
    db: &Connection,
    tenant: TenantId,
    hash: &[u8; 32],
    body: &Bytes,
    owner: &[u8; 16],
    inbox: bool,
    seq: u64,
) -> rusqlite::Result<u64> {
    let in_table = match BodyLocation::for_length(body.len()) {
        BodyLocation::Table => Some(&body[..]),
        BodyLocation::File => None,
        BodyLocation::Row | BodyLocation::Nowhere | BodyLocation::Erased => return Ok(0),
    };
    let written = db
        .prepare_cached(
            "INSERT INTO bodies (tenant, hash, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![tenant.as_bytes(), hash, in_table])?;
    db.prepare_cached("INSERT INTO body_refs (tenant, hash, owner, inbox, seq) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![tenant.as_bytes(), hash, owner, inbox, stored_counter(seq)])?;
    Ok(written as u64 + 1)
}
