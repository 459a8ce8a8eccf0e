//! Programs that a model should not have started, through the whole binary: each ends as one result that says why, of a
//! bounded length, in the journal; nothing of it is left, and the server goes on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, append, block_on, count};
use crate::tasks::gone;

/// What every program of this home may use.
const TERMS: &str =
    "tools: { exec: { time_limit: 20s, cpu_limit: 3s, mem_limit: 64MiB, disk_quota: 8MiB } }\n";

/// The longest result that is told.
const TOLD_BYTES_MAX: usize = 40 << 10;

/// As long as a busy machine may need to end what reached its limit.
const PATIENCE: Duration = Duration::from_secs(50);

/// A program, the status of its result, and what its result says; one of the texts is enough.
struct Case {
    name: &'static str,
    script: String,
    timeout_s: u32,
    status: &'static str,
    says: &'static [&'static str],
}

/// The programs. The word is in the command line of whatever sleeps.
fn cases(word: &str) -> Vec<Case> {
    let case = |name, script: &str, timeout_s, status, says| Case {
        name,
        script: script.replace("WORD", word),
        timeout_s,
        status,
        says,
    };
    vec![
        case("floods", "yes flood", 45, "error", &["its limit of output, 1048576 bytes"]),
        case("floods both", "yes out & yes err >&2", 45, "error", &["its limit of output"]),
        case(
            "forks without end",
            "while :; do sleep WORD & done",
            45,
            "error",
            // Which bound is met first is the machine's matter; the shell says by 2 that it cannot fork.
            &["its limit of number of processes, 128", "its limit of memory", "[exit code 2;"],
        ),
        case(
            "ignores signals",
            "trap '' TERM INT HUP QUIT; sleep WORD & wait; sleep WORD",
            1,
            "error",
            &["its limit of time, 1 s"],
        ),
        case("spins", "while :; do :; done", 45, "error", &["its limit of processor time, 3 s"]),
        case(
            "fills the disk",
            "i=0; while [ $i -lt 30 ]; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); sleep 0.05; done; sleep WORD",
            45,
            "error",
            &["its limit of disk, 8388608 bytes"],
        ),
        case(
            "fills one file",
            "rm -f f*; head -c 30000000 /dev/zero > one && echo fits; exit 9",
            45,
            "error",
            &["exit code 9", "its limit of disk"],
        ),
        case(
            "fills the memory",
            "rm -f f* one; head -c 300000000 /dev/zero | tail > /dev/null && exit 0; exit 9",
            45,
            "error",
            &["exit code 9", "its limit of memory"],
        ),
        case(
            "closes its outputs",
            "exec >&- 2>&-; sleep 0.3; touch late; exit 3",
            45,
            "error",
            &["[exit code 3;"],
        ),
        case("is no text", "head -c 5000 /dev/urandom", 45, "ok", &["[exit code 0;"]),
        case("leaves a child", "setsid sleep WORD > /dev/null 2>&1 & exit 0", 45, "ok", &["[exit code 0;"]),
        case("ends itself", "kill -KILL $$", 45, "error", &["ended by signal 9"]),
        case("is not there", "exec /no/such/program", 45, "error", &["[exit code 127;", "[exit code 126;"]),
    ]
}

/// Says what is wrong with how a program ended.
fn judged(case: &Case, entries: &[Value], took: Duration) -> Result<(), String> {
    let kinds =
        (count(entries, "tool_started"), count(entries, "tool_finished"), count(entries, "run_completed"));
    if kinds != (1, 1, 1) {
        return Err(format!("the journal has {kinds:?} starts, results and ends"));
    }
    let Some(finished) = entries.iter().find(|entry| entry["kind"] == "tool_finished") else {
        return Err("it has no result".to_owned());
    };
    let parts = finished["body"]["parts"].as_array().cloned().unwrap_or_default();
    let texts: Vec<_> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    let text = texts.join("\n");
    let begin: String = text.chars().take(300).collect();
    if finished["fields"]["status"] != case.status {
        return Err(format!("its status is {}: {begin}", finished["fields"]["status"]));
    }
    if !case.says.iter().any(|says| text.contains(says)) {
        return Err(format!("it does not say {:?}: {begin}", case.says));
    }
    if text.len() > TOLD_BYTES_MAX {
        return Err(format!("{} bytes are told", text.len()));
    }
    if took > PATIENCE { Err(format!("it took {took:?}")) } else { Ok(()) }
}

/// Lets the agent run a program, and returns the journal and how long it took.
async fn ran(server: &Server, case: &Case) -> (Vec<Value>, Duration) {
    let arguments = json!({"command": case.script, "timeout_s": case.timeout_s});
    let event = json!({"text": format!("@tool shell.execute {arguments}"), "agent": "dev", "wait": true});
    let began = Instant::now();
    let (status, answer) = server.event(&event).await;
    let took = began.elapsed();
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{}: {answer}", case.name);
    let session = answer["session"].as_str().expect("a session");
    let is_over = |entries: &[Value]| count(entries, "run_completed") == 1;
    (server.journal_until(session, is_over).await, took)
}

#[test]
fn a_bad_program_ends_typed_bounded_and_journaled() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), TERMS);
    let server = home.serve();
    create(&home, "dev", &["shell.execute".to_owned()]);
    let word = format!("10{:07}", std::process::id());
    for case in cases(&word) {
        // All in one workspace: a program that clears what the one before it left is not ended while it does so.
        let (entries, took) = block_on(ran(&server, &case));
        assert_eq!(judged(&case, &entries, took), Ok(()), "{}", case.name);
        gone(&word);
        let (status, _) = block_on(server.get("/health"));
        assert_eq!(status, 200, "after a program that {}", case.name);
    }
    let said = home.run(&["ask", "@say still here"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "still here\n");
}

/// The planted faults: results as they would be if nobody bounded, typed or journaled them.
#[test]
fn an_untyped_unbounded_or_unjournaled_end_is_caught() {
    let all = cases("1");
    let case = &all[0];
    let entries = |status: &str, text: &str| {
        let finished = json!({"kind": "tool_finished", "fields": {"status": status}, "body": {"parts": [{"text": text}]}});
        vec![json!({"kind": "tool_started"}), finished, json!({"kind": "run_completed"})]
    };
    let says = case.says[0];
    let quick = Duration::from_secs(1);
    assert_eq!(judged(case, &entries("error", says), quick), Ok(()));
    let endless = format!("{says}{}", "flood".repeat(10_000));
    for (entries, took, problem) in [
        (entries("ok", says), quick, "its status is"),
        (entries("error", "killed"), quick, "it does not say"),
        (entries("error", &endless), quick, "bytes are told"),
        (entries("error", says), PATIENCE * 2, "it took"),
        (entries("error", says)[1..].to_vec(), quick, "the journal has"),
    ] {
        let found = judged(case, &entries, took).expect_err(problem);
        assert!(found.contains(problem), "{found}");
    }
}
