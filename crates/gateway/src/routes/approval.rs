//! Approvals of a tenant: list, show, answer; and the rules that answer ahead. A tenant has so few rules that a list is
//! one page.

use axum::Json;
use axum::extract::State;
use dromia_api::List;
use dromia_api::approval::{AnswerApproval, Approval, ApprovalRule, ReachKind, SetApprovalRule};
use dromia_contracts::approval::{ALSO_MAX, DeclaredRule};
use dromia_contracts::runs::{Answer as Given, NewRule, Reach};
use dromia_contracts::store::{ApprovalFilter, Page};
use dromia_contracts::token::TokenScope;
use dromia_contracts::{ApprovalId, ErrorCode};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::find;
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{JsonBody, Params, Segments, id, page_limit};
use crate::failure::{Answer, Failure};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only approvals of this agent, by handle or id.
    agent: Option<String>,
    /// Only those that may still be answered.
    #[serde(default)]
    open: bool,
    /// Only approvals before this one; the newest come first.
    after: Option<String>,
    /// The most approvals of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Approval>>> {
    let limit = page_limit(listing.limit)?;
    let now = core.ports.runtime.clock.now();
    let after = listing.after.as_deref().map(id).transpose()?;
    let agent = match &listing.agent {
        Some(name) => Some(find(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let filter = ApprovalFilter { agent, open_at: listing.open.then_some(now) };
    let found = core.ports.store.approvals(&caller.scope, filter, Page { after, limit }).await?;
    let items = found.into_iter().map(|approval| wire::approval(approval, now)).collect();
    Ok(Json(List::page(items, limit, |approval: &Approval| approval.id.to_string())))
}

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(approval): Segments<String>,
) -> Answer<Json<Approval>> {
    let found = core.ports.store.approval(&caller.scope, id(&approval)?).await?;
    let found = found.ok_or_else(|| {
        Failure::new(ErrorCode::ApprovalNotFound, format!("there is no approval {approval}"))
    })?;
    Ok(Json(wire::approval(found, core.ports.runtime.clock.now())))
}

pub(crate) async fn answer(
    State(core): State<Shared>,
    caller: Caller,
    Segments(approval): Segments<String>,
    JsonBody(body): JsonBody<AnswerApproval>,
) -> Answer<Json<Approval>> {
    let approval: ApprovalId = id(&approval)?;
    let AnswerApproval { approve, reach, rule, reason, also } = body;
    if also.len() > ALSO_MAX {
        let text = format!("`also` names at most {ALSO_MAX} approvals, and here it names {}", also.len());
        return Err(Failure::invalid(text).at("also"));
    }
    if !also.is_empty() && reach == ReachKind::Always {
        let text = "`also` goes with no rule: a rule answers calls that nobody saw";
        return Err(Failure::invalid(text).at("also"));
    }
    if approve && reason.is_some() {
        return Err(Failure::invalid("`reason` says why a call is refused").at("reason"));
    }
    let given = match (approve, reach, rule) {
        (true, ReachKind::Once, None) => Given::Approve(Reach::Once),
        (true, ReachKind::Session, None) => Given::Approve(Reach::Session),
        (true, ReachKind::Always, Some(rule)) => {
            // It answers calls that nobody has seen yet.
            caller.must_have(TokenScope::Admin)?;
            Given::Approve(Reach::Always { rule })
        }
        (false, ReachKind::Once, None) => Given::Deny { reason: reason.unwrap_or_default() },
        (true, ReachKind::Always, None) => {
            return Err(Failure::invalid("`always` needs the rule that answers from now on").at("rule"));
        }
        (true, ReachKind::Once | ReachKind::Session, Some(_)) => {
            return Err(Failure::invalid("`rule` goes with the reach `always`").at("rule"));
        }
        (false, _, _) => {
            return Err(
                Failure::invalid("`reach`: a refusal is of one call; a rule may refuse others").at("reach")
            );
        }
    };
    let answered = core.ports.runs.approval_answer(caller.scope, approval, also, given).await?;
    Ok(Json(wire::approval(answered, core.ports.runtime.clock.now())))
}

pub(crate) async fn rules(State(core): State<Shared>, caller: Caller) -> Answer<Json<List<ApprovalRule>>> {
    let now = core.ports.runtime.clock.now();
    let declared = core.ports.runs.approval_rules_declared();
    let declared = DeclaredRule::named(&declared).map(|(name, rule)| wire::declared_rule(name, rule, now));
    let mut items: Vec<ApprovalRule> = declared.collect();
    let rules = core.ports.store.approval_rules(&caller.scope).await?;
    items.extend(rules.into_iter().map(wire::approval_rule));
    // Both are bounded where they are made.
    Ok(Json(List { items, next: None }))
}

pub(crate) async fn rule_set(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    JsonBody(body): JsonBody<SetApprovalRule>,
) -> Answer<Json<ApprovalRule>> {
    let SetApprovalRule { answer, rule, agent, session, expires_in_seconds } = body;
    let now = core.ports.runtime.clock.now();
    let expires_at = expires_in_seconds.map(|seconds| {
        let life = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        now.checked_add(life).unwrap_or(Timestamp::MAX)
    });
    let agent = match agent {
        Some(name) => Some(find(&core, &caller.scope, &name).await?.id),
        None => None,
    };
    let new = NewRule { name, answer, rule, agent, session, expires_at };
    Ok(Json(wire::approval_rule(core.ports.runs.approval_rule_add(caller.scope, new).await?)))
}

pub(crate) async fn rule_remove(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<ApprovalRule>> {
    Ok(Json(wire::approval_rule(core.ports.runs.approval_rule_remove(caller.scope, name).await?)))
}
