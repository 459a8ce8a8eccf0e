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
use dromia_contracts::sandbox::{LimitKind, ProcessExit, ProcessSpec};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::container_config::{FirstProcess, container_variables};
use super::holder::{ContainerHolder, is_removed};
use super::quota::ContainerQuota;
use super::{
    DRAIN, ENGINE_WAIT, connect_engine, ended_as, engine_error, make_container, negotiate_version, pass_on,
    uses_up, watch_outside,
};
use crate::docker::{DockerEngine, IDLE};
use crate::order::HelperOrder;
use crate::spec::WORKSPACE;

/// How long a container is kept at most, however often it is used.
const KEPT_MAX: Duration = Duration::from_hours(1);

/// How often it is asked whether a program has ended that holds its outputs open: soon at first, then seldom.
const ASK_FIRST: Duration = Duration::from_millis(25);
const ASK_LAST: Duration = Duration::from_secs(1);

/// What runs in a container while no program does: the engine's first process, and what waits.
const WAITING_PROCESSES: usize = 2;

/// Makes a container, sends its name to the server, and takes it away when it is not wanted any more.
pub(super) async fn keep_container(
    control: &mut UnixStream,
    order: &HelperOrder,
    engine: &DockerEngine,
    idle: Duration,
) -> io::Result<ProcessExit> {
    let docker = connect_engine(engine, KEPT_MAX).map_err(engine_error)?;
    let holder = ContainerHolder::this_process()?;
    let is_made = Cell::new(false);
    let mut byte = [0; 16];
    let begun = tokio::select! {
        biased;
        _ = control.read(&mut byte) => Err("it is not wanted any more".to_owned()),
        begun = Box::pin(start_waiting_container(docker.clone(), &holder, &order.spec, engine, &is_made)) => begun,
    };
    let ending = match begun {
        Ok(docker) => {
            let name = holder.container_name();
            let said = control.write_all(format!("{name}\n").as_bytes()).await;
            if said.is_ok() {
                Box::pin(wait_until_unwanted(control, &docker, &name, idle)).await;
            }
            ProcessExit::Stopped
        }
        Err(problem) => ProcessExit::NotStarted { problem },
    };
    let is_gone = !is_made.get() || is_removed(&docker, &holder.container_name()).await;
    Ok(if is_gone { ending } else { ProcessExit::Lost })
}

async fn start_waiting_container(
    docker: Docker,
    holder: &ContainerHolder,
    spec: &ProcessSpec,
    engine: &DockerEngine,
    is_made: &Cell<bool>,
) -> Result<Docker, String> {
    let docker = negotiate_version(docker).await?;
    // The environment of one program is not for the next.
    let spec = ProcessSpec { env: Vec::new(), cwd: "".into(), ..spec.clone() };
    let (name, ground) =
        Box::pin(make_container(&docker, holder, &spec, (engine, FirstProcess::Waiting), is_made)).await?;
    let started = docker.start_container(&name, None::<StartContainerOptions>).await;
    started.map_err(|problem| problem.to_string())?;
    drop(ground);
    Ok(docker)
}

/// Waits until a container is not wanted any more: the server is gone, or it was idle for too long, is old, or ended.
async fn wait_until_unwanted(control: &mut UnixStream, docker: &Docker, name: &str, idle: Duration) {
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

/// Runs a program in a container that another helper keeps. Nothing if that is gone, and nothing ran.
pub(super) async fn run_in_container(
    control: &mut UnixStream,
    order: &HelperOrder,
    engine: &DockerEngine,
    container: &str,
) -> io::Result<Option<ProcessExit>> {
    let end = Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.startup_time();
    let docker = connect_engine(engine, end - Instant::now()).map_err(engine_error)?;
    let room = ContainerQuota::before(&order.spec);
    let ended = tokio::select! {
        biased;
        cause = watch_outside(control, end) => Err(cause),
        ended = Box::pin(run_exec(docker.clone(), &order.spec, room, container)) => {
            ended.map_err(|problem| ProcessExit::NotStarted { problem })
        }
    };
    match ended {
        Ok(ended) => Ok(ended),
        Err(cause) => Ok(Some(if is_removed(&docker, container).await { cause } else { ProcessExit::Lost })),
    }
}

/// Runs a program to its end, and sees to it that nothing of it is left: the container stays only if nothing is.
async fn run_exec(
    docker: Docker,
    spec: &ProcessSpec,
    room: ContainerQuota,
    container: &str,
) -> Result<Option<ProcessExit>, String> {
    let said = |problem: Error| problem.to_string();
    let docker = negotiate_version(docker).await?;
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        privileged: Some(false),
        env: Some(container_variables(spec, &[])),
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
            return Ok(Some(ProcessExit::Lost));
        }
    };
    let mut passing = tokio::spawn(pass_on(output));
    let wall = Duration::from_millis(spec.limits.wall_ms);
    let most_ms = before_ms.saturating_add(spec.limits.cpu_ms);
    let ending = tokio::select! {
        ending = exec_ending(&docker, container, &made, &mut passing) => ending,
        () = uses_up(&docker, container, most_ms) => ProcessExit::Killed { limit: LimitKind::Cpu },
        () = room.runs_out(&docker, container, &spec.workspace) => ProcessExit::Killed { limit: LimitKind::Disk },
        () = sleep(wall) => ProcessExit::Killed { limit: LimitKind::Time },
    };
    let stays = matches!(ending, ProcessExit::Exited { .. }) && Box::pin(is_empty(&docker, container)).await;
    let is_settled = stays || is_removed(&docker, container).await;
    // A slow reader gets less than all; the end is reported all the same.
    if matches!(ending, ProcessExit::Exited { .. } | ProcessExit::Signalled { .. }) && !passing.is_finished()
    {
        drop(timeout(DRAIN, passing).await);
    }
    drop(input);
    Ok(Some(if is_settled { ending } else { ProcessExit::Lost }))
}

/// Whether an engine says that there is no such container, or that it does not run.
fn is_gone(problem: &Error) -> bool {
    matches!(problem, Error::DockerResponseServerError { status_code: 404 | 409, .. })
}

/// Waits for the end of a program. Its outputs may end before it, and what it left may hold them open after it. What the
/// engine cannot start ends with the code of a shell for that, and the engine's word is the program's output.
async fn exec_ending(
    docker: &Docker,
    container: &str,
    exec: &str,
    passing: &mut JoinHandle<()>,
) -> ProcessExit {
    let mut pause = ASK_FIRST;
    loop {
        let Ok(found) = docker.inspect_exec(exec).await else { return ProcessExit::Lost };
        if found.running == Some(false)
            && let Some(code) = found.exit_code
        {
            return ending_of_code(docker, container, code).await;
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
async fn ending_of_code(docker: &Docker, container: &str, code: i64) -> ProcessExit {
    let found = docker.inspect_container(container, None::<InspectContainerOptions>).await;
    let state = found.ok().and_then(|found| found.state);
    if code != 0 && state.and_then(|state| state.oom_killed) == Some(true) {
        return ProcessExit::Killed { limit: LimitKind::Memory };
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
