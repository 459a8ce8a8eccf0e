//! The log of a server: lines on standard error, without secrets.
//!
//! Every line passes one writer, whichever part or library wrote it. It takes out what is known to be secret (variables of
//! the environment, the token of the home), what looks like a secret of a well-known issuer, and the values that the vault
//! holds to look for, in every form that is looked for. A heuristic and no wall: what nobody knows and what looks like
//! nothing stays. Lines have no colours, because colours would stand between the characters of a value.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock, Weak};

use dromia_guard::StoreVault;
use tracing_subscriber::EnvFilter;

use crate::redact::Redactor;

/// Knows what must not stand in the log.
pub(crate) struct Log {
    redactor: Redactor,
    /// Not held: a log lives as long as the process, and a store that is still held at the end is not closed.
    vault: OnceLock<Weak<StoreVault>>,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// As JSON, for programs.
    Json,
}

impl Log {
    /// Begins to log, for the whole process and once.
    pub(crate) fn start(redactor: Redactor, form: Form) -> Arc<Self> {
        let log = Arc::new(Self { redactor, vault: OnceLock::new() });
        let writer = Arc::clone(&log);
        let filter = EnvFilter::try_from_env("DROMIA_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || Line(Arc::clone(&writer)));
        match form {
            Form::Text => lines.init(),
            Form::Json => lines.json().init(),
        }
        log
    }

    /// Says whose values must not stand in it; the first that is named stays.
    pub(crate) fn know(&self, vault: &Arc<StoreVault>) {
        self.vault.get_or_init(|| Arc::downgrade(vault));
    }

    fn clean(&self, line: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        if let Some(vault) = self.vault.get().and_then(Weak::upgrade) {
            vault.mask_held(&mut line);
        }
        self.redactor.text(&String::from_utf8_lossy(&line)).into_bytes()
    }
}

/// Writes a line; the subscriber hands each on as a whole.
struct Line(Arc<Log>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(&self.0.clean(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_loses_what_is_known_and_what_looks_like_a_secret() {
        let mut redactor = Redactor::default();
        redactor.learn("correct horse battery");
        let log = Log { redactor, vault: OnceLock::new() };
        let line = b"WARN a: it is correct horse battery token=ghp_0123456789abcdef url=https://u:p@h/x\n";
        let clean = String::from_utf8(log.clean(line)).expect("it is text");
        assert_eq!(clean, "WARN a: it is (redacted) token=(redacted) url=https://(redacted)@h/x\n");
    }
}
