//! A past that fits, through the real binary: the oldest part of a long session is summarized beside its turns, its words are
//! still read, and every request can be written again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use dromia_testkit::model_server::{ModelServer, ModelServerOptions};
use serde_json::{Value, json};

use crate::egress::{create, hello};
use crate::home::{Home, Server, block_on, count, stderr};
use crate::model::{Model, Say};

/// A home whose models are taken to have a small window, and give short answers.
pub(crate) fn small_home(window: u32) -> Home {
    let home = Home::new();
    let path = home.path().join("dromia.yaml");
    let yaml = std::fs::read_to_string(&path).expect("a configuration");
    let yaml = yaml
        .replace("window_tokens: 32768", &format!("window_tokens: {window}"))
        .replace("engine:\n", "engine:\n  output_tokens_max: 300\n");
    std::fs::write(&path, yaml).expect("it can be written");
    home
}

async fn say(server: &Server, text: &str) -> Value {
    let event = json!({"text": text, "agent": "scribe", "channel": "desk", "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    answer
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) async fn post(server: &Server, path: &str) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}{path}", server.url));
    server.send(request.bearer_auth(&server.token)).await
}

/// A text with a fact in it that no other text has.
pub(crate) fn fact(number: usize) -> String {
    format!(
        "@say Noted {number}.\nThe code of locker {number} is QX-{number}-{}. {}",
        number * 7,
        "It is grey. ".repeat(50)
    )
}

/// Waits until the summaries of a session reach a position.
pub(crate) async fn summarized(server: &Server, session: &str, upto: u64) -> Value {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, context) = server.get(&format!("/v1/sessions/{session}/context")).await;
        assert_eq!(status, 200, "{context}");
        let summaries = context["summaries"].as_array().cloned().unwrap_or_default();
        if summaries.last().and_then(|last| last["upto"].as_u64()).is_some_and(|last| last >= upto) {
            return context;
        }
        assert!(Instant::now() < until, "no summary reaches input {upto}: {context}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The scripted model behind HTTP, so that it has a window. It ends with the test.
struct SmallModel {
    address: SocketAddr,
    _end: mpsc::Sender<()>,
}

impl SmallModel {
    fn start() -> Self {
        let ((told, address), (end, ended)) = (mpsc::channel(), mpsc::channel::<()>());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let server = runtime.block_on(ModelServer::start_server(ModelServerOptions::default()));
            let server = server.expect("a free port");
            told.send(server.address()).expect("the test waits");
            // It is dropped with the test.
            let _ended = ended.recv();
        });
        Self { address: address.recv().expect("the server starts"), _end: end }
    }

    fn add_to(&self, home: &Home, window: u32) {
        let (address, path) = (self.address, home.path().join("dromia.yaml"));
        let yaml = std::fs::read_to_string(&path).expect("a configuration");
        let alias = format!(
            "models:\n  small: {{ kind: openai, base_url: \"http://{address}/v1\", model: small-1, context_tokens: {window} }}\n"
        );
        std::fs::write(&path, yaml.replacen("models:\n", &alias, 1)).expect("it can be written");
    }
}

fn create_with_model(home: &Home, model: &str) {
    let line = ["agent", "create", "scribe", "--model", model];
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "file.*"];
    let made = home.run(&[&line[..], &grants[..]].concat());
    assert!(made.status.success(), "{}", stderr(&made));
}

fn request_of(home: &Home, run: &Value) -> String {
    let shown = home.run(&["run", "show", run.as_str().expect("a run"), "--request", "--step", "1"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    stdout(&shown)
}

#[test]
fn a_long_session_is_summarized_and_its_words_stay() {
    let home = small_home(4_000);
    let (mut server, mut answers) = (home.serve(), Vec::new());
    create(&home, "scribe", &["file.*".to_owned()]);
    block_on(async {
        for number in 1..=24 {
            answers.push(say(&server, &fact(number)).await);
        }
    });
    let session = answers[0]["session"].as_str().expect("a session").to_owned();
    let context = block_on(summarized(&server, &session, 8));
    assert!(context["percent"].as_u64().is_some_and(|percent| percent < 100), "{context}");
    assert_eq!(context["left_out"], 0, "{context}");

    // The next turn shows the summary, and neither the first input nor all that was ever said.
    let next = block_on(say(&server, "@say And now?"));
    let request = request_of(&home, &next["run"]);
    assert!(request.contains("[Summary of inputs 1 to "), "{request}");
    assert!(request.contains("past.read"), "the tool that reads the words is offered: {request}");
    assert!(!request.contains("QX-3-21"), "the third input is not repeated: {request}");

    // Each fact is read word for word, by the position of its input.
    for number in [1, 2, 7] {
        let asked = format!("@tool past.read {}", json!({"handle": number.to_string()}));
        block_on(say(&server, &asked));
        let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") > 0));
        let result = entries.iter().rev().find(|entry| entry["kind"] == "tool_finished").expect("a result");
        assert_eq!(result["body"]["parts"][0]["text"], fact(number), "{result}");
    }

    // A person finds the words behind a summary, too.
    let archive = home.run(&["session", "archive", "show", &session, "--part", "1"]);
    assert!(stdout(&archive).contains("QX-1-7"), "{}{}", stdout(&archive), stderr(&archive));

    // Every request can be written again, after a restart and under another configuration.
    drop(server);
    let yaml = std::fs::read_to_string(home.path().join("dromia.yaml")).expect("a configuration");
    let yaml = yaml.replace("window_tokens: 4000", "window_tokens: 9000");
    std::fs::write(home.path().join("dromia.yaml"), yaml).expect("it can be written");
    server = home.serve();
    assert_eq!(request_of(&home, &next["run"]), request);
    for answer in &answers {
        request_of(&home, &answer["run"]);
    }
    let after = block_on(say(&server, "@say Still here."));
    assert!(request_of(&home, &after["run"]).contains("[Summary of inputs 1 to "));
}

#[test]
fn a_turn_in_flight_keeps_its_past() {
    let home = small_home(60_000);
    let server = home.serve();
    create(&home, "scribe", &["file.*".to_owned()]);
    let session = block_on(async {
        let mut session = String::new();
        for number in 1..=6 {
            session = say(&server, &fact(number)).await["session"].as_str().expect("a session").to_owned();
        }
        session
    });
    // Its second model call comes after the summary is there.
    let slow = format!("@tool file.write {}\n@slow 3000\n@say Done.", json!({"path": "a", "content": "a"}));
    let event = json!({"text": slow, "agent": "scribe", "channel": "desk"});
    let run = block_on(async {
        let (status, accepted) = server.event(&event).await;
        assert_eq!(status, 202, "{accepted}");
        let (status, told) = post(&server, &format!("/v1/sessions/{session}/compaction")).await;
        assert_eq!((status, told["state"].as_str()), (202, Some("started")), "{told}");
        summarized(&server, &session, told["upto"].as_u64().expect("a position")).await;
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!(count(&entries, "model_called"), 2, "{entries:?}");
        accepted["run"].clone()
    });
    let run = run.as_str().expect("a run");
    let request = |step: &str| {
        let shown = home.run(&["run", "show", run, "--request", "--step", step]);
        assert!(shown.status.success(), "{}", stderr(&shown));
        stdout(&shown)
    };
    assert!(
        request("1").contains("QX-1-7") && request("2").contains("QX-1-7"),
        "the past of a turn does not change"
    );
    assert!(!request("2").contains("[Summary of"), "{}", request("2"));
    let next = block_on(say(&server, "@say Next."));
    assert!(request_of(&home, &next["run"]).contains("[Summary of inputs 1 to "));
}

#[test]
fn a_long_tool_loop_goes_on_with_handles() {
    let home = small_home(32_768);
    let model = SmallModel::start();
    model.add_to(&home, 6_000);
    let server = home.serve();
    create_with_model(&home, "small");
    let write = format!("@tool file.write {}", json!({"path": "f", "content": "x".repeat(3_000)}));
    block_on(say(&server, &format!("{write}\n@say Written.")));
    let read = |offset: usize| format!("@tool file.read {}\n", json!({"path": "f", "offset": offset}));
    let answer = block_on(say(&server, &format!("{}@say Done.", (0..12).map(read).collect::<String>())));
    let run = answer["run"].as_str().expect("a run");
    let shown = home.run(&["run", "show", run, "--request", "--step", "13"]);
    let request = stdout(&shown);
    assert!(
        request.contains("bytes of this result do not fit here any more; past.read reads them, handle call_"),
        "{request}{}",
        stderr(&shown)
    );
    assert!(request.len() < 12 * 3_000, "{} bytes", request.len());
}

/// The label of a file that a turn writes and reads: that of all that led to it.
async fn label_of_probe(server: &Server, session: &str) -> String {
    let (write, read) = (json!({"path": "probe", "content": "as I was told"}), json!({"path": "probe"}));
    say(server, &format!("@tool file.write {write}\n@tool file.read {read}\n@say Probed.")).await;
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let last = entries.iter().rev().find(|entry| entry["kind"] == "tool_finished").expect("a result");
    last["body"]["parts"][0]["label"].as_str().expect("a label").to_owned()
}

#[test]
fn a_summary_makes_no_outside_words_trusted() {
    for (mode, label, shows) in [("handle", "trusted/actor", false), ("whole", "untrusted/actor", true)] {
        let home = small_home(60_000);
        let path = home.path().join("dromia.yaml");
        let yaml = std::fs::read_to_string(&path).expect("a configuration");
        let yaml = yaml.replace("context:\n", &format!("context:\n  tainted_past: {mode}\n"));
        let yaml = format!("{yaml}egress: {{ private_tools: ['127.0.0.0/8'] }}\n");
        std::fs::write(&path, yaml).expect("it can be written");
        let (port, _heard) = hello();
        let server = home.serve();
        create(&home, "scribe", &["file.*".into(), "http.request".into(), format!("net:127.0.0.1:{port}")]);
        block_on(async {
            let call = json!({"url": format!("http://127.0.0.1:{port}/")});
            let first = say(&server, &format!("@tool http.request {call}\n@say Read.")).await;
            let session = first["session"].as_str().expect("a session");
            for number in 1..=6 {
                say(&server, &fact(number)).await;
            }
            let (_, told) = post(&server, &format!("/v1/sessions/{session}/compaction")).await;
            let upto = told["upto"].as_u64().expect("a position");
            let context = summarized(&server, session, upto).await;
            let read = request_of(&home, &context["summaries"][0]["run"]);
            assert_eq!(read.contains("hello"), shows, "{mode}: {read}");
            assert_eq!(read.contains("handle 1/call_1_0]"), !shows, "{mode}: {read}");
            assert_eq!(label_of_probe(&server, session).await, label, "{mode}");
        });
    }
}

/// Compacts a session by hand, and waits for the summary.
async fn compact(server: &Server, session: &str) -> Value {
    let (status, told) = post(server, &format!("/v1/sessions/{session}/compaction")).await;
    assert_eq!((status, told["state"].as_str()), (202, Some("started")), "{told}");
    summarized(server, session, told["upto"].as_u64().expect("a position")).await
}

#[test]
fn summaries_adjoin_and_the_thirteenth_takes_the_place_of_all() {
    let home = small_home(60_000);
    let server = home.serve();
    create(&home, "scribe", &[]);
    block_on(async {
        let mut session = String::new();
        let mut number = 0;
        for round in 1..=13 {
            for _ in 0..5 {
                number += 1;
                session =
                    say(&server, &fact(number)).await["session"].as_str().expect("a session").to_owned();
            }
            let context = compact(&server, &session).await;
            let summaries = context["summaries"].as_array().expect("a list");
            let bounds: Vec<_> = summaries
                .iter()
                .map(|it| (it["from"].as_u64().unwrap_or(0), it["upto"].as_u64().unwrap_or(0)))
                .collect();
            assert_eq!(bounds.len(), if round <= 12 { round } else { 1 }, "{bounds:?}");
            assert_eq!(bounds[0].0, 1, "{bounds:?}");
            assert!(bounds.windows(2).all(|pair| pair[1].0 == pair[0].1 + 1), "{bounds:?}");
        }
        // What the first summary took the place of is still read, two summaries later.
        say(&server, &format!("@tool past.read {}", json!({"handle": "1"}))).await;
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let result = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("a result");
        assert_eq!(result["body"]["parts"][0]["text"], fact(1), "{result}");
    });
    // The person whose session it is pays for all of it.
    let costs = home.run(&["cost", "summary", "--by", "actor", "--json"]);
    assert!(!stdout(&costs).contains("engine:compaction"), "{}", stdout(&costs));
}

#[test]
fn a_compaction_that_fails_three_times_rests() {
    let summaries = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&summaries);
    // It calls a tool wherever it is to summarize, and compactions have none.
    let model = Model::start(move |_, messages| {
        let is_summary = messages
            .iter()
            .any(|it| it["content"].as_str().is_some_and(|it| it.starts_with("You summarize")));
        if is_summary {
            asked.fetch_add(1, Ordering::SeqCst);
            return Say::Call("no_such_tool", "{}".to_owned());
        }
        Say::Text("Noted.".to_owned())
    });
    let home = small_home(4_000);
    let path = home.path().join("dromia.yaml");
    let yaml = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, yaml.replacen("models:\n", &format!("models:\n{}", model.alias("small")), 1))
        .expect("it can be written");
    let server = home.serve();
    create_with_model(&home, "small");
    let percent = block_on(async {
        let mut session = String::new();
        for number in 1..=40 {
            session = say(&server, &fact(number)).await["session"].as_str().expect("a session").to_owned();
        }
        let (_, context) = server.get(&format!("/v1/sessions/{session}/context")).await;
        context["percent"].as_u64().expect("a number")
    });
    // A try asks twice. The first three are in a row; then there is one for each further ten percent of the window.
    let (tries, most) = (summaries.load(Ordering::SeqCst) / 2, 3 + (percent - 80) / 10);
    assert!(tries > 3 && tries <= most, "{tries} tries at {percent} percent, {most} at most");
    assert!(most < 25, "each of some thirty turns would try if nothing rested: {most}");
}
