//! P5: many registered agents: memory while they rest, a page of the listing, and the first turn of any one.
//!
//! The agents are written through the store before the start, many to a batch: registering is not what is measured.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::scope::ScopeAuthority;
use dromia_contracts::store::{
    AgentCreate, CommitOutcome, Mutation, PageRequest, Store, WriteBatch, WriterLane,
};
use dromia_contracts::{AgentId, Digest, TenantId};
use dromia_store::{SqliteStore, StoreConfig};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dromia::{DromiaServer, InstanceHome};
use crate::measure::{count_as_f64, median};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::MEGABYTE;

const BATCH: u64 = 80;
/// Batches under way, so that the writer always has a group to commit.
const BATCHES_UNDER_WAY: usize = 16;
const WRITE_TIME_MAX: Duration = Duration::from_secs(90);
const SAMPLES: u64 = 20;

/// Measures the phase.
pub(crate) async fn measure_agents(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let model = scene.start_own_server("model", &["model"]).await?;
    let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, model.listen_address()).await?;
    let server = home.start_server(&scene.dir).await?;
    let config = default_config(&server).await?;
    server.child.stop_gracefully().await?;
    let agents = register_agents(&home, &config, scene.scale.agents).await?;

    let server = home.start_server(&scene.dir).await?;
    server.call_api("GET", "/v1/status", &Value::Null).await?;
    let resident = count_as_f64(server.child.resident_bytes()?) / MEGABYTE;
    let page = list_page(&server).await?;
    let more = first_turn(&server, agents).await?;
    server.child.stop_gracefully().await?;
    Ok(vec![
        BenchGoal::with_target(
            "P5.rss",
            resident,
            "MB",
            format!("resident with {agents} idle agents: < 100 MB"),
            resident < 100.0,
        ),
        BenchGoal::with_target(
            "P5.list",
            page,
            "ms",
            format!("a page of {agents} agents, p50: < 50 ms"),
            page < 50.0,
        ),
        BenchGoal::with_target(
            "P5.first_turn",
            more,
            "ms",
            "first turn of any one over a usual first turn, p50: < 5 ms",
            more < 5.0,
        ),
    ])
}

async fn default_config(server: &DromiaServer) -> anyhow::Result<AgentConfig> {
    let agents = server.call_api("GET", "/v1/agents?limit=1", &Value::Null).await?;
    let id = agents["items"][0]["id"].as_str().context("a new home has no agent")?;
    let agent = server.call_api("GET", &format!("/v1/agents/{id}"), &Value::Null).await?;
    serde_json::from_value(agent["config"].clone()).context("the agent's configuration cannot be read")
}

/// Writes agents until there are enough or the time is up; returns how many there are.
async fn register_agents(home: &InstanceHome, config: &AgentConfig, agents: u64) -> anyhow::Result<u64> {
    let store = SqliteStore::open(StoreConfig::new(home.find_store_dir()?))?;
    let operator = ScopeAuthority::claim().issue_operator();
    let tenant = store
        .tenants(&operator, PageRequest::first_page(1))
        .await?
        .first()
        .context("a new home has no tenant")?
        .id;
    let revision = Digest::from_bytes(*blake3::hash(&serde_json::to_vec(config)?).as_bytes());
    let began = Instant::now();
    let mut under_way = JoinSet::new();
    let mut registered = 0;
    while registered < agents && began.elapsed() < WRITE_TIME_MAX {
        let until = agents.min(registered + BATCH);
        let batch = agent_batch(tenant, registered..until, config, revision)?;
        registered = until;
        under_way.spawn(store.commit(batch));
        if under_way.len() >= BATCHES_UNDER_WAY {
            await_durable(&mut under_way).await?;
        }
    }
    while !under_way.is_empty() {
        await_durable(&mut under_way).await?;
    }
    ensure!(registered > 0, "no agent was written");
    Ok(registered)
}

async fn await_durable(under_way: &mut JoinSet<CommitOutcome>) -> anyhow::Result<()> {
    match under_way.join_next().await.context("nothing is under way")?? {
        CommitOutcome::Done(_) => Ok(()),
        answer @ (CommitOutcome::Refused(_) | CommitOutcome::Unknown { .. }) => {
            bail!("the store did not write agents: {answer:?}")
        }
    }
}

fn agent_batch(
    tenant: TenantId,
    numbers: std::ops::Range<u64>,
    config: &AgentConfig,
    revision: Digest,
) -> anyhow::Result<WriteBatch> {
    // Any time will do; ids that rise with it spare the database random inserts, as real ones do.
    const EPOCH_MS: u64 = 1_700_000_000_000;
    let mut batch = WriteBatch { lane: WriterLane::Bulk, ..WriteBatch::new(tenant) };
    for number in numbers {
        let mut chance = [0; 10];
        chance[2..].copy_from_slice(&number.to_be_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(EPOCH_MS + number, &chance).into_uuid();
        batch = batch.with_mutation(Mutation::AgentCreate(AgentCreate {
            agent: AgentId::from_uuid(id),
            handle: agent_handle(number).parse()?,
            display_name: format!("Agent {number}"),
            labels: std::collections::BTreeMap::new(),
            at: Timestamp::from_millisecond(i64::try_from(EPOCH_MS + number)?)?,
            revision,
            config: config.clone(),
        }));
    }
    Ok(batch)
}

fn agent_handle(number: u64) -> String {
    format!("bench-{number}")
}

async fn list_page(server: &DromiaServer) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    let mut after = String::new();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        let page = server.call_api("GET", &format!("/v1/agents?limit=50{after}"), &Value::Null).await?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        after = page["next"].as_str().map(|next| format!("&after={next}")).unwrap_or_default();
    }
    Ok(median(&took))
}

/// Takes agents from all over the table, each after a first turn of the usual agent in a new session.
async fn first_turn(server: &DromiaServer, agents: u64) -> anyhow::Result<f64> {
    let (mut usual, mut first) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let agent = agent_handle(sample * agents / SAMPLES);
        usual.push(server.timed_turn(&json!({"text": "hello", "wait": true})).await?);
        first.push(server.timed_turn(&json!({"text": "hello", "wait": true, "agent": agent})).await?);
    }
    Ok(median(&first) - median(&usual))
}
