//! `permissions` of the operator's file: rows that say of a tool, for one agent or for all, that it is allowed, delayed,
//! asked for or denied.
//!
//! `allow:TOOL`, `deny:TOOL`, `ask:TOOL` and `delay:TOOL` stand among an agent's grants as words of the operator, as
//! `privileged:TOOL` does; they are put to the policy, and no grant outweighs them. No configuration of an agent may hold
//! them. Who allows a tool also grants it, with a grant like any other beside the row.

use crate::grant::Grant;
use crate::policy::Call;

/// Spells a row as it stands among an agent's grants, with the grant that it brings. `tool` is a tool or a family such as
/// `file.*`.
pub fn spelled(call: Call, tool: &str) -> impl Iterator<Item = String> {
    let row = format!("{}:{tool}", call.as_str());
    let grant = (call == Call::Allow).then(|| tool.to_owned());
    std::iter::once(row).chain(grant)
}

/// Reads a row: its verdict and its tool or family.
pub(crate) fn row(text: &str) -> Option<(Call, &str)> {
    let (word, tool) = text.split_once(':')?;
    Some((Call::read(word)?, tool))
}

/// Lists the rows that speak of a tool.
pub(crate) fn rows<'g>(grants: &'g [String], tool: &str) -> Vec<(Call, &'g str)> {
    let speaks = |known: &str| Grant::parse(known).is_ok_and(|grant| grant.covers_tool(tool));
    grants.iter().filter_map(|text| row(text)).filter(|(_, known)| speaks(known)).collect()
}
