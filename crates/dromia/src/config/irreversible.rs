//! `irreversible`: what becomes of calls that cannot be undone, how long a delayed call may be refused, and which
//! second model is asked about them.
//!
//! It says no word about single tools: `permissions` does, and a policy. What cannot be undone follows from what the tools
//! say of themselves, and from what the operator says of his own.

use std::collections::BTreeMap;

use dromia_contracts::opinion::SAMPLES_MAX;
use dromia_engine::{ApprovalsConfig, ObjectionAction, SecondOpinion};
use dromia_guard::policy::PolicyVerdict;
use dromia_models::ScriptedModel;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::models::WrittenModel;
use super::problem::did_you_mean;
use super::problem_collector::ProblemCollector;

/// How often a second model is asked about a call, where the file does not say it.
const SAMPLES: u32 = 3;

/// The longest time to cool.
const COOLING_MS_MAX: u64 = 30 * 24 * 3600 * 1000;

/// What becomes of calls that cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrittenIrreversibleAction {
    /// They are judged as others are.
    #[default]
    Allow,
    /// Each begins after `cooling_ms`, unless a person refuses it before.
    Delay,
    /// None begins.
    Abort,
}

/// What becomes of calls that change something where others see it, and so cannot be undone: those of `http.request`
/// that are more than a look, programs that are given a way out, and tools of the operator's own whose `sink` is
/// `outside`. It helps against haste and is no security boundary: a delay alone makes no person look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenIrreversible {
    /// What happens to these calls. `allow`: they are judged like all others. `delay`: each starts after `cooling_ms`,
    /// unless a person refuses it. `abort`: all are refused. A stricter rule of `permissions` or a policy wins.
    pub(crate) action: WrittenIrreversibleAction,
    /// How long a delayed call can be refused before it starts, in milliseconds. It also applies to delays by
    /// `permissions` and policies.
    pub(crate) cooling_ms: u64,
    /// A second model that checks each of these calls before it starts. It can only make the decision stricter.
    #[serde(skip_serializing_if = "WrittenSecondOpinion::is_absent")]
    pub(crate) second_opinion: WrittenSecondOpinion,
}

/// What becomes of a call that a second model does not agree to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrittenObjection {
    /// It begins after `cooling_ms`, unless a person refuses it before.
    Delay,
    /// A person must allow it.
    #[default]
    Ask,
    /// It is refused.
    Abort,
}

/// A second model. It sees the call as it would be executed and what people typed, and nothing else; it answers with
/// one word. It makes a verdict stricter and never milder. It helps against a deceived model and is no security
/// boundary: it may be deceived too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenSecondOpinion {
    /// Alias of the checking model; without it no call is checked. The agents' grants must cover the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// How many times the model is asked about one call, from 1 to 5. Each answer costs as much as a request.
    pub(crate) samples: u32,
    /// How many answers must agree to the call, more than half of `samples`. Default: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agree: Option<u32>,
    /// What happens to a call without enough agreement. `delay`: it starts after `cooling_ms`, unless a person refuses
    /// it. `ask`: a person must approve it. `abort`: it is refused. An error, an unclear answer, or none within a
    /// minute, counts as an objection.
    pub(crate) objection: WrittenObjection,
}

impl WrittenSecondOpinion {
    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for WrittenSecondOpinion {
    fn default() -> Self {
        Self { model: None, samples: SAMPLES, agree: None, objection: WrittenObjection::default() }
    }
}

impl Default for WrittenIrreversible {
    fn default() -> Self {
        let cooling = ApprovalsConfig::default().cooling.as_millis();
        Self {
            action: WrittenIrreversibleAction::default(),
            cooling_ms: u64::try_from(cooling).unwrap_or(COOLING_MS_MAX),
            second_opinion: WrittenSecondOpinion::default(),
        }
    }
}

/// Resolves what becomes of them, and the time to cool.
pub(super) fn resolve_irreversible(
    written: &WrittenIrreversible,
    check: &mut ProblemCollector<'_>,
) -> (PolicyVerdict, SignedDuration) {
    let WrittenIrreversible { action, cooling_ms, second_opinion: _ } = written;
    if !(1..=COOLING_MS_MAX).contains(cooling_ms) {
        let message = format!("must be from 1 to {COOLING_MS_MAX}, and is {cooling_ms}");
        check.add_problem("irreversible.cooling_ms", message);
    }
    let call = match action {
        WrittenIrreversibleAction::Allow => PolicyVerdict::Allow,
        WrittenIrreversibleAction::Delay => PolicyVerdict::Delay,
        WrittenIrreversibleAction::Abort => PolicyVerdict::Deny,
    };
    let cooling = i64::try_from(*cooling_ms).unwrap_or(i64::MAX);
    (call, SignedDuration::from_millis(cooling))
}

/// Resolves which second model is asked about them, if one is.
pub(super) fn second_opinion(
    written: &WrittenSecondOpinion,
    models: &BTreeMap<String, WrittenModel>,
    check: &mut ProblemCollector<'_>,
) -> Option<SecondOpinion> {
    let WrittenSecondOpinion { model, samples, agree, objection } = written;
    let (samples, needed) = (*samples, agree.unwrap_or(*samples));
    if !(1..=SAMPLES_MAX).contains(&samples) {
        let message = format!("must be from 1 to {SAMPLES_MAX}, and is {samples}");
        check.add_problem("irreversible.second_opinion.samples", message);
    } else if !(samples / 2 + 1..=samples).contains(&needed) {
        let least = samples / 2 + 1;
        let message =
            format!("must be more than half of {samples} answers, {least} to {samples}, and is {needed}");
        check.add_problem("irreversible.second_opinion.agree", message);
    }
    let Some(model) = model else {
        if !written.is_absent() {
            check.add_problem(
                "irreversible.second_opinion",
                "has no `model`, so no model reviews the call; add one",
            );
        }
        return None;
    };
    if model != ScriptedModel::ALIAS && !models.contains_key(model) {
        let known = models.keys().map(String::as_str).chain([ScriptedModel::ALIAS]);
        let near = did_you_mean(model, known);
        check.add_problem("irreversible.second_opinion.model", format!("there is no model `{model}`{near}"));
    }
    let objection = match objection {
        WrittenObjection::Delay => ObjectionAction::Delay,
        WrittenObjection::Ask => ObjectionAction::Ask,
        WrittenObjection::Abort => ObjectionAction::Abort,
    };
    Some(SecondOpinion { model: model.clone(), samples, agree: needed, objection })
}
