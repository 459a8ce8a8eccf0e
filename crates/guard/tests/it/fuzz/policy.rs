//! Puts calls to the shipped policy, alone and with a layer below it, for the property of
//! `dromia_testkit::fuzz::policy_input`.

use std::sync::LazyLock;

use dromia_contracts::gate::{GateAction, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::{Actor, AgentId, CallId, Digest, ScopeAuthority, TenantId};
use dromia_guard::policy::{PolicyLayer, PolicyText, PolicyVerdict};
use dromia_guard::{PolicyEngine, PolicyLayers};
use dromia_testkit::answer_of;
use dromia_testkit::fuzz;

/// A layer that forbids, asks, and tries to allow everything.
const LOWER: &str = r#"package dromia.policy
import rego.v1
verdicts contains {"verdict": "deny", "rule": "tainted", "reason": "it is tainted"} if {
	input.context.integrity == "untrusted"
	some name, value in input.action.arguments
	name == "path"
	startswith(value, "docs/")
}
verdicts contains {"verdict": "ask", "rule": "files", "reason": input.action.tool} if startswith(input.action.tool, "file.")
verdicts contains {"verdict": "allow", "rule": "mine", "reason": "everything"} if true
"#;

/// The policy of a server that says nothing of its own, and that of one with a layer.
static POLICIES: LazyLock<[PolicyEngine; 2]> = LazyLock::new(|| {
    let built_in = || PolicyEngine::built_in().expect("the shipped policy compiles");
    let file = PolicyText { name: "lower.rego".to_owned(), text: LOWER.to_owned() };
    let instance = Some(PolicyLayer::compile_layer("instance", &[file]).expect("it compiles"));
    let lower = built_in();
    lower.replace_layers(PolicyLayers { instance, ..PolicyLayers::default() });
    [built_in(), lower]
});

fn judged(tool: &str, context: Label, arguments: &str, lower: bool) -> (PolicyVerdict, String) {
    let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
    let scope = scope.narrowed_to(AgentId::from_bytes([2; 16]));
    let call = PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: tool.to_owned(),
        effect: EffectClass::Unkeyed,
        arguments: arguments.to_owned(),
        action: Digest::default(),
        reaches: None,
        network: None,
        contents: None,
    };
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &[],
        context,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    let judged = answer_of(POLICIES[usize::from(lower)].judge_action(
        principal,
        GateAction::Tool(&call),
        "grant of the test",
    ));
    (judged.said.call, judged.said.rule)
}

/// What must hold of any bytes.
pub(crate) fn property(data: &[u8]) {
    fuzz::policy_input(judged, &PolicyVerdict::Deny, data);
}
