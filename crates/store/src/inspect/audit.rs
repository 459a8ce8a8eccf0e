//! Looking for what was removed from a tenant's history or changed in it, without owning the store.
//!
//! Three things must fit together: the seals make one chain that every checkpoint names; each span of a seal names the
//! chain of a journal at an entry; each journal, read from its first entry on with everything that was said, makes that
//! chain, and no entry is beyond the last seal. So whatever is taken out or changed is found, and where.
//!
//! Beside them are rows that no chain covers. What the records say of rights, budgets and approvals is compared with the
//! present rows (`rights`), what a journal says of its run with the run's row and its sums, with its session's row and with the
//! items that it took (`journals`), what a digest names with the digest, each item's taker with that run's journal, the heads of
//! sessions with inboxes and runs, and rows with the check value that they carry (`contents`). Other rows
//! (labels of files) are not checked.
//!
//! Of a session that was erased, its own seal says how many runs and entries it had and how their chains ended. That is compared
//! with the spans of its runs, which stay.
//!
//! A server may go on writing meanwhile: seals are read before the journals, and on again where a journal is longer.
//! In memory is one place for each run of the tenant, about 170 bytes.

mod contents;
mod journals;
mod rights;
mod seals;
mod sessions;

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _};

use dromia_contracts::audit::AuditMark;
use dromia_contracts::digest::Digest;
use dromia_contracts::entry::Entry;
use dromia_contracts::id::{RunId, SessionId, TenantId};
use dromia_contracts::run::{RunHead, RunStatus};

use super::StoreInspector;
use crate::body::FileBodies;
use crate::column_codes;
use crate::open_error::OpenError;
use crate::read::journal::BodyReader;
use crate::seal;

use self::seals::ChainWalk;

/// What a checkpoint says of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantCheckpoint {
    /// The number of the checkpoint.
    pub checkpoint: u64,
    /// The last seal at that time.
    pub seal: u64,
    /// The chain up to it.
    pub chain: Digest,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditProblem {
    /// The tenant is gone, and a checkpoint names it.
    TenantRemoved,
    /// A seal is gone, and later ones are there.
    SealRemoved,
    /// A seal is not what it was.
    SealChanged,
    /// The last seals are gone.
    SealsTruncated,
    /// The chain is another one than when a checkpoint was signed.
    Rewritten,
    /// An entry is gone.
    EntryRemoved,
    /// An entry, or what was said in it, is not what it was.
    EntryChanged,
    /// What was said in an entry is gone.
    BodyRemoved,
    /// A run's row is gone, and its journal is there.
    RunRemoved,
    /// A run's row cannot be read.
    RunChanged,
    /// An entry is in no seal.
    Unsealed,
    /// A row beside the journals is not what its record, or the digest of what it holds, says.
    RowChanged,
    /// A row is gone, and no record says that it went.
    RowRemoved,
    /// A row is there, and no record names it.
    RowUnrecorded,
}

impl AuditProblem {
    /// Returns the problem as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantRemoved => "tenant_removed",
            Self::SealRemoved => "seal_removed",
            Self::SealChanged => "seal_changed",
            Self::SealsTruncated => "seals_truncated",
            Self::Rewritten => "rewritten",
            Self::EntryRemoved => "entry_removed",
            Self::EntryChanged => "entry_changed",
            Self::BodyRemoved => "body_removed",
            Self::RunRemoved => "run_removed",
            Self::RunChanged => "run_changed",
            Self::Unsealed => "unsealed",
            Self::RowChanged => "row_changed",
            Self::RowRemoved => "row_removed",
            Self::RowUnrecorded => "row_unrecorded",
        }
    }

    /// Says what happened, in words.
    pub const fn description(self) -> &'static str {
        match self {
            Self::TenantRemoved => "the tenant was removed",
            Self::SealRemoved => "this seal was removed",
            Self::SealChanged => "this seal was changed",
            Self::SealsTruncated => "the seals from this one on were removed",
            Self::Rewritten => "the chain up to this seal differs from the signed one",
            Self::EntryRemoved => "this entry was removed",
            Self::EntryChanged => "this entry, or its text, was changed",
            Self::BodyRemoved => "the text of this entry was removed",
            Self::RunRemoved => "the run's row was removed",
            Self::RunChanged => "the run's row was changed",
            Self::Unsealed => "no seal covers this entry: it was added, or its seal was removed",
            Self::RowChanged => "this row differs from its records",
            Self::RowRemoved => "this row was removed without a record",
            Self::RowUnrecorded => "this row has no record",
        }
    }
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

/// Something that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFinding {
    /// The tenant.
    pub tenant: TenantId,
    /// The session, where it is known.
    pub session: Option<SessionId>,
    /// The run.
    pub run: Option<RunId>,
    /// The number of the entry in the run's journal.
    pub seq: Option<u64>,
    /// The number of the seal; of a row, that of the record which names it.
    pub seal: Option<u64>,
    /// The row beside the journals, such as `token tok_…`.
    pub row: Option<String>,
    /// What is wrong.
    pub problem: AuditProblem,
    /// What the reader says, where it says more.
    pub detail: Option<String>,
}

/// What was looked at in a tenant, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditChecked {
    /// Seals.
    pub seals: u64,
    /// Acts among them.
    pub acts: u64,
    /// Runs.
    pub runs: u64,
    /// Entries.
    pub entries: u64,
    /// Spans whose agent or session was erased; the seal is all that is left of them.
    pub erased: u64,
    /// Rows that were compared with their records.
    pub rows: u64,
    /// What is wrong; at most a thousand of them.
    pub findings: Vec<AuditFinding>,
}

/// Folds the journal of a run into its status. What entries mean is the engine's knowledge, so the caller gives this.
pub trait JournalFold {
    /// Begins with an empty state, before the first entry of a run.
    fn begin_run(&mut self);

    /// Takes the next entry.
    fn take_entry(&mut self, entry: &Entry);

    /// Returns the status of the run after the entries taken; `None` if it cannot be known.
    fn run_status(&self) -> Option<RunStatus>;

    /// Returns the head that the run's row should have after the entries taken; `None` if it cannot be known.
    fn run_head(&self) -> Option<RunHead>;
}

impl StoreInspector {
    /// Lists the tenants.
    pub fn audit_tenants(&self) -> Result<Vec<TenantId>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT tenant FROM tenants ORDER BY tenant")?;
        let tenants = select
            .query_map([], |row| column_codes::read_bytes(row, 0).map(TenantId::from_bytes))?
            .collect::<Result<_, _>>()?;
        Ok(tenants)
    }

    /// Returns the checkpoint that the database remembers.
    pub fn audit_mark(&self) -> Result<Option<AuditMark>, OpenError> {
        Ok(seal::read_checkpoint(&self.connect()?)?)
    }

    /// Checks the whole history of a tenant, also against what checkpoints say of it, by seal, and the rows beside it
    /// as far as the history names them.
    pub fn audit_tenant(
        &self,
        tenant: TenantId,
        checkpoints: &[TenantCheckpoint],
        fold: &mut dyn JournalFold,
    ) -> Result<AuditChecked, OpenError> {
        let db = self.connect()?;
        let mut checkpoints = checkpoints.to_vec();
        checkpoints.sort_unstable_by_key(|one| (one.seal, one.checkpoint));
        let mut walk = ChainWalk::new(&db, tenant, checkpoints.clone());
        let mut deleted = ChainWalk::new(&db, tenant, checkpoints);
        let Some(key) = live_body_key(&db, tenant)? else {
            deleted.check_deletion()?;
            return Ok(deleted.checked);
        };
        walk.learn_erased()?;
        walk.read_on()?;
        walk.check_ends()?;
        let files = FileBodies::new(self.config.blobs_path());
        let bodies = BodyReader { db: &db, files: &files, tenant, key: &key };
        walk.check_journals(bodies, fold)?;
        sessions::check_session_seals(&mut walk);
        walk.check_contents(bodies)?;
        walk.check_sums()?;
        walk.check_rights()?;
        sessions::check_holds(&mut walk)?;
        if live_body_key(&db, tenant)?.is_none() {
            // It was deleted since we began, so what was missed is gone by right.
            deleted.check_deletion()?;
            return Ok(deleted.checked);
        }
        Ok(walk.checked)
    }
}

/// The body key of a tenant that is there and is not being erased.
fn live_body_key(db: &Connection, tenant: TenantId) -> rusqlite::Result<Option<[u8; 32]>> {
    db.query_row(
        "SELECT body_key FROM tenants WHERE tenant = ?1 AND erased_at IS NULL",
        [tenant.as_bytes()],
        |row| row.get(0),
    )
    .optional()
}
