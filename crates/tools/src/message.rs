//! `message.send`: a message to another session of the same tenant.
//!
//! Invariant: transactional. Nothing is sent here: the item is handed back and becomes durable in the commit that
//! holds the call's result, under the call's key, so it arrives once however often the call is repeated.
//!
//! Agents that answer one another by messages would never end. Each message therefore carries how many agents in a
//! row led to it, and past a bound none is sent; what comes from outside counts from 0 again. The bound is on the
//! length of a chain: how many messages one turn sends is bounded by its model calls.
//!
//! A target that is not in the caller's tenant is *not found*, in the same words as one that does not exist.

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label, ReaderSet};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{InboxPut, ItemKey, KeyLifetime, ReadError, Store};
use dromia_contracts::tool::{PreparedCall, ToolContext};

use crate::arguments::MessageSend;

/// A model wrote the text, out of parts that are not seen here: it is not trusted, and its readers are not
/// widened beyond the narrowest there are.
const MESSAGE: Label = Label { integrity: IntegrityLevel::Untrusted, readers: ReaderSet::Actor };

/// Why nothing was sent, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("nothing was sent: that session does not exist")]
    NotFound,
    #[error("nothing was sent: the agent of that session accepts no more input")]
    Terminated,
    #[error(
        "nothing was sent: {hops} messages between agents led here without a person, and at most {hops} may; \
         say it in your answer instead"
    )]
    TooManyHops { hops: u32 },
    #[error("nothing was sent: the store did not answer; trying again later may help")]
    Unavailable,
    #[error("nothing was sent: the message cannot be stored")]
    Unwritable,
}

impl From<ReadError> for SendError {
    fn from(_: ReadError) -> Self {
        Self::Unavailable
    }
}

/// Looks the target up in the caller's tenant, in whosever sessions, and returns the item that becomes durable together
/// with the call's result.
pub(crate) async fn prepare_message(
    store: &dyn Store,
    runtime: &Runtime,
    context: &ToolContext,
    call: &PreparedCall,
    arguments: MessageSend,
    hops_max: u32,
) -> Result<InboxPut, SendError> {
    if context.hops >= hops_max {
        return Err(SendError::TooManyHops { hops: hops_max });
    }
    let scope = &context.scope;
    let session = store.session(scope, arguments.session).await?.ok_or(SendError::NotFound)?;
    let agent = store.agent(scope, session.agent).await?.ok_or(SendError::NotFound)?;
    match agent.state {
        // A paused agent keeps its input and answers when it is resumed.
        AgentState::Running | AgentState::Paused => {}
        AgentState::Terminated => return Err(SendError::Terminated),
        AgentState::Deleting => return Err(SendError::NotFound),
    }
    let sender = Actor::new(&format!("agent:{}", context.agent));
    let parts = vec![ContentPart::new_text(arguments.text, MESSAGE)];
    let message = InputMessage { author: sender.clone(), parts, hops: context.hops + 1 };
    let body = InputBody::from_message(message).encode().map_err(|_| SendError::Unwritable)?;
    Ok(InboxPut {
        owner: InboxOwner::Session(session.id),
        item: runtime.item_id(),
        at: runtime.clock.now(),
        kind: ItemKind::Input,
        author: sender,
        body: Bytes::from(body),
        key: Some(ItemKey { key: context.key.clone(), request: call.action, lifetime: KeyLifetime::Forever }),
    })
}
