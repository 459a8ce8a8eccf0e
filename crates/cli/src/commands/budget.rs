//! `budget`: how much may be spent, and how much is.

use dromia_api::budget::{Budget, SetBudget};
use dromia_api::{AgentId, List, Measure, Per, Period};

use super::handles::Handles;
use super::{Cli, print_list};
use crate::args;
use crate::client::encoded;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::Output;

pub(super) async fn run(cli: &Cli<'_>, command: args::Budget, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Budget::Set(new) => set(cli, new, output).await,
        args::Budget::List => {
            let mut list: List<Budget> = cli.client.get("/v1/budgets").await?;
            let handles = Handles::read(cli, output).await;
            list.items.iter_mut().for_each(|budget| call(budget, &handles));
            print_list(
                output,
                &list,
                &["name", "per", "of", "period", "measure", "used", "limit", "set in", "most by"],
                row,
            )
        }
        args::Budget::Remove(budget) => {
            let path = format!("/v1/budgets/{}", encoded(&budget.name));
            let removed: Budget = cli.client.delete(&path).await?;
            output.show(&removed, |removed| format!("{} is removed", removed.name))?;
            Ok(Exit::Done)
        }
    }
}

/// Sets a budget. What is not named is as it was, or as it is with a new one.
async fn set(cli: &Cli<'_>, new: args::SetBudget, output: &mut Output<'_>) -> Outcome<Exit> {
    let known: List<Budget> = cli.client.get("/v1/budgets").await?;
    let known = known.items.into_iter().find(|known| known.name == new.name);
    let known = known.as_ref();
    let per = new.per.or(known.map(|known| known.per)).unwrap_or(Per::Tenant);
    let measure = new.measure.or(known.map(|known| known.measure)).unwrap_or(Measure::Money);
    let period = new.period.or(known.map(|known| known.period)).unwrap_or(Period::Day);
    // Whom it was about, if it is still about such a one.
    let before = known.filter(|known| known.per == per).and_then(|known| known.of.clone());
    let Some(limit) = measure.limit(&new.limit) else {
        let text = format!("--limit {}: of {measure} it is {}", new.limit, measure.limit_rule());
        return Err(Error::Usage(text));
    };
    let body = SetBudget { per, of: new.of.or(before), measure, period, limit };
    let path = format!("/v1/budgets/{}", encoded(&new.name));
    let mut set: Budget = cli.client.put_json(&path, &body).await?;
    call(&mut set, &Handles::read(cli, output).await);
    output.show(&set, |set| {
        let of = set.of.as_deref().map_or_else(String::new, |of| format!(" {of}"));
        let period = match set.period {
            Period::Total => "in total".to_owned(),
            Period::Hour => "an hour".to_owned(),
            period @ (Period::Day | Period::Month) => format!("a {period}"),
        };
        format!(
            "{}: {} of {} per {}{of} {period}; {}",
            set.name,
            set.measure.show(set.limit),
            set.measure,
            set.per,
            if is_idle(set) { IDLE.to_owned() } else { format!("{} used", set.measure.show(set.used)) }
        )
    })?;
    Ok(Exit::Done)
}

/// Puts what people call them in the place of the agent that a budget is about, and of the one that used most of it. A program
/// gets ids: it is told no handles.
fn call(budget: &mut Budget, handles: &Handles) {
    if budget.per != Per::Agent {
        return;
    }
    for one in [&mut budget.of, &mut budget.subject] {
        if let Some(agent) = one.as_ref().and_then(|id| id.parse::<AgentId>().ok()) {
            *one = Some(handles.of(agent));
        }
    }
}

/// What is said in the place of an amount that nobody has: a run that ended spends no more, and its count goes with it.
const IDLE: &str = "per run; none runs";

/// Tells whether each run has a count of its own and there is no run that has one.
fn is_idle(budget: &Budget) -> bool {
    budget.per == Per::Run && budget.subject.is_none()
}

fn row(budget: &Budget) -> Vec<String> {
    vec![
        budget.name.clone(),
        budget.per.to_string(),
        budget.of.clone().unwrap_or_default(),
        budget.period.to_string(),
        budget.measure.to_string(),
        if is_idle(budget) { IDLE.to_owned() } else { budget.measure.show(budget.used) },
        budget.measure.show(budget.limit),
        // No command changes one of the file.
        if budget.declared { "dromia.yaml" } else { "" }.to_owned(),
        budget.subject.clone().unwrap_or_default(),
    ]
}
