//! Runs of the reference store with their journals.

use std::collections::BTreeMap;

use dromia_contracts::cost::{CostLedger, CostTotals};
use dromia_contracts::run::RunRecord;
use dromia_contracts::store::{CommitRefusal, NewEntry, RunCheckpoint, RunTakeover, StoredEntry};
use dromia_contracts::{Digest, RunId};

use super::lease::LeaseRows;

/// The tenant's runs.
#[derive(Debug, Clone, Default)]
pub(super) struct RunRows {
    pub(super) rows: BTreeMap<RunId, RunRecord>,
    /// Who raised a run to an epoch.
    pub(super) takeovers: BTreeMap<(RunId, u64), Digest>,
    pub(super) journals: BTreeMap<RunId, Vec<StoredEntry>>,
    pub(super) checkpoints: BTreeMap<RunId, RunCheckpoint>,
}

impl RunRows {
    pub(in crate::reference) fn take_over(
        &mut self,
        takeover: &RunTakeover,
        leases: &LeaseRows,
    ) -> Result<(), CommitRefusal> {
        let RunTakeover { run: id, from_epoch, holder, at: _ } = takeover;
        let run = self.rows.get_mut(id).ok_or_else(|| CommitRefusal::NotFound(id.to_string()))?;
        if self.takeovers.get(&(*id, from_epoch + 1)) == Some(holder) {
            return Ok(());
        }
        if run.head.status.is_terminal() {
            return Err(CommitRefusal::RunTerminal);
        }
        if run.epoch != *from_epoch {
            return Err(CommitRefusal::EpochStale { found: run.epoch });
        }
        leases.check_holder(run.holder, *holder)?;
        run.epoch += 1;
        run.holder = Some(*holder);
        self.takeovers.insert((*id, run.epoch), *holder);
        Ok(())
    }

    /// Tells whether exactly these entries follow `after`.
    pub(in crate::reference) fn entries_stand(
        &self,
        run: RunId,
        epoch: u64,
        after: u64,
        entries: &[NewEntry],
    ) -> bool {
        let found = self.journal_entries(run).iter().filter(|entry| entry.seq > after).take(entries.len());
        let same = |(known, new): (&StoredEntry, &NewEntry)| {
            let (kind, version) = new.entry.kind();
            (known.epoch, known.at, known.kind.as_str(), known.version) == (epoch, new.at, kind, version)
                && known.fields == new.entry.encode()
                && known.body == new.body
        };
        found.clone().count() == entries.len() && found.zip(entries).all(same)
    }

    /// Returns the entries of a journal in order.
    pub(in crate::reference) fn journal_entries(&self, run: RunId) -> &[StoredEntry] {
        self.journals.get(&run).map_or(&[], Vec::as_slice)
    }

    /// Sums up the attempts of a run by model.
    pub(in crate::reference) fn spent_by_model(&self, run: RunId) -> Vec<(String, CostTotals)> {
        let mut ledger = CostLedger::default();
        let mut models = BTreeMap::<String, CostTotals>::new();
        let entries =
            self.journal_entries(run).iter().filter_map(|stored| Some((stored, stored.decode().ok()?)));
        let ended: Vec<_> =
            entries.filter_map(|(stored, entry)| ledger.apply_entry(stored.seq, stored.at, &entry)).collect();
        for attempt in ended.iter().chain(ledger.open_attempt()) {
            models.entry(attempt.model.clone()).or_default().add(CostTotals::from(attempt));
        }
        models.into_iter().collect()
    }
}
