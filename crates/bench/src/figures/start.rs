//! P4 at the start: from the spawn to the first served turn, memory then, and the size of the binary.

use serde_json::json;

use crate::dromia::Home;
use crate::measure::{count, median};
use crate::report::Goal;
use crate::run::Scene;

use super::MEGABYTE;

const STARTS: usize = 5;

/// Measures the phase.
pub(crate) async fn measure(scene: &Scene) -> anyhow::Result<Vec<Goal>> {
    let model = scene.start("model", &["model"]).await?;
    let (mut cold, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let home = Home::make(&scene.dromia, &scene.dir, model.address()).await?;
        let server = home.up(&scene.dir).await?;
        server.turn(&json!({"text": "hello", "wait": true})).await?;
        cold.push(server.child.started().elapsed().as_secs_f64() * 1000.0);
        resident.push(count(server.child.resident_bytes()?) / MEGABYTE);
        server.child.stop().await?;
    }
    let (cold, resident) = (median(&cold), median(&resident));
    let binary = count(std::fs::metadata(&scene.dromia)?.len()) / MEGABYTE;
    Ok(vec![
        Goal::judged("P4.cold_start", cold, "ms", "spawn to first served turn: < 100 ms", cold < 100.0),
        Goal::judged(
            "P4.rss_start",
            resident,
            "MB",
            "resident after the first turn: < 40 MB",
            resident < 40.0,
        ),
        Goal::printed("P4.binary", binary, "MB", "size of the binary"),
    ])
}
