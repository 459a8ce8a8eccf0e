//! Approvals of a tenant: list, show, answer; and the rules that answer in advance. A tenant has so few rules that a
//! list is one page.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::approval::{
    AnswerApproval, ApprovalResource, ApprovalRuleResource, ReachKind, SetApprovalRule,
};
use dromia_contracts::approval::{ALSO_MAX, DeclaredRule};
use dromia_contracts::runs::{ApprovalDecision as Given, ApprovalReach, NewRule};
use dromia_contracts::store::{ApprovalFilter, PageRequest};
use dromia_contracts::token::TokenScope;
use dromia_contracts::{ApprovalId, ErrorCode};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::find_agent;
use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit, parse_id};
use crate::failure::{Answer, ApiError};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalListQuery {
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

pub(crate) async fn list_approvals(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<ApprovalListQuery>,
) -> Answer<Json<ListPage<ApprovalResource>>> {
    let limit = page_limit(listing.limit)?;
    let now = core.ports.runtime.clock.now();
    let after = listing.after.as_deref().map(parse_id).transpose()?;
    let agent = match &listing.agent {
        Some(name) => Some(find_agent(&core, &caller.scope, name).await?.id),
        None => None,
    };
    let filter = ApprovalFilter { agent, open_at: listing.open.then_some(now) };
    let found = core.ports.store.approvals(&caller.scope, filter, PageRequest { after, limit }).await?;
    let items = found.into_iter().map(|approval| wire::api_approval(approval, now)).collect();
    Ok(Json(ListPage::from_limited(items, limit, |approval: &ApprovalResource| approval.id.to_string())))
}

pub(crate) async fn show_approval(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(approval): PathSegments<String>,
) -> Answer<Json<ApprovalResource>> {
    let found = core.ports.store.approval(&caller.scope, parse_id(&approval)?).await?;
    let found = found.ok_or_else(|| {
        ApiError::new(ErrorCode::ApprovalNotFound, format!("there is no approval {approval}"))
    })?;
    Ok(Json(wire::api_approval(found, core.ports.runtime.clock.now())))
}

pub(crate) async fn answer_approval(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(approval): PathSegments<String>,
    JsonBody(body): JsonBody<AnswerApproval>,
) -> Answer<Json<ApprovalResource>> {
    let approval: ApprovalId = parse_id(&approval)?;
    let AnswerApproval { approve, reach, rule, reason, also } = body;
    if also.len() > ALSO_MAX {
        let text = format!("`also` may name at most {ALSO_MAX} approvals, not {}", also.len());
        return Err(ApiError::invalid_request(text).at_field("also"));
    }
    if !also.is_empty() && reach == ReachKind::Always {
        let text = "`also` excludes a rule, because a rule would also answer calls that no person has seen";
        return Err(ApiError::invalid_request(text).at_field("also"));
    }
    if approve && reason.is_some() {
        return Err(ApiError::invalid_request("`reason` explains a denial only").at_field("reason"));
    }
    let given = match (approve, reach, rule) {
        (true, ReachKind::Once, None) => Given::Approve(ApprovalReach::Once),
        (true, ReachKind::Session, None) => Given::Approve(ApprovalReach::Session),
        (true, ReachKind::Always, Some(rule)) => {
            // It answers calls that no person has seen yet.
            caller.must_have(TokenScope::Admin)?;
            Given::Approve(ApprovalReach::Always { rule })
        }
        (false, ReachKind::Once, None) => Given::Deny { reason: reason.unwrap_or_default() },
        (true, ReachKind::Always, None) => {
            return Err(ApiError::invalid_request(
                "`always` needs `rule`, the rule that answers from now on",
            )
            .at_field("rule"));
        }
        (true, ReachKind::Once | ReachKind::Session, Some(_)) => {
            return Err(ApiError::invalid_request("`rule` needs the reach `always`").at_field("rule"));
        }
        (false, _, _) => {
            return Err(ApiError::invalid_request(
                "`reach`: a denial covers one call only; add a rule to deny others",
            )
            .at_field("reach"));
        }
    };
    let answered = core.ports.runs.approval_answer(caller.scope, approval, also, given).await?;
    Ok(Json(wire::api_approval(answered, core.ports.runtime.clock.now())))
}

pub(crate) async fn list_approval_rules(
    State(core): State<Shared>,
    caller: Caller,
) -> Answer<Json<ListPage<ApprovalRuleResource>>> {
    let now = core.ports.runtime.clock.now();
    let declared = core.ports.runs.approval_rules_declared();
    let declared =
        DeclaredRule::with_names(&declared).map(|(name, rule)| wire::declared_rule(name, rule, now));
    let mut items: Vec<ApprovalRuleResource> = declared.collect();
    let rules = core.ports.store.approval_rules(&caller.scope).await?;
    items.extend(rules.into_iter().map(wire::approval_rule));
    // Both are bounded where they are made.
    Ok(Json(ListPage { items, next: None }))
}

pub(crate) async fn rule_set(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    JsonBody(body): JsonBody<SetApprovalRule>,
) -> Answer<Json<ApprovalRuleResource>> {
    let SetApprovalRule { answer, rule, agent, session, expires_in_seconds } = body;
    let now = core.ports.runtime.clock.now();
    let expires_at = expires_in_seconds.map(|seconds| {
        let life = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        now.checked_add(life).unwrap_or(Timestamp::MAX)
    });
    let agent = match agent {
        Some(name) => Some(find_agent(&core, &caller.scope, &name).await?.id),
        None => None,
    };
    let new = NewRule { name, answer, rule, agent, session, expires_at };
    Ok(Json(wire::approval_rule(core.ports.runs.approval_rule_add(caller.scope, new).await?)))
}

pub(crate) async fn rule_remove(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<ApprovalRuleResource>> {
    Ok(Json(wire::approval_rule(core.ports.runs.approval_rule_remove(caller.scope, name).await?)))
}
