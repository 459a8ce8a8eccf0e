//! Programs of agents, through the real binary: they reach nothing of the home that serves them, and die with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::home::{DEADLINE, Home, Server, block_on, count, stderr};

/// A home with an agent that may run programs.
pub(crate) fn home() -> Home {
    let home = Home::new();
    let server = home.serve();
    let grants = ["model", "reply", "exec", "shell.execute"].map(|grant| ["--grant", grant]).concat();
    let created = home.run(&[&["agent", "create", "dev"][..], &grants].concat());
    assert!(created.status.success(), "{}", stderr(&created));
    drop(server);
    home
}

fn asks(tool: &str, arguments: &serde_json::Value) -> serde_json::Value {
    json!({"text": format!("@tool {tool} {arguments}"), "agent": "dev"})
}

/// Calls a tool and returns all that it told.
pub(crate) async fn told(server: &Server, tool: &str, arguments: serde_json::Value) -> String {
    let mut event = asks(tool, &arguments);
    event["wait"] = json!(true);
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let finished =
        entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("the call has a result");
    let parts = finished["body"]["parts"].as_array().expect("parts");
    parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// The workspace of the one agent that has one.
pub(crate) fn workspace(home: &Home) -> Option<PathBuf> {
    let mut agents = std::fs::read_dir(home.path().join("agents")).ok()?;
    Some(agents.next()?.ok()?.path().join("workspace"))
}

#[test]
fn a_program_reaches_nothing_of_the_home_that_serves_it() {
    let home = home();
    let server = home.serve();
    let place = home.path().display().to_string();
    let secret = home.token_path();
    block_on(async {
        let script = format!(
            "echo mine > file; id -u; cat {place}/token; ls {place}; cat /proc/*/environ; env; ls -a /; rm -rf --no-preserve-root / 2>/dev/null; echo done"
        );
        let said = told(&server, "shell.execute", json!({"command": script})).await;
        assert!(said.starts_with("[exit code 0; ") && said.contains("done\n"), "{said}");
        assert!(said.contains("\n1000\n"), "{said}");
        assert!(
            !said.contains(&secret) && !said.contains("DROMIA_HOME") && !said.contains("dromia.yaml"),
            "{said}"
        );
        let argv = json!({"argv": ["/usr/bin/printf", "%s", "$HOME; echo x"]});
        let said = told(&server, "exec", argv).await;
        assert!(said.ends_with("$HOME; echo x"), "{said}");
    });
    assert_eq!(home.token_path(), secret, "the home is as it was");
    assert!(home.path().join("dromia.yaml").is_file() && PathBuf::from("/usr/bin/env").is_file());
}

#[test]
fn a_program_of_a_hostile_tenant_runs_in_a_guest() {
    let home = home();
    let config = home.path().join("dromia.yaml");
    let text = std::fs::read_to_string(&config).expect("init wrote it");
    std::fs::write(&config, format!("{text}\ntenants:\n  default: {{ trust: hostile }}\n"))
        .expect("it is written");
    let server = home.serve();
    let (place, secret) = (home.path().display().to_string(), home.token_path());
    let said = block_on(async {
        let script = format!("cat {place}/token {place}/dromia.yaml; cat /proc/*/environ; env; echo here");
        let (status, answer) = server.event(&asks("shell.execute", &json!({"command": script}))).await;
        assert_eq!(status, 202, "{answer}");
        let session = answer["session"].as_str().expect("a session");
        // Two guests begin one after the other, the first to see whether one does.
        let is_over = |entries: &[serde_json::Value]| count(entries, "tool_finished") == 1;
        let entries = server.journal_within(DEADLINE * 2, session, is_over).await;
        entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("it was waited for").to_string()
    });
    assert!(said.contains("[exit code 0; gvisor; ran ") && said.contains("here"), "{said}");
    assert!(!said.contains(&secret) && !said.contains("trust: hostile"), "{said}");
}

#[test]
fn a_program_dies_with_a_server_that_is_killed() {
    let home = home();
    let server = home.serve();
    let script = "touch started; (setsid sh -c 'sleep 2; touch late' &) ; sleep 2; touch late";
    let (status, answer) = block_on(server.event(&asks("shell.execute", &json!({"command": script}))));
    assert_eq!(status, 202, "{answer}");
    let until = Instant::now() + DEADLINE;
    while !workspace(&home).is_some_and(|workspace| workspace.join("started").exists()) {
        assert!(Instant::now() < until, "the program does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.kill();
    std::thread::sleep(Duration::from_secs(3));
    let late = workspace(&home).expect("it is there").join("late");
    assert!(!late.exists(), "a process of the tool outlived the server");
}

/// Root's processes are held by other means than everybody's, so the walls are tried as both.
#[test]
fn nothing_escapes_an_ordinary_user_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir.path(), everybody).expect("everybody may use it");
    let program = dir.path().join("dromia");
    std::fs::copy(env!("CARGO_BIN_EXE_dromia"), &program).expect("it is copied");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command
    } else {
        std::process::Command::new(&program)
    };
    let output = command
        .args(["sandbox", "test", "--backend", "native/strict", "--json"])
        .env("TMPDIR", dir.path())
        .env("DROMIA_HOME", dir.path().join("home"))
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let tested = &found["backends"][0];
    assert_eq!((&tested["escaped"], &tested["hole_found"]), (&json!(0), &json!(true)), "{tested}");
    assert!(tested["held"].as_u64() >= Some(60), "{found:#}");
}
