//! Runs, their journals and takeovers. `rows` writes what is found and chained here.

mod rows;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::entry::Entry;
use dromia_contracts::id::{AgentId, ItemId, RunId, SessionId};
use dromia_contracts::run::{RunHead, RunKind, RunStatus};
use dromia_contracts::store::{CommitRefusal, FoldedState, NewEntry, RunAppend, RunTakeover};

use super::{Checked, TenantDb};
use crate::body;
use crate::chain::{self, ChainLink};
use crate::column_codes::{self, stored_counter};
use crate::row::{StoredRun, run_columns};
use crate::seal::{JournalSpan, SpanOwner};

pub(super) use rows::write_body;

/// A run that the batch touches.
#[derive(Debug, Clone)]
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
    pub(super) signals_taken: u64,
    pub(super) holder: Option<Digest>,
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

/// A checkpoint behind the last entry of an append.
#[derive(Debug)]
pub(super) struct CheckpointDraft<'b> {
    run: RunId,
    seq: u64,
    folded: &'b FoldedState,
    digest: [u8; 32],
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

/// The runs that the batch touches, and what it adds to their journals.
#[derive(Debug, Default)]
pub(super) struct RunDrafts<'b> {
    rows: Vec<RunDraft>,
    claims: Vec<ClaimDraft>,
    signals: Vec<SignalDraft>,
    entries: Vec<EntryDraft<'b>>,
    checkpoints: Vec<CheckpointDraft<'b>>,
}

impl<'b> RunDrafts<'b> {
    /// Finds a run of the tenant, which must be there.
    pub(super) fn find_run(&mut self, db: TenantDb<'_>, run: RunId) -> Checked<&mut RunDraft> {
        let missing = || CommitRefusal::NotFound(run.to_string());
        let index = self.run_index(db, run)?.ok_or_else(missing)?;
        self.rows.get_mut(index).ok_or_else(|| missing().into())
    }

    /// Finds a run, if the tenant has it.
    pub(super) fn find_known_run(&mut self, db: TenantDb<'_>, run: RunId) -> Checked<Option<&RunDraft>> {
        Ok(self.run_index(db, run)?.and_then(|index| self.rows.get(index)))
    }

    fn run_index(&mut self, db: TenantDb<'_>, run: RunId) -> Checked<Option<usize>> {
        if let Some(index) = self.rows.iter().position(|draft| draft.run == run) {
            return Ok(Some(index));
        }
        let found = db
            .prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = ?1 AND run = ?2"))?
            .query_row(params![db.tenant.as_bytes(), run.as_bytes()], |row| StoredRun::from_row(row, 0))
            .optional()?;
        Ok(found.map(|StoredRun { run, chain }| {
            self.rows.push(RunDraft {
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
                signals_taken: run.signals_taken,
                holder: run.holder,
                new: false,
                changed: false,
            });
            self.rows.len() - 1
        }))
    }

    /// Adds a run that begins, with its first entries.
    pub(super) fn begin_run(&mut self, run: RunDraft, entries: Vec<EntryDraft<'b>>) {
        self.rows.push(run);
        self.entries.extend(entries);
    }

    /// Checks that an append may follow what its run has. Returns nothing for one that was applied before.
    pub(super) fn check_append(
        &mut self,
        db: TenantDb<'_>,
        append: &'b RunAppend,
    ) -> Checked<Option<RunDraft>> {
        let draft = self.find_run(db, append.run)?.clone();
        if draft.last_seq > append.after && self.append_stands(db, &draft, append)? {
            return Ok(None);
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
        Ok(Some(draft))
    }

    /// Appends entries to a run that may have them.
    pub(super) fn append_entries(
        &mut self,
        db: TenantDb<'_>,
        append: &'b RunAppend,
        last_at: Timestamp,
    ) -> Checked {
        let draft = self.find_run(db, append.run)?;
        let (entries, chain) =
            chain_entries(db, append.run, append.epoch, append.after, draft.chain, &append.entries);
        draft.head = append.head;
        draft.holder = draft.holder.filter(|_| append.head.status == RunStatus::Running);
        draft.updated_at = last_at;
        draft.last_seq += append.entries.len() as u64;
        draft.entry_epoch = append.epoch;
        draft.chain = chain;
        draft.changed = true;
        let checkpoint = append.checkpoint.as_ref().map(|folded| CheckpointDraft {
            run: append.run,
            seq: draft.last_seq,
            folded,
            digest: chain::checkpoint_digest(&chain, folded.version, &folded.bytes),
        });
        for new in &append.entries {
            if let Entry::SignalTaken(taken) = &new.entry {
                draft.signals_taken = draft.signals_taken.max(taken.position);
            }
        }
        self.entries.extend(entries);
        self.checkpoints.extend(checkpoint);
        let signals = append.entries.iter().filter_map(|new| match &new.entry {
            Entry::SignalTaken(taken) => {
                Some(SignalDraft { run: append.run, item: taken.item, position: taken.position })
            }
            _ => None,
        });
        self.signals.extend(signals);
        Ok(())
    }

    /// Returns whether exactly these entries are stored at these numbers; equal digests cover all earlier ones.
    fn append_stands(&self, db: TenantDb<'_>, run: &RunDraft, append: &'b RunAppend) -> Checked<bool> {
        let last = append.after + append.entries.len() as u64;
        if last > run.last_seq {
            return Ok(false);
        }
        let before = match append.after {
            0 => Some(chain::ORIGIN),
            after => self.chain_at(db, append.run, after)?,
        };
        let Some(before) = before else { return Ok(false) };
        let (_, chain) = chain_entries(db, append.run, append.epoch, append.after, before, &append.entries);
        Ok(self.chain_at(db, append.run, last)? == Some(chain))
    }

    pub(super) fn chain_at(&self, db: TenantDb<'_>, run: RunId, seq: u64) -> Checked<Option<[u8; 32]>> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.run == run && entry.seq == seq) {
            return Ok(Some(entry.chain));
        }
        let found = db
            .prepare_cached("SELECT chain FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?
            .query_row(params![db.tenant.as_bytes(), run.as_bytes(), stored_counter(seq)], |row| {
                column_codes::read_bytes(row, 0)
            })
            .optional()?;
        Ok(found)
    }

    pub(super) fn take_over(&mut self, db: TenantDb<'_>, takeover: &RunTakeover) -> Checked {
        self.find_run(db, takeover.run)?;
        let epoch = takeover.from_epoch.saturating_add(1);
        let drafted = self.claims.iter().find(|claim| claim.run == takeover.run && claim.epoch == epoch);
        let holder = match drafted {
            Some(claim) => Some(claim.holder),
            None => db
                .prepare_cached("SELECT holder FROM claims WHERE tenant = ?1 AND run = ?2 AND epoch = ?3")?
                .query_row(
                    params![db.tenant.as_bytes(), takeover.run.as_bytes(), stored_counter(epoch)],
                    |row| column_codes::read_digest(row, 0),
                )
                .optional()?,
        };
        if holder == Some(takeover.holder) {
            return Ok(());
        }
        let draft = self.find_run(db, takeover.run)?;
        if draft.head.status.is_terminal() {
            return Err(CommitRefusal::RunTerminal.into());
        }
        if draft.epoch != takeover.from_epoch {
            return Err(CommitRefusal::EpochStale { found: draft.epoch }.into());
        }
        db.check_holder(draft.holder, takeover.holder)?;
        draft.epoch = epoch;
        draft.holder = Some(takeover.holder);
        draft.changed = true;
        self.claims.push(ClaimDraft { run: takeover.run, epoch, holder: takeover.holder, at: takeover.at });
        Ok(())
    }

    /// Lists the entries of the batch, those that follow one another in one journal together.
    pub(super) fn entry_spans(&self) -> Vec<JournalSpan> {
        let mut spans: Vec<JournalSpan> = Vec::new();
        for entry in &self.entries {
            let run = *entry.run.as_bytes();
            if let Some(last) = spans.last_mut()
                && last.run == run
                && last.to + 1 == entry.seq
            {
                last.extend_to(entry.seq, &entry.chain);
                continue;
            }
            let draft = self.rows.iter().find(|draft| draft.run == entry.run && entry.seq == 1);
            let owner = draft.map(|draft| SpanOwner {
                agent: *draft.agent.as_bytes(),
                session: *draft.session.as_bytes(),
            });
            spans.push(JournalSpan::new(run, owner, entry.seq, &entry.chain));
        }
        spans
    }

    /// Returns the latest time of the runs of these spans.
    pub(super) fn latest_update(&self, spans: &[JournalSpan]) -> Option<Timestamp> {
        let touched = self.rows.iter().filter(|run| spans.iter().any(|span| span.run == *run.run.as_bytes()));
        touched.map(|run| run.updated_at).max()
    }
}

/// Numbers and chains entries after `after`, whose digest is `chain`. Returns them and the last digest.
pub(super) fn chain_entries<'b>(
    db: TenantDb<'_>,
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
        let body = new.body.as_ref().map(|body| (body, body::hash_body(&db.body_key, body)));
        let body_hash = body.as_ref().map(|(_, hash)| hash);
        let link = ChainLink { seq, at: new.at, epoch, kind, version, fields: &fields, body_hash };
        chain = chain::next(&chain, &link);
        drafts.push(EntryDraft { run, seq, epoch, at: new.at, kind, version, fields, chain, body });
    }
    (drafts, chain)
}
