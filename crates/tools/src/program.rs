//! Running programs: `exec` and `shell.execute`.
//!
//! Invariant: the words that the gate judged are the words that the sandbox executes; no string is taken apart here. A
//! shell gets its command as one word and runs inside of the same walls.
//!
//! A program whose tool the operator gave a way out finds a proxy (`proxy`) behind the one door of its sandbox.
//!
//! What a program writes is told up to a bound, its beginning and its end; the whole of it is [kept](crate::kept). Whoever
//! looks on hears it as it comes (`live`).

use std::path::PathBuf;
use std::time::Duration;

use dromia_contracts::content::Part;
use dromia_contracts::egress::Decision;
use dromia_contracts::label::Label;
use dromia_contracts::runtime::Clock;
use dromia_contracts::sandbox::{Ending, Family, Network, ProcessEvent, ProcessSpec, Sandbox, SandboxError};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::Pieces;

use crate::ending;
use crate::files::fact;
use crate::kept::{KEPT_BYTES_MAX, Long};
use crate::limits;
use crate::live::{self, Voice};
use crate::path::WorkspacePath;
use crate::proxy::{Judged, Proxy, Way};

/// The most programs that run at once.
pub(crate) const PROGRAMS_MAX: usize = 16;

/// How long a call waits for its turn.
pub(crate) const TURN_WAIT: Duration = Duration::from_mins(1);

/// The shell inside of the sandbox.
pub(crate) const SHELL: &str = "/bin/sh";

/// How much of the beginning and of the end is told.
const HEAD_BYTES: usize = 20 << 10;
const TAIL_BYTES: usize = 10 << 10;

/// The most refusals that are told one by one; the journal has them all.
const REFUSED_SHOWN_MAX: usize = 8;

/// A program as the gate judged it.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: WorkspacePath,
    pub(crate) timeout_s: u32,
    /// What the operator says about it.
    pub(crate) terms: ToolTerms,
    /// Where its requests go, if it may reach anything.
    pub(crate) way: Option<Way>,
    /// Whose it is, if it may have something in common with others.
    pub(crate) family: Option<Family>,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Whether it did not end well.
    pub(crate) failed: bool,
    /// What is told.
    pub(crate) parts: Vec<Part>,
    /// The whole output, if not all of it is told.
    pub(crate) whole: Option<Long>,
    /// What was judged of what it asked for.
    pub(crate) egress: Vec<Decision>,
}

/// Runs a program in a workspace to its end. Dropping the future ends it.
pub(crate) async fn run(
    sandbox: &dyn Sandbox,
    workspace: PathBuf,
    program: Program,
    clock: &dyn Clock,
    pieces: &dyn Pieces,
) -> Result<Done, SandboxError> {
    let Program { argv, cwd, timeout_s, terms, way, family } = program;
    let limits = limits::of_call(timeout_s, &terms);
    let cwd = cwd.names().collect();
    let network = if way.is_some() { Network::Proxy } else { Network::None };
    let (env, mounts) = (Vec::new(), Vec::new());
    let spec = ProcessSpec { argv, env, workspace, cwd, mounts, limits, network, family };
    let mut process = sandbox.start(spec).await?;
    let proxy = match way.zip(process.take_door()) {
        Some((way, door)) => {
            let opened = Proxy::open(door, way);
            Some(opened.map_err(|problem| SandboxError::Start { problem: problem.to_string() })?)
        }
        None => None,
    };
    let began = clock.now();
    let mut voice = Voice::new(pieces, clock);
    let mut output = Vec::new();
    let mut ending = Ending::Lost;
    loop {
        let event = tokio::select! {
            // What the program says goes before what was held back of it.
            biased;
            event = process.next() => event,
            () = live::until(clock, voice.due()) => {
                voice.speak();
                continue;
            }
        };
        match event {
            // Both outputs as they came, as a person at a terminal would see them.
            Some(ProcessEvent::Output { bytes, .. }) => {
                output.extend_from_slice(&bytes);
                voice.hear(&bytes);
            }
            Some(ProcessEvent::Ended(how)) => ending = how,
            None => break,
        }
    }
    voice.end();
    let ran = clock.now().as_millisecond() - began.as_millisecond();
    let ran = Duration::from_millis(u64::try_from(ran).unwrap_or(0));
    let mut done = told(&ending, output, ending::told(&ending, &limits, sandbox.name(), ran));
    let mut before = vec![fact(limits::shown(&limits))];
    if let Some(proxy) = proxy {
        let judged = proxy.close().await;
        before.extend(reached(&judged));
        done.egress = judged.decisions;
    }
    // Behind how it ended, before what it said.
    drop(done.parts.splice(1..1, before));
    Ok(done)
}

/// Tells how often a program was let out, and what it was refused: a program seldom says so itself.
fn reached(judged: &Judged) -> Vec<Part> {
    let spent = if judged.is_spent { "; it used up all that it may send and get" } else { "" };
    let mut parts =
        vec![fact(format!("[network: {} let out, {} refused{spent}]", judged.let_out, judged.refused))];
    let refused = judged.decisions.iter().filter(|decision| !decision.allowed).take(REFUSED_SHOWN_MAX);
    let lines: Vec<_> = refused
        .map(|decision| format!("refused: {} {} ({})\n", decision.method, decision.to, decision.rule))
        .collect();
    if !lines.is_empty() {
        // The program chose these names.
        parts.push(Part::text(lines.concat(), Label::UNKNOWN_FILE));
    }
    parts
}

fn told(ending: &Ending, mut output: Vec<u8>, how: String) -> Done {
    let failed = *ending != Ending::Exited { code: 0 };
    let mut parts = vec![fact(how)];
    let text = |bytes: &[u8]| Part::text(String::from_utf8_lossy(bytes), Label::UNKNOWN_FILE);
    if output.is_empty() {
        return Done { failed, parts, whole: None, egress: Vec::new() };
    }
    if output.len() <= HEAD_BYTES + TAIL_BYTES {
        parts.push(text(&output));
        return Done { failed, parts, whole: None, egress: Vec::new() };
    }
    let tail = output.len() - TAIL_BYTES;
    parts.push(text(&output[..HEAD_BYTES]));
    parts.push(fact(format!("[{} bytes are left out here]", tail - HEAD_BYTES)));
    parts.push(text(&output[tail..]));
    let is_cut = output.len() > KEPT_BYTES_MAX;
    output.truncate(KEPT_BYTES_MAX);
    let whole = Some(Long { bytes: output, shown: HEAD_BYTES, is_cut });
    Done { failed, parts, whole, egress: Vec::new() }
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
        let done = told(&Ending::Exited { code: 0 }, output.clone(), "[exit code 0]".to_owned());
        let text = parts_text(&done.parts);
        assert!(text.contains("\n0\n1\n") || text.contains("0\n1\n2\n"), "the beginning is there");
        assert!(text.ends_with("99999\n"), "the end is there");
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 200);
        let whole = done.whole.expect("it is kept");
        assert_eq!(whole.bytes, output);
        assert_eq!((whole.shown, whole.is_cut), (HEAD_BYTES, false));
    }

    #[test]
    fn only_a_good_end_is_no_failure() {
        for (ending, failed) in [
            (Ending::Exited { code: 0 }, false),
            (Ending::Exited { code: 3 }, true),
            (Ending::Signalled { signal: 11 }, true),
            (Ending::Killed { limit: Limit::Memory }, true),
            (Ending::NotStarted { problem: "no such file".to_owned() }, true),
            (Ending::Lost, true),
        ] {
            let done = told(&ending, Vec::new(), "[it ended]".to_owned());
            assert_eq!(done.failed, failed);
            assert_eq!(parts_text(&done.parts), "[it ended]");
        }
    }
}
