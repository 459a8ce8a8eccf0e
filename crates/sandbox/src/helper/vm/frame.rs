//! What the helper and a guest say to each other over one stream: frames of a kind, a length and so many bytes.
//!
//! Nothing here trusts the other side: a length beyond what a kind may have is refused before its bytes are waited for,
//! and so is a path that is not below a tree. The first frame of a guest says which version it speaks; its layout is the
//! same in all versions, so that an old guest and a new helper, or the other way round, part with words and not with
//! noise. Within a version nothing is added: a change of a frame changes [`VERSION`].

use dromia_contracts::sandbox::{OutputStream, PIECE_BYTES_MAX, ProcessExit, ProcessSpec};

/// The version of what is said.
pub(super) const VERSION: u32 = 1;

/// The first bytes of a greeting.
const MAGIC: &[u8; 8] = b"dromiavm";

/// A kind and a length.
const HEAD_BYTES: usize = 5;

/// The longest spec: its words have a mebibyte, and JSON may write a byte as six.
const SPEC_BYTES_MAX: usize = 8 << 20;

/// The longest piece of a file.
pub(super) const DATA_BYTES_MAX: usize = 64 << 10;

/// The longest word about an end.
const ENDED_BYTES_MAX: usize = 16 << 10;

/// The longest path, the longest name in one, and the deepest.
pub(super) const PATH_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;
const DEPTH_MAX: usize = 256;

/// An entry before its path: tree, kind, mode, time, size, length of the path.
const ENTRY_BYTES: usize = 26;

/// The bits of a mode that go over: what user, group and others may.
const MODE_BITS: u16 = 0o777;

const NANOS: u32 = 1_000_000_000;

/// One thing that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuestFrame {
    /// The guest's first word.
    Hello {
        /// The version that it speaks.
        version: u32,
    },
    /// What shall run; paths of it are the guest's.
    Spec(Box<ProcessSpec>),
    /// Something of a tree. The bytes of a file follow as [`GuestFrame::Data`], as many as it says.
    Entry(TreeEntry),
    /// The next bytes of the last file.
    Data(Vec<u8>),
    /// All trees are there: begin.
    Start,
    /// The program may have begun.
    Begun,
    /// The program wrote something.
    Output(OutputStream, Vec<u8>),
    /// The program ended. What changed in the trees follows.
    Ended(ProcessExit),
    /// Nothing follows.
    Done,
}

/// Something of a tree: the workspace is number 0, mounts follow in the order of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub(super) tree: u8,
    /// The path below the tree's root, without `.` and `..`; empty for a root that is a file.
    pub(super) path: Vec<u8>,
    pub(super) node: TreeNode,
    pub(super) mode: u16,
    /// When it was changed, in seconds and nanoseconds of 1970.
    pub(super) changed: (i64, u32),
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TreeNode {
    Directory,
    File {
        bytes: u64,
    },
    Link {
        to: Vec<u8>,
    },
    /// Nothing any more.
    Gone,
}

/// What is wrong with what was heard. Nothing that follows means anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame has the unknown kind {0}")]
    Kind(u8),
    #[error("a frame of kind {kind} has {bytes} bytes, which is too many")]
    Long { kind: u8, bytes: usize },
    #[error("a frame of kind {0} has malformed content")]
    Content(u8),
}

const HELLO: u8 = 1;
const SPEC: u8 = 2;
const ENTRY: u8 = 3;
const DATA: u8 = 4;
const START: u8 = 5;
const BEGUN: u8 = 6;
const OUTPUT: u8 = 7;
const ENDED: u8 = 8;
const DONE: u8 = 9;

/// The most bytes that a frame of a kind may have.
fn frame_bytes_max(kind: u8) -> Option<usize> {
    Some(match kind {
        HELLO => MAGIC.len() + 4,
        SPEC => SPEC_BYTES_MAX,
        ENTRY => ENTRY_BYTES + 2 * PATH_BYTES_MAX,
        DATA => DATA_BYTES_MAX,
        START | BEGUN | DONE => 0,
        OUTPUT => 1 + PIECE_BYTES_MAX,
        ENDED => ENDED_BYTES_MAX,
        _ => return None,
    })
}

impl GuestFrame {
    /// Writes the frame as it goes over; nothing if it is longer than its kind may be.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let (kind, bytes) = match self {
            Self::Hello { version } => (HELLO, [&MAGIC[..], &version.to_le_bytes()].concat()),
            Self::Spec(spec) => (SPEC, serde_json::to_vec(spec).ok()?),
            Self::Entry(entry) => (ENTRY, entry.encode()?),
            Self::Data(bytes) => (DATA, bytes.clone()),
            Self::Start => (START, Vec::new()),
            Self::Begun => (BEGUN, Vec::new()),
            Self::Output(stream, bytes) => {
                let which = match stream {
                    OutputStream::Out => 1,
                    OutputStream::Err => 2,
                };
                (OUTPUT, [&[which][..], bytes].concat())
            }
            Self::Ended(ending) => (ENDED, serde_json::to_vec(ending).ok()?),
            Self::Done => (DONE, Vec::new()),
        };
        if bytes.len() > frame_bytes_max(kind)? {
            return None;
        }
        let length = u32::try_from(bytes.len()).ok()?;
        Some([&[kind][..], &length.to_le_bytes(), &bytes].concat())
    }

    fn decode(kind: u8, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            HELLO => {
                let version = bytes.strip_prefix(MAGIC)?;
                Self::Hello { version: u32::from_le_bytes(version.try_into().ok()?) }
            }
            SPEC => Self::Spec(serde_json::from_slice(bytes).ok()?),
            ENTRY => Self::Entry(TreeEntry::decode(bytes)?),
            DATA => Self::Data(bytes.to_vec()),
            START => Self::Start,
            BEGUN => Self::Begun,
            OUTPUT => match bytes.split_first()? {
                (1, rest) => Self::Output(OutputStream::Out, rest.to_vec()),
                (2, rest) => Self::Output(OutputStream::Err, rest.to_vec()),
                _ => return None,
            },
            ENDED => Self::Ended(serde_json::from_slice(bytes).ok()?),
            DONE => Self::Done,
            _ => return None,
        })
    }
}

impl TreeEntry {
    fn encode(&self) -> Option<Vec<u8>> {
        let (kind, size, to): (u8, u64, &[u8]) = match &self.node {
            TreeNode::Directory => (1, 0, &[]),
            TreeNode::File { bytes } => (2, *bytes, &[]),
            TreeNode::Link { to } => (3, 0, to),
            TreeNode::Gone => (4, 0, &[]),
        };
        let length = u16::try_from(self.path.len()).ok()?;
        Some(
            [
                &[self.tree, kind][..],
                &self.mode.to_le_bytes(),
                &self.changed.0.to_le_bytes(),
                &self.changed.1.to_le_bytes(),
                &size.to_le_bytes(),
                &length.to_le_bytes(),
                &self.path,
                to,
            ]
            .concat(),
        )
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[tree, kind], rest) = bytes.split_first_chunk::<2>()?;
        let (mode, rest) = rest.split_first_chunk()?;
        let (seconds, rest) = rest.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (path, to) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let size = u64::from_le_bytes(*size);
        let node = match kind {
            1 => TreeNode::Directory,
            2 => TreeNode::File { bytes: size },
            3 if is_target(to) => TreeNode::Link { to: to.to_vec() },
            4 => TreeNode::Gone,
            _ => return None,
        };
        let is_plain = !matches!(node, TreeNode::Link { .. });
        if (is_plain && !to.is_empty()) || (size > 0 && !matches!(node, TreeNode::File { .. })) {
            return None;
        }
        let (mode, nanos) = (u16::from_le_bytes(*mode), u32::from_le_bytes(*nanos));
        if mode & !MODE_BITS != 0 || nanos >= NANOS || !is_below(path) {
            return None;
        }
        // Only a file is a tree by itself.
        if path.is_empty() && !matches!(node, TreeNode::File { .. }) {
            return None;
        }
        Some(Self { tree, path: path.to_vec(), node, mode, changed: (i64::from_le_bytes(*seconds), nanos) })
    }
}

/// Whether a path stays below where it begins; the empty one is where it begins.
pub(super) fn is_below(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name != b"."
            && name != b".."
            && !name.contains(&0)
    };
    path.is_empty()
        || (path.len() <= PATH_BYTES_MAX
            && path.split(|byte| *byte == b'/').count() <= DEPTH_MAX
            && path.split(|byte| *byte == b'/').all(is_name))
}

fn is_target(to: &[u8]) -> bool {
    !to.is_empty() && to.len() <= PATH_BYTES_MAX && !to.contains(&0)
}

/// Puts frames together from what comes, in whatever pieces. It never holds more than one frame and one piece.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    bytes: Vec<u8>,
    read: usize,
}

impl FrameDecoder {
    /// Takes the next piece.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the next frame; nothing until all of it is there.
    pub(super) fn next_frame(&mut self) -> Result<Option<GuestFrame>, FrameError> {
        let left = &self.bytes[self.read..];
        let Some((&kind, rest)) = left.split_first() else { return Ok(None) };
        let most = frame_bytes_max(kind).ok_or(FrameError::Kind(kind))?;
        let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > most {
            return Err(FrameError::Long { kind, bytes });
        }
        let Some(content) = rest.get(..bytes) else { return Ok(None) };
        let frame = GuestFrame::decode(kind, content).ok_or(FrameError::Content(kind))?;
        self.read += HEAD_BYTES + bytes;
        Ok(Some(frame))
    }

    /// Whether what came ends in the middle of a frame.
    pub(super) fn is_cut(&self) -> bool {
        self.read < self.bytes.len()
    }
}

#[cfg(test)]
mod tests;
