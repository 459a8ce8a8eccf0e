//! Capabilities of a tenant: grant, hand on, take back, list; and what the gate would say of a call without making it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use dromia_api::ListPage;
use dromia_api::capability::{
    CallCheck, CapabilityFinding, CapabilityMade, CapabilityResource, DelegateCapability, GrantCapability,
};
use dromia_contracts::agent::AgentRecord;
use dromia_contracts::approval::{RuleAnswer, RuledCall};
use dromia_contracts::capability::{self, CapabilityUse, NewCapability};
use dromia_contracts::content::ToolCall;
use dromia_contracts::gate::{GateAction, GateVerdict, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::tool::{PrepareError, PreparedCall};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{AgentId, CallId, CapabilityId, ErrorCode, Scope};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::{find_agent, no_such_agent};
use super::tool::no_such_tool;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CapabilityListQuery {
    /// Only capabilities after this one.
    after: Option<CapabilityId>,
    /// The most capabilities of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CapabilityCheckQuery {
    /// The arguments of the call, as JSON; by default `{}`.
    arguments: Option<String>,
    /// A token to look at in place of what the agent holds, as it was shown when it was made.
    token: Option<String>,
}

pub(crate) async fn list_capabilities(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<CapabilityListQuery>,
) -> Answer<Json<ListPage<CapabilityResource>>> {
    let limit = page_limit(listing.limit)?;
    let found = core.ports.capabilities.list_capabilities(caller.scope, listing.after, limit).await?;
    let items =
        found.into_iter().map(|(capability, state)| wire::api_capability(capability, state)).collect();
    Ok(Json(ListPage::from_limited(items, limit, |capability| capability.id.to_string())))
}

pub(crate) async fn grant_capability(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(asked): JsonBody<GrantCapability>,
) -> Answer<Response> {
    let GrantCapability { agent, rights, expires_in_seconds, wall_ms_max } = asked;
    let holder = find_agent(&core, &caller.scope, &agent).await?.id;
    let until = expiry_time(&core, expires_in_seconds)?;
    let (from, usage) = (None, CapabilityUse::Held);
    create_capability(&core, caller.scope, NewCapability { holder, from, usage, rights, until, wall_ms_max })
        .await
}

pub(crate) async fn delegate_capability(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(from): PathSegments<String>,
    JsonBody(asked): JsonBody<DelegateCapability>,
) -> Answer<Response> {
    let DelegateCapability { agent, rights, expires_in_seconds, wall_ms_max } = asked;
    let holder = find_agent(&core, &caller.scope, &agent).await?.id;
    let until = expiry_time(&core, expires_in_seconds)?;
    let (from, usage) = (Some(parse_capability_id(&from)?), CapabilityUse::Held);
    create_capability(&core, caller.scope, NewCapability { holder, from, usage, rights, until, wall_ms_max })
        .await
}

async fn create_capability(core: &GatewayCore, scope: Scope, new: NewCapability) -> Answer<Response> {
    if new.wall_ms_max == Some(0) {
        return Err(ApiError::invalid_request("`wall_ms_max` must be at least 1"));
    }
    check_tools(core, &scope, &new.rights, new.wall_ms_max).await?;
    let capability = core.ports.capabilities.grant_capability(scope, new).await?;
    let token = URL_SAFE_NO_PAD.encode(&capability.token);
    // What it is made from was active a moment ago, or it would not have been made.
    let record = by_itself(core, capability);
    Ok((StatusCode::CREATED, Json(CapabilityMade { record, token })).into_response())
}

/// Refuses rights that could never count: for a tool that is not there, as among the grants of an agent, and with a time limit
/// for one that runs no program.
pub(super) async fn check_tools(
    core: &GatewayCore,
    scope: &Scope,
    rights: &[String],
    wall_ms_max: Option<u32>,
) -> Answer<()> {
    let tools = core.ports.tools.tool_catalogue(scope, None).await?;
    for (index, right) in rights.iter().enumerate() {
        let Some(name) = right.strip_prefix("tool:") else { continue };
        let wrong = |problem: &str| {
            ApiError::invalid_request(format!("rights[{index}]: {problem}")).at_field("rights")
        };
        core.ports.gate.check_grants(&[name.to_owned()], &tools).map_err(|problem| {
            wrong(&problem).with_hint(
                "list the tools with `dromia tool list`; declare an external tool in dromia.yaml first",
            )
        })?;
        let covers =
            |tool: &str| name.strip_suffix('*').map_or(tool == name, |family| tool.starts_with(family));
        let covered = tools.descriptors().filter(|tool| covers(&tool.name));
        let covered: Vec<&str> = covered.map(|tool| tool.name.as_str()).collect();
        if covered.is_empty() {
            return Err(wrong(&format!("{right} covers no tool")));
        }
        let runs = |tool: &&str| core.ports.tools.process_limits(tool, &ToolTerms::default()).is_some();
        if wall_ms_max.is_some() && !covered.iter().any(runs) {
            let problem = format!("{right} runs no program, so a time limit would have no effect on it");
            return Err(wrong(&problem).with_hint("leave out the time limit, or grant this right separately"));
        }
    }
    Ok(())
}

pub(crate) async fn revoke_capability(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<CapabilityResource>> {
    let revoked =
        core.ports.capabilities.revoke_capability(caller.scope, parse_capability_id(&name)?).await?;
    Ok(Json(by_itself(&core, revoked)))
}

/// A capability with its own state, whatever became of what it was made from.
fn by_itself(core: &GatewayCore, capability: capability::CapabilityRecord) -> CapabilityResource {
    let state = capability.state_at(core.ports.runtime.clock.now());
    wire::api_capability(capability, state.into())
}

pub(crate) async fn check_tool_call(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((agent, tool)): PathSegments<(String, String)>,
    QueryParams(asked): QueryParams<CapabilityCheckQuery>,
) -> Answer<Json<CallCheck>> {
    let scope = caller.scope;
    let agent = find_agent(&core, &scope, &agent).await?;
    let tools = core.ports.tools.tool_catalogue(&scope, Some(agent.id)).await?;
    let call = prepare_call(&core, &tools, tool, asked.arguments)?;
    let presented = asked.token.as_deref().map(parse_token).transpose()?;
    let is_presented = presented.is_some();
    let weighed = core.ports.capabilities.judge_call(&scope, agent.id, &call, presented).await?;
    let verdict = match uncovered_verdict(&weighed) {
        // The agent's own rights do not replace a presented token that does not cover the call.
        Some(denied) if is_presented => denied,
        // What covers a call is one right among others: permissions and policies may still forbid it.
        _ => {
            ask_approval_rules(&core, &scope, agent.id, &call, ask_gate(&core, &scope, &agent, &call).await?)
                .await?
        }
    };
    let (allowed, rule, reason, policy) = match verdict {
        GateVerdict::Allow { rule, policy } => (true, rule, String::new(), policy),
        // It would wait for a person first.
        GateVerdict::Ask { rule, reason, policy } => {
            (false, format!("{} {rule}", CallCheck::ASK), reason, policy)
        }
        // It would wait for its time first.
        GateVerdict::Delay { rule, reason, policy } => {
            (false, format!("{} {rule}", CallCheck::DELAY), reason, policy)
        }
        GateVerdict::Deny { rule, reason, policy } => (false, rule, reason, policy),
    };
    let capabilities = weighed.into_iter().map(wire_weighed).collect();
    // A prepared call's arguments are JSON.
    let arguments = serde_json::from_str(&call.arguments).unwrap_or_default();
    Ok(Json(CallCheck { tool: call.tool, arguments, allowed, rule, reason, policy, capabilities }))
}

/// Asks the gate, as it is asked before a call of the agent begins.
async fn ask_gate(
    core: &GatewayCore,
    scope: &Scope,
    agent: &AgentRecord,
    call: &PreparedCall,
) -> Answer<GateVerdict> {
    let grants = agent_grants(core, scope, agent.id, agent.revision).await?;
    let network = call_network(core, scope, agent.id, &call.tool, &grants).await?;
    let call = PreparedCall { network, ..call.clone() };
    let principal = Principal {
        scope,
        author: scope.actor(),
        grants: &grants,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    Ok(core.ports.gate.evaluate_action(principal, GateAction::Tool(&call)).await)
}

/// Asks the rules of approvals, where the call would wait for a person or for its time. They answer in advance, and no
/// person is asked. The call is of no session, so those of a session say nothing.
async fn ask_approval_rules(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    call: &PreparedCall,
    verdict: GateVerdict,
) -> Answer<GateVerdict> {
    let (word, rule, reason, policy) = match &verdict {
        GateVerdict::Ask { rule, reason, policy } => (CallCheck::ASK, rule, reason, *policy),
        GateVerdict::Delay { rule, reason, policy } => (CallCheck::DELAY, rule, reason, *policy),
        GateVerdict::Allow { .. } | GateVerdict::Deny { .. } => return Ok(verdict),
    };
    let standing = core.ports.store.approval_rules(scope).await?;
    let declared = core.ports.runs.approval_rules_declared();
    let now = core.ports.runtime.clock.now();
    let asked = RuledCall { agent, session: None, tool: &call.tool, arguments: &call.arguments };
    Ok(match asked.answered_by(&declared, &standing, now) {
        None => verdict,
        Some((RuleAnswer::Allow, name)) => {
            GateVerdict::Allow { rule: format!("approval rule {name} for {word} {rule}"), policy }
        }
        Some((RuleAnswer::Deny, name)) => GateVerdict::Deny {
            rule: format!("approval rule {name}"),
            reason: format!("a rule denies it in advance, so no person is asked ({reason})"),
            policy,
        },
    })
}

/// Says why none of what was looked at covers a call; nothing where one does.
fn uncovered_verdict(weighed: &[capability::CapabilityVerdict]) -> Option<GateVerdict> {
    if weighed.iter().any(|weighed| weighed.covers) {
        return None;
    }
    let reason = weighed.first().map(|weighed| weighed.why.clone()).unwrap_or_default();
    Some(GateVerdict::Deny { rule: "capability presented".to_owned(), reason, policy: None })
}

fn wire_weighed(weighed: capability::CapabilityVerdict) -> CapabilityFinding {
    let capability::CapabilityVerdict { capability, covers, block, why } = weighed;
    CapabilityFinding { capability, covers, block: block.and_then(|block| u32::try_from(block).ok()), why }
}

/// Puts a call that is only checked in canonical form, as a model's would be.
fn prepare_call(
    core: &GatewayCore,
    tools: &ToolCatalogue,
    tool: String,
    arguments: Option<String>,
) -> Answer<PreparedCall> {
    let arguments = arguments.unwrap_or_else(|| "{}".to_owned());
    // Steps count from 1; this one belongs to no run.
    let call = ToolCall { id: CallId { step: 1, index: 0 }, tool, arguments };
    core.ports.tools.prepare_call(tools, &call).map_err(|error| match error {
        PrepareError::UnknownTool { .. } | PrepareError::RemovedTool { .. } => no_such_tool(&call.tool),
        PrepareError::Arguments { problem, .. } => {
            ApiError::invalid_request(format!("`arguments`: {problem}")).at_field("arguments")
        }
    })
}

/// Tells what a program would be given that a call starts; nothing for one that starts none.
async fn call_network(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    tool: &str,
    grants: &[String],
) -> Answer<Option<NetworkAccess>> {
    let terms = core.ports.terms.effective_terms(tool, Some((scope, agent))).await?;
    let runs_programs = core.ports.tools.process_limits(tool, &terms).is_some();
    Ok(runs_programs.then(|| terms.network_for(grants)))
}

async fn agent_grants(
    core: &GatewayCore,
    scope: &Scope,
    agent: AgentId,
    revision: dromia_contracts::Digest,
) -> Answer<Vec<String>> {
    let revision = core.ports.store.agent_revision(scope, agent, revision).await?;
    let mut grants = revision.ok_or_else(no_such_agent)?.config.grants;
    grants.extend(core.ports.terms.operator_grants(scope, agent).await?);
    Ok(grants)
}

/// Reads the text form of a token; opening it shows what it is worth.
fn parse_token(text: &str) -> Answer<Bytes> {
    let read = URL_SAFE_NO_PAD.decode(text.trim());
    read.map(Bytes::from).map_err(|_| {
        ApiError::new(
            ErrorCode::CapabilityUnreadable,
            "the token is not base64url; copy it exactly as it was printed",
        )
    })
}

fn parse_capability_id(text: &str) -> Answer<CapabilityId> {
    // A text that is no id names no capability.
    text.parse().map_err(|_| ApiError::not_found(ErrorCode::CapabilityNotFound, "capability", text))
}

fn expiry_time(core: &GatewayCore, seconds: Option<u64>) -> Answer<Option<Timestamp>> {
    seconds.map(|seconds| super::token::expiry_time(core.ports.runtime.clock.now(), seconds)).transpose()
}
