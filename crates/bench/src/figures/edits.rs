//! P16: how long an edit of `dromia.yaml` takes to count on a server under load, and what the edits lose.
//!
//! Several servers are edited at the same time, each as soon as its last edit counts, while clients ask all of them. An edit is
//! measured from the rename that puts the file there until the status names another configuration.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::dromia::{COMPLETED, DromiaServer, InstanceHome};
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{LatencyRecorder, LoadSummary, count_as_f64};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// How many servers are edited at the same time.
const SERVERS: u64 = 4;

/// How many clients ask each of them.
const CLIENTS: usize = 4;

/// The shortest time that an edit takes.
const EDIT_TIME_MIN: Duration = Duration::from_millis(600);

/// The longest time that an edit may take.
const EDIT_TIME_MAX: Duration = Duration::from_secs(30);

/// The goal.
const P99_MS_MAX: f64 = 2_500.0;

/// How often the status is read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures the phase.
pub(crate) async fn measure_edits(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let edits = scene.scale.edits.div_ceil(SERVERS);
    let edit = || Box::pin(edit_server(scene, edits));
    let (first, second, third, fourth) = tokio::try_join!(edit(), edit(), edit(), edit())?;
    let (mut latencies, mut answered, mut lost) = (LatencyRecorder::default(), 0, 0);
    for (of_edits, load) in [first, second, third, fourth] {
        latencies.merge_from(of_edits);
        answered += load.answered;
        lost += load.failed;
    }
    let edits = latencies.into_summary(Duration::from_secs(1));
    let took = format!(
        "an edit counts, p99 of {} on {SERVERS} servers under load: < 2.5 s (p50 {:.0} ms)",
        edits.answered, edits.p50_ms
    );
    let what = format!("of {answered} requests meanwhile were not answered: 0");
    Ok(vec![
        BenchGoal::with_target("P16", edits.p99_ms, "ms", took, edits.p99_ms < P99_MS_MAX),
        BenchGoal::with_target("P16.lost", count_as_f64(lost), "requests", what, lost == 0 && answered > 0),
    ])
}

/// Edits one server so often, and returns how long that took and what its clients saw meanwhile.
async fn edit_server(scene: &PhaseContext, edits: u64) -> anyhow::Result<(LatencyRecorder, LoadSummary)> {
    let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &configuration(0)).await?;
    let server = home.start_server(&scene.dir).await?;
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: [server.hello_request()].into(),
        expected: COMPLETED,
        connections: CLIENTS,
    };
    let edit = async {
        let mut latencies = LatencyRecorder::default();
        for number in 1..=edits {
            latencies.record_answer(time_edit(&home, &server, number).await?);
        }
        anyhow::Ok(latencies)
    };
    // An edit takes two looks of the server at least, so the load ends before the edits do.
    let load = closed_loop(&plan, LoadExtent::For(EDIT_TIME_MIN * u32::try_from(edits)?));
    let measured = tokio::try_join!(edit, load)?;
    server.child.kill().await?;
    Ok(measured)
}

/// A configuration that no other number has.
fn configuration(number: u64) -> Value {
    json!({
        "models": {"default": {"kind": "scripted"}},
        "engine": {"output_tokens_max": 1_000 + number},
    })
}

/// Edits the file as an editor does, by a rename; returns how long it took to count.
async fn time_edit(home: &InstanceHome, server: &DromiaServer, number: u64) -> anyhow::Result<Duration> {
    let read_digest = async || {
        let status = server.call_api("GET", "/v1/status", &Value::Null).await?;
        anyhow::Ok(status["config"]["digest"].clone())
    };
    let (path, new) = (home.dir_path().join("dromia.yaml"), home.dir_path().join("dromia.yaml.new"));
    let before = read_digest().await?;
    std::fs::write(&new, configuration(number).to_string())?;
    std::fs::rename(new, path)?;
    let began = Instant::now();
    while read_digest().await? == before {
        ensure!(began.elapsed() < EDIT_TIME_MAX, "edit {number} does not count");
        sleep(LOOK_EVERY).await;
    }
    Ok(began.elapsed())
}
