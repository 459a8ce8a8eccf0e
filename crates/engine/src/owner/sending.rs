//! What leaves with the end of a run: where nobody waits for the answer, it is prepared to be delivered in the commit of
//! the entry that made it.

use bytes::Bytes;
use dromia_contracts::content::parts_text;
use dromia_contracts::delivery::{Outgoing, Said, SaidFailure};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{Batch, DeliveryPrepare};

use super::Owner;
use crate::outcome::answer;

/// What a batch must have left beside the message: entries' fields, the target, the rest of a row.
const BESIDE: usize = 64 << 10;

impl Owner {
    /// Writes the message of a run whose last entries are about to become durable. Nothing for a run that goes on, and
    /// for a session whose people wait for the answer or read it.
    pub(crate) fn message(&self) -> Option<DeliveryPrepare> {
        let target = self.target.clone()?;
        if !self.state.is_ended() {
            return None;
        }
        let at = self.pending.last()?.at;
        let status = self.state.status();
        let failure =
            self.state.fault().map(|fault| SaidFailure { code: fault.code, message: fault.message });
        let replied = status == RunStatus::Completed;
        let outgoing = Outgoing {
            kind: if replied { Outgoing::REPLIED } else { Outgoing::FAILED }.to_owned(),
            timestamp: at,
            data: Said {
                agent: self.agent.id,
                session: self.session,
                run: self.run,
                status,
                actor: self.author.clone(),
                items: self.items.clone(),
                text: answer(status, &self.story).map(parts_text).unwrap_or_default(),
                truncated: false,
                failure,
            },
        };
        let beside = self.pending.iter().filter_map(|new| new.body.as_ref()).map(Bytes::len).sum::<usize>()
            + self.sends.iter().map(|put| put.body.len()).sum::<usize>();
        let room = Batch::BYTES_MAX.saturating_sub(beside).saturating_sub(BESIDE);
        let body = match outgoing.encode_within(room) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                // Strings, ids and times only, so serialization has no failing case.
                tracing::error!(run = %self.run, %error, "a message could not be written");
                return None;
            }
        };
        Some(DeliveryPrepare {
            delivery: self.core.ports.runtime.delivery_id(),
            target,
            agent: self.agent.id,
            session: self.session,
            run: self.run,
            seq: self.state.seq,
            at,
            body,
        })
    }
}
