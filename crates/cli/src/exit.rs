//! Exit codes: what a script learns without reading a word.

use dromia_api::ErrorCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It failed.
    Failed,
    /// The command line, a file or the request is not valid.
    Usage,
    /// The server did not let the caller.
    Denied,
    /// No server answers.
    Unreachable,
    /// What is there contradicts what was asked.
    Conflict,
    /// The run failed, was cancelled, or stopped at its limit.
    RunFailed,
    /// The wait ended before the run did.
    TimedOut,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Denied,
        Self::Unreachable,
        Self::Conflict,
        Self::RunFailed,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// Returns the process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 4,
            Self::Unreachable => 5,
            Self::Conflict => 6,
            Self::RunFailed => 7,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidRequest | ErrorCode::BodyTooLarge | ErrorCode::CursorInFuture => Self::Usage,
            ErrorCode::Unauthorized | ErrorCode::Forbidden | ErrorCode::ActionDenied => Self::Denied,
            ErrorCode::ShuttingDown => Self::Unreachable,
            ErrorCode::HandleTaken
            | ErrorCode::IdempotencyConflict
            | ErrorCode::VersionConflict
            | ErrorCode::AgentTerminated
            | ErrorCode::RunTerminal
            | ErrorCode::RunNotResumable => Self::Conflict,
            ErrorCode::ModelUnavailable | ErrorCode::ModelRejected | ErrorCode::ModelCut => Self::RunFailed,
            ErrorCode::RouteNotFound
            | ErrorCode::TenantNotFound
            | ErrorCode::AgentNotFound
            | ErrorCode::SessionNotFound
            | ErrorCode::RunNotFound
            | ErrorCode::StateNotFound
            | ErrorCode::TokenNotFound
            | ErrorCode::Overloaded
            | ErrorCode::StoreReadOnly
            | ErrorCode::StoreUnavailable
            | ErrorCode::OutcomeUnknown
            | ErrorCode::JournalDamaged
            | ErrorCode::JournalUnreadable
            | ErrorCode::Internal => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_codes_are_the_codes() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 4, 5, 6, 7, 124, 130]);
    }

    #[test]
    fn no_error_of_the_server_looks_like_success() {
        for &code in ErrorCode::ALL {
            assert_ne!(Exit::from(code), Exit::Done, "{code}");
        }
    }
}
