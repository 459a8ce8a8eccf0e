//! The vault: that its key is there, is its owner's alone, and is the one that sealed this home's secrets; and that each secret
//! opens as what it is said to be. No value is kept or shown.
//!
//! The store is read beside a server, too, as `audit verify` does: the server says `vault_locked` and not which secret it is.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use dromia_cli::output::count_noun;
use dromia_contracts::TenantId;
use dromia_guard::vault::{secret_opens as opens_with, tenant_context};
use dromia_store::{StoreInspector, StoredSecret};

use super::{CheckContext, CheckResult, DoctorCheck, error_result, ok_result, warning_result};
use crate::keyfile::KeyFile;
use crate::runtime;

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "vault.key", run: check_key },
    DoctorCheck { id: "vault.opens", run: check_secrets_open },
    DoctorCheck { id: "vault.named", run: super::key_references::check_secrets },
];

/// The most tenants whose keys are tried.
const TENANTS_MAX: u32 = 256;

/// The most secrets that are opened.
const SECRETS_MAX: u32 = 4096;

/// The most secrets that are named.
const NAMED_MAX: usize = 8;

const LOST: &str = "restore it from your copy; if it is lost, so are the values: `dromia secret reset` \
                    discards the secrets of a tenant, and the tenant then accepts new ones";

const CHANGED: &str = "the rows of these secrets were changed in the store: restore a backup of it; or \
                       `dromia secret delete` each one and set it again, for a host that you choose";

/// The next step where the store cannot be read: the checks of the store say more.
const UNREAD: &str = "`dromia doctor --only store` shows the problem of the store";

/// An inspector of the store, whether or not a server has the store open.
fn store_inspector(scene: &CheckContext<'_>) -> Option<StoreInspector> {
    scene.home.store_dir().is_dir().then(|| scene.store_inspector())
}

fn check_key(scene: &CheckContext<'_>) -> CheckResult {
    let path = scene.home.vault_key();
    let looked = store_inspector(scene).map(|store| store.vault_keys(TENANTS_MAX));
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(problem) if problem.kind() == ErrorKind::NotFound => {
            let gone = format!("{} does not exist", path.display());
            return match looked {
                Some(Ok(sealed)) if !sealed.is_empty() => {
                    error_result(format!("{gone}, but the store has secrets that it sealed"), LOST)
                }
                Some(Err(_)) => warning_result(
                    format!("{gone}, and the store, which says whether it is needed, cannot be read"),
                    UNREAD,
                ),
                Some(Ok(_)) | None => ok_result("there are no secrets, and they need no key"),
            };
        }
        Err(problem) => {
            return error_result(
                format!("{} cannot be examined: {problem}", path.display()),
                "run dromia as its owner",
            );
        }
    };
    let owner = fs::metadata(scene.home.root_dir()).map(|root| root.uid());
    if owner.is_ok_and(|owner| owner != found.uid()) {
        return error_result(
            format!(
                "{} belongs to user {}, but the home belongs to another user",
                path.display(),
                found.uid()
            ),
            format!("chown the file to the owner of {}, and chmod 600 it", scene.home.root_dir().display()),
        );
    }
    if found.mode() & 0o077 != 0 {
        return error_result(
            format!("other users can read {}, so the server does not use it", path.display()),
            format!(
                "run chmod 600 {}, and set new values for the secrets if another user may have read it and \
                 the store",
                path.display()
            ),
        );
    }
    let file = KeyFile::new(path, runtime::real_runtime().ids);
    if let Err(problem) = file.check_file() {
        return error_result(problem.to_string(), LOST);
    }
    let sealed = looked.and_then(Result::ok).unwrap_or_default();
    let problem = |(tenant, key): &(TenantId, Vec<u8>)| {
        let problem = file.open_sealed(&tenant_context(*tenant), key).err()?;
        Some((*tenant, problem))
    };
    let shut: Vec<_> = sealed.iter().filter_map(problem).collect();
    match shut.first() {
        None if sealed.is_empty() => ok_result("only its owner can read the key"),
        None => ok_result(format!("the key opens the secrets of {}", count_noun(sealed.len(), "tenant"))),
        Some((_, problem)) if shut.len() == sealed.len() => error_result(problem.to_string(), LOST),
        Some(_) => {
            let look = store_inspector(scene);
            let handle = |tenant: TenantId| {
                let found = look.as_ref().and_then(|look| look.tenant_handle(tenant).ok().flatten());
                found.unwrap_or_else(|| tenant.to_string())
            };
            let handles: Vec<_> = shut.iter().map(|(tenant, _)| handle(*tenant)).collect();
            let (found, fix) = sealed_otherwise(&handles);
            error_result(found, fix)
        }
    }
}

/// What is said of tenants whose keys do not open while those of others do: they are sealed with another key of the
/// home, as after one was lost and only some tenants got another one. That may be so without any change.
fn sealed_otherwise(handles: &[String]) -> (String, String) {
    let some = || handles.iter().take(NAMED_MAX);
    let named = some().map(String::as_str).collect::<Vec<_>>().join(", ");
    let resets: Vec<_> = some().map(|handle| format!("`dromia secret reset --tenant {handle}`")).collect();
    let more = handles.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let noun = if handles.len() == 1 { "tenant" } else { "tenants" };
    (
        format!("another key sealed the secrets of the {noun} {named}{more}"),
        format!(
            "{} discards the secrets that that key sealed, and the tenant then accepts new ones; keep a copy \
             of the store if you may still find the key",
            resets.join(" and ")
        ),
    )
}

/// Opens every secret, up to a bound, with what it was sealed for: tenant, name, version, server and place.
fn check_secrets_open(scene: &CheckContext<'_>) -> CheckResult {
    let Some(store) = store_inspector(scene) else { return ok_result("there is no store to check") };
    // The secrets first: a tenant's key is there before its first secret.
    let (secrets, sealed) = match (store.sealed_secrets(SECRETS_MAX), store.vault_keys(TENANTS_MAX)) {
        (Ok(secrets), Ok(sealed)) => (secrets, sealed),
        (Err(problem), _) | (_, Err(problem)) => {
            return warning_result(format!("the secrets cannot be read: {problem}"), UNREAD);
        }
    };
    if secrets.is_empty() {
        return ok_result("there are no secrets");
    }
    let are_all_keys = sealed.len() < TENANTS_MAX as usize;
    let file = KeyFile::new(scene.home.vault_key(), runtime::real_runtime().ids);
    let (mut keys, mut wrong, mut others) = (HashMap::new(), None, BTreeSet::new());
    for (tenant, key) in &sealed {
        match file.open_sealed(&tenant_context(*tenant), key) {
            Ok(key) => {
                keys.insert(*tenant, key);
            }
            Err(problem) => {
                wrong = Some(problem);
                others.insert(*tenant);
            }
        }
    }
    // Nothing below a key opens where the key does not.
    if let (true, Some(problem)) = (keys.is_empty(), wrong) {
        return error_result(format!("no secret opens: {problem}"), LOST);
    }
    let (mut opened, mut shut) = (0, Vec::new());
    let (mut otherwise, mut handles) = (0, BTreeSet::new());
    for StoredSecret { tenant, handle, name, sealed } in &secrets {
        match keys.get(tenant) {
            None if others.contains(tenant) => {
                otherwise += 1;
                handles.insert(handle.clone());
            }
            None if !are_all_keys => {}
            Some(key) if sealed.as_ref().is_some_and(|sealed| opens_with(*tenant, key, sealed)) => {
                opened += 1;
            }
            Some(_) | None => shut.push(format!("{handle}/{name}")),
        }
    }
    let total = secrets.len();
    let handles: Vec<_> = handles.into_iter().collect();
    let of_others = (otherwise > 0).then(|| {
        let (found, fix) = sealed_otherwise(&handles);
        (format!("{found}, so {otherwise} of {total} secrets do not open"), fix)
    });
    if shut.is_empty() {
        if let Some((found, fix)) = of_others {
            return error_result(found, fix);
        }
        let rest = if total >= SECRETS_MAX as usize { ", the most that are tried" } else { "" };
        return ok_result(format!("{opened} of {total} secrets open{rest}"));
    }
    let named = shut.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = shut.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let found = format!("{} of {total} secrets do not open: {named}{more}", shut.len());
    match of_others {
        None => error_result(found, CHANGED),
        Some((also, fix)) => error_result(format!("{found}; and {also}"), format!("{CHANGED}; and {fix}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dromia_contracts::store::{Mutation, Store as _, VaultKeyPut};
    use dromia_contracts::vault::{
        KeyBytes, KeyProvider as _, NewSecret, SecretPlacement, SecretValue, Vault as _,
    };
    use dromia_guard::StoreVault;
    use dromia_store::{SqliteStore, StoreConfig};
    use dromia_testkit::conformance::StoreScene as Rows;

    use super::super::test_home::{PlantedHome, set_mode};
    use super::super::{ServerProbe, Severity};
    use super::*;

    /// A home without a server whose key sealed a tenant's, as a first secret does.
    fn sealed() -> PlantedHome {
        let mut planted = PlantedHome::healthy_home();
        planted.world.server = ServerProbe::Absent;
        let file = KeyFile::new(planted.home.vault_key(), runtime::real_runtime().ids);
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        tokio.block_on(async {
            let store = SqliteStore::open(StoreConfig::new(planted.home.store_dir())).expect("it opens");
            let rows = Rows::open_scene(Arc::new(store), 1).await;
            let context = tenant_context(rows.tenant_scope().tenant());
            let key = file.seal_key(&context, &KeyBytes::new([7; 32])).await.expect("it is sealed");
            rows.commit_done(
                rows.new_batch()
                    .with_mutation(Mutation::VaultKeyPut(VaultKeyPut { key: key.into(), replaces: None })),
            )
            .await;
        });
        planted
    }

    #[test]
    fn the_key_that_sealed_the_secrets_passes() {
        let planted = sealed();
        let verdict = planted.result_of("vault.key");
        assert_eq!(verdict.severity, Severity::Ok, "{verdict:?}");
        assert!(verdict.message.ends_with("the secrets of 1 tenant"), "{verdict:?}");
    }

    #[test]
    fn a_wrong_and_a_missing_key_are_errors_with_fixes() {
        let planted = sealed();
        let key = planted.home.vault_key();
        fs::write(&key, format!("dromia-vault-key-1 {}\n", "1e".repeat(32))).expect("is written");
        let verdict = planted.result_of("vault.key");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("is not the key that sealed"), "{verdict:?}");
        assert!(verdict.fix.is_some_and(|fix| fix.contains("restore it")));
        fs::write(&key, "garbage").expect("is written");
        assert!(planted.result_of("vault.key").message.contains("contains no vault key"));
        fs::remove_file(&key).expect("is removed");
        let verdict = planted.result_of("vault.key");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("secrets that it sealed"), "{verdict:?}");
    }

    #[test]
    fn only_exposed_keys_and_needed_missing_keys_are_errors() {
        let mut planted = PlantedHome::healthy_home();
        set_mode(&planted.home.vault_key(), 0o640);
        let verdict = planted.result_of("vault.key");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("chmod 600")));
        fs::remove_file(planted.home.vault_key()).expect("is removed");
        assert_eq!(
            planted.severity_of("vault.key"),
            Severity::Ok,
            "the store beside the server has no secrets"
        );
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("vault.key"), Severity::Ok);
        fs::write(planted.home.store_dir().join("dromia.db"), "x".repeat(9_000)).expect("is written");
        assert_eq!(
            planted.severity_of("vault.key"),
            Severity::Warning,
            "nobody knows whether there are secrets"
        );
        assert_eq!(planted.severity_of("vault.opens"), Severity::Warning);
    }

    #[test]
    fn a_missing_key_is_an_error_beside_a_running_server() {
        let mut planted = sealed();
        planted.world.server = PlantedHome::healthy_home().world.server;
        assert_eq!(planted.severity_of("vault.key"), Severity::Ok);
        fs::remove_file(planted.home.vault_key()).expect("is removed");
        let verdict = planted.result_of("vault.key");
        assert_eq!(verdict.severity, Severity::Error, "{verdict:?}");
    }

    /// Puts a secret of another tenant beside what is there, sealed with a key that the home does not have.
    fn sealed_otherwise_too(planted: &PlantedHome) {
        let path = planted.home.root_dir().join("other.key");
        fs::write(&path, format!("dromia-vault-key-1 {}\n", "1e".repeat(32))).expect("is written");
        set_mode(&path, 0o600);
        let file = KeyFile::new(path, runtime::real_runtime().ids);
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        tokio.block_on(async {
            let store =
                Arc::new(SqliteStore::open(StoreConfig::new(planted.home.store_dir())).expect("it opens"));
            let rows = Rows::open_scene(Arc::clone(&store) as _, 2).await;
            let vault = StoreVault::new(store as _, Arc::new(file), runtime::real_runtime());
            let value = SecretValue::new("the value of desk".to_owned()).expect("it is long enough");
            let (host, placement) = ("desk.example".to_owned(), SecretPlacement::Bearer);
            let new = NewSecret { name: "desk".to_owned(), value, host, placement };
            vault.set_secret(rows.tenant_scope(), new).await.expect("it is set");
        });
    }

    #[test]
    fn a_tenant_sealed_with_another_key_is_named_without_accusation() {
        let planted = with_secrets(false);
        sealed_otherwise_too(&planted);
        for (id, says) in [
            ("vault.key", "another key sealed the secrets of the tenant t2"),
            ("vault.opens", "another key sealed the secrets of the tenant t2, so 1 of 3 secrets do not open"),
        ] {
            let verdict = planted.result_of(id);
            assert_eq!((verdict.severity, verdict.message.as_str()), (Severity::Error, says));
            let fix = verdict.fix.expect("a next step");
            assert!(fix.contains("`dromia secret reset --tenant t2`"), "{fix}");
            assert!(!fix.contains("somebody") && !fix.contains("secret delete"), "{fix}");
        }
        // What somebody moved is told beside it.
        let planted = with_secrets(true);
        sealed_otherwise_too(&planted);
        let verdict = planted.result_of("vault.opens");
        assert!(
            verdict.message.starts_with(
                "1 of 3 secrets do not open: t1/mail; and another key sealed the secrets of the tenant t2"
            ),
            "{verdict:?}"
        );
        assert!(
            verdict
                .fix
                .is_some_and(|fix| fix.contains("restore a backup") && fix.contains("reset --tenant t2"))
        );
    }

    /// A home with two secrets; with `is_moved` the second one holds what was sealed as the first.
    fn with_secrets(is_moved: bool) -> PlantedHome {
        let mut planted = PlantedHome::healthy_home();
        planted.world.server = ServerProbe::Absent;
        let file = KeyFile::new(planted.home.vault_key(), runtime::real_runtime().ids);
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        tokio.block_on(async {
            let store =
                Arc::new(SqliteStore::open(StoreConfig::new(planted.home.store_dir())).expect("it opens"));
            let rows = Rows::open_scene(Arc::clone(&store) as _, 1).await;
            let vault = StoreVault::new(Arc::clone(&store) as _, Arc::new(file), runtime::real_runtime());
            for name in ["bank", "mail"] {
                let value = SecretValue::new(format!("the value of {name}")).expect("it is long enough");
                let host = "bank.example".to_owned();
                let new =
                    NewSecret { name: name.to_owned(), value, host, placement: SecretPlacement::Bearer };
                vault.set_secret(rows.tenant_scope(), new).await.expect("it is set");
            }
            if is_moved {
                let scope = rows.tenant_scope();
                let bank = store.secret(&scope, "bank").await.expect("it reads").expect("it is there");
                let mut mail = store.secret(&scope, "mail").await.expect("it reads").expect("it is there");
                mail.secret.version += 1;
                (mail.key, mail.value) = (bank.key, bank.value);
                rows.commit_done(rows.new_batch().with_mutation(Mutation::SecretPut(mail))).await;
            }
        });
        planted
    }

    #[test]
    fn the_doctor_opens_each_secret_and_counts_failures() {
        let planted = with_secrets(false);
        let verdict = planted.result_of("vault.opens");
        assert_eq!((verdict.severity, verdict.message.as_str()), (Severity::Ok, "2 of 2 secrets open"));
        fs::write(planted.home.vault_key(), format!("dromia-vault-key-1 {}\n", "1e".repeat(32)))
            .expect("is written");
        let verdict = planted.result_of("vault.opens");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.starts_with("no secret opens: "), "{verdict:?}");
    }

    #[test]
    fn a_value_under_another_name_is_caught_and_named() {
        let planted = with_secrets(true);
        assert_eq!(planted.severity_of("vault.key"), Severity::Ok, "the tenant's key opens all the same");
        let verdict = planted.result_of("vault.opens");
        assert_eq!(verdict.severity, Severity::Error, "{verdict:?}");
        assert!(verdict.message.starts_with("1 of 2 secrets do not open: "), "{verdict:?}");
        assert!(verdict.message.ends_with("/mail"), "{verdict:?}");
        assert!(verdict.fix.is_some_and(|fix| fix.contains("restore a backup")));
    }
}
