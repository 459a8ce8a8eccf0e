//! Claims about checkpoints of runs, about a takeover with the first entries behind it, and about tails that end before the newest
//! turn: what a wake-up of a run writes and reads.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, FoldedState, Mutation, RunAppend, RunCheckpoint, RunTakeover, Store,
    TailLimits,
};
use dromia_contracts::{Digest, RunId};

use super::scene::{StoreScene, model_called, model_replied, run_append, run_completed, scene_time};

fn folded(state: &'static str) -> FoldedState {
    FoldedState { version: 3, bytes: Bytes::from_static(state.as_bytes()) }
}

/// An append of one entry with a checkpoint, or without one.
fn append(run: RunId, epoch: u64, after: u64, checkpoint: Option<FoldedState>) -> Mutation {
    let entries = vec![model_called(2)];
    Mutation::RunAppend(RunAppend { checkpoint, ..run_append(run, epoch, after, entries, RunStatus::Parked) })
}

async fn checkpoint_of(scene: &StoreScene, run: RunId) -> Option<RunCheckpoint> {
    scene.store.run_checkpoint(&scene.tenant_scope(), run).await.expect("a read")
}

pub(super) async fn a_checkpoint_is_stored_with_its_entries(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 2).await;
    let run = scene.begin_turn(0).await;
    assert_eq!(checkpoint_of(&scene, run).await, None);
    scene.commit_mutation(append(run, 1, 2, Some(folded("three")))).await;
    let first = Some(RunCheckpoint { seq: 3, folded: folded("three") });
    assert_eq!(checkpoint_of(&scene, run).await, first);
    scene.commit_mutation(append(run, 1, 3, None)).await;
    assert_eq!(checkpoint_of(&scene, run).await, first, "it stays where nothing takes its place");
    for (epoch, after) in [(2, 4), (1, 5)] {
        scene.refuse_mutation(append(run, epoch, after, Some(folded("refused")))).await;
        assert_eq!(checkpoint_of(&scene, run).await, first);
    }
    scene.commit_mutation(append(run, 1, 4, Some(folded("five")))).await;
    let second = Some(RunCheckpoint { seq: 5, folded: folded("five") });
    assert_eq!(checkpoint_of(&scene, run).await, second);
    scene.commit_mutation(append(run, 1, 2, Some(folded("three")))).await;
    assert_eq!(checkpoint_of(&scene, run).await, second, "a batch that comes again changes nothing");
}

pub(super) async fn a_checkpoint_is_bounded_and_erased_with_its_run(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 3).await;
    let run = scene.begin_turn(0).await;
    let of = |bytes| Some(FoldedState { version: 1, bytes: Bytes::from(vec![b'x'; bytes]) });
    let refusal = scene.refuse_mutation(append(run, 1, 2, of(FoldedState::BYTES_MAX + 1))).await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
    scene.commit_mutation(append(run, 1, 2, of(FoldedState::BYTES_MAX))).await;
    assert!(checkpoint_of(&scene, run).await.is_some());
    let set = |to| {
        let from = vec![AgentState::Running];
        Mutation::AgentStateSet(AgentStateSet { agent: scene.agent, from, to })
    };
    scene.commit_mutation(set(AgentState::Deleting)).await;
    assert_eq!(checkpoint_of(&scene, run).await, None, "nothing of the agent is found");
    while !scene.store.erase_agent_page(&scene.tenant_scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(checkpoint_of(&scene, run).await, None);
}

pub(super) async fn a_takeover_and_its_first_entries_are_one_commit(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 4).await;
    let run = scene.begin_turn(0).await;
    scene.commit_mutation(append(run, 1, 2, None)).await;
    let wake = |from_epoch, after, holder| {
        let holder = Digest::from_bytes([holder; 32]);
        let takeover = RunTakeover { run, from_epoch, holder, at: scene_time(9) };
        let entries = vec![model_replied(2, "a"), run_completed()];
        let append = run_append(run, from_epoch + 1, after, entries, RunStatus::Completed);
        let batch = scene.new_batch().with_mutation(Mutation::RunTakeover(takeover));
        batch.with_mutation(Mutation::RunAppend(append))
    };
    let row = || async { scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run") };
    let before = row().await;
    let stale = [
        (wake(2, 3, 1), CommitRefusal::EpochStale { found: 1 }),
        (wake(1, 2, 1), CommitRefusal::SequenceMoved { found: 3 }),
        (wake(1, 4, 1), CommitRefusal::SequenceMoved { found: 3 }),
    ];
    for (batch, refusal) in stale {
        assert_eq!(scene.commit_refused(batch).await, refusal);
        assert_eq!(row().await, before, "a wake-up that is refused is no claim");
    }
    let receipt = scene.commit_done(wake(1, 3, 1)).await;
    let woken = row().await;
    assert_eq!((woken.epoch, woken.entry_epoch, woken.last_seq), (2, 2, 5));
    assert_eq!((woken.head.status, woken.holder), (RunStatus::Completed, None));
    assert_eq!(scene.commit_done(wake(1, 3, 1)).await, receipt, "it comes again");
    let late = scene.commit_refused(wake(1, 3, 2)).await;
    assert_eq!(late, CommitRefusal::RunTerminal, "another owner is late");
    assert_eq!(row().await, woken);
}

pub(super) async fn a_tail_ends_where_it_is_asked_to(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 5).await;
    let first = scene.begin_turn(0).await;
    let end = run_append(first, 1, 2, vec![model_replied(1, "a"), run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let second = scene.begin_turn(1).await;
    let tail = |until| {
        let limits = TailLimits { after: 0, items: 9, bytes: 1 << 20, until };
        let (store, scope, session) = (Arc::clone(&scene.store), scene.tenant_scope(), scene.session);
        async move {
            let tail = store.session_tail(&scope, session, limits).await.expect("a read").expect("a session");
            let items: Vec<_> = tail.items.iter().map(|item| item.position).collect();
            (items, tail.runs.iter().map(|(run, _)| *run).collect::<Vec<_>>())
        }
    };
    assert_eq!(tail(None).await, (vec![1, 2], vec![first, second]));
    assert_eq!(tail(Some(9)).await, (vec![1, 2], vec![first, second]));
    assert_eq!(tail(Some(1)).await, (vec![1], vec![first]));
    assert_eq!(tail(Some(0)).await, (vec![], vec![]));
    scene.commit_mutation(Mutation::InboxPut(scene.put_input(scene.item_id()))).await;
    assert_eq!(tail(None).await.0, [1, 2, 3]);
    assert_eq!(tail(Some(2)).await.0, [1, 2], "what waits comes later");
}
