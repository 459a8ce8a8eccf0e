//! P15: turns while the home of a running server is backed up, over turns alone.
//!
//! Backups follow one another for as long as turns are measured, so that each turn has one beside it.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use crate::dromia::{COMPLETED, InstanceHome};
use crate::load::{LoadExtent, LoadPlan, closed_loop};
use crate::measure::{count_as_f64, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::MEGABYTE;

/// How long turns are measured: the last part of a backup, which syncs it, must lie within.
const TIME: Duration = Duration::from_secs(10);
const RATIO_MAX: f64 = 2.0;

/// Measures it in a home with much in its store.
pub(super) async fn measure_backup(scene: &PhaseContext, home: &InstanceHome) -> anyhow::Result<BenchGoal> {
    let server = home.start_server(&scene.dir).await?;
    let plan = LoadPlan {
        address: server.child.listen_address(),
        requests: [server.hello_request()].into(),
        expected: COMPLETED,
        connections: 1,
    };
    let sample_turns = || closed_loop(&plan, LoadExtent::For(TIME));
    let alone = sample_turns().await?;
    let to = tempfile::tempdir_in(&scene.dir)?;
    let file = to.path().join("home.tar");
    let (mut backups, mut bytes) = (0, 0);
    let under = tokio::select! {
        under = sample_turns() => under?,
        ended = repeat_backups(home, &file, &mut backups, &mut bytes) => match ended? {},
    };
    let over = ratio_or_zero(under.p99_ms, alone.p99_ms);
    let met = over <= RATIO_MAX && under.failed == 0 && under.answered > 0 && backups > 0;
    let goal = format!(
        "a turn beside {backups} backups of {:.0} MB: p99 at most 2x of {:.2} ms alone; p50 {:.2} over {:.2} ms",
        count_as_f64(bytes) / MEGABYTE,
        alone.p99_ms,
        under.p50_ms,
        alone.p50_ms,
    );
    server.child.stop_gracefully().await?;
    Ok(BenchGoal::with_target("P15.backup", under.p99_ms, "ms", goal, met).with_ratio(over))
}

/// Backs a home up again and again; counts, and says how large the last one is.
async fn repeat_backups(
    home: &InstanceHome,
    to: &Path,
    backups: &mut u64,
    bytes: &mut u64,
) -> anyhow::Result<Infallible> {
    let name = to.to_string_lossy();
    loop {
        home.run_command(&["backup", "create", &name]).await?;
        *backups += 1;
        *bytes = std::fs::metadata(to)?.len();
        std::fs::remove_file(to)?;
    }
}
