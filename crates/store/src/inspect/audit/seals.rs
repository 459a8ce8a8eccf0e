//! The seals of a tenant, read in their order: each follows from the one before, and each span of one names the chain of a
//! journal at an entry. Journals are not read here, but for those chains.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::id::{AgentId, RunId, SessionId, TenantId};
use dromia_contracts::retention::SessionSeal;

use super::{AuditChecked, AuditFinding, AuditProblem, TenantCheckpoint};
use crate::column_codes::{self, stored_counter};
use crate::seal::{self, JournalSpan, SpanOwner};

/// How many seals are read at a time.
const SEALS: i64 = 64;
/// The most findings of one tenant; more of them say nothing more.
const FINDINGS_MAX: usize = 1_000;

/// A seal as it is stored: number, time, kind, record, chain.
type Sealed = (u64, i64, i64, Vec<u8>, Vec<u8>);

fn read_sealed(row: &Row<'_>) -> rusqlite::Result<Sealed> {
    Ok((column_codes::read_counter(row, 0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

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
    pub(super) owner: Option<SpanOwner>,
    pub(super) last: Option<JournalSpan>,
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
    pub(super) number: u64,
    chain: [u8; 32],
    /// How far each run is sealed, and whose it is.
    pub(super) covered: HashMap<[u8; 16], SealCoverage>,
    /// Runs of which something was found already while the seals were read.
    torn: HashSet<[u8; 16]>,
    pub(super) taken: HashMap<[u8; 16], TakenItems>,
    /// Sessions whose rows were missed already.
    pub(super) strayed: HashSet<[u8; 16]>,
    pub(super) erased: HashSet<AgentId>,
    /// The sessions that were erased, each with its seal and the number of the record that has it.
    pub(super) erased_sessions: HashMap<[u8; 16], (u64, SessionSeal)>,
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
            erased_sessions: HashMap::new(),
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
        let (tenant, row) = (self.tenant, Some(row));
        self.push_finding(AuditFinding {
            tenant,
            session: None,
            run: None,
            seq: None,
            seal: record,
            row,
            problem,
            detail,
        });
    }

    fn push_finding(&mut self, finding: AuditFinding) {
        if self.checked.findings.len() < FINDINGS_MAX {
            self.checked.findings.push(finding);
        }
    }

    /// Learns which agents and sessions were erased: what they did is gone by right.
    pub(super) fn learn_erased(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT record, number FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1",
        )?;
        let mut found = select.query([self.tenant.as_bytes()])?;
        while let Some(row) = found.next()? {
            let record: Vec<u8> = row.get(0)?;
            match serde_json::from_slice::<AuditAct>(&record).map(|act| act.change) {
                Ok(AuditChange::AgentStateSet { agent, to: AgentState::Deleting }) => {
                    self.erased.insert(agent);
                }
                Ok(AuditChange::SessionErased { session, seal, .. }) => {
                    let number = column_codes::read_counter(row, 1)?;
                    self.erased_sessions.insert(*session.as_bytes(), (number, seal));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Checks what stays of a tenant that is gone or being erased: the act that ordered it, and what was sealed in its commit.
    /// What came before is gone by right, and so are the rows.
    pub(super) fn check_deletion(&mut self) -> rusqlite::Result<()> {
        let mut select = self.db.prepare_cached(
            "SELECT number, at, kind, record, chain FROM audit WHERE tenant = ?1 AND number >= \
             (SELECT max(number) FROM audit WHERE tenant = ?1 AND kind = 1) ORDER BY number",
        )?;
        let kept: Vec<Sealed> =
            select.query_map([self.tenant.as_bytes()], read_sealed)?.collect::<Result<_, _>>()?;
        let is_deletion = |(_, _, _, record, _): &Sealed| {
            let act = serde_json::from_slice::<AuditAct>(record);
            act.is_ok_and(|act| act.change == AuditChange::TenantDeleted)
        };
        let Some(((number, .., chain), later)) = kept.split_first().filter(|(first, _)| is_deletion(first))
        else {
            self.report_problem(AuditProblem::TenantRemoved, FindingLocation::default());
            return Ok(());
        };
        // The seal before it may be gone, so its own chain is known by checkpoints only.
        self.pass_seal(*number, chain);
        for (number, at, kind, record, chain) in later {
            self.check_link(*number, *at, *kind, record, chain);
        }
        self.checked.acts += 1;
        if let Some(seal) = self.checkpoints.last().map(|one| one.seal)
            && seal > self.number
        {
            self.report_problem(AuditProblem::SealsTruncated, FindingLocation::at_seal(self.number + 1));
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
                .query_map(params![self.tenant.as_bytes(), stored_counter(self.number), SEALS], read_sealed)?
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
        self.check_link(number, at, kind, record, chain);
        match (kind, JournalSpan::read_all(record)) {
            (seal::SPANS, Some(spans)) => {
                for span in &spans {
                    self.check_span(span, number)?;
                }
            }
            (seal::ACT, _) => self.checked.acts += 1,
            // A kind of a newer program is chained like any other.
            _ => {}
        }
        Ok(())
    }

    /// Compares a seal with the one before it and with the checkpoints.
    fn check_link(&mut self, number: u64, at: i64, kind: i64, record: &[u8], chain: &[u8]) {
        let follows = number == self.number + 1;
        if follows {
            if seal::next(&self.chain, self.tenant, number, at, kind, record)[..] != *chain {
                self.report_problem(AuditProblem::SealChanged, FindingLocation::at_seal(number));
            }
        } else {
            self.report_problem(AuditProblem::SealRemoved, FindingLocation::at_seal(self.number + 1));
        }
        self.pass_seal(number, chain);
    }

    /// Goes on to a seal, and compares it with the checkpoints.
    fn pass_seal(&mut self, number: u64, chain: &[u8]) {
        // Later seals are checked against what is here, so that one fault is reported once.
        self.number = number;
        self.chain = chain.try_into().unwrap_or(seal::ORIGIN);
        self.checked.seals += 1;
        let first = self.checkpoints.partition_point(|one| one.seal < number);
        let mut signed = self.checkpoints[first..].iter().take_while(|one| one.seal == number);
        if signed.any(|one| *one.chain.as_bytes() != self.chain) {
            self.report_problem(AuditProblem::Rewritten, FindingLocation::at_seal(number));
        }
    }

    /// Compares a span with the journal that it names.
    fn check_span(&mut self, span: &JournalSpan, seal: u64) -> rusqlite::Result<()> {
        let known = self.covered.get(&span.run).copied().unwrap_or_default();
        let owner = span.owner.or(known.owner);
        let last = known.last.filter(|last| last.to > span.to).or(Some(*span));
        self.covered.insert(span.run, SealCoverage { to: span.to.max(known.to), owner, last });
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
        let Some(SpanOwner { agent, session }) = owner else { return Ok(false) };
        Ok(self.is_agent_erased(AgentId::from_bytes(agent))? || self.erased_sessions.contains_key(&session))
    }

    /// Returns whether a record says that an agent is erased.
    pub(super) fn is_agent_erased(&mut self, agent: AgentId) -> rusqlite::Result<bool> {
        if !self.erased.contains(&agent) {
            // It may have been erased since we began.
            self.learn_erased()?;
        }
        Ok(self.erased.contains(&agent))
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
