//! Receivers that answer slowly, never, with garbage, with 410 and with redirects, all at once and through the whole
//! binary: each of their messages ends typed after exactly the declared attempts, and a healthy one is not held up.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::egress::hello;
use crate::home::{DEADLINE, Home, append, stderr};
use crate::webhook::{NEVER, Receiver, VARIABLE, deliveries, say_to, serve};

/// The attempts that every channel declares.
const ATTEMPTS: u64 = 3;

/// How long a receiver has that never answers in time.
const TIMEOUT_MS: u64 = 3_000;

/// How long a receiver has that answers at once: what a machine may stand still that does much else.
const PATIENT_MS: u64 = 30_000;

/// Answers each request with bytes, one after the other; returns where, and the count of requests.
fn raw(answer: Vec<u8>, pace: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (heard, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut request = vec![0; 65_536];
                let _read = stream.read(&mut request);
                let piece = if pace.is_zero() { answer.len().max(1) } else { 1 };
                for bytes in answer.chunks(piece) {
                    // Who waits no longer hears nothing of it.
                    if stream.write_all(bytes).is_err() {
                        return;
                    }
                    std::thread::sleep(pace);
                }
            });
        }
    });
    (url, heard)
}

/// How the message of a channel ended.
fn end(all: &[Value], channel: &str) -> (String, String, u64) {
    let target = format!("webhook:{channel}");
    let found = all.iter().find(|delivery| delivery["target"] == target.as_str());
    let found = found.unwrap_or_else(|| panic!("{channel} has no message: {all:?}"));
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"), found["attempts"].as_u64().expect("a number"))
}

#[test]
fn every_bad_receiver_ends_typed_after_exactly_the_declared_attempts() {
    let (witness, reached) = hello();
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{witness}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let endless = format!("HTTP/1.1 200 OK\r\nx-endless: {}", "x".repeat(200_000));
    let slow = Duration::from_millis(TIMEOUT_MS / 8);
    let raws = [
        ("garbage", raw(b"\x00\x01 hello, this is no HTTP\r\n\r\n".to_vec(), Duration::ZERO)),
        ("nothing", raw(Vec::new(), Duration::ZERO)),
        ("redirects", raw(redirect.into_bytes(), Duration::ZERO)),
        ("endless", raw(endless.into_bytes(), Duration::ZERO)),
        ("drips", raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), slow)),
    ];
    let (poison, gone, stuck, healthy) =
        (Receiver::start(500), Receiver::start(410), Receiver::start(NEVER), Receiver::start(200));
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut urls = vec![
        ("poison", poison.url.clone()),
        ("gone", gone.url.clone()),
        ("stuck", stuck.url.clone()),
        ("closed", format!("http://{closed}/")),
    ];
    urls.extend(raws.iter().map(|(name, (url, _))| (*name, url.clone())));
    urls.push(("healthy", healthy.url.clone()));
    let mut text = "channels:\n".to_owned();
    for (name, url) in &urls {
        let timeout = if matches!(*name, "stuck" | "drips") { TIMEOUT_MS } else { PATIENT_MS };
        writeln!(
            text,
            "  {name}: {{ kind: webhook, agent: assistant, url: '{url}', secret: 'env:{VARIABLE}', attempts_max: {ATTEMPTS}, timeout_ms: {timeout} }}"
        )
        .expect("a text takes it");
    }
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), &text);
    let server = serve(&home);
    for (name, _) in &urls {
        assert_eq!(say_to(&server, name, &format!("msg_{name}"), "hello").0, 202, "{name}");
    }
    let until_over = || {
        let until = Instant::now() + DEADLINE;
        loop {
            let found = deliveries(&home);
            let is_over = |delivery: &Value| delivery["state"] == "dead" || delivery["state"] == "delivered";
            if found.len() == urls.len() && found.iter().all(is_over) {
                return found;
            }
            assert!(Instant::now() < until, "they do not end: {found:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let all = until_over();
    for (name, _) in &urls {
        let expected = match *name {
            "healthy" => ("delivered", "", 1),
            "gone" => ("dead", "gone", 1),
            _ => ("dead", "attempts", ATTEMPTS),
        };
        let (state, reason, attempts) = end(&all, name);
        assert_eq!((state.as_str(), reason.as_str(), attempts), expected, "{name}");
    }
    // The receivers counted for themselves.
    let counted = [&poison, &gone, &stuck, &healthy].map(|receiver| receiver.heard().len());
    assert_eq!(counted, [3, 1, 3, 1]);
    for (name, (_, heard)) in &raws {
        assert_eq!(heard.load(Ordering::SeqCst), 3, "{name}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0, "a redirect was followed");

    // Mended and redriven, twice over: it arrives once more, under its id.
    poison.answer(200);
    let id = poison.heard()[0].id.clone();
    for _ in 0..2 {
        let redriven = home.run(&["delivery", "redrive", &id, "--json"]);
        assert!(redriven.status.success(), "{}", stderr(&redriven));
    }
    let (state, _, attempts) = end(&until_over(), "poison");
    assert_eq!((state.as_str(), attempts), ("delivered", ATTEMPTS + 1));
    assert!(poison.heard().iter().all(|one| one.id == id) && poison.heard().len() == 4);
    drop(server);
}
