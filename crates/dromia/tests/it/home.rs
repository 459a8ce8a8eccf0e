//! A temporary home and a server of the real binary on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Tells how long something took: a figure for whoever reads, never a judgement.
#[expect(clippy::print_stdout, reason = "the figure is seen with `--no-capture`")]
pub(crate) fn tell(what: &str, took: Duration) {
    println!("{what}: {took:?}");
}

/// A home that goes away with the test.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Makes a home in a directory of one's choice.
    pub(crate) fn within(parent: &Path) -> Self {
        let home = Self { directory: tempfile::tempdir_in(parent).expect("a temporary directory") };
        let init = home.run(&["init", "--defaults", "--no-input", "--model-source", "scripted"]);
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        home
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub(crate) fn token_path(&self) -> String {
        std::fs::read_to_string(self.path().join("token")).expect("init wrote a token").trim().to_owned()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dromia"));
        command.env("DROMIA_HOME", self.path()).stdin(Stdio::null());
        // What a command keeps for its user belongs to the test.
        command.env("XDG_CONFIG_HOME", self.directory.path().join("config"));
        for key in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"] {
            command.env_remove(key);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the program runs")
    }

    pub(crate) fn serve(&self) -> Server {
        self.serve_by(self.command())
    }

    /// Starts a server with a command that ends in running the program.
    pub(crate) fn serve_by(&self, command: Command) -> Server {
        self.serve_with(command, &[])
    }

    /// The same with more arguments.
    pub(crate) fn serve_with(&self, mut command: Command, more: &[&str]) -> Server {
        let mut child = command
            .args(["up", "--listen", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("the output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server announces itself");
        let url = line.trim().strip_prefix("listening ").expect("the first line is the address").to_owned();
        Server { child, url, token: self.token_path() }
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the server is killed");
        self.child.wait().expect("the server is gone");
    }

    /// Ends it with SIGTERM and returns how long that took.
    pub(crate) fn terminate(self) -> Duration {
        let began = Instant::now();
        self.tell_to_end();
        self.ended();
        began.elapsed()
    }

    /// Sends it SIGTERM, and waits for nothing.
    pub(crate) fn tell_to_end(&self) {
        let kill = Command::new("kill").arg(self.pid().to_string()).status().expect("kill runs");
        assert!(kill.success());
    }

    /// Waits until it has ended, and ended well.
    pub(crate) fn ended(mut self) {
        assert!(self.child.wait().expect("the server ends").success());
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(reqwest::Client::new().get(format!("{}{path}", self.url)).bearer_auth(&self.token)).await
    }

    pub(crate) async fn event(&self, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}/v1/events", self.url)).bearer_auth(&self.token);
        self.send(request.json(body)).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.timeout(DEADLINE).send().await.expect("the server answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Reads the journal of the newest run of a session until it says something.
    pub(crate) async fn journal_until(&self, session: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        self.journal_within(DEADLINE, session, holds).await
    }

    /// The same for what takes longer than most.
    pub(crate) async fn journal_within(
        &self,
        deadline: Duration,
        session: &str,
        holds: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let until = Instant::now() + deadline;
        loop {
            let (_, runs) = self.get(&format!("/v1/runs?session={session}")).await;
            if let Some(run) = runs["items"][0]["id"].as_str() {
                let (_, page) = self.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
                let entries = page["entries"].as_array().cloned().unwrap_or_default();
                if holds(&entries) {
                    return entries;
                }
            }
            assert!(Instant::now() < until, "the journal does not come to it");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended already needs no second end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn count(entries: &[Value], kind: &str) -> usize {
    entries.iter().filter(|entry| entry["kind"] == kind).count()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // reqwest asks for a TLS provider even where it speaks plain HTTP.
    drop(rustls::crypto::ring::default_provider().install_default());
    runtime.expect("a runtime").block_on(future)
}

/// Adds to the end of a file, which is there. Nothing of it is written again: a server may be following it.
pub(crate) fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("the file is there");
    file.write_all(text.as_bytes()).expect("the file can be written");
}
