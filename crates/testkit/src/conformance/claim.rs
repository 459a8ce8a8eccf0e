//! Claims about claims: who gets a session, with which items, and when it is free again.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, Commit, Mutation, Page, PendingSession, RunFilter, Store, TailLimits,
};

use super::scene::{Scene, all_of, append, completed, model_replied};

pub(super) async fn a_claim_takes_the_next_items_in_order_and_the_put_of_its_own_batch(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    let (a, b, c) = (scene.item_id(), scene.item_id(), scene.item_id());
    scene.done(scene.batch().with(Mutation::InboxPut(scene.put(a)))).await;
    let with_own_put = |take: &[_]| {
        let mut batch = scene.batch().with(Mutation::InboxPut(scene.put(b)));
        batch.claim = Some(scene.claim(scene.run_id(), 0, take));
        batch
    };
    let out_of_order = scene.done(with_own_put(&[b])).await;
    assert!(!out_of_order.claimed, "an item cannot be taken past another");
    assert_eq!(out_of_order.positions, [2]);
    let mut both = scene.batch().with(Mutation::InboxPut(scene.put(c)));
    let run = scene.run_id();
    both.claim = Some(scene.claim(run, 0, &[a, b, c]));
    let receipt = scene.done(both).await;
    assert!(receipt.claimed);
    assert_eq!(receipt.positions, [3]);
    let session =
        scene.store.session(&scene.scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.last, session.head.taken, session.head.active), (3, 3, Some(run)));
    let inbox = scene.store.inbox(&scene.scope(), InboxOwner::Session(scene.session), 0, 9).await;
    let taken: Vec<_> =
        inbox.expect("a read").into_iter().map(|item| (item.id, item.position, item.taken_by)).collect();
    assert_eq!(taken, [(a, 1, Some(run)), (b, 2, Some(run)), (c, 3, Some(run))]);
}

pub(super) async fn a_claim_that_cannot_be_had_leaves_the_mutations_standing(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let active = scene.turn(0).await;
    let (item, run) = (scene.item_id(), scene.run_id());
    let mut batch = scene.batch().with(Mutation::InboxPut(scene.put(item)));
    batch.claim = Some(scene.claim(run, 1, &[item]));
    let receipt = scene.done(batch).await;
    assert_eq!((receipt.claimed, receipt.positions), (false, vec![2]));
    assert_eq!(scene.store.run(&scene.scope(), run).await, Ok(None));
    let session =
        scene.store.session(&scene.scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.last, session.head.taken, session.head.active), (2, 1, Some(active)));
    let mut stale = scene.batch();
    stale.claim = Some(scene.claim(run, 0, &[item]));
    assert!(!scene.done(stale).await.claimed, "the inbox was taken further than the claimer knows");
}

pub(super) async fn at_most_one_turn_is_active_under_many_claimers(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let item = scene.item_id();
    scene.done(scene.batch().with(Mutation::InboxPut(scene.put(item)))).await;
    let claims = (0..16).map(|_| {
        let mut batch = scene.batch();
        batch.claim = Some(scene.claim(scene.run_id(), 0, &[item]));
        scene.store.commit(batch)
    });
    let answers = futures_util::future::join_all(claims).await;
    let granted = answers.iter().filter(|answer| matches!(answer, Commit::Done(receipt) if receipt.claimed));
    assert_eq!(granted.count(), 1, "{answers:?}");
    let runs = scene.store.runs(&scene.scope(), RunFilter::default(), Page::first(99)).await.expect("a read");
    assert_eq!(runs.len(), 1);
}

pub(super) async fn a_terminal_head_frees_the_session(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let first = scene.turn(0).await;
    let end = append(first, 1, 2, vec![model_replied(1, "hi"), completed()], RunStatus::Completed);
    scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    let session =
        scene.store.session(&scene.scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!(session.head.active, None);
    let second = scene.turn(1).await;
    let runs = scene.store.runs(&scene.scope(), RunFilter::default(), Page::first(9)).await.expect("a read");
    let found: Vec<_> = runs.iter().map(|run| (run.id, run.head.status)).collect();
    assert_eq!(found, [(second, RunStatus::Running), (first, RunStatus::Completed)], "newest first");
    // A run that was written down elsewhere comes in with its end.
    let end = append(second, 1, 2, vec![completed()], RunStatus::Completed);
    scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    let (run, item) = (scene.run_id(), scene.item_id());
    let mut import = scene.batch().with(Mutation::InboxPut(scene.put(item)));
    let mut claim = scene.claim(run, 2, &[item]);
    claim.head.status = RunStatus::Completed;
    import.claim = Some(claim);
    assert!(scene.done(import).await.claimed);
    let session =
        scene.store.session(&scene.scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.taken, session.head.active), (3, None));
}

pub(super) async fn an_agent_that_is_not_running_grants_no_claim(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let set = |to| {
        let from = vec![AgentState::Running, AgentState::Paused];
        scene.batch().with(Mutation::AgentStateSet(AgentStateSet { agent: scene.agent, from, to }))
    };
    scene.done(set(AgentState::Paused)).await;
    let (item, run) = (scene.item_id(), scene.run_id());
    let mut batch = scene.batch().with(Mutation::InboxPut(scene.put(item)));
    batch.claim = Some(scene.claim(run, 0, &[item]));
    let receipt = scene.done(batch).await;
    assert_eq!((receipt.claimed, receipt.positions), (false, vec![1]), "a paused agent keeps its input");
    let pending = scene.store.pending_sessions(&Scene::operator(), Page::first(9)).await.expect("a read");
    assert_eq!(pending, []);
    scene.done(set(AgentState::Running)).await;
    let mut again = scene.batch();
    again.claim = Some(scene.claim(run, 0, &[item]));
    assert!(scene.done(again).await.claimed);
}

pub(super) async fn a_paused_agent_grants_a_claim_that_begins_nothing(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let set = |to| {
        let from = vec![AgentState::Running, AgentState::Paused];
        scene.batch().with(Mutation::AgentStateSet(AgentStateSet { agent: scene.agent, from, to }))
    };
    let (item, run) = (scene.item_id(), scene.run_id());
    scene.done(scene.batch().with(Mutation::InboxPut(scene.put(item)))).await;
    let ended = || {
        let mut batch = scene.batch();
        let mut claim = scene.claim(run, 0, &[item]);
        claim.head.status = RunStatus::Cancelled;
        batch.claim = Some(claim);
        batch
    };
    scene.done(set(AgentState::Paused)).await;
    assert!(scene.done(ended()).await.claimed);
    assert!(scene.done(ended()).await.claimed, "the same again is the same");
    let session =
        scene.store.session(&scene.scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.taken, session.head.active), (1, None));
    let second = scene.item_id();
    scene.done(scene.batch().with(Mutation::InboxPut(scene.put(second)))).await;
    scene.done(set(AgentState::Terminated)).await;
    let mut late = scene.batch();
    let mut claim = scene.claim(scene.run_id(), 1, &[second]);
    claim.head.status = RunStatus::Cancelled;
    late.claim = Some(claim);
    assert!(!scene.done(late).await.claimed, "an agent that has ended grants none");
}

pub(super) async fn a_session_with_waiting_items_and_no_turn_is_pending(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let pending =
        || async { scene.store.pending_sessions(&Scene::operator(), Page::first(9)).await.expect("a read") };
    assert_eq!(pending().await, []);
    let run = scene.turn(0).await;
    let item = scene.item_id();
    scene.done(scene.batch().with(Mutation::InboxPut(scene.put(item)))).await;
    assert_eq!(pending().await, [], "its turn is active");
    let end = append(run, 1, 2, vec![completed()], RunStatus::Completed);
    scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    let row = PendingSession { tenant: scene.tenant, agent: scene.agent, session: scene.session };
    assert_eq!(pending().await, [row]);
    let page = Page { after: Some((scene.tenant, scene.session)), limit: 9 };
    let behind = scene.store.pending_sessions(&Scene::operator(), page).await;
    assert_eq!(behind, Ok(Vec::new()));
    let mut claim = scene.batch();
    claim.claim = Some(scene.claim(scene.run_id(), 1, &[item]));
    assert!(scene.done(claim).await.claimed);
    assert_eq!(pending().await, []);
}

pub(super) async fn a_tail_holds_whole_runs_and_what_waits(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (a, b) = (scene.item_id(), scene.item_id());
    let first = scene.run_id();
    let mut batch =
        scene.batch().with(Mutation::InboxPut(scene.put(a))).with(Mutation::InboxPut(scene.put(b)));
    batch.claim = Some(scene.claim(first, 0, &[a, b]));
    scene.done(batch).await;
    let end = append(first, 1, 2, vec![model_replied(1, "hi"), completed()], RunStatus::Completed);
    scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    let second = scene.turn(2).await;
    let waiting = scene.item_id();
    scene.done(scene.batch().with(Mutation::InboxPut(scene.put(waiting)))).await;

    let tail = all_of(&scene.store, &scene.scope(), scene.session).await.expect("a session");
    let positions = |items: &[dromia_contracts::session::InboxItem]| {
        items.iter().map(|item| item.position).collect::<Vec<_>>()
    };
    assert_eq!(positions(&tail.items), [1, 2, 3, 4]);
    let runs: Vec<_> = tail.runs.iter().map(|(run, journal)| (*run, journal.len())).collect();
    assert_eq!(runs, [(first, 4), (second, 2)]);
    assert_eq!(tail.items[3].taken_by, None);

    for (items, expected) in [(1, vec![3, 4]), (2, vec![3, 4]), (3, vec![1, 2, 3, 4])] {
        let limits = TailLimits { items, bytes: 1 << 20 };
        let cut = scene.store.session_tail(&scene.scope(), scene.session, limits).await;
        let cut = cut.expect("a read").expect("a session");
        assert_eq!(positions(&cut.items), expected, "at most {items} items, and no run torn");
    }
}
