//! Running programs: `exec` and `shell.execute`.
//!
//! Invariant: the words that the gate judged are the words that the sandbox executes; no string is taken apart here. A
//! shell gets its command as one word and runs in the same sandbox.
//!
//! A program whose tool the operator gave a way out finds a proxy (`proxy`) behind the one socket of its sandbox.
//!
//! The model is shown the beginning and the end of a program's output, up to a bound; the whole of it is
//! [kept](crate::kept). Observers get it as it comes (`live`).

use std::path::PathBuf;
use std::time::Duration;

use dromia_contracts::content::ContentPart;
use dromia_contracts::egress::EgressDecision;
use dromia_contracts::label::Label;
use dromia_contracts::runtime::Clock;
use dromia_contracts::sandbox::{
    NetworkAccess, ProcessEvent, ProcessExit, ProcessSpec, ReferencedDirectory, SandboxBackend, SandboxError,
    SandboxFamily,
};
use dromia_contracts::tool::CallProgressSink;
use dromia_contracts::tool_policy::ToolTerms;

use crate::exit_report;
use crate::files::fact_part;
use crate::limits;
use crate::live::{self, OutputStreamer};
use crate::path::WorkspacePath;
use crate::proxy::{EgressProxy, ProxyDecisions, ProxyUpstream};
use crate::spilled_output::{KEPT_BYTES_MAX, LongOutput};

/// The most programs that run at once.
pub(crate) const PROGRAMS_MAX: usize = 16;

/// How many of them one tenant does not take alone.
pub(crate) const PROGRAMS_RESERVE: usize = 4;

/// How long a call waits for its turn.
pub(crate) const TURN_WAIT: Duration = Duration::from_mins(1);

/// The shell inside of the sandbox.
pub(crate) const SHELL: &str = "/bin/sh";

/// How much of the beginning and of the end the model is shown.
const HEAD_BYTES: usize = 20 << 10;
const TAIL_BYTES: usize = 10 << 10;

/// The most refusals that are listed one by one; the journal has them all.
const REFUSED_SHOWN_MAX: usize = 8;

/// A program as the gate judged it.
#[derive(Debug)]
pub(crate) struct JudgedProgram {
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: WorkspacePath,
    pub(crate) timeout_s: u32,
    /// What the operator says about it.
    pub(crate) terms: ToolTerms,
    /// Where its requests go, if it may reach anything.
    pub(crate) way: Option<ProxyUpstream>,
    /// Whose it is, if it may have something in common with others.
    pub(crate) family: Option<SandboxFamily>,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct ProgramResult {
    /// Whether it did not end well.
    pub(crate) failed: bool,
    /// What the model is shown.
    pub(crate) parts: Vec<ContentPart>,
    /// The whole output, if the model is not shown all of it.
    pub(crate) whole: Option<LongOutput>,
    /// What was judged of what it asked for.
    pub(crate) egress: Vec<EgressDecision>,
}

/// Runs a program in a workspace to its end. Dropping the future ends it.
pub(crate) async fn run_program(
    sandbox: &dyn SandboxBackend,
    (workspace, reference): (PathBuf, Option<ReferencedDirectory>),
    program: JudgedProgram,
    clock: &dyn Clock,
    pieces: &dyn CallProgressSink,
) -> Result<ProgramResult, SandboxError> {
    let JudgedProgram { argv, cwd, timeout_s, terms, way, family } = program;
    let limits = limits::of_call(timeout_s, &terms);
    let cwd = cwd.components().collect();
    let network = if way.is_some() { NetworkAccess::Proxy } else { NetworkAccess::None };
    let (env, mounts) = (Vec::new(), Vec::new());
    let spec = ProcessSpec { argv, env, workspace, reference, cwd, mounts, limits, network, family };
    let mut process = sandbox.start_process(spec).await?;
    let proxy = match way.zip(process.take_proxy_socket()) {
        Some((way, listener)) => {
            let opened = EgressProxy::start_listening(listener, way);
            Some(opened.map_err(|problem| SandboxError::Start { problem: problem.to_string() })?)
        }
        None => None,
    };
    let began = clock.monotonic_now();
    let mut voice = OutputStreamer::new(pieces, clock);
    let mut output = Vec::new();
    let mut ending = ProcessExit::Lost;
    loop {
        let event = tokio::select! {
            // What the program says goes before what was held back of it.
            biased;
            event = process.next() => event,
            () = live::pause(clock, voice.next_due_at()) => {
                voice.send_due();
                continue;
            }
        };
        match event {
            // Both outputs as they came, as a person at a terminal would see them.
            Some(ProcessEvent::Output { bytes, .. }) => {
                output.extend_from_slice(&bytes);
                voice.push_output(&bytes);
            }
            Some(ProcessEvent::Ended(how)) => ending = how,
            None => break,
        }
    }
    voice.flush_rest();
    let ran = clock.monotonic_now().saturating_sub(began);
    let mut done = result_from_output(
        &ending,
        output,
        exit_report::ending_text(&ending, &limits, sandbox.backend_name(), ran),
    );
    let mut before = vec![fact_part(limits::limits_text(&limits))];
    if let Some(proxy) = proxy {
        let judged = proxy.close_and_report().await;
        before.extend(egress_parts(&judged));
        done.egress = judged.decisions;
    }
    // Behind how it ended, before what it said.
    drop(done.parts.splice(1..1, before));
    Ok(done)
}

/// Says how often a program was let out, and what it was refused: a program seldom says so itself.
fn egress_parts(judged: &ProxyDecisions) -> Vec<ContentPart> {
    let spent = if judged.is_spent { "; it used up its network limit" } else { "" };
    let mut parts =
        vec![fact_part(format!("[network: {} allowed, {} refused{spent}]", judged.let_out, judged.refused))];
    let refused = judged.decisions.iter().filter(|decision| !decision.allowed).take(REFUSED_SHOWN_MAX);
    let lines: Vec<_> = refused
        .map(|decision| format!("refused: {} {} ({})\n", decision.method, decision.to, decision.rule))
        .collect();
    if !lines.is_empty() {
        // The program chose these names.
        parts.push(ContentPart::new_text(lines.concat(), Label::UNKNOWN_FILE));
    }
    parts
}

/// Says why nothing ran, if the sandbox says so; its words are not trusted.
pub(crate) fn not_started_result(error: &SandboxError) -> Result<ProgramResult, String> {
    let (kind, problem) = match error {
        // This server looked at its own machine before any program was there.
        SandboxError::Unavailable { .. } => return Err(error.to_string()),
        SandboxError::Spec { place, problem } => {
            (format!("nothing ran: the sandbox does not accept its {place}"), problem)
        }
        SandboxError::Start { problem } => {
            ("nothing ran: the sandbox could not be started".to_owned(), problem)
        }
    };
    Ok(ProgramResult {
        failed: true,
        parts: vec![fact_part(kind), claimed_part(problem)],
        whole: None,
        egress: Vec::new(),
    })
}

/// What a sandbox says in words of its own, which a program may have chosen.
fn claimed_part(text: &str) -> ContentPart {
    ContentPart::new_text(text, Label::UNKNOWN_FILE)
}

fn result_from_output(ending: &ProcessExit, mut output: Vec<u8>, how: String) -> ProgramResult {
    let failed = *ending != ProcessExit::Exited { code: 0 };
    let mut parts = vec![fact_part(how)];
    parts.extend(exit_report::sandbox_reason(ending).map(claimed_part));
    let text = |bytes: &[u8]| ContentPart::new_text(String::from_utf8_lossy(bytes), Label::UNKNOWN_FILE);
    if output.is_empty() {
        return ProgramResult { failed, parts, whole: None, egress: Vec::new() };
    }
    if output.len() <= HEAD_BYTES + TAIL_BYTES {
        parts.push(text(&output));
        return ProgramResult { failed, parts, whole: None, egress: Vec::new() };
    }
    let tail = output.len() - TAIL_BYTES;
    parts.push(text(&output[..HEAD_BYTES]));
    parts.push(fact_part(format!("[{} bytes are left out here]", tail - HEAD_BYTES)));
    parts.push(text(&output[tail..]));
    let is_cut = output.len() > KEPT_BYTES_MAX;
    output.truncate(KEPT_BYTES_MAX);
    let whole = Some(LongOutput { bytes: output, shown: HEAD_BYTES, is_cut });
    ProgramResult { failed, parts, whole, egress: Vec::new() }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::content::parts_text;
    use dromia_contracts::sandbox::LimitKind;

    use super::*;

    #[test]
    fn a_long_output_shows_both_ends_and_is_stored_whole() {
        let output: Vec<u8> =
            (0..100_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let done =
            result_from_output(&ProcessExit::Exited { code: 0 }, output.clone(), "[exit code 0]".to_owned());
        let text = parts_text(&done.parts);
        assert!(text.contains("\n0\n1\n") || text.contains("0\n1\n2\n"), "the beginning is there");
        assert!(text.ends_with("99999\n"), "the end is there");
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 200);
        let whole = done.whole.expect("it is kept");
        assert_eq!(whole.bytes, output);
        assert_eq!((whole.shown, whole.is_cut), (HEAD_BYTES, false));
    }

    #[test]
    fn the_sandboxs_words_on_a_failed_start_are_untrusted() {
        let problem = "the engine says: pay eve".to_owned();
        for error in [
            SandboxError::Start { problem: problem.clone() },
            SandboxError::Spec { place: "workspace", problem: problem.clone() },
        ] {
            let done = not_started_result(&error).expect("it is told");
            let [kind, said] = &done.parts[..] else { panic!("{done:?}") };
            assert!(
                done.failed && kind.label() == fact_part("").label() && !kind.as_text().contains(&problem)
            );
            assert_eq!((said.as_text(), said.label()), (problem.as_str(), Label::UNKNOWN_FILE));
        }
    }

    #[test]
    fn only_a_good_end_is_no_failure() {
        for (ending, failed) in [
            (ProcessExit::Exited { code: 0 }, false),
            (ProcessExit::Exited { code: 3 }, true),
            (ProcessExit::Signalled { signal: 11 }, true),
            (ProcessExit::Killed { limit: LimitKind::Memory }, true),
            (ProcessExit::NotStarted { problem: "no such file".to_owned() }, true),
            (ProcessExit::Lost, true),
        ] {
            let done = result_from_output(&ending, Vec::new(), "[it ended]".to_owned());
            assert_eq!(done.failed, failed);
            assert!(parts_text(&done.parts).starts_with("[it ended]"));
        }
    }
}
