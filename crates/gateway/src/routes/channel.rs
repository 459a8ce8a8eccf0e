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
use dromia_contracts::ErrorCode;
use dromia_contracts::channel::{ChannelInput, ReceiveError, WEBHOOK};
use dromia_contracts::store::KeyLifetime;
use jiff::Timestamp;

use crate::authentication::channel_scope;
use crate::channel::{ChannelKey, ServedChannels, WebhookChannel, submit_message};
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, read_shared};
use crate::failure::{Answer, ApiError};
use crate::signature::{
    ID_HEADER, SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER, WebhookHeaders, WebhookSigningKey,
};
use crate::wire;

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
    let served_channel = served.get(&name).ok_or_else(forged)?;
    let channel = served_channel.config.as_webhook().ok_or_else(forged)?;
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
    let scope = channel_scope(&core, WEBHOOK, &name, &channel.tenant).await?;
    let pushed = ChannelInput::Pushed { id: claims.id.to_owned(), body };
    let received = served_channel.port.receive(pushed).await.map_err(|error| refuse_message(&error))?;
    let mut submitted = None;
    for message in received {
        let taken = (name.as_str(), &**served_channel);
        submitted = Some(submit_message(&core, taken, scope.clone(), message, KeyLifetime::Day).await?);
    }
    let submitted = submitted.ok_or_else(|| ApiError::invalid_request("the message says nothing"))?;
    Ok((StatusCode::ACCEPTED, Json(wire::event_accepted(&submitted))).into_response())
}

fn refuse_message(error: &ReceiveError) -> ApiError {
    let field = match error {
        ReceiveError::Invalid { field, .. } => *field,
        ReceiveError::Unavailable(_) => None,
    };
    let refused = ApiError::invalid_request(error.to_string());
    match field {
        Some(field) => refused.at_field(field),
        None => refused,
    }
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
    let scope = channel_scope(core, WEBHOOK, name, &channel.tenant)
        .await
        .map_err(|failure| failure.full_message())?;
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
