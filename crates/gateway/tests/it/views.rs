//! What the other routes show, as whole documents.

use std::slice;
use std::time::Duration;

use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::ImportLabels;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::StoreDamage;
use dromia_contracts::{Actor, ItemId};
use jiff::Timestamp;
use serde_json::json;

use crate::client::{authorized, full, request};
use crate::world::{World, entry, stored};

#[tokio::test]
async fn an_agent_is_registered_shown_and_steered() {
    let world = World::new().await;
    let new = r#"{"handle":"rev","labels":{"team":"a"},"config":{"model":"default","instructions":"Review.","grants":["reply"]}}"#;
    let created = world.ask("POST", "/v1/agents", new).await;
    assert_eq!(created.status, 201);
    let created = created.json();
    assert_eq!((&created["display_name"], &created["state"]), (&json!("rev"), &json!("running")));
    let config = json!({"model": "default", "instructions": "Review.", "grants": ["reply"]});
    assert_eq!(created["config"], config);
    assert_eq!(world.ask("GET", "/v1/agents/rev", "").await.json(), created);
    for (verb, state) in [("pause", "paused"), ("resume", "running"), ("terminate", "terminated")] {
        let steered = world.ask("POST", &format!("/v1/agents/rev/{verb}"), "").await.json();
        assert_eq!((&steered["state"], steered.get("config")), (&json!(state), None));
    }
    for (bad, says) in [
        (r#"{"handle":"Bad Handle","config":{"model":"m"}}"#, "a handle has"),
        (r#"{"handle":"x","config":{"model":"m","modle":"n"}}"#, "unknown field `modle`"),
        (r#"{"handle":"x","display_name":" ","config":{"model":"m"}}"#, "`display_name`"),
    ] {
        let refused = world.ask("POST", "/v1/agents", bad).await;
        assert_eq!(refused.code(), "invalid_request");
        assert!(refused.json()["detail"].as_str().unwrap().contains(says), "{bad}");
    }
}

#[tokio::test]
async fn a_listing_goes_on_where_its_page_ended() {
    let world = World::new().await;
    for handle in ["a", "b", "c"] {
        let new = format!(r#"{{"handle":"{handle}","config":{{"model":"default"}}}}"#);
        assert_eq!(world.ask("POST", "/v1/agents", &new).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/agents?limit=3".to_owned();
    loop {
        let page = world.ask("GET", &path, "").await.json();
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|agent| agent["handle"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/agents?limit=3&after={next}");
    }
    assert_eq!(seen, ["ops", "a", "b", "c"]);
    for bad in ["limit=0", "limit=257", "limit=x", "after=run_1", "moon=full"] {
        assert_eq!(
            world.ask("GET", &format!("/v1/agents?{bad}"), "").await.code(),
            "invalid_request",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_run_is_shown_explained_and_ended() {
    let world = World::new().await;
    let run = world.ours.run;
    let shown = world.ask("GET", &format!("/v1/runs/{run}"), "").await.json();
    assert_eq!(
        (&shown["id"], &shown["status"], &shown["kind"]),
        (&json!(run), &json!("running"), &json!("turn"))
    );
    let listed = world.ask("GET", "/v1/runs?status=running&agent=ops", "").await.json();
    assert_eq!(listed, json!({"items": [shown], "next": null}));
    assert_eq!(world.ask("GET", "/v1/runs?status=failed", "").await.json()["items"], json!([]));
    assert_eq!(world.ask("GET", "/v1/runs?agent=nobody", "").await.code(), "agent_not_found");
    let why = world.ask("GET", &format!("/v1/runs/{run}/why"), "").await.json();
    assert_eq!((&why["waits_for"], &why["command"]), (&json!("the model"), &json!(null)));
    assert_eq!(world.ask("POST", &format!("/v1/runs/{run}/resume"), "").await.status, 202);
    let ended = world.ask("POST", &format!("/v1/runs/{run}/cancel"), "").await;
    assert_eq!((ended.status.as_u16(), &ended.json()["status"]), (202, &json!("cancelled")));
    assert_eq!(world.ask("GET", "/v1/runs/run_1", "").await.code(), "invalid_request");
}

#[tokio::test]
async fn a_sent_model_request_is_shown_byte_for_byte() {
    let world = World::new().await;
    let path = format!("/v1/runs/{}/requests", world.ours.run);
    let told = world.ask("GET", &format!("{path}/1"), "").await;
    assert_eq!(told.status, 200);
    assert_eq!(told.body, r#"{"model":"m-1", "messages":[]}"#.as_bytes(), "not a byte is changed");
    for (header, value) in [
        ("content-type", "application/json"),
        ("x-dromia-step", "1.2"),
        ("x-dromia-alias", "spare"),
        ("x-dromia-model", "m-1"),
        ("x-dromia-form", "chat/1"),
        ("x-dromia-digest", "0707070707070707"),
    ] {
        assert_eq!(told.headers[header], value);
    }
    let first = world.ask("GET", &format!("{path}/1?attempt=1"), "").await;
    assert_eq!(first.headers["x-dromia-step"], "1.1");
    assert_eq!(world.ask("GET", &format!("{path}/2"), "").await.code(), "request_not_found");
    for bad in ["0", "-1", "x", "1?attempt=x", "1?moon=full"] {
        assert_eq!(world.ask("GET", &format!("{path}/{bad}"), "").await.code(), "invalid_request", "{bad}");
    }
}

#[tokio::test]
async fn state_is_written_under_its_version_and_read_back() {
    let world = World::new().await;
    let base = format!("/v1/sessions/{}/state", world.ours.session);
    let put = async |version: Option<&str>, value: &str| {
        let mut asked = authorized(request("PUT", &format!("{base}/note")), &world.ours.token);
        if let Some(version) = version {
            asked = asked.header("if-match", version);
        }
        world.tcp(asked.body(full(value)).unwrap()).await
    };
    assert_eq!(put(Some("0"), r#"{"a": 1}"#).await.json(), json!({"name": "note", "version": 1}));
    let refused = put(Some("0"), "2").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (412, "version_conflict"));
    assert_eq!(put(Some("\"1\""), "[2]").await.json()["version"], 2);
    assert_eq!(put(None, "3").await.json()["version"], 3);
    assert_eq!(put(Some("*"), "4").await.code(), "invalid_request");
    assert_eq!(put(None, "{").await.code(), "invalid_request");
    let listed = world.ask("GET", &base, "").await.json();
    assert_eq!(listed, json!({"items": [{"name": "note", "version": 3, "value": 3}], "next": null}));
}

#[tokio::test]
async fn a_session_goes_out_and_comes_in_as_a_file() {
    let world = World::new().await;
    let file = world.ask("GET", &format!("/v1/sessions/{}/export", world.ours.session), "").await;
    assert_eq!(file.headers["content-type"], "application/octet-stream");
    assert_eq!(file.headers["x-dromia-open-runs"], "1");
    assert_eq!(file.headers["x-dromia-waiting-inputs"], "2");
    let record = (world.ours.tenant, Actor::new("token:ci"), world.ours.session);
    assert_eq!(world.rooms.lock().exported, slice::from_ref(&record), "who took it is in the audit");
    let text = std::str::from_utf8(&file.body).unwrap();
    let imported = world.ask("POST", "/v1/sessions/import?agent=ops", text).await;
    assert_eq!(imported.status, 201);
    assert!(imported.json()["session"].as_str().unwrap().starts_with("ses_"));
    assert_eq!(world.ask("POST", "/v1/sessions/import", text).await.code(), "invalid_request");
    for (asked, status) in
        [("trust_labels=true", 201), ("trust_labels=false", 201), ("trust_labels=ops", 400)]
    {
        let answer = world.ask("POST", &format!("/v1/sessions/import?agent=ops&{asked}"), text).await;
        assert_eq!(answer.status.as_u16(), status, "{asked}");
    }
    let believed = [ImportLabels::Doubted, ImportLabels::Believed, ImportLabels::Doubted];
    assert_eq!(world.rooms.lock().imported, believed, "nobody vouches for a file by saying nothing");
    for (name, status) in [("second", 201), ("x".repeat(129).as_str(), 400)] {
        let answer = world.ask("POST", &format!("/v1/sessions/import?agent=ops&copy={name}"), text).await;
        assert_eq!(answer.status.as_u16(), status, "{name}");
    }
    assert_eq!(world.rooms.lock().copies, ["second"]);
    // Nobody waits under the key of a file for the session that it will find.
    let opened =
        world.ask("POST", "/v1/events", r#"{"agent":"ops","platform":"import","channel":"x","text":"x"}"#);
    let opened = opened.await;
    assert_eq!((opened.status.as_u16(), opened.code().as_str()), (400, "invalid_request"));
    assert!(opened.json()["hint"].as_str().unwrap().contains("`session`"));

    // Whose record cannot be kept gets no file, and what nobody got leaves no record.
    world.rooms.lock().read_only = Some("no space left".into());
    let refused = world.ask("GET", &format!("/v1/sessions/{}/export", world.ours.session), "").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "store_unavailable"));
    world.rooms.lock().read_only = None;
    let theirs = world.ask("GET", &format!("/v1/sessions/{}/export", world.theirs.session), "").await;
    assert_eq!(theirs.status, 404);
    assert_eq!(world.rooms.lock().exported, [record]);
}

#[tokio::test]
async fn an_import_whose_client_goes_away_keeps_its_share() {
    const PATH: &str = "/v1/sessions/import?agent=ops";
    let world = World::with(|config| config.capacity.imports_max = 1).await;
    let (hold, held) = tokio::sync::oneshot::channel::<()>();
    world.rooms.lock().import_waits = Some(held);
    {
        let asked = authorized(request("POST", PATH), &world.ours.token);
        let asked = world.open_tcp(asked.body(full("a session")).unwrap());
        let begun = world.until("the import begins", |world| world.rooms.lock().import_waits.is_none());
        tokio::select! {
            _ = asked => panic!("the import waits"),
            () = begun => {}
        }
    }
    world.until("the client is gone", |world| world.handle.requests_in_flight() == 0).await;
    assert_eq!(
        world.ask("POST", PATH, "a session").await.code(),
        "overloaded",
        "the file is still in memory"
    );
    hold.send(()).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while world.ask("POST", PATH, "a session").await.status != 201 {
        assert!(tokio::time::Instant::now() < deadline, "the share is never given back");
    }
    assert_eq!(world.rooms.lock().imported.len(), 2, "the first went on to its end");
}

/// Puts an input into the session that is ours, taken by its run.
fn put_input(world: &World) {
    let body = r#"{"version":1,"message":{"author":"token:ci","parts":[{"type":"text","text":"what time?","label":"trusted/actor"}]}}"#;
    world.rooms.lock().items.push((
        world.ours.session,
        InboxItem {
            id: ItemId::from_bytes([5; 16]),
            position: 1,
            at: Timestamp::UNIX_EPOCH,
            kind: ItemKind::Input,
            author: Actor::new("token:ci"),
            body: Some(body.into()),
            taken_by: Some(world.ours.run),
        },
    ));
}

#[tokio::test]
async fn a_failed_run_leaves_no_call_waiting_for_a_client() {
    let world = World::new().await;
    let (run, session) = (world.ours.run, world.ours.session);
    put_input(&world);
    let replied = r#"{"step":1,"attempt":1,"usage":{"input_tokens":1,"output_tokens":1},"cost_micros":0,"finish":"tool_calls","tools":["weather"]}"#;
    let asked = r#"{"calls":[{"id":"call_1_0","tool":"weather","arguments":"{}"}]}"#;
    let handed = r#"{"call":"call_1_0","tool":"weather"}"#;
    world.rooms.append(run, stored(1, "model_replied", replied, Some(asked)), RunStatus::Running);
    world.rooms.append(run, stored(2, "tool_handed", handed, None), RunStatus::Running);
    let path = format!("/v1/sessions/{session}/transcript");
    let open = world.ask("GET", &path, "").await.json();
    assert_eq!(open["turns"][1]["handed"][0]["tool"], "weather", "{open}");
    let failed = r#"{"code":"action_denied","message":"the reply was refused"}"#;
    world.rooms.append(run, stored(3, "run_failed", failed, None), RunStatus::Failed);
    let closed = world.ask("GET", &path, "").await.json();
    let unit = &closed["turns"][1];
    assert_eq!((&unit["calls"][0]["status"], unit.get("handed")), (&json!("cancelled"), None), "{closed}");
}

#[tokio::test]
async fn a_transcript_holds_inputs_and_closed_units_only() {
    let world = World::new().await;
    let (run, session) = (world.ours.run, world.ours.session);
    put_input(&world);
    let replied = |step: u32| {
        format!(
            r#"{{"step":{step},"attempt":1,"usage":{{"input_tokens":1,"output_tokens":1}},"cost_micros":0,"finish":"stop"}}"#
        )
    };
    let call = r#"{"calls":[{"id":"call_1_0","tool":"time.now","arguments":"{}"}]}"#;
    let result = r#"{"call":"call_1_0","status":"ok","parts":[{"type":"text","text":"noon","label":"trusted/public"}]}"#;
    let open = r#"{"calls":[{"id":"call_2_0","tool":"time.now","arguments":"{}"}]}"#;
    let finished = r#"{"call":"call_1_0","status":"ok"}"#;
    world.rooms.append(run, stored(1, "model_replied", &replied(1), Some(call)), RunStatus::Running);
    world.rooms.append(run, stored(2, "tool_finished", finished, Some(result)), RunStatus::Running);
    world.rooms.append(run, stored(3, "model_replied", &replied(2), Some(open)), RunStatus::Running);
    let transcript = world.ask("GET", &format!("/v1/sessions/{session}/transcript"), "").await.json();
    assert_eq!(
        transcript,
        json!({
            "session": session, "cut": false, "waiting": 2,
            "turns": [
                {
                    "role": "input", "item": ItemId::from_bytes([5; 16]), "position": 1,
                    "at": "1970-01-01T00:00:00Z", "author": "token:ci", "text": "what time?", "run": run,
                },
                {
                    "role": "unit", "run": run, "seq": 1, "at": "1970-01-01T00:00:00Z", "text": "",
                    "calls": [{
                        "id": "call_1_0", "tool": "time.now", "arguments": "{}", "status": "ok", "result": "noon",
                    }],
                },
            ],
        })
    );
    // What this version cannot read is told and not left out.
    world.rooms.append(run, entry(4), RunStatus::Running);
    let refused = world.ask("GET", &format!("/v1/sessions/{session}/transcript"), "").await;
    assert_eq!(refused.code(), "journal_unreadable");
}

#[tokio::test]
async fn the_status_shows_the_operator_more_than_a_tenant() {
    let world = World::new().await;
    world.rooms.lock().read_only = Some("no space left".into());
    let tenant = world.ask("GET", "/v1/status", "").await.json();
    let operator = world.unix(request("GET", "/v1/status").body(full("")).unwrap()).await.json();
    assert_eq!((&tenant["tenants"], &operator["tenants"]), (&json!(1), &json!(2)));
    assert_eq!(tenant["store"].get("read_only_cause"), None);
    assert_eq!(operator["store"]["read_only_cause"], "no space left");
    assert_eq!((tenant["store"].get("damaged"), operator["store"].get("damaged")), (None, None));
    assert_eq!(operator["load"], json!({"active": 1, "ready": 2, "active_max": 64}));
    assert_eq!(
        (tenant.get("load"), tenant["store"].get("commits")),
        (None, None),
        "another tenant's are in it"
    );
    assert_eq!(operator["store"]["commits"], 7);
}

#[tokio::test]
async fn the_status_reports_damage_and_its_place_to_the_operator() {
    let world = World::new().await;
    let problem = "entry 3 of another's run: its body is missing".to_owned();
    let now = {
        let mut rooms = world.rooms.lock();
        rooms.damaged = Some(StoreDamage { problem, ago: Duration::from_mins(1), met: 2 });
        rooms.now
    };
    let tenant = world.ask("GET", "/v1/status", "").await.json();
    let operator = world.unix(request("GET", "/v1/status").body(full("")).unwrap()).await.json();
    let since: Timestamp = tenant["store"]["damaged"]["since"].as_str().unwrap().parse().unwrap();
    assert_eq!(since.as_second(), now.as_second() - 60);
    assert_eq!(
        (tenant["store"]["damaged"].get("met"), &operator["store"]["damaged"]["met"]),
        (None, &json!(2))
    );
    assert_eq!(tenant["store"]["damaged"].get("problem"), None);
    assert_eq!(operator["store"]["damaged"]["problem"], "entry 3 of another's run: its body is missing");
    assert_eq!(operator["store"]["writable"], true);
}

#[tokio::test]
async fn a_new_tenant_gets_a_token_that_works_at_once() {
    let world = World::new().await;
    let asked = request("POST", "/v1/tenants").body(full(r#"{"handle":"acme"}"#)).unwrap();
    let created = world.unix(asked).await.json();
    let token = created["token"].as_str().unwrap();
    let listed = world.tcp(authorized(request("GET", "/v1/agents"), token).body(full("")).unwrap()).await;
    assert_eq!(listed.json(), json!({"items": [], "next": null}));
    let asked = request("POST", "/v1/tenants").body(full(r#"{"handle":"acme"}"#)).unwrap();
    assert_eq!(world.unix(asked).await.code(), "handle_taken");
}
