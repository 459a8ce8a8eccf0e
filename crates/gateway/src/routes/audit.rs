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
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::audit::{AuditDecision, AuditRecord, RecordExplanation};
use dromia_contracts::audit::{AuditChange, AuditCursor, AuditFilter, AuditItem, AuditWhat};
use dromia_contracts::entry::Entry;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::ReadError;
use dromia_contracts::{ErrorCode, RunId, Scope};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, accepts_event_stream, page_limit};
use crate::failure::{Answer, ApiError};
use crate::request::RequestId;
use crate::share::ConcurrencyPermit;

/// How many reads of the chain one page may take.
const READS_MAX: usize = 32;

/// How many items are read at a time.
const READ_ITEMS: usize = 128;

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditListQuery {
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
    /// Only what this actor did: changes, and the beginnings of the runs that its inputs began. Records whose actor cannot be
    /// read are given too, and say so.
    actor: Option<String>,
    /// Only what was decided so.
    decision: Option<AuditDecision>,
    /// Only what happened at this time or later; a time, or how long ago, such as 24h.
    since: Option<String>,
    /// Only what happened before this time; a time, or how long ago.
    until: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditExportQuery {
    /// Only what concerns this agent, by handle or id.
    agent: Option<String>,
    /// Only records of this run.
    run: Option<RunId>,
    /// Only records of this kind.
    kind: Option<String>,
    /// Only what this actor did: changes, and the beginnings of the runs that its inputs began. Records whose actor cannot be
    /// read are given too, and say so.
    actor: Option<String>,
    /// Only what was decided so.
    decision: Option<AuditDecision>,
    /// Only what happened at this time or later; a time, or how long ago, such as 24h.
    since: Option<String>,
    /// Only what happened before this time; a time, or how long ago.
    until: Option<String>,
}

/// Which records are wanted, checked.
#[derive(Debug, Clone)]
struct AuditRecordFilter {
    filter: AuditFilter,
    kind: Option<String>,
    actor: Option<String>,
    decision: Option<AuditDecision>,
    until: Option<Timestamp>,
}

impl AuditRecordFilter {
    async fn from_query(core: &GatewayCore, scope: &Scope, asked: AuditExportQuery) -> Answer<Self> {
        let agent = match &asked.agent {
            Some(name) => Some(super::agent::find_agent(core, scope, name).await?.id),
            None => None,
        };
        let now = core.ports.runtime.clock.now();
        let since = asked.since.as_deref().map(|since| super::cost::parse_since(now, since)).transpose()?;
        let until = asked.until.as_deref().map(|until| {
            super::cost::parse_since(now, until).map_err(|_| {
                ApiError::invalid_request(
                    "`until` must be a time such as 2026-01-02T00:00:00Z, or an age such as 24h",
                )
            })
        });
        let until = until.transpose()?;
        let filter = AuditFilter { agent, run: asked.run, since };
        let AuditExportQuery { kind, actor, decision, .. } = asked;
        if let Some(kind) = kind.as_deref().filter(|kind| !is_kind(kind)) {
            // The result would always be empty, and a caller may hope for exactly that.
            let text = format!("`kind`: there are no records of the kind {kind:?}");
            return Err(ApiError::invalid_request(text).at_field("kind").with_hint(
                "the kinds are those of journal entries, such as tool_started, and of changes, such as \
                 token_created: docs/audit.md",
            ));
        }
        Ok(Self { filter, kind, actor, decision, until })
    }

    /// Judges what the chain does not.
    fn matches_record(&self, record: &AuditRecord) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == record.kind)
            && self
                .actor
                .as_ref()
                .is_none_or(|actor| record.actor_unread || Some(actor) == record.actor.as_ref())
            && self.decision.is_none_or(|decision| Some(decision) == record.decision)
            && self.filter.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
    }
}

/// Tells whether records are of this kind.
fn is_kind(kind: &str) -> bool {
    kind == record::EGRESS
        || AuditChange::KINDS.contains(&kind)
        || Entry::KINDS.iter().any(|(known, _)| *known == kind)
}

/// What one read of the chain gave.
struct AuditChainPage {
    records: Vec<AuditRecord>,
    next: AuditCursor,
    is_last: bool,
}

/// Reads what follows a place once. How much is looked at has nothing to do with how much is wanted: a filter may take one
/// of many.
async fn read_chain(
    core: &GatewayCore,
    scope: &Scope,
    wanted: &AuditRecordFilter,
    after: AuditCursor,
) -> Answer<AuditChainPage> {
    let page = core.ports.audit.audit_items(scope, wanted.filter, after, READ_ITEMS).await?;
    let mut records = Vec::new();
    for item in page.items {
        let by = began_by(core, scope, &item).await?;
        for mut record in record::audit_records(&*core.ports.notary, item) {
            if record.actor.is_none() {
                match &by {
                    BeganBy::Actor(actor) => record.actor = Some(actor.clone()),
                    BeganBy::Unread => record.actor_unread = true,
                    BeganBy::Nobody => {}
                }
            }
            if wanted.matches_record(&record) {
                records.push(record);
            }
        }
    }
    Ok(AuditChainPage { records, next: page.next, is_last: page.is_last })
}

/// Whose input began a run.
enum BeganBy {
    /// This actor's.
    Actor(String),
    /// An input that is damaged or gone.
    Unread,
    /// The item begins no run, or no input began the run.
    Nobody,
}

/// Finds whose input began a run, if an item is the beginning of one.
async fn began_by(core: &GatewayCore, scope: &Scope, item: &AuditItem) -> Answer<BeganBy> {
    let AuditWhat::Entry { session, entry, .. } = &item.what else { return Ok(BeganBy::Nobody) };
    // An entry of a newer program is listed without what is in it.
    let Ok(Entry::RunStarted(started)) = entry.decode() else { return Ok(BeganBy::Nobody) };
    let Some(first) = started.items.first() else { return Ok(BeganBy::Nobody) };
    let inbox = InboxOwner::Session(*session);
    let found = match core.ports.store.inbox_items(scope, inbox, started.after, 1).await {
        Ok(found) => found,
        // Damage of an input takes no record out of the audit.
        Err(ReadError::Damaged { .. }) => return Ok(BeganBy::Unread),
        Err(error) => return Err(error.into()),
    };
    Ok(match found.into_iter().find(|found| found.id == *first) {
        Some(found) => BeganBy::Actor(core.ports.notary.redact_secrets(found.author.as_str())),
        None => BeganBy::Unread,
    })
}

/// Reads a place, which must not be beyond the end.
async fn parse_cursor(core: &GatewayCore, scope: &Scope, text: &str) -> Answer<AuditCursor> {
    let place: AuditCursor = text.parse().map_err(|error: dromia_contracts::audit::ParseCursorError| {
        ApiError::invalid_request(error.to_string())
    })?;
    let end = core.ports.audit.audit_end(scope).await?;
    if place > end {
        let text = format!("the audit log ends at {end}, before {place}");
        return Err(ApiError::new(ErrorCode::CursorInFuture, text));
    }
    Ok(place)
}

pub(crate) async fn list_records(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<AuditListQuery>,
    wants: AuditReadMode,
) -> Answer<Response> {
    let limit = page_limit(listing.limit)?;
    let AuditListQuery { after, newest, agent, run, kind, actor, decision, since, until, .. } = listing;
    let asked = AuditExportQuery { agent, run, kind, actor, decision, since, until };
    let wanted = AuditRecordFilter::from_query(&core, &caller.scope, asked).await?;
    let after = wants.last_event.or(after);
    let after = match &after {
        Some(text) => Some(parse_cursor(&core, &caller.scope, text).await?),
        None => None,
    };
    if newest {
        if wants.stream {
            return Err(ApiError::invalid_request(
                "`newest`: a stream sends records in the order of the log",
            )
            .at_field("newest"));
        }
        let before = match after {
            Some(before) => before,
            None => core.ports.audit.audit_end(&caller.scope).await?,
        };
        return Ok(
            Json(newest::newest_page(&core, &caller.scope, &wanted, before, limit).await?).into_response()
        );
    }
    if wants.stream {
        let after = match after {
            Some(after) => after,
            // Without a place, what happens from now on.
            None => core.ports.audit.audit_end(&caller.scope).await?,
        };
        let share = ConcurrencyPermit::acquire_stream(&core, caller.request_payer())?;
        let events = tail::stream_events(core.clone(), caller, wanted, after, share, wants.request);
        return Ok(stream_body(Body::from_stream(events), "text/event-stream"));
    }
    let mut page = ListPage { items: Vec::new(), next: None };
    let mut after = after.unwrap_or_default();
    for _ in 0..READS_MAX {
        let read = read_chain(&core, &caller.scope, &wanted, after).await?;
        after = read.next;
        page.next = (!read.is_last).then(|| after.to_string());
        if let Some(place) = fill_page(&mut page.items, limit, read.records) {
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
fn fill_page(items: &mut Vec<AuditRecord>, limit: usize, records: Vec<AuditRecord>) -> Option<String> {
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

pub(crate) async fn explain_record(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(id): PathSegments<String>,
) -> Answer<Json<RecordExplanation>> {
    Ok(Json(explain::explain_record(&core, &caller.scope, &id).await?))
}

pub(crate) async fn export_records(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(asked): QueryParams<AuditExportQuery>,
    request: RequestId,
) -> Answer<Response> {
    let filters = core.ports.notary.redact_secrets(&export::filters_line(&asked));
    let wanted = AuditRecordFilter::from_query(&core, &caller.scope, asked).await?;
    let end = core.ports.audit.audit_end(&caller.scope).await?;
    let share = ConcurrencyPermit::acquire_stream(&core, caller.request_payer())?;
    let lines = export::stream_lines(core.clone(), caller, wanted, filters, end, share, request);
    Ok(stream_body(Body::from_stream(lines), "application/x-ndjson"))
}

fn stream_body(body: Body, media: &'static str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// In which form the records are wanted, and from where.
pub(crate) struct AuditReadMode {
    stream: bool,
    last_event: Option<String>,
    request: RequestId,
}

impl FromRequestParts<Shared> for AuditReadMode {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Answer<Self> {
        let stream = accepts_event_stream(&parts.headers);
        // A value that is not text becomes an empty one, which the parser of places refuses.
        let last_event = parts.headers.get("last-event-id");
        let last_event = last_event.map(|value| value.to_str().unwrap_or_default().to_owned());
        let request = RequestId::from_request_parts(parts, core).await?;
        Ok(Self { stream, last_event, request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a query for one actor gives of the beginning of a run whose input cannot be read.
    fn is_given(mark: impl Fn(&mut AuditRecord)) -> bool {
        let wanted = AuditRecordFilter {
            filter: AuditFilter::default(),
            kind: None,
            actor: Some("cli:0".to_owned()),
            decision: None,
            until: None,
        };
        let chain = dromia_contracts::Digest::from_bytes([0; 32]);
        let id = "run_1:1".to_owned();
        let mut record =
            record::bare_record(id, AuditCursor::default(), Timestamp::UNIX_EPOCH, "run_started", chain);
        mark(&mut record);
        wanted.matches_record(&record)
    }

    #[test]
    fn an_actor_query_returns_records_with_an_unreadable_actor() {
        assert!(is_given(|record| record.actor_unread = true));
        assert!(!is_given(|record| record.actor = Some("cli:1".to_owned())));
    }

    #[test]
    fn a_record_without_that_mark_is_caught() {
        assert!(!is_given(|_| {}));
    }
}
