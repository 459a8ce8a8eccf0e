//! Capability tokens: rights that are signed, handed on and narrowed without asking their grantor.
//!
//! A token begins with a block that the tenant's root key signed: what its holder may do. Any holder may append a
//! block, for itself or for another agent, which only takes away: rights are read from the first block alone, and every
//! further one is a check that must hold as well. So a token of a chain allows what all of its blocks allow. Blocks
//! with a third-party signature are refused, and so are blocks that say anything else: what a stranger wrote is not
//! computed.
//!
//! The signature is checked when a token is opened ([`RootKeys::open_token`]), and that answer may be kept. What may
//! change later is checked in every [`CapabilityToken::check_access`]: the time, the revocation of any of its blocks,
//! and who presents it. A token counts nothing and holds no money.
//!
//! [`StoreCapabilities`] keeps those of tenants in the store and [`LiveCapabilities`] what counts now, which the gate
//! asks: a revoked row counts from that moment on. A chain is checked twice, by its rows, which names the block that
//! decided, and by its token, which no change of the store can widen; both must allow.
//!
//! Bounds: [`TOKEN_BYTES_MAX`], [`BLOCKS_MAX`], [`RIGHTS_MAX`] of a block, and [`TIME_MAX`] for a check; what exceeds one is
//! refused. Randomness and time come in with the call.

mod keeper;
mod live;
mod near_miss;
mod required;
mod right;
mod root;
mod status;
mod token;
mod token_error;

pub use self::keeper::StoreCapabilities;
pub(crate) use self::live::CapabilityDenied;
pub use self::live::{CapabilityMismatch, LiveCapabilities, MismatchReason};
pub(crate) use self::required::{CapabilityRequest, HOSTS};
pub use self::right::{COMPONENTS_MAX, FileAccessMode, PLACE_BYTES_MAX, Resource, Right, RightError};
pub use self::root::{PublicRoot, ROOT_ID, ROOTS_MAX, RootKey, RootKeys};
pub use self::token::{
    AccessRequest, BLOCKS_MAX, CapabilityToken, RIGHTS_MAX, RevocationId, TIME_MAX, TOKEN_BYTES_MAX,
    TokenDenied,
};
pub use self::token_error::TokenError;
