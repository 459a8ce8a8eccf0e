//! Claims about batches: whole or not at all, twice equals once, preconditions.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, InboxPut, ItemKey, KeyLifetime, KeyedItem, Mutation, PageRequest,
    RunFilter, StatePut, Store, TenantCreate, TextPin, TokenCreate, TurnClaim, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Digest, ItemId};

use super::scene::{
    StoreScene, agent_create, model_called, model_replied, new_input, pin_text, run_append, run_completed,
    run_started, scene_time, session_key, session_open,
};

pub(super) async fn a_batch_submitted_twice_gives_the_receipt_of_the_first_time(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (item, keyed, run) = (scene.item_id(), scene.item_id(), scene.run_id());
    let mut put_keyed = scene.put_input(keyed);
    put_keyed.key = Some(ItemKey {
        key: "k".to_owned(),
        request: Digest::from_bytes([1; 32]),
        lifetime: KeyLifetime::Day,
    });
    let (agent, session) = (scene.agent_id(), scene.session_id());
    let mut all = scene
        .new_batch()
        .with_mutation(agent_create(agent, "bob"))
        .with_mutation(session_open(session, agent, "other"))
        .with_mutation(Mutation::TokenCreate(TokenCreate {
            token: scene.token_id(),
            hash: Digest::from_bytes([9; 32]),
            name: "ci".to_owned(),
            scopes: TokenScopes::ADMIN,
            expires_at: None,
            at: scene_time(1),
        }))
        .with_mutation(Mutation::PinPut(pin_text("prompt")))
        .with_mutation(Mutation::StatePut(StatePut {
            session: scene.session,
            name: "mood".to_owned(),
            expected: Some(0),
            value: Bytes::from_static(b"1"),
            at: scene_time(5),
            write: scene.write_id(),
        }))
        .with_mutation(Mutation::InboxPut(put_keyed))
        .with_mutation(Mutation::InboxPut(scene.put_input(item)));
    all.claim = Some(scene.claim_session(run, 0, &[keyed, item]));
    let end = scene.new_batch().with_mutation(Mutation::RunAppend(run_append(
        run,
        1,
        2,
        vec![model_replied(1, "hi"), run_completed()],
        RunStatus::Completed,
    )));
    for batch in [all, end] {
        let first = scene.commit_done(batch.clone()).await;
        let before = read_everything(&scene).await;
        assert_eq!(scene.commit_done(batch).await, first);
        assert_eq!(read_everything(&scene).await, before, "the second time changes nothing");
    }
}

pub(super) async fn a_batch_that_names_a_thing_twice_makes_it_once(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (agent, session) = (scene.agent_id(), scene.session_id());
    let put = |name: &str, expected, write| {
        let (session, name, at) = (scene.session, name.to_owned(), scene_time(5));
        Mutation::StatePut(StatePut { session, name, expected, value: Bytes::from_static(b"1"), at, write })
    };
    let write = scene.write_id();
    for thing in [
        agent_create(agent, "bob"),
        session_open(session, agent, "other"),
        Mutation::PinPut(pin_text("prompt")),
        put("mood", Some(0), write),
    ] {
        let before = read_everything(&scene).await;
        let twice = scene.new_batch().with_mutation(thing.clone()).with_mutation(thing.clone());
        scene.commit_done(twice).await;
        let after = read_everything(&scene).await;
        let is_listed = !matches!(thing, Mutation::PinPut(_) | Mutation::SessionOpen(_));
        assert_eq!(after != before, is_listed, "{thing:?} is there");
        scene.commit_mutation(thing).await;
        assert_eq!(read_everything(&scene).await, after);
    }
    let (other, another) = (scene.agent_id(), scene.session_id());
    let before = read_everything(&scene).await;
    for (first, second, is_expected) in [
        (agent_create(other, "eve"), agent_create(other, "mallory"), "Malformed"),
        (agent_create(other, "eve"), agent_create(scene.agent_id(), "eve"), "HandleTaken"),
        (session_open(another, agent, "x"), session_open(another, agent, "y"), "Malformed"),
        (session_open(another, agent, "x"), session_open(scene.session_id(), agent, "x"), "SessionExists"),
        (put("note", Some(0), scene.write_id()), put("note", Some(0), scene.write_id()), "StateVersion"),
    ] {
        let refusal =
            scene.commit_refused(scene.new_batch().with_mutation(first).with_mutation(second)).await;
        assert!(format!("{refusal:?}").contains(is_expected), "{refusal:?} is not {is_expected}");
    }
    assert_eq!(read_everything(&scene).await, before, "nothing of a contradiction is there");
    let next = scene.new_batch().with_mutation(put("note", Some(0), scene.write_id()));
    scene.commit_done(next.with_mutation(put("note", Some(1), scene.write_id()))).await;
}

/// Reads what a scene's batches touch.
async fn read_everything(scene: &StoreScene) -> String {
    let (store, scope) = (&scene.store, scene.tenant_scope());
    let tail = super::scene::all_of(store, &scope, scene.session).await;
    let agents = store.agents(&scope, None, PageRequest::first_page(9)).await;
    let runs = store.runs(&scope, RunFilter::default(), PageRequest::first_page(9)).await;
    let state = store.session_state(&scope, scene.session, PageRequest::first_page(9)).await;
    let inbox = store.inbox_items(&scope, InboxOwner::Session(scene.session), 0, 9).await;
    let tokens = store.tokens(&scope, None, PageRequest::first_page(9)).await;
    format!("{tail:?} {agents:?} {runs:?} {state:?} {inbox:?} {tokens:?}")
}

pub(super) async fn a_refused_batch_leaves_no_row(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (agent, item) = (scene.agent_id(), scene.item_id());
    let before = read_everything(&scene).await;
    let batch = scene
        .new_batch()
        .with_mutation(agent_create(agent, "bob"))
        .with_mutation(Mutation::InboxPut(scene.put_input(item)))
        .with_mutation(Mutation::RunAppend(run_append(
            scene.run_id(),
            1,
            0,
            vec![run_completed()],
            RunStatus::Completed,
        )));
    assert!(matches!(scene.commit_refused(batch).await, CommitRefusal::NotFound(_)));
    assert_eq!(read_everything(&scene).await, before);
    let receipt = scene.commit_mutation(Mutation::InboxPut(scene.put_input(item))).await;
    assert_eq!(receipt.positions, [1], "the refused put took no position");
}

pub(super) async fn a_batch_over_the_limits_is_malformed(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let mut rows = scene.new_batch();
    for _ in 0..=WriteBatch::ROWS_MAX {
        rows = rows.with_mutation(Mutation::InboxPut(scene.put_input(scene.item_id())));
    }
    let mut bytes = scene.put_input(scene.item_id());
    bytes.body = vec![b'x'; WriteBatch::BYTES_MAX + 1].into();
    let forged = TextPin { digest: Digest::default(), ..pin_text("prompt") };
    let forged = scene.new_batch().with_mutation(Mutation::PinPut(forged));
    for batch in [rows, scene.new_batch().with_mutation(Mutation::InboxPut(bytes)), forged] {
        assert!(matches!(scene.commit_refused(batch).await, CommitRefusal::Malformed(_)));
    }
    let run = scene.begin_turn(0).await;
    let empty = run_append(run, 1, 2, Vec::new(), RunStatus::Running);
    assert!(matches!(scene.refuse_mutation(Mutation::RunAppend(empty)).await, CommitRefusal::Malformed(_)));
}

pub(super) async fn a_handle_is_taken_once(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let second = scene.new_batch().with_mutation(agent_create(scene.agent_id(), "ada"));
    assert_eq!(
        scene.commit_refused(second).await,
        CommitRefusal::HandleTaken("ada".parse().expect("a handle"))
    );
    let other = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    assert_ne!(other.tenant, scene.tenant, "another tenant may use the agent's handle");
    let mut third = WriteBatch::new(dromia_contracts::TenantId::from_bytes([5; 16]));
    third = third.with_mutation(Mutation::TenantCreate(TenantCreate {
        handle: "t1".parse().expect("a handle"),
        at: scene_time(0),
        body_key: [1; 32],
    }));
    assert_eq!(
        scene.commit_refused(third).await,
        CommitRefusal::HandleTaken("t1".parse().expect("a handle"))
    );
    let open = scene.new_batch().with_mutation(session_open(scene.session_id(), scene.agent, "main"));
    assert_eq!(scene.commit_refused(open).await, CommitRefusal::SessionExists { session: scene.session });
}

pub(super) async fn a_state_entry_changes_only_from_the_version_expected(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let put = |expected, value: &'static str, ms| {
        scene.new_batch().with_mutation(Mutation::StatePut(StatePut {
            session: scene.session,
            name: "mood".to_owned(),
            expected,
            value: Bytes::from_static(value.as_bytes()),
            at: scene_time(ms),
            write: scene.write_id(),
        }))
    };
    assert_eq!(
        scene.commit_refused(put(Some(1), "early", 1)).await,
        CommitRefusal::StateVersion { found: 0 }
    );
    scene.commit_done(put(Some(0), "a", 2)).await;
    scene.commit_done(put(Some(1), "b", 3)).await;
    assert_eq!(scene.commit_refused(put(Some(1), "late", 4)).await, CommitRefusal::StateVersion { found: 2 });
    scene.commit_done(put(None, "c", 5)).await;
    let state = scene
        .store
        .session_state(&scene.tenant_scope(), scene.session, PageRequest::first_page(9))
        .await
        .expect("a read");
    let found: Vec<_> =
        state.iter().map(|entry| (entry.name.as_str(), entry.version, &entry.value[..])).collect();
    assert_eq!(found, [("mood", 3, &b"c"[..])]);
}

pub(super) async fn of_two_writers_of_the_same_value_at_the_same_time_one_writes(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let put = |write| {
        scene.new_batch().with_mutation(Mutation::StatePut(StatePut {
            session: scene.session,
            name: "lock".to_owned(),
            expected: Some(0),
            value: Bytes::from_static(b"taken"),
            at: scene_time(1),
            write,
        }))
    };
    let (mine, theirs) = (scene.write_id(), scene.write_id());
    scene.commit_done(put(mine)).await;
    assert_eq!(scene.commit_refused(put(theirs)).await, CommitRefusal::StateVersion { found: 1 });
    scene.commit_done(put(mine)).await;
    let entry = scene.store.state_entry(&scene.tenant_scope(), scene.session, "lock").await.expect("a read");
    assert_eq!(entry.map(|entry| entry.version), Some(1), "a repetition writes nothing");
}

pub(super) async fn a_session_holds_so_many_state_entries_and_gives_them_in_pages(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let put = |name: String| {
        Mutation::StatePut(StatePut {
            session: scene.session,
            name,
            expected: Some(0),
            value: Bytes::from_static(b"1"),
            at: scene_time(1),
            write: scene.write_id(),
        })
    };
    let names: Vec<_> = (0..StatePut::ENTRIES_MAX).map(|number| format!("n{number:03}")).collect();
    for chunk in names.chunks(WriteBatch::ROWS_MAX / 2) {
        scene
            .commit_done(chunk.iter().cloned().map(put).fold(scene.new_batch(), WriteBatch::with_mutation))
            .await;
    }
    let over = scene.refuse_mutation(put("one more".to_owned())).await;
    assert!(matches!(over, CommitRefusal::Malformed(_)), "{over:?}");
    let change = |expected, ms| StatePut {
        write: scene.write_id(),
        session: scene.session,
        name: names[7].clone(),
        expected,
        value: Bytes::from_static(b"2"),
        at: scene_time(ms),
    };
    scene.commit_mutation(Mutation::StatePut(change(Some(1), 2))).await;
    let scope = scene.tenant_scope();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let page = PageRequest { after: after.as_deref(), limit: 100 };
        let entries = scene.store.session_state(&scope, scene.session, page).await.expect("a read");
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
    let scene = StoreScene::open_scene(store, 1).await;
    let (first, second) = (scene.item_id(), scene.item_id());
    let request = Digest::from_bytes([1; 32]);
    let keyed = |item, request| {
        let mut put = scene.put_input(item);
        put.key = Some(ItemKey { key: "order-7".to_owned(), request, lifetime: KeyLifetime::Day });
        scene.new_batch().with_mutation(Mutation::InboxPut(put))
    };
    assert_eq!(scene.commit_done(keyed(first, request)).await.positions, [1]);
    let owner = InboxOwner::Session(scene.session);
    let taken = CommitRefusal::KeyTaken { item: first, owner, position: 1, request };
    assert_eq!(scene.commit_refused(keyed(second, request)).await, taken);
    assert_eq!(scene.commit_refused(keyed(second, Digest::from_bytes([2; 32]))).await, taken);
    let found = KeyedItem { item: first, owner, position: 1, request };
    let scope = scene.tenant_scope();
    assert_eq!(scene.store.find_keyed_item(&scope, "order-7", scene_time(9)).await, Ok(Some(found)));
    assert_eq!(scene.store.find_keyed_item(&scope, "order-8", scene_time(9)).await, Ok(None));
    assert_eq!(
        scene.store.find_keyed_item(&scope.narrowed_to(scene.agent), "order-7", scene_time(9)).await,
        Ok(None)
    );
    let other = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    assert_eq!(
        other.store.find_keyed_item(&other.tenant_scope(), "order-7", scene_time(9)).await,
        Ok(None),
        "it is a stranger's"
    );
    let mut put = other.put_input(other.item_id());
    put.key = Some(ItemKey { key: "order-7".to_owned(), request, lifetime: KeyLifetime::Day });
    assert_eq!(
        other.commit_done(other.new_batch().with_mutation(Mutation::InboxPut(put))).await.positions,
        [1]
    );
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// An input of the scene's session, so many milliseconds after its beginning, under a key.
fn keyed_input(scene: &StoreScene, item: ItemId, ms: i64, lifetime: KeyLifetime) -> InboxPut {
    let key = ItemKey { key: format!("{lifetime:?}"), request: Digest::from_bytes([1; 32]), lifetime };
    InboxPut { at: scene_time(ms), key: Some(key), ..scene.put_input(item) }
}

pub(super) async fn a_key_of_a_day_is_free_after_24_hours_and_a_key_for_ever_is_not(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (day, ever) = (scene.item_id(), scene.item_id());
    let put = |item, ms, lifetime| {
        scene.new_batch().with_mutation(Mutation::InboxPut(keyed_input(&scene, item, ms, lifetime)))
    };
    assert_eq!(scene.commit_done(put(day, 3, KeyLifetime::Day)).await.positions, [1]);
    assert_eq!(scene.commit_done(put(ever, 3, KeyLifetime::Forever)).await.positions, [2]);
    let taken = |refusal| match refusal {
        CommitRefusal::KeyTaken { item, .. } => item,
        other => panic!("expected KeyTaken, found {other:?}"),
    };
    let late = scene.item_id();
    assert_eq!(taken(scene.commit_refused(put(late, 2 + DAY_MS, KeyLifetime::Day)).await), day);
    for (ms, item) in [(2 + DAY_MS, Some(day)), (3 + DAY_MS, None)] {
        let found =
            scene.store.find_keyed_item(&scene.tenant_scope(), "Day", scene_time(ms)).await.expect("a read");
        assert_eq!(found.map(|found| found.item), item);
    }
    assert_eq!(
        scene.commit_done(put(day, 3, KeyLifetime::Day)).await.positions,
        [1],
        "the same batch is recognised"
    );
    let next = put(late, 3 + DAY_MS, KeyLifetime::Day);
    assert_eq!(scene.commit_done(next.clone()).await.positions, [3], "the key is free");
    assert_eq!(scene.commit_done(next).await.positions, [3], "and stands for the new item");
    let third = scene.item_id();
    assert_eq!(taken(scene.commit_refused(put(third, 4 + DAY_MS, KeyLifetime::Day)).await), late);
    assert_eq!(taken(scene.commit_refused(put(third, 4 + 99 * DAY_MS, KeyLifetime::Forever)).await), ever);
    assert_eq!(scene.commit_done(put(third, 3 + 2 * DAY_MS, KeyLifetime::Day)).await.positions, [4]);
}

pub(super) async fn a_key_that_was_used_again_outlives_the_agent_of_its_first_item(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene
        .commit_done(
            scene
                .new_batch()
                .with_mutation(agent_create(bob, "bob"))
                .with_mutation(session_open(bobs, bob, "b")),
        )
        .await;
    let first = keyed_input(&scene, scene.item_id(), 3, KeyLifetime::Day);
    scene.commit_mutation(Mutation::InboxPut(first)).await;
    let mut again = keyed_input(&scene, scene.item_id(), 3 + DAY_MS, KeyLifetime::Day);
    again.owner = InboxOwner::Session(bobs);
    let again = scene.new_batch().with_mutation(Mutation::InboxPut(again));
    let receipt = scene.commit_done(again.clone()).await;
    let delete =
        AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(delete)).await;
    while !scene.store.erase_agent_page(&scene.tenant_scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(scene.commit_done(again).await, receipt, "bob's item is still found by its key");
    let mut third = keyed_input(&scene, scene.item_id(), 4 + DAY_MS, KeyLifetime::Day);
    third.owner = InboxOwner::Session(bobs);
    let refused = scene.refuse_mutation(Mutation::InboxPut(third)).await;
    assert!(matches!(refused, CommitRefusal::KeyTaken { position: 1, .. }), "{refused:?}");
}

pub(super) async fn an_agents_state_changes_only_from_the_states_named(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let set = |from: &[AgentState], to| {
        let from = from.to_vec();
        scene.new_batch().with_mutation(Mutation::AgentStateSet(AgentStateSet {
            agent: scene.agent,
            from,
            to,
        }))
    };
    let found = AgentState::Running;
    assert_eq!(
        scene.commit_refused(set(&[AgentState::Paused], AgentState::Terminated)).await,
        CommitRefusal::AgentState { found }
    );
    scene.commit_done(set(&[AgentState::Running], AgentState::Paused)).await;
    scene.commit_done(set(&[], AgentState::Paused)).await;
    let agent =
        scene.store.agent(&scene.tenant_scope(), scene.agent).await.expect("a read").expect("it is there");
    assert_eq!(agent.state, AgentState::Paused);
    let paused =
        scene.store.agents(&scene.tenant_scope(), Some(AgentState::Paused), PageRequest::first_page(9)).await;
    assert_eq!(paused.expect("a read").len(), 1);
    let running = scene
        .store
        .agents(&scene.tenant_scope(), Some(AgentState::Running), PageRequest::first_page(9))
        .await;
    assert_eq!(running.expect("a read"), []);
}

pub(super) async fn erasing_an_agent_leaves_nothing_of_it_and_all_of_its_neighbour(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (store, scope) = (Arc::clone(&scene.store), scene.tenant_scope());
    let bob = scene.agent_id();
    let bobs = scene.session_id();
    let setup = scene
        .new_batch()
        .with_mutation(agent_create(bob, "bob"))
        .with_mutation(session_open(bobs, bob, "main"));
    scene.commit_done(setup).await;
    for after in 0..3 {
        let run = scene.begin_turn(after).await;
        let reply = vec![model_replied(1, vec![b'r'; 5_000]), run_completed()];
        let end = run_append(run, 1, 2, reply, RunStatus::Completed);
        scene.commit_mutation(Mutation::RunAppend(end)).await;
    }
    let delete =
        AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(delete)).await;
    assert_eq!(store.agent(&scope, scene.agent).await, Ok(None), "one that is being erased is not found");
    let deleting = store.deleting_agents(&StoreScene::node_operator()).await.expect("a read");
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
    assert_eq!(store.deleting_agents(&StoreScene::node_operator()).await.expect("a read"), []);
    let left = store.runs(&scope, RunFilter::default(), PageRequest::first_page(9)).await.expect("a read");
    assert_eq!(left, []);
    assert_eq!(store.session(&scope, scene.session).await, Ok(None));
    assert_eq!(store.inbox_items(&scope, InboxOwner::Session(scene.session), 0, 9).await, Ok(Vec::new()));
    let neighbour = store.session_by_key(&scope, bob, &session_key("main")).await.expect("a read");
    assert_eq!(neighbour.map(|session| session.id), Some(bobs));
    scene.commit_mutation(agent_create(scene.agent_id(), "ada")).await;
}

pub(super) async fn a_pin_goes_with_the_last_agent_whose_runs_name_it(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    let setup = scene
        .new_batch()
        .with_mutation(agent_create(bob, "bob"))
        .with_mutation(session_open(bobs, bob, "main"));
    scene.commit_done(setup.with_mutation(Mutation::PinPut(pin_text("of nobody")))).await;
    for (agent, session) in [(scene.agent, scene.session), (bob, bobs)] {
        let item = scene.item_id();
        let mut batch = scene
            .new_batch()
            .with_mutation(Mutation::InboxPut(new_input(InboxOwner::Session(session), item)));
        batch = batch.with_mutation(Mutation::PinPut(pin_text("of both")));
        if agent == bob {
            batch = batch.with_mutation(Mutation::PinPut(pin_text("of bob")));
        }
        let entries = vec![run_started(agent, session, 0, &[item]), model_called(1)];
        let claim = scene.claim_session(scene.run_id(), 0, &[item]);
        batch.claim = Some(TurnClaim { session, agent, entries, ..claim });
        assert!(scene.commit_done(batch).await.claimed, "a free session is claimed");
    }
    assert_eq!(pins_left(&scene).await, ["of nobody", "of both", "of bob"]);
    for (agent, expected) in [(bob, &["of nobody", "of both"][..]), (scene.agent, &["of nobody"][..])] {
        let set = AgentStateSet { agent, from: vec![AgentState::Running], to: AgentState::Deleting };
        scene.commit_mutation(Mutation::AgentStateSet(set)).await;
        while !scene.store.erase_agent_page(&scene.tenant_scope(), agent).await.expect("a page").1 {}
        assert_eq!(pins_left(&scene).await, expected);
    }
}

/// Which of the texts that the claim above keeps are there.
async fn pins_left(scene: &StoreScene) -> Vec<&'static str> {
    let mut left = Vec::new();
    for text in ["of nobody", "of both", "of bob"] {
        let found =
            scene.store.pinned_text(&scene.tenant_scope(), pin_text(text).digest).await.expect("a read");
        left.extend(found.map(|_| text));
    }
    left
}
