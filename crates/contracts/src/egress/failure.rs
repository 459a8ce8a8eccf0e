//! Why a request got no answer, or no more of it, or no line was opened. The words name no address and repeat nothing of a
//! request, so a tenant may read them.

use super::EgressDecision;

/// Which wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutPhase {
    /// For a connection.
    Connect,
    /// For the head of the answer.
    FirstByte,
    /// For the next piece of the answer.
    Stall,
    /// For all of it.
    Total,
}

impl TimeoutPhase {
    const fn words(self) -> &'static str {
        match self {
            Self::Connect => "the connection was not established in time",
            Self::FirstByte => "it did not start its answer in time",
            Self::Stall => "its answer stalled",
            Self::Total => "it did not finish its answer in time",
        }
    }
}

/// What was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OversizedPart {
    /// What would have been sent.
    Request,
    /// The headers, of the request or of the answer.
    Headers,
    /// The answer.
    Response,
}

impl OversizedPart {
    const fn words(self) -> &'static str {
        match self {
            Self::Request => "the request is",
            Self::Headers => "the headers are",
            Self::Response => "the answer is",
        }
    }
}

/// Why there is no answer, or no more of it. The words name no address and repeat nothing of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressFault {
    /// It may not be reached; nothing was sent to where this was found.
    #[error("{reason}")]
    Refused {
        /// The rule that refused it.
        rule: String,
        /// Why, in words that the tenant may read.
        reason: String,
    },
    /// It is no request that could be sent.
    #[error("{problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// No connection came about.
    #[error("the connection failed")]
    Unreachable,
    /// A wait was too long.
    #[error("{}", .0.words())]
    Late(TimeoutPhase),
    /// There is no client to send it with.
    #[error("failed to create the HTTP client: {cause}")]
    Unusable {
        /// What the library says.
        cause: String,
    },
    /// The connection broke.
    #[error("the connection broke before the answer was complete")]
    Broken,
    /// Something is longer than it may be.
    #[error("{} longer than the {bytes_max} bytes that are allowed", .part.words())]
    TooLarge {
        /// What is.
        part: OversizedPart,
        /// What it may have.
        bytes_max: u64,
    },
    /// The answer is packed, though it was asked for as it is; how long it would become is unknown.
    #[error("the answer is compressed, which is not supported")]
    Packed,
    /// There are more redirects than are followed.
    #[error("it redirects more often than {max} times")]
    Redirects {
        /// How many are followed.
        max: usize,
    },
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct EgressError {
    /// Why.
    pub failure: EgressFault,
    /// Whether a server may have received a request, and acted on it.
    pub is_sent: bool,
    /// What was judged on the way.
    pub decisions: Vec<EgressDecision>,
}

/// Says that a line cannot be opened: the address that the configuration names cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address cannot be used: {problem}")]
pub struct LineError {
    /// What is wrong with it, without the address.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_described_in_words() {
        let failure = EgressFault::TooLarge { part: OversizedPart::Response, bytes_max: 7 };
        assert_eq!(failure.to_string(), "the answer is longer than the 7 bytes that are allowed");
        assert_eq!(EgressFault::Late(TimeoutPhase::Stall).to_string(), "its answer stalled");
    }
}
