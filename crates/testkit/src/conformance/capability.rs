//! Claims about capabilities as they are stored: put once, taken back for good, gone with their holder, and nothing crosses
//! tenants.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::capability::{CapabilityRecord, CapabilityUse};
use dromia_contracts::store::{
    AgentStateSet, CapabilityDrop, CapabilityRevoke, CommitRefusal, Mutation, PageRequest, Store,
};
use dromia_contracts::{Actor, AgentId, CapabilityId};

use super::scene::{StoreScene, agent_create, scene_time};

fn capability_id(number: u8) -> CapabilityId {
    CapabilityId::from_bytes([number; 16])
}

pub(super) fn new_capability(holder: AgentId, number: u8) -> CapabilityRecord {
    CapabilityRecord {
        id: capability_id(number),
        holder,
        parent: (number > 1).then(|| capability_id(number - 1)),
        usage: if number.is_multiple_of(2) { CapabilityUse::Task } else { CapabilityUse::Held },
        rights: vec!["file:write:docs".to_owned(), format!("tool:t{number}")],
        until: (number > 1).then(|| scene_time(i64::from(number) * 1_000)),
        wall_ms_max: (number > 1).then_some(u32::from(number)),
        token: Bytes::from(vec![number; 9]),
        by: Actor::new("cli:ada"),
        created_at: scene_time(i64::from(number)),
        revoked_at: None,
    }
}

pub(super) fn revoke_mutation(number: u8, ms: i64) -> Mutation {
    Mutation::CapabilityRevoke(CapabilityRevoke { capability: capability_id(number), at: scene_time(ms) })
}

pub(super) fn drop_mutation(number: u8) -> Mutation {
    Mutation::CapabilityDrop(CapabilityDrop { capability: capability_id(number) })
}

async fn put_capability(scene: &StoreScene, capability: &CapabilityRecord) {
    scene.commit_mutation(Mutation::CapabilityPut(capability.clone())).await;
}

async fn list_capabilities(scene: &StoreScene) -> Vec<CapabilityRecord> {
    scene.store.capabilities(&scene.tenant_scope(), PageRequest::first_page(99)).await.expect("a read")
}

pub(super) async fn a_capability_is_put_once_and_taken_back_for_good(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let [first, second] = [1, 2].map(|number| new_capability(scene.agent, number));
    for _ in 0..2 {
        put_capability(&scene, &second).await;
        put_capability(&scene, &first).await;
        assert_eq!(list_capabilities(&scene).await, [first.clone(), second.clone()], "by id, and once");
    }
    let after = PageRequest { after: Some(capability_id(1)), limit: 1 };
    assert_eq!(scene.store.capabilities(&scene.tenant_scope(), after).await, Ok(vec![second.clone()]));
    let other = CapabilityRecord { rights: vec!["tool:other".to_owned()], ..first.clone() };
    let refusal = scene.refuse_mutation(Mutation::CapabilityPut(other)).await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
    for ms in [7, 8] {
        scene.commit_mutation(revoke_mutation(1, ms)).await;
        put_capability(&scene, &first).await;
        let revoked = CapabilityRecord { revoked_at: Some(scene_time(7)), ..first.clone() };
        assert_eq!(list_capabilities(&scene).await, [revoked, second.clone()], "the first time counts");
    }
    let refusal = scene.refuse_mutation(revoke_mutation(9, 1)).await;
    assert_eq!(refusal, CommitRefusal::NotFound(capability_id(9).to_string()));
    let twice = scene.new_batch().with_mutation(revoke_mutation(2, 1)).with_mutation(drop_mutation(2));
    let refusal = scene.commit_refused(twice).await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
    let nobody = new_capability(AgentId::from_bytes([0xee; 16]), 3);
    let refusal = scene.refuse_mutation(Mutation::CapabilityPut(nobody.clone())).await;
    assert_eq!(refusal, CommitRefusal::NotFound(nobody.holder.to_string()));
}

pub(super) async fn a_capability_that_is_let_go_of_is_gone_and_so_are_those_of_an_erased_agent(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    let second = scene.agent_id();
    scene.commit_mutation(agent_create(second, "second")).await;
    let (mine, theirs) = (new_capability(scene.agent, 1), new_capability(second, 2));
    put_capability(&scene, &mine).await;
    put_capability(&scene, &new_capability(scene.agent, 3)).await;
    put_capability(&scene, &theirs).await;
    for _ in 0..2 {
        scene.commit_mutation(drop_mutation(3)).await;
        assert_eq!(list_capabilities(&scene).await, [mine.clone(), theirs.clone()]);
    }
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let set = AgentStateSet { agent: scene.agent, from, to };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    assert_eq!(list_capabilities(&scene).await, slice::from_ref(&theirs), "what is being erased is not seen");
    while !scene.store.erase_agent_page(&scene.tenant_scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(list_capabilities(&scene).await, [theirs]);
}

pub(super) async fn a_stranger_sees_and_changes_no_capability(store: Arc<dyn Store>) {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    let kept = new_capability(mine.agent, 1);
    put_capability(&mine, &kept).await;
    assert!(list_capabilities(&theirs).await.is_empty());
    let refusal = theirs.commit_refused(theirs.new_batch().with_mutation(revoke_mutation(1, 1))).await;
    assert_eq!(refusal, CommitRefusal::NotFound(capability_id(1).to_string()));
    theirs.commit_done(theirs.new_batch().with_mutation(drop_mutation(1))).await;
    put_capability(&theirs, &new_capability(theirs.agent, 1)).await;
    assert_eq!(list_capabilities(&mine).await, std::slice::from_ref(&kept));
    let narrow = mine.tenant_scope().narrowed_to(mine.agent);
    assert_eq!(mine.store.capabilities(&narrow, PageRequest::first_page(9)).await, Ok(vec![kept]));
    let narrow = mine.tenant_scope().narrowed_to(AgentId::from_bytes([0xee; 16]));
    assert_eq!(mine.store.capabilities(&narrow, PageRequest::first_page(9)).await, Ok(Vec::new()));
}
