//! `http.request` through the real binary: an agent reaches what it is granted and what the operator opens, never its
//! own server, and its journal says what was judged.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::home::{Home, Server, append, block_on, count};

/// A server that says hello to everybody, until the test ends.
pub(crate) fn hello() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _read = stream.read(&mut request);
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
            let _written = stream.write_all(answer.as_bytes());
        }
    });
    (port, heard)
}

/// Makes an agent with grants beside those that it needs to answer.
pub(crate) fn create(home: &Home, name: &str, grants: &[String]) {
    let mut line = vec!["agent", "create", name, "--grant", "model", "--grant", "reply"];
    for grant in grants {
        line.extend(["--grant", grant.as_str()]);
    }
    let made = home.run(&line);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Lets an agent ask for addresses, one after the other, and returns the entries that ended its calls.
pub(crate) async fn ask(server: &Server, agent: &str, urls: &[String]) -> Vec<Value> {
    let line = |url: &String| format!("@tool http.request {}", json!({ "url": url }));
    let text: Vec<_> = urls.iter().map(line).collect();
    let event = json!({"text": text.join("\n"), "agent": agent, "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let ends = |entry: &Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
    let ended: Vec<_> = entries.into_iter().filter(ends).collect();
    assert_eq!(ended.len(), urls.len(), "each call has exactly one result");
    ended
}

#[test]
fn an_agent_reaches_granted_open_hosts_but_never_its_server() {
    let home = Home::new();
    // What the first answer says leads to the other calls, and the operator wants them all the same.
    let config = "egress: { private_tools: ['127.0.0.0/8', '::1'] }\n\
                  agents: { scout: { permissions: { allow: [http.request] } } }\n";
    append(&home.path().join("dromia.yaml"), config);
    let (port, heard) = hello();
    let server = home.serve();
    let own = server.url.rsplit(':').next().expect("a port").to_owned();
    let mut grants = vec!["http.request".to_owned(), format!("net:127.0.0.1:{port}")];
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        grants.push(format!("net:{host}:{own}"));
    }
    create(&home, "scout", &grants);
    let cases = [
        (format!("http://127.1:{port}/"), "ok", "[200; 5 bytes]"),
        (format!("http://127.0.0.1:{own}/health"), "error", "refused: it is an entry point of this server"),
        (format!("http://2130706433:{own}/health"), "error", "refused: it is an entry point of this server"),
        (
            format!("http://[::ffff:7f00:1]:{own}/health"),
            "error",
            "refused: it is an entry point of this server",
        ),
        (format!("http://localhost:{own}/health"), "error", "refused: it has a loopback address"),
        (format!("http://127.0.0.2:{port}/"), "denied", "this agent is not granted to reach that host"),
        ("file:///etc/passwd".to_owned(), "error", "a URL begins with https://"),
    ];
    let urls: Vec<_> = cases.iter().map(|(url, ..)| url.clone()).collect();
    let ended = block_on(ask(&server, "scout", &urls));
    for ((url, status, says), entry) in cases.iter().zip(&ended) {
        let text = entry["body"]["parts"][0]["text"].as_str().expect("a text");
        assert_eq!(entry["fields"]["status"], *status, "{url}: {text}");
        assert!(text.contains(says), "{url}: {text}");
    }
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    let decisions: Vec<_> = ended.iter().map(|entry| entry["fields"]["egress"][0].clone()).collect();
    assert_eq!(
        decisions[0],
        json!({
            "method": "GET",
            "to": format!("http://127.0.0.1:{port}"),
            "address": "127.0.0.1",
            "allowed": true,
            "rule": format!("grant net:127.0.0.1:{port}"),
        })
    );
    for decision in &decisions[1..4] {
        assert_eq!(
            (&decision["allowed"], &decision["rule"]),
            (&json!(false), &json!("own door")),
            "{decision}"
        );
    }
    assert_eq!(decisions[4]["rule"], "loopback address");
    assert_eq!(decisions[5], Value::Null, "the gate refused it before it began");
    assert_eq!(ended[0]["body"]["parts"][1]["label"], "untrusted/agent");
}

#[test]
fn nothing_inside_is_reached_where_the_operator_opens_nothing() {
    let home = Home::new();
    let (port, heard) = hello();
    let server = home.serve();
    create(&home, "scout", &["http.request".to_owned(), format!("net:127.0.0.1:{port}")]);
    let urls = [format!("http://127.0.0.1:{port}/")];
    let ended = block_on(ask(&server, "scout", &urls));
    assert_eq!(ended[0]["fields"]["egress"][0]["rule"], "loopback address");
    let refused = block_on(ask(&server, "assistant", &urls));
    assert_eq!(refused[0]["fields"]["status"], "denied", "the agent of a new home has no way out");
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}
