//! The webhook channel: signed requests over HTTP in both directions, as Standard Webhooks has them.

use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::channel::{
    ANSWER_BYTES_MAX, Channel, ChannelInput, DeliveryClass, DeliveryOutcome, OutgoingMessage,
    RECEIVER_ID_BYTES_MAX, ReceiveError, ReceivedMessage, ReceiverAnswer, bounded_answer,
};
use dromia_contracts::{BoxFuture, DeliveryId, Digest, Scope};
use serde_json::Value;

use super::{AdapterPorts, ChannelKey, ChannelKeys, DeliveryTerms};
use crate::outbox::{WebhookOutcome, WebhookRequest};
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookSigningKey};

/// The longest name of an actor, in bytes.
pub(super) const ACTOR_BYTES_MAX: usize = 128;

/// One webhook channel. Everything is checked before it gets here.
#[derive(Debug, Clone)]
pub struct WebhookChannel {
    /// The tenant.
    pub tenant: HandleSlug,
    /// The agent that answers.
    pub agent: HandleSlug,
    /// What its messages do while a turn runs, if that is not left to the agent.
    pub when_busy: Option<BusyPolicy>,
    /// Where answers are sent.
    pub url: String,
    /// What signs in both directions.
    pub key: ChannelKey,
    /// Whether the receiver takes our id, so that a repeat is counted once.
    pub idempotent: bool,
    /// How far the time of an event may be from now.
    pub tolerance: Duration,
    /// The most attempts at one message.
    pub attempts_max: u32,
    /// The pause after the first failed attempt; it doubles with each.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// The oldest message that is sent.
    pub age_max: Duration,
    /// The most messages that a start sends of those which an earlier life left.
    pub recovery_max: u64,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
}

impl WebhookChannel {
    /// Finds the key in a scope of the channel's tenant, or says why not.
    pub(crate) async fn signing_key(
        &self,
        keys: &dyn ChannelKeys,
        scope: &Scope,
    ) -> Result<WebhookSigningKey, String> {
        match &self.key {
            ChannelKey::Held(key) => Ok(key.clone()),
            ChannelKey::InVault(secret) => keys.open_key(scope, secret, &self.url).await,
            ChannelKey::Missing(reason) => Err(reason.clone()),
        }
    }

    /// How its messages are tried.
    pub(super) fn delivery_terms(&self) -> DeliveryTerms {
        DeliveryTerms {
            class: if self.idempotent { DeliveryClass::Keyed } else { DeliveryClass::Plain },
            attempts_max: self.attempts_max,
            backoff: self.backoff,
            backoff_max: self.backoff_max,
            age_max: self.age_max,
            recovery_max: self.recovery_max,
            timeout: self.timeout,
        }
    }
}

/// Sends and reads the messages of a webhook channel.
#[derive(Debug)]
pub struct WebhookAdapter {
    channel: WebhookChannel,
    ports: AdapterPorts,
}

impl WebhookAdapter {
    /// Sets it up; nothing is opened.
    pub fn new(channel: WebhookChannel, ports: AdapterPorts) -> Self {
        Self { channel, ports }
    }
}

impl Channel for WebhookAdapter {
    fn delivery_class(&self) -> DeliveryClass {
        self.channel.delivery_terms().class
    }

    /// Signs a message and posts it. A message that cannot be signed is not sent.
    fn deliver(&self, message: OutgoingMessage) -> BoxFuture<'_, DeliveryOutcome> {
        Box::pin(async move {
            match self.channel.signing_key(&*self.ports.keys, &message.scope).await {
                Ok(key) => {
                    let request = signed_request(&self.channel, &key, message);
                    read_outcome(self.ports.post.send_webhook(request).await)
                }
                Err(problem) => {
                    DeliveryOutcome::NotSent { cause: format!("the channel's secret cannot sign: {problem}") }
                }
            }
        })
    }

    fn find_delivered(&self, _: DeliveryId) -> BoxFuture<'_, Result<Option<ReceiverAnswer>, String>> {
        Box::pin(std::future::ready(Err("a webhook cannot be asked for a message".to_owned())))
    }

    fn receive(&self, input: ChannelInput) -> BoxFuture<'_, Result<Vec<ReceivedMessage>, ReceiveError>> {
        let received = match input {
            ChannelInput::Pushed { id, body } => read_message(id, &body).map(|message| vec![message]),
            ChannelInput::Followed => Ok(Vec::new()),
        };
        Box::pin(std::future::ready(received))
    }

    fn acknowledge(&self, _: String) -> BoxFuture<'_, Result<(), ReceiveError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Writes and signs a message. All attempts carry one id and one body; the time and so the signature are the attempt's.
fn signed_request(
    channel: &WebhookChannel,
    key: &WebhookSigningKey,
    message: OutgoingMessage,
) -> WebhookRequest {
    let (id, timestamp) = (message.delivery.to_string(), message.at.as_second().to_string());
    let signature = key.sign(&id, &timestamp, &message.body);
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        (ID_HEADER, id),
        (TIMESTAMP_HEADER, timestamp),
        (SIGNATURE_HEADER, signature),
    ];
    WebhookRequest { url: channel.url.clone(), headers, body: message.body, timeout: channel.timeout }
}

/// Says what an answer means. 429, and 503 with a time, say that the message was not accepted; any other refusal may come
/// from a receiver that has acted on it.
fn read_outcome(posted: WebhookOutcome) -> DeliveryOutcome {
    match posted {
        WebhookOutcome::Answered { status, retry_after, body } => {
            let answer = read_answer(status, &body);
            match status {
                200..=299 => DeliveryOutcome::Accepted(answer),
                410 => DeliveryOutcome::Gone(answer),
                429 => DeliveryOutcome::NotAccepted { answer, retry_after },
                503 if retry_after.is_some() => DeliveryOutcome::NotAccepted { answer, retry_after },
                _ => DeliveryOutcome::Refused { answer, retry_after },
            }
        }
        WebhookOutcome::NotSent { cause } => DeliveryOutcome::NotSent { cause },
        WebhookOutcome::Unanswered { cause } => DeliveryOutcome::Unanswered { cause },
    }
}

/// Keeps the beginning of an answer, and the `id` of one that is a JSON object.
fn read_answer(status: u16, body: &[u8]) -> ReceiverAnswer {
    let id = serde_json::from_slice::<Value>(body).ok().and_then(|body| match &body["id"] {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let is_kept = |id: &String| {
        !id.is_empty() && id.len() <= RECEIVER_ID_BYTES_MAX && !id.chars().any(char::is_control)
    };
    ReceiverAnswer {
        status: Some(status),
        receiver_id: id.filter(is_kept),
        text: bounded_answer(String::from_utf8_lossy(body).trim(), ANSWER_BYTES_MAX),
    }
}

/// Takes `data.text` for what is said and `data.actor` for who says it; a message without a text is said as a whole.
fn read_message(id: String, body: &Bytes) -> Result<ReceivedMessage, ReceiveError> {
    let invalid = |field, problem| Err(ReceiveError::Invalid { field, problem });
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return invalid(None, format!("the body does not match this route: {error}")),
    };
    if !value.is_object() {
        return invalid(None, "the body does not match this route: expected an object".to_owned());
    }
    let data = &value["data"];
    let actor = data["actor"].as_str().map(str::to_owned);
    if actor.as_deref().is_some_and(|name| !is_actor_name(name)) {
        let problem = format!("`data.actor` must be 1 to {ACTOR_BYTES_MAX} bytes without control characters");
        return invalid(Some("data.actor"), problem);
    }
    let text = match data["text"].as_str() {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    if text.trim().is_empty() {
        return invalid(Some("data.text"), "`data.text` is empty".to_owned());
    }
    let digest = Digest::from_bytes(*blake3::hash(body).as_bytes());
    Ok(ReceivedMessage { key: id, digest, actor, text, cursor: String::new() })
}

/// Tells whether a name can be an actor's.
pub(super) fn is_actor_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= ACTOR_BYTES_MAX && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_actor_or_is_taken_whole() {
        let read = |body: &str| {
            let read = read_message("1".to_owned(), &Bytes::copy_from_slice(body.as_bytes()));
            read.map(|said| (said.text, said.actor)).ok()
        };
        let text = |text: &str, actor: Option<&str>| Some((text.to_owned(), actor.map(str::to_owned)));
        assert_eq!(read(r#"{"type":"x","data":{"text":"hi","actor":"ada"}}"#), text("hi", Some("ada")));
        assert_eq!(read(r#"{"data":{"text":"hi"}}"#), text("hi", None));
        let whole = r#"{"type":"order.paid","data":{"order":7}}"#;
        assert_eq!(read(whole), text(whole, None));
        assert_eq!(read("{}"), text("{}", None));
        for bad in [
            "",
            "hi",
            "[]",
            "1",
            "{",
            r#"{"data":{"text":" "}}"#,
            r#"{"data":{"text":"hi","actor":""}}"#,
            r#"{"data":{"text":"hi","actor":"a\nb"}}"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&format!(r#"{{"data":{{"text":"hi","actor":"{}"}}}}"#, "x".repeat(129))), None);
    }

    #[test]
    fn only_an_answer_that_names_no_acceptance_is_one() {
        let outcome = |status, seconds: Option<u64>| {
            let retry_after = seconds.map(Duration::from_secs);
            read_outcome(WebhookOutcome::Answered { status, retry_after, body: Bytes::new() })
        };
        for (status, seconds) in [(429, None), (429, Some(9)), (503, Some(9))] {
            let found = outcome(status, seconds);
            assert!(matches!(found, DeliveryOutcome::NotAccepted { .. }), "{status}: {found:?}");
        }
        for (status, seconds) in [(503, None), (500, Some(9)), (400, None), (302, Some(1))] {
            let found = outcome(status, seconds);
            assert!(matches!(found, DeliveryOutcome::Refused { .. }), "{status}: {found:?}");
        }
        assert!(matches!(outcome(410, Some(9)), DeliveryOutcome::Gone(_)));
    }

    #[test]
    fn an_answers_id_and_its_beginning_are_kept() {
        let kept = read_answer(200, br#" {"id": "msg_7", "ok": true} "#);
        assert_eq!(kept.receiver_id.as_deref(), Some("msg_7"));
        assert_eq!(kept.text, r#"{"id": "msg_7", "ok": true}"#);
        assert_eq!(read_answer(200, br#"{"id": 7}"#).receiver_id.as_deref(), Some("7"));
        for none in ["", "ok", "[1]", r#"{"id": ""}"#, r#"{"id": "a\u0007"}"#] {
            assert_eq!(read_answer(200, none.as_bytes()).receiver_id, None, "{none}");
        }
        let long = read_answer(200, format!(r#"{{"id": "{}"}}"#, "x".repeat(500)).as_bytes());
        assert_eq!((long.receiver_id, long.text.len()), (None, ANSWER_BYTES_MAX));
    }
}
