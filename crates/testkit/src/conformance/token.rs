//! Claims about credentials: a token is made once, listed in pages, taken back for good, and never crosses tenants.

use std::sync::Arc;

use dromia_contracts::store::{CommitRefusal, Mutation, PageRequest, Store, TokenCreate, TokenRevoke};
use dromia_contracts::token::{TokenRecord, TokenScope, TokenScopes, TokenState};
use dromia_contracts::{Digest, TokenId};
use jiff::Timestamp;

use super::scene::{StoreScene, scene_time};

/// A token that may read and invoke for a minute.
fn token_create(scene: &StoreScene, name: &str, hash: u8) -> TokenCreate {
    TokenCreate {
        token: scene.token_id(),
        hash: Digest::from_bytes([hash; 32]),
        name: name.to_owned(),
        scopes: [TokenScope::Read, TokenScope::Invoke].into_iter().collect(),
        expires_at: Some(scene_time(60_000)),
        at: scene_time(1),
    }
}

fn token_record(create: &TokenCreate, revoked_at: Option<Timestamp>) -> TokenRecord {
    TokenRecord {
        id: create.token,
        name: create.name.clone(),
        scopes: create.scopes,
        created_at: create.at,
        expires_at: create.expires_at,
        revoked_at,
    }
}

async fn create_token(scene: &StoreScene, create: &TokenCreate) {
    scene.commit_mutation(Mutation::TokenCreate(create.clone())).await;
}

async fn revoke_token(scene: &StoreScene, token: TokenId, ms: i64) {
    let revoke = TokenRevoke { token, at: scene_time(ms) };
    scene.commit_mutation(Mutation::TokenRevoke(revoke)).await;
}

async fn list_tokens(scene: &StoreScene, name: Option<&str>, page: PageRequest<TokenId>) -> Vec<TokenId> {
    let tokens = scene.store.tokens(&scene.tenant_scope(), name, page).await.expect("a read");
    tokens.into_iter().map(|token| token.id).collect()
}

pub(super) async fn a_token_is_found_with_everything_that_was_registered(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (plain, bounded) = (
        TokenCreate { scopes: TokenScopes::ADMIN, expires_at: None, ..token_create(&scene, "ci", 1) },
        token_create(&scene, "ci", 2),
    );
    for create in [&plain, &bounded] {
        create_token(&scene, create).await;
        let found =
            scene.store.find_token_owner(&StoreScene::node_operator(), create.hash).await.expect("a read");
        let found = found.expect("the token");
        assert_eq!((found.tenant.id, found.tenant.handle.as_str()), (scene.tenant, "t1"));
        assert_eq!(found.token, token_record(create, None));
        assert_eq!(scene.store.token_by_id(&scene.tenant_scope(), create.token).await, Ok(Some(found.token)));
    }
    assert_eq!(
        scene.store.find_token_owner(&StoreScene::node_operator(), Digest::from_bytes([9; 32])).await,
        Ok(None)
    );
    assert_eq!(scene.store.token_by_id(&scene.tenant_scope(), scene.token_id()).await, Ok(None));
}

pub(super) async fn a_token_is_registered_once(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    let first = token_create(&scene, "ci", 1);
    create_token(&scene, &first).await;
    create_token(&scene, &first).await;
    assert_eq!(
        list_tokens(&scene, None, PageRequest::first_page(9)).await,
        [first.token],
        "the second time changes nothing"
    );
    for other in [
        TokenCreate { name: "other".to_owned(), ..first.clone() },
        TokenCreate { scopes: TokenScopes::ADMIN, ..first.clone() },
        TokenCreate { expires_at: None, ..first.clone() },
        TokenCreate { at: scene_time(2), ..first.clone() },
        TokenCreate { token: scene.token_id(), ..first.clone() },
        TokenCreate { hash: Digest::from_bytes([2; 32]), ..first.clone() },
    ] {
        let refusal = scene.refuse_mutation(Mutation::TokenCreate(other.clone())).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{other:?} was answered {refusal:?}");
    }
    let crossing =
        theirs.commit_refused(theirs.new_batch().with_mutation(Mutation::TokenCreate(first.clone()))).await;
    assert!(matches!(crossing, CommitRefusal::Malformed(_)), "a hash belongs to one tenant: {crossing:?}");
    let same_id = TokenCreate { hash: Digest::from_bytes([3; 32]), ..first.clone() };
    let twice = scene
        .new_batch()
        .with_mutation(Mutation::TokenCreate(TokenCreate { token: scene.token_id(), ..same_id.clone() }))
        .with_mutation(Mutation::TokenCreate(TokenCreate { token: scene.token_id(), ..same_id }));
    assert!(
        matches!(scene.commit_refused(twice).await, CommitRefusal::Malformed(_)),
        "two tokens of one hash"
    );
    assert_eq!(
        scene.store.token_by_id(&scene.tenant_scope(), first.token).await,
        Ok(Some(token_record(&first, None)))
    );
}

pub(super) async fn tokens_are_listed_by_id_in_pages_and_by_name(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let mut all = Vec::new();
    for hash in 1..=7 {
        let name = if hash % 2 == 0 { "even" } else { "odd" };
        let create = token_create(&scene, name, hash);
        create_token(&scene, &create).await;
        all.push(create);
    }
    all.sort_by_key(|create| create.token);
    let ids: Vec<_> = all.iter().map(|create| create.token).collect();
    assert_eq!(list_tokens(&scene, None, PageRequest::first_page(usize::MAX)).await, ids);
    let mut seen = Vec::new();
    let mut page = PageRequest::first_page(3);
    loop {
        let found = list_tokens(&scene, None, page).await;
        assert!(found.len() <= 3);
        seen.extend(found.iter().copied());
        if found.len() < 3 {
            break;
        }
        page.after = found.last().copied();
    }
    assert_eq!(seen, ids);
    let even: Vec<_> = all.iter().filter(|one| one.name == "even").map(|one| one.token).collect();
    assert_eq!(list_tokens(&scene, Some("even"), PageRequest::first_page(9)).await, even);
    let after = PageRequest { after: Some(even[0]), limit: 1 };
    assert_eq!(list_tokens(&scene, Some("even"), after).await, even[1..2]);
    assert!(list_tokens(&scene, Some("eve"), PageRequest::first_page(9)).await.is_empty(), "a name is whole");
}

pub(super) async fn a_token_is_revoked_once_and_for_good(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (gone, kept) = (token_create(&scene, "ci", 1), token_create(&scene, "ci", 2));
    for create in [&gone, &kept] {
        create_token(&scene, create).await;
    }
    revoke_token(&scene, gone.token, 5).await;
    revoke_token(&scene, gone.token, 9).await;
    // The batch that made it finds its own rows, and gives nothing back.
    create_token(&scene, &gone).await;
    let operator = StoreScene::node_operator();
    let found =
        scene.store.find_token_owner(&operator, gone.hash).await.expect("a read").expect("is still found");
    assert_eq!(found.token, token_record(&gone, Some(scene_time(5))), "the first revocation counts");
    assert_eq!(scene.store.token_by_id(&scene.tenant_scope(), gone.token).await, Ok(Some(found.token)));
    assert_eq!(
        list_tokens(&scene, None, PageRequest::first_page(9)).await.len(),
        2,
        "a revoked token is listed"
    );
    let found = scene.store.find_token_owner(&operator, kept.hash).await.expect("a read").expect("is there");
    assert_eq!(found.token.state_at(scene_time(6)), TokenState::Active);
    let nobody = TokenRevoke { token: scene.token_id(), at: scene_time(6) };
    let refusal = scene.refuse_mutation(Mutation::TokenRevoke(nobody)).await;
    assert!(matches!(refusal, CommitRefusal::NotFound(_)), "{refusal:?}");
    // Made and taken back in one batch.
    let brief = token_create(&scene, "brief", 3);
    let revoke = TokenRevoke { token: brief.token, at: scene_time(7) };
    let batch = scene.new_batch().with_mutation(Mutation::TokenCreate(brief.clone()));
    let batch = batch.with_mutation(Mutation::TokenRevoke(revoke));
    for _ in 0..2 {
        scene.commit_done(batch.clone()).await;
        let found = scene.store.token_by_id(&scene.tenant_scope(), brief.token).await;
        assert_eq!(found, Ok(Some(token_record(&brief, Some(scene_time(7))))));
    }
}

pub(super) async fn a_token_that_expired_is_found_and_says_so(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let short = token_create(&scene, "ci", 1);
    create_token(&scene, &short).await;
    let found = scene
        .store
        .find_token_owner(&StoreScene::node_operator(), short.hash)
        .await
        .expect("a read")
        .expect("is found");
    let states = [59_999, 60_000].map(|ms| found.token.state_at(scene_time(ms)));
    assert_eq!(states, [TokenState::Active, TokenState::Expired]);
}

pub(super) async fn a_stranger_sees_and_revokes_no_token(store: Arc<dyn Store>) {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    let token = token_create(&mine, "ci", 1);
    create_token(&mine, &token).await;
    assert!(list_tokens(&theirs, None, PageRequest::first_page(9)).await.is_empty());
    assert!(list_tokens(&theirs, Some("ci"), PageRequest::first_page(9)).await.is_empty());
    assert_eq!(theirs.store.token_by_id(&theirs.tenant_scope(), token.token).await, Ok(None));
    let narrow = mine.tenant_scope().narrowed_to(mine.agent);
    assert_eq!(
        mine.store.tokens(&narrow, None, PageRequest::first_page(9)).await,
        Ok(Vec::new()),
        "no agent's matter"
    );
    assert_eq!(mine.store.token_by_id(&narrow, token.token).await, Ok(None));
    let revoke = TokenRevoke { token: token.token, at: scene_time(5) };
    let refusal =
        theirs.commit_refused(theirs.new_batch().with_mutation(Mutation::TokenRevoke(revoke))).await;
    assert!(matches!(refusal, CommitRefusal::NotFound(_)), "{refusal:?}");
    assert_eq!(
        mine.store.token_by_id(&mine.tenant_scope(), token.token).await,
        Ok(Some(token_record(&token, None)))
    );
}
