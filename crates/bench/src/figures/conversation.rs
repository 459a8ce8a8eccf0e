//! P6 in one long conversation: bytes per turn stay flat, and a late turn costs no more than an early one whose
//! model request is as large.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::child::Child;
use crate::dromia::{COMPLETED, Home, Server};
use crate::http;
use crate::load::{Extent, Plan, closed_loop};
use crate::measure::{count, median, ratio};
use crate::report::Goal;
use crate::run::Scene;

/// The turns of the conversation before the late ones.
const TURNS: u64 = 1000;
/// Late turns, and early ones, that are measured.
const SAMPLES: usize = 20;
/// Turns before the early one.
const EARLY: usize = 9;
const TIME_MAX: Duration = Duration::from_mins(1);

/// Measures the phase.
pub(crate) async fn measure(scene: &Scene) -> anyhow::Result<Vec<Goal>> {
    let model = scene.start("model", &["model"]).await?;
    let home = Home::make(&scene.dromia, &scene.dir, model.address()).await?;
    home.up(&scene.dir).await?.child.stop().await?;
    let begun = home.bytes()?;
    let half = first_turns(scene, &home).await?;
    let whole = first_turns(scene, &home).await?;
    let per_turn = |from: u64, to: u64| ratio(count(to.saturating_sub(from)), count(TURNS / 2));
    let (first, second) = (per_turn(begun, half), per_turn(half, whole));
    let growth = ratio(second, first);

    let server = home.up(&scene.dir).await?;
    let (late, early, large) = turns(&server, &model).await?;
    server.child.stop().await?;
    let slower = ratio(late, early);
    let flat = "on disk per turn 501-1,000, over that of turn 1-500: flat, <= 1.2";
    let alike = format!("turn 1,000 over turn 10, both with a request of {large} bytes, p50: <= 1.2");
    Ok(vec![
        Goal::judged("P6.flat", second, "bytes", flat, first > 0.0 && growth <= 1.2).over(growth),
        Goal::judged("P6.late", late, "ms", alike, early > 0.0 && slower <= 1.2).over(slower),
    ])
}

/// Goes on with the conversation for half of its turns; returns the bytes on disk afterwards.
async fn first_turns(scene: &Scene, home: &Home) -> anyhow::Result<u64> {
    let server = home.up(&scene.dir).await?;
    let plan = Plan {
        address: server.child.address(),
        requests: [server.event(&event("long", "hello"))].into(),
        expected: COMPLETED,
        connections: 1,
    };
    let summary = closed_loop(&plan, Extent::Count(TURNS / 2, TIME_MAX)).await?;
    ensure!(summary.answered == TURNS / 2, "{} of {} turns were answered", summary.answered, TURNS / 2);
    server.child.stop().await?;
    home.bytes()
}

fn event(channel: &str, text: &str) -> Value {
    json!({"text": text, "wait": true, "channel": channel})
}

/// Times late turns and early ones in turn, so that both meet the same minutes and the same warm program. A young session is
/// filled so that its tenth turn's request is as large as a late one's. Returns the medians, and how large that is.
async fn turns(server: &Server, model: &Child) -> anyhow::Result<(f64, f64, u64)> {
    server.turn(&event("size", "hello")).await?;
    let small = request_bytes(model).await?;
    // The first one reads the conversation back, which is a start's cost and not a late turn's.
    server.turn(&event("long", "hello")).await?;
    let large = request_bytes(model).await?;
    let filling = usize::try_from(large.saturating_sub(small))? / EARLY;
    let filler = "x".repeat(filling.max(1));
    let (mut late, mut early) = (Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        let channel = format!("early{number}");
        for _ in 0..EARLY {
            server.turn(&event(&channel, &filler)).await?;
        }
        early.push(server.timed_turn(&event(&channel, "hello")).await?);
        // As an early one, it comes after a turn of its own session.
        server.turn(&event("long", "hello")).await?;
        late.push(server.timed_turn(&event("long", "hello")).await?);
    }
    Ok((median(&late), median(&early), large))
}

async fn request_bytes(model: &Child) -> anyhow::Result<u64> {
    let stats = http::call(model.address(), "GET", "/stats", None, "").await?;
    stats["request_bytes_last"].as_u64().context("the model server tells no size")
}
