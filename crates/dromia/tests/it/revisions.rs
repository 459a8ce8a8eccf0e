//! Agents that are changed, through the real binary: while a run goes on, over a kill, in a race, and from files.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, block_on, count, stderr};

/// A home with two models.
fn new_home() -> Home {
    let home = Home::new();
    let config = home.path().join("dromia.yaml");
    let text = fs::read_to_string(&config).expect("the configuration");
    let default = "  default: { kind: scripted }";
    assert!(text.contains(default), "{text}");
    fs::write(&config, text.replace(default, &format!("  fast: {{ kind: scripted }}\n{default}")))
        .expect("it is written");
    home
}

fn told(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

fn write(path: &str) -> String {
    format!("@tool file.write {}", json!({"path": path, "content": path}))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

/// The aliases that the model calls of a run asked.
fn asked_models(entries: &[Value]) -> Vec<&str> {
    let called = entries.iter().filter(|entry| entry["kind"] == "model_called");
    called.map(|entry| text(&entry["fields"], "model")).collect()
}

fn spawn_between_calls(home: &Home, server: &Server) -> String {
    let task = format!("{}\n@slow 6000\n{}\n@say done", write("a"), write("b"));
    let spawned = told(home, &["agent", "spawn", "scribe", "--task", &task]);
    let session = text(&spawned, "session").to_owned();
    block_on(server.journal_until(&session, |entries| count(entries, "tool_finished") == 1));
    session
}

#[test]
fn a_run_keeps_its_model_and_loses_grants_at_once() {
    let home = new_home();
    let server = home.serve();
    create(&home, "scribe", &["file.*".to_owned()]);
    let session = spawn_between_calls(&home, &server);
    let changed =
        told(&home, &["agent", "set", "scribe", "model=fast", "grants-=file.*", "grants+=time.now"]);
    assert_eq!((&changed["changed"], &changed["fields"]), (&json!(true), &json!(["model", "grants"])));
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    let refused: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "tool_refused").collect();
    assert_eq!(refused.len(), 1, "{entries:?}");
    assert_eq!(refused[0]["fields"]["rule"], "default deny", "{refused:?}");
    assert!(asked_models(&entries).iter().all(|model| *model == "default"), "{:?}", asked_models(&entries));
    let next = told(&home, &["agent", "spawn", "scribe", "--task", "@say hi", "--wait"]);
    let entries = block_on(
        server.journal_until(text(&next, "session"), |entries| count(entries, "run_completed") == 1),
    );
    assert!(asked_models(&entries).iter().all(|model| *model == "fast"), "{:?}", asked_models(&entries));
    let acts = told(&home, &["audit", "query", "--kind", "agent_revised"]);
    let act = &acts["items"][0];
    assert_eq!((text(act, "actor"), text(act, "what")), ("cli:0", "model grants +time.now -file.*"));
    drop(server);
    let verified = home.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{}{}", String::from_utf8_lossy(&verified.stdout), stderr(&verified));
}

#[test]
fn a_widening_reaches_no_run_that_was_taken_over() {
    let home = new_home();
    let server = home.serve();
    create(&home, "scribe", &["time.now".to_owned()]);
    let task = format!("@tool time.now {{}}\n@slow 4000\n{}\n@say done", write("b"));
    let spawned = told(&home, &["agent", "spawn", "scribe", "--task", &task]);
    let session = text(&spawned, "session").to_owned();
    block_on(server.journal_until(&session, |entries| count(entries, "tool_finished") == 1));
    told(&home, &["agent", "set", "scribe", "model=fast", "grants+=file.*"]);
    server.kill();
    let server = home.serve();
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    assert_eq!(count(&entries, "tool_refused"), 1, "the grant came after the run began: {entries:?}");
    assert!(asked_models(&entries).iter().all(|model| *model == "default"), "{:?}", asked_models(&entries));
    drop(server);
}

/// Sends a change over HTTP.
fn patch(server: &Server, agent: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    block_on(async {
        let mut request = reqwest::Client::new()
            .patch(format!("{}/v1/agents/{agent}", server.url))
            .bearer_auth(&server.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        server.send(request.json(body)).await
    })
}

#[test]
fn a_change_of_an_old_revision_shows_both() {
    let home = new_home();
    let server = home.serve();
    create(&home, "scribe", &[]);
    let first = [("if-match", "\"1\"")];
    let (status, changed) = patch(&server, "scribe", &first, &json!({"config": {"model": "fast"}}));
    assert_eq!((status, &changed["revision"]), (200, &json!(2)), "{changed}");
    let (status, late) = patch(&server, "scribe", &first, &json!({"config": {"description": "late"}}));
    assert_eq!((status, text(&late, "code")), (412, "version_conflict"), "{late}");
    let said = text(&late, "detail");
    assert!(
        said.contains("revision 2 (model; by token:") && said.contains("expects revision 1 (created"),
        "{said}"
    );
    let keyed = [("idempotency-key", "k1")];
    let body = json!({"config": {"description": "once"}});
    for _ in 0..2 {
        let (status, changed) = patch(&server, "scribe", &keyed, &body);
        assert_eq!((status, &changed["revision"]), (200, &json!(3)), "{changed}");
    }
    let (status, other) = patch(&server, "scribe", &keyed, &json!({"config": {"description": "twice"}}));
    assert_eq!((status, text(&other, "code")), (409, "idempotency_conflict"), "{other}");
    let long = "x".repeat(65 * 1024);
    for (body, says) in [
        (json!({"modle": "fast"}), "unknown field `modle`"),
        (json!({"config": {"modle": "fast"}}), "unknown field `modle`"),
        (json!({"config": {"grants": "exec"}}), "expected a sequence"),
        (json!({"config": {"model": null}}), "expected a string"),
        (json!({"config": {"model": "nope"}}), "there is no model \"nope\""),
        (json!({"config": {"instructions": long}}), "at most 65536 are allowed"),
        (json!({"display_name": " "}), "`display_name` must be"),
        (json!([]), "it is not a JSON object"),
    ] {
        let (status, refused) = patch(&server, "scribe", &[], &body);
        assert_eq!(status, 400, "{refused}");
        assert!(text(&refused, "detail").contains(says), "{refused}");
    }
    let (status, _) = patch(&server, "scribe", &[("if-match", "soon")], &json!({}));
    assert_eq!(status, 400);
    let (status, missing) = patch(&server, "stranger", &[], &json!({}));
    assert_eq!((status, text(&missing, "code")), (404, "agent_not_found"));
    let (status, page) = block_on(server.get("/v1/agents/scribe/revisions?limit=2"));
    assert_eq!((status, &page["items"][0]["number"], &page["next"]), (200, &json!(3), &json!("2")), "{page}");
    let (status, old) = block_on(server.get("/v1/agents/scribe/revisions/1"));
    assert_eq!((status, &old["config"]["model"]), (200, &json!("default")), "{old}");
    let (status, none) = block_on(server.get("/v1/agents/scribe/revisions/9"));
    assert_eq!((status, text(&none, "code")), (404, "revision_not_found"));
    told(&home, &["agent", "terminate", "scribe", "--yes"]);
    let (status, ended) = patch(&server, "scribe", &[], &json!({"config": {"model": "default"}}));
    assert_eq!((status, text(&ended, "code")), (409, "agent_terminated"), "{ended}");
    drop(server);
}

/// Runs a command that reads a text.
fn fed(home: &Home, line: &[&str], text: &str) -> Output {
    let mut command = home.command();
    command.args(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it is read");
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_file_creates_changes_and_leaves_agents_as_they_are() {
    let home = new_home();
    let server = home.serve();
    let file = "name: ops\nmodel: default\ngrants: [model, reply]\n---\nname: dev\ninstructions: |\n  Be kind.\n  Ask.\n";
    let apply = |more: &[&str], text: &str| {
        let output = fed(&home, &[&["agent", "apply", "-f", "-"], more].concat(), text);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    };
    let (code, out, err) = apply(&["--dry-run"], file);
    assert!(code == Some(0) && out.contains("ops would be created"), "{out}{err}");
    assert_eq!(told(&home, &["agent", "list"])["items"].as_array().map(Vec::len), Some(1));
    let (_, out, err) = apply(&[], file);
    assert_eq!(out, "ops created (revision 1)\ndev created (revision 1)\n", "{err}");
    let (_, out, _) = apply(&[], file);
    assert_eq!(out, "ops unchanged (revision 1)\ndev unchanged (revision 1)\n");
    let (_, out, err) = apply(&[], &file.replace("model: default", "model: fast"));
    assert_eq!(out, "ops changed (revision 2)\ndev unchanged (revision 1)\n", "{err}");
    let shown = home.run(&["agent", "show", "dev", "--yaml"]);
    let (_, out, err) = apply(&[], &String::from_utf8_lossy(&shown.stdout));
    assert_eq!(out, "dev unchanged (revision 1)\n", "{err}");
    let (code, _, err) = apply(&[], "name: ops\nmodle: fast\n");
    assert!(code == Some(2) && err.contains("did you mean \"model\"?"), "{err}");
    let (code, _, err) = apply(&["--prune"], file);
    assert!(code == Some(2) && err.contains("confirm with --yes"), "{err}");
    let (_, out, err) = apply(&["--prune", "--yes"], file);
    assert!(out.contains("assistant deleted"), "{out}{err}");
    let output = home.run(&["agent", "revert", "ops", "1"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("no change"), "the file went back already");
    told(&home, &["agent", "rename", "ops", "servers"]);
    create(&home, "ops", &[]);
    let taken = home.run(&["agent", "rename", "dev", "ops"]);
    assert!(stderr(&taken).contains("already exists"), "{}", stderr(&taken));
    drop(server);
}
