//! What the headers of a request to a compatible API say: its session, its key, how long it waits and who pays.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dromia_api::event::WAIT_MS_MAX;
use dromia_api::{SESSION_HEADER, WAIT_HEADER, WAITING_HEADER};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::{Digest, ErrorCode, Scope, SessionId};

use crate::caller::RequestPayer;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::idempotency_key::IdempotencyKey;
use crate::request::RequestId;

/// What the headers of a request say.
pub(crate) struct RequestHeads {
    pub(super) session: Option<SessionId>,
    pub(super) key: IdempotencyKey,
    pub(super) wait: Duration,
    /// Whether a stream says what its run waits for as text of the answer, too.
    pub(super) tells_waiting: bool,
    pub(super) spender: RequestPayer,
    pub(super) request: RequestId,
}

impl RequestHeads {
    /// Tells whether an input of the session has the request's key, so that the request may be a repeat of it.
    pub(super) async fn may_repeat(
        &self,
        core: &GatewayCore,
        scope: &Scope,
        session: SessionId,
    ) -> Answer<bool> {
        // The digest of the request does not count here: the engine compares it.
        let Some(key) = self.key.clone().of_request(Digest::default()) else { return Ok(false) };
        let now = core.ports.runtime.clock.now();
        let known = core.ports.store.find_keyed_item(scope, &key.key, now).await?;
        Ok(known.is_some_and(|known| known.owner == InboxOwner::Session(session)))
    }
}

impl FromRequestParts<Shared> for RequestHeads {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let text = |header: &str| {
            let value = parts.headers.get(header)?;
            Some(value.to_str().map_err(|_| ApiError::invalid_request(format!("{header} is not plain text"))))
        };
        let session = match text(SESSION_HEADER).transpose()? {
            Some(session) => Some(crate::extract::parse_id(session)?),
            None => None,
        };
        let wait_ms = match text(WAIT_HEADER).transpose()? {
            Some(wait) => {
                wait.parse().ok().filter(|wait| (1..=WAIT_MS_MAX).contains(wait)).ok_or_else(|| {
                    ApiError::invalid_request(format!("{WAIT_HEADER} must be from 1 to {WAIT_MS_MAX}"))
                })?
            }
            None => WAIT_MS_MAX,
        };
        let wait = Duration::from_millis(wait_ms);
        let tells_waiting = match text(WAITING_HEADER).transpose()? {
            None | Some("comment") => false,
            Some("text") => true,
            Some(_) => {
                return Err(ApiError::invalid_request(format!("{WAITING_HEADER} must be comment or text")));
            }
        };
        let key = IdempotencyKey::from_request_parts(parts, core).await?;
        let spender = parts.extensions.get::<RequestPayer>().copied();
        let spender = spender
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no tenant to charge"))?;
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { session, key, wait, tells_waiting, spender, request })
    }
}
