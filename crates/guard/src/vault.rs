//! The vault: secrets of tenants over the store, each under a key of its own.
//!
//! A value is sealed with its own key, that key with the tenant's, and the tenant's with the instance's, which a
//! [`KeyProvider`] holds. Tenant, name, version, server and placement are part of what is sealed, so a row that was moved
//! or changed in the store does not open. Nothing that this gives out holds a value, except to the line that puts it into a
//! request, inside this crate; of a secret that signs it gives out the key that a type makes of it, and a line gets none.
//!
//! Memory holds a tenant's values as long as they are looked for, for 64 tenants at most.

mod fault;
mod resets;
mod rule;
mod scan;
pub mod seal;
mod sealed;
mod trial;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::{Batch, Mutation, Page, SecretErase, Store, VaultKeyPut};
use dromia_contracts::vault::{
    GivenUpBy, KeyBytes, KeyProvider, Leaks, NewSecret, Placement, SECRETS_MAX, SealedSecret, Secret,
    SecretUse, SecretValue, Spotter, Vault, mask,
};
use dromia_contracts::{BoxFuture, ErrorCode, Fault, Scope, TenantId};
use tokio::sync::Mutex;

use self::fault::{Loss, commit_fault, damaged, invalid, is_lost, locked, not_found, read_fault};
pub(crate) use self::resets::Resets;
use self::rule::{check, fits};
use self::scan::Scanner;
use self::seal::Unopened;
pub use self::sealed::tenant_context;
use self::sealed::{key_context, opened, value_context};
pub use self::trial::{is_locked, opens};
use crate::capability::{ROOT_ID, RootKey, Roots};
use crate::egress::Refused;
use crate::egress::target::Target;

/// What a tenant's root key of capability tokens is derived for. Its number stands in every token that begins with it.
const ROOT_OF_CAPABILITIES: &str = "dromia 2026-11-22 root key of capability tokens, number 1";

/// The most tenants whose values are kept to be looked for; beyond them they are opened again.
const TENANTS_MAX: usize = 64;

const UNKNOWN: Refused =
    Refused { rule: "secret", reason: "there is no secret of that name; nothing was sent" };
const LOCKED: Refused = Refused {
    rule: "secret",
    reason: "the secret cannot be opened now; nothing was sent. The operator must look",
};
const ELSEWHERE: Refused =
    Refused { rule: "secret", reason: "the secret is for another host; nothing was sent there" };
const MISPLACED: Refused = Refused {
    rule: "secret",
    reason: "the secret stands at another place of a request; nothing was sent. `dromia secret list` shows where",
};
const SIGNS_NOTHING: Refused =
    Refused { rule: "secret", reason: "the secret is not for signing; set it with `--placement signature`" };
const NO_SIGNING_KEY: Refused = Refused {
    rule: "secret",
    reason: "the secret is no key that signs, which is whsec_ and 24 to 64 bytes in base64",
};

/// The vault over a store; a handle that is cheap to clone. A change is carried through: whoever hangs up on one leaves nobody who
/// looks for the values of before.
#[derive(Debug, Clone)]
pub struct StoreVault {
    store: Arc<dyn Store>,
    keys: Arc<dyn KeyProvider>,
    runtime: Runtime,
    /// One change at a time, so that versions follow one another and the bound holds.
    turn: Arc<Mutex<()>>,
    known: Arc<RwLock<HashMap<TenantId, Arc<Scanner>>>>,
    /// Counts changes, so that what was read before one is not kept after it.
    changes: Arc<AtomicU64>,
    /// Counts tenants' keys that gave way to others.
    resets: Arc<Resets>,
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
    pub(crate) async fn open(
        &self,
        used: &SecretUse,
        target: &Target,
    ) -> Result<(Placement, SecretValue), Refused> {
        let sealed = self.bound_to(&used.scope, &used.name, target).await?;
        // One that signs has no place, so none is asked for that it would fill.
        if sealed.secret.placement.slot().as_ref() != Some(&used.slot) {
            return Err(MISPLACED);
        }
        let value = self.value(&used.scope, &sealed).await?;
        Ok((sealed.secret.placement, value))
    }

    /// Finds a secret that is for a server.
    async fn bound_to(&self, scope: &Scope, name: &str, target: &Target) -> Result<SealedSecret, Refused> {
        let sealed = self.store.secret(scope, name).await.map_err(|_| LOCKED)?.ok_or(UNKNOWN)?;
        let bound = Target::read(&sealed.secret.host).map_err(|_| LOCKED)?;
        if bound.is_at(target) { Ok(sealed) } else { Err(ELSEWHERE) }
    }

    async fn value(&self, scope: &Scope, sealed: &SealedSecret) -> Result<SecretValue, Refused> {
        // Whatever is opened is looked for in the log from then on. Where that cannot be, nothing opens below either, or
        // another secret is damaged; both are in the log already.
        drop(self.scanner(scope).await);
        let key = self.tenant_key(scope).await.map_err(|_| LOCKED)?;
        key.and_then(|key| opened(scope.tenant(), &key, sealed).ok()).ok_or(LOCKED)
    }

    /// Makes a key of a secret that signs what is exchanged with the server of an address; says why not, in words without
    /// its value. The secret is opened anew each time, so a new value counts at once.
    pub async fn signing_key<K: FromStr>(&self, scope: &Scope, name: &str, url: &str) -> Result<K, String> {
        let told = |refused: Refused| refused.reason.to_owned();
        let target = Target::read(url).map_err(told)?;
        let sealed = self.bound_to(scope, name, &target).await.map_err(told)?;
        if sealed.secret.placement != Placement::Signature {
            return Err(told(SIGNS_NOTHING));
        }
        let value = self.value(scope, &sealed).await.map_err(told)?;
        value.expose().parse().map_err(|_| told(NO_SIGNING_KEY))
    }

    /// Counts changes of secrets, of whichever tenant. One that ended well is counted before whoever made it is told: who keeps a
    /// key that it opened before the count moved has an old one.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Counts keys of tenants that gave way to others, for whoever keeps what was derived from one.
    pub(crate) fn resets(&self) -> Arc<Resets> {
        Arc::clone(&self.resets)
    }

    /// Says why a secret could not be used at an address, if it could not. Its value is opened and dropped.
    pub async fn usable(&self, used: &SecretUse, url: &str) -> Result<(), String> {
        let target = Target::read(url).map_err(|refused| refused.reason.to_owned())?;
        self.open(used, &target).await.map(drop).map_err(|refused| refused.reason.to_owned())
    }

    /// Derives the secret of the tenant's root key of capability tokens from the tenant's key, which is what is kept.
    /// A tenant without a key gets one if `is_made`; otherwise it has no capabilities.
    pub(crate) async fn root_secret(&self, scope: &Scope, is_made: bool) -> Result<Option<KeyBytes>, Fault> {
        let key = if is_made {
            Some(self.tenant_key_or_made(scope).await?)
        } else {
            self.tenant_key(scope).await?
        };
        Ok(key.map(|key| KeyBytes::new(blake3::derive_key(ROOT_OF_CAPABILITIES, key.expose()))))
    }

    /// Writes stars over the values that are held to be looked for, of whichever tenant: for a log, which has no tenant.
    /// Held are those of tenants whose values were opened or looked for since their last change, of 64 tenants at most.
    pub fn mask_held(&self, text: &mut [u8]) {
        let held: Vec<_> =
            self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for scanner in held {
            let found = scanner.find(text);
            mask(text, &found);
        }
    }

    /// Returns the keys with which capability tokens of the tenant begin, for whoever checks tokens outside of the gate.
    pub async fn capability_roots(&self, scope: &Scope) -> Result<Roots, Fault> {
        let secret = self.root_secret(scope, false).await?;
        let root = secret.and_then(|secret| RootKey::new(ROOT_ID, secret.expose()).ok());
        let roots = Roots::new(root.iter().map(RootKey::public).collect());
        roots.map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))
    }

    async fn tenant_key(&self, scope: &Scope) -> Result<Option<KeyBytes>, Fault> {
        let Some(sealed) = self.store.vault_key(scope).await.map_err(|error| read_fault(&error))? else {
            return Ok(None);
        };
        let key = self.keys.open(&tenant_context(scope.tenant()), &sealed).await;
        key.map(Some).map_err(|error| locked(&error))
    }

    /// Opens the tenant's key, or makes one.
    async fn tenant_key_or_made(&self, scope: &Scope) -> Result<KeyBytes, Fault> {
        if let Some(key) = self.tenant_key(scope).await? {
            return Ok(key);
        }
        self.keys.begin().await.map_err(|error| locked(&error))?;
        let new = KeyBytes::new(self.runtime.ids.secret());
        let sealed =
            self.keys.seal(&tenant_context(scope.tenant()), &new).await.map_err(|error| locked(&error))?;
        let put = VaultKeyPut { key: sealed.into(), replaces: None };
        self.commit(scope, Mutation::VaultKeyPut(put)).await?;
        // Whatever is there now is the tenant's key; it proves that it can be opened, too.
        let key = self.tenant_key(scope).await?;
        key.ok_or_else(|| Fault::new(ErrorCode::Internal, "the tenant's key of secrets was not kept"))
    }

    async fn commit(&self, scope: &Scope, mutation: Mutation) -> Result<(), Fault> {
        self.commit_all(scope, [mutation]).await
    }

    async fn commit_all(
        &self,
        scope: &Scope,
        mutations: impl IntoIterator<Item = Mutation>,
    ) -> Result<(), Fault> {
        let mut batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), self.runtime.clock.now());
        batch.mutations.extend(mutations);
        let answer = self.store.commit(batch).await;
        // Whatever came of it: what is known may be old now.
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&scope.tenant());
        commit_fault(answer)
    }

    async fn stored(&self, scope: &Scope, name: &str) -> Result<Option<SealedSecret>, Fault> {
        self.store.secret(scope, name).await.map_err(|error| read_fault(&error))
    }

    /// Seals a value as the next version. The caller has the turn.
    async fn write(
        &self,
        scope: &Scope,
        before: Option<SealedSecret>,
        new: NewSecret,
    ) -> Result<Secret, Fault> {
        let now = self.runtime.clock.now();
        let secret = Secret {
            version: before.as_ref().map_or(1, |before| before.secret.version.saturating_add(1)),
            created_at: before.map_or(now, |before| before.secret.created_at),
            name: new.name,
            host: new.host,
            placement: new.placement,
            changed_at: now,
        };
        let tenant = scope.tenant();
        let over = self.tenant_key_or_made(scope).await?;
        let own = KeyBytes::new(self.runtime.ids.secret());
        let broken = |Unopened| Fault::new(ErrorCode::Internal, "the value could not be sealed");
        let salt = || self.runtime.ids.secret();
        let key = seal::seal(&over, salt(), &key_context(tenant, &secret), own.expose()).map_err(broken)?;
        let text = new.value.expose().as_bytes();
        let value = seal::seal(&own, salt(), &value_context(tenant, &secret), text).map_err(broken)?;
        let sealed = SealedSecret { secret: secret.clone(), key: key.into(), value: value.into() };
        self.commit(scope, Mutation::SecretPut(sealed)).await?;
        Ok(secret)
    }

    /// Returns what looks for the tenant's values.
    async fn scanner(&self, scope: &Scope) -> Result<Arc<Scanner>, Fault> {
        let tenant = scope.tenant();
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&tenant) {
            return Ok(Arc::clone(known));
        }
        let before = self.changes.load(Ordering::SeqCst);
        let secrets = self.store.secrets(scope, Page::first(Page::<&str>::LIMIT_MAX)).await;
        let secrets = secrets.map_err(|error| read_fault(&error))?;
        let mut values = Vec::with_capacity(secrets.len());
        if !secrets.is_empty() {
            let key =
                self.tenant_key(scope).await?.ok_or_else(|| damaged("the tenant has no key of secrets"))?;
            for sealed in secrets {
                let value = opened(tenant, &key, &sealed).map_err(|Unopened| {
                    damaged(&format!("the secret {} does not open", sealed.secret.name))
                })?;
                values.push((sealed.secret.name, value));
            }
        }
        let scanner = Scanner::new(&values).map_err(|problem| Fault::new(ErrorCode::Internal, problem))?;
        let scanner = Arc::new(scanner);
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
    fn list(
        &self,
        scope: Scope,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Secret>, Fault>> {
        Box::pin(async move {
            let secrets = self.store.secrets(&scope, Page { after: after.as_deref(), limit }).await;
            let secrets = secrets.map_err(|error| read_fault(&error))?;
            Ok(secrets.into_iter().map(|sealed| sealed.secret).collect())
        })
    }

    fn set(&self, scope: Scope, new: NewSecret) -> BoxFuture<'_, Result<Secret, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let host = check(&new)?;
            let _turn = this.turn.lock().await;
            let before = this.stored(&scope, &new.name).await?;
            if before.is_none() {
                let there = this.store.secrets(&scope, Page::first(SECRETS_MAX)).await;
                if there.map_err(|error| read_fault(&error))?.len() >= SECRETS_MAX {
                    return Err(invalid(format!(
                        "a tenant has at most {SECRETS_MAX} secrets; delete one first"
                    )));
                }
            }
            this.write(&scope, before, NewSecret { host, ..new }).await
        })
    }

    fn rotate(&self, scope: Scope, name: String, value: SecretValue) -> BoxFuture<'_, Result<Secret, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let _turn = this.turn.lock().await;
            let before = this.stored(&scope, &name).await?.ok_or_else(not_found)?;
            let Secret { host, placement, .. } = before.secret.clone();
            fits(&placement, &value)?;
            this.write(&scope, Some(before), NewSecret { name, value, host, placement }).await
        })
    }

    fn delete(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<Secret, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let _turn = this.turn.lock().await;
            let found = this.stored(&scope, &name).await?.ok_or_else(not_found)?;
            let erase = SecretErase { name, version: found.secret.version };
            this.commit(&scope, Mutation::SecretErase(erase)).await?;
            Ok(found.secret)
        })
    }

    fn reset(&self, scope: Scope, by: GivenUpBy) -> BoxFuture<'_, Result<Vec<Secret>, Fault>> {
        let this = self.clone();
        self.runtime.carried_through(async move {
            let _turn = this.turn.lock().await;
            let old = this.store.vault_key(&scope).await.map_err(|error| read_fault(&error))?;
            let old = old.ok_or_else(|| invalid("the tenant has no key of secrets to give up".to_owned()))?;
            let context = tenant_context(scope.tenant());
            if is_lost(this.keys.open(&context, &old).await, by)? == Loss::KeyAbsent {
                // Whoever owns the home says that the key will not come back, so another one takes its place.
                this.keys.make().await.map_err(|error| locked(&error))?;
            }
            let secrets = this.store.secrets(&scope, Page::first(Page::<&str>::LIMIT_MAX)).await;
            let secrets = secrets.map_err(|error| read_fault(&error))?;
            let new = KeyBytes::new(this.runtime.ids.secret());
            let key = this.keys.seal(&context, &new).await.map_err(|error| locked(&error))?;
            // The operator may have put the right key back since the first look. Whoever asks, the key that sealed must be there.
            is_lost(this.keys.open(&context, &old).await, GivenUpBy::Tenant)?;
            let erased = secrets.iter().map(|sealed| {
                let Secret { name, version, .. } = &sealed.secret;
                Mutation::SecretErase(SecretErase { name: name.clone(), version: *version })
            });
            let put = Mutation::VaultKeyPut(VaultKeyPut { key: key.into(), replaces: Some(old) });
            let mutations: Vec<_> = erased.chain([put]).collect();
            let answer = this.commit_all(&scope, mutations).await;
            // Whatever came of it: what was derived from the old key is derived anew.
            this.resets.count(scope.tenant());
            answer?;
            tracing::warn!(tenant = %scope.tenant(), secrets = secrets.len(), "a key of secrets that does not open was given up");
            Ok(secrets.into_iter().map(|sealed| sealed.secret).collect())
        })
    }
}

impl Leaks for StoreVault {
    fn spotter<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Arc<dyn Spotter>, Fault>> {
        Box::pin(async move { Ok(self.scanner(scope).await? as Arc<dyn Spotter>) })
    }
}
