//! The refusal of a request to another host, with the rule that refuses it.

/// Why a host may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EgressDenied {
    /// The rule that refuses it.
    pub rule: &'static str,
    /// Why, in words that name no address.
    pub reason: &'static str,
}
