//! What a policy is asked, version 1: who, under which grant, and after what, and what exactly.
//!
//! A changed meaning is a new version. The default policy denies a version that it does not know; a field more is none.

use std::collections::BTreeMap;

use dromia_contracts::gate::{GateAction, Principal};
use dromia_contracts::plan::PlanContext;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::tool::{EffectClass, EffectSink, PreparedCall, Sensitivity, ToolManifest};
use serde_json::{Value, json};

use super::bounds::exceeded_bound;
use super::verdict::PolicyVerdict;
use crate::egress::target::RequestTarget;
use crate::grant;

/// What is known of tools, by their names.
pub(super) type Manifests = BTreeMap<String, ToolManifest>;

/// The version of the question.
pub const VERSION: u32 = 1;

/// Why an action is not put to the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QuestionError {
    /// What would happen cannot be written down, which no tool prepares.
    Unreadable,
    /// It exceeds a bound, in words.
    Bound(String),
}

/// Writes the question.
pub(super) fn write_question(
    principal: Principal<'_>,
    action: GateAction<'_>,
    capability: &str,
    manifests: &Manifests,
    irreversible: PolicyVerdict,
) -> Result<Value, QuestionError> {
    let (action, rows) = match action {
        GateAction::Tool(call) => (
            of_call(call, manifests.get(&call.tool), principal.endorsed, principal.plan)?,
            grant::rows_for_tool(principal.grants, &call.tool),
        ),
        GateAction::Model { model } => (json!({ "kind": "model", "model": model }), Vec::new()),
        GateAction::Reply { session } => {
            (json!({ "kind": "reply", "session": session.to_string() }), Vec::new())
        }
    };
    let rows: Vec<_> =
        rows.into_iter().map(|(call, tool)| json!({ "verdict": call.as_str(), "tool": tool })).collect();
    let scope = principal.scope;
    let label = principal.context.to_string();
    let (integrity, readers) = label.split_once('/').ok_or(QuestionError::Unreadable)?;
    let sensitivity = if principal.plan.sources.is_empty() { Sensitivity::Low } else { Sensitivity::High };
    Ok(json!({
        "version": VERSION,
        "tenant": scope.tenant().to_string(),
        "agent": scope.agent().map(|agent| agent.to_string()),
        "author": principal.author.as_str(),
        "capability": capability,
        "context": { "integrity": integrity, "readers": readers, "sensitivity": sensitivity },
        "permissions": rows,
        "irreversible": irreversible.as_str(),
        "action": action,
    }))
}

fn of_call(
    call: &PreparedCall,
    manifest: Option<&ToolManifest>,
    endorsed: &[String],
    PlanContext { frozen, in_plan, tools, planned, bounds, sources, uncarried, called }: PlanContext<'_>,
) -> Result<Value, QuestionError> {
    let unreadable = |_| QuestionError::Unreadable;
    let arguments: Value = serde_json::from_str(&call.arguments).map_err(unreadable)?;
    if let Some(bound) = exceeded_bound(&call.arguments, &arguments, manifest) {
        return Err(QuestionError::Bound(bound));
    }
    let mut action = json!({
        "kind": "tool",
        "tool": call.tool,
        "effect": call.effect,
        "arguments": arguments,
        "endorsed": endorsed,
        "irreversible": is_irreversible(call, manifest),
        "in_plan": in_plan,
        "planned": planned,
        "plan": { "frozen": frozen, "tools": tools, "bounds": bounds },
        "called": called,
        "sources": sources,
        "uncarried": uncarried,
    });
    // Of a tool without one a policy sees neither, and the rules of what is known do not hold for it.
    if let Some(manifest) = manifest {
        action["sink"] = json!(call_sink(call, Some(manifest)));
        action["roles"] = json!(manifest.roles);
    }
    if let Some(network) = call.network {
        action["network"] = json!(network);
    }
    if let Some(reaches) = &call.reaches {
        let target = RequestTarget::parse_url(&reaches.url).map_err(|_| QuestionError::Unreadable)?;
        action["reaches"] = json!({
            "method": reaches.method.as_str(),
            "host": target.host(),
            "port": target.port(),
            "encrypted": target.is_encrypted(),
            "url": reaches.url,
            "secrets": reaches.secrets,
        });
    }
    Ok(action)
}

/// Returns where the effects of a call are visible: where its tool's manifest says, except for a program. A program
/// without network changes files of its workspace and nothing else, and they keep the label of what led to them; one
/// whose network is not known is visible outside. Without a manifest nothing is known.
pub(super) fn call_sink(call: &PreparedCall, manifest: Option<&ToolManifest>) -> Option<EffectSink> {
    let said = manifest?.sink;
    Some(match call.network {
        Some(NetworkAccess::None) if call.reaches.is_none() => EffectSink::Inside,
        Some(NetworkAccess::None | NetworkAccess::Proxy) => EffectSink::Outside,
        None => said,
    })
}

/// Tells whether a call cannot be undone: it changes something, and where others see it. A tool without a manifest is
/// assumed to be seen by others.
pub(super) fn is_irreversible(call: &PreparedCall, manifest: Option<&ToolManifest>) -> bool {
    call.effect != EffectClass::Pure && call_sink(call, manifest) != Some(EffectSink::Inside)
}
