//! The check that a run of a branching agent uses the tools of its role.

use dromia_contracts::tool::{BRANCH, PreparedCall};

use super::{CallJudge, JudgementStop};
use crate::mind_roles::MindRole;
use crate::owner::identity::RunIdentity;
use crate::state::RunState;

/// The rule of these refusals.
const RULE: &str = "mind";

/// Refuses a call of a tool that the run's role does not have, and each one after the last model call.
pub(super) fn check_role(judge: &CallJudge<'_>, call: &PreparedCall) -> Result<(), JudgementStop> {
    match role_problem(judge.state, judge.identity, call) {
        Some(problem) => Err(judge.deny_call(&call.tool, RULE, problem)),
        None => Ok(()),
    }
}

/// Says why the run's role does not have the tool of a call. A call that a person made by hand has no role.
pub(super) fn role_problem(state: &RunState, identity: &RunIdentity, call: &PreparedCall) -> Option<String> {
    if state.by_hand {
        return None;
    }
    if state.concludes_after(0) {
        return Some("this was the last step, so no tool is called any more".to_owned());
    }
    match state.started.as_ref().and_then(MindRole::of_run) {
        None if call.tool == BRANCH => {
            Some("only an agent whose mind is `branching` has branches; do it yourself".to_owned())
        }
        None => None,
        Some(role) => {
            let tool = identity.agent.catalogue.find_tool(&call.tool);
            let has_tool = tool.is_some_and(|tool| role.has_tool(tool));
            (!has_tool).then(|| role.refusal_text(&call.tool))
        }
    }
}
