//! What comes in by a channel becomes an input here, whether a sender pushed it or the server follows it.
//!
//! A followed message is acknowledged once it is durable; one that comes again is known by its key. What can never become an
//! input is logged and passed over, and anything else is tried again, so an agent that is gone for a while loses nothing.

use std::time::Duration;

use dromia_contracts::channel::{ChannelInput, ReceiveError, ReceivedMessage};
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{InputReceipt, InputTarget, NewInput};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{ItemKey, KeyLifetime};
use dromia_contracts::{ErrorCode, Scope};
use futures_util::future::join_all;

use super::ServedChannel;
use crate::authentication::channel_scope;
use crate::caller::input_author;
use crate::core::GatewayCore;
use crate::failure::{Answer, ApiError};
use crate::ingress::{self, Submitter};
use crate::routes::event::named_agent;

/// How long the server rests between two looks at what it follows.
const LOOK: Duration = Duration::from_millis(250);
/// How long it rests after it failed to take a message in.
const REST: Duration = Duration::from_secs(1);

/// Submits what a channel received, labelled as a claim: another system wrote it, and it steers nothing by itself.
pub(crate) async fn submit_message(
    core: &GatewayCore,
    (name, channel): (&str, &ServedChannel),
    scope: Scope,
    message: ReceivedMessage,
    lifetime: KeyLifetime,
) -> Answer<InputReceipt> {
    let platform = channel.config.platform();
    let author = input_author(&scope, message.actor.as_deref());
    let agent = named_agent(core, &scope, channel.config.owner().1.as_str()).await?;
    let key = SessionKey { platform: platform.to_owned(), channel: name.to_owned(), actor: author.clone() };
    let input = NewInput {
        target: InputTarget::Key { agent, key },
        author,
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        call: None,
        workspace: None,
        when_busy: channel.config.when_busy(),
        parts: vec![ContentPart::new_text(message.text, Label::CLAIM)],
        key: Some(ItemKey {
            key: format!("{platform}:{name}:{}", message.key),
            request: message.digest,
            lifetime,
        }),
        wait: false,
    };
    ingress::submit_input(core, Submitter::Actor, scope, input).await.inspect_err(|failure| {
        // The agent was deleted since its handle was looked up; the next message looks again.
        if failure.code() == ErrorCode::AgentNotFound {
            core.caches.agents.forget_all();
        }
    })
}

/// Follows the channels that are followed, until it is dropped.
pub(crate) async fn follow_channels(core: &GatewayCore) {
    loop {
        let served = core.ports.outbox.served_channels();
        let looks = served.named_channels().map(|(name, channel)| async move {
            let taken = take_messages(core, (name, channel)).await;
            taken.inspect_err(|problem| {
                tracing::warn!(channel = name, problem, "failed to take in the messages of a channel");
            })
        });
        // Beside one another: what one of them waits for is not what the others wait for.
        let is_well = join_all(looks).await.iter().all(Result::is_ok);
        core.ports.runtime.clock.sleep(if is_well { LOOK } else { REST }).await;
    }
}

/// Takes in what a channel received since the last look.
async fn take_messages(core: &GatewayCore, (name, channel): (&str, &ServedChannel)) -> Result<(), String> {
    let received = channel.port.receive(ChannelInput::Followed).await.map_err(|error| error.to_string())?;
    let (mut cursor, mut problem) = (None, None);
    for message in received {
        let next = message.cursor.clone();
        let at = message.key.clone();
        match follow_message(core, (name, channel), message).await {
            Ok(_) => {}
            Err(failure) if is_final(&failure) => {
                let problem = failure.full_message();
                tracing::warn!(channel = name, at, problem, "a message of a channel is refused for good");
            }
            Err(failure) => {
                problem = Some(failure.full_message());
                break;
            }
        }
        cursor = Some(next);
    }
    if let Some(cursor) = cursor {
        channel.port.acknowledge(cursor).await.map_err(|error: ReceiveError| error.to_string())?;
    }
    problem.map_or(Ok(()), Err)
}

async fn follow_message(
    core: &GatewayCore,
    (name, channel): (&str, &ServedChannel),
    message: ReceivedMessage,
) -> Answer<InputReceipt> {
    let scope = channel_scope(core, channel.config.platform(), name, channel.config.owner().0).await?;
    submit_message(core, (name, channel), scope, message, KeyLifetime::Forever).await
}

/// Tells whether a repeat would be refused as well.
fn is_final(failure: &ApiError) -> bool {
    matches!(
        failure.code(),
        ErrorCode::InvalidRequest | ErrorCode::BodyTooLarge | ErrorCode::IdempotencyConflict
    )
}
