//! What a run's model is told: the transcript, put together from inbox items and journal entries.
//!
//! One function adds an item and one adds an entry, whether they come from the store or were written a moment
//! ago, so a request that is rebuilt from references equals the one that was sent.

use dromia_contracts::content::{AssistantMessage, InputMessage, Part, ToolCall, ToolResult};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{Integrity, Label, Readers};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::SessionTail;
use dromia_contracts::transcript::{OpenUnit, Transcript, Turn, Unit};
use dromia_contracts::{CallId, RunId};

/// The transcript of a run so far.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    /// Inputs and closed units.
    pub(crate) transcript: Transcript,
    /// The unit whose calls are being answered.
    open: Option<OpenUnit>,
    /// The position of the first item in it.
    pub(crate) history_from: u64,
    /// The join of the labels of everything in it.
    pub(crate) label: Label,
    /// What the model said last.
    pub(crate) reply: Vec<Part>,
    /// How many agents in a row led to the newest input.
    pub(crate) hops: u32,
}

/// Says which stored content cannot be told to a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoryError {
    /// A body is not what its entry or item says.
    #[error("the body of {place} is unreadable: {problem}")]
    Body { place: String, problem: String },
    /// An entry is of a kind or version that this program does not know.
    #[error("entry {seq}: {problem}")]
    Entry { seq: u64, problem: String },
}

impl Story {
    /// Begins with nothing but the place where it begins.
    pub(crate) fn new(history_from: u64) -> Self {
        Self {
            transcript: Transcript::default(),
            open: None,
            history_from,
            label: Label { integrity: Integrity::Trusted, readers: Readers::Public },
            reply: Vec::new(),
            hops: 0,
        }
    }

    /// Tells the past of a session: every taken item of the tail and the runs that took them, in order.
    ///
    /// `upto` is the run that goes on, if one does: its open unit stays open.
    pub(crate) fn tell(tail: &SessionTail, upto: Option<RunId>) -> Result<Self, StoryError> {
        let from = tail.items.first().map_or(tail.session.head.last + 1, |item| item.position);
        let mut story = Self::new(from);
        let mut items = tail.items.iter().filter(|item| item.taken_by.is_some()).peekable();
        while let Some(item) = items.next() {
            story.add_item(item)?;
            if items.peek().is_some_and(|next| next.taken_by == item.taken_by) {
                continue;
            }
            let Some(run) = item.taken_by else { continue };
            for stored in tail.runs.iter().filter(|(id, _)| *id == run).flat_map(|(_, entries)| entries) {
                let entry = stored
                    .decode()
                    .map_err(|error| StoryError::Entry { seq: stored.seq, problem: error.to_string() })?;
                story.add_entry(&entry, stored.body.as_deref())?;
            }
            if upto != Some(run) {
                // A closed run has no open unit; if its last body was erased, the rest of the unit goes too.
                story.open = None;
            }
        }
        Ok(story)
    }

    /// Adds an inbox item that a run took.
    pub(crate) fn add_item(&mut self, item: &InboxItem) -> Result<(), StoryError> {
        match (item.kind, &item.body) {
            (ItemKind::Input, Some(body)) => {
                let body = InputBody::decode(body).map_err(|error| StoryError::Body {
                    place: item.id.to_string(),
                    problem: error.to_string(),
                })?;
                // What the sender says was said before stands before what it says now.
                for turn in body.history {
                    match turn {
                        Turn::Input(message) => self.add_input(message),
                        Turn::Unit(unit) => self.add_unit(unit),
                    }
                }
                self.add_input(body.message);
                Ok(())
            }
            // A resume adds no words, and an erased input has none.
            _ => Ok(()),
        }
    }

    /// Adds an input.
    pub(crate) fn add_input(&mut self, message: InputMessage) {
        self.hops = message.hops;
        self.join(&message.parts);
        self.transcript.push_input(message);
    }

    /// Adds a whole unit that a sender tells of.
    fn add_unit(&mut self, unit: Unit) {
        self.join(&unit.message().parts);
        for result in unit.results() {
            self.join(&result.parts);
        }
        self.transcript.push_unit(unit);
    }

    /// Adds what an entry says, if it says anything to a model.
    pub(crate) fn add_entry(&mut self, entry: &Entry, body: Option<&[u8]>) -> Result<(), StoryError> {
        match (entry, body) {
            (Entry::ModelReplied(replied), Some(body)) => {
                let message: AssistantMessage = parse(body, || format!("model step {}", replied.step))?;
                self.join(&message.parts);
                self.reply.clone_from(&message.parts);
                self.open = Some(OpenUnit::new(message));
                self.close();
            }
            (Entry::ToolFinished(_) | Entry::ToolRefused(_), Some(body)) => {
                let result: ToolResult = parse(body, || "a tool result".to_owned())?;
                self.join(&result.parts);
                if let Some(open) = &mut self.open {
                    let call = result.call;
                    open.answer(result).map_err(|error| StoryError::Body {
                        place: call.to_string(),
                        problem: error.to_string(),
                    })?;
                }
                self.close();
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns a call of the open unit.
    pub(crate) fn call(&self, id: CallId) -> Option<&ToolCall> {
        self.open.as_ref()?.message().calls.iter().find(|call| call.id == id)
    }

    fn close(&mut self) {
        match self.open.take().map(OpenUnit::close) {
            Some(Ok(unit)) => self.transcript.push_unit(unit),
            Some(Err(open)) => self.open = Some(open),
            None => {}
        }
    }

    fn join(&mut self, parts: &[Part]) {
        self.label = parts.iter().fold(self.label, |label, part| label.join(part.label()));
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(
    body: &'a [u8],
    place: impl FnOnce() -> String,
) -> Result<T, StoryError> {
    serde_json::from_slice(body)
        .map_err(|error| StoryError::Body { place: place(), problem: error.to_string() })
}
