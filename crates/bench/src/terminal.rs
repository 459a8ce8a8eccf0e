//! A program at a terminal of its own, and the moment at which a text is there.
//!
//! `script` makes the terminal and hands on what is printed, which adds a hop to what is measured. Nothing is drawn: what
//! comes is searched with its control characters.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

const TEXT_TIME_MAX: Duration = Duration::from_secs(10);

/// A running program and its terminal.
#[derive(Debug)]
pub(crate) struct TerminalProgram {
    process: Child,
    printed: ChildStdout,
    /// Held open: its end would be the end of what the program reads.
    _typed: Option<ChildStdin>,
    seen: Vec<u8>,
}

impl TerminalProgram {
    /// Starts a program at a new terminal.
    pub(crate) fn start(program: &Command) -> anyhow::Result<Self> {
        let program = program.as_std();
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words: Option<Vec<_>> = words.map(|word| word.to_str()).collect();
        let line = words.context("a word of the command is no text")?.join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env("COLUMNS", "100").env("SHELL", "/bin/sh");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = script.spawn().context("failed to start `script` of util-linux")?;
        let printed = process.stdout.take().context("a child without standard output")?;
        Ok(Self { printed, _typed: process.stdin.take(), process, seen: Vec::new() })
    }

    /// Waits until a text is there, and returns when that was.
    pub(crate) async fn await_text(&mut self, text: &str) -> anyhow::Result<Instant> {
        while !self.seen.windows(text.len()).any(|seen| seen == text.as_bytes()) {
            let read = timeout(TEXT_TIME_MAX, self.printed.read_buf(&mut self.seen)).await;
            if read.context("the program is silent")?? == 0 {
                bail!("there is no {text:?} in {:?}", String::from_utf8_lossy(&self.seen));
            }
        }
        Ok(Instant::now())
    }

    /// Waits until the program has ended well.
    pub(crate) async fn await_end(mut self) -> anyhow::Result<()> {
        let ended = timeout(TEXT_TIME_MAX, async {
            self.printed.read_to_end(&mut self.seen).await?;
            self.process.wait().await
        });
        let ended = ended.await.context("the program goes on")??;
        if ended.success() { Ok(()) } else { bail!("the program ended with {ended}") }
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }
}
