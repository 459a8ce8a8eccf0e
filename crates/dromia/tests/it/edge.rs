//! The edge of the real binary: what it refuses to serve, and what it serves with TLS.

use std::path::Path;
use std::process::Command;

use dromia_testkit::tls::{AUTHORITY, CERTIFICATE, KEY, OTHER_KEY};

use crate::home::{DEADLINE, Home, append, block_on, stderr};
use crate::webhook::{self, Receiver};

/// A home whose server is encrypted.
fn encrypted(key: &str) -> Home {
    let home = Home::new();
    std::fs::write(home.path().join("cert.pem"), CERTIFICATE).expect("is written");
    std::fs::write(home.path().join("key.pem"), key).expect("is written");
    append(&home.path().join("dromia.yaml"), "http:\n  tls: { cert: cert.pem, key: key.pem }\n");
    home
}

/// A client that trusts the authority of the tests and nobody else.
fn client() -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(AUTHORITY.as_bytes()).expect("a certificate");
    reqwest::Client::builder().tls_certs_only([authority]).timeout(DEADLINE).build().expect("a client")
}

/// Starts from a directory that is not the home, so that relative paths show where they begin.
fn elsewhere(mut command: Command) -> Command {
    command.current_dir(Path::new("/"));
    command
}

#[test]
fn a_tls_server_answers_https_and_commands_need_no_certificate() {
    let home = encrypted(KEY);
    let server = home.serve_by(elsewhere(home.command()));
    let address = server.url.strip_prefix("https://").expect("it says that it is encrypted").to_owned();
    block_on(async {
        let port = address.rsplit(':').next().expect("a port");
        for url in [format!("https://{address}"), format!("https://localhost:{port}")] {
            let asked = client().get(format!("{url}/v1/whoami")).bearer_auth(&server.token);
            assert_eq!(asked.send().await.expect("it answers").status(), 200, "{url}");
        }
        let plain = client().get(format!("http://{address}/health")).send().await;
        assert!(plain.is_err(), "{plain:?}");
    });
    let status = home.run(&["status"]);
    assert!(status.status.success(), "{}", stderr(&status));
    let doctor = home.run(&["doctor", "--only", "tls", "--json"]);
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[test]
fn a_mismatched_tls_key_stops_startup_and_fails_the_doctor() {
    let home = encrypted(OTHER_KEY);
    let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("key.pem does not belong to the certificate in") && said.contains("doctor"),
        "{said}"
    );
    let doctor = home.run(&["doctor", "--only", "tls.files"]);
    assert_eq!(doctor.status.code(), Some(1));
}

#[test]
fn half_of_tls_is_named_with_its_place() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "http: { tls: { cert: cert.pem } }\n");
    let output = home.run(&["config", "validate"]);
    assert_ne!(output.status.code(), Some(0));
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("http.tls.cert: needs `http.tls.key` too"), "{said}");
}

#[test]
fn a_rate_of_the_configuration_holds_a_token_back() {
    let home = Home::new();
    let mut command = home.command();
    command.env("DROMIA_LIMITS_TOKEN_RATE_MAX", "1");
    let server = home.serve_by(command);
    block_on(async {
        // A hundred come at once, and one more each second.
        for _ in 0..10_000 {
            let (status, body) = server.get("/v1/whoami").await;
            if status == 429 {
                assert_eq!(body["code"], "rate_limited", "{body}");
                return;
            }
            assert_eq!(status, 200, "{body}");
        }
        panic!("ten thousand requests were let in at a rate of one per second");
    });
    let status = home.run(&["status"]);
    assert!(status.status.success(), "the socket is charged to no token: {}", stderr(&status));
}

#[test]
fn a_rate_limited_actor_delays_no_other_actor() {
    let (home, receiver) = (Home::new(), Receiver::start(200));
    webhook::with_channel(&home, &receiver.url, "");
    let mut command = home.command();
    command.env("DROMIA_LIMITS_ACTOR_INPUTS_PER_MINUTE_MAX", "1").env(webhook::VARIABLE, webhook::SECRET);
    let server = home.serve_by(command);
    let (status, accepted) = webhook::say(&server, "msg_1", "hello");
    assert_eq!(status, 202, "{accepted}");
    let mut more = (2..100).map(|number| webhook::say(&server, &format!("msg_{number}"), "hello"));
    let (status, refused) = more.find(|(status, _)| *status != 202).expect("one is refused");
    assert_eq!((status, refused["code"].as_str()), (429, Some("actor_rate_limited")), "{refused}");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("Retry-After")), "{refused}");
    // The first message is an input already; its sender may not have heard so.
    let (status, again) = webhook::say(&server, "msg_1", "hello");
    assert_eq!((status, &again["item"]), (202, &accepted["item"]), "{again}");
    let (status, other) = block_on(server.event(&serde_json::json!({"text": "hello", "actor": "bob"})));
    assert_eq!(status, 202, "{other}");
    for _ in 0..3 {
        let asked = home.run(&["ask", "hello"]);
        assert!(asked.status.success(), "the operator is not counted: {}", stderr(&asked));
    }
}
