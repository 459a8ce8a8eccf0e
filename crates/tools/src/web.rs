//! `http.request`: one request to another host, over the line that is for agents.
//!
//! Invariant: what is sent is the canonical request that the gate judged; the line judges it again, and each redirect,
//! and where a redirect would carry a body or a credential to another host it is not followed.
//!
//! A repeated call after a crash is judged by its method, as the standard means it: what only looks (GET, HEAD) is asked
//! again, what replaces or removes (PUT, DELETE) leaves what it left before, and anything else (POST, PATCH) is never
//! repeated by itself. A server that acts on GET is not covered by that; it is one by mistake.
//!
//! What comes back is somebody else's text: it is labelled untrusted, headers included. Only the numbers are facts. A body
//! that is longer than the most that is shown at once is [kept](crate::kept) for an agent that may read files, so that
//! nobody is asked again for the rest of it; that file is the call's result and no effect of it. Whoever asks for a
//! shorter piece, or for a later one, gets just that.

use std::fmt::Write as _;

use bytes::Bytes;
use dromia_contracts::content::Part;
use dromia_contracts::egress::{
    Body, Decision, EgressError, Failure, Line, Method, Reaches, Request, Response, header,
};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{EffectClass, ToolContext, ToolOutput};
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

use crate::arguments::{HttpRequest, READ_BYTES_MAX};
use crate::files::{fact, whole_characters};
use crate::kept::{KEPT_BYTES_MAX, Long, is_readable};

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 8 << 10;

/// The headers of an answer that a model can make something of.
const SHOWN: [&str; 8] =
    ["content-type", "location", "retry-after", "link", "etag", "last-modified", "allow", "www-authenticate"];
/// The most characters of one header that are shown.
const SHOWN_CHARS_MAX: usize = 512;

/// An address in canonical form, without fragment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct HttpUrl(String);

impl HttpUrl {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("a URL has at most 8192 bytes");
        }
        // The parser would repair these in silence.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("a URL holds no blanks, no control characters and no backslashes");
        }
        let mut url = Url::parse(text).map_err(|_| "it is no URL; write https://HOST/PATH")?;
        if !matches!(url.scheme(), "http" | "https") || !text.contains("://") {
            return Err("a URL begins with https:// or http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL holds no user name; a credential belongs into a header");
        }
        url.set_fragment(None);
        Ok(Self(url.into()))
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl HttpRequest {
    /// Checks what one argument means for another.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.method == Method::Connect {
            return Err(
                "method: CONNECT is no request; GET, HEAD, POST, PUT, PATCH and DELETE are".to_owned()
            );
        }
        if self.method.is_safe() && !self.body.is_empty() {
            return Err(format!("body: {} has none", self.method));
        }
        if self.method != Method::Get && self.offset > 0 {
            return Err(format!("offset: {} is not asked again to read on", self.method));
        }
        Ok(())
    }

    /// Returns what a repeated call may do.
    pub(crate) fn effect(&self) -> EffectClass {
        match self.method {
            Method::Get | Method::Head => EffectClass::Pure,
            Method::Delete | Method::Put => EffectClass::Idempotent,
            Method::Connect | Method::Patch | Method::Post => EffectClass::Unkeyed,
        }
    }

    /// Returns where it would go.
    pub(crate) fn reaches(&self) -> Reaches {
        Reaches { method: self.method, url: self.url.0.clone() }
    }
}

/// Sends the request and shows the piece of the answer that is asked for; gives back a body that is longer, to be kept.
pub(crate) async fn request(
    line: &dyn Line,
    context: ToolContext,
    arguments: HttpRequest,
) -> (ToolOutput, Option<Long>) {
    let HttpRequest { body, headers, limit, method, offset, url } = arguments;
    let HttpUrl(url) = url;
    let asked = url.clone();
    let headers = headers.into_iter().collect();
    let keeps = offset == 0 && limit == READ_BYTES_MAX && is_readable(&context.grants);
    // A tenant has its share of the way out, however many agents it has.
    let (grants, share) = (context.grants, context.scope.tenant().to_string());
    let response = line.send(Request { method, url, headers, body: Bytes::from(body), grants, share }).await;
    let response = match response {
        Ok(response) => response,
        Err(EgressError { failure, is_sent, decisions }) => {
            return (failed(&failure, is_sent && !method.is_safe(), decisions), None);
        }
    };
    let Response { status, headers, url, decisions, mut body } = response;
    let limit = limit as usize;
    let most = if keeps { KEPT_BYTES_MAX } else { limit };
    let mut piece = piece(&mut *body, offset, most).await;
    let long = piece.shorten(limit);
    let mut parts = vec![fact(piece.told(status, offset, method))];
    if std::str::from_utf8(&piece.bytes).is_err() {
        parts.push(fact("[not UTF-8: unreadable bytes are shown as \u{fffd}]"));
    }
    let mut text = if url == asked { String::new() } else { format!("url: {url}\n") };
    for name in SHOWN {
        if let Some(value) = header(&headers, name) {
            let value: String = value.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{name}: {value}");
        }
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&piece.bytes));
    parts.push(Part::text(text, Label::OUTSIDE));
    (ToolOutput { failed: piece.torn.is_some(), parts, egress: decisions, ..ToolOutput::default() }, long)
}

/// A piece of a body.
struct Piece {
    bytes: Vec<u8>,
    /// Whether more follows it.
    more: bool,
    /// Why it does not go on, if it should.
    torn: Option<Failure>,
    /// Whether all that was read is kept.
    is_kept: bool,
}

impl Piece {
    /// Cuts the piece to what is shown; gives back all of it if that is less.
    fn shorten(&mut self, limit: usize) -> Option<Long> {
        if self.bytes.len() <= limit {
            return None;
        }
        let shown = whole_characters(&self.bytes[..limit]);
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes.extend_from_slice(&bytes[..shown]);
        let is_cut = std::mem::replace(&mut self.more, true) || self.torn.is_some();
        self.is_kept = true;
        Some(Long { bytes, shown, is_cut })
    }

    fn told(&self, status: u16, offset: u64, method: Method) -> String {
        let shown = self.bytes.len();
        let mut told = format!("[{status}; {shown} bytes");
        if offset > 0 {
            let _infallible = write!(told, " from byte {offset}");
        }
        if let Some(failure) = &self.torn {
            let _infallible = write!(told, "; then {failure}");
        } else if self.is_kept {
            told.push_str("; more follows");
        } else if self.more && method == Method::Get {
            let next = offset.saturating_add(shown as u64);
            let _infallible = write!(told, "; more follows: ask again with offset {next}");
        } else if self.more {
            told.push_str("; the rest is not shown");
        }
        told.push(']');
        told
    }
}

/// Reads a piece of a body, and no more than it takes to know whether more follows.
async fn piece(body: &mut dyn Body, offset: u64, limit: usize) -> Piece {
    let mut piece = Piece { bytes: Vec::new(), more: false, torn: None, is_kept: false };
    let mut skipped = 0_u64;
    loop {
        let mut chunk = match body.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(failure) => {
                piece.torn = Some(failure);
                break;
            }
        };
        let skip = usize::try_from(offset - skipped).unwrap_or(usize::MAX).min(chunk.len());
        skipped += skip as u64;
        let wanted = chunk.split_off(skip);
        let room = limit - piece.bytes.len();
        piece.bytes.extend_from_slice(&wanted[..wanted.len().min(room)]);
        if wanted.len() > room {
            piece.more = true;
            piece.bytes.truncate(whole_characters(&piece.bytes));
            break;
        }
    }
    piece
}

fn failed(failure: &Failure, may_have_acted: bool, egress: Vec<Decision>) -> ToolOutput {
    let mut text = match failure {
        Failure::Refused { .. } | Failure::Malformed { .. } => format!("refused: {failure}"),
        _ => format!("failed: {failure}"),
    };
    if may_have_acted {
        text.push_str(". The host may have done what it was asked for: look before you try again");
    }
    ToolOutput { failed: true, parts: vec![fact(text)], egress, ..ToolOutput::default() }
}
