//! The interface described: the document for programs and the page for people. Both are made once.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dromia_contracts::ErrorCode;

use crate::core::Shared;
use crate::failure::{Answer, ApiError};
use crate::openapi;

// A document holds strings, numbers and lists only, so serialization has no failing case.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&openapi::build_document()).unwrap_or_default().into());

static PAGE: LazyLock<String> = LazyLock::new(|| openapi::render_page(&openapi::build_document()));

pub(crate) async fn serve_document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// Gives the page under a policy that allows its own style and nothing else: no script, no request, no frame.
pub(crate) async fn serve_docs_page(State(core): State<Shared>) -> Answer<Response> {
    let secret = core.ports.runtime.ids.random_secret();
    let nonce = format!("{:032x}", u128::from_be_bytes(std::array::from_fn(|index| secret[index])));
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).map_err(|error| {
        ApiError::new(ErrorCode::Internal, "the page's policy is no header").with_cause(error.to_string())
    })?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((headers, PAGE.replacen(openapi::CSP_NONCE, &nonce, 1)).into_response())
}
