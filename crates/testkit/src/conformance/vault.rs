//! Claims about secrets as they are stored: a version follows the one before it, what is erased is gone, and nothing
//! crosses tenants.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::store::{Mutation, Page, Refusal, SecretErase, Store, VaultKeyPut};
use dromia_contracts::vault::{Placement, SealedSecret, Secret};

use super::scene::{Scene, at};

pub(super) fn sealed(name: &str, version: u32) -> SealedSecret {
    let secret = Secret {
        name: name.to_owned(),
        version,
        host: "https://api.example.com:443".to_owned(),
        placement: Placement::Header("x-key".to_owned()),
        created_at: at(1),
        changed_at: at(i64::from(version)),
    };
    let bytes = |what: &str| Bytes::from(format!("{what} {name} {version}"));
    SealedSecret { secret, key: bytes("key"), value: bytes("value") }
}

async fn put(scene: &Scene, sealed: &SealedSecret) {
    scene.done(scene.batch().with(Mutation::SecretPut(sealed.clone()))).await;
}

pub(super) fn erase(name: &str, version: u32) -> Mutation {
    Mutation::SecretErase(SecretErase { name: name.to_owned(), version })
}

async fn found(scene: &Scene, name: &str) -> Option<SealedSecret> {
    scene.store.secret(&scene.scope(), name).await.expect("a read")
}

async fn names(scene: &Scene, page: Page<&str>) -> Vec<String> {
    let secrets = scene.store.secrets(&scene.scope(), page).await.expect("a read");
    secrets.into_iter().map(|sealed| sealed.secret.name).collect()
}

/// Puts a tenant's key, in the place of another one where that is named.
pub(super) fn key(text: &'static str, replaces: Option<&'static str>) -> Mutation {
    let sealed = |text: &'static str| Bytes::from_static(text.as_bytes());
    Mutation::VaultKeyPut(VaultKeyPut { key: sealed(text), replaces: replaces.map(sealed) })
}

pub(super) async fn a_tenants_key_of_secrets_is_put_once(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    assert_eq!(scene.store.vault_key(&scene.scope()).await, Ok(None));
    for text in ["first", "first", "second"] {
        scene.done(scene.batch().with(key(text, None))).await;
        assert_eq!(scene.store.vault_key(&scene.scope()).await, Ok(Some(Bytes::from_static(b"first"))));
    }
}

pub(super) async fn a_tenants_key_of_secrets_gives_way_to_another_by_its_name(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let replaced = || scene.batch().with(key("second", Some("first")));
    assert!(matches!(scene.refused(replaced()).await, Refusal::Malformed(_)), "there is none");
    scene.done(scene.batch().with(key("first", None))).await;
    let other = scene.batch().with(key("second", Some("third")));
    assert!(matches!(scene.refused(other).await, Refusal::Malformed(_)), "it is another one");
    assert_eq!(scene.store.vault_key(&scene.scope()).await, Ok(Some(Bytes::from_static(b"first"))));
    // A batch that comes again changes nothing more.
    for _ in 0..2 {
        scene.done(replaced()).await;
        assert_eq!(scene.store.vault_key(&scene.scope()).await, Ok(Some(Bytes::from_static(b"second"))));
    }
}

pub(super) async fn a_version_of_a_secret_takes_the_place_of_the_one_before(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    for version in [0, 2] {
        let refusal = scene.refused(scene.batch().with(Mutation::SecretPut(sealed("a", version)))).await;
        assert_eq!(refusal, Refusal::SecretVersion { found: 0 });
    }
    for version in [1, 2] {
        put(&scene, &sealed("a", version)).await;
        put(&scene, &sealed("a", version)).await;
        assert_eq!(found(&scene, "a").await, Some(sealed("a", version)), "the second time changes nothing");
    }
    let other = SealedSecret { value: Bytes::from_static(b"other"), ..sealed("a", 2) };
    for late in [sealed("a", 1), other, sealed("a", 4)] {
        let refusal = scene.refused(scene.batch().with(Mutation::SecretPut(late))).await;
        assert_eq!(refusal, Refusal::SecretVersion { found: 2 });
    }
    let twice = scene.batch().with(Mutation::SecretPut(sealed("b", 1)));
    let refusal = scene.refused(twice.with(Mutation::SecretPut(sealed("b", 2)))).await;
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
}

pub(super) async fn an_erased_secret_is_gone(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    put(&scene, &sealed("a", 1)).await;
    put(&scene, &sealed("b", 1)).await;
    let refusal = scene.refused(scene.batch().with(erase("a", 2))).await;
    assert_eq!(refusal, Refusal::SecretVersion { found: 1 });
    for _ in 0..2 {
        scene.done(scene.batch().with(erase("a", 1))).await;
        assert_eq!(found(&scene, "a").await, None);
        assert_eq!(names(&scene, Page::first(9)).await, ["b"]);
    }
    put(&scene, &sealed("a", 1)).await;
    assert_eq!(names(&scene, Page::first(9)).await, ["a", "b"], "its name is free again");
}

pub(super) async fn secrets_are_listed_by_name_in_pages(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    for name in ["c", "a", "B", "b"] {
        put(&scene, &sealed(name, 1)).await;
    }
    assert_eq!(names(&scene, Page::first(usize::MAX)).await, ["B", "a", "b", "c"]);
    assert_eq!(names(&scene, Page { after: Some("a"), limit: 1 }).await, ["b"]);
    assert!(names(&scene, Page { after: Some("c"), limit: 9 }).await.is_empty());
}

pub(super) async fn a_stranger_sees_and_changes_no_secret(store: Arc<dyn Store>) {
    let mine = Scene::open(store, 1).await;
    let theirs = Scene::open(Arc::clone(&mine.store), 2).await;
    mine.done(mine.batch().with(key("mine", None))).await;
    put(&mine, &sealed("a", 1)).await;
    assert_eq!(theirs.store.vault_key(&theirs.scope()).await, Ok(None));
    assert_eq!(found(&theirs, "a").await, None);
    assert!(names(&theirs, Page::first(9)).await.is_empty());
    theirs.done(theirs.batch().with(erase("a", 1))).await;
    put(&theirs, &SealedSecret { value: Bytes::from_static(b"theirs"), ..sealed("a", 1) }).await;
    assert_eq!(found(&mine, "a").await, Some(sealed("a", 1)));
    let narrow = mine.scope().narrowed_to(mine.agent);
    assert_eq!(
        mine.store.secret(&narrow, "a").await,
        Ok(Some(sealed("a", 1))),
        "its grants say whether it may"
    );
}
