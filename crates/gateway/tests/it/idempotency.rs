//! Every change takes an idempotency key: a repeat under the same key is not carried out, and gets the first answer.

use dromia_gateway::openapi;

use crate::client::{Answer, full, request};
use crate::described::Operation;
use crate::world::World;

/// Changes whose repeats are known by what they write. Each has tests of its own; nothing is added here by chance.
const KNOWN_BY_THEMSELVES: [&str; 10] = [
    "agent_change",
    "agent_revert",
    "event_send",
    "session_import",
    "task_spawn",
    "tenant_create",
    "tenant_delete",
    "tenant_resume",
    "tenant_suspend",
    "tool_call",
];

/// A change that is asked for twice in a world of its own, and how often that world was changed.
async fn ask_twice(operation: &Operation, keys: [&str; 2]) -> (World, [Answer; 2]) {
    let world = World::new().await;
    let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
    let ask = |key| {
        let asked = request(&operation.method, &path).header("idempotency-key", key);
        world.unix(asked.body(full(&body)).unwrap())
    };
    let answers = [ask(keys[0]).await, ask(keys[1]).await];
    (world, answers)
}

/// Says what of a repeat shows that it was carried out.
fn check_repeat(operation: &Operation, [first, again]: &[Answer; 2]) -> Result<(), String> {
    let line = operation.line();
    if !first.status.is_success() || first.headers.contains_key("idempotency-replayed") {
        return Err(format!("{line} was not carried out: {:?}", first.body));
    }
    if operation.id == "token_create" {
        let refused = again.status == 409 && again.code() == "idempotency_conflict";
        return if refused { Ok(()) } else { Err(format!("{line} gave a second token: {:?}", again.body)) };
    }
    let same = (again.status, &again.body, again.headers.get("etag"))
        == (first.status, &first.body, first.headers.get("etag"));
    match again.headers.get("idempotency-replayed").map(hyper::header::HeaderValue::as_bytes) {
        Some(b"true") if same => Ok(()),
        _ => Err(format!("{line} was carried out twice: {:?}, then {:?}", first.body, again.body)),
    }
}

async fn kept_changes() -> Vec<Operation> {
    let operations = World::new().await.operations().await;
    let changes =
        operations.into_iter().filter(|it| !matches!(&*it.method, "GET" | "HEAD") && !it.is_foreign());
    changes.filter(|it| !it.is_signed() && !KNOWN_BY_THEMSELVES.contains(&&*it.id)).collect()
}

#[test]
fn every_change_names_its_idempotency_key() {
    let document = openapi::build_document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let names: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
            let named =
                |name: &str| names.iter().filter(|it| it["name"] == name && it["in"] == "header").count();
            // Counting changes nothing, and webhooks have a key of their own.
            let expected = match operation["operationId"].as_str().unwrap_or_default() {
                "message_count_tokens" => 0,
                _ if method == "get" || method == "head" => 0,
                "channel_receive" => {
                    assert_eq!(named("webhook-id"), 1);
                    0
                }
                _ => 1,
            };
            assert_eq!(named("idempotency-key"), expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_repeat_of_any_change_gets_the_first_answer() {
    let changes = kept_changes().await;
    assert!(changes.len() >= 25, "{} changes are too few", changes.len());
    for operation in changes {
        let (_world, answers) = ask_twice(&operation, ["one", "one"]).await;
        check_repeat(&operation, &answers).unwrap();
        for answer in &answers {
            operation.describes(answer);
        }
    }
}

#[tokio::test]
async fn a_change_carried_out_twice_is_caught() {
    for operation in kept_changes().await {
        // Another key is what a server sees that ignores keys.
        let (_world, answers) = ask_twice(&operation, ["one", "two"]).await;
        assert!(check_repeat(&operation, &answers).is_err(), "{} hides a second change", operation.line());
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_caller() {
    let world = World::new().await;
    let create = |name: &str, token: Option<&str>| {
        let body = format!(r#"{{"agent":"{}","rights":["file:write:{name}"]}}"#, world.ours.agent);
        let asked = request("POST", "/v1/capabilities").header("idempotency-key", "one");
        let asked = match token {
            Some(token) => asked.header("authorization", format!("Bearer {token}")),
            None => asked,
        };
        (asked.body(full(&body)).unwrap(), token.is_some())
    };
    let ask =
        async |(asked, over_tcp)| if over_tcp { world.tcp(asked).await } else { world.unix(asked).await };
    assert_eq!(ask(create("docs", None)).await.status, 201);
    let other = ask(create("src", None)).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (409, "idempotency_conflict"));
    let theirs = ask(create("src", Some(&world.ours.token))).await;
    assert_eq!(theirs.status, 201, "another caller has keys of its own: {:?}", theirs.body);
    let strange = request("POST", "/v1/agents/ops/pause").header("idempotency-key", "");
    assert_eq!(world.unix(strange.body(full("")).unwrap()).await.code(), "invalid_request");
}

#[tokio::test]
async fn a_refused_change_gives_its_key_back() {
    let world = World::new().await;
    let ask = async |agent: &str| {
        let body = format!(r#"{{"agent":"{agent}","rights":["file:write:docs"]}}"#);
        let asked = request("POST", "/v1/capabilities").header("idempotency-key", "one");
        world.unix(asked.body(full(&body)).unwrap()).await
    };
    for _ in 0..2 {
        assert_eq!(ask("stranger").await.code(), "agent_not_found", "it is tried again, and not replayed");
    }
    let made = ask("ops").await;
    assert_eq!((made.status.as_u16(), made.headers.get("idempotency-replayed")), (201, None));
    let again = ask("ops").await;
    assert_eq!((again.headers["idempotency-replayed"].to_str().unwrap(), again.body), ("true", made.body));
}

#[tokio::test]
async fn a_change_without_a_kept_answer_is_not_made_again() {
    use dromia_contracts::store::{AnswerPut, Mutation, Store as _, WriteBatch};
    let world = World::new().await;
    let ask = async || {
        let asked = request("POST", "/v1/agents/ops/pause").header("idempotency-key", "one");
        world.unix(asked.body(full("")).unwrap()).await
    };
    assert_eq!(ask().await.status, 200);
    // As the process leaves it that stops between the change and its answer.
    let store = &world.rooms.outgoing;
    let scope = dromia_contracts::ScopeAuthority::claim();
    let scope = scope.issue_scope(world.ours.tenant, dromia_contracts::Actor::new("test"));
    let actor = world.unix(request("GET", "/v1/whoami").body(full("")).unwrap()).await.json();
    let key = format!("{}\none", actor["actor"].as_str().unwrap());
    let key = dromia_contracts::Digest::from_bytes(*blake3::hash(key.as_bytes()).as_bytes());
    let known = store.kept_answer(&scope, key).await.unwrap().expect("the answer is kept");
    let later = known.at + AnswerPut::KEPT;
    let left = AnswerPut { claim: 7, at: later, answer: None, ..known };
    store.commit(WriteBatch::new(world.ours.tenant).with_mutation(Mutation::AnswerPut(left))).await;
    let unknown = ask().await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (500, "outcome_unknown"));
    assert!(unknown.json()["hint"].as_str().unwrap().contains("use a new key"), "{:?}", unknown.body);
}
