//! A home: its store beside its checkpoints. The store is read, and nothing of it is changed.

use std::collections::BTreeSet;
use std::time::Duration;

use dromia_contracts::audit::AuditMark;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_engine::{RunState, apply_entry};
use dromia_guard::audit::PublicKey;
use dromia_store::{JournalFold, StoreConfig, StoreInspector};

use super::signed::{SignedCheckpoints, read_checkpoints};
use super::verified::{AuditVerification, VerifyFinding};
use crate::audit::file::AuditDirectory;
use crate::home::Home;
use crate::{home_services, system};

/// How long one tenant's history may take; it is read as fast as the disk gives it.
const PATIENCE: Duration = Duration::from_hours(24);

/// Checks a home.
pub(super) fn of_home(
    home: &Home,
    book: &AuditDirectory,
    (key, is_named): (Option<PublicKey>, bool),
    wanted: Option<AuditMark>,
) -> anyhow::Result<AuditVerification> {
    if !home.store_dir().is_dir() {
        let text = format!("there is no store in {}; name the home with --home", home.root_dir().display());
        return Err(system::ExitError::failed_error(text));
    }
    let inspector = StoreInspector::new(StoreConfig::new(home.store_dir()), PATIENCE);
    // The store's memory first: a server that runs writes the file before it.
    let mark = inspector.audit_mark().map_err(|error| home_services::open_error(home, error))?;
    let asked: Vec<_> = mark.iter().chain(&wanted).map(|mark| mark.number).collect();
    let SignedCheckpoints { key, count, last, mut chains, digests, findings, .. } =
        read_checkpoints(&book.checkpoints_path(), key, &asked)?;
    let mut verified = AuditVerification::new();
    verified.findings = findings;
    if is_named && count == 0 && verified.findings.is_empty() {
        let text = "the key that you named signed no checkpoint";
        verified.findings.push(VerifyFinding::new("checkpoint_removed", text));
    }
    verified.key = key.filter(|_| count > 0).map(|key| key.to_string());
    verified.checkpoints = count;
    verified.last_checkpoint = last.map(|last| format!("{}:{}", last.number, last.digest));
    for (mark, whose) in [(mark, "the store remembers"), (wanted, "you named")] {
        let Some(mark) = mark else { continue };
        match digests.get(&mark.number) {
            Some(digest) if *digest == mark.digest => {}
            Some(_) => {
                let text = format!("it differs from the checkpoint that {whose}");
                verified.findings.push(VerifyFinding::of_checkpoint("checkpoint_changed", mark.number, text));
            }
            None => {
                let text =
                    format!("the checkpoint that {whose} was removed, together with everything after it");
                verified.findings.push(VerifyFinding::of_checkpoint("checkpoint_removed", mark.number, text));
            }
        }
    }
    let tenants = inspector.audit_tenants().map_err(|error| home_services::open_error(home, error))?;
    let tenants: BTreeSet<_> = tenants.into_iter().chain(chains.keys().copied()).collect();
    for tenant in tenants {
        let said = chains.remove(&tenant).unwrap_or_default();
        let checked = inspector.audit_tenant(tenant, &said, &mut RunStateFold::default());
        let checked = checked.map_err(|error| home_services::open_error(home, error))?;
        verified.tenants += 1;
        verified.runs += checked.runs;
        verified.entries += checked.entries;
        verified.seals += checked.seals;
        verified.acts += checked.acts;
        verified.erased += checked.erased;
        verified.rights += checked.rows;
        verified.findings.extend(checked.findings.into_iter().map(VerifyFinding::of_store));
    }
    Ok(verified)
}

/// The state of a run by its journal, as the engine folds it.
#[derive(Default)]
struct RunStateFold(RunState);

impl JournalFold for RunStateFold {
    fn begin_run(&mut self) {
        self.0 = RunState::default();
    }

    fn take_entry(&mut self, entry: &Entry) {
        apply_entry(&mut self.0, entry);
    }

    fn run_status(&self) -> Option<RunStatus> {
        Some(self.0.status())
    }

    fn run_head(&self) -> Option<RunHead> {
        Some(self.0.run_head())
    }
}
