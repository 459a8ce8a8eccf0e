//! Claims about capabilities as they are stored: put once, taken back for good, gone with their holder, and nothing crosses
//! tenants.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::capability::{Capability, CapabilityUse};
use dromia_contracts::store::{
    AgentStateSet, CapabilityDrop, CapabilityRevoke, Mutation, Page, Refusal, Store,
};
use dromia_contracts::{Actor, AgentId, CapabilityId};

use super::scene::{Scene, agent_create, at};

fn id(number: u8) -> CapabilityId {
    CapabilityId::from_bytes([number; 16])
}

pub(super) fn capability(holder: AgentId, number: u8) -> Capability {
    Capability {
        id: id(number),
        holder,
        parent: (number > 1).then(|| id(number - 1)),
        usage: if number.is_multiple_of(2) { CapabilityUse::Task } else { CapabilityUse::Held },
        rights: vec!["file:write:docs".to_owned(), format!("tool:t{number}")],
        until: (number > 1).then(|| at(i64::from(number) * 1_000)),
        wall_ms_max: (number > 1).then_some(u32::from(number)),
        token: Bytes::from(vec![number; 9]),
        by: Actor::new("cli:ada"),
        created_at: at(i64::from(number)),
        revoked_at: None,
    }
}

pub(super) fn revoke(number: u8, ms: i64) -> Mutation {
    Mutation::CapabilityRevoke(CapabilityRevoke { capability: id(number), at: at(ms) })
}

pub(super) fn forget(number: u8) -> Mutation {
    Mutation::CapabilityDrop(CapabilityDrop { capability: id(number) })
}

async fn put(scene: &Scene, capability: &Capability) {
    scene.done(scene.batch().with(Mutation::CapabilityPut(capability.clone()))).await;
}

async fn found(scene: &Scene) -> Vec<Capability> {
    scene.store.capabilities(&scene.scope(), Page::first(99)).await.expect("a read")
}

pub(super) async fn a_capability_is_put_once_and_taken_back_for_good(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let [first, second] = [1, 2].map(|number| capability(scene.agent, number));
    for _ in 0..2 {
        put(&scene, &second).await;
        put(&scene, &first).await;
        assert_eq!(found(&scene).await, [first.clone(), second.clone()], "by id, and once");
    }
    let after = Page { after: Some(id(1)), limit: 1 };
    assert_eq!(scene.store.capabilities(&scene.scope(), after).await, Ok(vec![second.clone()]));
    let other = Capability { rights: vec!["tool:other".to_owned()], ..first.clone() };
    let refusal = scene.refused(scene.batch().with(Mutation::CapabilityPut(other))).await;
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    for ms in [7, 8] {
        scene.done(scene.batch().with(revoke(1, ms))).await;
        put(&scene, &first).await;
        let revoked = Capability { revoked_at: Some(at(7)), ..first.clone() };
        assert_eq!(found(&scene).await, [revoked, second.clone()], "the first time counts");
    }
    let refusal = scene.refused(scene.batch().with(revoke(9, 1))).await;
    assert_eq!(refusal, Refusal::NotFound(id(9).to_string()));
    let twice = scene.batch().with(revoke(2, 1)).with(forget(2));
    let refusal = scene.refused(twice).await;
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    let nobody = capability(AgentId::from_bytes([0xee; 16]), 3);
    let refusal = scene.refused(scene.batch().with(Mutation::CapabilityPut(nobody.clone()))).await;
    assert_eq!(refusal, Refusal::NotFound(nobody.holder.to_string()));
}

pub(super) async fn a_capability_that_is_let_go_of_is_gone_and_so_are_those_of_an_erased_agent(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    let second = scene.agent_id();
    scene.done(scene.batch().with(agent_create(second, "second"))).await;
    let (mine, theirs) = (capability(scene.agent, 1), capability(second, 2));
    put(&scene, &mine).await;
    put(&scene, &capability(scene.agent, 3)).await;
    put(&scene, &theirs).await;
    for _ in 0..2 {
        scene.done(scene.batch().with(forget(3))).await;
        assert_eq!(found(&scene).await, [mine.clone(), theirs.clone()]);
    }
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let set = AgentStateSet { agent: scene.agent, from, to };
    scene.done(scene.batch().with(Mutation::AgentStateSet(set))).await;
    assert_eq!(found(&scene).await, slice::from_ref(&theirs), "what is being erased is not seen");
    while !scene.store.erase_agent_page(&scene.scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(found(&scene).await, [theirs]);
}

pub(super) async fn a_stranger_sees_and_changes_no_capability(store: Arc<dyn Store>) {
    let mine = Scene::open(store, 1).await;
    let theirs = Scene::open(Arc::clone(&mine.store), 2).await;
    let kept = capability(mine.agent, 1);
    put(&mine, &kept).await;
    assert!(found(&theirs).await.is_empty());
    let refusal = theirs.refused(theirs.batch().with(revoke(1, 1))).await;
    assert_eq!(refusal, Refusal::NotFound(id(1).to_string()));
    theirs.done(theirs.batch().with(forget(1))).await;
    put(&theirs, &capability(theirs.agent, 1)).await;
    assert_eq!(found(&mine).await, std::slice::from_ref(&kept));
    let narrow = mine.scope().narrowed_to(mine.agent);
    assert_eq!(mine.store.capabilities(&narrow, Page::first(9)).await, Ok(vec![kept]));
    let narrow = mine.scope().narrowed_to(AgentId::from_bytes([0xee; 16]));
    assert_eq!(mine.store.capabilities(&narrow, Page::first(9)).await, Ok(Vec::new()));
}
