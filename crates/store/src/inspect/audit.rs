//! Looking for what was removed from a tenant's history or changed in it, without owning the store.
//!
//! Three things must fit together: the seals make one chain that every checkpoint names; each span of a seal names the
//! chain of a journal at an entry; each journal, read from its first entry on with everything that was said, makes that
//! chain, and no entry is beyond the last seal. So whatever is taken out or changed is found, and where.
//!
//! A server may go on writing meanwhile: seals are read before the journals, and on again where a journal is longer.
//! In memory is one place for each run of the tenant, about 72 bytes.

use std::collections::{HashMap, HashSet};
use std::fmt;

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::{Act, AuditMark, Change};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, RunId, SessionId, TenantId};

use super::Inspector;
use crate::body::FileBodies;
use crate::code::{self, stored};
use crate::open::OpenError;
use crate::read::journal::{Bodies, Checked};
use crate::reader::Problem;
use crate::row::{StoredRun, run_columns};
use crate::seal::{self, Owner, Span};

/// How many entries are read at a time; one may be as long as a batch.
const ENTRIES: i64 = 16;
/// How many seals are read at a time.
const SEALS: i64 = 64;
/// The most findings of one tenant; more of them say nothing more.
const FINDINGS_MAX: usize = 1_000;

/// A seal as it is stored: number, time, kind, record, chain.
type Sealed = (u64, i64, i64, Vec<u8>, Vec<u8>);

/// What a checkpoint says of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointed {
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
        }
    }

    /// Says what happened, in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TenantRemoved => "the tenant was removed",
            Self::SealRemoved => "this seal was removed",
            Self::SealChanged => "this seal was changed",
            Self::SealsTruncated => "the seals from this one on were removed",
            Self::Rewritten => "the chain up to this seal is not the one that was signed",
            Self::EntryRemoved => "this entry was removed",
            Self::EntryChanged => "this entry, or what was said in it, was changed",
            Self::BodyRemoved => "what was said in this entry was removed",
            Self::RunRemoved => "the run's row was removed",
            Self::RunChanged => "the run's row was changed",
            Self::Unsealed => "this entry is in no seal: it was put there, or its seal was removed",
        }
    }
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
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
    /// The number of the seal.
    pub seal: Option<u64>,
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
    /// Spans whose agent was erased; the seal is all that is left of them.
    pub erased: u64,
    /// Runs that ended before there were seals: chained, and in no seal.
    pub before: u64,
    /// What is wrong; at most a thousand of them.
    pub findings: Vec<AuditFinding>,
}

impl Inspector {
    /// Lists the tenants.
    pub fn audit_tenants(&self) -> Result<Vec<TenantId>, OpenError> {
        let db = self.connect()?;
        let mut select = db.prepare("SELECT tenant FROM tenants ORDER BY tenant")?;
        let tenants = select
            .query_map([], |row| code::bytes(row, 0).map(TenantId::from_bytes))?
            .collect::<Result<_, _>>()?;
        Ok(tenants)
    }

    /// Returns the checkpoint that the database remembers.
    pub fn audit_mark(&self) -> Result<Option<AuditMark>, OpenError> {
        Ok(seal::marked(&self.connect()?)?)
    }

    /// Checks the whole history of a tenant, also against what checkpoints say of it, by seal.
    pub fn audit(&self, tenant: TenantId, checkpoints: &[Checkpointed]) -> Result<AuditChecked, OpenError> {
        let db = self.connect()?;
        let key: Option<[u8; 32]> = db
            .query_row("SELECT body_key FROM tenants WHERE tenant = ?1", [tenant.as_bytes()], |row| {
                row.get(0)
            })
            .optional()?;
        let mut checkpoints = checkpoints.to_vec();
        checkpoints.sort_unstable_by_key(|one| (one.seal, one.checkpoint));
        let mut walk = Walk {
            db: &db,
            tenant,
            checkpoints,
            number: 0,
            chain: seal::ORIGIN,
            covered: HashMap::new(),
            torn: HashSet::new(),
            erased: HashSet::new(),
            is_born: false,
            checked: AuditChecked::default(),
        };
        let Some(key) = key else {
            walk.found(AuditProblem::TenantRemoved, Place::default());
            return Ok(walk.checked);
        };
        walk.learn_erased()?;
        walk.read_on()?;
        walk.ends()?;
        let files = FileBodies::new(self.config.blobs());
        walk.journals(Bodies { db: &db, files: &files, tenant, key: &key })?;
        Ok(walk.checked)
    }
}

/// Where something was found.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    session: Option<[u8; 16]>,
    run: Option<[u8; 16]>,
    seq: Option<u64>,
    seal: Option<u64>,
}

impl Place {
    fn seal(number: u64) -> Self {
        Self { seal: Some(number), ..Self::default() }
    }

    fn of(span: &Span, owner: Option<Owner>, seq: u64, seal: u64) -> Self {
        let session = owner.map(|owner| owner.session);
        Self { session, run: Some(span.run), seq: Some(seq), seal: Some(seal) }
    }
}

/// How far a run is sealed.
#[derive(Debug, Clone, Copy, Default)]
struct Covered {
    to: u64,
    owner: Option<Owner>,
}

struct Walk<'a> {
    db: &'a Connection,
    tenant: TenantId,
    /// By seal.
    checkpoints: Vec<Checkpointed>,
    /// The last seal that was read, and the chain up to it.
    number: u64,
    chain: [u8; 32],
    /// How far each run is sealed, and whose it is.
    covered: HashMap<[u8; 16], Covered>,
    /// Runs of which something was found already while the seals were read.
    torn: HashSet<[u8; 16]>,
    erased: HashSet<AgentId>,
    /// Whether the chain begins with the tenant's registration, so that nothing of it is older than the seals.
    is_born: bool,
    checked: AuditChecked,
}

impl Walk<'_> {
    fn found(&mut self, problem: AuditProblem, place: Place) {
        self.found_with(problem, place, None);
    }

    fn found_with(&mut self, problem: AuditProblem, place: Place, detail: Option<String>) {
        if self.checked.findings.len() < FINDINGS_MAX {
            self.checked.findings.push(AuditFinding {
                tenant: self.tenant,
                session: place.session.map(SessionId::from_bytes),
                run: place.run.map(RunId::from_bytes),
                seq: place.seq,
                seal: place.seal,
                problem,
                detail,
            });
        }
    }

    /// Learns which agents were erased: what they did is gone by right.
    fn learn_erased(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT record FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1",
        )?;
        let mut found = select.query([self.tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            let record: Vec<u8> = row.get(0)?;
            let change = serde_json::from_slice::<Act>(&record).map(|act| act.change);
            if let Ok(Change::AgentStateSet { agent, to: AgentState::Deleting }) = change {
                self.erased.insert(agent);
            }
        }
        Ok(())
    }

    /// Reads the seals that follow.
    fn read_on(&mut self) -> rusqlite::Result<()> {
        loop {
            let mut select = self.db.prepare_cached(
                "SELECT number, at, kind, record, chain FROM audit \
                 WHERE tenant = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
            )?;
            let page: Vec<Sealed> = select
                .query_map(params![self.tenant.as_bytes(), stored(self.number), SEALS], |row| {
                    Ok((code::number(row, 0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?
                .collect::<Result<_, _>>()?;
            if page.is_empty() {
                return Ok(());
            }
            for (number, at, kind, record, chain) in page {
                self.seal(number, at, kind, &record, &chain)?;
            }
        }
    }

    fn seal(&mut self, number: u64, at: i64, kind: i64, record: &[u8], chain: &[u8]) -> rusqlite::Result<()> {
        let follows = number == self.number + 1;
        if follows {
            if seal::next(&self.chain, self.tenant, number, at, kind, record)[..] != *chain {
                self.found(AuditProblem::SealChanged, Place::seal(number));
            }
        } else {
            self.found(AuditProblem::SealRemoved, Place::seal(self.number + 1));
        }
        // What follows is judged by what stands here, so that one fault is told once.
        self.number = number;
        self.chain = chain.try_into().unwrap_or(seal::ORIGIN);
        self.checked.seals += 1;
        let first = self.checkpoints.partition_point(|one| one.seal < number);
        let mut signed = self.checkpoints[first..].iter().take_while(|one| one.seal == number);
        if signed.any(|one| *one.chain.as_bytes() != self.chain) {
            self.found(AuditProblem::Rewritten, Place::seal(number));
        }
        match (kind, Span::read_all(record)) {
            (seal::SPANS, Some(spans)) => {
                for span in &spans {
                    self.span(span, number)?;
                }
            }
            (seal::ACT, _) => {
                self.checked.acts += 1;
                self.is_born |= number == 1 && is_birth(record);
            }
            // A kind of a newer program is chained like any other.
            _ => {}
        }
        Ok(())
    }

    /// Compares a span with the journal that it names.
    fn span(&mut self, span: &Span, seal: u64) -> rusqlite::Result<()> {
        let known = match self.covered.get(&span.run) {
            Some(known) => *known,
            None => self.before(&span.run)?,
        };
        let owner = span.owner.or(known.owner);
        self.covered.insert(span.run, Covered { to: span.to.max(known.to), owner });
        if span.from != known.to + 1 {
            self.found(AuditProblem::Unsealed, Place::of(span, owner, known.to + 1, seal));
        }
        let chain: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT chain FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?
            .query_row(params![self.tenant.as_bytes(), span.run, stored(span.to)], |row| row.get(0))
            .optional()?;
        match chain {
            Some(chain) if span.names(&chain) => {}
            Some(_) => self.once(AuditProblem::EntryChanged, span, owner, seal),
            None if self.is_erased(owner)? => self.checked.erased += 1,
            None => self.once(AuditProblem::EntryRemoved, span, owner, seal),
        }
        Ok(())
    }

    /// Tells of a run once, however many spans it has.
    fn once(&mut self, problem: AuditProblem, span: &Span, owner: Option<Owner>, seal: u64) {
        if self.torn.insert(span.run) {
            self.found(problem, Place::of(span, owner, span.to, seal));
        }
    }

    fn is_erased(&mut self, owner: Option<Owner>) -> rusqlite::Result<bool> {
        let Some(Owner { agent, .. }) = owner else { return Ok(false) };
        let agent = AgentId::from_bytes(agent);
        if !self.erased.contains(&agent) {
            // It may have been erased since we began.
            self.learn_erased()?;
        }
        Ok(self.erased.contains(&agent))
    }

    /// How far a run went before there were seals. No seal names these rows, so they are believed only of a tenant that is
    /// older than the seals: whoever writes to the database itself could write them for a run of his own.
    fn before(&self, run: &[u8; 16]) -> rusqlite::Result<Covered> {
        if self.is_born {
            return Ok(Covered::default());
        }
        let found = self
            .db
            .prepare_cached("SELECT seq, agent, session FROM audit_before WHERE tenant = ?1 AND run = ?2")?
            .query_row(params![self.tenant.as_bytes(), run], |row| {
                let owner = Owner { agent: code::bytes(row, 1)?, session: code::bytes(row, 2)? };
                Ok(Covered { to: code::number(row, 0)?, owner: Some(owner) })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    /// Compares where the seals end with what else knows where they ended.
    fn ends(&mut self) -> rusqlite::Result<()> {
        let act: Option<u64> = self
            .db
            .prepare_cached("SELECT number FROM audit_heads WHERE tenant = ?1")?
            .query_row([self.tenant.as_bytes()], |row| code::number(row, 0))
            .optional()?;
        let signed = self.checkpoints.last().map(|one| one.seal);
        if act.max(signed).is_some_and(|known| known > self.number) {
            self.found(AuditProblem::SealsTruncated, Place::seal(self.number + 1));
        } else if self.checked.acts > 0 && act.is_none() {
            self.found(AuditProblem::SealsTruncated, Place::seal(self.number));
        }
        Ok(())
    }

    /// Reads every journal of the tenant.
    fn journals(&mut self, bodies: Bodies<'_>) -> Result<(), OpenError> {
        let mut after = Vec::new();
        while let Some(run) = self.next_run(&after)? {
            after = run.to_vec();
            self.journal(bodies, run)?;
        }
        Ok(())
    }

    /// The next run that has a row or an entry.
    fn next_run(&self, after: &[u8]) -> rusqlite::Result<Option<[u8; 16]>> {
        let mut next: Option<[u8; 16]> = None;
        for sql in [
            "SELECT run FROM runs WHERE tenant = ?1 AND run > ?2 ORDER BY run LIMIT 1",
            "SELECT run FROM entries WHERE tenant = ?1 AND run > ?2 ORDER BY run LIMIT 1",
        ] {
            let found = self
                .db
                .prepare_cached(sql)?
                .query_row(params![self.tenant.as_bytes(), after], |row| code::bytes(row, 0))
                .optional()?;
            next = match (next, found) {
                (Some(one), Some(other)) => Some(std::cmp::min(one, other)),
                (one, other) => one.or(other),
            };
        }
        Ok(next)
    }

    fn journal(&mut self, bodies: Bodies<'_>, run: [u8; 16]) -> Result<(), OpenError> {
        self.checked.runs += 1;
        let found = self
            .db
            .prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = ?1 AND run = ?2"))?
            .query_row(params![self.tenant.as_bytes(), run], |row| StoredRun::read(row, 0));
        let place = Place { run: Some(run), ..Place::default() };
        let row = match found {
            Ok(row) => row,
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                self.found(AuditProblem::RunRemoved, place);
                return Ok(());
            }
            Err(error) => {
                let detail = unreadable(error)?;
                self.found_with(AuditProblem::RunChanged, place, Some(detail));
                return Ok(());
            }
        };
        let place = Place { session: Some(*row.run.session.as_bytes()), ..place };
        let mut journal = match Checked::after(bodies, &row, 0) {
            Ok(journal) => journal,
            Err(problem) => return self.damaged(place, 1, problem),
        };
        loop {
            match journal.read(ENTRIES, |_| true) {
                Ok(entries) if entries.is_empty() => break,
                Ok(entries) => self.checked.entries += entries.len() as u64,
                Err(problem) => return self.damaged(place, journal.seq() + 1, problem),
            }
        }
        self.said(place, run)?;
        self.is_covered(place, run, journal.seq())
    }

    /// Tells of an entry that could not be read.
    fn damaged(&mut self, place: Place, seq: u64, problem: Problem) -> Result<(), OpenError> {
        let detail = match problem {
            Problem::Damaged { problem, .. } => problem,
            Problem::Sql(error) => unreadable(error)?,
        };
        let is_there = self
            .db
            .prepare_cached("SELECT 1 FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?
            .exists(params![self.tenant.as_bytes(), place.run, stored(seq)])?;
        let problem = if is_there { AuditProblem::EntryChanged } else { AuditProblem::EntryRemoved };
        self.found_with(problem, Place { seq: Some(seq), ..place }, Some(detail));
        Ok(())
    }

    /// Nothing of this program takes away what was said and leaves the entry.
    fn said(&mut self, place: Place, run: [u8; 16]) -> Result<(), OpenError> {
        let erased: Option<u64> = self
            .db
            .prepare_cached(
                "SELECT seq FROM entries WHERE tenant = ?1 AND run = ?2 AND place = 4 ORDER BY seq LIMIT 1",
            )?
            .query_row(params![self.tenant.as_bytes(), run], |row| code::number(row, 0))
            .optional()?;
        if let Some(seq) = erased {
            self.found(AuditProblem::BodyRemoved, Place { seq: Some(seq), ..place });
        }
        Ok(())
    }

    /// Looks whether a journal is sealed to its end.
    fn is_covered(&mut self, place: Place, run: [u8; 16], last: u64) -> Result<(), OpenError> {
        if self.covered.get(&run).is_some_and(|covered| covered.to >= last) {
            return Ok(());
        }
        // It may have grown since the seals were read.
        self.read_on()?;
        let covered = if let Some(covered) = self.covered.get(&run) {
            covered.to
        } else {
            let before = self.before(&run)?.to;
            self.checked.before += u64::from(before > 0);
            before
        };
        if covered < last {
            self.found(AuditProblem::Unsealed, Place { seq: Some(covered + 1), ..place });
        }
        Ok(())
    }
}

/// Tells whether an act is the registration of its tenant.
fn is_birth(record: &[u8]) -> bool {
    serde_json::from_slice::<Act>(record).is_ok_and(|act| matches!(act.change, Change::TenantCreated { .. }))
}

/// Takes an error for what it says about a row; whatever says something about the file is one.
fn unreadable(error: rusqlite::Error) -> Result<String, OpenError> {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => Ok(error.to_string()),
        error => Err(error.into()),
    }
}
