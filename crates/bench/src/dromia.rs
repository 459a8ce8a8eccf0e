//! Dromia as it is measured: a home made by its own `init`, a server started by its own `up`, and the calls that
//! the figures need. Nothing of its internals is used but its status page.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::child::ServerProcess;
use crate::http;

/// What the body of a turn that was answered holds.
pub(crate) const COMPLETED: &str = r#""status":"completed""#;
const INIT_TIME_MAX: Duration = Duration::from_secs(30);
const COMMAND_TIME_MAX: Duration = Duration::from_mins(1);

/// The home of one instance, in a directory that goes away with it.
#[derive(Debug)]
pub(crate) struct InstanceHome {
    dir: tempfile::TempDir,
    binary: PathBuf,
    token: String,
}

impl InstanceHome {
    /// Makes a home whose only model is the one at `model`.
    pub(crate) async fn create_for_model(
        binary: &Path,
        within: &Path,
        model: SocketAddr,
    ) -> anyhow::Result<Self> {
        let home = Self::new(binary, within).await?;
        home.write_config(model, None)?;
        Ok(home)
    }

    /// Makes a home with this configuration.
    pub(crate) async fn create_with_config(
        binary: &Path,
        within: &Path,
        configuration: &Value,
    ) -> anyhow::Result<Self> {
        let home = Self::new(binary, within).await?;
        home.replace_config(configuration)?;
        Ok(home)
    }

    /// Writes this as its configuration; the next start reads it.
    pub(crate) fn replace_config(&self, configuration: &Value) -> std::io::Result<()> {
        // JSON is YAML.
        std::fs::write(self.dir_path().join("dromia.yaml"), configuration.to_string())
    }

    async fn new(binary: &Path, within: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("home-").tempdir_in(within)?;
        let mut init = Command::new(binary);
        init.args(["init", "--defaults", "--no-input", "--model-source", "scripted", "--home"])
            .arg(dir.path())
            .kill_on_drop(true);
        let made = timeout(INIT_TIME_MAX, init.output()).await.context("dromia init took too long")??;
        if !made.status.success() {
            bail!("dromia init ended with {}: {}", made.status, String::from_utf8_lossy(&made.stderr));
        }
        let token =
            std::fs::read_to_string(dir.path().join("token")).context("failed to read the home's token")?;
        Ok(Self { dir, binary: binary.to_owned(), token: token.trim().to_owned() })
    }

    /// Makes a tenant on the running server, and returns its token.
    pub(crate) async fn create_tenant(&self, name: &str) -> anyhow::Result<String> {
        let made = self.run_command(&["tenant", "create", name, "--json"]).await?;
        let made: Value = serde_json::from_slice(&made)?;
        Ok(made["token"].as_str().context("a new tenant has no token")?.to_owned())
    }

    /// Builds a command of its client.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("DROMIA_HOME", self.dir_path()).kill_on_drop(true);
        command
    }

    /// Runs a command of its client and returns what it printed.
    pub(crate) async fn run_command(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = timeout(COMMAND_TIME_MAX, self.command(arguments).output()).await;
        let output = output.with_context(|| format!("{arguments:?} took too long"))??;
        if !output.status.success() {
            bail!("{arguments:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// Points the home at a model server, and says how many runs may be active where it is not the default; the next
    /// start reads it.
    pub(crate) fn write_config(&self, model: SocketAddr, active_max: Option<u64>) -> anyhow::Result<()> {
        let base_url = format!("http://{model}/v1");
        let mut configuration = json!({
            "models": {"default": {"kind": "openai", "base_url": base_url, "model": "scripted", "stream": false}},
        });
        if let Some(active_max) = active_max {
            configuration["engine"] = json!({"active_max": active_max});
        }
        Ok(self.replace_config(&configuration)?)
    }

    /// Starts the server.
    pub(crate) async fn start_server(&self, logs: &Path) -> anyhow::Result<DromiaServer> {
        let mut up = Command::new(&self.binary);
        up.arg("up").arg("--home").arg(self.dir_path()).args(["--listen", "127.0.0.1:0"]);
        let child = ServerProcess::start("dromia", up, logs).await?;
        Ok(DromiaServer { child, token: self.token.clone() })
    }

    /// Returns where it lies.
    pub(crate) fn dir_path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the bytes of all its files.
    pub(crate) fn size_bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        let mut directories = vec![self.dir_path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                let found = entry.metadata()?;
                if found.is_dir() {
                    directories.push(entry.path());
                } else {
                    bytes += found.len();
                }
            }
        }
        Ok(bytes)
    }

    /// Finds the directory of the store, by its database.
    pub(crate) fn find_store_dir(&self) -> anyhow::Result<PathBuf> {
        let candidates =
            [self.dir_path().to_owned(), self.dir_path().join("store"), self.dir_path().join("data")];
        candidates.into_iter().find(|dir| dir.join("dromia.db").is_file()).context("the home has no store")
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct DromiaServer {
    /// Its process.
    pub(crate) child: ServerProcess,
    token: String,
}

impl DromiaServer {
    /// Builds the request of one event.
    pub(crate) fn event_request(&self, event: &Value) -> Vec<u8> {
        http::encode_request("POST", "/v1/events", Some(&self.token), &event.to_string())
    }

    /// Builds the request of a turn in a session of its own, whose answer is waited for.
    pub(crate) fn hello_request(&self) -> Vec<u8> {
        self.event_request(&json!({"text": "hello", "wait": true}))
    }

    /// Calls the API.
    pub(crate) async fn call_api(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http::call_json(self.child.listen_address(), method, path, Some(&self.token), &body).await
    }

    /// Has one turn answered.
    pub(crate) async fn complete_turn(&self, event: &Value) -> anyhow::Result<Value> {
        let answer = self.call_api("POST", "/v1/events", event).await?;
        if answer["status"] != "completed" {
            bail!("a turn was not answered: {answer}");
        }
        Ok(answer)
    }

    /// Has one turn answered and returns how long it took, in milliseconds.
    pub(crate) async fn timed_turn(&self, event: &Value) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.complete_turn(event).await?;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }

    /// Reads what the writer did so far.
    pub(crate) async fn writer_totals(&self) -> anyhow::Result<WriterTotals> {
        let status = self.call_api("GET", "/v1/status", &Value::Null).await?;
        let read = |name: &str| {
            status["store"][name]
                .as_u64()
                .with_context(|| format!("the status has no store.{name}: {status}"))
        };
        Ok(WriterTotals {
            commits: read("commits")?,
            rows: read("rows")?,
            writer_micros: read("writer_micros")?,
            bytes: read("bytes_written")?,
        })
    }

    /// Reads how many runs have a task, and how many wait for one.
    pub(crate) async fn read_load(&self) -> anyhow::Result<(u64, u64)> {
        let status = self.call_api("GET", "/v1/status", &Value::Null).await?;
        let read = |name: &str| {
            status["load"][name].as_u64().with_context(|| format!("the status has no load.{name}: {status}"))
        };
        Ok((read("active")?, read("ready")?))
    }
}

/// What the writer did since the server started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriterTotals {
    /// Transactions.
    pub(crate) commits: u64,
    /// Rows.
    pub(crate) rows: u64,
    /// Its CPU time.
    pub(crate) writer_micros: u64,
    /// Bytes to the log and the main file.
    pub(crate) bytes: u64,
}
