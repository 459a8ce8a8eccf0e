//! P12: what a decision of the policy costs: of the built-in layer, which is evaluated in the server, and of a tenant's own,
//! which a worker process evaluates.
//!
//! The gate is asked as the server asks it, without a server around it: one call after the other, each with an argument of its
//! own. The worker is the measured binary.

use std::sync::Arc;

use dromia_contracts::gate::{GateAction, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::{Actor, CallId, Digest, ScopeAuthority, TenantId};
use dromia_guard::policy::{PolicyEvaluator, PolicyLayer, PolicyText, PolicyVerdict, PolicyWorkers};
use dromia_guard::{PolicyEngine, PolicyLayers};
use serde_json::json;
use tokio::time::Instant;

use crate::measure::{LatencyRecorder, LoadSummary};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// How many calls are judged.
const SAMPLES: usize = 5_000;

/// How many are judged before them.
const WARM_UP: usize = 200;

/// The most that the built-in layer may take, in microseconds.
const BUILT_IN_MAX: f64 = 100.0;

const OWN: &str = "package dromia.policy\nimport rego.v1\n\
    verdicts contains {\"verdict\": \"deny\", \"rule\": \"own\"} if input.action.arguments.path == \"closed\"\n";

/// Measures the phase.
pub(crate) async fn measure_policy(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let (usual, own) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
    let workers = PolicyEvaluator::Apart(PolicyWorkers::from_program(scene.dromia.canonicalize()?));
    let policies = PolicyEngine::built_in()?.with_evaluator(workers);
    let file = PolicyText { name: "own.rego".to_owned(), text: OWN.to_owned() };
    let layer = PolicyLayer::compile_layer("tenant", &[file])?;
    policies.replace_layers(PolicyLayers { instance: None, tenants: [(own, layer)].into() });
    let policies = Arc::new(policies);
    let built_in = judge_calls(&policies, usual).await?;
    let apart = judge_calls(&policies, own).await?;
    let p50 = built_in.p50_ms * 1000.0;
    let worker = apart.p50_ms * 1000.0;
    Ok(vec![
        BenchGoal::with_target(
            "P12.built_in",
            p50,
            "us",
            format!("a decision of the built-in policy, p50: < 100 us; p99 {:.0}", built_in.p99_ms * 1000.0),
            p50 < BUILT_IN_MAX,
        ),
        BenchGoal::without_target(
            "P12.own",
            worker,
            "us",
            format!(
                "the same with a tenant's own policy, in a worker, p50; p99 {:.0}",
                apart.p99_ms * 1000.0
            ),
        )
        .with_ratio(worker / p50),
    ])
}

/// Has calls of a tenant judged.
async fn judge_calls(policies: &PolicyEngine, tenant: TenantId) -> anyhow::Result<LoadSummary> {
    let scope = ScopeAuthority::claim().issue_scope(tenant, Actor::new("cli:ada"));
    let mut latencies = LatencyRecorder::default();
    let began = Instant::now();
    for number in 0..WARM_UP + SAMPLES {
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &[],
            context: Label::ACTOR_TEXT,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: "file.read".to_owned(),
            effect: EffectClass::Pure,
            arguments: json!({"path": format!("notes/{number}")}).to_string(),
            action: Digest::default(),
            reaches: None,
            network: None,
            contents: None,
        };
        let asked = Instant::now();
        let judged = policies.judge_action(principal, GateAction::Tool(&call), "grant file.read").await;
        if number < WARM_UP {
            continue;
        }
        match judged.said.call {
            PolicyVerdict::Allow => latencies.record_answer(asked.elapsed()),
            _ => anyhow::bail!("a call was not allowed: {judged:?}"),
        }
    }
    Ok(latencies.into_summary(began.elapsed()))
}
