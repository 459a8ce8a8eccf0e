//! Damaged homes through the real binary: what cannot be trusted is named and not given out, the rest is served, and
//! nothing is ever shown as shorter than it was.

use std::path::PathBuf;

use dromia_store::{SqliteStore, StoreConfig};
use serde_json::{Value, json};

use crate::home::{Home, Server, append, block_on, count, stderr};

/// A text that stands nowhere else in a store.
const MARK: &str = "MARK-7f3a9c";

fn database(home: &Home) -> PathBuf {
    home.path().join("store").join("dromia.db")
}

/// Rewrites the main file of a store that nobody has open.
fn rewrite(home: &Home, change: impl FnOnce(&mut Vec<u8>)) {
    // A server that left a run behind may have left its log behind too; opening the store brings it into the main file.
    let log = database(home).with_extension("db-wal");
    if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        let store = StoreConfig::new(home.path().join("store"));
        drop(SqliteStore::open(store).expect("the store is sound"));
    }
    let mut bytes = std::fs::read(database(home)).expect("the store is there");
    change(&mut bytes);
    std::fs::write(database(home), bytes).expect("the store can be written");
}

/// Where the mark stands.
fn marks(bytes: &[u8]) -> Vec<usize> {
    let found = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK.as_bytes());
    let places: Vec<_> = found.map(|(place, _)| place).collect();
    assert!(!places.is_empty(), "the mark is not in the main file");
    places
}

fn change_marks(bytes: &mut [u8]) {
    for place in marks(bytes) {
        bytes[place] ^= 1;
    }
}

fn overwrite_marked_pages(bytes: &mut [u8]) {
    for place in marks(bytes) {
        let page = place / 4096 * 4096;
        bytes[page..page + 4096].fill(0xa5);
    }
}

/// Says two things in two sessions and stops the server in good order; returns both answers.
fn two_sessions(home: &Home) -> [Value; 2] {
    let server = home.serve();
    let answers = [format!("{MARK} please"), "something else".to_owned()]
        .map(|text| block_on(server.event(&json!({"text": text, "wait": true}))).1);
    server.terminate();
    answers
}

async fn journal(server: &Server, answer: &Value) -> (u16, Value) {
    server.get(&format!("/v1/runs/{}/journal", answer["run"].as_str().expect("a run"))).await
}

#[test]
fn a_damaged_journal_is_refused_and_the_rest_is_served() {
    let home = Home::new();
    let [marked, other] = two_sessions(&home);
    rewrite(&home, |bytes| change_marks(bytes));
    let server = home.serve();
    block_on(async {
        let (status, problem) = journal(&server, &marked).await;
        assert_eq!((status, problem["code"].as_str()), (500, Some("journal_damaged")), "{problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("backup")), "{problem}");
        let session = marked["session"].as_str().expect("a session");
        for path in ["transcript", "export"] {
            let (status, problem) = server.get(&format!("/v1/sessions/{session}/{path}")).await;
            assert_eq!(
                (status, problem["code"].as_str()),
                (500, Some("journal_damaged")),
                "{path}: {problem}"
            );
        }
        // Its model would be told of a past that never was: nothing is said in this session.
        let (status, problem) =
            server.event(&json!({"text": "and now?", "session": session, "wait": true})).await;
        assert_eq!((status, problem["code"].as_str()), (500, Some("journal_damaged")), "{problem}");
        let (status, page) = journal(&server, &other).await;
        assert_eq!((status, page["entries"].as_array().map(Vec::len)), (200, Some(4)), "{page}");
        let (status, answer) = server.event(&json!({"text": "go on", "wait": true})).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    });
    let run = marked["run"].as_str().expect("a run");
    let output = home.run(&["run", "show", run]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("journal_damaged") && stderr(&output).contains("hint: "),
        "{}",
        stderr(&output)
    );
    // Each command names the row, and the same one.
    let place = |output: &std::process::Output| {
        let told = stderr(output);
        let place = told.split_once("error: ").and_then(|(_, rest)| rest.split_once(" is damaged"));
        place.expect("a place").0.to_owned()
    };
    assert!(place(&output).contains(run), "{}", stderr(&output));
    assert_eq!(place(&output), place(&home.run(&["run", "why", run])));
}

#[test]
fn a_damaged_page_is_refused_and_is_no_empty_list() {
    let home = Home::new();
    let [marked, _] = two_sessions(&home);
    rewrite(&home, |bytes| overwrite_marked_pages(bytes));
    let output = home.command().args(["migrate", "state", "--dry-run"]).output().expect("the program runs");
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    let server = home.serve();
    block_on(async {
        let (status, problem) = journal(&server, &marked).await;
        assert_eq!(status, 500, "a damaged page reads as {problem}");
        assert_eq!(problem["code"], "journal_damaged", "{problem}");
        assert_eq!(server.get("/v1/agents").await.0, 200, "what lies on other pages is served");
        let (status, health) = server.get("/health").await;
        assert_eq!((status, &health["damaged"]), (200, &json!(true)), "{health}");
        assert_eq!(server.get("/ready").await.0, 200, "others are served");
        let (_, told) = server.get("/v1/status").await;
        assert!(told["store"]["damaged"]["met"].as_u64().is_some_and(|met| met >= 1), "{told}");
    });
    let status = home.run(&["status", "--node"]);
    assert_eq!(status.status.code(), Some(1), "a script must notice");
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("damaged ") && text.contains("restore a backup"), "{text}");
    let doctor = home.run(&["doctor", "--only", "store.integrity"]);
    assert_eq!(doctor.status.code(), Some(1), "{}", String::from_utf8_lossy(&doctor.stdout));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("the file is damaged"), "{doctor:?}");
}

/// An unfinished turn whose input was changed on the disk is held with its reason, and its agent goes on elsewhere.
#[test]
fn an_unreadable_open_run_is_held_with_its_reason() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "limits: { drain_ms: 100 }\n");
    let server = home.serve();
    let session = block_on(async {
        let (_, accepted) = server.event(&json!({"text": format!("@slow 60000\n{MARK}")})).await;
        let session = accepted["session"].as_str().expect("a session").to_owned();
        server.journal_until(&session, |entries| count(entries, "model_called") == 1).await;
        session
    });
    server.terminate();
    rewrite(&home, |bytes| change_marks(bytes));
    let server = home.serve();
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_held") == 1).await;
        let run = entries.last().expect("an entry")["fields"].clone();
        assert_eq!(run["reason"], "damaged", "{run}");
        let (_, runs) = server.get(&format!("/v1/runs?session={session}")).await;
        let id = runs["items"][0]["id"].as_str().expect("a run");
        let (_, why) = server.get(&format!("/v1/runs/{id}/why")).await;
        assert_eq!(
            (&why["status"], &why["command"]),
            (&json!("held"), &json!(format!("dromia run resume {id}")))
        );
        assert!(why["waits_for"].as_str().is_some_and(|text| text.contains("item 1 of the inbox")), "{why}");
        assert!(why["unblocked_by"].as_str().is_some_and(|text| text.contains("backup")), "{why}");
        let (status, answer) = server.event(&json!({"text": "go on", "wait": true})).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    });
}

#[test]
fn an_unusable_store_is_refused_and_left_unchanged() {
    /// How the file is changed, the exit code, and what is said.
    type Case = (fn(&mut Vec<u8>), i32, &'static str);
    let cases: [Case; 4] = [
        (|bytes| bytes[..100].fill(0xa5), 1, "restore it from a backup"),
        (|bytes| *bytes = vec![b'x'; 9_000], 1, "restore it from a backup"),
        // The version of the schema, as the file's header holds it.
        (|bytes| bytes[60..64].copy_from_slice(&99_u32.to_be_bytes()), 6, "use the newer program"),
        (|bytes| bytes[68..72].copy_from_slice(&7_u32.to_be_bytes()), 6, "belongs to another program"),
    ];
    for (change, code, says) in cases {
        let home = Home::new();
        rewrite(&home, change);
        let before = std::fs::read(database(&home)).expect("the store is there");
        for line in [&["up", "--listen", "127.0.0.1:0"][..], &["migrate", "state"]] {
            let output = home.run(line);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(code), "{line:?}: {text}");
            assert!(
                text.contains(says) && text.contains(&home.path().display().to_string()),
                "{line:?}: {text}"
            );
        }
        assert_eq!(
            std::fs::read(database(&home)).expect("the store is there"),
            before,
            "{says}: it was written to"
        );
    }
}

#[test]
fn a_truncated_store_is_never_served_as_empty() {
    let home = Home::new();
    let [marked, _] = two_sessions(&home);
    rewrite(&home, |bytes| bytes.truncate(bytes.len() / 2 / 4096 * 4096));
    let output = home.run(&["migrate", "state", "--dry-run"]);
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    let mut command = home.command();
    command.args(["up", "--listen", "127.0.0.1:0"]).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("the server starts");
    // It either refuses to start and says so, or refuses what it cannot read.
    let mut line = String::new();
    let stdout = child.stdout.take().expect("the output is a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("is readable");
    let Some(url) = line.trim().strip_prefix("listening ") else {
        let output = child.wait_with_output().expect("the server ended");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("restore it from a backup"), "{}", stderr(&output));
        return;
    };
    let path = format!("{url}/v1/runs/{}/journal", marked["run"].as_str().expect("a run"));
    let status = block_on(async {
        reqwest::Client::new()
            .get(path)
            .bearer_auth(home.token_path())
            .send()
            .await
            .expect("an answer")
            .status()
    });
    child.kill().expect("the server is killed");
    child.wait().expect("the server is gone");
    assert!(status.is_server_error(), "half a store answers {status}");
}
