//! The outermost station of a request: it is named, checked for its host and origin, answered, and its answer is
//! finished.
//!
//! A socket has no name that could be pointed elsewhere, so only what came over TCP is checked (`host_check`). A panic in a
//! handler becomes `internal` and ends that request alone.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use dromia_contracts::ErrorCode;
use futures_util::FutureExt;
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::caller::{LocalEndpoint, Peer};
use crate::core::{GatewayCore, Shared};
use crate::edge_refusal::EdgeRefusal;
use crate::failure::{Answer, ApiError, finish_response};
use crate::hint_wording::HintWording;
use crate::host_check;

/// The id of a request, for what is still said after the headers of its answer, which carry it too.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl FromRequestParts<Shared> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let id = parts.extensions.get::<Self>().cloned();
        id.ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no id"))
    }
}

pub(crate) async fn answer_request(
    core: &GatewayCore,
    router: Router,
    peer: Peer,
    request: Request<Incoming>,
) -> Response {
    let request_id = core.request_ids.next();
    let mut request = request.map(Body::new);
    let (page, words) = match peer {
        Peer::Tcp(endpoint) => (asking_page(core, endpoint, &request), HintWording::Routes),
        Peer::Unix { .. } => (Ok(None), HintWording::Commands),
    };
    let page = match page {
        Ok(page) => page,
        Err(failure) => return finish_response(failure.into_response(), request_id, words),
    };
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let preflight =
        page.as_ref().and_then(|_| host_check::answer_preflight(request.method(), request.headers()));
    let response = match preflight {
        Some(response) => response,
        None => route_request(router, request).await,
    };
    let mut response = finish_response(response, request_id, words);
    if let Some(origin) = page {
        host_check::let_read(response.headers_mut(), origin);
    }
    response
}

/// Checks host and origin, and returns the origin of a page that may read the answer.
fn asking_page(
    core: &GatewayCore,
    endpoint: LocalEndpoint,
    request: &Request<Body>,
) -> Answer<Option<HeaderValue>> {
    let config = core.live();
    let own = host_check::check_host(request, endpoint.local, &config.hosts)
        .inspect_err(|_| core.meters.count_refusal(EdgeRefusal::Host))?;
    host_check::check_origin(request.headers(), endpoint.url_scheme(), own.as_ref(), &config.origins)
        .inspect_err(|_| core.meters.count_refusal(EdgeRefusal::Origin))
}

async fn route_request(router: Router, request: Request<Body>) -> Response {
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(panic) => ApiError::new(ErrorCode::Internal, "a defect of this program ended the request")
            .with_cause(panic_text(panic.as_ref()))
            .into_response(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text")
}
