//! What is read of a server whose file is plain, and of one whose file changes every key that is seen on a server.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{ServedHome, serve};
use crate::approvals::{document, until};
use crate::egress::ask;
use crate::home::{DEADLINE, block_on, count};
use crate::webhook::say_to;

/// The line that both files have of channels, and what one adds.
const CHANNEL: &str = "kind: webhook, url: 'http://127.0.0.1:1/', secret: 'env:WEBHOOK_SECRET'";

/// A server of models and pages that notes what it hears.
pub(super) struct HeardServer {
    pub(super) url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl HeardServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let book = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = Arc::clone(&book);
                std::thread::spawn(move || answer(stream, &book));
            }
        });
        Self { url, heard }
    }

    /// The last request, as it came; nothing if none came since the last look.
    pub(super) fn last(&self) -> String {
        std::mem::take(&mut *self.heard.lock().expect("nobody panics with it")).pop().unwrap_or_default()
    }
}

/// Reads one request to its end.
fn receive(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8_192];
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok())
        });
        if body.len() >= length.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}

/// Answers in the format of the path; slowly below `/slow`.
fn answer(mut stream: TcpStream, book: &Mutex<Vec<String>>) -> Option<()> {
    let request = receive(&mut stream)?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    book.lock().expect("nobody panics with it").push(request);
    if path.contains("/slow") {
        std::thread::sleep(Duration::from_secs(2));
    }
    let page = if path.ends_with("/messages") {
        json!({
            "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "ready"}],
            "usage": {"input_tokens": 300, "output_tokens": 500, "cache_creation_input_tokens": 20,
                      "cache_read_input_tokens": 10},
        })
        .to_string()
    } else if path.ends_with("/completions") {
        json!({
            "id": "c", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ready"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        })
        .to_string()
    } else {
        "hello".to_owned()
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        page.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes())).ok()
}

/// What both files say.
fn common(heard: &HeardServer) -> String {
    format!(
        "version: 1\nmodels:\n  default: {{ kind: scripted }}\n  heard: {{ kind: openai, base_url: '{}/v1', model: m, stream: false }}\n",
        heard.url
    )
}

pub(super) fn plain_file(heard: &HeardServer) -> String {
    common(heard)
        + &format!(
            "channels: {{ a: {{ {CHANNEL}, agent: dev }}, b: {{ {CHANNEL}, agent: dev }} }}\n\
             permissions: {{ ask: [message.send] }}\negress: {{ private_tools: ['127.0.0.1'] }}\n\
             tools: {{ external: {{ bank.pay: {{ description: Pays., url: 'http://127.0.0.1:1/' }} }} }}\n"
        )
}

pub(super) fn changed_file(heard: &HeardServer) -> String {
    common(heard)
        + &format!(
            "channels: {{ a: {{ {CHANNEL}, agent: other }}, b: {{ {CHANNEL}, agent: dev, tenant: nowhere }} }}\n\
             permissions: {{ ask: [message.send, file.read], delay: [file.append], deny: [time.now] }}\n\
             approvals: {{ expire_ms: 600000 }}\n\
             context: {{ window_tokens: 4000 }}\ndefault_agent: nobody\n\
             engine: {{ loop_same: 2, model_calls_max: 6, output_tokens_max: 77 }}\n\
             egress: {{ private_tools: ['127.0.0.1'], response_bytes_max: 3, total_ms: 1000 }}\n\
             http: {{ hosts: [agents.example], origins: ['https://app.example'] }}\n\
             limits: {{ body_bytes_max: 20000, body_ms: 1000 }}\n\
             socket: {{ users: [{{ uid: 4711, role: viewer }}] }}\nsandbox: {{ minimum: base }}\n\
             agents:\n  dev:\n    permissions: {{ allow: [file.list], ask: [file.edit], delay: [file.search], deny: [file.write] }}\n\
             \x20   tools:\n      exec: {{ cpu_limit: 9s, disk_quota: 9MiB, mem_limit: 99MiB, network: none, sandbox: base, time_limit: 9s }}\n\
             \x20     net: [b.example]\n      privileged: [message.send]\n\
             tools:\n  exec: {{ cpu_limit: 8s, disk_quota: 8MiB, mem_limit: 88MiB, network: proxy, sandbox: strict, time_limit: 8s }}\n\
             \x20 net: [a.example]\n  privileged: [message.send]\n  external:\n    bank.pay:\n      description: Sends.\n\
             \x20     url: 'http://127.0.0.1:1/'\n      effect: keyed\n      sink: inside\n      sensitivity: high\n\
             \x20     result_label: trusted/agent\n      records: {{ keys: [id], names: [title] }}\n\
             \x20     arguments: {{ properties: {{ to: {{ type: string }} }} }}\n      roles: {{ to: destination }}\n"
        )
}

/// Lives through a turn of `other`; returns how it ended and its entries.
fn turn(served: &ServedHome, text: &str) -> (String, Vec<Value>) {
    let event = json!({"text": text, "agent": "other", "wait": true});
    block_on(async {
        let (_, answer) = served.server.event(&event).await;
        let session = answer["session"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        let is_over = |entries: &[Value]| {
            ["run_completed", "run_yielded", "run_failed"].iter().any(|kind| count(entries, kind) == 1)
        };
        let entries = served.server.journal_until(session, is_over).await;
        (answer["status"].as_str().unwrap_or_default().to_owned(), entries)
    })
}

pub(super) fn approval_life(served: &ServedHome) -> String {
    let session = document(&served.home, &["agent", "spawn", "dev", "--task", "hello"]);
    let session = session["session"].as_str().expect("a session");
    let call = format!("@tool message.send {}", json!({"session": session, "text": "hello"}));
    let spawned = document(&served.home, &["agent", "spawn", "dev", "--task", &call]);
    let asked = until(&served.home, |approval| approval["session"] == spawned["session"]);
    let at =
        |key: &str| asked[key].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()).expect("a time");
    at("expires_at").duration_since(at("asked_at")).as_secs().to_string()
}

pub(super) fn channel_agents(served: &ServedHome) -> String {
    let (status, answer) = say_to(&served.server, "a", "msg_1", "hello");
    assert_eq!(status, 202, "{answer}");
    let item = answer["session"].as_str().expect("a session").to_owned();
    let agents = document(&served.home, &["agent", "list"]);
    let session = block_on(served.server.get(&format!("/v1/sessions/{item}"))).1;
    let agent =
        agents["items"].as_array().expect("rows").iter().find(|agent| agent["id"] == session["agent"]);
    agent.unwrap_or_else(|| panic!("no agent: {session}"))["handle"].to_string()
}

pub(super) fn foreign_channel(served: &ServedHome) -> String {
    say_to(&served.server, "b", "msg_2", "hello").0.to_string()
}

/// The request of a run, as its model heard it.
fn request_of(served: &ServedHome, run: &str) -> Value {
    let heard = served.home.run(&["run", "show", run, "--step", "1", "--request"]);
    serde_json::from_slice(&heard.stdout).expect("a request")
}

pub(super) fn assumed_window(served: &ServedHome) -> String {
    let event = json!({"text": "hello", "agent": "talker", "actor": "ada", "wait": true});
    let (_, answer) = block_on(served.server.event(&event));
    let session = answer["session"].as_str().expect("a session").to_owned();
    block_on(served.server.get(&format!("/v1/sessions/{session}/context"))).1["window"].to_string()
}

pub(super) fn longest_answer(served: &ServedHome) -> String {
    let event = json!({"text": "hello", "agent": "talker", "actor": "eve", "wait": true});
    let (_, answer) = block_on(served.server.event(&event));
    request_of(served, answer["run"].as_str().expect("a run"))["max_tokens"].to_string()
}

pub(super) fn unaddressed_event(served: &ServedHome) -> String {
    block_on(served.server.event(&json!({"text": "hello"}))).0.to_string()
}

pub(super) fn answer_of_five_bytes(served: &ServedHome) -> String {
    let ended = block_on(ask(&served.server, "other", &[format!("{}/page", served.page)]));
    ended[0]["body"]["parts"][0]["text"].to_string()
}

pub(super) fn late_answer(served: &ServedHome) -> String {
    let ended = block_on(ask(&served.server, "other", &[format!("{}/slow", served.page)]));
    ended[0]["fields"]["status"].to_string()
}

pub(super) fn repeated_calls(served: &ServedHome) -> String {
    let call = format!("@tool file.write {}\n", json!({"path": "a", "content": "a"}));
    count(&turn(served, &call.repeat(4)).1, "tool_refused").to_string()
}

pub(super) fn many_steps(served: &ServedHome) -> String {
    let call =
        |number| format!("@tool file.write {}\n", json!({"path": format!("{number}"), "content": "a"}));
    turn(served, &(0..8).map(call).collect::<String>()).0
}

fn with_header(served: &ServedHome, name: &str, value: &str) -> u16 {
    block_on(async {
        let request = reqwest::Client::new().get(format!("{}/v1/whoami", served.server.url));
        served.server.send(request.bearer_auth(&served.server.token).header(name, value)).await.0
    })
}

pub(super) fn named_host(served: &ServedHome) -> String {
    with_header(served, "host", "agents.example").to_string()
}

pub(super) fn foreign_origin(served: &ServedHome) -> String {
    with_header(served, "origin", "https://app.example").to_string()
}

pub(super) fn large_body(served: &ServedHome) -> String {
    let event = json!({"text": "x".repeat(30_000), "agent": "talker", "actor": "max"});
    block_on(served.server.event(&event)).0.to_string()
}

pub(super) fn half_sent_body(served: &ServedHome) -> String {
    let address = served.server.url.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{",
        served.server.token
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    // The plain server waits five times as long.
    stream.set_read_timeout(Some(Duration::from_secs(6))).expect("a time");
    let mut first = [0; 12];
    stream
        .read_exact(&mut first)
        .map_or("nothing".to_owned(), |()| String::from_utf8_lossy(&first).into_owned())
}

pub(super) fn socket_mode(served: &ServedHome) -> String {
    let socket = std::fs::metadata(served.home.path().join("run/dromia.sock")).expect("a socket");
    format!("{:o}", socket.permissions().mode() & 0o777)
}

#[test]
fn a_plain_request_is_refused_where_only_encrypted_ones_are_made() {
    let heard = HeardServer::start();
    let file = plain_file(&heard).replace("egress: {", "egress: { https_only: true,");
    let served = serve(&file, &heard);
    let ended = block_on(ask(&served.server, "other", &[format!("{}/page", heard.url)]));
    assert_eq!(ended[0]["fields"]["egress"][0]["rule"], "https only", "{}", ended[0]);
    assert_eq!(heard.last(), "", "nothing was asked within {DEADLINE:?}");
}
