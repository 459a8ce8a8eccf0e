//! `branch`: a run that thinks about a question with the transcript of its parent, and only reads.
//!
//! Invariant: transactional, as `worker.spawn` is. The session and its one input are handed back and become durable in the commit
//! that holds the call's result, under the call's key, so a repeated call begins one branch. Nothing of the transcript is
//! copied: the origin names the run and the call, and the engine reads the transcript up to there.

use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{Label, ReaderSet};
use dromia_contracts::run::RunKind;
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::scope::Actor;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{InboxPut, SessionOpen};
use dromia_contracts::task::BRANCH_PLATFORM;
use dromia_contracts::tool::{PreparedCall, ToolContext};

use crate::arguments::BranchBegin;
use crate::child::{SpawnError, child_input, child_origin};

/// What a branch reads after its task.
const ABOUT: &str = "[You are now a branch of this conversation; nobody reads along, and the conversation goes on without you. Do the \
                     task above with tools that only read, and give work that changes something to worker.spawn. Your last \
                     answer is all that the conversation gets of you: make it short and complete.]";

/// Returns the session and the item that become durable together with the call's result.
pub(crate) fn prepare_branch(
    runtime: &Runtime,
    context: &ToolContext,
    call: &PreparedCall,
    arguments: BranchBegin,
    hops_max: u32,
) -> Result<(SessionOpen, InboxPut), SpawnError> {
    if context.hops >= hops_max {
        return Err(SpawnError::TooManyHops { hops: hops_max });
    }
    let at = runtime.clock.now();
    let author = Actor::new(&format!("agent:{}", context.agent));
    let origin = child_origin(context, call, RunKind::Branch, Vec::new());
    let open = SessionOpen {
        session: runtime.session_id(),
        agent: context.agent,
        key: SessionKey {
            platform: BRANCH_PLATFORM.to_owned(),
            channel: runtime.ids.new_uuid().simple().to_string(),
            actor: author.clone(),
        },
        at,
        believes: false,
        importing: false,
        origin: Some(Box::new(RunOrigin { topic: arguments.topic, ..origin })),
    };
    let parts = vec![
        ContentPart::new_text(arguments.task, label_of_task(context.label)),
        ContentPart::new_text(ABOUT, Label::PUBLIC_FACT),
    ];
    let message = InputMessage { author: author.clone(), parts, hops: context.hops + 1 };
    let body = InputBody::from_message(message).encode().map_err(|_| SpawnError::Unwritable)?;
    Ok((open.clone(), child_input(runtime, context, call, (&open, author), body.into())))
}

/// The label of the model's words: that of all it saw, which the branch sees too. Nobody typed them, so they endorse nothing.
fn label_of_task(context: Label) -> Label {
    if context == Label::ACTOR_TEXT { Label { readers: ReaderSet::Agent, ..context } } else { context }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::label::IntegrityLevel;

    use super::*;

    #[test]
    fn a_task_is_as_trusted_as_its_context_and_never_typed() {
        for context in [Label::ACTOR_TEXT, Label::PUBLIC_FACT, Label::OUTSIDE, Label::CLAIM] {
            let label = label_of_task(context);
            assert_eq!(label.integrity, context.integrity, "{context}");
            assert_ne!(label, Label::ACTOR_TEXT, "{context}");
        }
        assert_eq!(label_of_task(Label::OUTSIDE).integrity, IntegrityLevel::Untrusted);
    }
}
