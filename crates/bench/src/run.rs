//! Measures everything: one phase after the other, each with a deadline, then the table and the report.
//!
//! A phase that fails is reported as not measured and not met; the others go on, and the program ends with an error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::child::ServerProcess;
use crate::figures;
use crate::pauses::PauseMonitor;
use crate::report::{BenchGoal, BenchReport};

/// The longest one phase may take, and all of them together.
const PHASE_TIME_MAX: Duration = Duration::from_mins(4);
const TIME_MAX: Duration = Duration::from_mins(9);

#[derive(Debug, Clone, Args)]
pub(crate) struct MeasureArguments {
    /// The `dromia` binary; the one beside this program by default.
    #[arg(long)]
    dromia: Option<PathBuf>,
    /// The report; `bench/report.json` in the target directory by default.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Measures only these phases.
    #[arg(long, value_delimiter = ',')]
    only: Vec<BenchPhase>,
    /// The rounds of which medians are taken.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The turns of which memory and disk are measured.
    #[arg(long, default_value_t = 100_000)]
    turns: u64,
    /// The sessions that they are spread over.
    #[arg(long, default_value_t = 10_000)]
    sessions: u64,
    /// The registered agents.
    #[arg(long, default_value_t = 1_000_000)]
    agents: u64,
    /// The runs in flight at the kill, and those that rest in P18.
    #[arg(long, default_value_t = 10_000)]
    runs: u64,
    /// The edits of the configuration, over all edited servers.
    #[arg(long, default_value_t = 200)]
    edits: u64,
    /// Measures only these attacks of R15, such as `files`.
    #[arg(long, value_delimiter = ',')]
    attacks: Vec<String>,
}

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchPhase {
    /// P1, P2, P3, P11 and what a plain turn costs.
    Plain,
    /// P4: cold start, memory at start, size of the binary.
    Start,
    /// P4: memory after many turns; P6: bytes on disk; P14: lists of them; P15: a backup of them.
    Turns,
    /// P13: what a person at a terminal waits for.
    Person,
    /// P6: a long conversation.
    Conversation,
    /// P19: a conversation that is several windows long.
    Window,
    /// P5: many agents.
    Agents,
    /// P7: a program in every sandbox of this machine.
    Sandbox,
    /// P12: a decision of the policy.
    Policy,
    /// P8: restart with runs in flight.
    Restart,
    /// R15: one tenant's worst, and another's p99.
    Starvation,
    /// R13: what is left of the peak where thousands of clients heed no refusal.
    Goodput,
    /// P16: edits of the configuration of servers under load.
    Edits,
    /// P17: a large catalogue of tools, of which an agent may use few.
    Tools,
    /// P18: parked runs and their wake-ups, and spawned tasks.
    Wakes,
    /// P18 in runs with thousands of attempts.
    LongRuns,
    /// P20: turns beside branches and workers, and how soon a conclusion is taken.
    Minds,
}

impl BenchPhase {
    const fn phase_id(self) -> &'static str {
        match self {
            Self::Plain => "P1 P2 P3 P11",
            Self::Start => "P4",
            Self::Turns => "P4 P6 P14 P15",
            Self::Person => "P13",
            Self::Conversation => "P6",
            Self::Window => "P19",
            Self::Agents => "P5",
            Self::Sandbox => "P7",
            Self::Restart => "P8",
            Self::Policy => "P12",
            Self::Starvation => "R15",
            Self::Goodput => "R13",
            Self::Edits => "P16",
            Self::Tools => "P17",
            Self::Wakes => "P18",
            Self::LongRuns => "P18.late",
            Self::Minds => "P20",
        }
    }
}

/// What every phase is given.
#[derive(Debug)]
pub(crate) struct PhaseContext {
    /// The `dromia` binary.
    pub(crate) dromia: PathBuf,
    /// Where homes and logs go; on the disk that is measured.
    pub(crate) dir: PathBuf,
    /// How much to measure.
    pub(crate) scale: BenchScale,
    /// The attacks of R15 to measure; all where none is named.
    pub(crate) attacks: Vec<String>,
    own: PathBuf,
}

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BenchScale {
    pub(crate) rounds: usize,
    pub(crate) turns: u64,
    pub(crate) sessions: u64,
    pub(crate) agents: u64,
    pub(crate) runs: u64,
    pub(crate) edits: u64,
}

impl PhaseContext {
    /// Starts one of this program's own servers.
    pub(crate) async fn start_own_server(
        &self,
        name: &str,
        arguments: &[&str],
    ) -> anyhow::Result<ServerProcess> {
        let mut command = Command::new(&self.own);
        command.args(arguments);
        ServerProcess::start(name, command, &self.dir).await
    }
}

/// Measures everything that was asked for.
pub(crate) async fn run_phases(arguments: MeasureArguments) -> anyhow::Result<ExitCode> {
    let mut terminated = signal(SignalKind::terminate())?;
    // Leaving the block drops the phase under way, and with it every child process.
    tokio::select! {
        measured = measure_phases(arguments) => measured,
        _ = terminated.recv() => bail!("terminated"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures and progress are what the command is for"
)]
async fn measure_phases(arguments: MeasureArguments) -> anyhow::Result<ExitCode> {
    raise_open_files()?;
    let own = std::env::current_exe()?;
    let beside = own.parent().context("this program lies in no directory")?.to_owned();
    let target = beside.parent().unwrap_or(&beside).to_owned();
    let dromia = arguments.dromia.clone().unwrap_or_else(|| beside.join("dromia"));
    if !dromia.is_file() {
        bail!("there is no {}; build it first, with the same profile as this program", dromia.display());
    }
    let dir = make_dir(&target.join("bench"))?;
    let MeasureArguments { rounds, turns, sessions, agents, runs, edits, attacks, .. } = arguments;
    let scale = BenchScale { rounds: rounds.max(1), turns, sessions: sessions.max(1), agents, runs, edits };
    let scene = PhaseContext { dromia, dir: dir.path().to_owned(), scale, attacks, own };

    let mut goals = Vec::new();
    let mut whole = true;
    let pauses = PauseMonitor::start_watching()?;
    let ends = Instant::now() + TIME_MAX;
    for phase in BenchPhase::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(phase) {
            continue;
        }
        eprintln!("measuring {} ...", phase.phase_id());
        let began = Instant::now();
        let measured = timeout_at(ends.min(began + PHASE_TIME_MAX), measure_phase(*phase, &scene)).await;
        eprintln!("measured {} in {} s", phase.phase_id(), began.elapsed().as_secs());
        match measured.context("it took too long").flatten() {
            Ok(figures) => goals.extend(figures),
            Err(error) => {
                whole = false;
                goals.push(BenchGoal::with_target(
                    phase.phase_id(),
                    0.0,
                    "",
                    format!("not measured: {error:#}"),
                    false,
                ));
            }
        }
    }
    goals.extend(pauses.finish_goals()?);
    let report = BenchReport::new(goals);
    print!("{}", report.render_table());
    let path = arguments.report.unwrap_or_else(|| target.join("bench").join("report.json"));
    report.write_json(&path)?;
    eprintln!("written to {}", path.display());
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure_phase(phase: BenchPhase, scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    match phase {
        BenchPhase::Plain => Box::pin(figures::plain::measure_plain_turns(scene)).await,
        BenchPhase::Start => Box::pin(figures::start::measure_start(scene)).await,
        BenchPhase::Turns => Box::pin(figures::turns::measure_turns(scene)).await,
        BenchPhase::Person => Box::pin(figures::person::measure_person_waits(scene)).await,
        BenchPhase::Window => Box::pin(figures::window::measure_window(scene)).await,
        BenchPhase::Conversation => Box::pin(figures::conversation::measure_conversation(scene)).await,
        BenchPhase::Agents => Box::pin(figures::agents::measure_agents(scene)).await,
        BenchPhase::Sandbox => Box::pin(figures::sandbox::measure_sandbox(scene)).await,
        BenchPhase::Restart => Box::pin(figures::restart::measure_restart(scene)).await,
        BenchPhase::Policy => Box::pin(figures::policy::measure_policy(scene)).await,
        BenchPhase::Starvation => Box::pin(figures::starvation::measure_starvation(scene)).await,
        BenchPhase::Goodput => Box::pin(figures::goodput::measure_goodput(scene)).await,
        BenchPhase::Edits => Box::pin(figures::edits::measure_edits(scene)).await,
        BenchPhase::Tools => Box::pin(figures::tools::measure_tools(scene)).await,
        BenchPhase::Wakes => Box::pin(figures::wakes::measure_wakes(scene)).await,
        BenchPhase::LongRuns => Box::pin(figures::long_runs::measure_long_runs(scene)).await,
        BenchPhase::Minds => Box::pin(figures::minds::measure_minds(scene)).await,
    }
}

/// The default soft limit of 1,024 open files is below what a thousand connections need; children inherit it.
fn raise_open_files() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("failed to raise the open files")
}

fn make_dir(within: &Path) -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(within)?;
    tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(within)
        .context("failed to make a directory to work in")
}
