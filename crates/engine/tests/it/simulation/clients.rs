//! The people and systems outside: they send inputs, send them again, end runs, pause agents and wait for answers.
//!
//! What they hear goes to the witness; what an answer promises is compared with the store at once. They never
//! look into the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dromia_contracts::agent::AgentState;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::entry::Entry;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, InputTarget, NewInput, RunEndMode, RunOutcome};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{ItemKey, KeyLifetime};
use dromia_contracts::{Actor, Digest, ErrorCode, TenantId};
use dromia_engine::Engine;

use super::approvals::GATED;
use super::policies::taken_items;
use super::world::{World, scope_of};

/// The most that a client says in one life.
const OPERATIONS: usize = 9;
/// The most inputs of a world.
const REQUESTS_MAX: usize = 40;
const CALLS: [&str; 9] = ["look", "set", "pay", "post", "post", "send", "forbidden", "garbled", "nonsense"];

/// Somebody outside, in one life of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) engine: Engine,
}

impl Client {
    /// Does a few things, a moment apart.
    pub(crate) async fn live(self, busy: Arc<AtomicUsize>) {
        for _ in 0..OPERATIONS {
            self.world.sleep(self.world.chance.below(900)).await;
            if self.world.options.approvals && self.world.chance.one_in(2) {
                self.answer_a_call().await;
            }
            match self.world.chance.below(20) {
                0..=10 => self.say_something().await,
                11 | 12 => self.say_again().await,
                13 | 14 => self.end_a_run().await,
                15 | 16 => self.pause_an_agent().await,
                17 => self.wake_an_agent().await,
                _ => self.resume_a_run().await,
            }
        }
        busy.fetch_sub(1, Ordering::SeqCst);
    }

    async fn say_something(&self) {
        let chance = &self.world.chance;
        let place = chance.below(self.world.places.len());
        let (name, tenant) = (self.world.places[place].name.clone(), self.world.places[place].tenant);
        let others: Vec<&str> = self
            .world
            .places
            .iter()
            .filter(|other| other.tenant == tenant)
            .map(|other| &*other.name)
            .collect();
        let asks = self.world.options.approvals;
        let call = || {
            if asks && chance.one_in(3) {
                return GATED.to_owned();
            }
            match CALLS[chance.below(CALLS.len())] {
                "send" => format!("send>{}", others[chance.below(others.len())]),
                call => call.to_owned(),
            }
        };
        let step = || (0..=chance.below(3)).map(|_| call()).collect::<Vec<_>>().join(",");
        let plan = (0..chance.below(4)).map(|_| step()).collect::<Vec<_>>().join(";");
        let number = {
            let mut book = self.world.witness.book();
            if book.requests.len() >= REQUESTS_MAX {
                return;
            }
            let number = book.request(place, chance.one_in(2), |number| format!("r{number}|{name}|{plan}"));
            if self.world.options.policies
                && let Some(request) = book.requests.get_mut(&number)
            {
                (request.author, request.when_busy) = super::policies::draw(chance);
            }
            number
        };
        self.submit(number).await;
    }

    async fn say_again(&self) {
        let keyed: Vec<u32> = {
            let book = self.world.witness.book();
            book.requests.iter().filter(|(_, request)| request.keyed).map(|(number, _)| *number).collect()
        };
        if !keyed.is_empty() {
            self.submit(keyed[self.world.chance.below(keyed.len())]).await;
        }
    }

    /// Sends an input; tells whether it was acknowledged.
    pub(crate) async fn submit(&self, number: u32) -> bool {
        let request = self.world.witness.book().requests[&number].clone();
        let place = &self.world.places[request.place];
        let known = self.world.witness.book().sessions.get(&place.name).copied();
        let target = match known.filter(|_| self.world.chance.one_in(2)) {
            Some(session) => InputTarget::Session(session),
            None => InputTarget::Key { agent: place.agent, key: place.key.clone() },
        };
        let digest = || Digest::from_bytes(*blake3::hash(request.text.as_bytes()).as_bytes());
        let input = NewInput {
            target,
            author: Actor::new(request.author),
            history: Vec::new(),
            answers: None,
            offer: ClientOptions::default(),
            call: None,
            workspace: None,
            when_busy: request.when_busy,
            parts: vec![ContentPart::new_text(request.text.clone(), Label::ACTOR_TEXT)],
            key: request.keyed.then(|| ItemKey {
                key: format!("client:{}:{number}", place.name),
                request: digest(),
                lifetime: KeyLifetime::Day,
            }),
            wait: self.world.chance.one_in(2),
        };
        let submitted = match self.world.called(self.engine.submit_input(scope_of(place.tenant), input)).await
        {
            Some(Ok(submitted)) => submitted,
            // He hung up, and may send it again.
            None => return false,
            Some(Err(fault)) => {
                if !is_trouble(fault.code) {
                    self.world.witness.blame("S3", &format!("input {number} was refused: {fault:?}"));
                }
                return false;
            }
        };
        let inbox = self.world.inbox(place.tenant, InboxOwner::Session(submitted.session));
        if !inbox.iter().any(|item| (item.id, item.position) == (submitted.item, submitted.position)) {
            self.world.witness.blame("C4", &format!("input {number} was acknowledged and is not stored"));
        }
        let waiter = {
            let mut book = self.world.witness.book();
            book.sessions.insert(place.name.clone(), submitted.session);
            book.acknowledge(number, submitted.item, submitted.session, submitted.position);
            submitted.outcome.map(|outcome| (outcome, (number, book.tick())))
        };
        if let Some((outcome, waiter)) = waiter {
            self.world.witness.book().waiting.insert(waiter);
            let (world, tenant) = (Arc::clone(&self.world), place.tenant);
            self.world.runtime.spawn.spawn(Box::pin(async move {
                let answer = outcome.await;
                world.witness.book().waiting.remove(&waiter);
                if let Ok(outcome) = answer {
                    heard(&world, tenant, number, &outcome);
                }
            }));
        }
        true
    }

    async fn end_a_run(&self) {
        let tenant = self.world.tenants[self.world.chance.below(self.world.tenants.len())];
        let runs = self.world.runs(tenant);
        let open: Vec<_> = runs.iter().filter(|run| !run.head.status.is_terminal()).collect();
        if open.is_empty() {
            return;
        }
        let end = if self.world.chance.one_in(2) { RunEndMode::Cancel } else { RunEndMode::Terminate };
        let run = open[self.world.chance.below(open.len())].id;
        // It may have ended in between, or the store may be in trouble; a person would ask again.
        let _answer = self.world.called(self.engine.end_run(scope_of(tenant), run, end)).await;
    }

    async fn pause_an_agent(&self) {
        let (tenant, agent) = self.world.agents[self.world.chance.below(self.world.agents.len())];
        let paused = self.engine.agent_set_state(scope_of(tenant), agent, AgentState::Paused);
        let _answer = self.world.called(paused).await;
        self.world.sleep(self.world.chance.below(3_000)).await;
        if !self.world.chance.one_in(4) {
            let woken = self.engine.agent_set_state(scope_of(tenant), agent, AgentState::Running);
            let _answer = self.world.called(woken).await;
        }
    }

    async fn wake_an_agent(&self) {
        let (tenant, agent) = self.world.agents[self.world.chance.below(self.world.agents.len())];
        let woken = self.engine.agent_set_state(scope_of(tenant), agent, AgentState::Running);
        let _answer = self.world.called(woken).await;
    }

    async fn resume_a_run(&self) {
        let tenant = self.world.tenants[self.world.chance.below(self.world.tenants.len())];
        let runs = self.world.runs(tenant);
        let rests = |status| matches!(status, RunStatus::Yielded | RunStatus::Held);
        for run in runs.iter().filter(|run| rests(run.head.status)) {
            let _answer = self.world.called(self.engine.resume_run(scope_of(tenant), run.id)).await;
        }
    }

    /// Puts right what people put right: wakes every agent, lets held runs go, and sends again what nobody
    /// acknowledged and may be sent again. Then waits until everything is settled, or says what is not.
    pub(crate) async fn heal(&self) -> Option<String> {
        for (tenant, agent) in self.world.paused() {
            let answer = self.engine.agent_set_state(scope_of(tenant), agent, AgentState::Running).await;
            if let Err(fault) = answer {
                self.world.witness.blame("B", &format!("an agent does not wake: {fault:?}"));
            }
        }
        let keyed: Vec<u32> = {
            let book = self.world.witness.book();
            let open = book.requests.iter().filter(|(_, request)| request.keyed && request.ack.is_none());
            open.map(|(number, _)| *number).collect()
        };
        for number in keyed {
            if !self.submit(number).await {
                self.world.witness.blame("S3", &format!("input {number} was refused in calm weather"));
            }
        }
        for _ in 0..300 {
            self.world.sleep(2_000).await;
            self.world.unsettled()?;
            for tenant in &self.world.tenants {
                for run in self.world.runs(*tenant) {
                    if run.head.status == RunStatus::Held {
                        let _answer = self.engine.resume_run(scope_of(*tenant), run.id).await;
                    }
                }
            }
        }
        self.world.unsettled()
    }
}

/// Tells whether a refusal is of the kind that a storm brings.
fn is_trouble(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutcomeUnknown
            | ErrorCode::StoreReadOnly
            | ErrorCode::StoreUnavailable
            | ErrorCode::Overloaded
    )
}

/// D1: what a caller hears is what the store holds.
fn heard(world: &World, tenant: TenantId, number: u32, outcome: &RunOutcome) {
    world.witness.book().outcomes += 1;
    let blame = |what: &str| world.witness.blame("D1", &format!("the answer to input {number}: {what}"));
    let Some(run) = world.runs(tenant).into_iter().find(|run| run.id == outcome.run) else {
        return blame("its run is not stored");
    };
    if (run.head, run.last_seq) != (outcome.head, outcome.last_seq) || !run.head.status.is_terminal() {
        blame("its run stands elsewhere");
    }
    let journal = world.journal(tenant, run.id);
    let entries: Vec<Entry> = journal.iter().filter_map(|entry| entry.decode().ok()).collect();
    let item = world.witness.book().requests[&number].ack.map(|ack| ack.item);
    if !item.is_some_and(|item| taken_items(&entries).contains(&item)) {
        blame("its run took another input");
    }
}
