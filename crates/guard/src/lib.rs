//! The gate: which actions an agent's grants cover; and the one way out of this process.
//!
//! Invariant: default deny. An action happens only if a grant of the agent names it, and more grants never deny
//! what fewer allowed. [`GrantGate`] is pure and total: it reads no clock and no store, and a grant it cannot
//! read grants nothing.
//!
//! What may be said is one question, where it may go another: [`egress`] answers it where addresses are known, at every
//! hop, and is the only code of a shipped server that connects to other hosts.
//!
//! Reading order: [`grant`] says what a grant is and refuses wrong ones when a configuration is written;
//! [`gate`] judges actions by them; [`egress`] connects; [`vault`] keeps what only the way out puts into a request.

pub mod grant;

pub mod gate;

pub mod egress;

pub mod vault;

pub use crate::egress::names::{Names, SystemNames};
pub use crate::egress::private::{Private, PrivateError};
pub use crate::egress::{EgressConfig, GuardedEgress};
pub use crate::gate::GrantGate;
pub use crate::grant::{Grant, GrantError, parse_grants};
pub use crate::vault::StoreVault;
