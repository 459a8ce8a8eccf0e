//! Running programs: `exec` and `shell.execute`.
//!
//! Invariant: the words that the gate judged are the words that the sandbox executes; no string is taken apart here. A
//! shell gets its command as one word and runs inside of the same walls.
//!
//! What a program writes is told up to a bound, its beginning and its end; the whole of it becomes a file of the
//! workspace, which the model reads piece by piece. It does not stream: the port to tools has no place for pieces.

use std::path::PathBuf;
use std::time::Duration;

use dromia_contracts::content::Part;
use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{Ending, ProcessEvent, ProcessSpec, Sandbox, SandboxError};
use dromia_contracts::terms::ToolTerms;

use crate::files::fact;
use crate::limits;
use crate::path::{FilePath, WorkspacePath};

/// The most programs that run at once.
pub(crate) const PROGRAMS_MAX: usize = 16;

/// How long a call waits for its turn.
pub(crate) const TURN_WAIT: Duration = Duration::from_secs(60);

/// The shell inside of the sandbox.
pub(crate) const SHELL: &str = "/bin/sh";

/// How much of the beginning and of the end is told.
const HEAD_BYTES: usize = 20 << 10;
const TAIL_BYTES: usize = 10 << 10;

/// A program as the gate judged it.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: WorkspacePath,
    pub(crate) timeout_s: u32,
    /// What the operator says about it.
    pub(crate) terms: ToolTerms,
    /// The key of the call.
    pub(crate) key: String,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Whether it did not end well.
    pub(crate) failed: bool,
    /// What is told.
    pub(crate) parts: Vec<Part>,
    /// The whole output and where to keep it, if not all of it is told.
    pub(crate) whole: Option<(FilePath, Vec<u8>)>,
}

/// Runs a program in a workspace to its end. Dropping the future ends it.
pub(crate) async fn run(
    sandbox: &dyn Sandbox,
    workspace: PathBuf,
    program: Program,
) -> Result<Done, SandboxError> {
    let Program { argv, cwd, timeout_s, terms, key } = program;
    let limits = limits::of_call(timeout_s, &terms);
    let cwd = cwd.names().collect();
    let spec = ProcessSpec { argv, env: Vec::new(), workspace, cwd, mounts: Vec::new(), limits };
    let mut process = sandbox.start(spec).await?;
    let mut output = Vec::new();
    let mut ending = Ending::Lost;
    while let Some(event) = process.next().await {
        match event {
            // Both outputs as they came, as a person at a terminal would see them.
            ProcessEvent::Output { bytes, .. } => output.extend_from_slice(&bytes),
            ProcessEvent::Ended(how) => ending = how,
        }
    }
    let mut done = told(&ending, output, &key, sandbox.name());
    // Behind how it ended, before what it said.
    done.parts.insert(1, fact(limits::shown(&limits)));
    Ok(done)
}

fn told(ending: &Ending, output: Vec<u8>, key: &str, sandbox: &str) -> Done {
    let failed = *ending != Ending::Exited { code: 0 };
    let mut parts = vec![fact(format!("[{}; {sandbox}]", ended(ending)))];
    let text = |bytes: &[u8]| Part::text(String::from_utf8_lossy(bytes), Label::UNKNOWN_FILE);
    if output.is_empty() {
        return Done { failed, parts, whole: None };
    }
    if output.len() <= HEAD_BYTES + TAIL_BYTES {
        parts.push(text(&output));
        return Done { failed, parts, whole: None };
    }
    let tail = output.len() - TAIL_BYTES;
    parts.push(text(&output[..HEAD_BYTES]));
    parts.push(fact(format!("[{} bytes are left out here]", tail - HEAD_BYTES)));
    parts.push(text(&output[tail..]));
    let whole = place(key).map(|place| (place, output));
    Done { failed, parts, whole }
}

/// Where the output of a call is kept.
fn place(key: &str) -> Option<FilePath> {
    let name = &blake3::hash(key.as_bytes()).to_hex()[..16];
    WorkspacePath::parse(&format!("output/{name}.txt")).ok()?.try_into().ok()
}

fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Exited { code } => format!("exit code {code}"),
        Ending::Signalled { signal } => format!("ended by signal {signal}"),
        Ending::Killed { limit } => format!("ended: it reached its limit of {limit}"),
        Ending::Stopped => "ended from outside".to_owned(),
        Ending::NotStarted { problem } => format!("nothing ran: {problem}"),
        Ending::Lost => "it was lost; what it did is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::content::parts_text;
    use dromia_contracts::sandbox::Limit;

    use super::*;

    #[test]
    fn a_long_output_is_told_at_both_ends_and_kept_as_a_whole() {
        let output: Vec<u8> =
            (0..100_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let done = told(&Ending::Exited { code: 0 }, output.clone(), "key", "walls");
        let text = parts_text(&done.parts);
        assert!(text.contains("\n0\n1\n") || text.contains("0\n1\n2\n"), "the beginning is there");
        assert!(text.ends_with("99999\n"), "the end is there");
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 200);
        let (path, whole) = done.whole.expect("it is kept");
        assert_eq!(whole, output);
        assert!(path.to_string().starts_with("output/"));
    }

    #[test]
    fn only_a_good_end_is_no_failure() {
        for (ending, failed, says) in [
            (Ending::Exited { code: 0 }, false, "exit code 0"),
            (Ending::Exited { code: 3 }, true, "exit code 3"),
            (Ending::Signalled { signal: 11 }, true, "signal 11"),
            (Ending::Killed { limit: Limit::Memory }, true, "its limit of memory"),
            (Ending::NotStarted { problem: "no such file".to_owned() }, true, "nothing ran: no such file"),
            (Ending::Lost, true, "not known"),
        ] {
            let done = told(&ending, Vec::new(), "key", "walls");
            assert_eq!(done.failed, failed);
            assert!(parts_text(&done.parts).contains(says), "{:?}", done.parts);
        }
    }
}
