//! How an owner runs a call: through the tools, until its end or until somebody ends the run.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dromia_contracts::CallId;
use dromia_contracts::content::Part;
use dromia_contracts::label::Label;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::Refusal;
use dromia_contracts::tool::{CallEnd, EffectClass, PreparedCall, ToolContext, ToolOutput};
use futures_util::future::{Either, select};

use super::telling::LivePieces;
use super::{Lost, Owner};
use crate::decide::{Input, Next};

impl Owner {
    pub(super) async fn run_tool(&mut self, call: PreparedCall) -> Result<Next, Lost> {
        // A transactional call has no effect before its result commits, so its start commits with its result.
        let transactional = call.effect == EffectClass::Transactional;
        if !transactional && let Some(ended) = self.commit().await? {
            return Ok(ended);
        }
        let id = call.id;
        let context = ToolContext {
            scope: self.scope.clone(),
            agent: self.agent.id,
            author: self.author.clone(),
            grants: self.agent.grants.clone(),
            hops: self.story.hops,
            run: self.run,
            session: self.session,
            label: self.story.label,
            past: Arc::clone(&self.story.past),
            key: id.key(self.run),
        };
        let (tool, began) = (call.tool.clone(), self.core.ports.runtime.clock.now());
        let cancelled = AtomicBool::new(false);
        let pieces = LivePieces::new(&self.core, self.run, id, self.spotter().await);
        let ended = {
            let work = self.core.ports.tools.call(context, call, &pieces);
            let terminated = pin!(self.terminated(&cancelled));
            match select(work, terminated).await {
                Either::Left((output, _)) => Ok(output),
                Either::Right((item, _)) => Err(item),
            }
        };
        pieces.end();
        let end = match &ended {
            Ok(output) if output.failed => CallEnd::Failed,
            Ok(_) => CallEnd::Done,
            Err(_) => CallEnd::Cut,
        };
        self.core.count_call(&tool, end, began);
        if cancelled.into_inner() {
            // A cancel waits for the border of its unit: leave it signalled.
            self.core.hub.signal(self.run);
        }
        match ended {
            Err(Some(item)) => Ok(self.decide(Input::Signal(item))),
            Err(None) => Err(Lost::Store),
            Ok(output) if transactional => self.finish_transactional(id, output).await,
            Ok(mut output) => {
                // What it says of files becomes durable with its result, and is forgotten with it.
                self.files.extend(std::mem::take(&mut output.files));
                Ok(self.decide(Input::Finished(id, output)))
            }
        }
    }

    /// Commits a transactional call's result together with what it sends. If the store refuses what it sends,
    /// nothing happened: the call ends with an error instead.
    async fn finish_transactional(&mut self, id: CallId, output: ToolOutput) -> Result<Next, Lost> {
        let saved = (self.state.clone(), self.story.clone(), self.pending.clone(), self.asks.clone());
        let next = self.decide(Input::Finished(id, output));
        match self.try_commit().await? {
            None => Ok(next),
            Some(Refusal::BudgetExhausted(exhausted)) => {
                (self.state, self.story, self.pending, self.asks) = saved;
                self.sends.clear();
                Ok(self.unfund(exhausted))
            }
            Some(refusal) => {
                (self.state, self.story, self.pending, self.asks) = saved;
                self.sends.clear();
                let parts = vec![Part::text(format!("Nothing was sent: {refusal}."), Label::PUBLIC_FACT)];
                let output = ToolOutput { failed: true, parts, ..ToolOutput::default() };
                Ok(self.decide(Input::Finished(id, output)))
            }
        }
    }

    /// Waits until a terminate signal lies in the run's inbox; `None` if the inbox cannot be read.
    pub(super) async fn terminated(&self, cancelled: &AtomicBool) -> Option<InboxItem> {
        loop {
            self.active.signalled().await;
            let items = self.signals().await.ok()?;
            match items.into_iter().find(|item| item.kind == ItemKind::Terminate) {
                Some(item) => return Some(item),
                None => cancelled.store(true, Ordering::Relaxed),
            }
        }
    }
}
