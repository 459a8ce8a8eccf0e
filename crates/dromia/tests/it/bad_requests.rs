//! Requests that cannot be served, through the real binary: each a typed problem with the next step, nothing
//! written, and a server that goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, append, block_on, stderr};

/// A run id that no server minted.
const NO_RUN: &str = "run_00000000000000000000000000000000";

fn post(server: &Server) -> reqwest::RequestBuilder {
    reqwest::Client::new().post(format!("{}/v1/events", server.url)).bearer_auth(&server.token)
}

/// Checks status, code and that the caller learns what to do: from the detail's place or from the hint.
#[track_caller]
fn refused((status, problem): &(u16, Value), expected: u16, code: &str, says: &str) {
    assert_eq!((*status, problem["code"].as_str()), (expected, Some(code)), "{problem}");
    let text = format!("{} {}", problem["detail"], problem["hint"]);
    assert!(text.contains(says), "{says:?} is not in {problem}");
    assert!(problem["request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{problem}");
    assert!(!text.contains("/tmp") && !text.contains("SELECT"), "{problem} tells of the machine");
}

/// How many batches the store was given, or rows it wrote.
async fn counted(server: &Server, what: &str) -> u64 {
    server.get("/v1/status").await.1["store"][what].as_u64().expect("a count")
}

#[test]
fn an_invalid_request_body_is_refused_and_writes_nothing() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let before = counted(&server, "batches").await;
        for (body, says) in [
            (&b"{\n\"text\": }"[..], "line 2 column 9"),
            (b"{\"text\":\"\xff\xfe\"}", "line 1 column"),
            (b"", "the body is empty"),
            (b" []", "it is not a JSON object, at line 1 column 2"),
            (b"{\"text\":\"x\",\"agnet\":\"y\"}", "unknown field `agnet`, expected one of"),
            (b"{\"text\":7}", "line 1 column 9"),
            (b"{\"text\":\"\"}", "`text` is empty"),
        ] {
            let answer = server.send(post(&server).body(body.to_vec())).await;
            refused(&answer, 400, "invalid_request", says);
        }
        let deep = "[".repeat(4_000);
        let answer = server.send(post(&server).body(deep)).await;
        refused(&answer, 400, "invalid_request", "line 1 column");
        assert_eq!(counted(&server, "batches").await, before, "a refused body reached the store");
    });
}

/// Sends bytes and returns everything that comes back until the server closes.
fn raw(server: &Server, request: &[u8]) -> String {
    let address = server.url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.write_all(request).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers and closes");
    answer
}

#[test]
fn a_body_past_its_limit_is_refused_announced_or_not() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "limits: { body_bytes_max: 4096 }\n");
    let server = home.serve();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nconnection: close\r\n",
        server.token
    );
    let announced = raw(&server, format!("{head}content-length: 999999\r\n\r\n").as_bytes());
    let body = "x".repeat(5_000);
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for answer in [announced, raw(&server, chunked.as_bytes())] {
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("body_too_large") && answer.contains("limits.body_bytes_max"), "{answer}");
    }
    assert!(block_on(server.event(&json!({"text": "still here", "wait": true}))).0 == 200);
}

#[test]
fn a_missing_resource_is_not_found_with_a_hint() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let answer = server.event(&json!({"text": "hi", "agent": "nobody"})).await;
        refused(&answer, 404, "agent_not_found", "GET /v1/agents");
        let answer =
            server.event(&json!({"text": "hi", "session": "ses_00000000000000000000000000000000"})).await;
        refused(&answer, 404, "session_not_found", "GET /v1/sessions");
        for path in ["", "/journal", "/why"] {
            let answer = server.get(&format!("/v1/runs/{NO_RUN}{path}")).await;
            refused(&answer, 404, "run_not_found", "GET /v1/runs");
        }
        refused(&server.get("/v1/runs/run_7").await, 400, "invalid_request", "run_ followed by");
        refused(&server.get("/v1/moon").await, 404, "route_not_found", "/openapi.json");
        refused(&server.get("/v1/runs?limit=0").await, 400, "invalid_request", "from 1 to 256");
        refused(&server.get("/v1/runs?stauts=x").await, 400, "invalid_request", "stauts");
    });
    let output = home.run(&["ask", "hi", "--agent", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("hint: list the agents"), "{}", stderr(&output));
    assert!(home.run(&["tenant", "create", "acme"]).status.success());
    let output = home.run(&["-T", "acme", "ask", "hi"]);
    let text = stderr(&output);
    assert!(text.contains("`dromia -T acme agent "), "{text}");
    let output = home.run(&["-T", "nobody", "ask", "hi"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("dromia tenant list"), "{}", stderr(&output));
}

#[test]
fn an_invalid_token_is_refused_before_the_body_is_read() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let url = format!("{}/v1/events", server.url);
        let http = reqwest::Client::new();
        let missing = server.send(http.post(&url).body("{")).await;
        refused(&missing, 401, "unauthorized", "Authorization: Bearer TOKEN");
        let wrong = format!("drm_{}", "0".repeat(64));
        let (wrong, long) = (format!("Bearer {wrong}"), "x".repeat(4_000));
        for garbage in ["Bearer", "Bearer ", "Basic abc", wrong.as_str(), long.as_str()] {
            let answer = server.send(http.post(&url).header("authorization", garbage).body("{")).await;
            refused(&answer, 401, "unauthorized", "`token`");
        }
        let two = http.post(&url).bearer_auth(&server.token).bearer_auth(&server.token).body("{");
        refused(&server.send(two).await, 401, "unauthorized", "more than one token");
        let operator = server.get("/v1/tenants").await;
        refused(&operator, 403, "forbidden", "`dromia` command on the server's machine");
    });
}

#[test]
fn an_idempotency_key_refuses_another_body_and_joins_the_same() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let keyed = |body: Value| server.send(post(&server).header("idempotency-key", "k-1").json(&body));
        let (status, first) = keyed(json!({"text": "one", "wait": true})).await;
        assert_eq!(status, 200, "{first}");
        let (_, again) = keyed(json!({"text": "one", "wait": true})).await;
        assert_eq!(
            (&again["item"], &again["run"], &again["replayed"]),
            (&first["item"], &first["run"], &json!(true))
        );
        let before = counted(&server, "rows").await;
        refused(&keyed(json!({"text": "two"})).await, 409, "idempotency_conflict", "use a new key");
        let session = first["session"].as_str().expect("a session");
        let (_, session) = server.get(&format!("/v1/sessions/{session}")).await;
        assert_eq!(counted(&server, "rows").await, before, "a refused key wrote something");
        assert_eq!(session["waiting"], 0, "{session}");
        let long = "k".repeat(600);
        for bad in ["", long.as_str()] {
            let answer =
                server.send(post(&server).header("idempotency-key", bad).json(&json!({"text": "x"}))).await;
            refused(&answer, 400, "invalid_request", "Idempotency-Key");
        }
    });
}

#[test]
fn a_future_cursor_is_refused_in_pages_and_streams() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let (_, answer) = server.event(&json!({"text": "hi", "wait": true})).await;
        let path = format!("/v1/runs/{}/journal", answer["run"].as_str().expect("a run"));
        let page = server.get(&format!("{path}?after=999")).await;
        refused(&page, 400, "cursor_in_future", "the last entry is 4");
        refused(&page, 400, "cursor_in_future", "continue after the last entry");
        let url = format!("{}{path}", server.url);
        let stream =
            reqwest::Client::new().get(url).bearer_auth(&server.token).header("accept", "text/event-stream");
        refused(&server.send(stream.header("last-event-id", "999")).await, 400, "cursor_in_future", "999");
        refused(&server.get(&format!("{path}?after=-1")).await, 400, "invalid_request", "after");
    });
}

#[test]
fn ending_an_ended_run_is_refused_and_writes_nothing() {
    let home = Home::new();
    let server = home.serve();
    let run = block_on(async {
        let (_, answer) = server.event(&json!({"text": "hi", "wait": true})).await;
        let run = answer["run"].as_str().expect("a run").to_owned();
        let before = counted(&server, "batches").await;
        for verb in ["cancel", "terminate"] {
            let post = reqwest::Client::new().post(format!("{}/v1/runs/{run}/{verb}", server.url));
            let answer = server.send(post.bearer_auth(&server.token)).await;
            refused(&answer, 409, "run_terminal", "is already completed, so this request changed nothing");
        }
        assert_eq!(counted(&server, "batches").await, before, "a signal was stored for nobody");
        run
    });
    let output = home.run(&["run", "cancel", &run]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains(&format!("hint: see how it ended with `dromia run show {run}`")));
    let output = home.run(&["run", "resume", &run]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("only a yielded or held run"), "{}", stderr(&output));
}

#[test]
fn a_tenant_comes_with_its_token_in_one_commit() {
    let home = Home::new();
    let server = home.serve();
    // Once there are two tenants, only the operator sees what the whole node did.
    let batches = || {
        let status = home.run(&["status", "--node", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).expect("a document");
        status["store"]["batches"].as_u64().expect("a count")
    };
    let before = batches();
    let created = home.run(&["tenant", "create", "acme", "--json"]);
    let created: Value = serde_json::from_slice(&created.stdout).expect("a document");
    assert_eq!(batches(), before + 1, "a crash between two commits leaves a tenant without a token");
    let token = created["token"].as_str().expect("a token");
    let (status, agents) = block_on(async {
        let agents = reqwest::Client::new().get(format!("{}/v1/agents", server.url)).bearer_auth(token);
        server.send(agents).await
    });
    assert_eq!((status, &agents["items"]), (200, &json!([])));
    let again = home.run(&["tenant", "create", "acme"]);
    assert_eq!(again.status.code(), Some(6));
    assert!(stderr(&again).contains("choose another handle"), "{}", stderr(&again));
}

#[test]
fn state_is_listed_in_pages_and_bounded_in_number() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let (_, answer) = server.event(&json!({"text": "hi", "wait": true})).await;
        let base = format!("/v1/sessions/{}/state", answer["session"].as_str().expect("a session"));
        let http = reqwest::Client::new();
        let put = |name: String| {
            let put = http.put(format!("{}{base}/{name}", server.url)).bearer_auth(&server.token);
            server.send(put.json(&json!({"name": name})))
        };
        for number in 0..256 {
            assert_eq!(put(format!("n{number:03}")).await.0, 200);
        }
        refused(&put("more".to_owned()).await, 400, "invalid_request", "at most 256 state entries");
        assert_eq!(put("n007".to_owned()).await.1["version"], 2);
        let mut seen = Vec::new();
        let mut path = format!("{base}?limit=100");
        loop {
            let (_, page) = server.get(&path).await;
            let items = page["items"].as_array().cloned().expect("a page");
            assert!(items.len() <= 100);
            seen.extend(items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("{base}?limit=100&after={next}");
        }
        assert!(seen.iter().eq(&(0..256).map(|number| format!("n{number:03}")).collect::<Vec<_>>()));
    });
}
