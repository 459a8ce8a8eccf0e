//! The chat completions adapter: what goes out, what comes back, and every way it can go wrong.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dromia_contracts::content::CallStatus;
use dromia_contracts::model::{
    FinishReason, LanguageModel as _, ModelError, ModelReply, ModelRequest, TokenUsage, UsageDetail,
};
use dromia_contracts::{BoxFuture, ErrorCode};
use dromia_guard::{EgressConfig, GuardedEgress, NameResolver, PrivateAllowance};
use dromia_models::{
    HttpConfig, HttpError, HttpModel, HttpTimeouts, OutputLimit, ProviderApiKey, TokenPrice, WireFormat,
};
use dromia_testkit::model_server::{ModelServer, ModelServerOptions};

use crate::canned::{Then, answer_once, events, http};
use crate::scene::{Collected, attempt, egress, request, tool, unit};

/// An adapter that never gives up on a busy machine.
fn adapter(base_url: &str, stream: bool) -> HttpModel {
    patient(base_url, stream, Duration::from_mins(1))
}

/// An adapter that gives up when nothing comes for so long.
fn patient(base_url: &str, stream: bool, wait: Duration) -> HttpModel {
    let long = Duration::from_mins(1);
    let timeouts = HttpTimeouts { connect: long, first_byte: wait, stall: wait, total: long };
    let config =
        HttpConfig { stream, timeouts, ..HttpConfig::new(WireFormat::OpenAiChat, base_url, "scripted") };
    HttpModel::new(config, &egress()).expect("good settings")
}

async fn ask(adapter: &HttpModel, request: &ModelRequest) -> Result<ModelReply, ModelError> {
    attempt(adapter, request, &Collected::default()).await
}

#[tokio::test]
async fn both_modes_give_one_reply_and_streaming_gives_its_pieces() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    let request = request("hello, how are you today?");
    let mut replies = Vec::new();
    for stream in [false, true] {
        let deltas = Collected::default();
        let reply = attempt(&adapter(&server.base_url(), stream), &request, &deltas).await.unwrap();
        assert_eq!(deltas.pieces().concat(), reply.text);
        assert_eq!(deltas.pieces().len() > 1, stream);
        assert_eq!(reply.finish, FinishReason::Stop);
        replies.push(ModelReply { usage: TokenUsage::default(), ..reply });
    }
    assert_eq!(replies[0], replies[1]);
}

#[tokio::test]
async fn parallel_calls_travel_with_their_names_and_arguments() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    let input = "@tool file.read {\"path\":\"ä.txt\"} &\n@tool time.now\n@tool file.append {\"path\":\"log\",\"text\":\"x\"}";
    for stream in [false, true] {
        let adapter = adapter(&server.base_url(), stream);
        let mut request = request(input);
        let first = ask(&adapter, &request).await.unwrap();
        assert_eq!(first.finish, FinishReason::ToolCalls);
        let calls: Vec<_> =
            first.calls.iter().map(|call| (call.tool.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("file.read", "{\"path\":\"ä.txt\"}"), ("time.now", "{}")]);
        request.transcript.push_unit(unit(
            1,
            &first,
            &[(CallStatus::Ok, "text"), (CallStatus::Denied, "no")],
        ));
        let second = ask(&adapter, &request).await.unwrap();
        assert_eq!(second.calls[0].tool, "file.append");
        // A status crosses the wire, so the script knows that it must look.
        request.transcript.push_unit(unit(2, &second, &[(CallStatus::Unknown, "nobody knows")]));
        let third = ask(&adapter, &request).await.unwrap();
        assert_eq!(third.calls[0].tool, "file.read");
        request.transcript.push_unit(unit(3, &third, &[(CallStatus::Ok, "a\nx\n")]));
        let last = ask(&adapter, &request).await.unwrap();
        assert!(last.text.contains("the line is there"), "{}", last.text);
        assert!(last.text.contains("time.now: denied"), "{}", last.text);
    }
}

#[tokio::test]
async fn a_hello_with_seven_tools_stays_under_three_kilobytes() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    let mut request = request("hello");
    request.system = "i".repeat(5_000).into();
    let names =
        ["file.append", "file.delete", "file.list", "file.read", "file.write", "message.send", "time.now"];
    request.tools = names.map(tool).to_vec().into();
    ask(&adapter(&server.base_url(), true), &request).await.unwrap();
    let counters = server.counters();
    let system = counters.system_bytes_last.load(Ordering::Relaxed);
    assert_eq!(system, 5_000);
    let beyond = counters.request_bytes_last.load(Ordering::Relaxed) - system;
    assert!(beyond < 3_000, "{beyond} bytes");
}

#[tokio::test]
async fn connections_are_reused() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    for stream in [false, true] {
        let adapter = adapter(&server.base_url(), stream);
        let before = server.counters().connections.load(Ordering::Relaxed);
        for _ in 0..5 {
            ask(&adapter, &request("hello")).await.unwrap();
        }
        assert_eq!(server.counters().connections.load(Ordering::Relaxed), before + 1, "stream: {stream}");
    }
}

#[tokio::test]
async fn the_wire_request_is_what_the_format_asks_for() {
    let (address, heard, _) = answer_once(http("200 OK", "", WHOLE), Then::Close).await;
    let base_url = format!("http://{address}/v1/");
    let config = HttpConfig {
        key: Some(ProviderApiKey::new("sk-canary")),
        output_limit: OutputLimit::MaxCompletionTokens,
        ..HttpConfig::new(WireFormat::OpenAiChat, base_url, "gpt")
    };
    let adapter = HttpModel::new(HttpConfig { stream: false, ..config }, &egress()).unwrap();
    let mut request = request("@tool file.read");
    request.tools = vec![tool("file.read")].into();
    let asked = ModelReply { calls: vec![proposed("file.read", "not json")], ..whole_reply() };
    request.transcript.push_unit(unit(1, &asked, &[(CallStatus::Error, "no such file")]));
    ask(&adapter, &request).await.unwrap();
    let heard = heard.await.unwrap();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer sk-canary\r\n"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "model": "gpt",
        "messages": [
            { "role": "system", "content": "You are Ada." },
            { "role": "user", "content": "@tool file.read" },
            { "role": "assistant", "content": "hi", "tool_calls": [{
                "id": "call_2_0",
                "type": "function",
                "function": { "name": "file__read", "arguments": "{\"unreadable\":\"not json\"}" },
            }] },
            { "role": "tool", "tool_call_id": "call_2_0", "content": "[error] no such file" },
        ],
        "tools": [{ "type": "function", "function": {
            "name": "file__read",
            "description": "Reads a text file of the workspace.",
            "parameters": tool("file.read").parameters,
        } }],
        "max_completion_tokens": 1024,
    });
    assert_eq!(body, expected);
    assert!(!format!("{adapter:?}").contains("sk-canary"));
    assert!(
        !format!("{adapter:?}").contains(&address.port().to_string()),
        "gateways carry tokens in addresses"
    );
}

const WHOLE: &str = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000000,"completion_tokens":2}}"#;

fn whole_reply() -> ModelReply {
    ModelReply {
        text: "hi".to_owned(),
        calls: Vec::new(),
        usage: TokenUsage::default(),
        detail: UsageDetail::default(),
        cost_micros: 0,
        finish: FinishReason::Stop,
        stopped_at: None,
    }
}

fn proposed(tool: &str, arguments: &str) -> dromia_contracts::model::ProposedCall {
    dromia_contracts::model::ProposedCall { tool: tool.to_owned(), arguments: arguments.to_owned() }
}

#[tokio::test]
async fn a_cost_is_never_above_its_reservation() {
    let (address, _heard, _) = answer_once(http("200 OK", "", WHOLE), Then::Close).await;
    let price =
        TokenPrice { input: 3_000_000, output: 15_000_000, cache_read: 3_000_000, cache_write: 3_000_000 };
    let base = HttpConfig::new(WireFormat::OpenAiChat, format!("http://{address}"), "gpt");
    let adapter = HttpModel::new(HttpConfig { stream: false, price, ..base }, &egress()).unwrap();
    let request = request("hello");
    let reserved = adapter.prepare_attempt(&request).unwrap().reserved_micros;
    let reply = ask(&adapter, &request).await.unwrap();
    assert_eq!(reply.usage.input_tokens, 1_000_000, "the provider's count is told as it is");
    assert_eq!(reply.cost_micros, reserved, "and what was not reserved is not charged");
    assert!(reserved > 15 * 1024);
}

#[tokio::test]
async fn every_way_to_fail_has_its_code() {
    let text = r#"{"choices":[{"delta":{"content":"half "}}]}"#;
    let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let error = r#"{"error":{"message":"boom"}}"#;
    let too_long = r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#;
    let limited = http("429 Too Many Requests", "retry-after: 7\r\n", "{}");
    let filtered = r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#;
    let table = [
        ("429", limited, Then::Close, ErrorCode::ModelUnavailable),
        ("500", http("500 Oops", "", "boom"), Then::Close, ErrorCode::ModelUnavailable),
        ("400", http("400 Bad", "", error), Then::Close, ErrorCode::ModelRejected),
        ("too long", http("400 Bad", "", too_long), Then::Close, ErrorCode::ContextExceeded),
        ("401", http("401 No", "", "sk-canary"), Then::Close, ErrorCode::ModelRejected),
        (
            "redirect",
            http("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
            Then::Close,
            ErrorCode::ModelRejected,
        ),
        ("filter", events(&[text, filtered]), Then::Stall, ErrorCode::ModelRejected),
        ("hang up", String::new(), Then::Close, ErrorCode::ModelCut),
        ("no first byte", String::new(), Then::Stall, ErrorCode::ModelCut),
        ("stall", events(&[text]), Then::Stall, ErrorCode::ModelCut),
        ("cut", events(&[text]), Then::Close, ErrorCode::ModelCut),
        ("no finish", events(&[text, "[DONE]"]), Then::Stall, ErrorCode::ModelCut),
        ("malformed", events(&["{\"choices\":7}"]), Then::Stall, ErrorCode::ModelCut),
        ("error event", events(&[text, error, stop]), Then::Stall, ErrorCode::ModelCut),
        (
            "no event",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ndata: \u{fffd}".to_owned(),
            Then::Close,
            ErrorCode::ModelCut,
        ),
    ];
    for (name, answer, then, code) in table {
        let (address, _heard, gone) = answer_once(answer, then).await;
        // Only where silence is the failure is the wait short; whatever it cuts, the code is the same.
        let silent = matches!(name, "no first byte" | "stall");
        let wait = if silent { Duration::from_millis(200) } else { Duration::from_mins(1) };
        let adapter = patient(&format!("http://{address}"), true, wait);
        let failure = ask(&adapter, &request("hello")).await;
        let failure = failure.expect_err(name);
        assert_eq!(failure.code, code, "{name}: {failure}");
        assert_eq!(failure.retry_after, (name == "429").then_some(Duration::from_secs(7)), "{name}");
        assert!(
            !failure.message.contains("127.0.0.1") && !failure.message.contains("sk-"),
            "{name}: {failure}"
        );
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the client leaves").ok();
    }
}

#[tokio::test]
async fn a_whole_answer_that_breaks_off_is_cut() {
    let torn = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"choices\":[";
    let long = Duration::from_mins(1);
    for (answer, then, wait, why) in [
        (torn, Then::Close, long, "broke in the middle"),
        // The server waits longer than the adapter, so it is the adapter that gives up.
        (torn, Then::Stall, Duration::from_millis(200), "stalled"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Close, long, "is empty"),
    ] {
        let (address, _heard, gone) = answer_once(answer, then).await;
        let adapter = patient(&format!("http://{address}"), false, wait);
        let failure = ask(&adapter, &request("hello")).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::ModelCut, "{failure}");
        assert!(failure.message.contains(why), "{why}: {failure}");
        gone.await.expect("the client left before the server gave up");
    }
}

#[tokio::test]
async fn a_host_that_does_not_listen_is_unavailable() {
    let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let failure = ask(&adapter(&format!("http://{free}"), true), &request("hello")).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ModelUnavailable);
}

#[tokio::test]
async fn a_name_resolving_inside_is_refused_unless_opened() {
    // A client builds its TLS side even if it never needs it.
    rustls::crypto::ring::default_provider().install_default().ok();
    let (address, heard, _gone) = answer_once(http("200 OK", "", WHOLE), Then::Close).await;
    let base_url = format!("http://models.example:{}", address.port());
    for private in [Vec::<PrivateAllowance>::new(), vec!["127.0.0.0/8".parse().expect("a network")]] {
        let opened = !private.is_empty();
        let config = EgressConfig { private_named: private, private_granted: Vec::new() };
        let egress = GuardedEgress::new(config, Arc::new(Inside));
        let config = HttpConfig::new(WireFormat::OpenAiChat, &base_url, "m");
        let model = HttpModel::new(HttpConfig { stream: false, ..config }, &egress).expect("good settings");
        match ask(&model, &request("hello")).await {
            Ok(_) => assert!(opened),
            Err(failure) => {
                assert!(!opened, "{failure}");
                assert_eq!(failure.code, ErrorCode::ModelRejected);
                assert!(failure.message.contains("loopback address"), "{failure}");
                assert!(failure.message.contains("egress"), "{failure}");
            }
        }
    }
    heard.await.expect("only the opened one was heard");
}

/// Every name is at the loopback.
#[derive(Debug)]
struct Inside;

impl NameResolver for Inside {
    fn resolve_name(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Ok(vec![IpAddr::from([127, 0, 0, 1])])))
    }

    fn is_here(&self, _: IpAddr) -> bool {
        false
    }
}

#[tokio::test]
async fn dropping_the_call_drops_the_connection() {
    let (address, heard, gone) = answer_once(String::new(), Then::Stall).await;
    let adapter = adapter(&format!("http://{address}"), false);
    let request = request("hello");
    let deltas = Collected::default();
    let prepared = adapter.prepare_attempt(&request).unwrap();
    let mut call = adapter.call_model(&request, &prepared, &deltas);
    tokio::select! {
        reply = &mut call => panic!("the server never answers, but {reply:?} came"),
        heard = heard => drop(heard.unwrap()),
    }
    drop(call);
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn the_scripts_failures_arrive_as_failures() {
    let server = ModelServer::start_server(ModelServerOptions::default()).await.unwrap();
    for stream in [false, true] {
        let adapter = adapter(&server.base_url(), stream);
        for (word, code) in [
            ("unavailable", ErrorCode::ModelUnavailable),
            ("rejected", ErrorCode::ModelRejected),
            ("cut", ErrorCode::ModelCut),
        ] {
            let failure = ask(&adapter, &request(&format!("@fail {word}"))).await.unwrap_err();
            assert_eq!(failure.code, code, "{word}, stream: {stream}");
        }
        // The pool is none the worse for it.
        ask(&adapter, &request("hello")).await.unwrap();
    }
}

#[test]
fn settings_that_would_leak_or_not_work_are_refused() {
    for base_url in [
        "",
        "localhost:80",
        "ftp://host/v1",
        "http://user:pass@host/v1",
        "http://host/v1?key=x",
        "http://host/#x",
    ] {
        let config = HttpConfig::new(WireFormat::OpenAiChat, base_url, "m");
        let refused = HttpModel::new(config, &egress()).map(drop);
        assert!(matches!(refused, Err(HttpError::BaseUrl)), "{base_url}");
    }
    let config = HttpConfig {
        key: Some(ProviderApiKey::new("a\nb")),
        ..HttpConfig::new(WireFormat::OpenAiChat, "http://host", "m")
    };
    let refused = HttpModel::new(config, &egress()).map(drop).unwrap_err();
    assert!(matches!(refused, HttpError::Key));
    assert!(!format!("{refused:?} {refused}").contains("a\nb"));
}
