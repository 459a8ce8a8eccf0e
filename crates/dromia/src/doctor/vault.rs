//! The vault: that its key is there, is its owner's alone, and is the one that sealed this home's secrets.
//!
//! While a server has the store, only the file is looked at: the server says `vault_locked` where it does not open.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use dromia_guard::vault::tenant_context;

use super::{Check, Scene, Server, Verdict, error, ok, warning};
use crate::keyfile::KeyFile;
use crate::world;

pub(super) const CHECKS: &[Check] =
    &[Check { id: "vault.key", run: key }, Check { id: "vault.named", run: super::named::named }];

/// The most tenants whose keys are tried.
const TENANTS_MAX: u32 = 64;

const LOST: &str = "put it back from where you keep a copy; if it is lost, so are the values: delete each secret with \
                    `dromia secret delete` and set it anew";

fn key(scene: &Scene<'_>) -> Verdict {
    let path = scene.home.vault_key();
    // A store that cannot be read is told by its own checks.
    let sealed = scene.store().and_then(|store| store.vault_keys(TENANTS_MAX).ok()).unwrap_or_default();
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(problem) if problem.kind() == ErrorKind::NotFound => {
            return match scene.world.server() {
                _ if !sealed.is_empty() => {
                    error(format!("{} is not there, and secrets are sealed with it", path.display()), LOST)
                }
                Server::Answers(_) | Server::Mute(_) => warning(
                    format!("{} is not there", path.display()),
                    "put it back from where you keep a copy; in a home without secrets the first `dromia secret set` makes it",
                ),
                Server::Absent => ok("there are no secrets, and no key of them"),
            };
        }
        Err(problem) => {
            return error(format!("{} cannot be looked at: {problem}", path.display()), "run as its owner");
        }
    };
    let owner = fs::metadata(scene.home.root()).map(|root| root.uid());
    if owner.is_ok_and(|owner| owner != found.uid()) {
        return error(
            format!("{} belongs to user {}, and the home to another", path.display(), found.uid()),
            format!("chown it to the owner of {}, and chmod 600 it", scene.home.root().display()),
        );
    }
    if found.mode() & 0o077 != 0 {
        return error(
            format!("others can read {}, so the server does not use it", path.display()),
            format!(
                "chmod 600 {}, and give the secrets new values if somebody may have read it and the store",
                path.display()
            ),
        );
    }
    let file = KeyFile::new(path, world::runtime().ids);
    if let Err(problem) = file.check() {
        return error(problem.to_string(), LOST);
    }
    for (tenant, key) in &sealed {
        if let Err(problem) = file.opened(&tenant_context(*tenant), key) {
            return error(problem.to_string(), LOST);
        }
    }
    match sealed.len() {
        0 => ok("the key is readable by its owner only"),
        tenants => ok(format!("the key opens the secrets of {tenants} tenants")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dromia_contracts::store::{Mutation, VaultKeyPut};
    use dromia_contracts::vault::{KeyBytes, KeyProvider as _};
    use dromia_store::{SqliteStore, StoreConfig};
    use dromia_testkit::conformance::Scene as Rows;

    use super::super::Severity;
    use super::super::plant::{Planted, chmod};
    use super::*;

    /// A home without a server whose key sealed a tenant's, as a first secret does.
    fn sealed() -> Planted {
        let mut planted = Planted::sound();
        planted.world.server = Server::Absent;
        let file = KeyFile::new(planted.home.vault_key(), world::runtime().ids);
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        tokio.block_on(async {
            let store = SqliteStore::open(StoreConfig::new(planted.home.store())).expect("it opens");
            let rows = Rows::open(Arc::new(store), 1).await;
            let context = tenant_context(rows.scope().tenant());
            let key = file.seal(&context, &KeyBytes::new([7; 32])).await.expect("it is sealed");
            rows.done(rows.batch().with(Mutation::VaultKeyPut(VaultKeyPut { key: key.into() }))).await;
        });
        planted
    }

    #[test]
    fn the_key_that_sealed_the_secrets_is_found_sound() {
        let planted = sealed();
        let verdict = planted.verdict("vault.key");
        assert_eq!(verdict.severity, Severity::Ok, "{verdict:?}");
        assert!(verdict.message.contains("of 1 tenants"), "{verdict:?}");
    }

    #[test]
    fn another_key_and_one_that_is_gone_are_errors_with_the_next_step() {
        let planted = sealed();
        let key = planted.home.vault_key();
        fs::write(&key, format!("dromia-vault-key-1 {}\n", "1e".repeat(32))).expect("is written");
        let verdict = planted.verdict("vault.key");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("is not the key that sealed"), "{verdict:?}");
        assert!(verdict.fix.is_some_and(|fix| fix.contains("put it back")));
        fs::write(&key, "garbage").expect("is written");
        assert!(planted.verdict("vault.key").message.contains("holds no key"));
        fs::remove_file(&key).expect("is removed");
        let verdict = planted.verdict("vault.key");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("secrets are sealed with it"), "{verdict:?}");
    }

    #[test]
    fn what_others_can_read_is_an_error_and_no_key_without_secrets_is_none() {
        let mut planted = Planted::sound();
        chmod(&planted.home.vault_key(), 0o640);
        let verdict = planted.verdict("vault.key");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("chmod 600")));
        fs::remove_file(planted.home.vault_key()).expect("is removed");
        assert_eq!(planted.found("vault.key"), Severity::Warning, "nobody knows whether there are secrets");
        planted.world.server = Server::Absent;
        assert_eq!(planted.found("vault.key"), Severity::Ok);
    }
}
