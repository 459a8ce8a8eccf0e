//! Exit codes: what a script learns without reading a word.

use dromia_api::ErrorCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandExit {
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
    /// The run waits for a person, and the command does not wait for one any longer.
    AwaitsPerson,
    /// A budget stopped the run.
    Budget,
    /// The wait ended before the run did.
    TimedOut,
    /// Ctrl-C was pressed.
    Interrupted,
}

impl CommandExit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Denied,
        Self::Unreachable,
        Self::Conflict,
        Self::RunFailed,
        Self::AwaitsPerson,
        Self::Budget,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// Returns the process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 4,
            Self::Unreachable => 5,
            Self::Conflict => 6,
            Self::RunFailed => 7,
            Self::AwaitsPerson => 8,
            Self::Budget => 9,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }

    /// Says in a few words what the code means.
    pub const fn short_meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "not valid",
            Self::Denied => "denied",
            Self::Unreachable => "no server",
            Self::Conflict => "conflict",
            Self::RunFailed => "the run failed",
            Self::AwaitsPerson => "needs a person",
            Self::Budget => "budget",
            Self::TimedOut => "not in time",
            Self::Interrupted => "interrupted",
        }
    }

    /// Says what a script can make of the code.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "the command succeeded",
            Self::Failed => "the command failed; `dromia explain CODE` explains the code in the message",
            Self::Usage => {
                "the command line, a file or the request is not valid; the same command fails again"
            }
            Self::Denied => "the caller lacks the right, or the gate denied the action",
            Self::Unreachable => "no server answers, or it is stopping; start one with `dromia up`",
            Self::Conflict => {
                "the request conflicts with the state: a name is taken, a run has ended, the \
                 home is in use, the audit log was changed"
            }
            Self::RunFailed => "the run failed, was cancelled, or reached its limit; see `dromia run why`",
            Self::AwaitsPerson => {
                "`ask` ended while its run waits for an approval; answer it with `dromia approval`, and the run \
                 continues"
            }
            Self::Budget => "a budget stopped the run; `dromia run why` names it and how to continue",
            Self::TimedOut => {
                "the wait ended before the run did, or a call waits for a person; the run continues"
            }
            Self::Interrupted => "you pressed Ctrl-C; the server continues what it accepted",
        }
    }

    /// The whole table, for `dromia help exit-codes`.
    pub fn help_topic() -> String {
        let mut text = "The exit codes of every command:\n\n".to_owned();
        for exit in Self::ALL {
            text.extend([format!(
                "  {:>3}  {:<15} {}\n",
                exit.exit_code(),
                exit.short_meaning(),
                exit.meaning()
            )]);
        }
        text.push_str("\nWith --json, a command that fails prints {\"error\": {…, \"exit\": N}} on stdout.");
        text
    }
}

impl CommandExit {
    /// How a command ends that waited for a run which ended with this code, where a refused request would end
    /// otherwise: the server took the command, and its run failed.
    pub fn of_run(code: ErrorCode) -> Option<Self> {
        let ends = match code {
            ErrorCode::BudgetExhausted => Self::Budget,
            ErrorCode::ActionDenied
            | ErrorCode::ModelUnavailable
            | ErrorCode::ModelRejected
            | ErrorCode::ModelCut
            | ErrorCode::ContextExceeded
            | ErrorCode::AnswerSchemaUnsatisfied
            | ErrorCode::LoopDetected => Self::RunFailed,
            _ => return None,
        };
        (ends != Self::from(code)).then_some(ends)
    }
}

impl From<CommandExit> for std::process::ExitCode {
    fn from(exit: CommandExit) -> Self {
        Self::from(exit.exit_code())
    }
}

impl From<ErrorCode> for CommandExit {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidRequest
            | ErrorCode::BodyTooLarge
            | ErrorCode::CapabilityUnreadable
            | ErrorCode::CursorInFuture => Self::Usage,
            ErrorCode::Unauthorized
            | ErrorCode::Forbidden
            | ErrorCode::TenantSuspended
            | ErrorCode::SignatureRefused
            | ErrorCode::CapabilityForeign
            | ErrorCode::ActionDenied => Self::Denied,
            ErrorCode::ShuttingDown => Self::Unreachable,
            ErrorCode::TenantActive
            | ErrorCode::SessionHeld
            | ErrorCode::SessionInUse
            | ErrorCode::HandleTaken
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
            | ErrorCode::AnswerSchemaUnsatisfied
            | ErrorCode::LoopDetected
            | ErrorCode::RunUnanswered => Self::RunFailed,
            ErrorCode::RunUnfinished => Self::TimedOut,
            ErrorCode::RouteNotFound
            | ErrorCode::TenantNotFound
            | ErrorCode::AgentNotFound
            | ErrorCode::SessionNotFound
            | ErrorCode::RunNotFound
            | ErrorCode::StateNotFound
            | ErrorCode::FileNotFound
            | ErrorCode::TokenNotFound
            | ErrorCode::BudgetNotFound
            | ErrorCode::RevisionNotFound
            | ErrorCode::DocumentNotFound
            | ErrorCode::TemplateNotFound
            | ErrorCode::RoleNotFound
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
        assert_eq!(CommandExit::ALL.map(CommandExit::exit_code), [0, 1, 2, 4, 5, 6, 7, 8, 9, 124, 130]);
    }

    #[test]
    fn the_topic_explains_every_code() {
        let topic = CommandExit::help_topic();
        for exit in CommandExit::ALL {
            let line = topic.lines().find(|line| line.trim().starts_with(&format!("{} ", exit.exit_code())));
            assert!(line.is_some_and(|line| line.ends_with(exit.meaning())), "{exit:?}: {topic}");
        }
    }

    #[test]
    fn a_run_ended_by_a_refusal_exits_as_failed() {
        let other: Vec<_> =
            ErrorCode::ALL.iter().filter(|code| CommandExit::of_run(**code).is_some()).collect();
        assert_eq!(other, [&ErrorCode::ActionDenied], "the others end with one code either way");
        assert_eq!(CommandExit::of_run(ErrorCode::ActionDenied), Some(CommandExit::RunFailed));
    }

    #[test]
    fn no_error_of_the_server_looks_like_success() {
        for &code in ErrorCode::ALL {
            assert_ne!(CommandExit::from(code), CommandExit::Done, "{code}");
        }
    }
}
