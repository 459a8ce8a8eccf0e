//! What goes with an agent that is erased.
//!
//! A pin goes with the last agent whose runs name it; one that no run ever named stays.

use bytes::Bytes;
use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::AnswerPut;
use dromia_contracts::{AgentId, RunId, SessionId};

use super::rows::TenantRows;

impl TenantRows {
    /// Erases everything of an agent.
    pub(super) fn erase_agent(&mut self, agent: AgentId) -> ErasureCounts {
        let mut sessions: Vec<_> =
            self.sessions.rows.values().filter(|row| row.agent == agent).map(|row| row.id).collect();
        sessions.extend(self.sessions.erased.iter().filter(|(_, of)| **of == agent).map(|(id, _)| *id));
        let runs: Vec<_> =
            self.runs.rows.values().filter(|row| row.agent == agent).map(|row| row.id).collect();
        let mut erased = self.erase_rows(&sessions, &runs);
        let before = self.outbox.rows.len();
        self.outbox.rows.retain(|_, row| row.delivery.source.agent != agent);
        erased.deliveries = (before - self.outbox.rows.len()) as u64;
        for kept in self.answers.values_mut().filter_map(|kept| kept.answer.as_mut()) {
            if kept.len() > 1 {
                *kept = Bytes::from_static(AnswerPut::NOT_KEPT);
            }
        }
        self.sessions.keys.retain(|(of, _), _| *of != agent);
        self.agents.revisions.retain(|(of, _), _| *of != agent);
        self.agents.created.remove(&agent);
        self.approvals.rows.retain(|_, approval| approval.source.agent != agent);
        self.approvals.rules.retain(|_, rule| rule.agent != Some(agent));
        let named: Vec<_> =
            self.pins.refs.iter().filter(|(_, of)| *of == agent).map(|(pin, _)| *pin).collect();
        self.pins.refs.retain(|(_, of)| *of != agent);
        for pin in named {
            if !self.pins.refs.iter().any(|(other, _)| *other == pin) {
                self.pins.rows.remove(&pin);
            }
        }
        self.agents.rows.remove(&agent);
        self.budgets.forget_subject(&agent.to_string());
        self.capabilities.rows.retain(|_, row| row.holder != agent);
        self.files.rows.remove(&agent);
        self.files.rest.remove(&agent);
        erased
    }

    /// Erases sessions and runs with what belongs to them alone.
    pub(super) fn erase_rows(&mut self, sessions: &[SessionId], runs: &[RunId]) -> ErasureCounts {
        let mut erased = ErasureCounts {
            sessions: sessions.len() as u64,
            runs: runs.len() as u64,
            ..ErasureCounts::default()
        };
        let owners = sessions.iter().copied().map(InboxOwner::Session);
        for owner in owners.chain(runs.iter().copied().map(InboxOwner::Run)) {
            for item in self.inbox.queues.remove(&owner).unwrap_or_default() {
                erased.items += 1;
                erased.bodies += u64::from(item.body.is_some());
                self.inbox.items.remove(&item.id);
                self.inbox.keys.retain(|_, row| row.item != item.id);
            }
        }
        for run in runs {
            let journal = self.runs.journals.remove(run).unwrap_or_default();
            erased.entries += journal.len() as u64;
            erased.bodies += journal.iter().filter(|entry| entry.body.is_some()).count() as u64;
            self.runs.rows.remove(run);
            self.runs.checkpoints.remove(run);
            self.runs.takeovers.retain(|(of, _), _| of != run);
            self.budgets.forget_run(*run);
        }
        for session in sessions {
            self.sessions.rows.remove(session);
            self.sessions.hidden.remove(session);
            self.sessions.erased.remove(session);
            self.sessions.states.retain(|(of, _), _| of != session);
            self.budgets.forget_subject(&session.to_string());
        }
        erased
    }
}
