//! What is said to an agent: bodies, names, keys and waits.

use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::runs::InputTarget;

use crate::client::{Answer, authorized, full, request};
use crate::fake::Mood;
use crate::world::World;

async fn send(world: &World, body: &str) -> Answer {
    world.ask("POST", "/v1/events", body).await
}

async fn send_keyed(world: &World, key: &str, body: &str) -> Answer {
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token).header("idempotency-key", key);
    world.tcp(asked.body(full(body)).unwrap()).await
}

#[tokio::test]
async fn a_malformed_body_is_refused_with_its_place() {
    let world = World::new().await;
    for (body, says) in [
        ("", "the body is empty, but this route needs a JSON object"),
        ("{", "the JSON ends too early, at line 1 column 1"),
        ("{\n\"text\":}", "line 2 column 8"),
        ("\n []", "it is not a JSON object, at line 2 column 2"),
        ("7", "it is not a JSON object, at line 1 column 1"),
        (r#"{"text":7}"#, "line 1 column 9"),
        (r#"{"text":"x","waits":true}"#, "unknown field `waits`"),
        (r#"{"text":"x"} y"#, "it is not JSON: trailing characters, at line 1 column 14"),
        (r#"{"text":"x","text":"y"}"#, "duplicate field `text`"),
        (r#"{"wait":true}"#, "missing field `text`"),
        (r#"{"text":"x","type":"moon.rose"}"#, "unknown variant `moon.rose`"),
        (r#"{"text":"x","session":"run_1"}"#, "expected ses_"),
        (r#"{"text":"  "}"#, "`text` is empty"),
        (r#"{"text":"x","wait_ms":0}"#, "`wait_ms` must be from 1 to 600000"),
        (r#"{"text":"x","wait_ms":600001}"#, "`wait_ms` must be from 1 to 600000"),
        (r#"{"text":"x","actor":""}"#, "`actor` must be"),
        (r#"{"text":"x","channel":"a\u0000b"}"#, "`channel` must be"),
    ] {
        let answer = send(&world, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"), "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{body}: {detail}");
        assert!(!detail.contains("struct") && !detail.contains("EOF"), "{body}: {detail}");
        let is_unread = detail.starts_with("the body is") || detail.starts_with("the body does not match");
        let hint = answer.json()["hint"].as_str().map(str::to_owned);
        assert_eq!(hint.is_some_and(|hint| hint.contains("/openapi.json")), is_unread, "{body}: {detail}");
    }
    for (path, says) in [
        ("/v1/runs?limit=-1", "limit: it must be a whole number, 0 or greater"),
        ("/v1/runs?limit=", "limit: it must be a whole number, and it is empty"),
        ("/v1/runs?limit=99999999999", "limit: the number is too large"),
    ] {
        let answer = world.ask("GET", path, "").await;
        assert_eq!(answer.code(), "invalid_request", "{path}");
        let problem = answer.json();
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("/openapi.json"), "{problem}");
    }
    let with_session = format!(r#"{{"text":"x","session":"{}","agent":"ops"}}"#, world.ours.session);
    assert!(
        send(&world, &with_session).await.json()["detail"].as_str().unwrap().contains("`session` excludes")
    );
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let raw = http_body_util::Full::new(bytes::Bytes::from_static(b"{\"text\":\"\xff\xfe\"}"));
    let answer = world.tcp(asked.body(raw).unwrap()).await;
    assert_eq!(answer.code(), "invalid_request");
    assert!(answer.json()["detail"].as_str().unwrap().contains("line 1 column"));
    assert!(world.rooms.lock().inputs.is_empty());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_announced_or_not() {
    let world = World::with(|config| config.capacity.body_bytes_max = 2048).await;
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(4096));
    let answer = send(&world, &body).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "body_too_large"));
    assert!(answer.json()["hint"].as_str().unwrap().contains("limits.body_bytes_max"), "{:?}", answer.body);
    let fits = format!(r#"{{"text":"{}"}}"#, "x".repeat(1024));
    assert_eq!(send(&world, &fits).await.status, 202);
}

#[tokio::test]
async fn a_compressed_body_is_refused_before_it_is_read() {
    let world = World::new().await;
    for (encoding, status) in [("gzip", 415), ("identity, br", 415), ("Identity", 202)] {
        let asked = authorized(request("POST", "/v1/events"), &world.ours.token)
            .header("content-encoding", encoding)
            .body(full(r#"{"text":"x"}"#));
        let answer = world.tcp(asked.unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{encoding}: {:?}", answer.body);
        if status == 415 {
            assert_eq!(answer.code(), "invalid_request", "{encoding}");
            assert!(world.rooms.lock().inputs.is_empty(), "{encoding}");
        }
    }
}

#[tokio::test]
async fn an_oversized_session_file_error_names_no_limit_key() {
    let world = World::with(|config| config.capacity.import_bytes_max = 1024).await;
    let answer = world.ask("POST", "/v1/sessions/import?agent=ops", &"x".repeat(2048)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "body_too_large"));
    assert!(!answer.json()["hint"].as_str().unwrap().contains("limits."), "{:?}", answer.body);
}

#[tokio::test]
async fn an_input_is_labelled_and_carries_its_author() {
    let world = World::new().await;
    for (body, author, platform) in [
        (r#"{"text":"one"}"#, "token:ci", "http"),
        (r#"{"text":"two","actor":"http:ada","platform":"web","channel":"c"}"#, "token:ci/http:ada", "web"),
    ] {
        assert_eq!(send(&world, body).await.status, 202, "{body}");
        let input = world.rooms.lock().inputs.pop().unwrap();
        assert_eq!(input.author.as_str(), author);
        assert_eq!(input.parts.iter().map(ContentPart::label).collect::<Vec<_>>(), [Label::ACTOR_TEXT]);
        assert!(!input.wait);
        let (InputTarget::Key { agent, key } | InputTarget::Fresh { agent, key }) = input.target else {
            panic!("{body} names no session")
        };
        assert_eq!((agent, key.platform.as_str(), key.actor.as_str()), (world.ours.agent, platform, author));
    }
    let asked = request("POST", "/v1/events").body(full(r#"{"text":"x"}"#)).unwrap();
    assert_eq!(world.unix(asked).await.status, 202);
    let author = world.rooms.lock().inputs.pop().unwrap().author;
    assert!(author.as_str().starts_with("cli:"), "{author}");
}

#[tokio::test]
async fn without_a_channel_every_event_opens_a_session() {
    let world = World::new().await;
    send(&world, r#"{"text":"x"}"#).await;
    send(&world, r#"{"text":"x"}"#).await;
    let inputs = std::mem::take(&mut world.rooms.lock().inputs);
    assert_ne!(inputs[0].target, inputs[1].target);
}

#[tokio::test]
async fn a_wait_returns_the_answer_or_its_expiry_the_receipt() {
    let world = World::new().await;
    let answer = send(&world, r#"{"text":"hello","wait":true}"#).await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    assert_eq!(json["reply"], "you said: hello");
    assert_eq!(json["status"], "completed");
    assert_eq!(json["usage"], serde_json::json!({"input_tokens": 3, "output_tokens": 5}));
    assert_eq!((&json["last_seq"], &json["cost_micros"]), (&4.into(), &42.into()));
    assert!(json.get("failure").is_none());

    world.rooms.lock().mood = Mood::Thinks;
    let answer = send(&world, r#"{"text":"hello","wait":true,"wait_ms":5}"#).await;
    assert_eq!(answer.status, 202);
    let json = answer.json();
    assert!(json["item"].as_str().unwrap().starts_with("itm_"));
    assert_eq!((&json["position"], &json["replayed"]), (&1.into(), &false.into()));
}

#[tokio::test]
async fn a_repeated_key_is_one_event_or_a_conflict() {
    let world = World::new().await;
    let first = send_keyed(&world, "k", r#"{"text":"x"}"#).await.json();
    let again = send_keyed(&world, "k", r#"{"wait":true,"text":"x"}"#).await.json();
    assert_eq!(first["item"], again["item"], "how the answer is awaited is not part of the request");
    assert_eq!((&first["replayed"], &again["replayed"]), (&false.into(), &true.into()));
    let other = send_keyed(&world, "k", r#"{"text":"y"}"#).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (409, "idempotency_conflict"));
    // The key belongs to the tenant.
    let asked = authorized(request("POST", "/v1/events"), &world.theirs.token).header("idempotency-key", "k");
    let theirs = world.tcp(asked.body(full(r#"{"text":"y"}"#)).unwrap()).await;
    assert_eq!((theirs.status.as_u16(), &theirs.json()["replayed"]), (202, &false.into()));
    for bad in [String::new(), "x".repeat(256)] {
        assert_eq!(send_keyed(&world, &bad, r#"{"text":"x"}"#).await.code(), "invalid_request", "{bad:?}");
    }
}

#[tokio::test]
async fn an_agent_is_addressed_by_handle_or_id_until_deleted() {
    let world = World::new().await;
    let by_id = format!(r#"{{"text":"x","agent":"{}"}}"#, world.ours.agent);
    for body in [r#"{"text":"x","agent":"ops"}"#, by_id.as_str(), r#"{"text":"x"}"#] {
        assert_eq!(send(&world, body).await.status, 202, "{body}");
    }
    for body in [r#"{"text":"x","agent":"nobody"}"#, r#"{"text":"x","agent":"No Handle"}"#] {
        assert_eq!(send(&world, body).await.code(), "agent_not_found", "{body}");
    }
    assert_eq!(world.ask("DELETE", "/v1/agents/ops", "").await.json()["erased"]["sessions"], 1);
    assert_eq!(send(&world, r#"{"text":"x","agent":"ops"}"#).await.code(), "agent_not_found");
    let new = world.ask("POST", "/v1/agents", r#"{"handle":"ops","config":{"model":"default"}}"#).await;
    assert_eq!(new.status, 201);
    assert_eq!(send(&world, r#"{"text":"x","agent":"ops"}"#).await.status, 202);
}

#[tokio::test]
async fn a_panic_ends_one_request_and_leaks_no_detail() {
    let world = World::new().await;
    world.rooms.lock().mood = Mood::Panics;
    let answer = send(&world, r#"{"text":"x"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (500, "internal"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    world.rooms.lock().mood = Mood::Answers;
    assert_eq!(send(&world, r#"{"text":"x"}"#).await.status, 202);
    assert_eq!(world.handle.requests_in_flight(), 0, "the share was kept");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_and_probes_are_answered() {
    let world = World::with(|config| config.capacity.requests_max = 1).await;
    world.rooms.lock().mood = Mood::Thinks;
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let waiting = world.open_tcp(asked.body(full(r#"{"text":"x","wait":true}"#)).unwrap());
    let probing = async {
        world.until("the request holds its share", |world| world.handle.requests_in_flight() == 1).await;
        let refused = send(&world, r#"{"text":"x"}"#).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "overloaded"));
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(world.tcp(request("GET", "/health").body(full("")).unwrap()).await.status, 200);
    };
    tokio::select! {
        _ = waiting => panic!("the wait has no end"),
        () = probing => {}
    }
    world.until("the share is given back", |world| world.handle.requests_in_flight() == 0).await;
}

#[tokio::test]
async fn a_token_is_looked_up_once_and_soon_again() {
    let world = World::with(|config| config.deadlines.cache_ms = 60_000).await;
    for _ in 0..5 {
        send(&world, r#"{"text":"x"}"#).await;
    }
    assert_eq!(world.rooms.lock().token_reads, 1);
    let world = World::with(|config| config.deadlines.cache_ms = 0).await;
    assert_eq!(send(&world, r#"{"text":"x"}"#).await.status, 202);
    world.rooms.lock().tokens.clear();
    assert_eq!(send(&world, r#"{"text":"x"}"#).await.code(), "unauthorized");
}
