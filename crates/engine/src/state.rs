//! The state of a run, and the fold that makes it from a journal.
//!
//! [`apply_entry`] is total: it performs no IO, reads no clock, draws no randomness and never fails. The same entries
//! give byte-equal state in any process, at every prefix.

mod call;
mod fold;
pub(crate) mod repetition;

use std::collections::{BTreeSet, VecDeque};

use dromia_contracts::approval::ApprovedCall;
use dromia_contracts::entry::{Entry, ParkReason, RunStarted};
use dromia_contracts::model::TokenUsage;
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_contracts::{ApprovalId, CallId, Digest, ErrorCode, Fault, ItemId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::call::{CallStage, CallState, OpinionState};
pub use self::fold::apply_entry;
pub use self::repetition::RepetitionNotices;

/// Everything that deciding needs to know of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// The number of the last entry folded.
    pub seq: u64,
    /// How the run began; `None` before its first entry.
    pub started: Option<RunStarted>,
    /// Its phase in the loop.
    pub phase: RunPhase,
    /// Why it rests, if it does.
    pub rest: Option<RestReason>,
    /// Model calls begun.
    pub model_calls: u32,
    /// Tokens used.
    pub usage: TokenUsage,
    /// What it cost, lost attempts included.
    pub cost_micros: u64,
    /// Model calls of which no price is known.
    pub unpriced_calls: u32,
    /// The position of the last signal taken.
    pub signals_taken: u64,
    /// Actions whose outcome is unknown and was not settled by a person.
    pub unknown_actions: BTreeSet<Digest>,
    /// Why it failed, if it did.
    pub failure: Option<FailureReason>,
    /// Whether it is one manual call, without a model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Actions that wait for an approval without this run, at most
    /// [`WAITING_MAX`](dromia_contracts::approval::WAITING_MAX).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub awaiting: BTreeSet<Digest>,
    /// The signatures of the last calls, at most [`RECENT_MAX`].
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub recent: VecDeque<CallSignature>,
    /// The inputs that it took after it began, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<ItemId>,
    /// The notices to the model that it repeats a call.
    #[serde(default, skip_serializing_if = "RepetitionNotices::is_none")]
    pub circle: RepetitionNotices,
    /// How often an answer was asked for again because it did not satisfy its schema.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repairs: u32,
    /// The interim replies that it sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replies: u32,
    /// Whether its last model call asked it to conclude.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub concluding: bool,
    /// Whether it yielded because its deadline had passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The most calls that are remembered to detect a repetition.
pub const RECENT_MAX: usize = 64;

/// The action and the result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSignature {
    /// The digest of its action.
    pub action: Digest,
    /// The digest of its result.
    pub result: Digest,
}

/// The phase of a run in its loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestReason {
    /// It waits for a time or for its agent.
    Parked(ParkReason),
    /// A person must look.
    Held {
        /// The facts.
        detail: String,
    },
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReason {
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
            phase: RunPhase::New,
            rest: None,
            model_calls: 0,
            usage: TokenUsage::default(),
            cost_micros: 0,
            unpriced_calls: 0,
            signals_taken: 0,
            unknown_actions: BTreeSet::new(),
            failure: None,
            by_hand: false,
            awaiting: BTreeSet::new(),
            recent: VecDeque::new(),
            joined: Vec::new(),
            circle: RepetitionNotices::default(),
            repairs: 0,
            replies: 0,
            concluding: false,
            overdue: false,
        }
    }
}

impl RunState {
    /// Folds a whole journal.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            apply_entry(&mut state, entry);
        }
        state
    }

    /// Returns the run's status.
    pub fn status(&self) -> RunStatus {
        match (&self.phase, &self.rest) {
            (RunPhase::Ended(status), _) => *status,
            (_, Some(RestReason::Parked(_))) => RunStatus::Parked,
            (_, Some(RestReason::Held { .. })) => RunStatus::Held,
            (_, None) => RunStatus::Running,
        }
    }

    /// Returns what the run's row must say.
    pub fn run_head(&self) -> RunHead {
        let wake_at =
            match self.rest {
                Some(RestReason::Parked(
                    ParkReason::Retry { until } | ParkReason::Approval { until, .. },
                )) if !self.is_ended() => Some(until),
                _ => None,
            };
        RunHead {
            status: self.status(),
            wake_at,
            model_calls: self.model_calls,
            usage: self.usage,
            cost_micros: self.cost_micros,
            unpriced_calls: self.unpriced_calls,
        }
    }

    /// Tells whether the run has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, RunPhase::Ended(_))
    }

    /// Returns the first call of the open unit that has no result and was not handed to a client.
    pub fn next_call(&self) -> Option<(CallId, &CallState)> {
        let RunPhase::UnitOpen { step, calls } = &self.phase else { return None };
        calls.iter().enumerate().find(|(_, call)| !call.progress.is_closed()).map(|(index, call)| {
            (CallId { step: *step, index: u32::try_from(index).unwrap_or(u32::MAX) }, call)
        })
    }

    /// Returns the approved call that is all the run does, if it was made for one.
    pub fn approved_call(&self) -> Option<&ApprovedCall> {
        self.started.as_ref()?.approved.as_ref()
    }

    /// Returns the approval of a call that has not begun, answered or not.
    pub fn call_approval(&self, id: CallId) -> Option<ApprovalId> {
        match self.call_progress(id)? {
            CallStage::Waiting => self.approved_call().map(|approved| approved.approval),
            CallStage::Held { approval, .. } => Some(*approval),
            CallStage::Started { .. } | CallStage::Done(_) | CallStage::Handed => None,
        }
    }

    /// Returns the approval that allows a call to begin, and what it is bound to.
    pub fn granted_approval(&self, id: CallId) -> Option<(ApprovalId, Digest)> {
        match self.call_progress(id)? {
            CallStage::Waiting => self.approved_call().map(|approved| (approved.approval, approved.binding)),
            CallStage::Held { approval, binding, answer: Some(true), .. } => Some((*approval, *binding)),
            CallStage::Held { .. } | CallStage::Started { .. } | CallStage::Done(_) | CallStage::Handed => {
                None
            }
        }
    }

    /// Returns the second opinion about a call of the open unit, with the digest of its action.
    pub fn call_opinion(&self, id: CallId) -> Option<(Digest, &ModelOpinion)> {
        match &self.call_state(id)?.opined {
            OpinionState::Given { action, opinion } => Some((*action, opinion)),
            OpinionState::Unasked | OpinionState::Open { .. } | OpinionState::Lost { .. } => None,
        }
    }

    /// Returns whether a second model may still be asked about a call: no person allowed it, it has not begun, and the
    /// run does not rest for it.
    pub fn may_be_doubted(&self, id: CallId) -> bool {
        match self.call_progress(id) {
            Some(CallStage::Waiting) => self.granted_approval(id).is_none(),
            Some(CallStage::Held { answer: None, ahead, .. }) => *ahead,
            Some(
                CallStage::Held { .. } | CallStage::Started { .. } | CallStage::Done(_) | CallStage::Handed,
            )
            | None => false,
        }
    }

    /// Returns the approval that was requested before a call's turn, answered or not.
    pub fn asked_ahead(&self, id: CallId) -> Option<ApprovalId> {
        match self.call_progress(id)? {
            CallStage::Held { approval, ahead: true, .. } => Some(*approval),
            _ => None,
        }
    }

    /// Returns the action of a call whose approval is requested and that has not begun.
    pub fn held_action(&self, id: CallId) -> Option<Digest> {
        match self.call_progress(id)? {
            CallStage::Held { action, .. } => Some(*action),
            _ => None,
        }
    }

    /// Lists the calls of the open unit that wait for an answer, with the approval of each.
    pub fn unanswered_calls(&self) -> impl Iterator<Item = (CallId, ApprovalId)> {
        self.held_calls().filter_map(|(call, known)| match known.progress {
            CallStage::Held { approval, answer: None, .. } => Some((call, approval)),
            _ => None,
        })
    }

    /// Lists the calls of the open unit whose approval is requested and that have not begun.
    pub fn held_calls(&self) -> impl Iterator<Item = (CallId, &CallState)> {
        self.open_calls().filter(|(_, known)| matches!(known.progress, CallStage::Held { .. }))
    }

    /// Returns the first call of the open unit behind this one that is not judged yet.
    pub fn waiting_after(&self, id: CallId) -> Option<CallId> {
        let mut waiting = self.open_calls().filter(|(_, known)| known.progress == CallStage::Waiting);
        waiting.find(|(call, _)| *call > id).map(|(call, _)| call)
    }

    /// Lists the calls of the open unit.
    fn open_calls(&self) -> impl Iterator<Item = (CallId, &CallState)> {
        let (step, calls) = match &self.phase {
            RunPhase::UnitOpen { step, calls } => (*step, calls.as_slice()),
            _ => (0, <&[CallState]>::default()),
        };
        (0..).zip(calls).map(move |(index, call)| (CallId { step, index }, call))
    }

    fn call_progress(&self, id: CallId) -> Option<&CallStage> {
        self.call_state(id).map(|call| &call.progress)
    }

    fn call_state(&self, id: CallId) -> Option<&CallState> {
        let RunPhase::UnitOpen { step, calls } = &self.phase else { return None };
        calls.get(id.index as usize).filter(|_| *step == id.step)
    }

    /// Lists what the run took, in the order in which it took it.
    pub fn taken_items(&self) -> Vec<ItemId> {
        let began = self.started.iter().flat_map(|started| &started.items);
        began.chain(&self.joined).copied().collect()
    }

    /// Returns the position of the last input that the run took.
    pub fn inputs_end(&self) -> u64 {
        let began = self.started.as_ref().map_or(0, |started| started.after + started.items.len() as u64);
        began + self.joined.len() as u64
    }

    /// Tells whether inputs may join the run before its next model call: not where it is a single call.
    pub fn may_join_inputs(&self) -> bool {
        self.started.as_ref().is_some_and(|started| started.kind.takes_more_inputs())
            && !self.by_hand
            && matches!(self.phase, RunPhase::StepDue { .. })
    }

    /// Tells whether a run that concludes at its limit with what it has reaches that limit by so many more model calls, or has
    /// been asked to conclude.
    pub fn concludes_after(&self, more: u32) -> bool {
        let concludes = self.started.as_ref().filter(|started| !started.mind.is_solo() && !self.by_hand);
        concludes.is_some_and(|started| self.concluding || self.model_calls + more >= started.model_calls_max)
    }

    /// Returns the deadline of the run, if it has passed at a time.
    pub fn passed_deadline(&self, at: Timestamp) -> Option<Timestamp> {
        self.started.as_ref()?.deadline.filter(|deadline| *deadline <= at)
    }

    /// Tells whether the run rests for an answer of a person.
    pub fn rests_for_approval(&self) -> bool {
        matches!(self.rest, Some(RestReason::Parked(ParkReason::Approval { .. })))
    }

    /// Has the run wait no longer than now for the calls that were asked for. An answer that comes later still counts.
    pub(crate) fn end_holds(&mut self, now: Timestamp) {
        if let RunPhase::UnitOpen { calls, .. } = &mut self.phase {
            for call in calls {
                if let CallStage::Held { until, answer: None, .. } = &mut call.progress {
                    *until = (*until).min(now);
                }
            }
        }
    }

    /// Applies an answer to the call of an approval. The run keeps resting if it rests for another call.
    fn take_answer(&mut self, approval: ApprovalId, allowed: bool) {
        if let Some(RestReason::Parked(ParkReason::Approval { approval: rested, .. })) = self.rest
            && rested == approval
        {
            self.rest = None;
        }
        let RunPhase::UnitOpen { calls, .. } = &mut self.phase else { return };
        let mut open = calls.iter_mut().filter_map(|call| match &mut call.progress {
            CallStage::Held { approval, answer: answer @ None, .. } => Some((*approval, answer)),
            _ => None,
        });
        if let Some((_, answer)) = open.find(|(known, _)| *known == approval) {
            *answer = Some(allowed);
        }
    }

    /// Returns why the run failed as a fault for callers.
    pub fn failure_fault(&self) -> Option<Fault> {
        self.failure.as_ref().map(|failure| Fault::new(failure.code, failure.message.clone()))
    }

    /// Tells whether a call was made `same` times among the last `window` ones, so that once more is too often. Returns how
    /// often.
    pub fn repeat_count(&self, action: Digest, same: usize, window: usize) -> Option<usize> {
        let newest = self.recent.iter().rev().find(|known| known.action == action).filter(|_| same > 0)?;
        let times = repetition::count_repeats(&self.recent, newest, window);
        (times >= same).then_some(times)
    }

    /// Returns in how many steps the model got a notice that it repeats a call, if these are enough to yield.
    pub fn repetition_steps(&self) -> Option<u32> {
        self.circle.is_closed()
    }

    fn call_mut(&mut self, id: CallId) -> Option<&mut CallState> {
        match &mut self.phase {
            RunPhase::UnitOpen { step, calls } if *step == id.step => calls.get_mut(id.index as usize),
            _ => None,
        }
    }

    /// Leaves a unit whose calls are closed for this run. If some are the client's, the run ends: the model is asked
    /// again when the client sends the results of its tools. The result of a manual call is the answer.
    fn close_unit_if_answered(&mut self) {
        if let RunPhase::UnitOpen { step, calls } = &self.phase
            && calls.iter().all(|call| call.progress.is_closed())
        {
            let handed = calls.iter().any(|call| call.progress == CallStage::Handed);
            self.phase = if handed || self.by_hand {
                RunPhase::Answered { step: *step }
            } else {
                RunPhase::StepDue { step: step + 1, failed: 0, lost: 0 }
            };
        }
    }
}
