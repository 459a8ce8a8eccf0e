//! Clients that hang up as soon as they have said something, over real sockets: whatever of it was stored is answered, and
//! nothing stands in the way of what is said next.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, block_on};

/// Clients at a time, and how many come one after another.
const CLIENTS: usize = 4;
const EACH: usize = 50;
/// How often in a row everything must be settled: what a client left behind may come to its session a moment later.
const LOOKS: u32 = 20;

/// Sends a whole request, the input of a place of its own, and closes the connection a moment later.
fn say_and_hang_up(server: &Server, channel: &str, patience: Duration) {
    let body = json!({"text": "hello", "platform": "test", "channel": channel}).to_string();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        server.token,
        body.len(),
    );
    let address = server.url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(request.as_bytes()).expect("the server reads");
    // A connection that is closed before the server looks at it has said nothing; each of these is closed a little later.
    std::thread::sleep(patience);
}

async fn sessions(server: &Server) -> Vec<Value> {
    let (code, page) = server.get("/v1/sessions?limit=256").await;
    assert_eq!(code, 200, "{page}");
    page["items"].as_array().cloned().expect("a page")
}

/// Waits until nothing is under way and nothing waits, look after look; returns the sessions.
async fn settled(server: &Server) -> Vec<Value> {
    let end = Instant::now() + DEADLINE;
    let mut looks = 0;
    loop {
        let found = sessions(server).await;
        let is_open = |session: &&Value| session["waiting"] != 0 || !session["active"].is_null();
        let open = found.iter().find(is_open);
        looks = if open.is_none() && !found.is_empty() { looks + 1 } else { 0 };
        if looks == LOOKS {
            return found;
        }
        assert!(Instant::now() < end, "{open:?} does not go on, of {} sessions", found.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn an_input_sent_before_a_hang_up_is_answered() {
    let home = Home::new();
    let server = home.serve();
    // The server knows the token from here on: whoever hangs up while it is looked up has said nothing yet.
    assert_eq!(block_on(sessions(&server)), Vec::<Value>::new());
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let server = &server;
            threads.spawn(move || {
                for n in 0..EACH {
                    let patience = Duration::from_micros(200) * u32::try_from(n).expect("a small number");
                    say_and_hang_up(server, &format!("c{client}n{n}"), patience);
                }
            });
        }
    });
    block_on(async {
        let found = settled(&server).await;
        // Whoever comes back finds his session free.
        for session in found.iter().take(5) {
            let body = json!({"text": "still there?", "session": session["id"], "wait": true});
            let (code, answered) = server.event(&body).await;
            assert_eq!((code, &answered["status"]), (200, &json!("completed")), "{answered}");
        }
    });
}
