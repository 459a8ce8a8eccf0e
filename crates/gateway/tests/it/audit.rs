//! The audit over the doors: pages, filters, the stream from every place, the file, and why a record is as it is.

use std::time::Duration;

use dromia_contracts::run::RunStatus;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{authorized, full, request};
use crate::fake::audit::seal_of;
use crate::world::{World, stored};

const STARTED: &str = r#"{"call":"call_1_0","tool":"exec","effect":"unkeyed","attempt":1,"action":"0000000000000000000000000000000000000000000000000000000000000000","rule":"grant exec"}"#;
const FINISHED: &str = r#"{"call":"call_1_0","status":"ok","egress":[{"method":"GET","to":"https://a:443","allowed":true,"rule":"grant net:a"},{"method":"GET","to":"https://b:443","allowed":false,"rule":"default deny"}]}"#;
const REFUSED: &str = r#"{"call":"call_2_0","tool":"hunter2","status":"denied","rule":"default deny"}"#;

/// A run that did something, was let out once, refused once, and was denied a tool.
fn history(world: &World) {
    let run = world.ours.run;
    let reason = r#"{"call":"call_2_0","status":"denied","parts":[{"type":"text","text":"this agent is not granted the tool","label":"trusted/actor"}]}"#;
    world.rooms.append(run, stored(1, "tool_started", STARTED, None), RunStatus::Running);
    let finished = stored(2, "tool_finished", FINISHED, Some("{}"));
    world.rooms.append(run, finished, RunStatus::Running);
    world.rooms.append(run, stored(3, "tool_refused", REFUSED, Some(reason)), RunStatus::Running);
}

async fn records(world: &World, query: &str) -> Vec<Value> {
    let page = world.ask("GET", &format!("/v1/audit{query}"), "").await;
    assert_eq!(page.status, 200, "{:?}", page.body);
    page.json()["items"].as_array().unwrap().clone()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn decisions_and_effects_become_records_that_filters_select() {
    let world = World::new().await;
    history(&world);
    let all = records(&world, "").await;
    assert_eq!(
        kinds(&all),
        ["agent_state_set", "tool_started", "tool_finished", "egress", "egress", "tool_refused"]
    );
    assert_eq!((&all[0]["actor"], &all[0]["outcome"]), (&json!("cli:1"), &json!("running")));
    assert_eq!((&all[1]["decision"], &all[1]["rule"]), (&json!("allow"), &json!("grant exec")));
    assert_eq!((&all[4]["what"], &all[4]["decision"]), (&json!("GET https://b:443"), &json!("deny")));
    assert_eq!(all[5]["what"], "(redacted)", "a model names a tool as it likes");
    assert_eq!(all[1]["id"], format!("{}:1", world.ours.run));
    assert_eq!(all[4]["id"], format!("{}:2:2", world.ours.run));

    assert_eq!(kinds(&records(&world, "?decision=deny").await), ["egress", "tool_refused"]);
    assert_eq!(kinds(&records(&world, "?kind=tool_started").await), ["tool_started"]);
    assert_eq!(kinds(&records(&world, "?actor=cli:1").await), ["agent_state_set"]);
    assert!(records(&world, "?since=2026-01-01T00:00:00Z").await.is_empty());
    assert!(records(&world, "?until=1970-01-01T00:00:00Z").await.is_empty());

    for bad in ["?after=here", "?limit=0", "?decision=maybe", "?kid=x", "?kind=tool_startd"] {
        let refused = world.ask("GET", &format!("/v1/audit{bad}"), "").await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "invalid_request"), "{bad}");
    }
    let beyond = world.ask("GET", "/v1/audit?after=18000000000.0.0", "").await;
    assert_eq!(beyond.code(), "cursor_in_future");
}

#[tokio::test]
async fn pages_of_any_length_are_the_whole_without_a_repeat() {
    let world = World::new().await;
    history(&world);
    let whole = records(&world, "").await;
    for limit in 1..=4 {
        let (mut seen, mut after) = (Vec::new(), "0.0.0".to_owned());
        loop {
            let path = format!("/v1/audit?limit={limit}&after={after}");
            let page = world.ask("GET", &path, "").await.json();
            seen.extend(page["items"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, whole, "by {limit}");
    }
}

#[tokio::test]
async fn records_are_paged_backwards_from_the_newest_on_request() {
    let world = World::new().await;
    history(&world);
    let mut whole = records(&world, "").await;
    whole.reverse();
    assert_eq!(records(&world, "?newest=true").await, whole);
    for limit in 1..=4 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        while seen.len() < whole.len() {
            let path = format!("/v1/audit?newest=true&limit={limit}{after}");
            let page = world.ask("GET", &path, "").await.json();
            let items = page["items"].as_array().unwrap();
            assert!(!items.is_empty(), "by {limit}: {page}");
            seen.extend(items.clone());
            after = page["next"].as_str().map(|next| format!("&after={next}")).unwrap_or_default();
        }
        assert_eq!(seen, whole, "by {limit}");
    }
    let asked = authorized(request("GET", "/v1/audit?newest=true"), &world.ours.token);
    let asked = asked.header("accept", "text/event-stream").body(full("")).unwrap();
    assert_eq!(world.open_tcp(asked).await.status(), 400, "a stream goes forward");
}

#[tokio::test]
async fn a_filter_finds_records_behind_many_others() {
    let world = World::new().await;
    history(&world);
    let first = records(&world, "?kind=tool_refused").await.remove(0);
    for seq in 4..44 {
        world.rooms.append(world.ours.run, stored(seq, "tool_started", STARTED, None), RunStatus::Running);
    }
    world.rooms.append(world.ours.run, stored(44, "tool_refused", REFUSED, None), RunStatus::Running);
    let after = first["place"].as_str().unwrap();
    let query = format!("?kind=tool_refused&limit=1&after={after}");
    assert_eq!(kinds(&records(&world, &query).await), ["tool_refused"]);
    let page = world.ask("GET", "/v1/audit?kind=tool_refused&limit=1", "").await.json();
    assert_eq!(
        (&page["items"], &page["next"]),
        (&json!([first]), &json!(after)),
        "the page is cut behind it"
    );
}

#[tokio::test]
async fn an_audit_stream_resumes_anywhere_and_shows_records_once() {
    let world = World::new().await;
    history(&world);
    let whole = records(&world, "").await;
    let first = seal_of(world.ours.run);
    let mut places = vec!["0.0.0".to_owned()];
    places.extend(whole.iter().map(|record| record["place"].as_str().unwrap().to_owned()));
    places.dedup();
    for after in places {
        let expected: Vec<_> = whole
            .iter()
            .filter(|record| {
                let place = record["place"].as_str().unwrap();
                place != after && (after == "0.0.0" || later(place, &after))
            })
            .cloned()
            .collect();
        let asked = authorized(request("GET", "/v1/audit"), &world.ours.token)
            .header("accept", "text/event-stream")
            .header("last-event-id", &after);
        let response = world.open_tcp(asked.body(full("")).unwrap()).await;
        assert_eq!(response.status(), 200);
        let (mut body, mut text) = (response.into_body(), String::new());
        while !text.contains("\n\n") || text.matches("event: record").count() < expected.len() {
            let frame = timeout(Duration::from_secs(20), body.frame()).await.expect("it says nothing");
            text.push_str(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap());
        }
        let (begun, text) = text.split_once("\n\n").expect("it begins");
        assert_eq!(begun, format!("id: {after}\nevent: begun\ndata: {{\"place\":\"{after}\"}}"));
        let data: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        assert_eq!(data, expected, "after {after}");
        let ids = text.lines().filter(|line| line.starts_with("id: ")).count();
        let mut places: Vec<_> = expected.iter().map(|record| &record["place"]).collect();
        places.dedup();
        assert_eq!(ids, places.len(), "records of one item share one id");
    }
    assert!(first > 0);
    world.until("the shares are given back", |world| world.handle.streams_open() == 0).await;
}

/// Whether a place is behind another.
fn later(place: &str, other: &str) -> bool {
    let read = |text: &str| text.parse::<dromia_contracts::audit::AuditCursor>().unwrap();
    read(place) > read(other)
}

#[tokio::test]
async fn an_audit_export_has_header_records_and_footer() {
    let world = World::new().await;
    history(&world);
    let file = world.ask("GET", "/v1/audit/export?decision=deny", "").await;
    assert_eq!(file.headers["content-type"], "application/x-ndjson");
    let text = String::from_utf8(file.body.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("first {\"tenant\":\"default\",") && lines[0].contains("decision=deny"));
    assert!(lines[1].starts_with("line 1 {\"id\":") && lines[2].starts_with("line 2 "));
    assert_eq!(lines[3], "last 2 2");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_record_is_explained_by_the_rule_that_decided_it() {
    let world = World::new().await;
    history(&world);
    let run = world.ours.run;
    let explained = async |id: &str| world.ask("GET", &format!("/v1/audit/{id}"), "").await.json();
    let started = explained(&format!("{run}:1")).await;
    let why = started["why"].as_str().unwrap();
    assert!(why.contains("allowed exec") && why.contains("`grant exec`"), "{why}");
    let egress = explained(&format!("{run}:2:2")).await;
    let why = egress["why"].as_str().unwrap();
    assert!(why.contains("denied GET https://b:443") && why.contains("`default deny`"), "{why}");
    let refused = explained(&format!("{run}:3")).await;
    let why = refused["why"].as_str().unwrap();
    assert!(why.contains("this agent is not granted the tool"), "{why}");
    assert!(!refused["missing"].as_array().unwrap().is_empty(), "the run's beginning is not there");
    let budget = json!({
        "budget": "strangers", "per": "actor", "measure": "calls", "limit": 3, "used": 3, "needed": 1,
    });
    let fields = json!({ "model_calls": 1, "budget": budget }).to_string();
    let yielded = stored(4, "run_yielded", &fields, None);
    world.rooms.append(run, yielded, RunStatus::Running);
    let stopped = explained(&format!("{run}:4")).await;
    let why = stopped["why"].as_str().unwrap();
    assert!(why.contains("the budget strangers (calls per actor) is used up: 3 of 3 used"), "{why}");
    let act = explained(&format!("act:{}", seal_of(run))).await;
    assert!(act["why"].as_str().unwrap().starts_with("cli:1 did this"));
    for absent in [format!("{run}:9"), format!("{run}:2:9"), format!("{run}:0"), "act:0".into(), "x".into()] {
        let refused = world.ask("GET", &format!("/v1/audit/{absent}"), "").await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (404, "record_not_found"), "{absent}");
    }
}
