//! What `tenants.NAME.budgets` means.

use dromia_contracts::AgentId;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::budget::{BUDGETS_MAX, BudgetDefinition, BudgetScope};

use super::file::{WrittenBudget, WrittenConfig};
use super::problem_collector::ProblemCollector;

/// Resolves the budgets of all tenants. An agent that is named by its handle is found when the store is open.
pub(super) fn resolve_budgets(
    written: &WrittenConfig,
    check: &mut ProblemCollector<'_>,
) -> Vec<(HandleSlug, Vec<BudgetDefinition>)> {
    let mut all = Vec::new();
    for (name, tenant) in &written.tenants {
        // A name that is no handle is reported where tenants are resolved.
        let Ok(handle) = name.parse::<HandleSlug>() else { continue };
        let key = format!("tenants.{name}.budgets");
        if tenant.budgets.len() > BUDGETS_MAX {
            check.add_problem(&key, format!("has more than {BUDGETS_MAX} budgets"));
        }
        let mut budgets: Vec<BudgetDefinition> = Vec::new();
        for written in &tenant.budgets {
            match resolve_budget(written) {
                Ok(budget) if budgets.iter().any(|known| known.name == budget.name) => {
                    check.add_problem(&key, format!("names {} twice", budget.name));
                }
                Ok(budget) => budgets.push(budget),
                Err(problem) => check.add_problem(&key, format!("{}: {problem}", written.name)),
            }
        }
        if !budgets.is_empty() {
            all.push((handle, budgets));
        }
    }
    all
}

fn resolve_budget(written: &WrittenBudget) -> Result<BudgetDefinition, String> {
    let WrittenBudget { name, per, of, measure, period, limit } = written;
    let Some(limit) = measure.parse_limit(limit) else {
        return Err(format!("limit: for {measure} it must be {}, not {limit}", measure.limit_rule()));
    };
    let budget = BudgetDefinition {
        name: name.clone(),
        per: *per,
        of: of.clone(),
        measure: *measure,
        period: *period,
        limit,
        declared: true,
    };
    let by_handle =
        *per == BudgetScope::Agent && of.as_ref().is_some_and(|of| of.parse::<HandleSlug>().is_ok());
    // What the handle leads to is an id in any case.
    let of = if by_handle { Some(AgentId::from_bytes([0; 16]).to_string()) } else { of.clone() };
    let judged = BudgetDefinition { of, ..budget.clone() };
    judged.validation_problem().map_or(Ok(budget), |problem| Err(problem.to_owned()))
}
