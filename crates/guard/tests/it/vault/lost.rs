//! Secrets whose key is not there, is another one or cannot be read: nothing is sent, nothing is said to be clean, and nothing is
//! given up that may open again.

use std::sync::Arc;

use dromia_contracts::ErrorCode;
use dromia_contracts::vault::{GivenUpBy, LeakDetector as _, NewSecret, Vault as _};
use dromia_guard::StoreVault;
use dromia_testkit::conformance::StoreScene;

use super::keys::{ABSENT, Changing, MADE, PutBack, Unreadable};
use super::{LOOPBACK, VALUE, VaultFixture, header, refused, value, vault};
use crate::server::{Server, hello};

#[tokio::test]
async fn without_its_key_the_vault_sends_nothing_and_clears_nothing() {
    let (fixture, server) = (VaultFixture::new().await, Server::at(LOOPBACK, 0, hello()).await);
    fixture.set(format!("http://127.0.0.1:{}", server.port()), "bearer").await;
    let locked = VaultFixture { vault: vault(&fixture.store, 8), ..fixture };
    let scope = locked.scope();
    let found = locked.vault.scan_text(&scope, b"anything").await.map_err(|fault| fault.code);
    assert_eq!(found, Err(ErrorCode::VaultLocked));
    let rotated = locked.vault.rotate_secret(scope.clone(), "github".to_owned(), value(VALUE)).await;
    assert_eq!(rotated.map_err(|fault| fault.code), Err(ErrorCode::VaultLocked));
    let request = locked.asking(server.port(), &header("authorization"), &["secret:github"]);
    assert_eq!(refused(locked.line().send_request(request).await), "secret");
    assert_eq!(server.connections(), 0);
    // What cannot be opened can still be deleted.
    locked.vault.delete_secret(scope.clone(), "github".to_owned()).await.expect("it is deleted");
    assert_eq!(locked.found("anything").await, 0);
}

#[tokio::test]
async fn abandoning_a_key_that_may_open_is_caught() {
    let fixture = VaultFixture::new().await;
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let scope = fixture.scope();
    let key = fixture.store.vault_key(&scope).await.expect("a read");
    let refused =
        fixture.vault.reset_vault(scope.clone(), GivenUpBy::Owner).await.expect_err("the key opens");
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    let runtime = dromia_testkit::tokio_runtime();
    let unread = StoreVault::new(Arc::clone(&fixture.store), Arc::new(Unreadable), runtime);
    let refused =
        unread.reset_vault(scope.clone(), GivenUpBy::Owner).await.expect_err("it may be the right one");
    assert_eq!(refused.code, ErrorCode::VaultLocked);
    assert!(!refused.message.contains("reset"), "{refused:?}");
    assert_eq!(fixture.store.vault_key(&scope).await, Ok(key));
    assert_eq!(fixture.found(VALUE).await, 1, "nothing was given up");
}

#[tokio::test]
async fn a_tenant_abandoning_secrets_with_an_absent_key_is_caught() {
    let fixture = VaultFixture::new().await;
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let scope = fixture.scope();
    let (before, keys) = (fixture.store.vault_key(&scope).await, Arc::new(Changing::new(ABSENT)));
    let runtime = dromia_testkit::tokio_runtime();
    let absent = StoreVault::new(Arc::clone(&fixture.store), Arc::clone(&keys) as _, runtime);
    let rotated = absent.rotate_secret(scope.clone(), "github".to_owned(), value(VALUE)).await;
    let rotated = rotated.expect_err("there is no key");
    assert_eq!(rotated.code, ErrorCode::VaultLocked);
    assert!(
        rotated.message.contains("must restore vault.key") && !rotated.message.contains("reset"),
        "{rotated:?}"
    );
    let refused = absent.reset_vault(scope.clone(), GivenUpBy::Tenant).await.expect_err("it may come back");
    assert_eq!(refused.code, ErrorCode::VaultLocked);
    assert!(refused.message.contains("the owner of the home"), "{refused:?}");
    assert!(keys.now().is_err(), "no key was made");
    // Nor does the first secret of another tenant make one.
    let other = StoreScene::open_scene(Arc::clone(&fixture.store), 2).await;
    let placement = "bearer".parse().expect("a placement");
    let host = "api.example.com".to_owned();
    let first = NewSecret { name: "github".to_owned(), value: value(VALUE), host, placement };
    let first = absent.set_secret(other.tenant_scope(), first).await.map_err(|fault| fault.code);
    assert_eq!(first, Err(ErrorCode::VaultLocked));
    assert!(keys.now().is_err(), "no key was made");
    assert_eq!(fixture.store.vault_key(&scope).await, before);
    assert_eq!(fixture.found(VALUE).await, 1, "the key came back, and nothing was given up");
    // Whoever owns the home makes another key on purpose.
    let given_up = absent.reset_vault(scope.clone(), GivenUpBy::Owner).await.expect("it stays away");
    assert_eq!(given_up.len(), 1);
    assert_eq!(keys.now().map(|keys| keys.0), Ok(MADE));
    assert_ne!(fixture.store.vault_key(&scope).await, before);
}

#[tokio::test]
async fn abandoning_a_key_that_has_come_back_is_caught() {
    let fixture = VaultFixture::new().await;
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let scope = fixture.scope();
    let before = fixture.store.vault_key(&scope).await;
    for (there, by) in [(8, GivenUpBy::Tenant), (8, GivenUpBy::Owner), (ABSENT, GivenUpBy::Owner)] {
        let keys = Arc::new(PutBack { keys: Changing::new(there), right: 7 });
        let vault = StoreVault::new(Arc::clone(&fixture.store), keys, dromia_testkit::tokio_runtime());
        let refused = vault.reset_vault(scope.clone(), by).await.map_err(|fault| fault.code);
        assert_eq!(refused, Err(ErrorCode::InvalidRequest), "{there} {by:?}");
        assert_eq!(fixture.store.vault_key(&scope).await, before, "{there} {by:?}");
    }
    assert_eq!(fixture.found(VALUE).await, 1, "nothing was given up");
}

#[tokio::test]
async fn an_unopenable_vault_is_reset_and_takes_new_secrets() {
    let fixture = VaultFixture::new().await;
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let lost = VaultFixture { vault: vault(&fixture.store, 8), ..fixture };
    let scope = lost.scope();
    let refused = lost.vault.rotate_secret(scope.clone(), "github".to_owned(), value(VALUE)).await;
    let refused = refused.expect_err("it does not open");
    assert_eq!(refused.code, ErrorCode::VaultLocked);
    assert!(refused.message.contains("`dromia secret reset`"), "{refused:?}");
    let changes = lost.vault.change_count();
    let given_up = lost.vault.reset_vault(scope.clone(), GivenUpBy::Tenant).await;
    let given_up = given_up.expect("nobody opens it any more");
    assert_eq!(given_up.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["github"]);
    assert!(lost.vault.change_count() > changes, "who keeps a key of before knows");
    assert_eq!(lost.store.secret(&scope, "github").await, Ok(None));
    assert_eq!(lost.set("api.example.com".to_owned(), "bearer").await.version, 1);
    assert_eq!(lost.found(VALUE).await, 1);
    let again = lost.vault.reset_vault(scope.clone(), GivenUpBy::Tenant).await.map_err(|fault| fault.code);
    assert_eq!(again, Err(ErrorCode::InvalidRequest), "its key opens now");
    // The old key comes back, too late for this tenant.
    let late = vault(&lost.store, 7).scan_text(&scope, b"anything").await.map_err(|fault| fault.code);
    assert_eq!(late, Err(ErrorCode::VaultLocked));
}
