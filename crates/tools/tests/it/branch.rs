//! `branch` hands back one session and one item under the call's key, and copies nothing of the transcript.

use dromia_contracts::content::ContentPart;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::run::RunKind;
use dromia_contracts::tool::{DiscardProgress, ToolContext, ToolHost as _};
use serde_json::json;

use crate::support::{AGENT, Bench, context};

#[tokio::test]
async fn a_branch_is_one_session_that_names_its_parent() {
    let bench = Bench::new();
    let call = bench.prepare("branch", &json!({"task": "count", "topic": "numbers"}).to_string());
    let seen = ToolContext { position: 7, label: Label::OUTSIDE, ..context() };
    let output = bench.toolbox.execute_call(seen, call.clone(), &DiscardProgress).await;
    let ([open], [item]) = (output.opens.as_slice(), output.sends.as_slice()) else { panic!("{output:?}") };
    assert_eq!((open.agent, open.key.platform.as_str()), (AGENT, "branch"));
    let origin = open.origin.as_deref().expect("an origin");
    assert_eq!((origin.run, origin.call, origin.kind), (context().run, call.id, RunKind::Branch));
    assert_eq!((origin.position, origin.topic.as_deref()), (7, Some("numbers")));
    let parts = InputBody::decode(&item.body).expect("an input message").message.parts;
    let texts: Vec<_> = parts.iter().map(ContentPart::as_text).collect();
    assert!(texts.len() == 2 && texts[0] == "count" && texts[1].contains("branch of this conversation"));
    assert_eq!(parts[0].label().integrity, IntegrityLevel::Untrusted, "its parent saw something untrusted");
}

#[tokio::test]
async fn a_child_of_a_branch_concludes_where_the_branch_does() {
    let bench = Bench::new();
    let call = bench.prepare("branch", r#"{"task":"x"}"#);
    let output = bench.toolbox.execute_call(context(), call, &DiscardProgress).await;
    let branch = output.opens[0].origin.clone().expect("an origin");
    let spawn = bench.prepare("worker.spawn", r#"{"task":"x"}"#);
    let session = output.opens[0].session;
    let within = ToolContext { session, position: 1, origin: Some(branch.clone()), ..context() };
    let output = bench.toolbox.execute_call(within, spawn, &DiscardProgress).await;
    let worker = output.opens[0].origin.clone().expect("an origin");
    assert_eq!((worker.session, worker.position, worker.depth), (branch.session, branch.position, 2));
}
