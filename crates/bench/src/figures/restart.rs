//! P8: a kill with many runs in flight, and how long the next start needs to bring them on.
//!
//! The inputs are acknowledged while the model takes its time; then the server is killed, and started again with a
//! fast model. What is timed is stricter than the goal: not each run's next entry but the end of every run.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::dromia::{Home, Server};
use crate::load::{Extent, Plan, closed_loop};
use crate::report::Goal;
use crate::run::Scene;

use super::CONNECTIONS;

const SUBMIT_TIME_MAX: Duration = Duration::from_secs(40);
const RESTART_TIME_MAX: Duration = Duration::from_mins(1);
/// How often the status is looked at: often enough to time seconds, seldom enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PAGE: usize = 256;

/// Measures the phase.
pub(crate) async fn measure(scene: &Scene) -> anyhow::Result<Vec<Goal>> {
    let slow = scene.start("slow-model", &["model", "--delay-ms", "600000"]).await?;
    let home = Home::make(&scene.dromia, &scene.dir, slow.address()).await?;
    let server = home.up(&scene.dir).await?;
    let plan = Plan {
        address: server.child.address(),
        requests: [server.event(&json!({"text": "hello"}))].into(),
        expected: "",
        connections: CONNECTIONS,
    };
    let submitted = closed_loop(&plan, Extent::Count(scene.scale.runs, SUBMIT_TIME_MAX)).await?.answered;
    ensure!(submitted > 0, "no input was acknowledged");
    let (active, ready) = server.load().await?;
    server.child.kill().await?;
    slow.kill().await?;

    let fast = scene.start("fast-model", &["model"]).await?;
    home.set_model(fast.address())?;
    let server = home.up(&scene.dir).await?;
    let seconds = time_to_completion(&server, submitted).await?;
    server.child.stop().await?;
    let goal = format!(
        "start to the end of each of {submitted} acknowledged inputs ({active} active, {ready} ready at the kill): \
         < 5 s"
    );
    Ok(vec![Goal::judged("P8", seconds, "s", goal, seconds < 5.0)])
}

async fn time_to_completion(server: &Server, submitted: u64) -> anyhow::Result<f64> {
    let deadline = Instant::now() + RESTART_TIME_MAX;
    loop {
        let at = server.child.started().elapsed();
        let idle = server.load().await? == (0, 0);
        // Idle is a hint; the listing is the proof, and its time is not Dromia's.
        if idle && completed(server).await? >= submitted {
            return Ok(at.as_secs_f64());
        }
        if Instant::now() > deadline {
            let completed = completed(server).await?;
            bail!("{completed} of {submitted} acknowledged inputs were answered within {RESTART_TIME_MAX:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn completed(server: &Server) -> anyhow::Result<u64> {
    let mut completed = 0;
    let mut after = String::new();
    loop {
        let path = format!("/v1/runs?status=completed&limit={PAGE}{after}");
        let page = server.call("GET", &path, &Value::Null).await?;
        completed += page["items"].as_array().context("a page without items")?.len() as u64;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(completed),
        }
    }
}
