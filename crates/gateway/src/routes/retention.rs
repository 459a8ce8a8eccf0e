//! Retention: how long sessions stay, which are due, holds, and the deletion of sessions.
//!
//! What may be deleted the store decides. A request that deletes looks at a bounded number of sessions and says where to go on,
//! so one that is repeated after a lost answer goes on too.

use axum::Json;
use axum::extract::State;
use dromia_api::agent::DeletionReport;
use dromia_api::retention::{DuePage, DueSession, HeldSession, RetentionRun, RetentionState};
use dromia_api::session::SessionResource;
use dromia_contracts::retention::IdleSession;
use dromia_contracts::store::PageRequest;
use dromia_contracts::{ErrorCode, SessionId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::session;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams};
use crate::failure::Answer;
use crate::wire;

pub(crate) async fn show_retention(
    State(core): State<Shared>,
    caller: Caller,
) -> Answer<Json<RetentionState>> {
    let policy = core.ports.runs.retention_policy(caller.scope.clone()).await?;
    let page = PageRequest::first_page(PageRequest::<SessionId>::LIMIT_MAX);
    let held = core.ports.store.held_sessions(&caller.scope, page).await?.into_iter();
    let held = held.map(|(session, hold)| HeldSession { session, hold: wire::api_hold(&hold) });
    let hours = policy.sessions.map(|sessions| sessions.as_hours().unsigned_abs());
    let due_before = policy.idle_before(core.ports.runtime.clock.now());
    Ok(Json(RetentionState { sessions_hours: hours, due_before, held: held.collect() }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionQuery {
    /// Looks at sessions after this one only; the `next` of the answer before.
    after: Option<SessionId>,
}

pub(crate) async fn list_due(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(query): QueryParams<RetentionQuery>,
) -> Answer<Json<DuePage>> {
    let page = core.ports.runs.retention_page(caller.scope, query.after, false).await?;
    Ok(Json(DuePage { items: page.due.iter().map(api_due).collect(), next: page.next }))
}

pub(crate) async fn run_retention(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(query): QueryParams<RetentionQuery>,
) -> Answer<Json<RetentionRun>> {
    let page = core.ports.runs.retention_page(caller.scope, query.after, true).await?;
    let items = page.due.iter().map(api_due).collect();
    Ok(Json(RetentionRun { items, erased: page.erased, next: page.next }))
}

pub(crate) async fn set_hold(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<SessionResource>> {
    change_hold(&core, caller, &name, true).await
}

pub(crate) async fn end_hold(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<SessionResource>> {
    change_hold(&core, caller, &name, false).await
}

async fn change_hold(
    core: &GatewayCore,
    caller: Caller,
    name: &str,
    held: bool,
) -> Answer<Json<SessionResource>> {
    let found = session::find_session(core, &caller.scope, name).await?;
    core.ports.runs.session_hold_set(caller.scope.clone(), found.id, held).await?;
    session::session_resource(core, &caller.scope, found).await.map(Json)
}

pub(crate) async fn delete_session(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<DeletionReport>> {
    let tenant = caller.scope.tenant();
    let found = match session::find_session(&core, &caller.scope, &name).await {
        Ok(found) => found,
        // The answer to the first request may have been lost: it is given again, for a while.
        Err(failure) if failure.code() == ErrorCode::SessionNotFound => {
            let erased = core.caches.erased.get(&(tenant, name)).ok_or(failure)?;
            return Ok(Json(DeletionReport { erased }));
        }
        Err(failure) => return Err(failure),
    };
    let erased = core.ports.runs.session_delete(caller.scope, found.id).await?;
    core.caches.erased.put((tenant, found.id.to_string()), erased);
    Ok(Json(DeletionReport { erased }))
}

fn api_due(idle: &IdleSession) -> DueSession {
    let IdleSession { session, agent, children, runs, bytes, last_at } = *idle;
    DueSession { session, agent, children, runs, bytes, last_at }
}
