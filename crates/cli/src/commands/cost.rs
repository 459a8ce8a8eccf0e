//! `cost`: what runs cost, summed up or attempt by attempt.

use dromia_api::cost::{AttemptCost, CostBy, CostGroup, CostSummary, RunCost};
use dromia_api::tenant::TenantResource;
use dromia_api::{CURRENCY, ChargeBasis, CostTotals, ListPage, RunId};

use super::Cli;
use crate::args;
use crate::client::{ApiClient, percent_encode};
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_pairs, draw_table, format_known_cost, format_money, format_time};

/// How many attempts are asked for at a time.
const PAGE_ATTEMPTS: u32 = 256;

/// The most pages of tenants that a sum over all of them reads.
const TENANT_PAGES_MAX: usize = 64;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::CostCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::CostCommand::Summary(asked) => {
            let sum = match asked.by {
                CostBy::Tenant if cli.global.tenant.is_none() => sum_tenants(cli, &asked).await?,
                _ => sum_costs(cli, &cli.client, &asked).await?,
            };
            let columns = output.context_mut().columns;
            output.print_result(&sum, |sum| summary_text(columns, sum))?;
        }
        args::CostCommand::Show(run) => {
            let cost = fetch_run_cost(cli, cli.resolve_id(run.id, output).await?).await?;
            let columns = output.context_mut().columns;
            output.print_result(&cost, |cost| run_text(columns, cost))?;
        }
    }
    Ok(CommandExit::Done)
}

/// Sums up page by page; each page counts on from the one before, from the same beginning.
async fn sum_costs(cli: &Cli<'_>, client: &ApiClient, asked: &args::CostSummary) -> Outcome<CostSummary> {
    let path = |since: Option<&str>, after: Option<RunId>| {
        let mut path = format!("/v1/cost?by={}", asked.by.as_str());
        let after = after.map(|after| after.to_string());
        let agent = cli.global.agent.as_deref();
        for (name, value) in [("since", since), ("agent", agent), ("after", after.as_deref())] {
            if let Some(value) = value {
                path.extend(["&", name, "=", &percent_encode(value)]);
            }
        }
        path
    };
    let mut sum: CostSummary = client.get(&path(asked.since.as_deref(), None)).await?;
    let since = sum.since.map(|since| since.to_string());
    while let Some(after) = sum.next {
        sum.merge_page(client.get(&path(since.as_deref(), Some(after))).await?);
    }
    Ok(sum)
}

/// Sums up each tenant, for an operator; for others their own.
async fn sum_tenants(cli: &Cli<'_>, asked: &args::CostSummary) -> Outcome<CostSummary> {
    let mut whole: Option<CostSummary> = None;
    let mut after = None;
    for _ in 0..TENANT_PAGES_MAX {
        let path = after.map_or_else(
            || "/v1/tenants?limit=256".to_owned(),
            |after: String| format!("/v1/tenants?limit=256&after={}", percent_encode(&after)),
        );
        let page: ListPage<TenantResource> = match cli.client.get(&path).await {
            // Who is no operator has one tenant.
            Err(error) if error.command_exit() == CommandExit::Denied => {
                return sum_costs(cli, &cli.client, asked).await;
            }
            page => page?,
        };
        for tenant in page.items {
            let client = cli.client.for_tenant(tenant.handle.to_string());
            let sum = sum_costs(cli, &client, asked).await?;
            match &mut whole {
                Some(whole) => whole.merge_page(sum),
                None => whole = Some(sum),
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    match whole {
        Some(sum) => Ok(sum),
        None => sum_costs(cli, &cli.client, asked).await,
    }
}

/// Reads all attempts of a run.
async fn fetch_run_cost(cli: &Cli<'_>, run: RunId) -> Outcome<RunCost> {
    let path = |after: u64| format!("/v1/runs/{run}/cost?after={after}&limit={PAGE_ATTEMPTS}");
    let mut cost: RunCost = cli.client.get(&path(0)).await?;
    while let Some(after) = cost.next {
        let page: RunCost = cli.client.get(&path(after)).await?;
        let mut attempts = cost.attempts;
        attempts.extend(page.attempts);
        // The last page has the newest state of the run.
        cost = RunCost { attempts, ..page };
    }
    Ok(cost)
}

fn summary_text(columns: Option<u16>, sum: &CostSummary) -> String {
    let mut rows: Vec<_> = sum.groups.iter().map(group_row).collect();
    rows.push(cost_row("total", sum.runs, sum.total));
    let table = draw_table(
        columns,
        &[sum.by.as_str(), "runs", "calls", "in", "out", "unpriced", &format!("cost {}", sum.currency)],
        rows,
    );
    match sum.imported {
        0 => table,
        runs => {
            format!("{table}\n\nnot counted: runs that were imported and paid for elsewhere: {runs}")
        }
    }
}

fn group_row(group: &CostGroup) -> Vec<String> {
    cost_row(group.name.as_deref().unwrap_or(&group.key), group.runs, group.spent)
}

fn cost_row(name: &str, runs: u64, spent: CostTotals) -> Vec<String> {
    vec![
        name.to_owned(),
        runs.to_string(),
        spent.model_calls.to_string(),
        spent.input_tokens.to_string(),
        spent.output_tokens.to_string(),
        spent.unpriced_calls.to_string(),
        cost_text(spent),
    ]
}

fn run_text(columns: Option<u16>, cost: &RunCost) -> String {
    let resumed: Vec<_> = cost.resumed_by.iter().map(ToString::to_string).collect();
    let head = draw_pairs(&[
        ("run", cost.run.to_string()),
        ("status", cost.status.as_str().to_owned()),
        ("self", spent_text(cost.own)),
        ("total", spent_text(cost.total)),
        ("resumed by", resumed.join(", ")),
    ]);
    // The server says where it stopped to look; the rest is one more question.
    let further = cost.resumed_further.map_or_else(String::new, |last| {
        format!(
            "\n\nLater runs may have continued it: `dromia cost show {last}` shows the cost from that run on."
        )
    });
    let heads = ["step", "attempt", "began", "model", "in", "out", "reserved", "cost", "charged by"];
    let attempts = draw_table(columns, &heads, cost.attempts.iter().map(attempt_row).collect());
    format!("{head}\n\n{attempts}{further}")
}

fn cost_text(spent: CostTotals) -> String {
    format_known_cost(spent.cost_micros, spent.unpriced_calls)
}

fn spent_text(spent: CostTotals) -> String {
    let unpriced = match spent.unpriced_calls {
        0 => String::new(),
        calls => format!(", {calls} of them unpriced"),
    };
    format!(
        "{} {CURRENCY} (model calls: {}{unpriced}, tokens: {} in, {} out)",
        cost_text(spent),
        spent.model_calls,
        spent.input_tokens,
        spent.output_tokens
    )
}

fn attempt_row(attempt: &AttemptCost) -> Vec<String> {
    let by = match attempt.charge {
        ChargeBasis::Open => "open",
        ChargeBasis::Report => "report",
        ChargeBasis::Reservation => "reservation",
        ChargeBasis::Nothing => "nothing",
    };
    let by = match &attempt.failure {
        Some(code) => format!("{by} ({code})"),
        None => by.to_owned(),
    };
    let model = match attempt.opinion_of {
        Some(call) => format!("{} about {call}", attempt.model),
        None => attempt.model.clone(),
    };
    vec![
        attempt.step.to_string(),
        attempt.attempt.to_string(),
        format_time(attempt.at),
        model,
        attempt.input_tokens.to_string(),
        attempt.output_tokens.to_string(),
        if attempt.unpriced { "unpriced".to_owned() } else { format_money(attempt.reserved_micros) },
        if attempt.unpriced { "unpriced".to_owned() } else { format_money(attempt.cost_micros) },
        by,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_ends_with_its_total() {
        let spent = CostTotals {
            model_calls: 3,
            input_tokens: 30,
            output_tokens: 12,
            cost_micros: 1_000_042,
            unpriced_calls: 0,
        };
        let group = CostGroup { key: "agt_1".into(), name: Some("ops".into()), runs: 2, spent };
        let sum = CostSummary {
            runs: 2,
            total: spent,
            groups: vec![group],
            ..CostSummary::new(CostBy::Agent, None)
        };
        insta::assert_snapshot!(summary_text(None, &sum), @r"
        AGENT  RUNS  CALLS  IN  OUT  UNPRICED  COST USD
        ops    2     3      30  12   0         1.000042
        total  2     3      30  12   0         1.000042
        ");
        assert_eq!(cost_text(CostTotals { unpriced_calls: 3, cost_micros: 0, ..spent }), "unpriced");
        assert_eq!(cost_text(CostTotals { unpriced_calls: 1, ..spent }), "1.000042");
        let text = summary_text(None, &CostSummary { imported: 3, ..sum });
        assert!(text.ends_with("not counted: runs that were imported and paid for elsewhere: 3"), "{text}");
    }
}
