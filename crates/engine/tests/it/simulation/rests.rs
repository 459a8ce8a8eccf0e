//! What the engine must find again by itself: runs that rest, commits that nobody heard of, refused takeovers, and
//! entries that only a newer version can read. One small calm world per claim.
//!
//! Each of these was found by a seed, or by reading the code beside one; the sweep would take longer to say it.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::entry::{Entry, HoldReason};
use dromia_contracts::label::Label;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::{EnginePort as _, InputReceipt, InputTarget, NewInput, NewToken, RunEndMode};
use dromia_contracts::store::{CommitRefusal, PageRequest, Store as _};
use dromia_contracts::token::{TokenScope, TokenScopes};
use dromia_contracts::{Actor, ErrorCode, Fault, ScopeAuthority};
use dromia_engine::Engine;
use dromia_testkit::SimExecutor;
use dromia_testkit::faulty::CommitFault;
use futures_util::future::{Either, select};

use super::store::Weather;
use super::world::{Options, World, scope_of};

/// What somebody says at a place.
pub(super) fn input_at(world: &World, place: usize, plan: &str, wait: bool) -> NewInput {
    let place = &world.places[place];
    let text = format!("r{plan}|{}|{plan}", place.name);
    NewInput {
        target: InputTarget::Key { agent: place.agent, key: place.key.clone() },
        author: Actor::new("cli:ada"),
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        call: None,
        workspace: None,
        when_busy: None,
        parts: vec![ContentPart::new_text(text, Label::ACTOR_TEXT)],
        key: None,
        wait,
    }
}

/// A calm world with one engine in it, and one place to talk.
pub(super) struct Scene {
    pub(super) sim: SimExecutor,
    pub(super) world: World,
    pub(super) weather: Arc<Weather>,
    pub(super) engine: Engine,
}

impl Scene {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, Options::default())
    }

    pub(super) fn with(seed: u64, options: Options) -> Self {
        let mut sim = SimExecutor::new(seed);
        let world = World::new(&mut sim, seed, options);
        world.calm();
        let weather = world.weather(false);
        let engine = world.engine(&weather);
        let scene = Self { sim, world, weather, engine };
        scene.weather.calm();
        scene.engine.start();
        scene
    }

    /// Crashes; the next engine has not started yet.
    pub(super) fn crash(&mut self) {
        self.sim.crash_tasks();
        self.weather = self.world.weather(false);
        self.weather.calm();
        self.engine = self.world.engine(&self.weather);
    }

    /// What somebody says at the first place.
    pub(super) fn input(&self, plan: &str, wait: bool) -> NewInput {
        input_at(&self.world, 0, plan, wait)
    }

    pub(super) fn say(&mut self, plan: &str, wait: bool) -> Result<InputReceipt, Fault> {
        let (scope, input) = (scope_of(self.world.places[0].tenant), self.input(plan, wait));
        self.sim.block_on(self.engine.submit_input(scope, input)).expect("submitting ends")
    }

    pub(super) fn set(&mut self, state: AgentState) {
        let place = &self.world.places[0];
        let set = self.engine.agent_set_state(scope_of(place.tenant), place.agent, state);
        self.sim.block_on(set).expect("it ends").expect("nothing fails");
    }

    pub(super) fn pass(&mut self, milliseconds: usize) {
        self.sim.block_on(self.world.sleep(milliseconds)).expect("time passes");
    }

    pub(super) fn run(&self) -> RunRecord {
        self.world.runs(self.world.tenants[0]).swap_remove(0)
    }

    pub(super) fn kinds(&self) -> Vec<String> {
        let journal = self.world.journal(self.world.tenants[0], self.run().id);
        journal.into_iter().map(|entry| entry.kind).collect()
    }

    /// A run that is parked because its agent was paused under it.
    pub(super) fn paused(seed: u64) -> Self {
        Self::paused_with(seed, Options::default())
    }

    pub(super) fn paused_with(seed: u64, options: Options) -> Self {
        let mut scene = Self::with(seed, options);
        scene.say("look;look;look;look", false).expect("nothing fails");
        scene.set(AgentState::Paused);
        scene.pass(1_000);
        assert_eq!(scene.run().head.status, RunStatus::Parked, "{:?}", scene.kinds());
        scene
    }
}

#[test]
fn restarts_during_a_pause_are_no_claims() {
    let mut scene = Scene::paused(1);
    let epoch = scene.run().epoch;
    for _ in 0..8 {
        scene.crash();
        scene.engine.start();
        scene.pass(6_000);
    }
    assert_eq!(scene.run().epoch, epoch);
    scene.set(AgentState::Running);
    scene.pass(5_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
}

#[test]
fn a_run_of_a_paused_agent_can_be_ended() {
    let mut scene = Scene::paused(2);
    let (tenant, run) = (scene.world.tenants[0], scene.run().id);
    let end = scene.engine.end_run(scope_of(tenant), run, RunEndMode::Cancel);
    scene.sim.block_on(end).expect("it ends").expect("nothing fails");
    scene.pass(1_000);
    assert_eq!(scene.run().head.status, RunStatus::Cancelled, "{:?}", scene.kinds());
}

#[test]
fn pauses_and_resumes_in_any_order_leave_nothing_behind() {
    for seed in 0..60 {
        let mut scene = Scene::new(seed);
        scene.say("look;look;look", false).expect("nothing fails");
        for _ in 0..3 {
            scene.set(AgentState::Paused);
            scene.pass(usize::try_from(seed % 40).expect("it is small"));
            scene.set(AgentState::Running);
        }
        scene.say("look", false).expect("nothing fails");
        scene.pass(4_000);
        assert_eq!(scene.world.unsettled(), None, "seed {seed}: {:?}", scene.kinds());
    }
}

#[test]
fn an_admission_with_a_lost_reply_runs_without_a_restart() {
    for (seed, fault) in [(3, CommitFault::Unheard), (4, CommitFault::Lost)] {
        let mut scene = Scene::new(seed);
        scene.weather.spoil_next(fault);
        let fault = scene.say("look", false).expect_err("the commit was spoiled");
        assert_eq!(fault.code, ErrorCode::OutcomeUnknown);
        scene.pass(20_000);
        assert_eq!(scene.world.unsettled(), None);
    }
}

#[test]
fn a_tenant_with_a_lost_reply_gets_its_token_later() {
    let mut scene = Scene::new(11);
    scene.weather.spoil_next(CommitFault::Unheard);
    let (operator, handle) = (ScopeAuthority::claim().issue_operator(), "acme".parse().expect("a handle"));
    let made = scene.engine.tenant_create(operator.clone(), handle, "default".to_owned());
    let fault = scene.sim.block_on(made).expect("it ends").expect_err("the commit was spoiled");
    assert_eq!(fault.code, ErrorCode::OutcomeUnknown);
    let hint = fault.hint.expect("a next step");
    assert!(hint.contains("`dromia --tenant acme token create NAME --scope admin`"), "{hint}");

    let handle = "acme".parse().expect("a handle");
    let found = scene.weather.tenant_by_handle(&operator, &handle);
    let tenant = scene.sim.block_on(found).expect("it ends").expect("a read").expect("it is there");
    let new = NewToken { name: "ada".to_owned(), scopes: TokenScopes::ADMIN, expires_at: None };
    let made = scene.engine.token_create(scope_of(tenant.id), new);
    let (token, _) = scene.sim.block_on(made).expect("it ends").expect("nothing fails");
    let (scope, page) = (scope_of(tenant.id), PageRequest::first_page(9));
    let listed = scene.weather.tokens(&scope, Some("ada"), page);
    assert_eq!(scene.sim.block_on(listed).expect("it ends"), Ok(vec![token]));
}

#[test]
fn a_token_without_name_or_scope_is_refused_before_writing() {
    let mut scene = Scene::new(12);
    let scope = scope_of(scene.world.tenants[0]);
    let read: TokenScopes = [TokenScope::Read].into_iter().collect();
    for (name, scopes, says) in
        [("a b", read, "1 to 64 visible"), ("ci", TokenScopes::default(), "one scope")]
    {
        let new = NewToken { name: name.to_owned(), scopes, expires_at: None };
        let made = scene.engine.token_create(scope.clone(), new);
        let fault = scene.sim.block_on(made).expect("it ends").expect_err("it is no token");
        assert_eq!(fault.code, ErrorCode::InvalidRequest);
        assert!(fault.message.contains(says), "{fault}");
    }
    let listed = scene.weather.tokens(&scope, None, PageRequest::first_page(9));
    let names: Vec<_> = scene.sim.block_on(listed).expect("it ends").expect("a read");
    assert!(names.iter().all(|token| token.name == "first"), "{names:?}");
}

#[test]
fn a_state_with_a_lost_reply_is_obeyed() {
    let mut scene = Scene::paused(5);
    let (tenant, agent) = (scene.world.places[0].tenant, scene.world.places[0].agent);
    scene.weather.spoil_next(CommitFault::Unheard);
    let set = scene.engine.agent_set_state(scope_of(tenant), agent, AgentState::Running);
    scene.sim.block_on(set).expect("it ends").expect_err("the commit was spoiled");
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
}

#[test]
fn a_signal_with_a_lost_reply_is_obeyed() {
    let mut scene = Scene::paused(6);
    let (tenant, run) = (scene.world.tenants[0], scene.run().id);
    scene.weather.spoil_next(CommitFault::Unheard);
    let end = scene.engine.end_run(scope_of(tenant), run, RunEndMode::Terminate);
    scene.sim.block_on(end).expect("it ends").expect_err("the commit was spoiled");
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Cancelled, "{:?}", scene.kinds());
}

#[test]
fn a_caller_is_answered_after_a_lost_final_reply() {
    let mut scene = Scene::new(7);
    let submitted = scene.say("", true).expect("nothing fails");
    scene.weather.spoil_next(CommitFault::Unheard);
    let outcome = submitted.outcome.expect("the caller waits");
    let patience = Box::pin(scene.world.sleep(60_000));
    let answer = match scene.sim.block_on(select(outcome, patience)).expect("one of them ends") {
        Either::Left((answer, _)) => answer.expect("the run has ended"),
        Either::Right(_) => panic!("nobody answers: {:?}", scene.kinds()),
    };
    assert_eq!(parts_text(&answer.reply.expect("it completed")), "done r");
    assert_eq!(answer.last_seq, scene.run().last_seq);
}

#[test]
fn a_takeover_refused_by_the_store_is_tried_again() {
    let mut scene = Scene::new(8);
    scene.say("look", false).expect("nothing fails");
    scene.crash();
    let full = CommitRefusal::ReadOnly { cause: "the disk is full".to_owned() };
    scene.weather.refuse_takeovers(vec![CommitRefusal::Overloaded, full]);
    scene.engine.start();
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
}

/// J7: an entry of tomorrow holds the run, input waits behind it, and the program of tomorrow goes on.
#[test]
fn an_unknown_entry_kind_holds_the_run_without_loss() {
    for (seed, foreign) in [(9, ("model_dreamed", 1)), (10, ("model_called", 9))] {
        let mut scene = Scene::new(seed);
        scene.say("look", false).expect("nothing fails");
        scene.crash();
        scene.world.look();
        scene.weather.read_as(Some(foreign));
        scene.engine.start();
        scene.pass(20_000);
        let run = scene.run();
        let last = scene.world.journal(scene.world.tenants[0], run.id).pop().expect("it has entries");
        assert_eq!(run.head.status, RunStatus::Held, "{:?}", scene.kinds());
        assert!(
            matches!(last.decode(), Ok(Entry::RunHeld(held)) if held.reason == HoldReason::Unreadable),
            "{last:?}"
        );
        scene.say("look", false).expect("admission does not depend on the run");

        scene.weather.read_as(None);
        let resume = scene.engine.resume_run(scope_of(scene.world.tenants[0]), run.id);
        scene.sim.block_on(resume).expect("it ends").expect("a held run can be released");
        scene.pass(20_000);
        assert_eq!(scene.world.unsettled(), None, "{:?}", scene.kinds());
        assert!(scene.world.runs(scene.world.tenants[0]).len() == 2, "both inputs are answered");
        scene.world.look();
        assert_eq!(scene.world.witness.book().wrong, Vec::<String>::new());
    }
}
