//! Rules that answer in a person's place, through the real binary: which of them answers, which are refused, and that a command
//! that says less than before widens none.

use serde_json::{Value, json};

use super::{agent, document, home, id, is, lines, task, until};
use crate::home::{Home, append, stderr};

#[test]
fn rules_answer_calls_and_unattended_sessions_are_not_asked() {
    let home = home(
        "hold_ms: 60000, unattended: [task], allow: ['file.append path=log content=\"ruled\\n\"'], deny: ['file.append path=secret']",
    );
    let refused = home.run(&["config", "explain", "approvals.allow"]);
    assert!(refused.status.success(), "{}", stderr(&refused));
    let server = home.serve();
    agent(&home, "clerk");
    let spawn = |line: &str| {
        let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &task(line), "--wait"]);
        assert_eq!(spawned["status"].as_str(), Some("completed"), "{spawned}");
    };
    spawn("ruled");
    assert_eq!(lines(&home, "ruled"), 1, "a rule of the file answers, attended or not");
    spawn("nobody there");
    assert_eq!(lines(&home, "nobody there"), 0);
    let denied = until(&home, |approval| approval["state"] == "denied");
    assert!(denied["answered_by"].is_null(), "the server refused it: {denied}");
    assert_eq!(denied["unattended"], true, "it says why: {denied}");
    let card = home.run(&["approval", "show", id(&denied)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(
        card.contains("at once, because no person attends") && card.contains("approvals.unattended"),
        "{card}"
    );
    assert!(!card.contains("run waits") && !card.contains("until 20"), "it waits for nobody: {card}");
    let exact = r#"file.append path=log content="nobody there\n""#;
    let wide = home.run(&["approval", "rule", "add", "all", "file.append"]);
    assert!(stderr(&wide).contains("needs a pattern for path"), "{}", stderr(&wide));
    document(&home, &["approval", "rule", "add", "mine", exact, "--agent", "clerk"]);
    spawn("nobody there");
    assert_eq!(lines(&home, "nobody there"), 1);
    drop(server);
}

#[test]
fn declared_rules_are_listed_unremovable_and_used_in_checks() {
    let home = home("allow: ['file.append path=log'], deny: ['file.append path=log content=**no**']");
    let _server = home.serve();
    agent(&home, "clerk");
    document(&home, &["approval", "rule", "add", "mine", "file.append path=own", "--agent", "clerk"]);
    let listed = document(&home, &["approval", "rule", "list"]);
    let rules = listed["items"].as_array().expect("rules");
    let told: Vec<_> =
        rules.iter().map(|rule| (rule["name"].as_str().unwrap_or_default(), &rule["declared"])).collect();
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(told, [("approvals.allow.0", &yes), ("approvals.deny.0", &yes), ("mine", &no)], "{listed}");
    let table = home.run(&["approval", "rule", "list"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("SET IN") && table.matches("dromia.yaml").count() == 2, "{table}");
    let kept = home.run(&["approval", "rule", "remove", "approvals.deny.0"]);
    assert_eq!(kept.status.code(), Some(2), "{}", stderr(&kept));
    assert!(stderr(&kept).contains("dromia.yaml sets the rule approvals.deny.0"), "{}", stderr(&kept));
    let after = document(&home, &["approval", "rule", "list"]);
    assert_eq!(after["items"].as_array().map(Vec::len), Some(3), "{after}");
    let check = |path: &str, content: &str| {
        let arguments = json!({"path": path, "content": content}).to_string();
        let told = home.run(&["capability", "check", "clerk", "file.append", &arguments, "--json"]);
        let checked: Value = serde_json::from_slice(&told.stdout).expect("a document");
        (told.status.code(), checked["rule"].as_str().unwrap_or_default().to_owned())
    };
    let says = |code, rule: &str| (Some(code), rule.to_owned());
    let by = "approval rule dromia.yaml: file.append path=log";
    assert_eq!(check("log", "yes"), says(0, &format!("{by} for ask permission")));
    assert_eq!(check("log", "no"), says(4, &format!("{by} content=**no**")));
    assert_eq!(check("own", "yes"), says(0, "approval rule mine for ask permission"));
    assert_eq!(check("else", "yes"), says(4, "ask permission"));
}

#[test]
fn a_rule_that_no_call_can_fit_is_caught() {
    let home = Home::new();
    let _server = home.serve();
    for (rule, says) in [
        ("exec argv=ls", "argv=[\"git\",\"push\"]"),
        ("exec argv=git*", "argv of exec is a list"),
        ("exec timeout_s=*", "write a number after :="),
        ("nope x=y", "there is no tool \"nope\""),
        ("file.append pth=log", "has no argument pth"),
    ] {
        for line in [
            &["approval", "rule", "add", "n4", rule, "--answer", "deny"][..],
            &["approval", "rule", "test", rule],
        ] {
            let refused = home.run(line);
            assert_eq!(refused.status.code(), Some(2), "{line:?}: {}", stderr(&refused));
            assert!(stderr(&refused).contains(says), "{line:?}: {}", stderr(&refused));
        }
    }
    assert_eq!(document(&home, &["approval", "rule", "list"])["items"], json!([]));
    let good = r#"exec argv=["git","push"]"#;
    document(&home, &["approval", "rule", "add", "n4", good, "--answer", "deny"]);
    assert_eq!(document(&home, &["approval", "rule", "test", good])["items"], json!([]));
}

#[test]
fn a_rule_widened_by_an_omitted_option_is_caught() {
    let home = Home::new();
    let _server = home.serve();
    agent(&home, "clerk");
    let rule = "file.append path=log";
    let add = |more: &[&str]| home.run(&[&["approval", "rule", "add"][..], more].concat());
    assert!(add(&["mine", rule, "--agent", "clerk"]).status.success());
    assert!(add(&["keep", rule, "--answer", "deny"]).status.success());
    for (line, says) in [
        (
            &["mine", rule][..],
            "it answers for clerk only, and the new one would answer for every agent; it is unchanged",
        ),
        (&["keep", rule, "--agent", "clerk"][..], "it denies, and the new one would allow; it is unchanged"),
        (&["none", "file.append only"][..], "so the rule would match no call"),
    ] {
        let refused = add(line);
        assert_eq!(refused.status.code(), Some(2), "{line:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(says), "{line:?}: {}", stderr(&refused));
    }
    let listed = document(&home, &["approval", "rule", "list"]);
    let mut rules = listed["items"].as_array().expect("rules").iter();
    let mine = rules.find(|rule| rule["name"] == "mine").expect("it stands");
    assert!(mine["agent"].is_string(), "{mine}");
    // What is said again as it was, or for fewer calls, takes its place.
    assert!(add(&["mine", rule, "--agent", "clerk", "--expires", "1d"]).status.success());
    assert!(add(&["mine", rule, "--agent", "clerk", "--answer", "deny"]).status.success());
}

#[test]
fn a_rule_of_a_session_for_a_shell_is_caught() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "permissions: { ask: [exec] }\napprovals: { hold_ms: 60000 }\n");
    let server = home.serve();
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "exec"];
    document(&home, &[&["agent", "create", "clerk"][..], &grants].concat());
    let ask = |argv: Value| {
        let task = format!("@tool exec {}", json!({ "argv": argv }));
        let session = document(&home, &["agent", "spawn", "clerk", "--task", &task])["session"].clone();
        until(&home, |approval| approval["session"] == session)
    };
    for argv in [json!(["sh", "-c", "true"]), json!(["/usr/bin/python3", "x.py"])] {
        let approval = ask(argv);
        let refused = home.run(&["approval", "approve", id(&approval), "--session"]);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("no rule may allow a shell") && said.contains("--once"), "{said}");
        let rules = document(&home, &["approval", "rule", "list"]);
        assert_eq!(rules["items"], json!([]), "it is refused, and its rule stands");
        until(&home, is(&approval, "holding"));
        document(&home, &["approval", "deny", id(&approval)]);
    }
    // What any rule may allow, a rule of a session may.
    let approval = ask(json!(["true"]));
    document(&home, &["approval", "approve", id(&approval), "--session"]);
    let rules = document(&home, &["approval", "rule", "list"]);
    assert_eq!(rules["items"].as_array().map(Vec::len), Some(1), "{rules}");
    drop(server);
}
