//! Revisions of an agent: change it, go back, list what it was, give it another handle.
//!
//! The engine decides what a change may say; here a request becomes one, and a race becomes a refusal that shows both sides.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::response::Response;
use dromia_api::agent::{RenameAgent, RevertAgent, RevisionResource};
use dromia_api::{AgentPatch, ListPage};
use dromia_contracts::agent::AgentRecord;
use dromia_contracts::revision::{AgentChange, AgentEdit, RevisionKey, RevisionRecord};
use dromia_contracts::store::PageRequest;
use dromia_contracts::{Digest, ErrorCode, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{answer_with_revision, check_display_name, check_label_count, find_agent};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::idempotency_key::IdempotencyKey;
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevisionListQuery {
    /// Only revisions before this one; the `next` of the page before.
    after: Option<u64>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

/// The `If-Match` header: the number of the one revision that may be changed, if one is named.
pub(crate) struct ExpectedRevision(pub(super) Option<u64>);

impl FromRequestParts<Shared> for ExpectedRevision {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        match bare.parse() {
            Ok(number) => Ok(Self(Some(number))),
            Err(_) => Err(ApiError::invalid_request(
                "If-Match must be the number of one revision in quotes, such as \"3\"",
            )
            .with_hint("the agent's `revision` and its ETag header say it")),
        }
    }
}

pub(crate) async fn change_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    expected: ExpectedRevision,
    key: IdempotencyKey,
    JsonBody(patch): JsonBody<AgentPatch>,
) -> Answer<Response> {
    if let Some(name) = &patch.display_name {
        check_display_name(name)?;
    }
    let agent = find_agent(&core, &caller.scope, &name).await?;
    check_label_count(patch.merge_labels(&agent.labels).len())?;
    let key = revision_key(key, &caller, expected.0, &patch);
    let edit = AgentEdit::Merge(Box::new(patch));
    apply_edit(&core, caller, &agent, AgentChange { expected: expected.0, key, edit }).await
}

pub(crate) async fn revert_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    expected: ExpectedRevision,
    key: IdempotencyKey,
    JsonBody(back): JsonBody<RevertAgent>,
) -> Answer<Response> {
    let agent = find_agent(&core, &caller.scope, &name).await?;
    let key = revision_key(key, &caller, expected.0, &back);
    let edit = AgentEdit::Revert(back.revision);
    apply_edit(&core, caller, &agent, AgentChange { expected: expected.0, key, edit }).await
}

pub(crate) async fn rename_agent(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    JsonBody(to): JsonBody<RenameAgent>,
) -> Answer<Response> {
    let agent = find_agent(&core, &caller.scope, &name).await?;
    let (shared, scope) = (Shared::clone(&core), caller.scope.clone());
    let renamed = core.ports.runtime.carried_through(async move {
        let renamed = shared.ports.runs.agent_rename(scope, agent.id, to.handle).await;
        // Both handles may have named another agent a moment ago.
        shared.caches.agents.forget_all();
        renamed
    });
    answer_with_revision(&core, &caller, renamed.await?).await
}

pub(crate) async fn list_revisions(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    QueryParams(listing): QueryParams<RevisionListQuery>,
) -> Answer<Json<ListPage<RevisionResource>>> {
    let limit = page_limit(listing.limit)?;
    let agent = find_agent(&core, &caller.scope, &name).await?;
    let page = PageRequest { after: listing.after, limit };
    let revisions = core.ports.store.agent_revisions(&caller.scope, agent.id, page).await?;
    let items = revisions.into_iter().map(|revision| wire::api_revision(revision, None)).collect();
    Ok(Json(ListPage::from_limited(items, limit, |revision: &RevisionResource| revision.number.to_string())))
}

pub(crate) async fn show_revision(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((name, number)): PathSegments<(String, u64)>,
) -> Answer<Json<RevisionResource>> {
    let agent = find_agent(&core, &caller.scope, &name).await?;
    let found = find_revision(&core, &caller.scope, &agent, number).await?;
    let kept = core.ports.store.agent_revision(&caller.scope, agent.id, found.digest).await?;
    let config = kept.ok_or_else(|| absent_revision(&agent, number))?.config;
    Ok(Json(wire::api_revision(found, Some(config))))
}

/// Finds a revision of an agent by its number.
pub(super) async fn find_revision(
    core: &GatewayCore,
    scope: &Scope,
    agent: &AgentRecord,
    number: u64,
) -> Answer<RevisionRecord> {
    let page = PageRequest { after: Some(number.saturating_add(1)), limit: 1 };
    let found = core.ports.store.agent_revisions(scope, agent.id, page).await?;
    let found = found.into_iter().find(|revision| revision.number == number);
    found.ok_or_else(|| absent_revision(agent, number))
}

fn absent_revision(agent: &AgentRecord, number: u64) -> ApiError {
    let text = format!("{} has no revision {number}", agent.handle);
    ApiError::new(ErrorCode::RevisionNotFound, text)
}

/// Makes the key of a change: what is asked, by whom and of which revision belongs to it.
fn revision_key(
    key: IdempotencyKey,
    caller: &Caller,
    expected: Option<u64>,
    asked: &impl Serialize,
) -> Option<RevisionKey> {
    // Strings, lists and numbers only, so serialization has no failing case.
    let bytes = serde_json::to_vec(&(caller.scope.actor(), expected, asked)).unwrap_or_default();
    let request = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    key.into_text().map(|key| RevisionKey { key, request })
}

pub(super) async fn apply_edit(
    core: &GatewayCore,
    caller: Caller,
    agent: &AgentRecord,
    change: AgentChange,
) -> Answer<Response> {
    let changed = core.ports.runs.agent_change(caller.scope.clone(), agent.id, change).await?;
    answer_with_revision(core, &caller, changed).await
}
