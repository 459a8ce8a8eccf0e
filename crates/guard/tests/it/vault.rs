//! Secrets: they go where they belong and nowhere else, they are found in what leaves, and without their key nothing of
//! them is said.

mod keys;
mod looked;
mod lost;
mod sent;

use std::sync::Arc;

use dromia_contracts::egress::{
    EgressClient, EgressError, EgressRequest, EgressResponse, EgressTarget, HttpMethod,
};
use dromia_contracts::gate::{Gate as _, GateAction, GateVerdict, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::store::Store;
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::vault::{
    KeyBytes, KeyProvider as _, LeakDetector as _, NewSecret, SecretSlot, SecretSummary, SecretUse,
    SecretValue, Vault as _,
};
use dromia_contracts::{Actor, CallId, Digest, ErrorCode, Scope, ScopeAuthority, TenantId};
use dromia_guard::vault::{secret_opens, tenant_context};
use dromia_guard::{GrantGate, PolicyEngine, StoreVault};
use dromia_testkit::ReferenceStore;
use dromia_testkit::answer_of;
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::tools::bare_catalogue;

pub(crate) use self::keys::{Changing, Keys};
use crate::server::{egress, get, granted, limits, rule};

const VALUE: &str = "ghp_canary_0123456789";
const OTHER: &str = "another-value-4711";
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

/// A vault over a store in memory, and a tenant.
struct VaultFixture {
    store: Arc<dyn Store>,
    scene: StoreScene,
    vault: Arc<StoreVault>,
}

impl VaultFixture {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(ReferenceStore::new());
        let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
        let vault = vault(&store, 7);
        Self { store, scene, vault }
    }

    fn scope(&self) -> Scope {
        self.scene.tenant_scope()
    }

    async fn set(&self, host: String, placement: &str) -> SecretSummary {
        let placement = placement.parse().expect("a placement");
        let new = NewSecret { name: "github".to_owned(), value: value(VALUE), host, placement };
        self.vault.set_secret(self.scope(), new).await.expect("it is set")
    }

    fn line(&self) -> Arc<dyn EgressClient> {
        let egress = egress(&["127.0.0.1"], &Arc::default()).with_vault(Arc::clone(&self.vault));
        granted(&egress, limits())
    }

    fn asking(&self, port: u16, slot: &SecretSlot, grants: &[&str]) -> EgressRequest {
        let mut all = vec![format!("net:127.0.0.1:{port}")];
        all.extend(grants.iter().map(|grant| (*grant).to_owned()));
        let used = SecretUse { scope: self.scope(), name: "github".to_owned(), slot: slot.clone() };
        EgressRequest { secrets: vec![used], ..get(&format!("http://127.0.0.1:{port}/x"), &all) }
    }

    async fn found(&self, text: &str) -> usize {
        self.vault.scan_text(&self.scope(), text.as_bytes()).await.expect("it looks").len()
    }
}

fn vault(store: &Arc<dyn Store>, key: u8) -> Arc<StoreVault> {
    let runtime = dromia_testkit::tokio_runtime();
    Arc::new(StoreVault::new(Arc::clone(store), Arc::new(Keys(key)), runtime))
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned()).expect("a value")
}

fn header(name: &str) -> SecretSlot {
    SecretSlot::Header(name.to_owned())
}

fn refused(answer: Result<EgressResponse, EgressError>) -> String {
    let error = answer.expect_err("it is refused");
    assert!(!error.is_sent, "{error}");
    rule(&error).to_owned()
}

/// Whoever keeps a key that was opened asks for this count, and has none of before a change.
#[tokio::test]
async fn every_change_of_a_secret_is_counted_before_its_answer() {
    let fixture = VaultFixture::new().await;
    let name = || "github".to_owned();
    let mut seen = vec![fixture.vault.change_count()];
    fixture.set("http://127.0.0.1:1".to_owned(), "header:x-key").await;
    seen.push(fixture.vault.change_count());
    fixture
        .vault
        .rotate_secret(fixture.scope(), name(), value("another-value-4711"))
        .await
        .expect("it is there");
    seen.push(fixture.vault.change_count());
    fixture.vault.delete_secret(fixture.scope(), name()).await.expect("it is there");
    seen.push(fixture.vault.change_count());
    assert!(seen.is_sorted_by(|before, after| before < after), "{seen:?}");
    let asked = fixture.vault.signing_key::<String>(&fixture.scope(), "github", "http://127.0.0.1:1/").await;
    assert!(asked.is_err());
    assert_eq!(seen.last(), Some(&fixture.vault.change_count()), "who opens one changes nothing");
}

#[tokio::test]
async fn a_rotated_secret_replaces_the_old_and_deletion_removes_it() {
    let fixture = VaultFixture::new().await;
    assert_eq!(fixture.found(VALUE).await, 0);
    let first = fixture.set("api.example.com".to_owned(), "bearer").await;
    assert_eq!((first.version, first.host.as_str()), (1, "https://api.example.com:443"));
    assert_eq!(fixture.found(VALUE).await, 1);
    let name = || "github".to_owned();
    let second = fixture
        .vault
        .rotate_secret(fixture.scope(), name(), value("another-value"))
        .await
        .expect("it is rotated");
    assert_eq!((second.version, &second.host, second.created_at), (2, &first.host, first.created_at));
    assert_eq!((fixture.found(VALUE).await, fixture.found("another-value").await), (0, 1));
    let listed = fixture.vault.list_secrets(fixture.scope(), None, 9).await.expect("they are listed");
    assert_eq!(listed, std::slice::from_ref(&second));
    assert_eq!(fixture.vault.delete_secret(fixture.scope(), name()).await, Ok(second));
    assert_eq!(fixture.found("another-value").await, 0);
    let gone = fixture.vault.delete_secret(fixture.scope(), name()).await.map_err(|fault| fault.code);
    assert_eq!(gone, Err(ErrorCode::SecretNotFound));
    let gone =
        fixture.vault.rotate_secret(fixture.scope(), name(), value(VALUE)).await.map_err(|fault| fault.code);
    assert_eq!(gone, Err(ErrorCode::SecretNotFound));
}

#[tokio::test]
async fn a_secret_once_opened_is_masked_in_the_log() {
    let fixture = VaultFixture::new().await;
    fixture.set("api.example".to_owned(), "bearer").await;
    let slot = header("authorization");
    let used = SecretUse { scope: fixture.scope(), name: "github".to_owned(), slot };
    let mut line = format!("a line with {VALUE}").into_bytes();
    fixture.vault.mask_held(&mut line);
    assert!(line.ends_with(VALUE.as_bytes()), "nothing is opened to be looked for in a log");
    assert_eq!(fixture.vault.check_usable(&used, "https://api.example/v1").await, Ok(()));
    // Those of another tenant, too.
    let other = StoreScene::open_scene(Arc::clone(&fixture.store), 2).await;
    let vault = Arc::clone(&fixture.vault);
    let other = VaultFixture { store: Arc::clone(&fixture.store), scene: other, vault };
    other.set("api.example".to_owned(), "bearer").await;
    other.vault.rotate_secret(other.scope(), "github".to_owned(), value(OTHER)).await.expect("it is there");
    assert_eq!(other.found(OTHER).await, 1);
    line.extend(OTHER.bytes());
    fixture.vault.mask_held(&mut line);
    let line = String::from_utf8_lossy(&line);
    assert!(!line.contains(VALUE) && !line.contains(OTHER), "{line}");
}

#[tokio::test]
async fn a_stored_secret_shows_nothing_of_its_value() {
    let fixture = VaultFixture::new().await;
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let stored =
        fixture.store.secret(&fixture.scope(), "github").await.expect("a read").expect("it is there");
    for bytes in [&stored.key, &stored.value] {
        assert!(!bytes.windows(6).any(|piece| piece == b"canary"));
    }
    assert!(!format!("{stored:?} {:?}", fixture.vault).contains("canary"));
    // It opens for its own tenant, with its own key and as it was set.
    let key = fixture.store.vault_key(&fixture.scope()).await.expect("a read").expect("it is there");
    let (tenant, other) = (fixture.scene.tenant, TenantId::from_bytes([9; 16]));
    let key = Keys(7).open_key(&tenant_context(tenant), &key).await.expect("it opens");
    let mut moved = stored.clone();
    moved.secret.host = "https://other.example.com:443".to_owned();
    let wrong = KeyBytes::new([1; 32]);
    for (tenant, key, sealed, opens) in [
        (tenant, &key, &stored, true),
        (other, &key, &stored, false),
        (tenant, &wrong, &stored, false),
        (tenant, &key, &moved, false),
    ] {
        assert_eq!(secret_opens(tenant, key, sealed), opens, "{tenant} {sealed:?}");
    }
}

#[tokio::test]
async fn an_invalid_secret_is_refused_with_its_place() {
    let fixture = VaultFixture::new().await;
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
        let fault = fixture.vault.set_secret(fixture.scope(), new).await.expect_err(place);
        assert_eq!(fault.code, ErrorCode::InvalidRequest);
        assert!(fault.message.starts_with(place) && !fault.message.contains(VALUE), "{fault}");
    }
    for (placement, is_taken) in [("bearer", false), ("header:x-key", false), ("query:key", true)] {
        let (placement, value) = (placement.parse().expect("a placement"), value("clé-0123456789"));
        let new = NewSecret { name: "a".to_owned(), value, host: "h.example".to_owned(), placement };
        let set = fixture.vault.set_secret(fixture.scope(), new).await;
        assert_eq!(set.is_ok(), is_taken, "{set:?}");
    }
}

#[test]
fn the_gate_requires_a_grant_for_each_secret_of_calls() {
    let gate = GrantGate::new(PolicyEngine::built_in().expect("the shipped policy compiles"));
    let authority = ScopeAuthority::claim();
    let scope = authority.issue_scope(TenantId::from_bytes([1; 16]), Actor::new("t"));
    let url = "https://h.example/".to_owned();
    let secrets = vec!["a".to_owned(), "b".to_owned()];
    let call = PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: "http.request".to_owned(),
        effect: EffectClass::Pure,
        arguments: "{}".to_owned(),
        action: Digest::default(),
        reaches: Some(EgressTarget { method: HttpMethod::Get, url, secrets }),
        network: None,
        contents: None,
    };
    let tools = bare_catalogue(["http.request"]);
    for (more, allowed) in [
        (&["secret:a", "secret:b"][..], true),
        (&["secret:a"][..], false),
        (&["secret:b"][..], false),
        (&["secret:ab"][..], false),
        (&[][..], false),
    ] {
        let grants = [&["http.request", "net:h.example"][..], more].concat();
        let grants: Vec<_> = grants.into_iter().map(str::to_owned).collect();
        gate.check_grants(&grants, &tools).expect("they are grants");
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &grants,
            context: Label::PUBLIC_FACT,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        match answer_of(gate.evaluate_action(principal, GateAction::Tool(&call))) {
            GateVerdict::Allow { rule, .. } => {
                assert!(allowed, "{grants:?}");
                assert!(rule.ends_with(" and secret:a and secret:b"), "{rule}");
            }
            GateVerdict::Ask { rule, .. } | GateVerdict::Delay { rule, .. } => panic!("{rule} lets it wait"),
            GateVerdict::Deny { rule, reason, .. } => {
                assert!(!allowed, "{reason}");
                assert_eq!(rule, "default deny");
                assert!(reason.contains("is not granted the secret"), "{reason}");
            }
        }
    }
    for grant in ["secret:*", "secret:", "secret:a b"] {
        assert!(gate.check_grants(&[grant.to_owned()], &tools).is_err(), "{grant}");
    }
}
