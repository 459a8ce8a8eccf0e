//! What an approval is bound to, part by part, so that a person sees which part has changed.
//!
//! It decides nothing: the whole binding decides whether a call may begin. The marks are too short for that.

use serde::{Deserialize, Serialize};

use crate::executable_files::ExecutableFiles;

/// Marks of the parts of a binding: the first bytes of a digest of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundParts {
    /// The call: tool and arguments, its effect, and where it would reach out to.
    pub call: u32,
    /// The tool as it is described, its limits and isolation.
    pub tool: u32,
    /// Who asks: tenant, agent, actor, and what the agent is granted.
    pub asker: u32,
    /// The rule that asks, and its policy.
    pub rule: u32,
    /// The files that its program could execute; nothing for a call that runs no program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<ExecutableFiles>,
}

impl BoundParts {
    /// Names the parts that are other ones now.
    pub fn changed_parts(&self, now: &Self) -> Vec<&'static str> {
        let parts = [
            (self.call != now.call, "the target of the call, or its effect"),
            (self.tool != now.tool, "the tool, its limits or its sandbox"),
            (self.asker != now.asker, "the author, or the agent's rights"),
            (self.rule != now.rule, "the rule that asks, or its policy"),
            (self.contents != now.contents, "files of its workspace that its program could execute"),
        ];
        parts.into_iter().filter(|(changed, _)| *changed).map(|(_, part)| part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::executable_files::BoundFiles;

    #[test]
    fn changed_binding_parts_are_named_and_old_rows_lack_files() {
        let contents =
            ExecutableFiles { digest: Digest::from_bytes([1; 32]), files: 2, extent: BoundFiles::Named };
        let known = BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: Some(contents) };
        assert!(known.changed_parts(&known).is_empty());
        let more = ExecutableFiles { files: 3, ..contents };
        for (number, now) in [
            BoundParts { call: 9, ..known },
            BoundParts { tool: 9, ..known },
            BoundParts { asker: 9, ..known },
            BoundParts { rule: 9, ..known },
            BoundParts { contents: Some(more), ..known },
        ]
        .into_iter()
        .enumerate()
        {
            let told = known.changed_parts(&now);
            assert_eq!(told.len(), 1, "{number}");
            let word = ["target", "tool", "author", "rule", "files"][number];
            assert!(told[0].contains(word), "{told:?}");
        }
        let other = BoundParts { rule: 9, contents: None, ..known };
        assert_eq!(known.changed_parts(&other).len(), 2);
        let text = serde_json::to_string(&BoundParts { contents: None, ..known }).expect("it is data");
        assert_eq!(text, r#"{"call":1,"tool":2,"asker":3,"rule":4}"#);
        assert_eq!(serde_json::from_str::<BoundParts>(&text).expect("it is one").contents, None);
    }
}
