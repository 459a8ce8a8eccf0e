//! `dromia` alone and `dromia status`: the right first step without a server, and who needs a person with one.

use std::process::Output;

use serde_json::{Value, json};

use crate::home::{Home, append, block_on, stderr};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks until the page has what is waited for.
fn page_until(home: &Home, holds: impl Fn(&Value) -> bool) -> Value {
    let until = std::time::Instant::now() + crate::home::DEADLINE;
    loop {
        let told = home.run(&["status", "--json"]);
        let page: Value = serde_json::from_slice(&told.stdout).expect("one document");
        if holds(&page) {
            return page;
        }
        assert!(std::time::Instant::now() < until, "it does not come to it: {page}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn without_a_server_the_program_names_the_first_step() {
    let home = Home::new();
    let bare = home.run(&[]);
    assert_eq!((bare.status.code(), stdout(&bare).as_str()), (Some(2), ""));
    let told = stderr(&bare);
    assert!(told.trim_end().ends_with("start it with `dromia up`."), "{told}");
    assert!(told.lines().count() <= 40, "{told}");
    let mut nowhere = home.command();
    nowhere.env("DROMIA_HOME", home.path().join("nowhere"));
    let told = stderr(&nowhere.output().expect("it runs"));
    assert!(told.trim_end().ends_with("create one with `dromia init`."), "{told}");
}

#[test]
fn the_first_screen_shows_one_tenant_and_the_operator_all() {
    let home = Home::new();
    let server = home.serve();
    let bare = home.run(&[]);
    assert!(bare.status.success(), "{}", stderr(&bare));
    assert!(
        stdout(&bare).starts_with("Needs you: nothing\nRunning: nothing\nSpent today: nothing\n"),
        "{bare:?}"
    );
    assert!(home.run(&["ask", "hello"]).status.success());
    let page = page_until(&home, |page| page["tenants"][0]["spend"]["runs"] == 1);
    assert_eq!((page["tenants"].as_array().map(Vec::len), &page["next"]), (Some(1), &Value::Null));
    let created = home.run(&["tenant", "create", "acme", "--json"]);
    let created: Value = serde_json::from_slice(&created.stdout).expect("a document");
    let token = created["token"].as_str().expect("a token");
    let ask = |path: &str| {
        block_on(async {
            let request = reqwest::Client::new().get(format!("{}{path}", server.url)).bearer_auth(token);
            server.send(request).await
        })
    };
    let (status, own) = ask("/v1/overview");
    assert_eq!((status, &own["tenants"][0]["tenant"]), (200, &json!("acme")), "{own}");
    assert_eq!(own["tenants"][0]["spend"]["runs"], 0, "what another tenant spent is not told");
    let (status, refused) = ask("/v1/overview?all=true");
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "{refused}");
    let all = stdout(&home.run(&["status", "-A"]));
    assert!(all.contains("Tenant acme\n") && all.contains("Tenant default\n"), "{all}");
    let watched = home.run(&["status", "--watch", "--json"]);
    assert_eq!(watched.status.code(), Some(2), "a watch is more than one document");
}

/// A model that does not answer has no price either: its run fails, and no amount is written for it.
#[test]
fn a_failed_run_needs_a_person_and_its_cost_is_unpriced() {
    let home = Home::new();
    let config = "models:\n  gone: { kind: openai, base_url: \"http://127.0.0.1:1/v1\", model: m }\n";
    let path = home.path().join("dromia.yaml");
    let before = std::fs::read_to_string(&path).expect("it is there");
    match before.find("models:\n") {
        Some(at) => {
            let (head, tail) = before.split_at(at);
            let entry = config.strip_prefix("models:\n").expect("it begins so");
            let tail = tail.strip_prefix("models:\n").expect("it begins so");
            std::fs::write(&path, format!("{head}models:\n{entry}{tail}")).expect("it is written");
        }
        None => append(&path, config),
    }
    let _server = home.serve();
    let made =
        home.run(&["agent", "create", "poor", "--model", "gone", "--grant", "model", "--grant", "reply"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let sent = home.run(&["event", "send", "what is due today?", "--agent", "poor"]);
    assert!(sent.status.success(), "{}", stderr(&sent));
    let page = page_until(&home, |page| {
        let tenant = &page["tenants"][0];
        !tenant["troubled"]["items"][0].is_null() || tenant["running"]["items"][0]["status"] == "parked"
    });
    assert!(page["tenants"][0]["spend"]["spent"]["unpriced_calls"].as_u64() >= Some(1), "{page}");
    let told = stdout(&home.run(&["status"]));
    assert!(told.contains("what is due today?") && told.contains("next: dromia run "), "{told}");
    assert!(told.contains("Spent today: unpriced by 1 run"), "{told}");
    let sum = stdout(&home.run(&["cost", "summary", "--by", "model"]));
    assert!(sum.contains("gone") && sum.contains("unpriced") && !sum.contains("0.000000"), "{sum}");
    let actors = stdout(&home.run(&["cost", "summary", "--by", "actor"]));
    assert!(actors.contains("cli:"), "{actors}");
    let tenants = stdout(&home.run(&["cost", "summary", "--by", "tenant"]));
    assert!(tenants.contains("default"), "{tenants}");
}
