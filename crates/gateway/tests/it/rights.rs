//! Who decided about calls, as it is told; tasks that are given less; and what the gate would say of a call.

use dromia_contracts::content::{CallStatus, ContentPart, ToolResult};
use dromia_contracts::entry::{Entry, ToolRefused, ToolStarted};
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::InputTarget;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{CallId, CapabilityId, Digest};
use serde_json::json;

use crate::world::{World, stored};

#[tokio::test]
async fn decisions_show_who_made_them_and_why() {
    let world = World::new().await;
    let run = world.ours.run;
    let (first, second) = (CallId { step: 1, index: 0 }, CallId { step: 1, index: 1 });
    let started = Entry::ToolStarted(ToolStarted {
        call: first,
        tool: "file.write".to_owned(),
        effect: EffectClass::Idempotent,
        attempt: 1,
        action: Digest::from_bytes([5; 32]),
        rule: "capability cap_1 block 0 file:write:docs".to_owned(),
        policy: Some(Digest::from_bytes([6; 32])),
        approval: None,
        unneeded: None,
        in_plan: Some(false),
        network: None,
        context: None,
        endorsed: Vec::new(),
        opinion: None,
    });
    let refused = Entry::ToolRefused(ToolRefused {
        call: second,
        tool: "exec".to_owned(),
        status: CallStatus::Denied,
        rule: Some("policy no-exec".to_owned()),
        policy: Some(Digest::from_bytes([6; 32])),
        approval: None,
        in_plan: Some(false),
        network: Some(NetworkAccess::Proxy),
        opinion: None,
    });
    let parts = vec![ContentPart::new_text("the instance policy forbids it", Label::PUBLIC_FACT)];
    let told = ToolResult { call: second, status: CallStatus::Denied, parts };
    let told = serde_json::to_string(&told).unwrap();
    world.rooms.append(run, stored(1, "tool_started", &started.encode(), None), RunStatus::Running);
    world.rooms.append(run, stored(2, "tool_refused", &refused.encode(), Some(&told)), RunStatus::Running);
    let path = format!("/v1/runs/{run}/decisions");
    let page = world.ask("GET", &path, "").await.json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2), "{page}");
    let of = |index: usize, names: [&str; 4]| names.map(|name| page["items"][index][name].clone());
    let names = ["call", "allowed", "by", "why"];
    assert_eq!(of(0, names)[..3], [json!("call_1_0"), json!(true), json!("capability")]);
    let expected =
        [json!("call_1_1"), json!(false), json!("policy"), json!("the instance policy forbids it")];
    assert_eq!(of(1, names), expected);
    assert_eq!(page["items"][1]["in_plan"], json!(false), "{page}");
    assert_eq!((page["items"][0].get("network"), &page["items"][1]["network"]), (None, &json!("proxy")));
    let one = world.ask("GET", &format!("{path}?limit=1"), "").await.json();
    assert_eq!((&one["items"][0]["call"], &one["next"]), (&json!("call_1_0"), &json!("1")));
    let rest = world.ask("GET", &format!("{path}?limit=1&after=1"), "").await.json();
    assert_eq!(rest["items"][0]["call"], json!("call_1_1"));
}

#[tokio::test]
async fn a_bounded_task_names_the_capability_that_bounds_it() {
    let world = World::new().await;
    let path = format!("/v1/agents/{}/spawn", world.ours.agent);
    for (body, is_bounded) in [
        (json!({"task": "count"}), false),
        (json!({"task": "count", "rights": ["file:read:docs"]}), true),
        (json!({"task": "count", "under": world.ours.capability()}), true),
    ] {
        let answer = world.ask("POST", &path, &body.to_string()).await;
        assert!(answer.status.is_success(), "{body}: {:?}", answer.body);
        let inner = world.rooms.lock();
        let Some(InputTarget::Fresh { key, .. }) = inner.inputs.last().map(|input| &input.target) else {
            panic!("{body} is not in a session of its own");
        };
        assert_eq!(key.channel.parse::<CapabilityId>().is_ok(), is_bounded, "{body}");
    }
    let before = world.rooms.lock().inputs.len();
    let theirs = json!({"task": "count", "under": world.theirs.capability()});
    let answer = world.ask("POST", &path, &theirs.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "capability_not_found"));
    assert_eq!(world.rooms.lock().inputs.len(), before, "nothing is given to the agent");
}

#[tokio::test]
async fn a_capability_list_shows_states_inherited_from_parents() {
    let world = World::new().await;
    let listed = world.ask("GET", "/v1/capabilities", "").await.json();
    assert_eq!(listed["items"][0]["id"], json!(world.ours.capability()), "{listed}");
    assert_eq!(listed["items"][0]["state"], json!("parent_revoked"), "its own row says active: {listed}");
}

#[tokio::test]
async fn a_hypothetical_call_is_judged_with_the_presented_capabilities() {
    let world = World::new().await;
    let path = format!("/v1/agents/{}/tools/file.read/check", world.ours.agent);
    let denied = world.ask("GET", &path, "").await.json();
    assert_eq!((&denied["allowed"], &denied["rule"]), (&json!(false), &json!("default deny")));
    let weighed = &denied["capabilities"][0];
    assert_eq!(weighed["capability"], json!(world.ours.capability()));
    assert_eq!((&weighed["covers"], &weighed["block"]), (&json!(false), &json!(0)));
    // `token` in base64 for URLs, then what is none, and what is none of a token.
    let good = world.ask("GET", &format!("{path}?token=dG9rZW4"), "").await.json();
    assert_eq!(good["capabilities"][0]["covers"], json!(true));
    assert_eq!(
        (&good["allowed"], &good["rule"]),
        (&json!(false), &json!("default deny")),
        "the gate is asked"
    );
    for wrong in ["dG9rZW5z", "!!"] {
        let answer = world.ask("GET", &format!("{path}?token={wrong}"), "").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "capability_unreadable"));
    }
    let unknown = path.replace("file.read", "file.dance");
    assert_eq!(world.ask("GET", &unknown, "").await.code(), "tool_not_found");
}
