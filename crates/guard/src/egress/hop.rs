//! One request of a chain of redirects, and the request that the next one would be.
//!
//! A redirect gets only what a stranger may get: no header that may be a credential crosses to another host, nor does a
//! body, and an encrypted request never goes on in the clear.

use bytes::Bytes;
use dromia_contracts::egress::HttpMethod;
use dromia_contracts::vault::SecretUse;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};

use super::target::RequestTarget;
use super::{EgressDenied, headers};

const DOWNGRADE: EgressDenied = EgressDenied {
    rule: "redirect",
    reason: "it redirects from https to http, which dromia does not follow",
};
const CARRIED: EgressDenied = EgressDenied {
    rule: "redirect",
    reason: "it redirects a body to another host, which dromia does not follow",
};

/// One request of a chain of redirects.
pub(super) struct RedirectHop {
    pub(super) method: HttpMethod,
    pub(super) target: RequestTarget,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What of the vault this server gets; another one gets nothing of it.
    pub(super) secrets: Vec<SecretUse>,
}

impl RedirectHop {
    /// Makes the request that a redirect leads to, or says where it led to and why it is not followed.
    pub(super) fn next(&self, status: StatusCode, location: &str) -> Result<Self, (String, EgressDenied)> {
        let target = self.target.join_redirect(location).map_err(|refused| (String::new(), refused))?;
        if self.target.is_encrypted() && !target.is_encrypted() {
            return Err((target.to_string(), DOWNGRADE));
        }
        let turned = match status {
            StatusCode::SEE_OTHER => self.method != HttpMethod::Head,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == HttpMethod::Post,
            _ => false,
        };
        let (mut headers, mut body, mut method) = (self.headers.clone(), self.body.clone(), self.method);
        let mut secrets = self.secrets.clone();
        if turned {
            (method, body) = (HttpMethod::Get, Bytes::new());
            headers::without_body(&mut headers);
        }
        if !self.target.is_at(&target) {
            if !method.is_safe() || !body.is_empty() {
                return Err((target.to_string(), CARRIED));
            }
            headers::keep_cross_host(&mut headers);
            secrets.clear();
        }
        Ok(Self { method, target, headers, body, secrets })
    }
}

/// Reads where an answer redirects to.
pub(super) fn redirect_location(response: &reqwest::Response) -> Option<String> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::super::target::URL_BYTES_MAX;
    use super::*;

    fn hop(method: HttpMethod, url: &str, body: &'static str) -> RedirectHop {
        let target = RequestTarget::parse_url(url).expect("a URL");
        let mut headers = HeaderMap::new();
        for name in ["accept", "authorization", "content-type"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        RedirectHop {
            method,
            target,
            headers,
            body: Bytes::from_static(body.as_bytes()),
            secrets: Vec::new(),
        }
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(reqwest::header::HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_redirect_to_a_stranger_carries_no_credentials() {
        let all = ["accept", "authorization", "content-type"];
        for (status, method, from, to, asked, told) in [
            (302, HttpMethod::Get, "https://a/x", "/y", HttpMethod::Get, &all[..]),
            (302, HttpMethod::Post, "https://a/x", "/y", HttpMethod::Get, &all[..2]),
            (303, HttpMethod::Put, "https://a/x", "y", HttpMethod::Get, &all[..2]),
            (303, HttpMethod::Head, "https://a/x", "/y", HttpMethod::Head, &all[..]),
            (307, HttpMethod::Post, "https://a/x", "https://a:443/y", HttpMethod::Post, &all[..]),
            (308, HttpMethod::Delete, "https://a/x", "/y", HttpMethod::Delete, &all[..]),
            (302, HttpMethod::Get, "https://a/x", "https://b/y", HttpMethod::Get, &all[..1]),
            (302, HttpMethod::Get, "https://a/x", "https://a:444/y", HttpMethod::Get, &all[..1]),
            (302, HttpMethod::Get, "http://a/x", "https://a/y", HttpMethod::Get, &all[..1]),
            (302, HttpMethod::Post, "https://a/x", "//b/y", HttpMethod::Get, &all[..1]),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let body = if method.is_safe() { "" } else { "sent" };
            let next = hop(method, from, body).next(status, to);
            let next = next.unwrap_or_else(|(_, refused)| panic!("{status} {method} {to}: {refused}"));
            assert_eq!((next.method, names(&next.headers)), (asked, told.to_vec()), "{status} {method} {to}");
            assert_eq!(next.body.is_empty(), asked.is_safe(), "{status} {method} {to}");
        }
    }

    #[test]
    fn a_redirect_neither_downgrades_nor_carries_a_body_to_strangers() {
        for (status, method, to, led, refused) in [
            (302, HttpMethod::Get, "http://a/y", "http://a:80", DOWNGRADE),
            (302, HttpMethod::Post, "http://b/y", "http://b:80", DOWNGRADE),
            (307, HttpMethod::Post, "https://b/y", "https://b:443", CARRIED),
            (308, HttpMethod::Put, "//b:8443/y", "https://b:8443", CARRIED),
            (301, HttpMethod::Patch, "https://b/y", "https://b:443", CARRIED),
            (307, HttpMethod::Get, "https://b/y", "https://b:443", CARRIED),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let next = hop(method, "https://a/x", "sent").next(status, to).map(drop);
            assert_eq!(next, Err((led.to_owned(), refused)), "{status} {method} {to}");
        }
        for (length, is_followed) in [(URL_BYTES_MAX, true), (URL_BYTES_MAX + 1, false)] {
            let to = format!("/{}", "a".repeat(length - 1));
            let next = hop(HttpMethod::Get, "https://a/x", "").next(StatusCode::FOUND, &to);
            assert_eq!(next.is_ok(), is_followed, "{length}");
        }
    }
}
