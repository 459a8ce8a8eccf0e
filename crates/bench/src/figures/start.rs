//! P4 at the start: from the spawn to the first served turn, memory then, and the size of the binary.

use serde_json::json;

use crate::dromia::InstanceHome;
use crate::measure::{count_as_f64, median};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::MEGABYTE;

const STARTS: usize = 5;

/// The largest binary, in megabytes.
const BINARY_MAX: f64 = 60.0;

/// Measures the phase.
pub(crate) async fn measure_start(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("model", &["model"]).await?;
    let (mut cold, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, model.listen_address()).await?;
        let server = home.start_server(&scene.dir).await?;
        server.complete_turn(&json!({"text": "hello", "wait": true})).await?;
        cold.push(server.child.started_at().elapsed().as_secs_f64() * 1000.0);
        resident.push(count_as_f64(server.child.resident_bytes()?) / MEGABYTE);
        server.child.stop_gracefully().await?;
    }
    let (cold, resident) = (median(&cold), median(&resident));
    let binary = count_as_f64(std::fs::metadata(&scene.dromia)?.len()) / MEGABYTE;
    Ok(vec![
        BenchGoal::with_target(
            "P4.cold_start",
            cold,
            "ms",
            "spawn to first served turn: < 100 ms",
            cold < 100.0,
        ),
        BenchGoal::with_target(
            "P4.rss_start",
            resident,
            "MB",
            "resident after the first turn: < 40 MB",
            resident < 40.0,
        ),
        BenchGoal::with_target(
            "P4.binary",
            binary,
            "MB",
            format!("size of the binary: <= {BINARY_MAX} MB"),
            binary <= BINARY_MAX,
        ),
    ])
}
