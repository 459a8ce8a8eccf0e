//! Claims about tenants: nothing crosses, and what cannot be seen is not there.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, Mutation, Page, Refusal, RunFilter, RunTakeover, StatePut, Store, TailLimits,
};

use super::scene::{
    Scene, agent_create, all_of, append, at, completed, input, pin, session_key, session_open,
};

pub(super) async fn a_row_of_another_tenant_is_refused_by_the_store(store: Arc<dyn Store>) {
    let mine = Scene::open(store, 1).await;
    let theirs = Scene::open(Arc::clone(&mine.store), 2).await;
    let run = theirs.turn(0).await;
    let before = all_of(&theirs.store, &theirs.scope(), theirs.session).await;
    let state = StatePut {
        session: theirs.session,
        name: "mood".to_owned(),
        expected: None,
        value: Bytes::from_static(b"x"),
        at: at(1),
    };
    let set =
        AgentStateSet { agent: theirs.agent, from: vec![AgentState::Running], to: AgentState::Terminated };
    let crossings = [
        Mutation::AgentStateSet(set),
        session_open(mine.session_id(), theirs.agent, "spy"),
        Mutation::InboxPut(input(InboxOwner::Session(theirs.session), mine.item_id())),
        Mutation::InboxPut(input(InboxOwner::Run(run), mine.item_id())),
        Mutation::RunAppend(append(run, 1, 2, vec![completed()], RunStatus::Completed)),
        Mutation::RunTakeover(RunTakeover { run, from_epoch: 1, holder: Digest::default(), at: at(9) }),
        Mutation::StatePut(state),
    ];
    for crossing in crossings {
        let refusal = mine.refused(mine.batch().with(crossing.clone())).await;
        assert!(matches!(refusal, Refusal::NotFound(_)), "{crossing:?} was answered {refusal:?}");
    }
    let mut claim = mine.batch();
    claim.claim = Some(theirs.claim(mine.run_id(), 1, &[mine.item_id()]));
    assert!(matches!(mine.refused(claim).await, Refusal::NotFound(_)));
    assert_eq!(all_of(&theirs.store, &theirs.scope(), theirs.session).await, before);
    let agent = theirs.store.agent(&theirs.scope(), theirs.agent).await.expect("a read");
    assert_eq!(agent.map(|agent| agent.state), Some(AgentState::Running));
}

pub(super) async fn a_stranger_finds_nothing(store: Arc<dyn Store>) {
    let mine = Scene::open(store, 1).await;
    let run = mine.turn(0).await;
    let pin = pin("prompt");
    let digest = pin.digest;
    let state = StatePut {
        session: mine.session,
        name: "mood".to_owned(),
        expected: None,
        value: Bytes::from_static(b"x"),
        at: at(1),
    };
    mine.done(mine.batch().with(Mutation::PinPut(pin)).with(Mutation::StatePut(state))).await;
    let theirs = Scene::open(Arc::clone(&mine.store), 2).await;
    let (store, stranger) = (&mine.store, theirs.scope());
    let limits = TailLimits { items: 9, bytes: 1 << 20 };
    let ada = "ada".parse().expect("a handle");
    let revision = store.agent(&mine.scope(), mine.agent).await.expect("a read").expect("an agent").revision;
    assert_eq!(store.agent(&stranger, mine.agent).await, Ok(None));
    let found = store.agent_by_handle(&stranger, &ada).await.expect("a read").expect("their own ada");
    assert_eq!(found.id, theirs.agent);
    assert_eq!(store.revision(&stranger, mine.agent, revision).await, Ok(None));
    assert_eq!(store.session(&stranger, mine.session).await, Ok(None));
    assert_eq!(store.session_by_key(&stranger, mine.agent, &session_key("main")).await, Ok(None));
    assert_eq!(store.session_tail(&stranger, mine.session, limits).await, Ok(None));
    assert_eq!(store.sessions(&stranger, Some(mine.agent), Page::first(9)).await, Ok(Vec::new()));
    assert_eq!(store.run(&stranger, run).await, Ok(None));
    assert_eq!(store.runs(&stranger, RunFilter::default(), Page::first(9)).await, Ok(Vec::new()));
    assert_eq!(store.journal(&stranger, run, 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.inbox(&stranger, InboxOwner::Session(mine.session), 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.inbox(&stranger, InboxOwner::Run(run), 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.pin(&stranger, digest).await, Ok(None));
    assert_eq!(store.state(&stranger, mine.session, Page::first(9)).await, Ok(Vec::new()));
    // The same questions find everything where they should, so an empty store would not pass.
    assert!(matches!(store.run(&mine.scope(), run).await, Ok(Some(_))));
    assert_eq!(store.pin(&mine.scope(), digest).await, Ok(Some(Bytes::from_static(b"prompt"))));
    assert!(matches!(store.revision(&mine.scope(), mine.agent, revision).await, Ok(Some(_))));
    assert_eq!(store.state(&mine.scope(), mine.session, Page::first(9)).await.expect("a read").len(), 1);
    assert_eq!(store.journal(&mine.scope(), run, 0, 9).await.expect("a read").len(), 2);
}

pub(super) async fn a_scope_narrowed_to_one_agent_finds_nothing_of_another(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let run = scene.turn(0).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene.done(scene.batch().with(agent_create(bob, "bob")).with(session_open(bobs, bob, "main"))).await;
    let store = &scene.store;
    let narrow = scene.scope().narrowed_to(bob);
    let agents = store.agents(&narrow, None, Page::first(9)).await.expect("a read");
    assert_eq!(agents.iter().map(|agent| agent.id).collect::<Vec<_>>(), [bob]);
    let sessions = store.sessions(&narrow, None, Page::first(9)).await.expect("a read");
    assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [bobs]);
    assert_eq!(store.agent(&narrow, scene.agent).await, Ok(None));
    assert_eq!(store.session(&narrow, scene.session).await, Ok(None));
    assert_eq!(store.run(&narrow, run).await, Ok(None));
    assert_eq!(store.runs(&narrow, RunFilter::default(), Page::first(9)).await, Ok(Vec::new()));
    assert_eq!(store.journal(&narrow, run, 0, 9).await, Ok(Vec::new()));
    assert_eq!(store.inbox(&narrow, InboxOwner::Session(scene.session), 0, 9).await, Ok(Vec::new()));
    let both = store.sessions(&scene.scope(), None, Page::first(9)).await.expect("a read");
    assert_eq!(
        both.iter().map(|session| session.id).collect::<Vec<_>>(),
        [bobs, scene.session],
        "newest first"
    );
    let page = Page { after: Some(bobs), limit: 9 };
    let older = store.sessions(&scene.scope(), None, page).await.expect("a read");
    assert_eq!(older.iter().map(|session| session.id).collect::<Vec<_>>(), [scene.session]);
}
