//! Work that is ended from outside: tasks that wait, runs that are open, and agents that ended right before a crash.

use dromia_contracts::agent::AgentState;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::ContentPart;
use dromia_contracts::entry::Entry;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, InputReceipt, InputTarget, KillTarget, NewInput};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{AgentStateSet, CommitOutcome, Mutation, Store as _, WriteBatch};
use dromia_contracts::task::PLATFORM;
use dromia_contracts::{Actor, AgentId, ErrorCode, Fault, RunId};
use dromia_testkit::faulty::CommitFault;

use super::rests::Scene;
use super::world::{at_once, scope_of};

impl Scene {
    /// Gives the first place's agent a task.
    fn spawn(&mut self, name: &str, wait: bool) -> InputReceipt {
        let actor = Actor::new("cli:ada");
        let key = SessionKey { platform: PLATFORM.to_owned(), channel: name.to_owned(), actor };
        let agent = self.world.places[0].agent;
        self.put(InputTarget::Fresh { agent, key }, name, wait)
    }

    fn put(&mut self, target: InputTarget, name: &str, wait: bool) -> InputReceipt {
        let input = NewInput {
            target,
            author: Actor::new("cli:ada"),
            history: Vec::new(),
            answers: None,
            offer: ClientOptions::default(),
            call: None,
            workspace: None,
            when_busy: None,
            parts: vec![ContentPart::new_text(
                format!("{name}|{name}|look;look;look;look"),
                Label::ACTOR_TEXT,
            )],
            key: None,
            wait,
        };
        let submitted = self.engine.submit_input(scope_of(self.world.places[0].tenant), input);
        self.sim.block_on(submitted).expect("submitting ends").expect("nothing fails")
    }

    fn try_kill(&mut self, agent: AgentId, what: KillTarget) -> Result<Vec<RunId>, Fault> {
        let kill = self.engine.agent_kill(scope_of(self.world.places[0].tenant), agent, what);
        self.sim.block_on(kill).expect("it ends")
    }

    fn kill(&mut self, what: KillTarget) -> Vec<RunId> {
        let agent = self.world.places[0].agent;
        self.try_kill(agent, what).expect("nothing fails")
    }

    fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|known| *known == kind).count()
    }
}

#[test]
fn a_run_of_a_terminated_agent_ends_after_a_crash() {
    let mut ended = 0;
    for seed in 0..20 {
        let mut scene = Scene::new(seed);
        scene.say("look;look;look;look", false).expect("nothing fails");
        // The state is durable, and no signal is.
        let (tenant, agent) = (scene.world.places[0].tenant, scene.world.places[0].agent);
        let set = AgentStateSet { agent, from: vec![AgentState::Running], to: AgentState::Terminated };
        let batch = WriteBatch::new(tenant).with_mutation(Mutation::AgentStateSet(set));
        let answer = at_once(scene.world.truth.commit(batch));
        assert!(matches!(answer, CommitOutcome::Done(_)), "{answer:?}");
        scene.crash();
        let (before, status) = (scene.count("model_called"), scene.run().head.status);
        scene.engine.start();
        scene.pass(20_000);
        if status.is_terminal() {
            continue;
        }
        assert_eq!(scene.run().head.status, RunStatus::Cancelled, "seed {seed}: {:?}", scene.kinds());
        assert_eq!(scene.count("model_called"), before, "seed {seed}: {:?}", scene.kinds());
        let last = scene.world.journal(tenant, scene.run().id).pop().expect("it has entries");
        let Ok(Entry::RunCancelled(cancelled)) = last.decode() else { panic!("{last:?}") };
        assert_eq!(cancelled.by, Actor::new("engine"), "nobody left a name");
        assert_eq!(scene.world.unsettled(), None, "seed {seed}");
        ended += 1;
    }
    assert!(ended > 0, "no run was open at its crash");
}

#[test]
fn ending_a_waiting_task_spares_inputs_of_others() {
    let mut scene = Scene::new(21);
    scene.set(AgentState::Paused);
    let first = scene.spawn("one", true);
    let second = scene.spawn("two", false);
    let said = scene.say("look", false).expect("nothing fails");
    assert_eq!((first.run, second.run, said.run), (None, None, None));

    let killed = scene.kill(KillTarget::Session(first.session));
    assert_eq!(
        (killed.len(), scene.kinds()),
        (1, vec!["run_started".to_owned(), "run_cancelled".to_owned()])
    );
    let outcome = scene.sim.block_on(first.outcome.expect("the caller waits")).expect("it is answered");
    let outcome = outcome.expect("the run has ended");
    assert_eq!((outcome.run, outcome.head.status), (killed[0], RunStatus::Cancelled));
    assert_eq!(scene.kill(KillTarget::Session(first.session)), [], "asking twice changes nothing");

    assert_eq!(scene.kill(KillTarget::All).len(), 1, "the other task, and nothing that was said");
    scene.set(AgentState::Running);
    scene.pass(5_000);
    let runs = scene.world.runs(scene.world.tenants[0]);
    let of = |session| runs.iter().find(|run| run.session == session).expect("it has a run").head.status;
    assert_eq!(runs.len(), 3);
    assert_eq!(
        [of(first.session), of(second.session), of(said.session)],
        [RunStatus::Cancelled, RunStatus::Cancelled, RunStatus::Completed]
    );
    assert_eq!(scene.world.unsettled(), None);
    let tasks = scene.engine.engine_load().tasks;
    assert_eq!((tasks.pending, tasks.running, tasks.completed, tasks.failed), (3, 1, 1, 2));
}

#[test]
fn ending_all_runs_of_an_agent_leaves_the_agent_running() {
    let mut cancelled = 0;
    for seed in 0..20 {
        let mut scene = Scene::new(seed);
        let task = scene.spawn("one", false).session;
        let ended = scene.kill(KillTarget::All);
        scene.pass(5_000);
        let run = scene.run();
        assert_eq!((run.session, scene.world.unsettled()), (task, None), "seed {seed}");
        // One that had said all it had to say when it was told may end well.
        let was_ended = run.head.status == RunStatus::Cancelled;
        assert!(!was_ended || ended == [run.id], "seed {seed}: {ended:?}");
        cancelled += usize::from(was_ended);
        assert_eq!(scene.kill(KillTarget::All), []);
        scene.spawn("two", false);
        scene.pass(5_000);
        let last = scene.world.runs(scene.world.tenants[0]).pop().expect("it has a run");
        assert_eq!((last.head.status, scene.world.unsettled()), (RunStatus::Completed, None), "seed {seed}");
    }
    assert!(cancelled > 0, "no run was ended in the middle");
}

#[test]
fn ending_a_task_ends_the_inputs_behind_its_run() {
    let mut parked = 0;
    for seed in 0..20 {
        for what in ["session", "all"] {
            let mut scene = Scene::new(seed);
            let task = scene.spawn("one", false).session;
            scene.set(AgentState::Paused);
            scene.pass(1_000);
            let was_parked = scene.run().head.status == RunStatus::Parked;
            let behind = scene.put(InputTarget::Session(task), "two", false);
            assert_eq!(behind.run, None, "its agent is paused");
            let ended = scene.kill(if what == "all" { KillTarget::All } else { KillTarget::Session(task) });
            assert_eq!(ended.len(), 1 + usize::from(was_parked), "seed {seed}, {what}: {ended:?}");
            scene.set(AgentState::Running);
            scene.pass(5_000);
            let runs = scene.world.runs(scene.world.tenants[0]);
            assert_eq!((runs.len(), scene.world.unsettled()), (2, None), "seed {seed}, {what}");
            let is_ended = |run: &RunId| {
                let of = runs.iter().find(|row| row.id == *run);
                of.is_some_and(|row| row.head.status == RunStatus::Cancelled)
            };
            assert!(ended.iter().all(is_ended), "seed {seed}, {what}: {runs:?}");
            parked += usize::from(was_parked);
        }
    }
    assert!(parked > 0, "no run was open when its task was ended");
}

#[test]
fn ending_a_run_of_another_agent_is_refused() {
    let mut scene = Scene::new(23);
    let task = scene.spawn("one", false);
    scene.pass(5_000);
    let run = scene.run().id;
    let other = scene.world.agents[1].1;
    for (what, code) in [
        (KillTarget::Run(run), ErrorCode::RunNotFound),
        (KillTarget::Session(task.session), ErrorCode::SessionNotFound),
    ] {
        assert_eq!(scene.try_kill(other, what).expect_err("it is another's").code, code);
    }
    assert_eq!(scene.try_kill(other, KillTarget::All).expect("nothing is there"), []);
    let ended = scene.try_kill(scene.world.places[0].agent, KillTarget::Run(run)).expect_err("it has ended");
    assert_eq!((ended.code, scene.run().head.status), (ErrorCode::RunTerminal, RunStatus::Completed));
}

#[test]
fn the_caller_of_a_task_is_answered_despite_lost_replies() {
    let mut scene = Scene::new(24);
    scene.set(AgentState::Paused);
    let task = scene.spawn("one", true);
    scene.weather.spoil_next(CommitFault::Unheard);
    let (agent, what) = (scene.world.places[0].agent, KillTarget::Session(task.session));
    let fault = scene.try_kill(agent, what).expect_err("the commit was spoiled");
    assert_eq!(fault.code, ErrorCode::OutcomeUnknown);
    let outcome = scene.sim.block_on(task.outcome.expect("the caller waits")).expect("it is answered");
    assert_eq!(outcome.expect("the run has ended").head.status, RunStatus::Cancelled);
}
