//! Files of an agent's workspace: list a directory, take a file out, put one in.
//!
//! Nothing is opened here: the port decides what a path leads to. A caller without the agent's tenant finds no agent. What is
//! put in is an act of the audit, which is durable before the answer.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::Response;
use dromia_api::ListPage;
use dromia_api::file::{FileResource, FileWritten};
use dromia_contracts::audit::AuditChange;
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::workspace_files::AgentWorkspace;
use dromia_contracts::{AgentId, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::find_agent;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, page_limit, read_shared};
use crate::failure::Answer;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileListQuery {
    /// The directory; the workspace itself where it is absent.
    path: Option<String>,
    /// Only names after this one; the `next` of the page before.
    after: Option<String>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_files(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(agent): PathSegments<String>,
    QueryParams(listing): QueryParams<FileListQuery>,
) -> Answer<Json<ListPage<FileResource>>> {
    let limit = page_limit(listing.limit)?;
    let (agent, reference) = find_workspace(&core, &caller.scope, &agent).await?;
    let workspace = AgentWorkspace { scope: &caller.scope, agent, reference: reference.as_ref() };
    let (path, after) = (listing.path.as_deref().unwrap_or("."), listing.after.unwrap_or_default());
    let names = core.ports.files.list_names(workspace, path, &after, limit).await?;
    let named = |found: dromia_contracts::workspace_files::WorkspaceName| FileResource {
        name: found.name,
        kind: found.kind,
        bytes: found.bytes,
    };
    Ok(Json(ListPage::from_limited(names.into_iter().map(named).collect(), limit, |file| file.name.clone())))
}

pub(crate) async fn get_file(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((agent, path)): PathSegments<(String, String)>,
) -> Answer<Response> {
    let (agent, reference) = find_workspace(&core, &caller.scope, &agent).await?;
    let workspace = AgentWorkspace { scope: &caller.scope, agent, reference: reference.as_ref() };
    let content = core.ports.files.read_whole(workspace, &path).await?;
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    // No browser shows it as a page of this server.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

pub(crate) async fn put_file(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((agent, path)): PathSegments<(String, String)>,
    request: Request,
) -> Answer<Json<FileWritten>> {
    let (agent, reference) = find_workspace(&core, &caller.scope, &agent).await?;
    let content = read_shared(request, &core).await?;
    let shared = Shared::clone(&core);
    let written = core.ports.runtime.carried_through(async move {
        let workspace = AgentWorkspace { scope: &caller.scope, agent, reference: reference.as_ref() };
        let key = shared.ports.runtime.ids.new_uuid().to_string();
        let bytes = content.len() as u64;
        let (path, content) = shared.ports.files.write_whole(workspace, &path, content, &key).await?;
        let act = AuditChange::FilePut { agent, path: path.clone(), content };
        shared.ports.audit.audit_act(&caller.scope, act, shared.ports.runtime.clock.now()).await?;
        Answer::Ok(FileWritten { path, bytes })
    });
    written.await.map(Json)
}

/// Finds an agent, and where it works.
async fn find_workspace(
    core: &GatewayCore,
    scope: &Scope,
    agent: &str,
) -> Answer<(AgentId, Option<WorkspaceReference>)> {
    let agent = find_agent(core, scope, agent).await?;
    let revision = core.ports.store.agent_revision(scope, agent.id, agent.revision).await?;
    Ok((agent.id, revision.and_then(|revision| revision.config.workspace)))
}
