//! Tasks of an agent: given, listed and ended.

use dromia_contracts::agent::AgentState;
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::InputTarget;
use dromia_contracts::session::{SessionHead, SessionKey, SessionRecord};
use dromia_contracts::{Actor, RunId, SessionId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{Answer, authorized, full, request};
use crate::fake::Mood;
use crate::world::World;

async fn spawn(world: &World, body: &str) -> Answer {
    world.ask("POST", "/v1/agents/ops/spawn", body).await
}

async fn kill(world: &World, body: &Value) -> Answer {
    world.ask("POST", "/v1/agents/ops/kill", &body.to_string()).await
}

/// Gives our agent a session of a task, with a run that stands so, or with nothing but what waits.
fn task(world: &World, newest: Option<RunStatus>, waits: bool) -> SessionId {
    let mut inner = world.rooms.lock();
    let id = SessionId::from_uuid(inner.uuid());
    let key = SessionKey { platform: "task".into(), channel: "1".into(), actor: Actor::new("cli:1") };
    let head = SessionHead { last: 1 + u64::from(waits), taken: 1, active: None };
    let (agent, opened_at) = (world.ours.agent, Timestamp::UNIX_EPOCH);
    inner.sessions.push((world.ours.tenant, SessionRecord { id, agent, key, opened_at, head, origin: None }));
    if let Some(status) = newest {
        let mut run: RunRecord = inner.runs[0].1.clone();
        (run.id, run.session, run.head.status) = (RunId::from_uuid(inner.uuid()), id, status);
        inner.runs.push((world.ours.tenant, run));
    }
    id
}

/// The tasks that a listing shows, by session and state.
async fn listed(world: &World, query: &str) -> (Vec<(String, String)>, Option<String>) {
    let answer = world.ask("GET", &format!("/v1/agents/ops/tasks{query}"), "").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let list = answer.json();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = list["items"].as_array().unwrap().iter();
    let rows = rows.map(|row| (text(row, "session"), text(row, "state"))).collect();
    (rows, list["next"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_task_is_an_input_in_its_own_session() {
    let world = World::new().await;
    let answer = spawn(&world, r#"{"task":"count","wait":true}"#).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let told = answer.json();
    assert_eq!((&told["state"], &told["status"]), (&json!("completed"), &json!("completed")));
    assert_eq!(told["ended"]["reply"], "you said: count");
    let input = world.rooms.lock().inputs.pop().unwrap();
    assert_eq!((input.author.as_str(), input.wait), ("token:ci", true));
    assert_eq!(input.parts.iter().map(ContentPart::label).collect::<Vec<_>>(), [Label::ACTOR_TEXT]);
    let InputTarget::Fresh { agent, key } = input.target else { panic!("it has no session of its own") };
    assert_eq!((agent, key.platform.as_str(), key.actor.as_str()), (world.ours.agent, "task", "token:ci"));

    world.rooms.lock().mood = Mood::Thinks;
    for body in [r#"{"task":"count"}"#, r#"{"task":"count","wait":true,"wait_ms":5}"#] {
        let answer = spawn(&world, body).await;
        assert_eq!(answer.status, 202, "{body}");
        let told = answer.json();
        assert_eq!((&told["state"], told.get("ended")), (&json!("running"), None), "{body}");
        assert!(told["run"].as_str().unwrap().starts_with("run_"), "{told}");
    }
    let inputs = std::mem::take(&mut world.rooms.lock().inputs);
    assert_ne!(inputs[0].target, inputs[1].target, "each has its own");

    for (body, says) in [
        (r#"{"task":" "}"#, "`task` is empty"),
        (r#"{"task":"x","wait_ms":0}"#, "`wait_ms` must be from 1"),
        (r#"{"task":"x","session":"y"}"#, "unknown field `session`"),
        ("{}", "missing field `task`"),
    ] {
        let refused = spawn(&world, body).await;
        assert_eq!(refused.code(), "invalid_request", "{body}");
        assert!(refused.json()["detail"].as_str().unwrap().contains(says), "{body}");
    }
    let reserved = world.ask("POST", "/v1/events", r#"{"text":"x","platform":"task"}"#).await;
    assert_eq!(reserved.code(), "invalid_request");
    assert!(world.rooms.lock().inputs.is_empty(), "an input came through");
}

#[tokio::test]
async fn a_repeated_key_is_one_task_or_a_conflict() {
    let world = World::new().await;
    let keyed = async |agent: &str, body: &str| {
        let path = format!("/v1/agents/{agent}/spawn");
        let asked = authorized(request("POST", &path), &world.ours.token).header("idempotency-key", "k");
        world.tcp(asked.body(full(body)).unwrap()).await
    };
    let first = keyed("ops", r#"{"task":"count"}"#).await.json();
    let again = keyed("ops", r#"{"wait":true,"task":"count"}"#).await.json();
    assert_eq!((&first["run"], &first["session"]), (&again["run"], &again["session"]));
    assert_eq!((&first["replayed"], &again["replayed"]), (&json!(false), &json!(true)));
    let other = keyed("ops", r#"{"task":"sum up"}"#).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (409, "idempotency_conflict"));
}

#[tokio::test]
async fn tasks_are_listed_with_their_states_and_nothing_else_is() {
    let world = World::new().await;
    let made = [
        (task(&world, None, true), "pending"),
        (task(&world, Some(RunStatus::Running), false), "running"),
        (task(&world, Some(RunStatus::Parked), false), "paused"),
        (task(&world, Some(RunStatus::Yielded), false), "paused"),
        (task(&world, Some(RunStatus::Completed), false), "completed"),
        (task(&world, Some(RunStatus::Completed), true), "pending"),
        (task(&world, Some(RunStatus::Cancelled), false), "failed"),
    ];
    let expected = made.map(|(session, state)| (session.to_string(), state.to_owned()));
    assert_eq!(listed(&world, "").await, (expected.to_vec(), None));
    let (paused, _) = listed(&world, "?state=paused").await;
    assert_eq!(paused, expected[2..4]);
    let (first, next) = listed(&world, "?limit=3").await;
    assert_eq!((first.as_slice(), next.as_ref()), (&expected[..3], Some(&expected[2].0)));
    let (rest, _) = listed(&world, &format!("?limit=9&after={}", expected[2].0)).await;
    assert_eq!(rest, expected[3..]);
    let bad = world.ask("GET", "/v1/agents/ops/tasks?state=asleep", "").await;
    assert_eq!(bad.code(), "invalid_request");
    // What nobody will take is not pending.
    world.rooms.lock().agents[0].1.state = AgentState::Terminated;
    let (failed, _) = listed(&world, "?state=failed").await;
    let failed: Vec<_> = failed.into_iter().map(|(session, _)| session).collect();
    assert_eq!(failed, [&made[0].0, &made[5].0, &made[6].0].map(ToString::to_string));
}

#[tokio::test]
async fn ending_requires_a_named_target_and_ends_nothing_else() {
    let world = World::new().await;
    let (run, session) = (world.ours.run, world.ours.session);
    for body in [
        json!({}),
        json!({"run": null}),
        json!({"all": false}),
        json!({"run": run, "all": true}),
        json!({"run": run, "session": session}),
    ] {
        let refused = kill(&world, &body).await;
        assert_eq!(refused.code(), "invalid_request", "{body}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("one of `run`, `session` and `all`"), "{body}: {detail}");
    }
    assert_eq!(world.rooms.lock().runs[0].1.head.status, RunStatus::Running);
    let strange = kill(&world, &json!({"run": world.theirs.run})).await;
    assert_eq!(strange.code(), "run_not_found");
    let ended = kill(&world, &json!({"all": true})).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["runs"]), (202, &json!([run])));
    assert_eq!(kill(&world, &json!({"session": session})).await.json()["runs"], json!([]));
}
