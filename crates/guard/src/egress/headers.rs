//! The headers of a request and of an answer: what may be set, what crosses to another host, and how long they are.

use dromia_contracts::egress::{EgressFault, OversizedPart};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};

/// The most headers of a request; the client takes as many of an answer.
const HEADERS_MAX: usize = 100;

/// What says where a message ends or where it goes is the connection's own business.
static OWN: [HeaderName; 9] =
    [ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// The headers that another host gets too; any other may be a credential for the first.
static CROSSING: [HeaderName; 4] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT];

/// Tells whether a text names a header that may be set.
pub(crate) fn is_free(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !is_own(&name))
}

fn is_own(name: &HeaderName) -> bool {
    OWN.contains(name) || name.as_str().starts_with("proxy-")
}

/// Makes the headers of a request; asks for an answer that is not packed.
pub(super) fn of_request(
    headers: &[(String, String)],
    bytes_max: usize,
    agent: Option<&'static str>,
) -> Result<HeaderMap, EgressFault> {
    let malformed = |problem: &str| EgressFault::Malformed { problem: problem.to_owned() };
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if bytes > bytes_max {
        return Err(EgressFault::TooLarge { part: OversizedPart::Headers, bytes_max: bytes_max as u64 });
    }
    if headers.len() > HEADERS_MAX {
        return Err(malformed("a request may have at most 100 headers"));
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| malformed("a header's name has characters that are not allowed"))?;
        if is_own(&name) {
            return Err(malformed("a header of the connection itself cannot be set"));
        }
        let mut value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| malformed("a header's value has control characters"))?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    map.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(agent) = agent {
        map.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
    }
    Ok(map)
}

/// Removes the headers that another host must not get.
pub(super) fn keep_cross_host(headers: &mut HeaderMap) {
    let kept: Vec<_> =
        CROSSING.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
    *headers = kept.into_iter().collect();
}

/// Takes out what says how a body is to be read, where there is none any more.
pub(super) fn without_body(headers: &mut HeaderMap) {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_ENCODING);
}

/// Reads the headers of an answer, within their bound.
pub(super) fn of_answer(headers: &HeaderMap, bytes_max: usize) -> Result<Vec<(String, String)>, EgressFault> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > bytes_max {
        return Err(EgressFault::TooLarge { part: OversizedPart::Headers, bytes_max: bytes_max as u64 });
    }
    let read = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(headers.iter().map(|(name, value)| (name.as_str().to_owned(), read(value))).collect())
}

/// Tells whether an answer is packed.
pub(super) fn is_packed(headers: &HeaderMap) -> bool {
    let plain = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|value| value.trim().is_empty() || value.trim().eq_ignore_ascii_case("identity"))
    };
    !headers.get_all(CONTENT_ENCODING).iter().all(plain)
}
