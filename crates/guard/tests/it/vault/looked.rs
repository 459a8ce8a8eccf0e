//! Where a text is looked at: one that takes long beside the tasks, in the tenant's turn, and a short one at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dromia_contracts::compute::{ComputeExecutor, Work};
use dromia_contracts::runtime::Runtime;
use dromia_contracts::vault::{LeakDetector, SecretScanner};
use dromia_contracts::{BoxFuture, Fault};
use miniz_oxide::deflate::compress_to_vec_zlib;

use super::*;

/// Does work where it is asked for, and counts it.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl ComputeExecutor for Counted {
    fn execute_work(&self, _: TenantId, work: Work) {
        self.0.fetch_add(1, Ordering::SeqCst);
        work();
    }
}

/// Planted fault: looks where it is asked to, however long that takes.
#[derive(Debug)]
struct AtOnce(Arc<StoreVault>);

impl LeakDetector for AtOnce {
    fn scanner_for_tenant<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> BoxFuture<'a, Result<Arc<dyn SecretScanner>, Fault>> {
        self.0.scanner_for_tenant(scope)
    }
}

/// A text of some hundred bytes that is a MiB when it is unpacked, with the value at its end.
fn packed() -> String {
    let told = format!("{}{VALUE}", " ".repeat(1 << 20));
    STANDARD.encode(compress_to_vec_zlib(told.as_bytes(), 9))
}

/// Looks at texts that take long, and says how many of them kept the task.
async fn kept(leaks: &dyn LeakDetector, scope: &Scope, counted: &Counted) -> usize {
    let mut kept = 0;
    for text in [packed(), format!("{} {VALUE}", "word ".repeat(40_000))] {
        let before = counted.0.load(Ordering::SeqCst);
        let found = leaks.scan_text(scope, text.as_bytes()).await.expect("it looks");
        assert_eq!(found.len(), 1);
        kept += usize::from(counted.0.load(Ordering::SeqCst) == before);
    }
    kept
}

#[tokio::test]
async fn a_long_scan_on_the_async_threads_is_caught() {
    let counted = Arc::new(Counted::default());
    let compute = Arc::clone(&counted) as Arc<dyn ComputeExecutor>;
    let runtime = Runtime { compute, ..dromia_testkit::tokio_runtime() };
    let store: Arc<dyn Store> = Arc::new(ReferenceStore::new());
    let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime));
    let fixture = VaultFixture { store, scene, vault };
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let scope = fixture.scope();
    assert_eq!(fixture.found("nothing").await, 0);
    let before = counted.0.load(Ordering::SeqCst);
    assert_eq!(fixture.found(&format!("it is {VALUE}")).await, 1);
    assert_eq!(counted.0.load(Ordering::SeqCst), before, "a short text is looked at at once");
    assert_eq!(kept(&*fixture.vault, &scope, &counted).await, 0);
    let planted = AtOnce(Arc::clone(&fixture.vault));
    assert_eq!(kept(&planted, &scope, &counted).await, 2, "nothing notices it");
}
