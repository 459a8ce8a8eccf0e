//! A webhook channel through the real binary: a signed event in, a signed answer out, also across a kill.
//!
//! The receiver is another process's witness in all but name: it keeps what reached it, whatever the server says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dromia_gateway::signature::{WebhookHeaders, WebhookSigningKey};
use jiff::Timestamp;
use serde_json::Value;

use crate::home::{DEADLINE, Home, Server, append, block_on, stderr};

/// The secret of every channel in these tests, and the variable that holds it.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const VARIABLE: &str = "WEBHOOK_SECRET";

/// A receiver answers with this status, or never.
pub(crate) const NEVER: u16 = 0;

/// One message, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) id: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

impl Heard {
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether it was signed with a secret, not long ago.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let claims = WebhookHeaders { id: &self.id, timestamp: &self.timestamp, signature: &self.signature };
        let key: WebhookSigningKey = secret.parse().expect("a key");
        key.verify_message(claims, &self.body, now(), Duration::from_mins(5)).is_ok()
    }
}

/// Listens and keeps what comes.
pub(crate) struct Receiver {
    pub(crate) url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub(crate) fn start(status: u16) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), status)
    }

    /// Begins to listen to what comes to a port.
    pub(crate) fn on(listener: TcpListener, status: u16) -> Self {
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let (heard, status) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::new(AtomicU16::new(status)));
        let (kept, answer) = (Arc::clone(&heard), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || take(stream.expect("a connection"), &kept, &answer));
            }
        });
        Self { url, heard, status }
    }

    /// Answers with another status from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("nobody panics while it holds this").clone()
    }

    /// Waits until so many messages came.
    pub(crate) fn until(&self, count: usize) -> Vec<Heard> {
        let end = Instant::now() + DEADLINE;
        loop {
            let heard = self.heard();
            if heard.len() >= count {
                return heard;
            }
            assert!(Instant::now() < end, "{count} messages never come: {heard:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn take(stream: TcpStream, kept: &Mutex<Vec<Heard>>, answer: &AtomicU16) {
    let mut reader = BufReader::new(stream);
    let mut headers = std::collections::BTreeMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        if let Some((name, value)) = line.trim().split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut body = vec![0; header("content-length").parse().unwrap_or_default()];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let heard = Heard { id, timestamp, signature: header("webhook-signature"), body };
    kept.lock().expect("nobody panics while it holds this").push(heard);
    let status = answer.load(Ordering::SeqCst);
    if status == NEVER {
        // The connection stays open until whoever waits goes away.
        drop(reader.read(&mut [0]));
        return;
    }
    let text = format!("HTTP/1.1 {status} -\r\ncontent-length: 0\r\n\r\n");
    drop(reader.into_inner().write_all(text.as_bytes()));
}

fn key() -> WebhookSigningKey {
    SECRET.parse().expect("a key")
}

fn now() -> Timestamp {
    dromia_testkit::tokio_runtime().clock.now()
}

/// Writes a channel into the configuration of a home.
pub(crate) fn with_channel(home: &Home, url: &str, more: &str) {
    let channel = format!(
        "channels:\n  orders: {{ kind: webhook, agent: assistant, url: '{url}', secret: 'env:{VARIABLE}'{more} }}\n"
    );
    append(&home.path().join("dromia.yaml"), &channel);
}

/// Serves a home whose channels have their secret.
pub(crate) fn serve(home: &Home) -> Server {
    let mut command = home.command();
    command.env(VARIABLE, SECRET);
    home.serve_by(command)
}

/// Sends an event as the other system signs it.
pub(crate) fn say(server: &Server, id: &str, text: &str) -> (u16, Value) {
    say_to(server, "orders", id, text)
}

/// Sends an event to one channel.
pub(crate) fn say_to(server: &Server, channel: &str, id: &str, text: &str) -> (u16, Value) {
    say_signed(server, (channel, SECRET), id, text)
}

/// Sends an event to a channel, signed with a secret.
pub(crate) fn say_signed(
    server: &Server,
    (channel, secret): (&str, &str),
    id: &str,
    text: &str,
) -> (u16, Value) {
    let key: WebhookSigningKey = secret.parse().expect("a key");
    let body = serde_json::json!({"type": "message", "data": {"text": text, "actor": "ada"}}).to_string();
    let timestamp = now().as_second().to_string();
    block_on(async {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/channels/{channel}/events", server.url))
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", key.sign(id, &timestamp, body.as_bytes()))
            .body(body);
        server.send(request).await
    })
}

/// Lists what leaves, the newest first.
pub(crate) fn deliveries(home: &Home) -> Vec<Value> {
    let output = home.run(&["delivery", "list", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let list: Value = serde_json::from_slice(&output.stdout).expect("a document");
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Waits until every delivery stands so.
pub(crate) fn until_all(home: &Home, state: &str, count: usize) -> Vec<Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = deliveries(home);
        if found.len() == count && found.iter().all(|delivery| delivery["state"] == state) {
            return found;
        }
        assert!(Instant::now() < end, "{count} deliveries never are {state}: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_event_is_answered_by_a_signed_webhook_message() {
    let (home, receiver) = (Home::new(), Receiver::start(200));
    with_channel(&home, &receiver.url, "");
    let server = serve(&home);
    let (status, accepted) = say(&server, "msg_1", "@say hello Ada");
    assert_eq!(status, 202, "{accepted}");
    let (status, again) = say(&server, "msg_1", "@say hello Ada");
    assert_eq!((status, &again["item"]), (202, &accepted["item"]), "a repeat is one input");
    let (status, _) = say(&server, "msg_2", "@fail rejected");
    assert_eq!(status, 202);
    let heard = receiver.until(2);
    for one in &heard {
        let claims = WebhookHeaders { id: &one.id, timestamp: &one.timestamp, signature: &one.signature };
        assert_eq!(key().verify_message(claims, &one.body, now(), Duration::from_mins(1)), Ok(()));
    }
    let said: Vec<Value> =
        heard.iter().map(|one| serde_json::from_slice(&one.body).expect("a message is JSON")).collect();
    assert_eq!(
        (&said[0]["type"], &said[0]["data"]["text"]),
        (&Value::from("agent.replied"), &Value::from("hello Ada"))
    );
    assert_eq!(said[0]["data"]["items"][0], accepted["item"]);
    assert_eq!(said[0]["data"]["actor"], "webhook:orders/ada");
    assert_eq!(
        (&said[1]["type"], &said[1]["data"]["status"]),
        (&Value::from("agent.failed"), &Value::from("failed"))
    );
    assert!(said[1]["data"]["failure"]["code"].is_string(), "{}", said[1]);

    let found = until_all(&home, "delivered", 2);
    assert_eq!(found[1]["id"], heard[0].id.as_str(), "the newest is listed first");
    let shown = home.run(&["delivery", "show", &heard[0].id, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("a document");
    assert_eq!((&shown["message"], &shown["receipts"][0]["status"]), (&said[0], &Value::from(200)));
    let (_, feed) = block_on(server.get("/v1/feed"));
    let numbers: Vec<_> =
        feed["items"].as_array().expect("items").iter().map(|item| &item["number"]).collect();
    assert_eq!(numbers, [&Value::from(1), &Value::from(2)]);
    assert_eq!(feed["items"][0]["delivery"], heard[0].id.as_str());
}

#[test]
fn a_kill_during_delivery_repeats_the_message_under_its_id() {
    let (home, receiver) = (Home::new(), Receiver::start(NEVER));
    with_channel(&home, &receiver.url, "");
    let server = serve(&home);
    assert_eq!(say(&server, "msg_1", "hello").0, 202);
    receiver.until(1);
    server.kill();
    receiver.answer(200);
    let server = serve(&home);
    until_all(&home, "delivered", 1);
    let heard = receiver.until(2);
    assert_eq!(
        (&heard[0].id, &heard[0].body),
        (&heard[1].id, &heard[1].body),
        "a repeat is the same message"
    );
    drop(server);
}

#[test]
fn a_kill_during_nonidempotent_delivery_is_unknown_and_not_repeated() {
    let (home, receiver) = (Home::new(), Receiver::start(NEVER));
    with_channel(&home, &receiver.url, ", idempotent: false");
    let server = serve(&home);
    assert_eq!(say(&server, "msg_1", "hello").0, 202);
    let id = receiver.until(1)[0].id.clone();
    server.kill();
    receiver.answer(200);
    let server = serve(&home);
    until_all(&home, "unknown_after_send", 1);
    // What comes after it is not held up.
    assert_eq!(say(&server, "msg_2", "hello again").0, 202);
    let heard = receiver.until(2);
    assert_ne!(heard[1].id, id, "it was sent twice");
    let refused = home.run(&["delivery", "redrive", &id, "--json"]);
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("delivery_uncertain") || stderr(&refused).contains("count a second one")
    );
    let accepted = home.run(&["delivery", "redrive", &id, "--accept-double", "--json"]);
    assert!(accepted.status.success(), "{}", stderr(&accepted));
    assert_eq!(receiver.until(3)[2].id, id, "a person said so");
    until_all(&home, "delivered", 2);
    drop(server);
}

#[test]
fn a_secret_is_neither_in_the_file_nor_shown() {
    let home = Home::new();
    with_channel(&home, "http://127.0.0.1:9/", "");
    let missing = home.run(&["config", "validate"]);
    assert_eq!(missing.status.code(), Some(0), "the server starts without the channel");
    assert!(stderr(&missing).contains("warning: ") && stderr(&missing).contains(VARIABLE), "{missing:?}");
    let shown = home.command().env(VARIABLE, SECRET).args(["config", "show"]).output().expect("runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains(&format!("env:{VARIABLE}")) && !text.contains("whsec_"), "{text}");
}
