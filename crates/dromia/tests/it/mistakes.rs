//! Mistakes of whoever types: each is told where it is made, as a document where a program reads stdout, and with the next
//! step.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::egress::create;
use crate::home::{Home, stderr};
use crate::schema::mismatch;
use crate::tree::published;

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

#[test]
fn an_invalid_command_line_is_reported_as_a_document() {
    let home = Home::new();
    for (line, says) in [
        (
            &["ask", "--json"][..],
            "there is no question: write it behind the command, as in `dromia ask what is due today`, or pipe it in, \
             as in `git diff | dromia ask review this`",
        ),
        (&["run", "cancel", "--json"][..], "the following required arguments were not provided: <ID>"),
        (&["nosuch", "--json=id"][..], "unrecognized subcommand 'nosuch'"),
        (&["run", "list", "-o", "jsonl", "--nosuch"][..], "unexpected argument '--nosuch' found"),
        (&["run", "--json"][..], "a command is missing; --help lists the commands"),
        (
            &["run", "list", "--limit", "-1", "--json"][..],
            "--limit -1: an option takes no number or time below zero",
        ),
        (
            &["cost", "summary", "--json", "--since", "-5h"][..],
            "--since -5h: an option takes no number or time below zero",
        ),
    ] {
        let output = home.run(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {}", stderr(&output));
        let found = document(&output);
        assert_eq!(mismatch(&published("error"), &found), None, "{line:?}: {found}");
        assert_eq!(
            (found["error"]["message"].as_str(), &found["error"]["exit"]),
            (Some(says), &Value::from(2)),
            "{line:?}"
        );
        assert!(
            !stderr(&output).is_empty() && !stderr(&output).contains("-- -1"),
            "{line:?}: {}",
            stderr(&output)
        );
    }
    // Without it stdout stays empty, and help that was asked for is no failure.
    let plain = home.run(&["ask"]);
    assert_eq!((plain.status.code(), plain.stdout.len()), (Some(2), 0));
    let help = home.run(&["run", "--help", "--json"]);
    assert_eq!((help.status.code(), stderr(&help).as_str()), (Some(0), ""));
}

#[test]
fn init_with_json_prints_the_home_as_a_document() {
    let home = Home::new();
    let fresh = home.path().with_file_name("fresh");
    let line = ["init", "--defaults", "--model-source", "scripted", "--json", "--home"];
    let output = home.run(&[&line[..], &[fresh.to_str().expect("a path")]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let made = document(&output);
    assert_eq!(made["home"].as_str(), fresh.to_str());
    assert!(fresh.join("dromia.yaml").is_file() && made["found"] == Value::Array(Vec::new()), "{made}");
}

#[test]
fn an_unknown_name_is_reported_with_the_existing_ones() {
    let home = Home::new();
    let check = home.run(&["doctor", "--only", "nonsense-of-mine"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(stderr(&check).contains("; there are home.exists, "), "{}", stderr(&check));
    let _server = home.serve();
    let after = home.run(&["run", "list", "--after", "foo"]);
    assert_eq!(after.status.code(), Some(2));
    assert!(stderr(&after).contains("expected run_ followed by 32 hex digits"), "{}", stderr(&after));
    assert!(!stderr(&after).contains("deserialize"), "{}", stderr(&after));
    let run = format!("run_{}", "0".repeat(32));
    let call = home.run(&["policy", "explain", &run, "nosuch"]);
    assert!(stderr(&call).contains("expected a call, such as call_1_0"), "{}", stderr(&call));
    // Who has no agent at all is told how one is made; who has others, that they are listed.
    assert!(home.run(&["tenant", "create", "acme"]).status.success());
    let empty = home.run(&["-T", "acme", "ask", "hi"]);
    assert!(stderr(&empty).contains("the tenant has no agent"), "{}", stderr(&empty));
    assert!(
        stderr(&empty).contains("`dromia -T acme agent create assistant --grant model --grant reply`"),
        "{}",
        stderr(&empty)
    );
    assert!(home.run(&["-T", "acme", "agent", "create", "ops"]).status.success());
    let others = home.run(&["-T", "acme", "ask", "hi"]);
    assert!(stderr(&others).contains("the default agent assistant does not exist"), "{}", stderr(&others));
}

#[test]
fn a_chat_needs_an_existing_agent_and_handles_help_locally() {
    let home = Home::new();
    let _server = home.serve();
    let gone = format!("ses_{}", "0".repeat(32));
    for line in [&["chat", "--agent", "nosuch"][..], &["chat", "--session", &gone][..]] {
        // Nothing is typed, so only a look before it can find out.
        let output = home.run(line);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("error: "), "{line:?}: {}", stderr(&output));
    }
    let mut command = home.command();
    command.arg("chat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"/help\n").expect("is typed");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{}", stderr(&output));
    assert!(stderr(&output).contains("/quit"), "{}", stderr(&output));
    assert_eq!(document(&home.run(&["run", "list", "--json"]))["items"], Value::Array(Vec::new()));
}

#[test]
fn a_paused_agents_input_is_counted_with_its_reason() {
    let home = Home::new();
    let _server = home.serve();
    create(&home, "ops", &[]);
    assert!(home.run(&["agent", "pause", "ops"]).status.success());
    let sent = document(&home.run(&["event", "send", "hi", "--agent", "ops", "--json"]));
    let session = sent["session"].as_str().expect("a session");
    let status = home.run(&["agent", "status", "ops"]);
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(
        told.trim(),
        "ops is paused; no open runs; 1 input waits until you run `dromia agent resume ops`"
    );
    assert_eq!(document(&home.run(&["agent", "status", "ops", "--json"]))["waiting"], 1);
    let shown = home.run(&["session", "show", session]);
    let told = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(told.contains("its agent ops, which is paused; run `dromia agent resume ops`"), "{told}");
    let calm = home.run(&["agent", "status", "assistant"]);
    assert_eq!(String::from_utf8_lossy(&calm.stdout).trim(), "assistant is running; no open runs");
}

#[test]
fn budgets_name_agents_by_their_handles() {
    let home = Home::new();
    let _server = home.serve();
    create(&home, "ops", &[]);
    let line = [
        "budget",
        "set",
        "few",
        "--per",
        "agent",
        "--of",
        "ops",
        "--measure",
        "calls",
        "--period",
        "hour",
        "--limit",
        "9",
    ];
    let set = home.run(&line);
    assert!(set.status.success(), "{}", stderr(&set));
    let told = String::from_utf8_lossy(&set.stdout).into_owned();
    assert!(told.contains("per agent ops an hour"), "{told}");
    let listed = home.run(&["budget", "list"]);
    let told = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(told.contains(" ops ") && !told.contains("agt_"), "{told}");
    // A program gets what never changes.
    let of = document(&home.run(&["budget", "list", "--json"]))["items"][0]["of"].clone();
    assert!(of.as_str().is_some_and(|of| of.starts_with("agt_")), "{of}");
}

#[test]
fn proposed_commands_name_the_given_home() {
    let home = Home::new();
    let fresh = home.path().with_file_name("fresh");
    let path = fresh.to_str().expect("a path");
    let at = |line: &[&str]| home.run(&[&["--home", path][..], line].concat());
    // Where there is no home yet, no server can be started.
    let early = at(&["ask", "hi"]);
    assert_eq!(early.status.code(), Some(5), "{}", stderr(&early));
    assert!(stderr(&early).contains(&format!("`dromia --home {path} init`")), "{}", stderr(&early));
    let made = at(&["init", "--model-source", "scripted"]);
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(told.contains(&format!("Next: `dromia --home {path} up`")), "{told}{}", stderr(&made));
    assert!(told.contains(&format!("`dromia --home {path} ask \"hello\"`")), "{told}");
    for line in [&["init", "--defaults"][..], &["ask", "hi"], &["doctor", "--only", "server.answers"]] {
        let output = at(line);
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(told.contains(&format!("`dromia --home {path} up`")), "{line:?}: {told}");
    }
    // Who named none is told the command as it is.
    let plain = home.run(&["ask", "hi"]);
    assert!(stderr(&plain).contains("`dromia up`"), "{}", stderr(&plain));
}

#[test]
fn a_chats_continue_command_names_the_given_tenant() {
    let home = Home::new();
    let _server = home.serve();
    assert!(home.run(&["tenant", "create", "beta"]).status.success());
    assert!(home.run(&["-T", "beta", "agent", "create", "ops", "--grant", "model"]).status.success());
    let mut command = home.command();
    command.args(["-T", "beta", "--agent", "ops", "chat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"hello\n").expect("is typed");
    let output = child.wait_with_output().expect("it ends");
    assert!(stderr(&output).contains("`dromia -T beta chat --session ses_"), "{}", stderr(&output));
}

#[test]
fn an_unknown_page_is_answered_with_the_nearest() {
    let home = Home::new();
    let wrong = home.run(&["docs", "polcy"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("did you mean `policy`?"), "{}", stderr(&wrong));
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let written = std::fs::read(file).expect("the page");
    for name in ["policy", "policy.md#roles", "docs/policy.md"] {
        assert!(home.run(&["docs", name]).stdout == written, "a pipe gets {name} as it is written");
    }
    let document = document(&home.run(&["docs", "policy", "--json"]));
    assert_eq!(document["items"][0]["title"], "Permissions and policy");
    let listed = home.run(&["docs", "-o", "name"]);
    assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|name| name == "keep-running"));
}

#[test]
fn a_command_with_swapped_letters_is_named() {
    let home = Home::new();
    for (line, meant) in [
        (&["aks", "hi"][..], Some("'ask'")),
        (&["run", "wath", "@last"], Some("'watch'")),
        (&["agent", "lsit"], Some("'list'")),
        (&["xyzzy"], None),
    ] {
        let refused = home.run(line);
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert_eq!(told.contains("similar subcommand"), meant.is_some(), "{line:?}: {told}");
        assert!(told.contains(meant.unwrap_or("'xyzzy'")), "{line:?}: {told}");
    }
}
