//! How a request was written and what was sent: with a run's journal and its pinned prompt all that the bytes follow
//! from.
//!
//! A [`RequestEncoding`] says what is not derivable later, because the operator may change it at any time: the form,
//! the model's id at its provider, how much of the conversation was left out, how untrusted content of earlier turns is
//! shown. The [`BodyDigest`] proves that bytes which are written again are the ones that were sent. Keys and addresses
//! are no part of a body and of neither.
//!
//! A form carries a version, such as `chat/1`. A program that writes a form's bytes in another way gives the form a new
//! version; otherwise the digest does not match.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::ParseDigestError;

/// How a request is written for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEncoding {
    /// The alias that is asked, where it is a fallback for the one that the run names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The form and its version.
    pub form: String,
    /// The model's id at its provider; the scripted model has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Whether the answer is asked for in one piece, and not as a stream.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole: bool,
    /// The field that carries the most tokens of the answer, where the form leaves a choice and it is not the usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// How many turns of the conversation are left out at its beginning, behind a summary, so that the rest fits the model's
    /// window.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// How many turns of the rest, counted from its beginning, have a handle in the place of each long result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shortened: u32,
    /// How untrusted content of earlier turns is shown. It is written only where a handle replaces something.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub tainted_past: TaintedPast,
    /// Whether the form of the answer is sent in a field of its own, in addition to the words in the system text.
    #[serde(default, skip_serializing_if = "is_false")]
    pub answer_field: bool,
    /// Whether it is the last request of its run: without tools, and with words that ask for a conclusion.
    #[serde(default, skip_serializing_if = "is_false")]
    pub concludes: bool,
}

/// How a model sees the untrusted content of earlier turns of its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaintedPast {
    /// As the earlier turn had it, so that the turn is as untrusted as it.
    #[default]
    Whole,
    /// By a handle, with which the model may read it again ([`crate::redacted_history`]). A program that puts handles in other words
    /// gives them another name here, as it gives a form another version.
    Handle,
}

/// How a form begins whose requests are answered within this process.
pub const FORM_WITHIN: &str = "scripted/";

impl RequestEncoding {
    /// Returns whether what is written so leaves this process.
    pub fn leaves_process(&self) -> bool {
        !self.form.starts_with(FORM_WITHIN)
    }

    /// Returns whether a part of the conversation is not in the request, so that the model may want to read it.
    pub fn leaves_words_out(&self) -> bool {
        self.left_out > 0 || self.shortened > 0
    }
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentEncoding {
    /// How it was written.
    #[serde(flatten)]
    pub wording: RequestEncoding,
    /// The digest of its bytes.
    pub digest: BodyDigest,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_whole(past: &TaintedPast) -> bool {
    *past == TaintedPast::Whole
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The first eight bytes of a 256-bit digest, written as 16 lower-case hex digits: short, because every model call
/// keeps one. It detects accidents and nothing more; an attacker would have to break the journal's own chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 8]);

impl BodyDigest {
    /// Keeps the beginning of a digest.
    pub const fn truncate_digest(whole: &[u8; 32]) -> Self {
        let mut kept = [0; 8];
        let mut at = 0;
        while at < kept.len() {
            kept[at] = whole[at];
            at += 1;
        }
        Self(kept)
    }
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BodyDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The whole digest's parser refuses whatever is not lower-case hex; the rest is nought.
        if text.len() != 16 {
            return Err(ParseDigestError);
        }
        let whole: crate::Digest = format!("{text}{:048}", 0).parse()?;
        Ok(Self::truncate_digest(whole.as_bytes()))
    }
}

impl Serialize for BodyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BodyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|ParseDigestError| de::Error::custom("expected 16 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_the_scripted_model_stay_in_the_process() {
        let wording = |form: &str| RequestEncoding {
            by: None,
            form: form.to_owned(),
            model: String::new(),
            whole: false,
            limit: None,
            left_out: 0,
            shortened: 0,
            tainted_past: TaintedPast::Whole,
            answer_field: false,
            concludes: false,
        };
        assert!(!wording("scripted/1").leaves_process());
        assert!(wording("chat/1").leaves_process() && wording("").leaves_process());
    }

    #[test]
    fn a_sent_encoding_omits_defaults_and_round_trips() {
        let usual = RequestEncoding {
            by: None,
            form: "chat/1".to_owned(),
            model: "m".to_owned(),
            whole: false,
            limit: None,
            left_out: 0,
            shortened: 0,
            tainted_past: TaintedPast::Whole,
            answer_field: false,
            concludes: false,
        };
        let digest: BodyDigest = "00010203040506ff".parse().expect("16 digits");
        let short = SentEncoding { wording: usual.clone(), digest };
        let text = serde_json::to_string(&short).expect("it is data");
        assert_eq!(
            text, r#"{"form":"chat/1","model":"m","digest":"00010203040506ff"}"#,
            "these bytes lie in every journal"
        );
        let wording = RequestEncoding {
            by: Some("spare".to_owned()),
            whole: true,
            limit: Some("max_completion_tokens".to_owned()),
            left_out: 4,
            shortened: 2,
            tainted_past: TaintedPast::Handle,
            ..usual
        };
        for sent in [short, SentEncoding { wording, digest }] {
            let text = serde_json::to_string(&sent).expect("it is data");
            assert_eq!(serde_json::from_str::<SentEncoding>(&text).expect("it was just written"), sent);
        }
    }

    #[test]
    fn a_malformed_body_digest_is_refused() {
        for bad in ["", "00", &"0".repeat(64), &"0".repeat(15), &"G".repeat(16), &"A".repeat(16)] {
            assert_eq!(bad.parse::<BodyDigest>(), Err(ParseDigestError), "{bad}");
        }
    }
}
