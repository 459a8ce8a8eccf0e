//! Claims about batches: whole or not at all, twice equals once, preconditions.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, Batch, Claim, InboxPut, ItemKey, KeyLifetime, KeyedItem, Mutation, Page, Pin, Refusal,
    RunFilter, StatePut, Store, TenantCreate, TokenCreate,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Digest, ItemId};

use super::scene::{
    Scene, agent_create, append, at, completed, input, model_called, model_replied, pin, session_key,
    session_open, started,
};

pub(super) async fn a_batch_submitted_twice_gives_the_receipt_of_the_first_time(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (item, keyed, run) = (scene.item_id(), scene.item_id(), scene.run_id());
    let mut put_keyed = scene.put(keyed);
    put_keyed.key = Some(ItemKey {
        key: "k".to_owned(),
        request: Digest::from_bytes([1; 32]),
        lifetime: KeyLifetime::Day,
    });
    let (agent, session) = (scene.agent_id(), scene.session_id());
    let mut all = scene
        .batch()
        .with(agent_create(agent, "bob"))
        .with(session_open(session, agent, "other"))
        .with(Mutation::TokenCreate(TokenCreate {
            token: scene.token_id(),
            hash: Digest::from_bytes([9; 32]),
            name: "ci".to_owned(),
            scopes: TokenScopes::ADMIN,
            expires_at: None,
            at: at(1),
        }))
        .with(Mutation::PinPut(pin("prompt")))
        .with(Mutation::StatePut(StatePut {
            session: scene.session,
            name: "mood".to_owned(),
            expected: Some(0),
            value: Bytes::from_static(b"1"),
            at: at(5),
        }))
        .with(Mutation::InboxPut(put_keyed))
        .with(Mutation::InboxPut(scene.put(item)));
    all.claim = Some(scene.claim(run, 0, &[keyed, item]));
    let end = scene.batch().with(Mutation::RunAppend(append(
        run,
        1,
        2,
        vec![model_replied(1, "hi"), completed()],
        RunStatus::Completed,
    )));
    for batch in [all, end] {
        let first = scene.done(batch.clone()).await;
        let before = everything(&scene).await;
        assert_eq!(scene.done(batch).await, first);
        assert_eq!(everything(&scene).await, before, "the second time changes nothing");
    }
}

/// Reads what a scene's batches touch.
async fn everything(scene: &Scene) -> String {
    let (store, scope) = (&scene.store, scene.scope());
    let tail = super::scene::all_of(store, &scope, scene.session).await;
    let agents = store.agents(&scope, None, Page::first(9)).await;
    let runs = store.runs(&scope, RunFilter::default(), Page::first(9)).await;
    let state = store.state(&scope, scene.session, Page::first(9)).await;
    let inbox = store.inbox(&scope, InboxOwner::Session(scene.session), 0, 9).await;
    let tokens = store.tokens(&scope, None, Page::first(9)).await;
    format!("{tail:?} {agents:?} {runs:?} {state:?} {inbox:?} {tokens:?}")
}

pub(super) async fn a_refused_batch_leaves_no_row(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (agent, item) = (scene.agent_id(), scene.item_id());
    let before = everything(&scene).await;
    let batch = scene
        .batch()
        .with(agent_create(agent, "bob"))
        .with(Mutation::InboxPut(scene.put(item)))
        .with(Mutation::RunAppend(append(scene.run_id(), 1, 0, vec![completed()], RunStatus::Completed)));
    assert!(matches!(scene.refused(batch).await, Refusal::NotFound(_)));
    assert_eq!(everything(&scene).await, before);
    let receipt = scene.done(scene.batch().with(Mutation::InboxPut(scene.put(item)))).await;
    assert_eq!(receipt.positions, [1], "the refused put took no position");
}

pub(super) async fn a_batch_over_the_limits_is_malformed(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let mut rows = scene.batch();
    for _ in 0..=Batch::ROWS_MAX {
        rows = rows.with(Mutation::InboxPut(scene.put(scene.item_id())));
    }
    let mut bytes = scene.put(scene.item_id());
    bytes.body = vec![b'x'; Batch::BYTES_MAX + 1].into();
    let forged = Pin { digest: Digest::default(), ..pin("prompt") };
    let forged = scene.batch().with(Mutation::PinPut(forged));
    for batch in [rows, scene.batch().with(Mutation::InboxPut(bytes)), forged] {
        assert!(matches!(scene.refused(batch).await, Refusal::Malformed(_)));
    }
    let run = scene.turn(0).await;
    let empty = append(run, 1, 2, Vec::new(), RunStatus::Running);
    assert!(matches!(
        scene.refused(scene.batch().with(Mutation::RunAppend(empty))).await,
        Refusal::Malformed(_)
    ));
}

pub(super) async fn a_handle_is_taken_once(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let second = scene.batch().with(agent_create(scene.agent_id(), "ada"));
    assert_eq!(scene.refused(second).await, Refusal::HandleTaken("ada".parse().expect("a handle")));
    let other = Scene::open(Arc::clone(&scene.store), 2).await;
    assert_ne!(other.tenant, scene.tenant, "another tenant may use the agent's handle");
    let mut third = Batch::new(dromia_contracts::TenantId::from_bytes([5; 16]));
    third = third.with(Mutation::TenantCreate(TenantCreate {
        handle: "t1".parse().expect("a handle"),
        at: at(0),
        body_key: [1; 32],
    }));
    assert_eq!(scene.refused(third).await, Refusal::HandleTaken("t1".parse().expect("a handle")));
    let open = scene.batch().with(session_open(scene.session_id(), scene.agent, "main"));
    assert_eq!(scene.refused(open).await, Refusal::SessionExists { session: scene.session });
}

pub(super) async fn a_state_entry_changes_only_from_the_version_expected(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let put = |expected, value: &'static str, ms| {
        scene.batch().with(Mutation::StatePut(StatePut {
            session: scene.session,
            name: "mood".to_owned(),
            expected,
            value: Bytes::from_static(value.as_bytes()),
            at: at(ms),
        }))
    };
    assert_eq!(scene.refused(put(Some(1), "early", 1)).await, Refusal::StateVersion { found: 0 });
    scene.done(put(Some(0), "a", 2)).await;
    scene.done(put(Some(1), "b", 3)).await;
    assert_eq!(scene.refused(put(Some(1), "late", 4)).await, Refusal::StateVersion { found: 2 });
    scene.done(put(None, "c", 5)).await;
    let state = scene.store.state(&scene.scope(), scene.session, Page::first(9)).await.expect("a read");
    let found: Vec<_> =
        state.iter().map(|entry| (entry.name.as_str(), entry.version, &entry.value[..])).collect();
    assert_eq!(found, [("mood", 3, &b"c"[..])]);
}

pub(super) async fn a_session_holds_so_many_state_entries_and_gives_them_in_pages(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let put = |name: String| {
        Mutation::StatePut(StatePut {
            session: scene.session,
            name,
            expected: Some(0),
            value: Bytes::from_static(b"1"),
            at: at(1),
        })
    };
    let names: Vec<_> = (0..StatePut::ENTRIES_MAX).map(|number| format!("n{number:03}")).collect();
    for chunk in names.chunks(Batch::ROWS_MAX / 2) {
        scene.done(chunk.iter().cloned().map(put).fold(scene.batch(), Batch::with)).await;
    }
    let over = scene.refused(scene.batch().with(put("one more".to_owned()))).await;
    assert!(matches!(over, Refusal::Malformed(_)), "{over:?}");
    let again = scene.batch().with(put(names[7].clone()));
    scene.done(again).await;
    let change = |expected, ms| StatePut {
        session: scene.session,
        name: names[7].clone(),
        expected,
        value: Bytes::from_static(b"2"),
        at: at(ms),
    };
    scene.done(scene.batch().with(Mutation::StatePut(change(Some(1), 2)))).await;
    let scope = scene.scope();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let page = Page { after: after.as_deref(), limit: 100 };
        let entries = scene.store.state(&scope, scene.session, page).await.expect("a read");
        assert!(entries.len() <= 100);
        if entries.is_empty() {
            break;
        }
        seen.extend(entries.into_iter().map(|entry| entry.name));
    }
    assert_eq!(seen, names);
    let one = scene.store.state_entry(&scope, scene.session, &names[7]).await.expect("a read");
    assert_eq!(one.map(|entry| (entry.version, entry.value)), Some((2, Bytes::from_static(b"2"))));
    assert_eq!(scene.store.state_entry(&scope, scene.session, "one more").await, Ok(None));
}

pub(super) async fn a_key_stands_for_one_item(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (first, second) = (scene.item_id(), scene.item_id());
    let request = Digest::from_bytes([1; 32]);
    let keyed = |item, request| {
        let mut put = scene.put(item);
        put.key = Some(ItemKey { key: "order-7".to_owned(), request, lifetime: KeyLifetime::Day });
        scene.batch().with(Mutation::InboxPut(put))
    };
    assert_eq!(scene.done(keyed(first, request)).await.positions, [1]);
    let owner = InboxOwner::Session(scene.session);
    let taken = Refusal::KeyTaken { item: first, owner, position: 1, request };
    assert_eq!(scene.refused(keyed(second, request)).await, taken);
    assert_eq!(scene.refused(keyed(second, Digest::from_bytes([2; 32]))).await, taken);
    let found = KeyedItem { item: first, owner, position: 1, request };
    let scope = scene.scope();
    assert_eq!(scene.store.keyed(&scope, "order-7", at(9)).await, Ok(Some(found)));
    assert_eq!(scene.store.keyed(&scope, "order-8", at(9)).await, Ok(None));
    assert_eq!(scene.store.keyed(&scope.narrowed_to(scene.agent), "order-7", at(9)).await, Ok(None));
    let other = Scene::open(Arc::clone(&scene.store), 2).await;
    assert_eq!(other.store.keyed(&other.scope(), "order-7", at(9)).await, Ok(None), "it is a stranger's");
    let mut put = other.put(other.item_id());
    put.key = Some(ItemKey { key: "order-7".to_owned(), request, lifetime: KeyLifetime::Day });
    assert_eq!(other.done(other.batch().with(Mutation::InboxPut(put))).await.positions, [1]);
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// An input of the scene's session, so many milliseconds after its beginning, under a key.
fn keyed(scene: &Scene, item: ItemId, ms: i64, lifetime: KeyLifetime) -> InboxPut {
    let key = ItemKey { key: format!("{lifetime:?}"), request: Digest::from_bytes([1; 32]), lifetime };
    InboxPut { at: at(ms), key: Some(key), ..scene.put(item) }
}

pub(super) async fn a_key_of_a_day_is_free_after_24_hours_and_a_key_for_ever_is_not(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (day, ever) = (scene.item_id(), scene.item_id());
    let put = |item, ms, lifetime| scene.batch().with(Mutation::InboxPut(keyed(&scene, item, ms, lifetime)));
    assert_eq!(scene.done(put(day, 3, KeyLifetime::Day)).await.positions, [1]);
    assert_eq!(scene.done(put(ever, 3, KeyLifetime::Forever)).await.positions, [2]);
    let taken = |refusal| match refusal {
        Refusal::KeyTaken { item, .. } => item,
        other => panic!("expected KeyTaken, found {other:?}"),
    };
    let late = scene.item_id();
    assert_eq!(taken(scene.refused(put(late, 2 + DAY_MS, KeyLifetime::Day)).await), day);
    for (ms, item) in [(2 + DAY_MS, Some(day)), (3 + DAY_MS, None)] {
        let found = scene.store.keyed(&scene.scope(), "Day", at(ms)).await.expect("a read");
        assert_eq!(found.map(|found| found.item), item);
    }
    assert_eq!(
        scene.done(put(day, 3, KeyLifetime::Day)).await.positions,
        [1],
        "the same batch is recognised"
    );
    let next = put(late, 3 + DAY_MS, KeyLifetime::Day);
    assert_eq!(scene.done(next.clone()).await.positions, [3], "the key is free");
    assert_eq!(scene.done(next).await.positions, [3], "and stands for the new item");
    let third = scene.item_id();
    assert_eq!(taken(scene.refused(put(third, 4 + DAY_MS, KeyLifetime::Day)).await), late);
    assert_eq!(taken(scene.refused(put(third, 4 + 99 * DAY_MS, KeyLifetime::Forever)).await), ever);
    assert_eq!(scene.done(put(third, 3 + 2 * DAY_MS, KeyLifetime::Day)).await.positions, [4]);
}

pub(super) async fn a_key_that_was_used_again_outlives_the_agent_of_its_first_item(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene.done(scene.batch().with(agent_create(bob, "bob")).with(session_open(bobs, bob, "b"))).await;
    let first = keyed(&scene, scene.item_id(), 3, KeyLifetime::Day);
    scene.done(scene.batch().with(Mutation::InboxPut(first))).await;
    let mut again = keyed(&scene, scene.item_id(), 3 + DAY_MS, KeyLifetime::Day);
    again.owner = InboxOwner::Session(bobs);
    let again = scene.batch().with(Mutation::InboxPut(again));
    let receipt = scene.done(again.clone()).await;
    let delete =
        AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(scene.batch().with(Mutation::AgentStateSet(delete))).await;
    while !scene.store.erase_agent_page(&scene.scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(scene.done(again).await, receipt, "bob's item is still found by its key");
    let mut third = keyed(&scene, scene.item_id(), 4 + DAY_MS, KeyLifetime::Day);
    third.owner = InboxOwner::Session(bobs);
    let refused = scene.refused(scene.batch().with(Mutation::InboxPut(third))).await;
    assert!(matches!(refused, Refusal::KeyTaken { position: 1, .. }), "{refused:?}");
}

pub(super) async fn an_agents_state_changes_only_from_the_states_named(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let set = |from: &[AgentState], to| {
        let from = from.to_vec();
        scene.batch().with(Mutation::AgentStateSet(AgentStateSet { agent: scene.agent, from, to }))
    };
    let found = AgentState::Running;
    assert_eq!(
        scene.refused(set(&[AgentState::Paused], AgentState::Terminated)).await,
        Refusal::AgentState { found }
    );
    scene.done(set(&[AgentState::Running], AgentState::Paused)).await;
    scene.done(set(&[], AgentState::Paused)).await;
    let agent = scene.store.agent(&scene.scope(), scene.agent).await.expect("a read").expect("it is there");
    assert_eq!(agent.state, AgentState::Paused);
    let paused = scene.store.agents(&scene.scope(), Some(AgentState::Paused), Page::first(9)).await;
    assert_eq!(paused.expect("a read").len(), 1);
    let running = scene.store.agents(&scene.scope(), Some(AgentState::Running), Page::first(9)).await;
    assert_eq!(running.expect("a read"), []);
}

pub(super) async fn erasing_an_agent_leaves_nothing_of_it_and_all_of_its_neighbour(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (store, scope) = (Arc::clone(&scene.store), scene.scope());
    let bob = scene.agent_id();
    let bobs = scene.session_id();
    let setup = scene.batch().with(agent_create(bob, "bob")).with(session_open(bobs, bob, "main"));
    scene.done(setup).await;
    for after in 0..3 {
        let run = scene.turn(after).await;
        let reply = vec![model_replied(1, vec![b'r'; 5_000]), completed()];
        let end = append(run, 1, 2, reply, RunStatus::Completed);
        scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
    }
    let delete =
        AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(scene.batch().with(Mutation::AgentStateSet(delete))).await;
    assert_eq!(store.agent(&scope, scene.agent).await, Ok(None), "one that is being erased is not found");
    let deleting = store.deleting_agents(&Scene::operator()).await.expect("a read");
    assert_eq!(deleting, [(scene.tenant, scene.agent)]);
    let (mut sessions, mut runs, mut entries, mut items) = (0, 0, 0, 0);
    for page in 0.. {
        assert!(page < 100, "erasing twelve entries takes a few pages");
        let (erased, last) = store.erase_agent_page(&scope, scene.agent).await.expect("a page");
        sessions += erased.sessions;
        runs += erased.runs;
        entries += erased.entries;
        items += erased.items;
        if last {
            break;
        }
    }
    assert_eq!((sessions, runs, entries, items), (1, 3, 12, 3));
    assert_eq!(store.deleting_agents(&Scene::operator()).await.expect("a read"), []);
    let left = store.runs(&scope, RunFilter::default(), Page::first(9)).await.expect("a read");
    assert_eq!(left, []);
    assert_eq!(store.session(&scope, scene.session).await, Ok(None));
    assert_eq!(store.inbox(&scope, InboxOwner::Session(scene.session), 0, 9).await, Ok(Vec::new()));
    let neighbour = store.session_by_key(&scope, bob, &session_key("main")).await.expect("a read");
    assert_eq!(neighbour.map(|session| session.id), Some(bobs));
    scene.done(scene.batch().with(agent_create(scene.agent_id(), "ada"))).await;
}

pub(super) async fn a_pin_goes_with_the_last_agent_whose_runs_name_it(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    let setup = scene.batch().with(agent_create(bob, "bob")).with(session_open(bobs, bob, "main"));
    scene.done(setup.with(Mutation::PinPut(pin("of nobody")))).await;
    for (agent, session) in [(scene.agent, scene.session), (bob, bobs)] {
        let item = scene.item_id();
        let mut batch = scene.batch().with(Mutation::InboxPut(input(InboxOwner::Session(session), item)));
        batch = batch.with(Mutation::PinPut(pin("of both")));
        if agent == bob {
            batch = batch.with(Mutation::PinPut(pin("of bob")));
        }
        let entries = vec![started(agent, session, 0, &[item]), model_called(1)];
        let claim = scene.claim(scene.run_id(), 0, &[item]);
        batch.claim = Some(Claim { session, agent, entries, ..claim });
        assert!(scene.done(batch).await.claimed, "a free session is claimed");
    }
    assert_eq!(pins_left(&scene).await, ["of nobody", "of both", "of bob"]);
    for (agent, expected) in [(bob, &["of nobody", "of both"][..]), (scene.agent, &["of nobody"][..])] {
        let set = AgentStateSet { agent, from: vec![AgentState::Running], to: AgentState::Deleting };
        scene.done(scene.batch().with(Mutation::AgentStateSet(set))).await;
        while !scene.store.erase_agent_page(&scene.scope(), agent).await.expect("a page").1 {}
        assert_eq!(pins_left(&scene).await, expected);
    }
}

/// Which of the texts that the claim above keeps are there.
async fn pins_left(scene: &Scene) -> Vec<&'static str> {
    let mut left = Vec::new();
    for text in ["of nobody", "of both", "of bob"] {
        let found = scene.store.pin(&scene.scope(), pin(text).digest).await.expect("a read");
        left.extend(found.map(|_| text));
    }
    left
}
