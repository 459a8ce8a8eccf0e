//! Keys whose edit a running server must follow although something that is open depends on them: connections, slots,
//! channels and sandboxes. What else is live is seen by `effects.rs`, on a server whose file was edited.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::egress::{ask, create};
use crate::home::{Home, Server, append, block_on, stderr};
use crate::model::{Model, Say};
use crate::programs;
use crate::reloads::{read, standing, until, write};
use crate::webhook::{Receiver, SECRET, VARIABLE, say_signed};

/// A file without any of the keys that these tests edit.
const BASE: &str = "version: 1\nmodels:\n  default: { kind: scripted }\n";

/// Another secret of a channel, and the variable that holds it.
const OTHER: (&str, &str) = ("OTHER_SECRET", "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVy");

/// Changes the file under a server, and waits until the change counts.
fn edit(home: &Home, server: &Server, text: &str) {
    block_on(async {
        let before = standing(server).await["revision"].as_u64().expect("a number");
        write(home, text);
        let found = until(server, |found| found["revision"] == before + 1).await;
        assert_eq!(found["pending"], Value::Null, "{found}");
    });
}

/// Serves a page on connections that stay open.
fn patient_page() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_private_network_opens_and_closes_without_a_restart() {
    let home = Home::new();
    let closed = format!("{BASE}agents: {{ scout: {{ permissions: {{ allow: [http.request] }} }} }}\n");
    let opened = format!("{closed}egress: {{ private_tools: [localhost] }}\n");
    write(&home, &closed);
    let server = home.serve();
    let url = format!("http://localhost:{}/", patient_page());
    create(&home, "scout", &["http.request".to_owned(), url.replace("http://", "net:").replace('/', "")]);
    let reached = || {
        let ended = block_on(ask(&server, "scout", std::slice::from_ref(&url)));
        ended[0]["fields"]["status"] == "ok"
    };
    assert!(!reached(), "it is not public");
    edit(&home, &server, &opened);
    assert!(reached());
    edit(&home, &server, &format!("{closed}egress: {{ private_tools: [localhost], https_only: true }}\n"));
    assert!(!reached(), "it is not encrypted");
    edit(&home, &server, &opened);
    assert!(reached());
    // A connection is open that could be used again.
    edit(&home, &server, &closed);
    assert!(!reached(), "it is closed again");
}

#[test]
fn a_channel_comes_changes_and_goes_without_a_restart() {
    let (home, first, second) = (Home::new(), Receiver::start(200), Receiver::start(200));
    write(&home, BASE);
    let mut command = home.command();
    command.env(VARIABLE, SECRET).env(OTHER.0, OTHER.1);
    let server = home.serve_by(command);
    let channel = |receiver: &Receiver, variable: &str| {
        format!(
            "{BASE}channels:\n  orders: {{ kind: webhook, agent: assistant, url: '{}', secret: 'env:{variable}' }}\n",
            receiver.url
        )
    };
    let say = |secret: &str, id: &str| say_signed(&server, ("orders", secret), id, "@say hello").0;
    assert_eq!(say(SECRET, "msg_1"), 401, "there is no channel");
    edit(&home, &server, &channel(&first, VARIABLE));
    assert_eq!(say(SECRET, "msg_1"), 202);
    assert!(first.until(1)[0].is_signed_with(SECRET));
    edit(&home, &server, &channel(&second, OTHER.0));
    assert_eq!((say(SECRET, "msg_2"), say(OTHER.1, "msg_3")), (401, 202), "the secret is another one");
    assert!(second.until(1)[0].is_signed_with(OTHER.1));
    assert_eq!(first.heard().len(), 1);
    edit(&home, &server, BASE);
    assert_eq!(say(OTHER.1, "msg_4"), 401, "the channel is gone");
}

#[test]
fn a_tenant_becomes_hostile_without_a_restart() {
    let home = programs::home();
    let server = home.serve();
    let text = read(&home);
    let run = || block_on(programs::told(&server, "exec", json!({"argv": ["/usr/bin/printf", "x"]})));
    let before = run();
    assert!(!before.contains("gvisor") && !before.contains("hostile"), "{before}");
    edit(&home, &server, &format!("{text}\ntenants:\n  default: {{ trust: hostile }}\n"));
    let after = run();
    assert!(after.contains("gvisor") || after.contains("hostile"), "{after}");
    edit(&home, &server, &text);
    assert!(!run().contains("gvisor"), "it is trusted again");
}

#[test]
fn other_bounds_of_requests_and_of_a_stop_count_without_a_restart() {
    let home = Home::new();
    let (is_asked, is_released) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asked, released) = (Arc::clone(&is_asked), Arc::clone(&is_released));
    let model = Model::start(move |_, _| {
        asked.store(true, Ordering::SeqCst);
        while !released.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Say::Text("done".to_owned())
    });
    let base = format!("{BASE}{}", model.alias("held"));
    write(&home, &format!("{base}limits: {{ drain_ms: 30000 }}\n"));
    let server = home.serve();
    let made =
        home.run(&["agent", "create", "held", "--model", "held", "--grant", "model", "--grant", "reply"]);
    assert!(made.status.success(), "{}", stderr(&made));
    block_on(async {
        let event = json!({"text": "hello", "agent": "held", "wait": true, "wait_ms": 60_000});
        let waiting = server.event(&event);
        let watched = async {
            while !is_asked.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // A connection that is closed at once is refused as well.
            let is_let_in = async || {
                let client = reqwest::Client::new().get(format!("{}/v1/whoami", server.url));
                client.bearer_auth(&server.token).send().await.is_ok_and(|answer| answer.status() == 200)
            };
            assert!(is_let_in().await, "there is room beside the one that waits");
            write(&home, &format!("{base}limits: {{ requests_max: 1, drain_ms: 300 }}\n"));
            let began = Instant::now();
            while is_let_in().await {
                assert!(began.elapsed() < Duration::from_secs(5), "the bound does not count");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            write(&home, &format!("{base}limits: {{ requests_max: 9, drain_ms: 300 }}\n"));
            while !is_let_in().await {
                assert!(began.elapsed() < Duration::from_secs(10), "the bound does not rise again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            is_released.store(true, Ordering::SeqCst);
        };
        let ((status, answer), ()) = tokio::join!(waiting, watched);
        assert_eq!(status, 200, "what was let in goes on: {answer}");
        is_released.store(false, Ordering::SeqCst);
        let (status, _) = server.event(&json!({"text": "again", "agent": "held"})).await;
        assert_eq!(status, 202);
    });
    let took = server.terminate();
    assert!(took < Duration::from_secs(10), "it stops after {took:?}, as the file said at the start");
}

#[test]
fn an_edited_pace_slows_calls_without_a_restart() {
    let home = Home::new();
    let server = home.serve();
    let call = || {
        let began = Instant::now();
        let event = json!({"text": "@tool time.now {}", "wait": true, "wait_ms": 60_000});
        assert_eq!(block_on(server.event(&event)).0, 200);
        began.elapsed()
    };
    call();
    edit(&home, &server, &(read(&home) + "tools: { pace_ms: 3000 }\n"));
    assert!(call() >= Duration::from_secs(3));
    edit(&home, &server, &read(&home).replace("3000", "0"));
    assert!(call() < Duration::from_secs(3));
}

#[test]
fn an_edited_key_of_the_start_is_named_as_pending() {
    let home = Home::new();
    let server = home.serve();
    append(&home.path().join("dromia.yaml"), "sandbox: { minimum: base }\nhttp: { hosts: [a.example] }\n");
    let found = block_on(until(&server, |found| found["revision"] == 2));
    assert_eq!(found["pending"], json!(["sandbox.minimum"]));
}
