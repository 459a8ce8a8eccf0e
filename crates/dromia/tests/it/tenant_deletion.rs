//! A tenant that is deleted, through the real binary: it is gone from lists, files and audit, and its neighbour works on.

use std::path::Path;

use serde_json::Value;

use crate::approvals::document;
use crate::home::{Home, Server, append, block_on, stderr};

/// Makes a tenant with an agent that answered once and holds a file. Returns its token and its agent.
fn used_tenant(home: &Home, name: &str) -> (String, String) {
    let created = document(home, &["tenant", "create", name]);
    let of = |line: &[&str]| document(home, &[line, &["--tenant", name]].concat());
    let agent =
        of(&["agent", "create", "worker", "--grant", "model", "--grant", "reply", "--grant", "file.*"]);
    let said = "@tool file.append {\"path\":\"log\",\"content\":\"kept\"}\n@say done";
    let answer = of(&["ask", "--agent", "worker", said]);
    assert_eq!(answer["status"], "completed", "{answer}");
    of(&["token", "create", "second", "--scope", "read"]);
    of(&["budget", "set", "daily", "--measure", "calls", "--limit", "100"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&created["token"]), text(&agent["id"]))
}

/// What the server answers a token.
fn whoami(server: &Server, token: &str) -> u16 {
    block_on(async {
        let asked = reqwest::Client::new().get(format!("{}/v1/whoami", server.url)).bearer_auth(token);
        server.send(asked).await.0
    })
}

/// Whether a directory of the home has an entry with a name, at any depth.
fn has_entry(directory: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    let mut entries = entries.map(|entry| entry.expect("is listed").path());
    entries.any(|path| path.file_name().is_some_and(|found| found == name) || has_entry(&path, name))
}

fn refused(home: &Home, line: &[&str], code: i32, words: &[&str]) {
    let output = home.run(line);
    assert_eq!(output.status.code(), Some(code), "{line:?}: {}", stderr(&output));
    for word in words {
        assert!(stderr(&output).contains(word), "{line:?} misses {word}: {}", stderr(&output));
    }
}

fn checked_clean(home: &Home) {
    let verified = document(home, &["audit", "verify"]);
    assert_eq!(verified["ok"], true, "{verified}");
    let doctor = home.run(&["doctor", "--only", "store"]);
    assert!(doctor.status.success(), "{}{}", String::from_utf8_lossy(&doctor.stdout), stderr(&doctor));
}

#[test]
fn a_deleted_tenant_is_gone_and_its_neighbour_works_on() {
    let home = Home::new();
    let server = home.serve();
    let (gone, agent) = used_tenant(&home, "acme");
    let (kept, _) = used_tenant(&home, "zenith");
    let id = document(&home, &["tenant", "show", "acme"])["tenant"]["id"].as_str().expect("an id").to_owned();
    assert!(has_entry(&home.path(), &agent), "the agent has a home");

    refused(&home, &["tenant", "delete", "acme"], 2, &["--yes"]);
    refused(&home, &["tenant", "delete", "acme", "--yes"], 6, &["dromia tenant suspend acme"]);
    refused(&home, &["tenant", "delete", "nobody", "--yes"], 1, &["dromia tenant list"]);
    document(&home, &["tenant", "suspend", "default"]);
    refused(
        &home,
        &["tenant", "delete", "default", "--yes"],
        2,
        &["the server itself uses the tenant default"],
    );
    document(&home, &["tenant", "resume", "default"]);
    document(&home, &["tenant", "suspend", "acme"]);
    assert_eq!((whoami(&server, &gone), whoami(&server, &kept)), (200, 200));

    let deleted = document(&home, &["tenant", "delete", "acme", "--yes"]);
    assert_eq!(deleted["id"], id.as_str(), "{deleted}");
    let erased = &deleted["erased"];
    assert_eq!((&erased["agents"], &erased["of_agents"]["runs"]), (&1.into(), &1.into()), "{deleted}");
    assert!(erased["of_agents"]["files"].as_u64() > Some(0), "{deleted}");
    assert_eq!((whoami(&server, &gone), whoami(&server, &kept)), (401, 200));
    let listed = document(&home, &["tenant", "list"]).to_string();
    assert!(!listed.contains("acme") && listed.contains("zenith"), "{listed}");
    refused(&home, &["tenant", "show", "acme"], 1, &["dromia tenant list"]);
    refused(&home, &["tenant", "delete", "acme", "--yes"], 1, &["there is no such tenant"]);
    for name in [&id, &agent] {
        assert!(!has_entry(&home.path(), name), "{name} is left below the home");
    }
    let answer = document(&home, &["ask", "--agent", "worker", "hello", "--tenant", "zenith"]);
    assert_eq!(answer["status"], "completed", "{answer}");
    checked_clean(&home);

    server.terminate();
    checked_clean(&home);

    // A file that still names it keeps no server down, and doctor says so. The handle is free.
    let budget = "{ name: few, per: tenant, measure: calls, period: day, limit: \"9\" }";
    append(&home.path().join("dromia.yaml"), &format!("tenants: {{ acme: {{ budgets: [{budget}] }} }}\n"));
    let server = home.serve();
    assert_eq!((whoami(&server, &gone), whoami(&server, &kept)), (401, 200));
    let doctor = home.run(&["doctor", "--only", "config"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("tenants.acme"), "{said}{}", stderr(&doctor));
    let (again, _) = used_tenant(&home, "acme");
    assert_eq!((whoami(&server, &gone), whoami(&server, &again)), (401, 200));
    server.terminate();
    checked_clean(&home);
}
