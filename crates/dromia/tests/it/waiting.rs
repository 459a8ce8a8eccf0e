//! Whoever waits for a run hears what it waits for, through the real binary: a call that a person must allow, one that is
//! put off, and nothing where nothing waits.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::approvals::{document, id, is, until};
use crate::home::{Home, append, stderr};

/// A home with this in its file, and an agent that may append to files.
fn home(file: &str) -> Home {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), file);
    home
}

const CLERK: [&str; 9] =
    ["agent", "create", "clerk", "--grant", "model", "--grant", "reply", "--grant", "file.*"];

#[test]
fn an_ask_names_the_waiting_call_and_then_answers() {
    let hold = "approvals: { hold_ms: 60000 }\n";
    for (file, says) in [
        ("permissions: { ask: [file.append] }\n", "a call waits for approval (apr_"),
        (
            "permissions: { delay: [file.append] }\nirreversible: { cooling_ms: 50000 }\n",
            "a call is delayed; it starts by itself in ",
        ),
    ] {
        let home = home(&format!("{file}{hold}"));
        let server = home.serve();
        document(&home, &CLERK);
        let call = json!({"path": "log", "content": "first\n"});
        let question = format!("@tool file.append {call}\n@say all done");
        for (form, answer) in [(None, "all done\n"), (Some("--json"), "\"reply\": \"all done\"")] {
            let mut command = home.command();
            command.args(["ask", &question, "--agent", "clerk", "--timeout", "60s"]).args(form);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut asking = command.spawn().expect("the program runs");
            let mut told = BufReader::new(asking.stderr.take().expect("a pipe")).lines();
            let mut told = || told.next().map(|line| line.expect("text"));
            let waits = told().expect("it says what waits before it ends");
            assert!(waits.starts_with(says), "{waits}");
            assert!(waits.contains("file.append {") && waits.contains(r"first\n"), "{waits}");
            let from = waits.find("apr_").expect("it names the approval");
            let name = waits[from..].split(')').next().expect("an id").to_owned();
            let approval = until(&home, |approval| id(approval) == name);
            let hint = told().expect("it says what to do");
            for verb in ["show", "approve", "deny"] {
                assert!(hint.contains(&format!("`dromia approval {verb} {name}`")), "{hint}");
            }
            document(&home, &["approval", "approve", &name]);
            assert_eq!(told(), None, "nothing else waits");
            let ended = asking.wait_with_output().expect("it ends");
            assert!(ended.status.success(), "{ended:?}");
            let out = String::from_utf8_lossy(&ended.stdout).into_owned();
            if form.is_some() {
                assert!(out.contains(answer), "{out}");
                assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
            } else {
                assert_eq!(out, answer);
            }
            until(&home, is(&approval, "used"));
        }
        drop(server);
    }
}

#[test]
fn an_ask_without_a_waiting_call_prints_no_notice() {
    let home = home("");
    let server = home.serve();
    // The second takes longer than one request waits, so its run is followed.
    for (question, answer) in [("@say now", "now\n"), ("@slow 3000\n@say later", "later\n")] {
        let ended = home.run(&["ask", question]);
        assert!(ended.status.success(), "{}", stderr(&ended));
        assert_eq!((String::from_utf8_lossy(&ended.stdout).as_ref(), stderr(&ended).as_str()), (answer, ""));
    }
    drop(server);
}
