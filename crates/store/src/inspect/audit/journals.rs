//! The journals of a tenant, each read from its first entry on with everything that was said, and compared with how far
//! the seals go, with the owner and the status in its run's row, with the row of its session, and with the items of the
//! inbox that it says it took.

use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::id::RunId;
use dromia_contracts::run::{RunHead, RunRecord, RunStatus};
use dromia_contracts::store::StoredEntry;

use super::seals::{ChainWalk, FindingLocation, TakenItems};
use super::{AuditProblem, JournalFold, sessions};
use crate::column_codes::{self, stored_counter};
use crate::open_error::OpenError;
use crate::read::checkpoint::recheck_checkpoint;
use crate::read::journal::{BodyReader, CheckedJournal};
use crate::reader::ReadFailure;
use crate::row::{StoredRun, run_columns};

/// How many entries are read at a time; one may be as long as a batch.
const ENTRIES: i64 = 16;

impl ChainWalk<'_> {
    /// Reads every journal of the tenant, and has each folded.
    pub(super) fn check_journals(
        &mut self,
        bodies: BodyReader<'_>,
        fold: &mut dyn JournalFold,
    ) -> Result<(), OpenError> {
        let mut after = Vec::new();
        while let Some(run) = self.next_run(&after)? {
            after = run.to_vec();
            self.check_journal(bodies, run, fold)?;
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
                .query_row(params![self.tenant.as_bytes(), after], |row| column_codes::read_bytes(row, 0))
                .optional()?;
            next = match (next, found) {
                (Some(one), Some(other)) => Some(std::cmp::min(one, other)),
                (one, other) => one.or(other),
            };
        }
        Ok(next)
    }

    fn check_journal(
        &mut self,
        bodies: BodyReader<'_>,
        run: [u8; 16],
        fold: &mut dyn JournalFold,
    ) -> Result<(), OpenError> {
        self.checked.runs += 1;
        let found = self
            .db
            .prepare_cached(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = ?1 AND run = ?2"))?
            .query_row(params![self.tenant.as_bytes(), run], |row| StoredRun::from_row(row, 0));
        let place = FindingLocation { run: Some(run), ..FindingLocation::default() };
        let row = match found {
            Ok(row) => row,
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                self.report_problem(AuditProblem::RunRemoved, place);
                return Ok(());
            }
            Err(error) => {
                let detail = unreadable_row(error)?;
                self.found_with(AuditProblem::RunChanged, place, Some(detail));
                return Ok(());
            }
        };
        if sessions::is_session_erased(self, row.run.session.as_bytes())? {
            return Ok(());
        }
        let place = FindingLocation { session: Some(*row.run.session.as_bytes()), ..place };
        let mut journal = match CheckedJournal::starting_after(bodies, &row, 0) {
            Ok(journal) => journal,
            Err(problem) => return self.report_damage(place, 1, problem),
        };
        let mut told = JournalSummary::new(row.run.last_seq, fold);
        loop {
            match journal.read_entries(ENTRIES, |_| true) {
                Ok(entries) if entries.is_empty() => break,
                Ok(entries) => {
                    self.checked.entries += entries.len() as u64;
                    for entry in &entries {
                        told.take_stored(entry);
                    }
                }
                Err(problem) => return self.report_damage(place, journal.last_seq() + 1, problem),
            }
        }
        if let Some(detail) = told.row_difference(&row.run) {
            self.found_with(AuditProblem::RunChanged, place, Some(detail));
        }
        if let Some(begun) = told.begun {
            let last = begun.after.saturating_add(begun.items.len() as u64);
            let taken = TakenItems {
                session: *begun.session.as_bytes(),
                after: begun.after,
                last,
                signals: told.signals,
                last_seq: row.run.last_seq,
            };
            self.taken.insert(run, taken);
            let signals = told.signals;
            self.check_taken_items(&row.run, &begun)?;
            self.check_signals(&row.run, &begun, signals)?;
            self.in_session(&row.run, &begun)?;
        }
        let run_id = RunId::from_bytes(run);
        if let Err(failure) = recheck_checkpoint(self.db, self.tenant, run_id) {
            let detail = match failure {
                ReadFailure::Damaged { problem, .. } => problem,
                ReadFailure::Sql(error) => unreadable_row(error)?,
            };
            self.found_row(
                AuditProblem::RowChanged,
                format!("the checkpoint of {run_id}"),
                None,
                Some(detail),
            );
        }
        self.check_removed_bodies(place, run)?;
        self.is_covered(place, run, journal.last_seq())
    }

    /// Reports an entry that could not be read.
    fn report_damage(
        &mut self,
        place: FindingLocation,
        seq: u64,
        problem: ReadFailure,
    ) -> Result<(), OpenError> {
        let detail = match problem {
            ReadFailure::Damaged { problem, .. } => problem,
            ReadFailure::Sql(error) => unreadable_row(error)?,
        };
        let is_there = self
            .db
            .prepare_cached("SELECT 1 FROM entries WHERE tenant = ?1 AND run = ?2 AND seq = ?3")?
            .exists(params![self.tenant.as_bytes(), place.run, stored_counter(seq)])?;
        let problem = if is_there { AuditProblem::EntryChanged } else { AuditProblem::EntryRemoved };
        self.found_with(problem, FindingLocation { seq: Some(seq), ..place }, Some(detail));
        Ok(())
    }

    /// Looks for the items that a run says it took, each where it stood. Nothing but the erasure of their agent takes items
    /// away, and that begins with a record.
    fn check_taken_items(&mut self, run: &RunRecord, begun: &RunStarted) -> Result<(), OpenError> {
        for (index, item) in begun.items.iter().enumerate() {
            let position = begun.after.saturating_add(index as u64).saturating_add(1);
            let found: Option<(bool, bool)> = self
                .db
                .prepare_cached(
                    "SELECT item = ?4, taken_by IS ?5 FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position = ?3",
                )?
                .query_row(
                    params![
                        self.tenant.as_bytes(),
                        begun.session.as_bytes(),
                        stored_counter(position),
                        item.as_bytes(),
                        run.id.as_bytes(),
                    ],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let problem = match found {
                Some((true, true)) => continue,
                Some(_) => AuditProblem::RowChanged,
                None => AuditProblem::RowRemoved,
            };
            if self.is_agent_erased(begun.agent)?
                || sessions::is_session_erased(self, begun.session.as_bytes())?
            {
                return Ok(());
            }
            let row = format!("item {position} of the inbox of {}", begun.session);
            self.found_row(problem, row, None, Some(format!("{} took {item} from there", run.id)));
        }
        Ok(())
    }

    /// Looks for signals that a run says it took, and whose rows do not name it. An import brings no rows of signals.
    fn check_signals(&mut self, run: &RunRecord, begun: &RunStarted, signals: u64) -> Result<(), OpenError> {
        let untaken: Option<u64> = self
            .db
            .prepare_cached(
                "SELECT position FROM inbox WHERE tenant = ?1 AND owner = ?2 AND position <= ?3 \
                 AND taken_by IS NOT ?2 ORDER BY position LIMIT 1",
            )?
            .query_row(params![self.tenant.as_bytes(), run.id.as_bytes(), stored_counter(signals)], |row| {
                column_codes::read_counter(row, 0)
            })
            .optional()?;
        if let Some(position) = untaken
            && !self.is_agent_erased(begun.agent)?
            && !sessions::is_session_erased(self, begun.session.as_bytes())?
        {
            let row = format!("item {position} of the inbox of {}", run.id);
            let detail = "the run took it as a signal".to_owned();
            self.found_row(AuditProblem::RowChanged, row, None, Some(detail));
        }
        Ok(())
    }

    /// Looks for the row of the session in which a run began, as one of its agent. Nothing but the erasure of the agent takes
    /// it away, and that begins with a record.
    fn in_session(&mut self, run: &RunRecord, begun: &RunStarted) -> Result<(), OpenError> {
        let (db, tenant) = (self.db, self.tenant);
        let (agent, session) = (begun.agent.as_bytes(), begun.session.as_bytes());
        let is_there = db
            .prepare_cached("SELECT 1 FROM sessions WHERE tenant = ?1 AND agent = ?2 AND session = ?3")?
            .exists(params![tenant.as_bytes(), agent, session])?;
        let is_gone =
            is_there || self.is_agent_erased(begun.agent)? || sessions::is_session_erased(self, session)?;
        if is_gone || !self.strayed.insert(*session) {
            return Ok(());
        }
        let is_elsewhere = db
            .prepare_cached("SELECT 1 FROM sessions WHERE tenant = ?1 AND session = ?2")?
            .exists(params![tenant.as_bytes(), session])?;
        let problem = if is_elsewhere { AuditProblem::RowChanged } else { AuditProblem::RowRemoved };
        let detail = Some(format!("agent: {} began in it as one of {}", run.id, begun.agent));
        self.found_row(problem, format!("session {}", begun.session), None, detail);
        Ok(())
    }

    /// Nothing of this program takes away what was said and leaves the entry.
    fn check_removed_bodies(&mut self, place: FindingLocation, run: [u8; 16]) -> Result<(), OpenError> {
        let erased: Option<u64> = self
            .db
            .prepare_cached(
                "SELECT seq FROM entries WHERE tenant = ?1 AND run = ?2 AND place = 4 ORDER BY seq LIMIT 1",
            )?
            .query_row(params![self.tenant.as_bytes(), run], |row| column_codes::read_counter(row, 0))
            .optional()?;
        if let Some(seq) = erased {
            self.report_problem(AuditProblem::BodyRemoved, FindingLocation { seq: Some(seq), ..place });
        }
        Ok(())
    }

    /// Looks whether a journal is sealed to its end.
    fn is_covered(&mut self, place: FindingLocation, run: [u8; 16], last: u64) -> Result<(), OpenError> {
        if self.covered.get(&run).is_some_and(|covered| covered.to >= last) {
            return Ok(());
        }
        // It may have grown since the seals were read.
        self.read_on()?;
        let covered = self.covered.get(&run).map_or(0, |covered| covered.to);
        if covered < last {
            self.report_problem(AuditProblem::Unsealed, FindingLocation { seq: Some(covered + 1), ..place });
        }
        Ok(())
    }
}

/// What a journal says of its run's row, up to the entry that the row knows.
struct JournalSummary<'f> {
    last: u64,
    fold: &'f mut dyn JournalFold,
    /// How it began, with the items that joined it later behind those that it began with.
    begun: Option<RunStarted>,
    /// The last signal that the run took.
    signals: u64,
    /// Whether every entry could be read; one of a newer program cannot.
    is_read: bool,
}

impl<'f> JournalSummary<'f> {
    fn new(last: u64, fold: &'f mut dyn JournalFold) -> Self {
        fold.begin_run();
        Self { last, fold, begun: None, signals: 0, is_read: true }
    }

    fn take_stored(&mut self, stored: &StoredEntry) {
        if stored.seq > self.last {
            // The run went on since its row was read.
            return;
        }
        match stored.decode() {
            Ok(entry) => {
                self.fold.take_entry(&entry);
                match entry {
                    Entry::RunStarted(started) => drop(self.begun.get_or_insert(started)),
                    // They follow those with which it began.
                    Entry::InputsTaken(taken) => {
                        if let Some(begun) = &mut self.begun {
                            begun.items.extend(taken.items);
                        }
                    }
                    Entry::SignalTaken(signal) => self.signals = self.signals.max(signal.position),
                    _ => {}
                }
            }
            Err(_) => self.is_read = false,
        }
    }

    /// Says what the row says otherwise.
    fn row_difference(&self, row: &RunRecord) -> Option<String> {
        let is_whose = |begun: &RunStarted| {
            (begun.agent, begun.session, begun.kind) == (row.agent, row.session, row.kind)
        };
        if !self.begun.as_ref().is_none_or(is_whose) {
            return Some("its journal started for another agent, or in another session".to_owned());
        }
        let status = self.fold.run_status().filter(|_| self.is_read)?;
        // An import that was cut off is held before its journal says how it ended.
        let is_held = row.head.status == RunStatus::Held && !status.is_terminal();
        if status != row.head.status && !is_held {
            return Some(format!(
                "it says {}, but its journal says {}",
                row.head.status.as_str(),
                status.as_str()
            ));
        }
        let summed = self.fold.run_head().filter(|_| !is_held)?;
        (RunHead { status, ..summed } != RunHead { status, ..row.head })
            .then(|| "its sums, or its wake time, differ from its journal".to_owned())
    }
}

/// Takes an error for what it says about a row; whatever says something about the file is one.
pub(super) fn unreadable_row(error: rusqlite::Error) -> Result<String, OpenError> {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => Ok(error.to_string()),
        error => Err(error.into()),
    }
}
