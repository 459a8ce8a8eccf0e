//! The attacks, and what each of them would keep from another tenant.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::dromia::InstanceHome;
use crate::http;
use crate::load::{LoadExtent, LoadPlan, closed_loop, spawn_load_thread};
use crate::measure::{LatencyRecorder, LoadSummary};

use super::{BenchTenant, SAMPLE_TIME_MAX, SAMPLES};

/// How long an attack lasts that asks again and again.
const ATTACK_TIME: Duration = Duration::from_secs(20);
/// The longest wait until an attack is under way.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(20);
/// The longest wait for the head of a stream.
const STREAM_TIME_MAX: Duration = Duration::from_secs(10);
/// As many runs as there are slots of runs.
const RUNS: u64 = 1024;

const HELLO: &str = "hello";
const SLEEP: &str = r#"@tool exec {"argv":["/bin/sleep","55"]}"#;
const PROGRAM: &str = r#"@tool exec {"argv":["/bin/true"]}"#;
const READ: &str = r#"@tool file.read {"path":"note"}"#;
/// What ends an evaluation at its limit and not before.
const ENDLESS: &str = "some a in numbers.range(1, 20000)\nsome b in numbers.range(1, 20000)\na * b == -1";
const USUAL: &str = "input.action.arguments.limit == 7";
const SEARCH: &str = r#"@tool file.search {"pattern":"(a|b)*needle [0-9]+ and more","regex":true}"#;

/// One attack.
#[derive(Debug)]
pub(super) struct StarvationAttack {
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    kind: AttackKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttackKind {
    Programs,
    Searches,
    WaitingRuns,
    Kills,
    Streams,
    LeakScan,
    Inputs,
    Policy,
}

/// Every attack that has a row.
pub(super) const ATTACKS: &[StarvationAttack] = &[
    StarvationAttack {
        id: "R15.programs",
        what: "a program beside 20 that sleep",
        kind: AttackKind::Programs,
    },
    StarvationAttack { id: "R15.files", what: "a file read beside 96 searches", kind: AttackKind::Searches },
    StarvationAttack {
        id: "R15.runs",
        what: "a turn beside 1,024 runs that wait for programs",
        kind: AttackKind::WaitingRuns,
    },
    StarvationAttack {
        id: "R15.kills",
        what: "a turn while 1,024 such runs are killed",
        kind: AttackKind::Kills,
    },
    StarvationAttack {
        id: "R15.streams",
        what: "a stream beside all that four tokens can open",
        kind: AttackKind::Streams,
    },
    StarvationAttack {
        id: "R15.leak_scan",
        what: "a turn beside 30 of base64 of gzip",
        kind: AttackKind::LeakScan,
    },
    StarvationAttack {
        id: "R15.inputs",
        what: "a turn beside 64 connections that ask",
        kind: AttackKind::Inputs,
    },
    StarvationAttack {
        id: "R15.policy",
        what: "a file read that an own policy allows beside policies that do not end",
        kind: AttackKind::Policy,
    },
];

/// The other tenant alone and under the attack, and what else is to be said.
#[derive(Debug)]
pub(super) struct AttackResult {
    pub(super) alone: LoadSummary,
    pub(super) under: LoadSummary,
    pub(super) note: String,
}

impl StarvationAttack {
    /// Measures another tenant alone and under the attack.
    pub(super) async fn measure_under_attack(
        &self,
        home: &InstanceHome,
        bad: &BenchTenant,
        good: &BenchTenant,
    ) -> anyhow::Result<AttackResult> {
        let text = match self.kind {
            AttackKind::Programs => PROGRAM,
            AttackKind::Searches | AttackKind::Policy => READ,
            AttackKind::WaitingRuns | AttackKind::Kills | AttackKind::LeakScan | AttackKind::Inputs => HELLO,
            AttackKind::Streams => return measure_streams(bad, good).await,
        };
        if self.kind == AttackKind::Searches {
            create_files(home, bad, good).await?;
        } else if self.kind == AttackKind::Policy {
            write_notes(&[bad, good]).await?;
            write_policies(home, &[(bad, ENDLESS), (good, USUAL)]).await?;
        }
        // What a first turn pays is no figure of this.
        good.flood_sessions(text, 8).await?;
        sleep(Duration::from_millis(500)).await;
        let alone = good.sample_turns(text).await?;
        let mut note = String::new();
        match self.kind {
            AttackKind::Programs => {
                bad.flood_sessions(SLEEP, 20).await?;
                await_open_runs(bad, 20).await?;
            }
            AttackKind::Searches => bad.flood_sessions(SEARCH, 96).await?,
            AttackKind::WaitingRuns | AttackKind::Kills => {
                bad.flood_sessions(SLEEP, RUNS).await?;
                await_open_runs(bad, 256).await?;
            }
            AttackKind::LeakScan => {
                let secret = json!({
                    "name": "key", "value": "canary-0123456789", "host": "api.example.com", "placement": "bearer",
                });
                bad.call_api("POST", "/v1/secrets", &secret).await?;
                ask_repeatedly(bad, &format!("@say {}", packed_payload()?), 30).await?;
            }
            AttackKind::Inputs => ask_repeatedly(bad, HELLO, 64).await?,
            AttackKind::Policy => ask_repeatedly(bad, READ, 16).await?,
            AttackKind::Streams => {}
        }
        let under = if self.kind == AttackKind::Kills {
            let began = Instant::now();
            let path = format!("/v1/agents/{}/kill", bad.agent);
            let all = json!({"all": true});
            let (killed, under) = tokio::join!(
                async {
                    let killed = bad.call_api("POST", &path, &all).await?;
                    while bad.count_open_runs().await? > 0 {
                        sleep(Duration::from_millis(50)).await;
                    }
                    anyhow::Ok((killed["runs"].as_array().map_or(0, Vec::len), began.elapsed()))
                },
                good.sample_turns(text)
            );
            let (runs, took) = killed?;
            note = format!("; {runs} ended within {:.1} s", took.as_secs_f64());
            under?
        } else {
            good.sample_turns(text).await?
        };
        if self.kind == AttackKind::Searches {
            note = format!("; {} searches were left", bad.count_open_runs().await?);
        }
        Ok(AttackResult { alone, under, note })
    }
}

/// Begins to ask the same on so many connections, for as long as an attack lasts.
async fn ask_repeatedly(party: &BenchTenant, text: &str, connections: usize) -> anyhow::Result<()> {
    let requests = [party.event_request(text, true)].into();
    spawn_load_thread(LoadPlan { address: party.address, requests, expected: "", connections }, ATTACK_TIME)?;
    // Once it is under way.
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Waits until so many runs are open.
async fn await_open_runs(party: &BenchTenant, runs: usize) -> anyhow::Result<()> {
    let until = Instant::now() + BEGIN_TIME_MAX;
    while party.count_open_runs().await? < runs && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Gives each party a file.
async fn write_notes(parties: &[&BenchTenant]) -> anyhow::Result<()> {
    for party in parties {
        let note = json!({"path": "note", "content": "a word"});
        let write = party.event_request(&format!("@tool file.write {note}"), true);
        let plan =
            LoadPlan { address: party.address, requests: [write].into(), expected: "", connections: 1 };
        closed_loop(&plan, LoadExtent::Count(1, SAMPLE_TIME_MAX)).await?;
    }
    Ok(())
}

/// Gives each party a file, and one of them much to search in.
async fn create_files(home: &InstanceHome, bad: &BenchTenant, good: &BenchTenant) -> anyhow::Result<()> {
    write_notes(&[bad, good]).await?;
    let workspace = home.dir_path().join("agents").join(&bad.agent).join("workspace");
    for number in 0..7 {
        let text = "nothing of what is looked for, on many lines\n".repeat(90_000);
        let mut file = std::fs::File::create_new(workspace.join(format!("large{number}")))?;
        file.write_all(text.as_bytes())?;
        // What is not on the disk yet would be written beside what is measured, and no attack writes it.
        file.sync_all()?;
    }
    Ok(())
}

/// Gives each party a policy of its own, which denies a read of the file where a condition holds, and waits until both count.
async fn write_policies(home: &InstanceHome, policies: &[(&BenchTenant, &str)]) -> anyhow::Result<()> {
    for (party, condition) in policies {
        let before = read_policy(party).await?;
        let caller = party.call_api("GET", "/v1/whoami", &Value::Null).await?;
        let tenant = caller["tenant"].as_str().context("a caller without a tenant")?;
        let folder = home.dir_path().join("policies").join("tenants").join(tenant);
        std::fs::create_dir_all(&folder)?;
        let rule = format!(
            "package dromia.policy\nimport rego.v1\nverdicts contains {{\"verdict\": \"deny\", \"rule\": \"own\"}} if {{\n\
             input.action.arguments.path == \"note\"\n{condition}\n}}\n"
        );
        std::fs::write(folder.join("own.rego"), rule)?;
        let until = Instant::now() + BEGIN_TIME_MAX;
        while read_policy(party).await? == before {
            if Instant::now() > until {
                bail!("an own policy does not count");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Reads which policy counts for a party.
async fn read_policy(party: &BenchTenant) -> anyhow::Result<Value> {
    Ok(party.call_api("GET", "/v1/status", &Value::Null).await?["policy"].take())
}

/// As much of base64 of gzip as an answer may hold.
fn packed_payload() -> anyhow::Result<String> {
    let mut text = String::new();
    // Each is a MiB of blanks in some kilobytes.
    let piece = STANDARD.encode(gzip_stored(&vec![b' '; 1 << 20]));
    while text.len() < 300 << 10 {
        text.push_str(&piece);
        text.push('.');
    }
    ensure!(text.len() < 500 << 10, "the pieces are too long");
    Ok(text)
}

/// Packs bytes as gzip does, without the checksum at the end, which no reader checks.
fn gzip_stored(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    packed.extend([0; 8]);
    packed
}

/// Measures the heads of streams.
async fn measure_streams(bad: &BenchTenant, good: &BenchTenant) -> anyhow::Result<AttackResult> {
    let mut tokens = vec![bad.token.clone()];
    for name in ["b", "c", "d"] {
        let new = json!({"name": name, "scopes": ["read"]});
        let created = bad.call_api("POST", "/v1/tokens", &new).await?;
        tokens.extend(created["token"].as_str().map(str::to_owned));
    }
    let (theirs, ours) = (start_run(bad).await?, start_run(good).await?);
    let alone = time_stream_heads(good, &ours).await?;
    let mut held = Vec::new();
    for token in tokens {
        for _ in 0..600 {
            match open_stream(bad, &token, &theirs).await {
                Some(stream) => held.push(stream),
                None => break,
            }
        }
    }
    let note = format!("; {} were open", held.len());
    let under = time_stream_heads(good, &ours).await?;
    Ok(AttackResult { alone, under, note })
}

/// Begins a run that goes on.
async fn start_run(party: &BenchTenant) -> anyhow::Result<String> {
    let slow = json!({"text": "@slow 120000", "agent": "ops"});
    let accepted = party.call_api("POST", "/v1/events", &slow).await?;
    Ok(accepted["run"].as_str().unwrap_or_default().to_owned())
}

/// Opens a stream of a run; nothing where it is refused.
async fn open_stream(party: &BenchTenant, token: &str, run: &str) -> Option<TcpStream> {
    let opened = async {
        let mut stream = TcpStream::connect(party.address).await.ok()?;
        let path = format!("/v1/runs/{run}/journal");
        let request = http::encode_request("GET", &path, Some(token), "");
        let request = String::from_utf8(request).ok()?;
        let request = request.replacen("content-type: application/json", "accept: text/event-stream", 1);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        head.ends_with(b" 200").then_some(stream)
    };
    timeout(STREAM_TIME_MAX, opened).await.ok().flatten()
}

/// Opens one stream after the other.
async fn time_stream_heads(party: &BenchTenant, run: &str) -> anyhow::Result<LoadSummary> {
    let (began, mut latencies) = (Instant::now(), LatencyRecorder::default());
    for _ in 0..SAMPLES {
        let opening = Instant::now();
        match open_stream(party, &party.token, run).await {
            Some(stream) => {
                latencies.record_answer(opening.elapsed());
                drop(stream);
            }
            None => latencies.record_failure(),
        }
        if began.elapsed() > SAMPLE_TIME_MAX {
            break;
        }
    }
    Ok(latencies.into_summary(began.elapsed()))
}
