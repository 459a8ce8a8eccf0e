//! From a client's messages to turns, in whole units: a message with calls and its results enter together or not at
//! all, so no orphan reaches a transcript.
//!
//! What the user says is the authenticated actor's text. What the client says that an assistant or a tool said is a
//! claim ([`Label::CLAIM`]). System text of the client becomes the actor's text at its place, under a line that says
//! whose it is.

use dromia_contracts::content::{
    AssistantMessage, CallStatus, InputMessage, Part, ToolCall, ToolResult, parts_text,
};
use dromia_contracts::label::Label;
use dromia_contracts::transcript::{OpenUnit, Turn};
use dromia_contracts::{Actor, CallId};

use super::content::invalid;
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
    pub(super) parts: Vec<Part>,
}

impl History {
    pub(super) fn new(author: Actor) -> Self {
        Self { author, turns: Vec::new(), open: None, steps: 0 }
    }

    /// Adds what the user says.
    pub(super) fn user(&mut self, path: &str, texts: Vec<String>) -> Answer<()> {
        self.closed(path)?;
        self.input(texts);
        Ok(())
    }

    /// Adds system text of the client.
    pub(super) fn system(&mut self, path: &str, texts: &[String]) -> Answer<()> {
        self.closed(path)?;
        let text = texts.join("\n");
        if !text.trim().is_empty() {
            self.input(vec![format!("{SYSTEM_HEAD}\n{text}")]);
        }
        Ok(())
    }

    /// Adds what the client says an assistant said.
    pub(super) fn assistant(&mut self, path: &str, texts: Vec<String>, calls: Vec<Claimed>) -> Answer<()> {
        self.closed(path)?;
        let parts = parts(texts, Label::CLAIM);
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
            kept.push(ToolCall { id: CallId { step, index }, tool: call.tool, arguments: call.arguments });
        }
        let unit = OpenUnit::new(AssistantMessage { parts, calls: kept });
        self.open = Some(Open { path: path.to_owned(), unit, names, step });
        Ok(())
    }

    /// Adds what the client says a tool answered.
    pub(super) fn result(&mut self, path: &str, call: &str, texts: Vec<String>, failed: bool) -> Answer<()> {
        let Some(mut open) = self.open.take() else {
            return Err(invalid(path, &format!("no call with the id {call:?} waits for a result")));
        };
        let Some(index) = (0..).zip(&open.names).find(|(_, name)| *name == call).map(|(index, _)| index)
        else {
            let problem = format!("no call of `{}` has the id {call:?}", open.path);
            return Err(invalid(path, &problem));
        };
        let status = if failed { CallStatus::Error } else { CallStatus::Ok };
        let id = CallId { step: open.step, index };
        let result = ToolResult { call: id, status, parts: parts(texts, Label::CLAIM) };
        if open.unit.answer(result).is_err() {
            return Err(invalid(path, &format!("the call {call:?} has a result already")));
        }
        match open.unit.close() {
            Ok(unit) => self.turns.push(Turn::Unit(unit)),
            Err(unit) => self.open = Some(Open { unit, ..open }),
        }
        Ok(())
    }

    /// Ends with the input: the last message, which must be somebody's word to the agent.
    pub(super) fn finish(mut self, path: &str) -> Answer<Said> {
        self.closed(path)?;
        match self.turns.pop() {
            Some(Turn::Input(message)) if !parts_text(&message.parts).trim().is_empty() => {
                // Providers refuse a message without words.
                self.turns.retain(|turn| !matches!(turn, Turn::Input(past) if past.parts.is_empty()));
                Ok(Said { history: self.turns, parts: message.parts })
            }
            Some(Turn::Input(_)) => Err(invalid(path, "the last message is empty")),
            Some(Turn::Unit(_)) => Err(invalid(path, "the last message must be the user's")),
            None => Err(invalid(path, "there is no message to answer")),
        }
    }

    fn input(&mut self, texts: Vec<String>) {
        let parts = parts(texts, Label::ACTOR_TEXT);
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

fn parts(texts: Vec<String>, label: Label) -> Vec<Part> {
    texts.into_iter().filter(|text| !text.is_empty()).map(|text| Part::text(text, label)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::input::InputBody;
    use proptest::prelude::*;

    /// One message of a client, as dice make it.
    #[derive(Debug, Clone)]
    enum Message {
        User(String),
        System(String),
        Assistant(String, u8),
        /// A result for one of so many calls of the newest message with calls.
        Result(u8),
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            "[a-c]{0,3}".prop_map(Message::User),
            "[a-c]{0,3}".prop_map(Message::System),
            ("[a-c]{0,3}", 0..3_u8).prop_map(|(text, calls)| Message::Assistant(text, calls)),
            (0..3_u8).prop_map(Message::Result),
        ]
    }

    fn told(messages: &[Message]) -> Answer<Said> {
        let mut history = History::new(Actor::new("token:ci"));
        for (at, message) in messages.iter().enumerate() {
            let path = format!("messages[{at}]");
            match message {
                Message::User(text) => history.user(&path, vec![text.clone()])?,
                Message::System(text) => history.system(&path, std::slice::from_ref(text))?,
                Message::Assistant(text, calls) => {
                    let call = |n| Claimed { id: format!("c{n}"), tool: "t".into(), arguments: "{}".into() };
                    history.assistant(&path, vec![text.clone()], (0..*calls).map(call).collect())?;
                }
                Message::Result(n) => history.result(&path, &format!("c{n}"), vec!["r".into()], false)?,
            }
        }
        history.finish("messages")
    }

    proptest! {
        #[test]
        fn wherever_a_history_is_cut_it_is_whole_units_or_refused(
            messages in prop::collection::vec(message(), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let from = cut.index(messages.len() + 1);
            for part in [&messages[..from], &messages[from..], &messages[..]] {
                let Ok(said) = told(part) else { continue };
                for turn in &said.history {
                    let Turn::Unit(unit) = turn else { continue };
                    let calls: Vec<_> = unit.message().calls.iter().map(|call| call.id).collect();
                    let results: Vec<_> = unit.results().iter().map(|result| result.call).collect();
                    prop_assert_eq!(calls, results);
                }
                // What is stored is read back as it was, and stored units are checked when they are read.
                let message = InputMessage { author: Actor::new("a"), parts: said.parts, hops: 0 };
                let body = InputBody { history: said.history, message };
                let bytes = body.encode().expect("it is JSON");
                prop_assert_eq!(InputBody::decode(&bytes).expect("it was just written"), body);
            }
        }
    }

    fn place(messages: &[Message]) -> (String, String) {
        let refused = told(messages).expect_err("it is refused");
        (refused.place().unwrap_or_default().to_owned(), refused.text())
    }

    #[test]
    fn what_is_torn_or_ends_wrong_is_refused_by_its_place() {
        let user = || Message::User("a".into());
        let asks = |calls| Message::Assistant(String::new(), calls);
        for (messages, at, says) in [
            (vec![], "messages", "no message to answer"),
            (vec![user(), Message::Assistant("b".into(), 0)], "messages", "must be the user's"),
            (vec![user(), asks(1), user()], "messages[2]", "\"c0\" of `messages[1]` has no result"),
            (vec![user(), asks(1)], "messages", "has no result"),
            (vec![Message::Result(0), user()], "messages[0]", "no call with the id"),
            (vec![asks(1), Message::Result(2)], "messages[1]", "no call of `messages[0]`"),
            (vec![asks(2), Message::Result(0), Message::Result(0)], "messages[2]", "a result already"),
            (vec![Message::User("  ".into())], "messages", "is empty"),
        ] {
            let (found, text) = place(&messages);
            assert_eq!(found, at, "{messages:?}");
            assert!(text.contains(says), "{messages:?}: {text}");
        }
    }

    #[test]
    fn whose_word_it_is_decides_the_label() {
        let messages = [
            Message::System("be kind".into()),
            Message::User("a".into()),
            Message::Assistant("b".into(), 1),
            Message::Result(0),
            Message::User("c".into()),
        ];
        let said = told(&messages).expect("it is whole");
        assert_eq!(said.parts, [Part::text("c", Label::ACTOR_TEXT)]);
        let labels: Vec<Vec<Label>> = said
            .history
            .iter()
            .map(|turn| match turn {
                Turn::Input(message) => message.parts.iter().map(Part::label).collect(),
                Turn::Unit(unit) => {
                    let results = unit.results().iter().flat_map(|result| &result.parts);
                    unit.message().parts.iter().chain(results).map(Part::label).collect()
                }
            })
            .collect();
        assert_eq!(
            labels,
            [vec![Label::ACTOR_TEXT], vec![Label::ACTOR_TEXT], vec![Label::CLAIM, Label::CLAIM]]
        );
        let Turn::Input(system) = &said.history[0] else { panic!("the system text comes first") };
        assert_eq!(parts_text(&system.parts), format!("{SYSTEM_HEAD}\nbe kind"));
    }
}
