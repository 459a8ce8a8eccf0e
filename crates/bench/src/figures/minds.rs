//! P20: a turn beside branches and workers costs what one alone does, and what a child concludes is taken at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::dromia::{DromiaServer, InstanceHome};
use crate::measure::{percentile_of, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// The branches and workers that a session may have at a time.
const BRANCHES: usize = 5;
const WORKERS: usize = 8;
/// The turns of each kind.
const TURNS: usize = 300;
/// The children whose conclusions are timed.
const CONCLUSIONS: usize = 100;
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Measures the phase.
pub(crate) async fn measure_minds(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let configuration = json!({"models": {"default": {"kind": "scripted"}}});
    let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &configuration).await?;
    let server = home.start_server(&scene.dir).await?;
    let grants = ["model", "reply", "file.*", "time.now"];
    let config = json!({"model": "default", "grants": grants, "mind": "branching"});
    server.call_api("POST", "/v1/agents", &json!({"handle": "mind", "config": config})).await?;
    let (beside, alone) = time_turns(&server).await?;
    let taken = time_conclusions(&server).await?;
    server.child.stop_gracefully().await?;
    let ratio = ratio_or_zero(beside, alone);
    Ok(vec![
        BenchGoal::with_target(
            "P20.beside",
            beside,
            "ms",
            format!("a turn beside {WORKERS} workers and {BRANCHES} branches over one alone, p95 of {TURNS}: <= 1.1"),
            ratio > 0.0 && ratio <= 1.1,
        )
        .with_ratio(ratio),
        BenchGoal::with_target(
            "P20.taken",
            taken,
            "ms",
            format!("from the end of a worker to the next request of its parent, p95 of {CONCLUSIONS}: < 10 ms"),
            taken < 10.0,
        ),
    ])
}

fn event_body(channel: &str, text: &str) -> Value {
    json!({"text": text, "agent": "mind", "wait": true, "channel": channel})
}

/// Times turns of a session with children at work and of one without, in turn. Returns the p95 of each.
async fn time_turns(server: &DromiaServer) -> anyhow::Result<(f64, f64)> {
    let task = |kind: &str, number: usize| {
        format!("@tool {kind} {}", json!({"task": format!("@slow 600000\n@say done {number}")}))
    };
    let branches = (0..BRANCHES).map(|number| task("branch", number));
    let workers = (0..WORKERS).map(|number| task("worker.spawn", number));
    let text = branches.chain(workers).collect::<Vec<_>>().join(" &\n");
    let begun = server.complete_turn(&event_body("beside", &format!("{text}\n@say on it"))).await?;
    let session = begun["session"].as_str().context("the answer tells no session")?;
    let open = format!("/v1/sessions/{session}/children?open=true");
    let open = server.call_api("GET", &open, &Value::Null).await?;
    let count = open["items"].as_array().map_or(0, Vec::len);
    ensure!(count == BRANCHES + WORKERS, "{count} children go on");
    server.complete_turn(&event_body("alone", "@say on it")).await?;
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        beside.push(server.timed_turn(&event_body("beside", "hello")).await?);
        alone.push(server.timed_turn(&event_body("alone", "hello")).await?);
    }
    Ok((percentile_of(beside, 95), percentile_of(alone, 95)))
}

/// Has turns spawn a worker each. Returns the p95 of the time from the end of the worker to the beginning of the turn that takes its
/// conclusion, whose first request is in the same commit. The server's times are in milliseconds.
async fn time_conclusions(server: &DromiaServer) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for number in 0..CONCLUSIONS {
        let spawn =
            format!("@tool worker.spawn {}\n@say on it", json!({"task": format!("@slow 20\n@say {number}")}));
        let begun = server.complete_turn(&event_body(&format!("taken{number}"), &spawn)).await?;
        let session = begun["session"].as_str().context("the answer tells no session")?;
        let until = Instant::now() + WAIT_MAX;
        let second = loop {
            let path = format!("/v1/runs?session={session}&status=completed");
            let runs = server.call_api("GET", &path, &Value::Null).await?;
            match runs["items"].as_array().map_or(&[][..], Vec::as_slice) {
                [second, _] => break second.clone(),
                _ => ensure!(Instant::now() < until, "no turn takes the conclusion"),
            }
            sleep(Duration::from_millis(2)).await;
        };
        let children =
            server.call_api("GET", &format!("/v1/sessions/{session}/children"), &Value::Null).await?;
        let worker = children["items"][0]["id"].as_str().context("the session has no worker")?;
        let path = format!("/v1/runs?session={worker}");
        let ended = server.call_api("GET", &path, &Value::Null).await?;
        took.push(time_of(&second["started_at"])? - time_of(&ended["items"][0]["updated_at"])?);
    }
    Ok(percentile_of(took, 95))
}

/// Reads a time as milliseconds.
fn time_of(value: &Value) -> anyhow::Result<f64> {
    let at: jiff::Timestamp = value.as_str().context("a run without a time")?.parse()?;
    Ok(at.as_duration().as_secs_f64() * 1000.0)
}
