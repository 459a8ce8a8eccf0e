//! The audit of a home: its key, the checkpoints that lie beside the store, and looking for what was removed.
//!
//! The store chains everything; what signs it lies in `audit/` of the home: `key` is a secret, `public.key` may be
//! given to anybody, and `checkpoints.jsonl` says how far each tenant's chain went, and when. A checkpoint is written
//! at the start, once a minute where something happened, and at the end; what happened after the last one is proved by
//! the chain only, which the owner of the file could rewrite.

mod file;
mod keeper;
mod notary;
mod verify;

pub(crate) use self::file::{AuditDirectory, BoundedLines};
pub(crate) use self::keeper::{CheckpointWriter, seal_configuration};
pub(crate) use self::notary::HomeNotary;
pub(crate) use self::verify::{AuditVerification, check_home, run as verify};
