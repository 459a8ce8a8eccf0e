//! Programs after something untrusted, through the real binary: one that is given no way out runs and what it leaves is as
//! little trusted as what led to it; one that is given a way out is asked about.

use serde_json::{Value, json};

use crate::approvals::{document, id, until};
use crate::egress::create;
use crate::home::{Home, Server, append, block_on, count};

/// Grants of an agent that writes, looks at names that nobody vouches for, and then runs a program.
const GRANTS: [&str; 2] = ["exec", "file.*"];

fn home(file: &str) -> Home {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), file);
    home
}

fn agent(home: &Home, name: &str, more: &[&str]) {
    let grants = [&GRANTS[..], more].concat();
    let grants: Vec<_> = grants.into_iter().map(str::to_owned).collect();
    create(home, name, &grants);
}

/// Lets an agent make calls one after the other; returns its run and its entries.
async fn turn(server: &Server, agent: &str, calls: &[(&str, Value)]) -> (String, Vec<Value>) {
    turn_of(server, agent, &typed(calls)).await
}

/// What a person types so that the scripted model makes these calls.
fn typed(calls: &[(&str, Value)]) -> String {
    let lines: Vec<_> = calls.iter().map(|(tool, arguments)| format!("@tool {tool} {arguments}")).collect();
    lines.join("\n")
}

async fn turn_of(server: &Server, agent: &str, text: &str) -> (String, Vec<Value>) {
    let event = json!({"text": text, "agent": agent, "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    (answer["run"].as_str().expect("a run").to_owned(), entries)
}

/// The entry of a kind that speaks of a call.
fn of_call<'e>(entries: &'e [Value], kind: &str, call: &str) -> Option<&'e Value> {
    entries.iter().find(|entry| entry["kind"] == kind && entry["fields"]["call"] == call)
}

fn page(home: &Home, line: &[&str]) -> String {
    String::from_utf8_lossy(&home.run(line).stdout).into_owned()
}

#[test]
fn after_untrusted_text_only_networked_programs_need_approval() {
    let home = home(
        "approvals: { unattended: [http] }\nagents:\n  open: { tools: { exec: { network: proxy } } }\n  alone: { \
         tools: { exec: { network: proxy } } }\n",
    );
    let server = home.serve();
    agent(&home, "shut", &["net:h.example"]);
    agent(&home, "open", &["net:h.example"]);
    // The operator says that there is a way out, and no grant covers a host.
    agent(&home, "alone", &[]);
    let calls = [
        ("file.write", json!({"path": "a", "content": "as I was told"})),
        ("file.list", json!({})),
        ("exec", json!({"argv": ["cp", "a", "made"]})),
        ("file.read", json!({"path": "made"})),
    ];
    for (name, network, is_inside) in
        [("shut", "none", true), ("alone", "none", true), ("open", "proxy", false)]
    {
        let (run, entries) = block_on(turn(&server, name, &calls));
        let explained = document(&home, &["policy", "explain", &run, "call_3_0"]);
        let told = page(&home, &["policy", "explain", &run, "call_3_0"]);
        let shown = document(&home, &["tool", "show", "exec", "--agent", name]);
        assert_eq!((&explained["network"], &explained["allowed"]), (&json!(network), &json!(is_inside)));
        if is_inside {
            let ended = of_call(&entries, "tool_finished", "call_3_0").expect("it ran");
            assert_eq!(ended["fields"]["status"], "ok", "{ended}");
            assert!(told.contains("inside: its program would have no network access"), "{told}");
            let read = of_call(&entries, "tool_finished", "call_4_0").expect("it is there");
            let label = read["body"]["parts"][0]["label"].as_str().unwrap_or_default();
            assert!(label.starts_with("untrusted/"), "what led to it goes with it: {read}");
        } else {
            assert_eq!(of_call(&entries, "tool_started", "call_3_0"), None);
            let rule = explained["rule"].as_str().unwrap_or_default();
            assert!(rule.starts_with("ask un"), "{explained}");
            assert!(told.contains("outside: its program would have network access"), "{told}");
        }
        assert_eq!(shown["sink"], if is_inside { "inside" } else { "outside" }, "{shown}");
    }
    let shown = page(&home, &["tool", "show", "exec", "--agent", "shut"]);
    assert!(shown.contains("inside: its programs have no network access"), "{shown}");
    assert_eq!(document(&home, &["tool", "show", "http.request"])["sink"], "outside");
    assert_eq!(document(&home, &["tool", "show", "file.delete"])["sink"], "inside");
    drop(server);
}

#[test]
fn a_default_working_directory_needs_no_approval() {
    let home = home("approvals: { unattended: [http] }\ntools: { exec: { network: proxy } }\n");
    let server = home.serve();
    agent(&home, "open", &["net:h.example", "plan.declare"]);
    let calls = [
        // Planned before anything was read; then names are read that nobody vouches for.
        ("plan.declare", json!({"tools": {"exec": {"times": 9}}})),
        ("file.write", json!({"path": "a", "content": "as I was told"})),
        ("file.list", json!({})),
        ("exec", json!({"argv": ["true"]})),
        ("exec", json!({"argv": ["true"], "cwd": "."})),
        ("exec", json!({"argv": ["true"], "cwd": "sub"})),
    ];
    // The words stand in the calls and in nothing that was typed, so nobody said them.
    let text = typed(&calls).replace("true", r"tru\u0065").replace("sub", r"su\u0062");
    let (run, _) = block_on(turn_of(&server, "open", &text));
    for (call, chosen) in [("call_4_0", "argv;"), ("call_5_0", "argv;"), ("call_6_0", "argv, cwd;")] {
        let explained = document(&home, &["policy", "explain", &run, call]);
        assert_eq!(explained["rule"], "ask unsaid-object", "{explained}");
        let why = explained["why"].as_str().unwrap_or_default();
        assert!(why.contains(&format!("somebody else may have chosen {chosen}")), "{explained}");
    }
    drop(server);
}

#[test]
fn an_approval_without_network_does_not_cover_network_access() {
    let home = home("permissions: { ask: [exec] }\napprovals: { hold_ms: 60000 }\n");
    let server = home.serve();
    agent(&home, "clerk", &["net:h.example"]);
    // A word about the tool counts whatever its programs are given.
    let task = format!("@tool exec {}", json!({"argv": ["true"]}));
    let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &task]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let approval = until(&home, |approval| approval["session"] == session.as_str());
    assert_eq!(approval["rule"], "permission", "{approval}");
    let shown = page(&home, &["approval", "show", id(&approval)]);
    for default in ["[default trusted/public]  cwd  .", "[default trusted/public]  timeout_s  60"] {
        assert!(shown.contains(default), "no model wrote what the tool takes by itself: {shown}");
    }
    assert!(!shown.contains("[default trusted/public]  argv"), "{shown}");
    server.terminate();
    append(&home.path().join("dromia.yaml"), "tools: { exec: { network: proxy } }\n");
    let server = home.serve();
    document(&home, &["approval", "approve", id(&approval)]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!(count(&entries, "tool_started"), 0, "{entries:?}");
        let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert_eq!(refused["fields"]["rule"], "approval-mismatch", "{refused}");
        assert_eq!(refused["fields"]["network"], "proxy", "it was judged anew: {refused}");
    });
    drop(server);
}

#[test]
fn the_abort_setting_stops_only_programs_with_network() {
    let home = home("irreversible: { action: abort }\ntools: { exec: { network: proxy } }\n");
    let server = home.serve();
    agent(&home, "open", &["net:h.example"]);
    agent(&home, "shut", &[]);
    for (name, is_inside) in [("open", false), ("shut", true)] {
        let (_, entries) = block_on(turn(&server, name, &[("exec", json!({"argv": ["true"]}))]));
        let refused = of_call(&entries, "tool_refused", "call_1_0");
        let rule = refused.map(|refused| &refused["fields"]["rule"]);
        assert_eq!(rule, (!is_inside).then(|| json!("policy irreversible")).as_ref(), "{entries:?}");
        assert_eq!(count(&entries, "tool_started"), usize::from(is_inside));
    }
    drop(server);
}
