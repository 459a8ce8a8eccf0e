//! What a request of another API asks for, in our words: the one shape that all of them are read into.

use dromia_contracts::Actor;
use dromia_contracts::busy_policy::BusyPolicy;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::InputMessage;
use dromia_contracts::input::InputBody;

use super::history::ConversationInput;

/// What a request asks for, in our words.
#[derive(Debug)]
pub(super) struct CompatRequest {
    /// The platform of a session that is opened for it.
    pub(super) platform: &'static str,
    /// The agent, by its handle or id.
    pub(super) model: String,
    /// What is said.
    pub(super) said: ConversationInput,
    /// What the client offers to the model.
    pub(super) offer: ClientOptions,
    /// The field that says in which form the answer is wanted.
    pub(super) answer_field: &'static str,
    /// Whether the answer is wanted in pieces.
    pub(super) stream: bool,
    /// What of the request is left out of what is done, for its sender.
    pub(super) warnings: Vec<String>,
}

impl CompatRequest {
    /// What would be stored of it.
    pub(super) fn into_input_body(self, author: &Actor) -> InputBody {
        let ConversationInput { history, answers, parts, .. } = self.said;
        let message = InputMessage { author: author.clone(), parts, hops: 0 };
        InputBody {
            history,
            answers,
            offer: self.offer,
            call: None,
            workspace: None,
            when_busy: BusyPolicy::default(),
            compaction: None,
            message,
        }
    }
}
