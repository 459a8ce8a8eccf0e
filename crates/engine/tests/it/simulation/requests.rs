//! What a model was sent, asked for later: exactly what it was, or a refusal that says why.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, SentRequest};
use dromia_contracts::{ErrorCode, Fault, RunId};

use super::rests::Scene;
use super::world::scope_of;

/// A word of the description of a tool.
const SHOWN: &str = "Does post.";

impl Scene {
    pub(super) fn request(
        &mut self,
        run: RunId,
        step: u32,
        attempt: Option<u32>,
    ) -> Result<SentRequest, Fault> {
        let asked = self.engine.rebuild_request(scope_of(self.world.tenants[0]), run, step, attempt);
        self.sim.block_on(asked).expect("it ends")
    }

    /// The attempts of a run, by step and attempt.
    pub(super) fn attempts(&self, run: RunId) -> Vec<(u32, u32)> {
        let journal = self.world.journal(self.world.tenants[0], run);
        let called = journal.iter().filter_map(|stored| match stored.decode() {
            Ok(Entry::ModelCalled(called)) => Some((called.step, called.attempt)),
            _ => None,
        });
        called.collect()
    }
}

/// Planted fault: a takeover that asks with the tools of the day instead of those that its run is pinned to.
#[test]
fn a_run_that_was_taken_over_goes_on_with_the_prompt_that_it_is_pinned_to() {
    let mut scene = Scene::new(21);
    scene.say("look;look", false).expect("nothing fails");
    let run = scene.run().id;
    scene.world.outside = Arc::new(scene.world.outside.with_tools(Vec::new()));
    scene.crash();
    scene.engine.start();
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
    let attempts = scene.attempts(run);
    assert!(attempts.len() >= 3, "{attempts:?}");
    for (step, attempt) in attempts {
        let told = scene.request(run, step, Some(attempt)).expect("it can be told");
        let body = String::from_utf8_lossy(&told.body).into_owned();
        assert!(body.contains(SHOWN), "step {step}, attempt {attempt}: {body}");
    }
    // The next run is pinned to what there is now.
    scene.say("look", false).expect("nothing fails");
    scene.pass(20_000);
    let next = scene.world.runs(scene.world.tenants[0]).pop().expect("two runs").id;
    let told = scene.request(next, 1, None).expect("it can be told");
    let body = String::from_utf8_lossy(&told.body).into_owned();
    assert!(!body.contains(SHOWN) && body.contains("done rlook;look"), "{body}");
}

/// Planted fault: an engine that takes a prompt for pinned because another agent of the tenant pinned the same one, which
/// then goes with that agent.
#[test]
fn a_prompt_that_went_with_one_agent_is_there_for_the_next_that_has_the_same() {
    let mut scene = Scene::new(26);
    let tenant = scene.world.tenants[0];
    let prompt = |scene: &Scene, run: RunId| match scene.world.journal(tenant, run)[0].decode() {
        Ok(Entry::RunStarted(started)) => started.prompt,
        other => panic!("a journal begins with its start: {other:?}"),
    };
    scene.say("look", false).expect("nothing fails");
    scene.pass(20_000);
    let first = prompt(&scene, scene.run().id);
    let gone = scene.engine.agent_delete(scope_of(tenant), scene.world.places[0].agent);
    scene.sim.block_on(gone).expect("it ends").expect("nothing fails");

    // The next place of the tenant is one of its other agent.
    let deleted = scene.world.places[0].agent;
    scene.world.places.retain(|place| place.agent != deleted);
    scene.say("look", false).expect("nothing fails");
    scene.pass(20_000);
    let run = scene.run();
    assert_eq!((run.head.status, prompt(&scene, run.id)), (RunStatus::Completed, first));
    assert!(scene.request(run.id, 1, None).is_ok(), "the run names a prompt that is there");
}

#[test]
fn a_request_is_told_exactly_or_not_at_all() {
    let mut scene = Scene::new(22);
    scene.say("look", false).expect("nothing fails");
    scene.pass(20_000);
    let run = scene.run().id;
    let told = scene.request(run, 2, None).expect("it can be told");
    assert_eq!((told.step, told.attempt, told.alias.as_str()), (2, 1, "script"));
    assert_eq!(scene.request(run, 2, Some(1)), Ok(told));

    let absent = [(3, None), (2, Some(2)), (0, None)];
    for (step, attempt) in absent {
        let fault = scene.request(run, step, attempt).expect_err("it made no such call");
        assert_eq!(fault.code, ErrorCode::RequestNotFound, "{fault}");
    }
    let stranger = scope_of(scene.world.tenants[1]);
    let asked = scene.engine.rebuild_request(stranger, run, 2, None);
    let fault = scene.sim.block_on(asked).expect("it ends").expect_err("it belongs to somebody else");
    assert_eq!(fault.code, ErrorCode::RunNotFound);

    scene.world.outside.other_words.store(true, Ordering::SeqCst);
    let fault = scene.request(run, 2, None).expect_err("its bytes would be others");
    assert_eq!(fault.code, ErrorCode::RequestUnavailable);
    assert!(fault.message.contains("script/1"), "{fault}");
    scene.world.outside.other_words.store(false, Ordering::SeqCst);

    // As a program of before wrote it, the entry proves nothing.
    scene.weather.read_as(Some(("model_called", 1)));
    let fault = scene.request(run, 2, None).expect_err("it has no digest");
    assert_eq!(fault.code, ErrorCode::RequestUnavailable);
    assert!(fault.message.contains("has no digest"), "{fault}");
    scene.weather.read_as(Some(("model_called", 9)));
    let fault = scene.request(run, 2, None).expect_err("it cannot be read");
    assert_eq!(fault.code, ErrorCode::JournalUnreadable);
}

#[test]
fn an_input_that_fits_no_window_fails_its_run_and_the_next_one_is_answered() {
    let mut scene = Scene::new(23);
    let outcome = scene.say("endless", true).expect("it is durable").outcome.expect("the caller waits");
    let outcome = scene.sim.block_on(outcome).expect("it ends").expect("the run ends");
    let failure = outcome.failure.expect("it fails");
    assert_eq!((outcome.head.status, failure.code), (RunStatus::Failed, ErrorCode::ContextExceeded));
    assert_eq!(scene.kinds(), ["run_started", "run_failed"]);
    // Behind a turn at work: what waits behind the one that fails is found without anybody's help.
    for plan in ["look", "endless", "endless", "look"] {
        scene.say(plan, false).expect("it is durable");
    }
    scene.pass(4_000);
    let runs = scene.world.runs(scene.world.tenants[0]);
    let ended: Vec<_> = runs.iter().map(|run| run.head.status).collect();
    let (failed, completed) = (RunStatus::Failed, RunStatus::Completed);
    assert_eq!(ended, [failed, completed, failed, failed, completed]);
}
