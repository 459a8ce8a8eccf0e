//! The plan of a turn: which tools it means to call, and where they lead, said before anything untrusted came to it.
//!
//! A plan is what the model asked for, or declared by [`DECLARE`], in steps whose request held trusted text only. From the
//! first step with something untrusted on it is frozen: nothing is added to it, whatever is said later. It forbids nothing
//! by itself; a policy sees whether a call lies within it ([`Standing`]).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::opinion::Opinion;

/// The built-in tool by which a model declares what it will call later. It is accepted while the plan is open.
pub const DECLARE: &str = "plan.declare";

/// The most tools of a plan.
pub const TOOLS_MAX: usize = 64;

/// The most destinations of a plan, and of a call that is looked for in one.
pub const DESTINATIONS_MAX: usize = 256;

/// The most bytes of one declared name or destination.
pub const WORD_BYTES_MAX: usize = 2 << 10;

/// A plan, as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// For each tool where it leads to, as in its calls.
    pub tools: BTreeMap<String, Vec<String>>,
}

impl Declaration {
    /// Says what is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        let destinations: usize = self.tools.values().map(Vec::len).sum();
        let mut words = self.tools.iter().flat_map(|(tool, leads)| std::iter::once(tool).chain(leads));
        if self.tools.is_empty() {
            return Some("tools: a plan names one tool at least".to_owned());
        }
        if self.tools.len() > TOOLS_MAX {
            return Some(format!("tools: a plan names {TOOLS_MAX} tools at most"));
        }
        if destinations > DESTINATIONS_MAX {
            return Some(format!("tools: a plan names {DESTINATIONS_MAX} destinations at most"));
        }
        let misfits = words.any(|word| word.is_empty() || word.len() > WORD_BYTES_MAX);
        misfits.then(|| format!("tools: names and destinations have 1 to {WORD_BYTES_MAX} bytes"))
    }
}

/// How a call stands to the plan of its turn, to what its actor typed, and to a second model: what of a call was known
/// beside the call itself.
///
/// It is kept with an approval, so that a call which begins later is judged by what was known when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The arguments that stand, word for word, in what an authenticated actor typed, or have the value which the tool gives
    /// them by itself, by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endorsed: Vec<String>,
    /// Whether the plan takes nothing more.
    pub frozen: bool,
    /// Whether the call lies within the plan. While the plan is open, every call does.
    pub in_plan: bool,
    /// The tools that the plan names, sorted; empty while it is open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// What a second model said of the call, where one was asked. No policy sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opinion: Option<Opinion>,
}

impl Default for Standing {
    /// Nothing is planned, and nothing can be.
    fn default() -> Self {
        Self { endorsed: Vec::new(), frozen: true, in_plan: false, tools: Vec::new(), opinion: None }
    }
}

/// What a gate is told of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planning<'a> {
    /// Whether the plan takes nothing more.
    pub frozen: bool,
    /// Whether the action lies within the plan.
    pub in_plan: bool,
    /// The tools that it names, sorted; empty while it is open.
    pub tools: &'a [String],
}

impl Planning<'_> {
    /// The plan of a turn to which nothing untrusted has come: all that is asked for is in it.
    pub const OPEN: Planning<'static> = Planning { frozen: false, in_plan: true, tools: &[] };
}

impl Standing {
    /// Lends what concerns the plan.
    pub fn planning(&self) -> Planning<'_> {
        Planning { frozen: self.frozen, in_plan: self.in_plan, tools: &self.tools }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_has_its_bounds() {
        let of = |tools: Vec<(String, usize)>| Declaration {
            tools: tools.into_iter().map(|(tool, leads)| (tool, vec!["x".to_owned(); leads])).collect(),
        };
        let named = |count: usize| (0..count).map(|n| (format!("t{n}"), 0)).collect::<Vec<_>>();
        assert_eq!(of(named(TOOLS_MAX)).problem(), None);
        assert_eq!(of(vec![("t".to_owned(), DESTINATIONS_MAX)]).problem(), None);
        for (declaration, said) in [
            (of(named(0)), "one tool at least"),
            (of(named(TOOLS_MAX + 1)), "64 tools at most"),
            (of(vec![("t".to_owned(), DESTINATIONS_MAX + 1)]), "256 destinations at most"),
            (of(vec![(String::new(), 0)]), "1 to 2048 bytes"),
            (of(vec![("t".repeat(WORD_BYTES_MAX + 1), 0)]), "1 to 2048 bytes"),
        ] {
            let problem = declaration.problem().expect(said);
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn who_knows_nothing_of_a_plan_is_in_none() {
        let unknown: Standing = serde_json::from_str("{}").expect("it is read");
        assert_eq!(unknown, Standing::default());
        assert!(unknown.frozen && !unknown.in_plan);
        let known = Standing { in_plan: true, tools: vec!["t".into()], ..Standing::default() };
        let written = serde_json::to_string(&known).expect("it is JSON");
        assert_eq!(serde_json::from_str::<Standing>(&written).expect("it is read"), known);
    }
}
