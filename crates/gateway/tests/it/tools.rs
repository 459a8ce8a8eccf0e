//! What is told about tools, and how their calls are counted.

use std::time::Duration;

use dromia_contracts::tool::{CallEnd, CallMeter as _, CallRefusal};
use serde_json::json;

use crate::client::{full, request};
use crate::world::World;

#[tokio::test]
async fn a_tool_is_described_with_the_right_of_an_agent() {
    let world = World::new().await;
    world.rooms.lock().agents[0].2.grants.push("file.read".to_owned());
    let all = world.ask("GET", "/v1/tools", "").await.json();
    let names: Vec<_> = all["items"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, [&json!("exec"), &json!("file.read")]);
    assert!(all["items"].as_array().unwrap().iter().all(|tool| tool.get("granted").is_none()), "{all}");

    let of_agent = world.ask("GET", "/v1/tools?agent=ops", "").await.json();
    let granted: Vec<_> = of_agent["items"].as_array().unwrap().iter().map(|tool| &tool["granted"]).collect();
    assert_eq!(
        granted,
        [
            &json!({"allowed": false, "rule": "default deny"}),
            &json!({"allowed": true, "rule": "grant file.read"}),
        ]
    );

    let exec = world.ask("GET", "/v1/tools/exec", "").await.json();
    for (field, value) in [
        ("effect", json!("unkeyed")),
        ("roles", json!({"path": "object"})),
        ("result_label", json!("untrusted/agent")),
        ("arguments", json!({"type": "object"})),
        ("privileged", json!(false)),
        ("sink", json!("inside")),
    ] {
        assert_eq!(exec[field], value, "{exec}");
    }
    assert_eq!(exec["limits"]["memory_bytes"], json!(1 << 30), "{exec}");
    let read = world.ask("GET", "/v1/tools/file.read", "").await.json();
    assert_eq!((read.get("limits"), read.get("network")), (None, None), "it runs no program");
    assert_eq!(exec["network"], json!({"way": "none"}), "{exec}");

    for (path, code) in [
        ("/v1/tools/moon", "tool_not_found"),
        ("/v1/tools?agent=nobody", "agent_not_found"),
        ("/v1/tools?agnet=ops", "invalid_request"),
    ] {
        assert_eq!(world.ask("GET", path, "").await.code(), code, "{path}");
    }
    let theirs = format!("/v1/tools?agent={}", world.theirs.agent);
    assert_eq!(world.ask("GET", &theirs, "").await.code(), "agent_not_found");
}

#[tokio::test]
async fn calls_are_counted_by_tool_and_malformed_names_as_none() {
    let world = World::new().await;
    let meters = world.handle.tool_meters();
    meters.count_call("exec", CallEnd::Done, Duration::from_secs(2));
    meters.count_call("exec", CallEnd::Failed, Duration::from_secs(90));
    meters.count_call("bank.pay", CallEnd::Done, Duration::from_secs(1));
    meters.count_refusal(Some("file.read"), CallRefusal::Denied);
    meters.count_refusal(None, CallRefusal::Malformed);
    let text = world.unix(request("GET", "/metrics").body(full("")).unwrap()).await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        r#"dromia_tool_seconds_count{tool="exec",outcome="done"} 1"#,
        r#"dromia_tool_seconds_bucket{tool="exec",outcome="done",le="1"} 0"#,
        r#"dromia_tool_seconds_bucket{tool="exec",outcome="done",le="5"} 1"#,
        r#"dromia_tool_seconds_bucket{tool="exec",outcome="failed",le="300"} 1"#,
        r#"dromia_tool_refusals_total{tool="file.read",reason="denied"} 1"#,
        r#"dromia_tool_seconds_count{tool="bank.pay",outcome="done"} 1"#,
        r#"dromia_tool_refusals_total{tool="none",reason="malformed"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
