//! Sessions: list, show, transcript, custom state, and the file that carries a session in and out.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dromia_api::session::{SessionImport, SessionResource, StateEntry, StateWritten, TranscriptPage};
use dromia_api::{ListPage, OPEN_RUNS_HEADER, WAITING_INPUTS_HEADER};
use dromia_contracts::runs::ImportLabels;
use dromia_contracts::session::{InboxOwner, SessionRecord};
use dromia_contracts::store::{Mutation, PageRequest, StatePut, TailLimits, WriteBatch};
use dromia_contracts::{ErrorCode, Scope, SessionId, WriteId, session};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonValue, PathSegments, QueryParams, page_limit, parse_id, read_body};
use crate::failure::{Answer, ApiError, commit_receipt};
use crate::question::{read_question, read_questions};
use crate::session_range::{INPUTS_MAX, read_session_range};
use crate::{transcript, wire};

/// How much of a session's past a transcript shows.
const TAIL: TailLimits =
    TailLimits { after: 0, items: PageRequest::<()>::LIMIT_MAX, bytes: 4 << 20, until: None };

/// How many state entries are read at a time; a value may be long, so pages are short.
const STATE_READ: usize = 16;

/// A page of state ends with the entry that passes this many bytes.
const STATE_PAGE_BYTES: usize = 4 << 20;

/// The longest name of a copy of a file.
const COPY_BYTES_MAX: usize = 128;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionListQuery {
    /// Only sessions of this agent, by handle or id.
    agent: Option<String>,
    /// Only sessions after this one; the `next` of the page before.
    after: Option<SessionId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_sessions(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<SessionListQuery>,
) -> Answer<Json<ListPage<SessionResource>>> {
    let limit = page_limit(listing.limit)?;
    let agent = match &listing.agent {
        Some(name) => Some(super::agent::find_agent(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let page = PageRequest { after: listing.after, limit };
    let sessions = core.ports.store.sessions(&caller.scope, agent, page).await?;
    let owners: Vec<_> = sessions.iter().map(|session| InboxOwner::Session(session.id)).collect();
    let questions = read_questions(&core, &caller.scope, &owners).await?;
    let items = sessions.into_iter().zip(questions);
    let items = items.map(|(session, question)| wire::api_session(session, question)).collect();
    Ok(Json(ListPage::from_limited(items, limit, |session| session.id.to_string())))
}

pub(crate) async fn show_session(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
) -> Answer<Json<SessionResource>> {
    let session = find_session(&core, &caller.scope, &session).await?;
    session_resource(&core, &caller.scope, session).await.map(Json)
}

/// Describes one session, with its hold.
pub(super) async fn session_resource(
    core: &GatewayCore,
    scope: &Scope,
    session: SessionRecord,
) -> Answer<SessionResource> {
    let question = read_question(core, scope, InboxOwner::Session(session.id)).await?;
    let hold = core.ports.store.session_hold(scope, session.id).await?.as_ref().map(wire::api_hold);
    Ok(SessionResource { hold, ..wire::api_session(session, question) })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TranscriptRange {
    /// Begin with the input at this position and not with the oldest of the newest messages.
    #[schemars(range(min = 1))]
    from: Option<u64>,
    /// End with what followed the input at this position; at most 256 inputs are read.
    #[schemars(range(min = 1))]
    upto: Option<u64>,
}

pub(crate) async fn show_transcript(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
    QueryParams(range): QueryParams<TranscriptRange>,
) -> Answer<Json<TranscriptPage>> {
    if range.from.is_some() || range.upto.is_some() {
        let from = range.from.unwrap_or(1);
        let upto = range.upto.unwrap_or_else(|| from.saturating_add(INPUTS_MAX - 1));
        let part = read_session_range(&core, &caller.scope, parse_id(&session)?, (from, upto)).await?;
        return Ok(Json(transcript::fold_transcript(&part)?));
    }
    let tail = core.ports.store.session_tail(&caller.scope, parse_id(&session)?, TAIL).await?;
    Ok(Json(transcript::fold_transcript(&tail.ok_or_else(no_such_session)?)?))
}

pub(crate) async fn export_session(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
) -> Answer<Response> {
    let session = parse_id::<SessionId>(&session)?;
    let exported = core.ports.runs.export_session(caller.scope.clone(), session).await?;
    // Before the first byte: the audit names every caller that has the file.
    let at = core.ports.runtime.clock.now();
    core.ports.audit.audit_exported(&caller.scope, session, at).await?;
    let mut response = Response::new(Body::from(exported.file));
    let headers = response.headers_mut();
    headers.insert(OPEN_RUNS_HEADER, exported.open_runs.into());
    headers.insert(WAITING_INPUTS_HEADER, exported.waiting_inputs.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{session}.session\"")) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportInto {
    /// The agent that gets the session, by handle or id.
    agent: String,
    /// Whether the labels in the file are taken at their word, for which the caller vouches; an act in the audit.
    /// Without it nothing of the file is trusted.
    #[serde(default)]
    trust_labels: bool,
    /// The name of a further copy, at most 128 bytes. The same file, labels and name give the same session, so what broke
    /// off is simply sent again; another name gives another session.
    copy: Option<String>,
}

pub(crate) async fn import_session(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(into): QueryParams<ImportInto>,
    request: Request,
) -> Answer<Response> {
    if into.copy.as_ref().is_some_and(|name| name.len() > COPY_BYTES_MAX) {
        return Err(ApiError::invalid_request(format!(
            "the name of a copy has at most {COPY_BYTES_MAX} bytes"
        )));
    }
    let agent = super::agent::find_agent(&core, &caller.scope, &into.agent).await?.id;
    // A file is held whole in memory, so few are read at a time.
    let share = core.limits.imports.try_take(caller.scope.tenant()).ok_or_else(|| {
        ApiError::new(ErrorCode::Overloaded, "the server is reading as many files as it may at a time")
    })?;
    let file = read_body(request, &core, core.config.capacity.import_bytes_max).await?;
    let labels = if into.trust_labels { ImportLabels::Believed } else { ImportLabels::Doubted };
    let shared = Shared::clone(&core);
    // With its share: the file of a client that went away is held until its import ends.
    let imported = core.ports.runtime.carried_through(async move {
        let imported =
            shared.ports.runs.import_session(caller.scope, agent, file.into(), labels, into.copy).await;
        drop(share);
        imported
    });
    let session = imported.await?;
    Ok((StatusCode::CREATED, Json(SessionImport { session })).into_response())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateListing {
    /// Only entries after this name; the `next` of the page before.
    after: Option<String>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn state_list(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
    QueryParams(listing): QueryParams<StateListing>,
) -> Answer<Json<ListPage<StateEntry>>> {
    let limit = page_limit(listing.limit)?;
    let session = find_session(&core, &caller.scope, &session).await?.id;
    let mut after = listing.after;
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut is_whole = false;
    while !is_whole && items.len() < limit && bytes < STATE_PAGE_BYTES {
        let wanted = STATE_READ.min(limit - items.len());
        let page = PageRequest { after: after.as_deref(), limit: wanted };
        let entries = core.ports.store.session_state(&caller.scope, session, page).await?;
        is_whole = entries.len() < wanted;
        for entry in entries {
            bytes += entry.value.len();
            after = Some(entry.name.clone());
            items.push(wire::state_entry(entry)?);
        }
    }
    Ok(Json(ListPage { items, next: after.filter(|_| !is_whole) }))
}

pub(crate) async fn state_put(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((session, name)): PathSegments<(String, String)>,
    IfMatch(expected): IfMatch,
    JsonValue(value): JsonValue<Box<RawValue>>,
) -> Answer<Json<StateWritten>> {
    let value = Bytes::from(value.get().to_owned());
    if name.is_empty() || name.len() > StatePut::NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::invalid_request(format!(
            "the name must be 1 to {} bytes without control characters",
            StatePut::NAME_BYTES_MAX
        )));
    }
    if value.len() > StatePut::VALUE_BYTES_MAX {
        return Err(ApiError::new(
            ErrorCode::BodyTooLarge,
            format!("the value is longer than {} bytes", StatePut::VALUE_BYTES_MAX),
        ));
    }
    let session = find_session(&core, &caller.scope, &session).await?.id;
    let at = core.ports.runtime.clock.now();
    // Each request is a write of its own: only one of two that say the same at the same time finds its version.
    let write = WriteId::from_uuid(core.ports.runtime.ids.new_uuid());
    let put = StatePut { session, name: name.clone(), expected, value, at, write };
    let batch = WriteBatch::new(caller.scope.tenant()).wanted_by(caller.scope.actor(), put.at);
    let batch = batch.with_mutation(Mutation::StatePut(put));
    commit_receipt(core.ports.store.commit(batch).await)?;
    let version = match expected {
        Some(expected) => expected + 1,
        None => written_version(&core, &caller.scope, session, &name).await?,
    };
    Ok(Json(StateWritten { name, version }))
}

/// Reads the version back; after an unconditional write a later writer's version may be seen, which is as true.
async fn written_version(core: &GatewayCore, scope: &Scope, session: SessionId, name: &str) -> Answer<u64> {
    let entry = core.ports.store.state_entry(scope, session, name).await?;
    let entry =
        entry.ok_or_else(|| ApiError::new(ErrorCode::StateNotFound, "there is no such state entry"))?;
    Ok(entry.version)
}

/// The `If-Match` header: the version that must be there, 0 for none.
pub(crate) struct IfMatch(Option<u64>);

impl FromRequestParts<Shared> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Some(value) = parts.headers.get(IF_MATCH) else {
            return Ok(Self(None));
        };
        let version = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
        version.filter(|version| *version < u64::MAX).map(|version| Self(Some(version))).ok_or_else(|| {
            ApiError::invalid_request("If-Match must be a version, such as 3, or 0 for no entry")
        })
    }
}

pub(super) async fn find_session(
    core: &GatewayCore,
    scope: &Scope,
    session: &str,
) -> Answer<session::SessionRecord> {
    core.ports.store.session(scope, parse_id(session)?).await?.ok_or_else(no_such_session)
}

fn no_such_session() -> ApiError {
    ApiError::new(ErrorCode::SessionNotFound, "there is no such session")
}
