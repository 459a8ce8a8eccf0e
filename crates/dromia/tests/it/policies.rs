//! Policies of the home through the real binary: one that would break never counts, everybody says which does, and a file that
//! forbids nothing is named.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::document;
use crate::home::{DEADLINE, Home, Server, block_on, stderr};

const HEAD: &str = "package dromia.policy\n\nimport rego.v1\n\n";
const GOOD: &str =
    "verdicts contains {\"verdict\": \"deny\", \"rule\": \"kept\"} if input.action.tool == \"file.delete\"\n";

fn write(home: &Home, name: &str, rules: &str) {
    let path = home.path().join("policies").join(name);
    fs::create_dir_all(path.parent().expect("it has one")).expect("is made");
    fs::write(path, format!("{HEAD}{rules}")).expect("is written");
}

/// What the server says of its policy, once it is as wanted.
fn until(home: &Home, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let policy = document(home, &["status"])["policy"].clone();
        if wanted(&policy) {
            return policy;
        }
        assert!(Instant::now() < end, "the policy does not come to it: {policy}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether an agent is answered.
fn is_answered(server: &Server) -> bool {
    let (status, answer) = block_on(server.event(&json!({"text": "hello", "wait": true})));
    (status, &answer["status"]) == (200, &json!("completed"))
}

fn page(home: &Home, line: &[&str]) -> String {
    String::from_utf8_lossy(&home.run(line).stdout).into_owned()
}

#[test]
fn a_policy_that_would_break_does_not_count_and_everybody_says_so() {
    let home = Home::new();
    write(&home, "own.rego", GOOD);
    let log = home.path().join("../log");
    let mut command = home.command();
    // What counted at the start is told to whoever reads more than warnings.
    command.env("DROMIA_LOG", "info").stderr(File::create(&log).expect("a log"));
    let server = home.serve_by(command);
    let before = until(&home, |policy| policy["digest"].is_string());
    assert_eq!(before["files"], json!(["policies/own.rego"]));
    let digest = before["digest"].as_str().expect("a digest");
    for (rules, said) in [
        (
            "verdicts contains {\"verdict\": \"deny\", \"rule\": \"r\"} if { input.version == 2; foo(1) }\n",
            "`foo`",
        ),
        ("verdicts contains {\"verdict\": \"refuse\", \"rule\": \"r\"} if input.version == 2\n", "refuse"),
        ("verdicts := 3\n", "`verdicts` is no set"),
        (
            "verdicts contains {\"verdict\": \"deny\", \"rule\": \"r\"} if to_number(input.action.model) == 1\n",
            "a request to a model",
        ),
    ] {
        write(&home, "own.rego", rules);
        let policy = until(&home, |policy| {
            policy["refused"]["problem"].as_str().is_some_and(|problem| problem.contains(said))
        });
        assert_eq!(policy["digest"], digest, "the last good one goes on to count: {rules}");
        let problem = policy["refused"]["problem"].as_str().expect("a problem");
        assert!(problem.starts_with("policies/own.rego:5:"), "{problem}");
        assert!(is_answered(&server), "{rules}");
        let tested = home.run(&["policy", "test"]);
        assert_eq!(tested.status.code(), Some(2), "{rules}");
        assert!(stderr(&tested).contains("policies/own.rego:5:"), "{}", stderr(&tested));
    }
    for line in [&["policy", "show"][..], &["status"], &["doctor", "--only", "policy"]] {
        let told = page(&home, line);
        assert!(
            told.contains("not count since") && told.contains("policies/own.rego:5:"),
            "{line:?}: {told}"
        );
    }
    write(&home, "own.rego", &GOOD.replace("kept", "kept-too"));
    let after = until(&home, |policy| policy["refused"].is_null() && policy["digest"] != digest);
    server.terminate();
    let log = fs::read_to_string(log).expect("a log");
    for part in
        [digest, after["digest"].as_str().expect("a digest"), "policies/own.rego:5:", "the last good one"]
    {
        assert!(log.contains(part), "{part}: {log}");
    }
    // No server starts with it.
    write(&home, "own.rego", "verdicts contains {\"verdict\": \"deny\", \"rule\": \"r\"} if foo(1)\n");
    let up = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(up.status.code(), Some(2), "{}", stderr(&up));
    assert!(stderr(&up).contains("policies/own.rego:5:"), "{}", stderr(&up));
}

#[test]
fn a_folder_that_is_lost_leaves_the_last_good_policy_and_no_server_starts_with_a_dead_link() {
    let home = Home::new();
    write(&home, "own.rego", GOOD);
    let (folder, aside) = (home.path().join("policies"), home.path().join("aside"));
    fs::rename(&folder, &aside).expect("is moved");
    std::os::unix::fs::symlink(&aside, &folder).expect("is linked");
    let server = home.serve();
    let before = until(&home, |policy| policy["files"] == json!(["policies/own.rego"]));
    let lost = home.path().join("lost");
    fs::rename(&aside, &lost).expect("is moved");
    let is_told = |policy: &Value, part: &str| {
        policy["refused"]["problem"].as_str().is_some_and(|problem| problem.contains(part))
    };
    let dead = until(&home, |policy| is_told(policy, "it is a link to what is not there"));
    fs::remove_file(&folder).expect("is removed");
    let gone = until(&home, |policy| is_told(policy, "it is gone"));
    let told = page(&home, &["doctor", "--only", "policy"]);
    assert!(told.contains("it is gone") && told.contains("not count since"), "{told}");
    for policy in [dead, gone] {
        let counts = (&policy["digest"], &policy["files"]);
        assert_eq!(counts, (&before["digest"], &before["files"]), "the last good one goes on to count");
    }
    std::os::unix::fs::symlink(&lost, &folder).expect("is linked");
    until(&home, |policy| policy["refused"].is_null() && policy["digest"] == before["digest"]);
    server.terminate();
    fs::rename(&lost, &aside).expect("is moved");
    let up = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(up.status.code(), Some(2), "{}", stderr(&up));
    assert!(stderr(&up).contains("policies: it cannot be read: it is a link"), "{}", stderr(&up));
    let doctor = home.run(&["doctor", "--only", "policy"]);
    assert_eq!(doctor.status.code(), Some(1), "{}", stderr(&doctor));
}

#[test]
fn the_files_of_a_home_are_counted_and_one_that_forbids_nothing_is_named() {
    let home = Home::new();
    write(&home, "own.rego", GOOD);
    write(&home, "own_test.rego", "test_is_silent if count(verdicts) == 0 with input as {\"version\": 1}\n");
    write(&home, "typo.rego", &GOOD.replace("verdicts contains", "verdict contains"));
    write(&home, "sub/deep.rego", GOOD);
    let tested = document(&home, &["policy", "test"]);
    let items = tested["items"].as_array().expect("tests");
    let own = items.iter().find(|row| row["layer"] == "policies").expect("the home's own test is listed");
    assert_eq!((&own["test"], &own["holds"]), (&json!("test_is_silent"), &json!(true)));
    let files = tested["files"].as_array().expect("files");
    let counted: Vec<_> =
        files.iter().map(|row| (&row["file"], &row["rules"], &row["verdicts"], &row["tests"])).collect();
    let row = |file: &str, counts: [u64; 3]| (json!(file), counts.map(|count| json!(count)));
    let wanted = [
        row("policies/own.rego", [1, 1, 0]),
        row("policies/own_test.rego", [0, 0, 1]),
        row("policies/typo.rego", [1, 0, 0]),
        row("policies/sub/deep.rego", [0, 0, 0]),
    ];
    let wanted: Vec<_> = wanted.iter().map(|(file, [one, two, three])| (file, one, two, three)).collect();
    assert_eq!(counted, wanted);
    let warned: Vec<_> =
        files.iter().filter(|row| !row["warning"].is_null()).map(|row| &row["file"]).collect();
    assert_eq!(warned, [&json!("policies/typo.rego"), &json!("policies/sub/deep.rego")]);
    let told = page(&home, &["policy", "test"]);
    assert!(told.contains("policies/typo.rego") && told.contains("nobody reads it"), "{told}");
}

#[test]
fn a_rule_that_people_are_shown_is_explained() {
    let home = Home::new();
    for rule in ["policy-broken", "unplanned", "approval-mismatch", "plan-frozen", "approvals-full"] {
        let told = page(&home, &["explain", rule]);
        assert!(told.starts_with("rule") && told.contains(rule), "{rule}: {told}");
    }
    assert_eq!(home.run(&["explain", "moon"]).status.code(), Some(2));
}
