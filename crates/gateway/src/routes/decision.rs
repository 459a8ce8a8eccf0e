//! What was decided about the calls of a run, read off its journal: nothing is judged again.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::run::{CallDecision, DecidedBy};
use dromia_contracts::ErrorCode;
use dromia_contracts::content::{CallStatus, ToolResult, parts_text};
use dromia_contracts::entry::Entry;
use dromia_contracts::store::{PageRequest, StoredEntry};
use schemars::JsonSchema;
use serde::Deserialize;

use super::run::find_run;
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathSegments, QueryParams, page_limit, parse_id};
use crate::failure::{Answer, ApiError};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionListQuery {
    /// Only what was decided after this entry.
    after: Option<u64>,
    /// The most decisions of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_decisions(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
    QueryParams(listing): QueryParams<DecisionListQuery>,
) -> Answer<Json<ListPage<CallDecision>>> {
    let run = find_run(&core, &caller.scope, parse_id(&run)?).await?;
    let limit = page_limit(listing.limit)?;
    let (mut items, mut after) = (Vec::new(), listing.after.unwrap_or(0));
    // A journal is as long as its run was let go on; each look is a page of it.
    while items.len() < limit {
        let page = core
            .ports
            .store
            .journal_entries(&caller.scope, run.id, after, PageRequest::<u64>::LIMIT_MAX)
            .await?;
        let is_last = page.len() < PageRequest::<u64>::LIMIT_MAX;
        for stored in &page {
            after = stored.seq;
            let Some(mut found) = read_decision(stored)? else { continue };
            if let Some(approval) = found.waits.filter(|_| found.rule.is_none()) {
                let approval = core.ports.store.approval(&caller.scope, approval).await?;
                found.rule = approval.map(|approval| approval.asked_by());
            }
            items.push(found);
        }
        if is_last {
            break;
        }
    }
    items.truncate(limit);
    Ok(Json(ListPage::from_limited(items, limit, |decision| decision.entry.to_string())))
}

/// Reads what an entry says was decided, if it says so.
fn read_decision(stored: &StoredEntry) -> Answer<Option<CallDecision>> {
    let unreadable = |what: String| ApiError::new(ErrorCode::JournalUnreadable, what);
    let entry = stored.decode().map_err(|error| unreadable(error.to_string()))?;
    let (entry_number, at) = (stored.seq, stored.at);
    Ok(match entry {
        Entry::ToolStarted(started) => Some(CallDecision {
            entry: entry_number,
            at,
            call: started.call,
            tool: started.tool,
            allowed: true,
            by: DecidedBy::of_rule(&started.rule),
            rule: Some(started.rule),
            waits: None,
            why: String::new(),
            policy: started.policy,
            action: Some(started.action),
            in_plan: started.in_plan,
            network: started.network,
            context: started.context,
            endorsed: started.endorsed,
            opinion: started.opinion,
        }),
        Entry::ToolRefused(refused) => {
            let told = match &stored.body {
                Some(body) => serde_json::from_slice::<ToolResult>(body)
                    .map(|result| parts_text(&result.parts))
                    .map_err(|error| unreadable(format!("a body does not match its entry: {error}")))?,
                None => String::new(),
            };
            Some(CallDecision {
                entry: entry_number,
                at,
                call: refused.call,
                tool: refused.tool,
                allowed: false,
                by: match (refused.rule.as_deref(), refused.status) {
                    (Some(rule), _) => DecidedBy::of_rule(rule),
                    // The run went on without it; the approval has no answer so far.
                    (None, CallStatus::Awaiting) => DecidedBy::Approval,
                    (None, _) => DecidedBy::Other,
                },
                rule: refused.rule,
                waits: refused.approval.filter(|_| refused.status == CallStatus::Awaiting),
                why: told,
                policy: refused.policy,
                action: None,
                in_plan: refused.in_plan,
                network: refused.network,
                context: None,
                endorsed: Vec::new(),
                opinion: refused.opinion,
            })
        }
        _ => None,
    })
}
