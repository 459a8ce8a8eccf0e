//! Agents: register, list, show, pause, resume, terminate, delete. Changes of an agent are beside this file.

pub(crate) mod identity;
pub(crate) mod revision;

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::agent::{AgentResource, CreateAgent, DeletionReport, ModelAlias};
use dromia_contracts::agent::{self, AgentState};
use dromia_contracts::runs::NewAgent;
use dromia_contracts::store::PageRequest;
use dromia_contracts::{AgentId, ErrorCode, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::nearest_name::nearest_name;
use crate::wire;

/// The longest display name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 256;

/// The most labels of an agent.
const LABELS_MAX: usize = 64;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentListQuery {
    /// Only agents after this one; the `next` of the page before.
    after: Option<AgentId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_agents(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<AgentListQuery>,
) -> Answer<Json<ListPage<AgentResource>>> {
    let limit = page_limit(listing.limit)?;
    let page = PageRequest { after: listing.after, limit };
    let agents = core.ports.store.agents(&caller.scope, None, page).await?;
    let items = agents.into_iter().map(|agent| wire::api_agent(agent, None)).collect();
    Ok(Json(ListPage::from_limited(items, limit, |agent| agent.id.to_string())))
}

/// There are as many models as the configuration has, so one page holds them.
pub(crate) async fn list_model_aliases(State(core): State<Shared>) -> Json<ListPage<ModelAlias>> {
    let items = core.ports.runs.model_aliases().into_iter().map(|alias| ModelAlias { alias }).collect();
    Json(ListPage { items, next: None })
}

pub(crate) async fn create_agent(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(new): JsonBody<CreateAgent>,
) -> Answer<Response> {
    let display_name = new.display_name.unwrap_or_else(|| new.handle.to_string());
    check_display_name(&display_name)?;
    check_label_count(new.labels.len())?;
    let config = new.config.clone();
    let new = NewAgent { handle: new.handle, display_name, labels: new.labels, config: new.config };
    let shared = Shared::clone(&core);
    let created = core.ports.runtime.carried_through(async move {
        let created = shared.ports.runs.agent_create(caller.scope, new).await;
        // The handle may have named another agent a moment ago.
        shared.caches.agents.forget_all();
        created
    });
    let agent = created.await?;
    Ok((StatusCode::CREATED, Json(wire::api_agent(agent, Some(config)))).into_response())
}

pub(crate) async fn show_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Response> {
    let agent = find_agent(&core, &caller.scope, &name).await?;
    answer_with_revision(&core, &caller, agent).await
}

pub(crate) async fn delete_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<DeletionReport>> {
    let tenant = caller.scope.tenant();
    let agent = match find_agent(&core, &caller.scope, &name).await {
        Ok(agent) => agent,
        // The answer to the first request may have been lost: it is given again, for a while.
        Err(failure) if failure.code() == ErrorCode::AgentNotFound => {
            let erased = core.caches.erased.get(&(tenant, name)).ok_or(failure)?;
            return Ok(Json(DeletionReport { erased }));
        }
        Err(failure) => return Err(failure),
    };
    let shared = Shared::clone(&core);
    let erased = core.ports.runtime.carried_through(async move {
        let erased = shared.ports.runs.agent_delete(caller.scope, agent.id).await;
        shared.caches.agents.forget_all();
        if let Ok(erased) = &erased {
            for name in [agent.id.to_string(), agent.handle.to_string()] {
                shared.caches.erased.put((tenant, name), *erased);
            }
        }
        erased
    });
    Ok(Json(DeletionReport { erased: erased.await? }))
}

pub(crate) async fn pause_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<AgentResource>> {
    set_state(&core, caller, &name, AgentState::Paused).await
}

pub(crate) async fn resume_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<AgentResource>> {
    set_state(&core, caller, &name, AgentState::Running).await
}

pub(crate) async fn terminate_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<AgentResource>> {
    set_state(&core, caller, &name, AgentState::Terminated).await
}

async fn set_state(
    core: &GatewayCore,
    caller: Caller,
    name: &str,
    to: AgentState,
) -> Answer<Json<AgentResource>> {
    let agent = find_agent(core, &caller.scope, name).await?.id;
    let agent = core.ports.runs.agent_set_state(caller.scope, agent, to).await?;
    Ok(Json(wire::api_agent(agent, None)))
}

/// Answers with an agent, its configuration, and its revision as an ETag.
async fn answer_with_revision(
    core: &GatewayCore,
    caller: &Caller,
    agent: agent::AgentRecord,
) -> Answer<Response> {
    let revision = core.ports.store.agent_revision(&caller.scope, agent.id, agent.revision).await?;
    let tag = HeaderValue::try_from(format!("\"{}\"", agent.revision_number));
    let resource: AgentResource = wire::api_agent(agent, revision.map(|revision| revision.config));
    let mut response = Json(resource).into_response();
    if let Ok(tag) = tag {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

fn check_display_name(name: &str) -> Answer<()> {
    if name.trim().is_empty() || name.len() > DISPLAY_NAME_BYTES_MAX {
        let text = format!("`display_name` must be 1 to {DISPLAY_NAME_BYTES_MAX} bytes");
        return Err(ApiError::invalid_request(text));
    }
    Ok(())
}

fn check_label_count(labels: usize) -> Answer<()> {
    if labels > LABELS_MAX {
        return Err(ApiError::invalid_request(format!("an agent has at most {LABELS_MAX} labels")));
    }
    Ok(())
}

/// Finds an agent by its id or handle.
pub(crate) async fn find_agent(core: &GatewayCore, scope: &Scope, name: &str) -> Answer<agent::AgentRecord> {
    let found = match (name.parse(), name.parse()) {
        (Ok(id), _) => core.ports.store.agent(scope, id).await?,
        (Err(_), Ok(handle)) => core.ports.store.agent_by_handle(scope, &handle).await?,
        (Err(_), Err(_)) => None,
    };
    match found {
        Some(found) => Ok(found),
        None => Err(absent_agent(core, scope, name).await?),
    }
}

/// Says that no agent is called so, and which one of the caller's may have been meant: of one page, which is enough to help.
pub(crate) async fn absent_agent(core: &GatewayCore, scope: &Scope, name: &str) -> Answer<ApiError> {
    let absent = ApiError::not_found(ErrorCode::AgentNotFound, "agent", name);
    if name.parse::<AgentId>().is_ok() {
        return Ok(absent);
    }
    let page = PageRequest::first_page(PageRequest::<AgentId>::LIMIT_MAX);
    let agents = core.ports.store.agents(scope, None, page).await?;
    Ok(match nearest_name(name, agents.iter().map(|agent| agent.handle.as_str())) {
        Some(near) => absent.with_hint(format!("did you mean {near}? `dromia agent list` lists all agents")),
        None => absent,
    })
}

pub(crate) fn no_such_agent() -> ApiError {
    ApiError::new(ErrorCode::AgentNotFound, "there is no such agent")
}
