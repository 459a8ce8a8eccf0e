//! Guards of the gate, each of them unplugged: one list of attempts, each of which one guard alone stops. The gate lets none
//! of them through, and a gate without a guard lets those of that guard through, so each guard has an attempt that
//! misses it.

use dromia_contracts::digest::Digest;
use dromia_contracts::egress::{Method, Reaches};
use dromia_contracts::gate::{Action, Gate, Principal, Verdict};
use dromia_contracts::id::{AgentId, CallId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Planning;
use dromia_contracts::sandbox::Network;
use dromia_contracts::scope::{Actor, Authority};
use dromia_contracts::tool::{ArgumentRole, EffectClass, Manifest, PreparedCall, Sink};
use dromia_guard::policy::{Layer, PolicyText};
use dromia_guard::{GrantGate, Layers, Policies};

const TOOLS: [&str; 4] = ["broken.tool", "exec", "file.write", "http.request"];

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
fn policies(names: &[&str]) -> Policies {
    let layer = |name: &str, text: &str| {
        let file = PolicyText { name: format!("{name}.rego"), text: text.to_owned() };
        Layer::compile(name, &[file]).expect("it compiles")
    };
    let policies = Policies::built_in().expect("the shipped policy compiles");
    let roles = [("argv", ArgumentRole::Payload), ("cwd", ArgumentRole::Object)];
    let roles = roles.map(|(name, role)| (name.to_owned(), role)).into();
    let policies = policies.knowing([("exec".to_owned(), Manifest { sink: Sink::Outside, roles })]);
    policies.replace(Layers {
        instance: names.contains(&"instance").then(|| layer("instance", INSTANCE)),
        tenants: names.contains(&"tenant").then(|| (tenant(), layer("tenant", TENANT))).into_iter().collect(),
    });
    policies
}

/// The gate with every guard.
fn gate() -> GrantGate {
    GrantGate::new(policies(&["instance", "tenant"]), TOOLS).with_privileged(["exec".to_owned()])
}

fn call(tool: &str, arguments: &str, reaches: Option<Reaches>) -> PreparedCall {
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
fn run(network: Option<Network>) -> PreparedCall {
    PreparedCall { network, ..call("exec", r#"{"argv":["make"],"cwd":"a"}"#, None) }
}

fn reaching(url: &str, secrets: &[&str]) -> PreparedCall {
    let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
    call("http.request", "{}", Some(Reaches { method: Method::Get, url: url.to_owned(), secrets }))
}

/// Judges for an agent with these grants, after nothing that anybody else said, and tells whether it may happen.
fn may(gate: &dyn Gate, grants: &[&str], action: Action<'_>) -> bool {
    may_after(gate, grants, action, Label::PUBLIC_FACT)
}

fn may_after(gate: &dyn Gate, grants: &[&str], action: Action<'_>, context: Label) -> bool {
    let scope = Authority::claim().scope(tenant(), Actor::new("cli:ada"));
    let scope = scope.narrowed_to(AgentId::from_bytes([2; 16]));
    let grants: Vec<String> = grants.iter().map(|&grant| grant.to_owned()).collect();
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &grants,
        context,
        endorsed: &[],
        plan: Planning::OPEN,
    };
    matches!(gate.judge(principal, action), Verdict::Allow { .. })
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
        .filter(|(_, grants, call)| may(gate, grants, Action::Tool(call)))
        .map(|(guard, ..)| *guard)
        .collect();
    if may(gate, &["reply", "model:slow"], Action::Model { model: "fast" }) {
        through.push("grants of models");
    }
    if may(gate, &["model"], Action::Reply { session: SessionId::from_bytes([3; 16]) }) {
        through.push("grants of replies");
    }
    for network in [Some(Network::Proxy), None] {
        let program = run(network);
        if may_after(gate, &["exec", "privileged:exec"], Action::Tool(&program), Label::OUTSIDE) {
            through.push("ways out");
        }
    }
    for (guard, path) in [("labels", "mail/a"), ("endorsements", "sent/a")] {
        if may_after(gate, &["file.write"], Action::Tool(&write(path)), Label::OUTSIDE) {
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
    fn sink(&self, call: &PreparedCall) -> Sink {
        self.gate.sink(call)
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        self.gate.is_irreversible(call)
    }

    fn check_grants(&self, grants: &[String]) -> Result<(), String> {
        self.gate.check_grants(grants)
    }

    fn judge(&self, principal: Principal<'_>, action: Action<'_>) -> Verdict {
        let read = principal.grants.iter().filter(|grant| !grant.starts_with(self.ignores)).cloned();
        let grants: Vec<String> = read.chain(self.adds.iter().map(|&grant| grant.to_owned())).collect();
        let context = if self.hides_labels { Label::PUBLIC_FACT } else { principal.context };
        let endorsed = if self.endorses { vec!["path".to_owned()] } else { principal.endorsed.to_vec() };
        let principal = Principal { grants: &grants, context, endorsed: &endorsed, ..principal };
        let confined = match action {
            Action::Tool(call) if self.confines && call.network.is_some() => {
                Some(PreparedCall { network: Some(Network::None), ..call.clone() })
            }
            Action::Tool(_) | Action::Model { .. } | Action::Reply { .. } => None,
        };
        let action = confined.as_ref().map_or(action, Action::Tool);
        match self.gate.judge(principal, action) {
            Verdict::Ask { rule, policy, .. } if self.overrules == "ask" => Verdict::Allow { rule, policy },
            Verdict::Deny { rule, policy, .. } if rule == self.overrules => Verdict::Allow { rule, policy },
            verdict => verdict,
        }
    }
}

#[test]
fn the_gate_lets_nothing_through_that_one_guard_stops() {
    assert_eq!(let_through(&gate()), Vec::<&str>::new());
    assert_eq!(let_through(&Planted::of(gate())), Vec::<&str>::new(), "nothing is unplugged yet");
    // Beside each attempt stands one that may happen, so a gate that denies everything would not pass.
    let write = call("file.write", r#"{"path":"a"}"#, None);
    assert!(may(&gate(), &["file.write"], Action::Tool(&write)));
    assert!(may(&gate(), &["exec", "privileged:exec"], Action::Tool(&call("exec", "{}", None))));
    let asked = reaching("https://h.example/", &["a"]);
    assert!(may(&gate(), &["http.request", "net:h.example", "secret:a"], Action::Tool(&asked)));
    assert!(may(&gate(), &["model:fast"], Action::Model { model: "fast" }));
    assert!(may(&gate(), &["reply"], Action::Reply { session: SessionId::from_bytes([3; 16]) }));
}

#[test]
fn a_gate_that_takes_tools_models_and_replies_for_granted_is_caught() {
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
    let unplugged = GrantGate::new(policies(&["instance", "tenant"]), TOOLS);
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
fn a_gate_that_reads_no_word_of_the_operator_is_caught() {
    let deaf = Planted { ignores: "deny:", ..Planted::of(gate()) };
    assert_eq!(let_through(&deaf), ["words of the operator"]);
}

#[test]
fn a_gate_that_takes_an_ask_for_a_yes_is_caught() {
    let hasty = Planted { overrules: "ask", ..Planted::of(gate()) };
    assert_eq!(let_through(&hasty), ["asking", "ways out"]);
}

#[test]
fn a_gate_without_a_layer_of_its_policy_is_caught() {
    let without = |layers: &[&str]| {
        let gate = GrantGate::new(policies(layers), TOOLS).with_privileged(["exec".to_owned()]);
        let_through(&gate)
    };
    // The broken rule and those of labels stand in the layer of the instance.
    let instance = ["the policy of the instance", "broken policies", "labels", "endorsements"];
    assert_eq!(without(&["tenant"]), instance);
    assert_eq!(without(&["instance"]), ["the policy of the tenant"]);
}

#[test]
fn a_gate_that_takes_a_broken_policy_for_a_yes_is_caught() {
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
fn a_program_with_a_way_out_that_counts_as_inside_is_caught() {
    let closed = run(Some(Network::None));
    let grants = ["exec", "privileged:exec"];
    assert!(may_after(&gate(), &grants, Action::Tool(&closed), Label::OUTSIDE), "it has none, so it may run");
    assert_eq!(let_through(&Planted { confines: true, ..Planted::of(gate()) }), ["ways out"]);
}

#[test]
fn a_gate_that_endorses_everything_is_caught() {
    assert_eq!(let_through(&Planted { endorses: true, ..Planted::of(gate()) }), ["endorsements"]);
}
