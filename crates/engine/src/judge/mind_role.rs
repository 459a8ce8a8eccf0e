//! The check that a run of a branching agent uses the tools of its role.

use dromia_contracts::tool::PreparedCall;

use super::{CallJudge, JudgementStop};
use crate::mind_roles::MindRole;

/// The rule of these refusals.
const RULE: &str = "mind";

/// Refuses a call of a tool that the run's role does not have, and each one after the last model call.
pub(super) fn check_role(judge: &CallJudge<'_>, call: &PreparedCall) -> Result<(), JudgementStop> {
    match role_problem(judge, call) {
        Some(problem) => Err(judge.deny_call(&call.tool, RULE, problem)),
        None => Ok(()),
    }
}

/// Says why the run's role does not have the tool of a call. A call that a person made by hand has no role.
pub(super) fn role_problem(judge: &CallJudge<'_>, call: &PreparedCall) -> Option<String> {
    if judge.state.by_hand {
        return None;
    }
    if judge.state.has_concluded() {
        return Some("this was the last step, so no tool is called any more".to_owned());
    }
    let role = judge.state.started.as_ref().and_then(MindRole::of_run);
    let has_tool = |role: MindRole| {
        let tool = judge.identity.agent.catalogue.find_tool(&call.tool);
        tool.is_some_and(|tool| role.has_tool(tool))
    };
    role.filter(|role| !has_tool(*role)).map(|role| role.refusal_text(&call.tool))
}
