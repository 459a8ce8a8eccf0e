//! Servers as child processes: started on a port of their own choosing, watched, stopped or killed.
//!
//! Invariant: a child does not outlive its handle. What it says on standard error goes to a file, so that a slow
//! terminal measures nothing.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child as Process, Command};
use tokio::time::{Instant, timeout};

/// A server that does not say where it listens after this long has failed.
const START_TIME_MAX: Duration = Duration::from_mins(1);
/// A server that drains longer is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    name: String,
    process: Process,
    address: SocketAddr,
    started: Instant,
}

impl ServerProcess {
    /// Starts a server and waits until it says where it listens.
    pub(crate) async fn start(name: &str, mut command: Command, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        let started = Instant::now();
        let mut process = command.spawn().with_context(|| format!("failed to start {name}"))?;
        let stdout = process.stdout.take().context("a child without standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START_TIME_MAX, lines.next_line()).await.context("no first line in time")??;
        let Some(address) = line.as_deref().and_then(parse_listening_line) else {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("{name} did not say where it listens but {line:?}; it also said:\n{said}");
        };
        // Later lines are read and dropped, so that the child never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { name: name.to_owned(), process, address, started })
    }

    /// Returns where it listens.
    pub(crate) fn listen_address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when it was started.
    pub(crate) fn started_at(&self) -> Instant {
        self.started
    }

    /// Returns the bytes of memory that it has resident.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process_id()?.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// Returns the processor time that it has used, in microseconds; as exact as the kernel's clock tick.
    pub(crate) fn cpu_micros(&self) -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process_id()?.as_raw_nonzero()))?;
        let ticks = cpu_ticks(&stat).context("no processor time in /proc/PID/stat")?;
        Ok(ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Asks it to drain and waits for its end.
    pub(crate) async fn stop_gracefully(mut self) -> anyhow::Result<()> {
        kill_process(self.process_id()?, Signal::TERM)?;
        match timeout(STOP_TIME_MAX, self.process.wait()).await {
            Ok(ended) => self.ended_well(ended?),
            Err(_) => bail!("{} did not stop within {STOP_TIME_MAX:?}", self.name),
        }
    }

    /// Kills it as a power cut would and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.start_kill()?;
        timeout(STOP_TIME_MAX, self.process.wait()).await.context("a killed process did not end")??;
        Ok(())
    }

    fn ended_well(&self, status: ExitStatus) -> anyhow::Result<()> {
        if status.success() { Ok(()) } else { bail!("{} ended with {status}", self.name) }
    }

    fn process_id(&self) -> anyhow::Result<Pid> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        id.and_then(Pid::from_raw).with_context(|| format!("{} has ended", self.name))
    }
}

/// The fields behind the name, which may hold blanks and brackets itself: the 12th is the time of the program, the 13th the
/// kernel's for it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut times = behind.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn parse_listening_line(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening http://")?.trim().trim_end_matches('/').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 113 0 0 0 250 40 9 9 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(290));
        assert_eq!(cpu_ticks("7 (a S 1"), None);
    }

    #[test]
    fn the_first_line_names_the_address_or_nothing() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
        for (line, expected) in [
            ("listening http://127.0.0.1:80", address),
            ("listening http://127.0.0.1:80/", address),
            ("listening https://127.0.0.1:80", None),
            ("127.0.0.1:80", None),
        ] {
            assert_eq!(parse_listening_line(line), expected, "{line}");
        }
    }
}
