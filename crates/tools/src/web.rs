//! `http.request`: one request to another host, over the line that is for agents.
//!
//! Invariant: what is sent is the canonical request that the gate judged; the line judges it again, and each redirect,
//! and where a redirect would carry a body or a credential to another host it is not followed.
//!
//! A repeated call after a crash is judged by its method, as the standard means it: what only looks (GET, HEAD) is asked
//! again, what replaces or removes (PUT, DELETE) leaves what it left before, and anything else (POST, PATCH) is never
//! repeated by itself. A server that acts on GET is not covered by that; it is one by mistake.
//!
//! A response is text from outside: it is labelled untrusted, headers included. Only the numbers are facts. A body
//! that is longer than the most that is shown at once is [kept](crate::kept) for an agent that may read files, so that
//! the host is not asked again for the rest of it; that file is the call's result and no effect of it. A call for a
//! shorter piece, or for a later one, gets just that.

use std::fmt::Write as _;

use bytes::Bytes;
use dromia_contracts::content::ContentPart;
use dromia_contracts::egress::{
    EgressBody, EgressClient, EgressDecision, EgressError, EgressFault, EgressRequest, EgressResponse,
    EgressTarget, HttpMethod, find_header,
};
use dromia_contracts::label::Label;
use dromia_contracts::scope::Scope;
use dromia_contracts::tool::{EffectClass, ToolContext, ToolOutput};
use dromia_contracts::vault::{LeakDetector, SecretSlot, SecretUse, VALUE_BYTES_MAX, mask_secrets};
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

use crate::arguments::{HeaderText, HttpRequest, NamedSecret, READ_BYTES_MAX};
use crate::files::{fact_part, whole_characters};
use crate::spilled_output::{KEPT_BYTES_MAX, LongOutput, is_readable};

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 8 << 10;

/// What is read around the piece that is shown where a secret was sent, so that one at its edge is seen whole; a value in
/// hex or in a URL is up to three times as long.
pub(crate) const AROUND_BYTES: usize = 4 * VALUE_BYTES_MAX;

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
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("a URL has at most 8192 bytes");
        }
        // The parser would repair these in silence.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("a URL must not have spaces, control characters or backslashes");
        }
        let mut url = Url::parse(text).map_err(|_| "it is not a URL; write https://HOST/PATH")?;
        if !matches!(url.scheme(), "http" | "https") || !text.contains("://") {
            return Err("a URL begins with https:// or http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL must not have a user name; put a credential into a header");
        }
        url.set_fragment(None);
        Ok(Self(url.into()))
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl HttpRequest {
    /// Checks what one argument means for another.
    pub(crate) fn check_arguments(&self) -> Result<(), String> {
        if self.method == HttpMethod::Connect {
            return Err(
                "method: CONNECT is not supported; use GET, HEAD, POST, PUT, PATCH or DELETE".to_owned()
            );
        }
        if self.method.is_safe() && !self.body.is_empty() {
            return Err(format!("body: {} takes no body", self.method));
        }
        if self.method != HttpMethod::Get && self.offset > 0 {
            return Err(format!("offset: {} cannot be repeated to read on", self.method));
        }
        Ok(())
    }

    /// Returns what a repeated call may do.
    pub(crate) fn effect_class(&self) -> EffectClass {
        match self.method {
            HttpMethod::Get | HttpMethod::Head => EffectClass::Pure,
            HttpMethod::Delete | HttpMethod::Put => EffectClass::Idempotent,
            HttpMethod::Connect | HttpMethod::Patch | HttpMethod::Post => EffectClass::Unkeyed,
        }
    }

    /// Returns where it would go.
    pub(crate) fn reached_hosts(&self) -> EgressTarget {
        let secrets = self.named_secrets().map(|(name, _)| name).collect();
        EgressTarget { method: self.method, url: self.url.0.clone(), secrets }
    }

    /// Returns the secrets that it names, and where.
    fn named_secrets(&self) -> impl Iterator<Item = (String, SecretSlot)> {
        let headers = self.headers.iter().filter_map(|(name, value)| match value {
            HeaderText::Plain(_) => None,
            HeaderText::Secret(NamedSecret { secret }) => {
                Some((secret.clone(), SecretSlot::Header(name.clone())))
            }
        });
        let query = self.query.iter();
        headers.chain(query.map(|(name, named)| (named.secret.clone(), SecretSlot::Query(name.clone()))))
    }
}

/// Sends the request and shows the piece of the answer that is asked for; gives back a body that is longer, to be kept.
pub(crate) async fn send_request(
    line: &dyn EgressClient,
    leaks: &dyn LeakDetector,
    context: ToolContext,
    arguments: HttpRequest,
) -> (ToolOutput, Option<LongOutput>) {
    let scope = &context.scope;
    let secrets =
        arguments.named_secrets().map(|(name, slot)| SecretUse { scope: scope.clone(), name, slot });
    let secrets: Vec<_> = secrets.collect();
    let around = if secrets.is_empty() { 0 } else { AROUND_BYTES };
    let HttpRequest { body, headers, limit, method, offset, query: _, url } = arguments;
    let HttpUrl(url) = url;
    let asked = url.clone();
    let headers = headers.into_iter().filter_map(|(name, value)| match value {
        HeaderText::Plain(text) => Some((name, text)),
        HeaderText::Secret(_) => None,
    });
    let headers = headers.collect();
    let keeps = offset == 0 && limit == READ_BYTES_MAX && is_readable(&context.grants);
    // A tenant has its share of the way out, however many agents it has.
    let (grants, share) = (context.grants, context.scope.tenant().to_string());
    let request = EgressRequest { method, url, headers, body: Bytes::from(body), grants, share, secrets };
    let response = line.send_request(request).await;
    let response = match response {
        Ok(response) => response,
        Err(EgressError { failure, is_sent, decisions }) => {
            return (failure_output(&failure, is_sent && !method.is_safe(), decisions), None);
        }
    };
    let EgressResponse { status, headers, url, decisions, mut body } = response;
    let limit = limit as usize;
    let most = if keeps { KEPT_BYTES_MAX } else { limit };
    let scope = &context.scope;
    let Some(mut piece) =
        read_window(&mut *body, offset, most, around).await.mask_and_cut(leaks, scope, offset, most).await
    else {
        let text =
            "the answer is withheld: the server cannot check now whether it contains a secret".to_owned();
        let parts = vec![fact_part(text)];
        return (ToolOutput { failed: true, parts, egress: decisions, ..ToolOutput::default() }, None);
    };
    let long = piece.shorten_to(limit);
    let mut parts = vec![fact_part(piece.status_line(status, offset, method))];
    if std::str::from_utf8(&piece.bytes).is_err() {
        parts.push(fact_part("[not UTF-8: unreadable bytes are shown as \u{fffd}]"));
    }
    let mut text = if url == asked { String::new() } else { format!("url: {url}\n") };
    for name in SHOWN {
        if let Some(value) = find_header(&headers, name) {
            let value: String = value.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{name}: {value}");
        }
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&piece.bytes));
    parts.push(ContentPart::new_text(text, Label::OUTSIDE));
    (ToolOutput { failed: piece.torn.is_some(), parts, egress: decisions, ..ToolOutput::default() }, long)
}

/// A piece of a body.
pub(crate) struct BodyPiece {
    pub(crate) bytes: Vec<u8>,
    /// Whether more follows it.
    more: bool,
    /// Why it does not go on, if it should.
    pub(crate) torn: Option<EgressFault>,
    /// Whether all that was read is kept.
    is_kept: bool,
}

impl BodyPiece {
    /// Cuts the piece to what is shown; gives back all of it if that is less.
    pub(crate) fn shorten_to(&mut self, limit: usize) -> Option<LongOutput> {
        if self.bytes.len() <= limit {
            return None;
        }
        let shown = whole_characters(&self.bytes[..limit]);
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes.extend_from_slice(&bytes[..shown]);
        let is_cut = std::mem::replace(&mut self.more, true) || self.torn.is_some();
        self.is_kept = true;
        Some(LongOutput { bytes, shown, is_cut })
    }

    /// Says what was answered, and how much of it is shown.
    pub(crate) fn status_line(&self, status: u16, offset: u64, method: HttpMethod) -> String {
        let shown = self.bytes.len();
        let mut told = format!("[{status}; {shown} bytes");
        if offset > 0 {
            let _infallible = write!(told, " from byte {offset}");
        }
        if let Some(failure) = &self.torn {
            let _infallible = write!(told, "; then {failure}");
        } else if self.is_kept {
            told.push_str("; more follows");
        } else if self.more && method == HttpMethod::Get {
            let next = offset.saturating_add(shown as u64);
            let _infallible = write!(told, "; more follows: ask again with offset {next}");
        } else if self.more {
            told.push_str("; the rest is not shown");
        }
        told.push(']');
        told
    }
}

/// What was read of a body: the piece that is asked for, with what lies around it.
pub(crate) struct BodyWindow {
    bytes: Vec<u8>,
    /// Where in the body they begin.
    from: u64,
    /// Why it does not go on, if it should.
    torn: Option<EgressFault>,
}

/// Reads a piece of a body and so many bytes around it, and no more than it takes to know whether more follows.
pub(crate) async fn read_window(
    body: &mut dyn EgressBody,
    offset: u64,
    limit: usize,
    around: usize,
) -> BodyWindow {
    let mut read = BodyWindow { bytes: Vec::new(), from: 0, torn: None };
    let end = offset.saturating_add(limit as u64).saturating_add(around as u64);
    while read.from.saturating_add(read.bytes.len() as u64) <= end {
        match body.next_chunk().await {
            Ok(Some(chunk)) => read.bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(failure) => {
                read.torn = Some(failure);
                break;
            }
        }
        // Of what comes before the piece only the last bytes are kept.
        let before =
            usize::try_from(offset - read.from.min(offset)).unwrap_or(usize::MAX).min(read.bytes.len());
        if let Some(past) = before.checked_sub(around).filter(|past| *past > 0) {
            read.bytes.drain(..past);
            read.from += past as u64;
        }
    }
    read
}

impl BodyWindow {
    /// Masks the secrets in it and cuts the piece out; `None` if it cannot be scanned.
    pub(crate) async fn mask_and_cut(
        mut self,
        leaks: &dyn LeakDetector,
        scope: &Scope,
        offset: u64,
        limit: usize,
    ) -> Option<BodyPiece> {
        let found = leaks.scan_text(scope, &self.bytes).await.ok()?;
        mask_secrets(&mut self.bytes, &found);
        let begin = usize::try_from(offset - self.from).unwrap_or(usize::MAX).min(self.bytes.len());
        let mut bytes = self.bytes.split_off(begin);
        let more = bytes.len() > limit;
        if more {
            bytes.truncate(limit);
            bytes.truncate(whole_characters(&bytes));
        }
        // What is torn beyond the piece is not its matter.
        Some(BodyPiece { bytes, more, torn: self.torn.filter(|_| !more), is_kept: false })
    }
}

/// Reports that there is no answer, and why.
pub(crate) fn failure_output(
    failure: &EgressFault,
    may_have_acted: bool,
    egress: Vec<EgressDecision>,
) -> ToolOutput {
    let mut text = match failure {
        EgressFault::Refused { .. } | EgressFault::Malformed { .. } => format!("refused: {failure}"),
        _ => format!("failed: {failure}"),
    };
    if may_have_acted {
        text.push_str(". The host may have executed the request: check before you try again");
    }
    ToolOutput { failed: true, parts: vec![fact_part(text)], egress, ..ToolOutput::default() }
}
