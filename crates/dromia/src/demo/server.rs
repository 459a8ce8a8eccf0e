//! The server of the demo: this binary in a process of its own, which can be killed and started again.
//!
//! Every process of the demo ends with it: what it waits for is killed when it is dropped, and the kernel kills the server
//! where this process is killed itself. A server that is to be kept is tied to nothing.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{event_body, string_field};
use crate::home::Home;
use crate::up::{self, UpArguments};

/// The longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// What ends the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerLifetime {
    /// The end of this process, however it comes.
    ToThis,
    /// Nothing: it may be left behind.
    Free,
}

/// The arguments of the server of a demo.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArguments {
    /// The process that it ends with.
    #[arg(long)]
    demo: u32,

    #[command(flatten)]
    up: UpArguments,
}

/// Serves until a signal stops it, or until the demo is gone.
pub(super) fn serve_demo(home: &Home, arguments: &ServerArguments) -> anyhow::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("failed to make the server end with the demo")?;
    // The demo may have ended before that was said.
    ensure!(std::os::unix::process::parent_id() == arguments.demo, "the demo has ended");
    up::run_server(home, &arguments.up)
}

/// A server and how to reach it.
pub(super) struct DemoServer {
    home: Home,
    tie: ServerLifetime,
    /// None before the first start and after the end.
    child: Option<Child>,
    url: String,
    token: String,
    client: reqwest::Client,
}

/// What the witness said.
pub(super) struct WitnessVerdict {
    pub(super) pid: u32,
    pub(super) text: String,
    pub(super) good: bool,
}

impl DemoServer {
    /// Names the home; nothing is made or started.
    pub(super) fn new(home: &Home, tie: ServerLifetime) -> Self {
        Self {
            home: home.clone(),
            tie,
            child: None,
            url: String::new(),
            token: String::new(),
            client: reqwest::Client::new(),
        }
    }

    /// Makes the home and starts the server.
    pub(super) async fn init_and_start(&mut self) -> anyhow::Result<()> {
        let init = program_command(&self.home)?
            .args(["init", "--defaults", "--no-input", "--model-source", "scripted"])
            .output()
            .await?;
        ensure!(init.status.success(), "init failed: {}", error_text(&init.stderr));
        let token = std::fs::read_to_string(self.home.token_path()).context("failed to read the token")?;
        token.trim().clone_into(&mut self.token);
        self.spawn_process().await
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).unwrap_or_default()
    }

    /// Kills the process with SIGKILL, in the middle of whatever it does.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        child.kill().await.context("failed to kill the server")
    }

    /// Ends the process with SIGTERM.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        tokio::time::timeout(DEADLINE, child.wait()).await.context("the server did not stop in time")??;
        Ok(())
    }

    /// Ends the process at once if it still runs, and returns its id.
    pub(super) async fn kill_if_running(&mut self) -> Option<u32> {
        let mut child = self.child.take()?;
        let pid = child.id()?;
        // One that ended just now needs no second end.
        drop(child.kill().await);
        Some(pid)
    }

    /// Starts the server again on the same home.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        self.start_with_pace(0).await
    }

    /// Starts it with tools that take this much longer.
    pub(super) async fn start_with_pace(&mut self, pace_ms: u64) -> anyhow::Result<()> {
        self.set_pace(pace_ms)?;
        self.spawn_process().await
    }

    /// Lets the process go on after this one has ended.
    pub(super) fn leave_running(&mut self) {
        // Dropping the handle would kill the process.
        std::mem::forget(self.child.take());
    }

    /// Starts the process and waits until it prints its address. The child is stored from its first moment on, so a
    /// caller that gives up the wait can end it.
    async fn spawn_process(&mut self) -> anyhow::Result<()> {
        let mut command = program_command(&self.home)?;
        match self.tie {
            ServerLifetime::ToThis => {
                command.args(["demo", "server", "--demo", &std::process::id().to_string()])
            }
            ServerLifetime::Free => command.arg("up"),
        };
        let child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("failed to start the server")?;
        let stdout = self.child.insert(child).stdout.take().context("the server has no output")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        tokio::time::timeout(DEADLINE, lines.read_line(&mut line))
            .await
            .context("the server did not start")??;
        let Some(url) = line.trim().strip_prefix("listening ") else {
            bail!("the server did not start: {line}")
        };
        url.clone_into(&mut self.url);
        Ok(())
    }

    fn set_pace(&self, pace_ms: u64) -> anyhow::Result<()> {
        let path = self.home.config_path();
        let kept = std::fs::read_to_string(&path)?;
        let kept = kept.split("tools:").next().unwrap_or_default();
        Ok(std::fs::write(&path, format!("{kept}tools: {{ pace_ms: {pace_ms} }}\n"))?)
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask_and_wait(&self, text: &str, channel: &str) -> anyhow::Result<Value> {
        self.post_json("/v1/events", &event_body(text, channel, true)).await
    }

    /// Sends and does not wait.
    pub(super) async fn send_event(&self, text: &str, channel: &str) -> anyhow::Result<Value> {
        self.post_json("/v1/events", &event_body(text, channel, false)).await
    }

    /// Returns the run that took an input.
    pub(super) async fn run_of(&self, accepted: &Value) -> anyhow::Result<String> {
        let session = string_field(accepted, "session")?;
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let runs = self.get(&format!("/v1/runs?session={session}")).await?;
            if let Some(run) = runs["items"][0]["id"].as_str() {
                return Ok(run.to_owned());
            }
            short_pause().await;
        }
        bail!("no run took {accepted}")
    }

    /// Reads a journal.
    pub(super) async fn fetch_journal(&self, run: &str) -> anyhow::Result<Vec<Value>> {
        let page = self.get(&format!("/v1/runs/{run}/journal?limit=256")).await?;
        Ok(page["entries"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a journal says something.
    pub(super) async fn wait_for(
        &self,
        run: &str,
        what: &str,
        holds: impl Fn(&[Value]) -> bool,
    ) -> anyhow::Result<Vec<Value>> {
        let until = Instant::now() + DEADLINE;
        loop {
            let entries = self.fetch_journal(run).await?;
            if holds(&entries) {
                return Ok(entries);
            }
            ensure!(Instant::now() < until, "{run} did not reach {what}; see `dromia run why {run}`");
            short_pause().await;
        }
    }

    /// Registers another tenant and returns its token.
    pub(super) async fn stranger_token(&self) -> anyhow::Result<String> {
        let created =
            program_command(&self.home)?.args(["tenant", "create", "stranger", "--json"]).output().await?;
        ensure!(created.status.success(), "tenant create failed: {}", error_text(&created.stderr));
        string_field(&serde_json::from_slice(&created.stdout)?, "token")
    }

    /// Returns the HTTP status that a token gets.
    pub(super) async fn status_of(&self, path: &str, token: &str) -> anyhow::Result<u16> {
        let response = self.client.get(format!("{}{path}", self.url)).bearer_auth(token).send().await?;
        Ok(response.status().as_u16())
    }

    /// Has a process of its own count.
    pub(super) async fn run_witness(&self, ledger: &Path) -> anyhow::Result<WitnessVerdict> {
        let child = program_command(&self.home)?
            .args(["demo", "witness", "--url", &self.url])
            .arg("--ledger")
            .arg(ledger)
            .arg("--home")
            .arg(self.home.root_dir())
            .stdout(Stdio::piped())
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        let output = child.wait_with_output().await?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(WitnessVerdict { pid, text, good: output.status.success() })
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request =
            self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(&json!(body));
        let response = request.timeout(DEADLINE).send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        ensure!(status.is_success(), "{path} answered {status}: {answer}");
        Ok(answer)
    }
}

/// This program, on a home. What is not waited for any more is killed.
fn program_command(home: &Home) -> anyhow::Result<Command> {
    let mut command =
        Command::new(std::env::current_exe().context("failed to find the executable of this program")?);
    command.env("DROMIA_HOME", home.root_dir()).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// What a command of this program said of its failure, without the label that is put before it again.
fn error_text(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

/// A short rest between two looks.
async fn short_pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
