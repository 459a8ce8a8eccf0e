//! Runs: list, show, why, steer, and their journal as pages or as a stream.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dromia_api::List;
use dromia_api::run::{JournalPage, Run, Why};
use dromia_contracts::run::{self, RunStatus};
use dromia_contracts::runs::End;
use dromia_contracts::store::{Page, RunFilter};
use dromia_contracts::{ErrorCode, RunId, Scope, SessionId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{Params, Segments, id, page_limit};
use crate::failure::{Answer, Failure};
use crate::request::RequestId;
use crate::share::Share;
use crate::{follow, wire};

/// How many entries are read at a time. An entry's body may be as long as a batch, so pages are short.
const READ_ENTRIES: usize = 16;

/// A page of a journal ends with the entry that passes this many bytes.
const PAGE_BYTES: usize = 4 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only runs of this session.
    session: Option<SessionId>,
    /// Only runs of this agent, by handle or id.
    agent: Option<String>,
    /// Only runs that stand so.
    status: Option<RunStatus>,
    /// Only runs after this one; the `next` of the page before.
    after: Option<RunId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Run>>> {
    let limit = page_limit(listing.limit)?;
    let agent = match &listing.agent {
        Some(name) => Some(super::agent::find(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let filter = RunFilter { session: listing.session, agent, status: listing.status };
    let runs = core.ports.store.runs(&caller.scope, filter, Page { after: listing.after, limit }).await?;
    let runs = runs.iter().map(|run| shown(&core, run)).collect();
    Ok(Json(List::page(runs, limit, |run: &Run| run.id.to_string())))
}

fn shown(core: &Core, run: &run::Run) -> Run {
    wire::run(run, core.ports.runs.is_imported(run.session, run.id))
}

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(run): Segments<String>,
) -> Answer<Json<Run>> {
    Ok(Json(shown(&core, &find(&core, &caller.scope, id(&run)?).await?)))
}

pub(crate) async fn why(
    State(core): State<Shared>,
    caller: Caller,
    Segments(run): Segments<String>,
) -> Answer<Json<Why>> {
    let run: RunId = id(&run)?;
    let why = core.ports.runs.why(caller.scope.clone(), run).await?;
    Ok(Json(wire::why(run, why, caller.tenant_handle())))
}

pub(crate) async fn resume(
    State(core): State<Shared>,
    caller: Caller,
    Segments(run): Segments<String>,
) -> Answer<Response> {
    let submitted = core.ports.runs.resume(caller.scope, id(&run)?).await?;
    Ok((StatusCode::ACCEPTED, Json(wire::accepted(&submitted))).into_response())
}

pub(crate) async fn cancel(
    State(core): State<Shared>,
    caller: Caller,
    Segments(run): Segments<String>,
) -> Answer<Response> {
    end(&core, caller, &run, End::Cancel).await
}

pub(crate) async fn terminate(
    State(core): State<Shared>,
    caller: Caller,
    Segments(run): Segments<String>,
) -> Answer<Response> {
    end(&core, caller, &run, End::Terminate).await
}

/// Asks a run to end and answers how it stands; it may take until its next unit border.
async fn end(core: &Core, caller: Caller, run: &str, end: End) -> Answer<Response> {
    let run = id(run)?;
    core.ports.runs.end(caller.scope.clone(), run, end).await?;
    let run = find(core, &caller.scope, run).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(core, &run))).into_response())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reading {
    /// Only entries after this number.
    after: Option<u64>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn journal(
    State(core): State<Shared>,
    caller: Caller,
    Segments(run): Segments<String>,
    Params(reading): Params<Reading>,
    wants: Wants,
) -> Answer<Response> {
    let run = find(&core, &caller.scope, id(&run)?).await?;
    let cursor = wants.last_event.or(reading.after).unwrap_or(0);
    if cursor > run.last_seq {
        return Err(Failure::new(
            ErrorCode::CursorInFuture,
            format!("the cursor is {cursor}, and the last entry is {}", run.last_seq),
        ));
    }
    if wants.stream {
        return stream(&core, caller, run.id, cursor, wants.request);
    }
    let limit = page_limit(reading.limit)?;
    Ok(Json(page(&core, &caller.scope, &run, cursor, limit).await?).into_response())
}

async fn page(core: &Core, scope: &Scope, run: &run::Run, after: u64, limit: usize) -> Answer<JournalPage> {
    let mut page = JournalPage { entries: Vec::new(), last_seq: run.last_seq, status: run.head.status };
    let mut after = after;
    let mut bytes = 0;
    while page.entries.len() < limit && bytes < PAGE_BYTES {
        let wanted = READ_ENTRIES.min(limit - page.entries.len());
        let read = core.ports.store.journal(scope, run.id, after, wanted).await?;
        let is_last = read.len() < wanted;
        for entry in read {
            after = entry.seq;
            bytes += entry.fields.len() + entry.body.as_ref().map_or(0, bytes::Bytes::len);
            page.entries.push(wire::entry(entry)?);
        }
        if is_last {
            break;
        }
    }
    // Entries may have been appended after the row was read; they are told as part of the journal.
    page.last_seq = page.last_seq.max(after);
    Ok(page)
}

fn stream(core: &Shared, caller: Caller, run: RunId, cursor: u64, request: RequestId) -> Answer<Response> {
    let share = Share::stream(core, caller.spender())?;
    let body = Body::from_stream(follow::events(core.clone(), caller, run, cursor, share, request));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// In which form the journal is wanted, and from where.
pub(crate) struct Wants {
    stream: bool,
    last_event: Option<u64>,
    request: RequestId,
}

impl FromRequestParts<Shared> for Wants {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let accepted = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let stream = accepted
            .flat_map(|value| value.split(','))
            .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"));
        let last_event = match parts.headers.get("last-event-id") {
            None => None,
            Some(value) => {
                let seq = value.to_str().ok().and_then(|text| text.parse().ok());
                Some(seq.ok_or_else(|| Failure::invalid("Last-Event-ID must be the number of an entry"))?)
            }
        };
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { stream, last_event, request })
    }
}

pub(super) async fn find(core: &Core, scope: &Scope, run: RunId) -> Answer<run::Run> {
    let found = core.ports.store.run(scope, run).await?;
    found.ok_or_else(|| Failure::new(ErrorCode::RunNotFound, format!("there is no run {run}")))
}

pub(crate) fn no_such_run() -> Failure {
    Failure::new(ErrorCode::RunNotFound, "no such run")
}
