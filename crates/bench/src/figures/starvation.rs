//! R15: what the worst of one tenant does to the p99 of another: at most twice what it is alone.
//!
//! Each attack has a row, and a server of its own, on which the other tenant is measured alone and then under the attack. What
//! it is measured by is what the attack would keep from it. A further attack is one more line of [`ATTACKS`].

mod attack;

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dromia::{COMPLETED, InstanceHome};
use crate::http;
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{LoadSummary, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use self::attack::{ATTACKS, AttackResult, StarvationAttack};

/// How often, and how long at most, the other tenant asks.
const SAMPLES: u64 = 500;
const SAMPLE_TIME_MAX: Duration = Duration::from_secs(5);

/// The most that an attack may do to the p99 of another tenant.
const RATIO_MAX: f64 = 2.0;

/// A tenant with an agent that may do everything, on a running server.
#[derive(Debug, Clone)]
struct BenchTenant {
    address: std::net::SocketAddr,
    token: String,
    agent: String,
}

impl BenchTenant {
    async fn new(home: &InstanceHome, address: std::net::SocketAddr, name: &str) -> anyhow::Result<Self> {
        let token = home.create_tenant(name).await?;
        let party = Self { address, token, agent: String::new() };
        let grants = ["model", "reply", "exec", "file.*"];
        let new = json!({"handle": "ops", "config": {"model": "default", "grants": grants}});
        let agent = party.call_api("POST", "/v1/agents", &new).await?;
        let agent = agent["id"].as_str().context("a new agent has no id")?.to_owned();
        Ok(Self { agent, ..party })
    }

    async fn call_api(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http::call_json(self.address, method, path, Some(&self.token), &body).await
    }

    /// Builds the request of a turn in a session of its own.
    fn event_request(&self, text: &str, wait: bool) -> Vec<u8> {
        let event = json!({"text": text, "agent": "ops", "wait": wait});
        http::encode_request("POST", "/v1/events", Some(&self.token), &event.to_string())
    }

    /// Says the same in so many sessions; returns once all of it is accepted.
    async fn flood_sessions(&self, text: &str, sessions: u64) -> anyhow::Result<()> {
        let requests = [self.event_request(text, false)].into();
        let plan = LoadPlan { address: self.address, requests, expected: "", connections: 16 };
        let summary = closed_loop(&plan, LoadExtent::Count(sessions, Duration::from_mins(1))).await?;
        anyhow::ensure!(summary.answered == sessions, "{} inputs were not accepted", summary.failed);
        Ok(())
    }

    /// Counts runs that have not ended, 256 at most.
    async fn count_open_runs(&self) -> anyhow::Result<usize> {
        let runs = self.call_api("GET", "/v1/runs?status=running&limit=256", &Value::Null).await?;
        Ok(runs["items"].as_array().map_or(0, Vec::len))
    }

    /// Has a turn answered again and again.
    async fn sample_turns(&self, text: &str) -> anyhow::Result<LoadSummary> {
        let requests = [self.event_request(text, true)].into();
        let plan = LoadPlan { address: self.address, requests, expected: COMPLETED, connections: 1 };
        closed_loop(&plan, LoadExtent::Count(SAMPLES, SAMPLE_TIME_MAX)).await
    }
}

/// Measures the phase.
pub(crate) async fn measure_starvation(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let mut goals = Vec::new();
    for attack in select_attacks(&scene.attacks)? {
        let began = Instant::now();
        let goal = match measure_attack(scene, attack).await {
            Ok(goal) => goal,
            Err(error) => {
                BenchGoal::with_target(attack.id, 0.0, "ms", format!("not measured: {error:#}"), false)
            }
        };
        goals.push(goal);
        tell_progress(attack.id, began);
    }
    Ok(goals)
}

/// Picks the attacks with these names, in the order of the rows; all where none is named.
fn select_attacks(names: &[String]) -> anyhow::Result<Vec<&'static StarvationAttack>> {
    let short = |attack: &StarvationAttack| attack.id.trim_start_matches("R15.");
    for name in names {
        let is_known = ATTACKS.iter().any(|attack| short(attack) == name);
        anyhow::ensure!(is_known, "there is no attack {name:?}");
    }
    let is_picked =
        |attack: &&StarvationAttack| names.is_empty() || names.iter().any(|name| short(attack) == name);
    Ok(ATTACKS.iter().filter(is_picked).collect())
}

#[expect(clippy::print_stderr, reason = "progress of a phase that takes a minute")]
fn tell_progress(id: &str, began: Instant) {
    eprintln!("  {id}: {} s", began.elapsed().as_secs());
}

async fn measure_attack(scene: &PhaseContext, attack: &StarvationAttack) -> anyhow::Result<BenchGoal> {
    let home = InstanceHome::create_with_config(
        &scene.dromia,
        &scene.dir,
        &json!({"models": {"default": {"kind": "scripted"}}}),
    )
    .await?;
    let server = home.start_server(&scene.dir).await?;
    let address = server.child.listen_address();
    let (bad, good) =
        (BenchTenant::new(&home, address, "bad").await?, BenchTenant::new(&home, address, "good").await?);
    let AttackResult { alone, under, note } = attack.measure_under_attack(&home, &bad, &good).await?;
    // What it does just now is of no interest any more.
    server.child.kill().await?;
    let over = ratio_or_zero(under.p99_ms, alone.p99_ms);
    let met = over <= RATIO_MAX && under.failed == 0 && under.answered > 0;
    let goal = format!(
        "{}: p99 at most 2x of {:.2} ms alone; p50 {:.2} over {:.2} ms, {} of {} failed{note}",
        attack.what,
        alone.p99_ms,
        under.p50_ms,
        alone.p50_ms,
        under.failed,
        under.failed + under.answered,
    );
    Ok(BenchGoal::with_target(attack.id, under.p99_ms, "ms", goal, met).with_ratio(over))
}
