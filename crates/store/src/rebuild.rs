//! Rebuilding the projections from the truth.
//!
//! `runs` and `session_heads` are dropped and made again from sessions, inboxes, claims and journals, in one
//! transaction: a crash leaves the old rows. The caller gives the fold, because what entries mean is the engine's
//! knowledge. Nobody else may have the store open.

use std::fmt;

use rusqlite::{Connection, params};

use dromia_contracts::entry::Entry;
use dromia_contracts::id::{RunId, TenantId};
use dromia_contracts::run::{Run, RunHead};
use dromia_contracts::store::{ReadError, StoredEntry};

use crate::apply::BodyKeys;
use crate::body::FileBodies;
use crate::code::{self, Code as _, stored};
use crate::config::StoreConfig;
use crate::lock::HomeLock;
use crate::open::{self, OpenError};
use crate::read::journal::{Bodies, Checked};
use crate::reader::Problem;
use crate::row::{StoredRun, run_columns};

/// How many rows were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Rows of runs.
    pub runs: u64,
    /// Rows of sessions.
    pub sessions: u64,
}

/// Says why the projections could not be rebuilt; the old ones stand.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The truth cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A journal does not begin with a readable `run_started`.
    #[error("the journal of {run} does not say what it is for: {problem}")]
    Headless {
        /// The run.
        run: RunId,
        /// What its first entry is.
        problem: String,
    },
    /// The fold refused a journal.
    #[error("the journal of {run} cannot be folded: {problem}")]
    Fold {
        /// The run.
        run: RunId,
        /// What the fold says.
        problem: String,
    },
}

impl From<rusqlite::Error> for RebuildError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(Problem::from(error).into())
    }
}

/// Drops and rebuilds the projections of a store that nobody has open. `fold` gives a run's head from its journal.
pub fn rebuild_projections<E: fmt::Display>(
    config: &StoreConfig,
    fold: &dyn Fn(&[StoredEntry]) -> Result<RunHead, E>,
) -> Result<Rebuilt, RebuildError> {
    let _lock = HomeLock::take(&config.dir)?;
    let mut db = open::open_writer(config)?;
    let files = FileBodies::new(config.blobs());
    let rebuilt = {
        let db = db.transaction()?;
        db.execute_batch("DELETE FROM runs; DELETE FROM session_heads;")?;
        let runs = rebuild_runs(&db, &files, fold)?;
        let sessions = rebuild_heads(&db)?;
        db.commit()?;
        Rebuilt { runs, sessions }
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
) -> Result<u64, RebuildError> {
    let mut keys = BodyKeys::default();
    let mut rebuilt = 0;
    // Every journal has an entry 1; what a journal is, its last row says.
    let mut next = db.prepare(
        "SELECT tenant, run FROM entries WHERE (tenant, run) > (?1, ?2) ORDER BY tenant, run LIMIT 1",
    )?;
    let mut at: (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    loop {
        let mut found = next.query(params![at.0, at.1])?;
        let Some(row) = found.next()? else { break };
        let tenant = TenantId::from_bytes(code::bytes(row, 0)?);
        let run = RunId::from_bytes(code::bytes(row, 1)?);
        drop(found);
        at = (tenant.as_bytes().to_vec(), run.as_bytes().to_vec());
        let key = keys.get(db, tenant)?.ok_or_else(|| ReadError::Damaged {
            place: tenant.to_string(),
            problem: "it has journals and no row".into(),
        })?;
        let bodies = Bodies { db, files, tenant, key: &key };
        insert_run(db, tenant, &rebuilt_run(bodies, run, fold)?)?;
        rebuilt += 1;
    }
    Ok(rebuilt)
}

fn rebuilt_run<E: fmt::Display>(
    bodies: Bodies<'_>,
    id: RunId,
    fold: &dyn Fn(&[StoredEntry]) -> Result<RunHead, E>,
) -> Result<StoredRun, RebuildError> {
    let tenant = bodies.tenant;
    let entries = Checked::whole(bodies, id).map_err(ReadError::from)?;
    let headless = |problem: String| RebuildError::Headless { run: id, problem };
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(headless("there is no entry".into()));
    };
    let started = match first.decode() {
        Ok(Entry::RunStarted(started)) => started,
        Ok(_) => return Err(headless(format!("it begins with {}", first.kind))),
        Err(error) => return Err(headless(error.to_string())),
    };
    let head = fold(&entries).map_err(|error| RebuildError::Fold { run: id, problem: error.to_string() })?;
    let maximum = |sql: &str| -> rusqlite::Result<u64> {
        bodies.db.prepare_cached(sql)?.query_row(params![tenant.as_bytes(), id.as_bytes()], |row| {
            row.get::<_, Option<i64>>(0).map(|number| number.map_or(0, i64::cast_unsigned))
        })
    };
    let claimed = maximum("SELECT max(epoch) FROM claims WHERE tenant = ?1 AND run = ?2")?;
    let signals_last = maximum("SELECT max(position) FROM inbox WHERE tenant = ?1 AND owner = ?2")?;
    Ok(StoredRun {
        run: Run {
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
        },
        chain: *last.chain.as_bytes(),
    })
}

fn insert_run(
    db: &Connection,
    tenant: TenantId,
    StoredRun { run, chain }: &StoredRun,
) -> rusqlite::Result<()> {
    db.prepare_cached(concat!(
        "INSERT INTO runs (tenant, ",
        run_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
    ))?
    .execute(params![
        tenant.as_bytes(),
        run.id.as_bytes(),
        run.agent.as_bytes(),
        run.session.as_bytes(),
        run.kind.code(),
        run.head.status.code(),
        run.head.wake_at.map(jiff::Timestamp::as_millisecond),
        run.started_at.as_millisecond(),
        run.updated_at.as_millisecond(),
        stored(run.last_seq),
        stored(run.epoch),
        stored(run.entry_epoch),
        chain,
        run.head.model_calls,
        run.head.usage.input_tokens,
        run.head.usage.output_tokens,
        stored(run.head.cost_micros),
        stored(run.signals_last),
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
