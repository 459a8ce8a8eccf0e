//! Counts runs and model calls by tenant, agent and model, within bounds. A restart resets the counts, and no decision depends on
//! them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dromia_contracts::entry::{Entry, ParkReason};
use dromia_contracts::model::{ModelError, ModelReply, PreparedAttempt};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::NewEntry;
use dromia_contracts::usage::{ROWS_OF_TENANT_MAX, TENANTS_MAX, UsageCounts, UsageRow};
use dromia_contracts::{AgentId, TenantId};

/// An agent and the alias of a model; no agent is all that came after the bound.
type RowKey = (Option<AgentId>, String);

/// The counts of one tenant.
type TenantRows = BTreeMap<RowKey, UsageCounts>;

/// The counts of all tenants; those without a tenant came after the bound.
#[derive(Debug, Default)]
pub(crate) struct UsageMeter(Mutex<BTreeMap<Option<TenantId>, TenantRows>>);

impl UsageMeter {
    /// Counts a call of a model.
    pub(crate) fn count_call(
        &self,
        (tenant, agent): (TenantId, AgentId),
        (alias, prepared): (&str, &PreparedAttempt),
        result: Result<&ModelReply, &ModelError>,
        took: Duration,
    ) {
        let alias = prepared.wording.by.as_deref().unwrap_or(alias);
        self.update(tenant, agent, alias, |counts| {
            counts.count_seconds(took.as_secs_f64());
            if !prepared.priced {
                counts.unpriced_calls += 1;
            }
            match result {
                Ok(reply) => {
                    counts.count_outcome("ok");
                    counts.input_tokens += u64::from(reply.usage.input_tokens);
                    counts.output_tokens += u64::from(reply.usage.output_tokens);
                    counts.cost_micros = counts.cost_micros.saturating_add(reply.cost_micros);
                }
                Err(error) => counts.count_outcome(error.code.as_str()),
            }
        });
    }

    /// Counts a run that rests or has ended, and the delays before its attempts, once both are durable.
    pub(crate) fn count_run(
        &self,
        (tenant, agent): (TenantId, AgentId),
        model: &str,
        status: RunStatus,
        entries: &[NewEntry],
    ) {
        for new in entries {
            if let Entry::RunParked(parked) = &new.entry
                && let ParkReason::Retry { until } = parked.park
            {
                let delay = until.duration_since(new.at).as_millis();
                self.update(tenant, agent, model, |counts| {
                    counts.retries += 1;
                    counts.retry_delay_ms += u64::try_from(delay).unwrap_or(0);
                });
            }
        }
        // A run that rests comes to another status later; one that ends does not.
        if let Some(at) = RunStatus::ALL.iter().position(|known| *known == status)
            && (status.is_terminal() || status == RunStatus::Held)
        {
            self.update(tenant, agent, "", |counts| counts.runs[at] += 1);
        }
    }

    /// Returns what was counted, of one tenant or of all.
    pub(crate) fn usage_rows(&self, only: Option<TenantId>) -> Vec<UsageRow> {
        let all = self.lock();
        let wanted = all.iter().filter(|(tenant, _)| only.is_none() || **tenant == only);
        let rows = wanted.flat_map(|(tenant, rows)| {
            rows.iter().map(|((agent, model), counts)| UsageRow {
                tenant: *tenant,
                agent: *agent,
                model: model.clone(),
                counts: counts.clone(),
            })
        });
        rows.collect()
    }

    fn update(&self, tenant: TenantId, agent: AgentId, model: &str, count: impl FnOnce(&mut UsageCounts)) {
        let mut all = self.lock();
        let is_known = all.len() < TENANTS_MAX || all.contains_key(&Some(tenant));
        let rows = all.entry(is_known.then_some(tenant)).or_default();
        let key = (Some(agent), model.to_owned());
        // A tenant beyond the bound is counted in one row, without the names of its models.
        let is_known = is_known && (rows.len() < ROWS_OF_TENANT_MAX || rows.contains_key(&key));
        count(rows.entry(if is_known { key } else { (None, String::new()) }).or_default());
    }

    // A panic under the lock leaves whole numbers, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<TenantId>, TenantRows>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u16) -> TenantId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        TenantId::from_bytes(bytes)
    }

    fn agent(number: u16) -> AgentId {
        AgentId::from_bytes(*tenant(number).as_bytes())
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_counted_together() {
        let meter = UsageMeter::default();
        let beyond = u16::try_from(ROWS_OF_TENANT_MAX).expect("a small number") + 9;
        for number in 0..beyond {
            meter.count_run((tenant(0), agent(number)), "m", RunStatus::Completed, &[]);
        }
        let rows = meter.usage_rows(Some(tenant(0)));
        assert_eq!(rows.len(), ROWS_OF_TENANT_MAX + 1);
        let rest: Vec<_> = rows.iter().filter(|row| row.agent.is_none()).collect();
        assert_eq!((rest.len(), rest[0].counts.runs.iter().sum::<u64>()), (1, 9));
        for number in 1..2 * u16::try_from(TENANTS_MAX).expect("a small number") {
            meter.count_run((tenant(number), agent(0)), "m", RunStatus::Failed, &[]);
        }
        let rows = meter.usage_rows(None);
        assert_eq!(
            rows.len(),
            ROWS_OF_TENANT_MAX + TENANTS_MAX + 1,
            "each tenant has one row, and one is all others"
        );
        assert_eq!(rows.iter().filter(|row| row.tenant.is_none()).count(), 1);
    }

    #[test]
    fn a_tenant_sees_its_own_rows_only() {
        let meter = UsageMeter::default();
        meter.count_run((tenant(1), agent(1)), "m", RunStatus::Completed, &[]);
        meter.count_run((tenant(2), agent(2)), "m", RunStatus::Failed, &[]);
        let rows = meter.usage_rows(Some(tenant(1)));
        assert_eq!(rows.iter().map(|row| row.tenant).collect::<Vec<_>>(), [Some(tenant(1))]);
    }
}
