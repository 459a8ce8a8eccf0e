//! A container of a Docker engine around a program: made, watched and taken away by the helper.
//!
//! The engine is asked over its Unix socket, which is never shown to a container. Nothing is pulled. A container is a fresh
//! one, or one that is kept warm for programs of the same family (`warm`); its name and labels say which helper holds it
//! (`holder`). Whoever makes the next one takes away those whose holder is gone, for the case that server and helper were
//! both killed by force. What a container is stands in `described`.
//!
//! What goes wrong before the program was started is "nothing ran"; later it is [`Ending::Lost`].

mod described;
mod holder;
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
use dromia_contracts::sandbox::{Ending, Limit, ProcessSpec};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout};

use self::described::{First, described};
use self::holder::{Holder, is_removed, sweep};
use super::ended_by;
use super::meter::Quota;
use crate::docker::Engine;
use crate::order::{Order, Work};

pub(super) use self::holder::{is_alive, started};

/// How long the engine may take to answer, and to take a container away.
const ENGINE_WAIT: Duration = Duration::from_secs(20);

/// How long output may take to be read once the program has ended.
const DRAIN: Duration = Duration::from_secs(10);

/// How often the workspace is measured.
const DISK_EVERY: Duration = Duration::from_millis(500);

/// Carries out an order at an engine. The other end of `control` is the lifeline.
pub(super) fn run(control: &UnixStream, order: &Order, engine: &Engine, work: &Work) -> io::Result<Ending> {
    let control = control.try_clone()?;
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut control = tokio::net::UnixStream::from_std(control)?;
        match work {
            Work::Alone => Box::pin(alone(&mut control, order, engine)).await,
            Work::Within { container } => {
                let ended = Box::pin(warm::within(&mut control, order, engine, container)).await?;
                match ended {
                    Some(ending) => Ok(ending),
                    // It is gone, and nothing ran.
                    None => Box::pin(alone(&mut control, order, engine)).await,
                }
            }
            Work::Keep { idle_ms } => {
                let idle = Duration::from_millis(*idle_ms);
                Box::pin(warm::keep(&mut control, order, engine, idle)).await
            }
            Work::Clear => {
                let docker = connected(engine, ENGINE_WAIT).map_err(told)?;
                let docker = negotiated(docker).await.map_err(io::Error::other)?;
                sweep(&docker, &Holder::this()?).await.map_err(told)?;
                Ok(Ending::Exited { code: 0 })
            }
        }
    })
}

#[expect(clippy::needless_pass_by_value, reason = "a failure is handed over to whoever tells it")]
fn told(problem: Error) -> io::Error {
    io::Error::other(problem.to_string())
}

/// Runs a program in a container of its own.
async fn alone(control: &mut tokio::net::UnixStream, order: &Order, engine: &Engine) -> io::Result<Ending> {
    let end = Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.rise();
    let docker = connected(engine, end - Instant::now()).map_err(told)?;
    let is_made = Cell::new(false);
    let holder = Holder::this()?;
    let name = holder.name();
    // Before the container can add to it.
    let quota = Quota::before(&order.spec.workspace, order.spec.limits.disk_bytes);
    let ending = tokio::select! {
        biased;
        cause = watch(control, &order.spec, quota, end) => cause,
        ended = Box::pin(follow(docker.clone(), &holder, &order.spec, engine, &is_made)) => {
            ended.unwrap_or_else(|problem| Ending::NotStarted { problem })
        }
    };
    let is_gone = !is_made.get() || is_removed(&docker, &name).await;
    Ok(if is_gone { ending } else { Ending::Lost })
}

fn connected(engine: &Engine, patience: Duration) -> Result<Docker, Error> {
    let seconds = (patience + ENGINE_WAIT).as_secs();
    Docker::connect_with_unix(&engine.socket.to_string_lossy(), seconds, API_DEFAULT_VERSION)
}

async fn negotiated(docker: Docker) -> Result<Docker, String> {
    let docker = timeout(ENGINE_WAIT, docker.negotiate_version()).await;
    let docker = docker.map_err(|_| "the engine does not answer".to_owned())?;
    docker.map_err(|problem| problem.to_string())
}

/// Waits for what ends a program from outside: the lifeline, the end of time, a workspace that is too large.
async fn watch(
    control: &mut tokio::net::UnixStream,
    spec: &ProcessSpec,
    mut quota: Quota,
    end: Instant,
) -> Ending {
    let mut ticks = tokio::time::interval(DISK_EVERY);
    let mut bytes = [0; 16];
    loop {
        tokio::select! {
            // A byte, its end and a failure all mean the same.
            _ = control.read(&mut bytes) => return Ending::Stopped,
            () = tokio::time::sleep_until(end) => return Ending::Killed { limit: Limit::Time },
            _ = ticks.tick() => {
                if quota.is_exceeded_in(&spec.workspace) {
                    return Ending::Killed { limit: Limit::Disk };
                }
            }
        }
    }
}

/// Makes a container, starts it, and passes on what it says until it ends. What is wrong before it starts is a problem;
/// `is_made` says whether there may be one to take away.
async fn follow(
    docker: Docker,
    holder: &Holder,
    spec: &ProcessSpec,
    engine: &Engine,
    is_made: &Cell<bool>,
) -> Result<Ending, String> {
    let said = |problem: Error| problem.to_string();
    let docker = negotiated(docker).await?;
    let name = Box::pin(make(&docker, holder, spec, (engine, First::Program), is_made)).await?;
    let asked = AttachContainerOptions {
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let attached = docker.attach_container(&name, Some(asked)).await.map_err(said)?;
    docker.start_container(&name, None::<StartContainerOptions>).await.map_err(said)?;
    let passing = tokio::spawn(pass_on(attached.output));
    let wall = Duration::from_millis(spec.limits.wall_ms);
    let ending = tokio::select! {
        ending = ended(&docker, &name) => ending,
        () = uses_up(&docker, &name, spec.limits.cpu_ms) => return Ok(Ending::Killed { limit: Limit::Cpu }),
        () = tokio::time::sleep(wall) => return Ok(Ending::Killed { limit: Limit::Time }),
    };
    // Whoever reads slowly gets less than all; the end is told all the same.
    drop(timeout(DRAIN, passing).await);
    Ok(ending)
}

/// Makes a container, after those that nobody holds any more were taken away. Returns its name.
async fn make(
    docker: &Docker,
    holder: &Holder,
    spec: &ProcessSpec,
    (engine, first): (&Engine, First),
    is_made: &Cell<bool>,
) -> Result<String, String> {
    let said = |problem: Error| problem.to_string();
    sweep(docker, holder).await.map_err(said)?;
    let body = Box::pin(described(docker, holder, spec, engine, first)).await?;
    let name = holder.name();
    let named = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    // From here on there may be one, whatever the engine answers.
    is_made.set(true);
    Box::pin(docker.create_container(Some(named), body)).await.map_err(said)?;
    Ok(name)
}

/// Writes what the container says to the outputs of this process, no faster than they are read.
async fn pass_on(mut output: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>) {
    let mut sinks = (sink(io::stdout()), sink(io::stderr()));
    while let Some(Ok(piece)) = output.next().await {
        let (sink, bytes) = match piece {
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut sinks.0, message),
            LogOutput::StdErr { message } => (&mut sinks.1, message),
            LogOutput::StdIn { .. } => continue,
        };
        let Some(sink) = sink else { continue };
        // Nobody listens any more; whoever stopped will say so.
        if sink.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// An output of this process, if it is a pipe; else nobody listens.
fn sink(output: impl AsFd) -> Option<pipe::Sender> {
    let owned = output.as_fd().try_clone_to_owned().ok()?;
    pipe::Sender::from_owned_fd(owned).ok()
}

/// Waits for the end of the container.
async fn ended(docker: &Docker, name: &str) -> Ending {
    let mut waited = pin!(docker.wait_container(name, None::<WaitContainerOptions>));
    let code = match waited.next().await {
        Some(Ok(response)) => response.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(_)) | None => return Ending::Lost,
    };
    let found = docker.inspect_container(name, None::<InspectContainerOptions>).await;
    let state = found.ok().and_then(|found| found.state);
    if code != 0 && state.and_then(|state| state.oom_killed) == Some(true) {
        return Ending::Killed { limit: Limit::Memory };
    }
    ended_as(code)
}

/// What a code says: a signal is told by 128 and its number, as a shell does.
fn ended_as(code: i64) -> Ending {
    match i32::try_from(code) {
        Ok(code @ 129..=192) => ended_by(code - 128),
        Ok(code) => Ending::Exited { code },
        Err(_) => Ending::Lost,
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
