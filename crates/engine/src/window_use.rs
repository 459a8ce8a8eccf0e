//! How full the window of a model is, and how much of a session's past is read for a request to it.

use dromia_contracts::store::TailLimits;

/// How full a window is when the oldest half is summarized, in percent.
pub(crate) const BEGIN_PERCENT: u32 = 80;

/// The most inputs of a session's past that a request holds.
pub(crate) const PAST_ITEMS_MAX: usize = 4_096;

/// The most bytes of a session's past that are read for a request, whatever the window.
pub(crate) const PAST_BYTES_MAX: usize = 4 << 20;

/// How much of a session's past is read for a request to a model with this window: what fits it, and some more, because the
/// stored form of a message is longer than its text.
pub(crate) fn past_limits(window_tokens: u32, after: u64) -> TailLimits {
    let bytes = (window_tokens as usize).saturating_mul(6).clamp(16 << 10, PAST_BYTES_MAX);
    TailLimits { after, items: PAST_ITEMS_MAX, bytes, until: None }
}

/// How full the window was at the last request of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WindowUse {
    /// Tokens of the request, as they were counted or as the provider reported them, whichever is more.
    pub(crate) input_tokens: u32,
    /// The most tokens of the answer.
    pub(crate) output_tokens_max: u32,
    /// The window.
    pub(crate) window: u32,
}

impl WindowUse {
    /// Returns how full it was, in percent.
    pub(crate) fn percent(self) -> u32 {
        let used = u64::from(self.input_tokens) + u64::from(self.output_tokens_max);
        let percent = used.saturating_mul(100).checked_div(u64::from(self.window)).unwrap_or_default();
        u32::try_from(percent).unwrap_or(u32::MAX)
    }

    /// Returns whether a part of the conversation should be summarized.
    pub(crate) fn wants_compaction(self) -> bool {
        self.percent() >= BEGIN_PERCENT
    }
}
