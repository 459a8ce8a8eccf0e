//! The helper's side of the conversation with a guest: what it is to run goes there, with all its trees; what the program
//! says, how it ended, and what changed come back.
//!
//! The guest may be in the hands of whoever wrote the program. Each of its words is taken only where it belongs; the first
//! one that does not ends the conversation. Its bytes are read as fast as the outputs of this process take them, so a
//! program that nobody hears waits.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dromia_contracts::sandbox::{Ending, Limits, ProcessSpec, Stream};

use super::frame::{Decoder, Frame, VERSION};
use super::scan::{self, Found};
use super::unpack::{Ground, Unpacker};
use crate::spec::{WORKSPACE, guarded};

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
pub(super) struct Trees {
    found: Vec<Found>,
    /// What of the workspace stays where it is, and what nobody changes.
    guarded: (Vec<PathBuf>, Vec<PathBuf>),
    /// Bytes of what is shown beside the workspace.
    pub(super) shown_bytes: u64,
}

impl Trees {
    /// Looks at the workspace and at the mounts. What is too large for the spec is refused with its place.
    pub(super) fn look(spec: &ProcessSpec) -> Result<Self, String> {
        if spec.mounts.len() >= TREES_MAX {
            return Err("there are too many mounts".to_owned());
        }
        let look = |path: &Path| scan::scan(path).map_err(|problem| format!("{}: {problem}", path.display()));
        let workspace = look(&spec.workspace)?;
        let bytes = scan::bytes(&workspace);
        if bytes > spec.limits.disk_bytes {
            return Err(format!(
                "the workspace has {bytes} bytes and may have {}: remove files, or raise `disk_quota` of the tool",
                spec.limits.disk_bytes
            ));
        }
        let mut found = vec![workspace];
        for mount in &spec.mounts {
            found.push(look(&mount.source)?);
        }
        let shown_bytes = found[1..].iter().map(scan::bytes).fold(0, u64::saturating_add);
        if shown_bytes > SHOWN_BYTES_MAX {
            return Err(format!("the mounts have {shown_bytes} bytes, and {SHOWN_BYTES_MAX} can be shown"));
        }
        Ok(Self { found, guarded: guarded(&spec.workspace), shown_bytes })
    }
}

/// What the guest is told of a spec: everything but where things lie on this machine, and whose it is.
fn told(spec: &ProcessSpec) -> ProcessSpec {
    let mut told = ProcessSpec { workspace: WORKSPACE.into(), family: None, ..spec.clone() };
    for mount in &mut told.mounts {
        mount.source.clone_from(&mount.target);
    }
    told
}

/// Has a guest run a program. What goes wrong before it may have begun is a problem, later it is [`Ending::Lost`].
pub(super) fn converse(
    line: UnixStream,
    spec: &ProcessSpec,
    trees: &Trees,
    outputs: (&mut dyn Write, &mut dyn Write),
) -> Result<Ending, String> {
    let mut talk = Talk { line, decoder: Decoder::default(), piece: vec![0; READ_BYTES] };
    talk.begin(spec, trees)?;
    Ok(talk.follow(spec, trees, outputs).unwrap_or_else(|stopped| match stopped {
        Stopped::NotBegun(problem) => Ending::NotStarted { problem },
        Stopped::Lost => Ending::Lost,
    }))
}

/// Why a conversation did not come to its end.
enum Stopped {
    NotBegun(String),
    Lost,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

struct Talk {
    line: UnixStream,
    decoder: Decoder,
    piece: Vec<u8>,
}

impl Talk {
    /// Greets, and sends everything that the program gets.
    fn begin(&mut self, spec: &ProcessSpec, trees: &Trees) -> Result<(), String> {
        let said = |problem: io::Error| format!("the guest: {problem}");
        let waits = self.line.set_read_timeout(Some(WORD_WAIT));
        waits.and_then(|()| self.line.set_write_timeout(Some(WORD_WAIT))).map_err(said)?;
        match self.hear().map_err(said)? {
            Frame::Hello { version: VERSION } => {}
            Frame::Hello { version } => {
                return Err(format!(
                    "the root image speaks version {version} and this program version {VERSION}: put this \
                     program into the image of sandbox.firecracker.rootfs as {}",
                    crate::GUEST_NAME
                ));
            }
            _ => return Err("the guest does not greet".to_owned()),
        }
        self.tell(&Frame::Spec(Box::new(told(spec)))).map_err(said)?;
        let roots = [&spec.workspace].into_iter().chain(spec.mounts.iter().map(|mount| &mount.source));
        for ((tree, root), found) in (0_u8..).zip(roots).zip(&trees.found) {
            let sent = scan::send_all(tree, root, found, &mut |frame| self.tell(frame));
            sent.map_err(|problem| format!("{}: {problem}", root.display()))?;
        }
        self.tell(&Frame::Start).map_err(said)
    }

    /// Passes on what the program says until all that changed is put down.
    fn follow(
        &mut self,
        spec: &ProcessSpec,
        trees: &Trees,
        (out, err): (&mut dyn Write, &mut dyn Write),
    ) -> Result<Ending, Stopped> {
        match self.hear() {
            Ok(Frame::Begun) => {}
            Ok(Frame::Ended(Ending::NotStarted { problem })) => return Err(Stopped::NotBegun(problem)),
            // It may have begun all the same, whatever it says.
            Ok(_) | Err(_) => return Err(Stopped::Lost),
        }
        // Whoever called ends it when its time is over; a silent program is no lost one.
        self.line.set_read_timeout(None)?;
        let ending = loop {
            match self.hear()? {
                Frame::Output(Stream::Out, bytes) => pass(out, &bytes),
                Frame::Output(Stream::Err, bytes) => pass(err, &bytes),
                Frame::Ended(ending) => break ending,
                _ => return Err(Stopped::Lost),
            }
        };
        let ending = believable(ending).ok_or(Stopped::Lost)?;
        self.line.set_read_timeout(Some(WORD_WAIT))?;
        let mut unpacker = Unpacker::new(grounds(spec, trees), back_bytes(&spec.limits, trees), None);
        loop {
            match self.hear()? {
                Frame::Entry(entry) => unpacker.entry(entry)?,
                Frame::Data(bytes) => unpacker.data(&bytes)?,
                Frame::Done if unpacker.is_whole() => return Ok(ending),
                _ => return Err(Stopped::Lost),
            }
        }
    }

    fn tell(&mut self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.encode().ok_or_else(|| io::Error::other("what is to be said is too long"))?;
        self.line.write_all(&bytes)
    }

    /// Waits for the next frame.
    fn hear(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.decoder.take().map_err(|problem| io::Error::other(problem.to_string()))?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            match self.line.read(&mut self.piece) {
                Ok(0) if self.decoder.is_cut() => return Err(io::Error::other("it ended in the middle")),
                Ok(0) => return Err(io::Error::other("it ended")),
                Ok(count) => self.decoder.push(&self.piece[..count]),
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other("it says nothing"));
                }
                Err(problem) => return Err(problem),
            }
        }
    }
}

/// Where the trees lie on this machine, and what of them a guest may change.
fn grounds(spec: &ProcessSpec, trees: &Trees) -> Vec<Ground> {
    let (fixed, frozen) = trees.guarded.clone();
    let workspace = Ground { root: spec.workspace.clone(), is_writable: true, fixed, frozen };
    let shown = spec.mounts.iter().map(|mount| Ground {
        root: mount.source.clone(),
        is_writable: mount.writable,
        fixed: Vec::new(),
        frozen: Vec::new(),
    });
    [workspace].into_iter().chain(shown).collect()
}

/// How many bytes may come back: what the workspace may have, and as much again as was shown.
fn back_bytes(limits: &Limits, trees: &Trees) -> u64 {
    limits.disk_bytes.saturating_add(trees.shown_bytes)
}

/// What a guest can know about an end. The rest only this side knows.
fn believable(ending: Ending) -> Option<Ending> {
    match ending {
        Ending::Exited { .. } | Ending::Signalled { .. } | Ending::Killed { .. } => Some(ending),
        Ending::Stopped | Ending::NotStarted { .. } | Ending::Lost => None,
    }
}

/// Writes on. If nobody listens any more, whoever stopped says so.
fn pass(to: &mut dyn Write, bytes: &[u8]) {
    drop(to.write_all(bytes).and_then(|()| to.flush()));
}

#[cfg(test)]
mod tests;
