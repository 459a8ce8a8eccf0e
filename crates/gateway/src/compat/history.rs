//! From a client's messages to turns, in whole units: a message with calls and its results enter together or not at
//! all, so no orphan reaches a transcript.
//!
//! What the user says is the authenticated actor's text. What the client says that an assistant or a tool said is a
//! claim ([`Label::CLAIM`]). System text of the client becomes the actor's text at its place, under a line that says
//! whose it is.
//!
//! Results may be the last word. In a request that carries its past, they close the past's last message; in a session
//! that goes on, they answer the calls with which its last run ended, under the names that this server gave them.
//!
//! Nothing of what is read here is dropped without a word, but for what a session has already ([`PastLocation`]).

use dromia_contracts::client::{ClientCallId, ClientToolResults};
use dromia_contracts::content::{
    AssistantMessage, CallStatus, ContentPart, InputMessage, ToolCall, ToolResult, parts_text,
};
use dromia_contracts::label::Label;
use dromia_contracts::transcript::{OpenUnit, TranscriptTurn};
use dromia_contracts::{Actor, CallId, RunId, SessionId};

use super::field_error::invalid_field;
use super::image::IMAGES_MAX;
use super::tool_names::internal_name;
use crate::failure::Answer;

/// The most messages of one request.
pub(super) const MESSAGES_MAX: usize = 2_048;

/// The line above the client's system text, by which a model tells it from the user's words.
const SYSTEM_HEAD: &str = "Instructions of the application through which the user speaks:";

/// A call that the client says an assistant asked for.
#[derive(Debug, Clone)]
pub(super) struct ClaimedToolCall {
    pub(super) id: String,
    pub(super) tool: String,
    pub(super) arguments: String,
}

/// Where the earlier turns of a conversation are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PastLocation {
    /// In the request.
    Request,
    /// In a session, which has everything but the last message; what the request repeats is not read.
    Session,
    /// In a session, which has everything before the request: each of its messages is new. These are the texts of the
    /// system with which the session began.
    Before(Vec<String>),
}

impl PastLocation {
    /// Tells where they are, by the session that a header names.
    pub(super) fn of_header(session: Option<SessionId>) -> Self {
        Self::known_to_session(session.is_some())
    }

    pub(super) fn known_to_session(known: bool) -> Self {
        if known { Self::Session } else { Self::Request }
    }
}

/// The turns so far.
#[derive(Debug)]
pub(super) struct ConversationHistory {
    author: Actor,
    turns: Vec<TranscriptTurn>,
    open: Option<UnansweredMessage>,
    /// Where the earlier turns are. If they are in a session, results are for its calls.
    past: PastLocation,
    /// The calls of the last message with calls, if this server handed them out and nothing was said since.
    handed: Option<HandedCalls>,
    /// Those results so far.
    answers: Option<ClientToolResults>,
    /// Pictures so far.
    images: usize,
    /// Messages with calls so far; with the place of a call it makes the call's id.
    steps: u32,
}

/// A message whose calls are not all answered.
#[derive(Debug)]
struct UnansweredMessage {
    path: String,
    unit: OpenUnit,
    /// The client's names of the calls, in their order.
    names: Vec<String>,
    step: u32,
}

/// Calls that a run of this server handed to its client, as their names say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HandedCalls {
    pub(super) run: RunId,
    /// The calls, in the order of the message that asked for them.
    pub(super) calls: Vec<CallId>,
}

impl HandedCalls {
    /// Reads the client's names of all calls of a message.
    fn from_names(names: &[String]) -> Option<Self> {
        let known: Option<Vec<ClientCallId>> = names.iter().map(|name| name.parse().ok()).collect();
        let known = known?;
        let run = known.first()?.run;
        let calls = known.iter().filter(|known| known.run == run).map(|known| known.call).collect::<Vec<_>>();
        (calls.len() == names.len()).then_some(Self { run, calls })
    }
}

/// What a request says: the past, and the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConversationInput {
    pub(super) history: Vec<TranscriptTurn>,
    /// What the client's tools gave for the calls that the session handed over.
    pub(super) answers: Option<ClientToolResults>,
    /// The words; none where results are the last.
    pub(super) parts: Vec<ContentPart>,
    /// The calls of the last assistant message of the history, if it has calls and this server handed them out.
    pub(super) handed: Option<HandedCalls>,
}

/// Counts the messages before those that a session takes: the last one, or all results at the end.
pub(super) fn before_the_last<T>(messages: &[T], is_result: impl Fn(&T) -> bool) -> usize {
    let results = messages.iter().rev().take_while(|message| is_result(message)).count();
    messages.len().saturating_sub(results.max(1))
}

impl ConversationHistory {
    /// Begins. Where a session goes on, it has the past, and results are for the calls that it handed over.
    pub(super) fn new(author: Actor, past: PastLocation) -> Self {
        let turns = Vec::new();
        Self { author, turns, open: None, past, handed: None, answers: None, images: 0, steps: 0 }
    }

    /// Tells whether only the last message is new, because a session has what the request repeats.
    pub(super) fn takes_last_only(&self) -> bool {
        self.past == PastLocation::Session
    }

    /// Adds what the user says: texts and pictures.
    pub(super) fn add_user(&mut self, path: &str, mut parts: Vec<ContentPart>) -> Answer<()> {
        self.check_closed(path)?;
        self.count_images(path, &parts)?;
        parts.retain(|part| part.is_image() || !part.as_text().is_empty());
        self.push_input(parts);
        Ok(())
    }

    /// Counts pictures: a request has so many at most, in whichever messages they are.
    fn count_images(&mut self, path: &str, parts: &[ContentPart]) -> Answer<()> {
        self.images += parts.iter().filter(|part| part.is_image()).count();
        if self.images > IMAGES_MAX {
            return Err(invalid_field(path, &format!("the request has more than {IMAGES_MAX} pictures")));
        }
        Ok(())
    }

    /// Adds the system text of a request, unless its session has it. A session that begins has none.
    pub(super) fn begin_with_system(&mut self, path: &str, texts: &[String]) -> Answer<()> {
        match &self.past {
            PastLocation::Session => Ok(()),
            PastLocation::Before(known) if known.contains(&system_text(texts)) => Ok(()),
            PastLocation::Before(_) | PastLocation::Request => self.add_system(path, texts),
        }
    }

    /// Adds system text of the client.
    pub(super) fn add_system(&mut self, path: &str, texts: &[String]) -> Answer<()> {
        self.check_closed(path)?;
        if texts.iter().any(|text| !text.trim().is_empty()) {
            self.push_input(vec![ContentPart::new_text(system_text(texts), Label::ACTOR_TEXT)]);
        }
        Ok(())
    }

    /// Adds what the client says an assistant said.
    pub(super) fn add_assistant(
        &mut self,
        path: &str,
        texts: Vec<String>,
        calls: Vec<ClaimedToolCall>,
    ) -> Answer<()> {
        self.check_closed(path)?;
        let parts = claimed_parts(texts);
        if calls.is_empty() {
            if !parts.is_empty() {
                self.push_unit(OpenUnit::new(AssistantMessage { parts, calls: Vec::new() }));
            }
            return Ok(());
        }
        self.steps += 1;
        let step = self.steps;
        let mut names: Vec<String> = Vec::with_capacity(calls.len());
        let mut kept = Vec::with_capacity(calls.len());
        for (index, call) in (0..).zip(calls) {
            if names.contains(&call.id) {
                return Err(invalid_field(path, &format!("two calls have the same id {:?}", call.id)));
            }
            names.push(call.id);
            let tool = internal_name(&call.tool);
            kept.push(ToolCall { id: CallId { step, index }, tool, arguments: call.arguments });
        }
        let unit = OpenUnit::new(AssistantMessage { parts, calls: kept });
        self.open = Some(UnansweredMessage { path: path.to_owned(), unit, names, step });
        Ok(())
    }

    /// Adds what the client says a tool answered: texts and pictures.
    pub(super) fn add_result(
        &mut self,
        path: &str,
        call: &str,
        mut parts: Vec<ContentPart>,
        failed: bool,
    ) -> Answer<()> {
        self.count_images(path, &parts)?;
        parts.retain(|part| part.is_image() || !part.as_text().is_empty());
        let Some(mut open) = self.open.take() else {
            if self.past != PastLocation::Request {
                return self.add_answer(path, call, parts, failed);
            }
            return Err(invalid_field(path, &format!("no call with the id {call:?} waits for a result")));
        };
        let Some(index) = (0..).zip(&open.names).find(|(_, name)| *name == call).map(|(index, _)| index)
        else {
            let problem = format!("no call of `{}` has the id {call:?}", open.path);
            return Err(invalid_field(path, &problem));
        };
        let status = if failed { CallStatus::Error } else { CallStatus::Ok };
        let id = CallId { step: open.step, index };
        let result = ToolResult { call: id, status, parts };
        if open.unit.add_result(result).is_err() {
            return Err(invalid_field(path, &format!("the call {call:?} already has a result")));
        }
        match open.unit.close() {
            Ok(unit) => {
                self.handed = HandedCalls::from_names(&open.names);
                self.turns.push(TranscriptTurn::Unit(unit));
            }
            Err(unit) => self.open = Some(UnansweredMessage { unit, ..open }),
        }
        Ok(())
    }

    /// Adds a result of a call that the session handed over.
    fn add_answer(&mut self, path: &str, call: &str, parts: Vec<ContentPart>, failed: bool) -> Answer<()> {
        let Ok(handed) = call.parse::<ClientCallId>() else {
            return Err(invalid_field(path, &format!("no call of this session has the id {call:?}")));
        };
        let answers =
            self.answers.get_or_insert_with(|| ClientToolResults { run: handed.run, results: Vec::new() });
        if answers.run != handed.run {
            let problem = format!("the call {call:?} does not belong to the answer before it");
            return Err(invalid_field(path, &problem));
        }
        if answers.results.iter().any(|known| known.call == handed.call) {
            return Err(invalid_field(path, &format!("the call {call:?} already has a result")));
        }
        let status = if failed { CallStatus::Error } else { CallStatus::Ok };
        answers.results.push(ToolResult { call: handed.call, status, parts });
        Ok(())
    }

    /// Ends with the input: the last message, which must be the user's word to the agent, or results of tools.
    pub(super) fn finish(self, path: &str) -> Answer<ConversationInput> {
        self.check_closed(path)?;
        // Providers refuse a message without words.
        let is_blank =
            |turn: &TranscriptTurn| matches!(turn, TranscriptTurn::Input(past) if past.parts.is_empty());
        let Self { turns: mut history, answers, handed, .. } = self;
        match history.pop() {
            Some(TranscriptTurn::Input(message)) if says_something(&message.parts) => {
                history.retain(|turn| !is_blank(turn));
                Ok(ConversationInput { history, answers, parts: message.parts, handed })
            }
            None | Some(TranscriptTurn::Input(_)) if answers.is_some() => {
                Ok(ConversationInput { history, answers, parts: Vec::new(), handed })
            }
            Some(TranscriptTurn::Unit(unit)) if !unit.message().calls.is_empty() => {
                history.retain(|turn| !is_blank(turn));
                history.push(TranscriptTurn::Unit(unit));
                Ok(ConversationInput { history, answers, parts: Vec::new(), handed })
            }
            Some(TranscriptTurn::Input(_)) => Err(invalid_field(path, "the last message is empty")),
            Some(TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_)) => {
                Err(invalid_field(path, "the last message must come from the user, or be a tool's result"))
            }
            None => Err(invalid_field(path, "there is no message to answer")),
        }
    }

    fn push_input(&mut self, parts: Vec<ContentPart>) {
        let message = InputMessage { author: self.author.clone(), parts, hops: 0 };
        self.turns.push(TranscriptTurn::Input(message));
    }

    fn push_unit(&mut self, unit: OpenUnit) {
        // A message without calls closes at once.
        if let Ok(unit) = unit.close() {
            self.handed = None;
            self.turns.push(TranscriptTurn::Unit(unit));
        }
    }

    /// Refuses to go on while a call has no result.
    fn check_closed(&self, path: &str) -> Answer<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let missing = open.unit.next_unanswered().and_then(|call| open.names.get(call.id.index as usize));
        let missing = missing.map_or("", String::as_str);
        Err(invalid_field(
            path,
            &format!("the call {missing:?} of `{}` has no result before this message", open.path),
        ))
    }
}

/// Writes system text of the client under the line that says whose it is.
fn system_text(texts: &[String]) -> String {
    format!("{SYSTEM_HEAD}\n{}", texts.join("\n"))
}

/// The texts of the system with which a history begins.
pub(super) fn system_texts(history: &[TranscriptTurn]) -> Vec<String> {
    let texts = history.iter().map_while(|turn| match turn {
        TranscriptTurn::Input(message) => Some(parts_text(&message.parts)),
        TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_) => None,
    });
    texts.filter(|text| text.starts_with(SYSTEM_HEAD)).collect()
}

fn says_something(parts: &[ContentPart]) -> bool {
    parts.iter().any(|part| part.is_image() || !part.as_text().trim().is_empty())
}

fn claimed_parts(texts: Vec<String>) -> Vec<ContentPart> {
    texts
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| ContentPart::new_text(text, Label::CLAIM))
        .collect()
}

#[cfg(test)]
mod tests;
