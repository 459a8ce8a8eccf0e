//! `dromia sandbox test`: the escape battery on this machine, backend by backend.
//!
//! Before each backend is believed a hole is planted in it, which the battery must find.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use dromia_cli::{Context, Exit, Global, Output};
use dromia_contracts::sandbox::Sandbox;
use dromia_sandbox::battery::{Battery, Class, Hole, Outcome, Pace, Progress, Row};
use dromia_sandbox::probe::{self, Backend, Kind, Machine};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config;
use crate::home::Home;
use crate::system;

/// Commands about the walls around tools.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SandboxCommand {
    /// Try to break out of every sandbox of this machine, and print what held
    #[command(
        after_help = "Examples:\n  dromia sandbox test\n  dromia sandbox test --backend native/strict\n  dromia sandbox test --class files --class bombs --json\n  dromia sandbox test --backend gvisor --quick\n\nEvery attempt is first made without walls, where it must work; else it proves nothing and counts as unproven. Then a hole is planted, which must be found. It takes about a minute per backend, and many of docker and gvisor, which start in seconds; --quick makes one attempt of each class. It uses little of the machine and leaves nothing behind. Exits with 1 if something escaped."
    )]
    Test {
        /// Only this backend: native/strict, bubblewrap, docker, firecracker, gvisor, native/base; repeatable
        #[arg(long, value_name = "NAME")]
        backend: Vec<String>,
        /// Only attempts of this class, such as files or bombs; repeatable
        #[arg(long, value_name = "CLASS")]
        class: Vec<String>,
        /// One attempt of each class, and not all
        #[arg(long)]
        quick: bool,
    },
}

/// What the battery found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tried {
    /// The attempts, by backend.
    items: Vec<Attempted>,
    /// The backends.
    backends: Vec<Tested>,
}

/// One attempt.
#[derive(Debug, Serialize, JsonSchema)]
struct Attempted {
    /// The backend.
    backend: &'static str,
    /// The attempt.
    attempt: &'static str,
    /// Its kind.
    class: &'static str,
    /// What became of it: held, escaped, unproven (it does not work without walls either) or not_promised.
    outcome: &'static str,
    /// How its process ended behind the walls; nothing if it was not tried there.
    ending: Option<String>,
}

/// One backend.
#[derive(Debug, Serialize, JsonSchema)]
struct Tested {
    /// Its name, with its level.
    backend: &'static str,
    /// How much stands between a process and this machine.
    tier: &'static str,
    /// What is missing, if it does not work here.
    missing: Option<String>,
    /// What adds it.
    fix: Option<String>,
    /// Attempts that work without walls and not behind them.
    held: usize,
    /// Attempts that got out.
    escaped: usize,
    /// Attempts that do not work without walls here.
    unproven: usize,
    /// Attempts that this backend does not promise to hold.
    not_promised: usize,
    /// Whether the planted hole was found; nothing if it was not tried.
    hole_found: Option<bool>,
}

impl Tested {
    fn is_sound(&self) -> bool {
        self.escaped == 0 && self.hole_found != Some(false)
    }
}

/// The program that is the helper: this one.
pub(crate) fn program() -> std::io::Result<PathBuf> {
    std::env::current_exe()?.canonicalize()
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &SandboxCommand,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let mut output = Output::of_local(context, global);
    output.check()?;
    let SandboxCommand::Test { backend, class, quick } = command;
    let classes = class.iter().map(|name| known_class(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let program = program().context("failed to find this program's own file")?;
    let is_known = |name: &&String| Kind::ALL.iter().any(|kind| kind.name() == name.as_str());
    if let Some(unknown) = backend.iter().find(|name| !is_known(name)) {
        let known = Kind::ALL.map(Kind::name);
        return Err(system::Exit::usage(format!(
            "there is no backend {unknown:?}; the backends are {}",
            known.join(", ")
        )));
    }
    let pace = if *quick { Pace::Quick } else { Pace::Whole };
    // A home whose configuration means nothing names no engine, no machine and no groups; `dromia doctor` says what is wrong with it.
    let named = config::load(home, &[])
        .map(|resolved| (resolved.containers, resolved.monitor, resolved.control_groups));
    let (engine, monitor, groups) = named.unwrap_or_default();
    let machine = Machine { helper: program.clone(), engine, monitor, groups };
    let battery = Battery { program, scratch: std::env::temp_dir(), classes, pace };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut tried = Tried { items: Vec::new(), backends: Vec::new() };
    for kind in Kind::ALL {
        if !(backend.is_empty() || backend.iter().any(|name| name == kind.name())) {
            continue;
        }
        let one = probe::one(&machine, kind);
        let (rows, tested) = tokio.block_on(test(&battery, one, Told::on(&mut output)))?;
        tried.items.extend(rows);
        tried.backends.push(tested);
    }
    let is_any = tried.backends.iter().any(|tested| tested.missing.is_none());
    let is_sound = tried.backends.iter().all(Tested::is_sound);
    if output.is_json() {
        output.document(&tried)?;
    } else {
        table(&tried, &mut output)?;
    }
    Ok(if is_any && is_sound { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed.code()) })
}

fn known_class(name: &str) -> anyhow::Result<Class> {
    Class::ALL.into_iter().find(|class| class.as_str() == name).ok_or_else(|| {
        let known: Vec<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
        system::Exit::usage(format!("there is no class {name:?}; the classes are {}", known.join(", ")))
    })
}

/// After how many attempts of one class a person is told again.
const TOLD_EVERY: usize = 8;

/// Tells a person who looks on how far it is: what takes minutes in silence looks as if it hung.
struct Told<'output, 'context> {
    /// Nothing where nobody looks on.
    output: Option<&'output mut Output<'context>>,
    /// What was told last.
    last: Option<Progress>,
}

impl<'output, 'context> Told<'output, 'context> {
    fn on(output: &'output mut Output<'context>) -> Self {
        let is_seen = !output.is_json() && output.context().err_is_terminal;
        Self { output: is_seen.then_some(output), last: None }
    }

    fn tell(&mut self, backend: &str, what: &str, progress: Progress) {
        let Some(output) = &mut self.output else { return };
        let is_old = |last: Progress| {
            let since = last.done..last.done + TOLD_EVERY;
            last.class == progress.class && last.of == progress.of && since.contains(&progress.done)
        };
        if self.last.is_some_and(is_old) {
            return;
        }
        self.last = Some(progress);
        let Progress { class, done, of } = progress;
        // A battery does not end because nobody hears how far it is.
        drop(
            output.notice(&format!("{backend}: {what}{done} of {of} attempts done, now {}", class.as_str())),
        );
    }
}

/// Tests one backend, if it works here.
async fn test(
    battery: &Battery,
    backend: Backend,
    mut told: Told<'_, '_>,
) -> anyhow::Result<(Vec<Attempted>, Tested)> {
    let mut tested = Tested {
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
    let sandbox: Arc<dyn Sandbox> = match backend.state {
        Ok(sandbox) => sandbox,
        Err(missing) => {
            (tested.missing, tested.fix) = (Some(missing.what), Some(missing.fix));
            return Ok((Vec::new(), tested));
        }
    };
    let is_shared = backend.kind.is_shared();
    let mut tell = |progress| told.tell(backend.name, "with a planted hole ", progress);
    let holed = battery.run_told(&*sandbox, is_shared, Hole::Planted, &mut tell).await?;
    tested.hole_found = Some(count(&holed, Outcome::Escaped) > 0);
    let mut tell = |progress| told.tell(backend.name, "", progress);
    let rows = battery.run_told(&*sandbox, is_shared, Hole::None, &mut tell).await?;
    tested.held = count(&rows, Outcome::Held);
    tested.escaped = count(&rows, Outcome::Escaped);
    tested.unproven = count(&rows, Outcome::Unproven);
    tested.not_promised = count(&rows, Outcome::NotPromised);
    let attempted = |row: Row| Attempted {
        backend: backend.name,
        attempt: row.name,
        class: row.class.as_str(),
        outcome: row.outcome.as_str(),
        ending: row.ending.map(|ending| format!("{ending:?}")),
    };
    Ok((rows.into_iter().map(attempted).collect(), tested))
}

fn count(rows: &[Row], outcome: Outcome) -> usize {
    rows.iter().filter(|row| row.outcome == outcome).count()
}

/// Prints a line per class and backend, then one per backend, and whatever escaped by its name.
fn table(tried: &Tried, output: &mut Output<'_>) -> dromia_cli::Outcome {
    let mut rows = Vec::new();
    for backend in &tried.backends {
        for class in Class::ALL {
            let of_class = |outcome: Outcome| {
                let attempts = tried.items.iter().filter(|one| {
                    one.backend == backend.backend
                        && one.class == class.as_str()
                        && one.outcome == outcome.as_str()
                });
                attempts.count()
            };
            let counts =
                [Outcome::Held, Outcome::Escaped, Outcome::Unproven, Outcome::NotPromised].map(of_class);
            if counts.iter().sum::<usize>() > 0 {
                let words = [backend.backend.to_owned(), class.as_str().to_owned()];
                rows.push(words.into_iter().chain(counts.map(|count| count.to_string())).collect());
            }
        }
    }
    output.table(&["backend", "class", "held", "escaped", "unproven", "not promised"], rows)?;
    for backend in &tried.backends {
        output.line(&summary(backend))?;
    }
    for escaped in tried.items.iter().filter(|one| one.outcome == Outcome::Escaped.as_str()) {
        output.line(&format!("escaped from {}: {}", escaped.backend, escaped.attempt))?;
    }
    Ok(())
}

fn summary(backend: &Tested) -> String {
    let Tested { backend: name, tier, held, escaped, .. } = backend;
    if let Some(missing) = &backend.missing {
        let fix = backend.fix.as_deref().unwrap_or("look with `dromia doctor --only sandbox`");
        return format!("{name} ({tier}) is not there: {missing}; fix: {fix}");
    }
    let hole = if backend.hole_found == Some(true) { "was found" } else { "was NOT found" };
    format!("{name} ({tier}): {held} held, {escaped} escaped; the planted hole {hole}")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use dromia_cli::format::Format;

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
    fn told(is_terminal: bool, format: Format) -> String {
        let kept = Kept::default();
        let mut context = Context::of_process(String::new());
        context.err = Box::new(kept.clone());
        context.err_is_terminal = is_terminal;
        let global = Global { output: Some(format), ..Global::default() };
        let mut output = Output::of_local(&mut context, &global);
        let mut told = Told::on(&mut output);
        for (class, done) in [(Class::Files, 0), (Class::Files, 4), (Class::Files, 8), (Class::Bombs, 9)] {
            told.tell("native/strict", "", Progress { class, done, of: 20 });
        }
        let bytes = kept.0.lock().expect("nobody panicked").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_person_is_told_how_far_it_is_and_nobody_else() {
        assert_eq!(
            told(true, Format::Table),
            "native/strict: 0 of 20 attempts done, now files\nnative/strict: 8 of 20 attempts done, now files\n\
             native/strict: 9 of 20 attempts done, now bombs\n"
        );
        assert_eq!(told(false, Format::Table), "");
        assert_eq!(told(true, Format::Json), "");
    }
}
