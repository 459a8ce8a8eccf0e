//! How a caller learns of the end of the run that takes its input: at once if it has ended, or when it does.
//!
//! Nobody is kept waiting by what is written here; how long a caller waits is the caller's own affair.

use dromia_contracts::run::Run;
use dromia_contracts::runs::Outcome;
use dromia_contracts::{BoxFuture, ErrorCode, Fault, ItemId, RunId, Scope};

use crate::agents::read_fault;
use crate::core::Core;
use crate::state::RunState;
use crate::story::Story;

impl Core {
    /// Waits for the run that takes an item.
    pub(crate) fn wait_for(&self, item: ItemId) -> BoxFuture<'static, Result<Outcome, Fault>> {
        let answer = self.hub.wait(item);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(Fault::new(ErrorCode::ShuttingDown, "the server stopped waiting; the input is durable"))
            })
        })
    }

    /// Reads the outcome of a run that has ended.
    pub(crate) async fn ended(
        &self,
        scope: &Scope,
        run: RunId,
    ) -> Result<Option<BoxFuture<'static, Result<Outcome, Fault>>>, Fault> {
        let row = self.ports.store.run(scope, run).await.map_err(read_fault)?;
        let Some(row) = row.filter(|row| row.head.status.is_terminal()) else { return Ok(None) };
        let outcome = self.outcome(scope, &row).await?;
        Ok(Some(Box::pin(std::future::ready(Ok(outcome)))))
    }

    /// Reads how a run that has ended ended.
    pub(crate) async fn outcome(&self, scope: &Scope, row: &Run) -> Result<Outcome, Fault> {
        let journal = crate::recover::journal(self, scope, row.id).await.map_err(read_fault)?;
        let mut story = Story::new(0);
        let mut state = RunState::default();
        for stored in &journal {
            let entry = stored.decode();
            let entry = entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            crate::state::apply(&mut state, &entry);
            story
                .add_entry(&entry, stored.body.as_deref())
                .map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        }
        Ok(Outcome {
            run: row.id,
            last_seq: row.last_seq,
            head: row.head,
            reply: std::mem::take(&mut story.reply),
            failure: state.fault(),
        })
    }
}
