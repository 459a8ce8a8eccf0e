//! What may lie in the place of `dromia.yaml` while a server runs: half a text, no file, a link, a pipe, a text of too many
//! bytes, or any mutation of a good one. Each is refused with its place or counts, and the server answers all the time.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use dromia_testkit::fuzz::mutated;
use serde_json::json;

use crate::home::{Home, Server, block_on};
use crate::reloads::{standing, until, write};

/// A good file, of which no other number has the text.
fn good(number: u32) -> String {
    format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\nengine:\n  output_tokens_max: {number}\n")
}

/// Asserts that the server refuses what lies there and says so, that it answers, and that it keeps its revision.
fn assert_refused(server: &Server, says: &str) {
    block_on(async {
        let before = standing(server).await["revision"].clone();
        let found =
            until(server, |found| found["refused"]["problem"].as_str().is_some_and(|it| it.contains(says)));
        assert_eq!(found.await["revision"], before);
        assert_answers(server).await;
    });
}

async fn assert_answers(server: &Server) {
    let (status, answer) = server.event(&json!({"text": "hello", "wait": true})).await;
    assert_eq!((status, &answer["status"]), (200, &json!("completed")), "{answer}");
}

/// Asserts that what lies there counts.
fn assert_counts(server: &Server, revision: u64) {
    block_on(async {
        until(server, |found| found["revision"] == revision && found["refused"].is_null()).await;
        assert_answers(server).await;
    });
}

#[test]
fn whatever_replaces_the_file_leaves_the_server_serving() {
    let home = Home::new();
    let path = home.path().join("dromia.yaml");
    let remove = || fs::remove_file(&path).expect("it goes");
    write(&home, &good(1));
    let server = home.serve();

    write(&home, "# The first line of a longer file\n# that is still");
    assert_refused(&server, "the file has no key");
    write(&home, &good(2)[..30]);
    assert_refused(&server, "dromia.yaml:");
    write(&home, &good(2));
    assert_counts(&server, 2);

    let (first, second) = (home.path().join("first.yaml"), home.path().join("second.yaml"));
    fs::write(&first, good(3)).expect("is written");
    fs::write(&second, good(4)).expect("is written");
    let link_to = |target: &std::path::Path| {
        let new = home.path().join("dromia.yaml.new");
        symlink(target, &new).expect("is linked");
        fs::rename(new, &path).expect("is moved");
    };
    link_to(&first);
    assert_counts(&server, 3);
    link_to(&second);
    assert_counts(&server, 4);
    fs::write(&second, good(5)).expect("is written behind the link");
    assert_counts(&server, 5);
    link_to(&home.path().join("nowhere.yaml"));
    assert_refused(&server, "cannot be read");

    remove();
    assert!(Command::new("mkfifo").arg(&path).status().expect("it runs").success());
    assert_refused(&server, "is not a file");
    remove();
    fs::write(&path, format!("# {}\n", "x".repeat(5 << 20))).expect("is written");
    assert_refused(&server, "more than 4 MiB");
    fs::write(&path, b"version: 1\n\xff\xfe\n").expect("is written");
    assert_refused(&server, "dromia.yaml");
    write(&home, &good(6));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("it may only be read");
    assert_counts(&server, 6);
    remove();
    fs::create_dir(&path).expect("is made");
    assert_refused(&server, "is not a file");
    server.kill();

    // The last good one counts at a start, whatever lies there.
    let server = home.serve();
    let found = block_on(standing(&server));
    assert_eq!((&found["is_fallback"], &found["revision"]), (&json!(true), &json!(6)), "{found}");
    fs::remove_dir(&path).expect("it goes");
    write(&home, &good(7));
    assert_counts(&server, 7);
}

#[test]
fn mutated_files_are_refused_or_count_and_never_stop_a_server() {
    let home = Home::new();
    write(&home, &good(1));
    let server = home.serve();
    block_on(async {
        for number in 0..10 {
            write(&home, &good(number + 2));
            let before =
                until(&server, |found| found["digest"] == digest(&home) && found["refused"].is_null());
            let before = before.await["revision"].clone();
            let mut text = mutated(good(number + 2).as_bytes(), number.into());
            text.extend_from_slice(format!("\n# {number}\n").as_bytes());
            fs::write(home.path().join("dromia.yaml"), &text).expect("is written");
            let found = until(&server, |found| found["revision"] != before || found["refused"].is_object());
            let problem = found.await["refused"]["problem"].as_str().unwrap_or_default().to_owned();
            assert!(problem.is_empty() || problem.contains("dromia.yaml"), "{problem}");
            assert_eq!(server.get("/v1/whoami").await.0, 200, "{}", String::from_utf8_lossy(&text));
        }
    });
}

/// The digest of what lies there, as the status has it.
fn digest(home: &Home) -> String {
    let text = fs::read(home.path().join("dromia.yaml")).expect("it is there");
    dromia_contracts::Digest::from_bytes(*blake3::hash(&text).as_bytes()).to_string()
}
