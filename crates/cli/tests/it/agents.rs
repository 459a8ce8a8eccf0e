//! Changes of agents as the command line sends them.

use dromia_cli::CommandExit;
use serde_json::{Value, json};

use crate::server::{Asked, Server};

const ID: &str = "agt_0199c0de000070008000000000000000";

fn agent(revision: u64, model: &str) -> String {
    json!({
        "id": ID, "handle": "ops", "display_name": "Ops", "labels": {"team": "a"},
        "created_at": "2026-01-02T03:04:05Z", "state": "running", "revision": revision,
        "config": {"model": model, "instructions": "Be kind.", "grants": ["model", "exec"]},
    })
    .to_string()
}

/// A server whose agent is changed by whatever is sent.
fn served(asked: &Asked, _: usize) -> (u16, String) {
    if asked.line.starts_with("PATCH") { (200, agent(2, "fast")) } else { (200, agent(1, "default")) }
}

fn problem(status: u16, code: &str) -> (u16, String) {
    let problem = json!({
        "type": "about:blank", "title": "", "status": status, "code": code, "detail": "it is at revision 2",
        "request_id": "req_1",
    });
    (status, problem.to_string())
}

/// What the last request says.
fn last_body(server: &Server) -> Value {
    let asked = server.asked.lock().unwrap();
    serde_json::from_str(&asked.last().expect("a request").body).expect("JSON")
}

#[tokio::test]
async fn a_setting_is_sent_as_a_patch_of_what_was_seen() {
    let server = Server::new(served);
    let line = ["agent", "set", "ops", "model=fast", "grants+=net:h,exec", "grants-=model", "labels-=team"];
    let ended = server.run(&[&line[..], &["model_calls_max=", "description=@@home"]].concat()).await;
    assert_eq!(ended.exit, CommandExit::Done, "{}", ended.err);
    assert!(ended.out.starts_with("ops is at revision 2: changed model\n"), "{}", ended.out);
    let body = json!({
        "labels": {"team": null},
        "config": {"model": "fast", "grants": ["exec", "net:h"], "model_calls_max": null, "description": "@home"},
    });
    assert_eq!(last_body(&server), body);
    let asked = server.asked.lock().unwrap().last().cloned().expect("a request");
    assert_eq!((asked.expected.as_deref(), asked.key.as_deref()), (Some("\"1\""), Some("key-1-1")));
    assert_eq!(asked.line, format!("PATCH /v1/agents/{ID}"));
}

#[tokio::test]
async fn a_setting_is_made_again_after_a_race() {
    let server = Server::new(|asked, before| {
        if asked.line.starts_with("PATCH") && before < 3 {
            problem(412, "version_conflict")
        } else {
            served(asked, before)
        }
    });
    let ended = server.run(&["agent", "set", "ops", "model=fast"]).await;
    assert_eq!(ended.exit, CommandExit::Done, "{}", ended.err);
    let patches = server.lines().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 2);
}

#[tokio::test]
async fn a_wrong_setting_is_refused_before_it_is_sent() {
    let server = Server::new(served);
    for (setting, says) in [
        ("grants-=nope", "ops has no grant \"nope\"; it has model exec"),
        ("model_calls_max=many", "model_calls_max is a whole number"),
        ("labels+=team", "a label is NAME=VALUE"),
        ("instructions=@/nowhere/at/all", "failed to read the value of instructions in /nowhere/at/all"),
    ] {
        let ended = server.run(&["agent", "set", "ops", setting]).await;
        assert!(ended.exit != CommandExit::Done && ended.err.contains(says), "{setting}: {}", ended.err);
    }
    let large = server.home.path().join("large.md");
    std::fs::write(&large, "x".repeat(65 * 1024)).unwrap();
    let ended = server.run(&["agent", "set", "ops", &format!("instructions=@{}", large.display())]).await;
    assert!(ended.err.contains("has 66560 bytes; a value has at most 65536"), "{}", ended.err);
    assert!(server.lines().iter().all(|line| line.starts_with("GET")), "{:?}", server.lines());
}

#[tokio::test]
async fn an_edit_reopens_with_the_error_and_sends_one_change() {
    let server = Server::new(served);
    let edits = "model: default=>modle: fast\n# ERROR: agent 1: there is no key \"modle\"; did you mean \"model\"?=>\n";
    let ended = server.typed(&["agent", "edit", "ops"], edits, true).await;
    assert!(ended.err.contains("did you mean"), "closed without a correction: {}", ended.err);
    assert_eq!(server.lines().len(), 1, "nothing was sent");
    let ended =
        server.typed(&["agent", "edit", "ops"], "model: default=>modle: fast\nmodle=>model\n", true).await;
    assert_eq!(ended.exit, CommandExit::Done, "{}", ended.err);
    assert!(ended.out.starts_with("ops is at revision 2"), "{}", ended.out);
    assert_eq!(last_body(&server)["config"]["model"], "fast");
    let ended = server.typed(&["agent", "edit", "ops"], "", true).await;
    assert_eq!(ended.out, "no change; ops is at revision 1\n");
    let ended = server.run(&["agent", "edit", "ops"]).await;
    assert!(ended.err.contains("there is no terminal for an editor"), "{}", ended.err);
}

#[tokio::test]
async fn an_edit_that_lost_a_race_shows_its_text_and_the_agent_as_it_is() {
    let server = Server::new(|asked, before| {
        if asked.line.starts_with("PATCH") { problem(412, "version_conflict") } else { served(asked, before) }
    });
    let ended = server.typed(&["agent", "edit", "ops"], "model: default=>model: fast\n", true).await;
    assert!(ended.exit != CommandExit::Done && ended.err.contains("model: fast"), "{}", ended.err);
    let (mine, now) = ended.err.split_once("the agent as it is now:").expect("both are shown");
    assert!(mine.contains("model: fast") && now.contains("model: default"), "{}", ended.err);
}
