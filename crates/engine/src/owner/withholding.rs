//! What of a model's words is kept, and what of them is told: decided once, before anything is written down.
//!
//! Stars stand over values of secrets in the record itself, so that nobody who reads it reads them; a call that holds one
//! begins in no case. What may not leave as an answer is marked so in its entry, and whoever would tell it as one looks at
//! that mark: callers that wait, streams, a chat. Where nobody can look for secrets, nothing of the words is kept.
//!
//! What a person typed is not touched here, and neither is what a tool says, which is starred before it comes.

use dromia_contracts::entry::{Entry, MaskedCall, Withheld};
use dromia_contracts::gate::{Action, Verdict};
use dromia_contracts::model::{ModelReply, ProposedCall};
use dromia_contracts::plan::Standing;
use dromia_contracts::store::NewEntry;
use dromia_contracts::vault::{Spotter, mask};
use dromia_contracts::{CallId, ErrorCode, Fault};
use serde::de::IgnoredAny;

use super::{Lost, Owner};

/// The rule by which words are withheld that hold a secret, or may.
pub(super) const LEAK_SCAN: &str = "leak scan";

/// What stands in the record for words at which nobody could look.
const UNSEEN: &str = "(withheld: nobody could look whether it holds a secret)";

/// What stands for arguments that were not kept; providers take nothing but JSON back.
const NO_ARGUMENTS: &str = "{}";

/// What the entry of a model's answer says of it beside the body.
#[derive(Debug, Default)]
pub(super) struct Marks {
    withheld: Option<Withheld>,
    /// The calls that begin in no case, by their index, and what the model is told instead.
    masked: Vec<(u32, String)>,
}

impl Marks {
    /// Says so in the entry.
    pub(super) fn note(self, entries: &mut [NewEntry]) {
        let replied = entries.iter_mut().find_map(|new| match &mut new.entry {
            Entry::ModelReplied(replied) => Some(replied),
            _ => None,
        });
        // An answer that is too long to be kept is a failed attempt.
        let Some(replied) = replied else { return };
        let step = replied.step;
        let masked = |(index, reason)| MaskedCall { call: CallId { step, index }, reason };
        replied.withheld = self.withheld;
        replied.masked = self.masked.into_iter().map(masked).collect();
    }
}

impl Owner {
    /// Says why nothing that the run says now would be told as its answer, if the gate lets none leave.
    pub(super) fn withheld(&self) -> Option<Withheld> {
        match self.gate(Action::Reply { session: self.session }, &Standing::default()) {
            Verdict::Allow { .. } => None,
            // Nobody is asked about an answer, and none is put off, so what must be is refused.
            Verdict::Deny { rule, reason, .. }
            | Verdict::Ask { rule, reason, .. }
            | Verdict::Delay { rule, reason, .. } => Some(Withheld { rule, reason }),
        }
    }

    /// Writes stars over secrets in what the model said; `withheld` is what the gate said of it.
    pub(super) async fn marked(
        &self,
        reply: &mut ModelReply,
        withheld: Option<Withheld>,
    ) -> Result<Marks, Lost> {
        // Anew: a secret may have been set while the model was asked.
        match self.core.ports.leaks.spotter(&self.scope).await {
            Ok(spotter) => Ok(starred(&*spotter, reply, withheld)),
            // The store answers again sooner or later, and the run is taken up then.
            Err(fault) if fault.code == ErrorCode::StoreUnavailable => Err(Lost::Store),
            Err(fault) => Ok(unseen(&fault, reply, withheld)),
        }
    }
}

/// Writes stars over the values that somebody knows.
fn starred(spotter: &dyn Spotter, reply: &mut ModelReply, withheld: Option<Withheld>) -> Marks {
    let mut marks = Marks { withheld, masked: Vec::new() };
    if let Some(secret) = star(spotter, &mut reply.text) {
        marks.withheld.get_or_insert_with(|| leaked(answer_holds(&secret)));
    }
    for (index, call) in (0..).zip(&mut reply.calls) {
        let ProposedCall { tool, arguments } = call;
        let found = star(spotter, arguments);
        if found.is_some() && serde_json::from_str::<IgnoredAny>(arguments).is_err() {
            NO_ARGUMENTS.clone_into(arguments);
        }
        if let Some(secret) = star(spotter, tool).or(found) {
            let reason = format!(
                "the arguments hold the value of the secret {secret:?}; nothing was done. Name it instead, with \
                 {{\"secret\":{secret:?}}} as a header of http.request"
            );
            marks.masked.push((index, reason));
        }
    }
    marks
}

/// Keeps nothing of what the model said: nobody can look at it.
fn unseen(fault: &Fault, reply: &mut ModelReply, withheld: Option<Withheld>) -> Marks {
    let mut marks = Marks { withheld, masked: Vec::new() };
    if !reply.text.is_empty() {
        UNSEEN.clone_into(&mut reply.text);
        marks.withheld.get_or_insert_with(|| leaked(unseen_answer(fault)));
    }
    for (index, call) in (0..).zip(&mut reply.calls) {
        NO_ARGUMENTS.clone_into(&mut call.arguments);
        let reason = "nobody can look now whether the arguments hold a secret; nothing was done".to_owned();
        marks.masked.push((index, reason));
    }
    marks
}

/// Writes stars over values in a text; returns the name of the first.
fn star(spotter: &dyn Spotter, text: &mut String) -> Option<String> {
    let leaks = spotter.find(text.as_bytes());
    let first = leaks.first()?.secret.clone();
    let mut bytes = std::mem::take(text).into_bytes();
    mask(&mut bytes, &leaks);
    *text = String::from_utf8_lossy(&bytes).into_owned();
    Some(first)
}

fn leaked(reason: String) -> Withheld {
    Withheld { rule: LEAK_SCAN.to_owned(), reason }
}

/// Says that an answer holds a secret.
pub(super) fn answer_holds(secret: &str) -> String {
    format!("the answer holds the value of the secret {secret:?}, so it was not sent")
}

/// Says that nobody could look at an answer.
pub(super) fn unseen_answer(fault: &Fault) -> String {
    format!("nobody can look whether the answer holds a secret: {fault}")
}

#[cfg(test)]
mod tests {
    use dromia_contracts::model::{Finish, Usage, UsageDetail};
    use dromia_contracts::vault::Leak;

    use super::*;

    const CANARY: &str = "canary-4711";

    /// Knows one value.
    #[derive(Debug)]
    struct One;

    impl Spotter for One {
        fn find(&self, text: &[u8]) -> Vec<Leak> {
            let text = String::from_utf8_lossy(text);
            let found = text.match_indices(CANARY).map(|(at, _)| at..at + CANARY.len());
            found.map(|range| Leak { secret: "till".to_owned(), range }).collect()
        }

        fn open_from(&self, text: &[u8]) -> usize {
            text.len()
        }
    }

    fn reply(text: &str, arguments: &[&str]) -> ModelReply {
        let call = |arguments: &&str| ProposedCall {
            tool: "file.write".to_owned(),
            arguments: (*arguments).to_owned(),
        };
        ModelReply {
            text: text.to_owned(),
            calls: arguments.iter().map(call).collect(),
            usage: Usage::default(),
            detail: UsageDetail::default(),
            cost_micros: 0,
            finish: Finish::Stop,
            stopped_at: None,
        }
    }

    #[test]
    fn stars_stand_over_a_secret_and_what_held_it_is_marked() {
        let mut said = reply("it is canary-4711.", &[r#"{"a":"canary-4711"}"#, r#"{"a":1}"#]);
        let marks = starred(&One, &mut said, None);
        assert_eq!(said.text, "it is ***********.");
        assert_eq!(said.calls[0].arguments, r#"{"a":"***********"}"#);
        assert_eq!(said.calls[1].arguments, r#"{"a":1}"#);
        let withheld = marks.withheld.expect("it is withheld");
        assert_eq!(withheld.rule, LEAK_SCAN);
        assert!(withheld.reason.contains("\"till\""), "{}", withheld.reason);
        assert_eq!(marks.masked.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_was_said() {
        let mut said = reply("fine", &["not json"]);
        let marks = starred(&One, &mut said, None);
        assert_eq!((said, marks.withheld, marks.masked), (reply("fine", &["not json"]), None, Vec::new()));
    }

    #[test]
    fn the_word_of_the_gate_goes_before() {
        let refused = Withheld { rule: "default deny".to_owned(), reason: "no".to_owned() };
        let marks = starred(&One, &mut reply(CANARY, &[]), Some(refused.clone()));
        assert_eq!(marks.withheld, Some(refused));
    }

    #[test]
    fn arguments_that_are_no_json_under_their_stars_are_left_out() {
        let mut said = reply("", &["canary-4711"]);
        assert_eq!(starred(&One, &mut said, None).masked.len(), 1);
        assert_eq!(said.calls[0].arguments, NO_ARGUMENTS);
    }

    #[test]
    fn where_nobody_can_look_nothing_is_kept() {
        let mut said = reply(CANARY, &[r#"{"a":"canary-4711"}"#]);
        let fault = Fault::new(ErrorCode::VaultLocked, "it is locked");
        let marks = unseen(&fault, &mut said, None);
        assert!(!format!("{said:?}").contains("canary"), "{said:?}");
        assert!(marks.withheld.is_some_and(|withheld| withheld.reason.contains("it is locked")));
        assert_eq!(marks.masked.len(), 1);
    }
}
