//! Homes and configurations that cannot be served: each a clear line, the next step and its exit code.

use crate::home::{Home, append, stderr};

#[test]
fn a_home_that_is_not_there_names_init() {
    let home = Home::new();
    let output =
        home.command().args(["up", "--home", "/nonexistent/home"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("dromia init"), "{}", stderr(&output));
}

#[test]
fn an_unknown_key_is_named_with_line_column_and_suggestion() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "default_agnet: x\n");
    let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("dromia.yaml:") && text.contains("did you mean `default_agent`?"), "{text}");
}

#[test]
fn a_second_server_on_a_home_is_refused_and_names_the_first() {
    let home = Home::new();
    let server = home.serve();
    let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains(&format!("process {}", server.pid())), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_refused_with_the_way_out() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = home.run(&["up", "--listen", &address]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("--listen 127.0.0.1:0"), "{}", stderr(&output));
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let home = Home::new();
    let output = home.run(&["up", "--listen", "0.0.0.0:0"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("loopback"), "{}", stderr(&output));
}

#[test]
fn a_home_is_made_once() {
    let home = Home::new();
    let output = home.run(&["init", "--defaults", "--no-input"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("is a home already"), "{}", stderr(&output));
}

#[test]
fn a_command_without_a_server_names_up() {
    let home = Home::new();
    let output = home.run(&["ask", "hello"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("dromia up"), "{}", stderr(&output));
}
