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
    /// A budget stopped the run.
    Budget,
    /// The wait ended before the run did.
    TimedOut,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Denied,
        Self::Unreachable,
        Self::Conflict,
        Self::RunFailed,
        Self::Budget,
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
            Self::Budget => 9,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }

    /// Says in a few words what the code means, for the foot of a help page.
    pub const fn brief(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "not valid",
            Self::Denied => "denied",
            Self::Unreachable => "no server",
            Self::Conflict => "conflict",
            Self::RunFailed => "the run failed",
            Self::Budget => "budget",
            Self::TimedOut => "not in time",
            Self::Interrupted => "interrupted",
        }
    }

    /// Says what a script can make of the code.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "it did what was asked",
            Self::Failed => {
                "it failed; the message says why, and `dromia explain CODE` says more about its code"
            }
            Self::Usage => "the command line, a file or the request is not valid; the same again fails again",
            Self::Denied => "the server did not let the caller, or the gate refused the action",
            Self::Unreachable => "no server answers, or it is about to stop; start one with `dromia up`",
            Self::Conflict => {
                "what is there contradicts what was asked: a name is taken, a run has ended, the home is in use, a \
                 history is not as it was"
            }
            Self::RunFailed => {
                "the run failed, was cancelled, or stopped at its limit; `dromia run why` says more"
            }
            Self::Budget => "a budget stopped the run; `dromia run why` names it and says how to go on",
            Self::TimedOut => {
                "the wait ended before the run did, or a call waits for a person; what was asked for is stored and goes on"
            }
            Self::Interrupted => "somebody pressed Ctrl-C; what the server had taken goes on",
        }
    }

    /// All codes in brief, for the foot of `--help`.
    pub fn footer() -> String {
        const WIDTH: usize = 78;
        const INDENT: usize = "Exit codes:".len();
        let mut text = "Exit codes:".to_owned();
        let mut column = INDENT;
        for exit in Self::ALL {
            let comma = if exit == Self::ALL[Self::ALL.len() - 1] { "" } else { "," };
            let piece = format!(" {} {}{comma}", exit.code(), exit.brief());
            if column + piece.len() > WIDTH {
                text.extend(["\n", &" ".repeat(INDENT)]);
                column = INDENT;
            }
            column += piece.len();
            text.push_str(&piece);
        }
        text
    }

    /// The whole table, for `dromia help exit-codes`.
    pub fn topic() -> String {
        let mut text = "What a script learns from the exit code of any command:\n\n".to_owned();
        for exit in Self::ALL {
            text.extend([format!("  {:>3}  {:<15} {}\n", exit.code(), exit.brief(), exit.meaning())]);
        }
        text.push_str("\nWith --json, a command that fails prints {\"error\": {…, \"exit\": N}} on stdout.");
        text
    }
}

impl Exit {
    /// How a command ends that waited for a run which ended with this code, where that is not how a refused request ends:
    /// nobody refused the command, whose run was begun and failed.
    pub fn of_run(code: ErrorCode) -> Option<Self> {
        let ends = match code {
            ErrorCode::BudgetExhausted => Self::Budget,
            ErrorCode::ActionDenied
            | ErrorCode::ModelUnavailable
            | ErrorCode::ModelRejected
            | ErrorCode::ModelCut
            | ErrorCode::ContextExceeded
            | ErrorCode::LoopDetected => Self::RunFailed,
            _ => return None,
        };
        (ends != Self::from(code)).then_some(ends)
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
            ErrorCode::InvalidRequest
            | ErrorCode::BodyTooLarge
            | ErrorCode::CapabilityUnreadable
            | ErrorCode::CursorInFuture => Self::Usage,
            ErrorCode::Unauthorized
            | ErrorCode::Forbidden
            | ErrorCode::SignatureRefused
            | ErrorCode::CapabilityForeign
            | ErrorCode::ActionDenied => Self::Denied,
            ErrorCode::ShuttingDown => Self::Unreachable,
            ErrorCode::HandleTaken
            | ErrorCode::IdempotencyConflict
            | ErrorCode::VersionConflict
            | ErrorCode::AgentTerminated
            | ErrorCode::RunTerminal
            | ErrorCode::RunNotResumable
            | ErrorCode::DeliveryUncertain
            | ErrorCode::BudgetDeclared
            | ErrorCode::CapabilityRefused
            | ErrorCode::ApprovalClosed
            | ErrorCode::ApprovalOutdated
            | ErrorCode::CallNotOpen => Self::Conflict,
            ErrorCode::BudgetExhausted => Self::Budget,
            ErrorCode::ModelUnavailable
            | ErrorCode::ModelRejected
            | ErrorCode::ModelCut
            | ErrorCode::ContextExceeded
            | ErrorCode::LoopDetected
            | ErrorCode::RunUnanswered => Self::RunFailed,
            ErrorCode::RunUnfinished => Self::TimedOut,
            ErrorCode::RouteNotFound
            | ErrorCode::TenantNotFound
            | ErrorCode::AgentNotFound
            | ErrorCode::SessionNotFound
            | ErrorCode::RunNotFound
            | ErrorCode::StateNotFound
            | ErrorCode::TokenNotFound
            | ErrorCode::BudgetNotFound
            | ErrorCode::ApprovalNotFound
            | ErrorCode::ApprovalRuleNotFound
            | ErrorCode::ToolNotFound
            | ErrorCode::SecretNotFound
            | ErrorCode::CapabilityNotFound
            | ErrorCode::VaultLocked
            | ErrorCode::DeliveryNotFound
            | ErrorCode::RecordNotFound
            | ErrorCode::RequestNotFound
            | ErrorCode::RequestUnavailable
            | ErrorCode::Overloaded
            | ErrorCode::RateLimited
            | ErrorCode::ActorRateLimited
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
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 4, 5, 6, 7, 9, 124, 130]);
    }

    #[test]
    fn the_foot_of_a_help_page_has_every_code() {
        insta::assert_snapshot!(Exit::footer(), @r"
        Exit codes: 0 done, 1 failed, 2 not valid, 4 denied, 5 no server, 6 conflict,
                    7 the run failed, 9 budget, 124 not in time, 130 interrupted
        ");
    }

    #[test]
    fn the_topic_explains_every_code() {
        let topic = Exit::topic();
        for exit in Exit::ALL {
            let line = topic.lines().find(|line| line.trim().starts_with(&format!("{} ", exit.code())));
            assert!(line.is_some_and(|line| line.ends_with(exit.meaning())), "{exit:?}: {topic}");
        }
    }

    #[test]
    fn a_run_that_a_refusal_ended_has_failed_and_the_command_was_not_refused() {
        let other: Vec<_> = ErrorCode::ALL.iter().filter(|code| Exit::of_run(**code).is_some()).collect();
        assert_eq!(other, [&ErrorCode::ActionDenied], "the others end with one code either way");
        assert_eq!(Exit::of_run(ErrorCode::ActionDenied), Some(Exit::RunFailed));
    }

    #[test]
    fn no_error_of_the_server_looks_like_success() {
        for &code in ErrorCode::ALL {
            assert_ne!(Exit::from(code), Exit::Done, "{code}");
        }
    }
}
