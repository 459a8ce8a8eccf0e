//! P18: parked runs: what one costs while it rests, and what its wake-up costs; and how long spawned tasks take.
//!
//! The model refuses every call for an hour, so each run parks. A cancelled one is woken, takes the signal and ends: its caller's
//! answer comes with that commit. The runs that parked last are still in memory; those that parked first are not, and are read.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::dromia::{DromiaServer, InstanceHome};
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{count_as_f64, median, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::{CONNECTIONS, MEGABYTE};

/// The wake-ups of each kind.
const SAMPLES: usize = 100;
const PARK_TIME_MAX: Duration = Duration::from_mins(1);
/// The agents that spawn, the sessions of each, and the tasks of one session, which may have no more at a time.
const SPAWNERS: usize = 32;
const SESSIONS: usize = 4;
const TASKS: usize = 8;
const SPAWN_TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Measures the phase.
pub(crate) async fn measure_wakes(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let mut goals = measure_parked(scene).await?;
    goals.push(measure_spawned(scene).await?);
    Ok(goals)
}

async fn measure_parked(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("refusing-model", &["model", "--refuse-seconds", "3600"]).await?;
    let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, model.listen_address()).await?;
    let server = home.start_server(&scene.dir).await?;
    // What the first runs bring into memory stays, however many rest.
    park_runs(&server, 500).await?;
    let before = server.child.resident_bytes()?;
    let first = list_parked(&server, SAMPLES).await?;
    let parked = scene.scale.runs;
    park_runs(&server, parked).await?;
    let resident = count_as_f64(server.child.resident_bytes()?.saturating_sub(before)) / MEGABYTE;
    let (active, ready) = server.read_load().await?;
    let (kept_ms, kept_commits) = wake_runs(&server, &list_parked(&server, SAMPLES).await?).await?;
    let (read_ms, read_commits) = wake_runs(&server, &first).await?;
    server.child.stop_gracefully().await?;
    Ok(vec![
        BenchGoal::with_target(
            "P18.wake",
            kept_ms,
            "ms",
            format!(
                "from a signal to a parked run to its answer, p50: < 1.2 ms and one commit ({kept_commits:.2})"
            ),
            kept_ms < 1.2 && kept_commits < 1.05,
        ),
        BenchGoal::without_target(
            "P18.wake_read",
            read_ms,
            "ms",
            format!("the same where its state was not in memory; {read_commits:.2} commits"),
        )
        .with_ratio(ratio_or_zero(read_ms, kept_ms)),
        BenchGoal::with_target(
            "P18.parked",
            resident,
            "MB",
            format!(
                "more resident with {parked} parked runs: < 20 MB, no task ({active} active, {ready} ready)"
            ),
            resident < 20.0 && (active, ready) == (0, 0),
        ),
    ])
}

/// Has so many more runs park, each in a session of its own.
pub(super) async fn park_runs(server: &DromiaServer, runs: u64) -> anyhow::Result<()> {
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: [server.event_request(&json!({"text": "hello"}))].into(),
        expected: "",
        connections: CONNECTIONS,
    };
    let sent = closed_loop(&plan, LoadExtent::Count(runs, PARK_TIME_MAX)).await?;
    ensure!(sent.answered >= runs, "{} of {runs} inputs were acknowledged", sent.answered);
    let ends = Instant::now() + PARK_TIME_MAX;
    while server.read_load().await? != (0, 0) {
        ensure!(Instant::now() < ends, "some runs do not park");
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Lists the newest parked runs.
pub(super) async fn list_parked(server: &DromiaServer, runs: usize) -> anyhow::Result<Vec<String>> {
    let page = server.call_api("GET", &format!("/v1/runs?status=parked&limit={runs}"), &Value::Null).await?;
    let items = page["items"].as_array().context("a page without items")?;
    let ids = items.iter().map(|run| run["id"].as_str().map(str::to_owned));
    let ids: Vec<_> = ids.collect::<Option<_>>().context("a run without id")?;
    ensure!(ids.len() == runs, "{} of {runs} runs are parked", ids.len());
    Ok(ids)
}

/// Cancels runs, one after the other. Returns how long a wake-up takes from the acknowledged signal to the end of its run, and how
/// many commits it is.
pub(super) async fn wake_runs(server: &DromiaServer, runs: &[String]) -> anyhow::Result<(f64, f64)> {
    let before = server.writer_totals().await?.commits;
    let mut took = Vec::new();
    for run in runs {
        let path = format!("/v1/runs/{run}");
        server.call_api("POST", &format!("{path}/cancel"), &json!({})).await?;
        let began = Instant::now();
        let ends = began + Duration::from_secs(5);
        while server.call_api("GET", &path, &Value::Null).await?["status"] != "cancelled" {
            ensure!(Instant::now() < ends, "{run} is not woken");
        }
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let commits = server.writer_totals().await?.commits - before;
    // The signal is a commit of its own.
    let each = count_as_f64(commits) / count_as_f64(runs.len() as u64) - 1.0;
    Ok((median(&took), each))
}

/// Has agents spawn tasks, all at once, and waits for the end of the last one.
async fn measure_spawned(scene: &PhaseContext) -> anyhow::Result<BenchGoal> {
    let configuration = json!({"models": {"default": {"kind": "scripted"}}});
    let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &configuration).await?;
    let server = home.start_server(&scene.dir).await?;
    for spawner in 0..SPAWNERS {
        let config = json!({"model": "default", "grants": ["model", "reply", "worker.spawn"]});
        let agent = json!({"handle": format!("lead-{spawner}"), "config": config});
        server.call_api("POST", "/v1/agents", &agent).await?;
    }
    // Each is another call, because a run may not repeat one so often.
    let task = |number| format!("@tool worker.spawn {}", json!({"task": format!("@say done {number}")}));
    let text = (0..TASKS).map(task).collect::<Vec<_>>().join(" &\n");
    let request = |spawner| server.event_request(&json!({"text": text, "agent": format!("lead-{spawner}")}));
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: (0..SPAWNERS).map(request).collect(),
        expected: "",
        connections: SPAWNERS,
    };
    let began = Instant::now();
    closed_loop(&plan, LoadExtent::Count((SPAWNERS * SESSIONS) as u64, SPAWN_TIME_MAX)).await?;
    let wanted = SPAWNERS * SESSIONS * TASKS;
    let ends = began + SPAWN_TIME_MAX;
    // Idle is a hint; the listing is the proof, and its time is not counted.
    let took = loop {
        let idle = server.read_load().await? == (0, 0);
        let took = began.elapsed().as_secs_f64();
        let ended = if idle { count_ended_tasks(&server).await? } else { 0 };
        if ended >= wanted {
            break took;
        }
        ensure!(Instant::now() < ends, "{ended} of {wanted} tasks ended in {SPAWN_TIME_MAX:?}");
        sleep(LOOK_EVERY).await;
    };
    server.child.stop_gracefully().await?;
    let goal = format!(
        "{wanted} tasks that the runs of {SPAWNERS} agents spawn, until nothing of them is left to do: < 3 s"
    );
    Ok(BenchGoal::with_target("P18.spawned", took, "s", goal, took < 3.0))
}

/// Counts the tasks that completed.
async fn count_ended_tasks(server: &DromiaServer) -> anyhow::Result<usize> {
    let (mut ended, mut after) = (0, String::new());
    loop {
        let path = format!("/v1/runs?status=completed&limit=256{after}");
        let page = server.call_api("GET", &path, &Value::Null).await?;
        let items = page["items"].as_array().context("a page without items")?;
        ended += items.iter().filter(|run| run["kind"] == "worker").count();
        let Some(next) = page["next"].as_str() else { return Ok(ended) };
        after = format!("&after={next}");
    }
}
