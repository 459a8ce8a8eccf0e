//! What a tenant's own requests came to: all that a token sees of the meters where other tenants are served too. What its runs cost,
//! `/v1/cost` says.
//!
//! Bound: [`TENANTS_MAX`] tenants are counted since the start; those that come after them read zeroes. Only callers that were let
//! in are counted, so nothing but a new tenant adds an entry.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use dromia_contracts::TenantId;

/// The most tenants that are counted.
const TENANTS_MAX: usize = 10_000;

/// The classes of answers, in the order in which they are counted.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The counters of one tenant since the start.
#[derive(Debug, Clone, Copy, Default)]
struct TenantCounts {
    requests: [u64; CLASSES.len()],
}

/// The counters of each tenant.
#[derive(Debug, Default)]
pub(crate) struct TenantMeters(Mutex<HashMap<TenantId, TenantCounts>>);

impl TenantMeters {
    /// Counts an answered request of a tenant.
    pub(crate) fn count_answer(&self, tenant: TenantId, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        self.update_counts(tenant, |counts| counts.requests[class] += 1);
    }

    /// Returns the text that Prometheus reads, of one tenant.
    pub(crate) fn render(&self, tenant: TenantId) -> String {
        let counts = self.lock().get(&tenant).copied().unwrap_or_default();
        let mut text = String::from(
            "# HELP dromia_tenant_http_requests_total Answered requests of this tenant.\n\
             # TYPE dromia_tenant_http_requests_total counter\n",
        );
        // Writing to a string has no failing case.
        for (class, requests) in CLASSES.iter().zip(counts.requests) {
            let _ = writeln!(text, "dromia_tenant_http_requests_total{{class=\"{class}\"}} {requests}");
        }
        text
    }

    fn update_counts(&self, tenant: TenantId, count: impl FnOnce(&mut TenantCounts)) {
        let mut tenants = self.lock();
        if tenants.len() < TENANTS_MAX || tenants.contains_key(&tenant) {
            count(tenants.entry(tenant).or_default());
        }
    }

    // A panic under the lock cannot leave a count half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, TenantCounts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_metrics_are_bounded_and_separate_for_each_tenant() {
        let meters = TenantMeters::default();
        let tenant = |number: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            TenantId::from_bytes(bytes)
        };
        for number in 0..TENANTS_MAX + 9 {
            meters.count_answer(tenant(number), StatusCode::OK);
        }
        meters.count_answer(tenant(1), StatusCode::NOT_FOUND);
        assert_eq!(meters.lock().len(), TENANTS_MAX);
        let requests = |number: usize, class: &str| {
            let name = format!("dromia_tenant_http_requests_total{{class=\"{class}\"}} ");
            meters
                .render(tenant(number))
                .lines()
                .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
        };
        assert_eq!((requests(0, "4xx"), requests(1, "4xx")), (Some(0), Some(1)));
        assert_eq!((requests(0, "2xx"), requests(TENANTS_MAX + 1, "2xx")), (Some(1), Some(0)));
    }
}
