//! `message.send` hands back one item under the call's key, and sees nothing outside the tenant.

use dromia_contracts::agent::AgentState;
use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::tool::{DiscardProgress, ToolContext, ToolHost as _};
use serde_json::json;

use crate::support::{AGENT, Bench, COLLEAGUE_SESSION, HOPS_MAX, STRANGER_SESSION, context};

#[tokio::test]
async fn a_message_is_one_item_under_its_call_key() {
    let bench = Bench::new();
    let call =
        bench.prepare("message.send", &json!({"session": COLLEAGUE_SESSION, "text": "hello"}).to_string());
    for _attempt in 0..2 {
        let output = bench.toolbox.execute_call(context(), call.clone(), &DiscardProgress).await;
        assert!(!output.failed);
        let [item] = output.sends.as_slice() else { panic!("{output:?}") };
        assert_eq!((item.owner, item.kind), (InboxOwner::Session(COLLEAGUE_SESSION), ItemKind::Input));
        let key = item.key.as_ref().expect("keyed");
        assert_eq!((key.key.as_str(), key.request), (context().key.as_str(), call.action));
        let message = InputBody::decode(&item.body).expect("an input message").message;
        assert_eq!(message.author, item.author);
        assert_eq!(message.author.as_str(), format!("agent:{AGENT}"));
        assert_eq!(message.parts[0].as_text(), "hello");
        assert_eq!(message.parts[0].label().to_string(), "untrusted/actor");
    }
}

#[tokio::test]
async fn strangers_sessions_and_missing_ones_get_the_same_answer() {
    let bench = Bench::new();
    let nobodys = dromia_contracts::SessionId::from_bytes([0xee; 16]);
    for target in [STRANGER_SESSION, nobodys] {
        let output =
            bench.call("message.send", &json!({"session": target, "text": "hello"}).to_string()).await;
        assert!(output.failed && output.sends.is_empty());
        assert_eq!(output.parts[0].as_text(), "nothing was sent: that session does not exist");
    }
}

#[tokio::test]
async fn only_an_agent_that_keeps_input_is_sent_any() {
    for (state, told) in [
        (AgentState::Running, "ok: sent"),
        (AgentState::Paused, "ok: sent"),
        (AgentState::Terminated, "failed: nothing was sent: the agent of that session accepts no more input"),
        (AgentState::Deleting, "failed: nothing was sent: that session does not exist"),
    ] {
        let bench = Bench::with(state, None);
        let arguments = json!({"session": COLLEAGUE_SESSION, "text": "hello"}).to_string();
        assert!(bench.told("message.send", &arguments).await.starts_with(told), "{state:?}");
    }
}

#[tokio::test]
async fn a_message_adds_one_hop_up_to_the_bound() {
    let bench = Bench::new();
    let call =
        bench.prepare("message.send", &json!({"session": COLLEAGUE_SESSION, "text": "hello"}).to_string());
    for hops in 0..=HOPS_MAX + 1 {
        let output = bench
            .toolbox
            .execute_call(ToolContext { hops, ..context() }, call.clone(), &DiscardProgress)
            .await;
        if hops < HOPS_MAX {
            let message = InputBody::decode(&output.sends[0].body).expect("an input message").message;
            assert_eq!(message.hops, hops + 1);
        } else {
            assert!(output.failed && output.sends.is_empty(), "{output:?}");
            assert!(output.parts[0].as_text().contains("at most 3 may"), "{output:?}");
        }
    }
}
