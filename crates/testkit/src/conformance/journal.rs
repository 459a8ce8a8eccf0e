//! Claims about runs: one writer, gapless numbers, a chain, takeover, signals.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, Mutation, OpenRun, PageRequest, RunFilter, RunTakeover, Store,
};
use dromia_contracts::{Digest, ItemId};

use super::scene::{
    StoreScene, inputs_taken, model_called, model_replied, new_input, run_append, run_completed, scene_time,
    signal_taken,
};

pub(super) async fn an_append_holds_only_at_the_runs_epoch_and_number(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let put = |epoch, after, text: &'static str| {
        let entries = vec![model_replied(1, text)];
        scene.new_batch().with_mutation(Mutation::RunAppend(run_append(
            run,
            epoch,
            after,
            entries,
            RunStatus::Running,
        )))
    };
    assert_eq!(scene.commit_refused(put(2, 2, "a")).await, CommitRefusal::EpochStale { found: 1 });
    assert_eq!(scene.commit_refused(put(1, 1, "a")).await, CommitRefusal::SequenceMoved { found: 2 });
    assert_eq!(scene.commit_refused(put(1, 3, "a")).await, CommitRefusal::SequenceMoved { found: 2 });
    scene.commit_done(put(1, 2, "a")).await;
    assert_eq!(
        scene.commit_refused(put(1, 2, "b")).await,
        CommitRefusal::SequenceMoved { found: 3 },
        "another text"
    );
    let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.last_seq, found.epoch, found.entry_epoch, found.updated_at), (3, 1, 1, scene_time(6)));
}

pub(super) async fn a_takeover_raises_the_epoch_and_fences_the_old_owner(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let takeover = |from_epoch, holder| {
        let holder = Digest::from_bytes([holder; 32]);
        scene.new_batch().with_mutation(Mutation::RunTakeover(RunTakeover {
            run,
            from_epoch,
            holder,
            at: scene_time(9),
        }))
    };
    scene.commit_done(takeover(1, 1)).await;
    scene.commit_done(takeover(1, 1)).await;
    assert_eq!(
        scene.commit_refused(takeover(1, 2)).await,
        CommitRefusal::EpochStale { found: 2 },
        "the loser stops"
    );
    let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.epoch, found.entry_epoch, found.claims_without_entry()), (2, 1, 1));
    let old = run_append(run, 1, 2, vec![model_replied(1, "a")], RunStatus::Running);
    let refusal = scene.refuse_mutation(Mutation::RunAppend(old)).await;
    assert_eq!(refusal, CommitRefusal::EpochStale { found: 2 });
    let new = run_append(run, 2, 2, vec![model_replied(1, "a")], RunStatus::Running);
    scene.commit_mutation(Mutation::RunAppend(new)).await;
    let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.epoch, found.entry_epoch, found.last_seq), (2, 2, 3));
    scene.commit_done(takeover(2, 2)).await;
    assert_eq!(scene.commit_refused(takeover(1, 2)).await, CommitRefusal::EpochStale { found: 3 });
}

pub(super) async fn an_ended_run_never_changes(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let end = run_append(run, 1, 2, vec![run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end.clone())).await;
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let before = scene.store.run(&scene.tenant_scope(), run).await;
    let more = run_append(run, 1, 3, vec![model_replied(2, "more")], RunStatus::Running);
    assert_eq!(scene.refuse_mutation(Mutation::RunAppend(more)).await, CommitRefusal::RunTerminal);
    let takeover = RunTakeover { run, from_epoch: 1, holder: Digest::default(), at: scene_time(9) };
    assert_eq!(scene.refuse_mutation(Mutation::RunTakeover(takeover)).await, CommitRefusal::RunTerminal);
    assert_eq!(scene.store.run(&scene.tenant_scope(), run).await, before);
}

pub(super) async fn a_journal_is_chained_numbered_and_paged(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let sizes = [10, 5_000, 300_000];
    for (step, size) in sizes.into_iter().enumerate() {
        let step = u32::try_from(step).expect("a small number");
        let entries = vec![model_replied(step + 1, vec![b'b'; size]), model_called(step + 2)];
        let more = run_append(run, 1, 2 + 2 * u64::from(step), entries, RunStatus::Running);
        scene.commit_mutation(Mutation::RunAppend(more)).await;
    }
    let scope = scene.tenant_scope();
    let whole = scene.store.journal_entries(&scope, run, 0, 99).await.expect("a read");
    assert!(whole.iter().map(|entry| entry.seq).eq(1..=8), "numbers without gap");
    let bodies: Vec<_> =
        whole.iter().filter_map(|entry| entry.body.as_ref().map(bytes::Bytes::len)).collect();
    assert_eq!(bodies, sizes);
    assert!(whole.iter().all(|entry| entry.decode().is_ok()));
    let mut before = Digest::default();
    for entry in &whole {
        assert_eq!(
            entry.chain,
            crate::reference::chain_digest(before, entry, &[7; 32]),
            "entry {}",
            entry.seq
        );
        before = entry.chain;
    }
    let mut paged = Vec::new();
    while let Some(page) =
        Some(scene.store.journal_entries(&scope, run, paged.len() as u64, 3).await.expect("a read"))
            .filter(|p| !p.is_empty())
    {
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, whole);
}

pub(super) async fn a_signal_waits_in_the_runs_inbox_until_it_is_taken(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let item = scene.item_id();
    let put = Mutation::InboxPut(new_input(InboxOwner::Run(run), item));
    assert_eq!(scene.commit_mutation(put.clone()).await.positions, [1]);
    assert_eq!(scene.commit_mutation(put).await.positions, [1]);
    let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
    assert_eq!(found.signals_last, 1);
    let signals = || async {
        let read =
            scene.store.inbox_items(&scene.tenant_scope(), InboxOwner::Run(run), 0, 9).await.expect("a read");
        read.into_iter().map(|signal| (signal.id, signal.position)).collect::<Vec<_>>()
    };
    assert_eq!(signals().await, [(item, 1)]);
    let taken = run_append(run, 1, 2, vec![signal_taken(item, 1), run_completed()], RunStatus::Cancelled);
    scene.commit_mutation(Mutation::RunAppend(taken)).await;
    assert_eq!(signals().await, [(item, 1)], "a signal stays on record");
    let session =
        scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!(session.head.last, 1, "a signal is no input");
}

pub(super) async fn a_receipt_names_the_last_signal_of_its_run(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let open = || async {
        let page = PageRequest::first_page(9);
        let rows = scene.store.signalled_runs(&StoreScene::node_operator(), page).await.expect("a read");
        rows.into_iter().map(|open| (open.tenant, open.run.id)).collect::<Vec<_>>()
    };
    let append = |epoch, after, entries, status| {
        let append = Mutation::RunAppend(run_append(run, epoch, after, entries, status));
        scene.commit_mutation(append)
    };
    let receipt = append(1, 2, vec![model_replied(1, "a")], RunStatus::Running).await;
    assert_eq!((receipt.signals_last, open().await), (0, vec![]));
    let signals = [scene.item_id(), scene.item_id()];
    let mut batch = scene.new_batch();
    for item in signals {
        batch = batch.with_mutation(Mutation::InboxPut(new_input(InboxOwner::Run(run), item)));
    }
    assert_eq!(scene.commit_done(batch).await.signals_last, 0, "its sender does not own the run");
    assert_eq!(open().await, [(scene.tenant, run)]);
    let receipt = append(1, 3, vec![signal_taken(signals[0], 1)], RunStatus::Parked).await;
    assert_eq!((receipt.signals_last, open().await), (2, vec![(scene.tenant, run)]), "one is not taken");
    let takeover = RunTakeover { run, from_epoch: 1, holder: Digest::default(), at: scene_time(9) };
    let receipt = scene.commit_mutation(Mutation::RunTakeover(takeover)).await;
    assert_eq!(receipt.signals_last, 2, "the next owner learns of it, too");
    let receipt = append(2, 4, vec![signal_taken(signals[1], 2)], RunStatus::Running).await;
    assert_eq!((receipt.signals_last, open().await), (2, vec![]));
    let found = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.signals_last, found.signals_taken, found.has_open_signal()), (2, 2, false));
    let last = Mutation::InboxPut(new_input(InboxOwner::Run(run), scene.item_id()));
    scene.commit_mutation(last).await;
    append(2, 5, vec![run_completed()], RunStatus::Completed).await;
    assert_eq!(open().await, [], "an ended run takes no signal any more");
}

pub(super) async fn a_running_turn_takes_the_next_inputs_of_its_session(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let items = [scene.item_id(), scene.item_id(), scene.item_id()];
    for item in items {
        scene.commit_mutation(Mutation::InboxPut(scene.put_input(item))).await;
    }
    let takes = |after, items: &[ItemId], seq| {
        let append = run_append(run, 1, seq, vec![inputs_taken(after, items)], RunStatus::Running);
        scene.new_batch().with_mutation(Mutation::RunAppend(append))
    };
    // Neither out of order, nor one that was taken, nor none.
    for (after, wrong) in [(1, &items[1..2]), (0, &items[..1]), (2, &items[1..2]), (1, &items[..0])] {
        let refusal = scene.commit_refused(takes(after, wrong, 2)).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
    }
    let first = takes(1, &items[..2], 2);
    scene.commit_done(first.clone()).await;
    // Sent again, it is the same batch.
    scene.commit_done(first).await;
    let owner = InboxOwner::Session(scene.session);
    let takers = || async {
        let read = scene.store.inbox_items(&scene.tenant_scope(), owner, 0, 9).await.expect("a read");
        read.into_iter().map(|item| item.taken_by).collect::<Vec<_>>()
    };
    assert_eq!(takers().await, [Some(run), Some(run), Some(run), None]);
    let read = scene.store.session(&scene.tenant_scope(), scene.session).await;
    let head = read.expect("a read").expect("a session").head;
    assert_eq!((head.last, head.taken, head.active), (4, 3, Some(run)));
    // The end frees the session, and what it did not take waits.
    let end = run_append(run, 1, 3, vec![run_completed()], RunStatus::Completed);
    let receipt = scene.commit_mutation(Mutation::RunAppend(end)).await;
    assert!(receipt.waiting);
    assert_eq!(scene.commit_refused(takes(3, &items[2..], 4)).await, CommitRefusal::RunTerminal);
    assert_eq!(takers().await[3], None);
}

pub(super) async fn an_ended_run_takes_no_signal(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let early =
        scene.new_batch().with_mutation(Mutation::InboxPut(new_input(InboxOwner::Run(run), scene.item_id())));
    let first = scene.commit_done(early.clone()).await;
    let end = run_append(run, 1, 2, vec![run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    let before = scene.store.run(&scene.tenant_scope(), run).await;
    let late =
        scene.new_batch().with_mutation(Mutation::InboxPut(new_input(InboxOwner::Run(run), scene.item_id())));
    assert_eq!(scene.commit_refused(late).await, CommitRefusal::RunTerminal);
    // The end and the signal in one batch: the signal comes too late, and the batch leaves nothing.
    let other = scene.begin_turn(1).await;
    let ends = run_append(other, 1, 2, vec![run_completed()], RunStatus::Completed);
    let torn = scene.new_batch().with_mutation(Mutation::RunAppend(ends));
    let torn = torn.with_mutation(Mutation::InboxPut(new_input(InboxOwner::Run(other), scene.item_id())));
    assert_eq!(scene.commit_refused(torn).await, CommitRefusal::RunTerminal);
    let open = scene.store.run(&scene.tenant_scope(), other).await.expect("a read").expect("a run");
    assert_eq!((open.head.status, open.signals_last), (RunStatus::Running, 0));
    assert_eq!(scene.store.run(&scene.tenant_scope(), run).await, before, "nothing was written");
    assert_eq!(scene.commit_done(early).await, first, "a signal that came in time is still known");
}

pub(super) async fn a_run_that_has_not_ended_is_open(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let other = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    let mut expected =
        vec![(scene.tenant, scene.begin_turn(0).await), (other.tenant, other.begin_turn(0).await)];
    expected.sort_unstable();
    let open = |page| {
        let store = Arc::clone(&scene.store);
        async move {
            let rows = store.open_runs(&StoreScene::node_operator(), page).await.expect("a read");
            rows.into_iter().map(|row| (row.tenant, row.run.id)).collect::<Vec<_>>()
        }
    };
    assert_eq!(open(PageRequest::first_page(9)).await, expected);
    assert_eq!(open(PageRequest::first_page(1)).await, expected[..1]);
    assert_eq!(open(PageRequest { after: Some(expected[0]), limit: 9 }).await, expected[1..]);
    let rests = run_append(expected[0].1, 1, 2, vec![model_called(2)], RunStatus::Parked);
    let ends = run_append(expected[1].1, 1, 2, vec![run_completed()], RunStatus::Completed);
    for (at, append) in [(0, rests), (1, ends)] {
        let owner = if expected[at].0 == scene.tenant { &scene } else { &other };
        owner.commit_done(owner.new_batch().with_mutation(Mutation::RunAppend(append))).await;
    }
    assert_eq!(
        open(PageRequest::first_page(9)).await,
        expected[..1],
        "a parked run is open, a completed one is not"
    );
    let owner = if expected[0].0 == scene.tenant { &scene } else { &other };
    let filter = RunFilter { status: Some(RunStatus::Parked), ..RunFilter::default() };
    let parked =
        owner.store.runs(&owner.tenant_scope(), filter, PageRequest::first_page(9)).await.expect("a read");
    assert_eq!(parked.iter().map(|run| run.head.wake_at).collect::<Vec<_>>(), [Some(scene_time(60_000))]);
}

pub(super) async fn runs_that_time_wakes_are_listed_by_their_time_in_pages_and_none_of_what_is_erased(
    store: Arc<dyn Store>,
) {
    let (mut scenes, mut expected) = (Vec::new(), Vec::new());
    for (seed, wakes) in [(1, 2_000), (2, 1_000), (3, 1_000), (4, 3_000)] {
        let scene = StoreScene::open_scene(Arc::clone(&store), seed).await;
        let run = scene.begin_turn(0).await;
        let mut rests = run_append(run, 1, 2, vec![model_called(2)], RunStatus::Parked);
        rests.head.wake_at = Some(scene_time(wakes));
        scene.commit_mutation(Mutation::RunAppend(rests)).await;
        expected.push((scene_time(wakes), scene.tenant, run));
        scenes.push(scene);
    }
    // A run that goes on and one that no time wakes are not among them.
    StoreScene::open_scene(Arc::clone(&store), 5).await.begin_turn(0).await;
    let rests = StoreScene::open_scene(Arc::clone(&store), 6).await;
    let mut paused = run_append(rests.begin_turn(0).await, 1, 2, vec![model_called(2)], RunStatus::Parked);
    paused.head.wake_at = None;
    rests.commit_done(rests.new_batch().with_mutation(Mutation::RunAppend(paused))).await;
    expected.sort_unstable();
    let parked = |page| {
        let store = Arc::clone(&store);
        async move {
            let rows = store.parked_runs(&StoreScene::node_operator(), page).await.expect("a read");
            let place = |row: &OpenRun| Some((row.run.head.wake_at?, row.tenant, row.run.id));
            rows.iter().filter_map(place).collect::<Vec<_>>()
        }
    };
    assert_eq!(parked(PageRequest::first_page(9)).await, expected);
    for read in 0..=expected.len() {
        let after = read.checked_sub(1).map(|last| expected[last]);
        assert_eq!(parked(PageRequest { after, limit: 9 }).await, expected[read..], "after {read}");
        let one = expected.len().min(read + 1);
        assert_eq!(parked(PageRequest { after, limit: 1 }).await, expected[read..one], "one after {read}");
    }
    let gone = &scenes[0];
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let mark = Mutation::AgentStateSet(AgentStateSet { agent: gone.agent, from, to });
    gone.commit_done(gone.new_batch().with_mutation(mark)).await;
    expected.retain(|(_, tenant, _)| *tenant != gone.tenant);
    assert_eq!(parked(PageRequest::first_page(9)).await, expected);
}
