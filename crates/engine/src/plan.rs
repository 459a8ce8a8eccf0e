//! The plan of a turn: what the model meant to call before any untrusted text came to it, and whether a call is part of
//! that.
//!
//! A plan is no record of its own. It is derived from the run's own units: the calls of those steps whose request held
//! trusted text only ([`ModelReplied::clean`](dromia_contracts::entry::ModelReplied)), and what `plan.declare` named in
//! such steps. So it is the same after a crash. It is derived again for each call that is judged in a frozen turn; an
//! open turn costs nothing.
//!
//! It is no blank cheque: a tool is planned for so many calls, which those that began use up; a destination, an object
//! and a text are planned word for word, an amount up to a bound, an argument without a role by its value, and content of
//! the tools that are named. A plan never
//! reopens. Labels only join, and a step that was not clean closes the plan for the rest of its run, even if a takeover
//! reads less of the past. A call that the gate or a person refused is in no plan.

mod entry;

use std::collections::BTreeSet;

use dromia_contracts::CallId;
use dromia_contracts::content::CallStatus;
use dromia_contracts::plan::{CallProvenance, DECLARE, DESTINATIONS_MAX, PlanDeclaration, TOOLS_MAX};
use dromia_contracts::tool::{ArgumentRole, EffectClass, PreparedCall, Sensitivity};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use serde_json::{Map, Value};

use self::entry::PlanEntry;
use crate::context::taint::ToolSource;
use crate::context::transcript::ConversationTranscript;
use crate::endorse::{is_typed, typed_numbers};
use crate::json_leaves::collect_leaves;
use crate::records::KnownRecords;
use crate::run_tools::RunTools;

/// The rule that refuses a declaration which comes too late.
pub(crate) const FROZEN: &str = "plan-frozen";

/// The result of a declaration that comes too late.
pub(crate) const FROZEN_TEXT: &str = "The plan of this turn is frozen: something that nobody here vouches for came to it, \
                                      and nothing is added after that. Nothing was done. Go on without it: a call that is \
                                      not in the plan may need a person.";

/// The most calls that make a plan, and that are counted to see what is left of it; beyond them nothing is left.
const CALLS_MAX: usize = 64;

/// The most bytes of arguments that are read for a plan.
const BYTES_MAX: usize = 1 << 20;

/// The planned calls, in the order of their declaration.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TurnPlan {
    entries: Vec<PlanEntry>,
    tools: BTreeSet<String>,
    destinations: usize,
    typed_numbers: Vec<f64>,
}

/// Returns the provenance of a call: whether it is in the plan of its turn, and what the turn has read. A typed value
/// that was planned counts as endorsed.
pub(crate) fn plan_provenance(
    story: &ConversationTranscript,
    tools: RunTools<'_>,
    call: &PreparedCall,
) -> CallProvenance {
    let (sources, called) = (sensitive_sources(story, tools), called_tools(story, tools));
    if !story.taint.is_frozen() {
        return CallProvenance { frozen: false, in_plan: true, sources, called, ..CallProvenance::default() };
    }
    let records = KnownRecords::from_transcript(story, tools);
    let plan = TurnPlan::from_transcript(story, tools, &records, call.id);
    let PlanBinding { in_plan, planned, endorsed, carries, bounds } =
        plan.bind_call(story, call, tools, &records);
    let uncarried = sources.iter().filter(|source| !carries.contains(*source)).cloned().collect();
    CallProvenance {
        endorsed,
        frozen: true,
        in_plan,
        tools: plan.tools.into_iter().collect(),
        planned,
        bounds,
        sources,
        uncarried,
        called,
        opinion: None,
    }
}

/// Lists the tools that gave the turn sensitive data: those whose manifest says so, and those with a result that only
/// its actor may read, or that a secret of the vault opened.
pub(crate) fn sensitive_sources(story: &ConversationTranscript, tools: RunTools<'_>) -> Vec<String> {
    let known = |heard: &ToolSource| {
        let tool = tools.catalogue.find_spelled(&heard.tool)?;
        (heard.is_personal || tool.sensitivity == Sensitivity::High).then(|| tool.name.clone())
    };
    let sources: BTreeSet<_> = story.tool_sources().iter().filter_map(known).collect();
    sources.into_iter().collect()
}

/// Lists the tools that were called before in this turn.
fn called_tools(story: &ConversationTranscript, tools: RunTools<'_>) -> Vec<String> {
    let began = story.own_calls().filter(|(_, status)| {
        matches!(status, Some(CallStatus::Ok | CallStatus::Error | CallStatus::Unknown))
    });
    let names = began.filter_map(|(call, _)| tools.catalogue.find_spelled(&call.tool));
    let names: BTreeSet<_> = names.map(|tool| tool.name.clone()).collect();
    names.into_iter().collect()
}

/// The match of one call with a plan.
struct PlanBinding {
    in_plan: bool,
    planned: Vec<String>,
    endorsed: Vec<String>,
    carries: BTreeSet<String>,
    bounds: String,
}

impl TurnPlan {
    /// Derives the plan of the transcript's run as of a call: calls that began before it are used up.
    pub(crate) fn from_transcript(
        story: &ConversationTranscript,
        tools: RunTools<'_>,
        records: &KnownRecords,
        before: CallId,
    ) -> Self {
        let mut plan = Self { typed_numbers: typed_numbers(&story.transcript), ..Self::default() };
        let mut room = BYTES_MAX;
        for (looked_at, (call, status)) in story.own_calls().enumerate() {
            let left = room.checked_sub(call.arguments.len());
            let (true, Some(left)) = (looked_at < CALLS_MAX, left) else {
                plan.use_up();
                break;
            };
            room = left;
            if matches!(status, Some(CallStatus::Denied | CallStatus::Cancelled)) {
                continue;
            }
            // A malformed call, or one without a tool here, plans nothing, and it never ran.
            let Ok(prepared) = tools.prepare_call(call) else { continue };
            if story.taint.is_clean(call.id) {
                plan.plan_clean_call(&prepared, status, tools.catalogue, records);
            } else if call.id < before {
                plan.use_planned_call(&prepared, tools.catalogue, records);
            }
        }
        plan
    }

    /// Takes a call of a clean step: a declaration plans, and another call is planned by itself, once, unless it is one that
    /// was declared.
    fn plan_clean_call(
        &mut self,
        call: &PreparedCall,
        status: Option<CallStatus>,
        tools: &ToolCatalogue,
        records: &KnownRecords,
    ) {
        if call.tool == DECLARE {
            if status == Some(CallStatus::Ok) {
                self.declare_tools(&call.arguments, tools);
            }
            return;
        }
        let Some(leads) = call_destinations(call, tools) else { return };
        if !self.use_planned_call(call, tools, records) {
            let times = if call.effect == EffectClass::Pure { None } else { Some(1) };
            let mut entry =
                PlanEntry { to: leads.into_iter().collect(), times, ..PlanEntry::for_tool(&call.tool) };
            entry.use_one_call();
            self.add_entry(entry);
        }
    }

    /// Uses up the plan's entry for a call that began. Returns whether it was planned.
    fn use_planned_call(
        &mut self,
        call: &PreparedCall,
        tools: &ToolCatalogue,
        records: &KnownRecords,
    ) -> bool {
        let Some((at, _)) = self.choose_entry(call, tools, records) else { return false };
        if call.effect != EffectClass::Pure {
            self.entries[at].use_one_call();
        }
        true
    }

    /// Uses up every entry, because further calls are not counted.
    fn use_up(&mut self) {
        for entry in &mut self.entries {
            entry.done = entry.times.unwrap_or_default();
        }
    }

    fn declare_tools(&mut self, arguments: &str, tools: &ToolCatalogue) {
        let Ok(PlanDeclaration { tools: named }) = serde_json::from_str(arguments) else { return };
        for (name, calls) in named {
            // A name that is no tool's is in no call.
            if let Some(tool) = tools.find_spelled(&name) {
                self.add_entry(PlanEntry::from_declaration(&tool.name, calls, tools, &self.typed_numbers));
            }
        }
    }

    fn add_entry(&mut self, mut entry: PlanEntry) {
        if !self.tools.contains(&entry.tool) {
            if self.tools.len() == TOOLS_MAX {
                return;
            }
            self.tools.insert(entry.tool.clone());
        }
        let room = DESTINATIONS_MAX - self.destinations;
        entry.to = entry.to.into_iter().take(room).collect();
        self.destinations += entry.to.len();
        self.entries.push(entry);
    }

    /// Finds the entry that a call lies within, of several the one that binds most of it: its tool is named, everywhere that
    /// the call leads to, and there is a call left. A look uses nothing up.
    fn choose_entry(
        &self,
        call: &PreparedCall,
        tools: &ToolCatalogue,
        records: &KnownRecords,
    ) -> Option<(usize, Vec<String>)> {
        let leads = call_destinations(call, tools)?;
        let goes_there =
            |entry: &PlanEntry| leads.iter().all(|lead| entry.to.contains(lead) || records.names_place(lead));
        let is_pure = call.effect == EffectClass::Pure;
        let entries = self.entries.iter().enumerate();
        let within = entries.filter(|(_, entry)| {
            entry.tool == call.tool && (is_pure || entry.has_left()) && goes_there(entry)
        });
        let bound = within.map(|(at, entry)| (at, entry.bound_arguments(call, tools, records)));
        bound.reduce(|best, other| if other.1.len() > best.1.len() { other } else { best })
    }

    fn bind_call(
        &self,
        story: &ConversationTranscript,
        call: &PreparedCall,
        tools: RunTools<'_>,
        records: &KnownRecords,
    ) -> PlanBinding {
        let said: Vec<_> = self.entries.iter().filter(|entry| entry.tool == call.tool).collect();
        let bounds = said.iter().map(ToString::to_string).collect::<Vec<_>>().join("; or ");
        // What waits behind a call that read something was itself asked for before, as it is.
        if story.taint.is_clean(call.id) && call_destinations(call, tools.catalogue).is_some() {
            let planned = given_arguments(call, tools.catalogue).map(|(name, _, _)| name).collect();
            let carries = story.tool_sources().into_iter().map(|heard| heard.tool).collect();
            return PlanBinding { in_plan: true, planned, endorsed: Vec::new(), carries, bounds };
        }
        let Some((at, planned)) = self.choose_entry(call, tools.catalogue, records) else {
            let (planned, endorsed, carries) = (Vec::new(), Vec::new(), BTreeSet::new());
            return PlanBinding { in_plan: false, planned, endorsed, carries, bounds };
        };
        let entry = &self.entries[at];
        let typed = |name: &String| {
            let value = given_arguments(call, tools.catalogue).find(|(known, _, _)| known == name);
            value.is_some_and(|(_, _, value)| entry.says_value(&value) && is_typed(&story.transcript, &value))
        };
        let endorsed = planned.iter().filter(|name| typed(name)).cloned().collect();
        PlanBinding { in_plan: true, endorsed, carries: entry.carries.clone(), planned, bounds }
    }

    /// Tells whether a call lies within it: its tool is named, everywhere that it leads to, and there is a call left.
    #[cfg(test)]
    pub(crate) fn contains_call(&self, call: &PreparedCall, tools: &ToolCatalogue) -> bool {
        self.choose_entry(call, tools, &KnownRecords::default()).is_some()
    }
}

/// The arguments of a call that have a value, with their roles.
fn given_arguments(
    call: &PreparedCall,
    tools: &ToolCatalogue,
) -> impl Iterator<Item = (String, Option<ArgumentRole>, Value)> {
    let roles = tools.find_tool(&call.tool).map(|tool| &tool.roles[..]);
    let role = |name: &str| roles?.iter().find(|(known, _)| known == name).map(|(_, role)| *role);
    let fields: Map<String, Value> = serde_json::from_str(&call.arguments).unwrap_or_default();
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    given.map(move |(name, value)| (name.clone(), role(&name), value)).collect::<Vec<_>>().into_iter()
}

/// Lists where a call leads to: the values of those of its arguments that its tool calls destinations. `None` if they
/// are unknown: the arguments are no object, or name more than [`DESTINATIONS_MAX`].
fn call_destinations(call: &PreparedCall, tools: &ToolCatalogue) -> Option<Vec<String>> {
    let Ok(Value::Object(_)) = serde_json::from_str(&call.arguments) else { return None };
    let mut leads = Vec::new();
    let is_destination = |role| role == Some(ArgumentRole::Destination);
    for (_, _, value) in given_arguments(call, tools).filter(|(_, role, _)| is_destination(*role)) {
        collect_leaves(&value, &mut leads);
    }
    (leads.len() <= DESTINATIONS_MAX).then_some(leads)
}

#[cfg(test)]
mod tests;
