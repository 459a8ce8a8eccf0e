//! P8: a kill with many runs in flight, and how long the next start needs to bring them on.
//!
//! Every input is acknowledged and its run waits for a model that takes its time; then the server is killed, and
//! started again with a fast model. The phase reports two times: until every run has an entry that it had not at the
//! kill, and until the last one has ended.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::dromia::{DromiaServer, InstanceHome};
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::CONNECTIONS;

const SUBMIT_TIME_MAX: Duration = Duration::from_secs(40);
const RESTART_TIME_MAX: Duration = Duration::from_mins(1);
/// How often the server is polled: often enough to time seconds, seldom enough to cost little.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PAGE: usize = 256;

/// How many runs must be able to be active so that one tenant may have so many: it takes no more than seven of eight slots.
const fn slots_needed(runs: u64) -> u64 {
    runs + runs.div_ceil(7) + 1
}

/// Measures the phase.
pub(crate) async fn measure_restart(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let slow = scene.start_own_server("slow-model", &["model", "--delay-ms", "600000"]).await?;
    let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, slow.listen_address()).await?;
    home.write_config(slow.listen_address(), Some(slots_needed(scene.scale.runs)))?;
    let server = home.start_server(&scene.dir).await?;
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: [server.event_request(&json!({"text": "hello"}))].into(),
        expected: "",
        connections: CONNECTIONS,
    };
    let submitted = closed_loop(&plan, LoadExtent::Count(scene.scale.runs, SUBMIT_TIME_MAX)).await?.answered;
    ensure!(submitted > 0, "no input was acknowledged");
    let at_kill = read_run_progress(&server).await?;
    server.child.kill().await?;
    slow.kill().await?;

    let fast = scene.start_own_server("fast-model", &["model"]).await?;
    home.write_config(fast.listen_address(), Some(slots_needed(scene.scale.runs)))?;
    let server = home.start_server(&scene.dir).await?;
    let moved = time_to_movement(&server, &at_kill).await?;
    let ended = time_to_completion(&server, submitted).await?;
    server.child.stop_gracefully().await?;
    let in_flight = at_kill.len();
    let goal = format!("start to the next entry of each of {in_flight} runs in flight at the kill: < 5 s");
    Ok(vec![
        BenchGoal::with_target("P8", moved, "s", goal, in_flight > 0 && moved < 5.0),
        BenchGoal::without_target("P8.ended", ended, "s", "start to the end of the last of them"),
    ])
}

/// Reads how far each open run has come.
async fn read_run_progress(server: &DromiaServer) -> anyhow::Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    let mut after = String::new();
    loop {
        let (page, next) = read_run_page(server, "running", &after).await?;
        found.extend(page);
        let Some(next) = next else { return Ok(found) };
        after = next;
    }
}

/// Reads a page of runs with their last entries, and how to ask for the next one.
async fn read_run_page(
    server: &DromiaServer,
    status: &str,
    after: &str,
) -> anyhow::Result<(Vec<(String, u64)>, Option<String>)> {
    let path = format!("/v1/runs?status={status}&limit={PAGE}{after}");
    let page = server.call_api("GET", &path, &Value::Null).await?;
    let items = page["items"].as_array().context("a page without items")?;
    let runs = items.iter().map(|run| Some((run["id"].as_str()?.to_owned(), run["last_seq"].as_u64()?)));
    let runs = runs.collect::<Option<_>>().context("a run without id or entries")?;
    Ok((runs, page["next"].as_str().map(|next| format!("&after={next}"))))
}

async fn time_to_movement(server: &DromiaServer, at_kill: &HashMap<String, u64>) -> anyhow::Result<f64> {
    let deadline = Instant::now() + RESTART_TIME_MAX;
    let mut after = String::new();
    loop {
        let at = server.child.started_at().elapsed();
        let (page, next) = read_run_page(server, "running", &after).await?;
        let still = page.iter().any(|(run, last)| at_kill.get(run) == Some(last));
        match (still, next) {
            // A run that moved on never goes back, so earlier pages need not be read again.
            (false, Some(next)) => after = next,
            (false, None) => return Ok(at.as_secs_f64()),
            (true, _) if Instant::now() > deadline => bail!("some runs did not move in {RESTART_TIME_MAX:?}"),
            (true, _) => sleep(LOOK_EVERY).await,
        }
    }
}

async fn time_to_completion(server: &DromiaServer, submitted: u64) -> anyhow::Result<f64> {
    let deadline = Instant::now() + RESTART_TIME_MAX;
    loop {
        let at = server.child.started_at().elapsed();
        let idle = server.read_load().await? == (0, 0);
        // Idle is a hint; the listing is the proof, and its time is not Dromia's.
        if idle && count_completed(server).await? >= submitted {
            return Ok(at.as_secs_f64());
        }
        if Instant::now() > deadline {
            let completed = count_completed(server).await?;
            bail!("{completed} of {submitted} acknowledged inputs were answered within {RESTART_TIME_MAX:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn count_completed(server: &DromiaServer) -> anyhow::Result<u64> {
    let mut completed = 0;
    let mut after = String::new();
    loop {
        let (page, next) = read_run_page(server, "completed", &after).await?;
        completed += page.len() as u64;
        let Some(next) = next else { return Ok(completed) };
        after = next;
    }
}
