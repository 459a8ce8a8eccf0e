//! The escape battery: more than sixty attempts to get out, each first shown to work outside the sandbox.
//!
//! An attempt is a process of this very program. It runs twice in the same scene: once beside the sandbox, where it
//! must get through (else it proves nothing and is reported as *unproven*), once inside, where it must not. Whether it
//! got through is judged from outside where that is possible: by what it said, or by what changed.
//!
//! With a *planted hole* the sandbox may use the forbidden directory; a battery that finds no escape then is
//! broken. What a backend does not promise is not attempted, and counted as such.

mod attempts;
mod class;
mod outcome;
mod races;
mod scene;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;

use self::attempts::{ALL, HOLD};
use self::scene::{AttemptScene, AttemptStage};
use crate::ATTEMPT_FLAG;
use dromia_contracts::sandbox::{
    IsolationTier, LimitKind, NetworkAccess, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec,
    SandboxBackend, SandboxMount,
};

pub use self::class::Class;
pub use self::outcome::{BatteryError, BatteryRow, EscapeOutcome};
pub use self::races::{RACED_NAMES, RaceRow, RacedName};

/// What an attempt may use: little, so that reaching a limit takes no time; but as long as a busy machine may need.
pub const LIMITS: ProcessLimits = ProcessLimits {
    cpu_ms: 1_000,
    memory_bytes: 256 << 20,
    wall_ms: 15_000,
    output_bytes: 1 << 20,
    processes: 32,
    disk_bytes: 16 << 20,
};

/// What an attempt may use in a sandbox of a tier: to begin a kernel, and every call to it, takes its time. The one
/// that outlasts its time has less of it.
fn attempt_limits(tier: IsolationTier, attempt: &Attempt) -> ProcessLimits {
    let tiers = match tier {
        IsolationTier::Process => LIMITS,
        IsolationTier::Guest | IsolationTier::Machine => {
            ProcessLimits { cpu_ms: 2_000, wall_ms: 30_000, ..LIMITS }
        }
    };
    if attempt.name == OUTLASTS { ProcessLimits { wall_ms: tiers.wall_ms / 4, ..tiers } } else { tiers }
}

/// The attempt that outlasts its time.
const OUTLASTS: &str = "bombs.time";

/// The exit code of an attempt that got through.
const THROUGH: u8 = 40;
/// The exit code of an attempt that was refused.
const REFUSED: u8 = 41;
/// The exit code of a program of ours that panicked, for which running out of something may be enough.
const PANICKED: u8 = 101;
/// The exit code for an unknown attempt.
const UNKNOWN: u8 = 42;

/// How long what was left behind is given to show itself.
const AFTERMATH: Duration = Duration::from_millis(1_700);

/// How long an attempt may take outside the sandbox.
const CONTROL_WAIT: Duration = Duration::from_secs(20);

/// How many attempts are made side by side; each has a stage of its own.
const AT_ONCE: usize = 4;

/// The same at backends that take seconds to start, most of them a processor's.
const SLOW_AT_ONCE: usize = 2;

/// By what an attempt is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It says that it got through.
    Reached,
    /// It said the secret.
    Said,
    /// Something outside of the workspace changed.
    Changed,
    /// Something in the workspace changed that programs outside would execute.
    Hooked,
    /// Something happened after the end.
    Late,
}

/// One attempt.
struct Attempt {
    name: &'static str,
    class: Class,
    proof: Proof,
    /// Without root it does not even work outside the sandbox.
    needs_root: bool,
    /// It is promised only by backends with a file system of their own.
    is_strict: bool,
    body: fn(&AttemptScene) -> std::io::Result<()>,
}

/// Whether a hole is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedHole {
    /// None.
    None,
    /// The forbidden directory is handed in.
    Planted,
}

/// The battery on one machine.
#[derive(Debug, Clone)]
pub struct AttackBattery {
    /// This program, a real path.
    pub program: PathBuf,
    /// A directory for the scenes, which is left empty.
    pub scratch: PathBuf,
    /// Only attempts of these kinds; all if none is named.
    pub classes: Vec<Class>,
    /// How many of each kind.
    pub pace: BatteryPace,
}

/// How many attempts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatteryPace {
    /// All.
    Whole,
    /// The first of each class, and of a planted hole the first three: for backends that take seconds to start.
    Quick,
}

/// How far a battery is at one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttackProgress {
    /// What is attempted next.
    pub class: Class,
    /// How many attempts have been made.
    pub done: usize,
    /// How many are made in all.
    pub of: usize,
}

/// The attempts of one class that a quick battery makes at a planted hole: to read, to list and to change.
const QUICK_HOLE: usize = 3;

impl AttackBattery {
    /// Makes every attempt at a backend: some side by side, as most of them wait, and those that use something up
    /// one after the other. The rows are in the order of the list.
    ///
    /// `is_shared` says that processes see this machine's own file system, so that less is promised.
    pub async fn run_attempts(
        &self,
        backend: &dyn SandboxBackend,
        is_shared: bool,
        hole: PlantedHole,
    ) -> Result<Vec<BatteryRow>, BatteryError> {
        self.run_told(backend, is_shared, hole, &mut |_| ()).await
    }

    /// Makes the same attempts, and reports its progress before each group of them.
    pub async fn run_told(
        &self,
        backend: &dyn SandboxBackend,
        is_shared: bool,
        hole: PlantedHole,
        told: &mut (dyn FnMut(AttackProgress) + Send),
    ) -> Result<Vec<BatteryRow>, BatteryError> {
        let at_once = |class: Class| match (class, backend.isolation_tier(), self.pace) {
            (Class::Bombs, _, _) => 1,
            (_, IsolationTier::Process, BatteryPace::Whole) => AT_ONCE,
            (_, IsolationTier::Guest | IsolationTier::Machine, _) | (_, _, BatteryPace::Quick) => {
                SLOW_AT_ONCE
            }
        };
        let wanted: Vec<&Attempt> = (0..ALL.len())
            .filter(|number| self.is_wanted(*number, hole))
            .map(|number| &ALL[number])
            .collect();
        // A quick battery makes so few of a class that those of several are made together, but never a bomb.
        let are_together = |one: &&Attempt, next: &&Attempt| {
            let is_calm = one.class != Class::Bombs && next.class != Class::Bombs;
            one.class == next.class || (self.pace == BatteryPace::Quick && is_calm)
        };
        let mut rows = Vec::new();
        for attempts in wanted.chunk_by(are_together) {
            for some in attempts.chunks(at_once(attempts[0].class)) {
                told(AttackProgress { class: some[0].class, done: rows.len(), of: wanted.len() });
                let made = some.iter().map(|attempt| self.make_attempt(attempt, backend, is_shared, hole));
                for row in join_all(made).await {
                    rows.push(row?);
                }
            }
        }
        Ok(rows)
    }

    /// Whether an attempt, by its number, is made at all.
    fn is_wanted(&self, number: usize, hole: PlantedHole) -> bool {
        let class = ALL[number].class;
        let earlier = ALL[..number].iter().filter(|other| other.class == class).count();
        let is_soon = match (self.pace, hole) {
            (BatteryPace::Whole, _) => true,
            (BatteryPace::Quick, PlantedHole::None) => earlier == 0,
            (BatteryPace::Quick, PlantedHole::Planted) => earlier < QUICK_HOLE,
        };
        // A hole in the restrictions on files shows with files; the rest would only take its time.
        is_soon
            && match hole {
                PlantedHole::None => self.classes.is_empty() || self.classes.contains(&class),
                PlantedHole::Planted => class == Class::Files,
            }
    }

    /// Makes one attempt, and says what became of it.
    async fn make_attempt(
        &self,
        attempt: &Attempt,
        backend: &dyn SandboxBackend,
        is_shared: bool,
        hole: PlantedHole,
    ) -> Result<BatteryRow, BatteryError> {
        let is_root = rustix::process::geteuid().is_root();
        let (outcome, ending) = if attempt.is_strict && is_shared {
            (EscapeOutcome::NotPromised, None)
        } else if (attempt.needs_root && !is_root)
            || !self.is_through_without(attempt, attempt_limits(backend.isolation_tier(), attempt)).await?
        {
            (EscapeOutcome::Unproven, None)
        } else {
            let (is_out, ending) = self.is_through(attempt, backend, hole).await?;
            (if is_out { EscapeOutcome::Escaped } else { EscapeOutcome::Held }, Some(ending))
        };
        Ok(BatteryRow { name: attempt.name, class: attempt.class, outcome, ending })
    }

    /// Makes an attempt outside the sandbox; whether it got through.
    async fn is_through_without(
        &self,
        attempt: &Attempt,
        limits: ProcessLimits,
    ) -> Result<bool, BatteryError> {
        let stage = AttemptStage::set_up(&self.scratch)?;
        let scene = stage.scene_json(stage.workspace_path(), stage.outside_path(), limits)?;
        let run = tokio::process::Command::new(&self.program)
            .args([ATTEMPT_FLAG, attempt.name, &scene])
            .current_dir(stage.workspace_path())
            .env("DROMIA_CANARY", stage.canary_secret())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let Ok(output) = tokio::time::timeout(CONTROL_WAIT, run).await else { return Ok(false) };
        let output = output?;
        let is_reached = output.status.code() == Some(i32::from(THROUGH));
        Ok(got_through(attempt, &stage, &output.stdout, is_reached).await)
    }

    /// Makes an attempt inside the sandbox; whether it got out, and how it ended.
    async fn is_through(
        &self,
        attempt: &Attempt,
        backend: &dyn SandboxBackend,
        hole: PlantedHole,
    ) -> Result<(bool, ProcessExit), BatteryError> {
        let stage = AttemptStage::set_up(&self.scratch)?;
        let program = SandboxMount {
            source: self.program.clone(),
            target: PathBuf::from("/opt/dromia/attempt"),
            writable: false,
        };
        let outside = SandboxMount {
            source: stage.outside_path().to_owned(),
            target: PathBuf::from("/opt/dromia/outside"),
            writable: true,
        };
        let mut spec = ProcessSpec {
            argv: Vec::new(),
            env: Vec::new(),
            workspace: stage.workspace_path().to_owned(),
            reference: None,
            cwd: PathBuf::new(),
            mounts: vec![program],
            limits: attempt_limits(backend.isolation_tier(), attempt),
            network: NetworkAccess::None,
            family: None,
        };
        let workspace = backend.workspace_path(&spec);
        let scene = match hole {
            PlantedHole::None => stage.scene_json(&workspace, stage.outside_path(), spec.limits)?,
            PlantedHole::Planted => {
                let scene = stage.scene_json(&workspace, backend.mount_path(&outside), spec.limits)?;
                spec.mounts.push(outside);
                scene
            }
        };
        let program = backend.mount_path(&spec.mounts[0]).to_string_lossy().into_owned();
        spec.argv = vec![program, ATTEMPT_FLAG.to_owned(), attempt.name.to_owned(), scene];
        let started = backend.start_process(spec).await;
        let mut process = started.map_err(|source| BatteryError::Start { name: attempt.name, source })?;
        let mut said = Vec::new();
        let mut ending = ProcessExit::Lost;
        while let Some(event) = process.next().await {
            match event {
                ProcessEvent::Output { bytes, .. } => said.extend_from_slice(&bytes),
                ProcessEvent::Ended(how) => ending = how,
            }
        }
        if !has_run(attempt.class, &ending) {
            return Err(BatteryError::NotRun { name: attempt.name, ending });
        }
        let is_reached = ending == ProcessExit::Exited { code: i32::from(THROUGH) };
        Ok((got_through(attempt, &stage, &said, is_reached).await, ending))
    }
}

/// Whether an attempt ran, whatever became of it: it said so, or a limit or a signal ended it. Out of time is an answer
/// only where time is what the attempt is about: else it may not have come to its point.
fn has_run(class: Class, ending: &ProcessExit) -> bool {
    match ending {
        ProcessExit::Exited { code } => {
            [THROUGH, REFUSED, PANICKED].contains(&u8::try_from(*code).unwrap_or_default())
        }
        ProcessExit::Killed { limit: LimitKind::Time } => matches!(class, Class::Bombs | Class::Timing),
        ProcessExit::Signalled { .. } | ProcessExit::Killed { .. } => true,
        ProcessExit::Stopped | ProcessExit::NotStarted { .. } | ProcessExit::Lost => false,
    }
}

/// Says whether an attempt got through.
async fn got_through(attempt: &Attempt, stage: &AttemptStage, said: &[u8], is_reached: bool) -> bool {
    match attempt.proof {
        Proof::Reached => is_reached,
        Proof::Said => {
            said.windows(stage.canary_secret().len()).any(|piece| piece == stage.canary_secret().as_bytes())
        }
        Proof::Changed => stage.is_outside_changed(),
        Proof::Hooked => stage.is_hooked(),
        Proof::Late => {
            stage.mark_ended();
            tokio::time::sleep(AFTERMATH).await;
            stage.is_late()
        }
    }
}

/// Makes one attempt: the process that this is was started for it. Its name and its scene are the arguments.
pub(crate) fn run_attempt(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.filter_map(|word| word.into_string().ok()).collect();
    let [name, scene] = &words[..] else { return ExitCode::from(UNKNOWN) };
    let Ok(scene) = serde_json::from_str::<AttemptScene>(scene) else { return ExitCode::from(UNKNOWN) };
    if name == HOLD {
        attempts::hold_half_memory(&scene);
        return ExitCode::SUCCESS;
    }
    let Some(attempt) = ALL.iter().find(|attempt| attempt.name == name) else {
        return ExitCode::from(UNKNOWN);
    };
    match (attempt.body)(&scene) {
        Ok(()) => ExitCode::from(THROUGH),
        Err(problem) => {
            attempts::write_stdout(format!("{problem}\n").as_bytes());
            ExitCode::from(REFUSED)
        }
    }
}

#[cfg(test)]
mod tests;
