//! Budgets of a tenant: set by people and by the configuration, kept and charged by the store.
//!
//! What the configuration declares is changed there only: a second place to change it would be undone by the next start.

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::budget::{BudgetDefinition, BudgetScope, BudgetUse};
use dromia_contracts::store::{BudgetRemove, BudgetSet, Mutation, WriteBatch};
use dromia_contracts::{Actor, AgentId, ErrorCode, Fault, Scope};

use crate::agents::read_fault;
use crate::ports::EnginePorts;

/// The budgets of a tenant.
pub(crate) struct BudgetBook<'a> {
    ports: &'a EnginePorts,
}

impl<'a> BudgetBook<'a> {
    /// Begins with the engine's ports.
    pub(crate) fn new(ports: &'a EnginePorts) -> Self {
        Self { ports }
    }

    /// Sets the budgets that the configuration declares for a tenant, and removes those that it declared before.
    pub(crate) async fn declare_budgets(
        &self,
        scope: &Scope,
        written: &[BudgetDefinition],
    ) -> Result<(), Fault> {
        let mut declared = Vec::new();
        for budget in written {
            declared.extend(self.by_id(scope, budget.clone()).await?);
        }
        let known = self.list_budgets(scope).await?;
        // Only the operator writes the configuration of the process.
        let mut batch = self.of_budgets(scope, &Actor::new("operator"));
        let gone = known
            .iter()
            .map(|known| &known.budget)
            .filter(|known| known.declared && declared.iter().all(|declared| declared.name != known.name));
        let gone = gone.map(|known| Mutation::BudgetRemove(BudgetRemove { name: known.name.clone() }));
        batch.mutations.extend(gone);
        let new = declared.into_iter().filter(|declared| known.iter().all(|known| known.budget != *declared));
        batch.mutations.extend(new.map(|budget| Mutation::BudgetSet(BudgetSet { budget })));
        if batch.mutations.is_empty() {
            return Ok(());
        }
        self.ports.commit_batch(batch).await
    }

    /// Puts an agent's id in the place of its handle. A budget of an agent that is not there is left out.
    async fn by_id(
        &self,
        scope: &Scope,
        budget: BudgetDefinition,
    ) -> Result<Option<BudgetDefinition>, Fault> {
        let handle = match (&budget.of, budget.per) {
            (Some(of), BudgetScope::Agent) if of.parse::<AgentId>().is_err() => of.parse::<HandleSlug>().ok(),
            _ => None,
        };
        let Some(handle) = handle else { return Ok(Some(budget)) };
        let agent = self.ports.store.agent_by_handle(scope, &handle).await.map_err(read_fault)?;
        Ok(agent.map(|agent| BudgetDefinition { of: Some(agent.id.to_string()), ..budget }))
    }

    /// Sets a budget for a person.
    pub(crate) async fn budget_set(
        &self,
        scope: &Scope,
        budget: BudgetDefinition,
    ) -> Result<BudgetDefinition, Fault> {
        if let Some(problem) = budget.validation_problem() {
            return Err(Fault::new(ErrorCode::InvalidRequest, problem));
        }
        let known = self.list_budgets(scope).await?;
        if let Some(known) = known.iter().find(|known| known.budget.name == budget.name) {
            check_undeclared(&known.budget)?;
        }
        let budget = BudgetDefinition { declared: false, ..budget };
        let set = Mutation::BudgetSet(BudgetSet { budget: budget.clone() });
        self.ports.commit_batch(self.of_budgets(scope, scope.actor()).with_mutation(set)).await?;
        Ok(budget)
    }

    /// Removes a budget for a person.
    pub(crate) async fn budget_remove(&self, scope: &Scope, name: String) -> Result<BudgetDefinition, Fault> {
        let known = self.list_budgets(scope).await?.into_iter().find(|known| known.budget.name == name);
        let Some(BudgetUse { budget, .. }) = known else {
            return Err(Fault::new(ErrorCode::BudgetNotFound, format!("there is no budget {name:?}"))
                .with_hint("list them with `dromia budget list`"));
        };
        check_undeclared(&budget)?;
        let remove = Mutation::BudgetRemove(BudgetRemove { name });
        self.ports.commit_batch(self.of_budgets(scope, scope.actor()).with_mutation(remove)).await?;
        Ok(budget)
    }

    /// Reads the budgets of a tenant, and how they stand.
    pub(crate) async fn list_budgets(&self, scope: &Scope) -> Result<Vec<BudgetUse>, Fault> {
        let now = self.ports.runtime.clock.now();
        self.ports.store.budgets(scope, now).await.map_err(read_fault)
    }

    /// Begins a batch that changes budgets, with its requester.
    fn of_budgets(&self, scope: &Scope, by: &Actor) -> WriteBatch {
        WriteBatch::new(scope.tenant()).wanted_by(by, self.ports.runtime.clock.now())
    }
}

/// Refuses to change what the configuration declares.
fn check_undeclared(budget: &BudgetDefinition) -> Result<(), Fault> {
    if budget.declared {
        let text = format!("dromia.yaml sets the budget {}", budget.name);
        return Err(Fault::new(ErrorCode::BudgetDeclared, text)
            .with_hint("change `tenants.NAME.budgets` in dromia.yaml"));
    }
    Ok(())
}
