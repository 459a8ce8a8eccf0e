//! A small model's habits through the real binary: it makes one call again and again, writes paths as programs see them, and
//! is offered what it has a use for.

use serde_json::{Value, json};

use crate::home::{Home, Server, block_on, count, stderr};
use crate::model::{Model, Say};

/// A home with an agent of that model, which may write files and send messages.
fn home(model: &Model) -> (Home, Server) {
    let home = Home::new();
    let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{}", model.alias("small"));
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    let grants = ["model", "reply", "file.*", "message.send"].map(|grant| ["--grant", grant]).concat();
    let made = home.run(&[&["agent", "create", "small", "--model", "small"][..], &grants].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    (home, server)
}

/// Asks the agent, and returns the answer with the entries of its run.
fn asked(server: &Server, text: &str) -> (Value, Vec<Value>) {
    block_on(async {
        let (status, answer) = server.event(&json!({"text": text, "agent": "small", "wait": true})).await;
        assert_eq!(status, 200, "{answer}");
        let session = answer["session"].as_str().expect("a session");
        let ended = ["run_completed", "run_yielded", "run_failed"];
        let entries =
            server.journal_until(session, |entries| ended.iter().any(|kind| count(entries, kind) == 1)).await;
        (answer, entries)
    })
}

/// One line for a file, by the path that programs see.
fn append() -> Say {
    Say::Call("file__append", json!({"path": "/workspace/log.txt", "content": "done\n"}).to_string())
}

fn is_told(messages: &[Value]) -> bool {
    messages.iter().any(|message| {
        message["content"].to_string().contains("the identical call was already made 12 times")
    })
}

#[test]
fn a_model_that_heeds_the_loop_warning_completes_its_run() {
    let model = Model::start(
        |_, messages| {
            if is_told(messages) { Say::Text("It is done.".to_owned()) } else { append() }
        },
    );
    let (_home, server) = home(&model);
    let (answer, entries) = asked(&server, "write one line");
    assert_eq!(
        (&answer["status"], &answer["reply"]),
        (&json!("completed"), &json!("It is done.")),
        "{answer}"
    );
    // Each result tells another number of bytes, and it is one call all the same.
    assert_eq!((count(&entries, "tool_finished"), count(&entries, "tool_refused")), (12, 1), "{entries:#?}");
    let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is there");
    assert_eq!(refused["fields"]["rule"], "loop");
}

#[test]
fn an_endless_call_loop_yields_a_run_that_can_resume() {
    let model = Model::start(|_, _| append());
    let (home, server) = home(&model);
    let (answer, entries) = asked(&server, "write one line");
    assert_eq!(
        (&answer["status"], &answer["failure"]["code"]),
        (&json!("yielded"), &json!("loop_detected")),
        "{answer}"
    );
    assert_eq!((count(&entries, "tool_finished"), count(&entries, "tool_refused")), (12, 3), "{entries:#?}");
    let run = answer["run"].as_str().expect("a run");
    let why = home.run(&["run", "why", run]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("warned in 3 steps") && why.contains(&format!("dromia run resume {run}")), "{why}");
    let asked = home.run(&["ask", "write one line", "--agent", "small"]);
    assert_eq!(asked.status.code(), Some(7), "{}", stderr(&asked));
    assert!(stderr(&asked).contains("stopped: its model repeated calls"), "{}", stderr(&asked));
}

#[test]
fn message_send_is_offered_once_the_model_knows_a_session() {
    let model = Model::start(|_, _| Say::Text("done".to_owned()));
    let (home, server) = home(&model);
    let sent = |text: &str| {
        let (answer, _) = asked(&server, text);
        let request =
            home.run(&["run", "show", answer["run"].as_str().expect("a run"), "--step", "1", "--request"]);
        assert!(request.status.success(), "{}", stderr(&request));
        String::from_utf8_lossy(&request.stdout).into_owned()
    };
    let alone = sent("hello");
    assert!(alone.contains("file__append") && !alone.contains("message__send"), "{alone}");
    let told = sent("say hello to ses_05050505050505050505050505050505");
    assert!(told.contains("message__send"), "{told}");
}
