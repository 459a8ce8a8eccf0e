//! A backup that is taken while the server works: what was acknowledged before it is in the home that is made of it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::home::{Home, Server, block_on, stderr};

/// How many turns are acknowledged before the backup begins.
const TURNS: usize = 20;

fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("a document")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// Takes a turn, and returns its session, which the server said is complete.
async fn take_turn(server: &Server) -> String {
    let (status, answer) = server.event(&json!({"text": "hello", "wait": true})).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    answer["session"].as_str().expect("a session").to_owned()
}

/// A home, its backup, and the sessions that were complete before the backup began.
fn back_up_under_load(home: &Home, file: &Path) -> Vec<String> {
    let server = home.serve();
    let (told, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let acknowledged = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                block_on(async {
                    while !is_over.load(Ordering::Relaxed) {
                        let session = take_turn(&server).await;
                        told.lock().expect("a list").push(session);
                    }
                });
            });
        }
        while told.lock().expect("a list").len() < TURNS {
            std::thread::yield_now();
        }
        let before = told.lock().expect("a list").clone();
        let made = printed(&home.run(&["backup", "create", text(file), "--json"]));
        assert_eq!(made["was_served"], true, "{made}");
        is_over.store(true, Ordering::Relaxed);
        before
    });
    assert!(told.lock().expect("a list").len() > acknowledged.len(), "the server worked meanwhile");
    server.kill();
    acknowledged
}

/// The sessions of a list that a home does not have as complete.
fn missing_sessions(home: &Home, restored: &Path, sessions: &[String]) -> Vec<String> {
    let mut command = home.command();
    command.env("DROMIA_HOME", restored);
    let server = home.serve_by(command);
    let is_missing = |session: &&String| {
        let (_, runs) = block_on(server.get(&format!("/v1/runs?session={session}")));
        runs["items"][0]["status"] != "completed"
    };
    sessions.iter().filter(is_missing).cloned().collect()
}

fn restored(home: &Home, file: &Path) -> PathBuf {
    let to = home.path().with_file_name("restored");
    printed(&home.run(&["backup", "restore", text(file), "--home", text(&to), "--json"]));
    to
}

#[test]
fn a_restored_home_has_every_turn_acknowledged_before_the_backup() {
    let home = Home::new();
    let file = home.path().with_file_name("load.tar");
    let acknowledged = back_up_under_load(&home, &file);
    let found = printed(&home.run(&["backup", "verify", text(&file), "--json"]));
    assert_eq!((&found["ok"], &found["findings"]), (&json!(true), &json!([])), "{found}");
    let to = restored(&home, &file);
    assert_eq!(missing_sessions(&home, &to, &acknowledged), Vec::<String>::new());
    let audit = home.run(&["audit", "verify", "--home", text(&to)]);
    assert!(audit.status.success(), "{} {}", String::from_utf8_lossy(&audit.stdout), stderr(&audit));
}

/// Planted fault: a copy of the main file alone, as `cp` makes one, lacks what lies in the log.
#[test]
fn a_backup_without_the_log_is_caught() {
    let home = Home::new();
    let file = home.path().with_file_name("load.tar");
    let acknowledged = back_up_under_load(&home, &file);
    let to = restored(&home, &file);
    // The server was killed, so its log still has what the main file does not.
    std::fs::copy(home.path().join("store/dromia.db"), to.join("store/dromia.db")).expect("is copied");
    assert_ne!(missing_sessions(&home, &to, &acknowledged), Vec::<String>::new());
}

#[test]
fn a_stopped_backup_leaves_no_file() {
    let home = Home::new();
    let file = home.path().with_file_name("stopped.tar");
    // A workspace that takes a while.
    let workspace = home.path().join("agents/agt_1/workspace");
    std::fs::create_dir_all(&workspace).expect("is made");
    let large = std::fs::File::create(workspace.join("large")).expect("is made");
    large.set_len(8 << 30).expect("is sparse");
    let mut child = home.command().args(["backup", "create", text(&file)]).spawn().expect("it starts");
    let partial = home.path().with_file_name("stopped.tar.partial");
    while !partial.exists() {
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let left = std::fs::read_dir(home.path().parent().expect("a parent")).expect("is listed");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["home"]);
}
