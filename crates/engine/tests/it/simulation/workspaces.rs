//! A run whose input names a directory works there from its first call to its last, over a crash too, and no later run of the
//! session does.

use dromia_contracts::ErrorCode;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::EnginePort as _;
use dromia_contracts::workspace::RunWorkspace;

use super::rests::Scene;
use super::world::scope_of;

/// Asks for work in a directory, crashes in the middle of it, and returns where each call worked: those of the run, then those
/// of the next run of the session, whose input names nothing.
fn workspaces_of_calls(named: Option<&str>) -> [Vec<RunWorkspace>; 2] {
    let mut scene = Scene::new(7);
    let mut input = scene.input("look;look;look;look", false);
    input.workspace = named.map(|named| named.parse().expect("a reference"));
    let scope = scope_of(scene.world.places[0].tenant);
    let submitted = scene.sim.block_on(scene.engine.submit_input(scope, input)).expect("it ends");
    submitted.expect("nothing fails");
    scene.set(AgentState::Paused);
    scene.pass(1_000);
    assert_eq!(scene.run().head.status, RunStatus::Parked, "{:?}", scene.kinds());
    scene.crash();
    scene.engine.start();
    scene.set(AgentState::Running);
    scene.pass(5_000);
    let first = scene.run().id;
    scene.say("look", false).expect("nothing fails");
    scene.pass(5_000);
    let book = scene.world.witness.book();
    let calls = |of_first| {
        let of = book.executions.iter().filter(|call| (call.run == first) == of_first);
        of.map(|call| call.workspace.clone()).collect::<Vec<_>>()
    };
    [calls(true), calls(false)]
}

/// Counts the calls of the run that worked elsewhere than in `/srv/site`.
fn calls_elsewhere(calls: &[RunWorkspace]) -> usize {
    assert!(calls.len() > 1, "{calls:?}");
    let named = RunWorkspace::Directory("/srv/site:ro".parse().expect("a reference"));
    calls.iter().filter(|call| **call != named).count()
}

#[test]
fn a_run_works_in_its_named_directory_over_a_crash() {
    let [first, next] = workspaces_of_calls(Some("/srv/site:ro"));
    assert_eq!(calls_elsewhere(&first), 0, "{first:?}");
    assert!(!next.is_empty() && next.iter().all(|call| *call == RunWorkspace::Home), "{next:?}");
}

/// Planted fault: what the input names is dropped on its way.
#[test]
fn a_run_that_forgets_its_directory_is_caught() {
    let [first, _] = workspaces_of_calls(None);
    assert_eq!(calls_elsewhere(&first), first.len());
}

#[test]
fn a_directory_below_no_root_is_refused_before_the_input_is_stored() {
    let mut scene = Scene::new(8);
    let mut input = scene.input("look", false);
    input.workspace = "/etc".parse().ok();
    let scope = scope_of(scene.world.places[0].tenant);
    let refused = scene.sim.block_on(scene.engine.submit_input(scope, input)).expect("it ends");
    let fault = refused.expect_err("it is refused");
    assert_eq!((fault.code, &*fault.message), (ErrorCode::InvalidRequest, "workspace: lies below no root"));
    assert!(scene.world.runs(scene.world.tenants[0]).is_empty());
}
