//! Credentials: made, shown once, listed, taken back at once, and refused after their end.

use std::time::Duration;

use dromia_contracts::TenantId;
use dromia_contracts::token::{TokenScope, TokenScopes};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::client::{Answer, authorized, full, request};
use crate::world::World;

const LISTING: &str = "/v1/agents";

/// A gateway that trusts what it looked up for a minute, so that nothing but a forgotten entry brings it to look again.
async fn trusting() -> World {
    World::with(|config| config.deadlines.cache_ms = 60_000).await
}

async fn ask_with(world: &World, token: &str, method: &str, path: &str, body: &str) -> Answer {
    world.tcp(authorized(request(method, path), token).body(full(body)).unwrap()).await
}

async fn create(world: &World, body: &str) -> Value {
    let created = world.ask("POST", "/v1/tokens", body).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    created.json()
}

fn secret(created: &Value) -> &str {
    created["token"].as_str().unwrap()
}

/// Checks that a refused token is told nothing but the next step.
fn refused(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthorized"));
    let problem = answer.json();
    assert_eq!(problem["detail"], "the token is unknown, expired or revoked");
    assert!(problem["hint"].as_str().unwrap().contains("token create NAME"), "{problem}");
}

#[tokio::test]
async fn a_token_is_shown_once_and_listed_without_itself() {
    let world = World::new().await;
    let body = r#"{"name":"metrics","scopes":["read"],"expires_in_seconds":60}"#;
    let created = create(&world, body).await;
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("tok_") && secret(&created).starts_with("drm_"));
    let mut record = created.clone();
    record.as_object_mut().unwrap().remove("token");
    assert_eq!(
        record,
        json!({
            "id": id, "name": "metrics", "scopes": ["read"], "state": "active",
            "created_at": "1970-01-01T00:00:00Z", "expires_at": "1970-01-01T00:01:00Z",
        })
    );
    let listed = world.ask("GET", "/v1/tokens", "").await;
    let text = String::from_utf8_lossy(&listed.body);
    assert!(!text.contains(secret(&created)) && !text.contains("hash"), "{text}");
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 2);
    assert!(listed.json()["items"].as_array().unwrap().contains(&record), "{text}");
    let first = world.ask("GET", "/v1/tokens?limit=1", "").await.json();
    let next = first["next"].as_str().unwrap();
    let second = world.ask("GET", &format!("/v1/tokens?limit=1&after={next}"), "").await.json();
    assert_ne!(first["items"][0]["id"], second["items"][0]["id"]);
}

#[tokio::test]
async fn an_impossible_token_request_is_refused() {
    let world = World::new().await;
    for (body, says) in [
        (r#"{"name":"x"}"#, "a token needs `scopes` or a `role`, and this one has neither"),
        (r#"{"name":"x","scopes":["read"],"role":"viewer"}"#, "and this one has both"),
        (r#"{"name":"x","role":"king"}"#, "the roles are viewer, approver, operator, monitor, admin"),
        (r#"{"name":"x","scopes":["root"]}"#, "unknown variant `root`"),
        (r#"{"name":"x","scopes":["read"],"expires_in_seconds":0}"#, "`expires_in_seconds` must be from 1"),
        (r#"{"name":"x","scopes":["read"],"expires_in_seconds":315360001}"#, "to 315360000"),
        (r#"{"name":"x","scopes":["read"],"expires_at":1}"#, "unknown field `expires_at`"),
    ] {
        let answer = world.ask("POST", "/v1/tokens", body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"), "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{body}: {:?}", answer.body);
    }
}

/// Uses a token, takes it back in some way, and tells whether it is still let in.
async fn let_in_after(world: &World, take_back: impl AsyncFnOnce(&World, &str)) -> Result<(), String> {
    let created = create(world, r#"{"name":"short","scopes":["read"]}"#).await;
    let before = ask_with(world, secret(&created), "GET", LISTING, "").await;
    assert_eq!(before.status, 200, "{:?}", before.body);
    take_back(world, created["id"].as_str().unwrap()).await;
    let after = ask_with(world, secret(&created), "GET", LISTING, "").await;
    if after.status == 401 {
        refused(&after);
        return Ok(());
    }
    Err(format!("a revoked token is answered {}", after.status))
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once() {
    let world = trusting().await;
    let by_id = let_in_after(&world, async |world, id| {
        let revoked = world.ask("DELETE", &format!("/v1/tokens/{id}"), "").await;
        assert_eq!((revoked.status.as_u16(), &revoked.json()["state"]), (200, &json!("revoked")));
        world.rooms.lock().now += SignedDuration::from_secs(9);
        let again = world.ask("DELETE", &format!("/v1/tokens/{id}"), "").await;
        assert_eq!(again.json()["revoked_at"], revoked.json()["revoked_at"], "once is enough");
    });
    assert_eq!(by_id.await, Ok(()));
    let by_name = let_in_after(&world, async |world, _| {
        assert_eq!(world.ask("DELETE", "/v1/tokens/short", "").await.status, 200);
    });
    assert_eq!(by_name.await, Ok(()));
    assert_eq!(world.ask("GET", LISTING, "").await.status, 200, "another token works on");
}

#[tokio::test]
async fn a_cached_token_that_was_revoked_is_caught() {
    let world = trusting().await;
    // As a revocation would be that tells the store and forgets the cache.
    let found = let_in_after(&world, async |world, id| {
        let mut inner = world.rooms.lock();
        let owner = inner.tokens.values_mut().find(|owner| owner.token.id.to_string() == id).unwrap();
        owner.token.revoked_at = Some(jiff::Timestamp::UNIX_EPOCH);
    });
    assert_eq!(found.await, Err("a revoked token is answered 200 OK".to_owned()));
}

/// Takes a token back in some way while its first look-up has read its row and is not done, and tells whether it is let in later.
async fn let_in_after_a_look(world: &World, take_back: impl AsyncFnOnce(&World, &str)) -> bool {
    let created = create(world, r#"{"name":"short","scopes":["read"]}"#).await;
    let (go_on, waits) = tokio::sync::oneshot::channel();
    let before = {
        let mut rooms = world.rooms.lock();
        rooms.token_waits = Some(waits);
        rooms.token_reads
    };
    let meanwhile = async {
        world.until("its row is read", |world| world.rooms.lock().token_reads > before).await;
        take_back(world, created["id"].as_str().unwrap()).await;
        go_on.send(()).unwrap();
    };
    // What came before the revocation may be answered either way.
    tokio::join!(ask_with(world, secret(&created), "GET", LISTING, ""), meanwhile);
    ask_with(world, secret(&created), "GET", LISTING, "").await.status == 200
}

#[tokio::test]
async fn a_token_revoked_during_its_lookup_is_refused() {
    let world = trusting().await;
    let is_let_in = let_in_after_a_look(&world, async |world, id| {
        let revoked = world.ask("DELETE", &format!("/v1/tokens/{id}"), "").await;
        assert_eq!(revoked.status, 200);
    });
    assert!(!is_let_in.await, "the look that began before is kept");
}

/// Planted fault: the look-up that began before the revocation is kept.
#[tokio::test]
async fn a_look_up_that_outlives_a_revocation_is_caught() {
    let world = trusting().await;
    // As a revocation would be that has nothing forgotten: what the look found stays.
    let is_let_in = let_in_after_a_look(&world, async |world, id| {
        let mut inner = world.rooms.lock();
        let owner = inner.tokens.values_mut().find(|owner| owner.token.id.to_string() == id).unwrap();
        owner.token.revoked_at = Some(jiff::Timestamp::UNIX_EPOCH);
    });
    assert!(is_let_in.await, "nothing notices it");
}

#[tokio::test]
async fn a_cached_token_is_refused_after_its_expiry() {
    let world = trusting().await;
    let created = create(&world, r#"{"name":"short","scopes":["read"],"expires_in_seconds":60}"#).await;
    let reads = |world: &World| world.rooms.lock().token_reads;
    assert_eq!(ask_with(&world, secret(&created), "GET", LISTING, "").await.status, 200);
    let before = reads(&world);
    world.rooms.lock().now += SignedDuration::from_secs(59);
    assert_eq!(ask_with(&world, secret(&created), "GET", LISTING, "").await.status, 200);
    world.rooms.lock().now += SignedDuration::from_secs(1);
    refused(&ask_with(&world, secret(&created), "GET", LISTING, "").await);
    assert_eq!(reads(&world), before, "the clock says it, not another look");
    let listed = world.ask("GET", "/v1/tokens", "").await.json();
    let states: Vec<_> = listed["items"].as_array().unwrap().iter().map(|token| &token["state"]).collect();
    assert!(states.contains(&&json!("expired")), "{listed}");
}

#[tokio::test]
async fn a_refused_token_costs_one_lookup_however_often_shown() {
    let world = trusting().await;
    let created = create(&world, r#"{"name":"short","scopes":["read"]}"#).await;
    assert_eq!(world.ask("DELETE", "/v1/tokens/short", "").await.status, 200);
    for token in ["drm_nobody", secret(&created)] {
        let before = world.rooms.lock().token_reads;
        for _ in 0..3 {
            refused(&ask_with(&world, token, "GET", LISTING, "").await);
        }
        assert_eq!(world.rooms.lock().token_reads, before + 1, "{token}");
    }
}

/// The secret of the token that the rooms make next: they mint by counting.
fn next_secret(world: &World) -> String {
    let mut inner = world.rooms.lock();
    let secret = format!("drm_{}", inner.uuid());
    inner.minted -= 1;
    secret
}

#[tokio::test]
async fn a_token_refused_before_its_creation_works_after_it() {
    let world = trusting().await;
    let early = next_secret(&world);
    refused(&ask_with(&world, &early, "GET", LISTING, "").await);
    let created = create(&world, r#"{"name":"late","scopes":["read"]}"#).await;
    assert_eq!(secret(&created), early);
    assert_eq!(ask_with(&world, &early, "GET", LISTING, "").await.status, 200);
    // A tenant is named by the first number and its token by the tenant.
    let id = next_secret(&world);
    let early = format!("drm_{}", TenantId::from_uuid(id["drm_".len()..].parse().unwrap()));
    refused(&ask_with(&world, &early, "GET", LISTING, "").await);
    let asked = request("POST", "/v1/tenants").body(full(r#"{"handle":"late"}"#)).unwrap();
    let created = world.unix(asked).await.json();
    assert_eq!(secret(&created), early);
    assert_eq!(ask_with(&world, &early, "GET", LISTING, "").await.status, 200);
}

#[tokio::test]
async fn a_shared_name_revokes_no_token_until_one_is_left() {
    let world = World::new().await;
    let body = r#"{"name":"twin","scopes":["read"]}"#;
    let (first, second) = (create(&world, body).await, create(&world, body).await);
    let refused = world.ask("DELETE", "/v1/tokens/twin", "").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "invalid_request"));
    assert!(refused.json()["hint"].as_str().unwrap().contains("`GET /v1/tokens`"));
    let path = format!("/v1/tokens/{}", first["id"].as_str().unwrap());
    assert_eq!(world.ask("DELETE", &path, "").await.status, 200);
    for _ in 0..2 {
        let revoked = world.ask("DELETE", "/v1/tokens/twin", "").await.json();
        assert_ne!(revoked["id"], first["id"], "the one that stood is meant");
        assert_eq!(revoked["id"], second["id"]);
    }
    assert_eq!(world.ask("DELETE", "/v1/tokens/nobody", "").await.code(), "token_not_found");
}

#[tokio::test]
async fn a_caller_learns_its_own_identity() {
    let world = World::new().await;
    let created = create(&world, r#"{"name":"bot","scopes":["invoke"],"expires_in_seconds":60}"#).await;
    let who = ask_with(&world, secret(&created), "GET", "/v1/whoami", "").await;
    assert_eq!(
        who.json(),
        json!({
            "version": env!("CARGO_PKG_VERSION"), "tenant": world.ours.tenant, "tenant_handle": "default",
            "default_agent": "ops", "actor": "token:bot", "credential": "token", "token": created["id"], "scopes": ["invoke"],
            "expires_at": "1970-01-01T00:01:00Z",
        })
    );
    let asked = request("GET", "/v1/whoami").header("x-dromia-tenant", "other").body(full("")).unwrap();
    let who = world.unix(asked).await.json();
    assert_eq!((&who["credential"], &who["scopes"]), (&json!("socket"), &json!(["admin"])));
    assert_eq!((&who["tenant"], &who["tenant_handle"]), (&json!(world.theirs.tenant), &json!("other")));
    assert!(who["actor"].as_str().unwrap().starts_with("cli:"), "{who}");
}

#[tokio::test]
async fn the_socket_owner_manages_tokens_of_the_picked_tenant() {
    let world = trusting().await;
    let on_socket = async |method: &str, path: &str, body: &str| {
        let asked = request(method, path).header("x-dromia-tenant", "other");
        world.unix(asked.body(full(body)).unwrap()).await
    };
    let created = on_socket("POST", "/v1/tokens", r#"{"name":"bot","scopes":["read"]}"#).await.json();
    let theirs = format!("/v1/runs/{}", world.theirs.run);
    assert_eq!(ask_with(&world, secret(&created), "GET", &theirs, "").await.status, 200);
    let ours = format!("/v1/runs/{}", world.ours.run);
    assert_eq!(ask_with(&world, secret(&created), "GET", &ours, "").await.code(), "run_not_found");
    assert_eq!(world.ask("DELETE", "/v1/tokens/bot", "").await.code(), "token_not_found", "it is not ours");
    assert_eq!(on_socket("DELETE", "/v1/tokens/bot", "").await.status, 200);
    refused(&ask_with(&world, secret(&created), "GET", &theirs, "").await);
}

#[tokio::test]
async fn a_revocation_goes_on_when_its_client_goes_away() {
    let world = trusting().await;
    let created = create(&world, r#"{"name":"short","scopes":["read"]}"#).await;
    assert_eq!(ask_with(&world, secret(&created), "GET", LISTING, "").await.status, 200);
    let (hold, held) = tokio::sync::oneshot::channel::<()>();
    world.rooms.lock().revocation_waits = Some(held);
    {
        let asked = authorized(request("DELETE", "/v1/tokens/short"), &world.ours.token);
        let asked = world.open_tcp(asked.body(full("")).unwrap());
        let begun =
            world.until("the revocation begins", |world| world.rooms.lock().revocation_waits.is_none());
        tokio::select! {
            _ = asked => panic!("the revocation waits"),
            () = begun => {}
        }
    }
    world.until("the client is gone", |world| world.handle.requests_in_flight() == 0).await;
    hold.send(()).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while ask_with(&world, secret(&created), "GET", LISTING, "").await.status != 401 {
        assert!(tokio::time::Instant::now() < deadline, "the token is let in for ever");
    }
}

#[tokio::test]
async fn no_scope_is_handed_on_that_the_caller_has_not() {
    let world = World::new().await;
    let all: TokenScopes = TokenScope::ALL.into_iter().collect();
    let body = json!({"name": "all", "scopes": all}).to_string();
    let every = json!(["read", "invoke", "operate", "approve", "metrics", "admin"]);
    assert_eq!(create(&world, &body).await["scopes"], every);
    for scope in ["read", "invoke", "operate", "approve", "metrics"] {
        let created = create(&world, &json!({"name": "less", "scopes": [scope]}).to_string()).await;
        let answer = ask_with(&world, secret(&created), "POST", "/v1/tokens", &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "forbidden"), "{scope}");
    }
}
