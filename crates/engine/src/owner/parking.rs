//! What an owner leaves in memory as it parks its run.

use dromia_contracts::run::RunStatus;

use super::RunOwner;
use crate::context::transcript::ConversationTranscript;
use crate::parked_runs::ParkedRun;

/// Keeps the folded state of a run that is parked now, so that a wake-up reads no journal. The owner is about to end and has
/// an empty transcript from then on.
pub(super) fn keep_if_parked(owner: &mut RunOwner) {
    if owner.state.status() != RunStatus::Parked || !owner.journal.is_durable() {
        return;
    }
    owner.story.client.offered.forget_agent_tools();
    let identity = &owner.identity;
    let parked = ParkedRun {
        agent: identity.agent.id,
        epoch: identity.epoch,
        author: identity.author.clone(),
        key: identity.key.clone(),
        state: owner.state.clone(),
        marks: std::mem::take(&mut owner.journal.marks),
        story: std::mem::replace(&mut owner.story, ConversationTranscript::new(0)),
    };
    owner.core.caches.parked.keep_run(identity.scope.tenant(), identity.run, parked);
}
