//! The doctor and the page to paste, on homes of the real binary.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::home::{Home, append, stderr};

fn report(home: &Home, arguments: &[&str], exit: i32) -> Value {
    let output = home.run(&[&["doctor", "--json"][..], arguments].concat());
    assert_eq!(output.status.code(), Some(exit), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("one document")
}

fn severity<'report>(report: &'report Value, id: &str) -> &'report str {
    let mut items = report["items"].as_array().expect("items").iter();
    let found = items.find(|item| item["id"] == id).unwrap_or_else(|| panic!("no {id} in {report:#}"));
    found["severity"].as_str().expect("a severity")
}

/// Every file below a directory with its length and time.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).expect("is listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let meta = std::fs::metadata(&path).expect("is there");
            found.insert(format!("{} {} {:?}", path.display(), meta.len(), meta.modified().ok()));
        }
    }
    found
}

#[test]
fn doctor_leaves_a_home_at_rest_unchanged() {
    let home = Home::new();
    let before = files(&home.path());
    let report = report(&home, &[], 0);
    assert_eq!(files(&home.path()), before, "a look changes nothing");
    let items = report["items"].as_array().expect("items");
    assert!(items.len() >= 20, "{} checks", items.len());
    for item in items {
        assert_eq!(item["fix"].is_null(), item["severity"] == "ok", "{item}");
    }
    assert_eq!(severity(&report, "server.answers"), "warning");
    assert_eq!(severity(&report, "config.default_agent"), "ok");
    assert_eq!(severity(&report, "store.integrity"), "ok");
}

#[test]
fn a_served_home_is_examined_through_its_server() {
    let home = Home::new();
    let server = home.serve();
    let groups = ["server", "store", "config", "runs"].map(|group| ["--only", group]).concat();
    let served = report(&home, &groups, 0);
    for id in [
        "server.answers",
        "server.version",
        "server.port",
        "store.opens",
        "config.default_agent",
        "runs.held",
    ] {
        assert_eq!(severity(&served, id), "ok", "{id}");
    }
    // It was told another port than the one that is written.
    let items = served["items"].as_array().expect("items");
    let port = items.iter().find(|item| item["id"] == "server.port").expect("it is looked at");
    assert!(port["message"].as_str().is_some_and(|text| text.contains(&server.url)), "{port}");
    let status = home.run(&["status", "--node"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains(&server.url), "{status:?}");
    let (_, seen) = crate::home::block_on(server.get("/v1/status"));
    assert!(seen["listening"].is_null(), "a token of one tenant is not told: {seen}");
    drop(server);
    let only = report(&home, &["--only", "disk", "--only", "store.log"], 0);
    let ids: Vec<_> = only["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
    assert_eq!(ids, ["disk.space", "disk.inodes", "disk.kind", "store.log"]);
}

#[test]
fn doctor_exits_1_and_names_fixes_for_a_ruined_home() {
    let home = Home::new();
    std::fs::write(home.path().join("store/dromia.db"), "x".repeat(9_000)).expect("is written");
    append(&home.path().join("dromia.yaml"), "tools: { paec_ms: 1 }\n");
    let report = report(&home, &["--only", "config", "--only", "store"], 1);
    for id in ["config.valid", "store.opens", "store.integrity"] {
        assert_eq!(severity(&report, id), "error", "{id}");
    }
    let text = home.run(&["doctor", "--only", "config.valid"]);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(text.contains("did you mean `pace_ms`?") && text.contains("fix: "), "{text}");
    let refused = home.run(&["doctor", "--only", "sotre"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let nowhere = ["doctor", "--home", "/nowhere/at/all", "--only", "home"];
    let nowhere = home.command().args(nowhere).output().expect("it runs");
    assert_eq!(nowhere.status.code(), Some(1), "{}", stderr(&nowhere));
    assert!(String::from_utf8_lossy(&nowhere.stdout).contains("`dromia --home /nowhere/at/all init`"));
}

/// Secrets as they are planted, each in a place of its own.
const PLANTED: [&str; 7] = [
    "sk-planted-0123456789",
    "planted-in-a-variable",
    "planted-by-reference",
    "planted-password",
    "planted-signature",
    "planted-literal",
    "planted-header",
];

#[test]
fn the_full_status_page_holds_no_secret() {
    let home = Home::new();
    let good = "models:\n  default: { kind: scripted }\n  other:\n    kind: openai\n    model: m\n    \
                base_url: http://ada:planted-password@127.0.0.1:9/v1?sig=planted-signature\n    key: env:MY_REFERENCE\n";
    let bad = "models:\n  default: { kind: scripted }\nkey: planted-literal\nheaders: { x: planted-header }\n\
               note: sk-planted-0123456789\n";
    let mut pages = Vec::new();
    for written in [good, bad, "listen: \"sk-planted-0123456789\"\n"] {
        std::fs::write(home.path().join("dromia.yaml"), written).expect("is written");
        for more in [&[][..], &["--json"]] {
            let mut command = home.command();
            command.env("OPENAI_API_KEY", PLANTED[0]).env("DROMIA_SOME_TOKEN", PLANTED[1]);
            command.env("MY_REFERENCE", PLANTED[2]).env("LANG", "C.UTF-8");
            let output = command.args(["status", "--all"]).args(more).output().expect("the program runs");
            let page = String::from_utf8(output.stdout).expect("the page is text");
            assert!(page.contains("configuration"), "{page}, {}", String::from_utf8_lossy(&output.stderr));
            for secret in PLANTED.iter().copied().chain([home.token_path().as_str()]) {
                assert!(!page.contains(secret), "{secret} is shown:\n{page}");
            }
            if more.is_empty() {
                assert!(page.contains("OPENAI_API_KEY=(redacted)"), "that it is set is told:\n{page}");
                pages.push(page);
            }
        }
    }
    let configuration = pages[0].split("# configuration\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    insta::assert_snapshot!(configuration.unwrap_or_default(), @r#"
    {
      "models": {
        "default": {
          "kind": "scripted"
        },
        "other": {
          "base_url": "http://(redacted)@127.0.0.1:9/v1?(redacted)",
          "key": "env:MY_REFERENCE",
          "kind": "openai",
          "model": "m"
        }
      }
    }
    "#);
}
