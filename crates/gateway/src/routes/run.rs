//! Runs: list, show, why, steer, and their journal as pages or as a stream.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::run::{JournalPage, RunExplanation, RunResource};
use dromia_contracts::entry::Entry;
use dromia_contracts::run::{self, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, RunFilter};
use dromia_contracts::{ErrorCode, RunId, Scope, SessionId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, accepts_event_stream, page_limit, parse_id};
use crate::failure::{Answer, ApiError};
use crate::question::{read_question, read_questions};
use crate::request::RequestId;
use crate::share::ConcurrencyPermit;
use crate::{journal_stream, wire};

/// How many entries are read at a time. An entry's body may be as long as a batch, so pages are short.
const READ_ENTRIES: usize = 16;

/// A page of a journal ends with the entry that passes this many bytes.
const PAGE_BYTES: usize = 4 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunListQuery {
    /// Only runs of this session.
    session: Option<SessionId>,
    /// Only runs of this agent, by handle or id.
    agent: Option<String>,
    /// Only runs with this status.
    status: Option<RunStatus>,
    /// Only runs after this one; the `next` of the page before.
    after: Option<RunId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_runs(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<RunListQuery>,
) -> Answer<Json<ListPage<RunResource>>> {
    let limit = page_limit(listing.limit)?;
    let agent = match &listing.agent {
        Some(name) => Some(super::agent::find_agent(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let filter = RunFilter { session: listing.session, agent, status: listing.status };
    let runs =
        core.ports.store.runs(&caller.scope, filter, PageRequest { after: listing.after, limit }).await?;
    let owners: Vec<_> = runs.iter().map(|run| InboxOwner::Run(run.id)).collect();
    let questions = read_questions(&core, &caller.scope, &owners).await?;
    let runs = runs.iter().zip(questions).map(|(run, question)| run_view(&core, run, question)).collect();
    Ok(Json(ListPage::from_limited(runs, limit, |run: &RunResource| run.id.to_string())))
}

fn run_view(core: &GatewayCore, run: &run::RunRecord, question: Option<String>) -> RunResource {
    wire::api_run(run, core.ports.runs.is_imported(run.session, run.id), question)
}

pub(super) async fn find_run_view(core: &GatewayCore, scope: &Scope, run: RunId) -> Answer<RunResource> {
    let run = find_run(core, scope, run).await?;
    let question = read_question(core, scope, InboxOwner::Run(run.id)).await?;
    // A run whose journal cannot be read is shown all the same.
    let first = core.ports.store.journal_entries(scope, run.id, 0, 1).await.unwrap_or_default();
    let workspace = first.first().and_then(|first| match first.decode() {
        Ok(Entry::RunStarted(started)) => started.workspace,
        _ => None,
    });
    Ok(RunResource { workspace, ..run_view(core, &run, question) })
}

pub(crate) async fn show_run(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
) -> Answer<Json<RunResource>> {
    Ok(Json(find_run_view(&core, &caller.scope, parse_id(&run)?).await?))
}

pub(crate) async fn explain_run(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
) -> Answer<Json<RunExplanation>> {
    let run: RunId = parse_id(&run)?;
    let why = core.ports.runs.explain_run(caller.scope.clone(), run).await?;
    Ok(Json(wire::api_why(run, why, caller.tenant_handle())))
}

pub(crate) async fn resume_run(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
) -> Answer<Response> {
    let submitted = core.ports.runs.resume_run(caller.scope, parse_id(&run)?).await?;
    Ok((StatusCode::ACCEPTED, Json(wire::event_accepted(&submitted))).into_response())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalReadQuery {
    /// Only entries after this number.
    after: Option<u64>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn read_journal(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
    QueryParams(reading): QueryParams<JournalReadQuery>,
    wants: JournalReadMode,
) -> Answer<Response> {
    let run = find_run(&core, &caller.scope, parse_id(&run)?).await?;
    let cursor = wants.last_event.or(reading.after).unwrap_or(0);
    if cursor > run.last_seq {
        return Err(ApiError::new(
            ErrorCode::CursorInFuture,
            format!("the cursor is {cursor}, but the last entry is {}", run.last_seq),
        ));
    }
    if wants.stream {
        return stream_journal(&core, caller, run.id, cursor, wants.request);
    }
    let limit = page_limit(reading.limit)?;
    Ok(Json(journal_page(&core, &caller.scope, &run, cursor, limit).await?).into_response())
}

async fn journal_page(
    core: &GatewayCore,
    scope: &Scope,
    run: &run::RunRecord,
    after: u64,
    limit: usize,
) -> Answer<JournalPage> {
    let mut page = JournalPage { entries: Vec::new(), last_seq: run.last_seq, status: run.head.status };
    let mut after = after;
    let mut bytes = 0;
    while page.entries.len() < limit && bytes < PAGE_BYTES {
        let wanted = READ_ENTRIES.min(limit - page.entries.len());
        let read = core.ports.store.journal_entries(scope, run.id, after, wanted).await?;
        let is_last = read.len() < wanted;
        for entry in read {
            after = entry.seq;
            bytes += entry.fields.len() + entry.body.as_ref().map_or(0, bytes::Bytes::len);
            page.entries.push(wire::api_entry(entry)?);
        }
        if is_last {
            break;
        }
    }
    // Entries may have been appended after the row was read; the page counts them as part of the journal.
    page.last_seq = page.last_seq.max(after);
    Ok(page)
}

fn stream_journal(
    core: &Shared,
    caller: Caller,
    run: RunId,
    cursor: u64,
    request: RequestId,
) -> Answer<Response> {
    let share = ConcurrencyPermit::acquire_stream(core, caller.request_payer())?;
    let body =
        Body::from_stream(journal_stream::stream_events(core.clone(), caller, run, cursor, share, request));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// In which form the journal is wanted, and from where.
pub(crate) struct JournalReadMode {
    stream: bool,
    last_event: Option<u64>,
    request: RequestId,
}

impl FromRequestParts<Shared> for JournalReadMode {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let stream = accepts_event_stream(&parts.headers);
        let last_event = match parts.headers.get("last-event-id") {
            None => None,
            Some(value) => {
                let seq = value.to_str().ok().and_then(|text| text.parse().ok());
                Some(seq.ok_or_else(|| {
                    ApiError::invalid_request("Last-Event-ID must be the number of an entry")
                })?)
            }
        };
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { stream, last_event, request })
    }
}

pub(super) async fn find_run(core: &GatewayCore, scope: &Scope, run: RunId) -> Answer<run::RunRecord> {
    let found = core.ports.store.run(scope, run).await?;
    found.ok_or_else(|| ApiError::new(ErrorCode::RunNotFound, format!("there is no run {run}")))
}

pub(crate) fn no_such_run() -> ApiError {
    ApiError::new(ErrorCode::RunNotFound, "there is no such run")
}
