//! The wall clock of the whole binary is set while it runs, and nothing else of the machine: a few lines of C that are loaded
//! before the C library shift what one process reads.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::home::{Home, block_on, count, stderr};
use crate::model::{Model, Say};

/// How far the clock is set back. No test waits so long.
const HOUR: i64 = 3_600;

/// What shifts the clock of a process.
pub(crate) struct ShiftedClock {
    pub(crate) library: PathBuf,
    pub(crate) shift: PathBuf,
}

impl ShiftedClock {
    pub(crate) fn build(directory: &Path) -> Self {
        let (library, shift) = (directory.join("shifted.so"), directory.join("shift"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clocks/shifted.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output();
        let built = built.expect("a C compiler is there: apt-get install gcc");
        assert!(built.status.success(), "{}", stderr(&built));
        let clock = Self { library, shift };
        std::fs::write(&clock.shift, 0_i64.to_ne_bytes()).expect("written");
        clock
    }

    pub(crate) fn set_by(&self, seconds: i64) {
        // In its place: the process has the file mapped.
        let file = std::fs::File::options().write(true).open(&self.shift).expect("it is there");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }
}

/// When the entry of a kind was made, as it says itself.
fn made_at(entries: &[Value], kind: &str) -> String {
    let entry = entries.iter().rfind(|entry| entry["kind"] == kind);
    entry.and_then(|entry| entry["at"].as_str()).expect("it is there").to_owned()
}

/// Sets the clock of a server back by an hour while a run waits some seconds for its model; says what of it was not so.
/// `is_loaded` says whether what shifts the clock is there at all.
fn play(is_loaded: bool) -> Result<(), String> {
    let is_ready = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&is_ready);
    let model = Model::start(move |_, _| {
        if ready.load(Ordering::SeqCst) { Say::Text("done".to_owned()) } else { Say::Busy { seconds: 4 } }
    });
    let home = Home::new();
    let clock = ShiftedClock::build(&home.path());
    let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{}", model.alias("busy"));
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let mut command = home.command();
    if is_loaded {
        command.env("LD_PRELOAD", &clock.library).env("DROMIA_TEST_CLOCK", &clock.shift);
    }
    let server = home.serve_by(command);
    let made = ["agent", "create", "clerk", "--model", "busy", "--grant", "model", "--grant", "reply"];
    let made = home.run(&made);
    assert!(made.status.success(), "{}", stderr(&made));
    block_on(async {
        let (_, accepted) = server.event(&json!({"text": "hello", "agent": "clerk"})).await;
        let session = accepted["session"].as_str().expect("a session");
        server.journal_until(session, |entries| count(entries, "run_parked") > 0).await;
        clock.set_by(-HOUR);
        is_ready.store(true, Ordering::SeqCst);
        // The attempt comes in its time, and not an hour later.
        let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!(server.get("/health").await.0, 200);
        let (parked, completed) = (made_at(&entries, "run_parked"), made_at(&entries, "run_completed"));
        if completed < parked { Ok(()) } else { Err(format!("parked at {parked}, completed at {completed}")) }
    })
}

#[test]
fn a_waiting_run_continues_after_the_clock_is_set_back() {
    assert_eq!(play(true), Ok(()));
}

/// Planted fault: nothing sets the clock, so the play would show nothing.
#[test]
fn a_clock_that_was_never_set_is_caught() {
    play(false).expect_err("nothing notices it");
}
