//! The witness: a process that trusts no other. It reads what was acknowledged, asks the server's API for the journals
//! and looks at the agent's files itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct WitnessArguments {
    /// The list of acknowledged inputs.
    #[arg(long)]
    ledger: PathBuf,
    /// The server.
    #[arg(long)]
    url: String,
    /// The home, for its token and the agents' files.
    #[arg(long)]
    home: PathBuf,
}

/// What was counted.
#[derive(Debug, Default)]
struct WitnessCount {
    lost: usize,
    doubled: usize,
    cost_micros: u64,
}

/// Counts, prints one line and ends with 0 only if nothing was lost or doubled.
pub(super) async fn run_witness(arguments: &WitnessArguments) -> anyhow::Result<ExitCode> {
    let token = std::fs::read_to_string(arguments.home.join("token")).context("failed to read the token")?;
    let client = reqwest::Client::new();
    let get = async |path: String| -> anyhow::Result<Value> {
        let request = client.get(format!("{}{path}", arguments.url)).bearer_auth(token.trim());
        Ok(request.send().await?.error_for_status()?.json().await?)
    };
    let ledger = std::fs::read_to_string(&arguments.ledger).context("failed to read the ledger")?;
    let mut count = WitnessCount::default();
    for line in ledger.lines() {
        let acknowledged: Value = serde_json::from_str(line)?;
        let session = acknowledged["session"].as_str().unwrap_or_default();
        let runs = get(format!("/v1/runs?session={session}&limit=256")).await?;
        let mut answered = 0;
        for run in runs["items"].as_array().into_iter().flatten() {
            let id = run["id"].as_str().unwrap_or_default();
            let journal = get(format!("/v1/runs/{id}/journal?limit=256")).await?;
            let entries = journal["entries"].as_array().cloned().unwrap_or_default();
            let took = entries.iter().any(|entry| {
                entry["fields"]["items"].as_array().is_some_and(|items| items.contains(&acknowledged["item"]))
            });
            if took && run["status"] == "completed" {
                answered += 1;
            }
            count.cost_micros += run["cost_micros"].as_u64().unwrap_or_default();
            count.doubled += doubled_calls(&entries);
        }
        count.lost += usize::from(answered == 0);
        count.doubled += usize::from(answered > 1);
    }
    count.doubled += doubled_lines(&arguments.home.join("agents"))?;
    let (dollars, cents) = (count.cost_micros / 1_000_000, count.cost_micros % 1_000_000 / 10_000);
    anstream::println!("lost {} doubled {} cost ${dollars}.{cents:02}", count.lost, count.doubled);
    Ok(if count.lost + count.doubled == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts calls with more than one result, and unkeyed ones that began more than once.
fn doubled_calls(entries: &[Value]) -> usize {
    let mut started = BTreeMap::<&str, usize>::new();
    let mut finished = BTreeMap::<&str, usize>::new();
    let mut unkeyed = BTreeSet::new();
    for entry in entries {
        let call = entry["fields"]["call"].as_str().unwrap_or_default();
        match entry["kind"].as_str() {
            Some("tool_started") => {
                *started.entry(call).or_default() += 1;
                if entry["fields"]["effect"] == "unkeyed" {
                    unkeyed.insert(call);
                }
            }
            Some("tool_finished" | "tool_refused") => *finished.entry(call).or_default() += 1,
            _ => {}
        }
    }
    finished.values().filter(|times| **times > 1).count()
        + started.iter().filter(|(call, times)| **times > 1 && unkeyed.contains(*call)).count()
}

/// Counts lines that occur more than once in a file that an agent wrote; the demo asks for every line once.
fn doubled_lines(directory: &Path) -> anyhow::Result<usize> {
    let mut doubled = 0;
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", directory.display()));
        }
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            doubled += doubled_lines(&path)?;
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let unique: BTreeSet<&str> = text.lines().collect();
            doubled += text.lines().count() - unique.len();
        }
    }
    Ok(doubled)
}
