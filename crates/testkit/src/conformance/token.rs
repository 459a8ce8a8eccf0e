//! Claims about credentials: a token is made once, listed in pages, taken back for good, and never crosses tenants.

use std::sync::Arc;

use dromia_contracts::store::{Mutation, Page, Refusal, Store, TokenCreate, TokenRevoke};
use dromia_contracts::token::{Token, TokenScope, TokenScopes, TokenState};
use dromia_contracts::{Digest, TokenId};
use jiff::Timestamp;

use super::scene::{Scene, at};

/// A token that may read and invoke for a minute.
fn create(scene: &Scene, name: &str, hash: u8) -> TokenCreate {
    TokenCreate {
        token: scene.token_id(),
        hash: Digest::from_bytes([hash; 32]),
        name: name.to_owned(),
        scopes: [TokenScope::Read, TokenScope::Invoke].into_iter().collect(),
        expires_at: Some(at(60_000)),
        at: at(1),
    }
}

fn record(create: &TokenCreate, revoked_at: Option<Timestamp>) -> Token {
    Token {
        id: create.token,
        name: create.name.clone(),
        scopes: create.scopes,
        created_at: create.at,
        expires_at: create.expires_at,
        revoked_at,
    }
}

async fn made(scene: &Scene, create: &TokenCreate) {
    scene.done(scene.batch().with(Mutation::TokenCreate(create.clone()))).await;
}

async fn revoked(scene: &Scene, token: TokenId, ms: i64) {
    let revoke = TokenRevoke { token, at: at(ms) };
    scene.done(scene.batch().with(Mutation::TokenRevoke(revoke))).await;
}

async fn listed(scene: &Scene, name: Option<&str>, page: Page<TokenId>) -> Vec<TokenId> {
    let tokens = scene.store.tokens(&scene.scope(), name, page).await.expect("a read");
    tokens.into_iter().map(|token| token.id).collect()
}

pub(super) async fn a_token_is_found_with_everything_that_was_registered(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (plain, bounded) = (
        TokenCreate { scopes: TokenScopes::ADMIN, expires_at: None, ..create(&scene, "ci", 1) },
        create(&scene, "ci", 2),
    );
    for create in [&plain, &bounded] {
        made(&scene, create).await;
        let found = scene.store.token(&Scene::operator(), create.hash).await.expect("a read");
        let found = found.expect("the token");
        assert_eq!((found.tenant.id, found.tenant.handle.as_str()), (scene.tenant, "t1"));
        assert_eq!(found.token, record(create, None));
        assert_eq!(scene.store.token_by_id(&scene.scope(), create.token).await, Ok(Some(found.token)));
    }
    assert_eq!(scene.store.token(&Scene::operator(), Digest::from_bytes([9; 32])).await, Ok(None));
    assert_eq!(scene.store.token_by_id(&scene.scope(), scene.token_id()).await, Ok(None));
}

pub(super) async fn a_token_is_registered_once(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let theirs = Scene::open(Arc::clone(&scene.store), 2).await;
    let first = create(&scene, "ci", 1);
    made(&scene, &first).await;
    made(&scene, &first).await;
    assert_eq!(listed(&scene, None, Page::first(9)).await, [first.token], "the second time changes nothing");
    for other in [
        TokenCreate { name: "other".to_owned(), ..first.clone() },
        TokenCreate { scopes: TokenScopes::ADMIN, ..first.clone() },
        TokenCreate { expires_at: None, ..first.clone() },
        TokenCreate { at: at(2), ..first.clone() },
        TokenCreate { token: scene.token_id(), ..first.clone() },
        TokenCreate { hash: Digest::from_bytes([2; 32]), ..first.clone() },
    ] {
        let refusal = scene.refused(scene.batch().with(Mutation::TokenCreate(other.clone()))).await;
        assert!(matches!(refusal, Refusal::Malformed(_)), "{other:?} was answered {refusal:?}");
    }
    let crossing = theirs.refused(theirs.batch().with(Mutation::TokenCreate(first.clone()))).await;
    assert!(matches!(crossing, Refusal::Malformed(_)), "a hash belongs to one tenant: {crossing:?}");
    let same_id = TokenCreate { hash: Digest::from_bytes([3; 32]), ..first.clone() };
    let twice = scene
        .batch()
        .with(Mutation::TokenCreate(TokenCreate { token: scene.token_id(), ..same_id.clone() }))
        .with(Mutation::TokenCreate(TokenCreate { token: scene.token_id(), ..same_id }));
    assert!(matches!(scene.refused(twice).await, Refusal::Malformed(_)), "two tokens of one hash");
    assert_eq!(scene.store.token_by_id(&scene.scope(), first.token).await, Ok(Some(record(&first, None))));
}

pub(super) async fn tokens_are_listed_by_id_in_pages_and_by_name(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let mut all = Vec::new();
    for hash in 1..=7 {
        let name = if hash % 2 == 0 { "even" } else { "odd" };
        let create = create(&scene, name, hash);
        made(&scene, &create).await;
        all.push(create);
    }
    all.sort_by_key(|create| create.token);
    let ids: Vec<_> = all.iter().map(|create| create.token).collect();
    assert_eq!(listed(&scene, None, Page::first(usize::MAX)).await, ids);
    let mut seen = Vec::new();
    let mut page = Page::first(3);
    loop {
        let found = listed(&scene, None, page).await;
        assert!(found.len() <= 3);
        seen.extend(found.iter().copied());
        if found.len() < 3 {
            break;
        }
        page.after = found.last().copied();
    }
    assert_eq!(seen, ids);
    let even: Vec<_> = all.iter().filter(|one| one.name == "even").map(|one| one.token).collect();
    assert_eq!(listed(&scene, Some("even"), Page::first(9)).await, even);
    let after = Page { after: Some(even[0]), limit: 1 };
    assert_eq!(listed(&scene, Some("even"), after).await, even[1..2]);
    assert!(listed(&scene, Some("eve"), Page::first(9)).await.is_empty(), "a name is whole");
}

pub(super) async fn a_token_is_revoked_once_and_for_good(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let (gone, kept) = (create(&scene, "ci", 1), create(&scene, "ci", 2));
    for create in [&gone, &kept] {
        made(&scene, create).await;
    }
    revoked(&scene, gone.token, 5).await;
    revoked(&scene, gone.token, 9).await;
    // The batch that made it finds its own rows, and gives nothing back.
    made(&scene, &gone).await;
    let operator = Scene::operator();
    let found = scene.store.token(&operator, gone.hash).await.expect("a read").expect("is still found");
    assert_eq!(found.token, record(&gone, Some(at(5))), "the first revocation counts");
    assert_eq!(scene.store.token_by_id(&scene.scope(), gone.token).await, Ok(Some(found.token)));
    assert_eq!(listed(&scene, None, Page::first(9)).await.len(), 2, "a revoked token is listed");
    let found = scene.store.token(&operator, kept.hash).await.expect("a read").expect("is there");
    assert_eq!(found.token.state(at(6)), TokenState::Active);
    let nobody = TokenRevoke { token: scene.token_id(), at: at(6) };
    let refusal = scene.refused(scene.batch().with(Mutation::TokenRevoke(nobody))).await;
    assert!(matches!(refusal, Refusal::NotFound(_)), "{refusal:?}");
    // Made and taken back in one batch.
    let brief = create(&scene, "brief", 3);
    let revoke = TokenRevoke { token: brief.token, at: at(7) };
    let batch = scene.batch().with(Mutation::TokenCreate(brief.clone()));
    let batch = batch.with(Mutation::TokenRevoke(revoke));
    for _ in 0..2 {
        scene.done(batch.clone()).await;
        let found = scene.store.token_by_id(&scene.scope(), brief.token).await;
        assert_eq!(found, Ok(Some(record(&brief, Some(at(7))))));
    }
}

pub(super) async fn a_token_that_expired_is_found_and_says_so(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let short = create(&scene, "ci", 1);
    made(&scene, &short).await;
    let found = scene.store.token(&Scene::operator(), short.hash).await.expect("a read").expect("is found");
    let states = [59_999, 60_000].map(|ms| found.token.state(at(ms)));
    assert_eq!(states, [TokenState::Active, TokenState::Expired]);
}

pub(super) async fn a_stranger_sees_and_revokes_no_token(store: Arc<dyn Store>) {
    let mine = Scene::open(store, 1).await;
    let theirs = Scene::open(Arc::clone(&mine.store), 2).await;
    let token = create(&mine, "ci", 1);
    made(&mine, &token).await;
    assert!(listed(&theirs, None, Page::first(9)).await.is_empty());
    assert!(listed(&theirs, Some("ci"), Page::first(9)).await.is_empty());
    assert_eq!(theirs.store.token_by_id(&theirs.scope(), token.token).await, Ok(None));
    let narrow = mine.scope().narrowed_to(mine.agent);
    assert_eq!(mine.store.tokens(&narrow, None, Page::first(9)).await, Ok(Vec::new()), "no agent's matter");
    assert_eq!(mine.store.token_by_id(&narrow, token.token).await, Ok(None));
    let revoke = TokenRevoke { token: token.token, at: at(5) };
    let refusal = theirs.refused(theirs.batch().with(Mutation::TokenRevoke(revoke))).await;
    assert!(matches!(refusal, Refusal::NotFound(_)), "{refusal:?}");
    assert_eq!(mine.store.token_by_id(&mine.scope(), token.token).await, Ok(Some(record(&token, None))));
}
