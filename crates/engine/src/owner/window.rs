//! What an owner does about the window of its model when its run has ended.

use std::sync::Arc;

use dromia_contracts::compaction;

use super::RunOwner;
use crate::compaction::CompactedSession;

/// Has the oldest part of the session summarized if the run has ended and its last request nearly filled the window, and
/// has the session that a compaction was for look for its summary.
pub(super) fn look_at_window(owner: &RunOwner) {
    if !owner.state.is_ended() {
        return;
    }
    if owner.identity.key.platform == compaction::PLATFORM {
        if let Some(session) = owner.story.compacted {
            owner.core.caches.summaries.forget(owner.identity.scope.tenant(), session);
        }
    } else if owner.step.used.wants_compaction() {
        let session = CompactedSession {
            scope: owner.core.recovery_scope(owner.identity.scope.tenant()),
            agent: Arc::clone(&owner.identity.agent),
            session: owner.identity.session,
            used: owner.step.used,
        };
        let core = Arc::clone(&owner.core);
        owner.core.ports.runtime.spawn.spawn(Box::pin(async move { session.compact_if_due(&core).await }));
    }
}
