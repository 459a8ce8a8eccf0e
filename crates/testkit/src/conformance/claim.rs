//! Claims about claims: who gets a session, with which items, and when it is free again.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, CommitOutcome, Mutation, PageRequest, PendingSession, RunFilter, Store, TailLimits,
};

use super::scene::{StoreScene, all_of, model_replied, run_append, run_completed, scene_time};

pub(super) async fn a_claim_takes_the_next_items_in_order_and_the_put_of_its_own_batch(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (a, b, c) = (scene.item_id(), scene.item_id(), scene.item_id());
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(a))).await;
    let with_own_put = |take: &[_]| {
        let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(b)));
        batch.claim = Some(scene.claim_session(scene.run_id(), 0, take));
        batch
    };
    let out_of_order = scene.commit_done(with_own_put(&[b])).await;
    assert!(!out_of_order.claimed, "an item cannot be taken past another");
    assert_eq!(out_of_order.positions, [2]);
    let mut both = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(c)));
    let run = scene.run_id();
    both.claim = Some(scene.claim_session(run, 0, &[a, b, c]));
    let receipt = scene.commit_done(both).await;
    assert!(receipt.claimed);
    assert_eq!(receipt.positions, [3]);
    let session =
        scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.last, session.head.taken, session.head.active), (3, 3, Some(run)));
    let inbox =
        scene.store.inbox_items(&scene.tenant_scope(), InboxOwner::Session(scene.session), 0, 9).await;
    let taken: Vec<_> =
        inbox.expect("a read").into_iter().map(|item| (item.id, item.position, item.taken_by)).collect();
    assert_eq!(taken, [(a, 1, Some(run)), (b, 2, Some(run)), (c, 3, Some(run))]);
}

pub(super) async fn a_claim_that_cannot_be_had_leaves_the_mutations_standing(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let active = scene.begin_turn(0).await;
    let (item, run) = (scene.item_id(), scene.run_id());
    let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
    batch.claim = Some(scene.claim_session(run, 1, &[item]));
    let receipt = scene.commit_done(batch).await;
    assert_eq!((receipt.claimed, receipt.positions), (false, vec![2]));
    assert_eq!(scene.store.run(&scene.tenant_scope(), run).await, Ok(None));
    let session =
        scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.last, session.head.taken, session.head.active), (2, 1, Some(active)));
    let mut stale = scene.new_batch();
    stale.claim = Some(scene.claim_session(run, 0, &[item]));
    assert!(!scene.commit_done(stale).await.claimed, "the inbox was taken further than the claimer knows");
}

pub(super) async fn at_most_one_turn_is_active_under_many_claimers(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let item = scene.item_id();
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(item))).await;
    let claims = (0..16).map(|_| {
        let mut batch = scene.new_batch();
        batch.claim = Some(scene.claim_session(scene.run_id(), 0, &[item]));
        scene.store.commit(batch)
    });
    let answers = futures_util::future::join_all(claims).await;
    let granted =
        answers.iter().filter(|answer| matches!(answer, CommitOutcome::Done(receipt) if receipt.claimed));
    assert_eq!(granted.count(), 1, "{answers:?}");
    let runs = scene
        .store
        .runs(&scene.tenant_scope(), RunFilter::default(), PageRequest::first_page(99))
        .await
        .expect("a read");
    assert_eq!(runs.len(), 1);
}

pub(super) async fn a_terminal_head_frees_the_session(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let first = scene.begin_turn(0).await;
    let end = run_append(first, 1, 2, vec![model_replied(1, "hi"), run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let session =
        scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!(session.head.active, None);
    let second = scene.begin_turn(1).await;
    let runs = scene
        .store
        .runs(&scene.tenant_scope(), RunFilter::default(), PageRequest::first_page(9))
        .await
        .expect("a read");
    let found: Vec<_> = runs.iter().map(|run| (run.id, run.head.status)).collect();
    assert_eq!(found, [(second, RunStatus::Running), (first, RunStatus::Completed)], "newest first");
    // A run that was written down elsewhere comes in with its end.
    let end = run_append(second, 1, 2, vec![run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let (run, item) = (scene.run_id(), scene.item_id());
    let mut import = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
    let mut claim = scene.claim_session(run, 2, &[item]);
    claim.head.status = RunStatus::Completed;
    import.claim = Some(claim);
    assert!(scene.commit_done(import).await.claimed);
    let session =
        scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.taken, session.head.active), (3, None));
}

pub(super) async fn an_agent_that_is_not_running_grants_no_claim(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let set = |to| {
        let from = vec![AgentState::Running, AgentState::Paused];
        scene.new_batch().with_mutation(Mutation::AgentStateSet(AgentStateSet {
            agent: scene.agent,
            from,
            to,
        }))
    };
    scene.commit_done(set(AgentState::Paused)).await;
    let (item, run) = (scene.item_id(), scene.run_id());
    let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
    batch.claim = Some(scene.claim_session(run, 0, &[item]));
    let receipt = scene.commit_done(batch).await;
    assert_eq!((receipt.claimed, receipt.positions), (false, vec![1]), "a paused agent keeps its input");
    let pending = scene
        .store
        .pending_sessions(&StoreScene::node_operator(), PageRequest::first_page(9))
        .await
        .expect("a read");
    assert_eq!(pending, []);
    scene.commit_done(set(AgentState::Running)).await;
    let mut again = scene.new_batch();
    again.claim = Some(scene.claim_session(run, 0, &[item]));
    assert!(scene.commit_done(again).await.claimed);
}

pub(super) async fn a_suspended_tenant_keeps_its_input_and_grants_no_claim(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let set = |since| scene.new_batch().with_mutation(Mutation::TenantSuspensionSet(since));
    let suspended_at = async || {
        let tenant = scene.store.tenant_record(&scene.tenant_scope()).await.expect("a read");
        tenant.expect("the tenant").suspended_at
    };
    assert_eq!(suspended_at().await, None);
    scene.commit_done(set(Some(scene_time(7)))).await;
    scene.commit_done(set(Some(scene_time(8)))).await;
    assert_eq!(suspended_at().await, Some(scene_time(7)), "a repetition changes nothing");
    let (item, run) = (scene.item_id(), scene.run_id());
    let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
    batch.claim = Some(scene.claim_session(run, 0, &[item]));
    let receipt = scene.commit_done(batch).await;
    assert_eq!((receipt.claimed, receipt.positions), (false, vec![1]), "it keeps its input");
    let operator = StoreScene::node_operator();
    let pending = async || {
        scene.store.pending_sessions(&operator, PageRequest::first_page(9)).await.expect("a read").len()
    };
    assert_eq!(pending().await, 0);
    scene.commit_done(set(None)).await;
    assert_eq!((suspended_at().await, pending().await), (None, 1));
    let mut again = scene.new_batch();
    again.claim = Some(scene.claim_session(run, 0, &[item]));
    assert!(scene.commit_done(again).await.claimed);
}

pub(super) async fn a_paused_agent_grants_a_claim_that_begins_nothing(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let set = |to| {
        let from = vec![AgentState::Running, AgentState::Paused];
        scene.new_batch().with_mutation(Mutation::AgentStateSet(AgentStateSet {
            agent: scene.agent,
            from,
            to,
        }))
    };
    let (item, run) = (scene.item_id(), scene.run_id());
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(item))).await;
    let ended = || {
        let mut batch = scene.new_batch();
        let mut claim = scene.claim_session(run, 0, &[item]);
        claim.head.status = RunStatus::Cancelled;
        batch.claim = Some(claim);
        batch
    };
    scene.commit_done(set(AgentState::Paused)).await;
    assert!(scene.commit_done(ended()).await.claimed);
    assert!(scene.commit_done(ended()).await.claimed, "the same again is the same");
    let session =
        scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!((session.head.taken, session.head.active), (1, None));
    let second = scene.item_id();
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(second))).await;
    scene.commit_done(set(AgentState::Terminated)).await;
    let mut late = scene.new_batch();
    let mut claim = scene.claim_session(scene.run_id(), 1, &[second]);
    claim.head.status = RunStatus::Cancelled;
    late.claim = Some(claim);
    assert!(!scene.commit_done(late).await.claimed, "an agent that has ended grants none");
}

pub(super) async fn a_session_with_waiting_items_and_no_turn_is_pending(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let pending = || async {
        scene
            .store
            .pending_sessions(&StoreScene::node_operator(), PageRequest::first_page(9))
            .await
            .expect("a read")
    };
    assert_eq!(pending().await, []);
    let run = scene.begin_turn(0).await;
    let item = scene.item_id();
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(item))).await;
    assert_eq!(pending().await, [], "its turn is active");
    let end = run_append(run, 1, 2, vec![run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let row = PendingSession { tenant: scene.tenant, agent: scene.agent, session: scene.session };
    assert_eq!(pending().await, [row]);
    let page = PageRequest { after: Some((scene.tenant, scene.session)), limit: 9 };
    let behind = scene.store.pending_sessions(&StoreScene::node_operator(), page).await;
    assert_eq!(behind, Ok(Vec::new()));
    let mut claim = scene.new_batch();
    claim.claim = Some(scene.claim_session(scene.run_id(), 1, &[item]));
    assert!(scene.commit_done(claim).await.claimed);
    assert_eq!(pending().await, []);
}

pub(super) async fn a_tail_holds_whole_runs_and_what_waits(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (a, b) = (scene.item_id(), scene.item_id());
    let first = scene.run_id();
    let mut batch = scene
        .new_batch()
        .with_mutation(Mutation::InboxPut(scene.put_input(a)))
        .with_mutation(Mutation::InboxPut(scene.put_input(b)));
    batch.claim = Some(scene.claim_session(first, 0, &[a, b]));
    scene.commit_done(batch).await;
    let end = run_append(first, 1, 2, vec![model_replied(1, "hi"), run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let second = scene.begin_turn(2).await;
    let waiting = scene.item_id();
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(waiting))).await;

    let tail = all_of(&scene.store, &scene.tenant_scope(), scene.session).await.expect("a session");
    let positions = |items: &[dromia_contracts::session::InboxItem]| {
        items.iter().map(|item| item.position).collect::<Vec<_>>()
    };
    assert_eq!(positions(&tail.items), [1, 2, 3, 4]);
    let runs: Vec<_> = tail.runs.iter().map(|(run, journal)| (*run, journal.len())).collect();
    assert_eq!(runs, [(first, 4), (second, 2)]);
    assert_eq!(tail.items[3].taken_by, None);

    for (items, expected) in [(1, vec![3, 4]), (2, vec![3, 4]), (3, vec![1, 2, 3, 4])] {
        let limits = TailLimits { after: 0, items, bytes: 1 << 20, until: None };
        let cut = scene.store.session_tail(&scene.tenant_scope(), scene.session, limits).await;
        let cut = cut.expect("a read").expect("a session");
        assert_eq!(positions(&cut.items), expected, "at most {items} items, and no run torn");
    }
}
