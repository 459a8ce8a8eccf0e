//! What gives nobody anything: the capability of another tenant, a token that is none or not his, a row that somebody changed in
//! the store, a key that was given up, and a look that leaves something out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::capability::{
    CapabilityRecord, CapabilityRegistry as _, CapabilityState, CapabilityUse, NewCapability, within_grant,
};
use dromia_contracts::gate::GateVerdict;
use dromia_contracts::runtime::{Clock as _, Runtime};
use dromia_contracts::store::{CapabilityDrop, Mutation};
use dromia_contracts::vault::{GivenUpBy, Vault as _};
use dromia_contracts::{CapabilityId, ErrorCode, Fault};
use dromia_guard::capability::{AccessRequest, CapabilityToken, ROOT_ID, Resource, Right, RootKey, RootKeys};
use dromia_guard::{GrantGate, StoreCapabilities, StoreVault};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::tokio_runtime_seeded;

use super::{RightsFixture, call, default_deny, judge, new, shipped, write};
use crate::vault::{Changing, Keys};

#[tokio::test]
async fn a_stranger_finds_and_uses_no_capability() {
    let mine = RightsFixture::new().await;
    let theirs = RightsFixture::over(Arc::clone(&mine.scene.store), 2).await;
    let made = mine.grant(0, &["file:write:docs"]).await;
    let listed = theirs.capabilities.list_capabilities(theirs.scope(), None, 99).await.expect("a list");
    assert_eq!(listed, []);
    let code =
        |answer: Result<CapabilityRecord, Fault>| answer.map(|made| made.id).map_err(|fault| fault.code);
    let revoked = theirs.capabilities.revoke_capability(theirs.scope(), made.id).await;
    assert_eq!(code(revoked), Err(ErrorCode::CapabilityNotFound));
    assert_eq!(code(theirs.make(Some(made.id), 0, &[], None).await), Err(ErrorCode::CapabilityNotFound));
    let foreign =
        theirs.capabilities.grant_capability(theirs.scope(), new(None, mine.agents[0], &["tool:exec"])).await;
    assert_eq!(code(foreign), Err(ErrorCode::AgentNotFound));
    // The word of a tenant is no word in another, even where one gate serves both.
    let word = mine.words(0).await;
    assert_eq!(theirs.under(&word, &write("docs/a")), default_deny());
    let judged = judge(&mine.gate, &theirs.scope(), &word, &write("docs/a"));
    assert!(matches!(judged, GateVerdict::Deny { .. }));
    assert!(mine.judged(0, &write("docs/a")).await.is_ok());
}

#[tokio::test]
async fn foreign_expired_handed_over_or_replayed_tokens_get_their_reason() {
    let mine = RightsFixture::new().await;
    let theirs = RightsFixture::over(Arc::clone(&mine.scene.store), 2).await;
    let made = mine.make(None, 0, &["file:write:docs"], Some(60)).await.expect("granted");
    theirs.grant(0, &["file:write:docs"]).await;
    let call = write("docs/a");
    let weigh = async |fixture: &RightsFixture, agent: usize, token: Bytes| {
        let scope = fixture.scope();
        let answer = fixture.capabilities.judge_call(&scope, fixture.agents[agent], &call, Some(token)).await;
        answer.map(|weighed| (weighed[0].covers, weighed[0].why.clone())).map_err(|fault| fault.code)
    };
    assert!(weigh(&mine, 0, made.token.clone()).await.is_ok_and(|(covers, _)| covers));
    let mut torn = made.token.to_vec();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    for wrong in [Bytes::new(), Bytes::from_static(b"nonsense"), torn.into(), vec![0_u8; 70 << 10].into()] {
        assert_eq!(weigh(&mine, 0, wrong).await, Err(ErrorCode::CapabilityUnreadable));
    }
    // The numbers of two tenants' keys are alike, so a foreign signature does not hold; another number is no key here.
    assert_eq!(weigh(&theirs, 0, made.token.clone()).await, Err(ErrorCode::CapabilityUnreadable));
    let other = RootKey::new(ROOT_ID + 1, &[3; 32]).expect("a key");
    let write = Resource::parse("file:write:docs").expect("a right");
    let foreign = CapabilityToken::grant_rights(&other, mine.agents[0], &[Right::unlimited(write)], &[4; 32])
        .expect("granted");
    let foreign = Bytes::from(foreign.to_bytes().expect("bytes"));
    assert_eq!(weigh(&mine, 0, foreign).await, Err(ErrorCode::CapabilityForeign));
    let told = |answer: Result<(bool, String), ErrorCode>| answer.expect("it is a token of the tenant");
    let (covers, why) = told(weigh(&mine, 1, made.token.clone()).await);
    assert!(!covers && why.contains("belongs to another agent"), "{why}");
    mine.clock.advance(Duration::from_mins(1));
    let (covers, why) = told(weigh(&mine, 0, made.token.clone()).await);
    assert!(!covers && why.contains("block 0 of its token has expired"), "{why}");
    mine.revoke(made.id).await;
    let (covers, why) = told(weigh(&mine, 0, made.token.clone()).await);
    assert!(!covers && why.contains("block 0 of its token was revoked"), "{why}");
    mine.capabilities.forget_task_capability(mine.scope(), made.id).await.expect("let go of");
    let (covers, why) = told(weigh(&mine, 0, made.token.clone()).await);
    assert!(!covers && why.contains("is not valid"), "a token without a row is none: {why}");
}

#[tokio::test]
async fn a_row_that_was_widened_in_the_store_is_caught() {
    let fixture = RightsFixture::new().await;
    let made = fixture.grant(0, &["file:write:docs"]).await;
    let widened = CapabilityRecord {
        id: CapabilityId::from_bytes([8; 16]),
        rights: vec!["file:write:".to_owned(), "tool:exec".to_owned()],
        ..made.clone()
    };
    let handed_over =
        CapabilityRecord { id: CapabilityId::from_bytes([9; 16]), holder: fixture.agents[1], ..made.clone() };
    let batch = fixture.scene.new_batch().with_mutation(Mutation::CapabilityPut(widened));
    fixture.scene.commit_done(batch.with_mutation(Mutation::CapabilityPut(handed_over))).await;
    let later = RightsFixture::later(fixture);
    assert!(later.judged(0, &write("docs/a")).await.is_ok());
    for (agent, call) in [(0, write("a")), (0, call("exec", r#"{"argv":["true"]}"#)), (1, write("docs/a"))] {
        let judged = later.judged(agent, &call).await;
        assert!(judged.as_ref().is_err_and(|rule| rule.starts_with("capability cap_")), "{judged:?}");
    }
}

#[tokio::test]
async fn a_capability_under_an_abandoned_key_is_caught() {
    let fixture = RightsFixture::new().await;
    let keys = Arc::new(Changing::new(7));
    let store = Arc::clone(&fixture.scene.store);
    let runtime = Runtime { clock: Arc::new(fixture.clock.clone()), ..tokio_runtime_seeded(6) };
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::clone(&keys) as _, runtime.clone()));
    let capabilities = Arc::new(StoreCapabilities::new(store, Arc::clone(&vault), runtime));
    let gate = GrantGate::new(shipped()).with_capabilities(capabilities.live_capabilities());
    let fixture = RightsFixture { capabilities, gate, ..fixture };
    let parent = fixture.grant(0, &["file:write:docs"]).await;
    let task = NewCapability { usage: CapabilityUse::Task, ..new(Some(parent.id), fixture.agents[0], &[]) };
    let task = fixture.capabilities.grant_capability(fixture.scope(), task).await.expect("granted");
    assert!(fixture.judged(0, &write("docs/a")).await.is_ok());
    keys.becomes(8);
    assert!(fixture.judged(0, &write("docs/a")).await.is_ok(), "it was opened before");
    // As an agent's snapshot keeps them: nobody asks for them again before the next call.
    let words = fixture.words(0).await;
    let bounded = vec!["file.*".to_owned(), within_grant(fixture.scene.tenant, fixture.agents[0], task.id)];
    assert!(fixture.under(&bounded, &write("docs/a")).is_ok(), "it lies within the task");
    let elsewhere = StoreScene::open_scene(Arc::clone(&fixture.scene.store), 44).await;
    let granted = fixture
        .capabilities
        .grant_capability(elsewhere.tenant_scope(), new(None, elsewhere.agent, &["file:write:docs"]));
    granted.await.expect("the other tenant gets a key under the present one");
    let words_elsewhere = fixture.capabilities.grant_words(&elsewhere.tenant_scope(), elsewhere.agent).await;
    let words_elsewhere = words_elsewhere.expect("they are read");
    let judged_elsewhere =
        || judge(&fixture.gate, &elsewhere.tenant_scope(), &words_elsewhere, &write("docs/a"));
    assert!(matches!(judged_elsewhere(), GateVerdict::Allow { .. }));
    vault
        .reset_vault(fixture.scope(), GivenUpBy::Tenant)
        .await
        .expect("nobody opens the tenant's key any more");
    let after = fixture.under(&words, &write("docs/a"));
    assert!(after.is_err(), "it goes on to cover what was asked about before: {after:?}");
    let after = fixture.under(&bounded, &write("docs/a"));
    assert!(after.is_err(), "it goes on to let a task do something: {after:?}");
    assert!(matches!(judged_elsewhere(), GateVerdict::Allow { .. }), "another tenant lost nothing");
    let after = fixture.judged(0, &write("docs/a")).await;
    assert!(after.is_err(), "its root key is gone: {after:?}");
    let listed = fixture.capabilities.list_capabilities(fixture.scope(), None, 9).await.expect("a list");
    assert!(listed.iter().all(|(_, state)| *state != CapabilityState::Active), "{listed:?}");
    // Without a restart, what is granted from now on counts.
    fixture.grant(0, &["file:write:docs"]).await;
    assert!(fixture.judged(0, &write("docs/a")).await.is_ok());
}

#[tokio::test]
async fn a_look_at_the_signature_alone_is_caught() {
    let fixture = RightsFixture::new().await;
    let made = fixture.grant(0, &["file:write:docs"]).await;
    fixture.revoke(made.id).await;
    // A check that knows no revocations lets it pass; the gate does not.
    let root = fixture.root().await;
    let token = root.open_token(&made.token).expect("its signature holds");
    let resource = Resource::parse("file:write:docs/a").expect("a file");
    let presenter = fixture.agents[0];
    let asked = AccessRequest { presenter, resource: &resource, wall_ms: 1, at: fixture.clock.now() };
    assert_eq!(token.check_access(&asked, &std::collections::BTreeSet::new()), Ok(()));
    assert!(fixture.judged(0, &write("docs/a")).await.is_err());
}

#[tokio::test]
async fn a_gate_that_asks_no_capabilities_is_caught() {
    let fixture = RightsFixture::new().await;
    fixture.grant(0, &["file:write:docs"]).await;
    let grants = fixture.words(0).await;
    let unplugged = RightsFixture { gate: GrantGate::new(shipped()), ..fixture };
    assert_eq!(unplugged.under(&grants, &write("docs/a")), default_deny());
    let word = within_grant(unplugged.scene.tenant, unplugged.agents[0], CapabilityId::from_bytes([9; 16]));
    let bounded = vec!["file.*".to_owned(), word];
    assert_eq!(unplugged.under(&bounded, &write("docs/a")), Err("within".to_owned()));
}

#[tokio::test]
async fn a_child_that_outlives_its_parents_row_is_caught() {
    let fixture = RightsFixture::new().await;
    let parent = fixture.grant(0, &["file:write:docs"]).await;
    let child = fixture.make(Some(parent.id), 1, &[], None).await.expect("handed on");
    assert!(fixture.judged(1, &write("docs/a")).await.is_ok());
    fixture.scene.commit_mutation(forget(parent.id)).await;
    let later = RightsFixture::later(fixture);
    assert_eq!(later.judged(1, &write("docs/a")).await, Err(format!("capability {}", child.id)));
}

fn forget(capability: CapabilityId) -> Mutation {
    Mutation::CapabilityDrop(CapabilityDrop { capability })
}

impl RightsFixture {
    /// The key that checks the tenant's tokens, derived as the keeper does it.
    async fn root(&self) -> RootKeys {
        let runtime = Runtime { clock: Arc::new(self.clock.clone()), ..tokio_runtime_seeded(6) };
        let vault = StoreVault::new(Arc::clone(&self.scene.store), Arc::new(Keys(7)), runtime);
        vault.capability_roots(&self.scope()).await.expect("the tenant has a key")
    }
}
