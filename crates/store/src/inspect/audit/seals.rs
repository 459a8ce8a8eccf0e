//! The seals of a tenant, read in their order: each follows from the one before, and each span of one names the chain of a
//! journal at an entry. Journals are not read here, but for those chains.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::id::{AgentId, RunId, SessionId, TenantId};

use super::{AuditChecked, AuditFinding, AuditProblem, TenantCheckpoint};
use crate::column_codes::{self, stored_counter};
use crate::seal::{self, JournalSpan, SpanOwner};

/// How many seals are read at a time.
const SEALS: i64 = 64;
/// The most findings of one tenant; more of them say nothing more.
const FINDINGS_MAX: usize = 1_000;

/// A seal as it is stored: number, time, kind, record, chain.
type Sealed = (u64, i64, i64, Vec<u8>, Vec<u8>);

/// Where something was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FindingLocation {
    pub(super) session: Option<[u8; 16]>,
    pub(super) run: Option<[u8; 16]>,
    pub(super) seq: Option<u64>,
    pub(super) seal: Option<u64>,
}

impl FindingLocation {
    fn at_seal(number: u64) -> Self {
        Self { seal: Some(number), ..Self::default() }
    }

    fn in_span(span: &JournalSpan, owner: Option<SpanOwner>, seq: u64, seal: u64) -> Self {
        let session = owner.map(|owner| owner.session);
        Self { session, run: Some(span.run), seq: Some(seq), seal: Some(seal) }
    }
}

/// How far a run is sealed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SealCoverage {
    pub(super) to: u64,
    owner: Option<SpanOwner>,
}

/// What a run took, as its journal says: items of a session's inbox after one, up to another, and its first signals.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenItems {
    pub(super) session: [u8; 16],
    pub(super) after: u64,
    pub(super) last: u64,
    /// The last signal that it took.
    pub(super) signals: u64,
    /// The last entry of the journal that was read.
    pub(super) last_seq: u64,
}

/// The way along one tenant's chain, and then along its journals.
pub(super) struct ChainWalk<'a> {
    pub(super) db: &'a Connection,
    pub(super) tenant: TenantId,
    /// By seal.
    checkpoints: Vec<TenantCheckpoint>,
    /// The last seal that was read, and the chain up to it.
    number: u64,
    chain: [u8; 32],
    /// How far each run is sealed, and whose it is.
    pub(super) covered: HashMap<[u8; 16], SealCoverage>,
    /// Runs of which something was found already while the seals were read.
    torn: HashSet<[u8; 16]>,
    pub(super) taken: HashMap<[u8; 16], TakenItems>,
    /// Sessions whose rows were missed already.
    pub(super) strayed: HashSet<[u8; 16]>,
    pub(super) erased: HashSet<AgentId>,
    /// Whether the chain begins with the tenant's registration, so that nothing of it is older than the seals.
    pub(super) is_born: bool,
    pub(super) checked: AuditChecked,
}

impl<'a> ChainWalk<'a> {
    /// Begins before the first seal. The checkpoints are by seal.
    pub(super) fn new(db: &'a Connection, tenant: TenantId, checkpoints: Vec<TenantCheckpoint>) -> Self {
        Self {
            db,
            tenant,
            checkpoints,
            number: 0,
            chain: seal::ORIGIN,
            covered: HashMap::new(),
            torn: HashSet::new(),
            taken: HashMap::new(),
            strayed: HashSet::new(),
            erased: HashSet::new(),
            is_born: false,
            checked: AuditChecked::default(),
        }
    }

    pub(super) fn report_problem(&mut self, problem: AuditProblem, place: FindingLocation) {
        self.found_with(problem, place, None);
    }

    pub(super) fn found_with(
        &mut self,
        problem: AuditProblem,
        place: FindingLocation,
        detail: Option<String>,
    ) {
        self.push_finding(AuditFinding {
            tenant: self.tenant,
            session: place.session.map(SessionId::from_bytes),
            run: place.run.map(RunId::from_bytes),
            seq: place.seq,
            seal: place.seal,
            row: None,
            problem,
            detail,
        });
    }

    /// Reports a row outside of the journals, by its name, with the record that it should agree with.
    pub(super) fn found_row(
        &mut self,
        problem: AuditProblem,
        row: String,
        record: Option<u64>,
        detail: Option<String>,
    ) {
        let finding = self.of_row(problem, row, record, detail);
        self.push_finding(finding);
    }

    /// Reports a row without a record that may be older than the records.
    pub(super) fn found_older(&mut self, row: String) {
        if self.checked.older.len() < FINDINGS_MAX {
            let finding = self.of_row(AuditProblem::RowUnrecorded, row, None, None);
            self.checked.older.push(finding);
        }
    }

    fn of_row(
        &self,
        problem: AuditProblem,
        row: String,
        seal: Option<u64>,
        detail: Option<String>,
    ) -> AuditFinding {
        let (tenant, row) = (self.tenant, Some(row));
        AuditFinding { tenant, session: None, run: None, seq: None, seal, row, problem, detail }
    }

    fn push_finding(&mut self, finding: AuditFinding) {
        if self.checked.findings.len() < FINDINGS_MAX {
            self.checked.findings.push(finding);
        }
    }

    /// Learns which agents were erased: what they did is gone by right.
    pub(super) fn learn_erased(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT record FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1",
        )?;
        let mut found = select.query([self.tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            let record: Vec<u8> = row.get(0)?;
            let change = serde_json::from_slice::<AuditAct>(&record).map(|act| act.change);
            if let Ok(AuditChange::AgentStateSet { agent, to: AgentState::Deleting }) = change {
                self.erased.insert(agent);
            }
        }
        Ok(())
    }

    /// Reads the seals that follow.
    pub(super) fn read_on(&mut self) -> rusqlite::Result<()> {
        loop {
            let mut select = self.db.prepare_cached(
                "SELECT number, at, kind, record, chain FROM audit \
                 WHERE tenant = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
            )?;
            let page: Vec<Sealed> = select
                .query_map(params![self.tenant.as_bytes(), stored_counter(self.number), SEALS], |row| {
                    Ok((
                        column_codes::read_counter(row, 0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                    ))
                })?
                .collect::<Result<_, _>>()?;
            if page.is_empty() {
                return Ok(());
            }
            for (number, at, kind, record, chain) in page {
                self.check_seal(number, at, kind, &record, &chain)?;
            }
        }
    }

    fn check_seal(
        &mut self,
        number: u64,
        at: i64,
        kind: i64,
        record: &[u8],
        chain: &[u8],
    ) -> rusqlite::Result<()> {
        let follows = number == self.number + 1;
        if follows {
            if seal::next(&self.chain, self.tenant, number, at, kind, record)[..] != *chain {
                self.report_problem(AuditProblem::SealChanged, FindingLocation::at_seal(number));
            }
        } else {
            self.report_problem(AuditProblem::SealRemoved, FindingLocation::at_seal(self.number + 1));
        }
        // Later seals are checked against what is here, so that one fault is reported once.
        self.number = number;
        self.chain = chain.try_into().unwrap_or(seal::ORIGIN);
        self.checked.seals += 1;
        let first = self.checkpoints.partition_point(|one| one.seal < number);
        let mut signed = self.checkpoints[first..].iter().take_while(|one| one.seal == number);
        if signed.any(|one| *one.chain.as_bytes() != self.chain) {
            self.report_problem(AuditProblem::Rewritten, FindingLocation::at_seal(number));
        }
        match (kind, JournalSpan::read_all(record)) {
            (seal::SPANS, Some(spans)) => {
                for span in &spans {
                    self.check_span(span, number)?;
                }
            }
            (seal::ACT, _) => {
                self.checked.acts += 1;
                self.is_born |= number == 1 && seal::is_birth(record);
            }
            // A kind of a newer program is chained like any other.
            _ => {}
        }
        Ok(())
    }

    /// Compares a span with the journal that it names.
    fn check_span(&mut self, span: &JournalSpan, seal: u64) -> rusqlite::Result<()> {
        let known = match self.covered.get(&span.run) {
            Some(known) => *known,
            None => self.coverage_before_seals(&span.run)?,
        };
        let owner = span.owner.or(known.owner);
        self.covered.insert(span.run, SealCoverage { to: span.to.max(known.to), owner });
        if span.from != known.to + 1 {
            self.report_problem(
                AuditProblem::Unsealed,
                FindingLocation::in_span(span, owner, known.to + 1, seal),
            );
        }
        let chain: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT chain FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?
            .query_row(params![self.tenant.as_bytes(), span.run, stored_counter(span.to)], |row| row.get(0))
            .optional()?;
        match chain {
            Some(chain) if span.names_chain(&chain) => {}
            Some(_) => self.report_once(AuditProblem::EntryChanged, span, owner, seal),
            None if self.is_erased(owner)? => self.checked.erased += 1,
            None => self.report_once(AuditProblem::EntryRemoved, span, owner, seal),
        }
        Ok(())
    }

    /// Reports a run once, however many spans it has.
    fn report_once(
        &mut self,
        problem: AuditProblem,
        span: &JournalSpan,
        owner: Option<SpanOwner>,
        seal: u64,
    ) {
        if self.torn.insert(span.run) {
            self.report_problem(problem, FindingLocation::in_span(span, owner, span.to, seal));
        }
    }

    fn is_erased(&mut self, owner: Option<SpanOwner>) -> rusqlite::Result<bool> {
        let Some(SpanOwner { agent, .. }) = owner else { return Ok(false) };
        self.is_agent_erased(AgentId::from_bytes(agent))
    }

    /// Returns whether a record says that an agent is erased.
    pub(super) fn is_agent_erased(&mut self, agent: AgentId) -> rusqlite::Result<bool> {
        if !self.erased.contains(&agent) {
            // It may have been erased since we began.
            self.learn_erased()?;
        }
        Ok(self.erased.contains(&agent))
    }

    /// How far a run went before there were seals. No seal names these rows, so they are believed only of a tenant that
    /// is older than the seals: an author who writes to the database itself could write them for a run of his own.
    pub(super) fn coverage_before_seals(&self, run: &[u8; 16]) -> rusqlite::Result<SealCoverage> {
        if self.is_born {
            return Ok(SealCoverage::default());
        }
        let found = self
            .db
            .prepare_cached("SELECT seq, agent, session FROM audit_before WHERE tenant = ?1 AND run = ?2")?
            .query_row(params![self.tenant.as_bytes(), run], |row| {
                let owner = SpanOwner {
                    agent: column_codes::read_bytes(row, 1)?,
                    session: column_codes::read_bytes(row, 2)?,
                };
                Ok(SealCoverage { to: column_codes::read_counter(row, 0)?, owner: Some(owner) })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    /// Compares the runs that are said to be older than the seals with the seal of them, once there is one: from then on none
    /// comes to them. Rows that are not believed are nobody's.
    pub(super) fn sealed_before(&mut self) -> rusqlite::Result<()> {
        if self.is_born {
            return Ok(());
        }
        let Some((number, runs, list)) = seal::before_sealed(self.db, self.tenant)? else { return Ok(()) };
        if seal::digest_older_runs(self.db, self.tenant)? != (runs, list) {
            let detail = Some(format!("runs that are older than the seals, as act:{number} lists them"));
            self.found_row(AuditProblem::RowChanged, "list audit_before".to_owned(), Some(number), detail);
        }
        Ok(())
    }

    /// Compares where the seals end with what else knows where they ended.
    pub(super) fn check_ends(&mut self) -> rusqlite::Result<()> {
        let act: Option<u64> = self
            .db
            .prepare_cached("SELECT number FROM audit_heads WHERE tenant = ?1")?
            .query_row([self.tenant.as_bytes()], |row| column_codes::read_counter(row, 0))
            .optional()?;
        let signed = self.checkpoints.last().map(|one| one.seal);
        if act.max(signed).is_some_and(|known| known > self.number) {
            self.report_problem(AuditProblem::SealsTruncated, FindingLocation::at_seal(self.number + 1));
        } else if self.checked.acts > 0 && act.is_none() {
            self.report_problem(AuditProblem::SealsTruncated, FindingLocation::at_seal(self.number));
        }
        Ok(())
    }
}
