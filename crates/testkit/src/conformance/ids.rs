//! Claims about ids by a part of them, and about the inputs by which people know runs and sessions.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    InboxPut, Mutation, OPENING_BYTES_MAX, OPENINGS_BYTES_MAX, Store, TokenCreate,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Digest, Scope, TokenId};

use super::scene::{StoreScene, agent_create, scene_time, session_open};

async fn find_ids(
    store: &Arc<dyn Store>,
    scope: &Scope,
    kind: IdKind,
    part: &str,
    limit: usize,
) -> Vec<String> {
    let part: IdFragment = part.parse().expect("a part of an id");
    let found = store.ids_like(scope, kind, part, limit).await.expect("a read");
    found.into_iter().map(|id| kind.format_id(id)).collect()
}

/// Makes a token with an id of these digits.
async fn create_token(scene: &StoreScene, digits: u128) -> String {
    let token = TokenId::from_bytes(digits.to_be_bytes());
    let create = TokenCreate {
        token,
        hash: Digest::from_bytes(*blake3::hash(token.as_bytes()).as_bytes()),
        name: "ci".to_owned(),
        scopes: TokenScopes::ADMIN,
        expires_at: None,
        at: scene_time(1),
    };
    scene.commit_mutation(Mutation::TokenCreate(create)).await;
    token.to_string()
}

pub(super) async fn an_id_is_found_by_its_first_and_by_its_last_digits(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (run, scope) = (scene.begin_turn(0).await.to_string(), scene.tenant_scope());
    for digits in [4, 5, 8, 31, 32] {
        for part in [&run[4..4 + digits], &run[36 - digits..]] {
            assert_eq!(
                find_ids(&scene.store, &scope, IdKind::Run, part, 9).await,
                std::slice::from_ref(&run),
                "{part}"
            );
        }
    }
    // Its middle, and the same digits of another noun.
    assert!(find_ids(&scene.store, &scope, IdKind::Run, &run[12..30], 9).await.is_empty());
    assert!(find_ids(&scene.store, &scope, IdKind::Session, &run[20..], 9).await.is_empty());
    let session = scene.session.to_string();
    let found = find_ids(&scene.store, &scope, IdKind::Session, &session[28..], 9).await;
    assert_eq!(found, [session]);
}

pub(super) async fn digits_that_several_ids_share_find_all_of_them_newest_first(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let scope = scene.tenant_scope();
    let oldest = create_token(&scene, 0x0199_0000_0000_0000_0000_0000_0000_cafe).await;
    let middle = create_token(&scene, 0x0199_0001_0000_0000_0000_0000_0000_beef).await;
    let newest = create_token(&scene, 0x0199_0002_0000_0000_0000_0000_0000_cafe).await;
    // One that ends as others begin.
    let turned = create_token(&scene, 0x0199_0003_0000_0000_0000_0000_0000_0199).await;
    let find = |part: &'static str, limit| find_ids(&scene.store, &scope, IdKind::Token, part, limit);
    assert_eq!(find("cafe", 9).await, [newest.clone(), oldest.clone()]);
    assert_eq!(find("0cafe", 9).await, [newest.clone(), oldest.clone()]);
    assert_eq!(find("beef", 9).await, std::slice::from_ref(&middle));
    let all = [turned, newest, middle, oldest];
    assert_eq!(find("0199", 9).await, all, "one that fits twice is one");
    assert_eq!(find("0199", 3).await, all[..3]);
}

pub(super) async fn a_stranger_and_the_scope_of_another_agent_find_no_id(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let delivery = scene.commit_reply(run, "webhook:orders").await.to_string();
    let token = create_token(&scene, 0x0199_0000_0000_0000_0000_0000_0000_cafe).await;
    let (bob, session) = (scene.agent_id(), scene.session.to_string());
    scene.commit_mutation(agent_create(bob, "bob")).await;
    let theirs = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    let kinds = [
        (IdKind::Run, run.to_string()),
        (IdKind::Session, session),
        (IdKind::Delivery, delivery),
        (IdKind::Token, token),
    ];
    for (kind, id) in kinds {
        let part = &id[28..];
        for blind in [theirs.tenant_scope(), scene.tenant_scope().narrowed_to(bob)] {
            assert!(find_ids(&scene.store, &blind, kind, part, 9).await.is_empty(), "{id} was found");
        }
        assert_eq!(find_ids(&scene.store, &scene.tenant_scope(), kind, part, 9).await, [id]);
    }
    let owners = [InboxOwner::Run(run), InboxOwner::Session(scene.session)];
    for blind in [theirs.tenant_scope(), scene.tenant_scope().narrowed_to(bob)] {
        assert_eq!(scene.store.opening_inputs(&blind, &owners).await, Ok(vec![None, None]));
    }
}

pub(super) async fn a_run_and_a_session_are_known_by_the_input_that_began_them(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (scope, empty) = (scene.tenant_scope(), scene.session_id());
    let put = |text: String| {
        let put = scene.put_input(scene.item_id());
        Mutation::InboxPut(InboxPut { body: Bytes::from(text), ..put })
    };
    let batch = scene.new_batch().with_mutation(session_open(empty, scene.agent, "empty"));
    scene.commit_done(batch.with_mutation(put("first".to_owned()))).await;
    let session = InboxOwner::Session(scene.session);
    let nobody = InboxOwner::Run(scene.run_id());
    let owners = [InboxOwner::Session(empty), session, nobody, session];
    let first = Some(Bytes::from_static(b"first"));
    let expected = vec![None, first.clone(), None, first];
    assert_eq!(scene.store.opening_inputs(&scope, &owners).await, Ok(expected));
    // A run is known by what it took itself, which is behind the first item here.
    let items = scene.store.inbox_items(&scope, session, 0, 9).await.expect("a read");
    let mut batch = scene.new_batch();
    batch.claim = Some(scene.claim_session(scene.run_id(), 0, &[items[0].id]));
    let one = batch.claim.as_ref().expect("a claim").run;
    scene.commit_done(batch).await;
    scene.commit_reply(one, "webhook:orders").await;
    let two = scene.begin_turn(1).await;
    let owners = [InboxOwner::Run(two), InboxOwner::Run(one)];
    let second = Some(Bytes::from_static(b"{\"hello\":1}"));
    let expected = vec![second, Some(Bytes::from_static(b"first"))];
    assert_eq!(scene.store.opening_inputs(&scope, &owners).await, Ok(expected));
    // What is too long is left out, and so is what comes after too much.
    let (long, wide) = (scene.session_id(), scene.session_id());
    let mut batch = scene.new_batch();
    for (id, key, length) in [(long, "long", OPENING_BYTES_MAX + 1), (wide, "wide", OPENING_BYTES_MAX)] {
        let InboxPut { item, .. } = scene.put_input(scene.item_id());
        let put = InboxPut {
            owner: InboxOwner::Session(id),
            body: Bytes::from("x".repeat(length)),
            ..scene.put_input(item)
        };
        batch =
            batch.with_mutation(session_open(id, scene.agent, key)).with_mutation(Mutation::InboxPut(put));
    }
    scene.commit_done(batch).await;
    assert_eq!(scene.store.opening_inputs(&scope, &[InboxOwner::Session(long)]).await, Ok(vec![None]));
    let most = OPENINGS_BYTES_MAX / OPENING_BYTES_MAX;
    let many = vec![InboxOwner::Session(wide); most + 1];
    let found = scene.store.opening_inputs(&scope, &many).await.expect("a read");
    assert!(found[..most].iter().all(Option::is_some) && found[most].is_none());
}
