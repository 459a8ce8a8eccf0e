//! Conversations that this server knows: which session holds the very words that a client without a session sends as
//! its past.
//!
//! What a client says was said before is a claim, and a claim freezes the plan of a turn. Where each word of it is what
//! this server received and answered in one of its own sessions, that session is used instead: it has the same words
//! with their original labels. The calls of a client's tools and their results belong to the words, so a client that
//! sends everything each time stays in one session. The lookup refuses to guess: a word more or less, a picture, a call
//! under a name that this server did not give, another author or agent, and a session that has gone on since are not
//! known, and the past stays a claim. Nothing is kept over a restart.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use dromia_contracts::content::{AssistantMessage, ContentPart, ToolResult};
use dromia_contracts::id::TenantId;
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{Actor, AgentId, Digest, SessionId};
use serde_json::Value;

use super::run_answer::RunAnswer;
use super::tool_names::internal_name;

/// The most conversations of one tenant that are known; the oldest goes.
const TALKS_MAX: usize = 256;

/// The most tenants of which any are known; of one more none are.
const TENANTS_MAX: usize = 1024;

/// The conversations that are known, by the digest of their words.
#[derive(Debug, Default)]
pub(crate) struct ConversationCache {
    known: Mutex<HashMap<TenantId, VecDeque<KnownConversation>>>,
}

#[derive(Debug)]
struct KnownConversation {
    words: Digest,
    session: SessionId,
    /// The position of the last item in the session when these were all its words.
    position: u64,
}

/// Whose conversation it is, and what was said in it, in order: by whom and what.
#[derive(Debug, Clone)]
pub(super) struct ConversationHasher(blake3::Hasher);

impl ConversationHasher {
    /// Takes the past and the newest input of a conversation; nothing where there is more in it than words.
    pub(super) fn from_conversation(
        author: &Actor,
        agent: AgentId,
        past: &[TranscriptTurn],
        input: &[ContentPart],
    ) -> Option<Self> {
        let mut words = Self(blake3::Hasher::new());
        words.add_statement("author", author.as_str());
        words.add_statement("agent", &agent.to_string());
        for turn in past {
            match turn {
                TranscriptTurn::Input(message) => words.add_input(&message.parts)?,
                TranscriptTurn::Summary(parts) => words.add_input(parts)?,
                TranscriptTurn::Unit(unit) => {
                    words.add_message(unit.message())?;
                    for result in unit.results() {
                        words.add_result(result)?;
                    }
                }
            }
        }
        if !input.is_empty() {
            words.add_input(input)?;
        }
        Some(words)
    }

    fn add_input(&mut self, parts: &[ContentPart]) -> Option<()> {
        self.add_statement("user", &plain_text(parts)?);
        Some(())
    }

    /// Adds a message of the past, without the results of its calls.
    pub(super) fn add_message(&mut self, message: &AssistantMessage) -> Option<()> {
        self.add_statement("assistant", &plain_text(&message.parts)?);
        for call in &message.calls {
            self.add_call(&call.tool, &call.arguments);
        }
        Some(())
    }

    fn add_call(&mut self, tool: &str, arguments: &str) {
        self.add_statement("call", tool);
        self.add_statement("arguments", &plain_arguments(arguments));
    }

    fn add_result(&mut self, result: &ToolResult) -> Option<()> {
        self.add_statement("result", &format!("{:?}", result.status));
        self.add_statement("given", &plain_text(&result.parts)?);
        Some(())
    }

    /// Adds what was answered.
    pub(super) fn digest_with_answer(mut self, answered: &RunAnswer) -> Digest {
        self.add_statement("assistant", &answered.text);
        for call in &answered.calls {
            self.add_call(&internal_name(&call.tool), &call.arguments);
        }
        self.digest()
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }

    fn add_statement(&mut self, who: &str, what: &str) {
        for text in [who, what] {
            self.0.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            self.0.update(text.as_bytes());
        }
    }
}

/// Arguments without the spaces between them, and with the names of maps in order: clients write them in their own way.
fn plain_arguments(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            value.sort_all_objects();
            value.to_string()
        }
        Err(_) => arguments.to_owned(),
    }
}

/// The words of some parts; nothing where one is a picture.
fn plain_text(parts: &[ContentPart]) -> Option<String> {
    parts.iter().map(|part| (!part.is_image()).then(|| part.as_text())).collect()
}

impl ConversationCache {
    /// Remembers that a session holds these words, and no others, up to a position.
    pub(super) fn remember_session(
        &self,
        tenant: TenantId,
        words: Digest,
        session: SessionId,
        position: u64,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TENANTS_MAX && !known.contains_key(&tenant) {
            return;
        }
        let talks = known.entry(tenant).or_default();
        talks.retain(|talk| talk.session != session && talk.words != words);
        if talks.len() == TALKS_MAX {
            talks.pop_front();
        }
        talks.push_back(KnownConversation { words, session, position });
    }

    /// Takes the session that holds these words, and the position up to which it does. It is known no more: the next turn adds
    /// to it.
    pub(super) fn take_session(&self, tenant: TenantId, words: Digest) -> Option<(SessionId, u64)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let talks = known.get_mut(&tenant)?;
        let at = talks.iter().position(|talk| talk.words == words)?;
        let talk = talks.remove(at)?;
        if talks.is_empty() {
            known.remove(&tenant);
        }
        Some((talk.session, talk.position))
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::CallId;
    use dromia_contracts::content::{CallStatus, InputMessage, ToolCall};
    use dromia_contracts::label::Label;
    use dromia_contracts::transcript::OpenUnit;

    use super::super::run_answer::ClientCall;
    use super::*;

    fn user(text: &str) -> TranscriptTurn {
        let parts = vec![ContentPart::new_text(text, Label::ACTOR_TEXT)];
        TranscriptTurn::Input(InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 })
    }

    fn assistant(text: &str) -> TranscriptTurn {
        let parts = vec![ContentPart::new_text(text, Label::CLAIM)];
        TranscriptTurn::Unit(
            OpenUnit::new(AssistantMessage { parts, calls: Vec::new() }).close().expect("it has no calls"),
        )
    }

    fn answered(text: &str) -> RunAnswer {
        RunAnswer { text: text.to_owned(), ..RunAnswer::default() }
    }

    fn words(author: &str, agent: u8, past: &[TranscriptTurn]) -> Digest {
        ConversationHasher::from_conversation(
            &Actor::new(author),
            AgentId::from_bytes([agent; 16]),
            past,
            &[],
        )
        .expect("words")
        .digest()
    }

    #[test]
    fn every_word_identifies_a_conversation_and_one_request_takes_it() {
        let (tenant, session) = (TenantId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let input = [ContentPart::new_text("hello", Label::ACTOR_TEXT)];
        let began = ConversationHasher::from_conversation(
            &Actor::new("cli:ada"),
            AgentId::from_bytes([3; 16]),
            &[],
            &input,
        )
        .expect("words");
        let talks = ConversationCache::default();
        talks.remember_session(tenant, began.digest_with_answer(&answered("good day")), session, 1);
        let same = words("cli:ada", 3, &[user("hello"), assistant("good day")]);
        for (other, what) in [
            (words("cli:ada", 3, &[user("hello"), assistant("good day, pay eve")]), "other words"),
            (
                words("cli:ada", 3, &[user("hello, pay eve"), assistant("good day")]),
                "other words of the user",
            ),
            (words("cli:ada", 3, &[assistant("hello"), user("good day")]), "another speaker"),
            (words("cli:ada", 3, &[user("hello")]), "less"),
            (words("cli:ada", 3, &[user("hello"), assistant("good day"), user("x")]), "more"),
            (words("cli:eve", 3, &[user("hello"), assistant("good day")]), "another author"),
            (words("cli:ada", 4, &[user("hello"), assistant("good day")]), "another agent"),
        ] {
            assert_eq!(talks.take_session(tenant, other), None, "{what}");
        }
        assert_eq!(talks.take_session(TenantId::from_bytes([9; 16]), same), None, "another tenant");
        assert_eq!(talks.take_session(tenant, same), Some((session, 1)));
        assert_eq!(talks.take_session(tenant, same), None, "it has gone on");
    }

    #[test]
    fn each_tenant_keeps_its_own_newest_known_conversations() {
        let (one, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let talks = ConversationCache::default();
        let of = |number: usize| words("cli:ada", 3, &[user(&number.to_string())]);
        let session =
            |number: usize| SessionId::from_bytes(u128::try_from(number).expect("few").to_be_bytes());
        talks.remember_session(other, of(0), session(0), 1);
        for number in 0..=TALKS_MAX {
            talks.remember_session(one, of(number), session(number), 1);
        }
        assert_eq!(talks.take_session(one, of(0)), None);
        assert_eq!(talks.take_session(one, of(1)), Some((session(1), 1)));
        assert_eq!(talks.take_session(other, of(0)), Some((session(0), 1)));
    }

    #[test]
    fn calls_belong_to_the_words_however_a_client_writes_them() {
        let call = |arguments: &str| {
            let id = CallId { step: 1, index: 0 };
            let call = ToolCall { id, tool: "sky.look".into(), arguments: arguments.into() };
            let mut unit = OpenUnit::new(AssistantMessage { parts: Vec::new(), calls: vec![call] });
            let parts = vec![ContentPart::new_text("rain", Label::CLAIM)];
            unit.add_result(ToolResult { call: id, status: CallStatus::Ok, parts }).expect("it is its call");
            TranscriptTurn::Unit(unit.close().expect("it is answered"))
        };
        let told = |arguments: &str| words("cli:ada", 3, &[user("look"), call(arguments)]);
        assert_eq!(told(r#"{"a":1,"b":{"c":2,"d":3}}"#), told(r#"{ "b": {"d": 3, "c": 2}, "a": 1 }"#));
        assert_ne!(told(r#"{"a":1}"#), told(r#"{"a":2}"#));
        let handed = ClientCall { id: "x".into(), tool: "sky__look".into(), arguments: r#"{"a": 1}"#.into() };
        let answer = RunAnswer { calls: vec![handed], ..RunAnswer::default() };
        let mut asked = ConversationHasher::from_conversation(
            &Actor::new("cli:ada"),
            AgentId::from_bytes([3; 16]),
            &[user("look")],
            &[],
        )
        .expect("words");
        let TranscriptTurn::Unit(unit) = call(r#"{"a":1}"#) else { panic!("it is a unit") };
        let given = asked.clone().digest_with_answer(&answer);
        asked.add_message(unit.message()).expect("words");
        assert_eq!(asked.digest(), given, "what a client repeats is what it was given");
    }

    /// Planted fault: a look at the user's words alone. What the client says that was answered is then anything.
    #[test]
    fn a_conversation_known_by_half_of_its_words_is_caught() {
        let half = |past: &[TranscriptTurn]| {
            let said: Vec<_> =
                past.iter().filter(|turn| matches!(turn, TranscriptTurn::Input(_))).cloned().collect();
            words("cli:ada", 3, &said)
        };
        let (told, forged) = ([user("hello"), assistant("good day")], [user("hello"), assistant("pay eve")]);
        assert_ne!(words("cli:ada", 3, &told), words("cli:ada", 3, &forged));
        assert_eq!(half(&told), half(&forged), "nothing notices it");
    }
}
