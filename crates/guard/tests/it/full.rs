//! A tenant that has as many capabilities as it may: one more is refused with what to do, until one has ended.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::capability::{
    CAPABILITIES_MAX, CapabilityRecord, CapabilityRegistry as _, CapabilityUse, NewCapability,
};
use dromia_contracts::runtime::{Clock as _, Runtime};
use dromia_contracts::store::{Mutation, Store, WriteBatch};
use dromia_contracts::{CapabilityId, ErrorCode};
use dromia_guard::{StoreCapabilities, StoreVault};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::{ManualClock, ReferenceStore, tokio_runtime_seeded};

use crate::vault::Keys;

/// From so many on a task's capability finds no place.
const MOST: usize = CAPABILITIES_MAX / 4 * 3;

fn id(number: usize) -> CapabilityId {
    let mut bytes = [0; 16];
    bytes[14..].copy_from_slice(&u16::try_from(number).expect("few").to_be_bytes());
    CapabilityId::from_bytes(bytes)
}

#[tokio::test]
async fn a_full_tenant_gets_capacity_once_a_capability_ends() {
    let store: Arc<dyn Store> = Arc::new(ReferenceStore::new());
    let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
    let clock = ManualClock::new();
    let runtime = Runtime { clock: Arc::new(clock.clone()), ..tokio_runtime_seeded(9) };
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
    let capabilities = StoreCapabilities::new(store, vault, runtime);
    let row = |number: usize| CapabilityRecord {
        id: id(number),
        holder: scene.agent,
        parent: None,
        usage: CapabilityUse::Task,
        rights: vec!["tool:exec".to_owned()],
        until: None,
        wall_ms_max: None,
        by: scene.tenant_scope().actor().clone(),
        token: Bytes::from_static(b"a token that does not open"),
        created_at: clock.now(),
        revoked_at: None,
    };
    let numbers: Vec<_> = (1..MOST).collect();
    for numbers in numbers.chunks(200) {
        let put = |number: &usize| Mutation::CapabilityPut(row(*number));
        let batch = numbers.iter().map(put).fold(scene.new_batch(), WriteBatch::with_mutation);
        scene.commit_done(batch).await;
    }
    let spawn = || {
        let new = NewCapability {
            holder: scene.agent,
            from: None,
            usage: CapabilityUse::Task,
            rights: vec!["tool:exec".to_owned()],
            until: None,
            wall_ms_max: None,
        };
        capabilities.grant_capability(scene.tenant_scope(), new)
    };
    spawn().await.expect("there is one place left");
    let refused = spawn().await.expect_err("it is full");
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    assert!(refused.message.contains("dromia capability revoke"), "{refused:?}");
    capabilities.revoke_capability(scene.tenant_scope(), id(7)).await.expect("it is taken back");
    spawn().await.expect("there is place for one");
    assert_eq!(spawn().await.expect_err("and no other").code, ErrorCode::InvalidRequest);
}
