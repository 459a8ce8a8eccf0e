//! The state of the node: liveness, readiness, metrics and status.
//!
//! Liveness and readiness need no token and therefore say nothing about any tenant, and no cause of a failure. What counts the
//! whole node tells one tenant what the others do, so it is for operators, and for a token where there is one tenant only; where
//! there are more, a token reads what its own tenant did. On the Unix socket the meters are read though the server is full.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use dromia_api::status::{
    ConfigRefused, ConfigStatus, DamageStatus, HealthResponse, LoadStatus, NodeStatus, PolicyRefused,
    PolicyStatus, ReadyResponse, StoreCounters, StoreStatus,
};
use dromia_contracts::active_config::{ActiveConfig, VaultReference};
use dromia_contracts::gate::ActivePolicy;
use dromia_contracts::store::{PageRequest, StoreDamage};
use dromia_contracts::{Actor, ErrorCode};
use jiff::{SignedDuration, Timestamp};

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::metrics::render_usage;

/// The most pages of tenants that a status counts.
const TENANT_PAGES_MAX: usize = 64;

/// Answers clients that ask for the address alone before they begin; it says that something listens.
pub(crate) async fn answer_probe() -> StatusCode {
    StatusCode::OK
}

pub(crate) async fn show_health(State(core): State<Shared>) -> Json<HealthResponse> {
    let health = core.ports.store.store_health();
    let store = if health.read_only.is_none() { "writable" } else { "read_only" };
    let damaged = health.damaged.is_some();
    Json(HealthResponse { status: "ok".to_owned(), store: store.to_owned(), damaged })
}

pub(crate) async fn check_ready(State(core): State<Shared>) -> Answer<Json<ReadyResponse>> {
    if core.phase.closing.is_cancelled() {
        return Err(ApiError::new(ErrorCode::ShuttingDown, "the server is stopping"));
    }
    // Damaged rows do not make the node unready: a request that needs none of them succeeds.
    if core.ports.store.store_health().read_only.is_some() {
        return Err(ApiError::new(ErrorCode::StoreReadOnly, "the store only answers reads"));
    }
    Ok(Json(ReadyResponse { status: "ready".to_owned() }))
}

pub(crate) async fn render_metrics(State(core): State<Shared>, caller: Caller) -> Answer<Response> {
    let sees_node = sees_node(&core, &caller).await?;
    let mut text =
        if sees_node { core.meters.render(&core) } else { core.meters.tenants.render(caller.scope.tenant()) };
    text.push_str(&render_usage(&core, &caller).await?);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Tells whether a caller may read what counts the whole node: an operator, and any reader where there is one tenant
/// only.
pub(super) async fn sees_node(core: &GatewayCore, caller: &Caller) -> Answer<bool> {
    if caller.is_operator() {
        return Ok(true);
    }
    Ok(core.ports.store.tenants(&core.operator, PageRequest::first_page(2)).await?.len() < 2)
}

pub(crate) async fn show_status(State(core): State<Shared>, caller: Caller) -> Answer<Json<NodeStatus>> {
    let sees_node = sees_node(&core, &caller).await?;
    let tenants = if caller.is_operator() { tenants_count(&core).await? } else { 1 };
    let load = core.ports.runs.engine_load();
    let health = core.ports.store.store_health();
    let stats = core.ports.store.store_stats();
    let config = match core.configuration.get().filter(|_| sees_node) {
        Some(reporter) => Some(config_status(&core, reporter.active_config()).await?),
        None => None,
    };
    let now = core.ports.runtime.clock.now();
    let uptime = now.duration_since(core.started_at);
    Ok(Json(NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: core.started_at,
        uptime_seconds: u64::try_from(uptime.as_secs()).unwrap_or_default(),
        draining: core.phase.closing.is_cancelled(),
        listening: core.tcp.get().filter(|_| caller.is_operator()).map(|address| {
            let scheme = if core.config.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{address}")
        }),
        tenants,
        load: sees_node.then_some(LoadStatus {
            active: load.active as u64,
            ready: load.ready as u64,
            active_max: load.active_max as u64,
        }),
        store: StoreStatus {
            writable: health.read_only.is_none(),
            read_only_cause: health.read_only.filter(|_| caller.is_operator()),
            damaged: health.damaged.map(|damage| damage_report(damage, now, &caller, sees_node)),
            counters: sees_node.then_some(StoreCounters {
                wal_bytes: health.wal_bytes,
                file_bytes: health.file_bytes,
                commits: stats.commits,
                batches: stats.batches,
                rows: stats.rows,
                writer_micros: stats.writer_micros,
                bytes_written: stats.bytes_written,
            }),
        },
        policy: visible_policy(&core, &caller),
        config,
    }))
}

/// Tells since when the store is known to be damaged. Where it is damaged may name what is another tenant's.
fn damage_report(damage: StoreDamage, now: Timestamp, caller: &Caller, sees_node: bool) -> DamageStatus {
    let since = SignedDuration::try_from(damage.ago).ok().and_then(|ago| now.checked_sub(ago).ok());
    let since = since.and_then(|since| Timestamp::from_second(since.as_second()).ok()).unwrap_or(now);
    let problem = Some(damage.problem).filter(|_| caller.is_operator());
    DamageStatus { since, met: sees_node.then_some(damage.met), problem }
}

/// Tells which policy counts for the caller. What lies in the home concerns those who may change it.
fn visible_policy(core: &GatewayCore, caller: &Caller) -> Option<PolicyStatus> {
    let ActivePolicy { digest, files, refused } = core.ports.gate.tenant_policy(caller.scope.tenant())?;
    let refused = refused.map(|refused| PolicyRefused { problem: refused.problem, since: refused.since });
    Some(if caller.is_operator() {
        PolicyStatus { digest, files, refused }
    } else {
        PolicyStatus { digest, files: Vec::new(), refused: None }
    })
}

/// Says which configuration counts, and what of the file does not.
async fn config_status(core: &GatewayCore, active: ActiveConfig) -> Answer<ConfigStatus> {
    let disabled = disabled_parts(core, &active).await?;
    let ActiveConfig { revision, digest, since, is_fallback, refused, pending, .. } = active;
    let refused = refused.map(|refused| ConfigRefused { problem: refused.problem, since: refused.since });
    Ok(ConfigStatus { revision, digest, since, is_fallback, refused, pending, disabled })
}

/// Lists what has no key: as the environment was at the start, and as the vault is now.
pub(super) async fn disabled_parts(core: &GatewayCore, active: &ActiveConfig) -> Answer<Vec<String>> {
    let (store, mut disabled) = (&core.ports.store, active.disabled.clone());
    for VaultReference { tenant, secret, missing } in &active.in_vault {
        let is_set = match store.tenant_by_handle(&core.operator, tenant).await? {
            Some(tenant) => {
                let scope = core.authority().issue_scope(tenant.id, Actor::new("operator"));
                store.secret(&scope, secret).await?.is_some()
            }
            None => false,
        };
        disabled.extend((!is_set).then(|| missing.clone()));
    }
    Ok(disabled)
}

/// Counts tenants page by page, up to the bound.
async fn tenants_count(core: &GatewayCore) -> Answer<u64> {
    let limit = PageRequest::<()>::LIMIT_MAX;
    let mut count = 0;
    let mut after = None;
    for _ in 0..TENANT_PAGES_MAX {
        let page = core.ports.store.tenants(&core.operator, PageRequest { after, limit }).await?;
        count += page.len() as u64;
        if page.len() < limit {
            break;
        }
        after = page.last().map(|tenant| tenant.id);
    }
    Ok(count)
}
