//! The tree that a container of an engine gets: built by handle, with its guards, where the engine finds it.
//!
//! An engine takes paths, and it and its runtime look them up as root: twice, and over links. So a container is given no path
//! below a workspace, neither to mount nor to mount on. A process of its own, the *keeper*, enters the engine's mount
//! namespace, puts a file system in memory onto a directory that no agent sees, builds all that the spec names in there
//! ([`Trees`]), and takes it away again when the container has begun, which has its own mounts then. It ends with its helper,
//! however that ends.
//!
//! That takes the right to mount where the engine does: a server that is root, or an engine of the server's own user. Without it a
//! workspace in which nothing is to be guarded is given by its path, and any other is refused.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use dromia_contracts::sandbox::ProcessSpec;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::holder::{ContainerHolder, is_alive};
use crate::docker::DockerEngine;
use crate::helper::trees::SpecTrees;
use crate::helper::{by_path, guards, tree};
use crate::sys;

/// Where trees lie, each in a directory of its own.
const GROUNDS: &str = "/run/dromia-sandbox";

/// What the keeper says first: the trees are there, or what went wrong.
const READY: u8 = b'+';

/// The longest word about what went wrong.
const PROBLEM_BYTES_MAX: u64 = 1_000;

/// Where a container finds what its spec names. Dropping it takes the trees away.
#[derive(Debug)]
pub(super) struct ContainerTrees {
    pub(super) trees: SpecTrees,
    _keeper: Option<TreeKeeper>,
}

#[derive(Debug)]
struct TreeKeeper {
    pid: Pid,
    /// Its end is the keeper's.
    lifeline: Option<UnixStream>,
}

impl Drop for TreeKeeper {
    fn drop(&mut self) {
        self.lifeline = None;
        // It takes away what it made without help.
        while let Err(Errno::INTR) = rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {}
    }
}

impl ContainerTrees {
    /// Builds the trees of a spec for an engine.
    pub(super) fn build_for_engine(
        spec: &ProcessSpec,
        engine: &DockerEngine,
        holder: &ContainerHolder,
    ) -> Result<Self, String> {
        let plain = SpecTrees {
            workspace: spec.workspace.clone(),
            mounts: spec.mounts.iter().map(|mount| mount.source.clone()).collect(),
        };
        if by_path::is_planted() {
            return Ok(Self { trees: plain, _keeper: None });
        }
        match start_keeper(spec, engine, holder) {
            Ok((trees, keeper)) => Ok(Self { trees, _keeper: Some(keeper) }),
            Err(_) if is_plain(spec) => Ok(Self { trees: plain, _keeper: None }),
            Err(problem) => Err(format!(
                "the server cannot protect the workspace where the engine mounts it: {problem}; run the server \
                 as root, or use an engine of the server's own user"
            )),
        }
    }
}

/// Whether the engine may look all paths up: nothing of the workspace is to be guarded, and nothing else is named.
fn is_plain(spec: &ProcessSpec) -> bool {
    let present = tree::open_no_links(&spec.workspace).and_then(|top| guards::present_paths(&top));
    present.is_ok_and(|present| present.is_empty()) && spec.mounts.is_empty()
}

fn start_keeper(
    spec: &ProcessSpec,
    engine: &DockerEngine,
    holder: &ContainerHolder,
) -> Result<(SpecTrees, TreeKeeper), String> {
    let said = |problem: io::Error| problem.to_string();
    let daemon = UnixStream::connect(&engine.socket).map_err(said)?;
    let daemon = rustix::net::sockopt::socket_peercred(&daemon).map_err(|problem| problem.to_string())?.pid;
    let top = Path::new(GROUNDS).join(directory_name(holder));
    let (mut ours, theirs) = UnixStream::pair().map_err(said)?;
    let Some(pid) = sys::fork().map_err(said)? else {
        drop(ours);
        run_keeper(spec, daemon, &top, &theirs);
    };
    drop(theirs);
    let mut keeper = TreeKeeper { pid, lifeline: None };
    let mut word = [0];
    let first = ours.read_exact(&mut word);
    if first.is_ok() && word[0] == READY {
        keeper.lifeline = Some(ours);
        return Ok((SpecTrees::paths_below(spec, &top), keeper));
    }
    let mut problem = String::new();
    drop(ours.take(PROBLEM_BYTES_MAX).read_to_string(&mut problem));
    Err(if problem.is_empty() { "the keeper of its tree ended".to_owned() } else { problem })
}

/// The keeper: makes the trees, says so, and takes them away when the other end of its line is closed.
fn run_keeper(spec: &ProcessSpec, daemon: Pid, top: &Path, line: &UnixStream) -> ! {
    let done = alone_with(line).and_then(|()| prepare_trees(spec, daemon, top));
    let word = match &done {
        Ok(()) => vec![READY],
        Err(problem) => format!("-{problem}").into_bytes(),
    };
    let said = rustix::io::write(io::stdin(), &word);
    if done.is_ok() {
        // Nothing is said; the end is what is waited for.
        while said.is_ok() && matches!(rustix::io::read(io::stdin(), &mut [0]), Err(Errno::INTR)) {}
        taken_away(top);
    }
    std::process::exit(0)
}

/// Leaves this process nothing but its line, as its standard input: a process that waits for the end of an output or of
/// the helper's socket does not wait for it. A signal to the helper's group does not reach it.
fn alone_with(line: &UnixStream) -> Result<(), String> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let only = null.and_then(|null| {
        rustix::stdio::dup2_stdin(line)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        // What owns these descriptors is never dropped here: this process only exits.
        std::mem::forget(null);
        sys::close_from(3)?;
        rustix::process::setsid()?;
        Ok(())
    });
    only.map_err(|problem| problem.to_string())
}

fn prepare_trees(spec: &ProcessSpec, daemon: Pid, top: &Path) -> Result<(), String> {
    enter_engine_namespaces(daemon).map_err(|problem| format!("the engine's namespaces: {problem}"))?;
    remove_leftovers();
    let laid = mount_top(top).map_err(|problem| format!("{}: {problem}", top.display()));
    let built = laid.and_then(|()| {
        SpecTrees::build_trees(spec, top).map(drop).map_err(|(place, problem)| format!("{place}: {problem}"))
    });
    if built.is_err() {
        taken_away(top);
    }
    built
}

/// Goes where the engine's paths lead, if that is elsewhere.
fn enter_engine_namespaces(daemon: Pid) -> io::Result<()> {
    let daemon = daemon.as_raw_pid();
    let mut others = Vec::new();
    for (name, kind) in [("user", LinkNameSpaceType::User), ("mnt", LinkNameSpaceType::Mount)] {
        let theirs = format!("/proc/{daemon}/ns/{name}");
        if std::fs::read_link(&theirs)? != std::fs::read_link(format!("/proc/self/ns/{name}"))? {
            others.push((std::fs::File::open(theirs)?, kind));
        }
    }
    for (namespace, kind) in others {
        move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    }
    Ok(())
}

/// Puts an empty file system onto a directory of its own. What comes into it shows up nowhere else.
fn mount_top(top: &Path) -> io::Result<()> {
    for (path, mode) in [(Path::new(GROUNDS), Mode::RWXU | Mode::XGRP | Mode::XOTH), (top, Mode::RWXU)] {
        match rustix::fs::mkdir(path, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("dromia", top, "tmpfs", flags, c"mode=0711,size=1m")?;
    mount_change(top, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

fn taken_away(top: &Path) {
    // What cannot be taken away now is taken away by the next one.
    let _: rustix::io::Result<()> = unmount(top, UnmountFlags::DETACH);
    drop(std::fs::remove_dir(top));
}

/// Takes away what keepers left that were ended by force, with their helpers.
fn remove_leftovers() {
    let Ok(here) = ContainerHolder::this_process() else { return };
    for entry in std::fs::read_dir(GROUNDS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((who, place)) = name.to_str().and_then(|name| name.split_once('@')) else { continue };
        if place == namespace_number(&here) && !is_alive(who) {
            taken_away(&entry.path());
        }
    }
}

/// The directory's name: whose it is, and where that number counts.
fn directory_name(holder: &ContainerHolder) -> String {
    format!("{}@{}", holder.who, namespace_number(holder))
}

fn namespace_number(holder: &ContainerHolder) -> String {
    holder.place.rsplit('/').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect()
}
