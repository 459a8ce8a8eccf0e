//! Default deny, monotone, and never more than a grant names.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dromia_contracts::digest::Digest;
use dromia_contracts::egress::{EgressTarget, HttpMethod};
use dromia_contracts::gate::{Gate, GateAction, GateVerdict, Principal, rights_word};
use dromia_contracts::id::{AgentId, CallId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::{CallProvenance, PlanContext};
use dromia_contracts::redacted_history;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{ArgumentRole, EffectClass, EffectSink, PreparedCall, ToolManifest};
use dromia_guard::policy::{BROKEN, PolicyLayer, PolicyText, PolicyVerdict};
use dromia_guard::{Grant, GrantGate, PolicyEngine, PolicyLayers};
use dromia_testkit::answer_of;
use dromia_testkit::tools::bare_catalogue;
use proptest::prelude::*;

/// The policy of every server; compiled once, as a server does.
fn shipped() -> PolicyEngine {
    static SHIPPED: LazyLock<PolicyEngine> =
        LazyLock::new(|| PolicyEngine::built_in().expect("the shipped policy compiles"));
    SHIPPED.clone()
}

fn judge(grants: &[String], action: &Planned) -> GateVerdict {
    judge_at(&GrantGate::new(shipped()), grants, action)
}

fn judge_at(gate: &GrantGate, grants: &[String], action: &Planned) -> GateVerdict {
    let author = Actor::new("cli:ada");
    let scope = ScopeAuthority::claim()
        .issue_scope(TenantId::from_bytes([1; 16]), author.clone())
        .narrowed_to(AgentId::from_bytes([2; 16]));
    let principal = Principal {
        scope: &scope,
        author: &author,
        grants,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    match action {
        Planned::Model(model) => answer_of(gate.evaluate_action(principal, GateAction::Model { model })),
        Planned::Reply => answer_of(
            gate.evaluate_action(principal, GateAction::Reply { session: SessionId::from_bytes([3; 16]) }),
        ),
        Planned::Tool(tool) => {
            let call = PreparedCall {
                id: CallId { step: 1, index: 0 },
                tool: tool.clone(),
                effect: EffectClass::Unkeyed,
                arguments: "{}".to_owned(),
                action: Digest::from_bytes([4; 32]),
                reaches: None,
                network: None,
                contents: None,
            };
            answer_of(gate.evaluate_action(principal, GateAction::Tool(&call)))
        }
    }
}

#[derive(Debug, Clone)]
enum Planned {
    Tool(String),
    Model(String),
    Reply,
}

fn allowed(verdict: &GateVerdict) -> bool {
    matches!(verdict, GateVerdict::Allow { .. })
}

fn texts(grants: &[&str]) -> Vec<String> {
    grants.iter().map(|&grant| grant.to_owned()).collect()
}

#[test]
fn the_rule_is_the_grant_as_it_matches() {
    let tool = |name: &str| Planned::Tool(name.to_owned());
    let model = |alias: &str| Planned::Model(alias.to_owned());
    for (grants, action, rule) in [
        (texts(&["time.now", "file.*"]), tool("file.read"), Some("grant file.*")),
        (texts(&["file.read"]), tool("file.read"), Some("grant file.read")),
        (texts(&["file.read"]), tool("file.write"), None),
        (texts(&["file.*"]), tool("file"), None),
        (texts(&["file.*"]), tool("files.read"), None),
        (texts(&["file.*"]), tool("file."), None),
        (texts(&["model"]), model("fast"), Some("grant model")),
        (texts(&["model:*"]), model("fast"), Some("grant model:*")),
        (texts(&["model:fast"]), model("fast"), Some("grant model:fast")),
        (texts(&["model:fast"]), model("faster"), None),
        (texts(&["reply"]), Planned::Reply, Some("grant reply")),
        (texts(&["model", "file.*"]), Planned::Reply, None),
        (texts(&["*"]), tool("file.read"), None),
        (texts(&["*"]), Planned::Reply, None),
        (texts(&[]), model("fast"), None),
    ] {
        match (judge(&grants, &action), rule) {
            (GateVerdict::Allow { rule: found, .. }, Some(rule)) => assert_eq!(found, rule),
            (GateVerdict::Deny { rule, reason, .. }, None) => {
                assert_eq!(rule, "default deny");
                assert!(reason.contains("not granted"), "{reason}");
            }
            (verdict, rule) => panic!("{grants:?} judged {action:?} as {verdict:?}, expected {rule:?}"),
        }
    }
}

#[test]
fn past_reads_need_no_grant_but_may_be_denied() {
    let read = Planned::Tool(redacted_history::READ.to_owned());
    for (grants, rule) in [
        (texts(&[]), "built in"),
        (texts(&["file.*"]), "built in"),
        (texts(&["past.read"]), "grant past.read"),
        (texts(&["ask:file.*"]), "built in"),
    ] {
        let verdict = judge(&grants, &read);
        assert!(matches!(&verdict, GateVerdict::Allow { rule: found, .. } if found == rule), "{verdict:?}");
    }
    let verdict = judge(&texts(&["deny:past.read"]), &read);
    assert!(matches!(&verdict, GateVerdict::Deny { rule, .. } if rule == "policy permission"), "{verdict:?}");
    assert!(!allowed(&judge(&texts(&[]), &Planned::Tool("past.readme".to_owned()))));
}

#[test]
fn grants_are_checked_against_the_tools_there_are() {
    let (gate, tools) = (GrantGate::new(shipped()), bare_catalogue(["file.read"]));
    assert_eq!(gate.check_grants(&texts(&["file.read", "file.*", "reply", "model:fast"]), &tools), Ok(()));
    for (grant, problem) in
        [("*", "name families"), ("file.raed", "did you mean \"file.read\"?"), ("time.now", "no tool")]
    {
        let error = gate.check_grants(&texts(&["reply", grant]), &tools).expect_err(grant);
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_privileged_tool_needs_the_operators_word_beside_the_grant() {
    let gate = GrantGate::new(shipped()).with_privileged(["exec".to_owned()]);
    let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
    let judged = |tool: &str, grants: &[&str]| {
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: tool.to_owned(),
            effect: EffectClass::Unkeyed,
            arguments: "{}".to_owned(),
            action: Digest::from_bytes([4; 32]),
            reaches: None,
            network: None,
            contents: None,
        };
        let grants = texts(grants);
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &grants,
            context: Label::PUBLIC_FACT,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        match answer_of(gate.evaluate_action(principal, GateAction::Tool(&call))) {
            GateVerdict::Allow { rule, .. }
            | GateVerdict::Ask { rule, .. }
            | GateVerdict::Delay { rule, .. }
            | GateVerdict::Deny { rule, .. } => rule,
        }
    };
    for (tool, grants, rule) in [
        ("exec", &["exec"][..], "privileged"),
        ("exec", &["privileged:exec"], "default deny"),
        ("exec", &["exec", "privileged:shell.execute"], "privileged"),
        ("exec", &["exec", "privileged:exec"], "grant exec"),
        ("shell.execute", &["shell.execute"], "grant shell.execute"),
    ] {
        assert_eq!(judged(tool, grants), rule, "{tool} with {grants:?}");
    }
    let refused = gate
        .check_grants(&texts(&["exec", "privileged:exec"]), &bare_catalogue(["exec"]))
        .expect_err("it is the operator's");
    assert!(refused.contains("in dromia.yaml"), "{refused}");
}

/// What a gate whose server says this says about `file.write` of an agent with these grants.
fn under(instance: &str, tenant: &str, grants: &[&str]) -> GateVerdict {
    after(instance, tenant, grants, Label::ACTOR_TEXT)
}

/// The same after what has this label.
fn after(instance: &str, tenant: &str, grants: &[&str], context: Label) -> GateVerdict {
    let layer = |name: &str, text: &str| {
        let text = format!("package dromia.policy\nimport rego.v1\n{text}");
        PolicyLayer::compile_layer(name, &[PolicyText { name: format!("{name}.rego"), text }])
            .expect("it compiles")
    };
    let own = TenantId::from_bytes([1; 16]);
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
    policies.replace_layers(PolicyLayers {
        instance: (!instance.is_empty()).then(|| layer("instance", instance)),
        tenants: [(own, tenant)]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(id, text)| (id, layer("tenant", text)))
            .collect(),
    });
    let scope = ScopeAuthority::claim().issue_scope(own, Actor::new("cli:ada"));
    let grants = texts(grants);
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &grants,
        context,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    let call = PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: "file.write".to_owned(),
        effect: EffectClass::Unkeyed,
        arguments: r#"{"path":"notes/a.md","text":"hi"}"#.to_owned(),
        action: Digest::from_bytes([4; 32]),
        reaches: None,
        network: None,
        contents: None,
    };
    answer_of(GrantGate::new(policies).evaluate_action(principal, GateAction::Tool(&call)))
}

const DENY: &str = r#"verdicts contains {"verdict": "deny", "rule": "no-notes", "reason": "notes are closed"} if startswith(input.action.arguments.path, "notes/")"#;
const ASK: &str = r#"verdicts contains {"verdict": "ask", "rule": "look", "reason": "a person looks"} if input.action.kind == "tool""#;
const DELAY: &str =
    r#"verdicts contains {"verdict": "delay", "rule": "later", "reason": "haste"} if input.version == 1"#;
const ALLOW: &str =
    r#"verdicts contains {"verdict": "allow", "rule": "all", "reason": ""} if input.version == 1"#;
const ENDLESS: &str = r#"verdicts contains {"verdict": "deny", "rule": "never", "reason": ""} if {
    some a in numbers.range(1, 20000)
    some b in numbers.range(1, 20000)
    a * b == -1
}"#;
const TAINTED: &str = r#"verdicts contains {"verdict": "deny", "rule": "tainted", "reason": ""} if input.context.integrity == "untrusted""#;
const NO_NUMBER: &str = r#"verdicts contains {"verdict": "deny", "rule": "number", "reason": ""} if to_number(input.action.tool) == 1"#;
const HUGE: &str = r#"verdicts contains {"verdict": "deny", "rule": "huge", "reason": ""} if count(numbers.range(0, 9000000000000000000)) == 1"#;
const STRANGE: &str = r#"verdicts contains {"verdict": lower("PERHAPS"), "rule": "a"} if input.version == 1"#;

#[test]
fn each_layer_takes_away_and_none_gives() {
    for (instance, tenant, grants, rule) in [
        ("", "", &["file.write"][..], "grant file.write"),
        (ALLOW, ALLOW, &["file.write"], "grant file.write"),
        (ALLOW, ALLOW, &[], "default deny"),
        (DENY, "", &["file.write"], "policy no-notes"),
        ("", DENY, &["file.write"], "policy no-notes"),
        (DENY, ALLOW, &["file.write"], "policy no-notes"),
        (ASK, "", &["file.write"], "ask look"),
        (ASK, DENY, &["file.write"], "policy no-notes"),
        (DENY, ASK, &["file.write"], "policy no-notes"),
        (DELAY, "", &["file.write"], "delay later"),
        ("", DELAY, &["file.write"], "delay later"),
        (DELAY, ALLOW, &["file.write"], "delay later"),
        (DELAY, ASK, &["file.write"], "ask look"),
        (ASK, DELAY, &["file.write"], "ask look"),
        (DELAY, DENY, &["file.write"], "policy no-notes"),
        (DELAY, "", &[], "default deny"),
        ("", "", &["file.write", "delay:file.*"], "delay permission"),
        ("", "", &["file.write", "delay:file.*", "ask:file.write"], "ask permission"),
        ("", "", &["file.write", "delay:file.write", "deny:file.*"], "policy permission"),
        ("", "", &["file.write", "deny:file.write"], "policy permission"),
        ("", "", &["deny:file.*", "file.write"], "policy permission"),
        ("", "", &["file.write", "ask:file.write"], "ask permission"),
        ("", "", &["file.write", "ask:file.write", "deny:file.*"], "policy permission"),
        ("", "", &["file.write", "deny:file.read"], "grant file.write"),
        (ALLOW, "", &["deny:file.write"], "default deny"),
    ] {
        match under(instance, tenant, grants) {
            GateVerdict::Allow { rule: found, policy } => {
                assert_eq!(found, rule, "{instance} {tenant} {grants:?}");
                assert!(policy.is_some(), "an allow names the policy");
            }
            GateVerdict::Ask { rule: found, policy, .. } => {
                assert_eq!(format!("ask {found}"), rule, "{instance} {tenant} {grants:?}");
                assert!(policy.is_some(), "an ask names the policy");
            }
            GateVerdict::Delay { rule: found, policy, .. } => {
                assert_eq!(format!("delay {found}"), rule, "{instance} {tenant} {grants:?}");
                assert!(policy.is_some(), "a delay names the policy");
            }
            GateVerdict::Deny { rule: found, policy, reason } => {
                assert_eq!(found, rule, "{instance} {tenant} {grants:?}");
                assert!(rule != "policy no-notes" || reason.contains("(notes are closed)"), "{reason}");
                assert_eq!(
                    policy.is_some(),
                    rule != "default deny",
                    "only what is covered is put to the policy"
                );
            }
        }
    }
}

#[test]
fn a_policy_sees_the_label_that_led_to_an_action() {
    for (context, is_allowed) in
        [(Label::ACTOR_TEXT, true), (Label::PUBLIC_FACT, true), (Label::OUTSIDE, false)]
    {
        let verdict = after(TAINTED, "", &["file.write"], context);
        assert_eq!(allowed(&verdict), is_allowed, "{context}: {verdict:?}");
    }
}

#[test]
fn a_policy_sees_the_manifest_of_a_tool_if_any() {
    let text = r#"package dromia.policy
import rego.v1
verdicts contains {"verdict": "deny", "rule": "to-others", "reason": ""} if {
    input.action.sink == "outside"
    some name, role in input.action.roles
    role == "destination"
    input.action.arguments[name] != "bob"
}"#;
    let file = PolicyText { name: "manifest.rego".to_owned(), text: text.to_owned() };
    let judged = |sink: Option<EffectSink>, to: &str| {
        let roles = [("to".to_owned(), ArgumentRole::Destination)];
        let manifest = |sink| ("crm.send".to_owned(), ToolManifest { sink, roles: roles.into() });
        // A policy of its own: a clone of the shipped one would hand these layers to the other tests.
        let policies =
            PolicyEngine::built_in().expect("the shipped policy compiles").with_manifests(sink.map(manifest));
        let instance =
            PolicyLayer::compile_layer("instance", std::slice::from_ref(&file)).expect("it compiles");
        policies.replace_layers(PolicyLayers { instance: Some(instance), ..PolicyLayers::default() });
        let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
        let grants = texts(&["crm.send"]);
        let context = Label::ACTOR_TEXT;
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &grants,
            context,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: "crm.send".to_owned(),
            effect: EffectClass::Keyed,
            arguments: format!(r#"{{"to":"{to}"}}"#),
            action: Digest::from_bytes([4; 32]),
            reaches: None,
            network: None,
            contents: None,
        };
        allowed(&answer_of(GrantGate::new(policies).evaluate_action(principal, GateAction::Tool(&call))))
    };
    assert!(judged(Some(EffectSink::Outside), "bob") && !judged(Some(EffectSink::Outside), "eve"));
    assert!(judged(Some(EffectSink::Inside), "eve") && judged(None, "eve"));
}

#[test]
fn a_policy_sees_which_arguments_are_endorsed() {
    let text = r#"package dromia.policy
import rego.v1
verdicts contains {"verdict": "deny", "rule": "not-said", "reason": ""} if not "to" in input.action.endorsed"#;
    let file = PolicyText { name: "said.rego".to_owned(), text: text.to_owned() };
    let instance = PolicyLayer::compile_layer("instance", &[file]).expect("it compiles");
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
    policies.replace_layers(PolicyLayers { instance: Some(instance), ..PolicyLayers::default() });
    let gate = GrantGate::new(policies);
    let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
    let (author, grants, context) = (scope.actor(), texts(&["crm.send"]), Label::OUTSIDE);
    for (endorsed, is_allowed) in [(&["cc", "to"][..], true), (&["cc"][..], false), (&[][..], false)] {
        let endorsed = texts(endorsed);
        let principal = Principal {
            scope: &scope,
            author,
            grants: &grants,
            context,
            endorsed: &endorsed,
            plan: PlanContext::OPEN,
        };
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: "crm.send".to_owned(),
            effect: EffectClass::Keyed,
            arguments: r#"{"to":"x"}"#.to_owned(),
            action: Digest::from_bytes([4; 32]),
            reaches: None,
            network: None,
            contents: None,
        };
        assert_eq!(
            allowed(&answer_of(gate.evaluate_action(principal, GateAction::Tool(&call)))),
            is_allowed,
            "{endorsed:?}"
        );
    }
}

#[test]
fn irreversible_calls_are_judged_by_the_operators_setting() {
    let judged = |word: PolicyVerdict, sink: Option<EffectSink>, effect: EffectClass| {
        let manifest = |sink| ("crm.send".to_owned(), ToolManifest { sink, roles: BTreeMap::new() });
        let policies =
            PolicyEngine::built_in().expect("the shipped policy compiles").about_irreversible(word);
        let policies = policies.with_manifests(sink.map(manifest));
        let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
        let (grants, context) = (texts(&["crm.send", "reply"]), Label::ACTOR_TEXT);
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &grants,
            context,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: "crm.send".to_owned(),
            effect,
            arguments: "{}".to_owned(),
            action: Digest::from_bytes([4; 32]),
            reaches: None,
            network: None,
            contents: None,
        };
        let gate = GrantGate::new(policies);
        let reply = answer_of(
            gate.evaluate_action(principal, GateAction::Reply { session: SessionId::from_bytes([5; 16]) }),
        );
        assert!(allowed(&reply), "{word:?} speaks of calls: {reply:?}");
        answer_of(gate.evaluate_action(principal, GateAction::Tool(&call)))
    };
    let outside = Some(EffectSink::Outside);
    for effect in [EffectClass::Unkeyed, EffectClass::Keyed, EffectClass::Idempotent] {
        for sink in [outside, None] {
            let delayed = judged(PolicyVerdict::Delay, sink, effect);
            assert!(
                matches!(&delayed, GateVerdict::Delay { rule, .. } if rule == "irreversible"),
                "{delayed:?}"
            );
            let aborted = judged(PolicyVerdict::Deny, sink, effect);
            assert!(matches!(&aborted, GateVerdict::Deny { rule, .. } if rule == "policy irreversible"));
            assert!(allowed(&judged(PolicyVerdict::Allow, sink, effect)));
        }
    }
    assert!(allowed(&judged(PolicyVerdict::Deny, outside, EffectClass::Pure)), "a look undoes nothing");
    assert!(allowed(&judged(PolicyVerdict::Deny, Some(EffectSink::Inside), EffectClass::Unkeyed)));
    let digest = |verdict: GateVerdict| match verdict {
        GateVerdict::Allow { policy, .. } | GateVerdict::Delay { policy, .. } => policy,
        other => panic!("{other:?}"),
    };
    let (plain, delays) = (PolicyVerdict::Allow, PolicyVerdict::Delay);
    assert_ne!(
        digest(judged(plain, outside, EffectClass::Pure)),
        digest(judged(delays, outside, EffectClass::Pure)),
        "what the operator says is a part of the policy that decisions name"
    );
    let denies = judged(PolicyVerdict::Deny, outside, EffectClass::Pure);
    assert_ne!(digest(denies), digest(judged(delays, outside, EffectClass::Pure)));
}

#[test]
fn only_a_call_can_be_put_off() {
    let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
    let (grants, context) = (texts(&["reply", "model"]), Label::ACTOR_TEXT);
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &grants,
        context,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    let asks = ASK.replace("input.action.kind == \"tool\"", "input.version == 1");
    for (text, said) in [(DELAY, "delay later"), (&asks, "ask look")] {
        let text = format!("package dromia.policy\nimport rego.v1\n{text}");
        let file = PolicyText { name: "own.rego".to_owned(), text };
        let instance = Some(PolicyLayer::compile_layer("instance", &[file]).expect("it compiles"));
        let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
        policies.replace_layers(PolicyLayers { instance, ..PolicyLayers::default() });
        let gate = GrantGate::new(policies);
        for action in [
            GateAction::Reply { session: SessionId::from_bytes([5; 16]) },
            GateAction::Model { model: "scripted" },
        ] {
            let verdict = answer_of(gate.evaluate_action(principal, action));
            assert!(matches!(&verdict, GateVerdict::Deny { rule, .. } if rule == said), "{verdict:?}");
        }
    }
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    for (broken, why) in
        [(ENDLESS, "time limit"), (NO_NUMBER, ""), (HUGE, "it failed"), (STRANGE, "a verdict has")]
    {
        for (instance, tenant) in [(broken, ""), ("", broken)] {
            let GateVerdict::Deny { rule, reason, policy } = under(instance, tenant, &["file.write"]) else {
                panic!("{broken} let it happen");
            };
            assert_eq!(rule, format!("policy {BROKEN}"), "{reason}");
            assert!(reason.contains(why) && policy.is_some(), "{reason}");
        }
    }
}

#[test]
fn each_policy_of_each_tenant_has_its_own_digest() {
    let digest = |instance, tenant| match under(instance, tenant, &["file.write"]) {
        GateVerdict::Allow { policy, .. }
        | GateVerdict::Ask { policy, .. }
        | GateVerdict::Delay { policy, .. }
        | GateVerdict::Deny { policy, .. } => policy.expect("it was asked"),
    };
    let all = [digest("", ""), digest(DENY, ""), digest("", DENY), digest(DENY, DENY)];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "two policies share a digest");
    }
    assert_eq!(digest(DENY, ""), digest(DENY, ""));
}

#[test]
fn an_operators_permission_is_refused_among_an_agents_grants() {
    let gate = GrantGate::new(shipped());
    for word in ["deny:exec", "ask:exec"] {
        let refused = gate
            .check_grants(&texts(&["exec", word]), &bare_catalogue(["exec"]))
            .expect_err("it is the operator's");
        assert!(refused.contains("with permissions"), "{refused}");
    }
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["file", "read", "write", "a", "model", "reply", "*", "", "fast"])
        .prop_map(str::to_owned)
}

fn grant() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(word(), 1..4).prop_map(|words| words.join(".")),
        word().prop_map(|alias| format!("model:{alias}")),
        word(),
        "[a-z.*:]{0,6}",
    ]
}

fn planned() -> impl Strategy<Value = Planned> {
    prop_oneof![
        prop::collection::vec(word(), 1..4).prop_map(|words| Planned::Tool(words.join("."))),
        word().prop_map(Planned::Model),
        Just(Planned::Reply),
    ]
}

proptest! {
    #[test]
    fn more_grants_never_deny_what_fewer_allowed(
        fewer in prop::collection::vec(grant(), 0..6),
        more in prop::collection::vec(grant(), 0..6),
        at in 0_usize..6,
        action in planned(),
    ) {
        let before = judge(&fewer, &action);
        let at = at.min(fewer.len());
        let mut all = fewer.clone();
        all.splice(at..at, more);
        prop_assert!(!allowed(&before) || allowed(&judge(&all, &action)));
    }

    // The oracle spells the rule out over raw text, so that parser and matcher cannot be wrong together.
    #[test]
    fn nothing_is_allowed_that_no_grant_names(
        grants in prop::collection::vec(grant(), 0..8),
        action in planned(),
    ) {
        let named = grants.iter().any(|grant| match &action {
            Planned::Reply => grant == "reply",
            Planned::Model(model) => grant == "model" || grant == "model:*" || *grant == format!("model:{model}"),
            Planned::Tool(tool) => {
                grant == tool || grant.strip_suffix('*').is_some_and(|stem| stem.len() > 1 && tool.starts_with(stem))
            }
        });
        prop_assert!(named || !allowed(&judge(&grants, &action)));
    }

    #[test]
    fn the_rule_of_an_allow_is_one_of_the_grants(
        grants in prop::collection::vec(grant(), 0..8),
        action in planned(),
    ) {
        if let GateVerdict::Allow { rule, .. } = judge(&grants, &action) {
            let grant = rule.strip_prefix("grant ").expect("a rule names its grant");
            prop_assert!(grants.iter().any(|known| known == grant));
            prop_assert!(Grant::parse(grant).is_ok());
        }
    }
}

#[test]
fn a_program_without_network_counts_as_staying_inside() {
    let roles = BTreeMap::from([("cwd".to_owned(), ArgumentRole::Object)]);
    let knowing = |word| {
        let policies =
            PolicyEngine::built_in().expect("the shipped policy compiles").about_irreversible(word);
        policies.with_manifests([(
            "exec".to_owned(),
            ToolManifest { sink: EffectSink::Outside, roles: roles.clone() },
        )])
    };
    let call = |tool: &str, network| PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: tool.to_owned(),
        effect: EffectClass::Unkeyed,
        arguments: r#"{"cwd":"src"}"#.to_owned(),
        action: Digest::from_bytes([4; 32]),
        reaches: None,
        network,
        contents: None,
    };
    let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
    let provenance = CallProvenance::default();
    let judged = |word, grants: &[String], context, network| {
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants,
            context,
            endorsed: &[],
            plan: provenance.plan_context(),
        };
        answer_of(
            GrantGate::new(knowing(word))
                .evaluate_action(principal, GateAction::Tool(&call("exec", network))),
        )
    };
    let gate = GrantGate::new(knowing(PolicyVerdict::Allow));
    let (grants, asking) = (texts(&["exec"]), texts(&["exec", "ask:exec"]));
    for (network, sink) in [
        (Some(NetworkAccess::None), EffectSink::Inside),
        (Some(NetworkAccess::Proxy), EffectSink::Outside),
        // Nobody looked.
        (None, EffectSink::Outside),
    ] {
        let is_inside = sink == EffectSink::Inside;
        assert_eq!(gate.call_sink(&call("exec", network)), sink);
        assert_eq!(gate.is_irreversible(&call("exec", network)), !is_inside);
        let verdict = judged(PolicyVerdict::Allow, &grants, Label::OUTSIDE, network);
        match &verdict {
            GateVerdict::Allow { .. } => assert!(is_inside, "{network:?}"),
            GateVerdict::Ask { .. } => assert!(!is_inside, "{network:?}"),
            other => panic!("{other:?}"),
        }
        // The file's word about what cannot be undone counts for those that others may see.
        let aborted = judged(PolicyVerdict::Deny, &grants, Label::ACTOR_TEXT, network);
        assert_eq!(matches!(aborted, GateVerdict::Deny { .. }), !is_inside, "{network:?} {aborted:?}");
        // A word about the tool counts for all of them.
        let asked = judged(PolicyVerdict::Allow, &asking, Label::OUTSIDE, network);
        assert!(matches!(asked, GateVerdict::Ask { .. }), "{network:?} {asked:?}");
    }
    // A tool that nobody described is no program, whatever is said of it.
    assert_eq!(gate.call_sink(&call("a.b", Some(NetworkAccess::None))), EffectSink::Outside);
    let reaches =
        EgressTarget { method: HttpMethod::Get, url: "https://h.example/".to_owned(), secrets: Vec::new() };
    let reaching = PreparedCall { reaches: Some(reaches), ..call("exec", Some(NetworkAccess::None)) };
    assert_eq!(gate.call_sink(&reaching), EffectSink::Outside, "it says where it reaches out to");
}

#[test]
fn gates_that_share_rights_withdraw_a_grant_together() {
    let noting = GrantGate::new(shipped());
    let sharing = GrantGate::new(shipped()).with_rights(noting.current_rights());
    let (tenant, agent) = (TenantId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));
    let grants = ["file.read".to_owned(), rights_word(tenant, agent)];
    let mut holds = Vec::new();
    for (number, now, allowed) in [(1, "file.read", true), (2, "reply", false), (3, "file.*", true)] {
        holds.push(noting.note_rights(tenant, agent, number, &[now.to_owned()]));
        for gate in [&noting, &sharing] {
            let verdict = judge_at(gate, &grants, &Planned::Tool("file.read".to_owned()));
            assert_eq!(matches!(verdict, GateVerdict::Allow { .. }), allowed, "{now}: {verdict:?}");
        }
    }
}
