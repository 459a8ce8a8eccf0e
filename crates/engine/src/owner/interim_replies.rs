//! Interim replies: what a run says to the actor of its session before its answer, each in the commit of the result of its call.
//!
//! They are read off the pending entries, so what is not committed is not sent, and a call that is repeated by another owner
//! prepares the same delivery.

use bytes::Bytes;
use dromia_contracts::content::{ContentPart, ToolResult, parts_text};
use dromia_contracts::delivery::ReplyEvent;
use dromia_contracts::entry::Entry;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::DeliveryPrepare;
use dromia_contracts::tool::{RUN_REPLIES_MAX, ToolOutput};
use dromia_contracts::{CallId, DeliveryId, ItemId, RunId};
use uuid::Builder;

use super::identity::RunIdentity;
use super::journal::JournalWriter;

/// How many bytes of an id say when it was made.
const TIME_BYTES: usize = 6;

/// Writes the interim replies among the entries that are about to become durable; `items` are the inputs that they answer.
pub(super) fn interim_deliveries(
    identity: &RunIdentity,
    journal: &JournalWriter,
    items: &[ItemId],
) -> Vec<DeliveryPrepare> {
    let Some(target) = &identity.target else { return Vec::new() };
    let numbered = (journal.durable + 1..).zip(&journal.pending);
    let replies = numbered.filter_map(|(seq, new)| match (&new.entry, &new.body) {
        (Entry::ToolFinished(finished), Some(body)) if finished.reply => {
            let said: ToolResult = serde_json::from_slice(body).ok()?;
            let data = identity.reply_data(RunStatus::Running, items.to_vec(), parts_text(&said.parts), None);
            let event = ReplyEvent { kind: ReplyEvent::INTERIM.to_owned(), timestamp: new.at, data };
            // Strings, ids and times only, so serialization has no failing case.
            let body = Bytes::from(serde_json::to_vec(&event).ok()?);
            let delivery = interim_delivery_id(identity.run, finished.call);
            Some(identity.prepare_delivery(delivery, target, (seq, new.at), body))
        }
        _ => None,
    });
    replies.collect()
}

/// Names the delivery of a call's reply: the same one for every attempt of the call. Like every id it begins with a time, that of
/// its run.
fn interim_delivery_id(run: RunId, call: CallId) -> DeliveryId {
    let digest = blake3::hash(call.idempotency_key(run).as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[..TIME_BYTES].copy_from_slice(&run.as_bytes()[..TIME_BYTES]);
    // The version and the variant of a UUIDv7.
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    DeliveryId::from_uuid(Builder::from_bytes(bytes).with_variant(uuid::Variant::RFC4122).into_uuid())
}

/// Sends no reply beyond the most of a run: the call fails and says so.
pub(super) fn bound_replies(sent: u32, output: ToolOutput) -> ToolOutput {
    if !output.reply || sent < RUN_REPLIES_MAX {
        return output;
    }
    let text = format!(
        "Nothing was sent: this run has sent {RUN_REPLIES_MAX} interim replies, which is the most. Say the rest in your answer."
    );
    let parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
    ToolOutput { failed: true, parts, ..ToolOutput::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_one_delivery_of_its_run() {
        let run = |number| RunId::from_bytes([number; 16]);
        let id = |number, step, index| interim_delivery_id(run(number), CallId { step, index });
        assert_eq!(id(1, 2, 0), id(1, 2, 0));
        for other in [id(2, 2, 0), id(1, 3, 0), id(1, 2, 1)] {
            assert_ne!(id(1, 2, 0), other);
        }
        assert_eq!(id(1, 2, 0).as_bytes()[..TIME_BYTES], [1; TIME_BYTES]);
        assert_eq!((id(1, 2, 0).as_bytes()[6] >> 4, id(1, 2, 0).as_bytes()[8] >> 6), (7, 0b10));
    }

    #[test]
    fn the_ninth_reply_of_a_run_fails_and_says_so() {
        let said = |text: &str| ToolOutput {
            parts: vec![ContentPart::new_text(text, Label::ACTOR_TEXT)],
            reply: true,
            ..ToolOutput::default()
        };
        assert_eq!(bound_replies(RUN_REPLIES_MAX - 1, said("hi")), said("hi"));
        let refused = bound_replies(RUN_REPLIES_MAX, said("hi"));
        assert!(refused.failed && !refused.reply, "{refused:?}");
        assert!(
            parts_text(&refused.parts).starts_with("Nothing was sent: this run has sent 8"),
            "{refused:?}"
        );
        let other = ToolOutput { reply: false, ..said("hi") };
        assert_eq!(bound_replies(RUN_REPLIES_MAX, other.clone()), other);
    }
}
