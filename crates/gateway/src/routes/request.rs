//! What a model was sent: the body of one request, byte for byte.
//!
//! The body is written again by the engine, which proves it or refuses. No header of the request is shown: keys travel
//! there, and nowhere else.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use dromia_api::{ALIAS_HEADER, DIGEST_HEADER, FORM_HEADER, MODEL_HEADER, STEP_HEADER};
use dromia_contracts::runs::SentRequest;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathSegments, QueryParams, parse_id};
use crate::failure::{Answer, ApiError};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentRequestQuery {
    /// The attempt at the step, counted from 1; the last one where it is absent.
    attempt: Option<u32>,
}

pub(crate) async fn show_sent_request(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((run, step)): PathSegments<(String, String)>,
    QueryParams(which): QueryParams<SentRequestQuery>,
) -> Answer<Response> {
    let step = step.parse::<u32>().ok().filter(|step| *step > 0);
    let step = step.ok_or_else(|| ApiError::invalid_request("a step is a number from 1 on"))?;
    let SentRequest { step, attempt, alias, sent, body } =
        core.ports.runs.rebuild_request(caller.scope, parse_id(&run)?, step, which.attempt).await?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_name_header(headers, STEP_HEADER, &format!("{step}.{attempt}"));
    set_name_header(headers, ALIAS_HEADER, &alias);
    if !sent.wording.model.is_empty() {
        set_name_header(headers, MODEL_HEADER, &sent.wording.model);
    }
    set_name_header(headers, FORM_HEADER, &sent.wording.form);
    set_name_header(headers, DIGEST_HEADER, &sent.digest.to_string());
    Ok(response)
}

/// Tells a name that a header can carry; the body is complete without it.
fn set_name_header(headers: &mut HeaderMap, header: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(HeaderName::from_static(header), value);
    }
}
