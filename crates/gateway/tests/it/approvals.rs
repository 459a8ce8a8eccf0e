//! Approvals over HTTP: the exact call is shown, an answer goes as far as it may, and a rule takes more than an answer.

use dromia_contracts::ApprovalId;
use dromia_contracts::approval::{
    ALSO_MAX, ApprovalRequest, ApprovalState, DeclaredRule, ParsedRule, RuleAnswer,
};
use dromia_contracts::runs::NewToken;
use dromia_contracts::token::{TokenScope, TokenScopes};
use jiff::Timestamp;
use serde_json::json;

use crate::client::{Answer, authorized, full, request};
use crate::world::World;

/// Asks with a token of one scope.
async fn ask_as(world: &World, scope: TokenScope, method: &str, path: &str, body: &str) -> Answer {
    let scopes: TokenScopes = [scope].into_iter().collect();
    let token = format!("drm_{scope}_only");
    let new = NewToken { name: scope.to_string(), scopes, expires_at: None };
    world.rooms.lock().token(world.ours.tenant, &token, new);
    let asked = authorized(request(method, path), &token);
    world.tcp(asked.body(full(body)).unwrap()).await
}

#[tokio::test]
async fn an_approval_shows_its_exact_call_until_its_time() {
    let world = World::new().await;
    let path = format!("/v1/approvals/{}", world.ours.approval);
    let shown = world.ask("GET", &path, "").await;
    assert_eq!(shown.status, 200, "{:?}", shown.body);
    let shown = shown.json();
    assert_eq!((&shown["tool"], &shown["arguments"]), (&json!("file.read"), &json!(r#"{"path":"notes"}"#)));
    assert_eq!((&shown["state"], &shown["answered_by"]), (&json!("holding"), &json!(null)));
    let open = world.ask("GET", "/v1/approvals?open=true", "").await.json();
    assert_eq!(open["items"].as_array().map(Vec::len), Some(1));
    for (_, approval) in &mut world.rooms.lock().approvals {
        approval.deadlines.expires_at = Timestamp::UNIX_EPOCH;
    }
    let open = world.ask("GET", "/v1/approvals?open=true", "").await.json();
    assert_eq!(open["items"], json!([]));
    assert_eq!(world.ask("GET", &path, "").await.json()["state"], "expired");
    for bad in ["/v1/approvals/apr_1", "/v1/approvals?limit=0", "/v1/approvals?open=perhaps"] {
        assert_eq!(world.ask("GET", bad, "").await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn an_approver_answers_only_for_calls_that_were_shown() {
    let world = World::new().await;
    let path = format!("/v1/approvals/{}/answer", world.ours.approval);
    let always = r#"{"approve":true,"reach":"always","rule":"file.read path=**"}"#;
    let refused = ask_as(&world, TokenScope::Approve, "POST", &path, always).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "forbidden"));
    for (body, place) in [
        (r#"{"approve":true,"reach":"always"}"#, "rule"),
        (r#"{"approve":true,"rule":"file.read"}"#, "rule"),
        (r#"{"approve":true,"reason":"because"}"#, "reason"),
        (r#"{"approve":false,"reach":"session"}"#, "reach"),
    ] {
        let answer = ask_as(&world, TokenScope::Approve, "POST", &path, body).await;
        assert_eq!(answer.status, 400, "{body}");
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(told.contains(place), "{body}: {told}");
    }
    let untouched = world.rooms.lock().approvals.iter().all(|(_, row)| row.state == ApprovalState::Holding);
    assert!(untouched, "what was refused changed something");
    let once = ask_as(&world, TokenScope::Approve, "POST", &path, r#"{"approve":true}"#).await;
    assert_eq!((once.status.as_u16(), once.json()["state"].clone()), (200, json!("approved")));
    let late = ask_as(&world, TokenScope::Approve, "POST", &path, r#"{"approve":false}"#).await;
    assert_eq!((late.status.as_u16(), late.code().as_str()), (409, "approval_closed"));
    for scope in [TokenScope::Read, TokenScope::Invoke, TokenScope::Approve] {
        let rule = r#"{"answer":"allow","rule":"file.read path=**"}"#;
        let refused = ask_as(&world, scope, "PUT", "/v1/approval-rules/mine", rule).await;
        assert_eq!(refused.status, 403, "{scope}");
    }
}

#[tokio::test]
async fn configured_approval_rules_are_listed_before_those_of_tenants() {
    let world = World::new().await;
    let rule = ParsedRule::parse("file.write path=notes/**").expect("it is read");
    world.rooms.lock().declared_rules.push(DeclaredRule { answer: RuleAnswer::Deny, rule });
    let listed = world.ask("GET", "/v1/approval-rules", "").await.json();
    let rules = listed["items"].as_array().expect("rules");
    assert_eq!(rules.len(), 2, "{listed}");
    assert_eq!(
        (&rules[0]["name"], &rules[0]["declared"], &rules[0]["rule"]),
        (&json!("approvals.deny.0"), &json!(true), &json!("file.write path=notes/**"))
    );
    assert_eq!(rules[1]["declared"], json!(false), "{listed}");
    assert!(listed["next"].is_null(), "it is one page: {listed}");
}

#[tokio::test]
async fn an_unattended_refusal_says_so_unlike_one_by_a_person() {
    let world = World::new().await;
    let path = format!("/v1/approvals/{}", world.ours.approval);
    for (_, approval) in &mut world.rooms.lock().approvals {
        approval.state = ApprovalState::Denied;
    }
    assert_eq!(world.ask("GET", &path, "").await.json()["unattended"], json!(true));
    for (_, approval) in &mut world.rooms.lock().approvals {
        approval.state = ApprovalState::Holding;
    }
    let answer = format!("{path}/answer");
    let denied = ask_as(&world, TokenScope::Approve, "POST", &answer, r#"{"approve":false}"#).await.json();
    assert_eq!((&denied["state"], &denied["unattended"]), (&json!("denied"), &json!(null)), "{denied}");
}

#[tokio::test]
async fn an_answer_holds_for_all_named_approvals_or_none() {
    let world = World::new().await;
    let (ours, theirs) = (world.ours.approval, world.theirs.approval);
    let other = ApprovalId::from_bytes([0xab; 16]);
    {
        let mut rooms = world.rooms.lock();
        let known = rooms.approvals.iter().find(|(_, row)| row.id == ours).expect("it is there").clone();
        rooms.approvals.push((known.0, ApprovalRequest { id: other, ..known.1 }));
    }
    let path = format!("/v1/approvals/{ours}/answer");
    let many: Vec<String> = (0..=ALSO_MAX).map(|_| other.to_string()).collect();
    let named = |also: serde_json::Value| json!({"approve": true, "also": also}).to_string();
    for (body, place) in [
        (named(json!(many)), "at most"),
        (named(json!(["apr_1"])), "apr_1"),
        (named(json!([other, theirs])), "approval"),
        (
            json!({"approve": true, "reach": "always", "rule": "file.read path=**", "also": [other]})
                .to_string(),
            "also",
        ),
    ] {
        let answer = world.ask("POST", &path, &body).await;
        assert_eq!(answer.status, 400, "{body}: {:?}", answer.body);
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(told.contains(place), "{body}: {told}");
    }
    let states = |world: &World| -> Vec<ApprovalState> {
        let rooms = world.rooms.lock();
        let ours = rooms.approvals.iter().filter(|(_, row)| row.id != theirs);
        ours.map(|(_, row)| row.state).collect()
    };
    assert_eq!(states(&world), [ApprovalState::Holding; 2], "what was refused changed something");
    let both = ask_as(&world, TokenScope::Approve, "POST", &path, &named(json!([other]))).await;
    assert_eq!((both.status.as_u16(), both.json()["id"].clone()), (200, json!(ours)));
    assert_eq!(states(&world), [ApprovalState::Approved; 2]);
    // One that is closed closes the way for all of them.
    world.rooms.lock().approvals[0].1.state = ApprovalState::Holding;
    world.rooms.lock().approvals[0].1.answer = None;
    let deny = json!({"approve": false, "also": [other]}).to_string();
    let late = world.ask("POST", &format!("/v1/approvals/{ours}/answer"), &deny).await;
    assert_eq!((late.status.as_u16(), late.code().as_str()), (409, "approval_closed"));
}
