//! Host and origin check: the names by which clients may address the TCP listener, and the pages that may ask.
//!
//! A page that points its own name at this server (DNS rebinding) gets nothing: only loopback names, the address that
//! the connection reached, and listed names are served. A page of another origin may ask only if its origin is listed;
//! then it may read the answers, too (CORS). Programs that are no browser send no Origin.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use axum::response::Response;
use dromia_contracts::ErrorCode;

use crate::failure::{Answer, ApiError};

/// How long a browser may keep what a preflight said, in seconds.
const PREFLIGHT_SECONDS: u32 = 600;

/// The methods of the route table.
const METHODS: &str = "GET, POST, PUT, DELETE";

/// The longest name of a host.
const HOST_BYTES_MAX: usize = 253;

/// Tells whether a text can be the name of a host, without port.
pub(crate) fn is_host(text: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= HOST_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    is_name(text) || parse_host_address(text).is_some()
}

/// Tells whether a text can be an origin: a scheme and an authority, and nothing else.
pub(crate) fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && !authority.contains('@')
        && Authority::try_from(authority).is_ok_and(|authority| is_host(authority.host()))
}

fn parse_host_address(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Checks that everything that names the host of the request names this server, and returns that name.
pub(crate) fn check_host<B>(
    request: &Request<B>,
    local: IpAddr,
    listed: &[String],
) -> Answer<Option<Authority>> {
    let mut named = None;
    let hosts =
        request.headers().get_all(HOST).iter().map(|value| Authority::try_from(value.as_bytes()).ok());
    for authority in hosts.chain(request.uri().authority().cloned().map(Some)) {
        let ours = authority.filter(|authority| is_ours(authority.host(), local, listed));
        let Some(ours) = ours else {
            return Err(ApiError::new(ErrorCode::Forbidden, "this server has no host of this name")
                .with_hint("use the server's address, or list the name under http.hosts in dromia.yaml"));
        };
        named = Some(ours);
    }
    if named.is_none() && request.version() > Version::HTTP_10 {
        return Err(ApiError::invalid_request("the request has no Host header"));
    }
    Ok(named)
}

fn is_ours(host: &str, local: IpAddr, listed: &[String]) -> bool {
    match parse_host_address(host) {
        Some(asked) => {
            asked.is_loopback()
                || asked == local.to_canonical()
                || listed.iter().any(|name| parse_host_address(name) == Some(asked))
        }
        None => {
            host.eq_ignore_ascii_case("localhost")
                || listed.iter().any(|name| name.eq_ignore_ascii_case(host))
        }
    }
}

/// Checks the page that asks, if one does, and returns its origin if that is listed.
pub(crate) fn check_origin(
    headers: &HeaderMap,
    scheme: &str,
    own: Option<&Authority>,
    listed: &[String],
) -> Answer<Option<HeaderValue>> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(None) };
    let text = origin.to_str().unwrap_or_default();
    if origins.next().is_none() {
        if listed.iter().any(|listed| listed.eq_ignore_ascii_case(text)) {
            return Ok(Some(origin.clone()));
        }
        if own.is_some_and(|own| text.eq_ignore_ascii_case(&format!("{scheme}://{own}"))) {
            return Ok(None);
        }
    }
    Err(ApiError::new(ErrorCode::Forbidden, "this server does not accept requests from pages of this origin")
        .with_hint("list the origin under http.origins in dromia.yaml"))
}

/// Answers a browser that asks whether a page of a listed origin may send its request.
pub(crate) fn answer_preflight(method: &Method, asked: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_SECONDS));
    // The clients of other APIs send headers of their own; the origin is trusted with all of them.
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    Some(response)
}

/// Lets the page of a listed origin read the answer. Cookies are not used, so no credentials are allowed.
pub(crate) fn let_read(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    #[test]
    fn the_host_check_accepts_loopback_own_and_listed_names() {
        let listed = ["agents.example".to_owned()];
        for (name, served) in [
            ("localhost", true),
            ("LOCALHOST:4711", true),
            ("127.0.0.1:4711", true),
            ("[::1]:4711", true),
            ("10.0.0.7:4711", true),
            ("[::ffff:10.0.0.7]", true),
            ("Agents.Example:443", true),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("agents.example.evil.example", false),
            ("evil.example:4711", false),
            ("10.0.0.1", false),
            ("user@evil.example", false),
            ("", false),
        ] {
            let request = Request::builder().header(HOST, name).body(()).unwrap();
            assert_eq!(check_host(&request, LOCAL, &listed).is_ok(), served, "{name:?}");
        }
    }

    #[test]
    fn two_hosts_must_both_be_ours_and_none_is_refused() {
        let checked = |request: &Request<()>| check_host(request, LOCAL, &[]).is_ok();
        let request = Request::builder().header(HOST, "localhost").header(HOST, "evil.example");
        assert!(!checked(&request.body(()).unwrap()));
        let request = Request::builder().uri("http://evil.example/health").header(HOST, "localhost");
        assert!(!checked(&request.body(()).unwrap()));
        assert!(!checked(&Request::new(())));
        let request = Request::builder().version(Version::HTTP_2).uri("https://localhost/health");
        assert!(checked(&request.body(()).unwrap()), "HTTP/2 names its host in the target");
    }

    #[test]
    fn the_origin_check_accepts_listed_origins_and_its_own() {
        let own = Authority::from_static("localhost:7700");
        let listed = ["https://app.example".to_owned()];
        for (said, served) in [
            (&[][..], true),
            (&["https://app.example"][..], true),
            (&["http://localhost:7700"][..], true),
            (&["https://localhost:7700"][..], false),
            (&["http://localhost"][..], false),
            (&["http://app.example"][..], false),
            (&["https://app.example.evil.example"][..], false),
            (&["null"][..], false),
            (&[""][..], false),
            (&["https://app.example", "https://evil.example"][..], false),
        ] {
            let mut headers = HeaderMap::new();
            for &origin in said {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            let checked = check_origin(&headers, "http", Some(&own), &listed);
            assert_eq!(checked.is_ok(), served, "{said:?}");
            let readable = checked.ok().flatten().is_some();
            assert_eq!(readable, said == ["https://app.example"], "{said:?}");
        }
    }

    #[test]
    fn lists_take_hosts_and_origins_and_nothing_else() {
        for (text, is_name) in [
            ("agents.example", true),
            ("10.0.0.7", true),
            ("::1", true),
            ("agents.example:443", false),
            ("https://agents.example", false),
            ("*.example", false),
            ("", false),
        ] {
            assert_eq!(is_host(text), is_name, "{text:?}");
        }
        for (text, is_one) in [
            ("https://app.example", true),
            ("http://localhost:3000", true),
            ("tauri://localhost", true),
            ("https://app.example/", false),
            ("https://user@app.example", false),
            ("app.example", false),
            ("*", false),
            ("null", false),
        ] {
            assert_eq!(is_origin(text), is_one, "{text:?}");
        }
    }
}
