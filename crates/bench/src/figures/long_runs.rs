//! P18 in a run with thousands of attempts: a late wake-up costs what an early one does, from memory and from a checkpoint.
//!
//! The attempts are written through the store before the start: copies of the first one, which the model refused. The start wakes
//! the runs, each of which is refused once more and parks with a checkpoint.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dromia_contracts::run::RunHead;
use dromia_contracts::scope::ScopeAuthority;
use dromia_contracts::store::{
    CommitOutcome, Mutation, NewEntry, PageRequest, RunAppend, Store as _, WriteBatch,
};
use dromia_contracts::{Actor, RunId, Scope};
use dromia_store::{SqliteStore, StoreConfig};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::wakes::{list_parked, park_runs, wake_runs};
use crate::dromia::{DromiaServer, InstanceHome};
use crate::measure::ratio_or_zero;
use crate::report::BenchGoal;
use crate::run::PhaseContext;

/// The runs with few attempts, and those with many.
const RUNS: usize = 12;
const FEW: u64 = 10;
const MANY: u64 = 9_000;
/// Attempts in one batch, of three entries each.
const BATCH: u64 = 80;
const PARK_TIME_MAX: Duration = Duration::from_mins(1);

/// Measures the phase.
pub(crate) async fn measure_long_runs(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("refusing-model", &["model", "--refuse-seconds", "3600"]).await?;
    let base_url = format!("http://{}/v1", model.listen_address());
    let home = InstanceHome::create_with_config(
        &scene.dromia,
        &scene.dir,
        &json!({
            "models": {"default": {"kind": "openai", "base_url": base_url, "model": "scripted", "stream": false}},
            "engine": {"model_calls_max": 2 * MANY},
        }),
    )
    .await?;
    let server = home.start_server(&scene.dir).await?;
    park_runs(&server, 2 * RUNS as u64).await?;
    let ids = list_parked(&server, 2 * RUNS).await?;
    server.child.stop_gracefully().await?;
    let (early, late) = ids.split_at(RUNS);
    let store = SqliteStore::open(StoreConfig::new(home.find_store_dir()?))?;
    for (runs, attempts) in [(early, FEW), (late, MANY)] {
        for run in runs {
            append_attempts(&store, run, attempts).await?;
        }
    }
    drop(store);

    let server = home.start_server(&scene.dir).await?;
    await_attempts(&server, &ids).await?;
    let (early_ms, _) = wake_runs(&server, &early[..RUNS / 2]).await?;
    let (late_ms, late_commits) = wake_runs(&server, &late[..RUNS / 2]).await?;
    server.child.stop_gracefully().await?;
    let server = home.start_server(&scene.dir).await?;
    let (early_read, _) = wake_runs(&server, &early[RUNS / 2..]).await?;
    let (late_read, _) = wake_runs(&server, &late[RUNS / 2..]).await?;
    server.child.stop_gracefully().await?;
    let over = ratio_or_zero(late_ms, early_ms);
    Ok(vec![
        BenchGoal::with_target(
            "P18.late",
            late_ms,
            "ms",
            format!(
                "a wake-up after {MANY} attempts: <= 1.2x of one after {FEW}, one commit ({late_commits:.2})"
            ),
            over <= 1.2 && late_commits < 1.05,
        )
        .with_ratio(over),
        BenchGoal::without_target(
            "P18.late_read",
            late_read,
            "ms",
            "the same after a restart, by the checkpoint",
        )
        .with_ratio(ratio_or_zero(late_read, early_read)),
    ])
}

/// Repeats the first attempt of a parked run until there are so many, and has the run wake at the next start.
async fn append_attempts(store: &SqliteStore, run: &str, attempts: u64) -> anyhow::Result<()> {
    let (run, scope) = (run.parse::<RunId>()?, find_scope(store).await?);
    let row = store.run(&scope, run).await?.context("the run is gone")?;
    let journal = store.journal_entries(&scope, run, 1, 3).await?;
    let mut attempt = Vec::new();
    for stored in &journal {
        attempt.push(NewEntry { at: stored.at, entry: stored.decode()?, body: None });
    }
    ensure!(attempt.len() == 3, "an attempt is called, failed and parked: {journal:?}");
    let mut after = row.last_seq;
    let mut done = 1;
    while done < attempts {
        let next = BATCH.min(attempts - done);
        done += next;
        let entries: Vec<_> = (0..next).flat_map(|_| attempt.iter().cloned()).collect();
        let head =
            RunHead { wake_at: Some(Timestamp::UNIX_EPOCH), model_calls: u32::try_from(done)?, ..row.head };
        let added = entries.len() as u64;
        let append = RunAppend { run, epoch: row.epoch, after, entries, head, checkpoint: None };
        let batch = WriteBatch::new(scope.tenant()).with_mutation(Mutation::RunAppend(append));
        match store.commit(batch).await {
            CommitOutcome::Done(_) => after += added,
            answer => bail!("the store did not write attempts: {answer:?}"),
        }
    }
    Ok(())
}

async fn find_scope(store: &SqliteStore) -> anyhow::Result<Scope> {
    let authority = ScopeAuthority::claim();
    let tenants = store.tenants(&authority.issue_operator(), PageRequest::first_page(1)).await?;
    let tenant = tenants.first().context("a new home has no tenant")?.id;
    Ok(authority.issue_scope(tenant, Actor::new("bench")))
}

/// Waits until each run was refused once more and rests.
async fn await_attempts(server: &DromiaServer, runs: &[String]) -> anyhow::Result<()> {
    let ends = Instant::now() + PARK_TIME_MAX;
    for run in runs {
        loop {
            let row = server.call_api("GET", &format!("/v1/runs/{run}"), &Value::Null).await?;
            let last = row["last_seq"].as_u64().context("a run without entries")?;
            if row["status"] == "parked" && [3 * FEW + 4, 3 * MANY + 4].contains(&last) {
                break;
            }
            ensure!(Instant::now() < ends, "{run} does not park again: {row}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
