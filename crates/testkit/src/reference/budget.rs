//! Budgets of the reference store.

use std::collections::BTreeMap;

use dromia_contracts::budget::{
    BUDGETS_MAX, BudgetCharges, BudgetCount, BudgetCounter, BudgetDefinition, BudgetExhaustion, BudgetPayer,
    BudgetReservation, BudgetSpender, BudgetUse, charge_entries,
};
use dromia_contracts::store::{CommitRefusal, NewEntry};
use dromia_contracts::{AgentId, RunId, SessionId};
use jiff::Timestamp;

/// The tenant's budgets, and what is used and reserved of them.
#[derive(Debug, Clone, Default)]
pub(super) struct BudgetRows {
    rows: BTreeMap<String, BudgetDefinition>,
    used: BTreeMap<BudgetCounter, u64>,
    reserved: BTreeMap<RunId, Vec<BudgetReservation>>,
}

impl BudgetRows {
    pub(super) fn set_budget(&mut self, budget: &BudgetDefinition) -> Result<(), CommitRefusal> {
        if let Some(problem) = budget.validation_problem() {
            return Err(CommitRefusal::Malformed(problem.to_owned()));
        }
        match self.rows.get(&budget.name) {
            Some(known) if known.counts_as(budget) => {}
            Some(_) => self.forget_budget(&budget.name),
            None if self.rows.len() >= BUDGETS_MAX => {
                return Err(CommitRefusal::Malformed(format!("a tenant has at most {BUDGETS_MAX} budgets")));
            }
            None => {}
        }
        self.rows.insert(budget.name.clone(), budget.clone());
        Ok(())
    }

    pub(super) fn remove_budget(&mut self, name: &str) {
        self.rows.remove(name);
        self.forget_budget(name);
    }

    fn forget_budget(&mut self, name: &str) {
        self.used.retain(|counter, _| counter.budget != name);
        for reserved in self.reserved.values_mut() {
            reserved.retain(|reserved| reserved.counter.budget != name);
        }
    }

    pub(super) fn charge_run(
        &mut self,
        payer: Option<&BudgetPayer>,
        (agent, session, run): (AgentId, SessionId, RunId),
        entries: &[NewEntry],
    ) -> Result<(), CommitRefusal> {
        let Some(payer) = payer else { return Ok(()) };
        let spender = BudgetSpender { payer, agent, session, run };
        let budgets: Vec<_> = self.rows.values().cloned().collect();
        let open = self.reserved.get(&run).cloned().unwrap_or_default();
        let used = &self.used;
        let charged =
            charge_entries::<BudgetExhaustion>(&budgets, &spender, open, entries, &mut |budget, subject| {
                let mine =
                    used.iter().filter(|(known, _)| (known.budget == budget) && (known.subject == subject));
                let latest = mine.max_by_key(|(known, _)| known.begins);
                Ok(latest.map(|(known, used)| BudgetCount { begins: known.begins, used: *used }))
            });
        let BudgetCharges { used, open, ended } = charged.map_err(CommitRefusal::BudgetExhausted)?;
        for (counter, used) in used {
            self.used.retain(|known, _| {
                (&known.budget, &known.subject) != (&counter.budget, &counter.subject)
                    || known.begins >= counter.begins
            });
            self.used.insert(counter, used);
        }
        self.reserved.remove(&run);
        if !open.is_empty() {
            self.reserved.insert(run, open);
        }
        if ended {
            self.forget_subject(&run.to_string());
        }
        Ok(())
    }

    /// Forgets the counters of a subject that has ended or is erased.
    pub(super) fn forget_subject(&mut self, subject: &str) {
        self.used.retain(|counter, _| counter.subject != subject);
    }

    pub(super) fn list_uses(&self, at: Timestamp) -> Vec<BudgetUse> {
        let uses = self.rows.values().map(|budget| {
            let begins = budget.period.period_start(at);
            let mine =
                self.used.iter().filter(|(known, _)| known.budget == budget.name && known.begins >= begins);
            // The first of those that used most: counters are in the order of their subjects.
            let most = mine.rev().max_by_key(|(_, used)| **used);
            let (subject, used) =
                most.map_or((String::new(), 0), |(known, used)| (known.subject.clone(), *used));
            BudgetUse { budget: budget.clone(), subject, used }
        });
        uses.collect()
    }

    /// Forgets what is reserved and counted for a run.
    pub(super) fn forget_run(&mut self, run: RunId) {
        self.reserved.remove(&run);
        self.forget_subject(&run.to_string());
    }

    /// Finds a budget by its name.
    pub(super) fn find_budget(&self, name: &str) -> Option<&BudgetDefinition> {
        self.rows.get(name)
    }
}
