//! Sessions: list, show, transcript, custom state, and the file that carries a session in and out.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dromia_api::session::{Imported, Session, StateEntry, StateWritten, Transcript};
use dromia_api::{List, OPEN_RUNS_HEADER, WAITING_INPUTS_HEADER};
use dromia_contracts::runs::ImportLabels;
use dromia_contracts::store::{Batch, Mutation, Page, StatePut, TailLimits};
use dromia_contracts::{ErrorCode, Scope, SessionId, session};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{JsonBody, Params, Segments, id, page_limit, read_body};
use crate::failure::{Answer, Failure, committed};
use crate::{transcript, wire};

/// How much of a session's past a transcript shows.
const TAIL: TailLimits = TailLimits { items: Page::<()>::LIMIT_MAX, bytes: 4 << 20 };

/// How many state entries are read at a time; a value may be long, so pages are short.
const STATE_READ: usize = 16;

/// A page of state ends with the entry that passes this many bytes.
const STATE_PAGE_BYTES: usize = 4 << 20;

/// The longest name of a copy of a file.
const COPY_BYTES_MAX: usize = 128;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only sessions of this agent, by handle or id.
    agent: Option<String>,
    /// Only sessions after this one; the `next` of the page before.
    after: Option<SessionId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Session>>> {
    let limit = page_limit(listing.limit)?;
    let agent = match &listing.agent {
        Some(name) => Some(super::agent::find(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let page = Page { after: listing.after, limit };
    let sessions = core.ports.store.sessions(&caller.scope, agent, page).await?;
    let items = sessions.into_iter().map(wire::session).collect();
    Ok(Json(List::page(items, limit, |session| session.id.to_string())))
}

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(session): Segments<String>,
) -> Answer<Json<Session>> {
    Ok(Json(wire::session(find(&core, &caller.scope, &session).await?)))
}

pub(crate) async fn transcript(
    State(core): State<Shared>,
    caller: Caller,
    Segments(session): Segments<String>,
) -> Answer<Json<Transcript>> {
    let tail = core.ports.store.session_tail(&caller.scope, id(&session)?, TAIL).await?;
    Ok(Json(transcript::fold(&tail.ok_or_else(no_such_session)?)?))
}

pub(crate) async fn export(
    State(core): State<Shared>,
    caller: Caller,
    Segments(session): Segments<String>,
) -> Answer<Response> {
    let session = id::<SessionId>(&session)?;
    let exported = core.ports.runs.export(caller.scope.clone(), session).await?;
    // Before the first byte: whoever has the file is in the audit.
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
    /// Whether the labels in the file are taken at their word, for which whoever asks vouches; an act in the audit. Without
    /// it nothing of the file is trusted.
    #[serde(default)]
    trust_labels: bool,
    /// The name of a further copy, at most 128 bytes. The same file, labels and name give the same session, so what broke
    /// off is simply sent again; another name gives another session.
    copy: Option<String>,
}

pub(crate) async fn import(
    State(core): State<Shared>,
    caller: Caller,
    Params(into): Params<ImportInto>,
    request: Request,
) -> Answer<Response> {
    if into.copy.as_ref().is_some_and(|name| name.len() > COPY_BYTES_MAX) {
        return Err(Failure::invalid(format!("the name of a copy has at most {COPY_BYTES_MAX} bytes")));
    }
    let agent = super::agent::find(&core, &caller.scope, &into.agent).await?.id;
    // A file is held whole in memory, so few are read at a time.
    let share = core.imports.clone().try_acquire_owned().map_err(|_| {
        Failure::new(ErrorCode::Overloaded, "the server reads as many files as it may at a time")
    })?;
    let file = read_body(request, &core, core.config.import_bytes_max).await?;
    let labels = if into.trust_labels { ImportLabels::Believed } else { ImportLabels::Doubted };
    let shared = Shared::clone(&core);
    // With its share: the file of a client that went away is held until its import ends.
    let imported = core.ports.runtime.carried_through(async move {
        let imported = shared.ports.runs.import(caller.scope, agent, file.into(), labels, into.copy).await;
        drop(share);
        imported
    });
    let session = imported.await?;
    Ok((StatusCode::CREATED, Json(Imported { session })).into_response())
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
    Segments(session): Segments<String>,
    Params(listing): Params<StateListing>,
) -> Answer<Json<List<StateEntry>>> {
    let limit = page_limit(listing.limit)?;
    let session = find(&core, &caller.scope, &session).await?.id;
    let mut after = listing.after;
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut is_whole = false;
    while !is_whole && items.len() < limit && bytes < STATE_PAGE_BYTES {
        let wanted = STATE_READ.min(limit - items.len());
        let page = Page { after: after.as_deref(), limit: wanted };
        let entries = core.ports.store.state(&caller.scope, session, page).await?;
        is_whole = entries.len() < wanted;
        for entry in entries {
            bytes += entry.value.len();
            after = Some(entry.name.clone());
            items.push(wire::state_entry(entry)?);
        }
    }
    Ok(Json(List { items, next: after.filter(|_| !is_whole) }))
}

pub(crate) async fn state_put(
    State(core): State<Shared>,
    caller: Caller,
    Segments((session, name)): Segments<(String, String)>,
    IfMatch(expected): IfMatch,
    JsonBody(value): JsonBody<Box<RawValue>>,
) -> Answer<Json<StateWritten>> {
    let value = Bytes::from(value.get().to_owned());
    if name.is_empty() || name.len() > StatePut::NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Failure::invalid(format!(
            "the name must be 1 to {} bytes without control characters",
            StatePut::NAME_BYTES_MAX
        )));
    }
    if value.len() > StatePut::VALUE_BYTES_MAX {
        return Err(Failure::new(
            ErrorCode::BodyTooLarge,
            format!("the value is longer than {} bytes", StatePut::VALUE_BYTES_MAX),
        ));
    }
    let session = find(&core, &caller.scope, &session).await?.id;
    let at = core.ports.runtime.clock.now();
    let put = StatePut { session, name: name.clone(), expected, value, at };
    let batch = Batch::new(caller.scope.tenant()).wanted_by(caller.scope.actor(), put.at);
    let batch = batch.with(Mutation::StatePut(put));
    committed(core.ports.store.commit(batch).await)?;
    let version = match expected {
        Some(expected) => expected + 1,
        None => written_version(&core, &caller.scope, session, &name).await?,
    };
    Ok(Json(StateWritten { name, version }))
}

/// Reads the version back; after an unconditional write a later writer's version may be seen, which is as true.
async fn written_version(core: &Core, scope: &Scope, session: SessionId, name: &str) -> Answer<u64> {
    let entry = core.ports.store.state_entry(scope, session, name).await?;
    let entry = entry.ok_or_else(|| Failure::new(ErrorCode::StateNotFound, "no such state entry"))?;
    Ok(entry.version)
}

/// The `If-Match` header: the version that must be there, 0 for none.
pub(crate) struct IfMatch(Option<u64>);

impl FromRequestParts<Shared> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        let Some(value) = parts.headers.get(IF_MATCH) else {
            return Ok(Self(None));
        };
        let version = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
        version
            .filter(|version| *version < u64::MAX)
            .map(|version| Self(Some(version)))
            .ok_or_else(|| Failure::invalid("If-Match must be a version, such as 3, or 0 for none"))
    }
}

async fn find(core: &Core, scope: &Scope, session: &str) -> Answer<session::Session> {
    core.ports.store.session(scope, id(session)?).await?.ok_or_else(no_such_session)
}

fn no_such_session() -> Failure {
    Failure::new(ErrorCode::SessionNotFound, "no such session")
}
