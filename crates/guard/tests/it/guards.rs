//! Guards of the gate, each of them unplugged: one list of attempts, each of which one guard alone stops. The gate lets none
//! of them through, and a gate without a guard lets those of that guard through, so each guard has an attempt that
//! misses it.

use std::future::{pending, ready};

use dromia_contracts::digest::Digest;
use dromia_contracts::egress::{EgressTarget, HttpMethod};
use dromia_contracts::gate::{Gate, GateAction, GateVerdict, Principal, RightsHold};
use dromia_contracts::id::{AgentId, CallId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{ArgumentRole, EffectClass, EffectSink, PreparedCall, ToolManifest};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::{BoxFuture, Scope};
use dromia_guard::policy::{PolicyLayer, PolicyText};
use dromia_guard::{GrantGate, PolicyEngine, PolicyLayers};
use dromia_testkit::answer_of;

/// What the operator says for every tenant, and one rule that says nothing that a verdict is.
const INSTANCE: &str = r#"package dromia.policy
import rego.v1
verdicts contains {"verdict": "deny", "rule": "no-notes", "reason": ""} if startswith(input.action.arguments.path, "notes/")
verdicts contains {"verdict": lower("PERHAPS"), "rule": "broken"} if input.action.tool == "broken.tool"
verdicts contains {"verdict": "deny", "rule": "tainted", "reason": ""} if {
	startswith(input.action.arguments.path, "mail/")
	input.context.integrity == "untrusted"
}
verdicts contains {"verdict": "deny", "rule": "not-said", "reason": ""} if {
	startswith(input.action.arguments.path, "sent/")
	not "path" in input.action.endorsed
}
"#;

/// What is said for one tenant.
const TENANT: &str = r#"package dromia.policy
import rego.v1
verdicts contains {"verdict": "deny", "rule": "no-logs", "reason": ""} if startswith(input.action.arguments.path, "logs/")
"#;

fn tenant() -> TenantId {
    TenantId::from_bytes([1; 16])
}

/// A policy with those of the named layers.
fn policies(names: &[&str]) -> PolicyEngine {
    let layer = |name: &str, text: &str| {
        let file = PolicyText { name: format!("{name}.rego"), text: text.to_owned() };
        PolicyLayer::compile_layer(name, &[file]).expect("it compiles")
    };
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
    let roles = [("argv", ArgumentRole::Payload), ("cwd", ArgumentRole::Object)];
    let roles = roles.map(|(name, role)| (name.to_owned(), role)).into();
    let files = [("path", ArgumentRole::Object)].map(|(name, role)| (name.to_owned(), role)).into();
    let policies = policies.with_manifests([
        ("exec".to_owned(), ToolManifest { sink: EffectSink::Outside, roles }),
        ("file.write".to_owned(), ToolManifest { sink: EffectSink::Inside, roles: files }),
    ]);
    policies.replace_layers(PolicyLayers {
        instance: names.contains(&"instance").then(|| layer("instance", INSTANCE)),
        tenants: names.contains(&"tenant").then(|| (tenant(), layer("tenant", TENANT))).into_iter().collect(),
    });
    policies
}

/// The gate with every guard.
fn gate() -> GrantGate {
    GrantGate::new(policies(&["instance", "tenant"])).with_privileged(["exec".to_owned()])
}

fn call(tool: &str, arguments: &str, reaches: Option<EgressTarget>) -> PreparedCall {
    PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: tool.to_owned(),
        effect: EffectClass::Unkeyed,
        arguments: arguments.to_owned(),
        action: Digest::default(),
        reaches,
        network: None,
        contents: None,
    }
}

/// A call that starts a program, which is given this; nothing is what nobody said.
fn run(network: Option<NetworkAccess>) -> PreparedCall {
    PreparedCall { network, ..call("exec", r#"{"argv":["make"],"cwd":"a"}"#, None) }
}

fn reaching(url: &str, secrets: &[&str]) -> PreparedCall {
    let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
    call("http.request", "{}", Some(EgressTarget { method: HttpMethod::Get, url: url.to_owned(), secrets }))
}

/// Judges for an agent with these grants, after nothing that anybody else said, and tells whether it may happen.
fn may(gate: &dyn Gate, grants: &[&str], action: GateAction<'_>) -> bool {
    may_after(gate, grants, action, Label::PUBLIC_FACT)
}

fn may_after(gate: &dyn Gate, grants: &[&str], action: GateAction<'_>, context: Label) -> bool {
    let scope = ScopeAuthority::claim().issue_scope(tenant(), Actor::new("cli:ada"));
    let scope = scope.narrowed_to(AgentId::from_bytes([2; 16]));
    let grants: Vec<String> = grants.iter().map(|&grant| grant.to_owned()).collect();
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &grants,
        context,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    matches!(answer_of(gate.evaluate_action(principal, action)), GateVerdict::Allow { .. })
}

/// Tries what one guard each stops, and names the guards that let something through.
fn let_through(gate: &dyn Gate) -> Vec<&'static str> {
    let write = |path: &str| call("file.write", &format!(r#"{{"path":"{path}"}}"#), None);
    let calls = [
        ("grants of tools", &["reply", "file.read"][..], write("a")),
        ("privileged tools", &["exec"], call("exec", "{}", None)),
        ("hosts", &["http.request"], reaching("https://h.example/", &[])),
        ("hosts", &["http.request", "net:other.example"], reaching("https://h.example/", &[])),
        ("secrets", &["http.request", "net:h.example"], reaching("https://h.example/", &["a"])),
        ("words of the operator", &["file.write", "deny:file.write"], write("a")),
        ("asking", &["file.write", "ask:file.write"], write("a")),
        ("the policy of the instance", &["file.write"], write("notes/a")),
        ("the policy of the tenant", &["file.write"], write("logs/a")),
        ("broken policies", &["broken.tool"], call("broken.tool", "{}", None)),
        ("what cannot be judged", &["file.write"], call("file.write", "{", None)),
    ];
    let mut through: Vec<_> = calls
        .iter()
        .filter(|(_, grants, call)| may(gate, grants, GateAction::Tool(call)))
        .map(|(guard, ..)| *guard)
        .collect();
    if may(gate, &["reply", "model:slow"], GateAction::Model { model: "fast" }) {
        through.push("grants of models");
    }
    if may(gate, &["model"], GateAction::Reply { session: SessionId::from_bytes([3; 16]) }) {
        through.push("grants of replies");
    }
    for network in [Some(NetworkAccess::Proxy), None] {
        let program = run(network);
        if may_after(gate, &["exec", "privileged:exec"], GateAction::Tool(&program), Label::OUTSIDE) {
            through.push("ways out");
        }
    }
    for (guard, path) in [("labels", "mail/a"), ("endorsements", "sent/a")] {
        if may_after(gate, &["file.write"], GateAction::Tool(&write(path)), Label::OUTSIDE) {
            through.push(guard);
        }
    }
    through.dedup();
    through
}

/// A gate in which somebody made a mistake.
#[derive(Debug)]
struct Planted {
    gate: GrantGate,
    /// What it takes for granted.
    adds: &'static [&'static str],
    /// Words that it does not read, by their beginning.
    ignores: &'static str,
    /// Which verdict it takes for a yes: `ask`, or the rule of one that denies.
    overrules: &'static str,
    /// Whether it says that nobody else's words led here.
    hides_labels: bool,
    /// Whether it says that an actor typed the argument.
    endorses: bool,
    /// Whether it says that no program is given a way out.
    confines: bool,
}

impl Planted {
    fn of(gate: GrantGate) -> Self {
        let nothing = "nothing of this";
        Self {
            gate,
            adds: &[],
            ignores: nothing,
            overrules: nothing,
            hides_labels: false,
            endorses: false,
            confines: false,
        }
    }
}

impl Gate for Planted {
    fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        self.gate.call_sink(call)
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        self.gate.is_irreversible(call)
    }

    fn note_rights(&self, _: TenantId, _: AgentId, _: u64, _: &[String]) -> RightsHold {
        RightsHold::NOTHING
    }

    fn await_withdrawal<'a>(
        &'a self,
        _: &'a Scope,
        _: &'a [String],
        _: &'a PreparedCall,
    ) -> BoxFuture<'a, String> {
        Box::pin(pending())
    }

    fn check_grants(&self, grants: &[String], tools: &ToolCatalogue) -> Result<(), String> {
        self.gate.check_grants(grants, tools)
    }

    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict> {
        let read = principal.grants.iter().filter(|grant| !grant.starts_with(self.ignores)).cloned();
        let grants: Vec<String> = read.chain(self.adds.iter().map(|&grant| grant.to_owned())).collect();
        let context = if self.hides_labels { Label::PUBLIC_FACT } else { principal.context };
        let endorsed = if self.endorses { vec!["path".to_owned()] } else { principal.endorsed.to_vec() };
        let principal = Principal { grants: &grants, context, endorsed: &endorsed, ..principal };
        let confined = match action {
            GateAction::Tool(call) if self.confines && call.network.is_some() => {
                Some(PreparedCall { network: Some(NetworkAccess::None), ..call.clone() })
            }
            GateAction::Tool(_) | GateAction::Model { .. } | GateAction::Reply { .. } => None,
        };
        let action = confined.as_ref().map_or(action, GateAction::Tool);
        let judged = answer_of(self.gate.evaluate_action(principal, action));
        Box::pin(ready(match judged {
            GateVerdict::Ask { rule, policy, .. } if self.overrules == "ask" => {
                GateVerdict::Allow { rule, policy }
            }
            GateVerdict::Deny { rule, policy, .. } if rule == self.overrules => {
                GateVerdict::Allow { rule, policy }
            }
            verdict => verdict,
        }))
    }
}

#[test]
fn the_gate_lets_nothing_through_that_one_guard_stops() {
    assert_eq!(let_through(&gate()), Vec::<&str>::new());
    assert_eq!(let_through(&Planted::of(gate())), Vec::<&str>::new(), "nothing is unplugged yet");
    // Beside each attempt stands one that may happen, so a gate that denies everything would not pass.
    let write = call("file.write", r#"{"path":"a"}"#, None);
    assert!(may(&gate(), &["file.write"], GateAction::Tool(&write)));
    assert!(may(&gate(), &["exec", "privileged:exec"], GateAction::Tool(&call("exec", "{}", None))));
    let asked = reaching("https://h.example/", &["a"]);
    assert!(may(&gate(), &["http.request", "net:h.example", "secret:a"], GateAction::Tool(&asked)));
    assert!(may(&gate(), &["model:fast"], GateAction::Model { model: "fast" }));
    assert!(may(&gate(), &["reply"], GateAction::Reply { session: SessionId::from_bytes([3; 16]) }));
}

#[test]
fn a_gate_that_grants_tools_models_and_replies_is_caught() {
    let planted: [(&'static [&'static str], &str); 3] = [
        (&["file.write"], "grants of tools"),
        (&["model"], "grants of models"),
        (&["reply"], "grants of replies"),
    ];
    for (adds, guard) in planted {
        assert_eq!(let_through(&Planted { adds, ..Planted::of(gate()) }), [guard]);
    }
}

#[test]
fn a_gate_that_knows_no_privileged_tools_is_caught() {
    let unplugged = GrantGate::new(policies(&["instance", "tenant"]));
    assert_eq!(let_through(&unplugged), ["privileged tools"]);
}

#[test]
fn a_gate_that_asks_for_no_host_is_caught() {
    assert_eq!(let_through(&Planted { adds: &["net:h.example"], ..Planted::of(gate()) }), ["hosts"]);
}

#[test]
fn a_gate_that_asks_for_no_secret_is_caught() {
    assert_eq!(let_through(&Planted { adds: &["secret:a"], ..Planted::of(gate()) }), ["secrets"]);
}

#[test]
fn a_gate_that_ignores_the_operators_permissions_is_caught() {
    let deaf = Planted { ignores: "deny:", ..Planted::of(gate()) };
    assert_eq!(let_through(&deaf), ["words of the operator"]);
}

#[test]
fn a_gate_that_takes_asking_for_consent_is_caught() {
    let hasty = Planted { overrules: "ask", ..Planted::of(gate()) };
    assert_eq!(let_through(&hasty), ["asking", "ways out"]);
}

#[test]
fn a_gate_without_a_layer_of_its_policy_is_caught() {
    let without = |layers: &[&str]| {
        let gate = GrantGate::new(policies(layers)).with_privileged(["exec".to_owned()]);
        let_through(&gate)
    };
    // The broken rule and those of labels stand in the layer of the instance.
    let instance = ["the policy of the instance", "broken policies", "labels", "endorsements"];
    assert_eq!(without(&["tenant"]), instance);
    assert_eq!(without(&["instance"]), ["the policy of the tenant"]);
}

#[test]
fn a_gate_that_takes_broken_policies_for_consent_is_caught() {
    let trusting = Planted { overrules: "policy policy-broken", ..Planted::of(gate()) };
    assert_eq!(let_through(&trusting), ["broken policies", "what cannot be judged"]);
}

#[test]
fn a_gate_that_hides_labels_from_its_policy_is_caught() {
    let blind = Planted { hides_labels: true, ..Planted::of(gate()) };
    assert_eq!(let_through(&blind), ["ways out", "labels"]);
}

/// Planted fault: a gate for which every program stays in its workspace, whatever it is given.
#[test]
fn a_networked_program_that_counts_as_inside_is_caught() {
    let closed = run(Some(NetworkAccess::None));
    let grants = ["exec", "privileged:exec"];
    assert!(
        may_after(&gate(), &grants, GateAction::Tool(&closed), Label::OUTSIDE),
        "it has none, so it may run"
    );
    assert_eq!(let_through(&Planted { confines: true, ..Planted::of(gate()) }), ["ways out"]);
}

#[test]
fn a_gate_that_endorses_everything_is_caught() {
    assert_eq!(let_through(&Planted { endorses: true, ..Planted::of(gate()) }), ["endorsements"]);
}
