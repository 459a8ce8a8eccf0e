//! `permissions` of the operator's file: rows that say of a tool, for one agent or for all, that it is allowed, delayed,
//! asked for or denied.
//!
//! `allow:TOOL`, `deny:TOOL`, `ask:TOOL` and `delay:TOOL` are in an agent's list of grants as words of the operator, as
//! `privileged:TOOL` is; they are put to the policy, and no grant outweighs them. No configuration of an agent may hold
//! them. A row that allows a tool also adds an ordinary grant for it.

use crate::policy::PolicyVerdict;

/// Spells a row as an entry of an agent's grants, with the grant that it adds. `tool` is a tool or a family such as
/// `file.*`.
pub fn permission_grants(call: PolicyVerdict, tool: &str) -> impl Iterator<Item = String> {
    let row = format!("{}:{tool}", call.as_str());
    let grant = (call == PolicyVerdict::Allow).then(|| tool.to_owned());
    std::iter::once(row).chain(grant)
}

/// Reads a row: its verdict and its tool or family.
pub(crate) fn parse_row(text: &str) -> Option<(PolicyVerdict, &str)> {
    let (word, tool) = text.split_once(':')?;
    Some((PolicyVerdict::parse_word(word)?, tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_that_allows_a_tool_grants_it() {
        for verdict in ["allow", "deny", "ask", "delay"] {
            let row = format!("{verdict}:file.*");
            let (call, tool) = parse_row(&row).expect("a row");
            let mut wanted = vec![row.clone()];
            wanted.extend((verdict == "allow").then(|| "file.*".to_owned()));
            assert_eq!(permission_grants(call, tool).collect::<Vec<_>>(), wanted, "{verdict}");
        }
    }
}
