//! `http.request`: what goes to the line, what a model is told, and what a crash means for each method.

use bytes::Bytes;
use dromia_contracts::content::ToolCall;
use dromia_contracts::egress::{
    EgressDecision, EgressError, EgressFault, HttpMethod, OversizedPart, TimeoutPhase,
};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{DiscardProgress, EffectClass, ToolContext, ToolHost as _};
use dromia_contracts::vault::SecretSlot;
use serde_json::json;

use crate::programs::handle;
use crate::support::{Bench, CALL, TENANT, context};

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn pieces(texts: &[&'static str]) -> Vec<Result<Bytes, EgressFault>> {
    texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect()
}

#[test]
fn the_method_decides_the_effect_class_of_a_request() {
    let bench = Bench::new();
    for (method, effect) in [
        ("GET", EffectClass::Pure),
        ("HEAD", EffectClass::Pure),
        ("PUT", EffectClass::Idempotent),
        ("DELETE", EffectClass::Idempotent),
        ("POST", EffectClass::Unkeyed),
        ("PATCH", EffectClass::Unkeyed),
    ] {
        let call =
            bench.prepare("http.request", &json!({"method": method, "url": "HTTP://H:80/#f"}).to_string());
        assert_eq!(call.effect, effect, "{method}");
        let reaches = call.reaches.expect("it reaches out");
        assert_eq!((reaches.method.as_str(), reaches.url.as_str()), (method, "http://h/"));
    }
    assert_eq!(bench.prepare("time.now", "").reaches, None);
}

#[test]
fn contradictory_request_arguments_are_refused() {
    let bench = Bench::new();
    for (arguments, problem) in [
        (json!({"url": "http://h", "body": "x"}), "body: GET takes no body"),
        (json!({"url": "http://h", "method": "CONNECT"}), "method: CONNECT is not supported"),
        (json!({"url": "http://h", "method": "HEAD", "body": "x"}), "body: HEAD takes no body"),
        (
            json!({"url": "http://h", "method": "POST", "offset": 1}),
            "offset: POST cannot be repeated to read on",
        ),
    ] {
        let call = ToolCall { id: CALL, tool: "http.request".into(), arguments: arguments.to_string() };
        let error = bench
            .toolbox
            .prepare_call(&bench.toolbox.shared_catalogue(), &call)
            .expect_err(problem)
            .to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn the_client_gets_exactly_the_call_and_its_grants() {
    let bench = Bench::new();
    bench.line.answers(Ok((
        201,
        headers(&[("content-type", "text/plain"), ("x-other", "y")]),
        pieces(&["made"]),
    )));
    let arguments =
        json!({"method": "POST", "url": "https://example.com/a", "headers": {"X-Key": "k"}, "body": "text"});
    let output = bench.call("http.request", &arguments.to_string()).await;
    let sent = bench.line.sent();
    let [sent] = sent.as_slice() else { panic!("one request is sent") };
    assert_eq!((sent.method, sent.url.as_str()), (HttpMethod::Post, "https://example.com/a"));
    assert_eq!(sent.headers, headers(&[("x-key", "k")]));
    assert_eq!(sent.body, "text");
    assert_eq!(sent.grants, ["http.request", "net:example.com"]);
    assert_eq!(sent.share, TENANT.to_string());
    assert!(!output.failed);
    let told: Vec<_> =
        output.parts.iter().map(|part| (part.as_text().to_owned(), part.label().to_string())).collect();
    assert_eq!(
        told,
        [
            ("[201; 4 bytes]".to_owned(), "trusted/agent".to_owned()),
            ("content-type: text/plain\n\nmade".to_owned(), "untrusted/agent".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_long_http_answer_is_continued_by_offset() {
    let body = "zero äöü one two";
    let mut whole = String::new();
    let mut offset = 0;
    loop {
        let bench = Bench::new();
        bench.line.answers(Ok((200, Vec::new(), pieces(&[&body[..4], &body[4..9], &body[9..]]))));
        let arguments = json!({"url": "https://example.com/", "limit": 5, "offset": offset});
        let output = bench.call("http.request", &arguments.to_string()).await;
        whole.push_str(output.parts.last().expect("parts").as_text().trim_start_matches('\n'));
        let fact = output.parts[0].as_text();
        let Some((_, next)) = fact.rsplit_once("offset ") else { break };
        let next: u64 = next.trim_end_matches(']').parse().expect("a number");
        assert!(next > offset, "{fact}");
        offset = next;
    }
    assert_eq!(whole, body);
}

#[tokio::test]
async fn a_secret_reaches_the_client_by_name_only() {
    let bench = Bench::hiding("canary-1");
    let arguments = json!({
        "url": "https://example.com/a",
        "headers": {"X-Key": {"secret": "mail"}, "accept": "text/plain"},
        "query": {"k": {"secret": "other"}},
    });
    let call = bench.prepare("http.request", &arguments.to_string());
    assert_eq!(call.reaches.expect("it reaches out").secrets, ["mail", "other"]);
    bench.line.answers(Ok((
        200,
        headers(&[("location", "/canary-1")]),
        pieces(&["it is can", "ary-1, is it"]),
    )));
    let output = bench.call("http.request", &arguments.to_string()).await;
    let sent = bench.line.sent();
    assert_eq!(sent[0].headers, headers(&[("accept", "text/plain")]));
    let used: Vec<_> = sent[0].secrets.iter().map(|used| (used.name.as_str(), used.slot.clone())).collect();
    let slots = [SecretSlot::Header("x-key".to_owned()), SecretSlot::Query("k".to_owned())];
    assert_eq!(used, [("mail", slots[0].clone()), ("other", slots[1].clone())]);
    assert_eq!(output.parts[1].as_text(), "location: /********\n\nit is ********, is it");
}

#[tokio::test]
async fn a_secret_in_an_answer_is_masked_across_pieces() {
    let body = "it is canary-1, is it";
    let mut whole = String::new();
    for offset in (0..body.len()).step_by(3) {
        let bench = Bench::hiding("canary-1");
        bench.line.answers(Ok((200, Vec::new(), pieces(&[&body[..8], &body[8..11], &body[11..]]))));
        let arguments = json!({
            "url": "https://example.com/",
            "headers": {"x-key": {"secret": "mail"}},
            "limit": 3,
            "offset": offset,
        });
        let output = bench.call("http.request", &arguments.to_string()).await;
        whole.push_str(output.parts.last().expect("parts").as_text().trim_start_matches('\n'));
    }
    assert_eq!(whole, "it is ********, is it");
}

#[tokio::test]
async fn a_value_that_a_call_would_pass_on_is_refused() {
    let bench = Bench::hiding("canary-1");
    let written = bench.told("file.write", r#"{"path":"a","content":"it is canary-1"}"#).await;
    assert!(
        written.starts_with("failed: the arguments contain the value of the secret \"mail\""),
        "{written}"
    );
    assert!(!bench.workspace().join("a").exists());
    let arguments = json!({"url": "https://example.com/", "method": "POST", "body": "canary-1"});
    assert!(
        bench.told("http.request", &arguments.to_string()).await.starts_with("failed: the arguments contain")
    );
    assert!(bench.line.sent().is_empty());
}

#[tokio::test]
async fn a_tool_that_looks_for_no_secrets_is_caught() {
    // The same call where nobody looks: the value goes out and comes back.
    let bench = Bench::new();
    bench.line.answers(Ok((200, Vec::new(), pieces(&["it is canary-1"]))));
    let arguments = json!({"url": "https://example.com/", "method": "POST", "body": "canary-1"});
    let told = bench.told("http.request", &arguments.to_string()).await;
    assert!(told.contains("it is canary-1"), "{told}");
    assert_eq!(bench.line.sent().len(), 1);
}

/// Asks for a long body as an agent with these grants, and returns what is told.
async fn long(bench: &Bench, method: &str, grants: &[&str], bytes: usize) -> String {
    let body = "x".repeat(bytes);
    let chunks = body.as_bytes().chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    bench.line.answers(Ok((200, Vec::new(), chunks)));
    let arguments = json!({"method": method, "url": "https://example.com/"}).to_string();
    let grants = grants.iter().map(|&grant| grant.to_owned()).collect();
    let context = ToolContext { grants, ..context() };
    let call = bench.prepare("http.request", &arguments);
    let output = bench.toolbox.execute_call(context, call, &DiscardProgress).await;
    assert!(!output.failed);
    let facts: Vec<_> = output.parts.iter().filter(|part| part.label() != Label::OUTSIDE).collect();
    facts.iter().map(|part| part.as_text()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_long_http_body_is_stored_for_agents_that_read() {
    for (method, bytes, before) in [
        ("GET", 100_000, "[200; 65536 bytes; more follows] [all 100000 bytes are in "),
        ("POST", 100_000, "[200; 65536 bytes; more follows] [all 100000 bytes are in "),
        ("GET", 2_000_000, "[200; 65536 bytes; more follows] [the first 1048576 bytes are in "),
    ] {
        let bench = Bench::new();
        let told = long(&bench, method, &["http.request", "file.read"], bytes).await;
        let (path, offset) = handle(&told, before);
        assert_eq!(offset, 65536);
        let kept = std::fs::read(bench.workspace().join(&path)).expect("it is kept");
        assert_eq!(kept.len(), bytes.min(1 << 20));
        let arguments = json!({"path": path, "offset": offset, "limit": 3}).to_string();
        let read = bench.told("file.read", &arguments).await;
        assert!(read.starts_with("ok: xxx\n["), "{read}");
    }
    for (method, bytes, told) in [
        ("GET", 65536, "[200; 65536 bytes]"),
        ("GET", 65537, "[200; 65536 bytes; more follows: ask again with offset 65536]"),
        ("POST", 65537, "[200; 65536 bytes; the rest is not shown]"),
    ] {
        let bench = Bench::new();
        assert_eq!(long(&bench, method, &["http.request"], bytes).await, told);
        assert!(!bench.workspace().exists(), "nothing is kept for an agent that may read no files");
    }
}

#[tokio::test]
async fn a_broken_http_answer_shows_its_part_as_failure() {
    let bench = Bench::new();
    let mut torn = pieces(&["half"]);
    torn.push(Err(EgressFault::Late(TimeoutPhase::Stall)));
    bench.line.answers(Ok((200, Vec::new(), torn)));
    assert_eq!(
        bench.told("http.request", r#"{"url":"https://example.com/"}"#).await,
        "failed: [200; 4 bytes; then its answer stalled]\n\nhalf"
    );
}

#[tokio::test]
async fn a_failure_says_whether_it_may_have_been_carried_out() {
    let decision = EgressDecision {
        method: HttpMethod::Get,
        to: "http://10.0.0.1:80".to_owned(),
        address: None,
        allowed: false,
        rule: "private address".to_owned(),
    };
    let refused =
        EgressFault::Refused { rule: "private address".to_owned(), reason: "it is inside".to_owned() };
    let long = EgressFault::TooLarge { part: OversizedPart::Response, bytes_max: 9 };
    for (method, failure, is_sent, says) in [
        ("GET", refused, false, "refused: it is inside"),
        ("GET", long.clone(), true, "failed: the answer is longer than the 9 bytes that are allowed"),
        ("POST", EgressFault::Unreachable, false, "failed: the connection failed"),
        (
            "POST",
            long,
            true,
            "failed: the answer is longer than the 9 bytes that are allowed. The host may have executed",
        ),
    ] {
        let bench = Bench::new();
        let decisions = vec![decision.clone()];
        bench.line.answers(Err(EgressError { failure, is_sent, decisions: decisions.clone() }));
        let arguments = json!({"method": method, "url": "http://10.0.0.1/"}).to_string();
        let output = bench.call("http.request", &arguments).await;
        assert!(output.failed);
        assert_eq!(output.egress, decisions, "what was judged goes into the journal");
        let text = output.parts[0].as_text();
        assert!(text.starts_with(says), "{text}");
        assert_eq!(text.contains("check before"), is_sent && method == "POST", "{text}");
    }
}
