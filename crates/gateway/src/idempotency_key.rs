//! The `Idempotency-Key` header, by which a client makes a repeat of a request one request with the first.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dromia_api::{IDEMPOTENCY_HEADER, IDEMPOTENCY_KEY_BYTES_MAX};
use dromia_contracts::Digest;
use dromia_contracts::store::{ItemKey, KeyLifetime};

use crate::core::Shared;
use crate::failure::{Answer, ApiError};

/// The `Idempotency-Key` header.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// Returns the client's text.
    pub(crate) fn into_text(self) -> Option<String> {
        self.0
    }

    /// Makes the key of the item that a request becomes.
    pub(crate) fn of_request(self, request: Digest) -> Option<ItemKey> {
        self.0.map(|key| ItemKey { key: format!("http:{key}"), request, lifetime: KeyLifetime::Day })
    }
}

impl FromRequestParts<Shared> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_HEADER) else {
            return Ok(Self(None));
        };
        let key = value.to_str().ok();
        match key.filter(|key| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())) {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => Err(ApiError::invalid_request(format!(
                "Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
            ))),
        }
    }
}
