//! What the tools say about themselves, and what becomes of a call before the gate sees it.

use std::time::Duration;

use dromia_contracts::Digest;
use dromia_contracts::agent::AgentState;
use dromia_contracts::content::ToolCall;
use dromia_contracts::redacted_history;
use dromia_contracts::runtime::Clock as _;
use dromia_contracts::tool::{BRANCH, CANCEL, EffectClass, PrepareError, REPLY, ROUTE, ToolHost as _};
use dromia_tools::Toolbox;
use serde_json::json;

use crate::support::{Bench, CALL};

#[test]
fn the_catalogue_lists_each_tool_with_its_effect_class() {
    let bench = Bench::new();
    let tools = bench.toolbox.shared_catalogue();
    let listed: Vec<_> = tools.descriptors().map(|tool| (tool.name.as_str(), tool.effect)).collect();
    assert_eq!(
        listed,
        [
            ("branch", EffectClass::Transactional),
            ("exec", EffectClass::Unkeyed),
            ("file.append", EffectClass::Unkeyed),
            ("file.delete", EffectClass::Idempotent),
            ("file.edit", EffectClass::Idempotent),
            ("file.list", EffectClass::Pure),
            ("file.read", EffectClass::Pure),
            ("file.search", EffectClass::Pure),
            ("file.write", EffectClass::Idempotent),
            ("http.request", EffectClass::Unkeyed),
            ("message.send", EffectClass::Transactional),
            ("past.read", EffectClass::Pure),
            ("plan.declare", EffectClass::Pure),
            ("reply", EffectClass::Transactional),
            ("shell.execute", EffectClass::Unkeyed),
            ("time.now", EffectClass::Pure),
            ("worker.cancel", EffectClass::Transactional),
            ("worker.route", EffectClass::Transactional),
            ("worker.spawn", EffectClass::Transactional),
        ]
    );
    assert_eq!(Toolbox::builtin_names().to_vec(), listed.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn the_whole_tool_list_stays_under_5040_bytes() {
    let bench = Bench::new();
    let tools = bench.toolbox.shared_catalogue();
    let list: Vec<_> = tools
        .descriptors()
        // Offered where there is something to read or a worker to send to, under a grant of its own, or to agents that branch, so
        // not to every turn.
        .filter(|tool| ![redacted_history::READ, REPLY, BRANCH, CANCEL, ROUTE].contains(&tool.name.as_str()))
        .map(
            |tool| json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters}),
        )
        .collect();
    let bytes = serde_json::to_vec(&list).expect("serializes").len();
    assert!(bytes <= 5040, "{bytes} bytes: {}", json!(list));
}

/// Programs find the variable where the operator gave the tool a way out, and only there: so it is true in both cases.
#[test]
fn tools_that_run_programs_name_their_network_truthfully() {
    let bench = Bench::new();
    let tools = bench.toolbox.shared_catalogue();
    for tool in tools.descriptors().filter(|tool| Toolbox::runs_programs(&tool.name)) {
        assert!(tool.description.ends_with("; no network but $HTTP_PROXY."), "{}", tool.description);
    }
}

#[test]
fn a_schema_holds_what_a_model_needs_and_no_more() {
    let bench = Bench::new();
    let tools = bench.toolbox.shared_catalogue();
    let read = tools.find_tool("file.read").expect("file.read");
    assert_eq!(
        read.parameters,
        json!({
            "type": "object",
            "properties": {
                "limit": {"type": "integer", "description": "Bytes, at most 65536."},
                "offset": {"type": "integer", "description": "First byte."},
                "path": {"type": "string"},
            },
            "required": ["path"],
            "additionalProperties": false,
        })
    );
}

#[test]
fn every_argument_with_a_role_is_in_the_schema() {
    for tool in Bench::new().toolbox.shared_catalogue().descriptors() {
        for (argument, _) in &tool.roles {
            assert!(tool.parameters["properties"].get(argument).is_some(), "{} has no {argument}", tool.name);
        }
    }
}

#[test]
fn the_same_action_has_one_digest_however_it_is_spelled() {
    let bench = Bench::new();
    let canonical = bench.prepare("file.read", r#"{"path":"a/b"}"#);
    assert_eq!(canonical.arguments, r#"{"limit":65536,"offset":0,"path":"a/b"}"#);
    let expected = blake3::hash(b"file.read\0{\"limit\":65536,\"offset\":0,\"path\":\"a/b\"}");
    assert_eq!(canonical.action, Digest::from_bytes(*expected.as_bytes()));
    for same in [r#"{ "path" : "./a/./b/" , "offset":0 }"#, r#"{"limit":70000,"path":"a\/b"}"#] {
        assert_eq!(bench.prepare("file_read", same), canonical);
    }
    assert_ne!(bench.prepare("file.read", r#"{"path":"a/b","offset":1}"#).action, canonical.action);
    assert_ne!(bench.prepare("file.delete", r#"{"path":"a/b"}"#).action, canonical.action);
}

#[test]
fn canonical_arguments_prepare_to_themselves() {
    let bench = Bench::new();
    for (tool, arguments) in [
        ("file.append", r#"{"path":"x","content":"y"}"#),
        ("file.list", r#"{"path":"./x/","after":"b"}"#),
        ("file.list", ""),
        ("file.edit", r#"{"path":"./x","new":"y","old":"z"}"#),
        ("file.search", r#"{"pattern":"a|b","after":"./x:3","regex":true}"#),
        ("http.request", r#"{"url":"http://h","headers":{"B":"1","a":"2"}}"#),
        ("message.send", r#"{"text":"y","session":"ses_05050505050505050505050505050505"}"#),
        ("past.read", r#"{"offset":3,"handle":"1/call_1_0"}"#),
        (
            "plan.declare",
            r#"{"tools":{"b":{"times":2,"amount_max":10.50,"arguments":{"b":[{"y":1,"x":true}]}},"a":{"to":["x"],"texts":["y"]}}}"#,
        ),
        ("branch", r#"{"task":"count","topic":"numbers"}"#),
        ("worker.spawn", r#"{"task":"count","rights":["file.read"],"agent":"ops"}"#),
        ("time.now", " {} "),
        ("exec", r#"{"argv":["ls","a b"],"cwd":"./x/"}"#),
        ("shell.execute", r#"{"command":"ls | wc"}"#),
    ] {
        let once = bench.prepare(tool, arguments);
        assert_eq!(bench.prepare(tool, &once.arguments), once);
    }
}

#[test]
fn an_invalid_call_says_what_is_wrong_and_where() {
    let bench = Bench::new();
    let prepare = |tool: &str, arguments: &str| {
        let call = ToolCall { id: CALL, tool: tool.into(), arguments: arguments.into() };
        bench.toolbox.prepare_call(&bench.toolbox.shared_catalogue(), &call)
    };
    assert_eq!(prepare("shell.run", "{}"), Err(PrepareError::UnknownTool { name: "shell.run".into() }));
    assert_eq!(
        prepare("file.read", r#"{"path":"../secret"}"#).expect_err("it climbs").to_string(),
        "the arguments of file.read do not match its schema: path: a path must not contain ..; it goes down \
         from the workspace, such as notes/today.md at line 1 column 20"
    );
    for (tool, arguments, problem) in [
        ("file.search", r#"{"pattern":"(","regex":true}"#, "pattern: regex parse error"),
        ("file.edit", r#"{"path":"a","old":"","new":"x"}"#, "old: the text to replace is empty"),
        ("plan.declare", r#"{"tools":{}}"#, "tools: a plan needs at least one tool"),
        ("plan.declare", r#"{"tools":{"a":{"to":[1]}}}"#, "tools.a.to[0]: invalid type"),
        ("plan.declare", r#"{"tools":{"a":{"times":0}}}"#, "tools.a.times: must be from 1 to 64"),
        ("plan.declare", r#"{"tools":{"a":{"into":[]}}}"#, "unknown field"),
    ] {
        let error = prepare(tool, arguments).expect_err(problem).to_string();
        assert!(error.contains(problem), "{error}");
    }
    for climbing in ["/etc/passwd", "a/../../b", "..", "a\\u0000b", "a//b", ""] {
        for tool in ["file.read", "file.delete", "file.list"] {
            assert!(
                prepare(tool, &format!(r#"{{"path":"{climbing}"}}"#)).is_err(),
                "{tool} took {climbing:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_declared_plan_is_answered_with_its_counts() {
    let told =
        Bench::new().told("plan.declare", r#"{"tools":{"bank.pay":{"to":["bob"]},"time.now":{}}}"#).await;
    assert_eq!(told, "ok: planned: 2 tools, 1 destinations");
}

#[tokio::test]
async fn the_time_is_the_clocks() {
    assert_eq!(Bench::new().told("time.now", "").await, "ok: 2023-11-14T22:13:20Z");
}

#[tokio::test]
async fn a_pace_slows_every_call_down_by_the_clock() {
    let bench = Bench::with(AgentState::Running, Some(Duration::from_millis(250)));
    let before = bench.clock.now();
    bench.told("file.append", r#"{"path":"log","content":"x"}"#).await;
    bench.told("time.now", "").await;
    assert_eq!(bench.clock.now().as_millisecond() - before.as_millisecond(), 500);
}
