//! The guest's side of the conversation: it takes the trees, starts the program under restrictions, counts what all of
//! it uses, passes on what it says, and sends what changed.
//!
//! It has one thread. While the program runs nothing here waits for one thing only: a helper that does not read keeps
//! neither the limits from being looked at nor the end from being seen, and a program that writes faster than the helper
//! reads waits. Outside of a machine it does the same in a directory, so that tests and rehearsals see it at work.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::{
    LimitKind, OutputStream, PIECE_BYTES_MAX, ProcessExit, ProcessLimits, ProcessSpec,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use super::frame::{GuestFrame, TreeNode, VERSION};
use super::link::GuestLink;
use super::scan::{self, Found};
use super::unpack::{TreeUnpacker, UnpackTarget};
use super::{guest_setup, process_usage};
use crate::helper::meter::WorkspaceQuota;
use crate::helper::namespaces::INSIDE_ID;
use crate::helper::{ending_of_status, restrictions, root, warden};
use crate::spec::WORKSPACE;

/// How often limits are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the workspace is measured.
const DISK_EVERY: Duration = Duration::from_millis(500);

/// The longest word about what went wrong.
const PROBLEM_CHARS_MAX: usize = 1_000;

/// Where all of it happens.
#[derive(Debug)]
pub(super) enum GuestPlace {
    /// In a machine of which this is the first process.
    Machine,
    /// In a directory, by an ordinary process.
    Directory(PathBuf),
}

/// Does what the other end of a line asks for, once.
pub(super) fn serve_once(line: File, place: &GuestPlace) -> io::Result<()> {
    let mut link = GuestLink::new(line);
    answer_helper(&mut link, place)?;
    link.wait_hang_up();
    Ok(())
}

fn answer_helper(link: &mut GuestLink, place: &GuestPlace) -> io::Result<()> {
    link.send_frame(&GuestFrame::Hello { version: VERSION })?;
    let GuestFrame::Spec(mut spec) = link.read_frame()? else { return Err(unexpected_frame()) };
    let received = GuestTask::receive_trees(link, &mut spec, place).map_err(|problem| problem.to_string());
    let started = received.and_then(|task| {
        let quota = WorkspaceQuota::measure_before(&task.roots[0], spec.limits.disk_bytes);
        task.start_program(&spec, place).map(|child| (task, quota, child))
    });
    let (task, quota, mut child) = match started {
        Ok(started) => started,
        Err(problem) => {
            let problem = problem.chars().take(PROBLEM_CHARS_MAX).collect();
            return link.send_frame(&GuestFrame::Ended(ProcessExit::NotStarted { problem }));
        }
    };
    link.send_frame(&GuestFrame::Begun)?;
    let ending = GuestRun::new(link, &spec.limits, &task.tree_paths(&spec, place)[0], quota)
        .pass_until_end(&mut child)?;
    let is_over = ending == ProcessExit::Killed { limit: LimitKind::Disk };
    link.send_frame(&GuestFrame::Ended(ending))?;
    if !is_over {
        // A workspace beyond its quota is not taken back.
        task.send_changes(link, &spec, place)?;
    }
    link.send_frame(&GuestFrame::Done)
}

fn unexpected_frame() -> io::Error {
    io::Error::other("the helper sent an unexpected message")
}

/// The trees of a program, as they came.
struct GuestTask {
    roots: Vec<PathBuf>,
    before: Vec<Found>,
}

impl GuestTask {
    /// Takes all trees, and makes the spec name where they lie.
    fn receive_trees(link: &mut GuestLink, spec: &mut ProcessSpec, place: &GuestPlace) -> io::Result<Self> {
        let (top, owner) = match place {
            GuestPlace::Machine => (guest_setup::make_tree_directory(&spec.limits)?, Some(INSIDE_ID)),
            GuestPlace::Directory(top) => {
                fs::create_dir(top.join("workspace"))?;
                (top.clone(), None)
            }
        };
        let mounts = top.join("mounts");
        fs::create_dir(&mounts)?;
        let shown = (0..spec.mounts.len()).map(|number| mounts.join(number.to_string()));
        let roots: Vec<_> = [top.join("workspace")].into_iter().chain(shown).collect();
        let ground = |root: &PathBuf| UnpackTarget {
            root: root.clone(),
            is_writable: true,
            fixed: Vec::new(),
            frozen: Vec::new(),
        };
        // The quota is kept by the file system, and by the sender.
        let mut unpacker = TreeUnpacker::new(roots.iter().map(ground).collect(), u64::MAX, owner);
        loop {
            match link.read_frame()? {
                GuestFrame::Entry(entry) => {
                    let root = roots.get(usize::from(entry.tree)).ok_or_else(unexpected_frame)?;
                    let is_file = entry.path.is_empty() && matches!(entry.node, TreeNode::File { .. });
                    if !is_file && !root.exists() {
                        fs::create_dir(root)?;
                    }
                    unpacker.unpack_entry(entry)?;
                }
                GuestFrame::Data(bytes) => unpacker.write_data(&bytes)?,
                GuestFrame::Start if unpacker.is_whole() => break,
                _ => return Err(unexpected_frame()),
            }
        }
        for root in roots.iter().filter(|root| !root.exists()) {
            fs::create_dir(root)?;
        }
        if let Some(owner) = owner {
            for root in &roots {
                std::os::unix::fs::chown(root, Some(owner), Some(owner))?;
            }
        }
        let before = roots.iter().map(|root| scan::scan_tree(root)).collect::<io::Result<_>>()?;
        spec.workspace.clone_from(&roots[0]);
        for (mount, root) in spec.mounts.iter_mut().zip(&roots[1..]) {
            mount.source.clone_from(root);
        }
        Ok(Self { roots, before })
    }

    /// Restricts the program, and starts it.
    fn start_program(&self, spec: &ProcessSpec, place: &GuestPlace) -> Result<Child, String> {
        let said = |(place, problem): (String, io::Error)| format!("{place}: {problem}");
        let (workspace, temporary, counts_own) = match place {
            GuestPlace::Machine => {
                root::build_root(spec).map_err(said)?;
                guest_setup::become_user().map_err(|problem| format!("user: {problem}"))?;
                (PathBuf::from(WORKSPACE), "/tmp".to_owned(), true)
            }
            GuestPlace::Directory(top) => {
                let this = Some(rustix::process::getpid());
                rustix::process::set_child_subreaper(this).map_err(|problem| problem.to_string())?;
                (self.roots[0].clone(), top.to_string_lossy().into_owned(), false)
            }
        };
        let mut command = warden::program_command(spec, &workspace, &temporary);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        restrictions::build_in_machine(&mut command, &spec.limits, counts_own)
            .map_err(|(place, problem)| format!("{place}: {problem}"))?;
        command.spawn().map_err(|problem| warden::why_not(spec, &workspace, &problem))
    }

    /// Where the trees lie for the program, and for this process from now on.
    fn tree_paths(&self, spec: &ProcessSpec, place: &GuestPlace) -> Vec<PathBuf> {
        match place {
            GuestPlace::Machine => {
                let shown = spec.mounts.iter().map(|mount| mount.target.clone());
                [PathBuf::from(WORKSPACE)].into_iter().chain(shown).collect()
            }
            GuestPlace::Directory(_) => self.roots.clone(),
        }
    }

    /// Sends what the program changed where it may.
    fn send_changes(&self, link: &mut GuestLink, spec: &ProcessSpec, place: &GuestPlace) -> io::Result<()> {
        let may_change = [true].into_iter().chain(spec.mounts.iter().map(|mount| mount.writable));
        let seen = self.tree_paths(spec, place);
        for (((tree, root), before), is_writable) in (0_u8..).zip(&seen).zip(&self.before).zip(may_change) {
            if is_writable {
                let now = scan::scan_tree(root)?;
                scan::send_changes(tree, root, (before, &now), &mut |frame| link.send_frame(frame))?;
            }
        }
        Ok(())
    }
}

/// A program that runs, and what is still to be said about it.
struct GuestRun<'run> {
    link: &'run mut GuestLink,
    limits: &'run ProcessLimits,
    workspace: &'run Path,
    quota: WorkspaceQuota,
    end: Instant,
    look_at: Instant,
    disk_at: Instant,
}

/// What came of a moment's waiting.
#[derive(Default)]
struct ReadyOutputs {
    is_cut_off: bool,
    outputs: [bool; 2],
}

impl<'run> GuestRun<'run> {
    fn new(
        link: &'run mut GuestLink,
        limits: &'run ProcessLimits,
        workspace: &'run Path,
        quota: WorkspaceQuota,
    ) -> Self {
        let now = Instant::now();
        let end = now + Duration::from_millis(limits.wall_ms);
        Self { link, limits, workspace, quota, end, look_at: now + LOOK_EVERY, disk_at: now + DISK_EVERY }
    }

    /// Passes on what the program says until it has ended, or is ended, and nothing of it is left.
    fn pass_until_end(mut self, child: &mut Child) -> io::Result<ProcessExit> {
        let program = Pid::from_child(child);
        let handle = rustix::process::pidfd_open(program, PidfdFlags::empty())?;
        let mut outputs = [
            child.stdout.take().map(|output| File::from(OwnedFd::from(output))),
            child.stderr.take().map(|output| File::from(OwnedFd::from(output))),
        ];
        self.link.wait_for_nothing(true)?;
        let mut ending = None;
        loop {
            self.link.flush()?;
            if let Some(ending) = ending.take_if(|_| outputs.iter().all(Option::is_none)) {
                self.link.wait_for_nothing(false)?;
                return Ok(ending);
            }
            let ready = self.wait_ready(&outputs, ending.is_none().then_some(&handle))?;
            if ready.is_cut_off {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            for (which, (output, is_ready)) in outputs.iter_mut().zip(ready.outputs).enumerate() {
                if is_ready {
                    self.pass_output(which, output)?;
                }
            }
            if ending.is_none() {
                ending = self.find_ending(program)?;
                if ending.is_some() {
                    // The rest of it holds the outputs open.
                    process_usage::end_all()?;
                }
            }
        }
    }

    /// Waits until something may be done, at most until the next look. What is to be said goes before what is to be read.
    fn wait_ready(&self, outputs: &[Option<File>; 2], program: Option<&OwnedFd>) -> io::Result<ReadyOutputs> {
        let is_behind = self.link.is_behind();
        let room = if is_behind { PollFlags::OUT } else { PollFlags::empty() };
        let mut watched = vec![PollFd::new(&self.link.line, room)];
        let read: Vec<_> = if is_behind {
            Vec::new()
        } else {
            outputs.iter().enumerate().filter_map(|(which, output)| Some((which, output.as_ref()?))).collect()
        };
        watched.extend(read.iter().map(|(_, output)| PollFd::new(*output, PollFlags::IN)));
        watched.extend(program.map(|program| PollFd::new(program, PollFlags::IN)));
        let tick = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
        match poll(&mut watched, Some(&tick)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(ReadyOutputs::default()),
            Err(problem) => return Err(problem.into()),
        }
        let is_cut_off = watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        let mut ready = ReadyOutputs { is_cut_off, ..ReadyOutputs::default() };
        for ((which, _), output) in read.iter().zip(&watched[1..]) {
            ready.outputs[*which] = !output.revents().is_empty();
        }
        Ok(ready)
    }

    /// Reads a piece of what the program says, and says it on.
    fn pass_output(&mut self, which: usize, output: &mut Option<File>) -> io::Result<()> {
        let Some(file) = output else { return Ok(()) };
        let mut piece = vec![0; PIECE_BYTES_MAX];
        match file.read(&mut piece) {
            Ok(0) => *output = None,
            Ok(count) => {
                piece.truncate(count);
                let stream = if which == 0 { OutputStream::Out } else { OutputStream::Err };
                self.link.queue_frame(&GuestFrame::Output(stream, piece))?;
            }
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// Says how the program ended, or what ends it.
    fn find_ending(&mut self, program: Pid) -> io::Result<Option<ProcessExit>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == program => return Ok(Some(ending_of_status(status))),
                // Orphans come to this process, and are buried one by one.
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                Err(problem) => return Err(problem.into()),
            }
        }
        let now = Instant::now();
        let killed = |limit| Ok(Some(ProcessExit::Killed { limit }));
        if now >= self.end {
            return killed(LimitKind::Time);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            if let Some(limit) = process_usage::exceeded_limit(self.limits) {
                return killed(limit);
            }
        }
        if now >= self.disk_at {
            let is_exceeded = self.quota.is_exceeded_in(self.workspace);
            self.disk_at = Instant::now() + DISK_EVERY.max(now.elapsed() * 10);
            if is_exceeded {
                return killed(LimitKind::Disk);
            }
        }
        Ok(None)
    }
}
