//! P4 and P6 after many turns in many sessions: memory, and bytes on disk after the checkpoint of a clean stop. What those
//! turns left is what P14 lists and P15 backs up.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::dromia::{COMPLETED, InstanceHome};
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{count_as_f64, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::backup::measure_backup;
use super::lists::measure_lists;
use super::{CONNECTIONS, MEGABYTE};

const TIME_MAX: Duration = Duration::from_secs(90);

/// Measures the phase.
pub(crate) async fn measure_turns(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("model", &["model"]).await?;
    let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, model.listen_address()).await?;
    home.start_server(&scene.dir).await?.child.stop_gracefully().await?;
    let before = home.size_bytes()?;

    let server = home.start_server(&scene.dir).await?;
    let requests = (0..scene.scale.sessions)
        .map(|number| {
            server.event_request(&json!({"text": "hello", "wait": true, "channel": format!("c{number}")}))
        })
        .collect::<Vec<_>>();
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: requests.into(),
        expected: COMPLETED,
        connections: CONNECTIONS,
    };
    let summary = closed_loop(&plan, LoadExtent::Count(scene.scale.turns, TIME_MAX)).await?;
    ensure!(summary.answered > 0, "no turn was answered");
    let resident = count_as_f64(server.child.resident_bytes()?) / MEGABYTE;
    server.child.stop_gracefully().await?;
    let bytes = ratio_or_zero(
        count_as_f64(home.size_bytes()?.saturating_sub(before)),
        count_as_f64(summary.answered),
    );

    // Fewer turns than the goal names show less than it asks, so the note gives the number of turns.
    let sessions = scene.scale.sessions.min(summary.answered);
    let done = format!("after {} turns in {sessions} sessions, {} failed", summary.answered, summary.failed);
    let lists = measure_lists(scene, &home, summary.answered).await?;
    let backup = measure_backup(scene, &home).await?;
    let goals = vec![
        BenchGoal::with_target(
            "P4.rss_turns",
            resident,
            "MB",
            format!("resident {done}: < 80 MB"),
            resident < 80.0,
        ),
        BenchGoal::with_target(
            "P6.bytes",
            bytes,
            "bytes",
            format!("on disk per short turn {done}: < 1,500"),
            bytes < 1500.0,
        ),
    ];
    Ok(goals.into_iter().chain(lists).chain([backup]).collect())
}
