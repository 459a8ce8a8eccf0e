//! The transcript for a run's model, built from inbox items and journal entries.
//!
//! One function adds an item and one adds an entry, whether they come from the store or were written a moment ago, so a
//! reconstructed request equals the one that was sent.

mod branches;
mod briefing;
mod earlier_turns;
mod held_bytes;
mod inbox_positions;
mod joined_inputs;
mod tools_used;

use std::collections::BTreeMap;

use dromia_contracts::approval::ApprovedBody;
use dromia_contracts::client::ClientToolResults;
use dromia_contracts::content::{AssistantMessage, ContentPart, InputMessage, ToolCall, ToolResult};
use dromia_contracts::encoded_request::TaintedPast;
use dromia_contracts::entry::{Entry, MaskedCall, WithheldReply};
use dromia_contracts::input::{InputBody, ManualCall};
use dromia_contracts::label::Label;
use dromia_contracts::redacted_history::READ;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{SessionTail, StoredEntry};
use dromia_contracts::transcript::{AssistantUnit, OpenUnit, Transcript, TranscriptTurn};
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{CallId, RunId, SessionId};

use super::client_tools::{self as client, ClientToolState, ClientToolset};
use super::taint::TaintTracker;
use crate::context::summary::ConversationSummary;
use inbox_positions::InboxPositions;
use joined_inputs::{JoinedInputs, inputs_of_entry};

pub(crate) use self::branches::TranscriptStart;
pub(crate) use self::earlier_turns::{message_parts, with_joined_label};

/// The transcript of a run so far.
#[derive(Debug, Clone)]
pub(crate) struct ConversationTranscript {
    /// Inputs and closed units.
    pub(crate) transcript: Transcript,
    /// The unit whose calls are being answered.
    open: Option<OpenUnit>,
    /// The position of the first item in it.
    pub(crate) history_from: u64,
    /// The last reply of the model.
    pub(crate) reply: Vec<ContentPart>,
    /// Why that reply is withheld, if it is.
    pub(crate) withheld: Option<WithheldReply>,
    /// The calls of that message that never begin.
    masked: Vec<MaskedCall>,
    /// How many hops between agents led to the newest input.
    pub(crate) hops: u32,
    /// How trusted it is.
    pub(crate) taint: TaintTracker,
    /// The client's tools, and the calls that the client has.
    pub(crate) client: ClientToolState,
    /// The manual call of the newest input, if it has one.
    pub(crate) asked: Option<ManualCall>,
    /// The directory that the newest input names, if it names one.
    pub(crate) workspace: Option<WorkspaceReference>,
    /// How many turns of the transcript come before what the newest run did.
    own_from: usize,
    /// Whether a call of that run began.
    pub(crate) began: bool,
    /// The units whose text was withheld, each with its index and the rule.
    unsaid: Vec<(usize, String)>,
    /// The turns that asked for a repair of an answer.
    repairs: Vec<usize>,
    /// Whether anything was done since the newest item.
    goes_on: bool,
    /// The positions of the items.
    positions: InboxPositions,
    /// What of the session the requests do not repeat.
    pub(crate) omitted: OmittedPast,
    /// The session of which the newest input has a part summarized.
    pub(crate) compacted: Option<SessionId>,
    /// Whether the newest run concluded at its limit of model calls.
    pub(crate) concluded: bool,
    /// What the runtime says before the newest input.
    pub(crate) briefing: Option<Box<str>>,
}

/// What of a session's past is in no request of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OmittedPast {
    /// The run whose summary takes the place of the oldest part.
    pub(crate) summary: Option<RunId>,
    /// Whether more is left out, because it does not fit.
    pub(crate) is_cut: bool,
}

impl OmittedPast {
    /// Returns whether there are words that the model may want to read.
    fn is_some(self) -> bool {
        self.summary.is_some() || self.is_cut
    }
}

/// Stored content that cannot become part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoryError {
    /// A body is not what its entry or item says.
    #[error("the body of {place} cannot be read: {problem}")]
    Body { place: String, problem: String },
    /// An entry is of a kind or version that this program does not know.
    #[error("entry {seq}: {problem}")]
    Entry { seq: u64, problem: String },
}

impl ConversationTranscript {
    /// Begins an empty transcript at an inbox position.
    pub(crate) fn new(history_from: u64) -> Self {
        Self {
            transcript: Transcript::default(),
            open: None,
            history_from,
            reply: Vec::new(),
            withheld: None,
            masked: Vec::new(),
            hops: 0,
            taint: TaintTracker::new(TaintedPast::Whole),
            client: ClientToolState::default(),
            asked: None,
            workspace: None,
            own_from: 0,
            began: false,
            unsaid: Vec::new(),
            repairs: Vec::new(),
            goes_on: false,
            positions: InboxPositions::default(),
            omitted: OmittedPast::default(),
            compacted: None,
            concluded: false,
            briefing: None,
        }
    }

    /// Builds the past of a session: every taken item of the tail and the runs that took them, in order.
    ///
    /// `upto` is the run that continues, if one does: its open unit stays open. `start` is what comes before the first input.
    pub(crate) fn from_tail(
        tail: &SessionTail,
        upto: Option<RunId>,
        tainted_past: TaintedPast,
        start: TranscriptStart,
    ) -> Result<Self, StoryError> {
        let summarized = start.summary().map_or(0, ConversationSummary::upto);
        let there = tail.items.iter().filter(|item| item.position > summarized);
        let from = there.clone().next().map_or(tail.session.head.last + 1, |item| item.position);
        let mut story = match start {
            TranscriptStart::Branch(begun) => Self { history_from: from, ..*begun },
            TranscriptStart::Session(summary) => {
                let mut story = Self { taint: TaintTracker::new(tainted_past), ..Self::new(from) };
                story.begin_after(summary.as_deref(), from);
                story
            }
        };
        let joined = JoinedInputs::of_tail(tail)?;
        let mut items = there.filter(|item| item.taken_by.is_some()).peekable();
        let journals: BTreeMap<RunId, &[StoredEntry]> =
            tail.runs.iter().map(|(run, entries)| (*run, &**entries)).collect();
        while let Some(item) = items.next() {
            if !joined.contains(item.id) {
                story.add_item(item)?;
            }
            if items.peek().is_some_and(|next| next.taken_by == item.taken_by) {
                continue;
            }
            let Some(run) = item.taken_by else { continue };
            for stored in journals.get(&run).into_iter().flat_map(|entries| entries.iter()) {
                if says_nothing(stored) {
                    story.goes_on = true;
                    story.client.completed |= stored.kind == COMPLETED;
                    continue;
                }
                let entry = stored
                    .decode()
                    .map_err(|error| StoryError::Entry { seq: stored.seq, problem: error.to_string() })?;
                story.add_entry(&entry, stored.body.as_deref())?;
                for item in inputs_of_entry(tail, &entry) {
                    story.add_joined_input(item)?;
                }
            }
            if upto != Some(run) {
                story.end_run(run);
            }
        }
        Ok(story)
    }

    /// Says what comes before the first item: a summary, and how many items are not even read.
    fn begin_after(&mut self, summary: Option<&ConversationSummary>, from: u64) {
        let mut parts = summary.map(ConversationSummary::request_parts).unwrap_or_default();
        self.omitted.summary = summary.map(ConversationSummary::run);
        let first = summary.map_or(1, |summary| summary.upto() + 1);
        if first < from {
            self.omitted.is_cut = true;
            parts.push(ContentPart::new_text(
                format!("[Inputs {first} to {} of this conversation are not repeated; {READ} reads them, handle {first} is input {first}]", from - 1),
                Label::PUBLIC_FACT,
            ));
        }
        if !parts.is_empty() {
            self.taint.join_for_good(&parts);
            self.transcript.push_summary(parts);
        }
    }

    /// Ends the past as the next input would: untrusted content of its last turn becomes handles, too.
    pub(crate) fn close_past(&mut self) {
        self.take_back();
        self.settle_client_calls(None);
        self.take_back();
        self.end_turns();
    }

    /// Returns the position of the item whose first turn this is.
    pub(crate) fn input_position(&self, turn: usize) -> Option<u64> {
        self.positions.at_turn(turn)
    }

    /// Returns whether a tool is offered that reads earlier words: some of them are behind handles, or not repeated.
    pub(crate) fn offers_past(&self) -> bool {
        self.has_past() || self.omitted.is_some()
    }

    /// Adds an inbox item that a run took. What the run does comes after the last of them.
    pub(crate) fn add_item(&mut self, item: &InboxItem) -> Result<(), StoryError> {
        self.take_back();
        self.tell_item(item)?;
        // One that waited for its client is closed by the item.
        self.take_back();
        self.own_from = self.transcript.turns().len();
        self.note_heard();
        self.began = false;
        (self.taint.clean_to, self.taint.closed) = (0, false);
        Ok(())
    }

    /// Adds an input that joined the running turn. The turn goes on: what it read and planned stays as it was.
    pub(crate) fn add_joined_input(&mut self, item: &InboxItem) -> Result<(), StoryError> {
        let position = self.positions.of_item(item.position);
        self.positions.begin_item(self.transcript.turns().len(), position);
        let Some(body) = &item.body else { return Ok(()) };
        let hops = self.hops;
        if item.kind == ItemKind::Conclusion {
            self.add_conclusion(item, body)?;
        } else {
            let body = InputBody::decode(body).map_err(|error| StoryError::Body {
                place: item.id.to_string(),
                problem: error.to_string(),
            })?;
            self.positions.add_input(position);
            self.add_input(body.message);
        }
        self.hops = self.hops.max(hops);
        Ok(())
    }

    fn tell_item(&mut self, item: &InboxItem) -> Result<(), StoryError> {
        (self.asked, self.workspace) = (None, None);
        let position = self.positions.of_item(item.position);
        self.positions.newest = position;
        let goes_on = std::mem::take(&mut self.goes_on);
        if let (ItemKind::Approved, Some(body)) = (item.kind, &item.body) {
            let body = ApprovedBody::decode(body).map_err(|error| StoryError::Body {
                place: item.id.to_string(),
                problem: error.to_string(),
            })?;
            self.settle_client_calls(None);
            self.client.offered.go_on();
            // The context of the call is also the context of its result.
            self.taint.label = self.taint.label.join(body.context);
            self.taint.by_hand = body.context;
            self.hops = body.hops;
            self.asked = Some(ManualCall { tool: body.tool, arguments: body.arguments });
            return Ok(());
        }
        if let (ItemKind::Conclusion, Some(body)) = (item.kind, &item.body) {
            if goes_on {
                self.end_turns();
            }
            self.settle_client_calls(None);
            self.client.offered = ClientToolset::default();
            self.positions.begin_item(self.transcript.turns().len(), position);
            self.add_conclusion(item, body)?;
            self.taint.by_hand = Label::CLAIM;
            return Ok(());
        }
        let (ItemKind::Input, Some(body)) = (item.kind, &item.body) else {
            // A resume adds no words, and an erased input has none.
            self.settle_client_calls(None);
            self.client.offered.go_on();
            return Ok(());
        };
        let InputBody { history, answers, offer, call, workspace, when_busy: _, compaction, mut message } =
            InputBody::decode(body).map_err(|error| StoryError::Body {
                place: item.id.to_string(),
                problem: error.to_string(),
            })?;
        (self.asked, self.workspace) = (call, workspace);
        self.compacted = compaction.map(|range| range.session);
        self.positions.add_input(position);
        if goes_on && (!message.parts.is_empty() || !history.is_empty()) {
            self.end_turns();
        }
        self.taint.by_hand =
            message.parts.iter().fold(Label::ACTOR_TEXT, |label, part| label.join(part.label()));
        let late = self.settle_client_calls(answers.as_ref());
        if !late.is_empty() {
            let said = std::mem::replace(&mut message.parts, late);
            message.parts.extend(said);
        }
        // The sender's history precedes its new message.
        for turn in history {
            match turn {
                TranscriptTurn::Input(message) => self.add_input(message),
                TranscriptTurn::Unit(unit) => self.add_unit(unit),
                // No stored body has one.
                TranscriptTurn::Summary(_) => {}
            }
        }
        if !offer.tools.is_empty() {
            // Descriptions of a client's tools are its actor's text.
            self.taint.label = self.taint.label.join(Label::ACTOR_TEXT);
            self.taint.stays = self.taint.stays.join(Label::ACTOR_TEXT);
        }
        self.client.offered = ClientToolset::new(offer);
        if message.parts.is_empty() {
            // The input has only results; no provider takes an empty message.
            self.hops = message.hops;
        } else {
            self.positions.begin_item(self.transcript.turns().len(), position);
            self.add_input(message);
        }
        Ok(())
    }

    /// Ends a run of the past. A unit that waits for a client waits on, unless its calls never left; another open one
    /// lost its last body to an erasure, so the rest of it goes too.
    pub(crate) fn end_run(&mut self, run: RunId) {
        let handed = std::mem::take(&mut self.client.handed);
        let completed = std::mem::take(&mut self.client.completed);
        let open =
            self.open.take().filter(|open| open.unanswered_calls().all(|call| handed.contains(&call.id)));
        match open {
            Some(open) if !completed => self.close_with(open, ClientToolResults::kept_back),
            open => self.client.waiting = open.map(|open| (run, open)),
        }
    }

    /// Closes the unit that waits for a client, with the client's results; a call without one gets a result that says
    /// so. Returns the results that fit no call, as text.
    fn settle_client_calls(&mut self, answers: Option<&ClientToolResults>) -> Vec<ContentPart> {
        let mut late = Vec::new();
        let (waiting, mut open) = self.client.waiting.take().unzip();
        let fits = answers.map(|answers| answers.run) == waiting;
        for result in answers.into_iter().flat_map(|answers| &answers.results) {
            match open.as_mut().filter(|_| fits).map(|open| open.add_result(result.clone())) {
                Some(Ok(())) => self.taint.join_labels(&result.parts),
                Some(Err(_)) | None => late.extend(client::late_result_parts(result)),
            }
        }
        if let Some(open) = open {
            self.close_with(open, ClientToolResults::none_for);
        }
        late
    }

    /// Closes a unit; `said` makes the result of each call that has none.
    fn close_with(&mut self, mut open: OpenUnit, said: fn(CallId) -> ToolResult) {
        let missing: Vec<_> = open.unanswered_calls().map(|call| said(call.id)).collect();
        for result in missing {
            self.taint.join_labels(&result.parts);
            // Each is the one result of a call that has none, so nothing is refused.
            if let Err(error) = open.add_result(result) {
                tracing::error!(%error, "a waiting client tool call cannot be closed");
            }
        }
        if let Ok(unit) = open.close() {
            self.push_unit(unit);
        }
    }

    /// Adds an input.
    pub(crate) fn add_input(&mut self, message: InputMessage) {
        self.hops = message.hops;
        self.taint.join_for_good(&message.parts);
        self.transcript.push_input(message);
    }

    /// Adds a whole unit of a sender's history.
    fn add_unit(&mut self, unit: AssistantUnit) {
        self.taint.join_for_good(&unit.message().parts);
        for result in unit.results() {
            self.taint.join_for_good(&result.parts);
        }
        self.transcript.push_unit(unit);
    }

    /// Adds an entry, if it has content for a model.
    pub(crate) fn add_entry(&mut self, entry: &Entry, body: Option<&[u8]>) -> Result<(), StoryError> {
        self.goes_on = true;
        match (entry, body) {
            (Entry::ModelReplied(replied), Some(body)) => {
                let message: AssistantMessage = parse_body(body, || format!("model step {}", replied.step))?;
                if replied.clean && !self.taint.closed {
                    self.taint.clean_to = replied.step;
                } else {
                    self.taint.closed = true;
                }
                self.taint.join_labels(&message.parts);
                let said = self.taint.led_to(&message, replied.clean);
                self.taint.begin_unit(self.positions.newest, replied.step, said);
                self.reply.clone_from(&message.parts);
                self.withheld.clone_from(&replied.withheld);
                self.masked.clone_from(&replied.masked);
                self.client.handed.clear();
                let request = self.repair_request(&message);
                self.open = Some(OpenUnit::new(message));
                self.close_unit();
                if let Some(request) = request {
                    self.push_repair_request(request);
                }
            }
            (Entry::CallAsked(asked), Some(body)) => {
                let message: AssistantMessage = parse_body(body, || format!("the call {}", asked.call))?;
                self.taint.begin_unit(self.positions.newest, asked.call.step, self.taint.by_hand);
                self.reply.clear();
                self.withheld = None;
                self.masked.clear();
                self.client.handed.clear();
                self.open = Some(OpenUnit::new(message));
            }
            (Entry::ToolFinished(_) | Entry::ToolRefused(_), Some(body)) => {
                let result: ToolResult = parse_body(body, || "a tool result".to_owned())?;
                self.taint.join_labels(&result.parts);
                if self.asked.is_some() {
                    // The result of a manual call is the reply.
                    self.reply.clone_from(&result.parts);
                }
                if let Some(open) = &mut self.open {
                    let call = result.call;
                    open.add_result(result).map_err(|error| StoryError::Body {
                        place: call.to_string(),
                        problem: error.to_string(),
                    })?;
                }
                self.close_unit();
            }
            (Entry::ToolStarted(started), _) => {
                self.began = true;
                self.taint.origin.vouched.push(started.call);
            }
            (Entry::ToolHanded(handed), _) => {
                self.client.handed.push(handed.call);
                self.taint.origin.vouched.push(handed.call);
            }
            (Entry::RunCompleted(_), _) => self.client.completed = true,
            (Entry::RunYielded(yielded), _) => self.concluded = yielded.concluded.is_some(),
            _ => {}
        }
        Ok(())
    }

    /// Returns a call of the open unit that may be judged.
    pub(crate) fn open_call(&self, id: CallId) -> Option<&ToolCall> {
        self.asked_for(id).filter(|call| self.masked.iter().all(|masked| masked.call != call.id))
    }

    /// Returns a call of the open unit that never begins, and the reason for the model.
    pub(crate) fn masked_call(&self, id: CallId) -> Option<(&ToolCall, &str)> {
        let masked = self.masked.iter().find(|masked| masked.call == id)?;
        Some((self.asked_for(id)?, masked.reason.as_str()))
    }

    fn asked_for(&self, id: CallId) -> Option<&ToolCall> {
        self.open.as_ref()?.message().calls.iter().find(|call| call.id == id)
    }

    fn close_unit(&mut self) {
        match self.open.take().map(OpenUnit::close) {
            Some(Ok(unit)) => self.push_unit(unit),
            Some(Err(open)) => self.open = Some(open),
            None => {}
        }
    }
}

/// The kind of the entry that only ends a run well.
const COMPLETED: &str = "run_completed";

/// Returns whether an entry has no content for a model, so that it is not even read: every turn builds the whole past
/// again. An entry of an unknown kind is read, and refused.
fn says_nothing(stored: &StoredEntry) -> bool {
    const SILENT: [&str; 7] = [
        "run_started",
        "model_called",
        "opinion_called",
        "opinion_given",
        "signal_taken",
        "run_parked",
        COMPLETED,
    ];
    let kind = stored.kind.as_str();
    SILENT.contains(&kind) && Entry::KINDS.contains(&(kind, stored.version))
}

fn parse_body<'a, T: serde::Deserialize<'a>>(
    body: &'a [u8],
    place: impl FnOnce() -> String,
) -> Result<T, StoryError> {
    serde_json::from_slice(body)
        .map_err(|error| StoryError::Body { place: place(), problem: error.to_string() })
}

#[cfg(test)]
mod tests;
