//! The gate: which actions an agent's grants cover and the policy allows; the one way out of this process; and what
//! proves a history.
//!
//! Invariant: default deny. An action happens only if a grant of the agent names it, and more grants never deny
//! what fewer allowed; words of the operator (`deny:`, `ask:`) and the policy only take away. [`GrantGate`] is total: it
//! reads no store, a grant it cannot read grants nothing, and a policy that cannot be evaluated denies.
//!
//! What may be said is one question, where it may go another: [`egress`] answers it where addresses are known, at every
//! hop, and is the only code of a shipped server that connects to other hosts.
//!
//! Reading order: [`grant`] says what a grant is and refuses wrong ones when a configuration is written; [`permission`]
//! is what the operator adds to it; [`rights`] takes away what an agent is not granted any more; [`policy`] has the rules that are asked about whatever is granted; [`gate`] judges
//! actions by all of them, in that order; [`egress`] connects; [`vault`] keeps what only the egress puts into a
//! request; [`audit`] signs. [`capability`] is for rights that are signed, handed on from agent to agent and taken
//! back: tokens, each narrower than the one it was made from.

pub mod grant;

pub mod permission;

pub mod rights;

pub mod policy;

pub mod gate;

pub mod capability;

pub mod egress;

pub mod vault;

pub mod audit;

mod commit_fault;

pub use crate::capability::StoreCapabilities;
pub use crate::egress::names::{NameResolver, SystemNames};
pub use crate::egress::private::{PrivateAllowance, PrivateError};
pub use crate::egress::{EgressConfig, GuardedEgress};
pub use crate::gate::GrantGate;
pub use crate::grant::{Grant, GrantError, parse_grants};
pub use crate::policy::{PolicyEngine, PolicyLayers};
pub use crate::vault::StoreVault;
