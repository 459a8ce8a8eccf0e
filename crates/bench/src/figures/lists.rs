//! P14: what a person lists beside many runs: each as the client's command, from its spawn to its end, and as the request alone.
//!
//! The runs are those of the phase before. A filter that no run passes is a list, too: it must not look at all of them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::dromia::{DromiaServer, InstanceHome};
use crate::measure::{LatencyRecorder, LoadSummary};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

const SAMPLES: usize = 20;
const LIST_MAX_MS: f64 = 50.0;
/// Calls that wait for a person.
const APPROVALS: usize = 100;
/// How often they are looked for until all of them wait.
const LOOKS_MAX: usize = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const CALL: &str = r#"@tool exec {"argv":["/bin/true"]}"#;

/// Every list that has a row: its id, the command and the request.
const LISTS: &[(&str, &[&str], &str)] = &[
    ("P14.runs", &["run", "list"], "/v1/runs"),
    ("P14.runs_none", &["run", "list", "--status", "failed"], "/v1/runs?status=failed"),
    ("P14.sessions", &["session", "list"], "/v1/sessions"),
    ("P14.approvals", &["approval", "list"], "/v1/approvals"),
    ("P14.overview", &["status"], "/v1/overview"),
];

/// Measures all of them in a home with so many runs.
pub(super) async fn measure_lists(
    scene: &PhaseContext,
    home: &InstanceHome,
    runs: u64,
) -> anyhow::Result<Vec<BenchGoal>> {
    let models = json!({"default": {"kind": "scripted"}});
    home.replace_config(&json!({"models": models, "permissions": {"ask": ["exec"]}}))?;
    let server = home.start_server(&scene.dir).await?;
    create_approvals(&server).await?;
    let mut goals = Vec::new();
    for (id, command, path) in LISTS {
        let (mut whole, mut asked) = (LatencyRecorder::default(), LatencyRecorder::default());
        let began = Instant::now();
        for _ in 0..SAMPLES {
            let spawned = Instant::now();
            home.run_command(command).await?;
            whole.record_answer(spawned.elapsed());
            let sent = Instant::now();
            server.call_api("GET", path, &Value::Null).await?;
            asked.record_answer(sent.elapsed());
        }
        let [whole, asked]: [LoadSummary; 2] = [whole, asked].map(|list| list.into_summary(began.elapsed()));
        let goal = format!(
            "`dromia {}` beside {runs} runs, p95: < 50 ms; p50 {:.1}, the request alone {:.1} ms",
            command.join(" "),
            whole.p50_ms,
            asked.p50_ms,
        );
        goals.push(BenchGoal::with_target(id, whole.p95_ms, "ms", goal, whole.p95_ms < LIST_MAX_MS));
    }
    server.child.stop_gracefully().await?;
    Ok(goals)
}

/// Has an agent ask for calls that wait for a person.
async fn create_approvals(server: &DromiaServer) -> anyhow::Result<()> {
    let config = json!({"model": "default", "grants": ["model", "reply", "exec"]});
    server.call_api("POST", "/v1/agents", &json!({"handle": "asks", "config": config})).await?;
    for _ in 0..APPROVALS {
        server.call_api("POST", "/v1/events", &json!({"text": CALL, "agent": "asks"})).await?;
    }
    let limit = format!("/v1/approvals?limit={APPROVALS}");
    for _ in 0..LOOKS_MAX {
        let waiting = server.call_api("GET", &limit, &Value::Null).await?;
        let waiting = waiting["items"].as_array().context("a list without items")?;
        if waiting.len() == APPROVALS {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
    bail!("the calls do not wait for a person")
}
