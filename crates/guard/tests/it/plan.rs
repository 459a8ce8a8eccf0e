//! What a policy sees of a frozen plan, and the shipped policy, which asks for what is outside of it.

use std::collections::BTreeMap;

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{Gate as _, GateAction, GateVerdict, Principal};
use dromia_contracts::id::{CallId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::{CallProvenance, PlanContext};
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{ArgumentRole, EffectClass, EffectSink, PreparedCall, ToolManifest};
use dromia_guard::policy::{PolicyLayer, PolicyText, run_tests};
use dromia_guard::{GrantGate, PolicyEngine, PolicyLayers};
use dromia_testkit::answer_of;

const ENDORSED: &str = include_str!("../../../../eval/security/policies/endorsed/endorsed.rego");
const ENDORSED_TESTS: &str = include_str!("../../../../eval/security/policies/endorsed/endorsed_test.rego");
const DEFAULT: &str = include_str!("../../src/policy/default.rego");
const DEFAULT_TESTS: &str = include_str!("../../src/policy/default_test.rego");

/// A policy that says nothing.
const NOTHING: &str = "package dromia.policy\nimport rego.v1\nverdicts contains row if some row in []\n";

fn file(name: &str, text: &str) -> PolicyText {
    PolicyText { name: name.to_owned(), text: text.to_owned() }
}

/// Judges a payment to somebody whom its actor named, under the shipped policy, one of the evaluation, and one more.
fn judge(more: &str, context: Label, plan: PlanContext<'_>) -> GateVerdict {
    let roles = BTreeMap::from([("to".to_owned(), ArgumentRole::Destination)]);
    let manifest = ("bank.pay".to_owned(), ToolManifest { sink: EffectSink::Outside, roles });
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles").with_manifests([manifest]);
    let files = [file("endorsed.rego", ENDORSED), file("more.rego", more)];
    let instance = PolicyLayer::compile_layer("instance", &files).expect("it compiles");
    policies.replace_layers(PolicyLayers { instance: Some(instance), ..PolicyLayers::default() });
    let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
    let (grants, endorsed) = (["bank.pay".to_owned()], ["to".to_owned()]);
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &grants,
        context,
        endorsed: &endorsed,
        plan,
    };
    let call = PreparedCall {
        id: CallId { step: 2, index: 0 },
        tool: "bank.pay".to_owned(),
        effect: EffectClass::Keyed,
        arguments: r#"{"to":"eve@example.com"}"#.to_owned(),
        action: Digest::from_bytes([4; 32]),
        reaches: None,
        network: None,
        contents: None,
    };
    answer_of(GrantGate::new(policies).evaluate_action(principal, GateAction::Tool(&call)))
}

/// The rule that asks, if one does.
fn asks(verdict: &GateVerdict) -> Option<&str> {
    match verdict {
        GateVerdict::Ask { rule, .. } => Some(rule),
        GateVerdict::Allow { .. } => None,
        GateVerdict::Delay { rule, .. } => panic!("{rule} puts it off"),
        GateVerdict::Deny { rule, reason, .. } => panic!("{rule} denies: {reason}"),
    }
}

fn frozen(in_plan: bool, tools: &[String]) -> PlanContext<'_> {
    PlanContext { frozen: true, in_plan, tools, ..PlanContext::OPEN }
}

#[test]
fn a_policy_of_the_evaluation_keeps_its_tests() {
    let endorsed = [file("endorsed.rego", ENDORSED), file("endorsed_test.rego", ENDORSED_TESTS)];
    let ends = run_tests("instance", &endorsed).expect("it compiles");
    assert!(ends.len() >= 8 && ends.iter().all(|end| end.problem.is_none()), "{ends:?}");
}

#[test]
fn a_call_outside_a_frozen_plan_needs_approval() {
    let tools = ["bank.pay".to_owned()];
    for (context, plan, rule) in [
        (Label::OUTSIDE, frozen(true, &tools), None),
        (Label::OUTSIDE, frozen(false, &tools), Some("unplanned")),
        (Label::OUTSIDE, frozen(false, &[]), Some("unplanned")),
        (Label::OUTSIDE, CallProvenance::default().plan_context(), Some("unplanned")),
        // What is told may be clean again after a takeover; the plan stays what it was.
        (Label::ACTOR_TEXT, frozen(false, &tools), Some("unplanned")),
        (Label::ACTOR_TEXT, frozen(true, &tools), None),
        (Label::ACTOR_TEXT, PlanContext::OPEN, None),
    ] {
        assert_eq!(asks(&judge(NOTHING, context, plan)), rule, "{context} {plan:?}");
    }
}

#[test]
fn a_policy_sees_the_tools_of_a_plan() {
    let text = r#"package dromia.policy
import rego.v1
verdicts contains {"verdict": "ask", "rule": "not-named", "reason": ""} if {
    input.action.plan.frozen
    not input.action.tool in input.action.plan.tools
}"#;
    for (tools, rule) in
        [(vec!["bank.pay".to_owned()], None), (vec!["mail.send".to_owned()], Some("not-named"))]
    {
        assert_eq!(asks(&judge(text, Label::OUTSIDE, frozen(true, &tools))), rule, "{tools:?}");
    }
}

/// Counts the tests of the shipped policy that a policy fails.
fn missed_tests(policy: &str) -> usize {
    let files = [file("default.rego", policy), file("default_test.rego", DEFAULT_TESTS)];
    let ends = run_tests("built-in", &files).expect("it compiles");
    ends.iter().filter(|end| end.problem.is_some()).count()
}

/// Planted fault: a shipped policy that does not look whether a call is in the plan. Its own tests notice.
#[test]
fn a_plan_that_no_policy_looks_into_is_caught() {
    let look = "\tnot input.action.in_plan\n";
    assert_eq!(DEFAULT.matches(look).count(), 1);
    assert_eq!(missed_tests(DEFAULT), 0);
    assert!(missed_tests(&DEFAULT.replace(look, "\tfalse\n")) > 0, "nothing misses it");
}

/// Planted fault: a shipped policy that leaves arguments without a role to whoever chose them. Its own tests notice.
#[test]
fn a_policy_that_binds_no_argument_without_a_role_is_caught() {
    let binds = "left_open contains \"none\"\n";
    assert_eq!(DEFAULT.matches(binds).count(), 1);
    assert!(missed_tests(&DEFAULT.replace(binds, "")) > 0, "nothing misses it");
}
