//! B2: a run that is parked holds no task and no place in a queue, whatever it is parked for. The engine is asked at rest: no
//! task can run on before the clock moves, so what it still counts is held by somebody who waits.

use std::sync::atomic::Ordering;

use dromia_contracts::ApprovalId;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::runs::{ApprovalDecision, ApprovalReach, EngineLoad, EnginePort as _};
use dromia_contracts::store::ApprovalFilter;
use jiff::{SignedDuration, Timestamp};

use super::approvals::{self, GATED};
use super::rests::Scene;
use super::world::{Lie, Options, scope_of};

/// Worlds with a model that is unwell.
const SEEDS: u64 = 40;
/// Looks at one world, 20 ms apart: longer than its run lasts.
const LOOKS: usize = 10_000;
const PLAN: &str = "look;look;look;look";

/// Tells whether the run rests, or says what the engine holds for it all the same.
fn judged(run: &RunRecord, now: Timestamp, load: EngineLoad) -> Result<bool, String> {
    let rests = run.head.status == RunStatus::Parked && run.head.wake_at.is_none_or(|at| at > now);
    if rests && load.active + load.ready > 0 {
        return Err(format!("{} is parked until {:?}, and there is {load:?}", run.id, run.head.wake_at));
    }
    Ok(rests)
}

/// Lets everything run that can, and looks at the only run.
fn look(scene: &mut Scene) -> Result<bool, String> {
    scene.sim.run_until_idle().expect("the tasks come to rest");
    judged(&scene.run(), scene.world.runtime.clock.now(), scene.engine.engine_load())
}

#[test]
fn a_run_parked_for_a_retry_holds_no_task() {
    let (mut rested, mut worked) = (0, 0);
    for seed in 0..SEEDS {
        let mut scene = Scene::new(seed);
        scene.world.outside.storm.store(true, Ordering::SeqCst);
        scene.say(PLAN, false).expect("nothing fails");
        for _ in 0..LOOKS {
            scene.pass(20);
            let rests = look(&mut scene).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
            rested += usize::from(rests);
            worked += usize::from(!rests && scene.engine.count_active_runs() == 1);
            if scene.run().head.status.is_terminal() {
                break;
            }
        }
        let status = scene.run().head.status;
        assert!(status.is_terminal(), "seed {seed}: it is {status:?}: {:?}", scene.kinds());
    }
    // Worlds without a pause, or a count that never counts, prove nothing.
    assert!(rested > 0 && worked > 0, "it rested {rested} times and worked {worked} times");
}

#[test]
fn a_run_that_waits_for_an_approval_holds_no_task() {
    let mut scene = Scene::with(2, Options { approvals: true, ..Options::default() });
    scene.say(GATED, false).expect("nothing fails");
    scene.pass(500);
    assert_eq!(look(&mut scene), Ok(true), "{:?}", scene.kinds());
    let tenant = scene.world.tenants[0];
    let asked = approvals::all(&scene.world, tenant, ApprovalFilter::default());
    let [asked] = asked.as_slice() else { panic!("one call is asked for: {asked:?}") };
    let answer = ApprovalDecision::Approve(ApprovalReach::Once);
    let answered = scene.engine.approval_answer(scope_of(tenant), asked.id, Vec::new(), answer);
    scene.sim.block_on(answered).expect("it ends").expect("nothing fails");
    scene.pass(5_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
}

/// Allows calls by one answer.
fn allow(scene: &mut Scene, calls: &[ApprovalId]) {
    let (first, also) = calls.split_first().expect("one at least");
    let tenant = scope_of(scene.world.tenants[0]);
    let answer = ApprovalDecision::Approve(ApprovalReach::Once);
    let answered = scene.engine.approval_answer(tenant, *first, also.to_vec(), answer);
    scene.sim.block_on(answered).expect("it ends").expect("nothing fails");
}

/// Three calls of one step are asked for. The first is allowed, and while it runs one answer allows both others: two signals
/// come with one commit to a run at work, which finds both with one look. Returns how many calls began before the run would have
/// gone on without them, for each world in which the first one was still running.
fn begun_by_one_answer(lie: Option<Lie>) -> Vec<usize> {
    let mut begun = Vec::new();
    for seed in 0..10 {
        let mut scene = Scene::with(seed, Options { approvals: true, lie, ..Options::default() });
        scene.say(&[GATED; 3].join(","), false).expect("nothing fails");
        scene.pass(200);
        let asked = approvals::all(&scene.world, scene.world.tenants[0], ApprovalFilter::default());
        let mut asked: Vec<_> = asked.iter().map(|approval| (approval.source.call, approval.id)).collect();
        asked.sort_unstable();
        let ids: Vec<_> = asked.into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), 3, "{:?}", scene.kinds());
        allow(&mut scene, &ids[..1]);
        let count = |scene: &Scene, kind: &str| scene.kinds().iter().filter(|one| *one == kind).count();
        while count(&scene, "tool_started") == 0 {
            scene.pass(1);
        }
        let runs_still = count(&scene, "tool_finished") == 0;
        allow(&mut scene, &ids[1..]);
        scene.pass(800);
        if runs_still {
            begun.push(count(&scene, "tool_started"));
        }
    }
    assert!(!begun.is_empty(), "no answer came while a call ran");
    begun
}

#[test]
fn two_signals_that_one_look_finds_are_both_taken() {
    let begun = begun_by_one_answer(None);
    assert!(begun.iter().all(|begun| *begun == 3), "{begun:?}");
}

#[test]
fn a_look_that_takes_one_of_two_signals_is_caught() {
    let begun = begun_by_one_answer(Some(Lie::ShowsOneSignal));
    assert!(begun.iter().any(|begun| *begun < 3), "nothing notices it: {begun:?}");
}

#[test]
fn a_run_of_a_paused_agent_holds_no_task() {
    let mut scene = Scene::new(3);
    scene.say(PLAN, false).expect("nothing fails");
    scene.set(AgentState::Paused);
    scene.pass(1_000);
    assert_eq!(look(&mut scene), Ok(true), "{:?}", scene.kinds());
}

#[test]
fn a_parked_run_that_keeps_its_task_is_caught() {
    let mut scene = Scene::new(4);
    scene.say(PLAN, false).expect("nothing fails");
    let mut looks = 0;
    // Into the middle of a call.
    while look(&mut scene) != Ok(false) || scene.engine.count_active_runs() != 1 {
        looks += 1;
        assert!(looks < 500, "it never works: {:?}", scene.kinds());
        scene.pass(1);
    }
    // What the store would say of a run whose owner waits in its task.
    let now = scene.world.runtime.clock.now();
    let mut run = scene.run();
    run.head.status = RunStatus::Parked;
    run.head.wake_at = now.checked_add(SignedDuration::from_secs(1)).ok();
    let found = judged(&run, now, scene.engine.engine_load()).expect_err("its task is seen");
    assert!(found.contains("is parked until"), "{found}");
}
