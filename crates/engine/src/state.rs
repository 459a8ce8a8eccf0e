//! The state of a run, and the fold that makes it from a journal.
//!
//! [`apply`] is total: it performs no IO, reads no clock, draws no randomness and never fails. The same entries
//! give byte-equal state in any process, at every prefix.

mod call;
mod fold;

use std::collections::{BTreeSet, VecDeque};

use dromia_contracts::approval::ApprovedCall;
use dromia_contracts::entry::{Entry, Park, RunStarted};
use dromia_contracts::model::Usage;
use dromia_contracts::opinion::Opinion;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_contracts::{ApprovalId, CallId, Digest, ErrorCode, Fault};
use serde::Serialize;

pub use self::call::{CallState, Opined, Progress};
pub use self::fold::apply;

/// Everything that deciding needs to know of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunState {
    /// The number of the last entry folded.
    pub seq: u64,
    /// How the run began; `None` before its first entry.
    pub started: Option<RunStarted>,
    /// Where it stands in its loop.
    pub phase: Phase,
    /// Why it rests, if it does.
    pub rest: Option<Rest>,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: Usage,
    /// What it cost, lost attempts included.
    pub cost_micros: u64,
    /// The position of the last signal taken.
    pub signals_taken: u64,
    /// Actions whose outcome is unknown and was not settled by a person.
    pub unknown_actions: BTreeSet<Digest>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Whether it is one call that somebody asked for, and no model is asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Actions that wait for an approval without this run, at most
    /// [`WAITING_MAX`](dromia_contracts::approval::WAITING_MAX).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub awaiting: BTreeSet<Digest>,
    /// What the last calls were and what they gave, at most [`RECENT_MAX`].
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub recent: VecDeque<Signature>,
}

/// The most calls that are remembered to notice a circle.
pub const RECENT_MAX: usize = 64;

/// What a call was and what it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The digest of its action.
    pub action: Digest,
    /// The digest of its result.
    pub result: Digest,
}

/// Where a run stands in its loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// It has no entry yet.
    New,
    /// It began, or a unit closed: the next model step is due.
    StepDue {
        /// The step to begin.
        step: u32,
        /// Attempts at it that failed.
        failed: u32,
        /// How many of those in a row a crash cut off.
        lost: u32,
    },
    /// A model attempt began and has no answer.
    ModelOpen {
        /// The step.
        step: u32,
        /// The attempt.
        attempt: u32,
        /// How many attempts in a row before this one a crash cut off.
        lost: u32,
        /// What is reserved for it.
        reserved_micros: u64,
    },
    /// The model answered without calls, or its last calls are the client's: the reply must pass the gate.
    Answered {
        /// The step.
        step: u32,
    },
    /// The model answered with calls, and not all have their result.
    UnitOpen {
        /// The step.
        step: u32,
        /// Its calls, in order.
        calls: Vec<CallState>,
    },
    /// The run has ended.
    Ended(RunStatus),
}

/// Why a run rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Rest {
    /// It waits for a time or for its agent.
    Parked(Park),
    /// A person must look.
    Held {
        /// The facts.
        detail: String,
    },
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The code.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            seq: 0,
            started: None,
            phase: Phase::New,
            rest: None,
            model_calls: 0,
            usage: Usage::default(),
            cost_micros: 0,
            signals_taken: 0,
            unknown_actions: BTreeSet::new(),
            failure: None,
            by_hand: false,
            awaiting: BTreeSet::new(),
            recent: VecDeque::new(),
        }
    }
}

impl RunState {
    /// Folds a whole journal.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            apply(&mut state, entry);
        }
        state
    }

    /// Returns how the run stands.
    pub fn status(&self) -> RunStatus {
        match (&self.phase, &self.rest) {
            (Phase::Ended(status), _) => *status,
            (_, Some(Rest::Parked(_))) => RunStatus::Parked,
            (_, Some(Rest::Held { .. })) => RunStatus::Held,
            (_, None) => RunStatus::Running,
        }
    }

    /// Returns what the run's row must say.
    pub fn head(&self) -> RunHead {
        let wake_at = match self.rest {
            Some(Rest::Parked(Park::Retry { until } | Park::Approval { until, .. })) if !self.is_ended() => {
                Some(until)
            }
            _ => None,
        };
        RunHead {
            status: self.status(),
            wake_at,
            model_calls: self.model_calls,
            usage: self.usage,
            cost_micros: self.cost_micros,
        }
    }

    /// Tells whether the run has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Returns the first call of the open unit that has no result and was not handed to a client.
    pub fn next_call(&self) -> Option<(CallId, &CallState)> {
        let Phase::UnitOpen { step, calls } = &self.phase else { return None };
        calls.iter().enumerate().find(|(_, call)| !call.progress.is_closed()).map(|(index, call)| {
            (CallId { step: *step, index: u32::try_from(index).unwrap_or(u32::MAX) }, call)
        })
    }

    /// Returns the approved call that is all the run does, if it was made for one.
    pub fn approved_call(&self) -> Option<&ApprovedCall> {
        self.started.as_ref()?.approved.as_ref()
    }

    /// Returns the approval under which a call that has not begun was asked for, answered or not.
    pub fn approval(&self, id: CallId) -> Option<ApprovalId> {
        match self.progress(id)? {
            Progress::Waiting => self.approved_call().map(|approved| approved.approval),
            Progress::Held { approval, .. } => Some(*approval),
            Progress::Started { .. } | Progress::Done(_) | Progress::Handed => None,
        }
    }

    /// Returns the approval that allows a call to begin, and what it is bound to.
    pub fn approved(&self, id: CallId) -> Option<(ApprovalId, Digest)> {
        match self.progress(id)? {
            Progress::Waiting => self.approved_call().map(|approved| (approved.approval, approved.binding)),
            Progress::Held { approval, binding, answer: Some(true), .. } => Some((*approval, *binding)),
            Progress::Held { .. } | Progress::Started { .. } | Progress::Done(_) | Progress::Handed => None,
        }
    }

    /// Returns what a second model said of a call of the open unit, and of which action.
    pub fn opinion(&self, id: CallId) -> Option<(Digest, &Opinion)> {
        match &self.call(id)?.opined {
            Opined::Given { action, opinion } => Some((*action, opinion)),
            Opined::Unasked | Opined::Open { .. } | Opined::Lost { .. } => None,
        }
    }

    /// Tells whether a second model may still be asked about a call: nobody allowed it, it has not begun, and the run does not
    /// rest for it.
    pub fn may_be_doubted(&self, id: CallId) -> bool {
        match self.progress(id) {
            Some(Progress::Waiting) => self.approved(id).is_none(),
            Some(Progress::Held { answer: None, ahead, .. }) => *ahead,
            Some(Progress::Held { .. } | Progress::Started { .. } | Progress::Done(_) | Progress::Handed)
            | None => false,
        }
    }

    /// Returns the approval under which a call was asked for before its turn, answered or not.
    pub fn asked_ahead(&self, id: CallId) -> Option<ApprovalId> {
        match self.progress(id)? {
            Progress::Held { approval, ahead: true, .. } => Some(*approval),
            _ => None,
        }
    }

    /// Returns the action of a call that somebody was asked for and that has not begun.
    pub fn held_action(&self, id: CallId) -> Option<Digest> {
        match self.progress(id)? {
            Progress::Held { action, .. } => Some(*action),
            _ => None,
        }
    }

    /// Lists the calls of the open unit that wait for an answer, with what each is asked for under.
    pub fn unanswered(&self) -> impl Iterator<Item = (CallId, ApprovalId)> {
        self.held().filter_map(|(call, known)| match known.progress {
            Progress::Held { approval, answer: None, .. } => Some((call, approval)),
            _ => None,
        })
    }

    /// Lists the calls of the open unit that somebody was asked for and that have not begun.
    pub fn held(&self) -> impl Iterator<Item = (CallId, &CallState)> {
        self.calls().filter(|(_, known)| matches!(known.progress, Progress::Held { .. }))
    }

    /// Returns the first call of the open unit behind this one that nobody looked at.
    pub fn waiting_after(&self, id: CallId) -> Option<CallId> {
        let mut waiting = self.calls().filter(|(_, known)| known.progress == Progress::Waiting);
        waiting.find(|(call, _)| *call > id).map(|(call, _)| call)
    }

    /// Lists the calls of the open unit.
    fn calls(&self) -> impl Iterator<Item = (CallId, &CallState)> {
        let (step, calls) = match &self.phase {
            Phase::UnitOpen { step, calls } => (*step, calls.as_slice()),
            _ => (0, <&[CallState]>::default()),
        };
        (0..).zip(calls).map(move |(index, call)| (CallId { step, index }, call))
    }

    fn progress(&self, id: CallId) -> Option<&Progress> {
        self.call(id).map(|call| &call.progress)
    }

    fn call(&self, id: CallId) -> Option<&CallState> {
        let Phase::UnitOpen { step, calls } = &self.phase else { return None };
        calls.get(id.index as usize).filter(|_| *step == id.step)
    }

    /// Tells whether the run rests for an answer of a person.
    pub fn rests_for_approval(&self) -> bool {
        matches!(self.rest, Some(Rest::Parked(Park::Approval { .. })))
    }

    /// Takes an answer to the call that was asked for under an approval; without one, to the first that waits. The run rests on
    /// where it rests for another call.
    fn take_answer(&mut self, approval: Option<ApprovalId>, allowed: bool) {
        let rested = match self.rest {
            Some(Rest::Parked(Park::Approval { approval, .. })) => Some(approval),
            _ => None,
        };
        if rested.is_some() && (approval.is_none() || approval == rested) {
            self.rest = None;
        }
        let Phase::UnitOpen { calls, .. } = &mut self.phase else { return };
        let mut open = calls.iter_mut().filter_map(|call| match &mut call.progress {
            Progress::Held { approval, answer: answer @ None, .. } => Some((*approval, answer)),
            _ => None,
        });
        if let Some((_, answer)) = open.find(|(known, _)| approval.is_none_or(|approval| approval == *known))
        {
            *answer = Some(allowed);
        }
    }

    /// Returns why the run failed as a fault for callers.
    pub fn fault(&self) -> Option<Fault> {
        self.failure.as_ref().map(|failure| Fault::new(failure.code, failure.message.clone()))
    }

    /// Tells whether the newest call, with what it gave, is among the last `window` calls `same` times. Returns how often.
    pub fn circle(&self, same: usize, window: usize) -> Option<usize> {
        let newest = self.recent.back().filter(|_| same > 0)?;
        let times = self.recent.iter().rev().take(window).filter(|recent| *recent == newest).count();
        (times >= same).then_some(times)
    }

    fn call_mut(&mut self, id: CallId) -> Option<&mut CallState> {
        match &mut self.phase {
            Phase::UnitOpen { step, calls } if *step == id.step => calls.get_mut(id.index as usize),
            _ => None,
        }
    }

    /// Leaves a unit with whose calls this run is done. Where some are the client's, nothing is left but to end: the
    /// model is asked again when the client has told what its tools gave. Where somebody asked for the call by hand, its
    /// result is the answer.
    fn close_unit_if_answered(&mut self) {
        if let Phase::UnitOpen { step, calls } = &self.phase
            && calls.iter().all(|call| call.progress.is_closed())
        {
            let handed = calls.iter().any(|call| call.progress == Progress::Handed);
            self.phase = if handed || self.by_hand {
                Phase::Answered { step: *step }
            } else {
                Phase::StepDue { step: step + 1, failed: 0, lost: 0 }
            };
        }
    }
}
