//! A container that is kept warm, and programs in it.
//!
//! One helper keeps it: it makes the container, says its name, and holds it as long as the lifeline is there, until it is
//! idle for too long or old. Each program has a helper of its own, which asks the engine to run it in there. When the
//! program has ended by itself and nothing of it runs any more the container stays; in every other case that helper takes
//! it away, and whatever was left ends with it. So nothing that runs is ever met by the next program.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::{
    InspectContainerOptions, StartContainerOptions, StatsOptions, TopOptions, WaitContainerOptions,
};
use dromia_contracts::sandbox::{Ending, Limit, ProcessSpec};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::described::{First, variables};
use super::holder::{Holder, is_removed};
use super::{DRAIN, ENGINE_WAIT, connected, ended_as, make, negotiated, pass_on, told, uses_up, watch};
use crate::docker::{Engine, IDLE};
use crate::helper::meter::Quota;
use crate::order::Order;
use crate::spec::WORKSPACE;

/// How long a container is kept at most, however often it is used.
const KEPT_MAX: Duration = Duration::from_hours(1);

/// How often it is asked whether a program has ended that holds its outputs open: soon at first, then seldom.
const ASK_FIRST: Duration = Duration::from_millis(25);
const ASK_LAST: Duration = Duration::from_secs(1);

/// What runs in a container while no program does: the engine's first process, and what waits.
const WAITING_PROCESSES: usize = 2;

/// Makes a container, says its name to whoever ordered it, and takes it away when it is not wanted any more.
pub(super) async fn keep(
    control: &mut UnixStream,
    order: &Order,
    engine: &Engine,
    idle: Duration,
) -> io::Result<Ending> {
    let docker = connected(engine, KEPT_MAX).map_err(told)?;
    let holder = Holder::this()?;
    let is_made = Cell::new(false);
    let mut byte = [0; 16];
    let begun = tokio::select! {
        biased;
        _ = control.read(&mut byte) => Err("it is not wanted any more".to_owned()),
        begun = Box::pin(begin(docker.clone(), &holder, &order.spec, engine, &is_made)) => begun,
    };
    let ending = match begun {
        Ok(docker) => {
            let name = holder.name();
            let said = control.write_all(format!("{name}\n").as_bytes()).await;
            if said.is_ok() {
                Box::pin(hold(control, &docker, &name, idle)).await;
            }
            Ending::Stopped
        }
        Err(problem) => Ending::NotStarted { problem },
    };
    let is_gone = !is_made.get() || is_removed(&docker, &holder.name()).await;
    Ok(if is_gone { ending } else { Ending::Lost })
}

async fn begin(
    docker: Docker,
    holder: &Holder,
    spec: &ProcessSpec,
    engine: &Engine,
    is_made: &Cell<bool>,
) -> Result<Docker, String> {
    let docker = negotiated(docker).await?;
    // What one program is told is not for the next.
    let spec = ProcessSpec { env: Vec::new(), cwd: "".into(), ..spec.clone() };
    let name = Box::pin(make(&docker, holder, &spec, (engine, First::Waiting), is_made)).await?;
    let started = docker.start_container(&name, None::<StartContainerOptions>).await;
    started.map_err(|problem| problem.to_string())?;
    Ok(docker)
}

/// Waits until a container is not wanted any more: nobody is there, it was idle for too long, it is old, or it ended.
async fn hold(control: &mut UnixStream, docker: &Docker, name: &str, idle: Duration) {
    let mut waited = pin!(docker.wait_container(name, None::<WaitContainerOptions>));
    let old = Instant::now() + KEPT_MAX;
    // It is made for a program, which begins now.
    let mut end = old;
    let mut words = [0; 16];
    loop {
        tokio::select! {
            read = control.read(&mut words) => match read {
                Ok(count) if count > 0 => {
                    let is_idle = words[..count].last() == Some(&IDLE);
                    end = if is_idle { old.min(Instant::now() + idle) } else { old };
                }
                Ok(_) | Err(_) => return,
            },
            _ = waited.next() => return,
            () = sleep_until(end) => return,
        }
    }
}

/// Runs a program in a container that somebody keeps. Nothing if that is gone, and nothing ran.
pub(super) async fn within(
    control: &mut UnixStream,
    order: &Order,
    engine: &Engine,
    container: &str,
) -> io::Result<Option<Ending>> {
    let end = Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.rise();
    let docker = connected(engine, end - Instant::now()).map_err(told)?;
    let quota = Quota::before(&order.spec.workspace, order.spec.limits.disk_bytes);
    let ended = tokio::select! {
        biased;
        cause = watch(control, &order.spec, quota, end) => Err(cause),
        ended = Box::pin(follow(docker.clone(), &order.spec, container)) => {
            ended.map_err(|problem| Ending::NotStarted { problem })
        }
    };
    match ended {
        Ok(ended) => Ok(ended),
        Err(cause) => Ok(Some(if is_removed(&docker, container).await { cause } else { Ending::Lost })),
    }
}

/// Runs a program to its end, and sees to it that nothing of it is left: the container stays only if nothing is.
async fn follow(docker: Docker, spec: &ProcessSpec, container: &str) -> Result<Option<Ending>, String> {
    let said = |problem: Error| problem.to_string();
    let docker = negotiated(docker).await?;
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        privileged: Some(false),
        env: Some(variables(spec, &[])),
        cmd: Some(spec.argv.clone()),
        working_dir: Some(Path::new(WORKSPACE).join(&spec.cwd).to_string_lossy().into_owned()),
        ..ExecConfig::default()
    };
    let made = match docker.create_exec(container, config).await {
        Ok(made) => made.id,
        Err(problem) if is_gone(&problem) => return Ok(None),
        Err(problem) => return Err(said(problem)),
    };
    let Some(before_ms) = used_ms(&docker, container).await else { return Ok(None) };
    let options = StartExecOptions { detach: false, tty: false, output_capacity: None };
    let (output, input) = match docker.start_exec(&made, Some(options)).await {
        Ok(StartExecResults::Attached { output, input }) => (output, input),
        Err(problem) if is_gone(&problem) => return Ok(None),
        Err(problem @ Error::DockerResponseServerError { .. }) => return Err(said(problem)),
        // It may have begun all the same, out of sight.
        Ok(StartExecResults::Detached) | Err(_) => {
            is_removed(&docker, container).await;
            return Ok(Some(Ending::Lost));
        }
    };
    let mut passing = tokio::spawn(pass_on(output));
    let wall = Duration::from_millis(spec.limits.wall_ms);
    let most_ms = before_ms.saturating_add(spec.limits.cpu_ms);
    let ending = tokio::select! {
        ending = ended(&docker, container, &made, &mut passing) => ending,
        () = uses_up(&docker, container, most_ms) => Ending::Killed { limit: Limit::Cpu },
        () = sleep(wall) => Ending::Killed { limit: Limit::Time },
    };
    let stays = matches!(ending, Ending::Exited { .. }) && Box::pin(is_empty(&docker, container)).await;
    let is_settled = stays || is_removed(&docker, container).await;
    // Whoever reads slowly gets less than all; the end is told all the same.
    if matches!(ending, Ending::Exited { .. } | Ending::Signalled { .. }) && !passing.is_finished() {
        drop(timeout(DRAIN, passing).await);
    }
    drop(input);
    Ok(Some(if is_settled { ending } else { Ending::Lost }))
}

/// Whether an engine says that there is no such container, or that it does not run.
fn is_gone(problem: &Error) -> bool {
    matches!(problem, Error::DockerResponseServerError { status_code: 404 | 409, .. })
}

/// Waits for the end of a program. Its outputs may end before it, and what it left may hold them open after it. What the
/// engine cannot start ends with the code of a shell for that, and the engine's word is the program's output.
async fn ended(docker: &Docker, container: &str, exec: &str, passing: &mut JoinHandle<()>) -> Ending {
    let mut pause = ASK_FIRST;
    loop {
        let Ok(found) = docker.inspect_exec(exec).await else { return Ending::Lost };
        if found.running == Some(false)
            && let Some(code) = found.exit_code
        {
            return judged(docker, container, code).await;
        }
        if passing.is_finished() {
            sleep(ASK_FIRST).await;
        } else {
            // A finished one is not waited for twice.
            drop(timeout(pause, &mut *passing).await);
            pause = (pause * 2).min(ASK_LAST);
        }
    }
}

/// What a code says, where the kernel may have ended it for want of memory.
async fn judged(docker: &Docker, container: &str, code: i64) -> Ending {
    let found = docker.inspect_container(container, None::<InspectContainerOptions>).await;
    let state = found.ok().and_then(|found| found.state);
    if code != 0 && state.and_then(|state| state.oom_killed) == Some(true) {
        return Ending::Killed { limit: Limit::Memory };
    }
    ended_as(code)
}

/// Processor time that a container has had; nothing if it is gone.
async fn used_ms(docker: &Docker, container: &str) -> Option<u64> {
    let asked = StatsOptions { stream: false, one_shot: true };
    let mut stats = pin!(docker.stats(container, Some(asked)));
    let found = timeout(ENGINE_WAIT, stats.next()).await.ok()??.ok()?;
    let used = found.cpu_stats.and_then(|stats| stats.cpu_usage).and_then(|usage| usage.total_usage);
    Some(used.unwrap_or_default() / 1_000_000)
}

/// Whether nothing of any program runs in a container that runs.
async fn is_empty(docker: &Docker, container: &str) -> bool {
    let asked = TopOptions { ps_args: "-eo pid".to_owned() };
    match timeout(ENGINE_WAIT, docker.top_processes(container, Some(asked))).await {
        Ok(Ok(found)) => found.processes.is_some_and(|processes| processes.len() == WAITING_PROCESSES),
        Ok(Err(_)) | Err(_) => false,
    }
}
