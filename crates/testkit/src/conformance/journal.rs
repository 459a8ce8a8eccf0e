//! Claims about runs: one writer, gapless numbers, a chain, takeover, signals.

use std::sync::Arc;

use dromia_contracts::Digest;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, Mutation, OpenRun, Page, Refusal, RunFilter, RunTakeover, Store,
};

use super::scene::{Scene, append, at, completed, input, model_called, model_replied, signal_taken};

pub(super) async fn an_append_holds_only_at_the_runs_epoch_and_number(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let put = |epoch, after, text: &'static str| {
        let entries = vec![model_replied(1, text)];
        scene.batch().with(Mutation::RunAppend(append(run, epoch, after, entries, RunStatus::Running)))
    };
    assert_eq!(scene.refused(put(2, 2, "a")).await, Refusal::EpochStale { found: 1 });
    assert_eq!(scene.refused(put(1, 1, "a")).await, Refusal::SequenceMoved { found: 2 });
    assert_eq!(scene.refused(put(1, 3, "a")).await, Refusal::SequenceMoved { found: 2 });
    scene.done(put(1, 2, "a")).await;
    assert_eq!(scene.refused(put(1, 2, "b")).await, Refusal::SequenceMoved { found: 3 }, "another text");
    let found = scene.store.run(&scene.scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.last_seq, found.epoch, found.entry_epoch, found.updated_at), (3, 1, 1, at(6)));
}

pub(super) async fn a_takeover_raises_the_epoch_and_fences_the_old_owner(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let takeover = |from_epoch, holder| {
        let holder = Digest::from_bytes([holder; 32]);
        scene.batch().with(Mutation::RunTakeover(RunTakeover { run, from_epoch, holder, at: at(9) }))
    };
    scene.done(takeover(1, 1)).await;
    scene.done(takeover(1, 1)).await;
    assert_eq!(scene.refused(takeover(1, 2)).await, Refusal::EpochStale { found: 2 }, "the loser stops");
    let found = scene.store.run(&scene.scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.epoch, found.entry_epoch, found.claims_without_entry()), (2, 1, 1));
    let old = append(run, 1, 2, vec![model_replied(1, "a")], RunStatus::Running);
    let refusal = scene.refused(scene.batch().with(Mutation::RunAppend(old))).await;
    assert_eq!(refusal, Refusal::EpochStale { found: 2 });
    let new = append(run, 2, 2, vec![model_replied(1, "a")], RunStatus::Running);
    scene.done(scene.batch().with(Mutation::RunAppend(new))).await;
    let found = scene.store.run(&scene.scope(), run).await.expect("a read").expect("a run");
    assert_eq!((found.epoch, found.entry_epoch, found.last_seq), (2, 2, 3));
    scene.done(takeover(2, 2)).await;
    assert_eq!(scene.refused(takeover(1, 2)).await, Refusal::EpochStale { found: 3 });
}

pub(super) async fn an_ended_run_never_changes(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let end = append(run, 1, 2, vec![completed()], RunStatus::Completed);
    scene.done(scene.batch().with(Mutation::RunAppend(end.clone()))).await;
    scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    let before = scene.store.run(&scene.scope(), run).await;
    let more = append(run, 1, 3, vec![model_replied(2, "more")], RunStatus::Running);
    assert_eq!(scene.refused(scene.batch().with(Mutation::RunAppend(more))).await, Refusal::RunTerminal);
    let takeover = RunTakeover { run, from_epoch: 1, holder: Digest::default(), at: at(9) };
    assert_eq!(
        scene.refused(scene.batch().with(Mutation::RunTakeover(takeover))).await,
        Refusal::RunTerminal
    );
    assert_eq!(scene.store.run(&scene.scope(), run).await, before);
}

pub(super) async fn a_journal_is_chained_numbered_and_paged(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let sizes = [10, 5_000, 300_000];
    for (step, size) in sizes.into_iter().enumerate() {
        let step = u32::try_from(step).expect("a small number");
        let entries = vec![model_replied(step + 1, vec![b'b'; size]), model_called(step + 2)];
        let more = append(run, 1, 2 + 2 * u64::from(step), entries, RunStatus::Running);
        scene.done(scene.batch().with(Mutation::RunAppend(more))).await;
    }
    let scope = scene.scope();
    let whole = scene.store.journal(&scope, run, 0, 99).await.expect("a read");
    assert!(whole.iter().map(|entry| entry.seq).eq(1..=8), "numbers without gap");
    let bodies: Vec<_> =
        whole.iter().filter_map(|entry| entry.body.as_ref().map(bytes::Bytes::len)).collect();
    assert_eq!(bodies, sizes);
    assert!(whole.iter().all(|entry| entry.decode().is_ok()));
    let mut before = Digest::default();
    for entry in &whole {
        assert_eq!(entry.chain, crate::reference::chain(before, entry, &[7; 32]), "entry {}", entry.seq);
        before = entry.chain;
    }
    let mut paged = Vec::new();
    while let Some(page) =
        Some(scene.store.journal(&scope, run, paged.len() as u64, 3).await.expect("a read"))
            .filter(|p| !p.is_empty())
    {
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, whole);
}

pub(super) async fn a_signal_waits_in_the_runs_inbox_until_it_is_taken(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let item = scene.item_id();
    let put = Mutation::InboxPut(input(InboxOwner::Run(run), item));
    assert_eq!(scene.done(scene.batch().with(put.clone())).await.positions, [1]);
    assert_eq!(scene.done(scene.batch().with(put)).await.positions, [1]);
    let found = scene.store.run(&scene.scope(), run).await.expect("a read").expect("a run");
    assert_eq!(found.signals_last, 1);
    let signals = || async {
        let read = scene.store.inbox(&scene.scope(), InboxOwner::Run(run), 0, 9).await.expect("a read");
        read.into_iter().map(|signal| (signal.id, signal.position)).collect::<Vec<_>>()
    };
    assert_eq!(signals().await, [(item, 1)]);
    let taken = append(run, 1, 2, vec![signal_taken(item, 1), completed()], RunStatus::Cancelled);
    scene.done(scene.batch().with(Mutation::RunAppend(taken))).await;
    assert_eq!(signals().await, [(item, 1)], "a signal stays on record");
    let session =
        scene.store.session(&scene.scope(), scene.session).await.expect("a read").expect("a session");
    assert_eq!(session.head.last, 1, "a signal is no input");
}

pub(super) async fn an_ended_run_takes_no_signal(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let early = scene.batch().with(Mutation::InboxPut(input(InboxOwner::Run(run), scene.item_id())));
    let first = scene.done(early.clone()).await;
    let end = append(run, 1, 2, vec![completed()], RunStatus::Completed);
    scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    let before = scene.store.run(&scene.scope(), run).await;
    let late = scene.batch().with(Mutation::InboxPut(input(InboxOwner::Run(run), scene.item_id())));
    assert_eq!(scene.refused(late).await, Refusal::RunTerminal);
    // The end and the signal in one batch: the signal comes too late, and the batch leaves nothing.
    let other = scene.turn(1).await;
    let ends = append(other, 1, 2, vec![completed()], RunStatus::Completed);
    let torn = scene.batch().with(Mutation::RunAppend(ends));
    let torn = torn.with(Mutation::InboxPut(input(InboxOwner::Run(other), scene.item_id())));
    assert_eq!(scene.refused(torn).await, Refusal::RunTerminal);
    let open = scene.store.run(&scene.scope(), other).await.expect("a read").expect("a run");
    assert_eq!((open.head.status, open.signals_last), (RunStatus::Running, 0));
    assert_eq!(scene.store.run(&scene.scope(), run).await, before, "nothing was written");
    assert_eq!(scene.done(early).await, first, "a signal that came in time is still known");
}

pub(super) async fn a_run_that_has_not_ended_is_open(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let other = Scene::open(Arc::clone(&scene.store), 2).await;
    let mut expected = vec![(scene.tenant, scene.turn(0).await), (other.tenant, other.turn(0).await)];
    expected.sort_unstable();
    let open = |page| {
        let store = Arc::clone(&scene.store);
        async move {
            let rows = store.open_runs(&Scene::operator(), page).await.expect("a read");
            rows.into_iter().map(|row| (row.tenant, row.run.id)).collect::<Vec<_>>()
        }
    };
    assert_eq!(open(Page::first(9)).await, expected);
    assert_eq!(open(Page::first(1)).await, expected[..1]);
    assert_eq!(open(Page { after: Some(expected[0]), limit: 9 }).await, expected[1..]);
    let rests = append(expected[0].1, 1, 2, vec![model_called(2)], RunStatus::Parked);
    let ends = append(expected[1].1, 1, 2, vec![completed()], RunStatus::Completed);
    for (at, append) in [(0, rests), (1, ends)] {
        let owner = if expected[at].0 == scene.tenant { &scene } else { &other };
        owner.done(owner.batch().with(Mutation::RunAppend(append))).await;
    }
    assert_eq!(open(Page::first(9)).await, expected[..1], "a parked run is open, a completed one is not");
    let owner = if expected[0].0 == scene.tenant { &scene } else { &other };
    let filter = RunFilter { status: Some(RunStatus::Parked), ..RunFilter::default() };
    let parked = owner.store.runs(&owner.scope(), filter, Page::first(9)).await.expect("a read");
    assert_eq!(parked.iter().map(|run| run.head.wake_at).collect::<Vec<_>>(), [Some(at(60_000))]);
}

pub(super) async fn runs_that_time_wakes_are_listed_by_their_time_in_pages_and_none_of_what_is_erased(
    store: Arc<dyn Store>,
) {
    let (mut scenes, mut expected) = (Vec::new(), Vec::new());
    for (seed, wakes) in [(1, 2_000), (2, 1_000), (3, 1_000), (4, 3_000)] {
        let scene = Scene::open(Arc::clone(&store), seed).await;
        let run = scene.turn(0).await;
        let mut rests = append(run, 1, 2, vec![model_called(2)], RunStatus::Parked);
        rests.head.wake_at = Some(at(wakes));
        scene.done(scene.batch().with(Mutation::RunAppend(rests))).await;
        expected.push((at(wakes), scene.tenant, run));
        scenes.push(scene);
    }
    // A run that goes on and one that no time wakes are not among them.
    Scene::open(Arc::clone(&store), 5).await.turn(0).await;
    let rests = Scene::open(Arc::clone(&store), 6).await;
    let mut paused = append(rests.turn(0).await, 1, 2, vec![model_called(2)], RunStatus::Parked);
    paused.head.wake_at = None;
    rests.done(rests.batch().with(Mutation::RunAppend(paused))).await;
    expected.sort_unstable();
    let parked = |page| {
        let store = Arc::clone(&store);
        async move {
            let rows = store.parked_runs(&Scene::operator(), page).await.expect("a read");
            let place = |row: &OpenRun| Some((row.run.head.wake_at?, row.tenant, row.run.id));
            rows.iter().filter_map(place).collect::<Vec<_>>()
        }
    };
    assert_eq!(parked(Page::first(9)).await, expected);
    for read in 0..=expected.len() {
        let after = read.checked_sub(1).map(|last| expected[last]);
        assert_eq!(parked(Page { after, limit: 9 }).await, expected[read..], "after {read}");
        let one = expected.len().min(read + 1);
        assert_eq!(parked(Page { after, limit: 1 }).await, expected[read..one], "one after {read}");
    }
    let gone = &scenes[0];
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let mark = Mutation::AgentStateSet(AgentStateSet { agent: gone.agent, from, to });
    gone.done(gone.batch().with(mark)).await;
    expected.retain(|(_, tenant, _)| *tenant != gone.tenant);
    assert_eq!(parked(Page::first(9)).await, expected);
}
