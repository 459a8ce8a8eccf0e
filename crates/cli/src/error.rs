//! Why a command did not do what was asked: one line, the next step, and the exit code.

use dromia_api::{ErrorCode, ProblemDetails, RunId};
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit::CommandExit;
use crate::schema_violation::{SchemaViolation, violations_line};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is not enough or too much.
    #[error("{0}")]
    Usage(String),
    /// No server answers.
    #[error("no server answers on {socket}")]
    Unreachable {
        /// The socket.
        socket: String,
    },
    /// No server answers, and none can: there is no home that it could serve.
    #[error("there is no home at {home}")]
    Homeless {
        /// The home.
        home: String,
    },
    /// No server answers at an address of the network.
    #[error("no server answers at {server}: {cause}")]
    Away {
        /// The address.
        server: String,
        /// What the system says.
        cause: String,
    },
    /// The server at an address of the network cannot be trusted, so no request was sent.
    #[error("the connection to {server} is not safe: {cause}")]
    Untrusted {
        /// The address.
        server: String,
        /// What is wrong.
        cause: String,
        /// The next step.
        next: String,
    },
    /// What came is not the contract.
    #[error("the server's answer is not valid: {0}")]
    Broken(String),
    /// The connection broke before the whole answer was there.
    #[error("the connection broke before the server's answer was complete: {0}")]
    Severed(String),
    /// Something was sent, and how it ends is not known here.
    #[error("{why}; {known}")]
    UnderWay {
        /// Why no answer came.
        why: Box<Error>,
        /// What is known of it.
        known: String,
        /// The next step.
        next: String,
    },
    /// The server did not answer in time.
    #[error("the server did not answer within {seconds} s")]
    Late {
        /// How long it was waited.
        seconds: u64,
    },
    /// The server said no.
    #[error("{}", .0.detail)]
    Problem(Box<ProblemDetails>),
    /// The wait ended before the run did.
    #[error("the wait ended before the answer came; the server stored the input")]
    TimedOut {
        /// The command that goes on waiting.
        next: String,
    },
    /// The run goes on once a person answers, and this command asks none, or its time is over.
    #[error("{run} waits for a person to approve a call")]
    AwaitsPerson {
        /// The run.
        run: RunId,
    },
    /// The answer does not satisfy the schema that it was asked for.
    #[error("the answer does not satisfy the schema: {}", violations_line(.problems))]
    Unfit {
        /// The run that answered.
        run: RunId,
        /// Where it does not.
        problems: Vec<SchemaViolation>,
    },
    /// A command that works without a server did not do what was asked.
    #[error("{message}")]
    Local {
        /// How the command ends.
        exit: CommandExit,
        /// What went wrong and what to do next.
        message: String,
    },
    /// A file or the terminal could not be read or written.
    #[error("failed to {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The status of something that was sent and whose end is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingStatus {
    /// What is known of it.
    pub(crate) known: String,
    /// The next step.
    pub(crate) next: String,
}

/// What a command's step gives.
pub type Outcome<T = ()> = Result<T, Error>;

impl Error {
    /// What is tried when a result is printed.
    pub(crate) const WRITE: &str = "write to stdout";

    /// Makes an error of the file system, with what was tried.
    pub fn io_error(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// How the command ends.
    pub fn command_exit(&self) -> CommandExit {
        match self {
            Self::Usage(_) => CommandExit::Usage,
            Self::Unreachable { .. }
            | Self::Homeless { .. }
            | Self::Away { .. }
            | Self::Untrusted { .. }
            | Self::Severed(_) => CommandExit::Unreachable,
            Self::UnderWay { why, .. } => why.command_exit(),
            Self::Late { .. } | Self::TimedOut { .. } => CommandExit::TimedOut,
            Self::AwaitsPerson { .. } => CommandExit::AwaitsPerson,
            Self::Broken(_) | Self::Unfit { .. } | Self::Io { .. } => CommandExit::Failed,
            Self::Local { exit, .. } => *exit,
            Self::Problem(problem) => problem.error_code().map_or(CommandExit::Failed, CommandExit::from),
        }
    }

    /// The next step.
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("start the server with `dromia up`".to_owned()),
            Self::Homeless { .. } => {
                Some("create the home with `dromia init`, then start the server with `dromia up`".to_owned())
            }
            Self::Away { .. } => Some(
                "check the address with `dromia context show`, and that the server runs there".to_owned(),
            ),
            Self::UnderWay { next, .. } | Self::Untrusted { next, .. } => Some(next.clone()),
            Self::TimedOut { next } => Some(format!("continue to wait with `{next}`")),
            Self::AwaitsPerson { run } => Some(format!(
                "answer with `dromia approval approve` or `dromia approval deny`, then continue with `dromia run \
                 watch {run}`"
            )),
            Self::Unfit { run, .. } => {
                Some(format!("read the answer with `dromia run export {run}`, then ask again"))
            }
            Self::Problem(problem) => problem.hint.clone(),
            Self::Usage(_)
            | Self::Broken(_)
            | Self::Severed(_)
            | Self::Late { .. }
            | Self::Local { .. }
            | Self::Io { .. } => None,
        }
    }

    /// Wraps an error in what is known of a request whose answer did not come.
    pub(crate) fn under_way(why: Self, PendingStatus { known, next }: PendingStatus) -> Self {
        Self::UnderWay { why: Box::new(why), known, next }
    }

    /// What the server said, if it said no.
    pub(crate) fn server_problem(&self) -> Option<&ProblemDetails> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::UnderWay { why, .. } => why.server_problem(),
            _ => None,
        }
    }

    /// Tells whether the reader of the result has closed it, as `head` does when it has enough.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, Self::Io { action, source }
            if action == Self::WRITE && source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Tells whether there is no server to talk with just now.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Away { .. } | Self::Severed(_))
            || self.server_problem().and_then(ProblemDetails::error_code) == Some(ErrorCode::ShuttingDown)
    }

    /// Describes the failure for `--json`.
    pub(crate) fn error_document(&self) -> ErrorDocument {
        let problem = self.server_problem();
        let unfit = match self {
            Self::Unfit { problems, .. } => problems.clone(),
            _ => Vec::new(),
        };
        ErrorDocument {
            error: CommandFailure {
                code: problem.map(|problem| problem.code.clone()),
                message: self.to_string(),
                hint: self.next_step(),
                exit: self.command_exit().exit_code(),
                request_id: problem.map(|problem| problem.request_id.clone()),
                unfit,
            },
        }
    }
}

/// What a command prints with `--json` when it fails.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorDocument {
    /// The failure.
    pub(crate) error: CommandFailure,
}

/// Why a command failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CommandFailure {
    /// The server's code; `dromia explain CODE` says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// What went wrong.
    message: String,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The exit code of the command.
    exit: u8,
    /// The request's id, which the server's log carries too.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// Where an answer does not satisfy the schema that it was asked for; 16 places at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unfit: Vec<SchemaViolation>,
}
