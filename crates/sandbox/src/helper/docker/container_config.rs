//! What a container is: what the spec names, no network, no right, a root that cannot be changed.

use std::collections::HashMap;
use std::path::Path;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
};
use dromia_contracts::sandbox::{ProcessLimits, ProcessSpec};
use rustix::process::{getegid, geteuid};

use super::holder::{ContainerHolder, HOLDER, PLACE};
use crate::docker::DockerEngine;
use crate::helper::trees::SpecTrees;
use crate::helper::{by_path, proc_masks, syscalls};
use crate::spec::{WORKSPACE, process_environment};

/// What waits in a container that is kept: a shell whose input never comes.
const WAITING: &str = "/bin/sh";

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

/// What the first process of a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstProcess {
    /// The program of the spec.
    Program,
    /// One that waits while others run.
    Waiting,
}

/// Describes the container: what the spec names, no network, no right, a root that cannot be changed.
pub(super) async fn container_body(
    docker: &Docker,
    holder: &ContainerHolder,
    spec: &ProcessSpec,
    (engine, first, trees): (&DockerEngine, FirstProcess, &SpecTrees),
) -> Result<ContainerCreateBody, String> {
    let info = docker.info().await.map_err(|problem| problem.to_string())?;
    if info.memory_limit == Some(false) || info.pids_limit == Some(false) {
        return Err(
            "the engine cannot limit memory or processes, because it has no control groups".to_owned()
        );
    }
    let is_rootless =
        info.security_options.unwrap_or_default().iter().any(|option| option.contains("name=rootless"));
    // Root of a rootless engine is the user who runs it. Without a right, a user is what it owns.
    let user =
        if is_rootless { "0:0".to_owned() } else { format!("{}:{}", geteuid().as_raw(), getegid().as_raw()) };
    let image = docker.inspect_image(&engine.image).await;
    let image = image.map_err(|problem| format!("the image {}: {problem}", engine.image))?;
    let given = image.config.and_then(|config| config.env).unwrap_or_default();
    let is_program = first == FirstProcess::Program;
    let (entrypoint, cmd) = match first {
        FirstProcess::Program => (spec.argv[0].clone(), spec.argv[1..].to_vec()),
        FirstProcess::Waiting => (WAITING.to_owned(), Vec::new()),
    };
    Ok(ContainerCreateBody {
        hostname: Some("sandbox".to_owned()),
        user: Some(user),
        attach_stdout: Some(is_program),
        attach_stderr: Some(is_program),
        open_stdin: Some(!is_program),
        env: Some(container_variables(spec, &given)),
        entrypoint: Some(vec![entrypoint]),
        cmd: Some(cmd),
        image: Some(engine.image.clone()),
        working_dir: Some(Path::new(WORKSPACE).join(&spec.cwd).to_string_lossy().into_owned()),
        network_disabled: Some(true),
        labels: Some(HashMap::from([
            (PLACE.to_owned(), holder.place.clone()),
            (HOLDER.to_owned(), holder.who.clone()),
        ])),
        host_config: Some(host_config(spec, first, trees)),
        ..ContainerCreateBody::default()
    })
}

/// The whole environment. A name without a value takes away what image and engine would add.
pub(super) fn container_variables(spec: &ProcessSpec, given: &[String]) -> Vec<String> {
    let ours = process_environment(spec, Path::new(WORKSPACE), "/tmp");
    let names = given.iter().filter_map(|variable| variable.split('=').next()).chain(["HOSTNAME"]);
    let added = names.filter(|name| !ours.iter().any(|(own, _)| own == name)).map(str::to_owned);
    let added: Vec<_> = added.collect();
    ours.into_iter().map(|(name, value)| format!("{name}={value}")).chain(added).collect()
}

fn host_config(spec: &ProcessSpec, first: FirstProcess, trees: &SpecTrees) -> HostConfig {
    let limits = &spec.limits;
    let memory = clamp_to_i64(limits.memory_bytes);
    let temporary = format!("rw,exec,nosuid,nodev,mode=1777,size={}", limits.disk_bytes);
    HostConfig {
        mounts: Some(bind_mounts(spec, trees)),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), temporary)])),
        shm_size: Some(clamp_to_i64(limits.disk_bytes.min(limits.memory_bytes))),
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec![
            "no-new-privileges".to_owned(),
            format!("seccomp={}", syscalls::docker_profile()),
        ]),
        masked_paths: Some(masked_paths()),
        memory: Some(memory),
        memory_swap: Some(memory),
        // Its first process is the engine's; what waits is one more.
        pids_limit: Some(i64::from(limits.processes) + if first == FirstProcess::Program { 1 } else { 2 }),
        ulimits: Some(process_limits(limits, first)),
        init: Some(true),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

/// What is hidden, with what the `/proc` of this machine shows its owner only: in a container that may be the program.
fn masked_paths() -> Vec<String> {
    let (files, directories) = proc_masks::names_to_mask(Path::new("/proc"));
    let owners = files.into_iter().chain(directories).map(|name| format!("/proc/{name}"));
    let mut all: Vec<_> = MASKED.map(str::to_owned).into_iter().chain(owners).collect();
    all.sort();
    all.dedup();
    all
}

/// One mount for each thing that the spec names; the workspace brings its guards with it.
fn bind_mounts(spec: &ProcessSpec, trees: &SpecTrees) -> Vec<Mount> {
    let bind = |source: &Path, target: &Path, is_writable: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_string_lossy().into_owned()),
        read_only: Some(!is_writable),
        ..Mount::default()
    };
    let workspace = Path::new(WORKSPACE);
    let mut mounts = vec![bind(&trees.workspace, workspace, true)];
    if by_path::is_planted() {
        let (fixed, frozen) = by_path::guarded_paths(&spec.workspace);
        for (names, is_writable) in [(fixed, true), (frozen, false)] {
            let shown = names.iter().map(|name| (spec.workspace.join(name), workspace.join(name)));
            mounts.extend(shown.map(|(source, target)| bind(&source, &target, is_writable)));
        }
    }
    let shown = trees.mounts.iter().zip(&spec.mounts);
    mounts.extend(shown.map(|(source, mount)| bind(source, &mount.target, mount.writable)));
    mounts
}

/// What the kernel keeps for each process.
fn process_limits(limits: &ProcessLimits, first: FirstProcess) -> Vec<ResourcesUlimits> {
    let seconds = clamp_to_i64(limits.cpu_ms.div_ceil(1000));
    let bound = |name: &str, soft: i64, hard: i64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(soft),
        hard: Some(hard),
    };
    let mut bounds = vec![
        bound("fsize", clamp_to_i64(limits.disk_bytes), clamp_to_i64(limits.disk_bytes)),
        bound("nofile", 1024, 1024),
        bound("memlock", 64 << 10, 64 << 10),
        bound("msgqueue", 0, 0),
        // As in the other backends: by zero a program would still get a core.
        bound("core", 1, 1),
    ];
    if first == FirstProcess::Program {
        // Programs of one container may have different ones, which are looked at then.
        bounds.push(bound("cpu", seconds, seconds.saturating_add(1)));
    }
    bounds
}

fn clamp_to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::NetworkAccess;

    use super::*;

    fn spec() -> ProcessSpec {
        ProcessSpec {
            argv: vec!["true".to_owned()],
            env: vec![("GIVEN".to_owned(), "by the spec".to_owned())],
            workspace: "/srv/w".into(),
            reference: None,
            cwd: "".into(),
            mounts: Vec::new(),
            limits: ProcessLimits::DEFAULT,
            network: NetworkAccess::None,
            family: None,
        }
    }

    #[test]
    fn an_image_and_an_engine_add_nothing_to_the_environment() {
        let given = ["PATH=/elsewhere".to_owned(), "SECRET=1".to_owned(), "GIVEN=2".to_owned()];
        let told = container_variables(&spec(), &given);
        let names: Vec<_> = told.iter().filter_map(|variable| variable.split_once('=')).collect();
        assert_eq!(names.len(), 5, "{told:?}");
        assert!(names.contains(&("GIVEN", "by the spec")), "{told:?}");
        assert!(!told.contains(&"PATH=/elsewhere".to_owned()), "{told:?}");
        assert_eq!(told[5..], ["SECRET", "HOSTNAME"], "taken away");
    }

    #[test]
    fn a_container_has_no_network_capability_or_writable_root() {
        let host = host_config(
            &spec(),
            FirstProcess::Program,
            &SpecTrees::paths_below(&spec(), Path::new("/trees")),
        );
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
        let targets: Vec<_> =
            host.mounts.iter().flatten().filter_map(|mount| mount.target.as_deref()).collect();
        assert_eq!(targets, [WORKSPACE]);
    }

    #[test]
    fn a_waiting_container_limits_no_programs_time() {
        let has_time = |first| {
            process_limits(&ProcessLimits::DEFAULT, first)
                .iter()
                .any(|one| one.name.as_deref() == Some("cpu"))
        };
        assert!(has_time(FirstProcess::Program) && !has_time(FirstProcess::Waiting));
        let trees = SpecTrees::paths_below(&spec(), Path::new("/trees"));
        let processes = |first| host_config(&spec(), first, &trees).pids_limit;
        assert_eq!(processes(FirstProcess::Waiting), processes(FirstProcess::Program).map(|count| count + 1));
    }
}
