//! Changes on which whoever made them hangs up while their batch lies in the queue of the store: what becomes durable counts
//! in memory too, as if he had stayed. Those of capabilities are in `rights/ends.rs`.

use std::sync::Arc;

use dromia_contracts::BoxFuture;
use dromia_contracts::runtime::{Runtime, TaskSpawner};
use dromia_contracts::store::Store;
use dromia_contracts::vault::{LeakDetector as _, NewSecret, SecretValue, Vault as _};
use dromia_guard::StoreVault;
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::{FaultyStore, ReferenceStore, tokio_runtime};

use crate::vault::Keys;

const BEFORE: &str = "ghp_before_0123456789";
const AFTER: &str = "ghp_after_0123456789";

/// Begins a call, hangs up when its batch waits to be written, and has it written then.
pub(crate) async fn hang_up_on<T>(store: &FaultyStore, call: impl Future<Output = T>) {
    store.hold_back();
    let waits = async {
        while store.held_back() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = call => panic!("its batch is not written"),
        () = waits => {}
    }
    store.let_go();
}

/// Where a call goes with its caller: nothing runs there.
#[derive(Debug)]
struct Nowhere;

impl TaskSpawner for Nowhere {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(task);
    }
}

/// Changes a secret that is looked for, hangs up, and tells whether the new value is found in a text long after.
async fn is_found(runtime: Runtime) -> bool {
    let store = Arc::new(FaultyStore::new(Arc::new(ReferenceStore::new())));
    let scene = StoreScene::open_scene(Arc::clone(&store) as Arc<dyn Store>, 1).await;
    let vault = StoreVault::new(Arc::clone(&store) as Arc<dyn Store>, Arc::new(Keys(7)), runtime);
    let value = |text: &str| SecretValue::new(text.to_owned()).expect("a value");
    let new = NewSecret {
        name: "github".to_owned(),
        value: value(BEFORE),
        host: "api.example.com".to_owned(),
        placement: "bearer".parse().expect("a placement"),
    };
    vault.set_secret(scene.tenant_scope(), new).await.expect("it is set");
    assert_eq!(vault.scan_text(&scene.tenant_scope(), BEFORE.as_bytes()).await.expect("it looks").len(), 1);
    hang_up_on(&store, vault.rotate_secret(scene.tenant_scope(), "github".to_owned(), value(AFTER))).await;
    // What is left of the call has one step to go, and nobody but this test to wait for.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    vault.scan_text(&scene.tenant_scope(), AFTER.as_bytes()).await.expect("it looks").len() == 1
}

#[tokio::test]
async fn a_new_secret_is_scanned_for_after_its_setter_disconnects() {
    assert!(is_found(tokio_runtime()).await);
}

#[tokio::test]
async fn a_change_that_goes_with_its_caller_is_caught() {
    let runtime = Runtime { spawn: Arc::new(Nowhere), ..tokio_runtime() };
    assert!(!is_found(runtime).await, "nothing notices it");
}
