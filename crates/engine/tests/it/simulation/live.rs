//! Live output of calls: watchers hear it while the call runs, nothing of it is journaled, and a watcher that takes
//! nothing holds nobody up.

use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, LiveEvent};
use dromia_contracts::tool::LIVE_PIECE_BYTES_MAX;
use futures_util::StreamExt as _;

use super::rests::Scene;
use super::world::scope_of;

const PLAN: &str = "look;look;look;look";

#[test]
fn watchers_see_output_of_a_call_before_its_durable_result() {
    let mut scene = Scene::new(31);
    scene.say(PLAN, false).expect("nothing fails");
    let (scope, run) = (scope_of(scene.world.tenants[0]), scene.run().id);
    let mut watches = Vec::new();
    for _ in 0..2 {
        let watch = scene.engine.watch_run(scope.clone(), run);
        watches.push(scene.sim.block_on(watch).expect("it ends").expect("it is there"));
    }
    // Nobody takes anything off the two watches until the run has ended.
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
    for watch in watches {
        let seen: Vec<LiveEvent> = scene.sim.block_on(watch.collect()).expect("it ends with its run");
        let mut heard = 0;
        let (mut open, mut last) = (None, 0);
        for live in seen {
            match live {
                LiveEvent::Committed { seq, .. } => {
                    last = seq;
                    open = None;
                }
                LiveEvent::Output { call, offset, bytes, text } => {
                    assert_eq!(text, format!("r{PLAN}.{}.{}", call.step - 1, call.index));
                    assert_eq!((offset, bytes), (0, text.len() as u64), "what is too long is dropped");
                    assert!(text.len() <= LIVE_PIECE_BYTES_MAX);
                    assert_eq!(open.replace(call), None, "each call speaks once, after {last}");
                    heard += 1;
                }
                LiveEvent::Delta { .. } => {}
                LiveEvent::Lagged => panic!("a few pieces fit the buffer"),
            }
        }
        assert!(heard > 0, "nothing was heard");
    }
    let journal = scene.world.journal(scene.world.tenants[0], run);
    let bodies = journal.iter().filter_map(|entry| entry.body.as_deref());
    let told = bodies.filter(|body| String::from_utf8_lossy(body).contains("xxxx")).count();
    assert_eq!(told, 0, "what was only said live is in the journal");
}
