//! Claims about tenants: nothing crosses, and what cannot be seen is not there.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, Mutation, PageRequest, RunFilter, RunTakeover, StatePut, Store, TailLimits,
};

use super::scene::{
    StoreScene, agent_create, all_of, new_input, pin_text, run_append, run_completed, scene_time,
    session_key, session_open,
};

pub(super) async fn a_row_of_another_tenant_is_refused_by_the_store(store: Arc<dyn Store>) {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    let run = theirs.begin_turn(0).await;
    let before = all_of(&theirs.store, &theirs.tenant_scope(), theirs.session).await;
    let state = StatePut {
        session: theirs.session,
        name: "mood".to_owned(),
        expected: None,
        value: Bytes::from_static(b"x"),
        at: scene_time(1),
        write: mine.write_id(),
    };
    let set =
        AgentStateSet { agent: theirs.agent, from: vec![AgentState::Running], to: AgentState::Terminated };
    let crossings = [
        Mutation::AgentStateSet(set),
        session_open(mine.session_id(), theirs.agent, "spy"),
        Mutation::InboxPut(new_input(InboxOwner::Session(theirs.session), mine.item_id())),
        Mutation::InboxPut(new_input(InboxOwner::Run(run), mine.item_id())),
        Mutation::RunAppend(run_append(run, 1, 2, vec![run_completed()], RunStatus::Completed)),
        Mutation::RunTakeover(RunTakeover {
            run,
            from_epoch: 1,
            holder: Digest::default(),
            at: scene_time(9),
        }),
        Mutation::StatePut(state),
    ];
    for crossing in crossings {
        let refusal = mine.commit_refused(mine.new_batch().with_mutation(crossing.clone())).await;
        assert!(matches!(refusal, CommitRefusal::NotFound(_)), "{crossing:?} was answered {refusal:?}");
    }
    let mut claim = mine.new_batch();
    claim.claim = Some(theirs.claim_session(mine.run_id(), 1, &[mine.item_id()]));
    assert!(matches!(mine.commit_refused(claim).await, CommitRefusal::NotFound(_)));
    assert_eq!(all_of(&theirs.store, &theirs.tenant_scope(), theirs.session).await, before);
    let agent = theirs.store.agent(&theirs.tenant_scope(), theirs.agent).await.expect("a read");
    assert_eq!(agent.map(|agent| agent.state), Some(AgentState::Running));
}

pub(super) async fn a_stranger_finds_nothing(store: Arc<dyn Store>) {
    let mine = StoreScene::open_scene(store, 1).await;
    let run = mine.begin_turn(0).await;
    let pin = pin_text("prompt");
    let digest = pin.digest;
    let state = StatePut {
        session: mine.session,
        name: "mood".to_owned(),
        expected: None,
        value: Bytes::from_static(b"x"),
        at: scene_time(1),
        write: mine.write_id(),
    };
    mine.commit_done(
        mine.new_batch().with_mutation(Mutation::PinPut(pin)).with_mutation(Mutation::StatePut(state)),
    )
    .await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    let (store, stranger) = (&mine.store, theirs.tenant_scope());
    let limits = TailLimits { after: 0, items: 9, bytes: 1 << 20, until: None };
    let ada = "ada".parse().expect("a handle");
    let revision =
        store.agent(&mine.tenant_scope(), mine.agent).await.expect("a read").expect("an agent").revision;
    assert_eq!(store.agent(&stranger, mine.agent).await, Ok(None));
    let found = store.agent_by_handle(&stranger, &ada).await.expect("a read").expect("their own ada");
    assert_eq!(found.id, theirs.agent);
    assert_eq!(store.agent_revision(&stranger, mine.agent, revision).await, Ok(None));
    assert_eq!(store.session(&stranger, mine.session).await, Ok(None));
    assert_eq!(store.session_by_key(&stranger, mine.agent, &session_key("main")).await, Ok(None));
    assert_eq!(store.session_tail(&stranger, mine.session, limits).await, Ok(None));
    assert_eq!(store.sessions(&stranger, Some(mine.agent), PageRequest::first_page(9)).await, Ok(Vec::new()));
    assert_eq!(store.run(&stranger, run).await, Ok(None));
    assert_eq!(store.runs(&stranger, RunFilter::default(), PageRequest::first_page(9)).await, Ok(Vec::new()));
    assert_eq!(store.journal_entries(&stranger, run, 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.inbox_items(&stranger, InboxOwner::Session(mine.session), 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.inbox_items(&stranger, InboxOwner::Run(run), 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.pinned_text(&stranger, digest).await, Ok(None));
    assert_eq!(
        store.session_state(&stranger, mine.session, PageRequest::first_page(9)).await,
        Ok(Vec::new())
    );
    // The same questions find everything where they should, so an empty store would not pass.
    assert!(matches!(store.run(&mine.tenant_scope(), run).await, Ok(Some(_))));
    assert_eq!(
        store.pinned_text(&mine.tenant_scope(), digest).await,
        Ok(Some(Bytes::from_static(b"prompt")))
    );
    assert!(matches!(store.agent_revision(&mine.tenant_scope(), mine.agent, revision).await, Ok(Some(_))));
    assert_eq!(
        store
            .session_state(&mine.tenant_scope(), mine.session, PageRequest::first_page(9))
            .await
            .expect("a read")
            .len(),
        1
    );
    assert_eq!(store.journal_entries(&mine.tenant_scope(), run, 0, 9).await.expect("a read").len(), 2);
}

pub(super) async fn a_scope_narrowed_to_one_agent_finds_nothing_of_another(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene
        .commit_done(
            scene
                .new_batch()
                .with_mutation(agent_create(bob, "bob"))
                .with_mutation(session_open(bobs, bob, "main")),
        )
        .await;
    let store = &scene.store;
    let narrow = scene.tenant_scope().narrowed_to(bob);
    let agents = store.agents(&narrow, None, PageRequest::first_page(9)).await.expect("a read");
    assert_eq!(agents.iter().map(|agent| agent.id).collect::<Vec<_>>(), [bob]);
    let sessions = store.sessions(&narrow, None, PageRequest::first_page(9)).await.expect("a read");
    assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [bobs]);
    assert_eq!(store.agent(&narrow, scene.agent).await, Ok(None));
    assert_eq!(store.session(&narrow, scene.session).await, Ok(None));
    assert_eq!(store.run(&narrow, run).await, Ok(None));
    assert_eq!(store.runs(&narrow, RunFilter::default(), PageRequest::first_page(9)).await, Ok(Vec::new()));
    assert_eq!(store.journal_entries(&narrow, run, 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.inbox_items(&narrow, InboxOwner::Session(scene.session), 0, 9).await, Ok(Vec::new()));
    let both = store.sessions(&scene.tenant_scope(), None, PageRequest::first_page(9)).await.expect("a read");
    assert_eq!(
        both.iter().map(|session| session.id).collect::<Vec<_>>(),
        [bobs, scene.session],
        "newest first"
    );
    let page = PageRequest { after: Some(bobs), limit: 9 };
    let older = store.sessions(&scene.tenant_scope(), None, page).await.expect("a read");
    assert_eq!(older.iter().map(|session| session.id).collect::<Vec<_>>(), [scene.session]);
}
