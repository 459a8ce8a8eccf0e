//! Approvals: asked for, answered, and moved by the entries of runs; and the rules that answer them.
//!
//! What an entry does to an approval is `contracts::approval`; here is what it reads and what becomes rows. A batch without
//! a payer is an import: the approvals that its entries name are of another store, and nothing is moved.

use rusqlite::{Connection, params};

use dromia_contracts::approval::{Approval, ApprovalRule, RULES_MAX, touched};
use dromia_contracts::id::{AgentId, ApprovalId, RunId};
use dromia_contracts::store::{ApprovalAnswer, ApprovalRuleRemove, NewEntry, Refusal};

use super::{Checked, Draft};
use crate::read;

/// An approval that the batch touches.
#[derive(Debug)]
pub(super) struct ApprovalDraft {
    pub(super) approval: Approval,
    changed: bool,
    /// What the batch answers it, if it does.
    pub(super) answered: Option<bool>,
}

/// The tenant's rules as they will be.
#[derive(Debug)]
pub(super) struct RulesDraft<'b> {
    known: Vec<ApprovalRule>,
    pub(super) changes: Vec<RuleChange<'b>>,
}

/// What happens to a rule's row.
#[derive(Debug)]
pub(super) enum RuleChange<'b> {
    /// It is written.
    Put(&'b ApprovalRule),
    /// Somebody removes it.
    Remove(String),
    /// It had ended, and goes.
    Sweep(String),
}

impl<'b> Draft<'b> {
    pub(super) fn approval_ask(&mut self, db: &Connection, ask: &Approval) -> Checked {
        let index = self.run(db, ask.run)?;
        let run = &self.runs[index];
        if (run.agent, run.session) != (ask.agent, ask.session) {
            return Err(Refusal::NotFound(format!("{} of {}", ask.run, ask.session)).into());
        }
        if let Some(index) = self.approval_index(db, ask.id)? {
            let known = &self.approvals[index].approval;
            let same = (known.run, known.call, known.binding, known.asked_at)
                == (ask.run, ask.call, ask.binding, ask.asked_at);
            return if same {
                Ok(())
            } else {
                Err(Refusal::Malformed(format!("{} is another approval", ask.id)).into())
            };
        }
        self.approvals.push(ApprovalDraft { approval: ask.clone(), changed: true, answered: None });
        Ok(())
    }

    pub(super) fn approval_answer(&mut self, db: &Connection, answer: &ApprovalAnswer) -> Checked {
        let draft = self.approval(db, answer.approval)?;
        let before = draft.approval.state;
        draft
            .approval
            .answer(answer.from, answer.approved, &answer.answered)
            .map_err(|found| Refusal::ApprovalMoved { found })?;
        if draft.approval.state != before {
            draft.changed = true;
            draft.answered = Some(answer.approved);
        }
        Ok(())
    }

    /// Moves the approvals that entries name, which are about to be appended to a run.
    pub(super) fn touch(&mut self, db: &Connection, run: RunId, entries: &[NewEntry]) -> Checked {
        for (id, touch) in entries.iter().filter_map(|new| touched(&new.entry)) {
            let draft = self.approval(db, id)?;
            draft.approval.touch(run, touch).map_err(|found| Refusal::ApprovalMoved { found })?;
            draft.changed = true;
        }
        Ok(())
    }

    fn approval(&mut self, db: &Connection, id: ApprovalId) -> Checked<&mut ApprovalDraft> {
        let missing = || Refusal::NotFound(id.to_string());
        let index = self.approval_index(db, id)?.ok_or_else(missing)?;
        self.approvals.get_mut(index).ok_or_else(|| missing().into())
    }

    fn approval_index(&mut self, db: &Connection, id: ApprovalId) -> Checked<Option<usize>> {
        if let Some(index) = self.approvals.iter().position(|draft| draft.approval.id == id) {
            return Ok(Some(index));
        }
        let found = read::approval::of_tenant(db, self.tenant, id)?;
        Ok(found.map(|approval| {
            self.approvals.push(ApprovalDraft { approval, changed: false, answered: None });
            self.approvals.len() - 1
        }))
    }

    pub(super) fn approval_rule_put(&mut self, db: &Connection, rule: &'b ApprovalRule) -> Checked {
        if let Some(problem) = rule.problem() {
            return Err(Refusal::Malformed(problem).into());
        }
        if let Some(agent) = rule.agent
            && self.agent_state(db, agent)?.is_none()
        {
            return Err(Refusal::NotFound(agent.to_string()).into());
        }
        if let Some(session) = rule.session {
            self.session(db, session)?;
        }
        let draft = self.rules(db)?;
        let stands = draft.known.contains(rule);
        let ended = |known: &ApprovalRule| known.expires_at <= rule.created_at && known.name != rule.name;
        let gone = draft.known.iter().filter(|known| ended(known)).map(|known| known.name.clone());
        let gone: Vec<_> = gone.map(RuleChange::Sweep).collect();
        draft.known.retain(|known| !ended(known) && known.name != rule.name);
        if draft.known.len() >= RULES_MAX {
            return Err(Refusal::Malformed(format!("a tenant has at most {RULES_MAX} rules")).into());
        }
        draft.known.push(rule.clone());
        draft.changes.extend(gone);
        if !stands {
            draft.changes.push(RuleChange::Put(rule));
        }
        Ok(())
    }

    pub(super) fn approval_rule_remove(&mut self, db: &Connection, remove: &ApprovalRuleRemove) -> Checked {
        let draft = self.rules(db)?;
        let before = draft.known.len();
        draft.known.retain(|known| known.name != remove.name);
        if draft.known.len() < before {
            draft.changes.push(RuleChange::Remove(remove.name.clone()));
        }
        Ok(())
    }

    fn rules(&mut self, db: &Connection) -> Checked<&mut RulesDraft<'b>> {
        if self.approval_rules.is_none() {
            let known = read::approval::all_rules(db, self.tenant)?;
            self.approval_rules = Some(RulesDraft { known, changes: Vec::new() });
        }
        // It was filled above.
        self.approval_rules.as_mut().ok_or_else(|| Refusal::Malformed("no rules".into()).into())
    }

    pub(super) fn write_approvals(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for draft in self.approvals.iter().filter(|draft| draft.changed) {
            let approval = &draft.approval;
            rows += db
                .prepare_cached(
                    "INSERT INTO approvals (tenant, approval, agent, open, expires_at, record) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT (tenant, approval) DO UPDATE SET open = ?4, record = ?6",
                )?
                .execute(params![
                    self.tenant.as_bytes(),
                    approval.id.as_bytes(),
                    approval.agent.as_bytes(),
                    approval.state.is_open(),
                    approval.expires_at.as_millisecond(),
                    record(approval)?,
                ])? as u64;
        }
        for change in self.approval_rules.iter().flat_map(|draft| &draft.changes) {
            rows += match change {
                RuleChange::Put(rule) => db
                    .prepare_cached(
                        "INSERT OR REPLACE INTO approval_rules (tenant, name, agent, expires_at, record) \
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        self.tenant.as_bytes(),
                        rule.name,
                        rule.agent.as_ref().map(AgentId::as_bytes),
                        rule.expires_at.as_millisecond(),
                        record(rule)?,
                    ])?,
                RuleChange::Remove(name) | RuleChange::Sweep(name) => db
                    .prepare_cached("DELETE FROM approval_rules WHERE tenant = ?1 AND name = ?2")?
                    .execute(params![self.tenant.as_bytes(), name])?,
            } as u64;
        }
        Ok(rows)
    }
}

/// Writes a record. Strings, ids and times only, so serialization has no failing case.
fn record(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
