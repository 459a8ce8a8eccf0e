//! What `tenants.NAME.budgets` means.

use dromia_contracts::AgentId;
use dromia_contracts::agent::Handle;
use dromia_contracts::budget::{BUDGETS_MAX, Budget, Per};

use super::resolve::Check;
use super::written::{Written, WrittenBudget};

/// Resolves the budgets of all tenants. An agent that is named by its handle is found when the store is open.
pub(super) fn resolve(written: &Written, check: &mut Check<'_>) -> Vec<(Handle, Vec<Budget>)> {
    let mut all = Vec::new();
    for (name, tenant) in &written.tenants {
        // A name that is no handle is told where tenants are resolved.
        let Ok(handle) = name.parse::<Handle>() else { continue };
        let key = format!("tenants.{name}.budgets");
        if tenant.budgets.len() > BUDGETS_MAX {
            check.wrong(&key, format!("has at most {BUDGETS_MAX} budgets"));
        }
        let mut budgets: Vec<Budget> = Vec::new();
        for written in &tenant.budgets {
            match budget(written) {
                Ok(budget) if budgets.iter().any(|known| known.name == budget.name) => {
                    check.wrong(&key, format!("names {} twice", budget.name));
                }
                Ok(budget) => budgets.push(budget),
                Err(problem) => check.wrong(&key, format!("{}: {problem}", written.name)),
            }
        }
        if !budgets.is_empty() {
            all.push((handle, budgets));
        }
    }
    all
}

fn budget(written: &WrittenBudget) -> Result<Budget, String> {
    let WrittenBudget { name, per, of, measure, period, limit } = written;
    let Some(limit) = measure.limit(limit) else {
        return Err(format!("limit: of {measure} it is {}, not {limit}", measure.limit_rule()));
    };
    let budget = Budget {
        name: name.clone(),
        per: *per,
        of: of.clone(),
        measure: *measure,
        period: *period,
        limit,
        declared: true,
    };
    let by_handle = *per == Per::Agent && of.as_ref().is_some_and(|of| of.parse::<Handle>().is_ok());
    // What the handle leads to is an id in any case.
    let of = if by_handle { Some(AgentId::from_bytes([0; 16]).to_string()) } else { of.clone() };
    let judged = Budget { of, ..budget.clone() };
    judged.problem().map_or(Ok(budget), |problem| Err(problem.to_owned()))
}
