//! Claims about imports: no read sees what an import fills before the import ends; then all of it is visible.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::id_fragment::IdKind;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    CommitRefusal, Mutation, PageRequest, RunFilter, StatePut, Store, TailLimits, TurnClaim, WriteBatch,
};
use dromia_contracts::{Digest, ItemId, RunId, SessionId, WriteId};

use super::scene::{
    StoreScene, as_import, model_called, model_replied, new_input, run_append, run_completed, run_head,
    run_started, scene_time, session_key, session_open,
};

/// The channel of the session's key.
const CHANNEL: &str = "from a file";

/// A session that an import fills, and one run of it.
struct ImportedSession {
    scene: StoreScene,
    session: SessionId,
    run: RunId,
    item: ItemId,
}

impl ImportedSession {
    fn new(scene: StoreScene) -> Self {
        let (session, run, item) = (scene.session_id(), scene.run_id(), scene.item_id());
        Self { scene, session, run, item }
    }

    /// Opens it.
    fn open_batch(&self) -> WriteBatch {
        self.scene.new_batch().with_mutation(as_import(session_open(self.session, self.scene.agent, CHANNEL)))
    }

    /// Writes custom state, an item and the beginning of the run that takes it.
    fn begin_batch(&self) -> WriteBatch {
        let state = StatePut {
            session: self.session,
            name: "mood".to_owned(),
            expected: Some(0),
            value: Bytes::from_static(b"1"),
            at: scene_time(3),
            write: WriteId::from_bytes([3; 16]),
        };
        let put = new_input(InboxOwner::Session(self.session), self.item);
        let mut batch = self
            .scene
            .new_batch()
            .with_mutation(Mutation::StatePut(state))
            .with_mutation(Mutation::InboxPut(put));
        let (agent, take) = (self.scene.agent, vec![self.item]);
        batch.claim = Some(TurnClaim {
            session: self.session,
            agent,
            run: self.run,
            holder: Digest::default(),
            after: 0,
            entries: vec![run_started(agent, self.session, 0, &take), model_called(1)],
            take,
            // One that time would wake.
            head: run_head(RunStatus::Parked),
            notice: None,
        });
        batch
    }

    /// Ends the run.
    fn complete_batch(&self) -> WriteBatch {
        let entries = vec![model_replied(1, "hi"), run_completed()];
        let end = run_append(self.run, 1, 2, entries, RunStatus::Completed);
        self.scene.new_batch().with_mutation(Mutation::RunAppend(end))
    }

    /// Ends the import.
    fn end_batch(&self) -> WriteBatch {
        self.scene.new_batch().with_mutation(Mutation::ImportEnd(self.session))
    }

    /// Names the reads that show anything of it.
    async fn visible_reads(&self) -> Vec<&'static str> {
        let Self { scene, session, run, .. } = self;
        let (store, scope, operator) = (&scene.store, scene.tenant_scope(), StoreScene::node_operator());
        let (key, limits) =
            (session_key(CHANNEL), TailLimits { after: 0, items: 9, bytes: 1 << 20, until: None });
        let mut shown = Vec::new();
        let mut note = |read, is_shown: bool| shown.extend(is_shown.then_some(read));
        note("session", store.session(&scope, *session).await.expect("a read").is_some());
        let found = store.session_by_key(&scope, scene.agent, &key).await.expect("a read");
        note("session_by_key", found.is_some());
        for agent in [None, Some(scene.agent)] {
            let listed = store.sessions(&scope, agent, PageRequest::first_page(9)).await.expect("a read");
            note("sessions", listed.iter().any(|found| found.id == *session));
        }
        note("session_tail", store.session_tail(&scope, *session, limits).await.expect("a read").is_some());
        note("run", store.run(&scope, *run).await.expect("a read").is_some());
        for filter in [RunFilter::default(), RunFilter { session: Some(*session), ..RunFilter::default() }] {
            let listed = store.runs(&scope, filter, PageRequest::first_page(9)).await.expect("a read");
            note("runs", !listed.is_empty());
            let spent = store.run_spending(&scope, filter, PageRequest::first_page(9)).await.expect("a read");
            note("run_spending", !spent.is_empty());
        }
        let part = &run.to_string()[28..];
        let part = part.parse().expect("the last digits");
        note("ids_like", !store.ids_like(&scope, IdKind::Run, part, 9).await.expect("a read").is_empty());
        let openings = store.opening_inputs(&scope, &[InboxOwner::Run(*run)]).await.expect("a read");
        note("opening_inputs", openings[0].is_some());
        let troubled = store.troubled_runs(&scope, jiff::Timestamp::MIN, 9).await.expect("a read");
        note("troubled_runs", !troubled.is_empty());
        let working = store.working_runs(&scope, 9).await.expect("a read");
        note("working_runs", !working.is_empty());
        let sum = store.spending_since(&scope, RunId::from_bytes([0; 16]), 9).await.expect("a read");
        note("spending_since", sum.runs > 0);
        note("journal", !store.journal_entries(&scope, *run, 0, 9).await.expect("a read").is_empty());
        let inbox = store.inbox_items(&scope, InboxOwner::Session(*session), 0, 9).await.expect("a read");
        note("inbox", !inbox.is_empty());
        note(
            "state",
            !store
                .session_state(&scope, *session, PageRequest::first_page(9))
                .await
                .expect("a read")
                .is_empty(),
        );
        let entry = store.state_entry(&scope, *session, "mood").await.expect("a read");
        note("state_entry", entry.is_some());
        note(
            "open_runs",
            !store.open_runs(&operator, PageRequest::first_page(9)).await.expect("a read").is_empty(),
        );
        let parked = store.parked_runs(&operator, PageRequest::first_page(9)).await.expect("a read");
        note("parked_runs", !parked.is_empty());
        let pending = store.pending_sessions(&operator, PageRequest::first_page(9)).await.expect("a read");
        note("pending_sessions", !pending.is_empty());
        shown
    }
}

/// What shows a session that is there, with a run that has ended.
const WHOLE: [&str; 17] = [
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
    "ids_like",
    "opening_inputs",
    "spending_since",
    "journal",
    "inbox",
    "state",
    "state_entry",
];

pub(super) async fn what_an_import_fills_is_there_only_when_it_ends(store: Arc<dyn Store>) {
    let filled = ImportedSession::new(StoreScene::open_scene(store, 1).await);
    let (scene, none) = (&filled.scene, Vec::<&str>::new());
    // Each batch comes twice, as after a lost acknowledgement.
    for batch in [filled.open_batch(), filled.begin_batch(), filled.open_batch()] {
        for _ in 0..2 {
            assert!(scene.commit_done(batch.clone()).await.claimed);
            assert_eq!(filled.visible_reads().await, none);
        }
    }
    let other = scene.new_batch().with_mutation(session_open(scene.session_id(), scene.agent, CHANNEL));
    let refusal = scene.commit_refused(other).await;
    assert_eq!(refusal, CommitRefusal::SessionExists { session: filled.session }, "its key is taken");
    let refusal = scene.commit_refused(filled.end_batch()).await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "a run holds it: {refusal:?}");
    scene.commit_done(filled.complete_batch()).await;
    assert_eq!(filled.visible_reads().await, none);
    // All that came before may come again, and hides nothing.
    for batch in [
        filled.end_batch(),
        filled.end_batch(),
        filled.open_batch(),
        filled.begin_batch(),
        filled.complete_batch(),
    ] {
        scene.commit_done(batch).await;
        assert_eq!(filled.visible_reads().await, WHOLE);
    }
    let stray = scene.session_id();
    let refusal = scene.refuse_mutation(Mutation::ImportEnd(stray)).await;
    assert_eq!(refusal, CommitRefusal::NotFound(stray.to_string()));
}

pub(super) async fn an_item_that_waits_in_an_import_is_nobodys_work(store: Arc<dyn Store>) {
    let filled = ImportedSession::new(StoreScene::open_scene(store, 1).await);
    let scene = &filled.scene;
    let put = new_input(InboxOwner::Session(filled.session), filled.item);
    scene.commit_done(filled.open_batch().with_mutation(Mutation::InboxPut(put))).await;
    assert_eq!(filled.visible_reads().await, Vec::<&str>::new());
    let refusal = scene.commit_refused(filled.end_batch()).await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "an item waits: {refusal:?}");
    // An import that ends in the batch that opens it never hides anything.
    let at_once = scene.session_id();
    let open = as_import(session_open(at_once, scene.agent, "at once"));
    scene
        .commit_done(scene.new_batch().with_mutation(open).with_mutation(Mutation::ImportEnd(at_once)))
        .await;
    assert!(scene.store.session(&scene.tenant_scope(), at_once).await.expect("a read").is_some());
}
