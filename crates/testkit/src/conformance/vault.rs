//! Claims about secrets as they are stored: a version follows the one before it, what is erased is gone, and nothing
//! crosses tenants.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::store::{CommitRefusal, Mutation, PageRequest, SecretErase, Store, VaultKeyPut};
use dromia_contracts::vault::{SealedSecret, SecretPlacement, SecretSummary};

use super::scene::{StoreScene, scene_time};

pub(super) fn sealed_secret(name: &str, version: u32) -> SealedSecret {
    let secret = SecretSummary {
        name: name.to_owned(),
        version,
        host: "https://api.example.com:443".to_owned(),
        placement: SecretPlacement::Header("x-key".to_owned()),
        created_at: scene_time(1),
        changed_at: scene_time(i64::from(version)),
    };
    let bytes = |what: &str| Bytes::from(format!("{what} {name} {version}"));
    SealedSecret { secret, key: bytes("key"), value: bytes("value") }
}

async fn put_secret(scene: &StoreScene, sealed: &SealedSecret) {
    scene.commit_mutation(Mutation::SecretPut(sealed.clone())).await;
}

pub(super) fn erase_mutation(name: &str, version: u32) -> Mutation {
    Mutation::SecretErase(SecretErase { name: name.to_owned(), version })
}

async fn find_secret(scene: &StoreScene, name: &str) -> Option<SealedSecret> {
    scene.store.secret(&scene.tenant_scope(), name).await.expect("a read")
}

async fn secret_names(scene: &StoreScene, page: PageRequest<&str>) -> Vec<String> {
    let secrets = scene.store.secrets(&scene.tenant_scope(), page).await.expect("a read");
    secrets.into_iter().map(|sealed| sealed.secret.name).collect()
}

/// Puts a tenant's key, in the place of another one where that is named.
pub(super) fn key_mutation(text: &'static str, replaces: Option<&'static str>) -> Mutation {
    let sealed = |text: &'static str| Bytes::from_static(text.as_bytes());
    Mutation::VaultKeyPut(VaultKeyPut { key: sealed(text), replaces: replaces.map(sealed) })
}

pub(super) async fn a_tenants_key_of_secrets_is_put_once(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    assert_eq!(scene.store.vault_key(&scene.tenant_scope()).await, Ok(None));
    for text in ["first", "first", "second"] {
        scene.commit_mutation(key_mutation(text, None)).await;
        assert_eq!(
            scene.store.vault_key(&scene.tenant_scope()).await,
            Ok(Some(Bytes::from_static(b"first")))
        );
    }
}

pub(super) async fn a_tenants_key_of_secrets_gives_way_to_another_by_its_name(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let replaced = || scene.new_batch().with_mutation(key_mutation("second", Some("first")));
    assert!(matches!(scene.commit_refused(replaced()).await, CommitRefusal::Malformed(_)), "there is none");
    scene.commit_mutation(key_mutation("first", None)).await;
    let other = scene.new_batch().with_mutation(key_mutation("second", Some("third")));
    assert!(matches!(scene.commit_refused(other).await, CommitRefusal::Malformed(_)), "it is another one");
    assert_eq!(scene.store.vault_key(&scene.tenant_scope()).await, Ok(Some(Bytes::from_static(b"first"))));
    // A batch that comes again changes nothing more.
    for _ in 0..2 {
        scene.commit_done(replaced()).await;
        assert_eq!(
            scene.store.vault_key(&scene.tenant_scope()).await,
            Ok(Some(Bytes::from_static(b"second")))
        );
    }
}

pub(super) async fn a_version_of_a_secret_takes_the_place_of_the_one_before(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    for version in [0, 2] {
        let refusal = scene.refuse_mutation(Mutation::SecretPut(sealed_secret("a", version))).await;
        assert_eq!(refusal, CommitRefusal::SecretVersion { found: 0 });
    }
    for version in [1, 2] {
        put_secret(&scene, &sealed_secret("a", version)).await;
        put_secret(&scene, &sealed_secret("a", version)).await;
        assert_eq!(
            find_secret(&scene, "a").await,
            Some(sealed_secret("a", version)),
            "the second time changes nothing"
        );
    }
    let other = SealedSecret { value: Bytes::from_static(b"other"), ..sealed_secret("a", 2) };
    for late in [sealed_secret("a", 1), other, sealed_secret("a", 4)] {
        let refusal = scene.refuse_mutation(Mutation::SecretPut(late)).await;
        assert_eq!(refusal, CommitRefusal::SecretVersion { found: 2 });
    }
    let twice = scene.new_batch().with_mutation(Mutation::SecretPut(sealed_secret("b", 1)));
    let refusal = scene.commit_refused(twice.with_mutation(Mutation::SecretPut(sealed_secret("b", 2)))).await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
}

pub(super) async fn an_erased_secret_is_gone(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    put_secret(&scene, &sealed_secret("a", 1)).await;
    put_secret(&scene, &sealed_secret("b", 1)).await;
    let refusal = scene.refuse_mutation(erase_mutation("a", 2)).await;
    assert_eq!(refusal, CommitRefusal::SecretVersion { found: 1 });
    for _ in 0..2 {
        scene.commit_mutation(erase_mutation("a", 1)).await;
        assert_eq!(find_secret(&scene, "a").await, None);
        assert_eq!(secret_names(&scene, PageRequest::first_page(9)).await, ["b"]);
    }
    put_secret(&scene, &sealed_secret("a", 1)).await;
    assert_eq!(secret_names(&scene, PageRequest::first_page(9)).await, ["a", "b"], "its name is free again");
}

pub(super) async fn secrets_are_listed_by_name_in_pages(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    for name in ["c", "a", "B", "b"] {
        put_secret(&scene, &sealed_secret(name, 1)).await;
    }
    assert_eq!(secret_names(&scene, PageRequest::first_page(usize::MAX)).await, ["B", "a", "b", "c"]);
    assert_eq!(secret_names(&scene, PageRequest { after: Some("a"), limit: 1 }).await, ["b"]);
    assert!(secret_names(&scene, PageRequest { after: Some("c"), limit: 9 }).await.is_empty());
}

pub(super) async fn a_stranger_sees_and_changes_no_secret(store: Arc<dyn Store>) {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    mine.commit_done(mine.new_batch().with_mutation(key_mutation("mine", None))).await;
    put_secret(&mine, &sealed_secret("a", 1)).await;
    assert_eq!(theirs.store.vault_key(&theirs.tenant_scope()).await, Ok(None));
    assert_eq!(find_secret(&theirs, "a").await, None);
    assert!(secret_names(&theirs, PageRequest::first_page(9)).await.is_empty());
    theirs.commit_done(theirs.new_batch().with_mutation(erase_mutation("a", 1))).await;
    put_secret(&theirs, &SealedSecret { value: Bytes::from_static(b"theirs"), ..sealed_secret("a", 1) })
        .await;
    assert_eq!(find_secret(&mine, "a").await, Some(sealed_secret("a", 1)));
    let narrow = mine.tenant_scope().narrowed_to(mine.agent);
    assert_eq!(
        mine.store.secret(&narrow, "a").await,
        Ok(Some(sealed_secret("a", 1))),
        "its grants say whether it may"
    );
}
