//! Documents of an agent: list, show, write, remove. A change of one is a revision of the agent.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use dromia_api::ListPage;
use dromia_api::identity::{DocumentResource, WriteDocument};
use dromia_contracts::agent::{AgentConfig, AgentRecord};
use dromia_contracts::identity_document::{DocumentDigest, DocumentName};
use dromia_contracts::revision::{AgentChange, AgentEdit};
use dromia_contracts::{ErrorCode, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use super::find_agent;
use super::revision::{ExpectedRevision, apply_edit, find_revision};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments, QueryParams};
use crate::failure::{Answer, ApiError};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentQuery {
    /// The document as it was in this revision of the agent; without it, as it is now.
    #[schemars(range(min = 1))]
    revision: Option<u64>,
}

/// There are at most 256, so one page holds them.
pub(crate) async fn list_documents(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    QueryParams(query): QueryParams<DocumentQuery>,
) -> Answer<Json<ListPage<DocumentResource>>> {
    let agent = find_agent(&core, &caller.scope, &name).await?;
    let config = read_config(&core, &caller.scope, &agent, query.revision).await?;
    let resource =
        |(name, DocumentDigest { digest, bytes })| DocumentResource { name, bytes, digest, text: None };
    Ok(Json(ListPage { items: config.identity.into_iter().map(resource).collect(), next: None }))
}

pub(crate) async fn show_document(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((name, document)): PathSegments<(String, String)>,
    QueryParams(query): QueryParams<DocumentQuery>,
) -> Answer<Json<DocumentResource>> {
    let document = parse_name(&document)?;
    let agent = find_agent(&core, &caller.scope, &name).await?;
    let mut config = read_config(&core, &caller.scope, &agent, query.revision).await?;
    let absent = || {
        let text = format!("{} has no document {document}", agent.handle);
        ApiError::new(ErrorCode::DocumentNotFound, text)
    };
    let DocumentDigest { digest, bytes } = config.identity.remove(&document).ok_or_else(absent)?;
    let text = core.ports.store.pinned_text(&caller.scope, digest).await?.ok_or_else(absent)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Json(DocumentResource { name: document, bytes, digest, text: Some(text) }))
}

pub(crate) async fn write_document(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((name, document)): PathSegments<(String, String)>,
    expected: ExpectedRevision,
    JsonBody(write): JsonBody<WriteDocument>,
) -> Answer<Response> {
    edit_document(&core, caller, (name, document), expected, Some(write.text)).await
}

pub(crate) async fn remove_document(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(names): PathSegments<(String, String)>,
    expected: ExpectedRevision,
) -> Answer<Response> {
    edit_document(&core, caller, names, expected, None).await
}

async fn edit_document(
    core: &GatewayCore,
    caller: Caller,
    (name, document): (String, String),
    ExpectedRevision(expected): ExpectedRevision,
    text: Option<String>,
) -> Answer<Response> {
    let document = parse_name(&document)?;
    let agent = find_agent(core, &caller.scope, &name).await?;
    let edit = AgentEdit::Document { name: document, text };
    apply_edit(core, caller, &agent, AgentChange { expected, key: None, edit }).await
}

fn parse_name(document: &str) -> Answer<DocumentName> {
    document.parse().map_err(|error| ApiError::invalid_request(format!("{error}")))
}

/// Reads the configuration of an agent as it is, or as it was in a revision.
async fn read_config(
    core: &GatewayCore,
    scope: &Scope,
    agent: &AgentRecord,
    number: Option<u64>,
) -> Answer<AgentConfig> {
    let digest = match number {
        Some(number) => find_revision(core, scope, agent, number).await?.digest,
        None => agent.revision,
    };
    let kept = core.ports.store.agent_revision(scope, agent.id, digest).await?;
    Ok(kept.ok_or_else(super::no_such_agent)?.config)
}
