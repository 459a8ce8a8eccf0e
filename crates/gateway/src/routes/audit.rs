//! The audit: records by page, as a stream and as a signed file, and why one of them is as it is.
//!
//! Records are read off the tenant's chain in its order. A page ends with the item that fills it, or after so many items
//! were looked at; either way it names the place where the next one begins.

mod explain;
mod export;
mod newest;
mod record;
mod tail;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use dromia_api::List;
use dromia_api::audit::{Decided, Explained, Record};
use dromia_contracts::audit::{AuditCursor, AuditFilter, AuditItem, AuditWhat, Change};
use dromia_contracts::entry::Entry;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::ReadError;
use dromia_contracts::{ErrorCode, RunId, Scope};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{Params, Segments, page_limit};
use crate::failure::{Answer, Failure};
use crate::request::RequestId;
use crate::share::Share;

/// How many reads of the chain one page may take.
const READS_MAX: usize = 32;

/// How many items are read at a time.
const READ_ITEMS: usize = 128;

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only records after this place; the `next` of the page before. With `newest` only those before it.
    after: Option<String>,
    /// The newest first; not of a stream.
    #[serde(default)]
    newest: bool,
    /// About how many records, from 1 to 256; 50 where it is absent. One entry of a journal may be several records, and
    /// is never torn.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
    /// Only what concerns this agent, by handle or id.
    agent: Option<String>,
    /// Only records of this run.
    run: Option<RunId>,
    /// Only records of this kind.
    kind: Option<String>,
    /// Only what this actor did: changes, and the beginnings of the runs that its inputs began.
    actor: Option<String>,
    /// Only what was decided so.
    decision: Option<Decided>,
    /// Only what happened at this time or later; a time, or how long ago, such as 24h.
    since: Option<String>,
    /// Only what happened before this time; a time, or how long ago.
    until: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exporting {
    /// Only what concerns this agent, by handle or id.
    agent: Option<String>,
    /// Only records of this run.
    run: Option<RunId>,
    /// Only records of this kind.
    kind: Option<String>,
    /// Only what this actor did: changes, and the beginnings of the runs that its inputs began.
    actor: Option<String>,
    /// Only what was decided so.
    decision: Option<Decided>,
    /// Only what happened at this time or later; a time, or how long ago, such as 24h.
    since: Option<String>,
    /// Only what happened before this time; a time, or how long ago.
    until: Option<String>,
}

/// Which records are wanted, checked.
#[derive(Debug, Clone)]
struct Wanted {
    filter: AuditFilter,
    kind: Option<String>,
    actor: Option<String>,
    decision: Option<Decided>,
    until: Option<Timestamp>,
}

impl Wanted {
    async fn of(core: &Core, scope: &Scope, asked: Exporting) -> Answer<Self> {
        let agent = match &asked.agent {
            Some(name) => Some(super::agent::find(core, scope, name).await?.id),
            None => None,
        };
        let now = core.ports.runtime.clock.now();
        let since = asked.since.as_deref().map(|since| super::cost::begin(now, since)).transpose()?;
        let until = asked.until.as_deref().map(|until| {
            super::cost::begin(now, until).map_err(|_| {
                Failure::invalid(
                    "`until` must be a time such as 2026-01-02T00:00:00Z, or how long ago, such as 24h",
                )
            })
        });
        let until = until.transpose()?;
        let filter = AuditFilter { agent, run: asked.run, since };
        let Exporting { kind, actor, decision, .. } = asked;
        if let Some(kind) = kind.as_deref().filter(|kind| !is_kind(kind)) {
            // Nothing would ever be found, and nothing is what somebody may hope for.
            let text = format!("`kind`: no record is of the kind {kind:?}");
            return Err(Failure::invalid(text).at("kind").with_hint(
                "they are those of journals, such as tool_started, and of changes, such as token_created: docs/audit.md",
            ));
        }
        Ok(Self { filter, kind, actor, decision, until })
    }

    /// Judges what the chain does not.
    fn takes(&self, record: &Record) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == record.kind)
            && self.actor.as_ref().is_none_or(|actor| Some(actor) == record.actor.as_ref())
            && self.decision.is_none_or(|decision| Some(decision) == record.decision)
            && self.filter.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
    }
}

/// Tells whether records are of this kind.
fn is_kind(kind: &str) -> bool {
    kind == record::EGRESS
        || Change::KINDS.contains(&kind)
        || Entry::KINDS.iter().any(|(known, _)| *known == kind)
}

/// What one read of the chain gave.
struct Read {
    records: Vec<Record>,
    next: AuditCursor,
    is_last: bool,
}

/// Reads what follows a place once. How much is looked at has nothing to do with how much is wanted: a filter may take one
/// of many.
async fn read(core: &Core, scope: &Scope, wanted: &Wanted, after: AuditCursor) -> Answer<Read> {
    let page = core.ports.audit.audit_items(scope, wanted.filter, after, READ_ITEMS).await?;
    let mut records = Vec::new();
    for item in page.items {
        let by = began_by(core, scope, &item).await?;
        for mut record in record::records(&*core.ports.notary, item) {
            if record.actor.is_none() {
                record.actor.clone_from(&by);
            }
            if wanted.takes(&record) {
                records.push(record);
            }
        }
    }
    Ok(Read { records, next: page.next, is_last: page.is_last })
}

/// Finds whose input began a run, if an item is the beginning of one; nothing where that input is gone.
async fn began_by(core: &Core, scope: &Scope, item: &AuditItem) -> Answer<Option<String>> {
    let AuditWhat::Entry { session, entry, .. } = &item.what else { return Ok(None) };
    // An entry of a newer program is told without what is in it.
    let Ok(Entry::RunStarted(started)) = entry.decode() else { return Ok(None) };
    let inbox = InboxOwner::Session(*session);
    let found = match core.ports.store.inbox(scope, inbox, started.after, 1).await {
        Ok(found) => found,
        // What is damaged elsewhere keeps no record from being told.
        Err(ReadError::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let first = found.into_iter().find(|found| started.items.first() == Some(&found.id));
    Ok(first.map(|first| core.ports.notary.redacted(first.author.as_str())))
}

/// Reads a place, which must not be beyond the end.
async fn place(core: &Core, scope: &Scope, text: &str) -> Answer<AuditCursor> {
    let place: AuditCursor = text
        .parse()
        .map_err(|error: dromia_contracts::audit::ParseCursorError| Failure::invalid(error.to_string()))?;
    let end = core.ports.audit.audit_end(scope).await?;
    if place > end {
        let text = format!("the audit ends at {end}, and {place} is beyond it");
        return Err(Failure::new(ErrorCode::CursorInFuture, text));
    }
    Ok(place)
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
    wants: Wants,
) -> Answer<Response> {
    let limit = page_limit(listing.limit)?;
    let Listing { after, newest, agent, run, kind, actor, decision, since, until, .. } = listing;
    let asked = Exporting { agent, run, kind, actor, decision, since, until };
    let wanted = Wanted::of(&core, &caller.scope, asked).await?;
    let after = wants.last_event.or(after);
    let after = match &after {
        Some(text) => Some(place(&core, &caller.scope, text).await?),
        None => None,
    };
    if newest {
        if wants.stream {
            return Err(Failure::invalid("`newest`: a stream tells of records as they come").at("newest"));
        }
        let before = match after {
            Some(before) => before,
            None => core.ports.audit.audit_end(&caller.scope).await?,
        };
        return Ok(Json(newest::page(&core, &caller.scope, &wanted, before, limit).await?).into_response());
    }
    if wants.stream {
        let after = match after {
            Some(after) => after,
            // Without a place, what happens from now on.
            None => core.ports.audit.audit_end(&caller.scope).await?,
        };
        let share = Share::stream(&core, caller.spender())?;
        let events = tail::events(core.clone(), caller, wanted, after, share, wants.request);
        return Ok(streamed(Body::from_stream(events), "text/event-stream"));
    }
    let mut page = List { items: Vec::new(), next: None };
    let mut after = after.unwrap_or_default();
    for _ in 0..READS_MAX {
        let read = read(&core, &caller.scope, &wanted, after).await?;
        after = read.next;
        page.next = (!read.is_last).then(|| after.to_string());
        if let Some(place) = fill(&mut page.items, limit, read.records) {
            page.next = Some(place);
        }
        if read.is_last || page.items.len() >= limit {
            break;
        }
    }
    Ok(Json(page).into_response())
}

/// Takes records until a page is full, but never one of an item without the others. If any are left, it returns the place
/// behind which they are.
fn fill(items: &mut Vec<Record>, limit: usize, records: Vec<Record>) -> Option<String> {
    let mut records = records.into_iter().peekable();
    while let Some(record) = records.next() {
        let place = record.place.clone();
        items.push(record);
        if items.len() >= limit && records.peek().is_some_and(|next| next.place != place) {
            return Some(place);
        }
    }
    None
}

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Answer<Json<Explained>> {
    Ok(Json(explain::explained(&core, &caller.scope, &id).await?))
}

pub(crate) async fn export(
    State(core): State<Shared>,
    caller: Caller,
    Params(asked): Params<Exporting>,
    request: RequestId,
) -> Answer<Response> {
    let filters = core.ports.notary.redacted(&export::filters(&asked));
    let wanted = Wanted::of(&core, &caller.scope, asked).await?;
    let end = core.ports.audit.audit_end(&caller.scope).await?;
    let share = Share::stream(&core, caller.spender())?;
    let lines = export::lines(core.clone(), caller, wanted, filters, end, share, request);
    Ok(streamed(Body::from_stream(lines), "application/x-ndjson"))
}

fn streamed(body: Body, media: &'static str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// In which form the records are wanted, and from where.
pub(crate) struct Wants {
    stream: bool,
    last_event: Option<String>,
    request: RequestId,
}

impl FromRequestParts<Shared> for Wants {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let accepted = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let stream = accepted
            .flat_map(|value| value.split(','))
            .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"));
        // What is no text is no place either, and is refused where places are read.
        let last_event = parts.headers.get("last-event-id");
        let last_event = last_event.map(|value| value.to_str().unwrap_or_default().to_owned());
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { stream, last_event, request })
    }
}
