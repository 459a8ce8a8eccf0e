//! A home: its store beside its checkpoints. The store is read, and nothing of it is changed.

use std::collections::BTreeSet;
use std::time::Duration;

use dromia_contracts::audit::AuditMark;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;
use dromia_engine::{RunState, apply};
use dromia_guard::audit::PublicKey;
use dromia_store::{Inspector, JournalFold, StoreConfig};

use super::signed::{Signed, signed};
use super::verified::{Finding, Verified};
use crate::audit::file::Book;
use crate::home::Home;
use crate::{system, up};

/// How long one tenant's history may take; it is read as fast as the disk gives it.
const PATIENCE: Duration = Duration::from_hours(24);

/// Checks a home.
pub(super) fn of_home(
    home: &Home,
    book: &Book,
    (key, is_named): (Option<PublicKey>, bool),
    wanted: Option<AuditMark>,
) -> anyhow::Result<Verified> {
    if !home.store().is_dir() {
        let text = format!("there is no store in {}; name the home with --home", home.root().display());
        return Err(system::Exit::failed(text));
    }
    let inspector = Inspector::new(StoreConfig::new(home.store()), PATIENCE);
    // The store's memory first: a server that runs writes the file before it.
    let mark = inspector.audit_mark().map_err(|error| up::opened(home, error))?;
    let asked: Vec<_> = mark.iter().chain(&wanted).map(|mark| mark.number).collect();
    let Signed { key, count, last, mut chains, digests, findings, .. } =
        signed(&book.checkpoints_path(), key, &asked)?;
    let mut verified = Verified::new();
    verified.findings = findings;
    if is_named && count == 0 && verified.findings.is_empty() {
        let text = "no checkpoint is signed with the key that you named";
        verified.findings.push(Finding::new("checkpoint_removed", text));
    }
    verified.key = key.filter(|_| count > 0).map(|key| key.to_string());
    verified.checkpoints = count;
    verified.last_checkpoint = last.map(|last| format!("{}:{}", last.number, last.digest));
    for (mark, whose) in [(mark, "the store remembers"), (wanted, "you named")] {
        let Some(mark) = mark else { continue };
        match digests.get(&mark.number) {
            Some(digest) if *digest == mark.digest => {}
            Some(_) => {
                let text = format!("it is not the one that {whose}");
                verified.findings.push(Finding::of_checkpoint("checkpoint_changed", mark.number, text));
            }
            None => {
                let text = format!("the checkpoint that {whose} was removed, with whatever followed");
                verified.findings.push(Finding::of_checkpoint("checkpoint_removed", mark.number, text));
            }
        }
    }
    let tenants = inspector.audit_tenants().map_err(|error| up::opened(home, error))?;
    let tenants: BTreeSet<_> = tenants.into_iter().chain(chains.keys().copied()).collect();
    for tenant in tenants {
        let said = chains.remove(&tenant).unwrap_or_default();
        let checked = inspector.audit(tenant, &said, &mut Folded::default());
        let checked = checked.map_err(|error| up::opened(home, error))?;
        verified.tenants += 1;
        verified.runs += checked.runs;
        verified.entries += checked.entries;
        verified.seals += checked.seals;
        verified.acts += checked.acts;
        verified.erased += checked.erased;
        verified.before += checked.before;
        verified.rights += checked.rows;
        verified.findings.extend(checked.findings.into_iter().map(Finding::of_store));
        verified.older.extend(checked.older.into_iter().map(Finding::of_store));
    }
    Ok(verified)
}

/// How a run stands by its journal, as the engine folds it.
#[derive(Default)]
struct Folded(RunState);

impl JournalFold for Folded {
    fn begin(&mut self) {
        self.0 = RunState::default();
    }

    fn take(&mut self, entry: &Entry) {
        apply(&mut self.0, entry);
    }

    fn status(&self) -> Option<RunStatus> {
        Some(self.0.status())
    }
}
