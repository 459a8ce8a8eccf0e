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
        let policy = document(home, &["status", "--node"])["policy"].clone();
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
fn a_broken_policy_is_not_used_and_is_reported_everywhere() {
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
        ("verdicts := 3\n", "`verdicts` is not a set"),
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
    for line in [&["policy", "show"][..], &["status", "--node"], &["doctor", "--only", "policy"]] {
        let told = page(&home, line);
        assert!(
            told.to_lowercase().contains("the server has ignored") && told.contains("policies/own.rego:5:"),
            "{line:?}: {told}"
        );
    }
    write(&home, "own.rego", &GOOD.replace("kept", "kept-too"));
    let after = until(&home, |policy| policy["refused"].is_null() && policy["digest"] != digest);
    server.terminate();
    let log = fs::read_to_string(log).expect("a log");
    for part in
        [digest, after["digest"].as_str().expect("a digest"), "policies/own.rego:5:", "the last valid one"]
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
fn a_lost_policy_folder_keeps_the_last_good_policy() {
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
    let dead = until(&home, |policy| is_told(policy, "it is a link to a missing file"));
    fs::remove_file(&folder).expect("is removed");
    let gone = until(&home, |policy| is_told(policy, "the folder is missing"));
    let told = page(&home, &["doctor", "--only", "policy"]);
    assert!(told.contains("the folder is missing") && told.contains("the server has ignored"), "{told}");
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
fn policy_files_are_listed_and_those_without_verdicts_named() {
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
    assert!(told.contains("policies/typo.rego") && told.contains("the server does not read it"), "{told}");
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

/// Makes an agent that may read files, by a line that begins like this.
fn clerk(home: &Home, line: &[&str]) {
    let grants = ["agent", "create", "clerk", "--grant", "model", "--grant", "reply", "--grant", "file.read"];
    let made = home.run(&[line, &grants].concat());
    assert!(made.status.success(), "{}", stderr(&made));
}

/// What came of a call that an agent was told to make: the run's state, and the rule and the reason of its refusal.
async fn refused(server: &Server, token: &str, call: &str) -> (Value, Value) {
    let request = reqwest::Client::new().post(format!("{}/v1/events", server.url)).bearer_auth(token);
    let (status, answer) =
        server.send(request.json(&json!({"text": call, "agent": "clerk", "wait": true}))).await;
    assert_eq!(status, 200, "{answer}");
    let run = answer["run"].as_str().expect("a run");
    let path = format!("{}/v1/runs/{run}/decisions", server.url);
    let (_, page) = server.send(reqwest::Client::new().get(path).bearer_auth(token)).await;
    let decision = page["items"][0].clone();
    (answer["status"].clone(), decision)
}

#[test]
fn a_policy_that_breaks_its_worker_denies_the_call() {
    let home = Home::new();
    let server = home.serve();
    let created: Value = document(&home, &["tenant", "create", "acme"]);
    let token = created["token"].as_str().expect("a token");
    clerk(&home, &[]);
    clerk(&home, &["-T", "acme"]);
    server.terminate();
    let doubled: String = (1..48)
        .map(|n| format!("\tx{n} := concat(\"\", [x{0}, x{0}])\n", n - 1))
        .collect::<Vec<_>>()
        .concat();
    let rule = |argument: &str, condition: &str| {
        format!(
            "verdicts contains {{\"verdict\": \"deny\", \"rule\": \"own\"}} if {{\n\tinput.action.arguments.path == \
             \"{argument}\"\n{condition}}}\n"
        )
    };
    let rules = [
        rule("range", "\tcount(numbers.range(1, 100000000)) == 1\n"),
        rule("print", "\tcount(sprintf(\"%1000000000d\", [1])) == 1\n"),
        rule("memory", &format!("\tx0 := \"aaaaaaaaaaaaaaaa\"\n{doubled}\tcount(x47) == 1\n")),
    ];
    write(&home, "own.rego", &rules.concat());
    // Twice: what ended a worker keeps no server from starting again.
    for life in 0..2 {
        let server = home.serve();
        block_on(async {
            for path in ["range", "print", "memory"] {
                let attack = format!("@tool file.read {}", json!({"path": path, "limit": 100 + life}));
                let attacked = refused(&server, &server.token, &attack);
                // Another tenant asks the same policy meanwhile, and is answered.
                let usual = refused(&server, token, "@tool file.read {\"path\": \"usual\"}");
                let ((ended, decision), (status, _)) = tokio::join!(attacked, usual);
                assert_eq!((&ended, &status), (&json!("completed"), &json!("completed")), "{path}");
                assert_eq!(
                    (&decision["rule"], &decision["allowed"]),
                    (&json!("policy policy-broken"), &json!(false))
                );
                let why = decision["why"].as_str().expect("a reason");
                let ended = ["it did not end within", "its worker ended (signal"];
                let is_named = ended.iter().any(|how| why.contains(&format!("policies/own.rego: {how}")));
                assert!(is_named, "{why}");
            }
            assert!(server.get("/health").await.0 == 200);
        });
        if life == 0 {
            server.kill();
        } else {
            server.terminate();
        }
    }
}

#[test]
fn a_recursive_policy_is_refused_by_every_command() {
    let home = Home::new();
    let recursion = "deep(parts) := 0 if count(parts) == 0\n\
                     deep(parts) := 1 + deep(array.slice(parts, 1, count(parts))) if count(parts) > 0\n\
                     verdicts contains {\"verdict\": \"deny\", \"rule\": \"deep\"} if deep(split(input.action.arguments.path, \"/\")) > 2000\n";
    write(&home, "own.rego", recursion);
    for line in [&["policy", "test"][..], &["config", "validate"], &["up", "--listen", "127.0.0.1:0"]] {
        let ended = home.run(line);
        assert_eq!(ended.status.code(), Some(2), "{line:?}: {}", stderr(&ended));
        assert!(
            stderr(&ended).contains("policies/own.rego:5:1: `deep` needs itself"),
            "{line:?}: {}",
            stderr(&ended)
        );
    }
    let doctor = page(&home, &["doctor", "--only", "policy"]);
    assert!(doctor.contains("`deep` needs itself"), "{doctor}");
    write(&home, "own.rego", GOOD);
    let server = home.serve();
    clerk(&home, &[]);
    let digest = until(&home, |policy| policy["digest"].is_string())["digest"].clone();
    write(&home, "own.rego", recursion);
    let standing = until(&home, |policy| {
        policy["refused"]["problem"].as_str().is_some_and(|problem| problem.contains("`deep` needs itself"))
    });
    assert_eq!(standing["digest"], digest, "the last good one goes on to count");
    let path = vec!["a"; 1000].join("/");
    block_on(async {
        let call = format!("@tool file.read {}", json!({ "path": path }));
        let (ended, decision) = refused(&server, &server.token, &call).await;
        assert_eq!(
            (&ended, &decision["rule"]),
            (&json!("completed"), &json!("policy policy-bound")),
            "{decision}"
        );
    });
    assert!(is_answered(&server));
}
