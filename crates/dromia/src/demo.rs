//! `dromia demo`: eight steps on a real server in a temporary home, each with its fact.
//!
//! The server is this same binary in another process, killed with SIGKILL where it hurts most. The verdict is
//! counted by a third process that sees only the HTTP API, the agent's files and the list of what was
//! acknowledged. Nothing leaves the machine: the model is the built-in scripted one.

mod ledger;
mod server;
mod witness;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::home::Home;

use self::ledger::Ledger;
use self::server::Server;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dromia demo --keep     leave the server running afterwards")]
pub(crate) struct DemoArguments {
    /// Leave the server and its home behind.
    #[arg(long)]
    keep: bool,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Count what was lost and doubled; the demo runs this as a process of its own.
    #[command(hide = true)]
    Witness(witness::WitnessArguments),
}

/// Runs the demo, or its witness.
pub(crate) fn run(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.part {
        Some(Part::Witness(witness)) => tokio.block_on(witness::run(witness)),
        None => tokio.block_on(show(arguments.keep)),
    }
}

async fn show(keep: bool) -> anyhow::Result<ExitCode> {
    anstream::println!(
        "The model of this demo is built in and scripted. It is not an LLM, and nothing leaves this machine.\n"
    );
    let directory = Directory::new(keep)?;
    let home = Home::find(Some(&directory.path));
    let began = Instant::now();
    let mut server = Server::init_and_start(&home).await?;
    let mut ledger = Ledger::create(&directory.path.join("demo-ledger.jsonl"))?;
    step(
        1,
        "start",
        &format!("{} by process {} in {} ms", server.url(), server.pid(), began.elapsed().as_millis()),
    );

    let began = Instant::now();
    let answer = server.ask("Who are you?", "demo-hello").await?;
    ledger.acknowledged(&answer)?;
    let ms = began.elapsed().as_millis();
    step(2, "ask", &format!("{} model call, answered in {ms} ms:", answer["model_calls"]));
    detail(answer["reply"].as_str().unwrap_or_default());

    let run = text(&answer, "run")?;
    let journal = server.journal(&run).await?;
    step(3, "the journal", &format!("{} entries, each durable before it was acted on:", journal.len()));
    for entry in &journal {
        detail(&format!("{:>2}  {}", entry["seq"], entry["kind"].as_str().unwrap_or_default()));
    }

    kill_in_model_call(&mut server, &mut ledger, &home).await?;
    let unknown = kill_in_tool_call(&mut server, &mut ledger, &home).await?;

    let stranger = server.stranger_token().await?;
    let status = server.status_of(&format!("/v1/runs/{unknown}"), &stranger).await?;
    ensure!(status == 404, "the stranger got {status}");
    step(6, "a stranger", &format!("another tenant asks for {unknown} and gets {status}"));

    let verdict = server.witness(&home, ledger.path()).await?;
    step(
        7,
        "the verdict",
        &format!("counted by process {}, which is neither this one nor the server:", verdict.pid),
    );
    detail(&verdict.text);
    step(8, "next", "what to try:");
    if keep {
        let home = directory.path.display();
        detail(&format!(
            "dromia --home {home} run list           the server goes on as process {}",
            server.pid()
        ));
        detail(&format!("dromia --home {home} run show {run}"));
        server.leave();
    } else {
        detail("dromia init && dromia up              a home of your own");
        detail("dromia ask \"what time is it?\"         its first agent");
        server.stop().await?;
    }
    ensure!(verdict.good, "the witness found something lost or doubled");
    Ok(ExitCode::SUCCESS)
}

/// Step 4: the process dies while the model is thinking. What ran before is an append: done twice it would leave two lines,
/// which the file shows whatever the journal says.
async fn kill_in_model_call(server: &mut Server, ledger: &mut Ledger, home: &Home) -> anyhow::Result<()> {
    let script = "@tool file.append {\"path\":\"plan.txt\",\"content\":\"written once\\n\"}\n@slow 2500\n@say The plan is written.";
    let accepted = server.send(script, "demo-model").await?;
    ledger.acknowledged(&accepted)?;
    let run = server.run_of(&accepted).await?;
    server.wait_for(&run, "the second model call", |entries| count(entries, "model_called") == 2).await?;
    let pid = server.pid();
    server.kill().await?;
    let began = Instant::now();
    server.start().await?;
    let entries = server.wait_for(&run, "the end", |entries| count(entries, "run_completed") == 1).await?;
    let (started, finished) = (count(&entries, "tool_started"), count(&entries, "tool_finished"));
    ensure!((started, finished) == (1, 1), "the tool began {started} times and ended {finished} times");
    let lines = lines_of(home, "plan.txt")?;
    ensure!(lines == ["written once"], "plan.txt should have one line, and has {lines:?}");
    step(4, "kill -9 during the model call", &format!("process {pid} died in the middle of {run}"));
    detail(&format!("restarted; the same turn finished {} ms later", began.elapsed().as_millis()));
    detail(&format!(
        "tool calls begun {started}, ended {finished}; model calls {}, one of them cut off",
        count(&entries, "model_called")
    ));
    detail("the file itself has its line once");
    Ok(())
}

/// Step 5: the process dies in the middle of a call that must not be repeated.
async fn kill_in_tool_call(server: &mut Server, ledger: &mut Ledger, home: &Home) -> anyhow::Result<String> {
    // The tools are slowed down for this one start, so that the call is surely in flight when the process dies.
    server.stop().await?;
    server.start_with_pace(20_000).await?;
    let script = "@tool file.append {\"path\":\"orders.txt\",\"content\":\"one order\\n\"}";
    let accepted = server.send(script, "demo-tool").await?;
    ledger.acknowledged(&accepted)?;
    let run = server.run_of(&accepted).await?;
    server.wait_for(&run, "the call to begin", |entries| count(entries, "tool_started") == 1).await?;
    let pid = server.pid();
    server.kill().await?;
    server.start().await?;
    let entries = server.wait_for(&run, "the end", |entries| count(entries, "run_completed") == 1).await?;
    step(
        5,
        "kill -9 during file.append",
        &format!("process {pid} died; nobody can know whether the line was written"),
    );
    for entry in &entries {
        let fields = &entry["fields"];
        match entry["kind"].as_str() {
            Some("tool_started") => detail(&format!(
                "{} began ({})",
                fields["tool"].as_str().unwrap_or_default(),
                fields["effect"].as_str().unwrap_or_default()
            )),
            Some("tool_finished" | "tool_refused") => detail(&format!(
                "  {} -> {}",
                fields["call"].as_str().unwrap_or_default(),
                fields["status"].as_str().unwrap_or_default()
            )),
            _ => {}
        }
    }
    let reply = entries.iter().rev().find(|entry| entry["kind"] == "model_replied");
    let said = reply.map_or(String::new(), |entry| {
        entry["body"]["parts"][0]["text"].as_str().unwrap_or_default().to_owned()
    });
    detail(&format!("the agent says: {said}"));
    looked_at(&entries)?;
    let lines = lines_of(home, "orders.txt")?;
    ensure!(lines.len() <= 1, "orders.txt was appended to more than once: {lines:?}");
    Ok(run)
}

/// Checks that the outcome of a call is unknown, and that the agent looked before it said anything.
fn looked_at(entries: &[Value]) -> anyhow::Result<()> {
    let unknown = entries.iter().position(|entry| entry["fields"]["status"] == "unknown");
    let unknown = unknown.context("no call is unknown")?;
    let is_look = |entry: &Value| entry["kind"] == "tool_started" && entry["fields"]["tool"] == "file.read";
    ensure!(entries[unknown..].iter().any(is_look), "the agent did not look into the file");
    Ok(())
}

/// Reads the lines of a file in the agents' workspaces, past the server. One that is not there has none.
fn lines_of(home: &Home, name: &str) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for agent in std::fs::read_dir(home.root().join("agents")).context("no agent has a workspace")? {
        let path = agent?.path().join("workspace").join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => lines.extend(text.lines().map(str::to_owned)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }
    Ok(lines)
}

fn step(number: u32, name: &str, fact: &str) {
    let bold = anstyle::Style::new().bold();
    anstream::println!("{bold}{number} {name}{bold:#}  {fact}");
}

fn detail(text: &str) {
    for line in text.lines() {
        anstream::println!("    {line}");
    }
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the server's answer has no {key}: {value}"))
}

fn count(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|entry| entry["kind"] == kind).count()
}

/// The body of an event.
fn event(text: &str, channel: &str, wait: bool) -> Value {
    json!({"text": text, "platform": "demo", "channel": channel, "wait": wait, "wait_ms": 20_000})
}

/// A temporary home; gone at the end unless it is kept.
struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    fn new(keep: bool) -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..100 {
            let path: PathBuf = base.join(format!("dromia-demo-{}-{attempt}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, keep }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to make {}", path.display()));
                }
            }
        }
        bail!("no free name for a temporary home in {}", base.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        anstream::eprintln!("note: {} could not be removed: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, fields: &Value) -> Value {
        json!({"kind": kind, "fields": fields})
    }

    #[test]
    fn an_agent_that_did_not_look_is_caught() {
        let unknown = entry("tool_finished", &json!({"call": "call_1_0", "status": "unknown"}));
        let look = entry("tool_started", &json!({"call": "call_2_0", "tool": "file.read"}));
        assert!(looked_at(&[unknown.clone(), look.clone()]).is_ok());
        for wrong in [vec![unknown.clone()], vec![look.clone()], vec![look, unknown]] {
            assert!(looked_at(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_line_that_was_written_twice_is_seen_past_the_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::find(Some(directory.path()));
        assert!(lines_of(&home, "plan.txt").is_err(), "there is no agent");
        let workspace = directory.path().join("agents").join("one").join("workspace");
        std::fs::create_dir_all(&workspace).expect("it is made");
        assert_eq!(lines_of(&home, "plan.txt").expect("it is read"), Vec::<String>::new());
        std::fs::write(workspace.join("plan.txt"), "once\nonce\n").expect("it is written");
        assert_eq!(lines_of(&home, "plan.txt").expect("it is read"), ["once", "once"]);
    }
}
