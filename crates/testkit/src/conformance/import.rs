//! Claims about imports: what an import fills is not there before its end, for nobody, and then all of it is.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    Batch, Claim, Mutation, Page, Refusal, RunFilter, StatePut, Store, TailLimits,
};
use dromia_contracts::{ItemId, RunId, SessionId};

use super::scene::{
    Scene, append, at, completed, head, imported, input, model_called, model_replied, session_key,
    session_open, started,
};

/// The channel of the session's key.
const CHANNEL: &str = "from a file";

/// A session that an import fills, and one run of it.
struct Filled {
    scene: Scene,
    session: SessionId,
    run: RunId,
    item: ItemId,
}

impl Filled {
    fn new(scene: Scene) -> Self {
        let (session, run, item) = (scene.session_id(), scene.run_id(), scene.item_id());
        Self { scene, session, run, item }
    }

    /// Opens it.
    fn open(&self) -> Batch {
        self.scene.batch().with(imported(session_open(self.session, self.scene.agent, CHANNEL)))
    }

    /// Writes custom state, an item and the beginning of the run that takes it.
    fn begin(&self) -> Batch {
        let state = StatePut {
            session: self.session,
            name: "mood".to_owned(),
            expected: Some(0),
            value: Bytes::from_static(b"1"),
            at: at(3),
        };
        let put = input(InboxOwner::Session(self.session), self.item);
        let mut batch = self.scene.batch().with(Mutation::StatePut(state)).with(Mutation::InboxPut(put));
        let (agent, take) = (self.scene.agent, vec![self.item]);
        batch.claim = Some(Claim {
            session: self.session,
            agent,
            run: self.run,
            after: 0,
            entries: vec![started(agent, self.session, 0, &take), model_called(1)],
            take,
            // One that time would wake.
            head: head(RunStatus::Parked),
        });
        batch
    }

    /// Ends the run.
    fn complete(&self) -> Batch {
        let entries = vec![model_replied(1, "hi"), completed()];
        let end = append(self.run, 1, 2, entries, RunStatus::Completed);
        self.scene.batch().with(Mutation::RunAppend(end))
    }

    /// Ends the import.
    fn end(&self) -> Batch {
        self.scene.batch().with(Mutation::ImportEnd(self.session))
    }

    /// Names the reads that show anything of it.
    async fn shown(&self) -> Vec<&'static str> {
        let Self { scene, session, run, .. } = self;
        let (store, scope, operator) = (&scene.store, scene.scope(), Scene::operator());
        let (key, limits) = (session_key(CHANNEL), TailLimits { items: 9, bytes: 1 << 20 });
        let mut shown = Vec::new();
        let mut note = |read, is_shown: bool| shown.extend(is_shown.then_some(read));
        note("session", store.session(&scope, *session).await.expect("a read").is_some());
        let found = store.session_by_key(&scope, scene.agent, &key).await.expect("a read");
        note("session_by_key", found.is_some());
        for agent in [None, Some(scene.agent)] {
            let listed = store.sessions(&scope, agent, Page::first(9)).await.expect("a read");
            note("sessions", listed.iter().any(|found| found.id == *session));
        }
        note("session_tail", store.session_tail(&scope, *session, limits).await.expect("a read").is_some());
        note("run", store.run(&scope, *run).await.expect("a read").is_some());
        for filter in [RunFilter::default(), RunFilter { session: Some(*session), ..RunFilter::default() }] {
            let listed = store.runs(&scope, filter, Page::first(9)).await.expect("a read");
            note("runs", !listed.is_empty());
            let spent = store.run_spending(&scope, filter, Page::first(9)).await.expect("a read");
            note("run_spending", !spent.is_empty());
        }
        note("journal", !store.journal(&scope, *run, 0, 9).await.expect("a read").is_empty());
        let inbox = store.inbox(&scope, InboxOwner::Session(*session), 0, 9).await.expect("a read");
        note("inbox", !inbox.is_empty());
        note("state", !store.state(&scope, *session, Page::first(9)).await.expect("a read").is_empty());
        let entry = store.state_entry(&scope, *session, "mood").await.expect("a read");
        note("state_entry", entry.is_some());
        note("open_runs", !store.open_runs(&operator, Page::first(9)).await.expect("a read").is_empty());
        let parked = store.parked_runs(&operator, Page::first(9)).await.expect("a read");
        note("parked_runs", !parked.is_empty());
        let pending = store.pending_sessions(&operator, Page::first(9)).await.expect("a read");
        note("pending_sessions", !pending.is_empty());
        shown
    }
}

/// What shows a session that is there, with a run that has ended.
const WHOLE: [&str; 14] = [
    "session",
    "session_by_key",
    "sessions",
    "sessions",
    "session_tail",
    "run",
    "runs",
    "run_spending",
    "runs",
    "run_spending",
    "journal",
    "inbox",
    "state",
    "state_entry",
];

pub(super) async fn what_an_import_fills_is_there_only_when_it_ends(store: Arc<dyn Store>) {
    let filled = Filled::new(Scene::open(store, 1).await);
    let (scene, none) = (&filled.scene, Vec::<&str>::new());
    // Each batch comes twice, as it does where nobody heard of the first time.
    for batch in [filled.open(), filled.begin(), filled.open()] {
        for _ in 0..2 {
            assert!(scene.done(batch.clone()).await.claimed);
            assert_eq!(filled.shown().await, none);
        }
    }
    let other = scene.batch().with(session_open(scene.session_id(), scene.agent, CHANNEL));
    let refusal = scene.refused(other).await;
    assert_eq!(refusal, Refusal::SessionExists { session: filled.session }, "its key is taken");
    let refusal = scene.refused(filled.end()).await;
    assert!(matches!(refusal, Refusal::Malformed(_)), "a run holds it: {refusal:?}");
    scene.done(filled.complete()).await;
    assert_eq!(filled.shown().await, none);
    // All that came before may come again, and hides nothing.
    for batch in [filled.end(), filled.end(), filled.open(), filled.begin(), filled.complete()] {
        scene.done(batch).await;
        assert_eq!(filled.shown().await, WHOLE);
    }
    let stray = scene.session_id();
    let refusal = scene.refused(scene.batch().with(Mutation::ImportEnd(stray))).await;
    assert_eq!(refusal, Refusal::NotFound(stray.to_string()));
}

pub(super) async fn an_item_that_waits_in_an_import_is_nobodys_work(store: Arc<dyn Store>) {
    let filled = Filled::new(Scene::open(store, 1).await);
    let scene = &filled.scene;
    let put = input(InboxOwner::Session(filled.session), filled.item);
    scene.done(filled.open().with(Mutation::InboxPut(put))).await;
    assert_eq!(filled.shown().await, Vec::<&str>::new());
    let refusal = scene.refused(filled.end()).await;
    assert!(matches!(refusal, Refusal::Malformed(_)), "an item waits: {refusal:?}");
    // An import that ends in the batch that opens it never hides anything.
    let at_once = scene.session_id();
    let open = imported(session_open(at_once, scene.agent, "at once"));
    scene.done(scene.batch().with(open).with(Mutation::ImportEnd(at_once))).await;
    assert!(scene.store.session(&scene.scope(), at_once).await.expect("a read").is_some());
}
