//! The model request of the current step: prepared and judged before its entry is written, and sent as it is.

use dromia_contracts::gate::GateVerdict;
use dromia_contracts::model::PreparedAttempt;

use crate::config::SecondOpinion;
use crate::window_use::WindowUse;

/// What the attempt sends whose entry is pending or open.
#[derive(Debug, Default)]
pub(crate) struct RequestStep {
    /// The attempt, or the second opinion: it sends exactly what the entry records.
    pub(crate) prepared: Option<PreparedAttempt>,
    /// Who is asked, where it is a second opinion; the configuration may have changed since.
    pub(crate) second: Option<SecondOpinion>,
    /// The gate's verdict about the request that is prepared for the attempt.
    pub(crate) verdict: Option<GateVerdict>,
    /// Whether what the pending attempt costs is known.
    pub(crate) priced: bool,
    /// How full the window was at the last request.
    pub(crate) used: WindowUse,
}
