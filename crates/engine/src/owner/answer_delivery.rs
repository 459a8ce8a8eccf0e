//! The delivery of a run's answer: if no caller waits for it, the commit of its entry also prepares its delivery.

use bytes::Bytes;
use dromia_contracts::content::parts_text;
use dromia_contracts::delivery::{ReplyData, ReplyEvent, SaidFailure};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{DeliveryPrepare, WriteBatch};

use super::RunOwner;
use crate::outcome::answer_parts;

/// What a batch must have left beside the message: entries' fields, the target, the rest of a row.
const BESIDE: usize = 64 << 10;

impl RunOwner {
    /// Writes the message of a run whose last entries are about to become durable. `None` for a run that continues, and
    /// for a session whose users wait for the answer or read it.
    pub(crate) fn delivery_message(&self) -> Option<DeliveryPrepare> {
        let target = self.identity.target.clone()?;
        if !self.state.is_ended() {
            return None;
        }
        let at = self.journal.pending.last()?.at;
        let status = self.state.status();
        let failure =
            self.state.failure_fault().map(|fault| SaidFailure { code: fault.code, message: fault.message });
        let replied = status == RunStatus::Completed;
        let outgoing = ReplyEvent {
            kind: if replied { ReplyEvent::REPLIED } else { ReplyEvent::FAILED }.to_owned(),
            timestamp: at,
            data: ReplyData {
                agent: self.identity.agent.id,
                session: self.identity.session,
                run: self.identity.run,
                status,
                actor: self.identity.author.clone(),
                items: self.state.taken_items(),
                text: answer_parts(status, &self.story).map(parts_text).unwrap_or_default(),
                truncated: false,
                failure,
            },
        };
        let beside =
            self.journal.pending.iter().filter_map(|new| new.body.as_ref()).map(Bytes::len).sum::<usize>()
                + self.journal.sends.iter().map(|put| put.body.len()).sum::<usize>();
        let room = WriteBatch::BYTES_MAX.saturating_sub(beside).saturating_sub(BESIDE);
        let body = match outgoing.encode_within(room) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                // Strings, ids and times only, so serialization has no failing case.
                tracing::error!(run = %self.identity.run, %error, "failed to write a message");
                return None;
            }
        };
        Some(DeliveryPrepare {
            delivery: self.core.ports.runtime.delivery_id(),
            target,
            agent: self.identity.agent.id,
            session: self.identity.session,
            run: self.identity.run,
            seq: self.state.seq,
            at,
            body,
        })
    }
}
