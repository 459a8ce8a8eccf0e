//! Changes of an agent and the runs that began before: a narrowing counts at their next action, a widening never.

use dromia_contracts::BoxFuture;
use dromia_contracts::gate::{
    ActivePolicy, Gate, GateAction, GateVerdict, Principal, RightsHold, rights_word,
};
use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{EffectSink, PreparedCall};
use dromia_guard::{GrantGate, PolicyEngine};
use dromia_testkit::answer_of;

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const AGENT: AgentId = AgentId::from_bytes([2; 16]);

fn real_gate() -> GrantGate {
    GrantGate::new(PolicyEngine::built_in().expect("the shipped policy compiles"), ["file.read"])
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
    fn check_grants(&self, grants: &[String]) -> Result<(), String> {
        self.gate.check_grants(grants)
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
