//! R13: how much is answered where far more clients ask than are let in, and each asks again as soon as it is refused.
//!
//! The peak is the best rate that fewer connections reach on the same server just before. No client heeds `Retry-After`.

use std::time::Duration;

use serde_json::json;

use crate::dromia::{COMPLETED, InstanceHome};
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{count_as_f64, median, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// How many connections ask for the peak.
const PEAK_CONNECTIONS: [usize; 2] = [64, 512];

/// How many clients ask at a time in the end: more than one token may have requests in flight.
const CLIENTS: usize = 2_600;

/// How long each load lasts.
const LOAD_TIME: Duration = Duration::from_secs(5);

/// The least part of the peak that is left.
const GOODPUT_MIN: f64 = 0.8;

/// Measures the phase.
pub(crate) async fn measure_goodput(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let models = json!({"models": {"default": {"kind": "scripted"}}});
    let home = InstanceHome::create_with_config(&scene.dromia, &scene.dir, &models).await?;
    let server = home.start_server(&scene.dir).await?;
    let load = async |connections| {
        let plan = LoadPlan {
            address: server.child.listen_address(),
            requests: [server.hello_request()].into(),
            expected: COMPLETED,
            connections,
        };
        closed_loop(&plan, LoadExtent::For(LOAD_TIME)).await
    };
    load(PEAK_CONNECTIONS[0]).await?;
    let (mut rates, mut ratios, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scene.scale.rounds {
        let mut peak: f64 = 0.0;
        for connections in PEAK_CONNECTIONS {
            peak = peak.max(load(connections).await?.rate);
        }
        let crowd = load(CLIENTS).await?;
        rates.push(crowd.rate);
        ratios.push(ratio_or_zero(crowd.rate, peak));
        refusals.push(ratio_or_zero(count_as_f64(crowd.failed), crowd.seconds));
    }
    server.child.kill().await?;
    let left = median(&ratios);
    let what = format!(
        "turns that {CLIENTS} clients have answered who heed no refusal: >= 80 % of the peak; {:.0} refusals a second",
        median(&refusals)
    );
    Ok(vec![
        BenchGoal::with_target("R13.goodput", median(&rates), "turns/s", what, left >= GOODPUT_MIN)
            .with_ratio(left),
    ])
}
