//! What the owner of a run knows for the message about the run's end.

use dromia_contracts::SessionId;
use dromia_contracts::run::RunKind;
use dromia_contracts::store::{InboxPut, PageRequest};

use super::RunOwner;
use super::identity::RunIdentity;
use crate::core::EngineCore;
use crate::outcome::answer_parts;
use crate::run_kinds::EndedRun;
use crate::state::RunState;

impl RunOwner {
    /// Writes the message to the session that waits for the run's end, once it has ended. `None` for a turn.
    pub(crate) fn end_notice(&self) -> Option<InboxPut> {
        let ended = EndedRun {
            run: self.identity.run,
            session: self.identity.session,
            state: &self.state,
            author: &self.identity.author,
            hops: self.story.hops,
            answer: answer_parts(self.state.status(), &self.story).unwrap_or_default(),
            call: (self.story.began, self.story.taint.by_hand),
            saw: self.story.taint.label,
            superseded: self.superseded,
        };
        ended.end_notice(&self.core.ports.runtime)
    }
}

/// Returns whether a run is a branch that has ended, and a later one on its topic has begun. Without an answer of the store it
/// counts as the newest one.
pub(super) async fn is_superseded(core: &EngineCore, identity: &RunIdentity, state: &RunState) -> bool {
    let started =
        state.started.as_ref().filter(|started| state.is_ended() && started.kind == RunKind::Branch);
    let origin = started.and_then(|started| started.origin.as_deref());
    let Some(origin) = origin.filter(|origin| origin.topic.is_some()) else { return false };
    let page = PageRequest { after: Some(identity.session), limit: PageRequest::<SessionId>::LIMIT_MAX };
    let later = core.ports.store.session_children(&identity.scope, origin.session, false, page).await;
    later.is_ok_and(|later| later.iter().any(|child| child.origin.topic == origin.topic))
}
