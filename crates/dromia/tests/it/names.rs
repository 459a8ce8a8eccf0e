//! Names in dromia.yaml that nothing has: told by `config validate`, by `doctor` and at the start, with the place and the
//! name that was meant; and nothing is refused for them.

use std::fs::File;

use serde_json::Value;

use crate::home::{Home, append, stderr};
use crate::schema::mismatch;
use crate::tree::published;

/// The rows that keep nothing from anybody.
const ROWS: &str = "agents: { asistant: { permissions: { deny: [file.write] } } }\n\
                    approvals: { unattended: [webhok], approvers: [bob, 'cli:0'] }\n\
                    tenants: { default: { budgets: [{ name: a, per: agent, of: asistent, measure: calls, period: day, limit: \"5\" }, \
                    { name: b, per: actor, of: 'token:inti', measure: calls, period: day, limit: \"5\" }] } }\n";

#[test]
fn validate_warns_of_names_that_are_unknown_without_a_store() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), ROWS);
    let output = home.run(&["config", "validate"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stderr(&output);
    let place = told.lines().find(|line| line.contains("approvals.unattended.0")).expect("it is told");
    assert!(place.starts_with("warning: ") && place.contains("dromia.yaml:"), "{told}");
    assert!(place.ends_with("did you mean `webhook`?"), "{told}");
    assert!(told.contains("approvals.approvers.0: there is no actor `bob`"), "{told}");
    // Whether an agent is there, the file does not say.
    assert!(!told.contains("asistant"), "{told}");
    let output = home.run(&["config", "validate", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(mismatch(&published("config validate"), &document), None, "{document}");
    let counts = (document["valid"].as_bool(), document["warnings"].as_array().map(Vec::len));
    assert_eq!(counts, (Some(true), Some(2)), "{document}");
}

#[test]
fn the_doctor_and_the_start_check_names_in_the_store() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), ROWS);
    let meant = [
        "agents.asistant: the tenant default has no agent `asistant`; did you mean `assistant`?",
        "tenants.default.budgets.0: the tenant default has no agent `asistent`; did you mean `assistant`?",
        "tenants.default.budgets.1: there is no active token `inti`; did you mean `init`?",
        "approvals.unattended.0: ",
    ];
    let looked = |by: &str| {
        let output = home.run(&["doctor", "--only", "config.names"]);
        assert!(output.status.success(), "a warning is no error: {}", stderr(&output));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        for says in meant {
            assert!(told.contains(says), "{by}: {says}: {told}");
        }
        assert!(!told.contains("approvers.1"), "{by}: {told}");
    };
    looked("the store at rest");
    let log = home.path().join("log");
    let mut command = home.command();
    command.stderr(File::create(&log).expect("is made"));
    let server = home.serve_by(command);
    looked("the server");
    server.terminate();
    let said = std::fs::read_to_string(&log).expect("the log");
    for says in meant {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(said.contains("a name that matches nothing"), "{said}");
}

#[test]
fn known_names_cause_no_warning() {
    let home = Home::new();
    append(
        &home.path().join("dromia.yaml"),
        "agents: { assistant: { permissions: { deny: [file.write] } } }\n\
         approvals: { unattended: [webhook], approvers: ['token:tok_00000000000000000000000000000000', 'cli:0'] }\n",
    );
    let output = home.run(&["config", "validate"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let log = home.path().join("log");
    let mut command = home.command();
    command.stderr(File::create(&log).expect("is made"));
    home.serve_by(command).terminate();
    let said = std::fs::read_to_string(&log).expect("the log");
    assert!(!said.contains("a name that matches nothing"), "{said}");
}
