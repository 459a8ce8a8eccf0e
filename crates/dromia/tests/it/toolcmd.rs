//! `dromia tool` and the flags of tools through the real binary: what the file says is what programs get, what the gate
//! judges, and what is shown.

use serde_json::{Value, json};

use crate::egress::{ask, create, hello};
use crate::home::{Home, Server, append, block_on, count, stderr};

/// More memory than 64 MiB and less than the default: `tail` keeps the one endless line.
const HOG: &str = "head -c 150000000 /dev/zero | tail > /dev/null && echo fits";

fn home(file: &str) -> Home {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), file);
    home
}

fn grants(grants: &[&str]) -> Vec<String> {
    grants.iter().map(|grant| (*grant).to_owned()).collect()
}

/// Calls a tool and returns the entry that ended the call.
async fn ended(server: &Server, agent: &str, tool: &str, arguments: Value) -> Value {
    let event = json!({"text": format!("@tool {tool} {arguments}"), "agent": agent, "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let ends = |entry: &Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
    entries.into_iter().find(ends).expect("the call has a result")
}

fn text(entry: &Value) -> String {
    let parts = entry["body"]["parts"].as_array().expect("parts");
    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

fn document(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("a document")
}

#[test]
fn an_agents_limits_apply_to_its_programs_and_are_shown() {
    let home = home(
        "tools: { exec: { time_limit: 20s } }\nagents:\n  small: { tools: { exec: { mem_limit: 64MiB, time_limit: 1s, disk_quota: 4MiB } } }\n",
    );
    let server = home.serve();
    for name in ["small", "large"] {
        create(&home, name, &grants(&["shell.execute"]));
    }
    block_on(async {
        let hog = json!({ "command": HOG });
        let large = text(&ended(&server, "large", "shell.execute", hog.clone()).await);
        assert!(large.starts_with("[exit code 0; ") && large.ends_with("fits\n"), "{large}");
        assert!(
            large.contains("[limits: 20 s, 80 s of processors, 1 GiB of memory, 1 GiB on disk]"),
            "{large}"
        );
        let small = ended(&server, "small", "shell.execute", hog).await;
        assert_eq!(small["fields"]["status"], "error", "{small}");
        let small = text(&small);
        assert!(!small.contains("fits"), "{small}");
        assert!(
            small.contains("[limits: 1 s, 4 s of processors, 64 MiB of memory, 4 MiB on disk]"),
            "{small}"
        );

        let asleep = json!({"command": "sleep 15; echo late", "timeout_s": 20});
        let small = text(&ended(&server, "small", "shell.execute", asleep).await);
        assert!(small.contains("its limit of time") && !small.contains("late\n"), "{small}");
        let fills = json!({"command": "head -c 8000000 /dev/zero > file && echo fits"});
        let small = text(&ended(&server, "small", "shell.execute", fills).await);
        assert!(!small.contains("fits\n"), "{small}");
    });
    let shown = document(&home, &["tool", "show", "shell.execute", "--agent", "small"]);
    assert_eq!(shown["limits"]["memory_bytes"], json!(64 << 20), "{shown}");
    assert_eq!((&shown["limits"]["wall_ms"], &shown["granted"]["allowed"]), (&json!(1_000), &json!(true)));
    let all = document(&home, &["tool", "show", "shell.execute"]);
    assert_eq!(all["limits"]["memory_bytes"], json!(1 << 30), "{all}");
    let page = home.run(&["tool", "show", "shell.execute", "--agent", "small"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("1 s of time, 4 s of processors, 64 MiB of memory"), "{page}");
}

#[test]
fn a_privileged_tool_needs_the_operator_and_refusals_are_counted() {
    let home = home("tools: { privileged: [exec] }\nagents: { chief: { tools: { privileged: [exec] } } }\n");
    let server = home.serve();
    for name in ["chief", "clerk"] {
        create(&home, name, &grants(&["exec"]));
    }
    let refused = home.run(&["agent", "create", "thief", "--grant", "exec", "--grant", "privileged:exec"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("in dromia.yaml"), "{}", stderr(&refused));
    let metrics = block_on(async {
        let arguments = json!({"argv": ["true"]});
        let clerk = ended(&server, "clerk", "exec", arguments.clone()).await;
        assert_eq!(
            (&clerk["kind"], &clerk["fields"]["rule"]),
            (&json!("tool_refused"), &json!("privileged"))
        );
        let chief = ended(&server, "chief", "exec", arguments).await;
        assert_eq!((&chief["kind"], &chief["fields"]["status"]), (&json!("tool_finished"), &json!("ok")));
        let asked = reqwest::Client::new().get(format!("{}/metrics", server.url)).bearer_auth(&server.token);
        asked.send().await.expect("the server answers").text().await.expect("a text")
    });
    for line in [
        r#"dromia_tool_seconds_count{tool="exec",outcome="done"} 1"#,
        r#"dromia_tool_seconds_count{tool="exec",outcome="failed"} 0"#,
        r#"dromia_tool_refusals_total{tool="exec",reason="denied"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for (agent, allowed, rule) in [("chief", true, "grant exec"), ("clerk", false, "privileged")] {
        let listed = document(&home, &["tool", "list", "--agent", agent]);
        let items = listed["items"].as_array().expect("rows");
        let exec = items.iter().find(|tool| tool["name"] == "exec").expect("it is there");
        assert_eq!(exec["granted"], json!({"allowed": allowed, "rule": rule}), "{exec}");
        assert_eq!(exec["privileged"], true);
    }
    drop(server);
}

#[test]
fn only_the_configured_agent_reaches_the_hosts_of_the_file() {
    let (port, _heard) = hello();
    let home = home(&format!(
        "egress: {{ private_tools: ['127.0.0.0/8'] }}\nagents: {{ scout: {{ tools: {{ net: ['127.0.0.1:{port}'] }} }} }}\n"
    ));
    let server = home.serve();
    for name in ["scout", "other"] {
        create(&home, name, &grants(&["http.request"]));
    }
    let urls = [format!("http://127.0.0.1:{port}/")];
    block_on(async {
        let reached = ask(&server, "scout", &urls).await;
        assert!(text(&reached[0]).starts_with("[200; 5 bytes]"), "{}", reached[0]);
        let rule = format!("grant net:127.0.0.1:{port}");
        assert_eq!(
            reached[0]["fields"]["egress"][0]["rule"],
            json!(rule),
            "the journal says what let it out"
        );
        let refused = ask(&server, "other", &urls).await;
        assert_eq!(refused[0]["fields"]["status"], "denied", "{}", refused[0]);
    });
    let shown = document(&home, &["tool", "show", "http.request", "--agent", "scout"]);
    assert_eq!(shown["net"], json!([format!("127.0.0.1:{port}")]), "{shown}");
}

#[test]
fn tool_show_names_reachable_hosts_and_their_grants() {
    let home = home("tools: { exec: { network: proxy }, net: ['crates.io'] }\n");
    let server = home.serve();
    create(&home, "dev", &grants(&["exec", "shell.execute", "net.read:docs.rs"]));
    let network = |line: &[&str]| document(&home, &[&["tool", "show"][..], line].concat())["network"].clone();
    assert_eq!(network(&["exec"]), json!({"way": "proxy"}), "of an agent of whom nothing is said");
    let both = json!({"way": "proxy", "grants": ["net.read:docs.rs", "net:crates.io"]});
    assert_eq!(network(&["exec", "--agent", "dev"]), both);
    assert_eq!(network(&["shell.execute", "--agent", "dev"]), both, "it runs programs too");
    assert_eq!(network(&["file.read", "--agent", "dev"]), Value::Null, "it runs no program");
    let page = home.run(&["tool", "show", "exec", "--agent", "dev"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("the guarded proxy, to hosts in net.read:docs.rs, net:crates.io"), "{page}");
    drop(server);
}

#[test]
fn a_proxy_without_a_usable_grant_is_shown_as_none() {
    let home = home("tools: { exec: { network: proxy } }\n");
    let server = home.serve();
    create(&home, "dev", &grants(&["exec"]));
    let shown = document(&home, &["tool", "show", "exec", "--agent", "dev"]);
    assert_eq!(shown["network"], json!({"way": "none"}), "{shown}");
    drop(server);
}

#[test]
fn tool_test_needs_no_server_and_names_each_fix() {
    let home = Home::new();
    let before = std::fs::read_dir(home.path()).expect("a home").count();
    let tested = document(&home, &["tool", "test"]);
    let items = tested["items"].as_array().expect("rows");
    assert!(items.len() >= 10, "{tested:#}");
    for tool in items {
        assert_eq!((&tool["ok"], &tool["problem"]), (&json!(true), &Value::Null), "{tool}");
    }
    assert_eq!(std::fs::read_dir(home.path()).expect("a home").count(), before, "nothing of it was touched");
    assert!(!home.path().join("agents").exists(), "no workspace was made");

    // Where nothing can be written, the file tools say so.
    let output = home.command().args(["tool", "test", "file.write"]).env("TMPDIR", "/proc/nowhere").output();
    let output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("name another directory with TMPDIR"), "{}", stderr(&output));
    let unknown = home.run(&["tool", "test", "file.raed"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("did you mean `file.read`?"), "{}", stderr(&unknown));
    let absent = home.run(&["tool", "list"]);
    assert_eq!(absent.status.code(), Some(5), "{}", stderr(&absent));
}

#[test]
fn an_invalid_configuration_stops_the_tool_test_with_its_place() {
    let wrong = home("tools:\n  exec: { mem_limit: 16 }\n");
    let refused = wrong.run(&["tool", "test"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("tools.exec.mem_limit: \"16\" is not a size"), "{}", stderr(&refused));
}

/// The kinds of the entries of a session's one run.
fn kinds(entries: &[Value]) -> Vec<&str> {
    entries.iter().filter_map(|entry| entry["kind"].as_str()).collect()
}

#[test]
fn a_manual_tool_call_is_a_run_without_a_model() {
    let home = home("permissions: { ask: [file.append] }\napprovals: { hold_ms: 0 }\n");
    let server = home.serve();
    create(&home, "dev", &grants(&["file.*"]));
    let call = |tool: &str, data: &str| home.run(&["tool", "call", tool, "--agent", "dev", "-d", data]);
    let wrote = call("file.write", r#"{"path":"a.txt","content":"hi there"}"#);
    assert!(wrote.status.success(), "{}", stderr(&wrote));
    assert_eq!(String::from_utf8_lossy(&wrote.stdout), "wrote 8 bytes\n");
    let read = document(&home, &["tool", "call", "file.read", "--agent", "dev", "-d", r#"{"path":"a.txt"}"#]);
    assert_eq!(read["result"], json!({"status": "ok", "text": "hi there"}), "{read}");
    let session = read["session"].as_str().expect("a session").to_owned();
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    assert_eq!(
        kinds(&entries),
        ["run_started", "call_asked", "tool_started", "tool_finished", "run_completed"]
    );
    let (_, runs) = block_on(server.get(&format!("/v1/runs?session={session}")));
    assert_eq!(runs["items"][0]["model_calls"], 0, "{runs}");
    // The conversation goes on from there, and a model is asked again.
    let more = home.run(&["ask", "hello", "--session", &session]);
    assert!(more.status.success(), "{}", stderr(&more));

    let denied = call("exec", r#"{"argv":["true"]}"#);
    assert_eq!(denied.status.code(), Some(4), "{}", stderr(&denied));
    assert!(String::from_utf8_lossy(&denied.stdout).contains("is not granted the tool"));
    let waits = call("file.append", r#"{"path":"b.txt","content":"x"}"#);
    assert_eq!(waits.status.code(), Some(124), "{}", stderr(&waits));
    assert!(stderr(&waits).contains("waits for a person"), "{}", stderr(&waits));
    let wrong = call("file.read", r#"{"pth":"a.txt"}"#);
    assert_eq!(wrong.status.code(), Some(1), "{}", stderr(&wrong));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("unknown field `pth`"));
    create(&home, "maker", &grants(&["exec"]));
    let long = r#"{"argv":["true"],"timeout_s":700}"#;
    let long = home.run(&["tool", "call", "exec", "--agent", "maker", "-d", long]);
    assert_eq!(long.status.code(), Some(1), "{}", stderr(&long));
    assert!(
        String::from_utf8_lossy(&long.stdout)
            .contains("timeout_s: 700 seconds are more than the 600 allowed"),
        "{long:?}"
    );
    assert_eq!(call("file.raed", "{}").status.code(), Some(1), "there is no such tool");
    assert_eq!(call("file.read", "[]").status.code(), Some(2), "arguments are an object");
}

#[test]
fn a_manual_tool_call_runs_once_across_a_crash() {
    let home = home("");
    let server = home.serve();
    create(&home, "dev", &grants(&["shell.execute"]));
    let path = "/v1/agents/dev/tools/shell.execute/call";
    let body = json!({"arguments": {"command": "echo x >> times; sleep 20"}, "wait_ms": 1});
    let asked = |server: &Server| {
        let request = reqwest::Client::new().post(format!("{}{path}", server.url));
        request.bearer_auth(&server.token).header("idempotency-key", "once").json(&body)
    };
    let (status, accepted) = block_on(async { server.send(asked(&server)).await });
    assert_eq!(status, 202, "{accepted}");
    let session = accepted["session"].as_str().expect("a session").to_owned();
    let began = |entries: &[Value]| count(entries, "tool_started") == 1;
    block_on(server.journal_until(&session, began));
    server.kill();
    let server = home.serve();
    let ended = |entries: &[Value]| count(entries, "run_completed") == 1;
    let entries = block_on(server.journal_until(&session, ended));
    let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("it has a result");
    assert_eq!(finished["fields"]["status"], "unknown", "{finished}");
    assert_eq!(count(&entries, "tool_started"), 1, "it is not made again by itself");
    let (status, again) = block_on(async { server.send(asked(&server)).await });
    assert_eq!((status, &again["result"]["status"]), (200, &json!("unknown")), "the same key, the same call");
    assert_eq!(again["session"], json!(session));
}
