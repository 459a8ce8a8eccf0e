//! From a client's messages to turns, in whole units: a message with calls and its results enter together or not at
//! all, so no orphan reaches a transcript.
//!
//! What the user says is the authenticated actor's text. What the client says that an assistant or a tool said is a
//! claim ([`Label::CLAIM`]). System text of the client becomes the actor's text at its place, under a line that says
//! whose it is.
//!
//! Results may be the last word. Where the past is told, they close its last message; where a session goes on, they
//! answer the calls with which its last run ended, under the names that this server gave them.

use dromia_contracts::client::{Answers, HandedCall};
use dromia_contracts::content::{AssistantMessage, CallStatus, InputMessage, Part, ToolCall, ToolResult};
use dromia_contracts::label::Label;
use dromia_contracts::transcript::{OpenUnit, Turn};
use dromia_contracts::{Actor, CallId};

use super::content::invalid;
use super::image::IMAGES_MAX;
use super::names::inward;
use crate::failure::Answer;

/// The most messages of one request.
pub(super) const MESSAGES_MAX: usize = 2_048;

/// Stands above the client's system text, so that a model can tell it from the user's words.
const SYSTEM_HEAD: &str = "Instructions of the application through which the user speaks:";

/// A call that the client says an assistant asked for.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) id: String,
    pub(super) tool: String,
    pub(super) arguments: String,
}

/// The turns so far.
#[derive(Debug)]
pub(super) struct History {
    author: Actor,
    turns: Vec<Turn>,
    open: Option<Open>,
    /// Whether a session has the past, so that results are for its calls.
    continues: bool,
    /// Those results so far.
    answers: Option<Answers>,
    /// Pictures so far.
    images: usize,
    /// Messages with calls so far; with the place of a call it makes the call's id.
    steps: u32,
}

/// A message whose calls are not all answered.
#[derive(Debug)]
struct Open {
    path: String,
    unit: OpenUnit,
    /// The client's names of the calls, in their order.
    names: Vec<String>,
    step: u32,
}

/// What a request says: the past, and the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) history: Vec<Turn>,
    /// What the client's tools gave for the calls that the session handed over.
    pub(super) answers: Option<Answers>,
    /// The words; none where results are the last.
    pub(super) parts: Vec<Part>,
}

/// Counts the messages before those that a session takes: the last one, or all results at the end.
pub(super) fn before_the_last<T>(messages: &[T], is_result: impl Fn(&T) -> bool) -> usize {
    let results = messages.iter().rev().take_while(|message| is_result(message)).count();
    messages.len().saturating_sub(results.max(1))
}

impl History {
    /// Begins. Where a session goes on, it has the past, and results are for the calls that it handed over.
    pub(super) fn new(author: Actor, continues: bool) -> Self {
        Self { author, turns: Vec::new(), open: None, continues, answers: None, images: 0, steps: 0 }
    }

    /// Tells whether a session has the past.
    pub(super) fn continues(&self) -> bool {
        self.continues
    }

    /// Adds what the user says: texts and pictures.
    pub(super) fn user(&mut self, path: &str, mut parts: Vec<Part>) -> Answer<()> {
        self.closed(path)?;
        self.count(path, &parts)?;
        parts.retain(|part| part.is_image() || !part.as_text().is_empty());
        self.input(parts);
        Ok(())
    }

    /// Counts pictures: a request has so many at most, whoever shows them.
    fn count(&mut self, path: &str, parts: &[Part]) -> Answer<()> {
        self.images += parts.iter().filter(|part| part.is_image()).count();
        if self.images > IMAGES_MAX {
            return Err(invalid(path, &format!("the request has more than {IMAGES_MAX} pictures")));
        }
        Ok(())
    }

    /// Adds system text of the client.
    pub(super) fn system(&mut self, path: &str, texts: &[String]) -> Answer<()> {
        self.closed(path)?;
        let text = texts.join("\n");
        if !text.trim().is_empty() {
            self.input(vec![Part::text(format!("{SYSTEM_HEAD}\n{text}"), Label::ACTOR_TEXT)]);
        }
        Ok(())
    }

    /// Adds what the client says an assistant said.
    pub(super) fn assistant(&mut self, path: &str, texts: Vec<String>, calls: Vec<Claimed>) -> Answer<()> {
        self.closed(path)?;
        let parts = claims(texts);
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
                return Err(invalid(path, &format!("two calls have the id {:?}", call.id)));
            }
            names.push(call.id);
            let tool = inward(&call.tool);
            kept.push(ToolCall { id: CallId { step, index }, tool, arguments: call.arguments });
        }
        let unit = OpenUnit::new(AssistantMessage { parts, calls: kept });
        self.open = Some(Open { path: path.to_owned(), unit, names, step });
        Ok(())
    }

    /// Adds what the client says a tool answered: texts and pictures.
    pub(super) fn result(
        &mut self,
        path: &str,
        call: &str,
        mut parts: Vec<Part>,
        failed: bool,
    ) -> Answer<()> {
        self.count(path, &parts)?;
        parts.retain(|part| part.is_image() || !part.as_text().is_empty());
        let Some(mut open) = self.open.take() else {
            if self.continues {
                return self.answer(path, call, parts, failed);
            }
            return Err(invalid(path, &format!("no call with the id {call:?} waits for a result")));
        };
        let Some(index) = (0..).zip(&open.names).find(|(_, name)| *name == call).map(|(index, _)| index)
        else {
            let problem = format!("no call of `{}` has the id {call:?}", open.path);
            return Err(invalid(path, &problem));
        };
        let status = if failed { CallStatus::Error } else { CallStatus::Ok };
        let id = CallId { step: open.step, index };
        let result = ToolResult { call: id, status, parts };
        if open.unit.answer(result).is_err() {
            return Err(invalid(path, &format!("the call {call:?} has a result already")));
        }
        match open.unit.close() {
            Ok(unit) => self.turns.push(Turn::Unit(unit)),
            Err(unit) => self.open = Some(Open { unit, ..open }),
        }
        Ok(())
    }

    /// Adds a result of a call that the session handed over.
    fn answer(&mut self, path: &str, call: &str, parts: Vec<Part>, failed: bool) -> Answer<()> {
        let Ok(handed) = call.parse::<HandedCall>() else {
            return Err(invalid(path, &format!("no call of this session has the id {call:?}")));
        };
        let answers = self.answers.get_or_insert_with(|| Answers { run: handed.run, results: Vec::new() });
        if answers.run != handed.run {
            let problem = format!("the call {call:?} is of another answer than the one before it");
            return Err(invalid(path, &problem));
        }
        if answers.results.iter().any(|known| known.call == handed.call) {
            return Err(invalid(path, &format!("the call {call:?} has a result already")));
        }
        let status = if failed { CallStatus::Error } else { CallStatus::Ok };
        answers.results.push(ToolResult { call: handed.call, status, parts });
        Ok(())
    }

    /// Ends with the input: the last message, which must be somebody's word to the agent, or what tools gave.
    pub(super) fn finish(self, path: &str) -> Answer<Said> {
        self.closed(path)?;
        // Providers refuse a message without words.
        let is_blank = |turn: &Turn| matches!(turn, Turn::Input(past) if past.parts.is_empty());
        let Self { turns: mut history, answers, .. } = self;
        match history.pop() {
            Some(Turn::Input(message)) if says_something(&message.parts) => {
                history.retain(|turn| !is_blank(turn));
                Ok(Said { history, answers, parts: message.parts })
            }
            None | Some(Turn::Input(_)) if answers.is_some() => {
                Ok(Said { history, answers, parts: Vec::new() })
            }
            Some(Turn::Unit(unit)) if !unit.message().calls.is_empty() => {
                history.retain(|turn| !is_blank(turn));
                history.push(Turn::Unit(unit));
                Ok(Said { history, answers, parts: Vec::new() })
            }
            Some(Turn::Input(_)) => Err(invalid(path, "the last message is empty")),
            Some(Turn::Unit(_)) => {
                Err(invalid(path, "the last message must be the user's, or a tool's result"))
            }
            None => Err(invalid(path, "there is no message to answer")),
        }
    }

    fn input(&mut self, parts: Vec<Part>) {
        let message = InputMessage { author: self.author.clone(), parts, hops: 0 };
        self.turns.push(Turn::Input(message));
    }

    fn push_unit(&mut self, unit: OpenUnit) {
        // A message without calls closes at once.
        if let Ok(unit) = unit.close() {
            self.turns.push(Turn::Unit(unit));
        }
    }

    /// Refuses to go on while a call has no result.
    fn closed(&self, path: &str) -> Answer<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let missing = open.unit.next_unanswered().and_then(|call| open.names.get(call.id.index as usize));
        let missing = missing.map_or("", String::as_str);
        Err(invalid(path, &format!("the call {missing:?} of `{}` has no result before this", open.path)))
    }
}

fn says_something(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.is_image() || !part.as_text().trim().is_empty())
}

fn claims(texts: Vec<String>) -> Vec<Part> {
    texts.into_iter().filter(|text| !text.is_empty()).map(|text| Part::text(text, Label::CLAIM)).collect()
}

#[cfg(test)]
mod tests;
