//! The helper's side of the conversation with a guest: what it is to run goes there, with all its trees; what the program
//! says, how it ended, and what changed come back.
//!
//! The author of the program may control the guest. Each of its words is taken only where it belongs; the first
//! one that does not ends the conversation. Its bytes are read as fast as the outputs of this process take them, so a
//! program whose output is not read waits.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dromia_contracts::guarded_paths;
use dromia_contracts::sandbox::{OutputStream, ProcessExit, ProcessLimits, ProcessSpec};

use super::frame::{FrameDecoder, GuestFrame, VERSION};
use super::scan::{self, Found};
use super::unpack::{TreeUnpacker, UnpackTarget};
use crate::helper::{guards, tree};
use crate::spec::WORKSPACE;

/// How long a guest may take for its first word, and for its next one while it is not the program's time.
const WORD_WAIT: Duration = Duration::from_secs(20);

/// The most that is shown to a program beside its workspace.
const SHOWN_BYTES_MAX: u64 = 1 << 30;

/// The most trees: a number of one byte, and the workspace is one.
const TREES_MAX: usize = 200;

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// The trees of a program as they lie on this machine.
#[derive(Debug)]
pub(super) struct HostTrees {
    found: Vec<Found>,
    /// What of the workspace stays where it is, and what the program cannot change.
    guarded: (Vec<PathBuf>, Vec<PathBuf>),
    /// Bytes of what is shown beside the workspace.
    pub(super) shown_bytes: u64,
}

impl HostTrees {
    /// Looks at the workspace and at the mounts. What is too large for the spec is refused with its place.
    pub(super) fn scan_spec(spec: &ProcessSpec) -> Result<Self, String> {
        if spec.mounts.len() >= TREES_MAX {
            return Err("there are too many mounts".to_owned());
        }
        // What a repository lacks is there before the guest gets it, and guarded there as here.
        let top = tree::open_no_links(&spec.workspace)
            .map_err(|problem| format!("{}: {problem}", spec.workspace.display()))?;
        guards::fill_repository(&top).map_err(|(name, problem)| format!("{}: {problem}", name.display()))?;
        let look =
            |path: &Path| scan::scan_tree(path).map_err(|problem| format!("{}: {problem}", path.display()));
        let workspace = look(&spec.workspace)?;
        let bytes = scan::tree_bytes(&workspace);
        if bytes > spec.limits.disk_bytes {
            return Err(format!(
                "the workspace has {bytes} bytes, more than {}: remove files, or raise `disk_quota` of the \
                 tool",
                spec.limits.disk_bytes
            ));
        }
        let mut found = vec![workspace];
        for mount in &spec.mounts {
            found.push(look(&mount.source)?);
        }
        let shown_bytes = found[1..].iter().map(scan::tree_bytes).fold(0, u64::saturating_add);
        if shown_bytes > SHOWN_BYTES_MAX {
            return Err(format!("the mounts have {shown_bytes} bytes, more than {SHOWN_BYTES_MAX}"));
        }
        let guarded = guarded_of(&found[0]);
        Ok(Self { found, guarded, shown_bytes })
    }
}

/// Lists what of a workspace stays where it is, and what the program cannot change, by what one look found there.
fn guarded_of(found: &Found) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut fixed, mut frozen) = (Vec::new(), Vec::new());
    let directories =
        guarded_paths::DIRECTORIES.into_iter().chain([(guarded_paths::REPOSITORY, [].as_slice())]);
    for (directory, names) in directories {
        match scan::is_directory(found, directory) {
            Some(true) => {
                fixed.push(PathBuf::from(directory));
                frozen.extend(names.iter().map(|name| format!("{directory}/{name}")));
            }
            Some(false) => frozen.push(directory.to_owned()),
            None => {}
        }
    }
    frozen.extend(guarded_paths::FILES.map(str::to_owned));
    frozen.retain(|path| scan::is_directory(found, path).is_some());
    (fixed, frozen.into_iter().map(PathBuf::from).collect())
}

/// The part of a spec that the guest gets: everything but where things lie on this machine, and whose it is.
fn guest_spec(spec: &ProcessSpec) -> ProcessSpec {
    let mut told = ProcessSpec { workspace: WORKSPACE.into(), family: None, ..spec.clone() };
    for mount in &mut told.mounts {
        mount.source.clone_from(&mount.target);
    }
    told
}

/// Has a guest run a program. What goes wrong before it may have begun is a problem, later it is [`ProcessExit::Lost`].
pub(super) fn run_conversation(
    line: UnixStream,
    spec: &ProcessSpec,
    trees: &HostTrees,
    outputs: (&mut dyn Write, &mut dyn Write),
) -> Result<ProcessExit, String> {
    let mut talk = GuestConversation { line, decoder: FrameDecoder::default(), piece: vec![0; READ_BYTES] };
    talk.send_task(spec, trees)?;
    Ok(talk.receive_results(spec, trees, outputs).unwrap_or_else(|stopped| match stopped {
        ConversationError::NotBegun(problem) => ProcessExit::NotStarted { problem },
        ConversationError::Lost => ProcessExit::Lost,
    }))
}

/// Why a conversation did not come to its end.
enum ConversationError {
    NotBegun(String),
    Lost,
}

impl From<io::Error> for ConversationError {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

struct GuestConversation {
    line: UnixStream,
    decoder: FrameDecoder,
    piece: Vec<u8>,
}

impl GuestConversation {
    /// Greets, and sends everything that the program gets.
    fn send_task(&mut self, spec: &ProcessSpec, trees: &HostTrees) -> Result<(), String> {
        let said = |problem: io::Error| format!("the guest: {problem}");
        let waits = self.line.set_read_timeout(Some(WORD_WAIT));
        waits.and_then(|()| self.line.set_write_timeout(Some(WORD_WAIT))).map_err(said)?;
        match self.read_frame().map_err(said)? {
            GuestFrame::Hello { version: VERSION } => {}
            GuestFrame::Hello { version } => {
                return Err(format!(
                    "the root image has version {version} and this program version {VERSION}: put this \
                     program into the image of sandbox.firecracker.rootfs as {}",
                    crate::GUEST_NAME
                ));
            }
            _ => return Err("the guest sent no greeting".to_owned()),
        }
        self.send_frame(&GuestFrame::Spec(Box::new(guest_spec(spec)))).map_err(said)?;
        let roots = [&spec.workspace].into_iter().chain(spec.mounts.iter().map(|mount| &mount.source));
        for ((tree, root), found) in (0_u8..).zip(roots).zip(&trees.found) {
            let sent = scan::send_all(tree, root, found, &mut |frame| self.send_frame(frame));
            sent.map_err(|problem| format!("{}: {problem}", root.display()))?;
        }
        self.send_frame(&GuestFrame::Start).map_err(said)
    }

    /// Passes on what the program says until all that changed is put down.
    fn receive_results(
        &mut self,
        spec: &ProcessSpec,
        trees: &HostTrees,
        (out, err): (&mut dyn Write, &mut dyn Write),
    ) -> Result<ProcessExit, ConversationError> {
        match self.read_frame() {
            Ok(GuestFrame::Begun) => {}
            Ok(GuestFrame::Ended(ProcessExit::NotStarted { problem })) => {
                return Err(ConversationError::NotBegun(problem));
            }
            // It may have begun all the same, whatever it says.
            Ok(_) | Err(_) => return Err(ConversationError::Lost),
        }
        // The caller ends it when its time is over; a silent program is no lost one.
        self.line.set_read_timeout(None)?;
        let ending = loop {
            match self.read_frame()? {
                GuestFrame::Output(OutputStream::Out, bytes) => pass_bytes(out, &bytes),
                GuestFrame::Output(OutputStream::Err, bytes) => pass_bytes(err, &bytes),
                GuestFrame::Ended(ending) => break ending,
                _ => return Err(ConversationError::Lost),
            }
        };
        let ending = believable_ending(ending).ok_or(ConversationError::Lost)?;
        self.line.set_read_timeout(Some(WORD_WAIT))?;
        let mut unpacker =
            TreeUnpacker::new(unpack_targets(spec, trees), back_bytes(&spec.limits, trees), None);
        loop {
            match self.read_frame()? {
                GuestFrame::Entry(entry) => unpacker.unpack_entry(entry)?,
                GuestFrame::Data(bytes) => unpacker.write_data(&bytes)?,
                GuestFrame::Done if unpacker.is_whole() => return Ok(ending),
                _ => return Err(ConversationError::Lost),
            }
        }
    }

    fn send_frame(&mut self, frame: &GuestFrame) -> io::Result<()> {
        let bytes = frame.encode().ok_or_else(|| io::Error::other("the message is too long"))?;
        self.line.write_all(&bytes)
    }

    /// Waits for the next frame.
    fn read_frame(&mut self) -> io::Result<GuestFrame> {
        loop {
            let frame = self.decoder.next_frame().map_err(|problem| io::Error::other(problem.to_string()))?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            match self.line.read(&mut self.piece) {
                Ok(0) if self.decoder.is_cut() => {
                    return Err(io::Error::other("the connection ended in the middle"));
                }
                Ok(0) => return Err(io::Error::other("it ended")),
                Ok(count) => self.decoder.push(&self.piece[..count]),
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other("the guest sent nothing"));
                }
                Err(problem) => return Err(problem),
            }
        }
    }
}

/// Where the trees lie on this machine, and what of them a guest may change.
fn unpack_targets(spec: &ProcessSpec, trees: &HostTrees) -> Vec<UnpackTarget> {
    let (fixed, frozen) = trees.guarded.clone();
    let workspace = UnpackTarget { root: spec.workspace.clone(), is_writable: true, fixed, frozen };
    let shown = spec.mounts.iter().map(|mount| UnpackTarget {
        root: mount.source.clone(),
        is_writable: mount.writable,
        fixed: Vec::new(),
        frozen: Vec::new(),
    });
    [workspace].into_iter().chain(shown).collect()
}

/// How many bytes may come back: what the workspace may have, and as much again as was shown.
fn back_bytes(limits: &ProcessLimits, trees: &HostTrees) -> u64 {
    limits.disk_bytes.saturating_add(trees.shown_bytes)
}

/// What a guest can know about an end. The rest only this side knows.
fn believable_ending(ending: ProcessExit) -> Option<ProcessExit> {
    match ending {
        ProcessExit::Exited { .. } | ProcessExit::Signalled { .. } | ProcessExit::Killed { .. } => {
            Some(ending)
        }
        ProcessExit::Stopped | ProcessExit::NotStarted { .. } | ProcessExit::Lost => None,
    }
}

/// Writes on. If the output is closed, the process that closed it says so.
fn pass_bytes(to: &mut dyn Write, bytes: &[u8]) {
    drop(to.write_all(bytes).and_then(|()| to.flush()));
}

#[cfg(test)]
mod tests;
