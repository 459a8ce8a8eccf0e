//! Writing a backup. The order makes it consistent: the database first, then what its rows name.
//!
//! Bodies are only added and erased, never changed: one that a row of the copy names is there unless an erasure took it
//! since. So after all is copied, the agents of the copy are compared with those of the store, and how many sessions were erased
//! one by one. If an agent or a session is gone or is
//! being deleted, the file is begun again, because an erased body must not come back with a restore. Of the checkpoints those
//! are copied that the database of the copy remembers: a later one would say that seals were removed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use dromia_cli::output::{draw_pairs, shell_word};
use dromia_guard::audit::AuditCheckpoint;
use dromia_store::{CopyError, StoreConfig, StoreHold, StoreInspector, copy_database, sync_directory};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::archive::{BackupHeader, BackupWriter, FORMAT};
use super::place::{PartialPlace, with_suffix};
use super::progress::{CopyWatch, StoppedBySignal};
use super::sources::HomeFiles;
use crate::audit::{AuditDirectory, BoundedLines};
use crate::home::Home;
use crate::home_services;
use crate::runtime;
use crate::system::ExitError;

/// How often a backup begins again because agents or sessions are being erased, and how long it waits in between.
const TRIES_MAX: u32 = 6;
const ERASURE_WAIT: Duration = Duration::from_secs(1);
/// How long one question to the database may take.
const PATIENCE: Duration = Duration::from_mins(10);
const PAGE_BYTES: u64 = 4_096;

/// What `dromia backup create` wrote.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BackupCreated")]
pub(crate) struct BackupResult {
    /// The file.
    pub(super) file: String,
    /// Its bytes.
    pub(super) bytes: u64,
    /// How many files, directories and links of the home it has.
    pub(super) members: u64,
    /// The moment that its database is of.
    pub(super) created_at: Timestamp,
    /// Whether a server used the home meanwhile.
    pub(super) was_served: bool,
    /// Whether the files of agents are in it.
    pub(super) has_workspaces: bool,
    /// Bodies that rows name and that the store does not have: the home was damaged before.
    pub(super) missing_bodies: u64,
    /// How many files of agents could not be copied.
    pub(super) skipped_count: u64,
    /// The first of them, each with the reason.
    pub(super) skipped: Vec<String>,
}

impl BackupResult {
    /// The result for a person.
    pub(super) fn result_text(&self) -> String {
        let file = shell_word(&self.file).into_owned();
        let mut pairs = vec![
            ("backup", self.file.clone()),
            ("size", mebibytes(self.bytes)),
            ("of", format!("{}, {} members", self.created_at.strftime("%F %T UTC"), self.members)),
        ];
        if !self.has_workspaces {
            pairs.push(("left out", "the files of agents".to_owned()));
        }
        if self.missing_bodies > 0 {
            let text = format!(
                "{} texts that the store names and does not have; see `dromia doctor --only store`",
                self.missing_bodies
            );
            pairs.push(("missing", text));
        }
        if self.skipped_count > 0 {
            let text = format!("{} files of agents: {}", self.skipped_count, self.skipped.join("; "));
            pairs.push(("skipped", text));
        }
        let secret = "this file opens every secret of the home and holds an administrator's token";
        pairs.push(("secret", secret.to_owned()));
        pairs.push(("next", format!("dromia backup verify {file}")));
        draw_pairs(&pairs)
    }
}

/// A number of bytes, with one digit behind the point.
pub(super) fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// What of a home a backup copies, and how; tests give ones that forget something.
pub(super) struct CopyPlan<'a> {
    pub(super) has_workspaces: bool,
    /// Whether a body of the store is copied.
    pub(super) takes_body: &'a dyn Fn(&Path) -> bool,
    /// Whether it looks for erasures at the end.
    pub(super) looks_again: bool,
}

/// Writes a backup of a home.
pub(super) fn create_backup(
    home: &Home,
    to: Option<&Path>,
    has_workspaces: bool,
    watch: &mut CopyWatch,
) -> anyhow::Result<BackupResult> {
    create_by_plan(home, to, &CopyPlan { has_workspaces, takes_body: &|_| true, looks_again: true }, watch)
}

/// The same by a plan.
pub(super) fn create_by_plan(
    home: &Home,
    to: Option<&Path>,
    plan: &CopyPlan<'_>,
    watch: &mut CopyWatch,
) -> anyhow::Result<BackupResult> {
    if !home.config_path().is_file() {
        let text = format!("there is no home in {}; name it with --home", home.root_dir().display());
        return Err(ExitError::failed_error(text));
    }
    home.check_store()?;
    let now = runtime::real_runtime().clock.now();
    let place = choose_place(home, to, now)?;
    let partial = PartialPlace::beside_file(&place);
    let scratch = PartialPlace::make_directory(with_suffix(&place, ".partial.d"))?;
    for attempt in 1..=TRIES_MAX {
        let copied = write_once(home, plan, (partial.path(), scratch.path()), watch)?;
        if let Some(copied) = copied {
            fs::rename(partial.path(), &place)
                .with_context(|| format!("failed to name the backup {}", place.display()))?;
            partial.keep();
            sync_directory(place.parent().unwrap_or(Path::new("/")))?;
            let file = place.display().to_string();
            return Ok(BackupResult { file, ..copied });
        }
        std::thread::sleep(ERASURE_WAIT * attempt);
    }
    Err(ExitError::conflict_error(
        "the server deleted agents or sessions all the while, so there is no backup without them; try again when `dromia \
         agent list` shows no agent that is being deleted, and `dromia retention show` nothing that is due",
    ))
}

/// Chooses the file: what is there is never written over.
fn choose_place(home: &Home, to: Option<&Path>, now: Timestamp) -> anyhow::Result<PathBuf> {
    let to = to.unwrap_or(Path::new("."));
    let named = if to.is_dir() {
        to.join(now.strftime("dromia-%Y%m%dT%H%M%SZ.tar").to_string())
    } else {
        to.to_owned()
    };
    let place = std::path::absolute(&named)?;
    if place.extension().is_none() {
        let text = format!(
            "{} is no directory that exists; make it first, or name a file that ends in .tar",
            place.display()
        );
        return Err(ExitError::usage_error(text));
    }
    let parent = place.parent().unwrap_or(Path::new("/"));
    let real = parent.canonicalize().map_err(|error| {
        ExitError::usage_error(format!("{}: {error}; name a directory that exists", parent.display()))
    })?;
    if home.root_dir().canonicalize().is_ok_and(|root| real.starts_with(root)) {
        let text = format!("{} is in the home itself; name a place outside of it", place.display());
        return Err(ExitError::usage_error(text));
    }
    if place.symlink_metadata().is_ok() {
        let text = format!("{} is there already; choose another name", place.display());
        return Err(ExitError::conflict_error(text));
    }
    Ok(place)
}

/// Writes the file once; nothing if what it copied was erased meanwhile.
fn write_once(
    home: &Home,
    plan: &CopyPlan<'_>,
    (partial, scratch): (&Path, &Path),
    watch: &mut CopyWatch,
) -> anyhow::Result<Option<BackupResult>> {
    let config = StoreConfig::new(home.store_dir());
    let created_at = runtime::real_runtime().clock.now();
    let database = scratch.join("dromia.db");
    let unreadable = |error| home_services::open_error(home, error);
    // Held as long as the database is copied: a server that starts after that is as good as one that ran before.
    let hold = StoreHold::acquire(&config).map_err(unreadable)?;
    let was_served = hold.is_served();
    copy_store(home, &config, &hold, &database, watch)?;
    drop(hold);
    let copy = StoreInspector::new(StoreConfig::new(scratch), PATIENCE);
    let header = BackupHeader {
        dromia_backup: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        home_id: copy.first_tenant().map_err(unreadable)?.map(|id| id.to_string()).unwrap_or_default(),
        created_at,
        has_workspaces: plan.has_workspaces,
    };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial);
    let file = file.with_context(|| format!("failed to create {}", partial.display()))?;
    let mut writer = BackupWriter::begin(file, &header).context("failed to write the backup")?;
    let mut files = HomeFiles {
        writer: &mut writer,
        watch,
        has_workspaces: plan.has_workspaces,
        skipped: Vec::new(),
        skipped_count: 0,
    };
    files.copy_file(File::open(&database)?, "home/store/dromia.db")?;
    let mut missing_bodies = 0;
    for body in copy.body_files().map_err(unreadable)? {
        if !(plan.takes_body)(&body) {
            continue;
        }
        match File::open(config.dir.join(&body)) {
            Ok(file) => files.copy_file(file, &format!("home/store/{}", body.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => missing_bodies += 1,
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", body.display())),
        }
    }
    let book = AuditDirectory::for_home(home);
    let mark = copy.audit_mark().map_err(unreadable)?;
    let checkpoints = scratch.join("checkpoints.jsonl");
    copy_checkpoints(&book, mark.map_or(0, |mark| mark.number), &checkpoints)?;
    files.copy_file(File::open(&checkpoints)?, "home/audit/checkpoints.jsonl")?;
    files.copy_audit(&home.audit_dir())?;
    files.copy_home(home.root_dir())?;
    let (skipped, skipped_count) = (files.skipped, files.skipped_count);
    if plan.looks_again {
        let hold = StoreHold::acquire(&config).map_err(unreadable)?;
        let inspector = StoreInspector::new(config, PATIENCE);
        let (copied, left) = copy.erased_sessions().map_err(unreadable)?;
        let (erased, _) = inspector.erased_sessions().map_err(unreadable)?;
        if erased != copied || (left > 0 && hold.is_served()) {
            return Ok(None);
        }
        let live = inspector.agents_kept().map_err(unreadable)?;
        // Where no server runs, an erasure that was broken off goes on when one starts.
        let is_kept = |(agent, is_deleting): (_, &bool)| {
            live.get(agent) == Some(is_deleting) && !(*is_deleting && hold.is_served())
        };
        if !copy.agents_kept().map_err(unreadable)?.iter().all(is_kept) {
            return Ok(None);
        }
    }
    let members = writer.members;
    let bytes = writer.finish().and_then(|file| file.metadata()).context("failed to write the backup")?.len();
    Ok(Some(BackupResult {
        file: String::new(),
        bytes,
        members,
        created_at,
        was_served,
        has_workspaces: plan.has_workspaces,
        missing_bodies,
        skipped_count,
        skipped,
    }))
}

fn copy_store(
    home: &Home,
    config: &StoreConfig,
    hold: &StoreHold,
    to: &Path,
    watch: &mut CopyWatch,
) -> anyhow::Result<()> {
    let copied = copy_database(config, hold, to, &mut |at| match watch.note_step(
        "store",
        at.copied * PAGE_BYTES,
        Some(at.total * PAGE_BYTES),
    ) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    copied.map_err(|error| match error {
        CopyError::Stopped => StoppedBySignal.into(),
        CopyError::Open(error) => home_services::open_error(home, error),
        CopyError::Outrun(_) => ExitError::conflict_error(format!(
            "{error}; free space on the volume of the home, write to a faster disk, try again when the server has less to \
             do, or stop it first"
        )),
        CopyError::Lossy(_) | CopyError::Failed(_) => ExitError::failed_error(error.to_string()),
    })
}

/// Copies the checkpoints up to a number. A line that was torn off or that is no checkpoint is copied as it is, for
/// `dromia audit verify` to see.
fn copy_checkpoints(book: &AuditDirectory, last: u64, to: &Path) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut file = BufWriter::new(file);
    if let Some(mut lines) = BoundedLines::open(&book.checkpoints_path())? {
        while let Some(line) = lines.next()? {
            let bare = line.strip_suffix('\n').unwrap_or(&line);
            if AuditCheckpoint::read_line(bare, None).is_ok_and(|read| read.head.number > last) {
                break;
            }
            file.write_all(line.as_bytes())?;
        }
    }
    file.flush()?;
    Ok(())
}
