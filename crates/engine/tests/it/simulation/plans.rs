//! Frozen plans across crashes: what a turn may do is said before anything untrusted comes to it, and a takeover finds the
//! same plan again, wherever the crash came.

use std::collections::BTreeMap;

use dromia_contracts::CallId;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;

use super::rests::Scene;
use super::world::{Lie, Options};

/// The tool that leads somewhere; the gate of the simulation asks whether that was planned.
pub(super) const WIRE: &str = "wire";

/// A turn that plans to wire to bob, reads somebody else's word, and then does what that word says.
const HIJACKED: &str = "plan.declare>bob;fetch;wire>bob;wire>eve;plan.declare>eve;wire>eve;wire>bob";

/// The same without a declaration: what was asked for in the step that read is planned, once.
const HIJACKED_LATER: &str = "fetch,wire>bob;wire>bob;wire>eve";

/// What was decided last about each call: its tool, whether it began, and how it stood to the plan.
type Decided = BTreeMap<CallId, (String, bool, Option<bool>)>;

impl Scene {
    fn decided(&self) -> Decided {
        let journal = self.world.journal(self.world.tenants[0], self.run().id);
        let decided = journal.iter().filter_map(|stored| match stored.decode() {
            Ok(Entry::ToolStarted(started)) => Some((started.call, (started.tool, true, started.in_plan))),
            Ok(Entry::ToolRefused(refused)) => Some((refused.call, (refused.tool, false, refused.in_plan))),
            _ => None,
        });
        decided.collect()
    }

    /// Tells whether anything was wired to somebody.
    fn reached(&self, whom: &str) -> bool {
        let book = self.world.witness.book();
        let leads = |arguments: &str| arguments.contains(&format!("\"to\":\"{whom}\""));
        book.executions.iter().any(|done| done.tool == WIRE && leads(&done.arguments))
    }
}

/// Lives through a turn, with a crash after so many milliseconds, if any.
fn turn(plan: &str, crash_after: Option<usize>, lie: Option<Lie>) -> Scene {
    let mut scene = Scene::with(31, Options { lie, ..Options::default() });
    scene.say(plan, false).expect("nothing fails");
    if let Some(milliseconds) = crash_after {
        scene.pass(milliseconds);
        scene.crash();
        scene.engine.start();
    }
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
    scene
}

fn expected(of: &[(u32, u32, &str, bool, Option<bool>)]) -> Decided {
    let one = |&(step, index, tool, began, in_plan): &(u32, u32, &str, bool, Option<bool>)| {
        (CallId { step, index }, (tool.to_owned(), began, in_plan))
    };
    of.iter().map(one).collect()
}

#[test]
fn an_unplanned_call_does_not_begin_after_untrusted_input() {
    let scene = turn(HIJACKED, None, None);
    let decided = expected(&[
        (1, 0, "plan.declare", true, None),
        (2, 0, "fetch", true, None),
        (3, 0, WIRE, true, Some(true)),
        (4, 0, WIRE, false, Some(false)),
        (5, 0, "plan.declare", false, None),
        (6, 0, WIRE, false, Some(false)),
        (7, 0, WIRE, false, Some(false)),
    ]);
    assert_eq!(scene.decided(), decided);
    assert!(scene.reached("bob") && !scene.reached("eve"));

    let scene = turn(HIJACKED_LATER, None, None);
    let decided = expected(&[
        (1, 0, "fetch", true, None),
        (1, 1, WIRE, true, Some(true)),
        (2, 0, WIRE, false, Some(false)),
        (3, 0, WIRE, false, Some(false)),
    ]);
    assert_eq!(scene.decided(), decided);
    assert!(!scene.reached("eve"));
}

#[test]
fn a_takeover_finds_the_same_plan_wherever_the_crash_came() {
    for plan in [HIJACKED, HIJACKED_LATER] {
        let whole = turn(plan, None, None).decided();
        let mut early = 0;
        for crash_after in (0..200).step_by(10) {
            let mut scene = Scene::with(31, Options::default());
            scene.say(plan, false).expect("nothing fails");
            scene.pass(crash_after);
            early += usize::from(scene.run().head.status == RunStatus::Running);
            let scene = turn(plan, Some(crash_after), None);
            assert_eq!(scene.decided(), whole, "{plan}, crashed after {crash_after} ms");
            assert!(!scene.reached("eve"), "{plan}, crashed after {crash_after} ms");
        }
        assert!(early > 1, "only {early} crashes came into the turn");
    }
}

/// Planted fault: a gate that takes every call for a planned one. The attack of the tests above passes.
#[test]
fn a_plan_membership_that_is_unplugged_is_caught() {
    for plan in [HIJACKED, HIJACKED_LATER] {
        assert!(!turn(plan, None, None).reached("eve"));
        assert!(turn(plan, None, Some(Lie::PlanHoldsAll)).reached("eve"), "{plan}: nothing notices it");
    }
}
