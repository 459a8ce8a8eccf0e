//! Roles of workers: list and show those that are built in, and those that an agent has as documents `roles/NAME.md`.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::template::{RoleResource, RoleSource};
use dromia_contracts::identity_document::DocumentDigest;
use dromia_contracts::{ErrorCode, Scope};
use dromia_templates::{ROLES, find_role};
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::find_agent;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams};
use crate::failure::{Answer, ApiError};
use crate::nearest_name::nearest_name;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleQuery {
    /// The handle or id of an agent whose documents count as well; those of no agent where it is absent.
    agent: Option<String>,
}

/// An agent has at most 256 documents, so one page holds them.
pub(crate) async fn list_roles(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(query): QueryParams<RoleQuery>,
) -> Answer<Json<ListPage<RoleResource>>> {
    let own = read_own_roles(&core, &caller.scope, query.agent.as_deref()).await?;
    let replaced = |name: &str| own.iter().any(|(own, _)| own == name);
    let built_in = ROLES.iter().filter(|role| !replaced(role.name)).map(|role| RoleResource {
        name: role.name.to_owned(),
        source: RoleSource::BuiltIn,
        summary: Some(role.summary.to_owned()),
        text: None,
    });
    let own_roles = own.iter().map(|(name, _)| RoleResource {
        name: name.clone(),
        source: RoleSource::Agent,
        summary: None,
        text: None,
    });
    let mut items: Vec<_> = built_in.chain(own_roles).collect();
    items.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(ListPage { items, next: None }))
}

pub(crate) async fn show_role(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    QueryParams(query): QueryParams<RoleQuery>,
) -> Answer<Json<RoleResource>> {
    let own = read_own_roles(&core, &caller.scope, query.agent.as_deref()).await?;
    let absent = || ApiError::not_found(ErrorCode::RoleNotFound, "role", &name);
    if let Some((_, document)) = own.iter().find(|(own, _)| *own == name) {
        let text = core.ports.store.pinned_text(&caller.scope, document.digest).await?.ok_or_else(absent)?;
        let text = Some(String::from_utf8_lossy(&text).into_owned());
        return Ok(Json(RoleResource { name, source: RoleSource::Agent, summary: None, text }));
    }
    let Some(role) = find_role(&name) else {
        let known = ROLES.iter().map(|role| role.name).chain(own.iter().map(|(own, _)| own.as_str()));
        return Err(match nearest_name(&name, known) {
            Some(near) => {
                absent().with_hint(format!("did you mean {near}? `dromia role list` lists all roles"))
            }
            None => absent(),
        });
    };
    let (summary, text) = (Some(role.summary.to_owned()), Some(role.text.to_owned()));
    Ok(Json(RoleResource { name, source: RoleSource::BuiltIn, summary, text }))
}

/// Reads which documents of an agent are roles.
async fn read_own_roles(
    core: &GatewayCore,
    scope: &Scope,
    agent: Option<&str>,
) -> Answer<Vec<(String, DocumentDigest)>> {
    let Some(agent) = agent else { return Ok(Vec::new()) };
    let agent = find_agent(core, scope, agent).await?;
    let revision = core.ports.store.agent_revision(scope, agent.id, agent.revision).await?;
    let documents = revision.map(|revision| revision.config.identity).unwrap_or_default();
    let roles = documents.iter().filter_map(|(name, document)| Some((name.role()?.to_string(), *document)));
    Ok(roles.collect())
}
