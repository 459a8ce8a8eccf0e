//! What goes with an agent that is erased.
//!
//! A pin goes with the last agent whose runs name it; one that no run ever named stays.

use dromia_contracts::AgentId;
use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::session::InboxOwner;

use super::rows::TenantRows;

impl TenantRows {
    /// Erases everything of an agent.
    pub(super) fn erase_agent(&mut self, agent: AgentId) -> ErasureCounts {
        let mut erased = ErasureCounts::default();
        let sessions: Vec<_> =
            self.sessions.values().filter(|row| row.agent == agent).map(|row| row.id).collect();
        let runs: Vec<_> = self.runs.values().filter(|row| row.agent == agent).map(|row| row.id).collect();
        let owners = sessions.iter().copied().map(InboxOwner::Session);
        for owner in owners.chain(runs.iter().copied().map(InboxOwner::Run)) {
            for item in self.inboxes.remove(&owner).unwrap_or_default() {
                erased.items += 1;
                erased.bodies += u64::from(item.body.is_some());
                self.items.remove(&item.id);
                self.item_keys.retain(|_, row| row.item != item.id);
            }
        }
        for run in &runs {
            let journal = self.journals.remove(run).unwrap_or_default();
            erased.entries += journal.len() as u64;
            erased.bodies += journal.iter().filter(|entry| entry.body.is_some()).count() as u64;
            self.runs.remove(run);
            self.takeovers.retain(|(of, _), _| of != run);
            self.reserved.remove(run);
            self.forget_subject(&run.to_string());
        }
        let before = self.deliveries.len();
        self.deliveries.retain(|_, row| row.delivery.agent != agent);
        erased.deliveries = (before - self.deliveries.len()) as u64;
        for session in &sessions {
            self.sessions.remove(session);
            self.imports.remove(session);
            self.states.retain(|(of, _), _| of != session);
            self.forget_subject(&session.to_string());
        }
        self.session_keys.retain(|(of, _), _| *of != agent);
        self.revisions.retain(|(of, _), _| *of != agent);
        self.approvals.retain(|_, approval| approval.agent != agent);
        self.approval_rules.retain(|_, rule| rule.agent != Some(agent));
        let named: Vec<_> =
            self.pin_refs.iter().filter(|(_, of)| *of == agent).map(|(pin, _)| *pin).collect();
        self.pin_refs.retain(|(_, of)| *of != agent);
        for pin in named {
            if !self.pin_refs.iter().any(|(other, _)| *other == pin) {
                self.pins.remove(&pin);
            }
        }
        self.agents.remove(&agent);
        self.forget_subject(&agent.to_string());
        self.capabilities.retain(|_, row| row.holder != agent);
        self.files.remove(&agent);
        self.files_rest.remove(&agent);
        erased.sessions = sessions.len() as u64;
        erased.runs = runs.len() as u64;
        erased
    }
}
