//! Inputs that join a running turn before its next model call.
//!
//! Which of the waiting inputs join is said in `input_joining`. The entry that takes them is pending like any other: it is
//! durable with the model call that sends them, so a crash before leaves them in the inbox.

use dromia_contracts::session::InboxOwner;

use super::{OwnershipError, RunOwner};
use crate::decide::DecisionInput;
use crate::input_joining::{READ_MAX, count_steered};

impl RunOwner {
    /// Takes the inputs that are to join the turn, with what waits before them.
    pub(super) async fn join_inputs(&mut self) -> Result<(), OwnershipError> {
        if !self.state.may_join_inputs() {
            return Ok(());
        }
        let owner = InboxOwner::Session(self.identity.session);
        let after = self.state.inputs_end();
        let waiting = self.core.ports.store.inbox_items(&self.identity.scope, owner, after, READ_MAX);
        let mut waiting = waiting.await.map_err(|_| OwnershipError::Store)?;
        waiting.truncate(count_steered(&waiting, &self.identity.author));
        if waiting.is_empty() {
            return Ok(());
        }
        let items: Vec<_> = waiting.iter().map(|item| item.id).collect();
        self.decide_next(DecisionInput::InputsJoined(items));
        for item in &waiting {
            // Each was read a moment ago to see whether it joins.
            if let Err(error) = self.story.add_joined_input(item) {
                tracing::error!(run = %self.identity.run, %error, "the model cannot get an input");
            }
        }
        // More may wait than enter at a time.
        self.active.note_joinable();
        Ok(())
    }
}
