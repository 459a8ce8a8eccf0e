//! Redaction of a model's reply: what is stored and what may be sent, decided once, before anything is written.
//!
//! The record itself has stars over secrets, so that no reader sees them; a call that holds one never begins. A reply
//! that may not leave as an answer is marked so in its entry, and waiting callers, streams and chats respect that mark.
//! If the reply cannot be scanned for secrets, none of its text is stored.
//!
//! Typed text is not changed here, and neither are results of tools, which are redacted before they come.

use dromia_contracts::entry::{Entry, MaskedCall, WithheldReply};
use dromia_contracts::model::{ModelReply, ProposedCall};
use dromia_contracts::store::NewEntry;
use dromia_contracts::vault::{SecretMatch, mask_secrets};
use dromia_contracts::{CallId, ErrorCode, Fault};
use serde::de::IgnoredAny;

use super::{OwnershipError, RunOwner};
use crate::judge::leak_scan::{LEAK_SCAN, answer_holds, unseen_answer};

/// The stored replacement for text that could not be scanned.
const UNSEEN: &str = "(withheld: the server could not check whether it contains a secret)";

/// The replacement for arguments that were not stored; providers accept only JSON.
const NO_ARGUMENTS: &str = "{}";

/// The marks in the entry of a model's answer, beside its body.
#[derive(Debug, Default)]
pub(super) struct ReplyRedactions {
    withheld: Option<WithheldReply>,
    /// The calls that never begin, by their index, and the result that the model gets instead.
    masked: Vec<(u32, String)>,
}

impl ReplyRedactions {
    /// Tells whether nothing of the reply may leave.
    pub(super) fn withholds(&self) -> bool {
        self.withheld.is_some()
    }

    /// Writes the marks into the entry.
    pub(super) fn annotate_entries(self, entries: &mut [NewEntry]) {
        let replied = entries.iter_mut().find_map(|new| match &mut new.entry {
            Entry::ModelReplied(replied) => Some(replied),
            _ => None,
        });
        // An answer that is too long to be kept is a failed attempt.
        let Some(replied) = replied else { return };
        let step = replied.step;
        let masked = |(index, reason)| MaskedCall { call: CallId { step, index }, reason };
        if self.withheld.is_some() {
            replied.withheld = self.withheld;
        }
        replied.masked = self.masked.into_iter().map(masked).collect();
    }
}

impl RunOwner {
    /// Writes stars over secrets in the model's reply; `withheld` is the gate's refusal, if any.
    pub(super) async fn redact_reply(
        &self,
        reply: &mut ModelReply,
        withheld: Option<WithheldReply>,
    ) -> Result<ReplyRedactions, OwnershipError> {
        // A new scan, because a secret may have been set while the model answered.
        match self.leaks_in(reply).await {
            Ok(found) => Ok(redact_found(found, reply, withheld)),
            // Once the store answers again, the run is taken over.
            Err(fault) if fault.code == ErrorCode::StoreUnavailable => Err(OwnershipError::Store),
            Err(fault) => Ok(withhold_unscanned(&fault, reply, withheld)),
        }
    }

    /// Scans the texts of an answer for secrets, in the order of [`reply_texts`].
    async fn leaks_in(&self, reply: &ModelReply) -> Result<Vec<Vec<SecretMatch>>, Fault> {
        let mut found = Vec::new();
        for text in reply_texts(reply) {
            found.push(self.core.ports.leaks.scan_text(&self.identity.scope, text.as_bytes()).await?);
        }
        Ok(found)
    }
}

/// The texts of an answer that are scanned: its text, and of each call the arguments and the tool.
fn reply_texts(reply: &ModelReply) -> impl Iterator<Item = &str> {
    let calls = reply.calls.iter().flat_map(|call| [call.arguments.as_str(), call.tool.as_str()]);
    std::iter::once(reply.text.as_str()).chain(calls)
}

/// Writes stars over the found secrets, in the order of [`reply_texts`].
fn redact_found(
    found: Vec<Vec<SecretMatch>>,
    reply: &mut ModelReply,
    withheld: Option<WithheldReply>,
) -> ReplyRedactions {
    let mut marks = ReplyRedactions { withheld, masked: Vec::new() };
    let mut found = found.into_iter();
    let mut next = || found.next().unwrap_or_default();
    if let Some(secret) = redact_leaks(&next(), &mut reply.text) {
        marks.withheld.get_or_insert_with(|| leak_withheld(answer_holds(&secret)));
    }
    for (index, call) in (0..).zip(&mut reply.calls) {
        let ProposedCall { tool, arguments } = call;
        let found = redact_leaks(&next(), arguments);
        if found.is_some() && serde_json::from_str::<IgnoredAny>(arguments).is_err() {
            NO_ARGUMENTS.clone_into(arguments);
        }
        if let Some(secret) = redact_leaks(&next(), tool).or(found) {
            let reason = format!(
                "the arguments contain the value of the secret {secret:?}; nothing was done. Name it instead, \
                 with {{\"secret\":{secret:?}}} as a header of http.request"
            );
            marks.masked.push((index, reason));
        }
    }
    marks
}

/// Stores nothing of the model's reply, because it cannot be scanned.
fn withhold_unscanned(
    fault: &Fault,
    reply: &mut ModelReply,
    withheld: Option<WithheldReply>,
) -> ReplyRedactions {
    let mut marks = ReplyRedactions { withheld, masked: Vec::new() };
    if !reply.text.is_empty() {
        UNSEEN.clone_into(&mut reply.text);
        marks.withheld.get_or_insert_with(|| leak_withheld(unseen_answer(fault)));
    }
    for (index, call) in (0..).zip(&mut reply.calls) {
        NO_ARGUMENTS.clone_into(&mut call.arguments);
        let reason =
            "the server cannot check now whether the arguments contain a secret; nothing was done".to_owned();
        marks.masked.push((index, reason));
    }
    marks
}

/// Writes stars over values in a text; returns the name of the first.
fn redact_leaks(leaks: &[SecretMatch], text: &mut String) -> Option<String> {
    let first = leaks.first()?.secret.clone();
    let mut bytes = std::mem::take(text).into_bytes();
    mask_secrets(&mut bytes, leaks);
    *text = String::from_utf8_lossy(&bytes).into_owned();
    Some(first)
}

fn leak_withheld(reason: String) -> WithheldReply {
    WithheldReply { rule: LEAK_SCAN.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};

    use super::*;

    const CANARY: &str = "canary-4711";

    /// Looks for one value, and writes stars over it.
    fn redact_found(reply: &mut ModelReply, withheld: Option<WithheldReply>) -> ReplyRedactions {
        let look = |text: &str| {
            let found = text.match_indices(CANARY).map(|(at, _)| at..at + CANARY.len());
            found.map(|range| SecretMatch { secret: "till".to_owned(), range }).collect()
        };
        let found = reply_texts(reply).map(look).collect();
        super::redact_found(found, reply, withheld)
    }

    fn reply(text: &str, arguments: &[&str]) -> ModelReply {
        let call = |arguments: &&str| ProposedCall {
            tool: "file.write".to_owned(),
            arguments: (*arguments).to_owned(),
        };
        ModelReply {
            text: text.to_owned(),
            calls: arguments.iter().map(call).collect(),
            usage: TokenUsage::default(),
            detail: UsageDetail::default(),
            cost_micros: 0,
            finish: FinishReason::Stop,
            stopped_at: None,
        }
    }

    #[test]
    fn a_secret_is_masked_and_its_holder_is_marked() {
        let mut said = reply("it is canary-4711.", &[r#"{"a":"canary-4711"}"#, r#"{"a":1}"#]);
        let marks = redact_found(&mut said, None);
        assert_eq!(said.text, "it is ***********.");
        assert_eq!(said.calls[0].arguments, r#"{"a":"***********"}"#);
        assert_eq!(said.calls[1].arguments, r#"{"a":1}"#);
        let withheld = marks.withheld.expect("it is withheld");
        assert_eq!(withheld.rule, LEAK_SCAN);
        assert!(withheld.reason.contains("\"till\""), "{}", withheld.reason);
        assert_eq!(marks.masked.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_reply_without_a_secret_stays_unchanged() {
        let mut said = reply("fine", &["not json"]);
        let marks = redact_found(&mut said, None);
        assert_eq!((said, marks.withheld, marks.masked), (reply("fine", &["not json"]), None, Vec::new()));
    }

    #[test]
    fn the_word_of_the_gate_goes_before() {
        let refused = WithheldReply { rule: "default deny".to_owned(), reason: "no".to_owned() };
        let marks = redact_found(&mut reply(CANARY, &[]), Some(refused.clone()));
        assert_eq!(marks.withheld, Some(refused));
    }

    #[test]
    fn arguments_that_masking_makes_invalid_are_dropped() {
        let mut said = reply("", &["canary-4711"]);
        assert_eq!(redact_found(&mut said, None).masked.len(), 1);
        assert_eq!(said.calls[0].arguments, NO_ARGUMENTS);
    }

    #[test]
    fn a_reply_that_cannot_be_scanned_is_withheld() {
        let mut said = reply(CANARY, &[r#"{"a":"canary-4711"}"#]);
        let fault = Fault::new(ErrorCode::VaultLocked, "it is locked");
        let marks = withhold_unscanned(&fault, &mut said, None);
        assert!(!format!("{said:?}").contains("canary"), "{said:?}");
        assert!(marks.withheld.is_some_and(|withheld| withheld.reason.contains("it is locked")));
        assert_eq!(marks.masked.len(), 1);
    }
}
