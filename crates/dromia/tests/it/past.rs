//! Earlier turns by handles through the real binary: what another system told in one turn taints a later one when it is read
//! again, in its own session only, and the bytes of a request stay what they were under another configuration.

use serde_json::{Value, json};

use crate::egress::{create, hello};
use crate::home::{Home, Server, append, block_on, count, stderr};

/// A turn: its run, and the entries that ended its calls.
struct Turn {
    run: String,
    entries: Vec<Value>,
}

impl Turn {
    async fn of(server: &Server, channel: &str, calls: &[(&str, Value)]) -> Self {
        let lines: Vec<_> =
            calls.iter().map(|(tool, arguments)| format!("@tool {tool} {arguments}")).collect();
        let event = json!({"text": lines.join("\n"), "agent": "scribe", "channel": channel, "wait": true});
        let (status, answer) = server.event(&event).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
        let session = answer["session"].as_str().expect("a session");
        let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
        Self { run: answer["run"].as_str().expect("a run").to_owned(), entries }
    }

    /// The results of its calls.
    fn results(&self) -> Vec<&Value> {
        self.entries.iter().filter(|entry| entry["kind"] == "tool_finished").collect()
    }

    /// The label of what its last call told first.
    fn label(&self) -> &str {
        let last = self.results().pop().expect("a result");
        last["body"]["parts"][0]["label"].as_str().expect("a label")
    }

    /// What its model was sent in its first step.
    fn request(&self, home: &Home) -> String {
        let shown = home.run(&["run", "show", &self.run, "--request", "--step", "1"]);
        assert!(shown.status.success(), "{}", stderr(&shown));
        String::from_utf8(shown.stdout).expect("a text")
    }
}

/// Writes a file and reads it, so that its label tells that of all that led to it.
fn probe(path: &str) -> [(&'static str, Value); 2] {
    [
        ("file.write", json!({"path": path, "content": "as I was told"})),
        ("file.read", json!({ "path": path })),
    ]
}

fn again(handle: &str) -> (&'static str, Value) {
    ("past.read", json!({ "handle": handle }))
}

#[test]
fn foreign_text_taints_a_later_turn_that_reads_it() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "egress: { private_tools: ['127.0.0.0/8'] }\n");
    let (port, _heard) = hello();
    let server = home.serve();
    // Nobody is granted `past.read`.
    create(
        &home,
        "scribe",
        &["file.*".to_owned(), "http.request".to_owned(), format!("net:127.0.0.1:{port}")],
    );
    let ask = ("http.request", json!({"url": format!("http://127.0.0.1:{port}/")}));
    let (second, sent) = block_on(async {
        Turn::of(&server, "desk", &[ask]).await;
        let second = Turn::of(&server, "desk", &probe("second")).await;
        let sent = second.request(&home);
        assert!(sent.contains("handle 1/call_1_0]") && sent.contains("past.read"), "{sent}");
        assert!(!sent.contains("hello"), "{sent}");
        assert_eq!(second.label(), "trusted/actor");

        let [write, read] = probe("third");
        let third = Turn::of(&server, "desk", &[again("1/call_1_0"), write, read]).await;
        let told = &third.results()[0]["body"]["parts"][0];
        assert!(told["text"].as_str().is_some_and(|text| text.contains("hello")), "{told}");
        assert_eq!(told["label"], "untrusted/agent", "as it was told at first");
        assert_eq!(third.label(), "untrusted/actor");
        let started = third.entries.iter().find(|entry| entry["kind"] == "tool_started").expect("a start");
        assert_eq!(started["fields"]["rule"], "built in", "{started}");

        // In another session the handle is as good as one that nobody ever made.
        let [write, read] = probe("elsewhere");
        let calls = [again("1/call_1_0"), again("9/call_9_9"), write, read];
        let elsewhere = Turn::of(&server, "elsewhere", &calls).await;
        let refused: Vec<_> = elsewhere.results()[..2]
            .iter()
            .map(|entry| (&entry["fields"]["status"], &entry["body"]["parts"]))
            .collect();
        assert_eq!((refused[0], refused[0].0), (refused[1], &json!("error")));
        assert_eq!(elsewhere.label(), "trusted/actor");
        (second, sent)
    });
    server.kill();

    let path = home.path().join("dromia.yaml");
    let config = std::fs::read_to_string(&path).expect("it is there");
    let config = config.replace("context:\n", "context:\n  tainted_past: whole\n");
    std::fs::write(&path, config).expect("it can be written");
    let server = home.serve();
    assert_eq!(second.request(&home), sent, "it is what was sent then");
    let whole = block_on(Turn::of(&server, "desk", &probe("whole")));
    assert!(whole.request(&home).contains("hello") && !whole.request(&home).contains("handle 1/call_1_0]"));
    assert_eq!(whole.label(), "untrusted/actor");
    drop(server);
}
