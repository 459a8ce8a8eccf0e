//! Claims about how many approvals a tenant has: so many are open and no more, and of the others the oldest go that nothing
//! moves any more.

use std::sync::Arc;

use dromia_contracts::approval::{
    ApprovalDeadlines, ApprovalRequest, ApprovalState, KEPT_MAX, OPEN_MAX, SWEEP_LOOKS_MAX,
};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{CommitRefusal, Mutation, Store, WriteBatch};
use dromia_contracts::{ApprovalId, RunId};

use super::approval::{answer_mutation, new_request, parked_entry, with_payer};
use super::scene::{StoreScene, run_append, scene_time};

/// How many requests one batch makes.
const AT_ONCE: usize = 128;

/// The id of the so-manieth request.
fn numbered_id(number: usize) -> ApprovalId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&u16::try_from(number).expect("few").to_be_bytes());
    ApprovalId::from_bytes(bytes)
}

/// A request of a run that went on without it.
fn asked_approval(scene: &StoreScene, run: RunId, number: usize) -> ApprovalRequest {
    ApprovalRequest {
        id: numbered_id(number),
        state: ApprovalState::Waiting,
        released: true,
        ..new_request(scene, run, 1)
    }
}

/// The same approval request, already denied.
fn denied_approval(scene: &StoreScene, run: RunId, number: usize) -> ApprovalRequest {
    ApprovalRequest { state: ApprovalState::Denied, ..asked_approval(scene, run, number) }
}

fn ask_mutation(approval: ApprovalRequest) -> Mutation {
    Mutation::ApprovalAsk(Box::new(approval))
}

async fn ask_all(scene: &StoreScene, approvals: &[ApprovalRequest]) {
    for some in approvals.chunks(AT_ONCE) {
        scene
            .commit_done(
                some.iter().cloned().map(ask_mutation).fold(scene.new_batch(), WriteBatch::with_mutation),
            )
            .await;
    }
}

/// Which of the first ones are there.
async fn remaining_numbers(scene: &StoreScene) -> Vec<usize> {
    let mut left = Vec::new();
    for number in 0..8 {
        if is_there(scene, number).await {
            left.push(number);
        }
    }
    left
}

async fn is_there(scene: &StoreScene, number: usize) -> bool {
    scene.store.approval(&scene.tenant_scope(), numbered_id(number)).await.expect("a read").is_some()
}

pub(super) async fn so_many_approvals_of_a_tenant_are_open_and_one_more_is_refused(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
    let run = scene.begin_turn(0).await;
    let all: Vec<_> = (0..OPEN_MAX).map(|number| asked_approval(&scene, run, number)).collect();
    ask_all(&scene, &all).await;
    let full = CommitRefusal::ApprovalsFull { most: OPEN_MAX };
    let more = || scene.new_batch().with_mutation(ask_mutation(asked_approval(&scene, run, OPEN_MAX)));
    assert_eq!(scene.commit_refused(more()).await, full);
    assert!(!is_there(&scene, OPEN_MAX).await, "a refused batch leaves no row");
    scene.commit_mutation(ask_mutation(asked_approval(&scene, run, 3))).await;
    // A request that is already denied does not count as open, and expired requests no longer count.
    scene.commit_mutation(ask_mutation(denied_approval(&scene, run, OPEN_MAX + 1))).await;
    let late = ApprovalRequest {
        deadlines: ApprovalDeadlines {
            asked_at: scene_time(2_000),
            expires_at: scene_time(3_000),
            ..asked_approval(&scene, run, OPEN_MAX + 2).deadlines
        },
        ..asked_approval(&scene, run, OPEN_MAX + 2)
    };
    scene.commit_mutation(ask_mutation(late)).await;
    assert_eq!(scene.commit_refused(more()).await, full);

    let other = StoreScene::open_scene(store, 2).await;
    let theirs = other.begin_turn(0).await;
    other.commit_done(other.new_batch().with_mutation(ask_mutation(asked_approval(&other, theirs, 0)))).await;

    // After two answers the late request and one more fit.
    for number in [5, 6] {
        assert_eq!(scene.commit_refused(more()).await, full);
        scene.commit_mutation(answer_mutation(numbered_id(number), ApprovalState::Waiting, false, 10)).await;
    }
    scene.commit_done(more()).await;
    scene.commit_done(more()).await;
    let next = scene.new_batch().with_mutation(ask_mutation(asked_approval(&scene, run, OPEN_MAX + 3)));
    assert_eq!(scene.commit_refused(next).await, full);
}

pub(super) async fn a_request_in_the_place_of_another_is_none_more(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let held = |number: usize| ApprovalRequest { id: numbered_id(number), ..new_request(&scene, run, 1) };
    let mut all = vec![held(0)];
    all.extend((1..OPEN_MAX).map(|number| asked_approval(&scene, run, number)));
    ask_all(&scene, &all).await;
    // What is asked for with the entry that rests for it, behind so many entries of the run.
    let rests = |number: usize, after: u64, replaces: Option<ApprovalId>| {
        let rest = run_append(run, 1, after, vec![parked_entry(&held(number), replaces)], RunStatus::Parked);
        with_payer(
            scene
                .new_batch()
                .with_mutation(ask_mutation(held(number)))
                .with_mutation(Mutation::RunAppend(rest)),
        )
    };
    let full = CommitRefusal::ApprovalsFull { most: OPEN_MAX };
    assert_eq!(scene.commit_refused(rests(OPEN_MAX, 2, None)).await, full);
    let import = WriteBatch { payer: None, ..rests(OPEN_MAX, 2, Some(numbered_id(0))) };
    assert_eq!(scene.commit_refused(import).await, full, "an import takes nothing back");
    let two = rests(OPEN_MAX, 2, Some(numbered_id(0))).with_mutation(ask_mutation(asked_approval(
        &scene,
        run,
        OPEN_MAX + 1,
    )));
    assert_eq!(scene.commit_refused(two).await, full, "one of them is one more");
    assert!(!is_there(&scene, OPEN_MAX).await, "a refused batch leaves no row");

    let receipt = scene.commit_done(rests(OPEN_MAX, 2, Some(numbered_id(0)))).await;
    let before = scene.store.approval(&scene.tenant_scope(), numbered_id(0)).await.expect("a read");
    assert_eq!(before.map(|approval| approval.state), Some(ApprovalState::Withdrawn));
    assert_eq!(
        scene.commit_done(rests(OPEN_MAX, 2, Some(numbered_id(0)))).await,
        receipt,
        "the same batch again"
    );
    assert_eq!(
        scene.commit_refused(rests(OPEN_MAX + 1, 3, Some(numbered_id(0)))).await,
        full,
        "it makes room once"
    );
    scene.commit_done(rests(OPEN_MAX + 1, 3, Some(numbered_id(OPEN_MAX)))).await;
    assert_eq!(scene.refuse_mutation(ask_mutation(held(OPEN_MAX + 2))).await, full);
}

pub(super) async fn of_answered_approvals_the_oldest_go_and_none_that_may_still_be_moved(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    let ended = scene.begin_turn(0).await;
    scene.commit_reply(ended, "webhook:a").await;
    let open = scene.begin_turn(1).await;
    let mut approvals = vec![
        ApprovalRequest {
            deadlines: ApprovalDeadlines {
                expires_at: scene_time(1),
                ..asked_approval(&scene, ended, 0).deadlines
            },
            ..asked_approval(&scene, ended, 0)
        },
        ApprovalRequest { state: ApprovalState::Approved, ..asked_approval(&scene, ended, 1) },
        denied_approval(&scene, open, 2),
        asked_approval(&scene, ended, 3),
        ApprovalRequest {
            state: ApprovalState::Used,
            used_by: Some(open),
            ..asked_approval(&scene, ended, 4)
        },
    ];
    approvals.extend((5..=KEPT_MAX).map(|number| denied_approval(&scene, ended, number)));
    ask_all(&scene, &approvals).await;
    assert_eq!(
        remaining_numbers(&scene).await,
        [0, 1, 2, 3, 4, 5, 6, 7],
        "one of them is open, so there is place for one more"
    );
    let next = |number: usize| {
        scene.new_batch().with_mutation(ask_mutation(denied_approval(&scene, ended, KEPT_MAX + number)))
    };
    scene.commit_done(next(1)).await;
    assert_eq!(remaining_numbers(&scene).await, [1, 2, 3, 4, 5, 6, 7], "nobody answered it in time");
    scene.commit_done(next(2)).await;
    assert_eq!(
        remaining_numbers(&scene).await,
        [1, 2, 3, 4, 6, 7],
        "the others may still be moved, or looked at"
    );
    // The same batch again is the same request.
    scene.commit_done(next(2)).await;
    assert_eq!(remaining_numbers(&scene).await, [1, 2, 3, 4, 6, 7]);
    scene.commit_reply(open, "webhook:a").await;
    scene.commit_done(next(3)).await;
    scene.commit_done(next(4)).await;
    assert_eq!(remaining_numbers(&scene).await, [1, 3, 6, 7], "its runs have ended");

    let late = ApprovalRequest {
        deadlines: ApprovalDeadlines {
            asked_at: scene_time(2_000),
            expires_at: scene_time(3_000),
            ..asked_approval(&scene, ended, KEPT_MAX + 5).deadlines
        },
        ..asked_approval(&scene, ended, KEPT_MAX + 5)
    };
    scene.commit_mutation(ask_mutation(late)).await;
    assert_eq!(remaining_numbers(&scene).await, [1, 6, 7], "the open one has expired by then");
}

pub(super) async fn approvals_that_may_not_go_hold_up_none_behind_them(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let ended = scene.begin_turn(0).await;
    scene.commit_reply(ended, "webhook:a").await;
    // More than one look sees: their agent may be paused.
    let stuck = SWEEP_LOOKS_MAX + 8;
    let approved =
        |number| ApprovalRequest { state: ApprovalState::Approved, ..asked_approval(&scene, ended, number) };
    let mut approvals: Vec<_> = (0..stuck).map(approved).collect();
    approvals.extend((stuck..KEPT_MAX).map(|number| denied_approval(&scene, ended, number)));
    ask_all(&scene, &approvals).await;
    assert!(is_there(&scene, stuck).await, "there is place for all of them");
    for more in 0..3 {
        scene.commit_mutation(ask_mutation(denied_approval(&scene, ended, KEPT_MAX + more))).await;
        assert!(!is_there(&scene, stuck + more).await, "{more}: the oldest behind them goes");
        assert!(is_there(&scene, stuck + more + 1).await, "{more}: one for one");
    }
    for number in [0, SWEEP_LOOKS_MAX - 1, SWEEP_LOOKS_MAX, stuck - 1] {
        assert!(is_there(&scene, number).await, "{number} may still begin");
    }
}
