//! `dromia demo`: eight steps on a real server in a temporary home, each with its fact.
//!
//! The server is this same binary in another process, killed with SIGKILL where it hurts most. The verdict is
//! counted by a third process that sees only the HTTP API, the agent's files and the list of what was
//! acknowledged. Nothing leaves the machine: the model is the built-in scripted one. However the demo ends, the server ends
//! with it and the home goes, unless both are to be kept.

mod ledger;
mod screen;
mod server;
mod witness;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dromia_cli::output::shell_word;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::home::Home;

use self::ledger::DemoLedger;
use self::screen::DemoScreen;
use self::server::{DemoServer, ServerLifetime};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dromia demo\n  dromia demo --keep")]
pub(crate) struct DemoArguments {
    /// Leave the server running and keep its home.
    #[arg(long)]
    keep: bool,

    #[command(subcommand)]
    part: Option<DemoProcess>,
}

#[derive(Debug, clap::Subcommand)]
enum DemoProcess {
    /// Count what was lost and doubled; the demo runs this as a process of its own.
    #[command(hide = true)]
    Witness(witness::WitnessArguments),
    /// Serve the home until the demo ends; the demo runs this as a process of its own.
    #[command(hide = true)]
    Server(server::ServerArguments),
}

/// The exit codes of a program that Ctrl-C and SIGTERM ended.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Runs the demo, or one of its processes.
pub(crate) fn run(home: &Home, arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    if let Some(DemoProcess::Server(server)) = &arguments.part {
        return server::serve_demo(home, server);
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.part {
        Some(DemoProcess::Witness(witness)) => tokio.block_on(witness::run_witness(witness)),
        Some(DemoProcess::Server(_)) | None => tokio.block_on(play_demo(arguments.keep)),
    }
}

/// Plays the demo until its end, or until a signal ends it.
async fn play_demo(keep: bool) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut directory = TemporaryHome::new(keep)?;
    let home = Home::locate_home(Some(&directory.path));
    let mut server = DemoServer::new(&home, if keep { ServerLifetime::Free } else { ServerLifetime::ToThis });
    let played = tokio::select! {
        // Ctrl-C ends the processes of the demo too; that is not reported as their failure.
        biased;
        _ = interrupt.recv() => Err(("interrupted", INTERRUPTED)),
        _ = terminate.recv() => Err(("terminated", TERMINATED)),
        played = Box::pin(run_steps(&home, &mut server, keep)) => Ok(played),
    };
    // The server goes before its home does; one that was left to itself is not here any more.
    let pid = server.kill_if_running().await;
    let (why, code) = match played {
        Ok(shown) => return shown,
        Err(told) => told,
    };
    directory.keep = false;
    let server =
        pid.map_or("no server runs".to_owned(), |pid| format!("the server, process {pid}, was stopped"));
    anstream::eprintln!("{why}: {server}, and the demo removed {}", directory.path.display());
    Ok(ExitCode::from(code))
}

async fn run_steps(home: &Home, server: &mut DemoServer, keep: bool) -> anyhow::Result<ExitCode> {
    let screen = DemoScreen::of_process();
    screen.print_line(
        "The model of this demo is built in and scripted. It is not an LLM, and nothing leaves this machine.\n",
    );
    let began = Instant::now();
    server.init_and_start().await?;
    let mut ledger = DemoLedger::create(&home.root_dir().join("demo-ledger.jsonl"))?;
    let ms = began.elapsed().as_millis();
    screen.print_step(1, "start", &format!("{} by process {} in {ms} ms", server.url(), server.pid()));

    let began = Instant::now();
    let answer = server.ask_and_wait("Who are you?", "demo-hello").await?;
    ledger.record_acknowledged(&answer)?;
    let ms = began.elapsed().as_millis();
    screen.print_step(2, "ask", &format!("{} model call, answered in {ms} ms:", answer["model_calls"]));
    screen.print_detail(answer["reply"].as_str().unwrap_or_default());

    let run = string_field(&answer, "run")?;
    let journal = server.fetch_journal(&run).await?;
    let fact = format!("{} entries, each durable before the next step:", journal.len());
    screen.print_step(3, "the journal", &fact);
    for entry in &journal {
        screen.print_detail(&format!("{:>2}  {}", entry["seq"], entry["kind"].as_str().unwrap_or_default()));
    }

    kill_in_model_call(screen, server, &mut ledger, home).await?;
    let unknown = kill_in_tool_call(screen, server, &mut ledger, home).await?;

    let stranger = server.stranger_token().await?;
    let status = server.status_of(&format!("/v1/runs/{unknown}"), &stranger).await?;
    ensure!(status == 404, "a caller without a token got {status}");
    screen.print_step(6, "a stranger", &format!("another tenant asks for {unknown} and gets {status}"));

    let verdict = server.run_witness(ledger.file_path()).await?;
    let counted = format!("counted by process {}, a separate witness:", verdict.pid);
    screen.print_step(7, "the verdict", &counted);
    screen.print_detail(&verdict.text);
    next(screen, server, keep.then_some(home), &run).await?;
    ensure!(verdict.good, "the witness found a lost or a duplicate entry");
    Ok(ExitCode::SUCCESS)
}

/// Step 8: what to type now, and how to be rid of what was kept.
async fn next(
    screen: DemoScreen,
    server: &mut DemoServer,
    kept: Option<&Home>,
    run: &str,
) -> anyhow::Result<()> {
    screen.print_step(8, "next", "next steps:");
    let program = screen::program_name();
    let Some(home) = kept else {
        screen.print_detail(&format!("`{program} init` creates your own home"));
        screen.print_detail(&format!("`{program} up` starts its server; then, in another terminal:"));
        screen
            .print_detail(&format!("`{program} ask '@tool time.now'` makes its first agent read the clock"));
        return server.stop().await;
    };
    let pid = server.pid();
    let home = home.root_dir().display().to_string();
    let home = shell_word(&home);
    screen.print_detail(&format!("the server keeps running as process {pid}:"));
    screen.print_detail(&format!("`{program} --home {home} run list`"));
    screen.print_detail(&format!("`{program} --home {home} run show {run}`"));
    screen.print_detail(&format!("`kill {pid}` stops it, then `rm -r {home}` removes its home"));
    server.leave_running();
    Ok(())
}

/// Step 4: the process dies while the model is thinking. What ran before is an append: done twice it would leave two lines,
/// which the file shows whatever the journal says.
async fn kill_in_model_call(
    screen: DemoScreen,
    server: &mut DemoServer,
    ledger: &mut DemoLedger,
    home: &Home,
) -> anyhow::Result<()> {
    let script = "@tool file.append {\"path\":\"plan.txt\",\"content\":\"written once\\n\"}\n@slow 2500\n@say The plan is written.";
    let accepted = server.send_event(script, "demo-model").await?;
    ledger.record_acknowledged(&accepted)?;
    let run = server.run_of(&accepted).await?;
    server
        .wait_for(&run, "the second model call", |entries| count_entries(entries, "model_called") == 2)
        .await?;
    let pid = server.pid();
    server.kill().await?;
    let began = Instant::now();
    server.start().await?;
    let entries =
        server.wait_for(&run, "the end", |entries| count_entries(entries, "run_completed") == 1).await?;
    let (started, finished) =
        (count_entries(&entries, "tool_started"), count_entries(&entries, "tool_finished"));
    ensure!((started, finished) == (1, 1), "the tool started {started} times and ended {finished} times");
    let lines = lines_of(home, "plan.txt")?;
    ensure!(lines == ["written once"], "plan.txt should have one line, but has {lines:?}");
    screen.print_step(
        4,
        "kill -9 during the model call",
        &format!("process {pid} died in the middle of {run}"),
    );
    screen
        .print_detail(&format!("restarted; the same turn finished {} ms later", began.elapsed().as_millis()));
    screen.print_detail(&format!(
        "tool calls started {started}, ended {finished}; model calls {}, one of them interrupted",
        count_entries(&entries, "model_called")
    ));
    screen.print_detail("the file has its line exactly once");
    Ok(())
}

/// Step 5: the process dies in the middle of a call that must not be repeated.
async fn kill_in_tool_call(
    screen: DemoScreen,
    server: &mut DemoServer,
    ledger: &mut DemoLedger,
    home: &Home,
) -> anyhow::Result<String> {
    // The tools are slowed down for this one start, so that the call is surely in flight when the process dies.
    server.stop().await?;
    server.start_with_pace(20_000).await?;
    let script = "@tool file.append {\"path\":\"orders.txt\",\"content\":\"one order\\n\"}\n@say This is how it stands.";
    let accepted = server.send_event(script, "demo-tool").await?;
    ledger.record_acknowledged(&accepted)?;
    let run = server.run_of(&accepted).await?;
    server.wait_for(&run, "the call to begin", |entries| count_entries(entries, "tool_started") == 1).await?;
    let pid = server.pid();
    server.kill().await?;
    server.start().await?;
    let entries =
        server.wait_for(&run, "the end", |entries| count_entries(entries, "run_completed") == 1).await?;
    screen.print_step(
        5,
        "kill -9 during file.append",
        &format!("process {pid} died; it is unknown whether it wrote the line"),
    );
    for call in screen::call_lines(&entries) {
        screen.print_detail(&call);
    }
    let reply = entries.iter().rev().find(|entry| entry["kind"] == "model_replied");
    let said = reply.map_or(String::new(), |entry| {
        entry["body"]["parts"][0]["text"].as_str().unwrap_or_default().to_owned()
    });
    screen.print_detail(&format!("the agent answers: {said}"));
    looked_at(&entries)?;
    let lines = lines_of(home, "orders.txt")?;
    ensure!(lines.len() <= 1, "orders.txt has the line more than once: {lines:?}");
    Ok(run)
}

/// Checks that the outcome of a call is unknown, and that the agent looked before it said anything.
fn looked_at(entries: &[Value]) -> anyhow::Result<()> {
    let unknown = entries.iter().position(|entry| entry["fields"]["status"] == "unknown");
    let unknown = unknown.context("no call is unknown")?;
    let is_look = |entry: &Value| entry["kind"] == "tool_started" && entry["fields"]["tool"] == "file.read";
    ensure!(entries[unknown..].iter().any(is_look), "the agent did not read the file");
    Ok(())
}

/// Reads the lines of a file in the agents' workspaces, past the server. One that is not there has none.
fn lines_of(home: &Home, name: &str) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for agent in std::fs::read_dir(home.root_dir().join("agents")).context("no agent has a workspace")? {
        let path = agent?.path().join("workspace").join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => lines.extend(text.lines().map(str::to_owned)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }
    Ok(lines)
}

fn string_field(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the server's answer has no {key}: {value}"))
}

fn count_entries(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|entry| entry["kind"] == kind).count()
}

/// The body of an event.
fn event_body(text: &str, channel: &str, wait: bool) -> Value {
    json!({"text": text, "platform": "demo", "channel": channel, "wait": wait, "wait_ms": 20_000})
}

/// A temporary home; gone at the end unless it is kept.
struct TemporaryHome {
    path: PathBuf,
    keep: bool,
}

impl TemporaryHome {
    fn new(keep: bool) -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..100 {
            let path: PathBuf = base.join(format!("dromia-demo-{}-{attempt}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, keep }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to create {}", path.display()));
                }
            }
        }
        bail!("failed to create a temporary home in {}: every name is taken", base.display())
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        if !self.keep {
            remove_directory(&self.path);
        }
    }
}

/// How often a directory is tried to be removed: what was killed a moment ago may still write its last file into it.
const REMOVALS_MAX: u32 = 50;

fn remove_directory(path: &Path) {
    for attempt in 1..=REMOVALS_MAX {
        match std::fs::remove_dir_all(path) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) if attempt == REMOVALS_MAX => {
                anstream::eprintln!("note: failed to remove {}: {error}", path.display());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
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
    fn the_demo_reads_repeated_lines_from_the_workspace() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::locate_home(Some(directory.path()));
        assert!(lines_of(&home, "plan.txt").is_err(), "there is no agent");
        let workspace = directory.path().join("agents").join("one").join("workspace");
        std::fs::create_dir_all(&workspace).expect("it is made");
        assert_eq!(lines_of(&home, "plan.txt").expect("it is read"), Vec::<String>::new());
        std::fs::write(workspace.join("plan.txt"), "once\nonce\n").expect("it is written");
        assert_eq!(lines_of(&home, "plan.txt").expect("it is read"), ["once", "once"]);
    }
}
