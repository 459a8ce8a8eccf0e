//! One request of a chain of redirects, and the request that the next one would be.
//!
//! A redirect may be told what a stranger may be told: no header that may be a credential crosses to another host, a body
//! neither, and an encrypted request never goes on in the clear.

use bytes::Bytes;
use dromia_contracts::egress::Method;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};

use super::target::Target;
use super::{Refused, headers};

const DOWNGRADE: Refused =
    Refused { rule: "redirect", reason: "it redirects from https to http, which is not followed" };
const CARRIED: Refused =
    Refused { rule: "redirect", reason: "it redirects what was sent to another host, which is not followed" };

/// One request of a chain of redirects.
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Hop {
    /// Makes the request that a redirect leads to, or says where it led to and why it is not followed.
    pub(super) fn next(&self, status: StatusCode, location: &str) -> Result<Self, (String, Refused)> {
        let target = self.target.join(location).map_err(|refused| (String::new(), refused))?;
        if self.target.is_encrypted() && !target.is_encrypted() {
            return Err((target.to_string(), DOWNGRADE));
        }
        let turned = match status {
            StatusCode::SEE_OTHER => self.method != Method::Head,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::Post,
            _ => false,
        };
        let (mut headers, mut body, mut method) = (self.headers.clone(), self.body.clone(), self.method);
        if turned {
            (method, body) = (Method::Get, Bytes::new());
            headers::without_body(&mut headers);
        }
        if !self.target.is_at(&target) {
            if !method.is_safe() || !body.is_empty() {
                return Err((target.to_string(), CARRIED));
            }
            headers::cross(&mut headers);
        }
        Ok(Self { method, target, headers, body })
    }
}

/// Reads where an answer redirects to.
pub(super) fn location(response: &reqwest::Response) -> Option<String> {
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
