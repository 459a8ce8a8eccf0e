//! Events that come in signed, and what is let in by nothing else; messages that wait for a person; the feed.

use std::sync::atomic::Ordering;

use dromia_contracts::label::Label;
use dromia_contracts::runs::InputTarget;
use dromia_gateway::signature::WebhookSigningKey;
use jiff::SignedDuration;
use serde_json::json;

use crate::client::{Answer, authorized, full, request};
use crate::fake::outgoing::{SECRET, VAULTED};
use crate::world::World;

const PATH: &str = "/v1/channels/orders/events";

fn key() -> WebhookSigningKey {
    SECRET.parse().unwrap()
}

fn headers<'a>(id: &'a str, timestamp: &'a str, signature: &'a str) -> [(&'static str, &'a str); 3] {
    [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
}

impl World {
    /// Sends a message as its sender signs it; the clock of the world stands at 1970.
    pub(crate) async fn signed(&self, path: &str, id: &str, timestamp: &str, body: &str) -> Answer {
        let signature = key().sign(id, timestamp, body.as_bytes());
        self.sent(path, &headers(id, timestamp, &signature), body).await
    }

    async fn sent(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut asked = request("POST", path);
        for (name, value) in headers {
            asked = asked.header(*name, *value);
        }
        self.tcp(asked.body(full(body)).unwrap()).await
    }
}

#[tokio::test]
async fn a_signed_event_is_a_claim_in_its_channels_session() {
    let world = World::new().await;
    let answer = world.signed(PATH, "msg_1", "0", r#"{"type":"x","data":{"text":"hi","actor":"ada"}}"#).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let inner = world.rooms.lock();
    let [input] = &inner.inputs[..] else { panic!("{:?}", inner.inputs) };
    let InputTarget::Key { agent, key } = &input.target else { panic!("{:?}", input.target) };
    assert_eq!(*agent, world.ours.agent);
    assert_eq!((key.platform.as_str(), key.channel.as_str()), ("webhook", "orders"));
    assert_eq!((input.author.as_str(), key.actor.as_str()), ("webhook:orders/ada", "webhook:orders/ada"));
    assert_eq!((input.parts[0].as_text(), input.parts[0].label()), ("hi", Label::CLAIM));
    let known = input.key.as_ref().map(|key| key.key.as_str());
    assert_eq!(known, Some("webhook:orders:msg_1"));
}

#[tokio::test]
async fn a_repeated_id_is_one_input_or_a_conflict() {
    let world = World::new().await;
    let body = r#"{"data":{"text":"hi"}}"#;
    let first = world.signed(PATH, "msg_1", "0", body).await.json();
    let again = world.signed(PATH, "msg_1", "7", body).await;
    assert_eq!(again.status, 202);
    let again = again.json();
    assert_eq!((&again["item"], &again["replayed"]), (&first["item"], &json!(true)));
    let other = world.signed(PATH, "msg_1", "7", r#"{"data":{"text":"bye"}}"#).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (409, "idempotency_conflict"));
}

#[tokio::test]
async fn every_bad_signature_gets_the_same_answer_and_no_input() {
    let world = World::new().await;
    let body = r#"{"data":{"text":"hi"}}"#;
    let good = key().sign("m", "0", body.as_bytes());
    let first = world.sent(PATH, &[], body).await;
    assert_eq!((first.status.as_u16(), first.code().as_str()), (401, "signature_refused"));
    for (path, headers, body) in [
        (PATH, headers("n", "0", &good), body),
        (PATH, headers("m", "1", &good), body),
        (PATH, headers("m", "0", "v1,AAAA"), body),
        (PATH, headers("m", "0", &good), r#"{"data":{"text":"ho"}}"#),
        ("/v1/channels/bills/events", headers("m", "0", &good), body),
    ] {
        let refused = world.sent(path, &headers, body).await;
        assert_eq!(refused.status, 401, "{path} {headers:?}");
        assert_eq!(refused.lasting(), first.lasting(), "a stranger learns nothing: {path} {headers:?}");
    }
    let mut doubled = headers("m", "0", &good).to_vec();
    doubled.push(("webhook-id", "m"));
    assert_eq!(world.sent(PATH, &doubled, body).await.status, 401, "which of the two was signed?");
    // A token lets nobody in here, and a signature nowhere else.
    let asked = authorized(request("POST", PATH), &world.ours.token);
    assert_eq!(world.tcp(asked.body(full(body)).unwrap()).await.status, 401);
    let elsewhere = world.signed("/v1/events", "m", "0", r#"{"text":"hi"}"#).await;
    assert_eq!(elsewhere.code(), "unauthorized");
    assert!(world.rooms.lock().inputs.is_empty(), "an input came through");
}

#[tokio::test]
async fn a_vault_key_verifies_only_messages_of_its_channel() {
    let world = World::new().await;
    let body = r#"{"data":{"text":"hi"}}"#;
    let own = VAULTED.parse::<WebhookSigningKey>().unwrap().sign("m", "0", body.as_bytes());
    let other = key().sign("m", "0", body.as_bytes());
    let stranger = world.sent("/v1/channels/bills/events", &headers("m", "0", &own), body).await;
    for (channel, signature) in [("vaulted", &other), ("lost", &own), ("lost", &other), ("orders", &own)] {
        let path = format!("/v1/channels/{channel}/events");
        let refused = world.sent(&path, &headers("m", "0", signature), body).await;
        assert_eq!(refused.status, 401, "{channel}");
        assert_eq!(refused.lasting(), stranger.lasting(), "a stranger learns nothing: {channel}");
    }
    assert!(world.rooms.lock().inputs.is_empty());
    let answer = world.sent("/v1/channels/vaulted/events", &headers("m", "0", &own), body).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    assert_eq!(world.rooms.lock().inputs[0].author.as_str(), "webhook:vaulted");
}

#[tokio::test]
async fn malformed_requests_open_no_vault_and_lookups_share_its_key() {
    let world = World::new().await;
    let (path, body) = ("/v1/channels/vaulted/events", r#"{"data":{"text":"hi"}}"#);
    let vaulted = VAULTED.parse::<WebhookSigningKey>().unwrap();
    let (own, other) = (vaulted.sign("m", "0", body.as_bytes()), key().sign("m", "0", body.as_bytes()));
    let opened = || world.keys.opened.load(Ordering::SeqCst);
    let stranger = world.sent("/v1/channels/bills/events", &headers("m", "0", &own), body).await;
    let late = vaulted.sign("m", "301", body.as_bytes());
    let mut odd = vec![Vec::new()];
    odd.extend((0..3).map(|left_out| {
        let mut some = headers("m", "0", &own).to_vec();
        some.remove(left_out);
        some
    }));
    for (id, timestamp, signature) in [
        ("", "0", own.as_str()),
        ("a.1", "0", &own),
        ("m", "soon", &own),
        ("m", "301", &late),
        ("m", "-301", &late),
        ("m", "0", ""),
        ("m", "0", "v1,AAAA"),
        ("m", "0", own.trim_start_matches("v1,")),
    ] {
        odd.push(headers(id, timestamp, signature).to_vec());
    }
    for headers in odd {
        let refused = world.sent(path, &headers, body).await;
        assert_eq!(refused.status, 401, "{headers:?}");
        assert_eq!(refused.lasting(), stranger.lasting(), "a stranger learns nothing: {headers:?}");
    }
    let long = format!(r#"{{"data":{{"text":"{}"}}}}"#, "x".repeat(2 << 20));
    assert_eq!(world.sent(path, &headers("m", "0", &own), &long).await.code(), "body_too_large");
    assert_eq!(opened(), 0, "nothing of it is worth a look into the vault");
    for _ in 0..20 {
        assert_eq!(world.sent(path, &headers("m", "0", &other), body).await.status, 401);
    }
    assert_eq!(world.sent(path, &headers("m", "0", &own), body).await.status, 202);
    assert_eq!(opened(), 1, "they have met the same key");
    // Why there is none is kept as well.
    for _ in 0..20 {
        let refused = world.sent("/v1/channels/lost/events", &headers("m", "0", &own), body).await;
        assert_eq!(refused.lasting(), stranger.lasting());
    }
    assert_eq!(opened(), 2);
    // A second later it is opened anew, whether or not anything is known to have changed.
    world.rooms.lock().now += SignedDuration::from_secs(1);
    assert_eq!(world.sent(path, &headers("m", "0", &own), body).await.status, 202);
    assert_eq!(opened(), 3);
}

#[tokio::test]
async fn a_key_that_was_renewed_counts_for_the_next_message() {
    let world = World::new().await;
    let (path, body) = ("/v1/channels/vaulted/events", r#"{"data":{"text":"hi"}}"#);
    let old = VAULTED.parse::<WebhookSigningKey>().unwrap().sign("m", "0", body.as_bytes());
    let new = key().sign("m", "0", body.as_bytes());
    for (signature, status) in [(&old, 202), (&new, 401)] {
        assert_eq!(world.sent(path, &headers("m", "0", signature), body).await.status, status);
    }
    // The clock of the world stands: it is the change that counts.
    world.keys.changes.store(1, Ordering::SeqCst);
    for (signature, status) in [(&old, 401), (&new, 202)] {
        assert_eq!(world.sent(path, &headers("m", "0", signature), body).await.status, status);
    }
    assert_eq!(world.keys.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_signature_of_another_time_is_refused_and_says_why() {
    let world = World::new().await;
    let body = r#"{"data":{"text":"hi"}}"#;
    for (sent, status) in [("300", 202), ("-300", 202), ("301", 401), ("-301", 401), ("soon", 401)] {
        let answer = world.signed(PATH, &format!("m{}", sent.len()), sent, body).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        // The second good one is the first with another id.
        assert_eq!(answer.status, status, "{sent}: {said}");
        assert_eq!(said.contains("differs too much"), status == 401, "{said}");
    }
}

#[tokio::test]
async fn a_signed_message_without_text_is_refused() {
    let world = World::new().await;
    for body in ["hi", "[]", r#"{"data":{"text":""}}"#, r#"{"data":{"text":"hi","actor":""}}"#] {
        let answer = world.signed(PATH, "m", "0", body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"), "{body}");
    }
    let long = format!(r#"{{"data":{{"text":"{}"}}}}"#, "x".repeat(2 << 20));
    assert_eq!(world.signed(PATH, "m", "0", &long).await.code(), "body_too_large");
    assert!(world.rooms.lock().inputs.is_empty());
}

#[tokio::test]
async fn the_platform_of_channels_is_refused_to_other_callers() {
    let world = World::new().await;
    let body = r#"{"text":"hi","platform":"webhook","channel":"orders"}"#;
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let answer = world.tcp(asked.body(full(body)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn a_dead_message_is_redriven_once_despite_repeated_requests() {
    let world = World::new().await;
    let path = format!("/v1/deliveries/{}", world.ours.delivery);
    let shown = world.ask("GET", &path, "").await.json();
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("dead"), &json!("expired")));
    assert_eq!(shown["message"], json!({"type": "agent.replied"}));
    for _ in 0..2 {
        let answer = world.ask("POST", &format!("{path}/redrive"), "").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let shown = answer.json();
        assert_eq!((&shown["state"], &shown["redrives"]), (&json!("prepared"), &json!(1)));
    }
    let listed = world.ask("GET", "/v1/deliveries?state=prepared&target=webhook:orders", "").await.json();
    assert_eq!(listed["items"][0]["id"], json!(world.ours.delivery.to_string()));
    assert_eq!(world.ask("GET", "/v1/deliveries?state=dead", "").await.json()["items"], json!([]));
    assert_eq!(world.ask("GET", "/v1/deliveries?state=lost", "").await.status, 400);
}

#[tokio::test]
async fn a_feed_and_its_cursors_stay_within_its_end() {
    let world = World::new().await;
    let page = world.ask("GET", "/v1/feed", "").await.json();
    assert_eq!(page, json!({"items": [], "next": 0, "last": 0}));
    let beyond = world.ask("GET", "/v1/feed?after=1", "").await;
    assert_eq!((beyond.status.as_u16(), beyond.code().as_str()), (400, "cursor_in_future"));
    let beyond = world.ask("PUT", "/v1/feed", r#"{"subscriber":"shop","cursor":1}"#).await;
    assert_eq!(beyond.code(), "cursor_in_future");
    for bad in [r#"{"subscriber":"","cursor":0}"#, r#"{"subscriber":"a\nb","cursor":0}"#, r#"{"cursor":0}"#] {
        assert_eq!(world.ask("PUT", "/v1/feed", bad).await.code(), "invalid_request", "{bad}");
    }
}
