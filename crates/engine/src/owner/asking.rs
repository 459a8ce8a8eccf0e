//! How an owner asks its model: the request, its reservation, and one attempt that a signal may end.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::gate::{Action, Verdict};
use dromia_contracts::model::{Deltas, ModelError, ModelRequest};
use dromia_contracts::runs::Live;
use dromia_contracts::sent::Sent;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::{ErrorCode, RunId};
use futures_util::future::{Either, select};

use super::{Lost, Owner};
use crate::ask::Asking;
use crate::core::Core;
use crate::decide::{Input, Plan};
use crate::sent::digest;
use crate::state::Phase;

impl Owner {
    /// Puts the next request together, writes it down and counts it; where somebody asked for a call, there is none.
    pub(crate) fn plan(&mut self) -> Input {
        if let Some(asked) = self.story.asked.clone() {
            return Input::Asked(asked);
        }
        let request = self.request();
        let prepared = self.core.ports.model.prepare(&request);
        self.story.keep(request);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                // The run ends, perhaps in the commit of its claim, which does not tell whether input waits: look.
                self.waiting = true;
                return Input::Unplanned(error);
            }
        };
        let sent = Sent { wording: prepared.wording.clone(), digest: digest(&prepared.body) };
        let plan = Plan {
            model: self.agent.config.model.clone(),
            history_from: self.story.history_from,
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            reserved_micros: prepared.reserved_micros,
            sent,
        };
        self.priced = prepared.priced;
        self.prepared = Some(prepared);
        Input::Planned(plan)
    }

    fn request(&mut self) -> ModelRequest {
        let step = match self.state.phase {
            Phase::StepDue { step, .. } | Phase::ModelOpen { step, .. } => step,
            _ => 0,
        };
        self.story.ask(Asking {
            model: &self.agent.config.model,
            system: &self.agent.system,
            tools: &self.agent.tools,
            output_tokens_max: self.core.config.output_tokens_max,
            run: self.run,
            step,
        })
    }

    pub(super) async fn call_model(&mut self) -> Result<Input, Lost> {
        // A provider is a sink like any other: the request passes the gate before it leaves.
        let model = self.agent.config.model.clone();
        if let Verdict::Deny { rule, reason, .. } = self.gate(Action::Model { model: &model }) {
            return Ok(Input::Failed(ModelError {
                code: ErrorCode::ModelRejected,
                message: format!("the request was refused by {rule}: {reason}"),
                retry_after: None,
            }));
        }
        // What leaves is what was prepared before the entry was written, and nothing else.
        let Some(prepared) = self.prepared.take() else {
            tracing::error!(run = %self.run, "a model call is due that nobody prepared");
            return Err(Lost::Store);
        };
        let request = self.request();
        let (step, attempt) = match self.state.phase {
            Phase::ModelOpen { step, attempt, .. } => (step, attempt),
            _ => (0, 0),
        };
        let deltas = LiveDeltas { core: &self.core, run: self.run, step, attempt, offset: AtomicU64::new(0) };
        let mut others = false;
        let ended = {
            let mut call = self.core.ports.model.call(&request, &prepared, &deltas);
            loop {
                let signal = pin!(self.active.signalled());
                match select(&mut call, signal).await {
                    Either::Left((result, _)) => break Ok(result),
                    Either::Right(((), _)) => {
                        // A signal may be taken already, or may ask for nothing that concerns the attempt.
                        let items = self.signals().await?;
                        others = !items.is_empty();
                        // Its agent is being erased; otherwise whoever signalled could not write the signal down.
                        if items.is_empty() && self.is_gone().await? {
                            return Err(Lost::Fenced);
                        }
                        if items.iter().any(|item| ends_a_run(item.kind)) {
                            // Dropping the future cancels the attempt.
                            break Err(items);
                        }
                    }
                }
            }
        };
        self.story.keep(request);
        match ended {
            Ok(result) => {
                if others {
                    self.core.hub.signal(self.run);
                }
                Ok(match result {
                    Ok(reply) => Input::Replied(reply, self.story.label),
                    Err(error) => Input::Failed(error),
                })
            }
            Err(items) => self.first_end(items),
        }
    }

    /// Tells whether the run is not found any more.
    async fn is_gone(&self) -> Result<bool, Lost> {
        let found = self.core.ports.store.run(&self.scope, self.run).await;
        found.map(|run| run.is_none()).map_err(|_| Lost::Store)
    }

    /// Takes signals in their order up to the first that ends the run, which is given back.
    fn first_end(&mut self, items: Vec<InboxItem>) -> Result<Input, Lost> {
        for item in items {
            if ends_a_run(item.kind) {
                return Ok(Input::Signal(item));
            }
            self.decide(Input::Signal(item));
        }
        Err(Lost::Store)
    }
}

fn ends_a_run(kind: ItemKind) -> bool {
    matches!(kind, ItemKind::Cancel | ItemKind::Terminate)
}

/// Passes live text on to watchers.
struct LiveDeltas<'a> {
    core: &'a Core,
    run: RunId,
    step: u32,
    attempt: u32,
    offset: AtomicU64,
}

impl Deltas for LiveDeltas<'_> {
    fn push(&self, text: &str) {
        let offset = self.offset.fetch_add(text.len() as u64, Ordering::Relaxed);
        let (step, attempt) = (self.step, self.attempt);
        self.core.hub.publish(self.run, || Live::Delta { step, attempt, offset, text: text.to_owned() });
    }
}
