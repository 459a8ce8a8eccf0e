//! What one actor may bring: whatever the way, who says too much is told when to come again, and others are served.

use dromia_gateway::GatewayConfig;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::client::{Answer, authorized, full, request};
use crate::edge::refusals;
use crate::world::World;

const EVENTS: &str = "/v1/events";
const CHANNEL: &str = "/v1/channels/orders/events";

/// So many inputs a minute, and so many at once.
fn bounded(rate: u32, burst: u32) -> impl FnOnce(&mut GatewayConfig) {
    move |config| {
        (config.callers.actor_inputs_per_minute_max, config.callers.actor_inputs_burst_max) = (rate, burst);
    }
}

impl World {
    /// Says something in the name of an actor, with our token.
    async fn says(&self, actor: &str) -> Answer {
        self.ask("POST", EVENTS, &json!({"text": "x", "actor": actor}).to_string()).await
    }

    async fn says_on_the_socket(&self, event: &Value) -> Answer {
        self.unix(request("POST", EVENTS).body(full(&event.to_string())).unwrap()).await
    }

    /// Says something under a key.
    async fn keyed(&self, key: &str, text: &str) -> Answer {
        let asked = authorized(request("POST", EVENTS), &self.ours.token).header("idempotency-key", key);
        self.tcp(asked.body(full(&json!({ "text": text }).to_string())).unwrap()).await
    }

    fn inputs(&self) -> usize {
        self.rooms.lock().inputs.len()
    }
}

fn is_refused(answer: &Answer, seconds: &str) {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "actor_rate_limited"));
    assert_eq!(answer.headers["retry-after"], seconds);
    let hint = answer.json()["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint.contains("Retry-After") && hint.contains("limits.actor_inputs_"), "{hint}");
}

#[tokio::test]
async fn an_actor_over_its_rate_is_refused_without_hindering_others() {
    let world = World::with(bounded(6, 2)).await;
    for _ in 0..2 {
        assert_eq!(world.says("ada").await.status, 202);
    }
    is_refused(&world.says("ada").await, "10");
    assert_eq!(world.inputs(), 2, "what is refused reaches nobody");
    assert_eq!(world.says("bob").await.status, 202);
    let own = world.ask("POST", EVENTS, r#"{"text":"x"}"#).await;
    assert_eq!(own.status, 202, "the token is an actor of its own");
    let elsewhere = authorized(request("POST", EVENTS), &world.theirs.token);
    let elsewhere = world.tcp(elsewhere.body(full(r#"{"text":"x","actor":"ada"}"#)).unwrap()).await;
    assert_eq!(elsewhere.status, 202, "another tenant has an ada of its own");
    world.rooms.lock().now += SignedDuration::from_secs(10);
    assert_eq!(world.says("ada").await.status, 202);
    is_refused(&world.says("ada").await, "10");
    assert_eq!(refusals(&world, "actor_rate").await, 2);
}

#[tokio::test]
async fn the_rate_spares_the_operator_and_counts_represented_actors() {
    let world = World::with(bounded(1, 1)).await;
    for _ in 0..5 {
        assert_eq!(world.says_on_the_socket(&json!({"text": "x"})).await.status, 202);
    }
    let ada = json!({"text": "x", "actor": "ada"});
    assert_eq!(world.says_on_the_socket(&ada).await.status, 202);
    is_refused(&world.says_on_the_socket(&ada).await, "60");
}

#[tokio::test]
async fn every_way_of_an_input_is_counted() {
    let world = World::with(bounded(1, 1)).await;
    assert_eq!(world.ask("POST", EVENTS, r#"{"text":"x"}"#).await.status, 202);
    for (path, body) in [
        (EVENTS, r#"{"text":"x","wait":true}"#),
        ("/v1/agents/ops/spawn", r#"{"task":"x"}"#),
        ("/v1/agents/ops/tools/exec/call", "{}"),
    ] {
        is_refused(&world.ask("POST", path, body).await, "60");
    }
    let said = r#"{"model":"ops","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    for (path, body, code) in [
        ("/v1/chat/completions", said, "rate_limit_exceeded"),
        ("/v1/messages", said, "actor_rate_limited"),
        ("/v1/responses", r#"{"model":"ops","input":"hi"}"#, "rate_limit_exceeded"),
    ] {
        let refused = world.ask("POST", path, body).await;
        assert_eq!((refused.status.as_u16(), refused.foreign_code().as_str()), (429, code), "{path}");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error", "{path}");
        assert_eq!(refused.headers["retry-after"], "60", "{path}");
    }
    assert_eq!(world.inputs(), 1, "an input came by another way");
    assert_eq!(refusals(&world, "actor_rate").await, 6);
}

#[tokio::test]
async fn the_rate_counts_each_actor_of_a_signed_channel() {
    let world = World::with(bounded(1, 1)).await;
    let ada = r#"{"data":{"text":"hi","actor":"ada"}}"#;
    assert_eq!(world.signed(CHANNEL, "msg_1", "0", ada).await.status, 202);
    is_refused(&world.signed(CHANNEL, "msg_2", "0", ada).await, "60");
    let again = world.signed(CHANNEL, "msg_1", "0", ada).await;
    assert_eq!((again.status.as_u16(), &again.json()["replayed"]), (202, &json!(true)), "it is there");
    let bob = r#"{"data":{"text":"hi","actor":"bob"}}"#;
    assert_eq!(world.signed(CHANNEL, "msg_3", "0", bob).await.status, 202);
}

#[tokio::test]
async fn a_repeat_is_neither_counted_nor_refused() {
    let world = World::with(bounded(1, 2)).await;
    for replayed in [false, true, true] {
        let answer = world.keyed("k1", "x").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["replayed"]), (202, &json!(replayed)));
    }
    assert_eq!(world.keyed("k2", "x").await.status, 202, "the repeats took nothing");
    is_refused(&world.keyed("k3", "x").await, "60");
    let again = world.keyed("k1", "x").await;
    assert_eq!((again.status.as_u16(), &again.json()["replayed"]), (202, &json!(true)));
    is_refused(&world.keyed("k1", "y").await, "60");
    is_refused(&world.keyed("k4", "x").await, "60");
}

#[tokio::test]
async fn a_task_over_the_rate_creates_nothing() {
    let world = World::with(bounded(1, 1)).await;
    let unbounded = json!({"task": "x", "under": format!("cap_{}", "f".repeat(32))}).to_string();
    let refused = world.ask("POST", "/v1/agents/ops/spawn", &unbounded).await;
    assert_eq!(refused.code(), "capability_not_found");
    assert_eq!(world.ask("POST", "/v1/agents/ops/spawn", r#"{"task":"x"}"#).await.status, 202);
    // The rate is asked first: what bounds a task is not looked for, and so is not made either.
    is_refused(&world.ask("POST", "/v1/agents/ops/spawn", &unbounded).await, "60");
}
