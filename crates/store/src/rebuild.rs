//! Rebuilding the projections from the truth.
//!
//! `runs` and `session_heads` are rebuilt from sessions, inboxes, claims and journals, and `taken_by` of each item of an inbox
//! from the journals, in one transaction: a crash leaves the old rows. Where a journal cannot be read, or is gone though a seal
//! names it, the run's row and the items that name it stay as they are: an input whose run is lost must not run again. What was used
//! of a budget is in no journal together with its payer; a damaged count is set to the budget's limit. The caller gives the
//! fold, because what entries mean is the engine's knowledge. No other process may have the store open.

mod budget_use;
mod lost_runs;
mod taken_by;

use std::fmt;

use rusqlite::{Connection, params};

use dromia_contracts::entry::Entry;
use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::run::{RunHead, RunRecord};
use dromia_contracts::store::{ReadError, StoredEntry};

use crate::apply::BodyKeys;
use crate::body::FileBodies;
use crate::column_codes::{self, StoredEnum as _, stored_counter};
use crate::config::StoreConfig;
use crate::lock::HomeLock;
use crate::open;
use crate::open_error::OpenError;
use crate::read::journal::{BodyReader, CheckedJournal};
use crate::reader::ReadFailure;
use crate::row::{StoredRun, run_columns};

use self::taken_by::TakenItem;

/// How many runs without a readable journal are named at most.
const UNREAD_MAX: usize = 1_000;

/// What a rebuild wrote, and what it could not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebuildReport {
    /// Rows of runs.
    pub runs: u64,
    /// Rows of sessions.
    pub sessions: u64,
    /// Items of inboxes that named another taker than the journals do.
    pub items: u64,
    /// Counts of budgets that were damaged and are set to the limit.
    pub counts: u64,
    /// Runs whose journal cannot be read, and why; at most a thousand. Their rows stay as they are.
    pub unread: Vec<(RunId, String)>,
}

/// Why the projections could not be rebuilt; the old ones are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The truth cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<rusqlite::Error> for RebuildError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(ReadFailure::from(error).into())
    }
}

/// Drops and rebuilds the projections of a store that is not open. `fold` gives a run's head from its journal.
pub fn rebuild_projections<E: fmt::Display>(
    config: &StoreConfig,
    fold: &dyn Fn(&[StoredEntry]) -> Result<RunHead, E>,
) -> Result<RebuildReport, RebuildError> {
    let _lock = HomeLock::acquire(&config.dir)?;
    let mut db = open::open_writer(config)?;
    let files = FileBodies::new(config.blobs_path());
    let rebuilt = {
        let db = db.transaction()?;
        let mut rebuilt = rebuild_runs(&db, &files, fold)?;
        rebuilt.items = taken_by::repair_takers(&db)?;
        rebuilt.counts = budget_use::repair_counts(&db)?;
        db.execute_batch("DELETE FROM session_heads;")?;
        rebuilt.sessions = rebuild_heads(&db)?;
        db.commit()?;
        rebuilt
    };
    // A courtesy to the next start, which does the same: the commit is durable, and opening made sure that nothing
    // doubtful lay before it. Who is in the log by now does not matter.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(rebuilt)
}

fn rebuild_runs<E: fmt::Display>(
    db: &Connection,
    files: &FileBodies,
    fold: &dyn Fn(&[StoredEntry]) -> Result<RunHead, E>,
) -> Result<RebuildReport, RebuildError> {
    let mut keys = BodyKeys::default();
    let mut rebuilt = RebuildReport::default();
    taken_by::create_tables(db)?;
    // Every journal has an entry 1; what a journal is, its last row says.
    let mut next = db.prepare(
        "SELECT tenant, run FROM entries WHERE (tenant, run) > (?1, ?2) ORDER BY tenant, run LIMIT 1",
    )?;
    let mut at: (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    loop {
        let mut found = next.query(params![at.0, at.1])?;
        let Some(row) = found.next()? else { break };
        let tenant = TenantId::from_bytes(column_codes::read_bytes(row, 0)?);
        let run = RunId::from_bytes(column_codes::read_bytes(row, 1)?);
        drop(found);
        at = (tenant.as_bytes().to_vec(), run.as_bytes().to_vec());
        let key = keys.get(db, tenant)?.ok_or_else(|| ReadError::Damaged {
            place: tenant.to_string(),
            problem: "it has journals but no row".into(),
        })?;
        let bodies = BodyReader { db, files, tenant, key: &key };
        match rebuilt_run(bodies, run, fold) {
            Ok((row, takes)) => {
                taken_by::add_items(db, tenant, run, &takes)?;
                insert_run(db, tenant, &row)?;
                rebuilt.runs += 1;
            }
            Err(RunFailure::Unread(problem)) => {
                taken_by::skip_run(db, tenant, run)?;
                rebuilt.leave_run(run, problem);
            }
            Err(RunFailure::Failed(error)) => return Err(error),
        }
    }
    for (tenant, run) in lost_runs::lost_journals(db)? {
        taken_by::skip_run(db, tenant, run)?;
        rebuilt.leave_run(run, "no entry of it is there".to_owned());
    }
    // A row that neither a journal nor a seal knows is of no run.
    db.execute_batch(
        "DELETE FROM runs WHERE NOT EXISTS \
         (SELECT 1 FROM entries e WHERE e.tenant = runs.tenant AND e.run = runs.run) AND NOT EXISTS \
         (SELECT 1 FROM temp.unread u WHERE u.tenant = runs.tenant AND u.run = runs.run)",
    )?;
    Ok(rebuilt)
}

impl RebuildReport {
    fn leave_run(&mut self, run: RunId, problem: String) {
        if self.unread.len() < UNREAD_MAX {
            self.unread.push((run, problem));
        }
    }
}

/// Why the row of a run is not rebuilt.
enum RunFailure {
    /// Its journal cannot be read.
    Unread(String),
    /// The store cannot be read: the rebuild ends.
    Failed(RebuildError),
}

impl From<ReadFailure> for RunFailure {
    fn from(problem: ReadFailure) -> Self {
        match ReadError::from(problem) {
            ReadError::Damaged { place, problem } => Self::Unread(format!("{place}: {problem}")),
            error @ ReadError::Unavailable { .. } => Self::Failed(error.into()),
        }
    }
}

impl From<rusqlite::Error> for RunFailure {
    fn from(error: rusqlite::Error) -> Self {
        ReadFailure::from(error).into()
    }
}

fn rebuilt_run<E: fmt::Display>(
    bodies: BodyReader<'_>,
    id: RunId,
    fold: &dyn Fn(&[StoredEntry]) -> Result<RunHead, E>,
) -> Result<(StoredRun, Vec<TakenItem>), RunFailure> {
    let tenant = bodies.tenant;
    let entries = CheckedJournal::read_whole(bodies, id)?;
    let headless = |problem: String| RunFailure::Unread(format!("its first entry cannot be used: {problem}"));
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(headless("there is no entry".into()));
    };
    let started = match first.decode() {
        Ok(Entry::RunStarted(started)) => started,
        Ok(_) => return Err(headless(format!("it begins with {}", first.kind))),
        Err(error) => return Err(headless(error.to_string())),
    };
    let head = fold(&entries).map_err(|error| RunFailure::Unread(format!("it cannot be folded: {error}")))?;
    let takes = TakenItem::of_run(id, &started, &entries);
    let maximum = |sql: &str| -> rusqlite::Result<u64> {
        bodies.db.prepare_cached(sql)?.query_row(params![tenant.as_bytes(), id.as_bytes()], |row| {
            row.get::<_, Option<i64>>(0).map(|number| number.map_or(0, i64::cast_unsigned))
        })
    };
    let claimed = maximum("SELECT max(epoch) FROM claims WHERE tenant = ?1 AND run = ?2")?;
    let signals_last = maximum("SELECT max(position) FROM inbox WHERE tenant = ?1 AND owner = ?2")?;
    let row = StoredRun {
        run: RunRecord {
            id,
            kind: started.kind,
            agent: started.agent,
            session: started.session,
            started_at: first.at,
            updated_at: last.at,
            last_seq: last.seq,
            epoch: claimed.max(1),
            entry_epoch: last.epoch,
            head,
            signals_last,
            signals_taken: taken_by::last_signal(&entries),
            holder: None,
        },
        chain: *last.chain.as_bytes(),
    };
    Ok((row, takes))
}

fn insert_run(
    db: &Connection,
    tenant: TenantId,
    StoredRun { run, chain }: &StoredRun,
) -> rusqlite::Result<()> {
    db.prepare_cached(concat!(
        "INSERT OR REPLACE INTO runs (tenant, ",
        run_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
    ))?
    .execute(params![
        tenant.as_bytes(),
        run.id.as_bytes(),
        run.agent.as_bytes(),
        run.session.as_bytes(),
        run.kind.stored_code(),
        run.head.status.stored_code(),
        run.head.wake_at.map(jiff::Timestamp::as_millisecond),
        run.started_at.as_millisecond(),
        run.updated_at.as_millisecond(),
        stored_counter(run.last_seq),
        stored_counter(run.epoch),
        stored_counter(run.entry_epoch),
        chain,
        run.head.model_calls,
        run.head.usage.input_tokens,
        run.head.usage.output_tokens,
        stored_counter(run.head.cost_micros),
        stored_counter(run.signals_last),
        run.head.unpriced_calls,
        stored_counter(run.signals_taken),
        // Nothing else has the store open, so no holder is left.
        None::<&[u8]>,
    ])
    .map(drop)
}

/// A session's head says how far its inbox has come and which of its runs has not ended.
fn rebuild_heads(db: &Connection) -> rusqlite::Result<u64> {
    let rows = db.execute(
        "INSERT INTO session_heads (tenant, session, agent, last, taken, active) \
         SELECT s.tenant, s.session, s.agent, \
                coalesce((SELECT max(position) FROM inbox i WHERE i.tenant = s.tenant AND i.owner = s.session), 0), \
                coalesce((SELECT max(position) FROM inbox i WHERE i.tenant = s.tenant AND i.owner = s.session \
                          AND i.taken_by IS NOT NULL), 0), \
                o.run \
         FROM sessions s LEFT JOIN (SELECT tenant, session, run FROM runs WHERE status <= 2) o \
              ON o.tenant = s.tenant AND o.session = s.session",
        [],
    )?;
    Ok(rows as u64)
}
