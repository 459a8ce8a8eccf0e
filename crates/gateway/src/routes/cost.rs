//! What runs cost: sums over many runs, and one run attempt by attempt.
//!
//! Nothing is priced here: the amounts are those of the journal. A run's own sum is its row's, which the engine
//! wrote in the commit of the entries; the attempts are read off the same entries, so they add up to it. `total`
//! adds the runs that went on from a yielded one, each from the one before; tasks that the run spawned are in its tree (`run_tree`). What came
//! as a file was spent elsewhere: a summary leaves it out and says how much that is.
//!
//! Bounds: a summary counts at most [`RUNS_MAX`] runs, or [`RUNS_BY_MODEL_MAX`] where their entries are read as well, and
//! says where to count on.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use dromia_api::cost::{CostBy, CostGroup, CostSummary, RunCost};
use dromia_contracts::cost::{CostLedger, CostTotals};
use dromia_contracts::entry::{DecodeError, Entry};
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind, ResumeBody};
use dromia_contracts::store::{PageRequest, RunFilter, RunSpending, StoredEntry};
use dromia_contracts::{AgentId, ErrorCode, RunId, Scope};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, page_limit, parse_id};
use crate::failure::{Answer, ApiError};
use crate::wire;

/// The most runs that one summary counts.
const RUNS_MAX: usize = 64 * PageRequest::<RunId>::LIMIT_MAX;

/// The most runs that one summary by model counts.
const RUNS_BY_MODEL_MAX: usize = 2048;

/// How many runs are read at a time where their entries are read too.
const RUNS_BY_MODEL_READ: usize = 32;

/// The most agents of a summary whose handles are looked up.
const NAMES_MAX: usize = 256;

/// How many entries or inbox items are read at a time. Their bodies may be long, so pages are short.
const READ: usize = 16;

/// A page of attempts ends with the one whose entry passes this many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// How many reads of an inbox look for the run that goes on from another.
const RESUME_READS_MAX: usize = 64;

/// The most runs in a row of which each goes on from the one before.
const RESUMES_MAX: usize = 64;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CostSummaryQuery {
    /// Only runs that began at this time (RFC 3339) or later, or so long ago: `90m`, `24h`, `7d`.
    since: Option<String>,
    /// By what the groups are made; by agent where it is absent.
    by: Option<CostBy>,
    /// Only runs of this agent, by handle or id.
    agent: Option<String>,
    /// Counts on after this run; the `next` of the answer before.
    after: Option<RunId>,
}

pub(crate) async fn summarize_costs(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(summing): QueryParams<CostSummaryQuery>,
) -> Answer<Json<CostSummary>> {
    let since = summing.since.map(|since| parse_since(core.ports.runtime.clock.now(), &since)).transpose()?;
    let agent = match &summing.agent {
        Some(name) => Some(super::agent::find_agent(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let filter = RunFilter { agent, ..RunFilter::default() };
    let floor = since.map(RunId::earliest_at);
    let by = summing.by.unwrap_or_default();
    let (most, read) = match by {
        CostBy::Model | CostBy::Actor => (RUNS_BY_MODEL_MAX, RUNS_BY_MODEL_READ),
        CostBy::Agent | CostBy::Day | CostBy::Tenant => (RUNS_MAX, PageRequest::<RunId>::LIMIT_MAX),
    };
    let mut sum = CostSummary::new(by, since);
    let mut groups = BTreeMap::new();
    let mut after = summing.after;
    'pages: for _ in 0..most / read {
        let page = PageRequest { after, limit: read };
        let runs = read_spending(&core, &caller.scope, by, filter, page).await?;
        let is_last = runs.len() < read;
        for spending in runs {
            // Ids sort by the time at which a run began, so everything that follows is older.
            if floor.is_some_and(|floor| spending.run.id < floor) {
                after = None;
                break 'pages;
            }
            after = Some(spending.run.id);
            if core.ports.runs.is_imported(spending.run.session, spending.run.id) {
                sum.imported += 1;
                continue;
            }
            let key = match by {
                CostBy::Actor => read_author(&core, &caller.scope, &spending.run).await?,
                CostBy::Tenant => caller.tenant_handle().to_string(),
                CostBy::Agent => spending.run.agent.to_string(),
                CostBy::Day => spending.run.started_at.strftime("%Y-%m-%d").to_string(),
                CostBy::Model => String::new(),
            };
            add_spending(&mut sum, &mut groups, spending, key);
        }
        if is_last {
            after = None;
            break;
        }
    }
    sum.next = after;
    sum.groups = groups.into_values().collect();
    sum.sort_groups();
    if by == CostBy::Agent {
        name_agents(&core, &caller.scope, &mut sum.groups).await?;
    }
    Ok(Json(sum))
}

/// Reads when to begin.
pub(super) fn parse_since(now: Timestamp, since: &str) -> Answer<Timestamp> {
    let unreadable = || {
        ApiError::invalid_request(
            "`since` must be a time such as 2026-01-02T00:00:00Z, or an age such as 24h",
        )
    };
    if let Ok(at) = since.parse() {
        return Ok(at);
    }
    let digits = since.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: i64 = digits.parse().map_err(|_| unreadable())?;
    let seconds = match &since[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(unreadable()),
    };
    let ago = number.checked_mul(seconds).filter(|ago| *ago >= 0).ok_or_else(unreadable)?;
    // Longer ago than time reaches is since ever.
    Ok(now.checked_sub(SignedDuration::from_secs(ago)).unwrap_or(Timestamp::MIN))
}

async fn read_spending(
    core: &GatewayCore,
    scope: &Scope,
    by: CostBy,
    filter: RunFilter,
    page: PageRequest<RunId>,
) -> Answer<Vec<RunSpending>> {
    let store = &core.ports.store;
    Ok(match by {
        CostBy::Model => store.run_spending(scope, filter, page).await?,
        CostBy::Agent | CostBy::Day | CostBy::Actor | CostBy::Tenant => {
            let runs = store.runs(scope, filter, page).await?;
            runs.into_iter().map(|run| RunSpending { run, models: Vec::new() }).collect()
        }
    })
}

/// Finds on whose input a run began. A run whose beginning was erased, or cannot be read, has no one.
async fn read_author(core: &GatewayCore, scope: &Scope, run: &RunRecord) -> Answer<String> {
    let store = &core.ports.store;
    let first = store.journal_entries(scope, run.id, 0, 1).await?;
    let Some(Ok(Entry::RunStarted(started))) = first.first().map(StoredEntry::decode) else {
        return Ok("unknown".to_owned());
    };
    let items = store.inbox_items(scope, InboxOwner::Session(run.session), started.after, 1).await?;
    Ok(items.first().map_or_else(|| "unknown".to_owned(), |item| item.author.to_string()))
}

/// Adds a run to its group; by model it has a part in several.
fn add_spending(
    sum: &mut CostSummary,
    groups: &mut BTreeMap<String, CostGroup>,
    spending: RunSpending,
    key: String,
) {
    let RunSpending { run, models } = spending;
    let own = CostTotals::from(&run);
    sum.runs += 1;
    let parts = if sum.by == CostBy::Model { models } else { vec![(key, own)] };
    for (key, spent) in parts {
        sum.total.add(spent);
        let empty = || CostGroup { key: key.clone(), name: None, runs: 0, spent: CostTotals::default() };
        let group = groups.entry(key.clone()).or_insert_with(empty);
        group.runs += 1;
        group.spent.add(spent);
    }
}

async fn name_agents(core: &GatewayCore, scope: &Scope, groups: &mut [CostGroup]) -> Answer<()> {
    for group in groups.iter_mut().take(NAMES_MAX) {
        let agent = core.ports.store.agent(scope, parse_id::<AgentId>(&group.key)?).await?;
        group.name = agent.map(|agent| agent.handle.to_string());
    }
    Ok(())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunCostQuery {
    /// Only attempts after this entry; the `next` of the answer before.
    after: Option<u64>,
    /// The most attempts, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn show_run_cost(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
    QueryParams(pricing): QueryParams<RunCostQuery>,
) -> Answer<Json<RunCost>> {
    let limit = page_limit(pricing.limit)?;
    let run = super::run::find_run(&core, &caller.scope, parse_id(&run)?).await?;
    let after = pricing.after.unwrap_or(0);
    if after > run.last_seq {
        return Err(ApiError::new(
            ErrorCode::CursorInFuture,
            format!("the cursor is {after}, but the last entry is {}", run.last_seq),
        ));
    }
    let own = CostTotals::from(&run);
    let mut cost = RunCost {
        run: run.id,
        status: run.head.status,
        last_seq: run.last_seq,
        own,
        total: own,
        resumed_by: Vec::new(),
        resumed_further: None,
        attempts: Vec::new(),
        next: None,
    };
    read_attempts(&core, &caller.scope, &mut cost, after, limit).await?;
    let (resumed, is_all) = resumed_by(&core, &caller.scope, run).await?;
    for resumed in resumed {
        cost.total.add(CostTotals::from(&resumed));
        cost.resumed_by.push(resumed.id);
    }
    if !is_all {
        cost.resumed_further = Some(cost.resumed_by.last().copied().unwrap_or(cost.run));
    }
    Ok(Json(cost))
}

/// Reads attempts off the journal, up to the entry of which the row knew.
async fn read_attempts(
    core: &GatewayCore,
    scope: &Scope,
    cost: &mut RunCost,
    after: u64,
    limit: usize,
) -> Answer<()> {
    let mut ledger = CostLedger::default();
    let (mut cursor, mut bytes) = (after, 0);
    while cursor < cost.last_seq {
        let entries = core.ports.store.journal_entries(scope, cost.run, cursor, READ).await?;
        if entries.is_empty() {
            break;
        }
        for stored in entries.into_iter().filter(|stored| stored.seq <= cost.last_seq) {
            cursor = stored.seq;
            bytes += stored.fields.len() + stored.body.as_ref().map_or(0, bytes::Bytes::len);
            let entry = match stored.decode() {
                Ok(entry) => entry,
                // A newer version wrote it; its run is held until that version is back.
                Err(DecodeError::Unknown { .. }) => continue,
                Err(error) => {
                    let failure = ApiError::new(ErrorCode::JournalUnreadable, format!("entry {cursor}"));
                    return Err(failure.with_cause(error.to_string()));
                }
            };
            let Some(attempt) = ledger.apply_entry(stored.seq, stored.at, &entry) else { continue };
            cost.attempts.push(wire::api_attempt(attempt));
            if (cost.attempts.len() >= limit || bytes >= PAGE_BYTES) && cursor < cost.last_seq {
                // An attempt that ends with the next one's beginning would be torn; the engine writes no such thing.
                cost.next = Some(cursor);
                return Ok(());
            }
        }
    }
    cost.attempts.extend(ledger.open_attempt().cloned().map(wire::api_attempt));
    Ok(())
}

/// Finds the runs that went on from a yielded one, each from the one before, and tells whether these are all.
async fn resumed_by(core: &GatewayCore, scope: &Scope, run: RunRecord) -> Answer<(Vec<RunRecord>, bool)> {
    let mut resumed = Vec::new();
    let mut last = run;
    while last.head.status == RunStatus::Yielded {
        let next = match next_run(core, scope, &last).await? {
            RunContinuation::By(next) => next,
            RunContinuation::Not => break,
            RunContinuation::TooFar => return Ok((resumed, false)),
        };
        if resumed.len() == RESUMES_MAX {
            return Ok((resumed, false));
        }
        let Some(next) = core.ports.store.run(scope, next).await? else { break };
        resumed.push(next.clone());
        last = next;
    }
    Ok((resumed, true))
}

/// What the inbox says of a yielded run.
enum RunContinuation {
    /// This run went on from it.
    By(RunId),
    /// None did.
    Not,
    /// So much was said since that not all of it was looked at.
    TooFar,
}

/// Finds the run that took the wish to go on from a yielded run. The wish lies in the session's inbox behind what
/// the yielded run took.
async fn next_run(core: &GatewayCore, scope: &Scope, yielded: &RunRecord) -> Answer<RunContinuation> {
    let store = &core.ports.store;
    let first = store.journal_entries(scope, yielded.id, 0, 1).await?;
    let Some(Ok(Entry::RunStarted(started))) = first.first().map(StoredEntry::decode) else {
        return Ok(RunContinuation::Not);
    };
    let owner = InboxOwner::Session(yielded.session);
    let mut after = started.after + started.items.len() as u64;
    for _ in 0..RESUME_READS_MAX {
        let items = store.inbox_items(scope, owner, after, READ).await?;
        if let Some(item) = items.iter().find(|item| asks_to_go_on(item, yielded.id)) {
            return Ok(item.taken_by.map_or(RunContinuation::Not, RunContinuation::By));
        }
        match items.last() {
            Some(last) if items.len() == READ => after = last.position,
            _ => return Ok(RunContinuation::Not),
        }
    }
    Ok(RunContinuation::TooFar)
}

fn asks_to_go_on(item: &InboxItem, from: RunId) -> bool {
    let body = item.body.as_ref().filter(|_| item.kind == ItemKind::Resume);
    body.is_some_and(|body| serde_json::from_slice::<ResumeBody>(body).is_ok_and(|body| body.run == from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_begins_at_a_time_or_so_long_ago() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (since, at) in [
            ("24h", "2026-01-01T03:04:05Z"),
            ("90m", "2026-01-02T01:34:05Z"),
            ("7d", "2025-12-26T03:04:05Z"),
            ("2025-12-31T23:00:00Z", "2025-12-31T23:00:00Z"),
        ] {
            assert_eq!(parse_since(now, since).ok(), at.parse().ok(), "{since}");
        }
        assert_eq!(parse_since(now, "9000000000h").ok(), Some(Timestamp::MIN));
        for bad in ["", "h", "24", "24 h", "-1h", "1y", "yesterday", "99999999999999999999s"] {
            assert!(parse_since(now, bad).is_err(), "{bad}");
        }
    }
}
