//! The adapter to model servers over HTTP, whichever of the three wire formats they speak.
//!
//! One call is one attempt over a line of the port [`Egress`](dromia_contracts::egress::Egress), which leads to the one
//! server that the operator named and nowhere else. It ends by its own deadlines: connecting, first byte, stall between
//! two chunks, and the whole. Dropping the future drops the connection, which cancels the request. No message holds a key
//! or an address, and redirects are not followed, because a key must reach only the host that the operator named.
//!
//! A format says how a request is written and how an answer is read ([`WireFormat`]); it never touches the network.

mod adapter;
mod config;
mod draft;
mod error;
mod failure;
mod format;
mod reader;

pub use adapter::HttpModel;
pub use config::{HttpConfig, HttpTimeouts, KeysOf, OutputLimit, TokenPrice, VaultKey};
pub use error::HttpError;
pub use format::WireFormat;
pub use reader::{EVENT_BYTES_MAX, StreamReader, whole_reply};

pub(crate) use draft::{CallPiece, ReplyDraft};
pub(crate) use failure::{cut_error, reported_error, withheld_error};
