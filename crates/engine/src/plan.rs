//! The plan of a turn: what the model meant to call before anything untrusted came to it.
//!
//! A plan is no record of its own. It is read off the run's own units: the calls of those steps whose request held
//! trusted text only ([`ModelReplied::clean`](dromia_contracts::entry::ModelReplied)), and what `plan.declare` named in such
//! steps. So it is the same after a crash. It is put together anew for each call that is judged in a frozen turn; an open
//! one costs nothing.
//!
//! Nothing takes a frozen plan back to being open: labels only join, and a step that was not clean closes the plan for the
//! rest of its run, whatever of the past a takeover is told. A call that the gate or a person refused is in no plan.

use std::collections::{BTreeMap, BTreeSet};

use dromia_contracts::content::CallStatus;
use dromia_contracts::plan::{DECLARE, DESTINATIONS_MAX, Declaration, Standing, TOOLS_MAX};
use dromia_contracts::tool::{ArgumentRole, PreparedCall, ToolDescriptor, ToolHost};
use serde_json::Value;

use crate::story::Story;

/// The rule that refuses a declaration which comes too late.
pub(crate) const FROZEN: &str = "plan-frozen";

/// What whoever declares too late is told.
pub(crate) const FROZEN_TEXT: &str = "The plan of this turn is frozen: something that nobody here vouches for came to it, \
                                      and nothing is added after that. Nothing was done. Go on without it: a call that is \
                                      not in the plan may need a person.";

/// The most calls that make a plan; what is asked for beyond them is not in it.
const CALLS_MAX: usize = 64;

/// The most bytes of arguments that are looked at for a plan.
const BYTES_MAX: usize = 1 << 20;

/// Tools, and where each may lead.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    tools: BTreeMap<String, BTreeSet<String>>,
    destinations: usize,
}

/// Tells how a call stands to the plan of its turn. Of what was typed it knows nothing.
pub(crate) fn standing(story: &Story, host: &dyn ToolHost, call: &PreparedCall) -> Standing {
    if !story.is_frozen() {
        return Standing { frozen: false, in_plan: true, ..Standing::default() };
    }
    let plan = Plan::read(story, host);
    Standing {
        in_plan: plan.has(call, host.descriptors()),
        tools: plan.tools.into_keys().collect(),
        ..Standing::default()
    }
}

impl Plan {
    /// Reads the plan of the run that a story is told up to.
    pub(crate) fn read(story: &Story, host: &dyn ToolHost) -> Self {
        let mut plan = Self::default();
        let mut room = BYTES_MAX;
        for (call, status) in story.planned().take(CALLS_MAX) {
            let Some(left) = room.checked_sub(call.arguments.len()) else { break };
            room = left;
            // What is no call of a tool here plans nothing, and nothing of it ran.
            let Ok(prepared) = host.prepare(call) else { continue };
            if matches!(status, Some(CallStatus::Denied | CallStatus::Cancelled)) {
                continue;
            }
            if prepared.tool == DECLARE {
                if status == Some(CallStatus::Ok) {
                    plan.declare(&prepared.arguments, host.descriptors());
                }
            } else if let Some(leads) = destinations(&prepared, host.descriptors()) {
                plan.add(&prepared.tool, leads);
            }
        }
        plan
    }

    /// Tells whether a call lies within it: its tool is named, and everywhere that it leads to with that tool.
    pub(crate) fn has(&self, call: &PreparedCall, tools: &[ToolDescriptor]) -> bool {
        let (Some(known), Some(leads)) = (self.tools.get(&call.tool), destinations(call, tools)) else {
            return false;
        };
        leads.iter().all(|lead| known.contains(lead))
    }

    fn declare(&mut self, arguments: &str, tools: &[ToolDescriptor]) {
        let Ok(Declaration { tools: named }) = serde_json::from_str(arguments) else { return };
        for (name, leads) in named {
            let exact = tools.iter().find(|tool| tool.name == name);
            // A name that is no tool's is in no call.
            if let Some(tool) = exact.or_else(|| tools.iter().find(|tool| is_spelled(&tool.name, &name))) {
                self.add(&tool.name, leads);
            }
        }
    }

    fn add(&mut self, tool: &str, leads: impl IntoIterator<Item = String>) {
        if !self.tools.contains_key(tool) && self.tools.len() == TOOLS_MAX {
            return;
        }
        let known = self.tools.entry(tool.to_owned()).or_default();
        for lead in leads {
            if self.destinations == DESTINATIONS_MAX {
                return;
            }
            self.destinations += usize::from(known.insert(lead));
        }
    }
}

/// Tells whether a text is the name of a tool as providers have it that allow no dots.
fn is_spelled(tool: &str, text: &str) -> bool {
    tool.replace('.', "__") == text || tool.replace('.', "_") == text
}

/// Lists where a call leads to: the values of those of its arguments that its tool calls destinations. Nothing if nobody
/// can say it: the arguments are no object, or name more than [`DESTINATIONS_MAX`].
fn destinations(call: &PreparedCall, tools: &[ToolDescriptor]) -> Option<Vec<String>> {
    let roles = tools.iter().find(|tool| tool.name == call.tool).map(|tool| &tool.roles[..]);
    let Ok(Value::Object(fields)) = serde_json::from_str(&call.arguments) else { return None };
    let mut leads = Vec::new();
    for (name, _) in roles.unwrap_or_default().iter().filter(|(_, role)| *role == ArgumentRole::Destination) {
        if let Some(value) = fields.get(name) {
            leaves(value, &mut leads);
        }
    }
    (leads.len() <= DESTINATIONS_MAX).then_some(leads)
}

fn leaves(value: &Value, leads: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => leads.push(number.to_string()),
        Value::String(text) => leads.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| leaves(value, leads)),
        Value::Object(fields) => fields.values().for_each(|value| leaves(value, leads)),
    }
}

#[cfg(test)]
mod tests;
