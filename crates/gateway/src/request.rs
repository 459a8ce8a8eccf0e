//! The outermost station of a request: it is named, checked for its host, answered, and its answer is finished.
//!
//! Over TCP only loopback names are served, so a page that points its own name at this machine (DNS rebinding)
//! gets nothing. A panic in a handler becomes `internal` and ends that request alone.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{Request, Version};
use axum::response::{IntoResponse, Response};
use dromia_contracts::ErrorCode;
use futures_util::FutureExt;
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::caller::Peer;
use crate::core::Core;
use crate::failure::{Failure, finish};

pub(crate) async fn answer(core: &Core, router: Router, peer: Peer, request: Request<Incoming>) -> Response {
    let request_id = core.request_ids.next();
    let mut request = request.map(Body::new);
    if peer == Peer::Tcp
        && let Err(failure) = loopback_host(&request)
    {
        return finish(failure.into_response(), request_id);
    }
    request.extensions_mut().insert(peer);
    let response = match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(panic) => Failure::new(ErrorCode::Internal, "a defect of this program ended the request")
            .with_cause(panic_text(panic.as_ref()))
            .into_response(),
    };
    finish(response, request_id)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text")
}

/// Checks that everything that names the host of the request names this machine.
fn loopback_host(request: &Request<Body>) -> Result<(), Failure> {
    let mut named = 0;
    let hosts =
        request.headers().get_all(HOST).iter().map(|value| Authority::try_from(value.as_bytes()).ok());
    for authority in hosts.chain(request.uri().authority().cloned().map(Some)) {
        named += 1;
        if !authority.is_some_and(|authority| is_loopback_name(authority.host())) {
            return Err(Failure::new(ErrorCode::Forbidden, "only loopback host names are served")
                .with_hint("use http://127.0.0.1:PORT"));
        }
    }
    if named == 0 && request.version() > Version::HTTP_10 {
        return Err(Failure::invalid("the request has no Host header"));
    }
    Ok(())
}

fn is_loopback_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_served_only_by_a_loopback_name() {
        for (host, served) in [
            ("localhost", true),
            ("LOCALHOST:4711", true),
            ("127.0.0.1:4711", true),
            ("[::1]:4711", true),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example:4711", false),
            ("10.0.0.1", false),
            ("user@evil.example", false),
            ("", false),
        ] {
            let request = Request::builder().header(HOST, host).body(Body::empty()).unwrap();
            assert_eq!(loopback_host(&request).is_ok(), served, "{host:?}");
        }
    }

    #[test]
    fn two_hosts_must_both_be_loopback_and_none_is_refused() {
        let request = Request::builder().header(HOST, "localhost").header(HOST, "evil.example");
        assert!(loopback_host(&request.body(Body::empty()).unwrap()).is_err());
        let request = Request::builder().uri("http://evil.example/health").header(HOST, "localhost");
        assert!(loopback_host(&request.body(Body::empty()).unwrap()).is_err());
        assert!(loopback_host(&Request::new(Body::empty())).is_err());
    }
}
