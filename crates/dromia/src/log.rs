//! The log of a server: lines on standard error, without secrets.
//!
//! Every line passes one writer, whichever part or library wrote it. It takes out what is known to be secret (variables
//! of the environment, the token of the home), what looks like a secret of a well-known issuer, and the values that the
//! vault holds to look for, in every form that is looked for. It is a heuristic and no guarantee: an unknown secret
//! that looks like ordinary text stays. Lines have no colours, because the codes would split a value.
//!
//! Nothing waits for standard error: lines go through a bounded queue with a thread of its own ([`queue`]). A panic is a line like
//! any other.

mod queue;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use dromia_gateway::LogMeter;
use dromia_guard::StoreVault;
use tracing_subscriber::EnvFilter;

use self::queue::LineQueue;
use crate::redact::Redactor;

/// How long the end of the server waits for what is still to be written.
const LAST_LINES_PATIENCE: Duration = Duration::from_millis(500);

/// Knows what must not be in the log.
pub(crate) struct ServerLog {
    redactor: Redactor,
    /// Not held: a log lives as long as the process, and a store that is still held at the end is not closed.
    vault: OnceLock<Weak<StoreVault>>,
    lines: Arc<LineQueue>,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// As JSON, for programs.
    Json,
}

impl ServerLog {
    /// Begins to log, for the whole process and once.
    pub(crate) fn start(redactor: Redactor, form: LogFormat) -> io::Result<Arc<Self>> {
        let lines = LineQueue::start_writer(io::stderr())?;
        let log = Arc::new(Self { redactor, vault: OnceLock::new(), lines });
        let writer = Arc::clone(&log);
        let filter = EnvFilter::try_from_env("DROMIA_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || LogLineWriter(Arc::clone(&writer)));
        match form {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().init(),
        }
        // The hook of the standard library writes to standard error by itself, and waits for it.
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Ok(log)
    }

    /// Sets the meter of the lines that are dropped because the queue is full.
    pub(crate) fn count_with(&self, meter: LogMeter) {
        self.lines.count_with(meter);
    }

    /// Waits a moment for what is still to be written.
    pub(crate) fn flush_lines(&self) {
        self.lines.drain(LAST_LINES_PATIENCE);
    }

    /// Sets the vault whose values are masked in it; the first that is named stays.
    pub(crate) fn watch_vault(&self, vault: &Arc<StoreVault>) {
        self.vault.get_or_init(|| Arc::downgrade(vault));
    }

    fn redact_line(&self, line: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        if let Some(vault) = self.vault.get().and_then(Weak::upgrade) {
            vault.mask_held(&mut line);
        }
        self.redactor.redact_text(&String::from_utf8_lossy(&line)).into_bytes()
    }
}

/// Writes a line; the subscriber hands each on as a whole.
struct LogLineWriter(Arc<ServerLog>);

impl Write for LogLineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lines.push_or_drop(self.0.redact_line(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_redacts_known_secrets_and_secret_like_text() {
        let mut redactor = Redactor::default();
        redactor.add_secret("correct horse battery");
        let log = ServerLog { redactor, vault: OnceLock::new(), lines: Arc::default() };
        let line = b"WARN a: it is correct horse battery token=ghp_0123456789abcdef url=https://u:p@h/x\n";
        let clean = String::from_utf8(log.redact_line(line)).expect("it is text");
        assert_eq!(clean, "WARN a: it is (redacted) token=(redacted) url=https://(redacted)@h/x\n");
    }
}
