//! A container of a Docker engine around a program: made, watched and taken away by the helper.
//!
//! The engine is asked over its Unix socket, which is never shown to a container. Nothing is pulled. A container is
//! always a fresh one; its name and labels say which helper holds it. Whoever makes the next one takes away those whose
//! holder is gone, for the case that server and helper were both killed by force.
//!
//! What goes wrong before the program was started is "nothing ran"; later it is [`Ending::Lost`].

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::{Pin, pin};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, ListContainersOptions,
    RemoveContainerOptions, StartContainerOptions, StatsOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use dromia_contracts::sandbox::{Ending, Limit, Limits, ProcessSpec};
use futures_util::{Stream, StreamExt as _};
use rustix::process::{getegid, geteuid, getpid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout};

use super::{ended_by, meter, syscalls};
use crate::docker::Engine;
use crate::order::Order;
use crate::spec::{WORKSPACE, environment, guarded};

/// The labels of our containers: where processes have the numbers that are meant, and which one holds it.
const PLACE: &str = "dromia.sandbox.place";
const HOLDER: &str = "dromia.sandbox.holder";

/// How long the engine may take to answer, and to take a container away.
const ENGINE_WAIT: Duration = Duration::from_secs(20);

/// How long output may take to be read once the program has ended.
const DRAIN: Duration = Duration::from_secs(10);

/// How often the workspace is measured.
const DISK_EVERY: Duration = Duration::from_millis(500);

/// The most containers of gone holders that are taken away at a time.
const SWEEP_MAX: usize = 64;

/// Parts of `/proc` and `/sys` that a container does not see.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys",
];

/// Carries out an order in a container. The other end of `control` is the lifeline.
pub(super) fn run(control: &UnixStream, order: &Order, engine: &Engine) -> io::Result<Ending> {
    let control = control.try_clone()?;
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut control = tokio::net::UnixStream::from_std(control)?;
        let end = Instant::now() + Duration::from_millis(order.spec.limits.wall_ms) + order.walls.rise();
        let docker = connected(engine, end - Instant::now());
        let docker = docker.map_err(|problem| io::Error::other(problem.to_string()))?;
        let is_made = Cell::new(false);
        let holder = Holder::this()?;
        let name = holder.name();
        let ending = tokio::select! {
            biased;
            cause = watch(&mut control, &order.spec, end) => cause,
            ended = Box::pin(follow(docker.clone(), &holder, &order.spec, engine, &is_made)) => {
                ended.unwrap_or_else(|problem| Ending::NotStarted { problem })
            }
        };
        let is_gone = !is_made.get() || is_removed(&docker, &name).await;
        Ok::<_, io::Error>(if is_gone { ending } else { Ending::Lost })
    })
}

fn connected(engine: &Engine, patience: Duration) -> Result<Docker, Error> {
    let seconds = (patience + ENGINE_WAIT).as_secs();
    Docker::connect_with_unix(&engine.socket.to_string_lossy(), seconds, API_DEFAULT_VERSION)
}

/// Waits for what ends a program from outside: the lifeline, the end of time, a workspace that is too large.
async fn watch(control: &mut tokio::net::UnixStream, spec: &ProcessSpec, end: Instant) -> Ending {
    let mut ticks = tokio::time::interval(DISK_EVERY);
    let mut bytes = [0; 16];
    loop {
        tokio::select! {
            // A byte, its end and a failure all mean the same.
            _ = control.read(&mut bytes) => return Ending::Stopped,
            () = tokio::time::sleep_until(end) => return Ending::Killed { limit: Limit::Time },
            _ = ticks.tick() => {
                if meter::disk(&spec.workspace, spec.limits.disk_bytes) > spec.limits.disk_bytes {
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
    let docker = timeout(ENGINE_WAIT, docker.negotiate_version()).await;
    let docker = docker.map_err(|_| "the engine does not answer".to_owned())?.map_err(said)?;
    sweep(&docker, holder).await.map_err(said)?;
    let body = Box::pin(described(&docker, holder, spec, engine)).await?;
    let name = holder.name();
    let named = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    // From here on there may be one, whatever the engine answers.
    is_made.set(true);
    Box::pin(docker.create_container(Some(named), body)).await.map_err(said)?;
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
    match i32::try_from(code) {
        // Its first process tells a signal by 128 and the number, as a shell does.
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

/// Takes a container away, running or not. Whether it is gone.
async fn is_removed(docker: &Docker, name: &str) -> bool {
    let force = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    match timeout(ENGINE_WAIT, docker.remove_container(name, Some(force))).await {
        Ok(Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. })) => true,
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Takes away what helpers left that are gone.
async fn sweep(docker: &Docker, holder: &Holder) -> Result<(), Error> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{PLACE}={}", holder.place)])]);
    let asked =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    let found = docker.list_containers(Some(asked)).await?;
    let left = found.into_iter().filter(|container| {
        let holder = container.labels.as_ref().and_then(|labels| labels.get(HOLDER));
        !holder.is_some_and(|holder| is_alive(holder))
    });
    for id in left.filter_map(|container| container.id).take(SWEEP_MAX) {
        // The next one tries again.
        is_removed(docker, &id).await;
    }
    Ok(())
}

/// Who holds a container: this process, by its number and its start, and where the number counts.
struct Holder {
    place: String,
    who: String,
}

impl Holder {
    fn this() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let namespace = fs::read_link("/proc/self/ns/pid")?;
        let pid = getpid().as_raw_pid();
        let start = started(pid).ok_or_else(|| io::Error::other("/proc does not tell of this process"))?;
        Ok(Self { place: format!("{}/{}", boot.trim(), namespace.display()), who: format!("{pid}-{start}") })
    }

    /// The name of the container that it holds.
    fn name(&self) -> String {
        format!("dromia-{}", self.who)
    }
}

/// Whether a holder still runs.
pub(super) fn is_alive(who: &str) -> bool {
    let Some((pid, start)) = who.split_once('-') else { return false };
    let Some(pid) = pid.parse().ok() else { return false };
    started(pid).is_some_and(|found| found == start)
}

/// When a process started, in ticks since this machine did.
pub(super) fn started(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19).map(str::to_owned)
}

/// Describes the container: what the spec names, no network, no right, a root that cannot be changed.
async fn described(
    docker: &Docker,
    holder: &Holder,
    spec: &ProcessSpec,
    engine: &Engine,
) -> Result<ContainerCreateBody, String> {
    let info = docker.info().await.map_err(|problem| problem.to_string())?;
    if info.memory_limit == Some(false) || info.pids_limit == Some(false) {
        return Err("the engine cannot bound memory or processes, for want of control groups".to_owned());
    }
    let is_rootless =
        info.security_options.unwrap_or_default().iter().any(|option| option.contains("name=rootless"));
    // Root of a rootless engine is whoever runs it. Without a right, a user is what it owns.
    let user =
        if is_rootless { "0:0".to_owned() } else { format!("{}:{}", geteuid().as_raw(), getegid().as_raw()) };
    let image = docker.inspect_image(&engine.image).await;
    let image = image.map_err(|problem| format!("the image {}: {problem}", engine.image))?;
    let given = image.config.and_then(|config| config.env).unwrap_or_default();
    Ok(ContainerCreateBody {
        hostname: Some("sandbox".to_owned()),
        user: Some(user),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(variables(spec, &given)),
        entrypoint: Some(vec![spec.argv[0].clone()]),
        cmd: Some(spec.argv[1..].to_vec()),
        image: Some(engine.image.clone()),
        working_dir: Some(Path::new(WORKSPACE).join(&spec.cwd).to_string_lossy().into_owned()),
        network_disabled: Some(true),
        labels: Some(HashMap::from([
            (PLACE.to_owned(), holder.place.clone()),
            (HOLDER.to_owned(), holder.who.clone()),
        ])),
        host_config: Some(host(spec)),
        ..ContainerCreateBody::default()
    })
}

/// The whole environment. A name without a value takes away what image and engine would add.
fn variables(spec: &ProcessSpec, given: &[String]) -> Vec<String> {
    let ours = environment(spec, Path::new(WORKSPACE), "/tmp");
    let names = given.iter().filter_map(|variable| variable.split('=').next()).chain(["HOSTNAME"]);
    let added = names.filter(|name| !ours.iter().any(|(own, _)| own == name)).map(str::to_owned);
    let added: Vec<_> = added.collect();
    ours.into_iter().map(|(name, value)| format!("{name}={value}")).chain(added).collect()
}

fn host(spec: &ProcessSpec) -> HostConfig {
    let limits = &spec.limits;
    let memory = whole(limits.memory_bytes);
    let temporary = format!("rw,exec,nosuid,nodev,mode=1777,size={}", limits.disk_bytes);
    HostConfig {
        mounts: Some(mounts(spec)),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), temporary)])),
        shm_size: Some(whole(limits.disk_bytes.min(limits.memory_bytes))),
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={}", syscalls::profile())]),
        masked_paths: Some(MASKED.map(str::to_owned).into()),
        memory: Some(memory),
        memory_swap: Some(memory),
        // Its first process is the engine's.
        pids_limit: Some(i64::from(limits.processes) + 1),
        ulimits: Some(bounds(limits)),
        init: Some(true),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

fn mounts(spec: &ProcessSpec) -> Vec<Mount> {
    let bind = |source: &Path, target: &Path, is_writable: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_string_lossy().into_owned()),
        read_only: Some(!is_writable),
        ..Mount::default()
    };
    let workspace = Path::new(WORKSPACE);
    let mut mounts = vec![bind(&spec.workspace, workspace, true)];
    let (fixed, frozen) = guarded(&spec.workspace);
    for (names, is_writable) in [(fixed, true), (frozen, false)] {
        let shown = names.iter().map(|name| (spec.workspace.join(name), workspace.join(name)));
        mounts.extend(shown.map(|(source, target)| bind(&source, &target, is_writable)));
    }
    mounts.extend(spec.mounts.iter().map(|mount| bind(&mount.source, &mount.target, mount.writable)));
    mounts
}

/// What the kernel keeps for each process.
fn bounds(limits: &Limits) -> Vec<ResourcesUlimits> {
    let seconds = whole(limits.cpu_ms.div_ceil(1000));
    let bound = |name: &str, soft: i64, hard: i64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft),
        hard: Some(hard),
    };
    vec![
        bound("cpu", seconds, seconds + 1),
        bound("fsize", whole(limits.disk_bytes), whole(limits.disk_bytes)),
        bound("nofile", 1024, 1024),
        bound("memlock", 64 << 10, 64 << 10),
        bound("msgqueue", 0, 0),
        // As in the other walls: by zero a program would still get a core.
        bound("core", 1, 1),
    ]
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::Network;

    use super::*;

    fn spec() -> ProcessSpec {
        ProcessSpec {
            argv: vec!["true".to_owned()],
            env: vec![("GIVEN".to_owned(), "by the spec".to_owned())],
            workspace: "/srv/w".into(),
            cwd: "".into(),
            mounts: Vec::new(),
            limits: Limits::DEFAULT,
            network: Network::None,
        }
    }

    #[test]
    fn an_image_and_an_engine_add_nothing_to_the_environment() {
        let given = ["PATH=/elsewhere".to_owned(), "SECRET=1".to_owned(), "GIVEN=2".to_owned()];
        let told = variables(&spec(), &given);
        let names: Vec<_> = told.iter().filter_map(|variable| variable.split_once('=')).collect();
        assert_eq!(names.len(), 5, "{told:?}");
        assert!(names.contains(&("GIVEN", "by the spec")), "{told:?}");
        assert!(!told.contains(&"PATH=/elsewhere".to_owned()), "{told:?}");
        assert_eq!(told[5..], ["SECRET", "HOSTNAME"], "taken away");
    }

    #[test]
    fn a_holder_is_known_by_its_start_and_not_by_its_number_alone() {
        let this = Holder::this().expect("this process is there");
        assert!(is_alive(&this.who));
        let pid = getpid().as_raw_pid();
        for gone in [format!("{pid}-1"), format!("{pid}"), "x-1".to_owned(), "-1".to_owned()] {
            assert!(!is_alive(&gone), "{gone}");
        }
    }

    #[test]
    fn a_container_has_no_network_no_right_and_no_root_to_change() {
        let host = host(&spec());
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
        let targets: Vec<_> =
            host.mounts.iter().flatten().filter_map(|mount| mount.target.as_deref()).collect();
        assert_eq!(targets, [WORKSPACE]);
    }
}
