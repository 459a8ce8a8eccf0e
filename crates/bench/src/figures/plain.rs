//! P1, P2, P3 and P11, and what a plain turn costs: echo, model, probe and Dromia in turns, medians over rounds.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::child::Child;
use crate::dromia::{COMPLETED, Home, Server, Written};
use crate::http;
use crate::load::{Extent, Plan, closed_loop, send_bursts};
use crate::measure::{Summary, count, median, ratio};
use crate::report::Goal;
use crate::run::Scene;

use super::CONNECTIONS;

const TOGETHER: Duration = Duration::from_secs(3);
const ALONE: Duration = Duration::from_millis(1500);
const WARM_UP: Duration = Duration::from_millis(500);
const CROWD: usize = 1000;
const BURSTS: usize = 10;

/// Measures the phase.
pub(crate) async fn measure(scene: &Scene) -> anyhow::Result<Vec<Goal>> {
    let echo = scene.start("echo", &["echo"]).await?;
    let model = scene.start("model", &["model"]).await?;
    let probe = start_probe(scene, &model).await?;
    let home = Home::make(&scene.dromia, &scene.dir, model.address()).await?;
    let server = home.up(&scene.dir).await?;
    let mut goals = vec![request_bytes(&server, &model).await?];

    let hello = r#"{"text":"hello","wait":true}"#;
    let completion = r#"{"model":"scripted","messages":[{"role":"user","content":"hello"}]}"#;
    let mut echo = Subject::new(echo.address(), "hello", http::request("POST", "/", None, hello));
    let mut bare_model = Subject::new(
        model.address(),
        "choices",
        http::request("POST", "/v1/chat/completions", None, completion),
    );
    let mut probed =
        Subject::new(probe.address(), COMPLETED, http::request("POST", "/v1/events", None, hello));
    let mut dromia = Subject::new(server.child.address(), COMPLETED, server.hello());
    let (mut cost, mut cost_together) = (Cost::default(), Cost::default());
    for subject in [&echo, &bare_model, &probed, &dromia] {
        closed_loop(&subject.plan(CONNECTIONS), Extent::For(WARM_UP)).await?;
    }
    let (mut cpu_of_probe, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..scene.scale.rounds {
        for subject in [&mut echo, &mut bare_model] {
            subject.together().await?;
            subject.alone().await?;
        }
        cpu_of_probe.push(probed.together_counting(&probe).await?.1);
        probed.alone().await?;
        let before = server.written().await?;
        let (together, micros) = dromia.together_counting(&server.child).await?;
        cpu.push(micros);
        let between = server.written().await?;
        let alone = dromia.alone().await?;
        cost_together.add(before, between, together.answered);
        cost.add(between, server.written().await?, alone.answered);
    }
    goals.extend(throughput(&echo, &bare_model, &probed, &dromia));
    goals.push(Goal::printed(
        "P1.cpu",
        median(&cpu),
        "us",
        "processor time of the server for one of these turns",
    ));
    goals.push(Goal::printed(
        "P1.cpu_probe",
        median(&cpu_of_probe),
        "us",
        "processor time of the probe for one",
    ));
    goals.extend(latency(&bare_model, &probed, &dromia));
    goals.extend(cost.goals());
    goals.extend(cost_together.goals_together());
    goals.extend(crowd(&probed, &dromia).await?);
    server.child.stop().await?;
    Ok(goals)
}

async fn start_probe(scene: &Scene, model: &Child) -> anyhow::Result<Child> {
    let base_url = format!("http://{}/v1", model.address());
    let database = scene.dir.join("probe.db");
    let database = database.to_string_lossy();
    scene.start("probe", &["probe", "--model", &base_url, "--database", &database]).await
}

/// A server under load, and what its rounds gave.
struct Subject {
    address: SocketAddr,
    expected: &'static str,
    request: Vec<u8>,
    together: Vec<Summary>,
    alone: Vec<Summary>,
}

impl Subject {
    fn new(address: SocketAddr, expected: &'static str, request: Vec<u8>) -> Self {
        Self { address, expected, request, together: Vec::new(), alone: Vec::new() }
    }

    fn plan(&self, connections: usize) -> Plan {
        let requests = [self.request.clone()].into();
        Plan { address: self.address, requests, expected: self.expected, connections }
    }

    async fn together(&mut self) -> anyhow::Result<Summary> {
        let summary = closed_loop(&self.plan(CONNECTIONS), Extent::For(TOGETHER)).await?;
        self.together.push(summary);
        Ok(summary)
    }

    /// The same, with the processor time that the server used for a turn, in microseconds.
    async fn together_counting(&mut self, server: &Child) -> anyhow::Result<(Summary, f64)> {
        let before = server.cpu_micros()?;
        let summary = self.together().await?;
        let used = server.cpu_micros()?.saturating_sub(before);
        Ok((summary, ratio(count(used), count(summary.answered))))
    }

    async fn alone(&mut self) -> anyhow::Result<Summary> {
        let summary = closed_loop(&self.plan(1), Extent::For(ALONE)).await?;
        self.alone.push(summary);
        Ok(summary)
    }

    fn rate(&self) -> f64 {
        median(&self.together.iter().map(|summary| summary.rate).collect::<Vec<_>>())
    }

    fn p50_alone(&self) -> f64 {
        median(&self.alone.iter().map(|summary| summary.p50_ms).collect::<Vec<_>>())
    }

    fn failed(&self) -> u64 {
        self.together.iter().chain(&self.alone).map(|summary| summary.failed).sum()
    }
}

fn throughput(echo: &Subject, model: &Subject, probe: &Subject, dromia: &Subject) -> Vec<Goal> {
    let share = ratio(dromia.rate(), probe.rate());
    let failed = dromia.failed();
    let goal = format!("durable turns at 64 connections: >= 60 % of the probe, none failed ({failed} did)");
    vec![
        Goal::judged("P1", dromia.rate(), "turns/s", goal, share >= 0.6 && failed == 0).over(share),
        Goal::printed("P1.probe", probe.rate(), "turns/s", "the probe at 64 connections"),
        Goal::printed("P1.model", model.rate(), "calls/s", "the bare model server at 64 connections"),
        Goal::printed("P1.echo", echo.rate(), "calls/s", "the bare echo server at 64 connections"),
    ]
}

fn latency(model: &Subject, probe: &Subject, dromia: &Subject) -> Vec<Goal> {
    let added = dromia.p50_alone() - model.p50_alone();
    let added_by_probe = probe.p50_alone() - model.p50_alone();
    // A server that answered nothing has no latency, not a good one.
    let met = dromia.p50_alone() > 0.0 && added < 1.5;
    vec![
        Goal::judged("P3", added, "ms", "added to the model call by one turn alone, p50: < 1.5 ms", met)
            .over(ratio(added, added_by_probe)),
        Goal::printed("P3.probe", added_by_probe, "ms", "added to the model call by the probe, p50"),
        Goal::printed("P3.model", model.p50_alone(), "ms", "the model call itself, p50"),
    ]
}

/// What the writer did for some turns.
#[derive(Debug, Default)]
struct Cost {
    turns: u64,
    commits: u64,
    rows: u64,
    micros: u64,
    bytes: u64,
}

impl Cost {
    fn add(&mut self, before: Written, after: Written, turns: u64) {
        self.turns += turns;
        self.commits += after.commits.saturating_sub(before.commits);
        self.rows += after.rows.saturating_sub(before.rows);
        self.micros += after.writer_micros.saturating_sub(before.writer_micros);
        self.bytes += after.bytes.saturating_sub(before.bytes);
    }

    /// The figures of turns that came one at a time, so that each has its commits for itself.
    fn goals(&self) -> Vec<Goal> {
        let [commits, rows, micros, bytes] = self.per_turn();
        let some = self.turns > 0;
        // Upkeep between turns may add a commit now and then, so whole numbers are not asked for.
        vec![
            Goal::judged("B1.commits", commits, "commits", "of a plain turn: 2", some && commits < 2.1),
            Goal::judged("B1.rows", rows, "rows", "row writes of a plain turn: <= 12", some && rows < 12.1),
            Goal::printed("B1.writer_alone", micros, "us", "writer CPU of a turn that has its commits alone"),
            Goal::printed("B1.bytes_alone", bytes, "bytes", "written by such a turn, log and main file"),
        ]
    }

    /// The figures of turns that share their commits, as those that count for throughput do.
    fn goals_together(&self) -> Vec<Goal> {
        let [commits, _, micros, bytes] = self.per_turn();
        let met = self.turns > 0 && micros <= 100.0;
        vec![
            Goal::judged("B1.writer", micros, "us", "writer CPU of a turn at 64 connections: <= 100 us", met),
            Goal::printed("B1.commits_shared", commits, "commits", "of a turn at 64 connections"),
            Goal::printed(
                "B1.bytes",
                bytes,
                "bytes",
                "written by a turn at 64 connections, log and main file",
            ),
        ]
    }

    fn per_turn(&self) -> [f64; 4] {
        [self.commits, self.rows, self.micros, self.bytes].map(|total| ratio(count(total), count(self.turns)))
    }
}

async fn crowd(probe: &Subject, dromia: &Subject) -> anyhow::Result<Vec<Goal>> {
    let by_probe = send_bursts(&probe.plan(CROWD), BURSTS).await?;
    let bursts = send_bursts(&dromia.plan(CROWD), BURSTS).await?;
    let failed = bursts.failed;
    let goal = format!("p95 of 10 bursts of 1,000 at once: < 200 ms, none failed ({failed} did)");
    let closed_by_probe = closed_loop(&probe.plan(CROWD), Extent::For(TOGETHER)).await?;
    let closed = closed_loop(&dromia.plan(CROWD), Extent::For(TOGETHER)).await?;
    let what =
        format!("1,000 connections in a closed loop; p95 {:.0} ms, {} failed", closed.p95_ms, closed.failed);
    Ok(vec![
        Goal::judged("P2", bursts.p95_ms, "ms", goal, bursts.p95_ms < 200.0 && failed == 0)
            .over(ratio(bursts.p95_ms, by_probe.p95_ms)),
        Goal::printed("P2.probe", by_probe.p95_ms, "ms", "p95 of the same bursts at the probe"),
        Goal::printed("P2.closed", closed.rate, "turns/s", what)
            .over(ratio(closed.rate, closed_by_probe.rate)),
    ])
}

async fn request_bytes(server: &Server, model: &Child) -> anyhow::Result<Goal> {
    server.turn(&json!({"text": "hello", "wait": true})).await?;
    let stats = http::call(model.address(), "GET", "/stats", None, "").await?;
    let read = |name: &str| stats[name].as_u64().unwrap_or(u64::MAX);
    let beyond = read("request_bytes_last").saturating_sub(read("system_bytes_last"));
    let goal = "bytes sent to the model for \"hello\" beyond the identity text: < 3,000";
    Ok(Goal::judged("P11", count(beyond), "bytes", goal, (1..3000).contains(&beyond)))
}
