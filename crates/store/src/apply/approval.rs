//! Approvals: asked for, answered, and moved by the entries of runs; and the rules that answer them.
//!
//! What an entry does to an approval is `contracts::approval`; here is what it reads and what becomes rows. A batch without
//! a payer is an import: the approvals that its entries name are of another store, and nothing is moved.
//!
//! What a tenant may have is bounded here, where one is asked for: so many are open, and of the others so many are kept. The
//! oldest go in the batch that asks for one more; an approval that anything may still move or look at is never one of them.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use dromia_contracts::approval::{
    ApprovalRequest, ApprovalRuleRecord, KEPT_MAX, OPEN_MAX, RULES_MAX, SWEEP_LOOKS_MAX, SWEPT_MAX,
    approval_transition, sweep_looks,
};
use dromia_contracts::id::{AgentId, ApprovalId, RunId};
use dromia_contracts::store::{ApprovalAnswer, ApprovalRuleRemove, CommitRefusal, NewEntry, WriteBatch};

use super::{BatchDraft, Checked};
use crate::read;

/// An approval that the batch touches.
#[derive(Debug)]
pub(super) struct ApprovalDraft {
    pub(super) approval: ApprovalRequest,
    changed: bool,
    /// What the batch answers it, if it does.
    pub(super) answered: Option<bool>,
    /// Whether its row counts as open, time aside; nothing where it has no row yet.
    row: Option<bool>,
    /// It goes.
    gone: bool,
}

impl ApprovalDraft {
    fn from_stored(approval: ApprovalRequest) -> Self {
        let row = Some(approval.state.is_open());
        Self { approval, changed: false, answered: None, row, gone: false }
    }
}

/// The tenant's rules as they will be.
#[derive(Debug)]
pub(super) struct RulesDraft<'b> {
    known: Vec<ApprovalRuleRecord>,
    pub(super) changes: Vec<RuleChange<'b>>,
}

/// What happens to a rule's row.
#[derive(Debug)]
pub(super) enum RuleChange<'b> {
    /// It is written.
    Put(&'b ApprovalRuleRecord),
    /// A caller removes it.
    Remove(String),
    /// It had ended, and goes.
    Sweep(String),
}

impl<'b> BatchDraft<'b> {
    pub(super) fn approval_ask(
        &mut self,
        db: &Connection,
        ask: &ApprovalRequest,
        batch: &WriteBatch,
    ) -> Checked {
        let index = self.find_run(db, ask.run)?;
        let run = &self.runs[index];
        if (run.agent, run.session) != (ask.agent, ask.session) {
            return Err(CommitRefusal::NotFound(format!("{} of {}", ask.run, ask.session)).into());
        }
        if let Some(index) = self.approval_index(db, ask.id)? {
            let known = &self.approvals[index].approval;
            let same = (known.run, known.call, known.binding, known.asked_at)
                == (ask.run, ask.call, ask.binding, ask.asked_at);
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} is another approval", ask.id)).into())
            };
        }
        if ask.is_open_at(ask.asked_at) {
            let open = self.approvals_at(db, ask.asked_at)?.1;
            let most = sql_bound(OPEN_MAX);
            if open >= most && open - self.open_taken_back(db, batch, ask.asked_at)? >= most {
                return Err(CommitRefusal::ApprovalsFull { most: OPEN_MAX }.into());
            }
        }
        let approval = ask.clone();
        self.approvals.push(ApprovalDraft {
            approval,
            changed: true,
            answered: None,
            row: None,
            gone: false,
        });
        self.sweep_approvals(db, ask.asked_at)
    }

    /// Counts the open approvals that this batch takes back behind what it asks for: a request that comes in the place of
    /// another is none more.
    fn open_taken_back(&mut self, db: &Connection, batch: &WriteBatch, at: Timestamp) -> Checked<i64> {
        let mut open = 0;
        for id in batch.takes_back() {
            if let Some(index) = self.approval_index(db, id)? {
                open += i64::from(self.approvals[index].approval.is_open_at(at));
            }
        }
        Ok(open)
    }

    /// Counts the tenant's approvals as the batch leaves them so far: all of them, and those that are open at a time.
    fn approvals_at(&self, db: &Connection, at: Timestamp) -> rusqlite::Result<(i64, i64)> {
        let at_ms = at.as_millisecond();
        let mut all: i64 = db
            .prepare_cached("SELECT count(*) FROM approvals WHERE tenant = ?1")?
            .query_row(params![self.tenant.as_bytes()], |row| row.get(0))?;
        let mut open: i64 = db
            .prepare_cached(
                "SELECT count(*) FROM approvals INDEXED BY approvals_open \
                 WHERE tenant = ?1 AND open = 1 AND expires_at > ?2",
            )?
            .query_row(params![self.tenant.as_bytes(), at_ms], |row| row.get(0))?;
        for draft in &self.approvals {
            if let Some(was_open) = draft.row {
                all -= 1;
                open -= i64::from(was_open && draft.approval.expires_at.as_millisecond() > at_ms);
            }
            if !draft.gone {
                all += 1;
                open += i64::from(draft.approval.is_open_at(at));
            }
        }
        Ok((all, open))
    }

    /// Lets go of the oldest approvals beyond those that are kept.
    fn sweep_approvals(&mut self, db: &Connection, at: Timestamp) -> Checked {
        let (all, open) = self.approvals_at(db, at)?;
        let Ok(beyond) = usize::try_from(all - open - sql_bound(KEPT_MAX)) else { return Ok(()) };
        let mut left = beyond.min(SWEPT_MAX);
        for passed in sweep_looks(beyond) {
            if left > 0 {
                left = self.sweep_look(db, at, passed, left)?;
            }
        }
        Ok(())
    }

    /// Looks behind so many of the oldest for so many that go; returns how many are still to go.
    fn sweep_look(
        &mut self,
        db: &Connection,
        at: Timestamp,
        passed: usize,
        mut left: usize,
    ) -> Checked<usize> {
        let mut select = db.prepare_cached(
            "SELECT record FROM approvals WHERE tenant = ?1 AND (open = 0 OR expires_at <= ?2) \
             ORDER BY approval LIMIT ?3 OFFSET ?4",
        )?;
        let tenant = self.tenant;
        let (looks, passed) = (sql_bound(SWEEP_LOOKS_MAX), sql_bound(passed));
        let values = params![tenant.as_bytes(), at.as_millisecond(), looks, passed];
        let mut rows = select.query(values)?;
        while left > 0
            && let Some(row) = rows.next()?
        {
            let approval: ApprovalRequest = read::approval::read_record(row)?;
            let is_drafted = self.approvals.iter().any(|draft| draft.approval.id == approval.id);
            if is_drafted || !approval.is_over_at(at) || !self.have_ended(db, approval.concerned_runs())? {
                continue;
            }
            self.approvals.push(ApprovalDraft { gone: true, ..ApprovalDraft::from_stored(approval) });
            left -= 1;
        }
        Ok(left)
    }

    /// Withdraws what was approved for runs of their own that an agent, which has ended, will not begin.
    pub(super) fn give_up_approvals(&mut self, db: &Connection, agent: AgentId) -> Checked {
        // An approval without an answer is open in its row. Of the others only those are parsed that the text may show
        // as approved: `record` writes it so, and a quote within a string has a backslash before it.
        let mut select = db.prepare_cached(
            "SELECT record FROM approvals INDEXED BY approvals_agent WHERE tenant = ?1 AND agent = ?2 AND open = 0 \
             AND CASE WHEN instr(record, '\"state\":\"approved\"') = 0 THEN 0 \
             ELSE json_extract(record, '$.state') = 'approved' END",
        )?;
        let tenant = self.tenant;
        let values = params![tenant.as_bytes(), agent.as_bytes()];
        let found: Vec<ApprovalRequest> =
            select.query_map(values, read::approval::read_record)?.collect::<Result<_, _>>()?;
        for approval in found {
            self.approval_index(db, approval.id)?;
        }
        for draft in self.approvals.iter_mut().filter(|draft| !draft.gone && draft.approval.agent == agent) {
            draft.changed |= draft.approval.give_up();
        }
        Ok(())
    }

    /// Returns whether none of these runs goes on; one that was erased does not.
    fn have_ended(&mut self, db: &Connection, runs: impl Iterator<Item = RunId>) -> Checked<bool> {
        for run in runs {
            if let Some(index) = self.run_index(db, run)?
                && !self.runs[index].head.status.is_terminal()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn approval_answer(&mut self, db: &Connection, answer: &ApprovalAnswer) -> Checked {
        let draft = self.load_approval(db, answer.approval)?;
        let before = draft.approval.state;
        draft
            .approval
            .record_answer(answer.from, answer.approved, &answer.answered)
            .map_err(|found| CommitRefusal::ApprovalMoved { found })?;
        if draft.approval.state != before {
            draft.changed = true;
            draft.answered = Some(answer.approved);
        }
        Ok(())
    }

    /// Moves the approvals that entries name, which are about to be appended to a run.
    pub(super) fn touch_approvals(&mut self, db: &Connection, run: RunId, entries: &[NewEntry]) -> Checked {
        for (id, touch) in entries.iter().filter_map(|new| approval_transition(&new.entry)) {
            let draft = self.load_approval(db, id)?;
            draft
                .approval
                .apply_transition(run, touch)
                .map_err(|found| CommitRefusal::ApprovalMoved { found })?;
            draft.changed = true;
        }
        Ok(())
    }

    fn load_approval(&mut self, db: &Connection, id: ApprovalId) -> Checked<&mut ApprovalDraft> {
        let missing = || CommitRefusal::NotFound(id.to_string());
        let index = self.approval_index(db, id)?.ok_or_else(missing)?;
        self.approvals.get_mut(index).ok_or_else(|| missing().into())
    }

    fn approval_index(&mut self, db: &Connection, id: ApprovalId) -> Checked<Option<usize>> {
        if let Some(index) = self.approvals.iter().position(|draft| draft.approval.id == id) {
            return Ok((!self.approvals[index].gone).then_some(index));
        }
        let found = read::approval::of_tenant(db, self.tenant, id)?;
        Ok(found.map(|approval| {
            self.approvals.push(ApprovalDraft::from_stored(approval));
            self.approvals.len() - 1
        }))
    }

    pub(super) fn approval_rule_put(&mut self, db: &Connection, rule: &'b ApprovalRuleRecord) -> Checked {
        if let Some(problem) = rule.validation_problem() {
            return Err(CommitRefusal::Malformed(problem).into());
        }
        if let Some(agent) = rule.agent
            && self.agent_state(db, agent)?.is_none()
        {
            return Err(CommitRefusal::NotFound(agent.to_string()).into());
        }
        if let Some(session) = rule.session {
            self.find_session(db, session)?;
        }
        let draft = self.load_rules(db)?;
        let stands = draft.known.contains(rule);
        let ended =
            |known: &ApprovalRuleRecord| known.expires_at <= rule.created_at && known.name != rule.name;
        let gone = draft.known.iter().filter(|known| ended(known)).map(|known| known.name.clone());
        let gone: Vec<_> = gone.map(RuleChange::Sweep).collect();
        draft.known.retain(|known| !ended(known) && known.name != rule.name);
        if draft.known.len() >= RULES_MAX {
            return Err(CommitRefusal::Malformed(format!("a tenant has at most {RULES_MAX} rules")).into());
        }
        draft.known.push(rule.clone());
        draft.changes.extend(gone);
        if !stands {
            draft.changes.push(RuleChange::Put(rule));
        }
        Ok(())
    }

    pub(super) fn approval_rule_remove(&mut self, db: &Connection, remove: &ApprovalRuleRemove) -> Checked {
        let draft = self.load_rules(db)?;
        let before = draft.known.len();
        draft.known.retain(|known| known.name != remove.name);
        if draft.known.len() < before {
            draft.changes.push(RuleChange::Remove(remove.name.clone()));
        }
        Ok(())
    }

    fn load_rules(&mut self, db: &Connection) -> Checked<&mut RulesDraft<'b>> {
        if self.approval_rules.is_none() {
            let known = read::approval::all_rules(db, self.tenant)?;
            self.approval_rules = Some(RulesDraft { known, changes: Vec::new() });
        }
        // It was filled above.
        self.approval_rules.as_mut().ok_or_else(|| CommitRefusal::Malformed("no rules".into()).into())
    }

    pub(super) fn write_approvals(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        for draft in self.approvals.iter().filter(|draft| draft.gone) {
            rows += db
                .prepare_cached("DELETE FROM approvals WHERE tenant = ?1 AND approval = ?2")?
                .execute(params![self.tenant.as_bytes(), draft.approval.id.as_bytes()])?
                as u64;
        }
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
                    record_json(approval)?,
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
                        record_json(rule)?,
                    ])?,
                RuleChange::Remove(name) | RuleChange::Sweep(name) => db
                    .prepare_cached("DELETE FROM approval_rules WHERE tenant = ?1 AND name = ?2")?
                    .execute(params![self.tenant.as_bytes(), name])?,
            } as u64;
        }
        Ok(rows)
    }
}

/// A bound as SQLite counts.
fn sql_bound(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// Writes a record. Strings, ids and times only, so serialization has no failing case.
fn record_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
