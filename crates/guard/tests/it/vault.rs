//! Secrets: they go where they belong and nowhere else, they are found in what leaves, and without their key nothing of
//! them is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dromia_contracts::egress::{
    Egress as _, EgressError, Line, Method, Plan, Reaches, Request, Response, Route,
};
use dromia_contracts::gate::{Action, Gate as _, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Planning;
use dromia_contracts::store::{Mutation, Store};
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::vault::{
    GivenUpBy, KeyBytes, KeyError, KeyProvider, Leaks as _, NewSecret, SealedSecret, Secret, SecretUse,
    SecretValue, Slot, Vault as _,
};
use dromia_contracts::{Actor, Authority, BoxFuture, CallId, Digest, ErrorCode, Scope, TenantId};
use dromia_guard::vault::seal;
use dromia_guard::{GrantGate, Policies, StoreVault};
use dromia_testkit::ReferenceStore;
use dromia_testkit::conformance::Scene;

use crate::server::{Server, egress, get, granted, hello, http, limits, rule};

const VALUE: &str = "ghp_canary_0123456789";
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

/// A key of the instance in memory.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) u8);

impl KeyProvider for Keys {
    fn begin(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.make()
    }

    fn make(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn seal<'a>(&'a self, context: &'a [u8], key: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        let sealed = seal::seal(&KeyBytes::new([self.0; 32]), [1; 32], context, key.expose());
        Box::pin(std::future::ready(sealed.map_err(|_| KeyError::Wrong { place: "memory".to_owned() })))
    }

    fn open<'a>(&'a self, context: &'a [u8], sealed: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        let opened = seal::open(&KeyBytes::new([self.0; 32]), context, sealed);
        let key = opened.map(|key| KeyBytes::new(key.as_slice().try_into().expect("32 bytes")));
        Box::pin(std::future::ready(key.map_err(|_| KeyError::Wrong { place: "memory".to_owned() })))
    }
}

/// A key of the instance in memory that is lost for another one, or is not there.
#[derive(Debug)]
pub(crate) struct Changing(AtomicU8);

/// What stands for no key in a [`Changing`] one.
const ABSENT: u8 = 0;

/// The key that is made where there is none.
const MADE: u8 = 99;

impl Changing {
    pub(crate) fn new(key: u8) -> Self {
        Self(AtomicU8::new(key))
    }

    pub(crate) fn becomes(&self, key: u8) {
        self.0.store(key, Ordering::SeqCst);
    }

    fn now(&self) -> Result<Keys, KeyError> {
        match self.0.load(Ordering::SeqCst) {
            ABSENT => Err(KeyError::Missing { place: "memory".to_owned() }),
            key => Ok(Keys(key)),
        }
    }
}

impl KeyProvider for Changing {
    fn begin(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(std::future::ready(self.now().map(drop)))
    }

    fn make(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        let _made = self.0.compare_exchange(ABSENT, MADE, Ordering::SeqCst, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }

    fn seal<'a>(&'a self, context: &'a [u8], key: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let keys = self.now()?;
            keys.seal(context, key).await
        })
    }

    fn open<'a>(&'a self, context: &'a [u8], sealed: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        Box::pin(async move {
            let keys = self.now()?;
            keys.open(context, sealed).await
        })
    }
}

/// A key that the operator puts back while something is sealed.
#[derive(Debug)]
struct PutBack {
    keys: Changing,
    right: u8,
}

impl KeyProvider for PutBack {
    fn begin(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.keys.begin()
    }

    fn make(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.keys.make()
    }

    fn seal<'a>(&'a self, context: &'a [u8], key: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let sealed = self.keys.seal(context, key).await;
            self.keys.becomes(self.right);
            sealed
        })
    }

    fn open<'a>(&'a self, context: &'a [u8], sealed: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        self.keys.open(context, sealed)
    }
}

/// A key that is there and that nobody can read as it is.
#[derive(Debug)]
struct Unreadable;

fn unreadable() -> KeyError {
    KeyError::Unusable { problem: "it can be read by others".to_owned() }
}

impl KeyProvider for Unreadable {
    fn begin(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        self.make()
    }

    fn make(&self) -> BoxFuture<'_, Result<(), KeyError>> {
        Box::pin(std::future::ready(Err(unreadable())))
    }

    fn seal<'a>(&'a self, _: &'a [u8], _: &'a KeyBytes) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(std::future::ready(Err(unreadable())))
    }

    fn open<'a>(&'a self, _: &'a [u8], _: &'a [u8]) -> BoxFuture<'a, Result<KeyBytes, KeyError>> {
        Box::pin(std::future::ready(Err(unreadable())))
    }
}

/// A vault over a store in memory, and a tenant.
struct House {
    store: Arc<dyn Store>,
    scene: Scene,
    vault: Arc<StoreVault>,
}

impl House {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(ReferenceStore::new());
        let scene = Scene::open(Arc::clone(&store), 1).await;
        let vault = vault(&store, 7);
        Self { store, scene, vault }
    }

    fn scope(&self) -> Scope {
        self.scene.scope()
    }

    async fn set(&self, host: String, placement: &str) -> Secret {
        let placement = placement.parse().expect("a placement");
        let new = NewSecret { name: "github".to_owned(), value: value(VALUE), host, placement };
        self.vault.set(self.scope(), new).await.expect("it is set")
    }

    fn line(&self) -> Arc<dyn Line> {
        let egress = egress(&["127.0.0.1"], &Arc::default()).with_vault(Arc::clone(&self.vault));
        granted(&egress, limits())
    }

    fn asking(&self, port: u16, slot: &Slot, grants: &[&str]) -> Request {
        let mut all = vec![format!("net:127.0.0.1:{port}")];
        all.extend(grants.iter().map(|grant| (*grant).to_owned()));
        let used = SecretUse { scope: self.scope(), name: "github".to_owned(), slot: slot.clone() };
        Request { secrets: vec![used], ..get(&format!("http://127.0.0.1:{port}/x"), &all) }
    }

    async fn found(&self, text: &str) -> usize {
        self.vault.find(&self.scope(), text.as_bytes()).await.expect("it looks").len()
    }
}

fn vault(store: &Arc<dyn Store>, key: u8) -> Arc<StoreVault> {
    let runtime = dromia_testkit::tokio_runtime();
    Arc::new(StoreVault::new(Arc::clone(store), Arc::new(Keys(key)), runtime))
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned()).expect("a value")
}

fn header(name: &str) -> Slot {
    Slot::Header(name.to_owned())
}

fn refused(answer: Result<Response, EgressError>) -> String {
    let error = answer.expect_err("it is refused");
    assert!(!error.is_sent, "{error}");
    rule(&error).to_owned()
}

#[tokio::test]
async fn a_secret_stands_at_its_place_of_a_request_to_its_server() {
    for (placement, slot, stands) in [
        ("header:X-Key", header("x-key"), format!("x-key: {VALUE}\r\n")),
        ("bearer", header("authorization"), format!("authorization: Bearer {VALUE}\r\n")),
        ("query:key", Slot::Query("key".to_owned()), format!("GET /x?key={VALUE} ")),
    ] {
        let (house, server) = (House::new().await, Server::at(LOOPBACK, 0, hello()).await);
        let secret = house.set(format!("http://127.0.0.1:{}", server.port()), placement).await;
        assert_eq!(secret.host, format!("http://127.0.0.1:{}", server.port()));
        let request = house.asking(server.port(), &slot, &["secret:github"]);
        let response = house.line().send(request).await.expect("it answers");
        assert!(server.heard()[0].contains(&stands), "{:?}", server.heard());
        let decided = response.decisions[0].rule.as_str();
        assert!(decided.ends_with(" and secret:github"), "{decided}");
        assert!(!format!("{response:?}").contains(VALUE) && !response.url.contains(VALUE));
    }
}

#[tokio::test]
async fn a_secret_goes_to_no_other_server_no_other_place_and_for_nobody_without_a_grant() {
    let house = House::new().await;
    let (own, other) = (Server::at(LOOPBACK, 0, hello()).await, Server::at(LOOPBACK, 0, hello()).await);
    house.set(format!("http://127.0.0.1:{}", own.port()), "header:x-key").await;
    let line = house.line();
    for (port, slot, grants) in [
        (other.port(), header("x-key"), &["secret:github"][..]),
        (own.port(), header("x-other"), &["secret:github"][..]),
        (own.port(), Slot::Query("x-key".to_owned()), &["secret:github"][..]),
        (own.port(), header("x-key"), &["secret:other"][..]),
        (own.port(), header("x-key"), &[][..]),
    ] {
        assert_eq!(refused(line.send(house.asking(port, &slot, grants)).await), "secret", "{port} {slot:?}");
    }
    let blind = granted(&egress(&["127.0.0.1"], &Arc::default()), limits());
    let request = house.asking(own.port(), &header("x-key"), &["secret:github"]);
    assert_eq!(refused(blind.send(request).await), "secret", "a line without a vault");
    assert_eq!((own.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn the_line_of_a_tool_has_secrets_for_its_own_server_and_that_of_a_model_has_none() {
    let house = House::new().await;
    let (own, other) = (Server::at(LOOPBACK, 0, hello()).await, Server::at(LOOPBACK, 0, hello()).await);
    house.set(format!("http://127.0.0.1:{}", own.port()), "header:x-key").await;
    let egress = egress(&[], &Arc::default()).with_vault(Arc::clone(&house.vault));
    let url = format!("http://127.0.0.1:{}/x", own.port());
    let line = |route| egress.line(Plan { route, limits: limits() }).expect("a line");
    let asking = |port| house.asking(port, &header("x-key"), &["secret:github"]);
    let tool = line(Route::Tool(url.clone()));
    let response = tool.send(asking(own.port())).await.expect("it answers");
    assert_eq!(response.decisions[0].rule, "named by the configuration and secret:github");
    assert!(own.heard()[0].contains(VALUE));
    assert_eq!(refused(tool.send(asking(other.port())).await), "not the named server");
    let without = house.asking(own.port(), &header("x-key"), &[]);
    assert_eq!(refused(tool.send(without).await), "secret");
    let keyed = line(Route::Keyed(url.clone()));
    keyed.send(asking(own.port())).await.expect("it answers");
    assert!(own.heard()[1].contains(VALUE));
    assert_eq!(refused(keyed.send(asking(other.port())).await), "not the named server");
    assert_eq!(refused(line(Route::Named(url)).send(asking(own.port())).await), "secret");
    assert_eq!(own.heard().len(), 2);
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_secret_that_signs_is_never_sent_and_no_other_one_signs() {
    const KEY: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5";
    let (house, server) = (House::new().await, Server::at(LOOPBACK, 0, hello()).await);
    let host = format!("http://127.0.0.1:{}", server.port());
    let set = async |placement: &str, text: &str| {
        let placement = placement.parse().expect("a placement");
        let new = NewSecret { name: "github".to_owned(), value: value(text), host: host.clone(), placement };
        house.vault.set(house.scope(), new).await.map_err(|fault| fault.code)
    };
    let signing = async |url: &str| house.vault.signing_key::<String>(&house.scope(), "github", url).await;
    let hook = format!("{host}/hook?a=b");
    assert!(signing(&hook).await.is_err_and(|told| told.contains("no secret of that name")));
    for bad in [VALUE, "whsec_Y2FuYXJ5", "whsec_%%%%%%%%"] {
        assert_eq!(set("signature", bad).await.map(drop), Err(ErrorCode::InvalidRequest), "{bad}");
    }
    assert!(set("bearer", KEY).await.is_ok());
    assert!(signing(&hook).await.is_err_and(|told| told.contains("not for signing")));
    assert!(set("signature", KEY).await.is_ok());
    assert_eq!(signing(&hook).await, Ok(KEY.to_owned()));
    assert!(signing("http://127.0.0.1:1/hook").await.is_err_and(|told| told.contains("another host")));
    for slot in [header("authorization"), header("signature"), Slot::Query("signature".to_owned())] {
        let request = house.asking(server.port(), &slot, &["secret:github"]);
        assert_eq!(refused(house.line().send(request).await), "secret", "{slot:?}");
    }
    assert_eq!(server.connections(), 0);
    // What it is renewed with signs too, and counts at once.
    let name = || "github".to_owned();
    let refused = house.vault.rotate(house.scope(), name(), value(VALUE)).await.map_err(|fault| fault.code);
    assert_eq!(refused.map(drop), Err(ErrorCode::InvalidRequest));
    let new = format!("{KEY}{KEY}").replace("5whsec_", "5");
    assert!(house.vault.rotate(house.scope(), name(), value(&new)).await.is_ok());
    assert_eq!(signing(&hook).await, Ok(new));
}

/// Whoever keeps a key that was opened asks for this count, and has none of before a change.
#[tokio::test]
async fn every_change_of_a_secret_is_counted_before_it_is_told() {
    let house = House::new().await;
    let name = || "github".to_owned();
    let mut seen = vec![house.vault.changes()];
    house.set("http://127.0.0.1:1".to_owned(), "header:x-key").await;
    seen.push(house.vault.changes());
    house.vault.rotate(house.scope(), name(), value("another-value-4711")).await.expect("it is there");
    seen.push(house.vault.changes());
    house.vault.delete(house.scope(), name()).await.expect("it is there");
    seen.push(house.vault.changes());
    assert!(seen.is_sorted_by(|before, after| before < after), "{seen:?}");
    let asked = house.vault.signing_key::<String>(&house.scope(), "github", "http://127.0.0.1:1/").await;
    assert!(asked.is_err());
    assert_eq!(seen.last(), Some(&house.vault.changes()), "who opens one changes nothing");
}

#[tokio::test]
async fn a_redirect_to_another_host_gets_nothing_of_it() {
    let (house, other) = (House::new().await, Server::at(LOOPBACK, 0, hello()).await);
    let to = format!("location: http://127.0.0.1:{}/y\r\n", other.port());
    let own = Server::at(LOOPBACK, 0, Arc::new(move |_| http("302 Found", &to, ""))).await;
    house.set(format!("http://127.0.0.1:{}", own.port()), "header:x-key").await;
    let both = format!("net:127.0.0.1:{}", other.port());
    let request = house.asking(own.port(), &header("x-key"), &["secret:github", &both]);
    house.line().send(request).await.expect("it answers");
    assert!(own.heard()[0].contains(VALUE));
    assert_eq!(other.heard().len(), 1);
    assert!(!other.heard()[0].contains(VALUE), "{:?}", other.heard());
}

#[tokio::test]
async fn a_secret_that_is_redirected_in_a_url_is_caught() {
    let (house, other) = (House::new().await, Server::at(LOOPBACK, 0, hello()).await);
    let port = other.port();
    // It tells what it was told, to whoever it chooses.
    let own = Server::at(
        LOOPBACK,
        0,
        Arc::new(move |heard: &str| {
            let path = heard.split(' ').nth(1).unwrap_or_default();
            http("302 Found", &format!("location: http://127.0.0.1:{port}{path}\r\n"), "")
        }),
    );
    let own = own.await;
    house.set(format!("http://127.0.0.1:{}", own.port()), "query:key").await;
    let both = format!("net:127.0.0.1:{port}");
    let slot = Slot::Query("key".to_owned());
    let request = house.asking(own.port(), &slot, &["secret:github", &both]);
    let error = house.line().send(request).await.expect_err("it is not followed");
    assert_eq!(rule(&error), "secret");
    assert_eq!((own.connections(), other.connections()), (1, 0));
}

#[tokio::test]
async fn a_new_value_takes_the_place_of_the_old_one_and_a_deleted_one_is_gone() {
    let house = House::new().await;
    assert_eq!(house.found(VALUE).await, 0);
    let first = house.set("api.example.com".to_owned(), "bearer").await;
    assert_eq!((first.version, first.host.as_str()), (1, "https://api.example.com:443"));
    assert_eq!(house.found(VALUE).await, 1);
    let name = || "github".to_owned();
    let second =
        house.vault.rotate(house.scope(), name(), value("another-value")).await.expect("it is rotated");
    assert_eq!((second.version, &second.host, second.created_at), (2, &first.host, first.created_at));
    assert_eq!((house.found(VALUE).await, house.found("another-value").await), (0, 1));
    let listed = house.vault.list(house.scope(), None, 9).await.expect("they are listed");
    assert_eq!(listed, std::slice::from_ref(&second));
    assert_eq!(house.vault.delete(house.scope(), name()).await, Ok(second));
    assert_eq!(house.found("another-value").await, 0);
    let gone = house.vault.delete(house.scope(), name()).await.map_err(|fault| fault.code);
    assert_eq!(gone, Err(ErrorCode::SecretNotFound));
    let gone = house.vault.rotate(house.scope(), name(), value(VALUE)).await.map_err(|fault| fault.code);
    assert_eq!(gone, Err(ErrorCode::SecretNotFound));
}

#[tokio::test]
async fn what_was_opened_is_starred_in_the_log_though_nobody_looked_for_it() {
    let house = House::new().await;
    house.set("api.example".to_owned(), "bearer").await;
    let slot = header("authorization");
    let used = SecretUse { scope: house.scope(), name: "github".to_owned(), slot };
    let mut line = format!("a line with {VALUE}").into_bytes();
    house.vault.mask_held(&mut line);
    assert!(line.ends_with(VALUE.as_bytes()), "nothing is opened to be looked for in a log");
    assert_eq!(house.vault.usable(&used, "https://api.example/v1").await, Ok(()));
    house.vault.mask_held(&mut line);
    assert!(!String::from_utf8_lossy(&line).contains(VALUE), "{line:?}");
}

#[tokio::test]
async fn what_is_stored_holds_nothing_of_a_value() {
    let house = House::new().await;
    house.set("api.example.com".to_owned(), "bearer").await;
    let stored = house.store.secret(&house.scope(), "github").await.expect("a read").expect("it is there");
    for bytes in [&stored.key, &stored.value] {
        assert!(!bytes.windows(6).any(|piece| piece == b"canary"));
    }
    assert!(!format!("{stored:?} {:?}", house.vault).contains("canary"));
}

#[tokio::test]
async fn without_the_right_key_nothing_is_sent_and_nothing_is_said_to_be_clean() {
    let (house, server) = (House::new().await, Server::at(LOOPBACK, 0, hello()).await);
    house.set(format!("http://127.0.0.1:{}", server.port()), "bearer").await;
    let locked = House { vault: vault(&house.store, 8), ..house };
    let scope = locked.scope();
    let found = locked.vault.find(&scope, b"anything").await.map_err(|fault| fault.code);
    assert_eq!(found, Err(ErrorCode::VaultLocked));
    let rotated = locked.vault.rotate(scope.clone(), "github".to_owned(), value(VALUE)).await;
    assert_eq!(rotated.map_err(|fault| fault.code), Err(ErrorCode::VaultLocked));
    let request = locked.asking(server.port(), &header("authorization"), &["secret:github"]);
    assert_eq!(refused(locked.line().send(request).await), "secret");
    assert_eq!(server.connections(), 0);
    // What cannot be opened can still be deleted.
    locked.vault.delete(scope.clone(), "github".to_owned()).await.expect("it is deleted");
    assert_eq!(locked.found("anything").await, 0);
}

#[tokio::test]
async fn a_key_that_is_given_up_though_it_may_open_is_caught() {
    let house = House::new().await;
    house.set("api.example.com".to_owned(), "bearer").await;
    let scope = house.scope();
    let key = house.store.vault_key(&scope).await.expect("a read");
    let refused = house.vault.reset(scope.clone(), GivenUpBy::Owner).await.expect_err("the key opens");
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    let runtime = dromia_testkit::tokio_runtime();
    let unread = StoreVault::new(Arc::clone(&house.store), Arc::new(Unreadable), runtime);
    let refused = unread.reset(scope.clone(), GivenUpBy::Owner).await.expect_err("it may be the right one");
    assert_eq!(refused.code, ErrorCode::VaultLocked);
    assert!(!refused.message.contains("reset"), "{refused:?}");
    assert_eq!(house.store.vault_key(&scope).await, Ok(key));
    assert_eq!(house.found(VALUE).await, 1, "nothing was given up");
}

#[tokio::test]
async fn a_tenant_that_gives_up_secrets_whose_key_is_only_absent_is_caught() {
    let house = House::new().await;
    house.set("api.example.com".to_owned(), "bearer").await;
    let scope = house.scope();
    let (before, keys) = (house.store.vault_key(&scope).await, Arc::new(Changing::new(ABSENT)));
    let runtime = dromia_testkit::tokio_runtime();
    let absent = StoreVault::new(Arc::clone(&house.store), Arc::clone(&keys) as _, runtime);
    let rotated = absent.rotate(scope.clone(), "github".to_owned(), value(VALUE)).await;
    let rotated = rotated.expect_err("there is no key");
    assert_eq!(rotated.code, ErrorCode::VaultLocked);
    assert!(
        rotated.message.contains("puts vault.key back") && !rotated.message.contains("reset"),
        "{rotated:?}"
    );
    let refused = absent.reset(scope.clone(), GivenUpBy::Tenant).await.expect_err("it may come back");
    assert_eq!(refused.code, ErrorCode::VaultLocked);
    assert!(refused.message.contains("the owner of the home"), "{refused:?}");
    assert!(keys.now().is_err(), "no key was made");
    // Nor does the first secret of another tenant make one.
    let other = Scene::open(Arc::clone(&house.store), 2).await;
    let placement = "bearer".parse().expect("a placement");
    let host = "api.example.com".to_owned();
    let first = NewSecret { name: "github".to_owned(), value: value(VALUE), host, placement };
    let first = absent.set(other.scope(), first).await.map_err(|fault| fault.code);
    assert_eq!(first, Err(ErrorCode::VaultLocked));
    assert!(keys.now().is_err(), "no key was made");
    assert_eq!(house.store.vault_key(&scope).await, before);
    assert_eq!(house.found(VALUE).await, 1, "the key came back, and nothing was given up");
    // Whoever owns the home makes another key on purpose.
    let given_up = absent.reset(scope.clone(), GivenUpBy::Owner).await.expect("it stays away");
    assert_eq!(given_up.len(), 1);
    assert_eq!(keys.now().map(|keys| keys.0), Ok(MADE));
    assert_ne!(house.store.vault_key(&scope).await, before);
}

#[tokio::test]
async fn a_key_that_is_given_up_after_it_was_put_back_is_caught() {
    let house = House::new().await;
    house.set("api.example.com".to_owned(), "bearer").await;
    let scope = house.scope();
    let before = house.store.vault_key(&scope).await;
    for (there, by) in [(8, GivenUpBy::Tenant), (8, GivenUpBy::Owner), (ABSENT, GivenUpBy::Owner)] {
        let keys = Arc::new(PutBack { keys: Changing::new(there), right: 7 });
        let vault = StoreVault::new(Arc::clone(&house.store), keys, dromia_testkit::tokio_runtime());
        let refused = vault.reset(scope.clone(), by).await.map_err(|fault| fault.code);
        assert_eq!(refused, Err(ErrorCode::InvalidRequest), "{there} {by:?}");
        assert_eq!(house.store.vault_key(&scope).await, before, "{there} {by:?}");
    }
    assert_eq!(house.found(VALUE).await, 1, "nothing was given up");
}

#[tokio::test]
async fn what_no_key_opens_is_given_up_and_the_tenant_takes_new_secrets() {
    let house = House::new().await;
    house.set("api.example.com".to_owned(), "bearer").await;
    let lost = House { vault: vault(&house.store, 8), ..house };
    let scope = lost.scope();
    let refused = lost.vault.rotate(scope.clone(), "github".to_owned(), value(VALUE)).await;
    let refused = refused.expect_err("it does not open");
    assert_eq!(refused.code, ErrorCode::VaultLocked);
    assert!(refused.message.contains("`dromia secret reset`"), "{refused:?}");
    let changes = lost.vault.changes();
    let given_up = lost.vault.reset(scope.clone(), GivenUpBy::Tenant).await;
    let given_up = given_up.expect("nobody opens it any more");
    assert_eq!(given_up.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["github"]);
    assert!(lost.vault.changes() > changes, "who keeps a key of before knows");
    assert_eq!(lost.store.secret(&scope, "github").await, Ok(None));
    assert_eq!(lost.set("api.example.com".to_owned(), "bearer").await.version, 1);
    assert_eq!(lost.found(VALUE).await, 1);
    let again = lost.vault.reset(scope.clone(), GivenUpBy::Tenant).await.map_err(|fault| fault.code);
    assert_eq!(again, Err(ErrorCode::InvalidRequest), "its key opens now");
    // The old key comes back, too late for this tenant.
    let late = vault(&lost.store, 7).find(&scope, b"anything").await.map_err(|fault| fault.code);
    assert_eq!(late, Err(ErrorCode::VaultLocked));
}

#[tokio::test]
async fn a_secret_that_somebody_bound_to_another_server_in_the_store_is_caught() {
    let (house, server) = (House::new().await, Server::at(LOOPBACK, 0, hello()).await);
    house.set("api.example.com".to_owned(), "bearer").await;
    let stored = house.store.secret(&house.scope(), "github").await.expect("a read").expect("it is there");
    let host = format!("http://127.0.0.1:{}", server.port());
    // The version is the old one, so only the server is another.
    house.vault.delete(house.scope(), "github".to_owned()).await.expect("it is deleted");
    let moved = SealedSecret { secret: Secret { host, ..stored.secret }, ..stored };
    house.scene.done(house.scene.batch().with(Mutation::SecretPut(moved))).await;
    let request = house.asking(server.port(), &header("authorization"), &["secret:github"]);
    assert_eq!(refused(house.line().send(request).await), "secret");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_with_its_place() {
    let house = House::new().await;
    for (name, host, placement, place) in [
        ("a b", "h.example", "bearer", "name:"),
        ("a", "", "bearer", "host:"),
        ("a", "h.example/path", "bearer", "host:"),
        ("a", "ftp://h.example", "bearer", "host:"),
        ("a", "user@h.example", "bearer", "host:"),
        ("a", "h.example", "header:host", "placement:"),
        ("a", "h.example", "header:proxy-authorization", "placement:"),
    ] {
        let placement = placement.parse().expect("a placement");
        let new = NewSecret { name: name.to_owned(), value: value(VALUE), host: host.to_owned(), placement };
        let fault = house.vault.set(house.scope(), new).await.expect_err(place);
        assert_eq!(fault.code, ErrorCode::InvalidRequest);
        assert!(fault.message.starts_with(place) && !fault.message.contains(VALUE), "{fault}");
    }
}

#[test]
fn the_gate_asks_for_the_grant_of_each_secret_that_a_call_names() {
    let gate = GrantGate::new(Policies::built_in().expect("the shipped policy compiles"), ["http.request"]);
    let authority = Authority::claim();
    let scope = authority.scope(TenantId::from_bytes([1; 16]), Actor::new("t"));
    let url = "https://h.example/".to_owned();
    let secrets = vec!["a".to_owned(), "b".to_owned()];
    let call = PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: "http.request".to_owned(),
        effect: EffectClass::Pure,
        arguments: "{}".to_owned(),
        action: Digest::default(),
        reaches: Some(Reaches { method: Method::Get, url, secrets }),
        network: None,
        contents: None,
    };
    for (more, allowed) in [
        (&["secret:a", "secret:b"][..], true),
        (&["secret:a"][..], false),
        (&["secret:b"][..], false),
        (&["secret:ab"][..], false),
        (&[][..], false),
    ] {
        let grants = [&["http.request", "net:h.example"][..], more].concat();
        let grants: Vec<_> = grants.into_iter().map(str::to_owned).collect();
        gate.check_grants(&grants).expect("they are grants");
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &grants,
            context: Label::PUBLIC_FACT,
            endorsed: &[],
            plan: Planning::OPEN,
        };
        match gate.judge(principal, Action::Tool(&call)) {
            Verdict::Allow { rule, .. } => {
                assert!(allowed, "{grants:?}");
                assert!(rule.ends_with(" and secret:a and secret:b"), "{rule}");
            }
            Verdict::Ask { rule, .. } | Verdict::Delay { rule, .. } => panic!("{rule} lets it wait"),
            Verdict::Deny { rule, reason, .. } => {
                assert!(!allowed, "{reason}");
                assert_eq!(rule, "default deny");
                assert!(reason.contains("is not granted the secret"), "{reason}");
            }
        }
    }
    for grant in ["secret:*", "secret:", "secret:a b"] {
        assert!(gate.check_grants(&[grant.to_owned()]).is_err(), "{grant}");
    }
}
