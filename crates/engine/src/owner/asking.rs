//! How an owner asks its model: the request, its reservation, and one attempt that a signal may end.

use std::pin::pin;
use std::sync::Arc;

use dromia_contracts::gate::{Action, Verdict};
use dromia_contracts::model::{ModelError, ModelRequest, Prepared};
use dromia_contracts::plan::Standing;
use dromia_contracts::sent::{Sent, TaintedPast};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::vault::Spotter;
use dromia_contracts::{ErrorCode, Fault};
use futures_util::future::{Either, select};

use super::telling::LiveDeltas;
use super::withholding::LEAK_SCAN;
use super::{Lost, Owner};
use crate::ask::Asking;
use crate::decide::{Input, Next, Plan};
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
            Ok(mut prepared) => {
                if self.story.has_past() {
                    prepared.wording.tainted_past = TaintedPast::Handle;
                }
                prepared
            }
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
            tools: self.agent.tools.offered(self.story.has_past()),
            output_tokens_max: self.core.config.output_tokens_max,
            run: self.run,
            step,
        })
    }

    /// Asks the model, and decides what its answer leads to.
    pub(super) async fn call_model(&mut self) -> Result<Next, Lost> {
        // A provider is a sink like any other: the request passes the gate before it leaves.
        let model = self.agent.config.model.clone();
        // Nobody is asked about a request, and none is put off, so what must be is refused.
        if let Verdict::Deny { rule, reason, .. }
        | Verdict::Ask { rule, reason, .. }
        | Verdict::Delay { rule, reason, .. } =
            self.gate(Action::Model { model: &model }, &Standing::default())
        {
            return Ok(self.decide(denied(&rule, &reason)));
        }
        // What leaves is what was prepared before the entry was written, and nothing else.
        let Some(prepared) = self.prepared.take() else {
            tracing::error!(run = %self.run, "a model call is due that nobody prepared");
            return Err(Lost::Store);
        };
        let spotter = self.core.ports.leaks.spotter(&self.scope).await;
        if let Some(reason) = leak(&prepared, spotter.as_ref())? {
            return Ok(self.decide(rejected(&reason)));
        }
        // What would not leave in the end is not told on the way either.
        let withheld = self.withheld();
        let told = spotter.ok().filter(|_| withheld.is_none());
        match self.attempt(&prepared, told).await? {
            Input::Replied(mut reply, label) => {
                let marks = self.marked(&mut reply, withheld).await?;
                Ok(self.decide_noting(Input::Replied(reply, label), |entries| marks.note(entries)))
            }
            input => Ok(self.decide(input)),
        }
    }

    /// Makes one attempt, which a signal may end. Watchers are told its text by whoever knows the values, if by anybody.
    async fn attempt(&mut self, prepared: &Prepared, told: Option<Arc<dyn Spotter>>) -> Result<Input, Lost> {
        let request = self.request();
        let (step, attempt) = match self.state.phase {
            Phase::ModelOpen { step, attempt, .. } => (step, attempt),
            _ => (0, 0),
        };
        let deltas = LiveDeltas::new(&self.core, self.run, (step, attempt), told);
        let mut others = false;
        let ended = {
            let mut call = self.core.ports.model.call(&request, prepared, &deltas);
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
        deltas.end();
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

    /// Returns who knows the values that watchers must not be told; nobody where the vault does not open.
    pub(super) async fn spotter(&self) -> Option<Arc<dyn Spotter>> {
        self.core.ports.leaks.spotter(&self.scope).await.ok()
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

/// A request that the gate refused: nothing was sent, and no model has anything to do with it.
fn denied(rule: &str, reason: &str) -> Input {
    refused(ErrorCode::ActionDenied, rule, reason)
}

/// A request that was not sent because of what it holds, and will not be if it is made again.
fn rejected(reason: &str) -> Input {
    refused(ErrorCode::ModelRejected, LEAK_SCAN, reason)
}

fn refused(code: ErrorCode, rule: &str, reason: &str) -> Input {
    let message = format!("the request was refused by {rule}: {reason}");
    Input::Failed(ModelError { code, message, retry_after: None })
}

/// Says why a request may not leave, if it holds a secret or nobody can look. What the scripted model is asked stays in this
/// process.
pub(super) fn leak(
    prepared: &Prepared,
    spotter: Result<&Arc<dyn Spotter>, &Fault>,
) -> Result<Option<String>, Lost> {
    if !prepared.wording.leaves() {
        return Ok(None);
    }
    match spotter {
        Ok(spotter) => Ok(spotter.find(&prepared.body).first().map(|leak| {
            format!(
                "it holds the value of the secret {:?}, so nothing was sent; give that secret a new value, because this \
                 conversation has the old one, or begin another session",
                leak.secret
            )
        })),
        // The store answers again sooner or later, and the run is taken up then.
        Err(fault) if fault.code == ErrorCode::StoreUnavailable => Err(Lost::Store),
        Err(fault) => Ok(Some(format!("nobody can look whether it holds a secret: {fault}"))),
    }
}
