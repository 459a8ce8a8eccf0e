//! `file.search` and `file.edit`: what is found and in which order, what is changed and what a crash in between leaves.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use dromia_contracts::label::Label;
use dromia_contracts::tool::{DiscardProgress, ToolHost as _};
use serde_json::json;

use crate::support::{Bench, context};

fn write(bench: &Bench, path: &str, content: impl AsRef<[u8]>) {
    let path = bench.workspace().join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(path, content).expect("written");
}

/// Searches on from the last place until all was searched, and returns the lines of all answers.
async fn all(bench: &Bench, path: &str, pattern: &str) -> (Vec<String>, usize) {
    let (mut lines, mut after, mut calls) = (Vec::new(), String::new(), 0);
    loop {
        calls += 1;
        let arguments = json!({"path": path, "pattern": pattern, "after": after}).to_string();
        let output = bench.call("file.search", &arguments).await;
        let found = output.parts[0].as_text().lines().map(str::to_owned).collect::<Vec<_>>();
        let goes_on = output.parts.iter().any(|part| part.as_text().contains("search on with the last"));
        let last = found.last().cloned().unwrap_or_default();
        lines
            .extend(found.into_iter().filter(|line| !line.ends_with("(go on here)") && line != "[no match]"));
        if !goes_on {
            return (lines, calls);
        }
        let mut place = last.splitn(3, ':');
        let next = format!("{}:{}", place.next().expect("a path"), place.next().expect("a line"));
        assert_ne!(next, after, "it does not get further");
        after = next;
        assert!(calls < 100, "it does not come to an end");
    }
}

#[tokio::test]
async fn lines_are_found_in_the_order_of_their_paths() {
    let bench = Bench::new().made();
    write(&bench, "b/two.txt", "nothing\r\nneedle here\r\n");
    write(&bench, "b.txt", "a needle.\n\nneedles\n");
    write(&bench, "a/deep/one.txt", "needle");
    write(&bench, ".git/config", "needle");
    let told = bench.told("file.search", r#"{"pattern":"needle"}"#).await;
    assert_eq!(
        told,
        "ok: a/deep/one.txt:1: needle\nb/two.txt:2: needle here\nb.txt:1: a needle.\nb.txt:3: needles"
    );
    for (arguments, told) in [
        (json!({"pattern": "needle", "path": "b"}), "ok: b/two.txt:2: needle here"),
        (json!({"pattern": "needle", "path": "b.txt", "after": "b.txt:1"}), "ok: b.txt:3: needles"),
        (json!({"pattern": "needle", "after": "b/two.txt:1", "path": "b"}), "ok: b/two.txt:2: needle here"),
        (json!({"pattern": "needle", "path": ".git"}), "ok: .git/config:1: needle"),
        (json!({"pattern": "needle."}), "ok: b.txt:1: a needle."),
        (json!({"pattern": "^n.*s$", "regex": true}), "ok: b.txt:3: needles"),
        (json!({"pattern": "^$", "regex": true}), "ok: b.txt:2: "),
        (json!({"pattern": "Needle"}), "ok: [no match]"),
        (
            json!({"pattern": "needle", "path": "c"}),
            "failed: refused: there is no such file or directory in the workspace",
        ),
        (
            json!({"pattern": "needle", "path": "b.txt/x"}),
            "failed: refused: a part of the path is a file, not a directory",
        ),
    ] {
        assert_eq!(bench.told("file.search", &arguments.to_string()).await, told, "{arguments}");
    }
    let found = bench.call("file.search", r#"{"pattern":"needle"}"#).await;
    assert_eq!(found.parts[0].label(), Label::UNKNOWN_FILE);
    assert_eq!(Bench::new().told("file.search", r#"{"pattern":"x"}"#).await, "ok: [no match]");
}

#[tokio::test]
async fn a_search_counts_skipped_files_and_follows_no_link() {
    let bench = Bench::new().made();
    let outside = bench.home().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("file"), "needle").expect("written");
    symlink(&outside, bench.workspace().join("dirlink")).expect("linked");
    symlink(outside.join("file"), bench.workspace().join("link")).expect("linked");
    symlink("..", bench.workspace().join("loop")).expect("linked");
    write(&bench, "binary", b"needle\0needle");
    write(&bench, "line\nbreak", "needle");
    write(&bench, "raw", b"needle \xff\n");
    std::fs::File::create(bench.workspace().join("large")).expect("made").set_len(5 << 20).expect("sparse");
    assert_eq!(
        bench.told("file.search", r#"{"pattern":"needle"}"#).await,
        "ok: raw:1: needle \u{fffd}\n[not searched: 1 binary files, 1 of more than 4194304 bytes, 0 lines after 65536 \
         bytes, 1 that cannot be opened or named, or directories too deep or too full]"
    );
}

#[tokio::test]
async fn a_bounded_search_answer_resumes_without_a_gap() {
    let bench = Bench::new().made();
    let mut expected = Vec::new();
    for file in 0..30 {
        let name = format!("d{}/f{file:02}", file % 3);
        let text = (1..=20).map(|line| format!("needle {file} {line}\n")).collect::<Vec<_>>().concat();
        write(&bench, &name, text);
        expected
            .extend((1..=20).map(|line| (file % 3, file, format!("{name}:{line}: needle {file} {line}"))));
    }
    expected.sort_by_key(|(directory, file, _)| (*directory, *file));
    let expected: Vec<_> = expected.into_iter().map(|(_, _, line)| line).collect();
    let (lines, calls) = all(&bench, ".", "needle").await;
    assert_eq!(lines, expected);
    assert!(calls >= 3, "{calls} calls");
    let wide = format!("{}needle{}\n", "a".repeat(1000), "b".repeat(1000)).repeat(190);
    write(&bench, "wide", wide);
    let output = bench.call("file.search", r#"{"path":"wide","pattern":"needle"}"#).await;
    assert!(output.parts[0].as_text().len() <= 32 << 10);
    assert!(output.parts[1].as_text().starts_with("[there may be more"), "{:?}", output.parts[1]);
    assert_eq!(all(&bench, "wide", "needle").await.0.len(), 190);
}

#[tokio::test]
async fn one_search_call_scans_a_bounded_amount_and_resumes() {
    let bench = Bench::new().made();
    let filler = format!("{}\n", "x".repeat(1023)).repeat(4 << 10);
    for file in 0..10 {
        let needle = if file == 9 { "needle" } else { "other!" };
        write(&bench, &format!("f{file}"), format!("{needle}\n{}", &filler[7..]));
    }
    let first = bench.told("file.search", r#"{"pattern":"needle"}"#).await;
    assert_eq!(
        first,
        "ok: f8:0: (go on here)\n[not all was searched; search on with the last PATH:LINE as after]"
    );
    assert_eq!(all(&bench, ".", "needle").await, (vec!["f9:1: needle".to_owned()], 2));
}

#[tokio::test]
async fn a_slow_pattern_is_cut_off_and_goes_on() {
    let bench = Bench::new().made();
    write(&bench, "a", format!("one\ntwo\nneedle\n{}needle\n", "x".repeat(70_000)));
    bench.clock.hurry(4_000);
    // Each look at the clock takes four seconds, so three lines are a call's share.
    let first = bench.told("file.search", r#"{"pattern":"needle"}"#).await;
    assert_eq!(
        first,
        "ok: a:3: needle\na:3: (go on here)\n[not all was searched; search on with the last PATH:LINE as after]"
    );
    bench.clock.hurry(0);
    let rest = bench.told("file.search", r#"{"pattern":"needle","after":"a:3"}"#).await;
    assert!(
        rest.starts_with("ok: [no match]\n[not searched: 0 binary files, ") && rest.contains("1 lines"),
        "{rest}"
    );
}

#[tokio::test]
async fn text_is_replaced_exactly_as_often_as_is_said() {
    let bench = Bench::new().made();
    write(&bench, "run.sh", "echo a\necho a\necho b\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bench.workspace().join("run.sh"), executable).expect("set");
    for (arguments, told) in [
        (
            json!({"path": "run.sh", "old": "echo a", "new": "echo c"}),
            "failed: refused: the file has the old text 2 times, not 1; nothing was changed. Include more \
             of the text around it, or set that count",
        ),
        (
            json!({"path": "run.sh", "old": "echo a", "new": "echo c", "count": 2}),
            "ok: replaced 2 times; the file has 21 bytes",
        ),
        (
            json!({"path": "run.sh", "old": "echo a", "new": "echo c", "count": 2}),
            "ok: nothing to do: the file has the new text and not the old one",
        ),
        (
            json!({"path": "run.sh", "old": "echo b\n", "new": ""}),
            "ok: replaced 1 times; the file has 14 bytes",
        ),
        (
            json!({"path": "run.sh", "old": "echo b\n", "new": ""}),
            "ok: nothing to do: the file no longer has the old text",
        ),
        (
            json!({"path": "run.sh", "old": "echo d", "new": "echo e"}),
            "failed: refused: the file has neither the old text nor the new one; read the file before trying again",
        ),
        (
            json!({"path": "none", "old": "a", "new": "b"}),
            "failed: refused: there is no such file or directory in the workspace",
        ),
    ] {
        assert_eq!(bench.told("file.edit", &arguments.to_string()).await, told, "{arguments}");
    }
    let file = bench.workspace().join("run.sh");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "echo c\necho c\n");
    let mode = std::fs::metadata(&file).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o755, "what could be executed still can be");
    assert!(!bench.workspace().join("none").exists(), "an edit makes no file");
}

#[tokio::test]
async fn a_repeated_edit_after_a_crash_applies_once() {
    let bench = Bench::new().made();
    let arguments = json!({"path": "a", "old": "x", "new": "xy"}).to_string();
    let call = bench.prepare("file.edit", &arguments);
    let temporary = format!(".dromia-tmp-{}", &blake3::hash(context().key.as_bytes()).to_hex()[..16]);
    // Before the rename: the file is the old one, beside a half-written new one.
    write(&bench, "a", "let x\n");
    write(&bench, &temporary, "let ");
    // After the rename the file is the new one, and the repeated call finds that.
    for said in [
        "replaced 1 times; the file has 7 bytes",
        "nothing to do: the file has the new text and not the old one",
    ] {
        let output = bench.toolbox.execute_call(context(), call.clone(), &DiscardProgress).await;
        assert!(!output.failed && output.parts[0].as_text() == said, "{output:?}");
        assert_eq!(std::fs::read_to_string(bench.workspace().join("a")).expect("there"), "let xy\n");
        assert!(!bench.workspace().join(&temporary).exists());
    }
}

/// Two runs of one agent edit one file at once: each change is there afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn edits_at_once_lose_none_of_one_another() {
    let bench = Arc::new(Bench::new().made());
    let lines = (0..40).map(|number| format!("old {number:02}\n")).collect::<Vec<_>>().concat();
    write(&bench, "a", lines);
    let mut edits = Vec::new();
    for number in 0..40 {
        let (old, new) = (format!("old {number:02}"), format!("new {number:02}"));
        let call = bench.prepare("file.edit", &json!({"path": "a", "old": old, "new": new}).to_string());
        let mut context = context();
        context.key = format!("{}{number}", context.key);
        let bench = Arc::clone(&bench);
        edits.push(tokio::spawn(
            async move { bench.toolbox.execute_call(context, call, &DiscardProgress).await },
        ));
    }
    for edit in edits {
        let output = edit.await.expect("it ends");
        assert!(!output.failed, "{output:?}");
    }
    let expected = (0..40).map(|number| format!("new {number:02}\n")).collect::<Vec<_>>().concat();
    assert_eq!(std::fs::read_to_string(bench.workspace().join("a")).expect("there"), expected);
}
