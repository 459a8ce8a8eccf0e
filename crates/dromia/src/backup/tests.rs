//! Backups of a real home, and what a wrong one would do.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Once;

use clap::Parser as _;
use dromia_cli::CommandContext;
use dromia_store::{SqliteStore, StoreConfig};
use rusqlite::{Connection, params};

use super::check::verify_backup;
use super::create::{CopyPlan, create_backup, create_by_plan};
use super::progress::CopyWatch;
use super::restore::restore_backup;
use super::{BackupReport, RestoreBackup};
use crate::home::Home;
use crate::{ProgramArguments, ProgramCommand, init, runtime};

/// A directory with a home in it that has one large body.
struct BackedUpHome {
    dir: tempfile::TempDir,
    home: Home,
}

impl BackedUpHome {
    fn new() -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::locate_home(Some(&dir.path().join("home")));
        let line = ["dromia", "init", "--defaults", "--no-input", "--model-source", "scripted"];
        let arguments = ProgramArguments::try_parse_from(line).expect("is a command");
        let Some(ProgramCommand::Init(command)) = arguments.command else { panic!("is init") };
        let mut context = CommandContext::of_process(runtime::request_key());
        context.out = Box::new(std::io::sink());
        init::run(&home, &command, &arguments.global, &mut context).expect("the home is made");
        let made = Self { dir, home };
        made.plant_body(&vec![7; 300 << 10]);
        made
    }

    fn database(&self) -> Connection {
        Connection::open(self.home.store_dir().join("dromia.db")).expect("opens")
    }

    /// Stores a body as the store does.
    fn plant_body(&self, body: &[u8]) -> PathBuf {
        let db = self.database();
        let (tenant, key): (Vec<u8>, [u8; 32]) = db
            .query_row("SELECT tenant, body_key FROM tenants", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("a tenant");
        let hash = blake3::keyed_hash(&key, body);
        db.execute("INSERT INTO bodies VALUES (?1, ?2, NULL)", params![tenant, hash.as_bytes()])
            .expect("is put");
        let id = dromia_contracts::TenantId::from_bytes(tenant.try_into().expect("an id"));
        let dir = self.home.store_dir().join("blobs").join(id.to_string());
        fs::create_dir_all(&dir).expect("is made");
        let path = dir.join(hash.to_hex().as_str());
        fs::write(&path, body).expect("is written");
        path
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn back_up(&self, name: &str) -> PathBuf {
        let file = self.place(name);
        let made = create_backup(&self.home, Some(&file), true, &mut watch()).expect("is made");
        assert_eq!((made.missing_bodies, made.skipped_count), (0, 0), "{made:?}");
        file
    }
}

fn watch() -> CopyWatch {
    CopyWatch::new(false)
}

fn asked(file: &Path) -> RestoreBackup {
    RestoreBackup { file: file.to_owned(), replace: false, other_home: false, damaged: false }
}

fn restore(file: &Path, to: &Path) -> Result<(), String> {
    let home = Home::locate_home(Some(to));
    restore_backup(&home, &asked(file), &mut watch()).map(drop).map_err(|error| format!("{error:#}"))
}

fn report(file: &Path) -> BackupReport {
    verify_backup(file, &mut watch()).expect("is read")
}

/// What lies beside the files that a test named itself.
fn leftovers(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("is listed").map(|entry| entry.expect("an entry").file_name());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.contains(".partial") || name.contains(".verify") || name.contains(".restoring"))
        .collect()
}

#[test]
fn a_home_returns_from_its_backup() {
    let made = BackedUpHome::new();
    let workspace = made.home.root_dir().join("agents/agt_1/workspace");
    fs::create_dir_all(workspace.join("empty")).expect("is made");
    fs::write(workspace.join("run.sh"), "echo\n").expect("is written");
    fs::set_permissions(workspace.join("run.sh"), fs::Permissions::from_mode(0o750)).expect("is set");
    symlink("run.sh", workspace.join("link")).expect("is linked");
    fs::create_dir(made.home.root_dir().join("run")).expect("is made");
    fs::write(made.home.root_dir().join("run/dromia.sock"), "").expect("is written");
    let file = made.back_up("all.tar");
    assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
    let found = report(&file);
    assert!(found.is_sound() && found.bodies == 1, "{found:#?}");

    let to = made.place("restored/home");
    restore(&file, &to).expect("is restored");
    for name in ["dromia.yaml", "token", "vault.key", "dromia.schema.json"] {
        let read = |home: &Path| fs::read(home.join(name)).expect(name);
        assert_eq!(read(made.home.root_dir()), read(&to), "{name}");
    }
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join("token"))), (0o700, 0o600));
    let workspace = to.join("agents/agt_1/workspace");
    assert_eq!(mode(&workspace.join("run.sh")), 0o750);
    assert!(workspace.join("empty").is_dir());
    assert_eq!(fs::read_link(workspace.join("link")).expect("a link"), Path::new("run.sh"));
    assert!(!to.join("run").exists() && !to.join("store/dromia.lock").exists());
    drop(SqliteStore::open(StoreConfig::new(to.join("store"))).expect("a server could open it"));
    assert_eq!(leftovers(made.dir.path()), Vec::<String>::new());

    let without = made.place("small.tar");
    create_backup(&made.home, Some(&without), false, &mut watch()).expect("is made");
    restore(&without, &made.place("small")).expect("is restored");
    assert!(!made.place("small").join("agents").exists());
}

#[test]
fn restore_refuses_what_is_in_the_way() {
    let made = BackedUpHome::new();
    let file = made.back_up("all.tar");
    let refused =
        create_backup(&made.home, Some(&file), true, &mut watch()).expect_err("is there").to_string();
    assert!(refused.contains("is there already"), "{refused}");
    let inside = made.home.root_dir().join("x.tar");
    let refused =
        create_backup(&made.home, Some(&inside), true, &mut watch()).expect_err("is inside").to_string();
    assert!(refused.contains("in the home itself"), "{refused}");

    let refused = restore(&file, made.home.root_dir()).expect_err("a home is there");
    assert!(refused.contains("is not empty"), "{refused}");
    let replace = RestoreBackup { replace: true, ..asked(&file) };
    let server = SqliteStore::open(StoreConfig::new(made.home.store_dir())).expect("opens");
    let refused = restore_backup(&made.home, &replace, &mut watch()).expect_err("is served").to_string();
    assert!(refused.contains("a server uses"), "{refused}");
    drop(server);
    fs::write(made.home.root_dir().join("mine"), "x").expect("is written");
    restore_backup(&made.home, &replace, &mut watch()).expect("is replaced");
    assert!(!made.home.root_dir().join("mine").exists());
    let aside =
        fs::read_dir(made.dir.path()).expect("is listed").map(|entry| entry.expect("an entry").path());
    let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".replaced-")).collect();
    assert!(aside.len() == 1 && aside[0].join("mine").exists(), "{aside:?}");

    let other = BackedUpHome::new();
    let refused = restore_backup(&other.home, &replace, &mut watch()).expect_err("is another").to_string();
    assert!(refused.contains("--other-home"), "{refused}");
    let other_home = RestoreBackup { other_home: true, ..replace };
    restore_backup(&other.home, &other_home, &mut watch()).expect("is replaced");
    let empty = made.place("empty");
    fs::create_dir(&empty).expect("is made");
    restore(&file, &empty).expect("an empty directory is in no one's way");
}

#[test]
fn a_newer_or_foreign_file_is_refused_by_name() {
    let made = BackedUpHome::new();
    let file = made.back_up("all.tar");
    let mut bytes = fs::read(&file).expect("is read");
    let form = b"\"dromia_backup\":1";
    let at = bytes.windows(form.len()).position(|piece| piece == form).expect("says its form");
    bytes[at + form.len() - 1] = b'9';
    let newer = made.place("newer.tar");
    fs::write(&newer, &bytes).expect("is written");
    let refused = restore(&newer, &made.place("new")).expect_err("is newer");
    assert!(refused.contains("form 9") && refused.contains("newer program"), "{refused}");
    let foreign = made.place("foreign.tar");
    for text in ["", "hello", &"x".repeat(4_096)] {
        fs::write(&foreign, text).expect("is written");
        let refused = restore(&foreign, &made.place("new")).expect_err("is foreign");
        assert!(refused.contains("not a backup of dromia"), "{refused}");
    }
    assert!(!made.place("new").exists());
}

/// Whether a way to restore refuses a backup that was cut off anywhere, and leaves no home.
fn refuses_truncated(
    made: &BackedUpHome,
    file: &Path,
    restore: &dyn Fn(&Path, &Path) -> Result<(), String>,
) -> bool {
    let whole = fs::read(file).expect("is read");
    // The two blocks at the end of a tar file are empty; without them it is whole.
    let last = whole.len() - 1_536;
    let cuts = [600, 40_000, whole.len() / 2, last - 2_048, last - 512, last - 1];
    cuts.into_iter().enumerate().all(|(number, cut)| {
        let part = made.place("part.tar");
        fs::write(&part, &whole[..cut]).expect("is written");
        let to = made.place(&format!("part-{number}"));
        restore(&part, &to).is_err() && !to.exists()
    })
}

#[test]
fn a_truncated_backup_is_refused_and_leaves_no_home() {
    let made = BackedUpHome::new();
    let file = made.back_up("all.tar");
    assert!(refuses_truncated(&made, &file, &restore));
    assert_eq!(leftovers(made.dir.path()), Vec::<String>::new());
}

#[test]
fn a_truncated_backup_that_restores_is_caught() {
    let made = BackedUpHome::new();
    let file = made.back_up("all.tar");
    let unpack = |file: &Path, to: &Path| {
        let opened = fs::File::open(file).map_err(|error| error.to_string())?;
        tar::Archive::new(opened).unpack(to).map_err(|error| error.to_string())
    };
    assert!(!refuses_truncated(&made, &file, &unpack));
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let made = BackedUpHome::new();
    let file = made.back_up("all.tar");
    let whole = fs::read(&file).expect("is read");
    let changed = made.place("changed.tar");
    let find = |text: &[u8]| whole.windows(text.len()).position(|piece| piece == text).expect("is there");
    for at in [find(b"SQLite format 3") + 200, find(&[7; 512]) + 99, find(b"drm_") + 5] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&changed, &bytes).expect("is written");
        let found = report(&changed);
        assert!(!found.is_sound() && found.findings[0].contains("differs from the manifest"), "{found:#?}");
        restore(&changed, &made.place("changed")).expect_err("is refused");
        let all_the_same = RestoreBackup { damaged: true, ..asked(&changed) };
        let to = Home::locate_home(Some(&made.place("changed")));
        restore_backup(&to, &all_the_same, &mut watch()).expect_err("a changed file is never restored");
    }
}

#[test]
fn a_body_missing_from_the_backup_is_caught() {
    let made = BackedUpHome::new();
    let file = made.place("forgets.tar");
    let plan = CopyPlan { has_workspaces: true, takes_body: &|_| false, looks_again: true };
    create_by_plan(&made.home, Some(&file), &plan, &mut watch()).expect("is made");
    let found = report(&file);
    assert!(!found.is_sound(), "{found:#?}");
    assert_eq!(found.findings, ["1 of 1 large texts are missing"]);
    let refused = restore(&file, &made.place("new")).expect_err("is refused");
    assert!(refused.contains("--damaged") && !made.place("new").exists(), "{refused}");
    let damaged = RestoreBackup { damaged: true, ..asked(&file) };
    let to = Home::locate_home(Some(&made.place("new")));
    restore_backup(&to, &damaged, &mut watch()).expect("the operator wants it");
}

/// Makes a backup while something is erased once, and asks its database.
fn ask_backup_beside(erasure: &str, looks_again: bool, question: &str) -> bool {
    let made = BackedUpHome::new();
    // A server has the store, as far as a lock shows.
    let server = SqliteStore::open(StoreConfig::new(made.home.store_dir())).expect("opens");
    let erase = |_: &Path| {
        made.database().execute(erasure, []).expect("is erased");
        true
    };
    let file = made.place("beside.tar");
    let plan = CopyPlan { has_workspaces: true, takes_body: &erase, looks_again };
    let result = create_by_plan(&made.home, Some(&file), &plan, &mut watch()).expect("is made");
    assert!(result.was_served);
    drop(server);
    let mut archive = tar::Archive::new(fs::File::open(&file).expect("opens"));
    archive.unpack(made.place("look")).expect("is unpacked");
    let db = Connection::open(made.place("look/home/store/dromia.db")).expect("opens");
    db.query_row(question, [], |row| row.get(0)).expect("is counted")
}

/// Whether an agent is in a backup although its erasure ended before the backup did.
fn keeps_erased_agent(looks_again: bool) -> bool {
    ask_backup_beside("DELETE FROM agents", looks_again, "SELECT count(*) > 0 FROM agents")
}

/// Whether a backup is of a time before a session was erased that was erased before the backup ended.
fn keeps_erased_session(looks_again: bool) -> bool {
    let seal = "INSERT INTO audit (tenant, number, at, kind, record, chain) \
                SELECT tenant, max(number) + 1, 0, 1, CAST('session_erased' AS BLOB), chain FROM audit \
                WHERE NOT EXISTS (SELECT 1 FROM audit WHERE record = CAST('session_erased' AS BLOB)) GROUP BY tenant";
    let question = "SELECT count(*) = 0 FROM audit WHERE record = CAST('session_erased' AS BLOB)";
    ask_backup_beside(seal, looks_again, question)
}

#[test]
fn what_is_erased_meanwhile_is_not_in_the_backup() {
    assert!(!keeps_erased_agent(true));
    assert!(!keeps_erased_session(true));
}

#[test]
fn an_erased_agent_in_the_backup_is_caught() {
    assert!(keeps_erased_agent(false));
    assert!(keeps_erased_session(false));
}

#[test]
fn a_link_in_a_workspace_brings_nothing_of_the_machine() {
    let made = BackedUpHome::new();
    let outside = made.place("outside");
    fs::create_dir(&outside).expect("is made");
    fs::write(outside.join("secret"), "of the machine").expect("is written");
    let workspace = made.home.root_dir().join("agents/agt_1/workspace");
    fs::create_dir_all(&workspace).expect("is made");
    symlink(&outside, workspace.join("dir")).expect("is linked");
    symlink(outside.join("secret"), workspace.join("file")).expect("is linked");
    let file = made.back_up("all.tar");
    let bytes = fs::read(&file).expect("is read");
    assert!(!bytes.windows(14).any(|piece| piece == b"of the machine"));
    restore(&file, &made.place("new")).expect("is restored");
    let link = made.place("new/agents/agt_1/workspace/file");
    assert!(link.symlink_metadata().expect("is there").is_symlink());
}
