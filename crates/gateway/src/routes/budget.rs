//! Budgets of a tenant: list, set, remove. A tenant has so few that a list is one page.

use axum::Json;
use axum::extract::State;
use dromia_api::List;
use dromia_api::budget::{Budget as Shown, SetBudget};
use dromia_contracts::ErrorCode;
use dromia_contracts::agent::Handle;
use dromia_contracts::budget::{BUDGETS_MAX, Budget, BudgetUse, Per};
use dromia_contracts::{AgentId, Scope};

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{JsonBody, Segments};
use crate::failure::{Answer, Failure};
use crate::wire;

pub(crate) async fn list(State(core): State<Shared>, caller: Caller) -> Answer<Json<List<Shown>>> {
    let items = uses(&core, &caller.scope).await?.into_iter().map(wire::budget).collect();
    Ok(Json(List::page(items, BUDGETS_MAX + 1, |budget: &Shown| budget.name.clone())))
}

pub(crate) async fn set(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    JsonBody(new): JsonBody<SetBudget>,
) -> Answer<Json<Shown>> {
    let of = match new.of {
        Some(of) if new.per == Per::Agent => Some(agent(&core, &caller.scope, &of).await?),
        of => of,
    };
    let SetBudget { per, measure, period, limit, .. } = new;
    let budget = Budget { name, per, of, measure, period, limit, declared: false };
    let set = core.ports.runs.budget_set(caller.scope.clone(), budget).await?;
    let uses = uses(&core, &caller.scope).await?;
    let known = uses.into_iter().find(|known| known.budget.name == set.name);
    Ok(Json(wire::budget(known.unwrap_or_else(|| unused(set)))))
}

pub(crate) async fn remove(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<Shown>> {
    let removed = core.ports.runs.budget_remove(caller.scope, name).await?;
    Ok(Json(wire::budget(unused(removed))))
}

async fn uses(core: &Core, scope: &Scope) -> Answer<Vec<BudgetUse>> {
    let now = core.ports.runtime.clock.now();
    Ok(core.ports.store.budgets(scope, now).await?)
}

/// A budget of which nothing is counted any more, or not yet.
fn unused(budget: Budget) -> BudgetUse {
    BudgetUse { budget, subject: String::new(), used: 0 }
}

/// Finds an agent by its id or handle; what was asked for is kept by its id.
async fn agent(core: &Core, scope: &Scope, name: &str) -> Answer<String> {
    let store = &core.ports.store;
    let found = match (name.parse::<AgentId>(), name.parse::<Handle>()) {
        (Ok(id), _) => store.agent(scope, id).await?,
        (Err(_), Ok(handle)) => store.agent_by_handle(scope, &handle).await?,
        (Err(_), Err(_)) => None,
    };
    found
        .map(|agent| agent.id.to_string())
        .ok_or_else(|| Failure::absent(ErrorCode::AgentNotFound, "agent", name))
}
