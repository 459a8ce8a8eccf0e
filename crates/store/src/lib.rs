//! Durable storage behind the port [`dromia_contracts::store::Store`]: SQLite in one directory.
//!
//! One thread writes, a few read. A batch is checked whole before any of its rows is written, many batches share
//! one transaction and one sync, and a batch is acknowledged after that sync. The journals carry chained digests
//! that every read checks. This crate mints no ids and reads no wall clock; it knows entries as records with
//! fields and never what they mean, but for the first of a run.
//!
//! Reading order: [`SqliteStore`] is the port; `apply` says what a batch does, `writer` when it becomes durable,
//! `reader` and `read` what is seen; `erase`, `sweep` and `rebuild` are upkeep.

mod acknowledged_end;
mod config;
mod directory_sync;
mod lease;
mod live_copy;
mod lock;
mod log_hold;
mod migrate;
mod obstacle;
mod open;
mod open_error;

mod check_value;
mod column_codes;
mod row;

mod body;
mod chain;
mod packed_fields;
mod seal;
mod session_tree;

mod apply;
mod body_sweeper;
mod counters;
mod erase;
mod inspect;
mod writer;

mod read;
mod reader;

mod rebuild;
mod store;

pub use crate::acknowledged_end::LogLoss;
pub use crate::config::StoreConfig;
pub use crate::directory_sync::{sync_directory, sync_parents};
pub use crate::inspect::{
    AuditChecked, AuditFinding, AuditProblem, BodiesOfRows, IntegrityStatus, JournalFold, NameInventory,
    RowComparison, StoreInspector, StoredSecret, TenantCheckpoint, TenantNames,
};
pub use crate::live_copy::{CopyError, CopyProgress, StoreHold, copy_database};
pub use crate::migrate::MigrationPlan;
pub use crate::obstacle::StorageObstacle;
pub use crate::open_error::OpenError;
pub use crate::rebuild::{RebuildError, RebuildReport, rebuild_projections};
pub use crate::store::SqliteStore;
