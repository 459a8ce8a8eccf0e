//! Tools of the operator's own through the real binary: an agent calls a server that it is not granted to reach, with a
//! secret that it never sees, and a policy judges by what the manifest says.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, append, block_on, count, stderr};
use crate::vault::piped;

const CANARY: &str = "bank_CanaryOfTheTool_4711";

/// A server of tools: it counts what it is told, and answers by the path.
pub(crate) fn bank() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            while !is_whole(&request) {
                let mut piece = [0; 4096];
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let told = String::from_utf8_lossy(&request).into_owned();
            let (head, body) = match told.split(' ').nth(1).unwrap_or_default() {
                "/pay" => ("200 OK\r\n", "paid"),
                "/orders" => (
                    "200 OK\r\n",
                    r#"[{"id":7,"subject":"Rent"},{"id":9,"subject":"Car"},{"id":12,"subject":"Gym"}]"#,
                ),
                "/moved" => ("302 Found\r\nlocation: /pay\r\n", ""),
                "/slow" => {
                    all.lock().expect("nobody panics with it").push(told);
                    // It answers after the tool's own patience, and before the test's.
                    std::thread::sleep(Duration::from_secs(2));
                    continue;
                }
                _ => ("404 Not Found\r\n", "no"),
            };
            all.lock().expect("nobody panics with it").push(told);
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {head}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            let _written = stream.write_all(answer.as_bytes());
        }
    });
    (port, heard)
}

/// Tells whether a request is there with the body that its head speaks of.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// Lets an agent call a tool, and returns the entry that ended the call.
async fn ended(server: &Server, agent: &str, tool: &str, arguments: Value) -> Value {
    let event = json!({"text": format!("@tool {tool} {arguments}"), "agent": agent, "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    assert!(!serde_json::to_string(&entries).expect("JSON").contains(CANARY));
    let ends = |entry: &Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
    entries.into_iter().find(ends).expect("the call has a result")
}

fn told(entry: &Value) -> String {
    let parts = entry["body"]["parts"].as_array().expect("parts");
    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

fn file(port: u16) -> String {
    let tool = |word: &str, keys: &str| {
        format!("    bank.{word}: {{ description: Pays., url: 'http://127.0.0.1:{port}/{word}', {keys} }}\n")
    };
    let pays = "effect: keyed, secret: bank, roles: { to: destination }, \
                arguments: { properties: { to: { type: string }, amount: { type: number } }, required: [to] }";
    let slow = "timeout_ms: 200";
    format!(
        "tools:\n  external:\n{}{}{}",
        tool("pay", pays),
        tool("slow", slow),
        tool("moved", "effect: pure")
    )
}

#[test]
fn an_agent_never_sees_the_secret_of_an_external_tool() {
    let (home, (port, heard)) = (Home::new(), bank());
    append(&home.path().join("dromia.yaml"), &file(port));
    let server = home.serve();
    let host = format!("http://127.0.0.1:{port}");
    let set = ["secret", "set", "bank", "--stdin", "--host", &host, "--placement", "bearer"];
    let set = piped(&home, &set, CANARY);
    assert!(set.status.success(), "{}", stderr(&set));
    create(&home, "clerk", &["bank.*".to_owned()]);
    create(&home, "guest", &["file.read".to_owned()]);
    block_on(async {
        let paid = ended(&server, "clerk", "bank.pay", json!({"to": "eve", "amount": 1})).await;
        assert_eq!(
            (paid["fields"]["status"].as_str(), told(&paid).as_str()),
            (Some("ok"), "[200; 4 bytes]\npaid")
        );
        assert_eq!(paid["body"]["parts"][1]["label"], "untrusted/agent");
        assert_eq!(paid["fields"]["egress"][0]["rule"], "named by the configuration and secret:bank");
        {
            let heard = heard.lock().expect("nobody panics with it");
            let [only] = heard.as_slice() else { panic!("one request: {heard:?}") };
            assert!(only.starts_with("POST /pay HTTP/1.1\r\n"), "{only}");
            assert!(only.contains(&format!("authorization: Bearer {CANARY}\r\n")), "{only}");
            assert!(
                only.contains("idempotency-key: ") && only.ends_with(r#"{"amount":1,"to":"eve"}"#),
                "{only}"
            );
        }
        let unfit = ended(&server, "clerk", "bank.pay", json!({"to": "eve", "cc": "x"})).await;
        assert!(told(&unfit).contains("'cc' was unexpected"), "{unfit}");
        let refused = ended(&server, "guest", "bank.pay", json!({"to": "eve"})).await;
        assert_eq!(refused["fields"]["status"], "denied", "{refused}");
        let moved = ended(&server, "clerk", "bank.moved", json!({})).await;
        assert_eq!(moved["fields"]["status"], "error", "{moved}");
        assert!(told(&moved).contains("do not follow redirects"), "{moved}");
        assert_eq!(heard.lock().expect("nobody panics with it").len(), 2, "the refused ones were not sent");
        let slow = ended(&server, "clerk", "bank.slow", json!({})).await;
        assert!(told(&slow).starts_with("failed: it did not"), "{slow}");
        assert!(told(&slow).contains("check before you try again"), "{slow}");
    });
    let shown = home.run(&["tool", "show", "bank.pay", "--agent", "clerk", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("a document");
    assert_eq!((&shown["roles"]["to"], &shown["granted"]["allowed"]), (&json!("destination"), &json!(true)));
    let called = home.run(&["tool", "call", "bank.pay", "--agent", "clerk", "-d", r#"{"to":"bob"}"#]);
    assert!(called.status.success(), "{}", stderr(&called));
    assert!(String::from_utf8_lossy(&called.stdout).contains("paid"));
    let tested = home.run(&["tool", "test", "bank.pay", "--json"]);
    assert!(tested.status.success(), "{}", stderr(&tested));
    let last = heard.lock().expect("nobody panics with it").last().cloned().expect("it was asked");
    assert!(last.starts_with("GET /pay ") && !last.contains(CANARY), "a test calls nothing: {last}");
    drop(server);
}

#[test]
fn a_policy_judges_a_call_by_manifest_and_context() {
    let (home, (port, heard)) = (Home::new(), bank());
    let file = file(port).replace(", secret: bank", "");
    append(&home.path().join("dromia.yaml"), &file);
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("a folder");
    let rule = r#"package dromia.policy

import rego.v1

verdicts contains {"verdict": "deny", "rule": "tainted-pay", "reason": "somebody else may have said to whom"} if {
	input.context.integrity == "untrusted"
	input.action.sink == "outside"
	"destination" in {role | some role in input.action.roles}
}
"#;
    std::fs::write(policies.join("pay.rego"), rule).expect("a policy");
    let server = home.serve();
    create(&home, "clerk", &["bank.*".to_owned()]);
    let pay = |to: &str| format!("@tool bank.pay {}", json!({ "to": to }));
    // The first answer is somebody else's text; what follows it is judged as led by that.
    let event = json!({"text": format!("{}\n{}", pay("bob"), pay("eve")), "agent": "clerk", "wait": true});
    let entries = block_on(async {
        let (_, answer) = server.event(&event).await;
        let session = answer["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await
    });
    assert_eq!((count(&entries, "tool_finished"), count(&entries, "tool_refused")), (1, 1));
    let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("one is refused");
    assert_eq!(refused["fields"]["rule"], "policy tainted-pay", "{refused}");
    assert_eq!(heard.lock().expect("nobody panics with it").len(), 1);
    drop(server);
}
