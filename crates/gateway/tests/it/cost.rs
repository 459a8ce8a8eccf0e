//! What runs cost, as it is told.

use bytes::Bytes;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{InboxItem, ItemKind, ResumeBody};
use dromia_contracts::{Actor, ItemId, RunId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::{World, stored};

fn started(items: &[ItemId]) -> Value {
    json!({
        "kind": "turn", "agent": "agt_00000000000000000000000000000000",
        "session": "ses_00000000000000000000000000000000", "items": items, "after": 0,
        "config": "0".repeat(64), "prompt": "0".repeat(64), "model_calls_max": 50,
    })
}

fn called(step: u32, attempt: u32, model: &str) -> Value {
    json!({
        "step": step, "attempt": attempt, "model": model, "history_from": 1, "input_tokens": 3,
        "output_tokens_max": 64, "reserved_micros": 70,
        "sent": {"form": "chat/1", "model": model, "digest": "0001020304050607"},
    })
}

fn replied(step: u32, attempt: u32, cost_micros: u64) -> Value {
    json!({
        "step": step, "attempt": attempt, "usage": {"input_tokens": 3, "output_tokens": 5},
        "cost_micros": cost_micros, "finish": "stop",
    })
}

fn failed(step: u32, attempt: u32, code: &str, charged_micros: u64) -> Value {
    json!({"step": step, "attempt": attempt, "code": code, "message": "no", "charged_micros": charged_micros})
}

fn ready() -> Vec<(&'static str, Value)> {
    vec![
        ("run_started", started(&[])),
        ("model_called", called(1, 1, "small")),
        ("model_failed", failed(1, 1, "model_unavailable", 0)),
        ("model_called", called(1, 2, "small")),
        ("model_failed", failed(1, 2, "outcome_unknown", 70)),
        ("model_called", called(1, 3, "large")),
        ("model_replied", replied(1, 3, 42)),
        ("model_called", called(2, 1, "small")),
    ]
}

impl World {
    /// Gives our run a journal, and its row what the journal comes to.
    fn tell(&self, run: RunId, entries: Vec<(&str, Value)>, status: RunStatus) {
        let (mut calls, mut cost, mut tokens) = (0, 0, (0, 0));
        for (seq, (kind, fields)) in (1..).zip(entries) {
            calls += u32::from(kind == "model_called");
            let micros = |name: &str| fields[name].as_u64().unwrap_or_default();
            cost += micros("cost_micros") + micros("charged_micros");
            if kind == "model_replied" {
                tokens = (tokens.0 + 3, tokens.1 + 5);
            }
            self.rooms.append(run, stored(seq, kind, &fields.to_string(), None), status);
        }
        let mut inner = self.rooms.lock();
        let (_, row) = inner.runs.iter_mut().find(|(_, row)| row.id == run).unwrap();
        (row.head.model_calls, row.head.cost_micros) = (calls, cost);
        (row.head.usage.input_tokens, row.head.usage.output_tokens) = tokens;
    }

    /// Adds another run of ours that began at a time.
    fn another(&self, at: &str, number: u8) -> RunId {
        let started_at: Timestamp = at.parse().unwrap();
        let mut bytes = *RunId::earliest_at(started_at).as_bytes();
        bytes[15] = number;
        let mut inner = self.rooms.lock();
        let (tenant, first) = inner.runs.iter().find(|(_, row)| row.id == self.ours.run).cloned().unwrap();
        let id = RunId::from_bytes(bytes);
        inner.runs.push((tenant, RunRecord { id, started_at, ..first }));
        id
    }
}

#[tokio::test]
async fn the_attempts_of_a_run_sum_up_to_its_cost() {
    let world = World::new().await;
    world.tell(world.ours.run, ready(), RunStatus::Running);
    let path = format!("/v1/runs/{}/cost", world.ours.run);
    let cost = world.ask("GET", &path, "").await.json();
    let attempts = cost["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|a| {
            let text = |name: &str| a[name].as_str().unwrap_or_default().to_owned();
            (
                a["seq"].as_u64().unwrap(),
                text("model"),
                text("charge"),
                a["cost_micros"].as_u64().unwrap(),
                text("failure"),
            )
        })
        .collect();
    let attempt = |seq, model: &str, charge: &str, cost, failure: &str| {
        (seq, model.to_owned(), charge.to_owned(), cost, failure.to_owned())
    };
    assert_eq!(
        told,
        [
            attempt(2, "small", "nothing", 0, "model_unavailable"),
            attempt(4, "small", "reservation", 70, "outcome_unknown"),
            attempt(6, "large", "report", 42, ""),
            attempt(8, "small", "open", 0, ""),
        ]
    );
    let own = json!({"model_calls": 4, "input_tokens": 3, "output_tokens": 5, "cost_micros": 112, "unpriced_calls": 0});
    assert_eq!((&cost["self"], &cost["total"], &cost["next"]), (&own, &own, &Value::Null));
    assert_eq!(cost["resumed_by"], json!([]));
}

#[tokio::test]
async fn the_attempts_of_a_run_are_paged() {
    let world = World::new().await;
    world.tell(world.ours.run, ready(), RunStatus::Running);
    let whole = world.ask("GET", &format!("/v1/runs/{}/cost", world.ours.run), "").await.json();
    let (mut paged, mut after) = (Vec::new(), json!(0));
    while after != Value::Null {
        let path = format!("/v1/runs/{}/cost?limit=1&after={after}", world.ours.run);
        let page = world.ask("GET", &path, "").await.json();
        assert_eq!(page["self"], whole["self"]);
        assert!(page["attempts"].as_array().unwrap().len() <= 1);
        paged.extend(page["attempts"].as_array().unwrap().clone());
        after = page["next"].clone();
    }
    assert_eq!(Value::from(paged), whole["attempts"]);
    let path = format!("/v1/runs/{}/cost?after=9", world.ours.run);
    assert_eq!(world.ask("GET", &path, "").await.code(), "cursor_in_future");
}

#[tokio::test]
async fn the_cost_of_a_yielded_run_includes_its_continuations() {
    let world = World::new().await;
    let (first, second, third) =
        (world.ours.run, world.another("2026-01-01T00:00:00Z", 2), world.another("2026-01-01T00:00:00Z", 3));
    let one = |cost| {
        vec![
            ("run_started", started(&[ItemId::from_bytes([1; 16])])),
            ("model_called", called(1, 1, "small")),
            ("model_replied", replied(1, 1, cost)),
        ]
    };
    world.tell(first, one(5), RunStatus::Yielded);
    world.tell(second, one(7), RunStatus::Yielded);
    world.tell(third, one(11), RunStatus::Completed);
    let wish = |position, from, taken_by| InboxItem {
        id: ItemId::from_bytes([9; 16]),
        position,
        at: Timestamp::UNIX_EPOCH,
        kind: ItemKind::Resume,
        author: Actor::new("cli:1"),
        body: Some(Bytes::from(serde_json::to_vec(&ResumeBody { run: from }).unwrap())),
        taken_by: Some(taken_by),
    };
    let session = world.ours.session;
    world.rooms.lock().items.extend([(session, wish(2, first, second)), (session, wish(3, second, third))]);
    for (run, own, total, resumed_by) in
        [(first, 5, 23, vec![second, third]), (second, 7, 18, vec![third]), (third, 11, 11, vec![])]
    {
        let cost = world.ask("GET", &format!("/v1/runs/{run}/cost"), "").await.json();
        assert_eq!(
            (&cost["self"]["cost_micros"], &cost["total"]["cost_micros"]),
            (&json!(own), &json!(total))
        );
        assert_eq!(cost["resumed_by"], json!(resumed_by));
    }
}

#[tokio::test]
async fn a_partial_total_names_the_run_to_continue_from() {
    let world = World::new().await;
    let mut runs = vec![world.ours.run];
    runs.extend((2..=67).map(|number| world.another("2026-01-01T00:00:00Z", number)));
    for (at, run) in runs.iter().enumerate() {
        let entries = vec![
            ("run_started", started(&[ItemId::from_bytes([1; 16])])),
            ("model_called", called(1, 1, "small")),
            ("model_replied", replied(1, 1, 1)),
        ];
        let status = if at + 1 < runs.len() { RunStatus::Yielded } else { RunStatus::Completed };
        world.tell(*run, entries, status);
    }
    let session = world.ours.session;
    let wishes = runs.windows(2).zip(2..).map(|(pair, position)| {
        let item = InboxItem {
            id: ItemId::from_bytes([9; 16]),
            position,
            at: Timestamp::UNIX_EPOCH,
            kind: ItemKind::Resume,
            author: Actor::new("cli:1"),
            body: Some(Bytes::from(serde_json::to_vec(&ResumeBody { run: pair[0] }).unwrap())),
            taken_by: Some(pair[1]),
        };
        (session, item)
    });
    world.rooms.lock().items.extend(wishes);
    let cost = async |run: RunId| world.ask("GET", &format!("/v1/runs/{run}/cost"), "").await.json();
    let first = cost(runs[0]).await;
    assert_eq!(first["resumed_by"].as_array().map(Vec::len), Some(64), "{first}");
    assert_eq!((&first["resumed_further"], &first["total"]["cost_micros"]), (&json!(runs[64]), &json!(65)));
    let rest = cost(runs[64]).await;
    assert_eq!((&rest["resumed_by"], &rest["resumed_further"]), (&json!(runs[65..]), &Value::Null));
    assert_eq!(rest["total"]["cost_micros"], 3);
}

#[tokio::test]
async fn every_grouping_of_a_cost_summary_has_one_total() {
    let world = World::new().await;
    world.tell(world.ours.run, ready(), RunStatus::Running);
    let one = |cost| {
        vec![
            ("run_started", started(&[])),
            ("model_called", called(1, 1, "large")),
            ("model_replied", replied(1, 1, cost)),
        ]
    };
    for (day, number, cost) in [("2026-01-01", 1, 5), ("2026-01-02", 2, 7), ("2026-01-02", 3, 11)] {
        world.tell(world.another(&format!("{day}T08:00:00Z"), number), one(cost), RunStatus::Completed);
    }
    let ask = async |query: &str| world.ask("GET", &format!("/v1/cost?{query}"), "").await.json();
    let since = "since=2026-01-01T00:00:00Z";
    let by_day = ask(&format!("by=day&{since}")).await;
    let groups: Vec<_> = by_day["groups"].as_array().unwrap().iter().map(group).collect();
    assert_eq!(groups, [("2026-01-01".to_owned(), 1, 5), ("2026-01-02".to_owned(), 2, 18)]);
    assert_eq!((&by_day["runs"], &by_day["since"]), (&json!(3), &json!("2026-01-01T00:00:00Z")));
    let by_agent = ask(since).await;
    assert_eq!(by_agent["groups"][0]["name"], "ops");
    let by_model = ask(&format!("by=model&{since}&agent=ops")).await;
    assert_eq!(group(&by_model["groups"][0]), ("large".to_owned(), 3, 23));
    for sum in [&by_agent, &by_model] {
        assert_eq!(sum["total"], by_day["total"]);
    }
    // The id of the first run is of 2025, so only a sum without a beginning counts it.
    let ever = ask("by=model").await;
    let groups: Vec<_> = ever["groups"].as_array().unwrap().iter().map(group).collect();
    assert_eq!(groups, [("small".to_owned(), 1, 70), ("large".to_owned(), 4, 65)]);
    assert_eq!((&ever["total"]["cost_micros"], ever.get("imported")), (&json!(135), None));
    // What came as a file was paid for elsewhere.
    let brought = world.another("2026-01-02T08:00:00Z", 9);
    world.tell(brought, one(1_000), RunStatus::Completed);
    world.rooms.lock().brought.push(brought);
    for by in ["by=day", "by=agent", "by=model"] {
        let sum = ask(by).await;
        assert_eq!(
            (&sum["runs"], &sum["imported"], &sum["total"]["cost_micros"]),
            (&json!(4), &json!(1), &json!(135)),
            "{by}"
        );
    }
    let shown = world.ask("GET", &format!("/v1/runs/{brought}"), "").await.json();
    assert_eq!(shown["imported"], true);
    let listed = world.ask("GET", "/v1/runs", "").await.json();
    let marked = listed["items"].as_array().unwrap().iter().filter(|run| run["imported"] == true).count();
    assert_eq!(marked, 1, "{listed}");
    for bad in ["by=moon", "since=yesterday", "since=", "after=x"] {
        assert_eq!(world.ask("GET", &format!("/v1/cost?{bad}"), "").await.code(), "invalid_request", "{bad}");
    }
    assert_eq!(world.ask("GET", "/v1/cost?agent=moon", "").await.code(), "agent_not_found");
}

fn group(group: &Value) -> (String, u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap();
    (
        group["key"].as_str().unwrap().to_owned(),
        number(&group["runs"]),
        number(&group["spent"]["cost_micros"]),
    )
}
