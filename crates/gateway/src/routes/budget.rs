//! Budgets of a tenant: list, set, remove. A tenant has so few that a list is one page.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::budget::{BudgetResource as Shown, SetBudget};
use dromia_contracts::ErrorCode;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::budget::{BUDGETS_MAX, BudgetDefinition, BudgetScope, BudgetUse};
use dromia_contracts::{AgentId, Scope};

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments};
use crate::failure::{Answer, ApiError};
use crate::wire;

pub(crate) async fn list_budgets(
    State(core): State<Shared>,
    caller: Caller,
) -> Answer<Json<ListPage<Shown>>> {
    let items = read_budget_uses(&core, &caller.scope).await?.into_iter().map(wire::api_budget).collect();
    Ok(Json(ListPage::from_limited(items, BUDGETS_MAX + 1, |budget: &Shown| budget.name.clone())))
}

pub(crate) async fn set_budget(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    JsonBody(new): JsonBody<SetBudget>,
) -> Answer<Json<Shown>> {
    let of = match new.of {
        Some(of) if new.per == BudgetScope::Agent => Some(resolve_agent_id(&core, &caller.scope, &of).await?),
        of => of,
    };
    let SetBudget { per, measure, period, limit, .. } = new;
    let budget = BudgetDefinition { name, per, of, measure, period, limit, declared: false };
    let set = core.ports.runs.budget_set(caller.scope.clone(), budget).await?;
    let uses = read_budget_uses(&core, &caller.scope).await?;
    let known = uses.into_iter().find(|known| known.budget.name == set.name);
    Ok(Json(wire::api_budget(known.unwrap_or_else(|| unused_budget(set)))))
}

pub(crate) async fn remove_budget(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<Shown>> {
    let removed = core.ports.runs.budget_remove(caller.scope, name).await?;
    Ok(Json(wire::api_budget(unused_budget(removed))))
}

pub(super) async fn read_budget_uses(core: &GatewayCore, scope: &Scope) -> Answer<Vec<BudgetUse>> {
    let now = core.ports.runtime.clock.now();
    Ok(core.ports.store.budgets(scope, now).await?)
}

/// A budget of which nothing is counted any more, or not yet.
fn unused_budget(budget: BudgetDefinition) -> BudgetUse {
    BudgetUse { budget, subject: String::new(), used: 0 }
}

/// Finds an agent by its id or handle; what was asked for is kept by its id.
async fn resolve_agent_id(core: &GatewayCore, scope: &Scope, name: &str) -> Answer<String> {
    let store = &core.ports.store;
    let found = match (name.parse::<AgentId>(), name.parse::<HandleSlug>()) {
        (Ok(id), _) => store.agent(scope, id).await?,
        (Err(_), Ok(handle)) => store.agent_by_handle(scope, &handle).await?,
        (Err(_), Err(_)) => None,
    };
    found
        .map(|agent| agent.id.to_string())
        .ok_or_else(|| ApiError::not_found(ErrorCode::AgentNotFound, "agent", name))
}
