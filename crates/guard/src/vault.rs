//! The vault: secrets of tenants over the store, each under a key of its own.
//!
//! A value is sealed with its own key, that key with the tenant's, and the tenant's with the instance's, which a
//! [`KeyProvider`] holds. Tenant, name, version, server and placement are part of what is sealed, so a row that was moved
//! or changed in the store does not open. Nothing that this gives out holds a value, except to the line that puts it into a
//! request, inside this crate; of a secret that signs it gives out the key that a type makes of it, and a line gets none.
//!
//! Memory holds a tenant's values as long as they are looked for, for 64 tenants at most.

mod associated_data;
mod fault;
mod open_check;
mod resets;
mod rule;
mod scan;
pub mod seal;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::{Mutation, PageRequest, SecretErase, Store, VaultKeyPut, WriteBatch};
use dromia_contracts::vault::{
    GivenUpBy, KeyBytes, KeyProvider, LeakDetector, NewSecret, SECRETS_MAX, SealedSecret, SecretMatch,
    SecretPlacement, SecretScanner, SecretSummary, SecretUse, SecretValue, Vault, mask_secrets,
};
use dromia_contracts::{BoxFuture, ErrorCode, Fault, Scope, TenantId};
use tokio::sync::Mutex;

pub use self::associated_data::tenant_context;
use self::associated_data::{key_context, open_secret_value, value_context};
use self::fault::{
    KeyLoss, commit_fault, invalid_request, is_lost, not_found, read_fault, vault_damaged, vault_locked,
};
pub use self::open_check::{is_locked, secret_opens};
pub(crate) use self::resets::KeyResets;
use self::rule::{check_new_secret, check_placement};
use self::scan::TenantSecretScanner;
use self::seal::UnsealError;
use crate::capability::{ROOT_ID, RootKey, RootKeys};
use crate::egress::denied::EgressDenied;
use crate::egress::target::RequestTarget;

/// The context from which a tenant's root key of capability tokens is derived. Every token that begins with it names
/// its number.
const ROOT_OF_CAPABILITIES: &str = "dromia 2026-11-22 root key of capability tokens, number 1";

/// The most tenants whose values are kept to be looked for; beyond them they are opened again.
const TENANTS_MAX: usize = 64;

/// The error of a scan that has no result.
const BROKEN_LOOK: &str = "the scan for secrets failed";

const UNKNOWN: EgressDenied =
    EgressDenied { rule: "secret", reason: "there is no secret of that name; nothing was sent" };
const LOCKED: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the secret cannot be opened now; nothing was sent. The operator must run `dromia doctor --only \
             vault`",
};
const ELSEWHERE: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the secret is for another host; nothing was sent. `dromia secret list` shows the host",
};
const MISPLACED: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the secret has another place in a request; nothing was sent. `dromia secret list` shows the place",
};
const SIGNS_NOTHING: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the secret is not for signing; set it with `--placement signature`",
};
const NO_SIGNING_KEY: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the secret is not a signing key, which is whsec_ and 24 to 64 bytes in base64",
};

/// The vault over a store; a handle that is cheap to clone. A change is completed even if its caller hangs up, so that
/// no scanner keeps looking for the old values.
#[derive(Debug, Clone)]
pub struct StoreVault {
    store: Arc<dyn Store>,
    keys: Arc<dyn KeyProvider>,
    runtime: Runtime,
    /// One change at a time, so that versions follow one another and the bound holds.
    turn: Arc<Mutex<()>>,
    known: Arc<RwLock<HashMap<TenantId, Arc<TenantSecretScanner>>>>,
    /// Counts changes, so that what was read before one is not kept after it.
    changes: Arc<AtomicU64>,
    /// Counts tenants' keys that gave way to others.
    resets: Arc<KeyResets>,
}

impl StoreVault {
    /// Sets it up; nothing is opened.
    pub fn new(store: Arc<dyn Store>, keys: Arc<dyn KeyProvider>, runtime: Runtime) -> Self {
        Self {
            store,
            keys,
            runtime,
            turn: Arc::default(),
            known: Arc::default(),
            changes: Arc::default(),
            resets: Arc::default(),
        }
    }

    /// Opens a secret for the server that is asked, if it is for it and for that place of the request.
    pub(crate) async fn open_secret(
        &self,
        used: &SecretUse,
        target: &RequestTarget,
    ) -> Result<(SecretPlacement, SecretValue), EgressDenied> {
        let sealed = self.bound_to(&used.scope, &used.name, target).await?;
        // One that signs has no place, so none is asked for that it would fill.
        if sealed.secret.placement.request_slot().as_ref() != Some(&used.slot) {
            return Err(MISPLACED);
        }
        let value = self.open_value(&used.scope, &sealed).await?;
        Ok((sealed.secret.placement, value))
    }

    /// Finds a secret that is for a server.
    async fn bound_to(
        &self,
        scope: &Scope,
        name: &str,
        target: &RequestTarget,
    ) -> Result<SealedSecret, EgressDenied> {
        let sealed = self.store.secret(scope, name).await.map_err(|_| LOCKED)?.ok_or(UNKNOWN)?;
        let bound = RequestTarget::parse_url(&sealed.secret.host).map_err(|_| LOCKED)?;
        if bound.is_at(target) { Ok(sealed) } else { Err(ELSEWHERE) }
    }

    async fn open_value(&self, scope: &Scope, sealed: &SealedSecret) -> Result<SecretValue, EgressDenied> {
        // The log masks every opened value from then on. Where no scanner can be made, the value does not open below
        // either, or another secret is damaged; both are in the log already.
        drop(self.tenant_scanner(scope).await);
        let key = self.tenant_key(scope).await.map_err(|_| LOCKED)?;
        key.and_then(|key| open_secret_value(scope.tenant(), &key, sealed).ok()).ok_or(LOCKED)
    }

    /// Makes a key of a secret that signs what is exchanged with the server of an address; says why not, in words
    /// without its value. The secret is opened each time, so a new value counts at once.
    pub async fn signing_key<K: FromStr>(&self, scope: &Scope, name: &str, url: &str) -> Result<K, String> {
        let told = |refused: EgressDenied| refused.reason.to_owned();
        let target = RequestTarget::parse_url(url).map_err(told)?;
        let sealed = self.bound_to(scope, name, &target).await.map_err(told)?;
        if sealed.secret.placement != SecretPlacement::Signature {
            return Err(told(SIGNS_NOTHING));
        }
        let value = self.open_value(scope, &sealed).await.map_err(told)?;
        value.expose_secret().parse().map_err(|_| told(NO_SIGNING_KEY))
    }

    /// Counts changes of secrets, of every tenant. A successful change is counted before its caller gets the answer: a
    /// key that was opened before the count moved is an old one.
    pub fn change_count(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Counts replaced keys of tenants, for caches of what was derived from one.
    pub(crate) fn key_resets(&self) -> Arc<KeyResets> {
        Arc::clone(&self.resets)
    }

    /// Says why a secret could not be used at an address, if it could not. Its value is opened and dropped.
    pub async fn check_usable(&self, used: &SecretUse, url: &str) -> Result<(), String> {
        let target = RequestTarget::parse_url(url).map_err(|refused| refused.reason.to_owned())?;
        self.open_secret(used, &target).await.map(drop).map_err(|refused| refused.reason.to_owned())
    }

    /// Derives the secret of the tenant's root key of capability tokens from the tenant's key, which is what is kept.
    /// A tenant without a key gets one if `is_made`; otherwise it has no capabilities.
    pub(crate) async fn root_secret(&self, scope: &Scope, is_made: bool) -> Result<Option<KeyBytes>, Fault> {
        let key = if is_made {
            Some(self.tenant_key_or_made(scope).await?)
        } else {
            self.tenant_key(scope).await?
        };
        Ok(key.map(|key| KeyBytes::new(blake3::derive_key(ROOT_OF_CAPABILITIES, key.expose_key()))))
    }

    /// Masks in a text the values that memory holds, of every tenant: for a log, which has no tenant. Memory holds
    /// those of tenants whose values were opened or looked for since their last change, of 64 tenants at most.
    pub fn mask_held(&self, text: &mut [u8]) {
        let held: Vec<_> =
            self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for scanner in held {
            let found = scanner.find_secrets(text);
            mask_secrets(text, &found);
        }
    }

    /// Returns the keys with which capability tokens of the tenant begin, for checks of tokens outside of the gate.
    pub async fn capability_roots(&self, scope: &Scope) -> Result<RootKeys, Fault> {
        let secret = self.root_secret(scope, false).await?;
        let root = secret.and_then(|secret| RootKey::new(ROOT_ID, secret.expose_key()).ok());
        let roots = RootKeys::new(root.iter().map(RootKey::public_root).collect());
        roots.map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))
    }

    async fn tenant_key(&self, scope: &Scope) -> Result<Option<KeyBytes>, Fault> {
        let Some(sealed) = self.store.vault_key(scope).await.map_err(|error| read_fault(&error))? else {
            return Ok(None);
        };
        let key = self.keys.open_key(&tenant_context(scope.tenant()), &sealed).await;
        key.map(Some).map_err(|error| vault_locked(&error))
    }

    /// Opens the tenant's key, or makes one.
    async fn tenant_key_or_made(&self, scope: &Scope) -> Result<KeyBytes, Fault> {
        if let Some(key) = self.tenant_key(scope).await? {
            return Ok(key);
        }
        self.keys.ensure_key().await.map_err(|error| vault_locked(&error))?;
        let new = KeyBytes::new(self.runtime.ids.random_secret());
        let sealed = self
            .keys
            .seal_key(&tenant_context(scope.tenant()), &new)
            .await
            .map_err(|error| vault_locked(&error))?;
        let put = VaultKeyPut { key: sealed.into(), replaces: None };
        self.commit_mutation(scope, Mutation::VaultKeyPut(put)).await?;
        // Whatever is there now is the tenant's key; it proves that it can be opened, too.
        let key = self.tenant_key(scope).await?;
        key.ok_or_else(|| Fault::new(ErrorCode::Internal, "the tenant's vault key was not stored"))
    }

    async fn commit_mutation(&self, scope: &Scope, mutation: Mutation) -> Result<(), Fault> {
        self.commit_all(scope, [mutation]).await
    }

    async fn commit_all(
        &self,
        scope: &Scope,
        mutations: impl IntoIterator<Item = Mutation>,
    ) -> Result<(), Fault> {
        let mut batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.runtime.clock.now());
        batch.mutations.extend(mutations);
        let answer = self.store.commit(batch).await;
        // Whatever came of it: what is known may be old now.
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&scope.tenant());
        commit_fault(answer)
    }

    async fn read_secret(&self, scope: &Scope, name: &str) -> Result<Option<SealedSecret>, Fault> {
        self.store.secret(scope, name).await.map_err(|error| read_fault(&error))
    }

    /// Seals a value as the next version. The caller has the turn.
    async fn write_version(
        &self,
        scope: &Scope,
        before: Option<SealedSecret>,
        new: NewSecret,
    ) -> Result<SecretSummary, Fault> {
        let now = self.runtime.clock.now();
        let secret = SecretSummary {
            version: before.as_ref().map_or(1, |before| before.secret.version.saturating_add(1)),
            created_at: before.map_or(now, |before| before.secret.created_at),
            name: new.name,
            host: new.host,
            placement: new.placement,
            changed_at: now,
        };
        let tenant = scope.tenant();
        let over = self.tenant_key_or_made(scope).await?;
        let own = KeyBytes::new(self.runtime.ids.random_secret());
        let broken = |UnsealError| Fault::new(ErrorCode::Internal, "the value could not be sealed");
        let salt = || self.runtime.ids.random_secret();
        let key = seal::seal_text(&over, salt(), &key_context(tenant, &secret), own.expose_key())
            .map_err(broken)?;
        let text = new.value.expose_secret().as_bytes();
        let value = seal::seal_text(&own, salt(), &value_context(tenant, &secret), text).map_err(broken)?;
        let sealed = SealedSecret { secret: secret.clone(), key: key.into(), value: value.into() };
        self.commit_mutation(scope, Mutation::SecretPut(sealed)).await?;
        Ok(secret)
    }

    /// Returns what looks for the tenant's values.
    async fn tenant_scanner(&self, scope: &Scope) -> Result<Arc<TenantSecretScanner>, Fault> {
        let tenant = scope.tenant();
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&tenant) {
            return Ok(Arc::clone(known));
        }
        let before = self.changes.load(Ordering::SeqCst);
        let secrets =
            self.store.secrets(scope, PageRequest::first_page(PageRequest::<&str>::LIMIT_MAX)).await;
        let secrets = secrets.map_err(|error| read_fault(&error))?;
        let mut values = Vec::with_capacity(secrets.len());
        if !secrets.is_empty() {
            let key =
                self.tenant_key(scope).await?.ok_or_else(|| vault_damaged("the tenant has no vault key"))?;
            for sealed in secrets {
                let value = open_secret_value(tenant, &key, &sealed).map_err(|UnsealError| {
                    vault_damaged(&format!("the secret {} does not open", sealed.secret.name))
                })?;
                values.push((sealed.secret.name, value));
            }
        }
        let scanner = self.runtime.run_compute(tenant, move || TenantSecretScanner::new(&values)).await;
        let scanner = scanner.unwrap_or_else(|| Err(BROKEN_LOOK.to_owned()));
        let scanner = Arc::new(scanner.map_err(|problem| Fault::new(ErrorCode::Internal, problem))?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if self.changes.load(Ordering::SeqCst) == before {
            if known.len() >= TENANTS_MAX {
                known.clear();
            }
            known.insert(tenant, Arc::clone(&scanner));
        }
        Ok(scanner)
    }
}

impl Vault for StoreVault {
    fn list_secrets(
        &self,
        scope: Scope,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SecretSummary>, Fault>> {
        Box::pin(async move {
            let secrets = self.store.secrets(&scope, PageRequest { after: after.as_deref(), limit }).await;
            let secrets = secrets.map_err(|error| read_fault(&error))?;
            Ok(secrets.into_iter().map(|sealed| sealed.secret).collect())
        })
    }

    fn set_secret(&self, scope: Scope, new: NewSecret) -> BoxFuture<'_, Result<SecretSummary, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let host = check_new_secret(&new)?;
            let _turn = this.turn.lock().await;
            let before = this.read_secret(&scope, &new.name).await?;
            if before.is_none() {
                let there = this.store.secrets(&scope, PageRequest::first_page(SECRETS_MAX)).await;
                if there.map_err(|error| read_fault(&error))?.len() >= SECRETS_MAX {
                    return Err(invalid_request(format!(
                        "a tenant may have at most {SECRETS_MAX} secrets; delete one first"
                    )));
                }
            }
            this.write_version(&scope, before, NewSecret { host, ..new }).await
        })
    }

    fn rotate_secret(
        &self,
        scope: Scope,
        name: String,
        value: SecretValue,
    ) -> BoxFuture<'_, Result<SecretSummary, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let _turn = this.turn.lock().await;
            let before = this.read_secret(&scope, &name).await?.ok_or_else(not_found)?;
            let SecretSummary { host, placement, .. } = before.secret.clone();
            check_placement(&placement, &value)?;
            this.write_version(&scope, Some(before), NewSecret { name, value, host, placement }).await
        })
    }

    fn delete_secret(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<SecretSummary, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let _turn = this.turn.lock().await;
            let found = this.read_secret(&scope, &name).await?.ok_or_else(not_found)?;
            let erase = SecretErase { name, version: found.secret.version };
            this.commit_mutation(&scope, Mutation::SecretErase(erase)).await?;
            Ok(found.secret)
        })
    }

    fn reset_vault(&self, scope: Scope, by: GivenUpBy) -> BoxFuture<'_, Result<Vec<SecretSummary>, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let _turn = this.turn.lock().await;
            let old = this.store.vault_key(&scope).await.map_err(|error| read_fault(&error))?;
            let old =
                old.ok_or_else(|| invalid_request("the tenant has no vault key to discard".to_owned()))?;
            let context = tenant_context(scope.tenant());
            if is_lost(this.keys.open_key(&context, &old).await, by)? == KeyLoss::KeyAbsent {
                // The owner of the home says that the key will not come back, so another one takes its place.
                this.keys.make_key().await.map_err(|error| vault_locked(&error))?;
            }
            let secrets =
                this.store.secrets(&scope, PageRequest::first_page(PageRequest::<&str>::LIMIT_MAX)).await;
            let secrets = secrets.map_err(|error| read_fault(&error))?;
            let new = KeyBytes::new(this.runtime.ids.random_secret());
            let key = this.keys.seal_key(&context, &new).await.map_err(|error| vault_locked(&error))?;
            // The operator may have put the right key back since the first look. For any caller, the key that sealed
            // must be there.
            is_lost(this.keys.open_key(&context, &old).await, GivenUpBy::Tenant)?;
            let erased = secrets.iter().map(|sealed| {
                let SecretSummary { name, version, .. } = &sealed.secret;
                Mutation::SecretErase(SecretErase { name: name.clone(), version: *version })
            });
            let put = Mutation::VaultKeyPut(VaultKeyPut { key: key.into(), replaces: Some(old) });
            let mutations: Vec<_> = erased.chain([put]).collect();
            let answer = this.commit_all(&scope, mutations).await;
            // Whatever the outcome: what was derived from the old key is derived again.
            this.resets.count_reset(scope.tenant());
            answer?;
            tracing::warn!(tenant = %scope.tenant(), secrets = secrets.len(), "discarded a vault key that \
                                                                               does not open");
            Ok(secrets.into_iter().map(|sealed| sealed.secret).collect())
        })
    }
}

impl LeakDetector for StoreVault {
    fn scanner_for_tenant<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
        Box::pin(async move { Ok(self.tenant_scanner(scope).await? as Arc<dyn SecretScanner>) })
    }

    /// A text that a quick scan cannot finish is scanned in the compute pool, in the tenant's turn.
    fn scan_text<'a>(
        &'a self,
        scope: &'a Scope,
        text: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<SecretMatch>, Fault>> {
        Box::pin(async move {
            let scanner = self.tenant_scanner(scope).await?;
            if let Some(found) = scanner.find_quickly(text) {
                return Ok(found);
            }
            let text = text.to_vec();
            let found = self.runtime.run_compute(scope.tenant(), move || scanner.find_secrets(&text)).await;
            found.ok_or_else(|| Fault::new(ErrorCode::Internal, BROKEN_LOOK))
        })
    }
}
