//! How an owner runs a call: through the tools, until its end, until a signal ends the run, or until the agent has the
//! right to it no longer.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use dromia_contracts::CallId;
use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::CommitRefusal;
use dromia_contracts::tool::{CallEnd, EffectClass, PreparedCall, ToolContext, ToolOutput};
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};

use super::child_bounds::bound_children;
use super::interim_replies::bound_replies;
use super::live_text::LivePieces;
use super::past_words::PastWords;
use super::{OwnershipError, RunOwner};
use crate::decide::{DecisionInput, NextAction};

/// What ended a call before its tool did.
enum CallCut {
    /// The signal that ends its run; nothing if the inbox cannot be read.
    Ended(Option<InboxItem>),
    /// The rule that denies it since its right was withdrawn.
    Withdrawn(String),
}

impl RunOwner {
    pub(super) async fn run_tool(&mut self, call: PreparedCall) -> Result<NextAction, OwnershipError> {
        // A transactional call has no effect before its result commits, so its start commits with its result.
        let effect = call.effect;
        let transactional = effect == EffectClass::Transactional;
        if !transactional && let Some(ended) = self.commit_call_start().await? {
            return Ok(ended);
        }
        let id = call.id;
        let identity = &self.identity;
        let workspace = self.core.caches.agents.run_workspace(&identity.scope, &identity.agent).await;
        let context = ToolContext {
            scope: self.identity.scope.clone(),
            agent: self.identity.agent.id,
            author: self.identity.author.clone(),
            grants: self.identity.agent.grants.clone(),
            hops: self.story.hops,
            run: self.identity.run,
            session: self.identity.session,
            origin: self.state.started.as_ref().and_then(|started| started.origin.clone()),
            position: self.state.inputs_end(),
            label: self.story.taint.label,
            past: PastWords(self).read_for_call(&call).await?,
            key: id.idempotency_key(self.identity.run),
            workspace: workspace.map_err(|_| OwnershipError::Store)?,
        };
        let (judged, grants) = (call.clone(), context.grants.clone());
        let (tool, began) = (call.tool.clone(), self.core.ports.runtime.clock.now());
        let cancelled = AtomicBool::new(false);
        let pieces =
            LivePieces::new(&self.core, &self.slot, (self.identity.run, id), self.secret_scanner().await);
        self.slot.end_step();
        let ended = {
            // A defect of a tool ends its call and not its run.
            let work =
                AssertUnwindSafe(self.core.ports.tools.execute_call(context, call, &pieces)).catch_unwind();
            let terminated = pin!(self.wait_for_terminate(&cancelled));
            let withdrawn = self.core.ports.gate.await_withdrawal(&self.identity.scope, &grants, &judged);
            match select(select(work, terminated), withdrawn).await {
                Either::Left((Either::Left((output, _)), _)) => Ok(output.ok()),
                Either::Left((Either::Right((item, _)), _)) => Err(CallCut::Ended(item)),
                Either::Right((rule, _)) => Err(CallCut::Withdrawn(rule)),
            }
        };
        self.begin_step().await;
        pieces.flush_held();
        let end = match &ended {
            Ok(Some(output)) if !output.failed => CallEnd::Done,
            Ok(_) => CallEnd::Failed,
            Err(_) => CallEnd::Cut,
        };
        self.core.activity.calls.count_call(&tool, end, began);
        if cancelled.into_inner() {
            // A cancel waits for the border of its unit: leave it signalled.
            self.core.hub.signal_run(self.identity.run);
        }
        let mut output = match ended {
            Err(CallCut::Ended(Some(item))) => return Ok(self.decide_next(DecisionInput::Signal(item))),
            Err(CallCut::Ended(None)) => return Err(OwnershipError::Store),
            Err(CallCut::Withdrawn(rule)) => {
                return Ok(self.decide_next(DecisionInput::Withdrawn(id, rule)));
            }
            Ok(Some(output)) => output,
            Ok(None) => {
                tracing::error!(run = %self.identity.run, call = %id, tool, "a tool panicked; its call ended");
                match panicked_output(effect) {
                    Some(output) => output,
                    None => return Ok(self.decide_next(DecisionInput::CutOff(id))),
                }
            }
        };
        if transactional {
            let output =
                bound_children(&*self.core.ports.gate, &self.identity.agent.catalogue, &grants, output);
            return self.finish_transactional(id, bound_replies(self.state.replies, output)).await;
        }
        // Its file labels become durable with its result, and are dropped with it.
        self.journal.files.extend(std::mem::take(&mut output.files));
        Ok(self.decide_next(DecisionInput::Finished(id, output)))
    }

    /// Commits a transactional call's result together with what it sends. If the store refuses what it sends,
    /// nothing happened: the call ends with an error instead.
    async fn finish_transactional(
        &mut self,
        id: CallId,
        output: ToolOutput,
    ) -> Result<NextAction, OwnershipError> {
        let saved =
            (self.state.clone(), self.story.clone(), self.journal.pending.clone(), self.journal.asks.clone());
        let undone = if output.opens.is_empty() { "sent" } else { "spawned" };
        let next = self.decide_next(DecisionInput::Finished(id, output));
        match self.try_commit().await? {
            None => Ok(next),
            Some(CommitRefusal::BudgetExhausted(exhausted)) => {
                (self.state, self.story, self.journal.pending, self.journal.asks) = saved;
                self.journal.sends.clear();
                self.journal.opens.clear();
                Ok(self.exhaust_budget(exhausted))
            }
            Some(refusal) => {
                (self.state, self.story, self.journal.pending, self.journal.asks) = saved;
                self.journal.sends.clear();
                self.journal.opens.clear();
                let parts = vec![ContentPart::new_text(
                    format!("Nothing was {undone}: {refusal}."),
                    Label::PUBLIC_FACT,
                )];
                let output = ToolOutput { failed: true, parts, ..ToolOutput::default() };
                Ok(self.decide_next(DecisionInput::Finished(id, output)))
            }
        }
    }

    /// Waits for a terminate signal in the run's inbox; `None` if the inbox cannot be read.
    pub(super) async fn wait_for_terminate(&self, cancelled: &AtomicBool) -> Option<InboxItem> {
        loop {
            self.active.wait_for_signal().await;
            let items = self.read_signals().await.ok()?;
            match items.into_iter().find(|item| item.kind == ItemKind::Terminate) {
                Some(item) => return Some(item),
                None => cancelled.store(true, Ordering::Relaxed),
            }
        }
    }
}

/// The result of a call whose tool panicked. `None` for keyed and unkeyed effects: a repeated call may have the effect
/// twice, even with a keyed tool, because each call has its own key.
fn panicked_output(effect: EffectClass) -> Option<ToolOutput> {
    let text = match effect {
        EffectClass::Pure | EffectClass::Transactional => {
            "A defect of the tool ended this call before it could report. It had no effect."
        }
        EffectClass::Idempotent => {
            "A defect of the tool ended this call before it could report. It may have had its effect, a part \
             of it, or none; repeating it does no harm."
        }
        EffectClass::Keyed | EffectClass::Unkeyed => return None,
    };
    let parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
    Some(ToolOutput { failed: true, parts, ..ToolOutput::default() })
}
