//! What becomes of attempts: the lines of the table, and why there may be none.

use dromia_contracts::sandbox::{Ending, SandboxError};

use super::class::Class;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works without walls, and not behind them.
    Held,
    /// It got out.
    Escaped,
    /// It does not work without walls here, so it proves nothing.
    Unproven,
    /// The backend does not promise to hold it.
    NotPromised,
}

impl Outcome {
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
pub struct Row {
    /// The attempt.
    pub name: &'static str,
    /// Its kind.
    pub class: Class,
    /// What became of it.
    pub outcome: Outcome,
    /// How the process ended behind the walls; nothing if it was not tried there.
    pub ending: Option<Ending>,
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
    /// The attempt did not run behind the walls, so that nothing it did not do proves anything.
    #[error("the attempt {name} did not run: {ending:?}")]
    NotRun {
        /// The attempt.
        name: &'static str,
        /// How it ended instead.
        ending: Ending,
    },
}
