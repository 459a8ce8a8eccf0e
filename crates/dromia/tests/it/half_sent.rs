//! Bodies that are begun and not sent to their end take no more than a share, through the real binary over real sockets: other
//! tenants and other tokens are answered meanwhile, and what was taken in is answered once it is whole.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::home::{DEADLINE, Home, append, block_on};
use crate::starved::Party;

/// How long each body is, and what of it is sent.
const WHOLE: usize = 1_000_000;
const SENT: usize = 800_000;
/// The bytes that one token may have open.
const TOKEN_BYTES: usize = 64 << 20;
/// As many as fit into the share of a token, and some more.
const FIT: usize = TOKEN_BYTES / SENT;
const MORE: usize = 8;

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It was answered with this status before it was whole, or cut off.
    Early(Option<u16>),
    /// It was answered with this status once it was whole.
    Whole(Option<u16>),
}

/// Sends a part of a body on a connection of its own, and the rest once it is told to.
async fn send_in_parts(url: String, token: String, go_on: Arc<Notify>) -> Ended {
    let address = url.trim_start_matches("http://");
    let (begin, end) = (r#"{"agent":"nobody","text":""#, r#""}"#);
    let event = format!("{begin}{}{end}", "x".repeat(WHOLE - begin.len() - end.len()));
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {WHOLE}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await.expect("the server accepts");
    for part in [head.as_bytes(), &event.as_bytes()[..SENT]] {
        if stream.write_all(part).await.is_err() {
            return Ended::Early(status(&mut stream).await);
        }
    }
    tokio::select! {
        early = status(&mut stream) => return Ended::Early(early),
        () = go_on.notified() => {}
    }
    // What it says of a body that it refuses just now comes all the same.
    let _written = stream.write_all(&event.as_bytes()[SENT..]).await;
    Ended::Whole(status(&mut stream).await)
}

/// Reads the status of an answer; nothing where the connection ends without one.
async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

#[test]
fn half_sent_bodies_stay_within_the_share_of_their_token() {
    let home = Home::new();
    // None of them is given up for its time.
    append(&home.path().join("dromia.yaml"), "limits: { body_ms: 600000 }\n");
    let server = home.serve();
    block_on(async {
        let flood = Party::new(&home, &server, "flood", &[]).await;
        let quiet = Party::new(&home, &server, "quiet", &[]).await;
        let new = json!({"name": "other", "scopes": ["read", "invoke"]});
        let (status, other) = flood.post(&server, "/v1/tokens", &new).await;
        assert_eq!(status, 201, "{other}");
        let other = Party { token: other["token"].as_str().expect("a token").to_owned(), ..flood.clone() };
        let (go_on, (ended, mut ends)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
        let mut bodies = JoinSet::new();
        for _ in 0..FIT + MORE {
            let body = send_in_parts(server.url.clone(), flood.token.clone(), Arc::clone(&go_on));
            let ended = ended.clone();
            bodies.spawn(async move { drop(ended.send(body.await)) });
        }
        // What does not fit is refused, and so is what came while all of the share was taken by parts of others.
        for number in 0..MORE {
            let end = timeout(DEADLINE, ends.recv()).await;
            let end =
                end.unwrap_or_else(|_| panic!("{number} of {MORE} are refused, and the others are held"));
            assert!(matches!(end, Some(Ended::Early(Some(429) | None))), "{end:?}");
        }
        for party in [&quiet, &other] {
            party.asks(&server, "hello").await;
        }
        // One that was taken in is read to its end: it is refused for its length by then.
        go_on.notify_one();
        loop {
            let end = timeout(DEADLINE, ends.recv()).await.expect("one is answered").expect("it has an end");
            match end {
                Ended::Early(status) => assert!(matches!(status, Some(429) | None), "{status:?}"),
                Ended::Whole(status) => {
                    assert!(status.is_some_and(|status| status != 429 && status < 500), "{status:?}");
                    break;
                }
            }
        }
        bodies.abort_all();
    });
}
