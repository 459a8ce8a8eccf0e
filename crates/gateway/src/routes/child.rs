//! Branches and workers of a session: list them, show one, end what one does. More words for a worker are an event for its session.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::child::ChildResource;
use dromia_contracts::runs::{KillTarget, RunEndMode};
use dromia_contracts::session::{InboxOwner, SessionRecord};
use dromia_contracts::store::{PageRequest, RunFilter};
use dromia_contracts::task::{ChildSession, TaskState};
use dromia_contracts::{ErrorCode, Scope, SessionId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::session::find_session;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::question::read_questions;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChildListQuery {
    /// Only children after this one; the `next` of the page before.
    after: Option<SessionId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
    /// Only those that have not ended.
    #[serde(default)]
    open: bool,
}

pub(crate) async fn list_children(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
    QueryParams(listing): QueryParams<ChildListQuery>,
) -> Answer<Json<ListPage<ChildResource>>> {
    let limit = page_limit(listing.limit)?;
    let session = find_session(&core, &caller.scope, &session).await?;
    let page = PageRequest { after: listing.after, limit };
    let children = core.ports.store.session_children(&caller.scope, session.id, listing.open, page).await?;
    let items = child_resources(&core, &caller.scope, children).await?;
    Ok(Json(ListPage::from_limited(items, limit, |child| child.id.to_string())))
}

pub(crate) async fn show_child(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(child): PathSegments<String>,
) -> Answer<Json<ChildResource>> {
    let session = find_session(&core, &caller.scope, &child).await?;
    Ok(Json(find_child(&core, &caller.scope, &session).await?))
}

/// Ends the child's run after its current call; of one that no run took yet, nothing will be done.
pub(crate) async fn cancel_child(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(child): PathSegments<String>,
) -> Answer<Response> {
    let session = find_session(&core, &caller.scope, &child).await?;
    let found = find_child(&core, &caller.scope, &session).await?;
    if let Some(run) = found.run {
        core.ports.runs.end_run(caller.scope.clone(), run, RunEndMode::Cancel).await?;
    } else {
        let waits = KillTarget::Session(session.id);
        core.ports.runs.agent_kill(caller.scope.clone(), session.agent, waits).await?;
    }
    let told = find_child(&core, &caller.scope, &session).await?;
    Ok((StatusCode::ACCEPTED, Json(told)).into_response())
}

async fn find_child(core: &GatewayCore, scope: &Scope, session: &SessionRecord) -> Answer<ChildResource> {
    let Some(origin) = session.origin.as_deref().cloned() else {
        let text = format!("{} is the session of no branch and no worker", session.id);
        return Err(ApiError::new(ErrorCode::SessionNotFound, text)
            .with_hint("list those of a session with `dromia worker list`"));
    };
    let newest = RunFilter { session: Some(session.id), ..RunFilter::default() };
    let runs = core.ports.store.runs(scope, newest, PageRequest::first_page(1)).await?;
    let (id, agent, run) = (session.id, session.agent, runs.into_iter().next());
    let child = ChildSession { session: id, agent, origin, run };
    let found = child_resources(core, scope, vec![child]).await?.into_iter().next();
    found.ok_or_else(|| ApiError::new(ErrorCode::SessionNotFound, "there is no such session"))
}

/// Adds the first words of each task.
async fn child_resources(
    core: &GatewayCore,
    scope: &Scope,
    children: Vec<ChildSession>,
) -> Answer<Vec<ChildResource>> {
    let owners: Vec<_> = children.iter().map(|child| InboxOwner::Session(child.session)).collect();
    let tasks = read_questions(core, scope, &owners).await?;
    Ok(children.into_iter().zip(tasks).map(|(child, task)| child_resource(child, task)).collect())
}

fn child_resource(child: ChildSession, task: Option<String>) -> ChildResource {
    let ChildSession { session, agent, origin, run } = child;
    let status = run.as_ref().map(|run| run.head.status);
    ChildResource {
        id: session,
        kind: origin.kind,
        agent,
        parent_session: origin.session,
        parent: origin.run,
        call: origin.call,
        state: status.map_or(TaskState::Pending, TaskState::of_run),
        run: run.as_ref().map(|run| run.id),
        status,
        cost_micros: run.as_ref().map_or(0, |run| run.head.cost_micros),
        unpriced_calls: run.as_ref().map_or(0, |run| run.head.unpriced_calls),
        topic: origin.topic,
        role: origin.role,
        task,
    }
}
