//! What the outside world remembers: every acknowledged input, every attempt of an effect and every answer.
//!
//! It stands outside the engine and survives its crashes. What can be seen to be wrong on the spot is noted on
//! the spot; the rest is compared with the store at the end, in `check`. It repairs nothing and stops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::store::StoredEntry;
use dromia_contracts::workspace::RunWorkspace;
use dromia_contracts::{ApprovalId, CallId, Digest, ItemId, RunId, SessionId, TenantId};
use dromia_testkit::ReferenceStore;
use jiff::Timestamp;

use super::hours::HourBook;

/// Who says everything, where nobody else does.
pub(crate) const ADA: &str = "cli:ada";

/// The witness; one for a whole simulation.
#[derive(Debug, Default)]
pub(crate) struct Witness(Mutex<Book>);

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Counts what happens, to tell before from after.
    tick: u64,
    /// Inputs by their number.
    pub(crate) requests: BTreeMap<u32, Request>,
    /// Sessions by the name of their place.
    pub(crate) sessions: BTreeMap<String, SessionId>,
    /// Executions of tools, transactional ones excepted, in order.
    pub(crate) executions: Vec<Execution>,
    /// What a second model was shown, by the key of each request.
    pub(crate) shown: Vec<(String, String)>,
    /// Model attempts by the key of their step.
    pub(crate) attempts: BTreeMap<String, usize>,
    /// Model attempts that are being made, by place.
    pub(crate) asking: BTreeMap<String, Vec<RunId>>,
    /// Callers that wait in this life of the engine, by input.
    pub(crate) waiting: BTreeSet<(u32, u64)>,
    /// The chains of journals as they were seen last.
    seen: BTreeMap<RunId, Vec<Digest>>,
    /// Times that an engine lost its runs, or may have lost one: crashes and spoiled commits.
    pub(crate) losses: u64,
    /// How often the engine was ended by a crash.
    pub(crate) crashes: u64,
    /// Outcomes that reached a caller.
    pub(crate) outcomes: u64,
    /// What was charged in which hour, where budgets are those of an hour.
    pub(crate) hours: HourBook,
    /// Answers to approvals that were acknowledged: whether each allowed the call.
    pub(crate) answers: BTreeMap<(TenantId, ApprovalId), bool>,
    /// What is wrong.
    pub(crate) wrong: Vec<String>,
}

/// An input as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The place it goes to.
    pub(crate) place: usize,
    /// What it says.
    pub(crate) text: String,
    /// Who says it.
    pub(crate) author: &'static str,
    /// What it does while a turn of its session runs, where it says so.
    pub(crate) when_busy: Option<BusyPolicy>,
    /// Whether it carries a key, so that it may be sent again.
    pub(crate) keyed: bool,
    /// When it was sent first.
    pub(crate) sent: u64,
    /// What was acknowledged, and when.
    pub(crate) ack: Option<Ack>,
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The item.
    pub(crate) item: ItemId,
    /// Its session.
    pub(crate) session: SessionId,
    /// Its position.
    pub(crate) position: u64,
    /// When the client heard of it.
    pub(crate) heard: u64,
}

/// One execution of a tool.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    /// The idempotency key that came with it.
    pub(crate) key: String,
    /// The tool, by its true name.
    pub(crate) tool: String,
    /// The canonical arguments.
    pub(crate) arguments: String,
    /// The run.
    pub(crate) run: RunId,
    /// The call.
    pub(crate) call: CallId,
    /// Where it was to work.
    pub(crate) workspace: RunWorkspace,
    /// Whether it came to its end.
    pub(crate) finished: bool,
}

impl Witness {
    /// Opens the book.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an invariant is broken.
    pub(crate) fn blame(&self, invariant: &str, what: &str) {
        self.book().blame(invariant, what);
    }

    /// Charges what a commit added, and compares what the store counts.
    pub(crate) fn look_at_hour(&self, truth: &ReferenceStore, tenant: TenantId, now: Timestamp) {
        let mut book = self.book();
        for what in book.hours.look(truth, tenant, now) {
            book.blame("S10", &what);
        }
    }

    /// Compares a journal with what was seen of it before: numbers and digests never change.
    pub(crate) fn look(&self, run: RunId, journal: &[StoredEntry]) {
        let now: Vec<Digest> = journal.iter().map(|entry| entry.chain).collect();
        let mut book = self.book();
        let before = book.seen.insert(run, now.clone()).unwrap_or_default();
        if !now.starts_with(&before) {
            book.blame("J2", &format!("the journal of {run} changed behind what was read before"));
        }
    }
}

impl Book {
    /// Moves on by one.
    pub(crate) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Notes that an invariant is broken.
    pub(crate) fn blame(&mut self, invariant: &str, what: &str) {
        self.wrong.push(format!("{invariant}: {what}"));
    }

    /// Writes down a new input and returns its number.
    pub(crate) fn request(&mut self, place: usize, keyed: bool, text: impl FnOnce(u32) -> String) -> u32 {
        let number = u32::try_from(self.requests.len()).expect("a few inputs") + 1;
        let (sent, text) = (self.tick(), text(number));
        let request = Request { place, text, author: ADA, when_busy: None, keyed, sent, ack: None };
        self.requests.insert(number, request);
        number
    }

    /// Writes down an acknowledgement; the second one of an input must say what the first one said.
    pub(crate) fn acknowledge(&mut self, number: u32, item: ItemId, session: SessionId, position: u64) {
        let heard = self.tick();
        let new = Ack { item, session, position, heard };
        let Some(request) = self.requests.get_mut(&number) else { return };
        match request.ack {
            None => request.ack = Some(new),
            Some(old) if (old.item, old.session, old.position) == (item, session, position) => {}
            Some(old) => self.blame("J3", &format!("input {number} is {} and then {item}", old.item)),
        }
    }

    /// Notes that a model attempt of a run begins in a place; a second run of the place at once is wrong.
    pub(crate) fn ask(&mut self, place: &str, run: RunId, alone: bool) {
        let asking = self.asking.entry(place.to_owned()).or_default();
        let other = asking.iter().find(|other| **other != run).copied();
        asking.push(run);
        if let Some(other) = other.filter(|_| alone) {
            self.blame("S1", &format!("{other} and {run} work on {place} at once"));
        }
    }

    /// Notes that the attempt ended, or was dropped.
    pub(crate) fn asked(&mut self, place: &str, run: RunId) {
        let asking = self.asking.entry(place.to_owned()).or_default();
        if let Some(at) = asking.iter().position(|other| *other == run) {
            asking.swap_remove(at);
        }
    }
}
