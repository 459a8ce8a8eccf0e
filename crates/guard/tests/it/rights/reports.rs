//! What is said of capabilities beside a verdict: to whom a change is told, which block decides, what a refusal names beside it, and
//! what counts when a store did not say how a change ended.

use std::sync::{Arc, Mutex};

use dromia_contracts::capability::{
    CapabilityRegistry as _, CapabilityState, CapabilityUse, NewCapability, RightsWatch,
};
use dromia_contracts::{AgentId, ErrorCode};
use dromia_guard::capability::RIGHTS_MAX;
use dromia_testkit::faulty::CommitFault;
use dromia_testkit::{FaultyStore, ReferenceStore};

use super::{RightsFixture, call, new, request, write};

/// The agents of whose changes it heard.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<AgentId>>);

impl RightsWatch for Heard {
    fn rights_changed(&self, agent: AgentId) {
        self.0.lock().expect("no panic").push(agent);
    }
}

#[tokio::test]
async fn a_change_of_rights_is_told_for_each_agent_it_reaches() {
    let (fixture, heard) = (RightsFixture::new().await, Arc::new(Heard::default()));
    fixture.capabilities.tell_of_changes(Arc::clone(&heard) as _);
    let said = |agents: &[usize]| {
        let mut found = std::mem::take(&mut *heard.0.lock().expect("no panic"));
        let mut expected: Vec<_> = agents.iter().map(|agent| fixture.agents[*agent]).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{agents:?}");
    };
    let parent = fixture.grant(0, &["file:write:docs"]).await;
    said(&[0]);
    let child = fixture.make(Some(parent.id), 1, &[], None).await.expect("handed on");
    fixture.grant(2, &["file:read:"]).await;
    said(&[1, 2]);
    fixture.revoke(child.id).await;
    said(&[1]);
    fixture.capabilities.forget_agent(fixture.scene.tenant, fixture.agents[0]).await;
    said(&[0, 1]);
}

#[tokio::test]
async fn an_explanation_names_each_own_capability_and_the_furthest_block() {
    let fixture = RightsFixture::new().await;
    let whole = fixture.grant(0, &["tool:file.*", "file:write:docs"]).await;
    let own = fixture.make(Some(whole.id), 1, &["tool:file.read"], None).await.expect("handed on");
    let task = NewCapability { usage: CapabilityUse::Task, ..new(Some(whole.id), fixture.agents[1], &[]) };
    fixture.capabilities.grant_capability(fixture.scope(), task).await.expect("granted");
    let (scope, asked) = (fixture.scope(), write("etc/a"));
    for (presented, capability) in [(None, Some(own.id)), (Some(own.token.clone()), None)] {
        let said = fixture.capabilities.judge_call(&scope, fixture.agents[1], &asked, presented).await;
        let said: Vec<_> =
            said.expect("it is judged").iter().map(|one| (one.capability, one.covers, one.block)).collect();
        // The tool is covered by the first block and not by the second, the file by neither.
        assert_eq!(said, [(capability, false, Some(1))]);
    }
}

#[tokio::test]
async fn a_refusal_names_three_places_of_an_agents_own_capability() {
    let fixture = RightsFixture::new().await;
    let hosts = ["net:http:a.h", "net:http:b.h", "net:http:c.h", "net:http:d.h"];
    fixture.grant(0, &[&["file:read:a", "file:read:b", "file:read:c"][..], &hosts].concat()).await;
    let others =
        [new(None, fixture.agents[2], &["file:write:e"]), new(None, fixture.agents[0], &["file:write:f"])];
    for (new, usage) in others.into_iter().zip([CapabilityUse::Held, CapabilityUse::Task]) {
        let new = NewCapability { usage, ..new };
        fixture.capabilities.grant_capability(fixture.scope(), new).await.expect("granted");
    }
    for (asked, says) in [
        (call("file.read", r#"{"path":"x"}"#), "allows file:read under a, b, c); "),
        (request("https://x.h/"), "allows net:http to a.h, b.h, c.h and more at the port of the scheme); "),
        (write("x"), "is not granted the tool \"file.write\""),
    ] {
        let why = fixture.why(0, &asked).await;
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test]
async fn a_change_without_an_answer_is_read_again() {
    for (fault, count) in [(CommitFault::Unheard, 1), (CommitFault::Lost, 0)] {
        let store = Arc::new(FaultyStore::new(Arc::new(ReferenceStore::new())));
        let fixture = RightsFixture::over(Arc::clone(&store) as _, 1).await;
        fixture.grant(0, &["file:read:"]).await;
        store.fail_nth(store.commit_count() + 1, fault);
        let unknown = fixture.make(None, 1, &["file:write:docs"], None).await.map(|made| made.id);
        assert_eq!(unknown.map_err(|fault| fault.code), Err(ErrorCode::OutcomeUnknown));
        assert_eq!(fixture.words(1).await.len(), count, "{fault:?}");
        assert_eq!(fixture.judged(1, &write("docs/a")).await.is_ok(), count == 1, "{fault:?}");
        let listed = fixture.capabilities.list_capabilities(fixture.scope(), None, 9).await.expect("a list");
        assert!(
            listed.len() == 1 + count && listed.iter().all(|(_, state)| *state == CapabilityState::Active)
        );
    }
}

#[tokio::test]
async fn a_capability_has_its_bound_of_rights() {
    let fixture = RightsFixture::new().await;
    let rights: Vec<_> = (0..=RIGHTS_MAX).map(|number| format!("tool:t{number}")).collect();
    let rights: Vec<_> = rights.iter().map(String::as_str).collect();
    assert_eq!(fixture.grant(0, &rights[1..]).await.rights.len(), RIGHTS_MAX);
    for wrong in [&rights[..], &[]] {
        let refused = fixture.make(None, 0, wrong, None).await.map(|made| made.id);
        assert_eq!(refused.map_err(|fault| fault.code), Err(ErrorCode::InvalidRequest));
    }
}
