//! How an input with a client's tools, or with their results, is admitted.
//!
//! The calls of a run are answered once. The input that answers them carries a key that only the run's id makes, so the
//! store itself takes one such input and answers a repeated one with the same item. The engine checks first that the
//! calls are still open: the run of an input that came in between has closed them. An input that is committed between
//! the check and the commit closes them too; the model gets later results marked as late, and no turn is torn.

use dromia_contracts::client::{ClientCallId, ClientOptions, ClientToolResults};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{InputTarget, NewInput};
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::store::{ItemKey, KeyLifetime, PageRequest, ReadError, SessionTail};
use dromia_contracts::{CallId, Digest, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};

use crate::agents::{AgentDirectory, AgentSnapshot, read_fault};
use crate::context::client_tools as client;
use crate::core::EngineCore;
use crate::journal_reads::{inputs_end, read_journal};
use crate::ports::EnginePorts;
use crate::refusal::session_not_found;

/// How many items behind a run are read to find the one that answers its calls. It is the first of them, unless others
/// were committed between the check and the commit.
const NEXT_ITEMS: usize = 8;

impl AgentSnapshot {
    /// Checks that no tool of a client has the name of one of the agent's own.
    pub(crate) fn check_offer(&self, offer: &ClientOptions) -> Result<(), Fault> {
        let Some(tool) = client::find_name_clash(&offer.tools, self.tools.all_descriptors()) else {
            return Ok(());
        };
        let text = format!("the agent already has a tool named {:?}", tool.name);
        Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint("give the client's tool another name"))
    }
}

/// Checks what a client sends with an input, and finds the run whose calls an input answers.
pub(crate) struct ClientToolAdmission<'a> {
    ports: &'a EnginePorts,
    agents: &'a AgentDirectory,
}

impl<'a> ClientToolAdmission<'a> {
    /// Begins with the parts that it needs.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { ports: &core.ports, agents: &core.caches.agents }
    }

    /// Checks the tools and results that a client sends with an input.
    pub(crate) async fn check_client(&self, scope: &Scope, input: &NewInput) -> Result<(), Fault> {
        if !input.offer.tools.is_empty() {
            let agent = match &input.target {
                InputTarget::Key { agent, .. } | InputTarget::Fresh { agent, .. } => *agent,
                InputTarget::Session(id) => {
                    let session = self.ports.store.session(scope, *id).await.map_err(read_fault)?;
                    session.ok_or_else(|| session_not_found(*id))?.agent
                }
            };
            self.agents.agent_snapshot(scope, agent).await?.check_offer(&input.offer)?;
        }
        match (&input.answers, &input.target) {
            (None, _) => Ok(()),
            (Some(answers), InputTarget::Session(session)) => {
                self.check_answers(scope, *session, answers).await
            }
            (Some(_), InputTarget::Key { .. } | InputTarget::Fresh { .. }) => {
                let text = "a result of a client tool call belongs in the session of the call";
                Err(Fault::new(ErrorCode::InvalidRequest, text))
            }
        }
    }

    /// Checks that the results are those of the calls with which a run of the session ended, one for each, and that
    /// the calls are open, or were closed by these results.
    async fn check_answers(
        &self,
        scope: &Scope,
        session: SessionId,
        answers: &ClientToolResults,
    ) -> Result<(), Fault> {
        let store = &self.ports.store;
        let run = store.run(scope, answers.run).await.map_err(read_fault)?;
        let Some(run) = run.filter(|run| run.session == session) else {
            let text = format!("{} is not a run of {session}, so none of its calls waits here", answers.run);
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        };
        if run.head.status != RunStatus::Completed {
            let status = run.head.status.as_str();
            let text = format!("{} is {status}, and only a completed run has client tool calls", run.id);
            return Err(call_not_open(text));
        }
        let handed = self.pending_client_calls(scope, run.id).await?;
        if handed.calls.is_empty() {
            let text = format!("{} has no client tool call", run.id);
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        }
        let name = |call: CallId| ClientCallId { run: run.id, call };
        for (at, result) in answers.results.iter().enumerate() {
            let call = result.call;
            if !handed.calls.contains(&call) {
                let text = format!("{} is not a client tool call of this run", name(call));
                return Err(Fault::new(ErrorCode::InvalidRequest, text));
            }
            if answers.results[..at].iter().any(|known| known.call == call) {
                let text = format!("the call {} has two results", name(call));
                return Err(Fault::new(ErrorCode::InvalidRequest, text));
            }
        }
        let missing =
            handed.calls.iter().find(|call| answers.results.iter().all(|given| given.call != **call));
        if let Some(missing) = missing {
            let text = format!("the call {} has no result", name(*missing));
            return Err(Fault::new(ErrorCode::InvalidRequest, text)
                .with_hint("send the results of all calls of an answer in one request"));
        }
        let owner = InboxOwner::Session(session);
        let next = store.inbox_items(scope, owner, handed.after, NEXT_ITEMS).await.map_err(read_fault)?;
        // The same results, or others: the item's key decides.
        let answered = next.iter().any(|item| {
            let body = item.body.as_deref().filter(|body| InputBody::may_answer(body));
            let body = body.map(InputBody::decode).and_then(Result::ok);
            body.and_then(|body| body.answers).is_some_and(|known| known.run == run.id)
        });
        if !next.is_empty() && !answered {
            let call = handed.calls.first().map(|call| name(*call).to_string()).unwrap_or_default();
            let text = format!("the call {call} waits for no result: the session continued without it");
            return Err(call_not_open(text));
        }
        Ok(())
    }

    /// Adds the run whose calls an item answers, if the bounds of the context left it out: the model gets results with
    /// their calls. `after` is the position of the last item of the past. A run that is not the newest of the past is
    /// not added: the run behind it closed its calls.
    pub(crate) async fn add_answered(
        &self,
        scope: &Scope,
        tail: &mut SessionTail,
        after: u64,
        item: &InboxItem,
    ) -> Result<(), ReadError> {
        let body =
            item.body.as_deref().filter(|body| item.kind == ItemKind::Input && InputBody::may_answer(body));
        // An unreadable body is reported when the input is added to the transcript.
        let answers = body.and_then(|body| InputBody::decode(body).ok()).and_then(|body| body.answers);
        let Some(run) = answers.map(|answers| answers.run) else { return Ok(()) };
        if tail.items.iter().any(|item| item.taken_by.is_some()) {
            return Ok(());
        }
        let journal = read_journal(&*self.ports.store, scope, run).await?;
        let Some(Entry::RunStarted(started)) = journal.first().and_then(|first| first.decode().ok()) else {
            return Ok(());
        };
        if inputs_end(&started, &journal) != after {
            return Ok(());
        }
        let owner = InboxOwner::Session(tail.session.id);
        let count = usize::try_from(after - started.after).unwrap_or(usize::MAX);
        let count = count.min(PageRequest::<ItemId>::LIMIT_MAX);
        let mut items = self.ports.store.inbox_items(scope, owner, started.after, count).await?;
        items.retain(|item| item.taken_by == Some(run));
        items.append(&mut tail.items);
        tail.items = items;
        tail.runs = vec![(run, journal.into())];
        Ok(())
    }

    /// Reads which calls a run handed to its client.
    async fn pending_client_calls(&self, scope: &Scope, run: RunId) -> Result<PendingClientCalls, Fault> {
        let mut handed = PendingClientCalls::default();
        for stored in read_journal(&*self.ports.store, scope, run).await.map_err(read_fault)? {
            let entry = stored.decode();
            match entry.map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))? {
                Entry::RunStarted(started) => handed.after = started.after + started.items.len() as u64,
                Entry::InputsTaken(taken) => handed.after = taken.after + taken.items.len() as u64,
                // A run with client calls makes no further model request.
                Entry::ToolHanded(call) => handed.calls.push(call.call),
                _ => {}
            }
        }
        Ok(handed)
    }
}

/// The calls that a run handed to its client.
#[derive(Debug, Default)]
struct PendingClientCalls {
    calls: Vec<CallId>,
    /// The position of the last item that the run took.
    after: u64,
}

/// The key of the one input that answers the calls of a run.
pub(crate) fn answer_item_key(answers: &ClientToolResults, body: &[u8]) -> ItemKey {
    ItemKey {
        key: format!("answers:{}", answers.run),
        request: Digest::from_bytes(*blake3::hash(body).as_bytes()),
        lifetime: KeyLifetime::Forever,
    }
}

/// The fault for another answer to calls that were answered.
pub(crate) fn answered_otherwise(run: RunId) -> Fault {
    call_not_open(format!("the calls of {run} already have other results"))
}

fn call_not_open(text: String) -> Fault {
    Fault::new(ErrorCode::CallNotOpen, text)
        .with_hint("read the session with `dromia session show`, then continue with a message")
}
