//! Pictures by URL through the real binary: the guarded egress fetches them, and its refusals reach the client.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::tools::watched;
use super::{CHAT, MESSAGES, RESPONSES, give, post, text};
use crate::home::{Home, block_on};

/// The bytes of a picture, and the same in base64.
const PNG: (&[u8], &str) = (b"\x89PNG\r\n\x1a\n1234", "iVBORw0KGgoxMjM0");

/// A server with a picture, and with what is none; it counts what it is asked.
fn pages() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            let asked = String::from_utf8_lossy(&request[..read]).into_owned();
            let moved = |to: &str| format!("302 Found\r\nlocation: {to}\r\ncontent-length: 0");
            let (head, body) = match asked.split(' ').nth(1).unwrap_or_default() {
                "/a.png" => (format!("200 OK\r\ncontent-length: {}", PNG.0.len()), PNG.0),
                "/moved" => (moved("/a.png"), &b""[..]),
                "/inside" => (moved("http://169.254.169.254/latest/meta-data"), &b""[..]),
                "/mapped" => (moved("http://[::ffff:169.254.169.254]/"), &b""[..]),
                "/loop" => (moved("/loop"), &b""[..]),
                "/long" => ("200 OK\r\ncontent-length: 31457280".to_owned(), PNG.0),
                "/page" => ("200 OK\r\ncontent-length: 20".to_owned(), &b"<!doctype html><html"[..]),
                _ => ("404 Not Found\r\ncontent-length: 0".to_owned(), &b""[..]),
            };
            let answer = [format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes(), body].concat();
            let _written = stream.write_all(&answer);
        }
    });
    (port, heard)
}

/// A request of each API that shows a picture at a URL.
fn showing(path: &str, url: &str) -> Value {
    match path {
        CHAT => json!({"model": "assistant", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}]}]}),
        MESSAGES => json!({"model": "assistant", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": url}}]}]}),
        _ => json!({"model": "assistant", "input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": url}]}]}),
    }
}

#[test]
fn a_picture_at_a_url_is_fetched_under_the_agents_grants() {
    let home = Home::new();
    let (server, heard) = watched(&home, "egress: { private_tools: ['127.0.0.0/8'] }\n");
    let (port, asked) = pages();
    let at = |page: &str| format!("http://127.0.0.1:{port}/{page}");
    block_on(async {
        let refused = give(post(&server, CHAT, &showing(CHAT, &at("a.png")))).await;
        let command = format!("dromia agent set assistant grants+=net.read:127.0.0.1:{port}");
        assert!(refused.status == 400 && refused.body.contains(&command), "{}", refused.body);
        assert_eq!(asked.load(Ordering::SeqCst), 0, "without a grant nothing is sent");
    });
    // The command that the refusal names.
    let grants = [format!("grants+=net.read:127.0.0.1:{port}"), "grants+=net.read:*".to_owned()];
    let set = home.run(&["agent", "set", "assistant", &grants[0], &grants[1]]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    block_on(async {
        for path in [CHAT, MESSAGES, RESPONSES] {
            for page in ["a.png", "moved"] {
                let answer = give(post(&server, path, &showing(path, &at(page)))).await;
                assert_eq!(text(path, &answer.json()), "a picture", "{path} {page}");
                let last = heard.lock().expect("nobody panics while it holds this").last().cloned();
                let last = last.expect("the model was asked").to_string();
                assert!(last.contains(&format!("data:image/png;base64,{}", PNG.1)), "{path}: {last}");
            }
        }
        let own = format!("{}/health", server.url);
        for (url, says) in [
            (at("inside"), "clouds hand out credentials"),
            (at("mapped"), "clouds hand out credentials"),
            ("http://[::ffff:127.0.0.1]/a.png".to_owned(), "loopback address"),
            ("http://169.254.169.254/latest/meta-data".to_owned(), "clouds hand out credentials"),
            (own, "not granted to reach"),
            (at("loop"), "redirects more often"),
            (at("long"), "389120 bytes"),
            (at("page"), "no PNG, JPEG, GIF or WebP"),
            (at("gone"), "the host answered 404"),
            (at("a.png").replace("//", "//user:secret@"), "must not have a user name"),
            ("file:///etc/passwd".to_owned(), "begins with https://"),
        ] {
            let answer = give(post(&server, CHAT, &showing(CHAT, &url))).await;
            assert!(answer.status == 400 && answer.body.contains(says), "{url}: {}", answer.body);
            assert!(!answer.body.contains("user:secret"), "{}", answer.body);
        }
    });
}
