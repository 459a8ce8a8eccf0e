//! Budgets of the reference store.

use dromia_contracts::budget::{BUDGETS_MAX, Budget, BudgetUse, Charged, Exhausted, Payer, Spender, charge};
use dromia_contracts::store::{NewEntry, Refusal};
use dromia_contracts::{AgentId, RunId, SessionId};
use jiff::Timestamp;

use super::rows::TenantRows;

impl TenantRows {
    pub(super) fn budget_set(&mut self, budget: &Budget) -> Result<(), Refusal> {
        if let Some(problem) = budget.problem() {
            return Err(Refusal::Malformed(problem.to_owned()));
        }
        match self.budgets.get(&budget.name) {
            Some(known) if known.counts_as(budget) => {}
            Some(_) => self.forget(&budget.name),
            None if self.budgets.len() >= BUDGETS_MAX => {
                return Err(Refusal::Malformed(format!("a tenant has at most {BUDGETS_MAX} budgets")));
            }
            None => {}
        }
        self.budgets.insert(budget.name.clone(), budget.clone());
        Ok(())
    }

    pub(super) fn budget_remove(&mut self, name: &str) {
        self.budgets.remove(name);
        self.forget(name);
    }

    fn forget(&mut self, name: &str) {
        self.used.retain(|counter, _| counter.budget != name);
        for reserved in self.reserved.values_mut() {
            reserved.retain(|reserved| reserved.counter.budget != name);
        }
    }

    pub(super) fn charge(
        &mut self,
        payer: Option<&Payer>,
        (agent, session, run): (AgentId, SessionId, RunId),
        entries: &[NewEntry],
    ) -> Result<(), Refusal> {
        let Some(payer) = payer else { return Ok(()) };
        let spender = Spender { payer, agent, session, run };
        let budgets: Vec<_> = self.budgets.values().cloned().collect();
        let open = self.reserved.get(&run).cloned().unwrap_or_default();
        let used = &self.used;
        let charged = charge::<Exhausted>(&budgets, &spender, open, entries, &mut |counter| {
            Ok(used.get(counter).copied().unwrap_or(0))
        });
        let Charged { used, open, ended } = charged.map_err(Refusal::BudgetExhausted)?;
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

    /// Forgets what was counted for somebody who is gone.
    pub(super) fn forget_subject(&mut self, subject: &str) {
        self.used.retain(|counter, _| counter.subject != subject);
    }

    pub(super) fn budget_uses(&self, at: Timestamp) -> Vec<BudgetUse> {
        let uses = self.budgets.values().map(|budget| {
            let begins = budget.period.begins(at);
            let mine =
                self.used.iter().filter(|(known, _)| known.budget == budget.name && known.begins == begins);
            // The first of those that used most: counters are in the order of their subjects.
            let most = mine.rev().max_by_key(|(_, used)| **used);
            let (subject, used) =
                most.map_or((String::new(), 0), |(known, used)| (known.subject.clone(), *used));
            BudgetUse { budget: budget.clone(), subject, used }
        });
        uses.collect()
    }
}
