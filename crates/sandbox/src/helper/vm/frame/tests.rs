//! Frames survive every way of being cut into pieces, and hostile ones are refused before they are held.

use std::path::PathBuf;

use dromia_contracts::sandbox::{LimitKind, NetworkAccess, ProcessLimits};
use proptest::prelude::*;

use super::*;

fn spec() -> ProcessSpec {
    ProcessSpec {
        argv: ["sh", "-c", "true"].map(str::to_owned).into(),
        env: vec![("A".to_owned(), "ü".to_owned())],
        workspace: "/workspace".into(),
        reference: None,
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: ProcessLimits::DEFAULT,
        network: NetworkAccess::None,
        family: None,
    }
}

fn entry(path: &[u8], node: TreeNode) -> TreeEntry {
    TreeEntry { tree: 0, path: path.to_vec(), node, mode: 0o644, changed: (1_700_000_000, 5) }
}

/// One of each kind.
fn one_of_each() -> Vec<GuestFrame> {
    vec![
        GuestFrame::Hello { version: VERSION },
        GuestFrame::Spec(Box::new(spec())),
        GuestFrame::Entry(entry(b"a", TreeNode::Directory)),
        GuestFrame::Entry(entry(b"a/b", TreeNode::File { bytes: 3 })),
        GuestFrame::Data(b"xyz".to_vec()),
        GuestFrame::Entry(entry(b"a/\xff", TreeNode::Link { to: b"../../etc/passwd".to_vec() })),
        GuestFrame::Entry(entry(b"old", TreeNode::Gone)),
        GuestFrame::Entry(entry(b"", TreeNode::File { bytes: 0 })),
        GuestFrame::Start,
        GuestFrame::Begun,
        GuestFrame::Output(OutputStream::Out, vec![0; PIECE_BYTES_MAX]),
        GuestFrame::Output(OutputStream::Err, Vec::new()),
        GuestFrame::Ended(ProcessExit::Killed { limit: LimitKind::Cpu }),
        GuestFrame::Done,
    ]
}

fn encoded(frames: &[GuestFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.encode().expect("it is short enough")).collect()
}

/// Takes pieces, and all frames that come of them.
fn decoded<'bytes>(
    pieces: impl Iterator<Item = &'bytes [u8]>,
) -> Result<(Vec<GuestFrame>, bool), FrameError> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok((frames, decoder.is_cut()))
}

#[test]
fn frames_are_read_as_they_were_written_at_every_cut() {
    // The long ones are cut elsewhere, at random places.
    let is_short = |frame: &GuestFrame| !matches!(frame, GuestFrame::Output(_, bytes) if bytes.len() > 100);
    let frames: Vec<_> = one_of_each().into_iter().filter(is_short).collect();
    let bytes = encoded(&frames);
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let (read, is_cut) = decoded([first, second].into_iter()).expect("it is sound");
        assert_eq!((read == frames, is_cut), (true, false), "cut at {cut}");
    }
    let (read, _) = decoded(bytes.chunks(1)).expect("it is sound");
    assert_eq!(read, frames, "byte by byte");
}

#[test]
fn a_stream_that_ends_within_a_frame_is_recognized() {
    let bytes = encoded(&[GuestFrame::Hello { version: 7 }, GuestFrame::Data(vec![1; 40])]);
    for cut in 1..bytes.len() {
        let (read, is_cut) = decoded([&bytes[..cut]].into_iter()).expect("it is sound so far");
        assert!(read.len() < 2);
        // The first frame has a kind, a length, eight letters and four bytes.
        assert_eq!(is_cut, cut != 17, "cut at {cut}");
    }
}

#[test]
fn a_length_is_refused_before_its_bytes_come() {
    for kind in [HELLO, SPEC, ENTRY, DATA, START, BEGUN, OUTPUT, ENDED, DONE] {
        let most = frame_bytes_max(kind).expect("it is known");
        let length = u32::try_from(most + 1).expect("it is short").to_le_bytes();
        let mut decoder = FrameDecoder::default();
        decoder.push(&[&[kind][..], &length].concat());
        assert_eq!(decoder.next_frame(), Err(FrameError::Long { kind, bytes: most + 1 }));
    }
    for kind in [0, 10, 255] {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[kind]);
        assert_eq!(decoder.next_frame(), Err(FrameError::Kind(kind)));
    }
}

#[test]
fn a_reader_refuses_a_path_that_leaves_its_tree() {
    let long = [b'x'; NAME_BYTES_MAX + 1];
    let deep = [b"d".as_slice(); DEPTH_MAX + 1].join(&b'/');
    let paths: [&[u8]; 10] =
        [b"/etc", b"..", b"a/../../b", b".", b"a//b", b"a/", b"a/./b", b"a\0b", &long, &deep];
    for path in paths {
        assert!(!is_below(path));
        let bytes = encoded(&[GuestFrame::Entry(entry(path, TreeNode::File { bytes: 0 }))]);
        assert_eq!(decoded([&bytes[..]].into_iter()), Err(FrameError::Content(ENTRY)), "{path:?}");
    }
    for path in [&b""[..], b"a", b"..a/b..", b"...", &[b'x'; NAME_BYTES_MAX]] {
        assert!(is_below(path), "{path:?}");
    }
}

#[test]
fn an_entry_that_means_nothing_is_refused() {
    let sound = entry(b"a", TreeNode::File { bytes: 3 });
    let spoiled = [
        TreeEntry { mode: 0o4755, ..sound.clone() },
        TreeEntry { changed: (0, NANOS), ..sound.clone() },
        TreeEntry { path: Vec::new(), node: TreeNode::Directory, ..sound.clone() },
        TreeEntry { path: Vec::new(), node: TreeNode::Gone, ..sound.clone() },
        TreeEntry { node: TreeNode::Link { to: Vec::new() }, ..sound.clone() },
        TreeEntry { node: TreeNode::Link { to: b"a\0".to_vec() }, ..sound },
    ];
    for entry in spoiled {
        let bytes = encoded(&[GuestFrame::Entry(entry.clone())]);
        assert_eq!(decoded([&bytes[..]].into_iter()), Err(FrameError::Content(ENTRY)), "{entry:?}");
    }
}

#[test]
fn an_overlong_frame_is_not_written() {
    assert!(GuestFrame::Data(vec![0; DATA_BYTES_MAX]).encode().is_some());
    assert!(GuestFrame::Data(vec![0; DATA_BYTES_MAX + 1]).encode().is_none());
    let problem = "x".repeat(ENDED_BYTES_MAX);
    assert!(GuestFrame::Ended(ProcessExit::NotStarted { problem }).encode().is_none());
}

proptest! {
    #[test]
    fn frames_are_read_in_whatever_pieces_they_come(sizes in prop::collection::vec(1_usize..9_000, 1..40)) {
        let frames = one_of_each();
        let bytes = encoded(&frames);
        let mut rest = &bytes[..];
        let mut sizes = sizes.into_iter().cycle();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let size = sizes.next().expect("it goes round").min(rest.len());
            let (piece, after) = rest.split_at(size);
            pieces.push(piece);
            rest = after;
        }
        let (read, is_cut) = decoded(pieces.into_iter()).expect("it is sound");
        prop_assert_eq!(read, frames);
        prop_assert!(!is_cut);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_overfill(
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
        kind in 0_u8..12,
        size in 1_usize..600,
    ) {
        // Half of the time the first byte is a kind that is known.
        let bytes = [&[kind][..], &bytes].concat();
        let mut decoder = FrameDecoder::default();
        'all: for piece in bytes.chunks(size) {
            decoder.push(piece);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => prop_assert!(frame.encode().is_some(), "{frame:?}"),
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
            prop_assert!(decoder.bytes.len() <= HEAD_BYTES + SPEC_BYTES_MAX + size);
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written(
        tree in any::<u8>(),
        names in prop::collection::vec(prop::collection::vec(1_u8..=255, 1..20), 1..6),
        mode in 0_u16..=0o777,
        changed in (any::<i64>(), 0_u32..NANOS),
        bytes in any::<u64>(),
        which in 0_u8..4,
    ) {
        let path = names.join(&b'/');
        prop_assume!(is_below(&path));
        let node = match which {
            0 => TreeNode::Directory,
            1 => TreeNode::File { bytes },
            2 => TreeNode::Link { to: path.clone() },
            _ => TreeNode::Gone,
        };
        let frame = GuestFrame::Entry(TreeEntry { tree, path, node, mode, changed });
        let read = decoded([&encoded(std::slice::from_ref(&frame))[..]].into_iter());
        prop_assert_eq!(read, Ok((vec![frame], false)));
    }
}
