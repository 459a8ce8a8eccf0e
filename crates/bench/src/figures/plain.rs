//! P1, P2, P3 and P11, and what a plain turn costs: echo, model, probe and Dromia in turns, medians over rounds.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::child::ServerProcess;
use crate::dromia::{COMPLETED, DromiaServer, InstanceHome, WriterTotals};
use crate::http;
use crate::load::{LoadExtent, LoadPlan, closed_loop, send_bursts};
use crate::measure::{LoadSummary, count_as_f64, median, ratio_or_zero};
use crate::report::BenchGoal;
use crate::run::PhaseContext;

use super::CONNECTIONS;

const TOGETHER: Duration = Duration::from_secs(3);
const ALONE: Duration = Duration::from_millis(1500);
pub(super) const WARM_UP: Duration = Duration::from_millis(500);
const CROWD: usize = 1000;
const BURSTS: usize = 10;

/// Measures the phase.
pub(crate) async fn measure_plain_turns(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let echo = scene.start_own_server("echo", &["echo"]).await?;
    let model = scene.start_own_server("model", &["model"]).await?;
    let probe = start_probe(scene, &model).await?;
    let home = InstanceHome::create_for_model(&scene.dromia, &scene.dir, model.listen_address()).await?;
    let server = home.start_server(&scene.dir).await?;
    let mut goals = vec![request_bytes(&server, &model).await?];

    let hello = r#"{"text":"hello","wait":true}"#;
    let completion = r#"{"model":"scripted","messages":[{"role":"user","content":"hello"}]}"#;
    let mut echo =
        LoadSubject::new(echo.listen_address(), "hello", http::encode_request("POST", "/", None, hello));
    let mut bare_model = LoadSubject::new(
        model.listen_address(),
        "choices",
        http::encode_request("POST", "/v1/chat/completions", None, completion),
    );
    let mut probed = LoadSubject::new(
        probe.listen_address(),
        COMPLETED,
        http::encode_request("POST", "/v1/events", None, hello),
    );
    let mut dromia = LoadSubject::new(server.child.listen_address(), COMPLETED, server.hello_request());
    let (mut cost, mut cost_together) = (WriterCost::default(), WriterCost::default());
    for subject in [&echo, &bare_model, &probed, &dromia] {
        closed_loop(&subject.load_plan(CONNECTIONS), LoadExtent::For(WARM_UP)).await?;
    }
    let (mut cpu_of_probe, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..scene.scale.rounds {
        for subject in [&mut echo, &mut bare_model] {
            subject.run_together().await?;
            subject.run_alone().await?;
        }
        cpu_of_probe.push(probed.together_counting(&probe).await?.1);
        probed.run_alone().await?;
        let before = server.writer_totals().await?;
        let (together, micros) = dromia.together_counting(&server.child).await?;
        cpu.push(micros);
        let between = server.writer_totals().await?;
        let alone = dromia.run_alone().await?;
        cost_together.add_difference(before, between, together.answered);
        cost.add_difference(between, server.writer_totals().await?, alone.answered);
    }
    goals.extend(throughput_goals(&echo, &bare_model, &probed, &dromia));
    goals.push(BenchGoal::without_target(
        "P1.cpu",
        median(&cpu),
        "us",
        "processor time of the server for one of these turns",
    ));
    goals.push(BenchGoal::without_target(
        "P1.cpu_probe",
        median(&cpu_of_probe),
        "us",
        "processor time of the probe for one",
    ));
    goals.extend(latency_goals(&bare_model, &probed, &dromia));
    goals.extend(cost.goals_alone());
    goals.extend(cost_together.goals_together());
    goals.extend(measure_crowd(&probed, &dromia).await?);
    server.child.stop_gracefully().await?;
    Ok(goals)
}

async fn start_probe(scene: &PhaseContext, model: &ServerProcess) -> anyhow::Result<ServerProcess> {
    let base_url = format!("http://{}/v1", model.listen_address());
    let database = scene.dir.join("probe.db");
    let database = database.to_string_lossy();
    scene.start_own_server("probe", &["probe", "--model", &base_url, "--database", &database]).await
}

/// A server under load, and what its rounds gave.
pub(super) struct LoadSubject {
    address: SocketAddr,
    expected: &'static str,
    request: Vec<u8>,
    together: Vec<LoadSummary>,
    alone: Vec<LoadSummary>,
}

impl LoadSubject {
    pub(super) fn new(address: SocketAddr, expected: &'static str, request: Vec<u8>) -> Self {
        Self { address, expected, request, together: Vec::new(), alone: Vec::new() }
    }

    pub(super) fn load_plan(&self, connections: usize) -> LoadPlan {
        let requests = [self.request.clone()].into();
        LoadPlan { address: self.address, requests, expected: self.expected, connections }
    }

    async fn run_together(&mut self) -> anyhow::Result<LoadSummary> {
        let summary = closed_loop(&self.load_plan(CONNECTIONS), LoadExtent::For(TOGETHER)).await?;
        self.together.push(summary);
        Ok(summary)
    }

    /// The same, with the processor time that the server used for a turn, in microseconds.
    pub(super) async fn together_counting(
        &mut self,
        server: &ServerProcess,
    ) -> anyhow::Result<(LoadSummary, f64)> {
        let before = server.cpu_micros()?;
        let summary = self.run_together().await?;
        let used = server.cpu_micros()?.saturating_sub(before);
        Ok((summary, ratio_or_zero(count_as_f64(used), count_as_f64(summary.answered))))
    }

    async fn run_alone(&mut self) -> anyhow::Result<LoadSummary> {
        let summary = closed_loop(&self.load_plan(1), LoadExtent::For(ALONE)).await?;
        self.alone.push(summary);
        Ok(summary)
    }

    pub(super) fn median_rate(&self) -> f64 {
        median(&self.together.iter().map(|summary| summary.rate).collect::<Vec<_>>())
    }

    fn p50_alone(&self) -> f64 {
        median(&self.alone.iter().map(|summary| summary.p50_ms).collect::<Vec<_>>())
    }

    pub(super) fn failed_count(&self) -> u64 {
        self.together.iter().chain(&self.alone).map(|summary| summary.failed).sum()
    }
}

fn throughput_goals(
    echo: &LoadSubject,
    model: &LoadSubject,
    probe: &LoadSubject,
    dromia: &LoadSubject,
) -> Vec<BenchGoal> {
    let share = ratio_or_zero(dromia.median_rate(), probe.median_rate());
    let failed = dromia.failed_count();
    let goal = format!("durable turns at 64 connections: >= 60 % of the probe, none failed ({failed} did)");
    vec![
        BenchGoal::with_target("P1", dromia.median_rate(), "turns/s", goal, share >= 0.6 && failed == 0)
            .with_ratio(share),
        BenchGoal::without_target("P1.probe", probe.median_rate(), "turns/s", "the probe at 64 connections"),
        BenchGoal::without_target(
            "P1.model",
            model.median_rate(),
            "calls/s",
            "the bare model server at 64 connections",
        ),
        BenchGoal::without_target(
            "P1.echo",
            echo.median_rate(),
            "calls/s",
            "the bare echo server at 64 connections",
        ),
    ]
}

fn latency_goals(model: &LoadSubject, probe: &LoadSubject, dromia: &LoadSubject) -> Vec<BenchGoal> {
    let added = dromia.p50_alone() - model.p50_alone();
    let added_by_probe = probe.p50_alone() - model.p50_alone();
    // A server that answered nothing has no latency, not a good one.
    let met = dromia.p50_alone() > 0.0 && added < 1.5;
    vec![
        BenchGoal::with_target(
            "P3",
            added,
            "ms",
            "added to the model call by one turn alone, p50: < 1.5 ms",
            met,
        )
        .with_ratio(ratio_or_zero(added, added_by_probe)),
        BenchGoal::without_target(
            "P3.probe",
            added_by_probe,
            "ms",
            "added to the model call by the probe, p50",
        ),
        BenchGoal::without_target("P3.model", model.p50_alone(), "ms", "the model call itself, p50"),
    ]
}

/// What the writer did for some turns.
#[derive(Debug, Default)]
struct WriterCost {
    turns: u64,
    commits: u64,
    rows: u64,
    micros: u64,
    bytes: u64,
}

impl WriterCost {
    fn add_difference(&mut self, before: WriterTotals, after: WriterTotals, turns: u64) {
        self.turns += turns;
        self.commits += after.commits.saturating_sub(before.commits);
        self.rows += after.rows.saturating_sub(before.rows);
        self.micros += after.writer_micros.saturating_sub(before.writer_micros);
        self.bytes += after.bytes.saturating_sub(before.bytes);
    }

    /// The figures of turns that came one at a time, so that each has its commits for itself.
    fn goals_alone(&self) -> Vec<BenchGoal> {
        let [commits, rows, micros, bytes] = self.per_turn();
        let some = self.turns > 0;
        // Upkeep between turns may add a commit now and then, so whole numbers are not asked for.
        vec![
            BenchGoal::with_target(
                "B1.commits",
                commits,
                "commits",
                "of a plain turn: 2",
                some && commits < 2.1,
            ),
            BenchGoal::with_target(
                "B1.rows",
                rows,
                "rows",
                "row writes of a plain turn: <= 12",
                some && rows < 12.1,
            ),
            BenchGoal::without_target(
                "B1.writer_alone",
                micros,
                "us",
                "writer CPU of a turn that has its commits alone",
            ),
            BenchGoal::without_target(
                "B1.bytes_alone",
                bytes,
                "bytes",
                "written by such a turn, log and main file",
            ),
        ]
    }

    /// The figures of turns that share their commits, as those that count for throughput do.
    fn goals_together(&self) -> Vec<BenchGoal> {
        let [commits, _, micros, bytes] = self.per_turn();
        let met = self.turns > 0 && micros <= 100.0;
        vec![
            BenchGoal::with_target(
                "B1.writer",
                micros,
                "us",
                "writer CPU of a turn at 64 connections: <= 100 us",
                met,
            ),
            BenchGoal::without_target("B1.commits_shared", commits, "commits", "of a turn at 64 connections"),
            BenchGoal::without_target(
                "B1.bytes",
                bytes,
                "bytes",
                "written by a turn at 64 connections, log and main file",
            ),
        ]
    }

    fn per_turn(&self) -> [f64; 4] {
        [self.commits, self.rows, self.micros, self.bytes]
            .map(|total| ratio_or_zero(count_as_f64(total), count_as_f64(self.turns)))
    }
}

async fn measure_crowd(probe: &LoadSubject, dromia: &LoadSubject) -> anyhow::Result<Vec<BenchGoal>> {
    let by_probe = send_bursts(&probe.load_plan(CROWD), BURSTS).await?;
    let bursts = send_bursts(&dromia.load_plan(CROWD), BURSTS).await?;
    let failed = bursts.failed;
    let goal = format!("p95 of 10 bursts of 1,000 at once: < 200 ms, none failed ({failed} did)");
    let closed_by_probe = closed_loop(&probe.load_plan(CROWD), LoadExtent::For(TOGETHER)).await?;
    let closed = closed_loop(&dromia.load_plan(CROWD), LoadExtent::For(TOGETHER)).await?;
    let what =
        format!("1,000 connections in a closed loop; p95 {:.0} ms, {} failed", closed.p95_ms, closed.failed);
    Ok(vec![
        BenchGoal::with_target("P2", bursts.p95_ms, "ms", goal, bursts.p95_ms < 200.0 && failed == 0)
            .with_ratio(ratio_or_zero(bursts.p95_ms, by_probe.p95_ms)),
        BenchGoal::without_target("P2.probe", by_probe.p95_ms, "ms", "p95 of the same bursts at the probe"),
        BenchGoal::without_target("P2.closed", closed.rate, "turns/s", what)
            .with_ratio(ratio_or_zero(closed.rate, closed_by_probe.rate)),
    ])
}

async fn request_bytes(server: &DromiaServer, model: &ServerProcess) -> anyhow::Result<BenchGoal> {
    server.complete_turn(&json!({"text": "hello", "wait": true})).await?;
    let stats = http::call_json(model.listen_address(), "GET", "/stats", None, "").await?;
    let read = |name: &str| stats[name].as_u64().unwrap_or(u64::MAX);
    let beyond = read("request_bytes_last").saturating_sub(read("system_bytes_last"));
    let goal = "bytes sent to the model for \"hello\" beyond the identity text: < 3,000";
    Ok(BenchGoal::with_target("P11", count_as_f64(beyond), "bytes", goal, (1..3000).contains(&beyond)))
}
