//! Tools: what each says about itself, what the operator allows it, and whether an agent may use it.
//!
//! Nothing is called here. Whether a tool is granted is asked of the gate itself, with the grants that count for the
//! agent's runs, so this route and a run cannot differ.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::tool::{ToolGrant, ToolLimits, ToolNetwork, ToolResource};
use dromia_contracts::capability::HOLDER;
use dromia_contracts::egress::may_reach;
use dromia_contracts::gate::{GateAction, GateVerdict, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolDescriptor};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{AgentId, CallId, Digest, ErrorCode, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::{find_agent, no_such_agent};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams};
use crate::failure::{Answer, ApiError};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolQuery {
    /// As this agent's next run would see them, by handle or id. Without it, the tools that some agent of the tenant may be given.
    agent: Option<String>,
}

/// An agent that is asked about, with what it may do.
struct AgentGrants {
    agent: AgentId,
    grants: Vec<String>,
}

pub(crate) async fn list_tools(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(asking): QueryParams<ToolQuery>,
) -> Answer<Json<ListPage<ToolResource>>> {
    let hands = find_agent_grants(&core, &caller.scope, asking).await?;
    let tools =
        core.ports.tools.tool_catalogue(&caller.scope, hands.as_ref().map(|hands| hands.agent)).await?;
    let mut items = Vec::new();
    for descriptor in tools.descriptors() {
        items.push(describe_tool(&core, &caller.scope, descriptor, hands.as_ref()).await?);
    }
    // The configuration bounds their number and their size, so one page holds them.
    Ok(Json(ListPage { items, next: None }))
}

pub(crate) async fn show_tool(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    QueryParams(asking): QueryParams<ToolQuery>,
) -> Answer<Json<ToolResource>> {
    let hands = find_agent_grants(&core, &caller.scope, asking).await?;
    let tools =
        core.ports.tools.tool_catalogue(&caller.scope, hands.as_ref().map(|hands| hands.agent)).await?;
    let descriptor = tools.find_tool(&name).ok_or_else(|| no_such_tool(&name))?;
    Ok(Json(describe_tool(&core, &caller.scope, descriptor, hands.as_ref()).await?))
}

async fn find_agent_grants(
    core: &GatewayCore,
    scope: &Scope,
    asking: ToolQuery,
) -> Answer<Option<AgentGrants>> {
    let Some(name) = asking.agent else { return Ok(None) };
    let agent = find_agent(core, scope, &name).await?;
    let revision = core.ports.store.agent_revision(scope, agent.id, agent.revision).await?;
    let mut grants = revision.ok_or_else(no_such_agent)?.config.grants;
    grants.extend(core.ports.terms.operator_grants(scope, agent.id).await?);
    Ok(Some(AgentGrants { agent: agent.id, grants }))
}

async fn describe_tool(
    core: &GatewayCore,
    scope: &Scope,
    descriptor: &ToolDescriptor,
    hands: Option<&AgentGrants>,
) -> Answer<ToolResource> {
    let ToolDescriptor { name, description, parameters, effect, roles, result_label, sensitivity, records } =
        descriptor.clone();
    let agent = hands.map(|hands| (scope, hands.agent));
    let terms = core.ports.terms.effective_terms(&name, agent).await?;
    let limits = core.ports.tools.process_limits(&name, &terms).map(ToolLimits::from);
    // What has limits runs programs.
    let network = limits.map(|_| program_network(&terms, hands));
    let probe = probe_call(&name, network.as_ref().map(|network| network.way));
    let granted = match hands {
        Some(hands) => Some(ask_gate(core, scope, &probe, &hands.grants).await),
        None => None,
    };
    Ok(ToolResource {
        granted,
        sink: core.ports.gate.call_sink(&probe),
        name,
        description,
        effect,
        roles: roles.into_iter().collect(),
        result_label: result_label.to_string(),
        sensitivity,
        records,
        arguments: parameters,
        privileged: terms.privileged,
        net: terms.net,
        network,
        sandbox: terms.sandbox,
        limits,
    })
}

/// Tells what programs may reach by what a call of theirs would be started with.
fn program_network(terms: &ToolTerms, hands: Option<&AgentGrants>) -> ToolNetwork {
    let Some(hands) = hands else {
        // Of an agent of whom nothing is said, what its grants cover is not known either.
        let way = terms.network.unwrap_or(NetworkAccess::None);
        return ToolNetwork { way, grants: Vec::new(), capabilities: false };
    };
    let way = terms.network_for(&hands.grants);
    let of_use = hands.grants.iter().filter(|grant| way == NetworkAccess::Proxy && may_reach(grant)).cloned();
    let (held, grants): (Vec<_>, Vec<_>) = of_use.partition(|grant| grant.starts_with(HOLDER));
    ToolNetwork { way, grants, capabilities: !held.is_empty() }
}

pub(super) fn no_such_tool(name: &str) -> ApiError {
    ApiError::not_found(ErrorCode::ToolNotFound, "tool", name)
}

/// A tool without a call of it, for the gate. What programs are given is said of those that run some.
fn probe_call(tool: &str, network: Option<NetworkAccess>) -> PreparedCall {
    PreparedCall {
        id: CallId::PROBE,
        tool: tool.to_owned(),
        effect: EffectClass::Pure,
        arguments: "{}".to_owned(),
        action: Digest::default(),
        reaches: None,
        network,
        contents: None,
    }
}

/// Asks the gate whether an agent may use a tool.
async fn ask_gate(core: &GatewayCore, scope: &Scope, probe: &PreparedCall, grants: &[String]) -> ToolGrant {
    let context = Label::PUBLIC_FACT;
    let principal =
        Principal { scope, author: scope.actor(), grants, context, endorsed: &[], plan: PlanContext::OPEN };
    match core.ports.gate.evaluate_action(principal, GateAction::Tool(probe)).await {
        GateVerdict::Allow { rule, .. } => ToolGrant { allowed: true, rule },
        // Each call of it waits for a person.
        GateVerdict::Ask { rule, .. } => ToolGrant { allowed: true, rule: format!("ask {rule}") },
        // Each call of it is delayed.
        GateVerdict::Delay { rule, .. } => ToolGrant { allowed: true, rule: format!("delay {rule}") },
        GateVerdict::Deny { rule, .. } => ToolGrant { allowed: false, rule },
    }
}
