//! Tools that a client declares, against the real binary: called, answered with and without a session, beside the
//! agent's own, refused, repeated, and over a kill.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{CHAT, Given, MESSAGES, RESPONSES, give, post, saying, text};
use crate::home::{DEADLINE, Home, Server, block_on, count};
use crate::model::{Model, Say};

const SCRIPT: &str = "@tool weather {\"city\":\"Bonn\"}\n@say it is known";

/// A request of each API that says one thing and declares tools.
fn declaring(path: &str, says: &str, names: &[&str]) -> Value {
    let schema = json!({"type": "object"});
    let tool = |name: &&str| match path {
        CHAT => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
        MESSAGES => json!({"name": name, "input_schema": schema}),
        _ => json!({"type": "function", "name": name, "parameters": schema}),
    };
    let mut body = saying(path, says);
    body["tools"] = names.iter().map(tool).collect();
    body
}

/// The calls of a whole answer: their ids, tools and arguments.
fn calls(path: &str, answer: &Value) -> Vec<(String, String, Value)> {
    let (list, tool, id) = match path {
        CHAT => (&answer["choices"][0]["message"]["tool_calls"], "/function/name", "/id"),
        MESSAGES => (&answer["content"], "/name", "/id"),
        _ => (&answer["output"], "/name", "/call_id"),
    };
    let text = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let read = |call: &Value| {
        let arguments = match path {
            CHAT => text(call, "/function/arguments").and_then(|text| serde_json::from_str(&text).ok())?,
            MESSAGES => call.get("input")?.clone(),
            _ => text(call, "/arguments").and_then(|text| serde_json::from_str(&text).ok())?,
        };
        Some((text(call, id)?, text(call, tool)?, arguments))
    };
    list.as_array().map(|list| list.iter().filter_map(read).collect()).unwrap_or_default()
}

/// The results of calls, as a request of each API that goes on in a session.
fn results(path: &str, results: &[(&str, &str)]) -> Value {
    let list = |make: &dyn Fn(&str, &str) -> Value| -> Value {
        results.iter().map(|(id, text)| make(id, text)).collect()
    };
    match path {
        CHAT => json!({"model": "assistant", "messages":
            list(&|id, text| json!({"role": "tool", "tool_call_id": id, "content": text}))}),
        MESSAGES => json!({"model": "assistant", "max_tokens": 64, "messages": [{"role": "user", "content":
            list(&|id, text| json!({"type": "tool_result", "tool_use_id": id, "content": text}))}]}),
        _ => json!({"model": "assistant", "input":
            list(&|id, text| json!({"type": "function_call_output", "call_id": id, "output": text}))}),
    }
}

async fn answer(server: &Server, path: &str, session: &str, given: &[(&str, &str)]) -> Given {
    give(post(server, path, &results(path, given)).header("x-dromia-session", session)).await
}

async fn journal(server: &Server, run: &str) -> Vec<Value> {
    let (_, page) = server.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
    page["entries"].as_array().cloned().unwrap_or_default()
}

async fn turns(server: &Server, session: &str) -> Vec<Value> {
    let (_, transcript) = server.get(&format!("/v1/sessions/{session}/transcript")).await;
    transcript["turns"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_client_calls_result_continues_the_session_in_every_api() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        for path in [CHAT, RESPONSES, MESSAGES] {
            let first = give(post(&server, path, &declaring(path, SCRIPT, &["weather"]))).await;
            assert_eq!(first.status, 200, "{path}: {}", first.body);
            let asked = calls(path, &first.json());
            let id = format!("{}_1_0", first.run);
            assert_eq!(asked, [(id.clone(), "weather".to_owned(), json!({"city": "Bonn"}))], "{path}");
            let entries = journal(&server, &first.run).await;
            let kinds: Vec<_> = entries.iter().filter_map(|entry| entry["kind"].as_str()).collect();
            assert_eq!(
                kinds,
                ["run_started", "model_called", "model_replied", "tool_handed", "run_completed"],
                "{path}"
            );
            let open = turns(&server, &first.session).await;
            assert_eq!(open[1]["handed"][0]["id"], json!(id), "{open:?}");
            let (_, why) = server.get(&format!("/v1/runs/{}/why", first.run)).await;
            let waits = why["waits_for"].as_str().unwrap_or_default();
            assert!(waits.contains(&format!("weather ({id})")), "{why}");

            let second = answer(&server, path, &first.session, &[(&id, "rain")]).await;
            assert_eq!((second.status, &second.session), (200, &first.session), "{path}: {}", second.body);
            assert_eq!(text(path, &second.json()), "it is known");
            assert_ne!(second.run, first.run);
            let closed = turns(&server, &first.session).await;
            assert_eq!(closed.len(), 4, "{closed:?}");
            assert_eq!(
                (&closed[1]["calls"][0]["result"], &closed[1]["calls"][0]["status"]),
                (&json!("rain"), &json!("ok"))
            );
            assert_eq!((&closed[2]["results"], &closed[2]["text"]), (&json!(1), &json!("")));
        }
    });
}

#[test]
fn a_client_sent_history_with_results_needs_no_session() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let mut body = declaring(CHAT, SCRIPT, &["weather"]);
        body["stream"] = json!(true);
        let stream = give(post(&server, CHAT, &body)).await;
        assert!(stream.body.contains("\"finish_reason\":\"tool_calls\""), "{}", stream.body);
        assert!(stream.body.contains(&format!("{}_1_0", stream.run)), "{}", stream.body);
        let function = json!({"name": "weather", "arguments": "{\"city\":\"Bonn\"}"});
        body["messages"] = json!([
            {"role": "user", "content": SCRIPT},
            {"role": "assistant", "content": null, "tool_calls":
                [{"id": "mine", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "mine", "content": "rain"},
        ]);
        body["stream"] = json!(false);
        let told = give(post(&server, CHAT, &body)).await;
        assert_eq!(text(CHAT, &told.json()), "it is known");
        assert_ne!(told.session, stream.session, "a request without a session has one of its own");
    });
}

#[test]
fn the_agents_own_calls_of_an_answer_run_first() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let script = "@tool weather {} &\n@tool time.now {} &\n@tool mcp.sky {}\n@say all known";
        let body = declaring(CHAT, script, &["weather", "mcp__sky"]);
        let first = give(post(&server, CHAT, &body)).await;
        let asked = calls(CHAT, &first.json());
        let names: Vec<_> = asked.iter().map(|(_, tool, _)| tool.as_str()).collect();
        assert_eq!(names, ["weather", "mcp__sky"], "a name is given back as the client wrote it");
        let entries = journal(&server, &first.run).await;
        for (kind, times) in
            [("tool_handed", 2), ("tool_started", 1), ("tool_finished", 1), ("model_called", 1)]
        {
            assert_eq!(count(&entries, kind), times, "{kind}: {entries:?}");
        }
        let given: Vec<_> = asked.iter().map(|(id, ..)| (id.as_str(), "fine")).collect();
        let second = answer(&server, CHAT, &first.session, &given).await;
        assert_eq!(text(CHAT, &second.json()), "all known");
        let turns = turns(&server, &first.session).await;
        let calls = turns[1]["calls"].as_array().expect("the calls");
        let statuses: Vec<_> = calls.iter().map(|call| (&call["tool"], &call["status"])).collect();
        assert_eq!(
            statuses,
            [
                (&json!("weather"), &json!("ok")),
                (&json!("time.now"), &json!("ok")),
                (&json!("mcp.sky"), &json!("ok"))
            ]
        );
    });
}

#[test]
fn a_result_finds_its_call_behind_an_oversized_input() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        // `context.bytes_max` is 48 KiB.
        let long = format!("{}\n{SCRIPT}", "x".repeat(60_000));
        let first = give(post(&server, CHAT, &declaring(CHAT, &long, &["weather"]))).await;
        let id = format!("{}_1_0", first.run);
        let second = answer(&server, CHAT, &first.session, &[(&id, "rain")]).await;
        assert_eq!(text(CHAT, &second.json()), "it is known");
    });
}

#[test]
fn mismatched_results_are_refused_and_a_message_closes_calls() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let script = "@tool weather {} &\n@tool moon {}\n@say both";
        let first = give(post(&server, CHAT, &declaring(CHAT, script, &["weather", "moon"]))).await;
        let id = |index: u32| format!("{}_1_{index}", first.run);
        let (zero, one, nine) = (id(0), id(1), id(9));
        for (given, says) in [
            (vec![(zero.as_str(), "a")], format!("{one} has no result")),
            (
                vec![(zero.as_str(), "a"), (one.as_str(), "b"), (nine.as_str(), "c")],
                format!("{nine} is not a client tool call"),
            ),
            (vec![(zero.as_str(), "a"), (zero.as_str(), "b")], "already has a result".to_owned()),
            (vec![("call_1_0", "a")], "no call of this session".to_owned()),
        ] {
            let refused = answer(&server, CHAT, &first.session, &given).await;
            assert_eq!(refused.status, 400, "{}", refused.body);
            let message = refused.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            assert!(message.contains(&says), "{message}");
        }
        let other = give(post(&server, CHAT, &saying(CHAT, "hi"))).await;
        let both = [(zero.as_str(), "a"), (one.as_str(), "b")];
        let strange = answer(&server, CHAT, &other.session, &both).await;
        assert_eq!(strange.status, 400, "{}", strange.body);

        let on =
            post(&server, CHAT, &saying(CHAT, "@say never mind")).header("x-dromia-session", &first.session);
        assert_eq!(text(CHAT, &give(on).await.json()), "never mind");
        let closed = turns(&server, &first.session).await;
        assert_eq!(closed[1]["calls"][0]["status"], "unknown", "{closed:?}");
        let late = answer(&server, CHAT, &first.session, &both).await;
        assert_eq!(
            (late.status, &late.json()["error"]["code"]),
            (409, &json!("call_not_open")),
            "{}",
            late.body
        );

        let taken = give(post(&server, CHAT, &declaring(CHAT, "hi", &["weather", "time__now"]))).await;
        let error = taken.json()["error"].clone();
        assert_eq!((taken.status, &error["param"]), (400, &json!("tools")), "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("time.now")), "{error}");
    });
}

#[test]
fn a_client_call_is_answered_only_once() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let first = give(post(&server, CHAT, &declaring(CHAT, SCRIPT, &["weather"]))).await;
        let id = format!("{}_1_0", first.run);
        let second = answer(&server, CHAT, &first.session, &[(&id, "rain")]).await;
        let again = answer(&server, CHAT, &first.session, &[(&id, "rain")]).await;
        assert_eq!((again.status, &again.run), (200, &second.run), "{}", again.body);
        assert_eq!(again.json(), second.json());
        let other = answer(&server, CHAT, &first.session, &[(&id, "sun")]).await;
        assert_eq!((other.status, &other.json()["error"]["code"]), (409, &json!("call_not_open")));
        assert_eq!(turns(&server, &first.session).await.len(), 4);
    });
}

#[test]
fn handed_calls_and_their_results_outlive_kills() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let script = "@tool time.now {} &\n@tool weather {}\n@slow 10000\n@say done";
        let first = give(post(&server, CHAT, &declaring(CHAT, script, &["weather"]))).await;
        let id = format!("{}_1_1", first.run);
        assert_eq!(calls(CHAT, &first.json())[0].0, id, "{}", first.body);
        server.kill();
        let server = home.serve();
        let body = results(CHAT, &[(&id, "rain")]);
        let send = |server: &Server| {
            post(server, CHAT, &body)
                .header("x-dromia-session", &first.session)
                .header("idempotency-key", "k")
        };
        let asking = tokio::spawn(send(&server).timeout(DEADLINE).send());
        server
            .journal_until(&first.session, |entries| {
                count(entries, "model_called") == 1 && count(entries, "tool_handed") == 0
            })
            .await;
        server.kill();
        assert!(asking.await.expect("the task ends").is_err(), "an answer came out of a killed server");
        let server = home.serve();
        let second = give(send(&server)).await;
        assert_eq!((second.status, &second.session), (200, &first.session), "{}", second.body);
        assert!(text(CHAT, &second.json()).ends_with("done"), "{}", second.body);
        let entries = journal(&server, &second.run).await;
        assert_eq!((count(&entries, "model_called"), count(&entries, "run_completed")), (2, 1));
        let turns = turns(&server, &first.session).await;
        assert_eq!((turns.len(), &turns[1]["calls"][1]["result"]), (4, &json!("rain")), "{turns:?}");
        let (_, runs) = server.get(&format!("/v1/runs?session={}", first.session)).await;
        assert_eq!(runs["items"].as_array().map(Vec::len), Some(2), "{runs}");
    });
}

#[test]
fn a_session_with_answered_calls_survives_export_and_import() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let first = give(post(&server, CHAT, &declaring(CHAT, SCRIPT, &["weather"]))).await;
        let id = format!("{}_1_0", first.run);
        answer(&server, CHAT, &first.session, &[(&id, "rain")]).await;
        let client = reqwest::Client::new();
        let file = client.get(format!("{}/v1/sessions/{}/export", server.url, first.session));
        let file = file.bearer_auth(&server.token).send().await.expect("the server answers");
        let file = file.bytes().await.expect("a file");
        let import = client.post(format!("{}/v1/sessions/import?agent=assistant", server.url));
        let (status, imported) = server.send(import.bearer_auth(&server.token).body(file)).await;
        assert_eq!(status, 201, "{imported}");
        let copy = turns(&server, imported["session"].as_str().expect("a session")).await;
        assert_eq!(copy.len(), 4, "{copy:?}");
        assert_eq!(copy[1]["calls"][0]["result"], "rain", "the result is for the run under its new name");
        let show = home.run(&["session", "show", &first.session]);
        let shown = String::from_utf8_lossy(&show.stdout).into_owned();
        assert!(shown.contains("(results of client tool calls: 1)"), "{shown}");
    });
}

#[test]
fn a_picture_reaches_the_model_and_stays_in_the_session() {
    let home = Home::new();
    let (server, heard) = watched(&home, "");
    block_on(async {
        let url = "data:image/png;base64,iVBORw0KGgo=";
        let body = json!({"model": "assistant", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}},
        ]}]});
        let first = give(post(&server, CHAT, &body)).await;
        assert_eq!(text(CHAT, &first.json()), "a picture");
        let last = heard.lock().expect("nobody panics while it holds this").last().cloned();
        let last = last.expect("the model was asked");
        assert_eq!(last["content"][1], json!({"type": "image_url", "image_url": {"url": url}}), "{last}");
        let turns = turns(&server, &first.session).await;
        assert_eq!((&turns[0]["images"], &turns[0]["text"]), (&json!(1), &json!("what is it?")), "{turns:?}");
    });
}

/// A server whose model keeps the messages that it is sent last, with more of a configuration.
pub(super) fn watched(home: &Home, more: &str) -> (Server, Arc<Mutex<Vec<Value>>>) {
    let heard = Arc::<Mutex<Vec<Value>>>::default();
    let kept = Arc::clone(&heard);
    let model = Model::start(move |_, messages| {
        *kept.lock().expect("nobody panics while it holds this") = messages.to_vec();
        Say::Text("a picture".to_owned())
    });
    let config = format!("version: 1\n{more}models:\n{}", model.alias("default"));
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    (home.serve(), heard)
}

#[test]
fn a_picture_in_a_client_tool_result_reaches_the_model() {
    let home = Home::new();
    let (server, heard) = watched(&home, "");
    block_on(async {
        let url = "data:image/png;base64,iVBORw0KGgo=";
        let given =
            json!([{"type": "text", "text": "rain"}, {"type": "image_url", "image_url": {"url": url}}]);
        let body = json!({"model": "assistant", "messages": [
            {"role": "user", "content": "what is it?"},
            {"role": "assistant", "content": null, "tool_calls":
                [{"id": "c1", "type": "function", "function": {"name": "shot", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": given},
        ]});
        let first = give(post(&server, CHAT, &body)).await;
        assert_eq!(text(CHAT, &first.json()), "a picture");
        let heard = heard.lock().expect("nobody panics while it holds this").clone();
        let [.., result, shown] = heard.as_slice() else { panic!("the model was asked: {heard:?}") };
        assert_eq!((&result["role"], &result["content"]), (&json!("tool"), &json!("[ok] rain")));
        assert_eq!(shown["role"], "user", "{shown}");
        assert_eq!(shown["content"][1], json!({"type": "image_url", "image_url": {"url": url}}), "{shown}");
    });
}

#[test]
fn tuning_parameters_of_a_request_take_effect() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let mut body = saying(CHAT, "@say it is known to everybody");
        body["stop"] = json!([" to", "nobody"]);
        let stopped = give(post(&server, CHAT, &body)).await.json();
        assert_eq!(text(CHAT, &stopped), "it is known");
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
        let mut body = saying(MESSAGES, "@say it is known to everybody");
        body["stop_sequences"] = json!([" to", "nobody"]);
        let stopped = give(post(&server, MESSAGES, &body)).await.json();
        let end = (&stopped["stop_reason"], &stopped["stop_sequence"]);
        assert_eq!(end, (&json!("stop_sequence"), &json!(" to")), "{stopped}");
        for (path, field) in
            [(CHAT, "max_completion_tokens"), (RESPONSES, "max_output_tokens"), (MESSAGES, "max_tokens")]
        {
            let mut body = saying(path, "@say it is known to everybody");
            body[field] = json!(2);
            let cut = give(post(&server, path, &body)).await;
            assert_eq!(text(path, &cut.json()), "it is kn", "{path}: {}", cut.body);
        }
    });
}
