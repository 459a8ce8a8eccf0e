//! Approvals of the reference store.

use std::collections::BTreeMap;

use dromia_contracts::approval::{
    ApprovalRequest, ApprovalRuleRecord, KEPT_MAX, OPEN_MAX, RULES_MAX, SWEEP_LOOKS_MAX, SWEPT_MAX,
    approval_transition, sweep_looks,
};
use dromia_contracts::store::{
    ApprovalAnswer, ApprovalFilter, CommitRefusal, NewEntry, PageRequest, WriteBatch,
};
use dromia_contracts::{AgentId, ApprovalId, RunId, Scope};
use jiff::Timestamp;

use super::agent::AgentRows;
use super::page::page_rows;
use super::run::RunRows;
use super::session::SessionRows;

/// The tenant's approvals, and the rules that answer them.
#[derive(Debug, Clone, Default)]
pub(super) struct ApprovalRows {
    pub(super) rows: BTreeMap<ApprovalId, ApprovalRequest>,
    pub(super) rules: BTreeMap<String, ApprovalRuleRecord>,
}

impl ApprovalRows {
    pub(super) fn ask_approval(
        &mut self,
        ask: &ApprovalRequest,
        batch: &WriteBatch,
        runs: &RunRows,
    ) -> Result<(), CommitRefusal> {
        let run = runs
            .rows
            .get(&ask.source.run)
            .ok_or_else(|| CommitRefusal::NotFound(ask.source.run.to_string()))?;
        if (run.agent, run.session) != (ask.source.agent, ask.source.session) {
            return Err(CommitRefusal::NotFound(format!("{} of {}", ask.source.run, ask.source.session)));
        }
        match self.rows.get(&ask.id) {
            None => {
                let back = batch.takes_back();
                let stays_open = |known: &&ApprovalRequest| {
                    known.is_open_at(ask.deadlines.asked_at) && !back.contains(&known.id)
                };
                if ask.is_open_at(ask.deadlines.asked_at)
                    && self.rows.values().filter(stays_open).count() >= OPEN_MAX
                {
                    return Err(CommitRefusal::ApprovalsFull { most: OPEN_MAX });
                }
                self.rows.insert(ask.id, ask.clone());
                self.sweep_approvals(ask.deadlines.asked_at, runs);
                Ok(())
            }
            Some(known)
                if (known.source.run, known.source.call, known.judged.binding, known.deadlines.asked_at)
                    == (ask.source.run, ask.source.call, ask.judged.binding, ask.deadlines.asked_at) =>
            {
                Ok(())
            }
            Some(_) => Err(CommitRefusal::Malformed(format!("{} exists already", ask.id))),
        }
    }

    /// Lets go of the oldest approvals beyond those that are kept.
    fn sweep_approvals(&mut self, at: Timestamp, runs: &RunRows) {
        let closed = || self.rows.values().filter(move |known| !known.is_open_at(at));
        let beyond = closed().count().saturating_sub(KEPT_MAX);
        let has_ended = |run: RunId| runs.rows.get(&run).is_none_or(|run| run.head.status.is_terminal());
        let is_over =
            |known: &&ApprovalRequest| known.is_over_at(at) && known.concerned_runs().all(has_ended);
        let looked_at =
            sweep_looks(beyond).into_iter().flat_map(|passed| closed().skip(passed).take(SWEEP_LOOKS_MAX));
        let gone: Vec<_> =
            looked_at.filter(is_over).map(|known| known.id).take(beyond.min(SWEPT_MAX)).collect();
        for id in gone {
            self.rows.remove(&id);
        }
    }

    pub(super) fn answer_approval(&mut self, answer: &ApprovalAnswer) -> Result<(), CommitRefusal> {
        let missing = || CommitRefusal::NotFound(answer.approval.to_string());
        let known = self.rows.get_mut(&answer.approval).ok_or_else(missing)?;
        known
            .record_answer(answer.from, answer.approved, &answer.answered)
            .map_err(|found| CommitRefusal::ApprovalMoved { found })
    }

    /// Moves the approvals that entries name.
    pub(super) fn apply_entries(&mut self, run: RunId, entries: &[NewEntry]) -> Result<(), CommitRefusal> {
        for (id, touch) in entries.iter().filter_map(|new| approval_transition(&new.entry)) {
            let known = self.rows.get_mut(&id).ok_or_else(|| CommitRefusal::NotFound(id.to_string()))?;
            known.apply_transition(run, touch).map_err(|found| CommitRefusal::ApprovalMoved { found })?;
        }
        Ok(())
    }

    pub(super) fn put_rule(
        &mut self,
        rule: &ApprovalRuleRecord,
        agents: &AgentRows,
        sessions: &SessionRows,
    ) -> Result<(), CommitRefusal> {
        if let Some(problem) = rule.validation_problem() {
            return Err(CommitRefusal::Malformed(problem));
        }
        if let Some(agent) = rule.agent.filter(|agent| !agents.rows.contains_key(agent)) {
            return Err(CommitRefusal::NotFound(agent.to_string()));
        }
        if let Some(session) = rule.session.filter(|session| !sessions.rows.contains_key(session)) {
            return Err(CommitRefusal::NotFound(session.to_string()));
        }
        let mut rules = self.rules.clone();
        rules.retain(|name, known| *name != rule.name && known.expires_at > rule.created_at);
        if rules.len() >= RULES_MAX {
            return Err(CommitRefusal::Malformed(format!("a tenant has at most {RULES_MAX} rules")));
        }
        rules.insert(rule.name.clone(), rule.clone());
        self.rules = rules;
        Ok(())
    }

    /// Withdraws what was approved for runs that an agent, which has ended, will not begin.
    pub(super) fn give_up_approvals(&mut self, agent: AgentId) {
        for approval in self.rows.values_mut().filter(|approval| approval.source.agent == agent) {
            approval.give_up();
        }
    }

    pub(in crate::reference) fn list_approvals(
        &self,
        scope: &Scope,
        agents: &AgentRows,
        filter: ApprovalFilter,
        asked: PageRequest<ApprovalId>,
    ) -> Vec<ApprovalRequest> {
        let wanted = |approval: &&ApprovalRequest| {
            filter.agent.is_none_or(|agent| agent == approval.source.agent)
                && filter.open_at.is_none_or(|now| approval.state_at(now).is_open())
        };
        let seen = self.rows.values().filter(|approval| agents.is_seen(scope, approval.source.agent));
        page_rows(seen.filter(wanted).rev().map(|approval| (approval.id, approval.clone())), asked, true)
    }
}
