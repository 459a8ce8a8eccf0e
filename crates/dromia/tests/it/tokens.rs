//! Tokens of a tenant through the real binary: made on the command line, used over HTTP, taken back.

use serde_json::{Value, json};

use crate::home::{Home, Server, block_on, stderr};

/// Runs a command that succeeds and prints one document.
#[track_caller]
fn document(home: &Home, line: &[&str]) -> Value {
    let output = home.run(line);
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("a document")
}

fn text<'a>(document: &'a Value, field: &str) -> &'a str {
    document[field].as_str().unwrap_or_else(|| panic!("no {field} in {document}"))
}

async fn get(server: &Server, path: &str, token: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(format!("{}{path}", server.url)).bearer_auth(token);
    server.send(request).await
}

async fn say(server: &Server, token: &str) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}/v1/events", server.url)).bearer_auth(token);
    server.send(request.json(&json!({"text": "hello", "wait": true}))).await
}

#[test]
fn a_read_token_cannot_write_and_ends_when_revoked() {
    let home = Home::new();
    let server = home.serve();
    let line = ["token", "create", "metrics", "--scope", "read", "--expires", "30d", "--json"];
    let created = document(&home, &line);
    let (token, id) = (text(&created, "token"), text(&created, "id"));
    assert_eq!((&created["scopes"], text(&created, "state")), (&json!(["read"]), "active"));
    assert!(created["expires_at"].is_string(), "{created}");
    block_on(async {
        let (status, agents) = get(&server, "/v1/agents", token).await;
        assert_eq!((status, text(&agents["items"][0], "handle")), (200, "assistant"));
        let (status, problem) = say(&server, token).await;
        assert_eq!((status, text(&problem, "code")), (403, "forbidden"), "{problem}");
        assert!(text(&problem, "detail").contains("`invoke`"), "{problem}");
        let way_out = "dromia --tenant default token create NAME --scope invoke";
        assert!(text(&problem, "hint").contains(way_out), "{problem}");
        let (_, who) = get(&server, "/v1/whoami", token).await;
        let told = [text(&who, "actor"), text(&who, "credential"), text(&who, "tenant_handle")];
        assert_eq!(told, ["token:metrics", "token", "default"]);
        assert_eq!((text(&who, "token"), &who["expires_at"]), (id, &created["expires_at"]));
    });
    assert_eq!(text(&document(&home, &["token", "revoke", "metrics", "--json"]), "state"), "revoked");
    let refused = |server: &Server| {
        let (status, problem) = block_on(get(server, "/v1/agents", token));
        assert_eq!((status, text(&problem, "code")), (401, "unauthorized"), "{problem}");
        assert!(text(&problem, "hint").contains("token create NAME"), "{problem}");
    };
    refused(&server);
    assert_eq!(text(&document(&home, &["token", "rm", id, "--json"]), "id"), id, "again, and by id");
    server.terminate();
    let server = home.serve();
    refused(&server);
    let listed = home.run(&["tokens", "ls"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let states: Vec<_> =
        listed.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let of = |name: &str| states.iter().find(|cells| cells[0] == name).map(|cells| (cells[1], cells[2]));
    assert_eq!(
        (of("init"), of("metrics")),
        (Some(("admin", "active")), Some(("read", "revoked"))),
        "{listed}"
    );
    assert!(!listed.contains("drm_"), "{listed}");
    let missing = home.run(&["token", "revoke", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        stderr(&missing).contains("hint: list the tokens with `dromia token list`"),
        "{}",
        stderr(&missing)
    );
}

#[test]
fn a_new_token_is_printed_alone_with_default_scopes() {
    let home = Home::new();
    let server = home.serve();
    let output = home.run(&["token", "create", "laptop"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let token = printed.strip_suffix('\n').expect("a line");
    assert!(token.starts_with("drm_") && token.bytes().all(|b| b.is_ascii_graphic()), "{printed:?}");
    let notice = stderr(&output);
    assert!(
        notice.contains("laptop (tok_") && notice.contains("): read, invoke; does not expire"),
        "{notice}"
    );
    assert!(notice.contains("copy the token now") && !notice.contains(token), "{notice}");
    block_on(async {
        let (status, answer) = say(&server, token).await;
        assert_eq!((status, text(&answer, "status")), (200, "completed"), "{answer}");
        assert_eq!(get(&server, "/v1/runs", token).await.0, 200);
        let run = format!("{}/v1/runs/{}/cancel", server.url, text(&answer, "run"));
        let cancel = reqwest::Client::new().post(run).bearer_auth(token);
        assert_eq!(server.send(cancel).await.0, 403);
    });
    let long = "x".repeat(65);
    for name in ["", "two words", "a/b", "tok_00000000000000000000000000000000", long.as_str()] {
        let output = home.run(&["token", "create", name]);
        assert_eq!(output.status.code(), Some(2), "{name:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("1 to 64 visible ASCII characters"),
            "{name:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_tenant_with_a_lost_token_gets_another_by_socket() {
    let home = Home::new();
    let server = home.serve();
    document(&home, &["tenant", "create", "acme", "--json"]);
    // The request of which nobody heard, sent again, names the way.
    let again = home.run(&["tenant", "create", "acme"]);
    assert_eq!(again.status.code(), Some(6), "{}", stderr(&again));
    let way_out = "dromia --tenant acme token create NAME --scope admin";
    assert!(stderr(&again).contains(&format!("`{way_out}`")), "{}", stderr(&again));
    let line: Vec<_> = way_out.split(' ').skip(1).map(|word| word.replace("NAME", "admin")).collect();
    let line: Vec<_> = line.iter().map(String::as_str).chain(["--json"]).collect();
    let created = document(&home, &line);
    let who = document(&home, &["whoami", "--tenant", "acme", "--json"]);
    assert_eq!((text(&who, "credential"), text(&who, "tenant_handle")), ("socket", "acme"));
    block_on(async {
        let http = reqwest::Client::new().post(format!("{}/v1/agents", server.url));
        let new = json!({"handle": "ops", "config": {"model": "default"}});
        let (status, agent) = server.send(http.bearer_auth(text(&created, "token")).json(&new)).await;
        assert_eq!((status, text(&agent, "handle")), (201, "ops"), "{agent}");
        let (_, told) = get(&server, "/v1/whoami", text(&created, "token")).await;
        assert_eq!((&told["tenant"], text(&told, "actor")), (&who["tenant"], "token:admin"));
    });
    assert_eq!(home.run(&["token", "revoke", "admin"]).status.code(), Some(1), "it is of another tenant");
}
