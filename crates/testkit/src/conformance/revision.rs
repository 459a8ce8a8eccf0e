//! Claims about revisions and handles of agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentState};
use dromia_contracts::identity_document::{DocumentDigest, DocumentName};
use dromia_contracts::revision::{AgentField, REVISIONS_KEPT, RevisionKey};
use dromia_contracts::scope::Actor;
use dromia_contracts::store::{
    AgentRename, AgentRevise, AgentStateSet, CommitRefusal, Mutation, PageRequest, Store, TextPin,
};
use dromia_contracts::{AgentId, Digest};

use super::scene::{StoreScene, agent_create, scene_time};

/// A revision of an agent after another one, with these grants.
pub(super) fn agent_revise(agent: AgentId, after: u64, ms: i64, grants: &[&str]) -> Mutation {
    let config = AgentConfig {
        model: "scripted".to_owned(),
        instructions: format!("Revision {}.", after + 1),
        grants: grants.iter().map(|&grant| grant.to_owned()).collect(),
        ..AgentConfig::default()
    };
    Mutation::AgentRevise(Box::new(AgentRevise {
        agent,
        after,
        display_name: "someone".to_owned(),
        labels: BTreeMap::new(),
        at: scene_time(ms),
        revision: config_digest(&config),
        config,
        document: None,
        key: None,
    }))
}

fn config_digest(config: &AgentConfig) -> Digest {
    let json = serde_json::to_vec(config).expect("a config is JSON");
    Digest::from_bytes(*blake3::hash(&json).as_bytes())
}

/// The same under a key.
fn keyed_revise(agent: AgentId, after: u64, ms: i64, request: u8) -> Mutation {
    let Mutation::AgentRevise(mut revise) = agent_revise(agent, after, ms, &["reply"]) else {
        unreachable!()
    };
    revise.key = Some(RevisionKey { key: "again".to_owned(), request: Digest::from_bytes([request; 32]) });
    Mutation::AgentRevise(revise)
}

pub(super) fn agent_rename(agent: AgentId, handle: &str) -> Mutation {
    Mutation::AgentRename(AgentRename { agent, handle: handle.parse().expect("a handle") })
}

/// The numbers of the revisions that a store lists.
async fn list_numbers(scene: &StoreScene, after: Option<u64>, limit: usize) -> Vec<u64> {
    let page = PageRequest { after, limit };
    let found = scene.store.agent_revisions(&scene.tenant_scope(), scene.agent, page).await;
    found.expect("a read").into_iter().map(|revision| revision.number).collect()
}

pub(super) async fn a_revision_follows_the_current_one_and_no_other(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let scope = scene.tenant_scope();
    let first = scene.store.agent(&scope, scene.agent).await.expect("a read").expect("an agent");
    assert_eq!(first.revision_number, 1);
    let early = scene.new_batch().with_mutation(agent_revise(scene.agent, 2, 5, &["reply"]));
    assert_eq!(scene.commit_refused(early).await, CommitRefusal::AgentRevision { found: 1 });
    let change = scene.new_batch().wanted_by(&Actor::new("token:ops"), scene_time(6));
    let change = change.with_mutation(agent_revise(scene.agent, 1, 6, &["exec"]));
    scene.commit_done(change.clone()).await;
    scene.commit_done(change.clone()).await;
    let late = scene.new_batch().with_mutation(agent_revise(scene.agent, 1, 7, &["reply"]));
    assert_eq!(scene.commit_refused(late).await, CommitRefusal::AgentRevision { found: 2 });
    let now = scene.store.agent(&scope, scene.agent).await.expect("a read").expect("an agent");
    assert_eq!((now.revision_number, now.display_name.as_str()), (2, "someone"));
    assert_eq!(now.labels, BTreeMap::new());
    let newest = scene.store.agent_revisions(&scope, scene.agent, PageRequest::first_page(9)).await;
    let newest = newest.expect("a read");
    assert_eq!(newest[0].digest, now.revision);
    assert_eq!(newest[0].by, Some(Actor::new("token:ops")));
    let fields = [AgentField::Instructions, AgentField::Grants, AgentField::DisplayName, AgentField::Labels];
    assert_eq!((&newest[0].changed[..], newest[1].changed.len()), (&fields[..], 0));
    let kept = scene.store.agent_revision(&scope, scene.agent, first.revision).await.expect("a read");
    assert_eq!(kept.expect("the first one is kept").config.grants, ["reply"]);
    scene.commit_mutation(agent_revise(scene.agent, 2, 8, &["reply"])).await;
    scene.commit_done(change).await;
    assert_eq!(list_numbers(&scene, None, 2).await, [3, 2]);
    assert_eq!(list_numbers(&scene, Some(2), 2).await, [1]);
}

pub(super) async fn a_change_under_one_key_makes_one_revision(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(keyed_revise(scene.agent, 1, 5, 1)).await;
    // The client repeats it later, with what it finds then.
    scene.commit_mutation(keyed_revise(scene.agent, 2, 6, 1)).await;
    assert_eq!(list_numbers(&scene, None, 9).await, [2, 1]);
    let other = scene.new_batch().with_mutation(keyed_revise(scene.agent, 2, 7, 2));
    assert_eq!(scene.commit_refused(other).await, CommitRefusal::RevisionKey { number: 2 });
}

pub(super) async fn a_handle_that_was_given_up_is_free_at_once(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (scope, bob) = (scene.tenant_scope(), scene.agent_id());
    scene.commit_mutation(agent_create(bob, "bob")).await;
    let taken = scene.new_batch().with_mutation(agent_rename(bob, "ada"));
    assert_eq!(
        scene.commit_refused(taken).await,
        CommitRefusal::HandleTaken("ada".parse().expect("a handle"))
    );
    let both = scene.new_batch().with_mutation(agent_rename(scene.agent, "eve"));
    let both = both.with_mutation(agent_rename(bob, "ada"));
    scene.commit_done(both.clone()).await;
    scene.commit_done(both).await;
    for (handle, agent) in [("eve", Some(scene.agent)), ("ada", Some(bob)), ("bob", None)] {
        let handle = handle.parse().expect("a handle");
        let found = scene.store.agent_by_handle(&scope, &handle).await.expect("a read");
        assert_eq!(found.map(|agent| agent.id), agent, "{handle}");
    }
}

pub(super) async fn an_agent_that_ended_is_neither_revised_nor_renamed(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let set =
        AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Terminated };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    let found = AgentState::Terminated;
    for change in [agent_revise(scene.agent, 1, 5, &["exec"]), agent_rename(scene.agent, "eve")] {
        let refusal = scene.refuse_mutation(change).await;
        assert_eq!(refusal, CommitRefusal::AgentState { found });
    }
    let nobody = scene.new_batch().with_mutation(agent_rename(scene.agent_id(), "eve"));
    assert!(matches!(scene.commit_refused(nobody).await, CommitRefusal::NotFound(_)));
}

pub(super) async fn old_revisions_go_and_those_of_runs_stay(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let last = i64::try_from(REVISIONS_KEPT).expect("a number") + 3;
    for (after, ms) in (1..).zip(1..last) {
        let change = agent_revise(scene.agent, after, ms, &["reply"]);
        scene.commit_mutation(change).await;
    }
    let oldest = list_numbers(&scene, Some(6), 9).await;
    assert_eq!(oldest, [5, 4], "the newest {REVISIONS_KEPT} are kept");
}

pub(super) async fn a_stranger_sees_no_revision_and_an_erasure_takes_them(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let other = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    scene.commit_mutation(agent_revise(scene.agent, 1, 5, &["exec"])).await;
    let page = PageRequest::first_page(9);
    let strangers = scene.store.agent_revisions(&other.tenant_scope(), scene.agent, page).await;
    assert_eq!(strangers, Ok(Vec::new()));
    let foreign = other.new_batch().with_mutation(agent_revise(scene.agent, 2, 6, &["exec"]));
    assert!(matches!(other.commit_refused(foreign).await, CommitRefusal::NotFound(_)));
    let set = AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    let scope = scene.tenant_scope();
    while !scene.store.erase_agent_page(&scope, scene.agent).await.expect("a page").1 {}
    assert_eq!(scene.store.agent_revisions(&scope, scene.agent, page).await, Ok(Vec::new()));
    scene.commit_mutation(agent_create(scene.agent_id(), "ada")).await;
}

/// A revision that gives the agent a document.
fn with_document(agent: AgentId, after: u64, text: &'static str) -> Mutation {
    let Mutation::AgentRevise(mut revise) = agent_revise(agent, after, 5, &["reply"]) else { unreachable!() };
    let digest = Digest::from_bytes(*blake3::hash(text.as_bytes()).as_bytes());
    revise.config.identity.insert(DocumentName::Soul, DocumentDigest { digest, bytes: 1 });
    revise.revision = config_digest(&revise.config);
    revise.document = Some(TextPin { digest, bytes: Bytes::from_static(text.as_bytes()) });
    Mutation::AgentRevise(revise)
}

pub(super) async fn a_document_is_kept_with_its_revision_until_its_last_agent_goes(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let other = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    let (scope, bob) = (scene.tenant_scope(), scene.agent_id());
    scene.commit_mutation(agent_create(bob, "bob")).await;
    for change in [with_document(scene.agent, 1, "kind"), with_document(bob, 1, "kind")] {
        scene.commit_mutation(change).await;
    }
    let Mutation::AgentRevise(mut wrong) = with_document(scene.agent, 2, "strict") else { unreachable!() };
    wrong.document = wrong.document.map(|pin| TextPin { bytes: Bytes::from_static(b"cruel"), ..pin });
    let wrong = scene.new_batch().with_mutation(Mutation::AgentRevise(wrong));
    assert!(matches!(scene.commit_refused(wrong).await, CommitRefusal::Malformed(_)));
    let digest = Digest::from_bytes(*blake3::hash(b"kind").as_bytes());
    assert_eq!(other.store.pinned_text(&other.tenant_scope(), digest).await, Ok(None), "a stranger's");
    for (agent, left) in [(bob, true), (scene.agent, false)] {
        let now = scene.store.agent(&scope, agent).await.expect("a read").expect("an agent");
        let kept = scene.store.agent_revision(&scope, agent, now.revision).await.expect("a read");
        let named = kept.expect("the current one").config.identity;
        assert_eq!(named.get(&DocumentName::Soul).map(|document| document.digest), Some(digest));
        let set = AgentStateSet { agent, from: vec![AgentState::Running], to: AgentState::Deleting };
        scene.commit_mutation(Mutation::AgentStateSet(set)).await;
        while !scene.store.erase_agent_page(&scope, agent).await.expect("a page").1 {}
        let found = scene.store.pinned_text(&scope, digest).await.expect("a read");
        assert_eq!(found.is_some(), left, "the text goes with the last agent that has it");
    }
}
