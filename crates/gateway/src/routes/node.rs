//! How the node stands: liveness, readiness, metrics and status.
//!
//! Liveness and readiness need no token and therefore say nothing about any tenant, and no cause of a failure. The meters
//! count the whole node and name no tenant; how busy a node is concerns those whom it serves, so they need a token that
//! may read. On the Unix socket they are read though the house is full.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use dromia_api::status::{Damaged, Health, Load, Policy, PolicyRefused, Ready, Status, Store};
use dromia_contracts::ErrorCode;
use dromia_contracts::gate::PolicyStanding;
use dromia_contracts::store::{Damage, Page};
use jiff::{SignedDuration, Timestamp};

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::failure::{Answer, Failure};

/// The most pages of tenants that a status counts.
const TENANT_PAGES_MAX: usize = 64;

pub(crate) async fn health(State(core): State<Shared>) -> Json<Health> {
    let health = core.ports.store.health();
    let store = if health.read_only.is_none() { "writable" } else { "read_only" };
    let damaged = health.damaged.is_some();
    Json(Health { status: "ok".to_owned(), store: store.to_owned(), damaged })
}

pub(crate) async fn ready(State(core): State<Shared>) -> Answer<Json<Ready>> {
    if core.phase.closing.is_cancelled() {
        return Err(Failure::new(ErrorCode::ShuttingDown, "the server is draining"));
    }
    // Damage holds nobody up who does not need what is damaged.
    if core.ports.store.health().read_only.is_some() {
        return Err(Failure::new(ErrorCode::StoreReadOnly, "the store answers reads only"));
    }
    Ok(Json(Ready { status: "ready".to_owned() }))
}

pub(crate) async fn metrics(State(core): State<Shared>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], core.meters.render(&core)).into_response()
}

pub(crate) async fn status(State(core): State<Shared>, caller: Caller) -> Answer<Json<Status>> {
    let tenants = if caller.is_operator() { tenants_count(&core).await? } else { 1 };
    let load = core.ports.runs.load();
    let health = core.ports.store.health();
    let stats = core.ports.store.stats();
    let now = core.ports.runtime.clock.now();
    let uptime = now.duration_since(core.started_at);
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: core.started_at,
        uptime_seconds: u64::try_from(uptime.as_secs()).unwrap_or_default(),
        draining: core.phase.closing.is_cancelled(),
        listening: core.tcp.get().filter(|_| caller.is_operator()).map(|address| {
            let scheme = if core.config.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{address}")
        }),
        tenants,
        load: Load {
            active: load.active as u64,
            ready: load.ready as u64,
            active_max: load.active_max as u64,
        },
        store: Store {
            writable: health.read_only.is_none(),
            read_only_cause: health.read_only.filter(|_| caller.is_operator()),
            damaged: health.damaged.map(|damage| damaged(damage, now, &caller)),
            wal_bytes: health.wal_bytes,
            file_bytes: health.file_bytes,
            commits: stats.commits,
            batches: stats.batches,
            rows: stats.rows,
            writer_micros: stats.writer_micros,
            bytes_written: stats.bytes_written,
        },
        policy: policy(&core, &caller),
    }))
}

/// Tells since when the store is known to be damaged. Where it is damaged may name what is another tenant's.
fn damaged(damage: Damage, now: Timestamp, caller: &Caller) -> Damaged {
    let since = SignedDuration::try_from(damage.ago).ok().and_then(|ago| now.checked_sub(ago).ok());
    let since = since.and_then(|since| Timestamp::from_second(since.as_second()).ok()).unwrap_or(now);
    let problem = Some(damage.problem).filter(|_| caller.is_operator());
    Damaged { since, met: damage.met, problem }
}

/// Tells which policy counts for the caller. What lies in the home concerns those who may change it.
fn policy(core: &Core, caller: &Caller) -> Option<Policy> {
    let PolicyStanding { digest, files, refused } = core.ports.gate.policy(caller.scope.tenant())?;
    let refused = refused.map(|refused| PolicyRefused { problem: refused.problem, since: refused.since });
    Some(if caller.is_operator() {
        Policy { digest, files, refused }
    } else {
        Policy { digest, files: Vec::new(), refused: None }
    })
}

/// Counts tenants page by page, up to the bound.
async fn tenants_count(core: &Core) -> Answer<u64> {
    let limit = Page::<()>::LIMIT_MAX;
    let mut count = 0;
    let mut after = None;
    for _ in 0..TENANT_PAGES_MAX {
        let page = core.ports.store.tenants(&core.operator, Page { after, limit }).await?;
        count += page.len() as u64;
        if page.len() < limit {
            break;
        }
        after = page.last().map(|tenant| tenant.id);
    }
    Ok(count)
}
