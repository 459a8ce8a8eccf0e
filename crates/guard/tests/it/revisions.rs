//! Changes of an agent and the runs that began before: a narrowing counts at their next action, a widening never.

use dromia_contracts::gate::{
    ActivePolicy, Gate, GateAction, GateVerdict, Principal, RightsHold, rights_word,
};
use dromia_contracts::id::{AgentId, CallId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{EffectClass, EffectSink, PreparedCall};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::{BoxFuture, Digest, Scope};
use dromia_guard::{GrantGate, PolicyEngine};
use dromia_testkit::answer_of;

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const AGENT: AgentId = AgentId::from_bytes([2; 16]);

fn real_gate() -> GrantGate {
    GrantGate::new(PolicyEngine::built_in().expect("the shipped policy compiles"))
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

/// Whether a run that began with these grants may ask a model.
fn may_ask(gate: &dyn Gate, began: &[&str], model: &str) -> bool {
    let author = Actor::new("cli:ada");
    let scope = ScopeAuthority::claim().issue_scope(TENANT, author.clone()).narrowed_to(AGENT);
    let mut grants = words(began);
    grants.push(rights_word(TENANT, AGENT));
    let principal = Principal {
        scope: &scope,
        author: &author,
        grants: &grants,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    let verdict = answer_of(gate.evaluate_action(principal, GateAction::Model { model }));
    matches!(verdict, GateVerdict::Allow { .. })
}

/// Changes an agent while a run of it goes on, and looks at what the run may do.
fn check_run_in_flight(gate: &dyn Gate) -> Result<(), String> {
    let began = ["model:fast", "model:old"];
    let _hold = gate.note_rights(TENANT, AGENT, 1, &words(&began));
    for model in ["fast", "old"] {
        if !may_ask(gate, &began, model) {
            return Err(format!("a run may not do what it began with: {model}"));
        }
    }
    let _changed = gate.note_rights(TENANT, AGENT, 2, &words(&["model:fast", "model:new"]));
    if may_ask(gate, &began, "new") {
        return Err("a revision reaches a run in flight".to_owned());
    }
    if may_ask(gate, &began, "old") {
        return Err("a narrowing waits for the end of the run".to_owned());
    }
    if !may_ask(gate, &began, "fast") {
        return Err("a run lost what both revisions grant".to_owned());
    }
    Ok(())
}

#[test]
fn a_narrowing_counts_at_once_and_a_widening_later() {
    assert_eq!(check_run_in_flight(&real_gate()), Ok(()));
}

/// A gate with a fault in how changes reach runs.
#[derive(Debug)]
struct FaultyGate {
    gate: GrantGate,
    /// Whether runs get what was granted since; otherwise they keep what was taken.
    widens: bool,
}

impl Gate for FaultyGate {
    fn check_grants(&self, grants: &[String], tools: &ToolCatalogue) -> Result<(), String> {
        self.gate.check_grants(grants, tools)
    }

    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict> {
        Box::pin(async move {
            let mut grants = principal.grants.to_vec();
            if self.widens {
                grants.insert(0, "model:new".to_owned());
            }
            self.gate.evaluate_action(Principal { grants: &grants, ..principal }, action).await
        })
    }

    fn note_rights(&self, tenant: TenantId, agent: AgentId, number: u64, grants: &[String]) -> RightsHold {
        let known = if self.widens { grants.to_vec() } else { words(&["model"]) };
        self.gate.note_rights(tenant, agent, number, &known)
    }

    fn await_withdrawal<'a>(
        &'a self,
        scope: &'a Scope,
        grants: &'a [String],
        call: &'a PreparedCall,
    ) -> BoxFuture<'a, String> {
        if self.widens {
            return Box::pin(std::future::pending());
        }
        self.gate.await_withdrawal(scope, grants, call)
    }

    fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        self.gate.call_sink(call)
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        self.gate.is_irreversible(call)
    }

    fn tenant_policy(&self, tenant: TenantId) -> Option<ActivePolicy> {
        self.gate.tenant_policy(tenant)
    }
}

#[test]
fn a_revision_that_reaches_a_run_in_flight_is_caught() {
    let problem = check_run_in_flight(&FaultyGate { gate: real_gate(), widens: true });
    assert_eq!(problem, Err("a revision reaches a run in flight".to_owned()));
}

#[test]
fn a_narrowing_that_waits_for_the_runs_end_is_caught() {
    let problem = check_run_in_flight(&FaultyGate { gate: real_gate(), widens: false });
    assert_eq!(problem, Err("a narrowing waits for the end of the run".to_owned()));
}

/// Narrows an agent while a call of it runs, and looks whether the call learns of it.
fn check_running_call(gate: &dyn Gate) -> Result<(), String> {
    let call = PreparedCall {
        id: CallId::PROBE,
        tool: "file.read".to_owned(),
        effect: EffectClass::Pure,
        arguments: "{}".to_owned(),
        action: Digest::default(),
        reaches: None,
        network: None,
        contents: None,
    };
    let scope = ScopeAuthority::claim().issue_scope(TENANT, Actor::new("cli:ada")).narrowed_to(AGENT);
    let grants = [words(&["file.read", "model"]), vec![rights_word(TENANT, AGENT)]].concat();
    let _hold = gate.note_rights(TENANT, AGENT, 1, &grants[..2]);
    let mut withdrawn = gate.await_withdrawal(&scope, &grants, &call);
    let mut learns = || {
        let waker = std::task::Waker::noop();
        withdrawn.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready()
    };
    let _other = gate.note_rights(TENANT, AGENT, 2, &words(&["file.read"]));
    if learns() {
        return Err("a narrowing of another right ends a call".to_owned());
    }
    let _narrowed = gate.note_rights(TENANT, AGENT, 3, &words(&["model"]));
    if !learns() {
        return Err("a call runs on without its right".to_owned());
    }
    Ok(())
}

#[test]
fn a_running_call_learns_that_its_right_is_withdrawn() {
    assert_eq!(check_running_call(&real_gate()), Ok(()));
}

#[test]
fn a_call_that_runs_on_without_its_right_is_caught() {
    let problem = check_running_call(&FaultyGate { gate: real_gate(), widens: true });
    assert_eq!(problem, Err("a call runs on without its right".to_owned()));
}
