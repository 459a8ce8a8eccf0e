//! A file system without space: input is refused with a typed problem, reads and health go on, and the server takes
//! input again by itself once there is space. A server that is to start there says what is missing and what to do.
//!
//! The small file system is a tmpfs, mounted by the test or, where only root may, in namespaces of a user's own. Where neither is
//! permitted these tests fail, because they would test nothing. A limit on the size of the server's files stands for a full disk
//! in tests of its own. The last test sees that what is called small is small.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::home::{DEADLINE, Home, Server, block_on, stderr};

/// Bytes of each input.
const TEXT_BYTES: usize = 40_000;

/// Set where a test runs in namespaces of its own.
const INSIDE: &str = "DROMIA_TEST_NAMESPACES";

/// A file system, or a limit, that is soon full.
enum Small {
    Tmpfs(Mount),
    Limit,
}

/// A mounted tmpfs; unmounted when dropped.
struct Mount {
    at: TempDir,
}

impl Mount {
    fn make() -> Option<Self> {
        let at = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"])
            .arg(at.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self { at })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, because a server that was killed may take a moment to let go; what is left goes with the machine.
        drop(Command::new("umount").arg("-l").arg(self.at.path()).output());
    }
}

impl Small {
    /// Runs a test on a small file system: here, or in another process where the user may mount one.
    fn tmpfs(name: &str, test: impl FnOnce(&Self)) {
        if let Some(mount) = Mount::make() {
            return test(&Self::Tmpfs(mount));
        }
        assert!(
            std::env::var_os(INSIDE).is_none(),
            "no file system can be mounted in namespaces of one's own"
        );
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--mount"]).env(INSIDE, "1");
        again.arg(std::env::current_exe().expect("this test has a path")).args(["--exact", name]);
        let output = again.output().expect("unshare runs");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{name} needs the right to mount a tmpfs, as root or in a user namespace, and tests nothing without: {told}{}",
            stderr(&output)
        );
    }

    fn home(&self) -> Home {
        match self {
            Self::Tmpfs(mount) => Home::within(mount.at.path()),
            Self::Limit => Home::new(),
        }
    }

    fn serve(&self, home: &Home) -> Server {
        match self {
            Self::Tmpfs(_) => home.serve(),
            Self::Limit => {
                // The signal is ignored so that a write over the limit fails, as it does on a full file system.
                let script = "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" \"$@\"";
                let mut limited = Command::new("sh");
                limited.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_dromia"));
                limited.env("DROMIA_HOME", home.path()).env_remove("OPENAI_API_KEY");
                home.serve_by(limited)
            }
        }
    }

    /// Takes whatever space is left.
    fn fill(&self) {
        if let Some(ballast) = self.ballast() {
            let mut file =
                OpenOptions::new().create(true).append(true).open(ballast).expect("the ballast opens");
            for size in [1 << 16, 1 << 12] {
                while file.write_all(&vec![0; size]).is_ok() {}
            }
        }
    }

    fn free(&self, server: &Server) {
        if let Some(ballast) = self.ballast() {
            std::fs::remove_file(&ballast).expect("the ballast goes");
        } else {
            let pid = server.pid().to_string();
            let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
            assert!(raised.expect("prlimit runs").success());
        }
    }

    fn ballast(&self) -> Option<PathBuf> {
        match self {
            Self::Tmpfs(mount) => Some(mount.at.path().join("ballast")),
            Self::Limit => None,
        }
    }
}

/// Sends an input under a key and returns the answer.
async fn send(server: &Server, number: usize) -> (u16, Value) {
    let text = format!("{number} {}", "x".repeat(TEXT_BYTES));
    let request = reqwest::Client::new()
        .post(format!("{}/v1/events", server.url))
        .bearer_auth(&server.token)
        .header("Idempotency-Key", format!("input-{number}"))
        .json(&json!({"text": text}));
    server.send(request).await
}

/// Sends inputs until the store takes no more, and then sees that the rest of the server goes on. Returns how many
/// keys were used, and which of them were acknowledged.
async fn until_full(small: &Small, server: &Server) -> (usize, Vec<usize>) {
    let mut acknowledged = Vec::new();
    let until = Instant::now() + DEADLINE;
    for number in 0.. {
        assert!(Instant::now() < until, "the store is never full");
        // The first ones find space, so that there is something to lose.
        if number >= 3 {
            small.fill();
        }
        let (status, answer) = send(server, number).await;
        match (status, answer["code"].as_str()) {
            (200 | 202, None) => acknowledged.push(number),
            // The one whose write failed cannot know; those that come later are told that nothing is taken.
            (500, Some("outcome_unknown")) => {}
            (503, Some("store_read_only" | "store_unavailable")) => {
                assert!(answer["hint"].is_string() || answer["detail"].is_string(), "{answer}");
                if is_read_only(server).await {
                    return (number + 1, acknowledged);
                }
            }
            _ => panic!("input {number} was answered {status} {answer}"),
        }
    }
    unreachable!("the loop ends in one of its branches")
}

async fn is_read_only(server: &Server) -> bool {
    let (status, health) = server.get("/health").await;
    assert_eq!((status, health["status"].as_str()), (200, Some("ok")), "the process lives: {health}");
    health["store"] == "read_only"
}

async fn runs(server: &Server) -> Vec<Value> {
    let (status, page) = server.get("/v1/runs?limit=256").await;
    assert_eq!(status, 200, "reads go on: {page}");
    page["items"].as_array().cloned().unwrap_or_default()
}

fn a_full_disk_stops_input_and_nothing_else(small: &Small) {
    let home = small.home();
    let server = small.serve(&home);
    block_on(async {
        let (sent, acknowledged) = until_full(small, &server).await;
        assert!(!acknowledged.is_empty(), "something was taken before");
        assert!(runs(&server).await.len() >= acknowledged.len().min(1));
        let (status, page) = server.get("/v1/sessions").await;
        assert_eq!(status, 200, "{page}");

        small.free(&server);
        let until = Instant::now() + DEADLINE;
        while server.get("/ready").await.0 != 200 {
            assert!(Instant::now() < until, "the server does not come back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A client repeats with the same key whatever was not acknowledged.
        for number in (0..sent).filter(|number| !acknowledged.contains(number)) {
            let (status, answer) = send(&server, number).await;
            assert!(status == 200 || status == 202, "{answer}");
        }
        let until = Instant::now() + DEADLINE;
        loop {
            let runs = runs(&server).await;
            assert!(runs.len() <= sent, "{} runs of {sent} inputs", runs.len());
            if runs.len() == sent && runs.iter().all(|run| run["status"] == "completed") {
                break;
            }
            assert!(Instant::now() < until, "{} of {sent} inputs were answered", runs.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_full_file_system_stops_input_and_nothing_else() {
    let name = "full_disk::a_full_file_system_stops_input_and_nothing_else";
    Small::tmpfs(name, a_full_disk_stops_input_and_nothing_else);
}

#[test]
fn files_that_may_not_grow_stop_input_and_nothing_else() {
    a_full_disk_stops_input_and_nothing_else(&Small::Limit);
}

/// A start that is refused names the place, what is missing there and the next step.
fn says_that_it_is_full(home: &Home, output: &Output) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for said in ["there is no space to write", &home.path().display().to_string(), "`df ", "try again"] {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_start_on_a_full_disk_reports_it_and_recovers() {
    Small::tmpfs("full_disk::a_start_on_a_full_disk_reports_it_and_recovers", |small| {
        let home = small.home();
        small.fill();
        says_that_it_is_full(&home, &home.run(&["up", "--listen", "127.0.0.1:0"]));
        std::fs::remove_file(small.ballast().expect("a file takes the space")).expect("the ballast goes");
        let server = home.serve();
        assert_eq!(block_on(server.get("/ready")).0, 200);
    });
}

#[test]
fn a_start_without_file_growth_reports_it_and_recovers() {
    let home = Home::new();
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("trap '' XFSZ; ulimit -S -f 0; exec \"$0\" \"$@\"");
    limited.arg(env!("CARGO_BIN_EXE_dromia")).args(["up", "--listen", "127.0.0.1:0"]);
    limited.env("DROMIA_HOME", home.path()).env_remove("OPENAI_API_KEY");
    says_that_it_is_full(&home, &limited.output().expect("sh runs"));
    let server = home.serve();
    assert_eq!(block_on(server.get("/ready")).0, 200);
}

#[test]
fn the_small_file_system_of_these_tests_fills_up() {
    // Without this the tests above would prove nothing: what is written there must come to an end.
    Small::tmpfs("full_disk::the_small_file_system_of_these_tests_fills_up", |small| {
        let Small::Tmpfs(mount) = small else { panic!("it is no file system") };
        assert!(fills(mount.at.path()));
    });
    let dir = tempfile::tempdir().expect("a directory");
    let script = "trap '' XFSZ; ulimit -S -f 2048; head -c 99000000 /dev/zero > \"$0\"";
    let written = Command::new("sh").arg("-c").arg(script).arg(dir.path().join("file")).output();
    assert!(!written.expect("sh runs").status.success(), "the limit holds");
}

fn fills(dir: &Path) -> bool {
    let mut file = File::create(dir.join("ballast")).expect("is made");
    (0..99).any(|_| file.write_all(&vec![0; 1 << 20]).is_err())
}
