//! The server killed around an approval and around the end of a delay: whatever crashes, an approved call runs once or is said to
//! be unknown.
//!
//! `DROMIA_APPROVAL_KILLS` says how often the server is killed around an approval; a few times, if nobody says it.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::delayed::unhurried;
use super::{agent, asked, document, home, id, is, look, until};
use crate::home::{Home, block_on, count};

/// How often the server is killed, where nobody says it.
const KILLS: u32 = 4;

pub(super) fn kills() -> u32 {
    let asked = std::env::var("DROMIA_APPROVAL_KILLS").ok();
    asked.map_or(KILLS, |text| text.parse().expect("DROMIA_APPROVAL_KILLS is a number"))
}

/// Ends a process that may have ended.
pub(super) fn reap(mut child: Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Approves in the background, so that the server can be killed meanwhile.
fn approves(home: &Home, approval: &Value) -> Child {
    let mut command = home.command();
    command.args(["approval", "approve", id(approval)]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program runs")
}

/// How approved calls ended around which the server was killed.
#[derive(Default)]
struct Ends {
    once: u32,
    unknown: u32,
}

impl Ends {
    fn count(&mut self, kill: u32, ended: Result<bool, String>) {
        match ended {
            Ok(false) => self.once += 1,
            Ok(true) => self.unknown += 1,
            Err(problem) => panic!("kill {kill}: {problem}"),
        }
    }

    #[expect(clippy::print_stdout, reason = "`make approvals` says how the calls ended")]
    fn tell(&self, kind: &str) {
        let Self { once, unknown } = self;
        println!(
            "{} kills around a call {kind}: {once} executed exactly once, {unknown} reported unknown",
            once + unknown
        );
        assert_eq!(once + unknown, kills(), "each kill has its end");
    }
}

#[test]
fn approvals_during_a_kill_run_once_or_are_unknown() {
    let home = home("hold_ms: 60000");
    let mut server = home.serve();
    agent(&home, "clerk");
    let mut ends = Ends::default();
    for number in 0..kills() {
        let line = format!("line-{number}");
        let (_, approval) = asked(&home, &line);
        // From before the answer to behind the start, a little later each time.
        if number % 4 == 0 {
            server.kill();
            server = home.serve();
        }
        let approving = approves(&home, &approval);
        std::thread::sleep(Duration::from_millis(u64::from(number % 16) * 9));
        server.kill();
        reap(approving);
        server = home.serve();
        let known = until(&home, |found| found["id"] == approval["id"]);
        if known["state"] == "holding" {
            // The answer did not come through.
            document(&home, &["approval", "approve", id(&approval)]);
        }
        ends.count(number, look(&home, &server, &approval, &line));
    }
    ends.tell("held by its run");
    drop(server);
}

#[test]
fn late_approvals_during_a_kill_run_once_or_are_unknown() {
    let home = home("hold_ms: 100");
    let mut server = home.serve();
    agent(&home, "clerk");
    let mut ends = Ends::default();
    for number in 0..kills() {
        let line = format!("later-{number}");
        let (session, approval) = asked(&home, &line);
        until(&home, is(&approval, "waiting"));
        let approving = approves(&home, &approval);
        std::thread::sleep(Duration::from_millis(u64::from(number % 16) * 9));
        server.kill();
        reap(approving);
        server = home.serve();
        let known = until(&home, |found| found["id"] == approval["id"]);
        if known["state"] == "waiting" {
            document(&home, &["approval", "approve", id(&approval)]);
        }
        ends.count(number, look(&home, &server, &approval, &line));
        // The session that asked is told once, in a turn of its own.
        block_on(server.journal_until(&session, |entries| {
            entries.iter().any(|entry| entry["fields"]["after"] == 1) && count(entries, "run_completed") == 1
        }));
        let shown = document(&home, &["session", "show", &session]);
        assert_eq!(shown["session"]["last"], 2, "the task and the news, and nothing else: {shown}");
    }
    ends.tell("run by itself");
    drop(server);
}

#[test]
fn delayed_calls_during_a_kill_run_once_or_are_unknown() {
    let home = unhurried(400);
    let mut server = home.serve();
    agent(&home, "clerk");
    for number in 0..kills() {
        let line = format!("put-off-{number}");
        let (_, approval) = asked(&home, &line);
        // From while it cools to behind the start; the server that comes finds the time over.
        std::thread::sleep(Duration::from_millis(200 + u64::from(number % 16) * 40));
        server.kill();
        std::thread::sleep(Duration::from_millis(300));
        server = home.serve();
        assert_eq!(look(&home, &server, &approval, &line).map(drop), Ok(()), "kill {number}");
    }
    drop(server);
}
