//! What runs and model calls came to, as Prometheus reads it: by tenant, agent, model and outcome.
//!
//! Bound: the engine counts at most so many rows ([`dromia_contracts::usage`]), each of which has at most 41
//! series; the rest is counted under `other`. A caller of one tenant is given rows of that tenant and no
//! others, and its rows name it as it is called.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dromia_contracts::run::RunStatus;
use dromia_contracts::store::PageRequest;
use dromia_contracts::usage::{SECONDS, UsageRow};
use dromia_contracts::{AgentId, TenantId};

use crate::caller::Caller;
use crate::core::GatewayCore;
use crate::failure::Answer;

/// The label of rows beyond a bound, and of erased tenants and agents.
const OTHER: &str = "other";

/// Names of tenants and agents.
#[derive(Debug, Default)]
struct SeriesNames {
    tenants: BTreeMap<TenantId, String>,
    agents: BTreeMap<AgentId, String>,
}

/// Returns the text of all rows that a caller may read: those of its tenant, or of all for one who sees the node.
pub(crate) async fn render_usage(core: &GatewayCore, caller: &Caller) -> Answer<String> {
    // A token of the only tenant sees the node too, and has no scope but its own.
    let only = (!caller.is_operator()).then(|| caller.scope.tenant());
    let rows = core.ports.runs.usage_rows(only);
    let names = find_names(core, caller, &rows).await?;
    let mut text = usage_text(&rows, &names);
    write_waiting(core, caller, &rows, &names, &mut text).await?;
    Ok(text)
}

/// Finds what tenants and agents are called; the rows are few.
async fn find_names(core: &GatewayCore, caller: &Caller, rows: &[UsageRow]) -> Answer<SeriesNames> {
    let mut names = SeriesNames::default();
    names.tenants.insert(caller.scope.tenant(), caller.tenant_handle().to_string());
    let is_elsewhere = |row: &UsageRow| row.tenant.is_some_and(|tenant| tenant != caller.scope.tenant());
    if rows.iter().any(is_elsewhere) {
        let page = PageRequest::first_page(PageRequest::<TenantId>::LIMIT_MAX);
        for tenant in core.ports.store.tenants(&core.operator, page).await? {
            names.tenants.insert(tenant.id, tenant.handle.to_string());
        }
    }
    for row in rows {
        let (Some(tenant), Some(agent)) = (row.tenant, row.agent) else { continue };
        if names.agents.contains_key(&agent) {
            continue;
        }
        let scope = if tenant == caller.scope.tenant() {
            caller.scope.clone()
        } else {
            caller.scope_of_tenant(core, tenant)?
        };
        let found = core.ports.store.agent(&scope, agent).await?;
        names.agents.insert(agent, found.map_or_else(|| OTHER.to_owned(), |found| found.handle.to_string()));
    }
    Ok(names)
}

/// Writes how many calls wait for a person in each tenant that has rows, and in the caller's.
async fn write_waiting(
    core: &GatewayCore,
    caller: &Caller,
    rows: &[UsageRow],
    names: &SeriesNames,
    text: &mut String,
) -> Answer<()> {
    use dromia_contracts::store::ApprovalFilter;

    let filter = ApprovalFilter { agent: None, open_at: Some(core.ports.runtime.clock.now()) };
    let mut tenants: Vec<_> = rows.iter().filter_map(|row| row.tenant).collect();
    tenants.push(caller.scope.tenant());
    tenants.sort_unstable();
    tenants.dedup();
    write_head(
        text,
        "dromia_approvals_waiting",
        "gauge",
        "Calls that wait for a person; at most 256 are counted.",
    );
    for tenant in tenants {
        let Some(name) = names.tenants.get(&tenant) else { continue };
        let scope = if tenant == caller.scope.tenant() {
            caller.scope.clone()
        } else {
            caller.scope_of_tenant(core, tenant)?
        };
        let page = PageRequest::first_page(PageRequest::<dromia_contracts::ApprovalId>::LIMIT_MAX);
        let waiting = core.ports.store.approvals(&scope, filter, page).await?.len();
        let _infallible = writeln!(text, "dromia_approvals_waiting{{tenant=\"{name}\"}} {waiting}");
    }
    Ok(())
}

/// A value that each row has.
type RowValue = fn(&UsageRow) -> f64;

/// The counters that a row has one of: name, help, value.
#[expect(clippy::cast_precision_loss, reason = "a sample is a float; counts beyond 2^53 do not occur")]
const COUNTERS: [(&str, &str, RowValue); 6] = [
    ("dromia_model_input_tokens_total", "Tokens of requests that models answered.", |row| {
        row.counts.input_tokens as f64
    }),
    ("dromia_model_output_tokens_total", "Tokens of the answers of models.", |row| {
        row.counts.output_tokens as f64
    }),
    ("dromia_model_cost_usd_total", "What answers of models cost, as far as prices are known.", |row| {
        row.counts.cost_micros as f64 / 1e6
    }),
    ("dromia_model_unpriced_calls_total", "Model calls of which no price is known.", |row| {
        row.counts.unpriced_calls as f64
    }),
    ("dromia_model_retries_total", "Attempts at models that were delayed and repeated.", |row| {
        row.counts.retries as f64
    }),
    ("dromia_model_retry_delay_seconds_total", "How long attempts at models were delayed.", |row| {
        row.counts.retry_delay_ms as f64 / 1e3
    }),
];

fn usage_text(rows: &[UsageRow], names: &SeriesNames) -> String {
    let mut text = String::new();
    write_head(&mut text, "dromia_runs_total", "counter", "Runs that ended or are held, by outcome.");
    for row in rows {
        let (tenant, agent) = row_labels(row, names);
        for (status, count) in RunStatus::ALL.iter().zip(row.counts.runs).filter(|(_, count)| *count > 0) {
            let outcome = status.as_str();
            line(
                &mut text,
                "dromia_runs_total",
                &[("tenant", tenant), ("agent", agent), ("outcome", outcome)],
                count,
            );
        }
    }
    let called: Vec<_> =
        rows.iter().filter(|row| row.counts.call_count() > 0 || row.counts.retries > 0).collect();
    write_head(&mut text, "dromia_model_calls_total", "counter", "Calls of models, by outcome.");
    for row in &called {
        for (outcome, count) in &row.counts.calls {
            let mut labels = model_labels(row, names).to_vec();
            labels.push(("outcome", outcome));
            line(&mut text, "dromia_model_calls_total", &labels, count);
        }
    }
    for (name, help, value) in COUNTERS {
        write_head(&mut text, name, "counter", help);
        for row in &called {
            line(&mut text, name, &model_labels(row, names), value(row));
        }
    }
    let name = "dromia_model_call_seconds";
    write_head(&mut text, name, "histogram", "Time from a request to a model to its answer or failure.");
    for row in &called {
        let labels = model_labels(row, names);
        let mut below = 0;
        for (bound, count) in SECONDS.iter().zip(row.counts.took) {
            below += count;
            let bound = bound.to_string();
            let bucket: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            line(&mut text, "dromia_model_call_seconds_bucket", &bucket, below);
        }
        let all = row.counts.call_count();
        let bucket: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
        line(&mut text, "dromia_model_call_seconds_bucket", &bucket, all);
        line(&mut text, "dromia_model_call_seconds_sum", &labels, row.counts.took_seconds);
        line(&mut text, "dromia_model_call_seconds_count", &labels, all);
    }
    text
}

fn row_labels<'a>(row: &UsageRow, names: &'a SeriesNames) -> (&'a str, &'a str) {
    let tenant = row.tenant.and_then(|tenant| names.tenants.get(&tenant)).map_or(OTHER, String::as_str);
    let agent = row.agent.and_then(|agent| names.agents.get(&agent)).map_or(OTHER, String::as_str);
    (tenant, agent)
}

fn model_labels<'a>(row: &'a UsageRow, names: &'a SeriesNames) -> [(&'static str, &'a str); 3] {
    let (tenant, agent) = row_labels(row, names);
    let model = if row.model.is_empty() { OTHER } else { &row.model };
    [("tenant", tenant), ("agent", agent), ("model", model)]
}

// Writing to a string has no failing case.
fn write_head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    let labels: Vec<_> =
        labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    let _infallible = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}

/// Writes a label's value as the text format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use dromia_contracts::usage::{OUTCOMES_MAX, UsageCounts};

    use super::super::text_check::find_faults;
    use super::*;

    fn row(tenant: u8, model: &str) -> UsageRow {
        let mut counts = UsageCounts { input_tokens: 3, cost_micros: 1_500_000, ..UsageCounts::default() };
        counts.runs[3] = 2;
        counts.count_outcome("ok");
        counts.count_outcome("model_unavailable");
        counts.count_seconds(0.7);
        counts.count_seconds(900.0);
        UsageRow {
            tenant: Some(TenantId::from_bytes([tenant; 16])),
            agent: Some(AgentId::from_bytes([tenant; 16])),
            model: model.to_owned(),
            counts,
        }
    }

    fn names() -> SeriesNames {
        SeriesNames {
            tenants: BTreeMap::from([(TenantId::from_bytes([1; 16]), "acme".to_owned())]),
            agents: BTreeMap::from([(AgentId::from_bytes([1; 16]), "ops".to_owned())]),
        }
    }

    #[test]
    fn usage_series_have_names_units_and_cumulative_buckets() {
        let rest = UsageRow { tenant: None, agent: None, model: String::new(), ..row(9, "") };
        let text = usage_text(&[row(1, "a\"b"), rest], &names());
        assert_eq!(find_faults(&text), Vec::<String>::new(), "{text}");
        for line in [
            r#"dromia_runs_total{tenant="acme",agent="ops",outcome="completed"} 2"#,
            r#"dromia_model_calls_total{tenant="acme",agent="ops",model="a\"b",outcome="model_unavailable"} 1"#,
            r#"dromia_model_cost_usd_total{tenant="acme",agent="ops",model="a\"b"} 1.5"#,
            r#"dromia_model_call_seconds_bucket{tenant="acme",agent="ops",model="a\"b",le="1"} 1"#,
            r#"dromia_model_call_seconds_bucket{tenant="acme",agent="ops",model="a\"b",le="+Inf"} 2"#,
            r#"dromia_model_input_tokens_total{tenant="other",agent="other",model="other"} 3"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_row_has_no_more_series_than_its_bound() {
        let mut row = row(1, "m");
        row.counts.runs = [1; RunStatus::ALL.len()];
        row.counts.calls = [("a", 1); OUTCOMES_MAX + 1].into();
        let text = usage_text(&[row], &names());
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(series, 41);
    }
}
