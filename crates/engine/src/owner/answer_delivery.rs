//! The delivery of a run's answer: if no caller waits for it, the commit of its entry also prepares its delivery.

use bytes::Bytes;
use dromia_contracts::content::parts_text;
use dromia_contracts::delivery::{ReplyData, ReplyEvent, SaidFailure};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{DeliveryPrepare, WriteBatch};
use dromia_contracts::{DeliveryId, ItemId};
use jiff::Timestamp;

use super::RunOwner;
use super::identity::RunIdentity;
use crate::outcome::answer_parts;

/// What a batch must have left beside the message: entries' fields, the target, the rest of a row.
const BESIDE: usize = 64 << 10;

impl RunOwner {
    /// Writes the message of a run whose last entries are about to become durable, behind those that go with it. `None` for a
    /// run that continues, and for a session whose users wait for the answer or read it.
    pub(crate) fn answer_delivery(&self, ahead: &[DeliveryPrepare]) -> Option<DeliveryPrepare> {
        let target = self.identity.target.as_ref()?;
        if !self.state.is_ended() {
            return None;
        }
        let at = self.journal.pending.last()?.at;
        let status = self.state.status();
        let failure =
            self.state.failure_fault().map(|fault| SaidFailure { code: fault.code, message: fault.message });
        let replied = status == RunStatus::Completed;
        let text = answer_parts(status, &self.story).map(parts_text).unwrap_or_default();
        let outgoing = ReplyEvent {
            kind: if replied { ReplyEvent::REPLIED } else { ReplyEvent::FAILED }.to_owned(),
            timestamp: at,
            data: self.identity.reply_data(status, self.state.taken_items(), text, failure),
        };
        let beside =
            self.journal.pending.iter().filter_map(|new| new.body.as_ref()).map(Bytes::len).sum::<usize>()
                + self.journal.sends.iter().map(|put| put.body.len()).sum::<usize>()
                + ahead.iter().map(|prepare| prepare.body.len()).sum::<usize>();
        let room = WriteBatch::BYTES_MAX.saturating_sub(beside).saturating_sub(BESIDE);
        let body = match outgoing.encode_within(room) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                // Strings, ids and times only, so serialization has no failing case.
                tracing::error!(run = %self.identity.run, %error, "failed to write a message");
                return None;
            }
        };
        let delivery = self.core.ports.runtime.delivery_id();
        Some(self.identity.prepare_delivery(delivery, target, (self.state.seq, at), body))
    }
}

impl RunIdentity {
    /// What the run says to its actor.
    pub(super) fn reply_data(
        &self,
        status: RunStatus,
        items: Vec<ItemId>,
        text: String,
        failure: Option<SaidFailure>,
    ) -> ReplyData {
        ReplyData {
            agent: self.agent.id,
            session: self.session,
            run: self.run,
            status,
            actor: self.author.clone(),
            items,
            text,
            truncated: false,
            failure,
        }
    }

    /// Prepares a message with the entry that made it.
    pub(super) fn prepare_delivery(
        &self,
        delivery: DeliveryId,
        target: &str,
        (seq, at): (u64, Timestamp),
        body: Bytes,
    ) -> DeliveryPrepare {
        let (agent, session, run) = (self.agent.id, self.session, self.run);
        DeliveryPrepare { delivery, target: target.to_owned(), agent, session, run, seq, at, body }
    }
}
