//! Guests that say what they should not: each ends the conversation, and nothing outside of what it may change does.

use std::fs;
use std::path::Path;
use std::thread;

use dromia_contracts::sandbox::{LimitKind, NetworkAccess, SandboxMount};

use super::super::frame::{TreeEntry, TreeNode};
use super::*;

fn spec(workspace: &Path) -> ProcessSpec {
    ProcessSpec {
        argv: vec!["true".to_owned()],
        env: Vec::new(),
        workspace: workspace.to_owned(),
        reference: None,
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: ProcessLimits { disk_bytes: 1 << 20, ..ProcessLimits::DEFAULT },
        network: NetworkAccess::None,
        family: None,
    }
}

/// A conversation with a guest that says these bytes, whatever it hears, and hangs up.
fn with(spec: &ProcessSpec, says: Vec<u8>) -> (Result<ProcessExit, String>, String) {
    let (line, mut guest) = UnixStream::pair().expect("a pair");
    let hears = guest.try_clone().expect("a socket");
    let talks = thread::spawn(move || {
        // Whoever is hung up on has said enough.
        drop(guest.write_all(&says));
        drop(guest.shutdown(std::net::Shutdown::Write));
    });
    let listens = thread::spawn(move || io::copy(&mut &hears, &mut io::sink()).ok());
    let trees = HostTrees::scan_spec(spec).expect("it is looked at");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = run_conversation(line, spec, &trees, (&mut out, &mut err));
    talks.join().expect("nobody panicked");
    listens.join().expect("nobody panicked");
    (ended, String::from_utf8_lossy(&[out, err].concat()).into_owned())
}

fn bytes(frames: &[GuestFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.encode().expect("it is short enough")).collect()
}

const HELLO: GuestFrame = GuestFrame::Hello { version: VERSION };

fn ended() -> GuestFrame {
    GuestFrame::Ended(ProcessExit::Exited { code: 7 })
}

fn entry(path: &str, node: TreeNode) -> GuestFrame {
    GuestFrame::Entry(TreeEntry {
        tree: 0,
        path: path.as_bytes().to_vec(),
        node,
        mode: 0o644,
        changed: (1, 0),
    })
}

#[test]
fn a_guests_output_is_forwarded_and_its_changes_are_applied() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("old"), "old").expect("a file");
    let frames = [
        HELLO,
        GuestFrame::Begun,
        GuestFrame::Output(OutputStream::Out, b"out ".to_vec()),
        GuestFrame::Output(OutputStream::Err, b"err".to_vec()),
        ended(),
        entry("old", TreeNode::Gone),
        entry("new", TreeNode::File { bytes: 4 }),
        GuestFrame::Data(b"text".to_vec()),
        GuestFrame::Done,
    ];
    let (how, said) = with(&spec(dir.path()), bytes(&frames));
    assert_eq!((how, said.as_str()), (Ok(ProcessExit::Exited { code: 7 }), "out err"));
    assert_eq!(fs::read(dir.path().join("new")).expect("it is there"), b"text");
    assert!(!dir.path().join("old").exists());
}

#[test]
fn a_failure_before_the_program_began_names_its_problem() {
    let dir = tempfile::tempdir().expect("a directory");
    let spec = spec(dir.path());
    let other = GuestFrame::Hello { version: VERSION + 1 };
    let not_started = GuestFrame::Ended(ProcessExit::NotStarted { problem: "no such program".to_owned() });
    for (says, expected) in [
        (Vec::new(), "it ended"),
        (bytes(&[GuestFrame::Begun]), "sent no greeting"),
        (bytes(&[other]), "put this program into the image"),
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), "unknown kind"),
        (bytes(&[HELLO])[..9].to_vec(), "in the middle"),
    ] {
        let problem = with(&spec, says).0.expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }
    let (how, _) = with(&spec, bytes(&[HELLO, not_started]));
    assert_eq!(how, Ok(ProcessExit::NotStarted { problem: "no such program".to_owned() }));
}

#[test]
fn a_frame_out_of_its_order_ends_the_conversation() {
    let data = || GuestFrame::Data(vec![0]);
    let killed = GuestFrame::Ended(ProcessExit::Killed { limit: LimitKind::Cpu });
    let cases: Vec<(&str, Vec<GuestFrame>)> = vec![
        ("nothing", vec![HELLO]),
        ("an end without a beginning", vec![HELLO, ended(), GuestFrame::Done]),
        ("two beginnings", vec![HELLO, GuestFrame::Begun, GuestFrame::Begun, ended(), GuestFrame::Done]),
        ("no end", vec![HELLO, GuestFrame::Begun]),
        ("two ends", vec![HELLO, GuestFrame::Begun, ended(), killed, GuestFrame::Done]),
        (
            "an end that it cannot know",
            vec![HELLO, GuestFrame::Begun, GuestFrame::Ended(ProcessExit::Stopped), GuestFrame::Done],
        ),
        (
            "nothing ran, after all",
            vec![
                HELLO,
                GuestFrame::Begun,
                GuestFrame::Ended(ProcessExit::NotStarted { problem: String::new() }),
                GuestFrame::Done,
            ],
        ),
        ("no word that all is there", vec![HELLO, GuestFrame::Begun, ended()]),
        ("bytes of no file", vec![HELLO, GuestFrame::Begun, ended(), data(), GuestFrame::Done]),
        (
            "a file that is not whole",
            vec![
                HELLO,
                GuestFrame::Begun,
                ended(),
                entry("a", TreeNode::File { bytes: 2 }),
                data(),
                GuestFrame::Done,
            ],
        ),
        (
            "output after the end",
            vec![
                HELLO,
                GuestFrame::Begun,
                ended(),
                GuestFrame::Output(OutputStream::Out, vec![1]),
                GuestFrame::Done,
            ],
        ),
        (
            "what only a helper says",
            vec![HELLO, GuestFrame::Begun, GuestFrame::Start, ended(), GuestFrame::Done],
        ),
        (
            "more than the workspace may have",
            vec![HELLO, GuestFrame::Begun, ended(), entry("a", TreeNode::File { bytes: (1 << 20) + 1 })],
        ),
    ];
    for (what, frames) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let (how, _) = with(&spec(dir.path()), bytes(&frames));
        assert_eq!(how, Ok(ProcessExit::Lost), "{what}");
    }
}

#[test]
fn a_guest_changes_no_readonly_mount_or_guarded_file() {
    let (dir, shown) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    fs::create_dir_all(dir.path().join(".git/hooks")).expect("directories");
    fs::write(shown.path().join("text"), "as it was").expect("a file");
    let source = shown.path().to_owned();
    let mounts = vec![SandboxMount { source, target: "/opt/shown".into(), writable: false }];
    let spec = ProcessSpec { mounts, ..spec(dir.path()) };
    let of_tree = |tree, path: &str| {
        let (path, node) = (path.as_bytes().to_vec(), TreeNode::File { bytes: 0 });
        GuestFrame::Entry(TreeEntry { tree, path, node, mode: 0o755, changed: (0, 0) })
    };
    for changed in [of_tree(0, ".git/hooks/pre-commit"), of_tree(1, "text"), of_tree(2, "other")] {
        let frames = [HELLO, GuestFrame::Begun, ended(), changed.clone(), GuestFrame::Done];
        assert_eq!(with(&spec, bytes(&frames)).0, Ok(ProcessExit::Lost), "{changed:?}");
    }
    assert_eq!(fs::read(shown.path().join("text")).expect("it is there"), b"as it was");
    assert_eq!(fs::read_dir(dir.path().join(".git/hooks")).expect("a directory").count(), 0);
}

#[test]
fn a_guest_learns_no_path_of_the_host() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().to_owned();
    let mounts = vec![SandboxMount { source, target: "/opt/shown".into(), writable: false }];
    let told = guest_spec(&ProcessSpec { mounts, ..spec(dir.path()) });
    let text = serde_json::to_string(&told).expect("a spec is JSON");
    let name = dir.path().file_name().expect("it has one").to_string_lossy().into_owned();
    assert!(!text.contains(&name), "{text}");
    assert_eq!(told.workspace, Path::new(WORKSPACE));
}

#[test]
fn a_workspace_beyond_its_quota_is_not_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("large"), vec![0; 2 << 20]).expect("a file");
    let problem = HostTrees::scan_spec(&spec(dir.path())).expect_err("it is too large");
    assert!(problem.contains("disk_quota"), "{problem}");
}
