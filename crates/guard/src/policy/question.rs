//! What a policy is asked, version 1: who, under which grant, and after what, and what exactly.
//!
//! A changed meaning is a new version. The default policy denies a version that it does not know; a field more is none.

use std::collections::BTreeMap;

use dromia_contracts::gate::{Action, Principal};
use dromia_contracts::plan::Planning;
use dromia_contracts::sandbox::Network;
use dromia_contracts::tool::{EffectClass, Manifest, PreparedCall, Sink};
use regorus::Value;
use serde_json::json;

use super::layer::Call;
use crate::egress::target::Target;
use crate::permission;

/// What is known of tools, by their names.
pub(super) type Manifests = BTreeMap<String, Manifest>;

/// The version of the question.
pub const VERSION: u32 = 1;

/// Writes the question; nothing if the arguments are no JSON, which no tool prepares.
pub(super) fn question(
    principal: Principal<'_>,
    action: Action<'_>,
    capability: &str,
    manifests: &Manifests,
    irreversible: Call,
) -> Option<Value> {
    let (action, rows) = match action {
        Action::Tool(call) => (
            of_call(call, manifests.get(&call.tool), principal.endorsed, principal.plan)?,
            permission::rows(principal.grants, &call.tool),
        ),
        Action::Model { model } => (json!({ "kind": "model", "model": model }), Vec::new()),
        Action::Reply { session } => (json!({ "kind": "reply", "session": session.to_string() }), Vec::new()),
    };
    let rows: Vec<_> =
        rows.into_iter().map(|(call, tool)| json!({ "verdict": call.as_str(), "tool": tool })).collect();
    let scope = principal.scope;
    let label = principal.context.to_string();
    let (integrity, readers) = label.split_once('/')?;
    let question = json!({
        "version": VERSION,
        "tenant": scope.tenant().to_string(),
        "agent": scope.agent().map(|agent| agent.to_string()),
        "author": principal.author.as_str(),
        "capability": capability,
        "context": { "integrity": integrity, "readers": readers },
        "permissions": rows,
        "irreversible": irreversible.as_str(),
        "action": action,
    });
    match Value::from(question) {
        Value::Undefined => None,
        question => Some(question),
    }
}

fn of_call(
    call: &PreparedCall,
    manifest: Option<&Manifest>,
    endorsed: &[String],
    Planning { frozen, in_plan, tools }: Planning<'_>,
) -> Option<serde_json::Value> {
    let arguments: serde_json::Value = serde_json::from_str(&call.arguments).ok()?;
    let mut action = json!({
        "kind": "tool",
        "tool": call.tool,
        "effect": call.effect,
        "arguments": arguments,
        "endorsed": endorsed,
        "irreversible": is_irreversible(call, manifest),
        "in_plan": in_plan,
        "plan": { "frozen": frozen, "tools": tools },
    });
    // Of a tool without one a policy sees neither, and the rules of what is known do not hold for it.
    if let Some(manifest) = manifest {
        action["sink"] = json!(sink(call, Some(manifest)));
        action["roles"] = json!(manifest.roles);
    }
    if let Some(network) = call.network {
        action["network"] = json!(network);
    }
    if let Some(reaches) = &call.reaches {
        let target = Target::read(&reaches.url).ok()?;
        action["reaches"] = json!({
            "method": reaches.method.as_str(),
            "host": target.host(),
            "port": target.port(),
            "encrypted": target.is_encrypted(),
            "url": reaches.url,
            "secrets": reaches.secrets,
        });
    }
    Some(action)
}

/// Tells where what a call does is seen: where its tool is said to be seen, but for a program. One that is given no way out
/// changes files of its workspace and nothing else, and they keep the label of what led to them; one of which nobody knows
/// what it is given is seen outside. Of a tool without a manifest nothing is known.
pub(super) fn sink(call: &PreparedCall, manifest: Option<&Manifest>) -> Option<Sink> {
    let said = manifest?.sink;
    Some(match call.network {
        Some(Network::None) if call.reaches.is_none() => Sink::Inside,
        Some(Network::None | Network::Proxy) => Sink::Outside,
        None => said,
    })
}

/// Tells whether nobody can undo a call: it changes something, and where others see it. Of a tool without a manifest that
/// is taken for granted.
pub(super) fn is_irreversible(call: &PreparedCall, manifest: Option<&Manifest>) -> bool {
    call.effect != EffectClass::Pure && sink(call, manifest) != Some(Sink::Inside)
}
