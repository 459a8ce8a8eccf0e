//! Approvals: asked for, answered, and moved by the entries of runs; and the rules that answer them.
//!
//! What an entry does to an approval is `contracts::approval`; here is what it reads and what becomes rows. A batch without
//! a payer is an import: the approvals that its entries name are of another store, and nothing is moved.
//!
//! What a tenant may have is bounded here, where one is asked for: so many are open, and of the others so many are kept. The
//! oldest go in the batch that asks for one more; an approval that anything may still move or look at is never one of them.

mod rules;

use jiff::Timestamp;
use rusqlite::params;

use dromia_contracts::approval::{
    ApprovalRequest, KEPT_MAX, OPEN_MAX, SWEEP_LOOKS_MAX, SWEPT_MAX, approval_transition, sweep_looks,
};
use dromia_contracts::audit::AuditChange;
use dromia_contracts::id::{AgentId, ApprovalId, RunId};
use dromia_contracts::store::{ApprovalAnswer, CommitRefusal, NewEntry, WriteBatch};

use super::audit::ActList;
use super::journal::RunDrafts;
use super::{Checked, TableDraft, TenantDb};
use crate::read;
use rules::RuleDrafts;

/// An approval that the batch touches.
#[derive(Debug)]
struct ApprovalDraft {
    approval: ApprovalRequest,
    changed: bool,
    /// What the batch answers it, if it does.
    answered: Option<bool>,
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

/// The approvals that the batch touches, and what it does to the rules that answer them.
#[derive(Debug, Default)]
pub(super) struct ApprovalDrafts<'b> {
    rows: Vec<ApprovalDraft>,
    pub(super) rules: RuleDrafts<'b>,
}

impl ApprovalDrafts<'_> {
    pub(super) fn ask_approval(
        &mut self,
        db: TenantDb<'_>,
        ask: &ApprovalRequest,
        batch: &WriteBatch,
        runs: &mut RunDrafts<'_>,
    ) -> Checked {
        let run = runs.find_run(db, ask.source.run)?;
        if (run.agent, run.session) != (ask.source.agent, ask.source.session) {
            return Err(
                CommitRefusal::NotFound(format!("{} of {}", ask.source.run, ask.source.session)).into()
            );
        }
        if let Some(index) = self.approval_index(db, ask.id)? {
            let known = &self.rows[index].approval;
            let same = (known.source.run, known.source.call, known.judged.binding, known.deadlines.asked_at)
                == (ask.source.run, ask.source.call, ask.judged.binding, ask.deadlines.asked_at);
            return if same {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{} is another approval", ask.id)).into())
            };
        }
        if ask.is_open_at(ask.deadlines.asked_at) {
            let open = self.count_approvals(db, ask.deadlines.asked_at)?.1;
            let most = sql_bound(OPEN_MAX);
            if open >= most && open - self.open_taken_back(db, batch, ask.deadlines.asked_at)? >= most {
                return Err(CommitRefusal::ApprovalsFull { most: OPEN_MAX }.into());
            }
        }
        let approval = ask.clone();
        self.rows.push(ApprovalDraft { approval, changed: true, answered: None, row: None, gone: false });
        self.sweep_approvals(db, ask.deadlines.asked_at, runs)
    }

    /// Counts the open approvals that this batch takes back behind what it asks for: a request that comes in the place of
    /// another is none more.
    fn open_taken_back(&mut self, db: TenantDb<'_>, batch: &WriteBatch, at: Timestamp) -> Checked<i64> {
        let mut open = 0;
        for id in batch.takes_back() {
            if let Some(index) = self.approval_index(db, id)? {
                open += i64::from(self.rows[index].approval.is_open_at(at));
            }
        }
        Ok(open)
    }

    /// Counts the tenant's approvals as the batch leaves them so far: all of them, and those that are open at a time.
    fn count_approvals(&self, db: TenantDb<'_>, at: Timestamp) -> rusqlite::Result<(i64, i64)> {
        let at_ms = at.as_millisecond();
        let mut all: i64 = db
            .prepare_cached("SELECT count(*) FROM approvals WHERE tenant = ?1")?
            .query_row(params![db.tenant.as_bytes()], |row| row.get(0))?;
        let mut open: i64 = db
            .prepare_cached(
                "SELECT count(*) FROM approvals INDEXED BY approvals_open \
                 WHERE tenant = ?1 AND open = 1 AND expires_at > ?2",
            )?
            .query_row(params![db.tenant.as_bytes(), at_ms], |row| row.get(0))?;
        for draft in &self.rows {
            if let Some(was_open) = draft.row {
                all -= 1;
                open -= i64::from(was_open && draft.approval.deadlines.expires_at.as_millisecond() > at_ms);
            }
            if !draft.gone {
                all += 1;
                open += i64::from(draft.approval.is_open_at(at));
            }
        }
        Ok((all, open))
    }

    /// Lets go of the oldest approvals beyond those that are kept.
    fn sweep_approvals(&mut self, db: TenantDb<'_>, at: Timestamp, runs: &mut RunDrafts<'_>) -> Checked {
        let (all, open) = self.count_approvals(db, at)?;
        let Ok(beyond) = usize::try_from(all - open - sql_bound(KEPT_MAX)) else { return Ok(()) };
        let mut left = beyond.min(SWEPT_MAX);
        for passed in sweep_looks(beyond) {
            if left > 0 {
                left = self.sweep_look(db, at, passed, left, runs)?;
            }
        }
        Ok(())
    }

    /// Looks behind so many of the oldest for so many that go; returns how many are still to go.
    fn sweep_look(
        &mut self,
        db: TenantDb<'_>,
        at: Timestamp,
        passed: usize,
        mut left: usize,
        runs: &mut RunDrafts<'_>,
    ) -> Checked<usize> {
        let mut select = db.prepare_cached(
            "SELECT record FROM approvals WHERE tenant = ?1 AND (open = 0 OR expires_at <= ?2) \
             ORDER BY approval LIMIT ?3 OFFSET ?4",
        )?;
        let tenant = db.tenant;
        let (looks, passed) = (sql_bound(SWEEP_LOOKS_MAX), sql_bound(passed));
        let values = params![tenant.as_bytes(), at.as_millisecond(), looks, passed];
        let mut rows = select.query(values)?;
        while left > 0
            && let Some(row) = rows.next()?
        {
            let approval: ApprovalRequest = read::approval::read_record(row)?;
            let is_drafted = self.rows.iter().any(|draft| draft.approval.id == approval.id);
            if is_drafted || !approval.is_over_at(at) || !have_ended(db, approval.concerned_runs(), runs)? {
                continue;
            }
            self.rows.push(ApprovalDraft { gone: true, ..ApprovalDraft::from_stored(approval) });
            left -= 1;
        }
        Ok(left)
    }

    /// Withdraws what was approved for runs of their own that an agent, which has ended, will not begin.
    pub(super) fn give_up_approvals(&mut self, db: TenantDb<'_>, agent: AgentId) -> Checked {
        // An approval without an answer is open in its row. Of the others only those are parsed that the text may show
        // as approved: `record` writes it so, and a quote within a string has a backslash before it.
        let mut select = db.prepare_cached(
            "SELECT record FROM approvals INDEXED BY approvals_agent WHERE tenant = ?1 AND agent = ?2 AND open = 0 \
             AND CASE WHEN instr(record, '\"state\":\"approved\"') = 0 THEN 0 \
             ELSE json_extract(record, '$.state') = 'approved' END",
        )?;
        let tenant = db.tenant;
        let values = params![tenant.as_bytes(), agent.as_bytes()];
        let found: Vec<ApprovalRequest> =
            select.query_map(values, read::approval::read_record)?.collect::<Result<_, _>>()?;
        for approval in found {
            self.approval_index(db, approval.id)?;
        }
        for draft in self.rows.iter_mut().filter(|draft| !draft.gone && draft.approval.source.agent == agent)
        {
            draft.changed |= draft.approval.give_up();
        }
        Ok(())
    }

    pub(super) fn answer_approval(&mut self, db: TenantDb<'_>, answer: &ApprovalAnswer) -> Checked {
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
    pub(super) fn apply_entries(&mut self, db: TenantDb<'_>, run: RunId, entries: &[NewEntry]) -> Checked {
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

    fn load_approval(&mut self, db: TenantDb<'_>, id: ApprovalId) -> Checked<&mut ApprovalDraft> {
        let missing = || CommitRefusal::NotFound(id.to_string());
        let index = self.approval_index(db, id)?.ok_or_else(missing)?;
        self.rows.get_mut(index).ok_or_else(|| missing().into())
    }

    fn approval_index(&mut self, db: TenantDb<'_>, id: ApprovalId) -> Checked<Option<usize>> {
        if let Some(index) = self.rows.iter().position(|draft| draft.approval.id == id) {
            return Ok((!self.rows[index].gone).then_some(index));
        }
        let found = read::approval::of_tenant(&db, db.tenant, id)?;
        Ok(found.map(|approval| {
            self.rows.push(ApprovalDraft::from_stored(approval));
            self.rows.len() - 1
        }))
    }
}

impl TableDraft for ApprovalDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for draft in self.rows.iter().filter(|draft| draft.gone) {
            db.prepare_cached("DELETE FROM approvals WHERE tenant = ?1 AND approval = ?2")?
                .execute(params![db.tenant.as_bytes(), draft.approval.id.as_bytes()])?;
        }
        for draft in self.rows.iter().filter(|draft| draft.changed) {
            let approval = &draft.approval;
            db.prepare_cached(
                "INSERT INTO approvals (tenant, approval, agent, open, expires_at, record) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT (tenant, approval) DO UPDATE SET open = ?4, record = ?6",
            )?
            .execute(params![
                db.tenant.as_bytes(),
                approval.id.as_bytes(),
                approval.source.agent.as_bytes(),
                approval.state.is_open(),
                approval.deadlines.expires_at.as_millisecond(),
                record_json(approval)?,
            ])?;
        }
        self.rules.write_rows(db)
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for draft in &self.rows {
            if let (Some(approved), Some(answer)) = (draft.answered, &draft.approval.answer) {
                let (approval, agent) = (draft.approval.id, draft.approval.source.agent);
                acts.note_change(answer.at, AuditChange::ApprovalAnswered { approval, agent, approved });
            }
        }
        self.rules.note_acts(acts);
    }
}

/// Returns whether none of these runs goes on; one that was erased does not.
fn have_ended(
    db: TenantDb<'_>,
    concerned: impl Iterator<Item = RunId>,
    runs: &mut RunDrafts<'_>,
) -> Checked<bool> {
    for run in concerned {
        if let Some(run) = runs.find_known_run(db, run)?
            && !run.head.status.is_terminal()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A bound as SQLite counts.
fn sql_bound(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// Writes a record. Strings, ids and times only, so serialization has no failing case.
fn record_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
