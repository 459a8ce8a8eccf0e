//! Claims about how many approvals a tenant has: so many are open and no more, and of the others the oldest go that nothing
//! moves any more.

use std::sync::Arc;

use dromia_contracts::approval::{Approval, ApprovalState, KEPT_MAX, OPEN_MAX, SWEEP_LOOKS_MAX};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{Batch, Mutation, Refusal, Store};
use dromia_contracts::{ApprovalId, RunId};

use super::approval::{answer, paid, parked, request};
use super::scene::{Scene, append, at};

/// How many requests one batch makes.
const AT_ONCE: usize = 128;

/// The id of the so-manieth request.
fn id(number: usize) -> ApprovalId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&u16::try_from(number).expect("few").to_be_bytes());
    ApprovalId::from_bytes(bytes)
}

/// A request of a run that went on without it.
fn asked(scene: &Scene, run: RunId, number: usize) -> Approval {
    Approval { id: id(number), state: ApprovalState::Waiting, released: true, ..request(scene, run, 1) }
}

/// The same, refused by somebody.
fn denied(scene: &Scene, run: RunId, number: usize) -> Approval {
    Approval { state: ApprovalState::Denied, ..asked(scene, run, number) }
}

fn ask(approval: Approval) -> Mutation {
    Mutation::ApprovalAsk(Box::new(approval))
}

async fn ask_all(scene: &Scene, approvals: &[Approval]) {
    for some in approvals.chunks(AT_ONCE) {
        scene.done(some.iter().cloned().map(ask).fold(scene.batch(), Batch::with)).await;
    }
}

/// Which of the first ones are there.
async fn left(scene: &Scene) -> Vec<usize> {
    let mut left = Vec::new();
    for number in 0..8 {
        if is_there(scene, number).await {
            left.push(number);
        }
    }
    left
}

async fn is_there(scene: &Scene, number: usize) -> bool {
    scene.store.approval(&scene.scope(), id(number)).await.expect("a read").is_some()
}

pub(super) async fn so_many_approvals_of_a_tenant_are_open_and_one_more_is_refused(store: Arc<dyn Store>) {
    let scene = Scene::open(Arc::clone(&store), 1).await;
    let run = scene.turn(0).await;
    let all: Vec<_> = (0..OPEN_MAX).map(|number| asked(&scene, run, number)).collect();
    ask_all(&scene, &all).await;
    let full = Refusal::ApprovalsFull { most: OPEN_MAX };
    let more = || scene.batch().with(ask(asked(&scene, run, OPEN_MAX)));
    assert_eq!(scene.refused(more()).await, full);
    assert!(!is_there(&scene, OPEN_MAX).await, "a refused batch leaves no row");
    scene.done(scene.batch().with(ask(asked(&scene, run, 3)))).await;
    // What nobody is asked about takes no place, and neither does what is asked for when the others have expired.
    scene.done(scene.batch().with(ask(denied(&scene, run, OPEN_MAX + 1)))).await;
    let late = Approval { asked_at: at(2_000), expires_at: at(3_000), ..asked(&scene, run, OPEN_MAX + 2) };
    scene.done(scene.batch().with(ask(late))).await;
    assert_eq!(scene.refused(more()).await, full);

    let other = Scene::open(store, 2).await;
    let theirs = other.turn(0).await;
    other.done(other.batch().with(ask(asked(&other, theirs, 0)))).await;

    // Two answers make room for the one that came late and for one more.
    for number in [5, 6] {
        assert_eq!(scene.refused(more()).await, full);
        scene.done(scene.batch().with(answer(id(number), ApprovalState::Waiting, false, 10))).await;
    }
    scene.done(more()).await;
    scene.done(more()).await;
    let next = scene.batch().with(ask(asked(&scene, run, OPEN_MAX + 3)));
    assert_eq!(scene.refused(next).await, full);
}

pub(super) async fn a_request_in_the_place_of_another_is_none_more(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let held = |number: usize| Approval { id: id(number), ..request(&scene, run, 1) };
    let mut all = vec![held(0)];
    all.extend((1..OPEN_MAX).map(|number| asked(&scene, run, number)));
    ask_all(&scene, &all).await;
    // What is asked for with the entry that rests for it, behind so many entries of the run.
    let rests = |number: usize, after: u64, replaces: Option<ApprovalId>| {
        let rest = append(run, 1, after, vec![parked(&held(number), replaces)], RunStatus::Parked);
        paid(scene.batch().with(ask(held(number))).with(Mutation::RunAppend(rest)))
    };
    let full = Refusal::ApprovalsFull { most: OPEN_MAX };
    assert_eq!(scene.refused(rests(OPEN_MAX, 2, None)).await, full);
    let import = Batch { payer: None, ..rests(OPEN_MAX, 2, Some(id(0))) };
    assert_eq!(scene.refused(import).await, full, "an import takes nothing back");
    let two = rests(OPEN_MAX, 2, Some(id(0))).with(ask(asked(&scene, run, OPEN_MAX + 1)));
    assert_eq!(scene.refused(two).await, full, "one of them is one more");
    assert!(!is_there(&scene, OPEN_MAX).await, "a refused batch leaves no row");

    let receipt = scene.done(rests(OPEN_MAX, 2, Some(id(0)))).await;
    let before = scene.store.approval(&scene.scope(), id(0)).await.expect("a read");
    assert_eq!(before.map(|approval| approval.state), Some(ApprovalState::Withdrawn));
    assert_eq!(scene.done(rests(OPEN_MAX, 2, Some(id(0)))).await, receipt, "the same batch again");
    assert_eq!(scene.refused(rests(OPEN_MAX + 1, 3, Some(id(0)))).await, full, "it makes room once");
    scene.done(rests(OPEN_MAX + 1, 3, Some(id(OPEN_MAX)))).await;
    assert_eq!(scene.refused(scene.batch().with(ask(held(OPEN_MAX + 2)))).await, full);
}

pub(super) async fn of_answered_approvals_the_oldest_go_and_none_that_may_still_be_moved(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    let ended = scene.turn(0).await;
    scene.replied(ended, "webhook:a").await;
    let open = scene.turn(1).await;
    let mut approvals = vec![
        Approval { expires_at: at(1), ..asked(&scene, ended, 0) },
        Approval { state: ApprovalState::Approved, ..asked(&scene, ended, 1) },
        denied(&scene, open, 2),
        asked(&scene, ended, 3),
        Approval { state: ApprovalState::Used, used_by: Some(open), ..asked(&scene, ended, 4) },
    ];
    approvals.extend((5..=KEPT_MAX).map(|number| denied(&scene, ended, number)));
    ask_all(&scene, &approvals).await;
    assert_eq!(
        left(&scene).await,
        [0, 1, 2, 3, 4, 5, 6, 7],
        "one of them is open, so there is place for one more"
    );
    let next = |number: usize| scene.batch().with(ask(denied(&scene, ended, KEPT_MAX + number)));
    scene.done(next(1)).await;
    assert_eq!(left(&scene).await, [1, 2, 3, 4, 5, 6, 7], "nobody answered it in time");
    scene.done(next(2)).await;
    assert_eq!(left(&scene).await, [1, 2, 3, 4, 6, 7], "the others may still be moved, or looked at");
    // The same batch again is the same request.
    scene.done(next(2)).await;
    assert_eq!(left(&scene).await, [1, 2, 3, 4, 6, 7]);
    scene.replied(open, "webhook:a").await;
    scene.done(next(3)).await;
    scene.done(next(4)).await;
    assert_eq!(left(&scene).await, [1, 3, 6, 7], "its runs have ended");

    let late = Approval { asked_at: at(2_000), expires_at: at(3_000), ..asked(&scene, ended, KEPT_MAX + 5) };
    scene.done(scene.batch().with(ask(late))).await;
    assert_eq!(left(&scene).await, [1, 6, 7], "the open one has expired by then");
}

pub(super) async fn approvals_that_may_not_go_hold_up_none_behind_them(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let ended = scene.turn(0).await;
    scene.replied(ended, "webhook:a").await;
    // More than one look sees: their agent may be paused.
    let stuck = SWEEP_LOOKS_MAX + 8;
    let approved = |number| Approval { state: ApprovalState::Approved, ..asked(&scene, ended, number) };
    let mut approvals: Vec<_> = (0..stuck).map(approved).collect();
    approvals.extend((stuck..KEPT_MAX).map(|number| denied(&scene, ended, number)));
    ask_all(&scene, &approvals).await;
    assert!(is_there(&scene, stuck).await, "there is place for all of them");
    for more in 0..3 {
        scene.done(scene.batch().with(ask(denied(&scene, ended, KEPT_MAX + more)))).await;
        assert!(!is_there(&scene, stuck + more).await, "{more}: the oldest behind them goes");
        assert!(is_there(&scene, stuck + more + 1).await, "{more}: one for one");
    }
    for number in [0, SWEEP_LOOKS_MAX - 1, SWEEP_LOOKS_MAX, stuck - 1] {
        assert!(is_there(&scene, number).await, "{number} may still begin");
    }
}
