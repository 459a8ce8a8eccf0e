//! P6 in one long conversation: bytes per turn stay flat, and a late turn costs no more than an early one whose
//! model request is as large.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::child::ServerProcess;
use crate::dromia::{COMPLETED, DromiaServer, InstanceHome};
use crate::http;
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{count_as_f64, median, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// The turns of the conversation before the late ones.
const TURNS: u64 = 1000;
/// Late turns, and early ones, that are measured.
const SAMPLES: usize = 20;
/// Turns before the early one.
const EARLY: usize = 9;
const TIME_MAX: Duration = Duration::from_mins(1);

/// Measures the phase.
pub(crate) async fn measure_conversation(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("model", &["model"]).await?;
    let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, model.listen_address()).await?;
    home.start_server(&scene.dir).await?.child.stop_gracefully().await?;
    let begun = home.size_bytes()?;
    let half = first_turns(scene, &home).await?;
    let whole = first_turns(scene, &home).await?;
    let per_turn =
        |from: u64, to: u64| ratio_or_zero(count_as_f64(to.saturating_sub(from)), count_as_f64(TURNS / 2));
    let (first, second) = (per_turn(begun, half), per_turn(half, whole));
    let growth = ratio_or_zero(second, first);

    let server = home.start_server(&scene.dir).await?;
    let (late, early, large) = time_turns(&server, &model).await?;
    server.child.stop_gracefully().await?;
    let slower = ratio_or_zero(late, early);
    let flat = "on disk per turn 501-1,000, over that of turn 1-500: flat, <= 1.2";
    let alike = format!("turn 1,000 over turn 10, both with a request of {large} bytes, p50: <= 1.2");
    Ok(vec![
        BenchGoal::with_target("P6.flat", second, "bytes", flat, first > 0.0 && growth <= 1.2)
            .with_ratio(growth),
        BenchGoal::with_target("P6.late", late, "ms", alike, early > 0.0 && slower <= 1.2).with_ratio(slower),
    ])
}

/// Goes on with the conversation for half of its turns; returns the bytes on disk afterwards.
async fn first_turns(scene: &PhaseContext, home: &InstanceHome) -> anyhow::Result<u64> {
    let server = home.start_server(&scene.dir).await?;
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: [server.event_request(&event_body("long", "hello"))].into(),
        expected: COMPLETED,
        connections: 1,
    };
    let summary = closed_loop(&plan, LoadExtent::Count(TURNS / 2, TIME_MAX)).await?;
    ensure!(summary.answered == TURNS / 2, "{} of {} turns were answered", summary.answered, TURNS / 2);
    server.child.stop_gracefully().await?;
    home.size_bytes()
}

fn event_body(channel: &str, text: &str) -> Value {
    json!({"text": text, "wait": true, "channel": channel})
}

/// Times late turns and early ones in turn, so that both meet the same minutes and the same warm program. A young session is
/// filled so that its tenth turn's request is as large as a late one's. Returns the medians, and how large that is.
async fn time_turns(server: &DromiaServer, model: &ServerProcess) -> anyhow::Result<(f64, f64, u64)> {
    server.complete_turn(&event_body("size", "hello")).await?;
    let small = request_bytes(model).await?;
    // The first one reads the conversation back, which is a start's cost and not a late turn's.
    server.complete_turn(&event_body("long", "hello")).await?;
    let large = request_bytes(model).await?;
    let filling = usize::try_from(large.saturating_sub(small))? / EARLY;
    let filler = "x".repeat(filling.max(1));
    let (mut late, mut early) = (Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        let channel = format!("early{number}");
        for _ in 0..EARLY {
            server.complete_turn(&event_body(&channel, &filler)).await?;
        }
        early.push(server.timed_turn(&event_body(&channel, "hello")).await?);
        // As an early one, it comes after a turn of its own session.
        server.complete_turn(&event_body("long", "hello")).await?;
        late.push(server.timed_turn(&event_body("long", "hello")).await?);
    }
    Ok((median(&late), median(&early), large))
}

async fn request_bytes(model: &ServerProcess) -> anyhow::Result<u64> {
    let stats = http::call_json(model.listen_address(), "GET", "/stats", None, "").await?;
    stats["request_bytes_last"].as_u64().context("the model server tells no size")
}
