//! P4 and P6 after many turns in many sessions: memory, and bytes on disk after the checkpoint of a clean stop.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::dromia::{COMPLETED, Home};
use crate::load::{Extent, Plan, closed_loop};
use crate::measure::{count, ratio};
use crate::report::Goal;
use crate::run::Scene;

use super::{CONNECTIONS, MEGABYTE};

const TIME_MAX: Duration = Duration::from_secs(90);

/// Measures the phase.
pub(crate) async fn measure(scene: &Scene) -> anyhow::Result<Vec<Goal>> {
    let model = scene.start("model", &["model"]).await?;
    let home = Home::make(&scene.dromia, &scene.dir, model.address()).await?;
    home.up(&scene.dir).await?.child.stop().await?;
    let before = home.bytes()?;

    let server = home.up(&scene.dir).await?;
    let requests = (0..scene.scale.sessions)
        .map(|number| server.event(&json!({"text": "hello", "wait": true, "channel": format!("c{number}")})))
        .collect::<Vec<_>>();
    let plan = Plan {
        address: server.child.address(),
        requests: requests.into(),
        expected: COMPLETED,
        connections: CONNECTIONS,
    };
    let summary = closed_loop(&plan, Extent::Count(scene.scale.turns, TIME_MAX)).await?;
    ensure!(summary.answered > 0, "no turn was answered");
    let resident = count(server.child.resident_bytes()?) / MEGABYTE;
    server.child.stop().await?;
    let bytes = ratio(count(home.bytes()?.saturating_sub(before)), count(summary.answered));

    // Fewer turns than the goal names show less than it asks, so the number is told with the figure.
    let sessions = scene.scale.sessions.min(summary.answered);
    let done = format!("after {} turns in {sessions} sessions, {} failed", summary.answered, summary.failed);
    Ok(vec![
        Goal::judged("P4.rss_turns", resident, "MB", format!("resident {done}: < 80 MB"), resident < 80.0),
        Goal::judged(
            "P6.bytes",
            bytes,
            "bytes",
            format!("on disk per short turn {done}: < 1,500"),
            bytes < 1500.0,
        ),
    ])
}
