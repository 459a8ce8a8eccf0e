//! What the file tools do, and what they refuse.

use std::os::unix::fs::symlink;
use std::process::Command;

use dromia_contracts::label::Label;
use dromia_contracts::tool::{DiscardProgress, ToolHost as _};
use serde_json::json;

use crate::support::{Bench, context};

fn args(path: &str, content: &str) -> String {
    json!({"path": path, "content": content}).to_string()
}

#[tokio::test]
async fn a_written_file_is_read_back_in_pieces() {
    let bench = Bench::new();
    assert_eq!(bench.told("file.write", &args("notes/today.txt", "héllo")).await, "ok: wrote 6 bytes");
    for (arguments, told) in [
        (json!({"path": "notes/today.txt"}), "ok: héllo"),
        (json!({"path": "notes/today.txt", "limit": 2}), "ok: h\n[5 more bytes; read on with offset 1]"),
        (json!({"path": "notes/today.txt", "limit": 3}), "ok: hé\n[3 more bytes; read on with offset 3]"),
        (json!({"path": "notes/today.txt", "offset": 3}), "ok: llo"),
        (json!({"path": "notes/today.txt", "offset": 6}), "ok: [nothing here: the file has 6 bytes]"),
        (json!({"path": "notes/today.txt", "offset": u64::MAX}), "ok: [nothing here: the file has 6 bytes]"),
        (json!({"path": "notes"}), "failed: refused: it is a directory, not a file"),
        (json!({"path": "nothing"}), "failed: refused: there is no such file or directory in the workspace"),
        (
            json!({"path": "notes/today.txt/x"}),
            "failed: refused: a part of the path is a file, not a directory",
        ),
    ] {
        assert_eq!(bench.told("file.read", &arguments.to_string()).await, told, "{arguments}");
    }
}

/// Also what is not there: it is refused by its name.
/// Names that programs outside would execute, some of them spelled in another way.
const GUARDED: [&str; 17] = [
    ".git",
    ".git/commondir",
    "./.git/config",
    ".git/config.worktree",
    ".git/hooks/pre-commit",
    ".git/info/attributes",
    ".git/modules/x/config",
    ".git/worktrees",
    ".git/worktrees/x/gitdir",
    ".vscode/tasks.json",
    ".envrc",
    ".bashrc",
    "sub/.envrc",
    "sub/.git",
    "sub/.git/hooks/pre-commit",
    "a/b/app/.vscode/tasks.json",
    "package/.husky/pre-commit",
];

/// Has file tools change every guarded name, and says what is not refused. `told` calls a tool and returns its answer.
async fn check_guarded(told: impl AsyncFn(&Bench, &str, &str) -> String) -> Result<(), String> {
    let bench = Bench::new().made();
    std::fs::create_dir_all(bench.workspace().join(".git/worktrees")).expect("made");
    for path in [".git/config", ".envrc"] {
        std::fs::write(bench.workspace().join(path), "as it was").expect("written");
    }
    for path in GUARDED {
        for (tool, arguments) in [
            ("file.write", args(path, "x")),
            ("file.append", args(path, "x")),
            ("file.delete", json!({"path": path}).to_string()),
        ] {
            let told = told(&bench, tool, &arguments).await;
            if !told.starts_with("failed: refused: programs outside") {
                return Err(format!("{tool} {path}: {told}"));
            }
        }
    }
    for path in [".git/config", ".envrc"] {
        let edit = json!({"path": path, "old": "as", "new": "is"}).to_string();
        let told = told(&bench, "file.edit", &edit).await;
        let content = std::fs::read(bench.workspace().join(path)).expect("it is there");
        if !told.starts_with("failed: refused: programs outside") || content != b"as it was" {
            return Err(format!("file.edit {path}: {told}"));
        }
    }
    for path in [".git/index", ".git/refs/heads/x", ".vscode/extensions.json", "sub/.git/index"] {
        let told = told(&bench, "file.write", &args(path, "x")).await;
        if told != "ok: wrote 1 byte" {
            return Err(format!("{path}: {told}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_file_tool_changes_what_outside_programs_execute() {
    let told = async |bench: &Bench, tool: &str, arguments: &str| bench.told(tool, arguments).await;
    assert_eq!(check_guarded(told).await, Ok(()));
}

/// Planted faults: a tool that knows names in one spelling only, and one tool that knows none.
#[tokio::test]
async fn a_file_tool_that_misses_a_guarded_name_is_caught() {
    const REFUSED: &str = "failed: refused: programs outside";
    let by_spelling = async |bench: &Bench, tool: &str, arguments: &str| {
        if arguments.contains("./.git") {
            "ok: wrote 1 byte".to_owned()
        } else {
            bench.told(tool, arguments).await
        }
    };
    let found = check_guarded(by_spelling).await.expect_err("nothing notices it");
    assert!(found.contains("./.git/config"), "{found}");
    for blind in ["file.append", "file.delete", "file.edit"] {
        let forgets = async |bench: &Bench, tool: &str, arguments: &str| {
            let told = bench.told(tool, arguments).await;
            if tool == blind && told.starts_with(REFUSED) { "ok: done".to_owned() } else { told }
        };
        let found = check_guarded(forgets).await.expect_err("nothing notices it");
        assert!(found.starts_with(blind), "{found}");
    }
}

#[tokio::test]
async fn a_read_gives_at_most_64_kib() {
    let bench = Bench::new();
    let content = "x".repeat(100_000);
    bench.told("file.write", &args("big", &content)).await;
    let output = bench.call("file.read", &json!({"path": "big", "limit": 1_000_000}).to_string()).await;
    assert_eq!(output.parts[0].as_text().len(), 65536);
    assert_eq!(output.parts[1].as_text(), "[34464 more bytes; read on with offset 65536]");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown_as_such() {
    let bench = Bench::new().made();
    std::fs::write(bench.workspace().join("raw"), b"a\xffb").expect("written");
    let told = bench.told("file.read", r#"{"path":"raw"}"#).await;
    assert_eq!(told, "ok: [not UTF-8: unreadable bytes are shown as \u{fffd}]\na\u{fffd}b");
}

#[tokio::test]
async fn each_append_call_adds_at_the_end() {
    let bench = Bench::new();
    assert_eq!(
        bench.told("file.append", &args("log", "one\n")).await,
        "ok: appended 4 bytes; the file has 4"
    );
    assert_eq!(
        bench.told("file.append", &args("log", "two\n")).await,
        "ok: appended 4 bytes; the file has 8"
    );
    assert_eq!(std::fs::read_to_string(bench.workspace().join("log")).expect("there"), "one\ntwo\n");
}

#[tokio::test]
async fn an_append_beyond_the_largest_file_changes_nothing() {
    let bench = Bench::new().made();
    let file = std::fs::File::create(bench.workspace().join("log")).expect("made");
    file.set_len(64 << 20).expect("sparse");
    let told = bench.told("file.append", &args("log", "x")).await;
    assert_eq!(told, "failed: refused: the file would be larger than 67108864 bytes; nothing was appended");
    assert_eq!(file.metadata().expect("there").len(), 64 << 20);
}

#[tokio::test]
async fn writing_and_deleting_twice_leave_what_once_leaves() {
    let bench = Bench::new();
    for _ in 0..2 {
        assert_eq!(bench.told("file.write", &args("a/b", "x")).await, "ok: wrote 1 byte");
    }
    assert_eq!(
        bench.told("file.delete", r#"{"path":"a"}"#).await,
        "failed: refused: the directory is not empty"
    );
    assert_eq!(bench.told("file.delete", r#"{"path":"a/b"}"#).await, "ok: deleted");
    assert_eq!(bench.told("file.delete", r#"{"path":"a/b"}"#).await, "ok: it is not there (any more)");
    assert_eq!(bench.told("file.delete", r#"{"path":"a"}"#).await, "ok: deleted");
    assert_eq!(bench.told("file.list", "").await, "ok: [empty]");
}

#[tokio::test]
async fn a_repeated_call_finishes_a_write_that_crashed() {
    let bench = Bench::new().made();
    let call = bench.prepare("file.write", &args("a", "new"));
    // What the crashed attempt left: its temporary file, named by the call's key, half-written.
    let name = format!(".dromia-tmp-{}", &blake3::hash(context().key.as_bytes()).to_hex()[..16]);
    std::fs::write(bench.workspace().join(&name), "ne").expect("written");
    assert_eq!(bench.told("file.list", "").await, "ok: [empty]");
    assert!(!bench.toolbox.execute_call(context(), call, &DiscardProgress).await.failed);
    let names: Vec<_> = std::fs::read_dir(bench.workspace())
        .expect("there")
        .map(|entry| entry.expect("read").file_name())
        .collect();
    assert_eq!(names, ["a"]);
}

#[tokio::test]
async fn a_listing_is_sorted_paged_and_names_each_kind() {
    let bench = Bench::new().made();
    for number in 0..1005 {
        std::fs::write(bench.workspace().join(format!("f{number:04}")), "abc").expect("written");
    }
    std::fs::create_dir(bench.workspace().join("a dir")).expect("made");
    std::fs::write(bench.workspace().join("a\nline"), "").expect("written");
    symlink("/etc", bench.workspace().join("away")).expect("linked");
    let output = bench.call("file.list", "{}").await;
    let lines: Vec<_> = output.parts[0].as_text().lines().collect();
    assert_eq!(lines[..4], ["a\\nline 0", "a dir/", "away (link)", "f0000 3"]);
    assert_eq!((lines.len(), lines[999]), (1000, "f0996 3"));
    assert_eq!(output.parts[1].as_text(), "[8 more; list on with the last name as after]");
    let rest = bench.told("file.list", r#"{"after":"f0996"}"#).await;
    assert_eq!(rest.lines().count(), 8);
    assert!(rest.ends_with("f1004 3"), "{rest}");
    assert_eq!(bench.told("file.list", r#"{"path":"a dir"}"#).await, "ok: [empty]");
    assert!(
        bench
            .told("file.list", r#"{"path":"away"}"#)
            .await
            .starts_with("failed: refused: the path goes through")
    );
    assert!(
        bench.told("file.list", r#"{"path":"none"}"#).await.starts_with("failed: refused: there is no such")
    );
}

#[tokio::test]
async fn a_read_creates_nothing() {
    let bench = Bench::new();
    for (tool, arguments) in [
        ("file.read", r#"{"path":"a/b"}"#),
        ("file.list", "{}"),
        ("file.list", r#"{"path":"a"}"#),
        ("file.delete", r#"{"path":"a/b"}"#),
        ("file.edit", r#"{"path":"a/b","old":"x","new":"y"}"#),
        ("file.search", r#"{"pattern":"x"}"#),
        ("time.now", "{}"),
    ] {
        bench.told(tool, arguments).await;
        assert_eq!(std::fs::read_dir(bench.home()).expect("there").count(), 0, "{tool} made something");
    }
    bench.told("file.write", &args("a", "x")).await;
    assert!(bench.workspace().join("a").is_file());
}

#[tokio::test]
async fn links_pipes_and_sockets_are_refused_by_every_tool() {
    let bench = Bench::new().made();
    let outside = bench.home().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("secret"), "secret").expect("written");
    let inside = bench.workspace();
    symlink(outside.join("secret"), inside.join("link")).expect("linked");
    symlink(&outside, inside.join("dirlink")).expect("linked");
    symlink("/proc/self/root", inside.join("magic")).expect("linked");
    let made = Command::new("mkfifo").arg(inside.join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).expect("bound");
    for (path, refusal) in [
        ("link", "symbolic link"),
        ("dirlink/secret", "symbolic link"),
        ("magic/etc/hostname", "symbolic link"),
        ("pipe", "not a file or a directory"),
        ("socket", "not a file or a directory"),
    ] {
        for tool in ["file.read", "file.delete", "file.write", "file.append", "file.edit", "file.search"] {
            let arguments = match tool {
                "file.read" | "file.delete" => json!({"path": path}).to_string(),
                "file.edit" => json!({"path": path, "old": "secret", "new": "overwritten"}).to_string(),
                "file.search" => json!({"path": path, "pattern": "secret"}).to_string(),
                _ => args(path, "overwritten"),
            };
            let told = bench.told(tool, &arguments).await;
            assert!(told.starts_with("failed: refused") && told.contains(refusal), "{tool} {path}: {told}");
        }
    }
    assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("there"), "secret");
    assert_eq!(std::fs::read_dir(outside).expect("there").count(), 1);
}

#[tokio::test]
async fn file_contents_are_untrusted_and_the_tools_words_trusted() {
    let bench = Bench::new();
    let written = bench.call("file.write", &args("a", "x")).await;
    assert_eq!(written.parts[0].label().to_string(), "trusted/agent");
    let read = bench.call("file.read", r#"{"path":"a"}"#).await;
    assert_eq!(read.parts[0].label(), Label::UNKNOWN_FILE);
    let listed = bench.call("file.list", "{}").await;
    assert_eq!(listed.parts[0].label(), Label::UNKNOWN_FILE);
}
