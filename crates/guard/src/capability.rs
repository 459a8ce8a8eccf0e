//! Capability tokens: rights that are signed, handed on and narrowed without asking whoever gave them.
//!
//! A token begins with a block that the tenant's root key signed: what its holder may do. Whoever holds it may append a
//! block, for itself or for another agent, which only takes away: rights are read from the first block alone, and every
//! further one is a check that must hold as well. So a token of a chain allows what all of its blocks allow. Blocks that
//! somebody else signed are refused, and so are blocks that say anything else: what a stranger wrote is not computed.
//!
//! The signature is checked when a token is opened ([`Roots::open`]), and that answer may be kept. What may change later is
//! looked at in every [`Token::check`]: the time, the revocation of any of its blocks, and who presents it. A token counts
//! nothing and holds no money.
//!
//! [`StoreCapabilities`] keeps those of tenants in the store and [`Live`] what counts now, which the gate asks: a row that was
//! taken back counts from that moment on. A chain is looked at twice, by its rows, which names the block that decided, and by
//! its token, which nobody can widen in the store; both must allow.
//!
//! Bounds: [`TOKEN_BYTES_MAX`], [`BLOCKS_MAX`], [`RIGHTS_MAX`] of a block, and [`TIME_MAX`] for a check; what exceeds one is
//! refused. Randomness and time come in with the call.

mod beside;
mod finished;
mod keeper;
mod live;
mod right;
mod root;
mod sought;
mod standing;
mod token;

pub use self::keeper::StoreCapabilities;
pub(crate) use self::live::Denied;
pub use self::live::{Fallen, Live, Lost};
pub use self::right::{Access, COMPONENTS_MAX, PLACE_BYTES_MAX, Resource, Right, RightError};
pub use self::root::{PublicRoot, ROOT_ID, ROOTS_MAX, RootKey, Roots};
pub(crate) use self::sought::{HOSTS, Sought};
pub use self::token::{
    Asked, BLOCKS_MAX, RIGHTS_MAX, Refusal, RevocationId, TIME_MAX, TOKEN_BYTES_MAX, Token, TokenError,
};
