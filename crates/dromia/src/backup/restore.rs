//! Making a home of a backup. It is unpacked beside its place, checked there, made durable and then renamed: a crash leaves
//! no half home. A home that is in the way is refused, or moved aside as a whole; it is never changed and never removed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use dromia_cli::output::{draw_pairs, shell_word};
use dromia_store::{StoreConfig, StoreHold, StoreInspector, sync_directory};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use schemars::JsonSchema;
use serde::Serialize;

use super::RestoreBackup;
use super::archive::{self, BackupHeader};
use super::check::{not_read, open_backup, report_on};
use super::extract::HomeUnpacker;
use super::place::{PartialPlace, with_suffix};
use super::progress::CopyWatch;
use crate::home::Home;
use crate::home_services;
use crate::runtime;
use crate::system::ExitError;

/// How long the store of a home that is in the way may take to say which one it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `dromia backup restore` made.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BackupRestored")]
pub(crate) struct RestoreResult {
    /// The new home.
    home: String,
    /// The moment that it is of.
    created_at: Timestamp,
    /// How many files, directories and links it has.
    members: u64,
    /// Whether the files of agents were in the backup.
    has_workspaces: bool,
    /// Where the home went that was there before.
    replaced: Option<String>,
    /// What is damaged; only with `--damaged`.
    findings: Vec<String>,
}

impl RestoreResult {
    /// The result for a person.
    pub(super) fn result_text(&self) -> String {
        let later = "what was revoked or erased since is valid or there again: revoke and delete it again";
        let mut pairs = vec![
            ("home", self.home.clone()),
            ("of", format!("{}, {} members", self.created_at.strftime("%F %T UTC"), self.members)),
            (
                "moved",
                self.replaced.as_ref().map(|to| format!("the home before to {to}")).unwrap_or_default(),
            ),
            ("damaged", self.findings.join("; ")),
            ("note", later.to_owned()),
        ];
        pairs.push(("next", format!("dromia --home {} up", shell_word(&self.home))));
        draw_pairs(&pairs)
    }
}

/// Makes a home of a backup.
pub(super) fn restore_backup(
    home: &Home,
    asked: &RestoreBackup,
    watch: &mut CopyWatch,
) -> anyhow::Result<RestoreResult> {
    let opened = open_backup(&asked.file)?;
    let place = std::path::absolute(home.root_dir())?;
    let _hold = check_place(&place, asked.replace)?;
    let parent = place.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))?;
    let new =
        PartialPlace::make_directory(with_suffix(&place, &format!(".restoring-{}", std::process::id())))?;
    let check = |header: &BackupHeader| check_home_id(&place, header, asked.other_home);
    let mut unpacker = HomeUnpacker::new(new.path(), |_| true, &check, watch);
    let read = archive::read_backup(opened, &mut unpacker).map_err(|error| not_read(&asked.file, error))?;
    unpacker.finish()?;
    // A file that is not what was written is never restored; damage that was there before it was written may be.
    if let Some(finding) = read.findings.first() {
        return Err(ExitError::failed_error(format!(
            "{}: {finding}; nothing was restored, so use another backup",
            asked.file.display()
        )));
    }
    let report = report_on(&asked.file, read, new.path());
    if !report.is_sound() && !asked.damaged {
        return Err(ExitError::failed_error(format!(
            "the store in {} is damaged: {}; nothing was restored; use another backup, or restore this one with \
             --damaged",
            asked.file.display(),
            report.findings.join("; ")
        )));
    }
    let replaced = put_in_place(new, &place)?;
    Ok(RestoreResult {
        home: place.display().to_string(),
        created_at: report.created_at,
        members: report.members,
        has_workspaces: report.has_workspaces,
        replaced: replaced.map(|path| path.display().to_string()),
        findings: report.findings,
    })
}

/// Refuses a place where something is, or a home that a server uses. Returns what keeps a server from starting there.
fn check_place(place: &Path, replace: bool) -> anyhow::Result<Option<StoreHold>> {
    let shown = place.display();
    let is_empty = match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            return Err(ExitError::conflict_error(format!(
                "{shown} is in the way: {error}; choose another --home"
            )));
        }
    };
    if is_empty {
        return Ok(None);
    }
    if !replace {
        return Err(ExitError::conflict_error(format!(
            "{shown} is not empty; choose another directory with --home, or move the home there aside with --replace"
        )));
    }
    let home = Home::locate_home(Some(place));
    if !home.store_dir().is_dir() {
        return Ok(None);
    }
    let hold = StoreHold::acquire(&StoreConfig::new(home.store_dir()));
    let hold = hold.map_err(|error| home_services::open_error(&home, error))?;
    if hold.is_served() {
        return Err(ExitError::conflict_error(format!("a server uses {shown}; stop it first")));
    }
    Ok(Some(hold))
}

/// Refuses a backup of another home than the one in the way, as far as that one can tell which it is.
fn check_home_id(place: &Path, header: &BackupHeader, takes_other: bool) -> anyhow::Result<()> {
    let store = Home::locate_home(Some(place)).store_dir();
    let present = StoreInspector::new(StoreConfig::new(store), PATIENCE).first_tenant();
    match present {
        Ok(Some(id)) if id.to_string() != header.home_id && !takes_other => {
            Err(ExitError::conflict_error(format!(
                "the backup is of home {}, and {} is home {id}; replace it all the same with --other-home",
                header.home_id,
                place.display()
            )))
        }
        _ => Ok(()),
    }
}

/// Gives the new home its name when all of it is on the disk. Returns where the one before went.
fn put_in_place(new: PartialPlace, place: &Path) -> anyhow::Result<Option<PathBuf>> {
    let root = fs::File::open(new.path())?;
    rustix::fs::syncfs(&root).context("failed to write the home to the disk")?;
    let parent = place.parent().unwrap_or(Path::new("/"));
    let is_there = place.exists() && fs::read_dir(place)?.next().is_some();
    let failed = || format!("failed to name the home {}", place.display());
    let aside = if is_there {
        let now = runtime::real_runtime().clock.now();
        let aside = with_suffix(place, &now.strftime(".replaced-%Y%m%dT%H%M%SZ").to_string());
        // One step: there is always a home of that name.
        rustix::fs::renameat_with(CWD, new.path(), CWD, place, RenameFlags::EXCHANGE).with_context(failed)?;
        // From here on the name beside is the home before, which must stay whatever happens.
        let before = new.keep();
        fs::rename(&before, &aside).with_context(|| {
            format!("the home before is now {}, and failed to rename it", before.display())
        })?;
        Some(aside)
    } else {
        fs::rename(new.path(), place).with_context(failed)?;
        new.keep();
        None
    };
    sync_directory(parent).context("failed to write the name of the home to the disk")?;
    Ok(aside)
}
