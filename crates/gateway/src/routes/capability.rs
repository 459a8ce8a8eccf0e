//! Capabilities of a tenant: grant, hand on, take back, list; and what the gate would say of a call that nobody made.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use dromia_api::List;
use dromia_api::capability::{
    Capability, CapabilityMade, Checked, DelegateCapability, GrantCapability, Weighed,
};
use dromia_contracts::agent::Agent;
use dromia_contracts::approval::{RuleAnswer, RuledCall};
use dromia_contracts::capability::{self, CapabilityUse, NewCapability};
use dromia_contracts::content::ToolCall;
use dromia_contracts::gate::{Action, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Planning;
use dromia_contracts::sandbox::Network;
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::{PrepareError, PreparedCall};
use dromia_contracts::{AgentId, CallId, CapabilityId, ErrorCode, Scope};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::{find, no_such_agent};
use super::tool::no_such_tool;
use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{JsonBody, Params, Segments, page_limit};
use crate::failure::{Answer, Failure};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only capabilities after this one.
    after: Option<CapabilityId>,
    /// The most capabilities of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checking {
    /// The arguments of the call, as JSON; by default `{}`.
    arguments: Option<String>,
    /// A token to look at in place of what the agent holds, as it was shown when it was made.
    token: Option<String>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Capability>>> {
    let limit = page_limit(listing.limit)?;
    let found = core.ports.capabilities.list(caller.scope, listing.after, limit).await?;
    let items = found.into_iter().map(|(capability, state)| wire::capability(capability, state)).collect();
    Ok(Json(List::page(items, limit, |capability| capability.id.to_string())))
}

pub(crate) async fn grant(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(asked): JsonBody<GrantCapability>,
) -> Answer<Response> {
    let GrantCapability { agent, rights, expires_in_seconds, wall_ms_max } = asked;
    let holder = find(&core, &caller.scope, &agent).await?.id;
    let until = until(&core, expires_in_seconds)?;
    let (from, usage) = (None, CapabilityUse::Held);
    made(&core, caller.scope, NewCapability { holder, from, usage, rights, until, wall_ms_max }).await
}

pub(crate) async fn delegate(
    State(core): State<Shared>,
    caller: Caller,
    Segments(from): Segments<String>,
    JsonBody(asked): JsonBody<DelegateCapability>,
) -> Answer<Response> {
    let DelegateCapability { agent, rights, expires_in_seconds, wall_ms_max } = asked;
    let holder = find(&core, &caller.scope, &agent).await?.id;
    let until = until(&core, expires_in_seconds)?;
    let (from, usage) = (Some(named(&from)?), CapabilityUse::Held);
    made(&core, caller.scope, NewCapability { holder, from, usage, rights, until, wall_ms_max }).await
}

async fn made(core: &Core, scope: Scope, new: NewCapability) -> Answer<Response> {
    if new.wall_ms_max == Some(0) {
        return Err(Failure::invalid("`wall_ms_max` must be at least 1"));
    }
    check_tools(core, &new.rights, new.wall_ms_max)?;
    let capability = core.ports.capabilities.grant(scope, new).await?;
    let token = URL_SAFE_NO_PAD.encode(&capability.token);
    // What it is made from stood a moment ago, or it would not have been made.
    let record = by_itself(core, capability);
    Ok((StatusCode::CREATED, Json(CapabilityMade { record, token })).into_response())
}

/// Refuses rights that could never count: for a tool that is not there, as among the grants of an agent, and with a time limit
/// for one that runs no program.
pub(super) fn check_tools(core: &Core, rights: &[String], wall_ms_max: Option<u32>) -> Answer<()> {
    for (index, right) in rights.iter().enumerate() {
        let Some(name) = right.strip_prefix("tool:") else { continue };
        let wrong = |problem: &str| Failure::invalid(format!("rights[{index}]: {problem}")).at("rights");
        core.ports.gate.check_grants(&[name.to_owned()]).map_err(|problem| {
            wrong(&problem).with_hint(
                "list the tools with `dromia tool list`; one of your own is named in dromia.yaml first",
            )
        })?;
        let covers =
            |tool: &str| name.strip_suffix('*').map_or(tool == name, |family| tool.starts_with(family));
        let covered = core.ports.tools.descriptors().iter().filter(|tool| covers(&tool.name));
        let covered: Vec<&str> = covered.map(|tool| tool.name.as_str()).collect();
        if covered.is_empty() {
            return Err(wrong(&format!("{right} covers no tool")));
        }
        let runs = |tool: &&str| core.ports.tools.limits(tool, &ToolTerms::default()).is_some();
        if wall_ms_max.is_some() && !covered.iter().any(runs) {
            let problem = format!(
                "{right} runs no program, and a time limit is for those that do, so it would cover nothing"
            );
            return Err(wrong(&problem).with_hint("leave the time limit out, or grant this right by itself"));
        }
    }
    Ok(())
}

pub(crate) async fn revoke(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<Capability>> {
    let revoked = core.ports.capabilities.revoke(caller.scope, named(&name)?).await?;
    Ok(Json(by_itself(&core, revoked)))
}

/// A capability as it stands whatever became of what it was made from.
fn by_itself(core: &Core, capability: capability::Capability) -> Capability {
    let state = capability.state(core.ports.runtime.clock.now());
    wire::capability(capability, state.into())
}

pub(crate) async fn check(
    State(core): State<Shared>,
    caller: Caller,
    Segments((agent, tool)): Segments<(String, String)>,
    Params(asked): Params<Checking>,
) -> Answer<Json<Checked>> {
    let scope = caller.scope;
    let agent = find(&core, &scope, &agent).await?;
    let call = prepared(&core, tool, asked.arguments)?;
    let presented = asked.token.as_deref().map(token).transpose()?;
    let is_presented = presented.is_some();
    let weighed = core.ports.capabilities.weigh(&scope, agent.id, &call, presented).await?;
    let verdict = match uncovered(&weighed) {
        // What is presented and does not cover the call is not made up for by the agent's own rights.
        Some(denied) if is_presented => denied,
        // What covers a call is one right among others: permissions and policies may still forbid it.
        _ => ruled(&core, &scope, agent.id, &call, judged(&core, &scope, &agent, &call).await?).await?,
    };
    let (allowed, rule, reason, policy) = match verdict {
        Verdict::Allow { rule, policy } => (true, rule, String::new(), policy),
        // It would wait for a person first.
        Verdict::Ask { rule, reason, policy } => (false, format!("{} {rule}", Checked::ASK), reason, policy),
        // It would wait for its time first.
        Verdict::Delay { rule, reason, policy } => {
            (false, format!("{} {rule}", Checked::DELAY), reason, policy)
        }
        Verdict::Deny { rule, reason, policy } => (false, rule, reason, policy),
    };
    let capabilities = weighed.into_iter().map(wire_weighed).collect();
    // A prepared call's arguments are JSON.
    let arguments = serde_json::from_str(&call.arguments).unwrap_or_default();
    Ok(Json(Checked { tool: call.tool, arguments, allowed, rule, reason, policy, capabilities }))
}

/// Asks the gate, as it is asked before a call of the agent begins.
async fn judged(core: &Core, scope: &Scope, agent: &Agent, call: &PreparedCall) -> Answer<Verdict> {
    let grants = grants(core, scope, agent.id, agent.revision).await?;
    let network = network(core, scope, agent.id, &call.tool, &grants).await?;
    let call = PreparedCall { network, ..call.clone() };
    let principal = Principal {
        scope,
        author: scope.actor(),
        grants: &grants,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: Planning::OPEN,
    };
    Ok(core.ports.gate.judge(principal, Action::Tool(&call)))
}

/// Asks the rules of approvals, where the call would wait for a person or for its time. They answer ahead, and nobody is asked.
/// The call is of no session, so those of a session say nothing.
async fn ruled(
    core: &Core,
    scope: &Scope,
    agent: AgentId,
    call: &PreparedCall,
    verdict: Verdict,
) -> Answer<Verdict> {
    let (word, rule, reason, policy) = match &verdict {
        Verdict::Ask { rule, reason, policy } => (Checked::ASK, rule, reason, *policy),
        Verdict::Delay { rule, reason, policy } => (Checked::DELAY, rule, reason, *policy),
        Verdict::Allow { .. } | Verdict::Deny { .. } => return Ok(verdict),
    };
    let standing = core.ports.store.approval_rules(scope).await?;
    let declared = core.ports.runs.approval_rules_declared();
    let now = core.ports.runtime.clock.now();
    let asked = RuledCall { agent, session: None, tool: &call.tool, arguments: &call.arguments };
    Ok(match asked.answered_by(&declared, &standing, now) {
        None => verdict,
        Some((RuleAnswer::Allow, name)) => {
            Verdict::Allow { rule: format!("approval rule {name} for {word} {rule}"), policy }
        }
        Some((RuleAnswer::Deny, name)) => Verdict::Deny {
            rule: format!("approval rule {name}"),
            reason: format!("a rule refuses it ahead, so nobody is asked ({reason})"),
            policy,
        },
    })
}

/// Says why none of what was looked at covers a call; nothing where one does.
fn uncovered(weighed: &[capability::Weighed]) -> Option<Verdict> {
    if weighed.iter().any(|weighed| weighed.covers) {
        return None;
    }
    let reason = weighed.first().map(|weighed| weighed.why.clone()).unwrap_or_default();
    Some(Verdict::Deny { rule: "capability presented".to_owned(), reason, policy: None })
}

fn wire_weighed(weighed: capability::Weighed) -> Weighed {
    let capability::Weighed { capability, covers, block, why } = weighed;
    Weighed { capability, covers, block: block.and_then(|block| u32::try_from(block).ok()), why }
}

/// Puts a call that nobody makes in canonical form, as a model's would be.
fn prepared(core: &Core, tool: String, arguments: Option<String>) -> Answer<PreparedCall> {
    let arguments = arguments.unwrap_or_else(|| "{}".to_owned());
    // Steps count from 1; this one belongs to no run.
    let call = ToolCall { id: CallId { step: 1, index: 0 }, tool, arguments };
    core.ports.tools.prepare(&call).map_err(|error| match error {
        PrepareError::UnknownTool { .. } => no_such_tool(&call.tool),
        PrepareError::Arguments { problem, .. } => {
            Failure::invalid(format!("`arguments`: {problem}")).at("arguments")
        }
    })
}

/// Tells what a program would be given that a call starts; nothing for one that starts none.
async fn network(
    core: &Core,
    scope: &Scope,
    agent: AgentId,
    tool: &str,
    grants: &[String],
) -> Answer<Option<Network>> {
    let terms = core.ports.terms.of(tool, Some((scope, agent))).await?;
    let runs_programs = core.ports.tools.limits(tool, &terms).is_some();
    Ok(runs_programs.then(|| terms.network_for(grants)))
}

async fn grants(
    core: &Core,
    scope: &Scope,
    agent: AgentId,
    revision: dromia_contracts::Digest,
) -> Answer<Vec<String>> {
    let revision = core.ports.store.revision(scope, agent, revision).await?;
    let mut grants = revision.ok_or_else(no_such_agent)?.config.grants;
    grants.extend(core.ports.terms.grants(scope, agent).await?);
    Ok(grants)
}

/// Reads the text form of a token; what it is worth is told by whoever opens it.
fn token(text: &str) -> Answer<Bytes> {
    let read = URL_SAFE_NO_PAD.decode(text.trim());
    read.map(Bytes::from).map_err(|_| {
        Failure::new(ErrorCode::CapabilityUnreadable, "the token is not base64 for URLs, as it was shown")
    })
}

fn named(text: &str) -> Answer<CapabilityId> {
    // Whatever is no id names nothing.
    text.parse().map_err(|_| Failure::absent(ErrorCode::CapabilityNotFound, "capability", text))
}

fn until(core: &Core, seconds: Option<u64>) -> Answer<Option<Timestamp>> {
    seconds.map(|seconds| super::token::end(core.ports.runtime.clock.now(), seconds)).transpose()
}
