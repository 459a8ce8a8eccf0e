//! Bytes from elsewhere through the real binary: the corpus of `fuzz/` and what is near it, in request bodies, session
//! files, idempotency keys, the configuration and `--set`. Each is taken or refused in so many words, soon, and the
//! server goes on.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use dromia_testkit::fuzz::{TIME_MAX, mutated, read_corpus};
use serde_json::Value;

use crate::home::{Home, Server, block_on, stderr};

/// How many changed forms of each file are sent.
const MUTATIONS: u64 = 4;

/// Every file of a corpus, and some changed forms of each, by name.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let seeds = read_corpus(target);
    assert!(seeds.len() >= 20, "{target} has {} files", seeds.len());
    let near = |(name, seed): &(String, Vec<u8>)| -> Vec<(String, Vec<u8>)> {
        let changed = (0..MUTATIONS).map(|number| (format!("{name}~{number}"), mutated(seed, number)));
        std::iter::once((name.clone(), seed.clone())).chain(changed).collect()
    };
    seeds.iter().flat_map(near).collect()
}

/// Sends bytes; returns the status and what came.
async fn send(
    client: &reqwest::Client,
    server: &Server,
    path: &str,
    body: Vec<u8>,
    key: Option<&[u8]>,
) -> (u16, Vec<u8>) {
    let request = client.post(format!("{}{path}", server.url)).bearer_auth(&server.token);
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    let response = request.timeout(TIME_MAX).body(body).send().await.expect("the server answers in time");
    let status = response.status().as_u16();
    (status, response.bytes().await.expect("the answer comes whole").to_vec())
}

/// Checks that an answer is a success or a refusal with a code and a text, and tells which.
#[track_caller]
fn answered(what: &str, status: u16, body: &[u8]) -> bool {
    if (200..300).contains(&status) {
        return true;
    }
    let text = String::from_utf8_lossy(body);
    assert!((400..500).contains(&status), "{what}: {status} {text}");
    let problem: Value =
        serde_json::from_slice(body).unwrap_or_else(|error| panic!("{what}: {error} in {text:?}"));
    let (code, said) = match problem.get("error") {
        // The two other APIs name the code each in its place.
        Some(error) => (error.get("code").or(error.get("type")), error.get("message")),
        None => (problem.get("code"), problem.get("detail")),
    };
    let is_text = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    assert!(is_text(code) && is_text(said), "{what}: {problem}");
    false
}

#[test]
fn every_foreign_body_gets_an_answer_or_a_reason() {
    let home = Home::new();
    let server = home.serve();
    let targets = [
        ("chat_request", "/v1/chat/completions"),
        ("messages_request", "/v1/messages"),
        ("responses_request", "/v1/responses"),
        ("event_request", "/v1/events"),
        ("session_file", "/v1/sessions/import?agent=assistant"),
    ];
    block_on(async {
        let client = reqwest::Client::new();
        for (target, path) in targets {
            let mut taken = Vec::new();
            for (name, bytes) in inputs(target) {
                let (status, body) = send(&client, &server, path, bytes, None).await;
                if answered(&format!("{target}/{name}"), status, &body) {
                    taken.push(name);
                }
            }
            assert!(!taken.is_empty(), "{target}: nothing was taken, so nothing was tried");
        }
        assert_eq!(server.get("/health").await.0, 200, "the server goes on");
    });
}

#[test]
fn a_refused_idempotency_key_stores_nothing() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let client = reqwest::Client::new();
        for (name, key) in inputs("idempotency_key") {
            // What no client can put into a header does not come.
            if reqwest::header::HeaderValue::from_bytes(&key).is_err() {
                continue;
            }
            let event = b"{\"text\": \"hi\"}".to_vec();
            let (status, body) = send(&client, &server, "/v1/events", event.clone(), Some(&key)).await;
            if !answered(&name, status, &body) {
                continue;
            }
            let first: Value = serde_json::from_slice(&body).expect("an answer");
            let (_, body) = send(&client, &server, "/v1/events", event, Some(&key)).await;
            let again: Value = serde_json::from_slice(&body).expect("an answer");
            assert_eq!(again["item"], first["item"], "{name}: the same key is the same event");
        }
    });
}

#[test]
fn an_inconsistent_session_file_is_refused_with_the_reason() {
    let home = Home::new();
    let server = home.serve();
    let bytes = |name: &str| -> Vec<u8> {
        let found = read_corpus("session_file").into_iter().find(|(file, _)| file == name);
        found.expect("it is in the corpus").1
    };
    block_on(async {
        let client = reqwest::Client::new();
        for (name, reason) in [
            ("item-without-run", "which the file does not contain"),
            ("bad-hex", "is not hex"),
            ("odd-hex", "is not hex"),
            ("newer", "version 2"),
            ("unknown-entry", "entry 1"),
        ] {
            let (status, body) =
                send(&client, &server, "/v1/sessions/import?agent=assistant", bytes(name), None).await;
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(status == 400 && text.contains(reason), "{name}: {status} {text}");
        }
        let (_, sessions) = server.get("/v1/sessions").await;
        assert_eq!(sessions["items"], serde_json::json!([]), "what is refused leaves no session");
    });
}

#[test]
fn a_configuration_is_taken_or_refused_with_line_and_column() {
    let home = Home::new();
    let path = home.path().join("dromia.yaml");
    for (name, text) in read_corpus("config") {
        std::fs::write(&path, &text).expect("it is written");
        let began = Instant::now();
        let output = home.run(&["config", "validate"]);
        assert!(began.elapsed() < TIME_MAX, "{name} took {:?}", began.elapsed());
        let said = stderr(&output);
        match output.status.code() {
            Some(0) => {}
            Some(2) => {
                let place = said.split_once("dromia.yaml:").map(|(_, rest)| rest).unwrap_or_default();
                let mut parts = place.split(':');
                let numbers =
                    [parts.next(), parts.next()].map(|part| part.and_then(|part| part.parse::<u32>().ok()));
                assert!(matches!(numbers, [Some(1..), Some(1..)]), "{name} names no place: {said}");
            }
            code => panic!("{name}: {code:?} {said}"),
        }
    }
}

#[test]
fn a_set_value_is_taken_or_refused_with_its_flag() {
    let home = Home::new();
    for (name, value) in read_corpus("set") {
        let mut command = home.command();
        command.args(["config", "validate", "--set"]).arg(std::ffi::OsStr::from_bytes(&value));
        let output = command.output().expect("the program runs");
        let said = stderr(&output);
        match output.status.code() {
            Some(0) => {}
            Some(2) => assert!(said.contains("--set"), "{name}: {said}"),
            code => panic!("{name}: {code:?} {said}"),
        }
    }
}
