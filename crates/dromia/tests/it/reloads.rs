//! The configuration while a server runs: a missing key disables its provider alone, a good edit counts within two seconds
//! and loses no run, a bad one leaves the last good configuration counting, and a start with a bad file uses it too.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failing_runs::without_privileges;
use crate::home::{Home, Server, block_on, stderr};
use crate::model::{Model, Say};

/// The longest time until an edit counts.
const COUNTS: Duration = Duration::from_secs(2);

/// A file that cannot be used.
const BAD: &str = "version: 1\nmodles: {}\n";

pub(crate) fn write(home: &Home, text: &str) {
    fs::write(home.path().join("dromia.yaml"), text).expect("the file is written");
}

pub(crate) fn read(home: &Home) -> String {
    fs::read_to_string(home.path().join("dromia.yaml")).expect("the file is there")
}

fn with_models(models: &str) -> String {
    format!("version: 1\ndefault_agent: assistant\nmodels:\n{models}")
}

pub(crate) async fn standing(server: &Server) -> Value {
    server.get("/v1/status").await.1["config"].clone()
}

/// Waits until the server's configuration is as wanted, at most as long as an edit may take.
pub(crate) async fn until(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let found = standing(server).await;
        if wanted(&found) {
            return found;
        }
        assert!(began.elapsed() < COUNTS, "{found:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(server: &Server) -> (u16, Value) {
    server.event(&json!({"text": "hello", "wait": true})).await
}

fn failed_start(home: &Home, more: &[&str]) -> Output {
    let mut command = home.command();
    command.args(["up", "--listen", "127.0.0.1:0"]).args(more);
    command.output().expect("the program runs")
}

/// Starts a server and keeps what it says on stderr in a file.
fn serve_heard(home: &Home) -> (Server, std::path::PathBuf) {
    let heard = home.path().join("heard");
    let file = fs::File::create(&heard).expect("the file is made");
    let mut command: Command = home.command();
    command.stderr(Stdio::from(file));
    (home.serve_by(command), heard)
}

#[test]
fn a_missing_key_disables_its_provider_until_an_edit() {
    let home = Home::new();
    let keyed =
        "  default: { kind: openai, base_url: 'http://127.0.0.1:9/v1', model: m, key: 'env:GONE_KEY' }\n";
    write(&home, &with_models(keyed));
    let (server, heard) = serve_heard(&home);
    block_on(async {
        let disabled = standing(&server).await["disabled"].to_string();
        assert!(disabled.contains("models.default.key: the variable GONE_KEY is not set"), "{disabled}");
        let (_, answer) = ask(&server).await;
        let answer = answer.to_string();
        assert!(answer.contains("GONE_KEY") && answer.contains("dromia up"), "{answer}");
        write(&home, &with_models("  default: { kind: scripted }\n"));
        until(&server, |found| found["revision"] == 2 && found["disabled"].is_null()).await;
        let (status, answer) = ask(&server).await;
        assert_eq!((status, &answer["error"]), (200, &Value::Null), "{answer}");
    });
    let heard = fs::read_to_string(heard).expect("it was kept");
    assert_eq!(heard.matches("is disabled, because it has no key").count(), 1, "{heard}");
}

#[test]
fn a_bad_edit_and_a_bad_start_use_the_last_good_file() {
    let home = Home::new();
    let good = read(&home);
    let server = home.serve();
    block_on(async {
        write(&home, BAD);
        let found = until(&server, |found| found["refused"].is_object()).await;
        assert!(found["refused"]["problem"].to_string().contains("dromia.yaml:2:1"), "{found}");
        assert_eq!((ask(&server).await.0, &found["revision"]), (200, &json!(1)));
    });
    for line in [&["status"][..], &["status", "--node"]] {
        assert_eq!(home.run(line).status.code(), Some(1), "a script notices it");
    }
    let status = home.run(&["status", "--node"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("dromia config revert 1"));
    server.kill();

    let strict = failed_start(&home, &["--strict-config"]);
    assert_eq!(strict.status.code(), Some(2), "{}", stderr(&strict));
    let (server, heard) = serve_heard(&home);
    let heard = fs::read_to_string(heard).expect("it was kept");
    assert!(heard.contains("starts on an earlier configuration") && heard.contains("2:1"), "{heard}");
    block_on(async {
        assert_eq!(standing(&server).await["is_fallback"], true);
        assert_eq!(ask(&server).await.0, 200);
        let reverted = home.run(&["config", "revert", "1"]);
        assert!(reverted.status.success(), "{}", stderr(&reverted));
        assert_eq!(read(&home), good);
        until(&server, |found| found["refused"].is_null() && found["is_fallback"].is_null()).await;

        fs::remove_file(home.path().join("dromia.yaml")).expect("it goes");
        until(&server, |found| found["refused"].is_object()).await;
        fs::create_dir(home.path().join("dromia.yaml")).expect("it is made");
        until(&server, |found| found["refused"]["problem"].to_string().contains("not a file")).await;
        assert_eq!(ask(&server).await.0, 200);
        fs::remove_dir(home.path().join("dromia.yaml")).expect("it goes");
        write(&home, &good);
        until(&server, |found| found["refused"].is_null()).await;
    });
}

/// Leaves a beginning of the file in its place, as a write that was cut does; `end` is what follows it.
fn check_cut_file(end: &str) -> Result<(), String> {
    let home = Home::new();
    let good = read(&home);
    let server = home.serve();
    let place = good.find("window_tokens: 32768").expect("it has a number") + "window_tokens: 3276".len();
    let counts = block_on(async {
        // The new text differs from the one that counts in its first line already.
        write(&home, &format!("# edited\n{}{end}", &good[..place]));
        let found = until(&server, |found| found["refused"].is_object() || found["revision"] != 1).await;
        assert_eq!(ask(&server).await.0, 200);
        found
    });
    if counts["revision"] != 1 {
        return Err("a part of the file counts".to_owned());
    }
    assert!(counts["refused"]["problem"].to_string().contains("ends within a line"), "{counts}");
    block_on(async {
        // Without its last section it ends with a line, as an editor leaves it.
        write(&home, &good[..good.find("context:").expect("the last section")]);
        until(&server, |found| found["refused"].is_null() && found["revision"] == 2).await;
    });
    Ok(())
}

#[test]
fn a_file_that_is_half_written_does_not_count() {
    assert_eq!(check_cut_file(""), Ok(()));
}

/// Planted fault: a cut text is taken for an edit, as one that ends with a line is.
#[test]
fn a_half_written_file_that_counts_is_caught() {
    assert_eq!(check_cut_file("\n"), Err("a part of the file counts".to_owned()));
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_last_good_one_counting() {
    let home = Home::new();
    let server = home.serve_by(without_privileges(&home));
    let path = home.path().join("dromia.yaml");
    let set_mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    block_on(async {
        set_mode(&path, 0o000);
        let found = until(&server, |found| found["refused"].is_object()).await;
        let problem = found["refused"]["problem"].to_string();
        assert!(problem.contains("dromia.yaml") && problem.contains("Permission denied"), "{problem}");
        assert_eq!(ask(&server).await.0, 200);
        set_mode(&path, 0o600);
        until(&server, |found| found["refused"].is_null()).await;
    });
    // A command replaces the file as a whole, so the directory decides.
    let before = read(&home);
    set_mode(&home.path(), 0o500);
    let edit = ["provider", "add", "hub", "--kind", "openai", "--base-url", "http://127.0.0.1:1/v1"];
    let refused = without_privileges(&home).args(edit).output().expect("it runs");
    set_mode(&home.path(), 0o700);
    let told = stderr(&refused);
    assert_ne!(refused.status.code(), Some(0), "{told}");
    assert!(
        told.contains(&home.path().display().to_string()) && told.contains("Permission denied"),
        "{told}"
    );
    assert_eq!(read(&home), before);
    set_mode(&path, 0o400);
    let edited = without_privileges(&home).args(edit).output().expect("it runs");
    assert!(edited.status.success(), "{}", stderr(&edited));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o400, "it stays read-only");
}

#[test]
fn a_bad_file_without_a_good_one_stops_the_start() {
    let home = Home::new();
    drop(fs::remove_dir_all(home.path().join("config-history")));
    write(&home, BAD);
    let refused = failed_start(&home, &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("dromia.yaml:2:1"), "{}", stderr(&refused));
}

/// How many of the answers to requests that were made while `edit` changed the file again and again were not good, and from
/// how many models the good ones came.
fn lost_under_edits(edit: impl Fn(&Home, u32) + Send + 'static) -> (usize, usize) {
    let model = Model::start(|name, _| {
        std::thread::sleep(Duration::from_millis(30));
        Say::Text(format!("of {name}"))
    });
    let home = Arc::new(Home::new());
    let lines = [model.alias("default"), model.alias("default").replace("model: default", "model: other")];
    write(&home, &with_models(&lines[0]));
    let server = home.serve();
    let is_done = Arc::new(AtomicBool::new(false));
    let (editing, done) = (Arc::clone(&home), Arc::clone(&is_done));
    let editor = std::thread::spawn(move || {
        let mut number = 0;
        while !done.load(Ordering::SeqCst) {
            number += 1;
            edit(&editing, number);
            std::thread::sleep(Duration::from_millis(1_100));
        }
    });
    let answers = block_on(async {
        let client = async |_: u32| {
            let mut answers = Vec::new();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(7) {
                answers.push(ask(&server).await);
            }
            answers
        };
        let (a, b, c, d) = tokio::join!(client(1), client(2), client(3), client(4));
        [a, b, c, d].concat()
    });
    is_done.store(true, Ordering::SeqCst);
    editor.join().expect("the editor ends");
    let of = |name: &str| answers.iter().any(|(_, answer)| answer.to_string().contains(name));
    let lost =
        answers.iter().filter(|(status, answer)| *status != 200 || !answer.to_string().contains("of "));
    (lost.count(), usize::from(of("of default")) + usize::from(of("of other")))
}

fn swap_model(home: &Home, number: u32) {
    let (from, to) = if number % 2 == 1 { ("default", "other") } else { ("other", "default") };
    let text = read(home).replace(&format!("model: {from}"), &format!("model: {to}"));
    let (path, new) = (home.path().join("dromia.yaml"), home.path().join("dromia.yaml.edited"));
    fs::write(&new, text).expect("is written");
    fs::rename(new, path).expect("is moved");
}

#[test]
fn an_edit_under_load_loses_nothing() {
    assert_eq!(lost_under_edits(swap_model), (0, 2));
}

/// Planted fault: every other configuration has no model of that name.
#[test]
fn a_model_that_vanishes_under_load_is_caught() {
    let (lost, _) = lost_under_edits(|home, number| {
        let text = read(home);
        let (from, to) = if number % 2 == 1 { ("  default:", "  gone:") } else { ("  gone:", "  default:") };
        write(home, &text.replace(from, to));
    });
    assert!(lost > 0, "nothing notices it");
}

#[test]
fn budgets_rights_and_limits_count_without_a_restart() {
    let home = Home::new();
    let (server, heard) = serve_heard(&home);
    let base = with_models("  default: { kind: scripted }\n");
    let budget = "tenants:\n  default:\n    budgets:\n      - { name: few, per: tenant, measure: calls, period: day, limit: \"1\" }\n";
    block_on(async {
        let (_, said) = server.event(&json!({"text": "@tool time.now {}", "wait": true})).await;
        assert!(!said.to_string().contains("denied"), "{said}");
        write(&home, &(base.clone() + "permissions: { deny: [time.now] }\n"));
        until(&server, |found| found["revision"] == 2).await;
        let (status, answer) = server.event(&json!({"text": "@tool time.now {}", "wait": true})).await;
        assert_eq!(status, 200, "{answer}");
        let run = answer["run"].as_str().expect("a run").to_owned();
        let (_, journal) = server.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
        assert!(journal.to_string().contains("denied"), "{journal:#}");

        let tool =
            "tools: { external: { bank.pay: { description: Pays., url: 'http://127.0.0.1:9/pay' } } }\n";
        write(&home, &(base.clone() + tool));
        until(&server, |found| found["revision"] == 3 && found["pending"].is_null()).await;
        assert!(server.get("/v1/tools").await.1.to_string().contains("bank.pay"));

        write(&home, &(base.clone() + budget));
        until(&server, |found| found["revision"] == 4).await;
        assert!(!server.get("/v1/tools").await.1.to_string().contains("bank.pay"), "it is gone again");
        let (_, budgets) = server.get("/v1/budgets").await;
        assert!(budgets.to_string().contains("few"), "{budgets:#}");

        write(
            &home,
            &(base.clone()
                + "limits: { token_rate_max: 1 }\nengine: { active_max: 9 }\nlisten: 127.0.0.1:9\n"),
        );
        let began = Instant::now();
        // One connection: a new one for each request would take longer than the rate gives requests.
        let client = reqwest::Client::new();
        let ask = || server.send(client.get(format!("{}/v1/whoami", server.url)).bearer_auth(&server.token));
        while ask().await.0 != 429 {
            assert!(began.elapsed() < Duration::from_secs(5), "the rate does not count");
        }
        let status = home.run(&["status", "--node", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).expect("a document");
        assert_eq!(status["config"]["pending"], json!(["engine.active_max"]), "the flag sets the address");
    });
    let status = home.run(&["status", "--node"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("engine.active_max"), "{status:?}");
    let first = home.run(&["status"]);
    assert!(String::from_utf8_lossy(&first.stdout).contains("needs a restart for edited keys"), "{first:?}");
    let heard = fs::read_to_string(heard).expect("it was kept");
    assert!(heard.contains("only at the next start") && heard.contains("engine.active_max"), "{heard}");
}

#[test]
fn the_history_shows_authors_and_goes_back() {
    let home = Home::new();
    let server = home.serve();
    let set = home.run(&["model", "set", "spare=scripted"]);
    assert!(String::from_utf8_lossy(&set.stdout).contains("within two seconds"), "{}", stderr(&set));
    block_on(until(&server, |found| found["revision"] == 2));
    let history = home.run(&["config", "history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).expect("a document");
    let newest = &history["items"][0];
    assert_eq!((&newest["revision"], &newest["current"]), (&json!(2), &json!(true)), "{history:#}");
    assert!(newest["author"].to_string().contains("models.spare"), "{history:#}");
    let dry = home.run(&["config", "revert", "1", "--dry-run"]);
    let dry = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.contains("Nothing is written") && dry.contains("models.spare.kind"), "{dry}");
    assert!(read(&home).contains("spare"));
    let difference = home.run(&["config", "diff", "1", "2", "--json"]);
    let difference: Value = serde_json::from_slice(&difference.stdout).expect("a document");
    assert_eq!(difference["items"][0]["after"], "scripted", "{difference:#}");
    assert!(home.run(&["config", "revert", "1"]).status.success());
    assert!(!read(&home).contains("spare"));
    block_on(until(&server, |found| found["revision"] == 3));
}
