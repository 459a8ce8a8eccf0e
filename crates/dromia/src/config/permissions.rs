//! `permissions`: which tools are kept from agents, or granted to one, whatever the agents' own grants say.
//!
//! Each row is checked as a grant is, so that a typing error is found when the file is read. Between rows that speak of
//! the same tool deny goes before ask, ask before delay, and delay before allow. A tool that is listed twice in one
//! place is refused.

use dromia_guard::Grant;
use dromia_guard::permission::permission_grants;
use dromia_guard::policy::PolicyVerdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem_collector::ProblemCollector;

/// The most tools of one list.
const TOOLS_MAX: usize = 64;

/// What is kept from every agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenPermissions {
    /// Tools, or families such as `file.*`, whose calls start only after `irreversible.cooling_ms`. A person can refuse
    /// them until then.
    pub(crate) delay: Vec<String>,
    /// Tools, or families such as `file.*`, whose calls need a person's approval, as `approvals` describes.
    pub(crate) ask: Vec<String>,
    /// Tools, or families such as `file.*`, that no agent may call.
    pub(crate) deny: Vec<String>,
}

/// What one agent is granted, may do later, must ask for, or is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenOwnPermissions {
    /// Tools, or families such as `file.*`, that this agent may call in addition to its own grants.
    pub(crate) allow: Vec<String>,
    /// Tools, or families such as `file.*`, whose calls by this agent start only after `irreversible.cooling_ms`. A
    /// person can refuse them until then.
    pub(crate) delay: Vec<String>,
    /// Tools, or families such as `file.*`, whose calls by this agent need a person's approval, as `approvals`
    /// describes.
    pub(crate) ask: Vec<String>,
    /// Tools, or families such as `file.*`, that this agent may not call.
    pub(crate) deny: Vec<String>,
}

/// Resolves the rows for every agent to grants.
pub(super) fn of_all(
    written: &WrittenPermissions,
    tools: &[&str],
    check: &mut ProblemCollector<'_>,
) -> Vec<String> {
    let WrittenPermissions { delay, ask, deny } = written;
    permission_rows(
        "permissions",
        &[(PolicyVerdict::Delay, delay), (PolicyVerdict::Ask, ask), (PolicyVerdict::Deny, deny)],
        tools,
        check,
    )
}

/// Resolves the rows for one agent to grants.
pub(super) fn of_one(
    here: &str,
    written: &WrittenOwnPermissions,
    tools: &[&str],
    check: &mut ProblemCollector<'_>,
) -> Vec<String> {
    let WrittenOwnPermissions { allow, delay, ask, deny } = written;
    let lists = [
        (PolicyVerdict::Allow, allow),
        (PolicyVerdict::Delay, delay),
        (PolicyVerdict::Ask, ask),
        (PolicyVerdict::Deny, deny),
    ];
    permission_rows(here, &lists, tools, check)
}

fn permission_rows(
    here: &str,
    lists: &[(PolicyVerdict, &Vec<String>)],
    there: &[&str],
    check: &mut ProblemCollector<'_>,
) -> Vec<String> {
    let mut rows = Vec::new();
    let mut known: Vec<&String> = Vec::new();
    for (call, tools) in lists {
        let list = format!("{here}.{}", call.as_str());
        if tools.len() > TOOLS_MAX {
            check.add_problem(&list, format!("has more than {TOOLS_MAX} tools"));
        }
        for (index, tool) in tools.iter().enumerate() {
            let place = format!("{list}.{index}");
            if let Err(problem) = tool_or_family(tool, there) {
                check.add_problem(&place, problem);
            } else if known.contains(&tool) {
                check.add_problem(
                    &place,
                    format!("{tool} appears twice, and only the strictest entry would apply; keep one"),
                );
            }
            known.push(tool);
            rows.extend(permission_grants(*call, tool));
        }
    }
    rows
}

/// Checks that a row speaks of tools there are.
fn tool_or_family(text: &str, tools: &[&str]) -> Result<(), String> {
    let texts = [text.to_owned()];
    let grants = dromia_guard::parse_grants(&texts, tools).map_err(|error| error.to_string())?;
    match grants.as_slice() {
        [Grant::Tool(_) | Grant::Family(_)] => Ok(()),
        _ => Err(format!("{text:?} is not a tool; write a tool such as exec, or a family such as file.*")),
    }
}
