//! Approvals of the reference store.

use dromia_contracts::RunId;
use dromia_contracts::approval::{Approval, ApprovalRule, RULES_MAX, touched};
use dromia_contracts::store::{ApprovalAnswer, NewEntry, Refusal};

use super::rows::TenantRows;

impl TenantRows {
    pub(super) fn approval_ask(&mut self, ask: &Approval) -> Result<(), Refusal> {
        let run = self.runs.get(&ask.run).ok_or_else(|| Refusal::NotFound(ask.run.to_string()))?;
        if (run.agent, run.session) != (ask.agent, ask.session) {
            return Err(Refusal::NotFound(format!("{} of {}", ask.run, ask.session)));
        }
        match self.approvals.get(&ask.id) {
            None => {
                self.approvals.insert(ask.id, ask.clone());
                Ok(())
            }
            Some(known)
                if (known.run, known.call, known.binding, known.asked_at)
                    == (ask.run, ask.call, ask.binding, ask.asked_at) =>
            {
                Ok(())
            }
            Some(_) => Err(Refusal::Malformed(format!("{} exists already", ask.id))),
        }
    }

    pub(super) fn approval_answer(&mut self, answer: &ApprovalAnswer) -> Result<(), Refusal> {
        let missing = || Refusal::NotFound(answer.approval.to_string());
        let known = self.approvals.get_mut(&answer.approval).ok_or_else(missing)?;
        known
            .answer(answer.from, answer.approved, &answer.answered)
            .map_err(|found| Refusal::ApprovalMoved { found })
    }

    /// Moves the approvals that entries name.
    pub(super) fn touch(&mut self, run: RunId, entries: &[NewEntry]) -> Result<(), Refusal> {
        for (id, touch) in entries.iter().filter_map(|new| touched(&new.entry)) {
            let known = self.approvals.get_mut(&id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
            known.touch(run, touch).map_err(|found| Refusal::ApprovalMoved { found })?;
        }
        Ok(())
    }

    pub(super) fn approval_rule_put(&mut self, rule: &ApprovalRule) -> Result<(), Refusal> {
        if let Some(problem) = rule.problem() {
            return Err(Refusal::Malformed(problem));
        }
        if let Some(agent) = rule.agent.filter(|agent| !self.agents.contains_key(agent)) {
            return Err(Refusal::NotFound(agent.to_string()));
        }
        if let Some(session) = rule.session.filter(|session| !self.sessions.contains_key(session)) {
            return Err(Refusal::NotFound(session.to_string()));
        }
        let mut rules = self.approval_rules.clone();
        rules.retain(|name, known| *name != rule.name && known.expires_at > rule.created_at);
        if rules.len() >= RULES_MAX {
            return Err(Refusal::Malformed(format!("a tenant has at most {RULES_MAX} rules")));
        }
        rules.insert(rule.name.clone(), rule.clone());
        self.approval_rules = rules;
        Ok(())
    }
}
