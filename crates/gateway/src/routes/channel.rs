//! `POST /v1/channels/{channel}/events`: a webhook comes in, known by its signature alone.
//!
//! Nothing of the message is looked at before it is known who signed it, and a stranger learns nothing, not even which
//! channels there are. Nor can he have the vault opened for a message that cannot be signed: what the message says
//! about itself is checked first. The sender's id is the idempotency key, so a repeat is one input; beyond the
//! tolerance it is refused anyway. What comes in is text of another system: it is labelled as a claim and steers
//! nothing by itself.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::delivery::WEBHOOK;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{InputTarget, NewInput};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{ItemKey, KeyLifetime};
use dromia_contracts::{Digest, ErrorCode};
use jiff::Timestamp;
use serde_json::Value;

use super::event::named_agent;
use crate::authentication::channel_scope;
use crate::caller::input_author;
use crate::channel::{ChannelKey, ServedChannels, WebhookChannel};
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, read_shared};
use crate::failure::{Answer, ApiError};
use crate::ingress::{self, Submitter};
use crate::signature::{
    ID_HEADER, SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER, WebhookHeaders, WebhookSigningKey,
};
use crate::wire;

/// The longest name of an actor, in bytes.
const ACTOR_BYTES_MAX: usize = 128;

pub(crate) async fn receive_event(
    State(core): State<Shared>,
    PathSegments(name): PathSegments<String>,
    request: Request,
) -> Answer<Response> {
    let headers = request.headers().clone();
    let forged = || ApiError::new(ErrorCode::SignatureRefused, "no channel signed this message");
    let claims = read_webhook_headers(&headers).ok_or_else(forged)?;
    let body = read_shared(request, &core).await?;
    let served = core.ports.outbox.served_channels();
    let channel = served.channels.get(&name).ok_or_else(forged)?;
    // Why a key cannot be had is for the log: a stranger gets the same answer as for a channel that is not there.
    let now = core.ports.runtime.clock.now();
    let key = channel_key(&core, &served, (&name, channel), claims, now);
    let key = key.await.map_err(|problem| forged().with_cause(problem))?;
    match key.verify_message(claims, &body, now, channel.tolerance) {
        Ok(()) => {}
        Err(SignatureError::Forged | SignatureError::Id) => return Err(forged()),
        Err(late @ SignatureError::Late) => {
            return Err(ApiError::new(ErrorCode::SignatureRefused, late.to_string())
                .with_hint("correct the sender's clock, or sign the message again"));
        }
    }
    let scope = channel_scope(&core, &name, &channel.tenant).await?;
    let said = read_message(&body)?;
    let author = input_author(&scope, said.actor.as_deref());
    let agent = named_agent(&core, &scope, channel.agent.as_str()).await?;
    let key = SessionKey { platform: WEBHOOK.to_owned(), channel: name.clone(), actor: author.clone() };
    let input = NewInput {
        target: InputTarget::Key { agent, key },
        author,
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        call: None,
        workspace: None,
        when_busy: None,
        parts: vec![ContentPart::new_text(said.text, Label::CLAIM)],
        key: Some(ItemKey {
            key: format!("{WEBHOOK}:{name}:{}", claims.id),
            request: Digest::from_bytes(*blake3::hash(&body).as_bytes()),
            lifetime: KeyLifetime::Day,
        }),
        wait: false,
    };
    let submitted =
        ingress::submit_input(&core, Submitter::Actor, scope, input).await.inspect_err(|failure| {
            // The agent was deleted since its handle was looked up; the next message looks again.
            if failure.code() == ErrorCode::AgentNotFound {
                core.caches.agents.forget_all();
            }
        })?;
    Ok((StatusCode::ACCEPTED, Json(wire::event_accepted(&submitted))).into_response())
}

/// Finds the key of a channel, one of the vault only where the message may be signed with it: which of the rest is wrong, time
/// included, the log says. The scope that opens one of the vault serves for nothing else.
async fn channel_key(
    core: &GatewayCore,
    served: &ServedChannels,
    (name, channel): (&str, &WebhookChannel),
    claims: WebhookHeaders<'_>,
    now: Timestamp,
) -> Result<WebhookSigningKey, String> {
    if let ChannelKey::Held(key) = &channel.key {
        return Ok(key.clone());
    }
    claims
        .check_headers(now, channel.tolerance)
        .map_err(|problem| format!("failed to look up the secret of the channel {name}: {problem}"))?;
    let scope = channel_scope(core, name, &channel.tenant).await.map_err(|failure| failure.full_message())?;
    let found = core.ports.outbox.channel_key(served, (name, channel), &scope).await;
    found.map_err(|problem| format!("the secret of the channel {name} cannot verify signatures: {problem}"))
}

/// Reads what a message says about itself; nothing if a header is missing, doubled or no text.
fn read_webhook_headers(headers: &HeaderMap) -> Option<WebhookHeaders<'_>> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    Some(WebhookHeaders {
        id: one(ID_HEADER)?,
        timestamp: one(TIMESTAMP_HEADER)?,
        signature: one(SIGNATURE_HEADER)?,
    })
}

/// What a message says, and for whom.
#[derive(Debug, PartialEq, Eq)]
struct WebhookMessage {
    text: String,
    actor: Option<String>,
}

/// Takes `data.text` for what is said and `data.actor` for who says it; a message without a text is said as a whole.
fn read_message(body: &[u8]) -> Answer<WebhookMessage> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid_request(format!("the body does not match this route: {error}")))?;
    if !value.is_object() {
        return Err(ApiError::invalid_request("the body does not match this route: expected an object"));
    }
    let data = &value["data"];
    let actor = data["actor"].as_str().map(str::to_owned);
    let bad =
        |name: &String| name.is_empty() || name.len() > ACTOR_BYTES_MAX || name.chars().any(char::is_control);
    if actor.as_ref().is_some_and(bad) {
        let text = format!("`data.actor` must be 1 to {ACTOR_BYTES_MAX} bytes without control characters");
        return Err(ApiError::invalid_request(text).at_field("data.actor"));
    }
    let text = match data["text"].as_str() {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    if text.trim().is_empty() {
        return Err(ApiError::invalid_request("`data.text` is empty").at_field("data.text"));
    }
    Ok(WebhookMessage { text, actor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_actor_or_is_taken_whole() {
        let read = |body: &str| read_message(body.as_bytes()).map(|said| (said.text, said.actor)).ok();
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
}
