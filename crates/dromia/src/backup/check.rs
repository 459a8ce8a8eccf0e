//! Checking a backup: the form and every digest, then the store that is unpacked from it, as `doctor` and `audit verify` check
//! one, but without their bounds of time.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use dromia_cli::output::draw_pairs;
use dromia_store::{IntegrityStatus, StoreConfig, StoreInspector};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::archive::{self, ArchiveError, BackupHeader, ReadBackup};
use super::create::mebibytes;
use super::extract::HomeUnpacker;
use super::place::{PartialPlace, with_suffix};
use super::progress::CopyWatch;
use crate::audit;
use crate::home::Home;
use crate::home_services;
use crate::system::ExitError;

/// How long one check of the store may take.
const PATIENCE: Duration = Duration::from_hours(24);
/// How many findings are shown.
const FINDINGS_MAX: usize = 50;

/// What `dromia backup verify` found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BackupVerified")]
pub(crate) struct BackupReport {
    /// Whether nothing is wrong.
    pub(super) ok: bool,
    /// The file.
    pub(super) file: String,
    /// The moment that its database is of.
    pub(super) created_at: Timestamp,
    /// The version of the program that wrote it.
    pub(super) program: String,
    /// The home that it is of, by the id of its first tenant.
    pub(super) home_id: String,
    /// Whether the files of agents are in it.
    pub(super) has_workspaces: bool,
    /// How many files, directories and links of the home it has.
    pub(super) members: u64,
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// Runs whose journals were read.
    pub(super) runs: u64,
    /// Bodies that are files of their own.
    pub(super) bodies: u64,
    /// Signed checkpoints of the audit log.
    pub(super) checkpoints: u64,
    /// What is wrong; the first fifty.
    pub(super) findings: Vec<String>,
}

impl BackupReport {
    /// Whether nothing is wrong.
    pub(super) fn is_sound(&self) -> bool {
        self.ok
    }

    /// The report for a person.
    pub(super) fn report_text(&self) -> String {
        let store = format!(
            "{} runs, {} large texts, {} checkpoints: every digest compared",
            self.runs, self.bodies, self.checkpoints
        );
        let mut text = draw_pairs(&[
            ("backup", self.file.clone()),
            ("of", format!("{}, by dromia {}", self.created_at.strftime("%F %T UTC"), self.program)),
            ("home", self.home_id.clone()),
            ("members", format!("{}, {}", self.members, mebibytes(self.bytes))),
            ("store", store),
            ("left out", if self.has_workspaces { String::new() } else { "the files of agents".to_owned() }),
            ("result", if self.ok { "sound" } else { "damaged" }.to_owned()),
        ]);
        for finding in &self.findings {
            text.extend(["\n- ", finding]);
        }
        text
    }
}

/// Checks a backup.
pub(super) fn verify_backup(file: &Path, watch: &mut CopyWatch) -> anyhow::Result<BackupReport> {
    let opened = open_backup(file)?;
    let scratch = make_scratch(file)?;
    let is_needed = |below: &str| below.starts_with("store/") || below.starts_with("audit/");
    let mut unpacker = HomeUnpacker::new(scratch.path(), is_needed, &|_| Ok(()), watch);
    let read = archive::read_backup(opened, &mut unpacker).map_err(|error| not_read(file, error))?;
    unpacker.finish()?;
    Ok(report_on(file, read, scratch.path()))
}

/// Opens a backup to read it.
pub(super) fn open_backup(file: &Path) -> anyhow::Result<File> {
    File::open(file)
        .map_err(|error| ExitError::usage_error(format!("failed to open {}: {error}", file.display())))
}

/// Says of a backup that cannot be read to its end what is wrong with it.
pub(super) fn not_read(file: &Path, error: anyhow::Error) -> anyhow::Error {
    let Some(problem) = error.downcast_ref::<ArchiveError>() else { return error };
    let next = match problem {
        ArchiveError::Newer(_) => "",
        ArchiveError::Foreign => "; name a file that `dromia backup create` wrote",
        _ => "; use another backup, or copy this one again from where it came",
    };
    ExitError::failed_error(format!("{}: {problem}{next}", file.display()))
}

/// Unpacks beside the file, where there is room, or else where temporary files go.
fn make_scratch(file: &Path) -> anyhow::Result<PartialPlace> {
    let suffix = format!(".verify-{}", std::process::id());
    let beside = with_suffix(&std::path::absolute(file)?, &suffix);
    let elsewhere = std::env::temp_dir().join(format!("dromia{suffix}"));
    PartialPlace::make_directory(beside).or_else(|_| PartialPlace::make_directory(elsewhere))
}

/// Reports on what was read, and on the store that was unpacked.
pub(super) fn report_on(file: &Path, read: ReadBackup, unpacked: &Path) -> BackupReport {
    let ReadBackup { header, members, bytes, mut findings } = read;
    let BackupHeader { program, home_id, created_at, has_workspaces, .. } = header;
    let mut report = BackupReport {
        ok: false,
        file: file.display().to_string(),
        created_at,
        program,
        home_id,
        has_workspaces,
        members,
        bytes,
        runs: 0,
        bodies: 0,
        checkpoints: 0,
        findings: Vec::new(),
    };
    if let Err(error) = check_store(&Home::locate_home(Some(unpacked)), &mut report, &mut findings) {
        findings.push(format!("{error:#}"));
    }
    let more = findings.len().saturating_sub(FINDINGS_MAX);
    findings.truncate(FINDINGS_MAX);
    if more > 0 {
        findings.push(format!("and {more} more"));
    }
    report.ok = findings.is_empty();
    report.findings = findings;
    report
}

fn check_store(home: &Home, report: &mut BackupReport, findings: &mut Vec<String>) -> anyhow::Result<()> {
    let inspector = StoreInspector::new(StoreConfig::new(home.store_dir()), PATIENCE);
    let refused = |error| home_services::open_error(home, error);
    if let IntegrityStatus::Damaged(problem) = inspector.check_integrity().map_err(refused)? {
        findings.push(format!("the database is damaged: {problem}"));
    }
    let found = inspector.first_tenant().map_err(refused)?.map(|id| id.to_string()).unwrap_or_default();
    if found != report.home_id {
        findings.push(format!("the store is of home {found}, and the file says {}", report.home_id));
    }
    let bodies = inspector.bodies_of_rows().map_err(refused)?;
    report.bodies = bodies.rows;
    if bodies.missing > 0 {
        findings.push(format!("{} of {} large texts are missing", bodies.missing, bodies.rows));
    }
    if bodies.damaged > 0 {
        findings.push(format!("{} of {} large texts are damaged", bodies.damaged, bodies.rows));
    }
    findings.extend(inspector.compare_rows().map_err(refused)?.mismatches);
    let audit = audit::check_home(home).context("the audit log cannot be checked")?;
    (report.runs, report.checkpoints) = audit.counts();
    findings.extend(audit.finding_texts());
    Ok(())
}
