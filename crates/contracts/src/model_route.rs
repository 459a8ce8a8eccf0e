//! Which model answers a run whose agent names an alias: the first rule of the alias that fits the run, or the alias itself.
//!
//! A rule knows what is known when a run begins, and the choice is pinned in its first entry. Fallbacks are something else: they
//! stand in for a model that does not answer.

use serde::{Deserialize, Serialize};

use crate::handle::HandleSlug;
use crate::identity_document::PromptKind;

/// What is known of a run when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteFacts<'a> {
    /// Its kind. A branch is answered by the model of its parent, so no rule is asked for it.
    pub kind: PromptKind,
    /// The role of a worker, if it has one.
    pub role: Option<&'a str>,
    /// The platform of its session.
    pub platform: &'a str,
    /// The bytes of its inputs.
    pub input_bytes: u64,
    /// Whether its inputs have pictures.
    pub pictures: bool,
    /// Whether its conversation holds something untrusted.
    pub untrusted: bool,
}

/// A rule: all that it names must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRouteRule {
    /// The kind of run.
    pub kind: Option<PromptKind>,
    /// The role of a worker: only workers that were given this one.
    pub role: Option<HandleSlug>,
    /// The platform of its session.
    pub platform: Option<String>,
    /// How many bytes its inputs have at least.
    pub input_bytes_min: Option<u64>,
    /// Whether its inputs have pictures.
    pub pictures: Option<bool>,
    /// Whether its conversation holds something untrusted.
    pub untrusted: Option<bool>,
    /// The alias that answers.
    pub model: String,
}

impl ModelRouteRule {
    /// Returns whether the rule is for a run.
    pub fn fits_run(&self, facts: &RouteFacts<'_>) -> bool {
        self.kind.is_none_or(|kind| kind == facts.kind)
            && self.role.as_ref().is_none_or(|role| facts.role == Some(role.as_str()))
            && self.platform.as_deref().is_none_or(|platform| platform == facts.platform)
            && self.input_bytes_min.is_none_or(|least| facts.input_bytes >= least)
            && self.pictures.is_none_or(|pictures| pictures == facts.pictures)
            && self.untrusted.is_none_or(|untrusted| untrusted == facts.untrusted)
    }

    /// Returns whether the rule names no condition.
    pub fn is_unconditional(&self) -> bool {
        self.kind.is_none()
            && self.role.is_none()
            && self.platform.is_none()
            && self.input_bytes_min.is_none()
            && self.pictures.is_none()
            && self.untrusted.is_none()
    }
}

/// Returns the alias of the first rule that fits a run.
pub fn choose_alias<'r>(rules: &'r [ModelRouteRule], facts: &RouteFacts<'_>) -> Option<&'r str> {
    rules.iter().find(|rule| rule.fits_run(facts)).map(|rule| rule.model.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(model: &str) -> ModelRouteRule {
        ModelRouteRule {
            kind: None,
            role: None,
            platform: None,
            input_bytes_min: None,
            pictures: None,
            untrusted: None,
            model: model.to_owned(),
        }
    }

    #[test]
    fn the_first_rule_of_which_all_holds_chooses() {
        let rules = [
            ModelRouteRule { kind: Some(PromptKind::Worker), pictures: Some(true), ..rule("a") },
            ModelRouteRule { role: Some("coder".parse().expect("a role")), ..rule("e") },
            ModelRouteRule { kind: Some(PromptKind::Worker), ..rule("b") },
            ModelRouteRule { platform: Some("webhook".to_owned()), untrusted: Some(false), ..rule("c") },
            ModelRouteRule { input_bytes_min: Some(1_000), ..rule("d") },
        ];
        let turn = RouteFacts {
            kind: PromptKind::Turn,
            role: None,
            platform: "cli",
            input_bytes: 10,
            pictures: false,
            untrusted: false,
        };
        for (facts, chosen) in [
            (turn, None),
            (RouteFacts { kind: PromptKind::Worker, ..turn }, Some("b")),
            (RouteFacts { kind: PromptKind::Worker, pictures: true, ..turn }, Some("a")),
            (RouteFacts { kind: PromptKind::Worker, role: Some("coder"), ..turn }, Some("e")),
            (RouteFacts { kind: PromptKind::Worker, role: Some("tester"), ..turn }, Some("b")),
            (RouteFacts { platform: "webhook", ..turn }, Some("c")),
            (RouteFacts { platform: "webhook", untrusted: true, ..turn }, None),
            (RouteFacts { input_bytes: 999, ..turn }, None),
            (RouteFacts { input_bytes: 1_000, ..turn }, Some("d")),
        ] {
            assert_eq!(choose_alias(&rules, &facts), chosen, "{facts:?}");
        }
        assert!(rule("a").is_unconditional() && !rules[1].is_unconditional());
    }
}
