//! Keys in the vault and models as a sink, through the real binary: a provider's key, a channel's, what a model is asked, and
//! the log.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{DEADLINE, Home, Server, append, block_on, count, stderr};
use crate::vault::{holding, piped};
use crate::webhook::{Receiver, say_signed};

/// A server of models that keeps what it is told, and answers with one word.
pub(crate) struct Minds {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Minds {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _gone = hear(stream, &kept);
            }
        });
        Self { port, heard }
    }

    /// The requests that came, head and body.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("nobody panics while it holds this").clone()
    }
}

/// Hears one request and answers it; a client that went away is nobody to answer.
fn hear(mut stream: TcpStream, kept: &Mutex<Vec<String>>) -> Option<()> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                kept.lock().ok()?.push(text);
                break;
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 5, "input_tokens": 3, "output_tokens": 5});
    let answer = if request.starts_with(b"POST /v1/messages") {
        json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "done"}],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": usage})
    } else {
        let message = json!({"role": "assistant", "content": "done"});
        json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())).ok()
}

/// Makes an agent that asks a model.
pub(crate) fn agent(home: &Home, model: &str) {
    let made =
        home.run(&["agent", "create", model, "--model", model, "--grant", "model", "--grant", "reply"]);
    assert!(made.status.success(), "{}", stderr(&made));
}

/// Says something to an agent and waits for what becomes of it.
pub(crate) fn said(server: &Server, agent: &str, text: &str) -> Value {
    block_on(server.event(&json!({"text": text, "agent": agent, "wait": true}))).1
}

/// Sets a secret.
pub(crate) fn set(home: &Home, name: &str, host: &str, placement: &str, value: &str) {
    let line = ["secret", "set", name, "--stdin", "--host", host, "--placement", placement];
    let set = piped(home, &line, value);
    assert!(set.status.success(), "{name}: {}", stderr(&set));
}

fn configure(home: &Home, models: &str) {
    let text = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{models}");
    fs::write(home.path().join("dromia.yaml"), text).expect("it is written");
}

/// Asserts that a run failed as one does whose model was not asked, and that it says why.
fn rejected(answer: &Value, why: &str) {
    assert_eq!(answer["status"], "failed", "{answer}");
    let told = answer.to_string();
    assert!(told.contains("model_rejected") && told.contains(why), "{told}");
}

#[test]
fn a_providers_key_is_only_in_the_vault() {
    const FIRST: &str = "CanaryOfTheProvider-4711";
    const SECOND: &str = "CanaryOfTheProvider-4712";
    let (home, minds) = (Home::new(), Minds::start());
    let host = format!("http://127.0.0.1:{}", minds.port);
    configure(
        &home,
        &format!(
            "  far: {{ kind: openai, base_url: '{host}/v1', model: m, stream: false, key: 'secret:hub' }}\n"
        ),
    );
    let log = home.path().join("log.txt");
    let mut command = home.command();
    command.env("DROMIA_LOG", "trace").stderr(File::create(&log).expect("a file"));
    let server = home.serve_by(command);
    let told = fs::read_to_string(&log).expect("a log");
    assert!(told.contains("there is no secret of that name"), "the log says it at the start: {told}");
    agent(&home, "far");
    rejected(&said(&server, "far", "hello"), "there is no secret of that name");
    set(&home, "hub", "http://127.0.0.1:1", "bearer", FIRST);
    rejected(&said(&server, "far", "hello"), "is for another host");
    set(&home, "hub", &host, "header:x-api-key", FIRST);
    rejected(&said(&server, "far", "hello"), "has another place");
    assert_eq!(minds.heard(), Vec::<String>::new());
    set(&home, "hub", &host, "bearer", FIRST);
    let answer = said(&server, "far", "hello");
    assert_eq!(answer["status"], "completed", "{answer}");
    assert!(minds.heard()[0].contains(&format!("authorization: Bearer {FIRST}\r\n")), "{:?}", minds.heard());
    // A new value counts without a restart.
    assert!(piped(&home, &["secret", "rotate", "hub", "--stdin"], SECOND).status.success());
    assert_eq!(said(&server, "far", "hello")["status"], "completed");
    assert!(minds.heard()[1].contains(&format!("authorization: Bearer {SECOND}\r\n")), "{:?}", minds.heard());
    // Only a server opens the vault.
    let tried = home.run(&["model", "test", "far"]);
    assert!(
        !tried.status.success()
            && stderr(&tried).contains("only a running server")
            // What it names next can use the key.
            && stderr(&tried).contains("`dromia ask`"),
        "{}",
        stderr(&tried)
    );
    server.terminate();
    for value in [FIRST, SECOND] {
        assert_eq!(holding(&home.path(), value.as_bytes()), Vec::<String>::new());
    }
}

#[test]
fn a_channels_secret_signs_and_is_only_in_the_vault() {
    // 24 bytes each.
    const FIRST: &str = concat!("whsec_", "Q2FuYXJ5T2ZUaGVDaGFubmVsLTQ3MTEt");
    const SECOND: &str = concat!("whsec_", "Q2FuYXJ5T2ZUaGVDaGFubmVsLTQ3MTIt");
    let (home, receiver) = (Home::new(), Receiver::start(200));
    let host = receiver.url.strip_suffix("/hook").expect("its path").to_owned();
    let channel = format!(
        "egress: {{ private_tools: ['127.0.0.0/8'] }}\nchannels:\n  orders: {{ kind: webhook, agent: assistant, \
         url: '{}', secret: 'secret:signing' }}\n",
        receiver.url
    );
    append(&home.path().join("dromia.yaml"), &channel);
    let log = home.path().join("log.txt");
    let mut command = home.command();
    command.env("DROMIA_LOG", "trace").stderr(File::create(&log).expect("a file"));
    let server = home.serve_by(command);
    let told = fs::read_to_string(&log).expect("a log");
    assert!(told.contains("there is no secret of that name"), "the log says it at the start: {told}");
    let doctor = home.run(&["doctor", "--only", "vault.named"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{text}");
    let next = format!("dromia secret set signing --stdin --host {host} --placement signature");
    assert!(text.contains("is not in the vault") && text.contains(&next), "{text}");

    // Nothing is let in by it, or by a secret of that name that is for something else, and a stranger is told nothing.
    let say = |id: &str, secret: &str| say_signed(&server, ("orders", secret), id, "@say hello Ada");
    let nowhere = say_signed(&server, ("nowhere", FIRST), "msg_0", "hello").1;
    let refused = |id: &str| {
        let (status, problem) = say(id, FIRST);
        assert_eq!((status, &problem["detail"]), (401, &nowhere["detail"]), "{problem}");
    };
    refused("msg_1");
    set(&home, "signing", &host, "bearer", FIRST);
    refused("msg_2");
    set(&home, "signing", "http://127.0.0.1:1", "signature", FIRST);
    refused("msg_3");
    set(&home, "signing", &host, "signature", FIRST);
    let (status, accepted) = say("msg_4", FIRST);
    assert_eq!(status, 202, "{accepted}");
    assert!(receiver.until(1)[0].is_signed_with(FIRST), "the answer is signed with it too");
    assert_eq!(home.run(&["doctor", "--only", "vault.named"]).status.code(), Some(0));

    // A new value counts without a restart, in both directions.
    assert!(piped(&home, &["secret", "rotate", "signing", "--stdin"], SECOND).status.success());
    refused("msg_5");
    assert_eq!(say("msg_6", SECOND).0, 202);
    assert!(receiver.until(2)[1].is_signed_with(SECOND));
    let no_key = piped(&home, &["secret", "rotate", "signing", "--stdin"], "whsec_c2hvcnQ=");
    assert!(!no_key.status.success() && stderr(&no_key).contains("whsec_"), "{}", stderr(&no_key));

    // It signs, and nothing sends it: no call of an agent that is granted it gets through.
    create(&home, "scout", &["http.request".into(), format!("net:{}", &host[7..]), "secret:signing".into()]);
    for name in ["authorization", "webhook-signature"] {
        let call = json!({"url": format!("{host}/hook"), "headers": {name: {"secret": "signing"}}});
        let answer = said(&server, "scout", &format!("@tool http.request {call}"));
        assert_eq!(answer["status"], "completed", "{answer}");
        let session = answer["session"].as_str().expect("a session");
        let entries = block_on(server.journal_until(session, |entries| count(entries, "run_completed") == 1));
        let told = serde_json::to_string(&entries).expect("JSON");
        assert!(told.contains("another place in a request"), "{told}");
    }
    assert_eq!(receiver.heard().len(), 2, "{:?}", receiver.heard());
    let shown = home.run(&["config", "show"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("secret:signing"));
    server.terminate();
    for value in [FIRST, SECOND] {
        assert_eq!(holding(&home.path(), value.as_bytes()), Vec::<String>::new());
    }
}

#[test]
fn a_model_request_holds_no_secret() {
    const VALUE: &str = "ghp_CanaryOfTheRequest4711";
    let (home, minds) = (Home::new(), Minds::start());
    let base = format!("http://127.0.0.1:{}/v1", minds.port);
    configure(&home, &format!("  far: {{ kind: openai, base_url: '{base}', model: m, stream: false }}\n"));
    let server = home.serve();
    agent(&home, "far");
    set(&home, "github", "api.github.com", "bearer", VALUE);
    assert_eq!(said(&server, "far", "hello")["status"], "completed");
    assert_eq!(minds.heard().len(), 1);
    let backwards: String = VALUE.chars().rev().collect();
    let split: Vec<String> = VALUE.chars().map(String::from).collect();
    for text in [VALUE.to_owned(), backwards, split.join(" ")] {
        let event = json!({"text": format!("use {text}"), "agent": "far", "wait": true});
        let answer = block_on(server.event(&event)).1;
        rejected(&answer, "github");
        assert!(!answer.to_string().contains(VALUE), "{answer}");
    }
    assert_eq!(minds.heard().len(), 1, "nothing of it was sent");
    // With a new value the old one is no secret any more.
    assert!(piped(&home, &["secret", "rotate", "github", "--stdin"], "another-value-4711").status.success());
    assert_eq!(said(&server, "far", &format!("it was {VALUE}"))["status"], "completed");
    assert_eq!(minds.heard().len(), 2);
    drop(server);
}

/// The model says a value in two pieces. What is told of it while it speaks has stars, and its answer does not leave.
#[test]
fn a_streamed_answer_holds_no_secret() {
    const VALUE: &str = "ghp_CanaryOfTheStream4711";
    let home = Home::new();
    let server = home.serve();
    set(&home, "github", "api.github.com", "bearer", VALUE);
    let text = format!("@slow 10000\n@say it is told as {VALUE} and so on to its end");
    let (status, accepted) = block_on(server.event(&json!({ "text": text })));
    assert_eq!(status, 202, "{accepted}");
    let run = accepted["run"].as_str().expect("the agent is free");
    let stream = block_on(async {
        let request = reqwest::Client::new().get(format!("{}/v1/runs/{run}/journal", server.url));
        let request = request.bearer_auth(&server.token).header("accept", "text/event-stream");
        let response = request.timeout(DEADLINE).send().await.expect("it answers");
        response.text().await.expect("it ends with the run")
    });
    let deltas = stream.split("event: delta\ndata: ").skip(1).filter_map(|rest| rest.lines().next());
    let told: String = deltas
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["text"].as_str().expect("a text").to_owned()
        })
        .collect();
    // Whoever looks on may have missed the beginning.
    let stars = "*".repeat(VALUE.len());
    assert!(told.ends_with(&format!("{stars} and so on to its end")), "{told:?} of {stream}");
    assert!(!told.contains("ghp"), "{told}");
    let (_, run) = block_on(server.get(&format!("/v1/runs/{run}")));
    assert_eq!(run["status"], "failed", "{run}");
}

/// Waits until a file holds all of some texts.
fn until(file: &Path, texts: &[&str]) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = fs::read_to_string(file).expect("a file");
        if texts.iter().all(|text| found.contains(text)) {
            return found;
        }
        assert!(Instant::now() < end, "{texts:?} do not come: {found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What libraries write at `trace` holds the names of hosts, so a secret that stands in one is in the log, unless the log's
/// writer takes it out.
#[test]
fn the_server_log_holds_no_secret() {
    const SHAPE: &str = "sk-canary0123456789";
    const VALUE: &str = "canaryofthelog4711";
    for form in [&[][..], &["--log-json"]] {
        let home = Home::new();
        let alias = |name: &str, host: &str| {
            format!("  {name}: {{ kind: openai, base_url: 'http://{host}.invalid/v1', model: m }}\n")
        };
        configure(&home, &[alias("shape", SHAPE), alias("value", VALUE)].concat());
        let log = home.path().join("log.txt");
        let mut command = home.command();
        command.env("DROMIA_LOG", "trace").stderr(File::create(&log).expect("a file"));
        let server = home.serve_with(command, form);
        set(&home, "host", "api.example.com", "bearer", VALUE);
        for model in ["shape", "value"] {
            agent(&home, model);
            let event = json!({"text": "hello", "agent": model});
            assert_eq!(block_on(server.event(&event)).0, 202);
        }
        let stars = format!("{}.invalid", "*".repeat(VALUE.len()));
        let told = until(&log, &["(redacted)", &stars]);
        assert!(!told.contains(SHAPE) && !told.contains(VALUE), "{told}");
        drop(server);
    }
}
