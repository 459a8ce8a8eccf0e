//! What becomes of attempts: the lines of the table, and why there may be none.

use dromia_contracts::sandbox::{ProcessExit, SandboxError};

use super::class::Class;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapeOutcome {
    /// It works outside the sandbox, and not inside.
    Held,
    /// It got out.
    Escaped,
    /// It does not work outside the sandbox here, so it proves nothing.
    Unproven,
    /// The backend does not promise to hold it.
    NotPromised,
}

impl EscapeOutcome {
    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Escaped => "escaped",
            Self::Unproven => "unproven",
            Self::NotPromised => "not_promised",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct BatteryRow {
    /// The attempt.
    pub name: &'static str,
    /// Its kind.
    pub class: Class,
    /// What became of it.
    pub outcome: EscapeOutcome,
    /// How the process ended inside the sandbox; nothing if it was not tried there.
    pub ending: Option<ProcessExit>,
}

/// Why the battery could not be run.
#[derive(Debug, thiserror::Error)]
pub enum BatteryError {
    /// The scene could not be set.
    #[error("failed to set the scene: {0}")]
    Scene(#[from] std::io::Error),
    /// The backend did not start an attempt.
    #[error("the attempt {name} was not started")]
    Start {
        /// The attempt.
        name: &'static str,
        /// Why.
        source: SandboxError,
    },
    /// The attempt did not run inside the sandbox, so that nothing it did not do proves anything.
    #[error("the attempt {name} did not run: {ending:?}")]
    NotRun {
        /// The attempt.
        name: &'static str,
        /// How it ended instead.
        ending: ProcessExit,
    },
}
