//! One worker from outside: started, given requests, and ended where no answer comes in time.
//!
//! All of it blocks, so it belongs into a thread of its own or a program that waits for nothing else. A worker whose evaluation
//! takes long gives way to everything else on the machine and is used no more. It refuses to wait without a bound, and to use
//! a worker again that missed an answer.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, setpriority_pgrp};
use serde_json::Value;

use crate::policy::layer::{PolicyLayer, PolicyText, RuleVerdict, TIME_MAX};
use crate::policy::policy_tests::TestEnd;
use crate::policy::problem::PolicyProblem;
use crate::policy::worker::{
    MEMORY_MAX, WORKER_NAME, WorkerRequest, WorkerResponse, read_length, write_frame,
};

/// How long an evaluation may take beyond its own bound before its worker is ended: one that looks at its timer says where it
/// was.
pub const GRACE: Duration = Duration::from_millis(500);
/// How long a worker may take to read a layer.
pub const LOAD_TIME_MAX: Duration = Duration::from_secs(10);

/// After this time a worker gives way to everything else.
const SLOW: Duration = Duration::from_millis(200);
/// How often a worker that answers is looked at before: one that keeps a processor busy gives way at once, because two of them
/// on two processors would delay every other tenant. One that only waits for a processor, on a busy machine, does not.
const LOOK: Duration = Duration::from_millis(5);
/// How far it does.
const NICE: i32 = 19;
/// The most layers that a worker keeps; then another one begins.
const LAYERS_MAX: usize = 64;

/// Why a worker gave no answer.
#[derive(Debug)]
enum WorkerFailure {
    Late(Duration),
    Ended(Option<i32>),
    Failed(io::Error),
}

impl fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(most) => write!(f, "it did not end within {} s and was stopped", most.as_secs_f32()),
            Self::Ended(Some(signal)) => write!(
                f,
                "its worker ended (signal {signal}), as it does above {} MiB of memory or with too deep a \
                 stack",
                MEMORY_MAX >> 20
            ),
            Self::Ended(None) => f.write_str("its worker ended before it gave a result"),
            Self::Failed(error) => write!(f, "its worker cannot be used: {error}"),
        }
    }
}

impl From<io::Error> for WorkerFailure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// A worker.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    loaded: BTreeSet<String>,
    is_slow: bool,
}

/// Asks a layer in a worker, which is started where there is none that can be used.
pub(super) fn ask_layer(
    place: &mut Option<WorkerProcess>,
    program: &Path,
    layer: &PolicyLayer,
    question: &Value,
) -> Result<Vec<RuleVerdict>, PolicyProblem> {
    let wrong = |stopped: WorkerFailure| PolicyProblem::in_file(layer.blamed_name(), stopped.to_string());
    let known = place.take().and_then(WorkerProcess::of_use);
    let mut process = known.map_or_else(|| WorkerProcess::start(program), Ok).map_err(wrong)?;
    let said = process.ask_loaded_layer(layer, question).map_err(wrong)?;
    *place = Some(process);
    said
}

/// Runs tests in a worker. One that gives no answer does not hold, and the next has another worker.
pub(super) fn run_tests(
    program: &Path,
    name: &str,
    files: &[PolicyText],
) -> Result<Vec<TestEnd>, PolicyProblem> {
    let wrong = |stopped: WorkerFailure| PolicyProblem::in_file(name, stopped.to_string());
    let load = || -> Result<(WorkerProcess, Vec<String>), PolicyProblem> {
        let mut process = WorkerProcess::start(program).map_err(wrong)?;
        let request = WorkerRequest::LoadTests { name: Cow::Borrowed(name), files: Cow::Borrowed(files) };
        match process.exchange_request(&request, LOAD_TIME_MAX).map_err(wrong)? {
            WorkerResponse::Tests(names) => Ok((process, names?)),
            _ => Err(wrong(WorkerFailure::Ended(None))),
        }
    };
    let (mut process, names) = load()?;
    let mut ends = Vec::new();
    for name in names {
        let tested =
            process.exchange_request(&WorkerRequest::Test { name: Cow::Borrowed(&name) }, TIME_MAX + GRACE);
        let problem = match tested {
            Ok(WorkerResponse::Tested(problem)) => problem,
            Ok(_) => Some(WorkerFailure::Ended(None).to_string()),
            Err(stopped) => {
                (process, _) = load()?;
                Some(stopped.to_string())
            }
        };
        ends.push(TestEnd { name, problem });
    }
    Ok(ends)
}

impl WorkerProcess {
    fn start(program: &Path) -> Result<Self, WorkerFailure> {
        let mut command = Command::new(program);
        command.arg0(WORKER_NAME).env_clear().current_dir("/").process_group(0);
        // What the allocator sets aside at its start would be beyond the bound of memory.
        command.env("MIMALLOC_ARENA_RESERVE", "16MiB");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(WorkerFailure::Ended(None));
        };
        Ok(Self { child, to, from, loaded: BTreeSet::new(), is_slow: false })
    }

    /// The worker, if it may be given one more question.
    fn of_use(mut self) -> Option<Self> {
        let is_there = matches!(self.child.try_wait(), Ok(None));
        (is_there && !self.is_slow && self.loaded.len() < LAYERS_MAX).then_some(self)
    }

    /// Asks a layer, which is loaded where it is not yet.
    fn ask_loaded_layer(
        &mut self,
        layer: &PolicyLayer,
        question: &Value,
    ) -> Result<Result<Vec<RuleVerdict>, PolicyProblem>, WorkerFailure> {
        let digest = layer.files_digest().to_string();
        if !self.loaded.contains(&digest) {
            let (name, files) = (Cow::Borrowed(layer.name()), Cow::Borrowed(layer.file_texts()));
            let request = WorkerRequest::Load { digest: Cow::Borrowed(&digest), name, files };
            match self.exchange_request(&request, LOAD_TIME_MAX)? {
                WorkerResponse::Loaded(Ok(())) => {}
                WorkerResponse::Loaded(Err(problem)) => return Ok(Err(problem)),
                _ => return Err(WorkerFailure::Ended(None)),
            }
            self.loaded.insert(digest.clone());
        }
        let request = WorkerRequest::Ask { digest: Cow::Owned(digest), question: Cow::Borrowed(question) };
        match self.exchange_request(&request, TIME_MAX + GRACE)? {
            WorkerResponse::Said(said) => Ok(said),
            _ => Err(WorkerFailure::Ended(None)),
        }
    }

    /// Sends a request and waits for its answer.
    fn exchange_request(
        &mut self,
        request: &WorkerRequest<'_>,
        most: Duration,
    ) -> Result<WorkerResponse, WorkerFailure> {
        let body = serde_json::to_vec(request).map_err(io::Error::from)?;
        let end = Instant::now() + most;
        // A layer may take long to read, and a worker that gave way has to read it again.
        let look = if matches!(request, WorkerRequest::Ask { .. }) { LOOK } else { SLOW };
        if let Err(error) = write_frame(&mut self.to, &body) {
            return Err(self.exit_failure(error));
        }
        let mut head = [0; 4];
        self.read_until(&mut head, end, (most, look))?;
        let mut body = vec![0; read_length(head)?];
        self.read_until(&mut body, end, (most, look))?;
        serde_json::from_slice(&body).map_err(|error| WorkerFailure::Failed(error.into()))
    }

    fn read_until(
        &mut self,
        into: &mut [u8],
        end: Instant,
        (most, look): (Duration, Duration),
    ) -> Result<(), WorkerFailure> {
        let (mut at, began, mut worked) = (0, Instant::now(), None);
        while at < into.len() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WorkerFailure::Late(most));
            }
            let left = if self.is_slow { left } else { left.min(look) };
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let ready = match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready.map_err(io::Error::from)?,
            };
            if ready == 0 {
                let ticks = self.processor_ticks();
                if began.elapsed() >= SLOW || *worked.get_or_insert(ticks) < ticks {
                    self.give_way();
                }
                continue;
            }
            match self.from.read(&mut into[at..]) {
                Ok(0) => return Err(self.exit_failure(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(WorkerFailure::Failed(error)),
            }
        }
        Ok(())
    }

    /// Lets everything else on the machine go before. It cannot be taken back, so the worker is used no more.
    fn give_way(&mut self) {
        if !std::mem::replace(&mut self.is_slow, true)
            && let Some(group) = self.child.id().try_into().ok().and_then(Pid::from_raw)
        {
            // One that ended meanwhile is found when it is read.
            setpriority_pgrp(Some(group), NICE).ok();
        }
    }

    /// How much of a processor it used, in ticks of 10 ms; nothing if the system does not say.
    fn processor_ticks(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // Behind the name, which may hold anything: the times in user and in system mode.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    /// Says how a worker ended that closed its pipes.
    fn exit_failure(&mut self, error: io::Error) -> WorkerFailure {
        match self.child.wait() {
            Ok(status) => WorkerFailure::Ended(status.signal()),
            Err(_) => WorkerFailure::Failed(error),
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
