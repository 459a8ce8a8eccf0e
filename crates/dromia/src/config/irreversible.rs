//! `irreversible`: what becomes of calls that cannot be undone, and how long a call that is put off may be refused.
//!
//! It says no word about single tools: `permissions` does, and a policy. What cannot be undone follows from what the tools
//! say of themselves, and from what the operator says of his own.

use dromia_engine::ApprovalsConfig;
use dromia_guard::policy::Call;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resolve::Check;

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

/// What becomes of calls that change something where others see it, and so cannot be undone: those of `http.request` that
/// are more than a look, programs, and tools of the operator's own whose `sink` is `outside`. A help against haste, and no
/// wall: nobody looks in between by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenIrreversible {
    /// `allow`, `delay` or `abort`. Where `permissions` or a policy say something stricter of a call, that counts.
    pub(crate) action: WrittenIrreversibleAction,
    /// How long a delayed call may be refused before it begins by itself, in milliseconds; also where `permissions` or a
    /// policy delays it.
    pub(crate) cooling_ms: u64,
}

impl Default for WrittenIrreversible {
    fn default() -> Self {
        let cooling = ApprovalsConfig::default().cooling.as_millis();
        Self {
            action: WrittenIrreversibleAction::default(),
            cooling_ms: u64::try_from(cooling).unwrap_or(COOLING_MS_MAX),
        }
    }
}

/// Resolves what becomes of them, and the time to cool.
pub(super) fn resolve(written: &WrittenIrreversible, check: &mut Check<'_>) -> (Call, SignedDuration) {
    let WrittenIrreversible { action, cooling_ms } = written;
    if !(1..=COOLING_MS_MAX).contains(cooling_ms) {
        let message = format!("must be from 1 to {COOLING_MS_MAX}, and is {cooling_ms}");
        check.wrong("irreversible.cooling_ms", message);
    }
    let call = match action {
        WrittenIrreversibleAction::Allow => Call::Allow,
        WrittenIrreversibleAction::Delay => Call::Delay,
        WrittenIrreversibleAction::Abort => Call::Deny,
    };
    let cooling = i64::try_from(*cooling_ms).unwrap_or(i64::MAX);
    (call, SignedDuration::from_millis(cooling))
}
