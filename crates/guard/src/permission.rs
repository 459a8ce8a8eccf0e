//! `permissions` of the operator's file: rows that say of a tool, for one agent or for all, that it is allowed, delayed,
//! asked for or denied.
//!
//! An `allow` is a grant like any other. `deny:TOOL`, `ask:TOOL` and `delay:TOOL` stand among an agent's grants as words of
//! the operator, as `privileged:TOOL` does; they are put to the policy, and no grant outweighs them. No configuration of an
//! agent may hold them.

use crate::grant::Grant;
use crate::policy::Call;

/// Spells a row as it stands among an agent's grants. `tool` is a tool or a family such as `file.*`.
pub fn spelled(call: Call, tool: &str) -> String {
    match call {
        Call::Allow => tool.to_owned(),
        Call::Delay | Call::Ask | Call::Deny => format!("{}:{tool}", call.as_str()),
    }
}

/// Reads a row that narrows: its verdict and its tool or family.
pub(crate) fn narrowing(text: &str) -> Option<(Call, &str)> {
    let (word, tool) = text.split_once(':')?;
    match Call::read(word)? {
        call @ (Call::Delay | Call::Ask | Call::Deny) => Some((call, tool)),
        Call::Allow => None,
    }
}

/// Lists the rows that speak of a tool.
pub(crate) fn rows<'g>(grants: &'g [String], tool: &str) -> Vec<(Call, &'g str)> {
    let speaks = |known: &str| Grant::parse(known).is_ok_and(|grant| grant.covers_tool(tool));
    grants.iter().filter_map(|text| narrowing(text)).filter(|(_, known)| speaks(known)).collect()
}
