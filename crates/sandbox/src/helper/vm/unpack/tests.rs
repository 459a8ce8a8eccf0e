//! A tree goes over whole, and what a guest says changes nothing that it may not.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::super::frame::GuestFrame;
use super::super::scan::{Found, scan_tree, send_all, send_changes};
use super::*;

fn ground(root: &Path) -> UnpackTarget {
    UnpackTarget { root: root.to_owned(), is_writable: true, fixed: Vec::new(), frozen: Vec::new() }
}

fn unpacker(ground: UnpackTarget) -> TreeUnpacker {
    TreeUnpacker::new(vec![ground], 1 << 20, None)
}

/// Puts down whatever is told.
fn put(unpacker: &mut TreeUnpacker, frame: &GuestFrame) -> io::Result<()> {
    match frame {
        GuestFrame::Entry(entry) => unpacker.unpack_entry(entry.clone()),
        GuestFrame::Data(bytes) => unpacker.write_data(bytes),
        other => panic!("{other:?} is not of a tree"),
    }
}

fn copy(from: &Path, to: &Path) -> Found {
    let found = scan_tree(from).expect("it is looked at");
    let mut unpacker = unpacker(ground(to));
    send_all(0, from, &found, &mut |frame| put(&mut unpacker, frame)).expect("it goes over");
    assert!(unpacker.is_whole());
    found
}

/// What lies in a directory: path, mode, time, and content or target.
fn listed(root: &Path) -> Vec<(String, u32, i64, Vec<u8>)> {
    let found = scan_tree(root).expect("it is looked at");
    let about = |path: &Vec<u8>| {
        let full = root.join(OsStr::from_bytes(path));
        let about = full.symlink_metadata().expect("it is there");
        let content = if about.is_symlink() {
            fs::read_link(&full).expect("a link").into_os_string().into_encoded_bytes()
        } else if about.is_file() {
            fs::read(&full).expect("it can be read")
        } else {
            Vec::new()
        };
        // The time of a directory and of a link is when something came into it.
        let time = if about.is_file() { about.mtime() } else { 0 };
        let mode = if about.is_symlink() { 0 } else { about.mode() & 0o777 };
        (String::from_utf8_lossy(path).into_owned(), mode, time, content)
    };
    found.keys().map(about).collect()
}

fn furnished() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("a/b")).expect("directories");
    fs::write(at("a/b/long"), vec![7; 200_000]).expect("a file");
    fs::write(at("a/empty"), "").expect("a file");
    fs::write(at("run.sh"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    symlink("/etc/passwd", at("a/link")).expect("a link");
    symlink("nowhere", at("dead")).expect("a link");
    dir
}

#[test]
fn a_tree_goes_over_with_its_modes_times_and_links() {
    let (from, to) = (furnished(), tempfile::tempdir().expect("a directory"));
    copy(from.path(), to.path());
    assert_eq!(listed(from.path()), listed(to.path()));
    let about = to.path().join("a/link").symlink_metadata().expect("it is there");
    assert!(about.is_symlink(), "nothing behind it was read");
}

#[test]
fn only_what_changed_comes_back() {
    let (there, here) = (furnished(), tempfile::tempdir().expect("a directory"));
    copy(there.path(), here.path());
    let before = scan_tree(there.path()).expect("it is looked at");
    let at = |name: &str| there.path().join(name);
    fs::remove_file(at("a/b/long")).expect("it is removed");
    fs::remove_dir(at("a/b")).expect("it is removed");
    fs::write(at("a/b"), "a file now").expect("a file");
    fs::remove_file(at("dead")).expect("it is removed");
    fs::create_dir(at("dead")).expect("a directory");
    fs::write(at("dead/new"), "new").expect("a file");
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o700)).expect("a mode");
    let now = scan_tree(there.path()).expect("it is looked at");
    let (mut unpacker, mut told) = (unpacker(ground(here.path())), Vec::new());
    send_changes(0, there.path(), (&before, &now), &mut |frame| {
        if let GuestFrame::Entry(entry) = frame {
            told.push((String::from_utf8_lossy(&entry.path).into_owned(), entry.node == TreeNode::Gone));
        }
        put(&mut unpacker, frame)
    })
    .expect("it goes over");
    let told: Vec<_> = told.iter().map(|(path, is_gone)| (path.as_str(), *is_gone)).collect();
    assert_eq!(
        told,
        [
            ("dead", true),
            ("a/b/long", true),
            ("a/b", true),
            ("a/b", false),
            ("dead", false),
            ("dead/new", false),
            ("run.sh", false)
        ]
    );
    assert_eq!(listed(there.path()), listed(here.path()));
}

#[test]
fn a_tree_of_a_single_file_round_trips() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, "text").expect("a file");
    copy(&from, &to);
    assert_eq!(fs::read(&to).expect("it is there"), b"text");
    let before = scan_tree(&to).expect("it is looked at");
    fs::write(&to, "other text").expect("a file");
    let now = scan_tree(&to).expect("it is looked at");
    let mut unpacker = unpacker(ground(&from));
    send_changes(0, &to, (&before, &now), &mut |frame| put(&mut unpacker, frame)).expect("it goes over");
    assert_eq!(fs::read(&from).expect("it is there"), b"other text");
}

fn entry(path: &str, node: TreeNode) -> TreeEntry {
    TreeEntry { tree: 0, path: path.as_bytes().to_vec(), node, mode: 0o644, changed: (1, 2) }
}

#[test]
fn a_guest_leaves_its_tree_by_no_link() {
    let (dir, outside) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    fs::write(outside.path().join("victim"), "as it was").expect("a file");
    symlink(outside.path(), dir.path().join("out")).expect("a link");
    symlink(outside.path().join("victim"), dir.path().join("file")).expect("a link");
    let refused = [
        entry("out/victim", TreeNode::Gone),
        entry("out/new", TreeNode::File { bytes: 0 }),
        entry("out/new", TreeNode::Directory),
        entry("out/new", TreeNode::Link { to: b"x".to_vec() }),
    ];
    for entry in refused {
        unpacker(ground(dir.path())).unpack_entry(entry).expect_err("a link is in between");
    }
    // The last name is replaced, and not followed.
    let mut replacing = unpacker(ground(dir.path()));
    replacing.unpack_entry(entry("file", TreeNode::File { bytes: 2 })).expect("it begins");
    replacing.write_data(b"by").expect("it ends");
    assert_eq!(fs::read(outside.path().join("victim")).expect("it is there"), b"as it was");
    assert_eq!(fs::read_dir(outside.path()).expect("a directory").count(), 1);
    assert_eq!(fs::read(dir.path().join("file")).expect("it is there"), b"by");
}

#[test]
fn guarded_files_are_not_changed_by_unpacking() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join(".git/hooks")).expect("directories");
    let guarded =
        || UnpackTarget { fixed: vec![".git".into()], frozen: vec![".bashrc".into()], ..ground(dir.path()) };
    for (path, node) in [
        (".git/hooks/pre-commit", TreeNode::File { bytes: 0 }),
        (".git/hooks", TreeNode::Directory),
        (".git/hooks", TreeNode::Gone),
        (".git/commondir", TreeNode::File { bytes: 0 }),
        (".git/worktrees", TreeNode::Directory),
        (".git/anything", TreeNode::File { bytes: 0 }),
        (".git", TreeNode::Gone),
        (".git", TreeNode::Link { to: b"other".to_vec() }),
        (".git", TreeNode::File { bytes: 0 }),
        (".bashrc", TreeNode::File { bytes: 0 }),
    ] {
        unpacker(guarded()).unpack_entry(entry(path, node)).expect_err(path);
    }
    unpacker(guarded())
        .unpack_entry(entry(".git/index", TreeNode::File { bytes: 0 }))
        .expect("the rest changes");
    assert_eq!(fs::read_dir(dir.path().join(".git/hooks")).expect("a directory").count(), 0);
    let shown = UnpackTarget { is_writable: false, ..ground(dir.path()) };
    unpacker(shown).unpack_entry(entry("new", TreeNode::Directory)).expect_err("it is only shown");
}

#[test]
fn bytes_and_files_have_a_bound_and_belong_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let of = |bytes| TreeNode::File { bytes };
    let mut bounded = TreeUnpacker::new(vec![ground(dir.path())], 10, None);
    bounded.unpack_entry(entry("a", of(8))).expect("there is room");
    bounded.write_data(&[0; 9]).expect_err("it has eight");
    let mut bounded = TreeUnpacker::new(vec![ground(dir.path())], 10, None);
    bounded.unpack_entry(entry("a", of(8))).expect("there is room");
    bounded.write_data(&[0; 4]).expect("half of it");
    bounded.unpack_entry(entry("b", of(1))).expect_err("the first is not whole");
    assert!(!bounded.is_whole() && !dir.path().join("a").exists(), "it appears as a whole");
    bounded.write_data(&[0; 4]).expect("the other half");
    assert!(bounded.is_whole() && dir.path().join("a").exists());
    bounded.unpack_entry(entry("b", of(3))).expect_err("ten bytes are all");
    bounded.write_data(&[0]).expect_err("of no file");
    let other = TreeEntry { tree: 1, ..entry("a", TreeNode::Gone) };
    bounded.unpack_entry(other).expect_err("there is one tree");
    bounded.nodes_left = 0;
    bounded.unpack_entry(entry("c", of(0))).expect_err("there are too many");
    // What was left in the middle is nobody's, and in nobody's way.
    let mut cut = unpacker(ground(dir.path()));
    cut.unpack_entry(entry("cut", of(5))).expect("it begins");
    drop(cut);
    assert!(dir.path().join(INCOMING).exists());
    assert!(!scan_tree(dir.path()).expect("it is looked at").contains_key(INCOMING.as_bytes()));
    unpacker(ground(dir.path())).unpack_entry(entry("d", of(0))).expect("the next one takes its place");
    unpacker(ground(dir.path())).unpack_entry(entry(INCOMING, of(0))).expect_err("it is nobody's");
}
