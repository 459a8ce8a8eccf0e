//! The gate: which actions an agent's grants cover.
//!
//! Invariant: default deny. An action happens only if a grant of the agent names it, and more grants never deny
//! what fewer allowed. [`GrantGate`] is pure and total: it reads no clock and no store, and a grant it cannot
//! read grants nothing.
//!
//! Reading order: [`grant`] says what a grant is and refuses wrong ones when a configuration is written;
//! [`gate`] judges actions by them.

pub mod grant;

pub mod gate;

pub use crate::gate::GrantGate;
pub use crate::grant::{Grant, GrantError, parse_grants};
