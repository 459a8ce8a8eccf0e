//! `dromia sandbox test`: the escape battery on this machine, backend by backend.
//!
//! Before each backend is believed a hole is planted in it, which the battery must find.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use dromia_cli::{CommandContext, CommandExit, CommandOutput, GlobalOptions};
use dromia_contracts::sandbox::SandboxBackend;
use dromia_sandbox::battery::{
    AttackBattery, AttackProgress, BatteryPace, BatteryRow, Class, EscapeOutcome, PlantedHole,
};
use dromia_sandbox::probe::{self, BackendKind, BackendParts, MachineBackend};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::home::Home;
use crate::system;

/// Commands about the sandboxes around tools.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SandboxCommand {
    /// Try to break out of every sandbox and print the results
    #[command(
        after_help = "Each attempt first runs without a sandbox, where it must succeed; otherwise it proves nothing and counts as unproven. Then the command plants a hole, which the test must find. It takes about a minute per backend, and many minutes for docker and gvisor; --quick makes one attempt of each class. It uses little of the machine and leaves nothing behind. Exits with 1 if something escaped.\n\nExamples:\n  dromia sandbox test\n  dromia sandbox test --backend native/strict\n  dromia sandbox test --class files --class bombs --json\n  dromia sandbox test --backend gvisor --quick"
    )]
    Test {
        /// Test only this backend: native/strict, bubblewrap, docker, firecracker, gvisor, native/base; repeatable
        #[arg(long, value_name = "NAME")]
        backend: Vec<String>,
        /// Make only attempts of this class, such as files or bombs; repeatable
        #[arg(long, value_name = "CLASS")]
        class: Vec<String>,
        /// Make only one attempt of each class
        #[arg(long)]
        quick: bool,
    },
}

/// What the battery found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EscapeTestReport {
    /// The attempts, by backend.
    items: Vec<EscapeAttemptRow>,
    /// The backends.
    backends: Vec<BackendTestRow>,
}

/// One attempt.
#[derive(Debug, Serialize, JsonSchema)]
struct EscapeAttemptRow {
    /// The backend.
    backend: &'static str,
    /// The attempt.
    attempt: &'static str,
    /// Its kind.
    class: &'static str,
    /// What became of it: held, escaped, unproven (it does not work without a sandbox either) or not_promised.
    outcome: &'static str,
    /// How its process ended in the sandbox; nothing if it was not tried there.
    ending: Option<String>,
}

/// One backend.
#[derive(Debug, Serialize, JsonSchema)]
struct BackendTestRow {
    /// Its name, with its level.
    backend: &'static str,
    /// How strongly it isolates a process from this machine.
    tier: &'static str,
    /// What is missing, if it does not work here.
    missing: Option<String>,
    /// What adds it.
    fix: Option<String>,
    /// Attempts that work without a sandbox and not inside it.
    held: usize,
    /// Attempts that got out.
    escaped: usize,
    /// Attempts that do not work without a sandbox here.
    unproven: usize,
    /// Attempts that this backend does not promise to hold.
    not_promised: usize,
    /// Whether the planted hole was found; nothing if it was not tried.
    hole_found: Option<bool>,
}

impl BackendTestRow {
    fn is_sound(&self) -> bool {
        self.escaped == 0 && self.hole_found != Some(false)
    }
}

/// The program that is the helper: this one.
pub(crate) fn helper_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()?.canonicalize()
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &SandboxCommand,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let SandboxCommand::Test { backend, class, quick } = command;
    let classes = class.iter().map(|name| known_class(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let program = helper_program().context("failed to find the executable of this program")?;
    let is_known = |name: &&String| BackendKind::ALL.iter().any(|kind| kind.name() == name.as_str());
    if let Some(unknown) = backend.iter().find(|name| !is_known(name)) {
        let known = BackendKind::ALL.map(BackendKind::name);
        return Err(system::ExitError::usage_error(format!(
            "there is no backend {unknown:?}; the backends are {}",
            known.join(", ")
        )));
    }
    let pace = if *quick { BatteryPace::Quick } else { BatteryPace::Whole };
    // A home whose configuration means nothing names no engine, no machine and no groups; `dromia doctor` says what is wrong with it.
    let named = config::load_resolved(home, &[]).map(|resolved| {
        (resolved.programs.containers, resolved.programs.monitor, resolved.programs.control_groups)
    });
    let (engine, monitor, groups) = named.unwrap_or_default();
    let machine = BackendParts { helper: program.clone(), engine, monitor, groups };
    let battery = AttackBattery { program, scratch: std::env::temp_dir(), classes, pace };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut tried = EscapeTestReport { items: Vec::new(), backends: Vec::new() };
    for kind in BackendKind::ALL {
        if !(backend.is_empty() || backend.iter().any(|name| name == kind.name())) {
            continue;
        }
        let one = probe::probe_one(&machine, kind);
        let (rows, tested) =
            tokio.block_on(test_backend(&battery, one, BatteryProgress::for_output(&mut output)))?;
        tried.items.extend(rows);
        tried.backends.push(tested);
    }
    let is_any = tried.backends.iter().any(|tested| tested.missing.is_none());
    let is_sound = tried.backends.iter().all(BackendTestRow::is_sound);
    if output.is_json() {
        output.print_document(&tried)?;
    } else {
        print_table(&tried, &mut output)?;
    }
    Ok(if is_any && is_sound { ExitCode::SUCCESS } else { ExitCode::from(CommandExit::Failed.exit_code()) })
}

fn known_class(name: &str) -> anyhow::Result<Class> {
    Class::ALL.into_iter().find(|class| class.as_str() == name).ok_or_else(|| {
        let known: Vec<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
        system::ExitError::usage_error(format!(
            "there is no class {name:?}; the classes are {}",
            known.join(", ")
        ))
    })
}

/// After how many attempts of one class the progress is printed again.
const TOLD_EVERY: usize = 8;

/// Prints the progress for a person who watches: minutes of silence look as if it hung.
struct BatteryProgress<'output, 'context> {
    /// `None` where no person watches.
    output: Option<&'output mut CommandOutput<'context>>,
    /// What was printed last.
    last: Option<AttackProgress>,
}

impl<'output, 'context> BatteryProgress<'output, 'context> {
    fn for_output(output: &'output mut CommandOutput<'context>) -> Self {
        let is_seen = !output.is_json() && output.context_mut().err_is_terminal;
        Self { output: is_seen.then_some(output), last: None }
    }

    fn report_progress(&mut self, backend: &str, what: &str, progress: AttackProgress) {
        let Some(output) = &mut self.output else { return };
        let is_old = |last: AttackProgress| {
            let since = last.done..last.done + TOLD_EVERY;
            last.class == progress.class && last.of == progress.of && since.contains(&progress.done)
        };
        if self.last.is_some_and(is_old) {
            return;
        }
        self.last = Some(progress);
        let AttackProgress { class, done, of } = progress;
        // A battery does not end because its progress cannot be printed.
        drop(
            output.print_notice(&format!(
                "{backend}: {what}{done} of {of} attempts done, now {}",
                class.as_str()
            )),
        );
    }
}

/// Tests one backend, if it works here.
async fn test_backend(
    battery: &AttackBattery,
    backend: MachineBackend,
    mut told: BatteryProgress<'_, '_>,
) -> anyhow::Result<(Vec<EscapeAttemptRow>, BackendTestRow)> {
    let mut tested = BackendTestRow {
        backend: backend.name,
        tier: backend.tier.as_str(),
        missing: None,
        fix: None,
        held: 0,
        escaped: 0,
        unproven: 0,
        not_promised: 0,
        hole_found: None,
    };
    let sandbox: Arc<dyn SandboxBackend> = match backend.state {
        Ok(sandbox) => sandbox,
        Err(missing) => {
            (tested.missing, tested.fix) = (Some(missing.what), Some(missing.fix));
            return Ok((Vec::new(), tested));
        }
    };
    let is_shared = backend.kind.is_shared();
    let mut tell = |progress| told.report_progress(backend.name, "with a planted hole ", progress);
    let holed = battery.run_told(&*sandbox, is_shared, PlantedHole::Planted, &mut tell).await?;
    tested.hole_found = Some(count_outcomes(&holed, EscapeOutcome::Escaped) > 0);
    let mut tell = |progress| told.report_progress(backend.name, "", progress);
    let rows = battery.run_told(&*sandbox, is_shared, PlantedHole::None, &mut tell).await?;
    tested.held = count_outcomes(&rows, EscapeOutcome::Held);
    tested.escaped = count_outcomes(&rows, EscapeOutcome::Escaped);
    tested.unproven = count_outcomes(&rows, EscapeOutcome::Unproven);
    tested.not_promised = count_outcomes(&rows, EscapeOutcome::NotPromised);
    let attempted = |row: BatteryRow| EscapeAttemptRow {
        backend: backend.name,
        attempt: row.name,
        class: row.class.as_str(),
        outcome: row.outcome.as_str(),
        ending: row.ending.map(|ending| format!("{ending:?}")),
    };
    Ok((rows.into_iter().map(attempted).collect(), tested))
}

fn count_outcomes(rows: &[BatteryRow], outcome: EscapeOutcome) -> usize {
    rows.iter().filter(|row| row.outcome == outcome).count()
}

/// Prints a line per class and backend, then one per backend, and whatever escaped by its name.
fn print_table(tried: &EscapeTestReport, output: &mut CommandOutput<'_>) -> dromia_cli::Outcome {
    let mut rows = Vec::new();
    for backend in &tried.backends {
        for class in Class::ALL {
            let of_class = |outcome: EscapeOutcome| {
                let attempts = tried.items.iter().filter(|one| {
                    one.backend == backend.backend
                        && one.class == class.as_str()
                        && one.outcome == outcome.as_str()
                });
                attempts.count()
            };
            let counts = [
                EscapeOutcome::Held,
                EscapeOutcome::Escaped,
                EscapeOutcome::Unproven,
                EscapeOutcome::NotPromised,
            ]
            .map(of_class);
            if counts.iter().sum::<usize>() > 0 {
                let words = [backend.backend.to_owned(), class.as_str().to_owned()];
                rows.push(words.into_iter().chain(counts.map(|count| count.to_string())).collect());
            }
        }
    }
    output.print_table(&["backend", "class", "held", "escaped", "unproven", "not promised"], rows)?;
    for backend in &tried.backends {
        output.print_line(&backend_summary(backend))?;
    }
    for escaped in tried.items.iter().filter(|one| one.outcome == EscapeOutcome::Escaped.as_str()) {
        output.print_line(&format!("escaped from {}: {}", escaped.backend, escaped.attempt))?;
    }
    Ok(())
}

fn backend_summary(backend: &BackendTestRow) -> String {
    let BackendTestRow { backend: name, tier, held, escaped, .. } = backend;
    if let Some(missing) = &backend.missing {
        let fix = backend.fix.as_deref().unwrap_or("run `dromia doctor --only sandbox`");
        return format!("{name} ({tier}) is not available: {missing}; fix: {fix}");
    }
    let hole = if backend.hole_found == Some(true) { "was found" } else { "was NOT found" };
    format!("{name} ({tier}): {held} held, {escaped} escaped; the planted hole {hole}")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use dromia_cli::format::OutputFormat;

    use super::*;

    /// A stderr that is kept.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is told of a battery on such a stderr.
    fn told(is_terminal: bool, format: OutputFormat) -> String {
        let kept = Kept::default();
        let mut context = CommandContext::of_process(String::new());
        context.err = Box::new(kept.clone());
        context.err_is_terminal = is_terminal;
        let global = GlobalOptions { output: Some(format), ..GlobalOptions::default() };
        let mut output = CommandOutput::of_local(&mut context, &global);
        let mut told = BatteryProgress::for_output(&mut output);
        for (class, done) in [(Class::Files, 0), (Class::Files, 4), (Class::Files, 8), (Class::Bombs, 9)] {
            told.report_progress("native/strict", "", AttackProgress { class, done, of: 20 });
        }
        let bytes = kept.0.lock().expect("nobody panicked").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn progress_is_shown_only_on_a_terminal_in_table_format() {
        assert_eq!(
            told(true, OutputFormat::Table),
            "native/strict: 0 of 20 attempts done, now files\nnative/strict: 8 of 20 attempts done, now files\n\
             native/strict: 9 of 20 attempts done, now bombs\n"
        );
        assert_eq!(told(false, OutputFormat::Table), "");
        assert_eq!(told(true, OutputFormat::Json), "");
    }
}
