//! Budgets: what is set, what calls reserve and what they take.
//!
//! The rows of a tenant's budgets are few and are read as a whole. Charging itself is `contracts::budget::charge`; here is
//! what it reads and what becomes rows. A tenant without budgets costs one look and no row.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::audit::AuditChange;
use dromia_contracts::budget::{
    self, BUDGETS_MAX, BudgetCharges, BudgetCount, BudgetCounter, BudgetDefinition, BudgetExhaustion,
    BudgetPayer, BudgetReservation, BudgetSpender,
};
use dromia_contracts::id::RunId;
use dromia_contracts::store::{BudgetRemove, BudgetSet, CommitRefusal, Mutation, NewEntry, WriteBatch};

use super::audit::ActList;
use super::journal::RunDraft;
use super::{BatchCheckError, Checked, TableDraft, TenantDb};
use crate::check_value;
use crate::column_codes::{self, StoredEnum as _, stored_counter};
use crate::read;

/// Budgets as they will be.
#[derive(Debug)]
struct BudgetDraft<'b> {
    known: Vec<BudgetDefinition>,
    changes: Vec<BudgetRowChange<'b>>,
}

/// What happens to a budget's row.
#[derive(Debug)]
enum BudgetRowChange<'b> {
    /// Its row is written; what was counted goes, unless it counts the same.
    Set { budget: &'b BudgetDefinition, anew: bool },
    /// It goes with what was counted.
    Remove(&'b str),
}

/// What a run's entries change.
#[derive(Debug)]
struct ChargeDraft {
    run: RunId,
    had_open: bool,
    charged: BudgetCharges,
}

impl From<BudgetExhaustion> for BatchCheckError {
    fn from(exhausted: BudgetExhaustion) -> Self {
        Self::Refused(CommitRefusal::BudgetExhausted(exhausted))
    }
}

/// Refuses a batch that sets budgets and spends: which of them it would be charged to would depend on the order.
pub(super) fn check_apart(batch: &WriteBatch) -> Checked {
    let sets = |mutation: &Mutation| matches!(mutation, Mutation::BudgetSet(_) | Mutation::BudgetRemove(_));
    if batch.payer.is_some() && batch.mutations.iter().any(sets) {
        return Err(CommitRefusal::Malformed("a batch that sets budgets has no payer".into()).into());
    }
    Ok(())
}

/// The tenant's budgets, once they were looked at, and what the batch charges to them.
#[derive(Debug, Default)]
pub(super) struct BudgetDrafts<'b> {
    budgets: Option<BudgetDraft<'b>>,
    charges: Vec<ChargeDraft>,
}

impl<'b> BudgetDrafts<'b> {
    pub(super) fn set_budget(&mut self, db: TenantDb<'_>, set: &'b BudgetSet) -> Checked {
        let budget = &set.budget;
        if let Some(problem) = budget.validation_problem() {
            return Err(CommitRefusal::Malformed(problem.into()).into());
        }
        let draft = self.load_budgets(db)?;
        let is_full = draft.known.len() >= BUDGETS_MAX;
        let anew = match draft.known.iter_mut().find(|known| known.name == budget.name) {
            Some(known) if *known == *budget => return Ok(()),
            Some(known) => {
                let anew = !known.counts_as(budget);
                known.clone_from(budget);
                anew
            }
            None if is_full => {
                let text = format!("a tenant has at most {BUDGETS_MAX} budgets");
                return Err(CommitRefusal::Malformed(text).into());
            }
            None => {
                draft.known.push(budget.clone());
                true
            }
        };
        draft.changes.push(BudgetRowChange::Set { budget, anew });
        Ok(())
    }

    pub(super) fn remove_budget(&mut self, db: TenantDb<'_>, remove: &'b BudgetRemove) -> Checked {
        let draft = self.load_budgets(db)?;
        let before = draft.known.len();
        draft.known.retain(|known| known.name != remove.name);
        if draft.known.len() < before {
            draft.changes.push(BudgetRowChange::Remove(&remove.name));
        }
        Ok(())
    }

    fn load_budgets(&mut self, db: TenantDb<'_>) -> Checked<&mut BudgetDraft<'b>> {
        if self.budgets.is_none() {
            let known = read::budget::all_budgets(&db, db.tenant)?;
            self.budgets = Some(BudgetDraft { known, changes: Vec::new() });
        }
        // It was filled above.
        self.budgets.as_mut().ok_or_else(|| CommitRefusal::Malformed("no budgets".into()).into())
    }

    /// Charges entries that are about to be appended to a run.
    pub(super) fn charge_entries(
        &mut self,
        db: TenantDb<'_>,
        payer: Option<&BudgetPayer>,
        run: &ChargedRun,
        entries: &[NewEntry],
    ) -> Checked {
        let Some(payer) = payer else { return Ok(()) };
        let tenant = db.tenant;
        let open = open_of(db, run.run)?;
        let known = &self.load_budgets(db)?.known;
        if known.is_empty() && open.is_empty() {
            return Ok(());
        }
        let had_open = !open.is_empty();
        let spender = BudgetSpender { payer, agent: run.agent, session: run.session, run: run.run };
        let charged = budget::charge_entries::<BatchCheckError>(
            known,
            &spender,
            open,
            entries,
            &mut |budget, subject| {
                let latest = db
                    .prepare_cached(&format!(
                        "{} WHERE tenant = ?1 AND subject = ?2 AND budget = ?3 ORDER BY begins DESC LIMIT 1",
                        check_value::USED.select_sql()
                    ))?
                    .query_row(params![tenant.as_bytes(), subject, budget], |row| {
                        check_value::USED.check_row(row)?;
                        Ok(BudgetCount { begins: row.get(3)?, used: column_codes::read_counter(row, 4)? })
                    })
                    .optional()?;
                Ok(latest)
            },
        )?;
        self.charges.push(ChargeDraft { run: run.run, had_open, charged });
        Ok(())
    }
}

impl TableDraft for BudgetDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for change in self.budgets.iter().flat_map(|draft| &draft.changes) {
            match change {
                BudgetRowChange::Set { budget, anew } => {
                    if *anew {
                        forget_budget(db, &budget.name)?;
                    }
                    write_budget(db, budget)?;
                }
                BudgetRowChange::Remove(name) => {
                    db.prepare_cached("DELETE FROM budgets WHERE tenant = ?1 AND name = ?2")?
                        .execute(params![db.tenant.as_bytes(), name])?;
                    forget_budget(db, name)?;
                }
            }
        }
        for charge in &self.charges {
            write_charge(db, charge)?;
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for change in self.budgets.iter().flat_map(|draft| &draft.changes) {
            acts.note_wanted(match change {
                BudgetRowChange::Set { budget, .. } => {
                    AuditChange::BudgetSet { budget: BudgetDefinition::clone(budget) }
                }
                BudgetRowChange::Remove(name) => AuditChange::BudgetRemoved { name: (*name).to_owned() },
            });
        }
    }
}

/// Whose entries are charged.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChargedRun {
    run: RunId,
    agent: dromia_contracts::AgentId,
    session: dromia_contracts::SessionId,
}

impl ChargedRun {
    pub(super) fn from_run(run: &RunDraft) -> Self {
        Self { run: run.run, agent: run.agent, session: run.session }
    }
}

/// Reads what is reserved for a run.
fn open_of(db: TenantDb<'_>, run: RunId) -> Checked<Vec<BudgetReservation>> {
    let mut select = db.prepare_cached(
        "SELECT budget, subject, begins, measure, amount, at FROM budget_open \
         WHERE tenant = ?1 AND run = ?2 ORDER BY budget",
    )?;
    let open = select.query_map(params![db.tenant.as_bytes(), run.as_bytes()], |row| {
        let counter = BudgetCounter { budget: row.get(0)?, subject: row.get(1)?, begins: row.get(2)? };
        let at: Timestamp = column_codes::read_time(row, 5)?;
        Ok(BudgetReservation {
            counter,
            measure: column_codes::read_enum(row, 3)?,
            amount: column_codes::read_counter(row, 4)?,
            at,
        })
    })?;
    Ok(open.collect::<Result<_, _>>()?)
}

fn write_budget(db: TenantDb<'_>, budget: &BudgetDefinition) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO budgets (tenant, name, per, about, measure, period, most, declared) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        db.tenant.as_bytes(),
        budget.name,
        budget.per.stored_code(),
        budget.of,
        budget.measure.stored_code(),
        budget.period.stored_code(),
        stored_counter(budget.limit),
        budget.declared,
    ])?;
    Ok(())
}

fn forget_budget(db: TenantDb<'_>, name: &str) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM budget_used WHERE tenant = ?1 AND budget = ?2",
        "DELETE FROM budget_open WHERE tenant = ?1 AND budget = ?2",
    ] {
        db.prepare_cached(sql)?.execute(params![db.tenant.as_bytes(), name])?;
    }
    Ok(())
}

fn write_charge(db: TenantDb<'_>, charge: &ChargeDraft) -> rusqlite::Result<()> {
    let ChargeDraft { run, had_open, charged } = charge;
    for (BudgetCounter { budget, subject, begins }, used) in &charged.used {
        let values = params![db.tenant.as_bytes(), subject, budget, begins, stored_counter(*used)];
        check_value::USED.put_row(&db, values)?;
        db.prepare_cached(
            "DELETE FROM budget_used \
                 WHERE tenant = ?1 AND subject = ?2 AND budget = ?3 AND begins < ?4",
        )?
        .execute(params![db.tenant.as_bytes(), subject, budget, begins])?;
    }
    if *had_open {
        db.prepare_cached("DELETE FROM budget_open WHERE tenant = ?1 AND run = ?2")?
            .execute(params![db.tenant.as_bytes(), run.as_bytes()])?;
    }
    for BudgetReservation { counter, measure, amount, at } in &charged.open {
        db.prepare_cached(
            "INSERT INTO budget_open (tenant, run, budget, subject, begins, measure, amount, at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            db.tenant.as_bytes(),
            run.as_bytes(),
            counter.budget,
            counter.subject,
            counter.begins,
            measure.stored_code(),
            stored_counter(*amount),
            at.as_millisecond(),
        ])?;
    }
    if charged.ended {
        // Nothing is spent under this subject any more.
        db.prepare_cached("DELETE FROM budget_used WHERE tenant = ?1 AND subject = ?2")?
            .execute(params![db.tenant.as_bytes(), run.to_string()])?;
    }
    Ok(())
}
