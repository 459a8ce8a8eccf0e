//! `budget`: how much may be spent, and how much is.

use dromia_api::budget::{BudgetResource, SetBudget};
use dromia_api::cost::CostSummary;
use dromia_api::{AgentId, BudgetMeasure, BudgetPeriod, BudgetScope, ListPage};

use super::agent_names::AgentHandles;
use super::{Cli, print_list};
use crate::args;
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::BudgetCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::BudgetCommand::Set(new) => set_budget(cli, new, output).await,
        args::BudgetCommand::List => {
            let mut list: ListPage<BudgetResource> = cli.client.get("/v1/budgets").await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            list.items.iter_mut().for_each(|budget| replace_ids_with_handles(budget, &handles));
            print_list(
                output,
                &list,
                &["name", "per", "of", "period", "measure", "used", "limit", "set in", "most by"],
                budget_row,
            )
        }
        args::BudgetCommand::Remove(budget) => {
            let path = format!("/v1/budgets/{}", percent_encode(&budget.name));
            let removed: BudgetResource = cli.client.delete(&path).await?;
            output.print_result(&removed, |removed| format!("{} is removed", removed.name))?;
            Ok(CommandExit::Done)
        }
    }
}

/// Says that a budget of money stops calls whose price is not known, where some were made lately.
async fn warn_of_unpriced(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome {
    let sum: CostSummary = cli.client.get("/v1/cost?by=model&since=7d").await?;
    for group in sum.groups.iter().filter(|group| group.spent.unpriced_calls > 0) {
        let model = &group.key;
        output.print_notice(&format!(
            "warning: no price is known for the model {model}, and a budget of money refuses its calls: give it a price with \
             `dromia model set {model}=PROVIDER/ID --price IN/OUT`, or with --free if it costs nothing"
        ))?;
    }
    Ok(())
}

/// Sets a budget. What is not named is as it was, or as it is with a new one.
async fn set_budget(
    cli: &Cli<'_>,
    new: args::SetBudget,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let known: ListPage<BudgetResource> = cli.client.get("/v1/budgets").await?;
    let known = known.items.into_iter().find(|known| known.name == new.name);
    let known = known.as_ref();
    let per = new.per.or(known.map(|known| known.per)).unwrap_or(BudgetScope::Tenant);
    let measure = new.measure.or(known.map(|known| known.measure)).unwrap_or(BudgetMeasure::Money);
    let period = new.period.or(known.map(|known| known.period)).unwrap_or(BudgetPeriod::Day);
    // Whom it was about, if it is still about such a one.
    let before = known.filter(|known| known.per == per).and_then(|known| known.of.clone());
    let Some(limit) = measure.parse_limit(&new.limit) else {
        let text = format!("--limit {}: of {measure} it is {}", new.limit, measure.limit_rule());
        return Err(Error::Usage(text));
    };
    let body = SetBudget { per, of: new.of.or(before), measure, period, limit };
    let path = format!("/v1/budgets/{}", percent_encode(&new.name));
    let mut set: BudgetResource = cli.client.put_json(&path, &body).await?;
    replace_ids_with_handles(&mut set, &AgentHandles::fetch_page(cli, output).await);
    if measure == BudgetMeasure::Money {
        warn_of_unpriced(cli, output).await?;
    }
    output.print_result(&set, |set| {
        let of = set.of.as_deref().map_or_else(String::new, |of| format!(" {of}"));
        let period = match set.period {
            BudgetPeriod::Total => "in total".to_owned(),
            BudgetPeriod::Hour => "an hour".to_owned(),
            period @ (BudgetPeriod::Day | BudgetPeriod::Month) => format!("a {period}"),
        };
        format!(
            "{}: {} of {} per {}{of} {period}; {}",
            set.name,
            set.measure.format_amount(set.limit),
            set.measure,
            set.per,
            if is_idle(set) {
                IDLE.to_owned()
            } else {
                format!("{} used", set.measure.format_amount(set.used))
            }
        )
    })?;
    Ok(CommandExit::Done)
}

/// Replaces the ids of the agent that a budget is about, and of the one that used most of it, by their handles. A
/// program gets the ids.
fn replace_ids_with_handles(budget: &mut BudgetResource, handles: &AgentHandles) {
    if budget.per != BudgetScope::Agent {
        return;
    }
    for one in [&mut budget.of, &mut budget.subject] {
        if let Some(agent) = one.as_ref().and_then(|id| id.parse::<AgentId>().ok()) {
            *one = Some(handles.display_name(agent));
        }
    }
}

/// The text in the place of an amount of a run's budget while no run is active: a count ends with its run.
const IDLE: &str = "counted per run; no run is active";

/// Tells whether each run has a count of its own and there is no run that has one.
fn is_idle(budget: &BudgetResource) -> bool {
    budget.per == BudgetScope::Run && budget.subject.is_none()
}

fn budget_row(budget: &BudgetResource) -> Vec<String> {
    vec![
        budget.name.clone(),
        budget.per.to_string(),
        budget.of.clone().unwrap_or_default(),
        budget.period.to_string(),
        budget.measure.to_string(),
        if is_idle(budget) { IDLE.to_owned() } else { budget.measure.format_amount(budget.used) },
        budget.measure.format_amount(budget.limit),
        // No command changes one of the file.
        if budget.declared { "dromia.yaml" } else { "" }.to_owned(),
        budget.subject.clone().unwrap_or_default(),
    ]
}
