//! The commands that have systemd keep a server running, against a `systemctl` that writes down what it is asked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Output;

use crate::home::{DEADLINE, Home, append, stderr};

const FAKE: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
case "$*$NO_BUS" in
*none) echo "Failed to connect to bus: No medium found" >&2; exit 1 ;;
*show*) printf 'LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=42\nNRestarts=1\n' ;;
esac
"#;

/// What has a command find this systemd, and units beside the home.
pub(crate) fn fake_systemd(home: &Home) -> Vec<(&'static str, String)> {
    let dir = home.path().with_file_name("systemd");
    fs::create_dir_all(&dir).expect("a directory");
    for program in ["systemctl", "journalctl"] {
        fs::write(dir.join(program), FAKE).expect("a program");
        fs::set_permissions(dir.join(program), fs::Permissions::from_mode(0o755)).expect("it may run");
    }
    let path = std::env::var("PATH").expect("a path");
    let text = |path: PathBuf| path.to_str().expect("the path is text").to_owned();
    vec![
        ("PATH", format!("{}:{path}", dir.display())),
        ("XDG_CONFIG_HOME", text(home.path().with_file_name("config"))),
    ]
}

fn unit(home: &Home) -> PathBuf {
    home.path().with_file_name("config").join("systemd/user/dromia.service")
}

fn calls(home: &Home) -> String {
    let path = home.path().with_file_name("systemd").join("calls");
    let calls = fs::read_to_string(&path).unwrap_or_default();
    drop(fs::remove_file(path));
    calls
}

fn run(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = home.command();
    command.arg("service").args(arguments).envs(fake_systemd(home)).env("USER", "nobody-of-this-test");
    command.envs(variables.iter().copied()).output().expect("the program runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_service_is_installed_controlled_and_removed() {
    let home = Home::new();
    let told = stdout(&run(&home, &["install"], &[]));
    let text = fs::read_to_string(unit(&home)).expect("the unit is there");
    assert!(told.contains("loginctl enable-linger nobody-of-this-test"), "{told}");
    assert!(text.contains(&format!("--home \"{}\" up", home.path().display())), "{text}");
    assert!(text.contains("TimeoutStopSec=19\n"), "the time to drain and some more: {text}");
    assert_eq!(text, stdout(&run(&home, &["install", "--print"], &[])));
    let expected =
        ["show --property=Version", "daemon-reload", "enable dromia.service", "restart dromia.service"];
    let lines = expected.map(|line| format!("systemctl --user {line}\n"));
    assert_eq!(calls(&home), lines.concat());

    let told = stdout(&run(&home, &["status"], &[]));
    assert!(told.contains("active (running)") && told.contains("42"), "{told}");
    for verb in ["start", "stop", "restart"] {
        let told = stdout(&run(&home, &[verb], &[]));
        assert_eq!(told.trim(), format!("ran systemctl --user {verb} dromia.service"));
    }
    calls(&home);
    stdout(&run(&home, &["logs", "--lines", "7"], &[]));
    assert_eq!(calls(&home), "journalctl --user --unit dromia.service --lines 7 --no-pager\n");
    stdout(&run(&home, &["uninstall"], &[]));
    assert_eq!(
        calls(&home),
        "systemctl --user disable --now dromia.service\nsystemctl --user daemon-reload\n"
    );
    assert!(!unit(&home).exists() && home.path().join("dromia.yaml").exists());
    let again = run(&home, &["start"], &[]);
    assert!(stderr(&again).contains("dromia service install"), "{}", stderr(&again));
}

#[test]
fn the_variables_of_the_configuration_reach_the_service() {
    let home = Home::new();
    append(
        &home.path().join("dromia.yaml"),
        "providers:\n  one: { kind: openai, key: 'env:ONE_KEY' }\n  two: { kind: openai, key: 'env:TWO_KEY' }\n",
    );
    let told = stdout(&run(&home, &["install"], &[("ONE_KEY", "a\"b")]));
    assert!(told.contains("ONE_KEY, TWO_KEY") && !home.path().join("service.env").exists(), "{told}");
    fs::write(home.path().join("service.env"), "OTHER=1").expect("is written");
    let told = stdout(&run(&home, &["install", "--with-env"], &[("ONE_KEY", "a\"b")]));
    assert!(told.contains("write TWO_KEY to"), "{told}");
    let file = home.path().join("service.env");
    assert_eq!(fs::read_to_string(&file).expect("is there"), "OTHER=1\nONE_KEY=\"a\\\"b\"\n");
    assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_installed_says_the_next_step() {
    let home = Home::new();
    let told = |output: &Output| {
        assert!(!output.status.success());
        stderr(output)
    };
    let none = run(&home, &["install"], &[("PATH", "/nonexistent")]);
    assert!(told(&none).contains("no systemd") && told(&none).contains("--print"), "{}", told(&none));
    let failed = run(&home, &["install"], &[("NO_BUS", "none")]);
    assert!(!unit(&home).exists(), "nothing is left behind");
    assert!(
        told(&failed).contains("connect to bus") && told(&failed).contains("--system"),
        "{}",
        told(&failed)
    );
    fs::create_dir_all(unit(&home).parent().expect("a directory")).expect("is made");
    fs::write(unit(&home), "[Unit]\n").expect("another wrote it");
    let foreign = run(&home, &["install"], &[]);
    assert!(told(&foreign).contains("another program wrote"), "{}", told(&foreign));
    let removed = run(&home, &["uninstall"], &[]);
    assert!(told(&removed).contains("another program wrote") && unit(&home).exists(), "{}", told(&removed));
    let homeless = run(&home, &["install", "--home", "/nonexistent/home"], &[]);
    assert!(told(&homeless).contains("there is no home"), "{}", told(&homeless));
}

#[test]
fn a_started_server_tells_systemd_that_it_is_ready() {
    let home = Home::new();
    let path = home.path().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let mut command = home.command();
    command.env("NOTIFY_SOCKET", &path);
    let server = home.serve_by(command);
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer).expect("it is told");
    assert_eq!(&buffer[..count], b"READY=1");
    server.tell_to_end();
    let count = socket.recv(&mut buffer).expect("it is told");
    assert_eq!(&buffer[..count], b"STOPPING=1");
    server.ended();
}
