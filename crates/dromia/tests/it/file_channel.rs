//! A file channel through the real binary: a line in, a line out, across kills, torn lines and links.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, append, stderr};
use crate::webhook::deliveries;

/// The first block of a kind on the page of the file channel.
fn page_block(kind: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/file-channel.md");
    let page = std::fs::read_to_string(file).expect("the page");
    let (_, block) = page.split_once(&format!("```{kind}\n")).expect("a block");
    block.split_once("```").expect("its end").0.to_owned()
}

/// Writes the channel of the page into the configuration of a home; returns its directory.
fn with_files(home: &Home) -> PathBuf {
    append(&home.path().join("dromia.yaml"), &page_block("yaml"));
    let directory = home.path().join("channels/log");
    std::fs::create_dir_all(&directory).expect("the directory");
    std::fs::write(directory.join("in.jsonl"), "").expect("an empty input");
    directory
}

fn line(text: &str) -> String {
    format!("{}\n", json!({"actor": "ada", "text": format!("@say {text}")}))
}

/// The whole lines of an output.
fn lines_out(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("out.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Waits until so many lines are out and each of their deliveries is settled.
fn until_lines(home: &Home, directory: &Path, count: usize) -> Vec<Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = lines_out(directory);
        if found.len() >= count && deliveries(home).iter().all(|one| one["state"] == "delivered") {
            return found;
        }
        assert!(Instant::now() < end, "{count} lines never come: {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says which of the texts are missing or doubled.
fn judged(lines: &[Value], texts: &[String]) -> Result<(), String> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *times.entry(line["event"]["data"]["text"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let wrong: Vec<_> = texts
        .iter()
        .map(|text| (text, times.get(text.as_str()).copied().unwrap_or(0)))
        .filter(|(_, count)| *count != 1)
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("not answered once: {wrong:?}")) }
}

#[test]
fn a_line_of_a_file_is_answered_by_a_line() {
    let home = Home::new();
    let directory = with_files(&home);
    append(&directory.join("in.jsonl"), &line("hello"));
    append(&directory.join("in.jsonl"), "no JSON\n");
    append(&directory.join("in.jsonl"), "{\"id\": \"7\", \"text\": \"@say again\"}\n");
    append(&directory.join("in.jsonl"), "{\"id\": \"7\", \"text\": \"@say again\"}\n");
    let _server = home.serve();
    let found = until_lines(&home, &directory, 2);
    let texts: Vec<_> = found.iter().map(|line| line["event"]["data"]["text"].as_str()).collect();
    assert_eq!(texts, [Some("hello"), Some("again")], "a repeat of an id is one input");
    assert_eq!((&found[0]["actor"], &found[1]["actor"]), (&json!("ada"), &Value::Null));
    assert_eq!(found[0]["event"]["data"]["actor"], "file:log/ada");
    let id = found[0]["id"].as_str().expect("an id");
    let shown = home.run(&["delivery", "show", id, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("a document");
    assert_eq!(
        (&shown["target"], &shown["receipts"][0]["receiver_id"]),
        (&json!("file:log/ada"), &json!(id))
    );
}

#[test]
fn a_channel_says_what_its_messages_do_during_a_turn() {
    let home = Home::new();
    let directory = with_files(&home);
    append(&home.path().join("dromia.yaml"), "    when_busy: interrupt\n");
    let input = directory.join("in.jsonl");
    // The first turn would take much longer than this test waits.
    append(&input, "{\"actor\": \"ada\", \"text\": \"@slow 600000\"}\n");
    let _server = home.serve();
    let end = Instant::now() + DEADLINE;
    while home.run(&["run", "list", "--status", "running", "-o", "name"]).stdout.is_empty() {
        assert!(Instant::now() < end, "the first turn never begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    append(&input, &line("quick"));
    let found = until_lines(&home, &directory, 2);
    let types: Vec<_> = found.iter().map(|line| line["event"]["type"].as_str()).collect();
    assert_eq!(types, [Some("agent.failed"), Some("agent.replied")], "{found:?}");
    assert_eq!(found[1]["event"]["data"]["text"], "quick");
}

#[test]
fn the_line_of_the_page_is_answered() {
    let home = Home::new();
    let directory = with_files(&home);
    append(&directory.join("in.jsonl"), &page_block("json"));
    let _server = home.serve();
    let found = until_lines(&home, &directory, 1);
    assert_eq!((&found[0]["actor"], &found[0]["event"]["type"]), (&json!("ada"), &json!("agent.replied")));
}

#[test]
fn a_path_names_the_directory_of_a_channel() {
    let home = Home::new();
    let channel = "channels:\n  log: { kind: file, agent: assistant, path: exchange }\n";
    append(&home.path().join("dromia.yaml"), channel);
    let _server = home.serve();
    let directory = home.path().join("exchange");
    let end = Instant::now() + DEADLINE;
    while !directory.is_dir() {
        assert!(Instant::now() < end, "the directory is never made");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(directory.join("in.jsonl"), line("hello")).expect("the input");
    let found = until_lines(&home, &directory, 1);
    assert_eq!(judged(&found, &["hello".to_owned()]), Ok(()));
}

#[test]
fn channels_of_one_directory_are_refused_however_it_is_written() {
    for (first, second) in
        [("exchange", "HOME/exchange"), ("HOME/exchange", "linked/exchange"), ("linked/later/x", "later/x")]
    {
        let home = Home::new();
        let root = home.path().canonicalize().expect("the home");
        std::fs::create_dir(root.join("exchange")).expect("a directory");
        std::os::unix::fs::symlink(&root, root.join("linked")).expect("a link");
        let path = |written: &str| written.replace("HOME", &root.display().to_string());
        let channels = format!(
            "channels:\n  one: {{ kind: file, agent: assistant, path: {} }}\n  two: {{ kind: file, agent: assistant, \
             path: {} }}\n",
            path(first),
            path(second)
        );
        append(&home.path().join("dromia.yaml"), &channels);
        let refused = home.run(&["config", "validate"]);
        let told = stderr(&refused);
        assert!(!refused.status.success(), "{first}, {second}");
        assert!(told.contains("channels.two.path: is the directory of the channel one"), "{told}");
    }
}

/// Appends lines to a server that is killed again and again, and plays on until all are answered.
fn answered_across_kills(spoil: impl Fn(&Path, usize)) -> Result<(), String> {
    let home = Home::new();
    let directory = with_files(&home);
    let texts: Vec<_> = (0..12).map(|number| format!("line {number}")).collect();
    for (round, texts) in texts.chunks(3).enumerate() {
        for text in texts {
            append(&directory.join("in.jsonl"), &line(text));
        }
        spoil(&directory, round);
        let server = home.serve();
        // Kills meet it before, during and after it answers.
        std::thread::sleep(Duration::from_millis(150 * round as u64));
        server.kill();
    }
    let server = home.serve();
    append(&directory.join("in.jsonl"), &line("last"));
    let end = Instant::now() + DEADLINE;
    let is_last = |lines: &[Value]| lines.iter().any(|line| line["event"]["data"]["text"] == "last");
    while !is_last(&lines_out(&directory)) {
        assert!(Instant::now() < end, "the last line is never answered");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(server);
    judged(&lines_out(&directory), &texts)
}

#[test]
fn no_line_is_lost_or_doubled_across_kills() {
    assert_eq!(answered_across_kills(|_, _| {}), Ok(()));
}

/// Moves the cursor of a channel, if there is one.
fn move_cursor(directory: &Path, offset: usize) {
    let (file, input) = (directory.join("cursor.json"), directory.join("in.jsonl"));
    let Ok(kept) = std::fs::read_to_string(&file) else { return };
    let mut cursor: Value = serde_json::from_str(&kept).expect("a cursor");
    let before = &std::fs::read(input).expect("the input")[..offset];
    let tail = blake3::hash(&before[before.len().saturating_sub(1 << 10)..]);
    (cursor["offset"], cursor["tail"]) = (json!(offset), json!(tail.to_hex().to_string()));
    std::fs::write(file, cursor.to_string()).expect("the cursor");
}

/// The cursor is behind what was read: every line comes again, and is known by its place.
#[test]
fn a_line_that_is_read_again_is_one_input() {
    assert_eq!(answered_across_kills(|directory, _| move_cursor(directory, 0)), Ok(()));
}

/// Planted fault: the cursor is ahead of what was read.
#[test]
fn a_cursor_ahead_of_its_lines_is_caught() {
    let found = answered_across_kills(|directory, _| {
        let input = std::fs::metadata(directory.join("in.jsonl")).expect("the input");
        move_cursor(directory, usize::try_from(input.len()).expect("a few lines"));
    });
    assert!(found.is_err(), "nothing is lost");
}

/// A file system gives the number of a removed file to the next one.
#[test]
fn another_input_file_is_read_from_its_beginning() {
    let home = Home::new();
    let directory = with_files(&home);
    let input = directory.join("in.jsonl");
    append(&input, &line("one"));
    let _server = home.serve();
    until_lines(&home, &directory, 1);
    std::fs::remove_file(&input).expect("it is there");
    std::fs::write(&input, [line("two"), line("three")].concat()).expect("it is written");
    let found = until_lines(&home, &directory, 3);
    let texts = ["one", "two", "three"].map(str::to_owned);
    assert_eq!(judged(&found, &texts), Ok(()));
    // The same text once more in another file is another message.
    std::fs::remove_file(directory.join("cursor.json")).expect("it is there");
    std::fs::remove_file(&input).expect("it is there");
    std::fs::write(&input, line("two")).expect("it is written");
    let found = until_lines(&home, &directory, 4);
    assert_eq!(found[3]["event"]["data"]["text"], "two");
}

#[test]
fn lines_that_are_no_messages_keep_nobody_waiting() {
    let home = Home::new();
    let directory = with_files(&home);
    let input = directory.join("in.jsonl");
    append(&input, &"\n{\n".repeat(10_000));
    append(&input, &line("behind"));
    let _server = home.serve();
    let found = until_lines(&home, &directory, 1);
    assert_eq!(judged(&found, &["behind".to_owned()]), Ok(()));
}

#[test]
fn answers_of_one_channel_wait_for_one_another() {
    let home = Home::new();
    let directory = with_files(&home);
    let text = |number| format!("{}\n", json!({"actor": format!("a{number}"), "text": "@say hello"}));
    append(&directory.join("in.jsonl"), &(0..40).map(text).collect::<String>());
    let _server = home.serve();
    until_lines(&home, &directory, 40);
    let again: Vec<_> = deliveries(&home).into_iter().filter(|one| one["attempts"] != 1).collect();
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn torn_last_lines_of_both_files_end_well() {
    let home = Home::new();
    let directory = with_files(&home);
    let text = line("torn");
    let (first, rest) = text.split_at(20);
    append(&directory.join("in.jsonl"), first);
    std::fs::write(directory.join("out.jsonl"), "{\"id\":\"dlv_0199\",\"eve").expect("a torn line");
    let server = home.serve();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lines_out(&directory), Vec::<Value>::new());
    server.kill();
    append(&directory.join("in.jsonl"), rest);
    let _server = home.serve();
    let found = until_lines(&home, &directory, 1);
    assert_eq!(judged(&found, &["torn".to_owned()]), Ok(()));
    assert_eq!(found.len(), 1, "a torn line of ours is cut off");
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    let home = Home::new();
    let directory = with_files(&home);
    let outside = home.path().join("outside");
    std::fs::write(&outside, line("secret")).expect("a file");
    std::fs::remove_file(directory.join("in.jsonl")).expect("the input goes");
    std::os::unix::fs::symlink(&outside, directory.join("in.jsonl")).expect("a link");
    let server = home.serve();
    std::thread::sleep(Duration::from_secs(1));
    assert!(deliveries(&home).is_empty(), "a line behind a link was read");
    std::fs::remove_file(directory.join("in.jsonl")).expect("the link goes");
    std::os::unix::fs::symlink(&outside, directory.join("out.jsonl")).expect("a link");
    std::fs::write(directory.join("in.jsonl"), line("hello")).expect("the input");
    let end = Instant::now() + DEADLINE;
    while deliveries(&home).first().is_none_or(|one| one["state"] != "failed") {
        assert!(Instant::now() < end, "the delivery never fails");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("the file"), line("secret"));
    drop(server);
}

/// Planted fault: the input is the file itself and no link to it.
#[test]
fn a_link_that_is_followed_is_caught() {
    let home = Home::new();
    let directory = with_files(&home);
    std::fs::write(directory.join("in.jsonl"), line("secret")).expect("a file");
    let _server = home.serve();
    until_lines(&home, &directory, 1);
    assert!(!deliveries(&home).is_empty(), "the check would notice a line that was read");
}
