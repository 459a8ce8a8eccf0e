//! What the owner of a run knows for the message about the run's end.

use dromia_contracts::store::InboxPut;

use super::RunOwner;
use crate::outcome::answer_parts;
use crate::run_kinds::EndedRun;

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
        };
        ended.end_notice(&self.core.ports.runtime)
    }
}
