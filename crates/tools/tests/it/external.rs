//! Tools of the operator's own: what is posted, what a model is told, and what of it is a fact.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::content::ToolCall;
use dromia_contracts::egress::{EgressClient, EgressError, EgressFault, HttpMethod, TimeoutPhase};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{
    ArgumentRole, DiscardProgress, EffectClass, EffectSink, PrepareError, ToolHost as _, ToolOutput,
};
use dromia_contracts::vault::{SecretPlacement, SecretSlot};
use dromia_tools::{ExternalSpec, ExternalTool, ToolAudience};
use serde_json::{Value, json};

use crate::programs::handle;
use crate::support::{Bench, CALL, TENANT, context};

pub(crate) fn spec(effect: EffectClass) -> ExternalSpec {
    let arguments = json!({
        "properties": {"to": {"type": "string"}, "amount": {"type": "number"}},
        "required": ["to"],
    });
    ExternalSpec {
        name: "bank.pay".to_owned(),
        description: "Pays.".to_owned(),
        arguments: serde_json::from_value(arguments).expect("an object"),
        effect,
        sink: EffectSink::Outside,
        roles: BTreeMap::from([("to".to_owned(), ArgumentRole::Destination)]),
        result_label: Label::OUTSIDE,
        sensitivity: None,
        records: None,
        url: "HTTPS://Bank.example:443/pay".to_owned(),
        secret: None,
        audience: ToolAudience::Everybody,
    }
}

/// A bench that has the tool beside the built-in ones, whose server is asked over the bench's line.
fn having(mut bench: Bench, spec: ExternalSpec) -> Bench {
    let tool = ExternalTool::new(spec).expect("a sound tool");
    let line: Arc<dyn EgressClient> = Arc::clone(&bench.line) as _;
    bench.toolbox = bench.toolbox.with_external([(tool, line)]);
    bench
}

/// Has the server answer the next request.
fn next_answer(bench: &Bench, status: u16, body: &'static str) {
    bench.line.answers(Ok((status, Vec::new(), vec![Ok(Bytes::from_static(body.as_bytes()))])));
}

fn told(output: &ToolOutput) -> Vec<(String, String)> {
    output.parts.iter().map(|part| (part.as_text().to_owned(), part.label().to_string())).collect()
}

#[test]
fn an_external_tool_is_listed_and_prepared_by_its_schema() {
    let bench = having(Bench::new(), spec(EffectClass::Keyed));
    let tools = bench.toolbox.shared_catalogue();
    let names: Vec<_> = tools.descriptors().map(|tool| tool.name.as_str()).collect();
    assert!(names.is_sorted() && names.contains(&"bank.pay") && names.contains(&"file.read"), "{names:?}");
    let manifests: BTreeMap<_, _> = bench.toolbox.current_manifests().into_iter().collect();
    assert_eq!(manifests.len(), names.len(), "each tool has a manifest");
    assert_eq!(manifests["bank.pay"].roles["to"], ArgumentRole::Destination);
    let call = bench.prepare("bank.pay", r#" {"to":"x","amount":1} "#);
    assert_eq!((call.effect, call.reaches.as_ref()), (EffectClass::Keyed, None));
    assert_eq!(call.arguments, r#"{"amount":1,"to":"x"}"#);
    let expected = blake3::hash(b"bank.pay\0{\"amount\":1,\"to\":\"x\"}");
    assert_eq!(call.action, Digest::from_bytes(*expected.as_bytes()));
    for (arguments, says) in [(r#"{"amount":1}"#, "\"to\" is a required"), (r#"{"to":"x","cc":"y"}"#, "'cc'")]
    {
        let call = ToolCall { id: CALL, tool: "bank.pay".to_owned(), arguments: arguments.to_owned() };
        match bench.toolbox.prepare_call(&tools, &call) {
            Err(PrepareError::Arguments { problem, .. }) => assert!(problem.contains(says), "{problem}"),
            other => panic!("{arguments} is taken: {other:?}"),
        }
    }
    assert_eq!(bench.prepare("file_read", r#"{"path":"a"}"#).tool, "file.read");
}

#[tokio::test]
async fn an_external_call_posts_canonical_arguments_under_its_key() {
    let bench = having(Bench::new(), spec(EffectClass::Keyed));
    next_answer(&bench, 201, r#"{"id": 7}"#);
    let output = bench.call("bank.pay", r#"{"to":"x", "amount":1}"#).await;
    let sent = bench.line.sent();
    let [sent] = sent.as_slice() else { panic!("one request is sent") };
    assert_eq!((sent.method, sent.url.as_str()), (HttpMethod::Post, "https://bank.example/pay"));
    assert_eq!(sent.body, r#"{"amount":1,"to":"x"}"#);
    let header =
        |name: &str| sent.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("idempotency-key"), Some(context().key.as_str()));
    assert_eq!(
        (&sent.grants, &sent.share),
        (&Vec::new(), &TENANT.to_string()),
        "no grant of the agent's goes along"
    );
    assert!(!output.failed);
    let expected = [("[201; 9 bytes]", "trusted/agent"), (r#"{"id": 7}"#, "untrusted/agent")];
    assert_eq!(told(&output), expected.map(|(text, label)| (text.to_owned(), label.to_owned())));
}

#[tokio::test]
async fn an_external_answer_has_the_label_the_operator_set() {
    let own = ExternalSpec { result_label: Label::PUBLIC_FACT, ..spec(EffectClass::Pure) };
    let bench = having(Bench::new(), own);
    next_answer(&bench, 200, "noon");
    let output = bench.call("bank.pay", r#"{"to":"x"}"#).await;
    assert_eq!(told(&output)[1], ("noon".to_owned(), "trusted/public".to_owned()));
}

#[tokio::test]
async fn an_unsuccessful_external_answer_is_a_failure() {
    for (status, body, says) in [
        (422, "no such account", "[422; 15 bytes]"),
        (500, "", "[500; 0 bytes]"),
        (302, "", "the server redirects"),
    ] {
        let bench = having(Bench::new(), spec(EffectClass::Unkeyed));
        next_answer(&bench, status, body);
        let output = bench.call("bank.pay", r#"{"to":"x"}"#).await;
        let told = told(&output);
        assert!(output.failed && told.iter().any(|(text, _)| text.contains(says)), "{told:?}");
        assert_eq!(told.iter().any(|(_, label)| label == "untrusted/agent"), !body.is_empty(), "{told:?}");
        assert_eq!(bench.line.sent().len(), 1, "nothing is asked twice");
    }
    for (effect, is_sent, looks) in [
        (EffectClass::Unkeyed, true, true),
        (EffectClass::Keyed, true, true),
        (EffectClass::Unkeyed, false, false),
        (EffectClass::Pure, true, false),
    ] {
        let bench = having(Bench::new(), spec(effect));
        let failure = EgressFault::Late(TimeoutPhase::Total);
        bench.line.answers(Err(EgressError { failure, is_sent, decisions: Vec::new() }));
        let output = bench.call("bank.pay", r#"{"to":"x"}"#).await;
        let text = output.parts[0].as_text();
        assert!(output.failed && text.starts_with("failed: it did not finish its answer in time"), "{text}");
        assert_eq!(text.contains("check before you try again"), looks, "{effect:?} {text}");
    }
}

#[tokio::test]
async fn a_long_external_answer_is_cut_and_stored_for_readers() {
    let body = "x".repeat(70_000);
    let pieces = || Ok((200, Vec::new(), vec![Ok(Bytes::from(body.clone().into_bytes()))]));
    let bench = having(Bench::new(), spec(EffectClass::Pure));
    bench.line.answers(pieces());
    let output = bench.call("bank.pay", r#"{"to":"x"}"#).await;
    assert_eq!(output.parts[0].as_text(), "[200; 65536 bytes; the rest is not shown]");
    assert_eq!(output.parts[1].as_text().len(), 65_536);
    let bench = having(Bench::new(), spec(EffectClass::Pure));
    bench.line.answers(pieces());
    let mut reader = context();
    reader.grants.push("file.read".to_owned());
    let call = bench.prepare("bank.pay", r#"{"to":"x"}"#);
    let output = bench.toolbox.execute_call(reader, call, &DiscardProgress).await;
    let last = output.parts.last().expect("it says where the rest is").as_text();
    let (path, offset) = handle(last, "[all 70000 bytes are in ");
    assert_eq!(offset, 65_536);
    let rest = bench.told("file.read", &json!({"path": path, "offset": offset}).to_string()).await;
    assert_eq!(rest, format!("ok: {}", "x".repeat(70_000 - 65_536)));
}

#[tokio::test]
async fn an_external_tools_secret_is_sent_and_masked_in_answers() {
    for (placement, slot) in [
        (SecretPlacement::Bearer, SecretSlot::Header("authorization".to_owned())),
        (SecretPlacement::Header("x-key".to_owned()), SecretSlot::Header("x-key".to_owned())),
        (SecretPlacement::Query("key".to_owned()), SecretSlot::Query("key".to_owned())),
    ] {
        let own = ExternalSpec { secret: Some(("mail".to_owned(), placement)), ..spec(EffectClass::Keyed) };
        let bench = having(Bench::hiding("canary-1"), own);
        next_answer(&bench, 200, "you are canary-1");
        let output = bench.call("bank.pay", r#"{"to":"x"}"#).await;
        let sent = bench.line.sent();
        let used: Vec<_> = sent[0].secrets.iter().map(|used| (used.name.as_str(), &used.slot)).collect();
        assert_eq!((used, &sent[0].grants), (vec![("mail", &slot)], &vec!["secret:mail".to_owned()]));
        assert_eq!(output.parts[1].as_text(), "you are ********");
    }
    let bench = having(Bench::hiding("canary-1"), spec(EffectClass::Keyed));
    let output = bench.call("bank.pay", r#"{"to":"canary-1"}"#).await;
    assert!(output.failed && bench.line.sent().is_empty(), "a secret is no argument: {:?}", told(&output));
}

#[test]
fn an_invalid_external_tool_is_refused_by_its_key() {
    let sound = || spec(EffectClass::Keyed);
    let typed: BTreeMap<String, Value> = BTreeMap::from([("type".to_owned(), json!("array"))]);
    let roles = BTreeMap::from([("cc".to_owned(), ArgumentRole::Destination)]);
    for (spec, key) in [
        (ExternalSpec { name: "file.pay".to_owned(), ..sound() }, ""),
        (ExternalSpec { description: " ".to_owned(), ..sound() }, "description"),
        (ExternalSpec { arguments: typed, ..sound() }, "arguments"),
        (ExternalSpec { roles, ..sound() }, "roles.cc"),
        (ExternalSpec { effect: EffectClass::Transactional, ..sound() }, "effect"),
        (ExternalSpec { url: "bank.example/pay".to_owned(), ..sound() }, "url"),
        (ExternalSpec { secret: Some(("a b".to_owned(), SecretPlacement::Bearer)), ..sound() }, "secret"),
        (
            ExternalSpec { secret: Some(("mail".to_owned(), SecretPlacement::Signature)), ..sound() },
            "placement",
        ),
    ] {
        let problem = ExternalTool::new(spec).expect_err(key);
        assert_eq!(problem.key, key, "{problem}");
        assert!(!problem.to_string().is_empty());
    }
}
