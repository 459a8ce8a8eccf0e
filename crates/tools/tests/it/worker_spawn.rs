//! `worker.spawn` hands back one session and one item under the call's key, and sees no agent outside the tenant.

use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::tool::{DiscardProgress, ToolContext, ToolHost as _};
use serde_json::json;

use crate::support::{AGENT, Bench, HOPS_MAX, context};

#[tokio::test]
async fn a_task_is_one_session_and_one_item_under_its_call_key() {
    let bench = Bench::new();
    let call = bench.prepare("worker.spawn", &json!({"task": "count", "rights": ["file.read"]}).to_string());
    let output = bench.toolbox.execute_call(context(), call.clone(), &DiscardProgress).await;
    assert!(!output.failed, "{output:?}");
    let ([open], [item]) = (output.opens.as_slice(), output.sends.as_slice()) else { panic!("{output:?}") };
    assert_eq!((open.agent, open.key.platform.as_str()), (AGENT, "task"));
    assert_eq!((item.owner, item.kind), (InboxOwner::Session(open.session), ItemKind::Input));
    let key = item.key.as_ref().expect("keyed");
    assert_eq!((key.key.as_str(), key.request), (context().key.as_str(), call.action));
    let message = InputBody::decode(&item.body).expect("an input message").message;
    assert_eq!((message.author.as_str(), message.hops), (format!("agent:{AGENT}").as_str(), 1));
    assert_eq!(message.parts[0].label().to_string(), "untrusted/actor");

    // A task that this one spawns is below it, in the same tree.
    let task = open.origin.clone().expect("an origin");
    assert_eq!((task.run, task.root, task.session), (context().run, context().run, context().session));
    assert_eq!((task.depth, task.grants.as_slice()), (1, &["file.read".to_owned()][..]));
    let below = ToolContext { origin: Some(task.clone()), ..context() };
    let output = bench.toolbox.execute_call(below, call, &DiscardProgress).await;
    let deeper = output.opens[0].origin.clone().expect("an origin");
    assert_eq!((deeper.depth, deeper.root), (2, task.root));
}

#[tokio::test]
async fn a_strangers_agent_and_a_missing_one_get_the_same_answer() {
    let bench = Bench::new();
    for agent in ["stranger", "nobody"] {
        let output = bench.call("worker.spawn", &json!({"agent": agent, "task": "x"}).to_string()).await;
        assert!(output.failed && output.sends.is_empty() && output.opens.is_empty());
        assert_eq!(output.parts[0].as_text(), "nothing was spawned: that agent does not exist");
    }
}

#[tokio::test]
async fn a_spawn_adds_one_hop_up_to_the_bound() {
    let bench = Bench::new();
    let call = bench.prepare("worker.spawn", &json!({"task": "x"}).to_string());
    for hops in [HOPS_MAX - 1, HOPS_MAX] {
        let context = ToolContext { hops, ..context() };
        let output = bench.toolbox.execute_call(context, call.clone(), &DiscardProgress).await;
        assert_eq!(output.failed, hops == HOPS_MAX, "{output:?}");
    }
}
