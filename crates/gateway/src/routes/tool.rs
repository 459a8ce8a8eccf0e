//! Tools: what each says about itself, what the operator allows it, and whether an agent may use it.
//!
//! Nothing is called here. Whether a tool is granted is asked of the gate itself, with the grants that count for the
//! agent's runs, so this route and a run cannot differ.

use axum::Json;
use axum::extract::State;
use dromia_api::List;
use dromia_api::tool::{Granted, Tool, ToolLimits, ToolNetwork};
use dromia_contracts::capability::HOLDER;
use dromia_contracts::egress::may_reach;
use dromia_contracts::gate::{Action, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Planning;
use dromia_contracts::sandbox::Network;
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolDescriptor};
use dromia_contracts::{AgentId, CallId, Digest, ErrorCode, Scope};
use schemars::JsonSchema;
use serde::Deserialize;

use super::agent::{find, no_such_agent};
use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{Params, Segments};
use crate::failure::{Answer, Failure};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asking {
    /// In the hands of this agent, by handle or id.
    agent: Option<String>,
}

/// An agent that is asked about, with what it may do.
struct Hands {
    agent: AgentId,
    grants: Vec<String>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(asking): Params<Asking>,
) -> Answer<Json<List<Tool>>> {
    let hands = hands(&core, &caller.scope, asking).await?;
    let mut items = Vec::new();
    for descriptor in core.ports.tools.descriptors() {
        items.push(told(&core, &caller.scope, descriptor, hands.as_ref()).await?);
    }
    // There are as many tools as this program has, so one page holds them.
    Ok(Json(List { items, next: None }))
}

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    Params(asking): Params<Asking>,
) -> Answer<Json<Tool>> {
    let descriptor = core.ports.tools.descriptors().iter().find(|tool| tool.name == name);
    let descriptor = descriptor.ok_or_else(|| no_such_tool(&name))?;
    let hands = hands(&core, &caller.scope, asking).await?;
    Ok(Json(told(&core, &caller.scope, descriptor, hands.as_ref()).await?))
}

async fn hands(core: &Core, scope: &Scope, asking: Asking) -> Answer<Option<Hands>> {
    let Some(name) = asking.agent else { return Ok(None) };
    let agent = find(core, scope, &name).await?;
    let revision = core.ports.store.revision(scope, agent.id, agent.revision).await?;
    let mut grants = revision.ok_or_else(no_such_agent)?.config.grants;
    grants.extend(core.ports.terms.grants(scope, agent.id).await?);
    Ok(Some(Hands { agent: agent.id, grants }))
}

async fn told(
    core: &Core,
    scope: &Scope,
    descriptor: &ToolDescriptor,
    hands: Option<&Hands>,
) -> Answer<Tool> {
    let ToolDescriptor { name, description, parameters, effect, roles, result_label } = descriptor.clone();
    let agent = hands.map(|hands| (scope, hands.agent));
    let terms = core.ports.terms.of(&name, agent).await?;
    let limits = core.ports.tools.limits(&name, &terms).map(ToolLimits::from);
    // What has limits runs programs.
    let network = limits.map(|_| network(&terms, hands));
    let probe = probe(&name, network.as_ref().map(|network| network.way));
    Ok(Tool {
        granted: hands.map(|hands| granted(core, scope, &probe, &hands.grants)),
        sink: core.ports.gate.sink(&probe),
        name,
        description,
        effect,
        roles: roles.into_iter().collect(),
        result_label: result_label.to_string(),
        arguments: parameters,
        privileged: terms.privileged,
        net: terms.net,
        network,
        sandbox: terms.sandbox,
        limits,
    })
}

/// Tells what programs may reach by what a call of theirs would be started with.
fn network(terms: &ToolTerms, hands: Option<&Hands>) -> ToolNetwork {
    let Some(hands) = hands else {
        // Of an agent of whom nothing is said, what its grants cover is not known either.
        let way = terms.network.unwrap_or(Network::None);
        return ToolNetwork { way, grants: Vec::new(), capabilities: false };
    };
    let way = terms.network_for(&hands.grants);
    let of_use = hands.grants.iter().filter(|grant| way == Network::Proxy && may_reach(grant)).cloned();
    let (held, grants): (Vec<_>, Vec<_>) = of_use.partition(|grant| grant.starts_with(HOLDER));
    ToolNetwork { way, grants, capabilities: !held.is_empty() }
}

pub(super) fn no_such_tool(name: &str) -> Failure {
    Failure::absent(ErrorCode::ToolNotFound, "tool", name)
}

/// A tool without a call of it, for the gate. What programs are given is said of those that run some.
fn probe(tool: &str, network: Option<Network>) -> PreparedCall {
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
fn granted(core: &Core, scope: &Scope, probe: &PreparedCall, grants: &[String]) -> Granted {
    let context = Label::PUBLIC_FACT;
    let principal =
        Principal { scope, author: scope.actor(), grants, context, endorsed: &[], plan: Planning::OPEN };
    match core.ports.gate.judge(principal, Action::Tool(probe)) {
        Verdict::Allow { rule, .. } => Granted { allowed: true, rule },
        // Each call of it waits for a person.
        Verdict::Ask { rule, .. } => Granted { allowed: true, rule: format!("ask {rule}") },
        // Each call of it is put off.
        Verdict::Delay { rule, .. } => Granted { allowed: true, rule: format!("delay {rule}") },
        Verdict::Deny { rule, .. } => Granted { allowed: false, rule },
    }
}
