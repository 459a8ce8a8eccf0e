//! A container of a Docker engine around a program: made, watched and taken away by the helper.
//!
//! The engine is asked over its Unix socket, which is never shown to a container. Nothing is pulled. A container is a fresh
//! one, or one that is kept warm for programs of the same family (`warm`); its name and labels say which helper holds it
//! (`holder`). The helper that makes the next one takes away those whose holder is gone, for the case that server and
//! helper were both killed by force. `described` describes a container to the engine.
//!
//! What goes wrong before the program was started is "nothing ran"; later it is [`ProcessExit::Lost`].

mod container_config;
mod container_tree;
mod holder;
mod quota;
mod warm;

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, StartContainerOptions,
    StatsOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use dromia_contracts::sandbox::{LimitKind, ProcessExit, ProcessSpec};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout};

use self::container_config::{FirstProcess, container_body};
use self::container_tree::ContainerTrees;
use self::holder::{ContainerHolder, is_removed, remove_orphans};
use self::quota::ContainerQuota;
use super::ended_by;
use crate::docker::DockerEngine;
use crate::order::{DockerTask, HelperOrder};

pub(super) use self::holder::{is_alive, start_ticks};

/// How long the engine may take to answer, and to take a container away.
const ENGINE_WAIT: Duration = Duration::from_secs(20);

/// How long output may take to be read once the program has ended.
const DRAIN: Duration = Duration::from_secs(10);

/// Carries out an order at an engine. The other end of `control` is the lifeline.
pub(super) fn run_order(
    control: &UnixStream,
    order: &HelperOrder,
    engine: &DockerEngine,
    work: &DockerTask,
) -> io::Result<ProcessExit> {
    let control = control.try_clone()?;
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut control = tokio::net::UnixStream::from_std(control)?;
        match work {
            DockerTask::Alone => Box::pin(run_alone(&mut control, order, engine)).await,
            DockerTask::Within { container } => {
                let ended = Box::pin(warm::run_in_container(&mut control, order, engine, container)).await?;
                match ended {
                    Some(ending) => Ok(ending),
                    // It is gone, and nothing ran.
                    None => Box::pin(run_alone(&mut control, order, engine)).await,
                }
            }
            DockerTask::Keep { idle_ms } => {
                let idle = Duration::from_millis(*idle_ms);
                Box::pin(warm::keep_container(&mut control, order, engine, idle)).await
            }
            DockerTask::Clear => {
                let docker = connect_engine(engine, ENGINE_WAIT).map_err(engine_error)?;
                let docker = negotiate_version(docker).await.map_err(io::Error::other)?;
                remove_orphans(&docker, &ContainerHolder::this_process()?).await.map_err(engine_error)?;
                Ok(ProcessExit::Exited { code: 0 })
            }
        }
    })
}

#[expect(clippy::needless_pass_by_value, reason = "a failure is handed over to whoever tells it")]
fn engine_error(problem: Error) -> io::Error {
    io::Error::other(problem.to_string())
}

/// Runs a program in a container of its own.
async fn run_alone(
    control: &mut tokio::net::UnixStream,
    order: &HelperOrder,
    engine: &DockerEngine,
) -> io::Result<ProcessExit> {
    let end = Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.startup_time();
    let docker = connect_engine(engine, end - Instant::now()).map_err(engine_error)?;
    let is_made = Cell::new(false);
    let holder = ContainerHolder::this_process()?;
    let name = holder.container_name();
    let room = ContainerQuota::before(&order.spec);
    let ending = tokio::select! {
        biased;
        cause = watch_outside(control, end) => cause,
        ended = Box::pin(run_container(docker.clone(), &holder, (&order.spec, room), engine, &is_made)) => {
            ended.unwrap_or_else(|problem| ProcessExit::NotStarted { problem })
        }
    };
    let is_gone = !is_made.get() || is_removed(&docker, &name).await;
    Ok(if is_gone { ending } else { ProcessExit::Lost })
}

fn connect_engine(engine: &DockerEngine, patience: Duration) -> Result<Docker, Error> {
    let seconds = (patience + ENGINE_WAIT).as_secs();
    Docker::connect_with_unix(&engine.socket.to_string_lossy(), seconds, API_DEFAULT_VERSION)
}

async fn negotiate_version(docker: Docker) -> Result<Docker, String> {
    let docker = timeout(ENGINE_WAIT, docker.negotiate_version()).await;
    let docker = docker.map_err(|_| "the engine does not answer".to_owned())?;
    docker.map_err(|problem| problem.to_string())
}

/// Waits for what ends a program from outside: the lifeline, the end of time.
async fn watch_outside(control: &mut tokio::net::UnixStream, end: Instant) -> ProcessExit {
    let mut bytes = [0; 16];
    tokio::select! {
        // A byte, its end and a failure all mean the same.
        _ = control.read(&mut bytes) => ProcessExit::Stopped,
        () = tokio::time::sleep_until(end) => ProcessExit::Killed { limit: LimitKind::Time },
    }
}

/// Makes a container, starts it, and passes on what it says until it ends. What is wrong before it starts is a problem;
/// `is_made` says whether there may be one to take away.
async fn run_container(
    docker: Docker,
    holder: &ContainerHolder,
    (spec, room): (&ProcessSpec, ContainerQuota),
    engine: &DockerEngine,
    is_made: &Cell<bool>,
) -> Result<ProcessExit, String> {
    let said = |problem: Error| problem.to_string();
    let docker = negotiate_version(docker).await?;
    let (name, ground) =
        Box::pin(make_container(&docker, holder, spec, (engine, FirstProcess::Program), is_made)).await?;
    let asked = AttachContainerOptions {
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let attached = docker.attach_container(&name, Some(asked)).await.map_err(said)?;
    docker.start_container(&name, None::<StartContainerOptions>).await.map_err(said)?;
    // It has mounts of its own now.
    drop(ground);
    let passing = tokio::spawn(pass_on(attached.output));
    let wall = Duration::from_millis(spec.limits.wall_ms);
    let ending = tokio::select! {
        ending = container_ending(&docker, &name) => ending,
        () = uses_up(&docker, &name, spec.limits.cpu_ms) => return Ok(ProcessExit::Killed { limit: LimitKind::Cpu }),
        () = room.runs_out(&docker, &name, &spec.workspace) => return Ok(ProcessExit::Killed { limit: LimitKind::Disk }),
        () = tokio::time::sleep(wall) => return Ok(ProcessExit::Killed { limit: LimitKind::Time }),
    };
    // A slow reader gets less than all; the end is reported all the same.
    drop(timeout(DRAIN, passing).await);
    Ok(ending)
}

/// Makes a container, after those without a living holder were taken away. Returns its name, and what is needed until
/// it has begun.
async fn make_container(
    docker: &Docker,
    holder: &ContainerHolder,
    spec: &ProcessSpec,
    (engine, first): (&DockerEngine, FirstProcess),
    is_made: &Cell<bool>,
) -> Result<(String, ContainerTrees), String> {
    let said = |problem: Error| problem.to_string();
    remove_orphans(docker, holder).await.map_err(said)?;
    let ground = ContainerTrees::build_for_engine(spec, engine, holder)?;
    let body = Box::pin(container_body(docker, holder, spec, (engine, first, &ground.trees))).await?;
    let name = holder.container_name();
    let named = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    // From here on there may be one, whatever the engine answers.
    is_made.set(true);
    Box::pin(docker.create_container(Some(named), body)).await.map_err(said)?;
    Ok((name, ground))
}

/// Writes what the container says to the outputs of this process, no faster than they are read.
async fn pass_on(mut output: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>) {
    let mut sinks = (output_pipe(io::stdout()), output_pipe(io::stderr()));
    while let Some(Ok(piece)) = output.next().await {
        let (sink, bytes) = match piece {
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut sinks.0, message),
            LogOutput::StdErr { message } => (&mut sinks.1, message),
            LogOutput::StdIn { .. } => continue,
        };
        let Some(sink) = sink else { continue };
        // The outputs are not read any more; the process that stopped the program will say so.
        if sink.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// An output of this process, if it is a pipe; else it has no reader.
fn output_pipe(output: impl AsFd) -> Option<pipe::Sender> {
    let owned = output.as_fd().try_clone_to_owned().ok()?;
    pipe::Sender::from_owned_fd(owned).ok()
}

/// Waits for the end of the container.
async fn container_ending(docker: &Docker, name: &str) -> ProcessExit {
    let mut waited = pin!(docker.wait_container(name, None::<WaitContainerOptions>));
    let code = match waited.next().await {
        Some(Ok(response)) => response.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(_)) | None => return ProcessExit::Lost,
    };
    let found = docker.inspect_container(name, None::<InspectContainerOptions>).await;
    let state = found.ok().and_then(|found| found.state);
    if code != 0 && state.and_then(|state| state.oom_killed) == Some(true) {
        return ProcessExit::Killed { limit: LimitKind::Memory };
    }
    ended_as(code)
}

/// What a code says: a signal is 128 plus its number, as in a shell.
fn ended_as(code: i64) -> ProcessExit {
    match i32::try_from(code) {
        Ok(code @ 129..=192) => ended_by(code - 128),
        Ok(code) => ProcessExit::Exited { code },
        Err(_) => ProcessExit::Lost,
    }
}

/// Returns once all processes of the container have used more processor time than they may; else never.
async fn uses_up(docker: &Docker, name: &str, cpu_ms: u64) {
    let asked = StatsOptions { stream: true, one_shot: false };
    let mut stats = pin!(docker.stats(name, Some(asked)));
    while let Some(Ok(found)) = stats.next().await {
        let used = found.cpu_stats.and_then(|stats| stats.cpu_usage).and_then(|usage| usage.total_usage);
        if used.unwrap_or_default() / 1_000_000 > cpu_ms {
            return;
        }
    }
    // Each process has its own bound, and the end of time comes.
    std::future::pending::<()>().await;
}
