//! The routes of other APIs: their shapes, whole and streamed, their refusals, and what becomes of a request.

mod pictures;
mod shapes;
mod stream;
mod tools;

use dromia_contracts::content::{ContentPart, parts_text};
use dromia_contracts::entry::{Entry, RunCancelled, RunFailed, RunHeld, RunYielded};
use dromia_contracts::label::Label;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::InputTarget;
use dromia_contracts::session::ItemKind;
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{Actor, ErrorCode, RunId};
use serde_json::{Value, json};

use crate::client::{Answer, authorized, full, request};
use crate::fake::Mood;
use crate::fake::runs::kept;
use crate::world::World;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// Asks with a token and further headers.
async fn ask(world: &World, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut asked = authorized(request("POST", path), &world.ours.token);
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    world.tcp(asked.body(full(&body.to_string())).unwrap()).await
}

/// The smallest request of each API.
fn hello(path: &str) -> Value {
    match path {
        RESPONSES => json!({"model": "ops", "input": "hi"}),
        _ => json!({"model": "ops", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    }
}

/// The text of a whole answer.
fn text(path: &str, answer: &Value) -> String {
    let text = match path {
        CHAT => &answer["choices"][0]["message"]["content"],
        MESSAGES => &answer["content"][0]["text"],
        _ => &answer["output"][0]["content"][0]["text"],
    };
    text.as_str().unwrap_or_else(|| panic!("no text: {answer}")).to_owned()
}

#[tokio::test]
async fn a_call_without_a_session_opens_and_names_one() {
    let world = World::new().await;
    for (path, platform) in [(CHAT, "openai"), (RESPONSES, "openai"), (MESSAGES, "anthropic")] {
        let answer = ask(&world, path, &[], &hello(path)).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        assert_eq!(text(path, &answer.json()), "you said: hi");
        assert!(answer.headers["x-dromia-session"].to_str().unwrap().starts_with("ses_"));
        let run = world.rooms.lock().runs.last().unwrap().1.id;
        assert_eq!(answer.headers["x-dromia-run"], run.to_string());
        assert!(answer.json()["id"].as_str().unwrap().ends_with(&run.to_string()), "{path}");
        let input = world.rooms.lock().inputs.pop().unwrap();
        let InputTarget::Fresh { agent, key } = input.target else { panic!("{path} opens a session") };
        assert_eq!((agent, key.platform.as_str()), (world.ours.agent, platform));
        assert_eq!(input.author.as_str(), "token:ci");
        assert_eq!(input.parts, [ContentPart::new_text("hi", Label::ACTOR_TEXT)]);
        assert_eq!((input.history.len(), input.wait), (0, false));
    }
}

#[tokio::test]
async fn unsupported_foreign_operations_fail_in_their_own_shape() {
    let world = World::new().await;
    let version = ("anthropic-version", "2023-06-01");
    for (path, headers, kind) in [
        ("/v1/messages/batches/b/cancel", &[][..], "not_found_error"),
        ("/v1/messages/batches", &[version][..], "not_found_error"),
        ("/v1/files", &[version][..], "not_found_error"),
        ("/v1/models", &[version][..], "invalid_request_error"),
        ("/v1/models", &[][..], "invalid_request_error"),
        ("/v1/responses/resp_1/cancel", &[][..], "invalid_request_error"),
        ("/v1/files", &[][..], "invalid_request_error"),
        ("/v1/files/file-1/content", &[][..], "invalid_request_error"),
        ("/v1/embeddings", &[][..], "invalid_request_error"),
        ("/v1/batches", &[][..], "invalid_request_error"),
        ("/v1/completions", &[][..], "invalid_request_error"),
        ("/v1/complete", &[version][..], "not_found_error"),
    ] {
        let answer = ask(&world, path, headers, &hello(MESSAGES)).await;
        let status = if path == "/v1/models" { 405 } else { 404 };
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (status, "route_not_found"));
        let told = answer.json();
        assert_eq!(told["error"]["type"], kind, "{path}: {told}");
        if let "/v1/embeddings" | "/v1/completions" | "/v1/files" | "/v1/batches" = path {
            let text = told["error"]["message"].as_str().unwrap();
            assert!(text.contains(path) && !text.contains("openapi"), "the way on is named: {text}");
        }
        let is_anthropic = path.starts_with(MESSAGES) || !headers.is_empty();
        assert_eq!(told["type"] == "error", is_anthropic, "{path}: {told}");
        assert_eq!(answer.headers["x-should-retry"], "false", "{path}");
    }
    assert_eq!(ask(&world, "/v1/filesystem", &[], &json!({})).await.code(), "route_not_found");
    assert_eq!(ask(&world, "/v1/messages-of-ours", &[], &json!({})).await.code(), "route_not_found");
}

#[tokio::test]
async fn tokens_of_a_message_are_counted_and_nothing_is_stored() {
    let world = World::new().await;
    let path = "/v1/messages/count_tokens";
    let said = |model: &str, content: &str| json!({"model": model, "messages": [{"role": "user", "content": content}]});
    let answer = ask(&world, path, &[], &said("ops", "one two three")).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"input_tokens": 3})));
    assert!(answer.headers.get("x-dromia-session").is_none() && answer.headers.get("x-dromia-run").is_none());
    let session = ("x-dromia-session", "ses_05050505050505050505050505050505");
    let theirs = world.theirs.agent.to_string();
    for (headers, body, status, code) in [
        (&[][..], said("nobody", "hi"), 404, "agent_not_found"),
        (&[][..], said(&theirs, "hi"), 404, "agent_not_found"),
        (&[][..], json!({"model": "ops", "messages": []}), 400, "invalid_request"),
        (&[session][..], said("ops", "hi"), 400, "invalid_request"),
    ] {
        let answer = ask(&world, path, headers, &body).await;
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (status, code), "{body}");
        assert_eq!(answer.json()["type"], "error", "{body}");
    }
    assert!(world.rooms.lock().inputs.is_empty(), "something was stored");
}

/// What the turns of a history say, each with its first letter.
fn told(history: &[TranscriptTurn]) -> Vec<String> {
    let unit = |turn: &TranscriptTurn| match turn {
        TranscriptTurn::Input(message) => format!("i:{}", parts_text(&message.parts)),
        TranscriptTurn::Summary(parts) => format!("s:{}", parts_text(parts)),
        TranscriptTurn::Unit(unit) => {
            let calls = unit.message().calls.iter().map(|call| format!("{}{}", call.tool, call.arguments));
            let results = unit.results().iter().map(|result| parts_text(&result.parts));
            let said = std::iter::once(parts_text(&unit.message().parts));
            format!("u:{}", said.chain(calls).chain(results).collect::<Vec<_>>().join("|"))
        }
    };
    history.iter().map(unit).collect()
}

#[tokio::test]
async fn the_history_of_every_api_becomes_the_same_whole_units() {
    let world = World::new().await;
    let function = json!({"name": "look", "arguments": "{\"a\":1}"});
    let chat = json!({"model": "ops", "messages": [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]});
    let messages = json!({"model": "ops", "max_tokens": 9, "system": [{"type": "text", "text": "be kind"}], "messages": [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "seen"}]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "text", "text": "three"}]},
    ]});
    let responses = json!({"model": "ops", "instructions": "be kind", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{\"a\":1}"},
        {"type": "function_call_output", "call_id": "c1", "output": "seen"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
        {"type": "message", "role": "user", "content": "three"},
    ]});
    for (path, body) in [(CHAT, &chat), (MESSAGES, &messages), (RESPONSES, &responses)] {
        let answer = ask(&world, path, &[], body).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let input = world.rooms.lock().inputs.pop().unwrap();
        let told = told(&input.history);
        assert!(told[0].starts_with("i:Instructions of the application") && told[0].ends_with("\nbe kind"));
        assert_eq!(told[1..], ["i:one", "u:|look{\"a\":1}|seen", "u:two"], "{path}");
        assert_eq!(parts_text(&input.parts), "three");
    }
    // In a session only the last message is taken; the session has the others.
    let session = world.ours.session.to_string();
    for (path, body) in [(CHAT, &chat), (MESSAGES, &messages), (RESPONSES, &responses)] {
        let answer = ask(&world, path, &[("x-dromia-session", &session)], body).await;
        assert_eq!(answer.headers["x-dromia-session"], session, "{path}: {:?}", answer.body);
        let input = world.rooms.lock().inputs.pop().unwrap();
        assert_eq!(input.target, InputTarget::Session(world.ours.session));
        assert_eq!((input.history.len(), parts_text(&input.parts).as_str()), (0, "three"));
    }
}

#[tokio::test]
async fn a_session_of_another_agent_or_tenant_is_refused() {
    let world = World::new().await;
    let new = r#"{"handle":"rev","config":{"model":"default"}}"#;
    assert_eq!(world.ask("POST", "/v1/agents", new).await.status, 201);
    let (ours, theirs) = (world.ours.session.to_string(), world.theirs.session.to_string());
    for (model, session, status, code) in [
        ("rev", ours.as_str(), 400, "invalid_request"),
        ("ops", theirs.as_str(), 404, "session_not_found"),
        ("ops", "run_1", 400, "invalid_request"),
    ] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let answer = ask(&world, CHAT, &[("x-dromia-session", session)], &body).await;
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (status, code), "{model}");
    }
    assert!(world.rooms.lock().inputs.is_empty());
}

#[tokio::test]
async fn a_repeated_key_joins_the_first_run_in_any_form() {
    let world = World::new().await;
    let key = [("idempotency-key", "k")];
    let first = ask(&world, CHAT, &key, &hello(CHAT)).await;
    let mut streamed = hello(CHAT);
    streamed["stream"] = json!(true);
    let again = ask(&world, CHAT, &key, &hello(CHAT)).await;
    assert_eq!(first.body, again.body, "the same answer");
    let stream = ask(&world, CHAT, &key, &streamed).await;
    for later in [&again, &stream] {
        assert_eq!(later.headers["x-dromia-run"], first.headers["x-dromia-run"]);
        assert_eq!(later.headers["x-dromia-session"], first.headers["x-dromia-session"]);
    }
    let other = json!({"model": "ops", "messages": [{"role": "user", "content": "other"}]});
    let conflict = ask(&world, CHAT, &key, &other).await;
    assert_eq!((conflict.status.as_u16(), conflict.foreign_code().as_str()), (409, "idempotency_conflict"));
    assert_eq!(conflict.headers["x-should-retry"], "false", "clients repeat a 409 by themselves");
}

#[tokio::test]
async fn unsupported_fields_are_refused_by_path_and_store_nothing() {
    let world = World::new().await;
    let user = || json!({"role": "user", "content": "hi"});
    let chat = |field: &str, value: Value| {
        let mut body = json!({"model": "ops", "messages": [user()]});
        body[field] = value;
        (CHAT, body)
    };
    let messages = |messages: Value| chat("messages", messages);
    let image = json!([{"type": "image_url", "image_url": {"url": "data:"}}]);
    let tool = json!([{"type": "function", "function": {"name": "t"}}]);
    let anthropic = |field: &str, value: Value| {
        let mut body = hello(MESSAGES);
        body[field] = value;
        (MESSAGES, body)
    };
    let responses = |field: &str, value: Value| {
        let mut body = hello(RESPONSES);
        body[field] = value;
        (RESPONSES, body)
    };
    for ((path, body), place) in [
        (messages(json!([user(), {"role": "user", "content": 7}])), "messages[1].content"),
        (messages(json!([{"role": "user", "content": [{"text": "x"}]}])), "messages[0].content[0]"),
        (messages(json!([user(), {"role": "user", "content": image}])), "messages[1].content[0].image_url"),
        (messages(json!([{"role": "system", "content": image}, user()])), "messages[0].content[0]"),
        (messages(json!([{"role": "moon", "content": "x"}])), "messages[0].role"),
        (messages(json!([{"role": "tool", "content": "x"}])), "messages[0].tool_call_id"),
        (messages(json!([user(), {"role": "assistant", "content": "x"}])), "messages[1]"),
        (messages(json!([])), "messages[0]"),
        (messages(json!(vec![user(); 2_049])), "messages"),
        (chat("model", json!(7)), "model"),
        (chat("n", json!(2)), "n"),
        (chat("stop", json!(7)), "stop"),
        (chat("max_tokens", json!(0)), "max_tokens"),
        (chat("temperature", json!("hot")), "temperature"),
        (chat("logprobs", json!(true)), "logprobs"),
        (
            chat("response_format", json!({"type": "json_schema", "json_schema": {}})),
            "response_format.json_schema.schema",
        ),
        (chat("response_format", json!({"type": "grammar"})), "response_format.type"),
        (anthropic("output_format", json!({"type": "json_schema"})), "output_format.schema"),
        (chat("tools", json!([{"type": "web_search"}])), "tools[0]"),
        (chat("tools", json!([{"type": "function", "function": {"name": "a b"}}])), "tools[0].function.name"),
        (chat("tool_choice", json!("required")), "tool_choice"),
        (anthropic("tools", tool.clone()), "tools[0]"),
        (anthropic("stop_sequences", json!([7])), "stop_sequences[0]"),
        (anthropic("messages", json!([{"role": "moon", "content": "x"}])), "messages[0].role"),
        (anthropic("thread", json!({"type": "continue"})), "thread.previous_message_id"),
        (anthropic("thread", json!({"type": "moon"})), "thread.type"),
        (anthropic("compaction", json!({"type": "summarize"})), "compaction"),
        (anthropic("conversation_id", json!("c")), "conversation_id"),
        (chat("previous_response_id", json!("r")), "previous_response_id"),
        (responses("messages", json!([user()])), "messages"),
        (messages(json!([{"role": "assistant", "audio": {"id": "a"}}, user()])), "messages[0].audio"),
        (responses("tools", tool), "tools[0].name"),
        (responses("text", json!({"format": {"type": "moon"}})), "text.format.type"),
        (responses("input", json!([{"type": "item_reference"}])), "input[0].id"),
        (responses("input", json!([{"type": "moon"}])), "input[0].type"),
        (responses("input", json!(7)), "input"),
    ] {
        let answer = ask(&world, path, &[], &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.foreign_code().as_str()),
            (400, "invalid_request"),
            "{body}"
        );
        assert_eq!(answer.json()["error"]["param"], place, "{body}");
    }
    // What tunes a model is taken as far as it can be, and what is not known is no mistake.
    for (field, value) in [
        ("temperature", json!(0.1)),
        ("max_completion_tokens", json!(5)),
        ("n", json!(1)),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("response_format", json!({"type": "text"})),
        ("stop", json!(null)),
        ("moon", json!("full")),
    ] {
        let (path, body) = chat(field, value);
        assert_eq!(ask(&world, path, &[], &body).await.status, 200, "{body}");
    }
    // The responses API has no stop texts, and no field for the one at which an answer stopped.
    let (path, body) = responses("stop", json!(["END"]));
    let answer = ask(&world, path, &[], &body).await;
    assert_eq!(answer.status, 200, "{body}");
    assert!(
        answer.json().as_object().unwrap().keys().all(|key| !key.starts_with("stop")),
        "{}",
        answer.json()
    );
    let inputs =
        world.rooms.lock().inputs.iter().map(|input| input.offer.wishes.stop.len()).collect::<Vec<_>>();
    assert_eq!(inputs, [0; 9]);
}

#[tokio::test]
async fn model_and_token_errors_have_the_shape_of_their_api() {
    let world = World::new().await;
    for (path, unknown, refused) in [
        (CHAT, "model_not_found", "invalid_api_key"),
        (RESPONSES, "model_not_found", "invalid_api_key"),
        (MESSAGES, "agent_not_found", "unauthorized"),
    ] {
        let mut body = hello(path);
        body["model"] = json!("gpt-nobody");
        let answer = ask(&world, path, &[], &body).await;
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (404, unknown), "{path}");
        assert_eq!(answer.json()["error"]["param"], "model");
        let asked = authorized(request("POST", path), "drm_garbage").body(full("{")).unwrap();
        let answer = world.tcp(asked).await;
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (401, refused), "{path}");
    }
    let answer = ask(&world, MESSAGES, &[], &json!({"model": "nobody", "messages": []})).await;
    assert_eq!(answer.json()["request_id"], answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!(answer.headers["request-id"], answer.headers["x-request-id"]);
}

#[tokio::test]
async fn anthropic_clients_may_send_their_token_as_a_key() {
    let world = World::new().await;
    let body = hello(MESSAGES).to_string();
    let (ours, theirs) = (world.ours.token.clone(), world.theirs.token.clone());
    let bearer = format!("Bearer {ours}");
    for (path, headers, status) in [
        (MESSAGES, vec![("x-api-key", ours.as_str())], 200),
        (MESSAGES, vec![("x-api-key", ours.as_str()), ("authorization", bearer.as_str())], 200),
        (MESSAGES, vec![("x-api-key", theirs.as_str()), ("authorization", bearer.as_str())], 401),
        (MESSAGES, vec![("x-api-key", ours.as_str()), ("x-api-key", ours.as_str())], 401),
        (MESSAGES, vec![("x-api-key", "drm_garbage")], 401),
        (MESSAGES, vec![("x-api-key", "")], 401),
        (CHAT, vec![("x-api-key", ours.as_str())], 401),
        ("/v1/events", vec![("x-api-key", ours.as_str())], 401),
    ] {
        let mut asked = request("POST", path);
        for (name, value) in &headers {
            asked = asked.header(*name, *value);
        }
        let answer = world.tcp(asked.body(full(&body)).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {headers:?}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn every_agent_that_takes_input_is_a_model() {
    let world = World::new().await;
    for handle in ["rev", "old"] {
        let new = format!(r#"{{"handle":"{handle}","config":{{"model":"default"}}}}"#);
        assert_eq!(world.ask("POST", "/v1/agents", &new).await.status, 201);
    }
    assert_eq!(world.ask("POST", "/v1/agents/old/terminate", "").await.status, 200);
    let list = world.ask("GET", "/v1/models", "").await.json();
    let ids = |list: &Value| -> Vec<String> {
        let models = list["data"].as_array().unwrap().iter();
        models.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&list), &list["object"]), (vec!["ops".to_owned(), "rev".to_owned()], &json!("list")));
    assert_eq!((&list["has_more"], &list["last_id"]), (&json!(false), &json!("rev")));
    assert_eq!(
        list["data"][0],
        json!({"id": "ops", "object": "model", "created": 0, "owned_by": "dromia", "type": "model",
            "display_name": "Ops of default", "created_at": "1970-01-01T00:00:00Z"})
    );
    let page = world.ask("GET", "/v1/models?limit=1", "").await.json();
    assert_eq!((ids(&page), &page["has_more"]), (vec!["ops".to_owned()], &json!(true)));
    let page = world.ask("GET", "/v1/models?limit=1&after_id=ops", "").await.json();
    assert_eq!((ids(&page), &page["has_more"]), (vec!["rev".to_owned()], &json!(false)));
    assert_eq!(world.ask("GET", "/v1/models/ops", "").await.json(), list["data"][0]);
    for gone in ["old", "nobody"] {
        let answer = world.ask("GET", &format!("/v1/models/{gone}"), "").await;
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (404, "model_not_found"));
    }
    let asked = request("GET", "/v1/models/old").header("x-api-key", &world.ours.token);
    let asked = asked.header("anthropic-version", "2023-06-01").body(full("")).unwrap();
    let answer = world.tcp(asked).await;
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
}

/// Ends the newest run with an entry.
fn end(world: &World, entry: &Entry, status: RunStatus) -> RunId {
    let (run, seq) = world.rooms.lock().runs.last().map(|(_, row)| (row.id, row.last_seq)).unwrap();
    world.rooms.append(run, kept(seq + 1, entry), status);
    run
}

#[tokio::test]
async fn a_run_without_an_answer_is_an_error_naming_it() {
    let world = World::new().await;
    let failed = RunFailed { code: ErrorCode::ModelRejected, message: "the model refused".into() };
    let cancelled = RunCancelled { by: Actor::new("cli:1"), signal: ItemKind::Cancel };
    let held = RunHeld { reason: dromia_contracts::entry::HoldReason::Claims, detail: "6 claims".into() };
    let endings = [
        (Entry::RunFailed(failed), RunStatus::Failed, 502, "model_rejected", "failed"),
        (Entry::RunCancelled(cancelled), RunStatus::Cancelled, 409, "run_unanswered", "cancelled"),
        (
            Entry::RunYielded(RunYielded {
                model_calls: 50,
                budget: None,
                repeated: None,
                concluded: None,
                deadline: None,
            }),
            RunStatus::Yielded,
            409,
            "run_unanswered",
            "yielded",
        ),
        (Entry::RunHeld(held), RunStatus::Held, 504, "run_unfinished", "held"),
    ];
    for path in [CHAT, MESSAGES, RESPONSES] {
        for (entry, status, http, code, word) in &endings {
            world.rooms.lock().mood = Mood::Thinks;
            let before = world.rooms.lock().runs.len();
            let body = hello(path);
            let asking = ask(&world, path, &[], &body);
            let ending = async {
                world.until("the run began", |world| world.rooms.lock().runs.len() > before).await;
                end(&world, entry, *status)
            };
            let (answer, run) = tokio::join!(asking, ending);
            assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (*http, *code), "{entry:?}");
            let error = &answer.json()["error"];
            assert_eq!((&error["run"], &error["run_status"]), (&json!(run), &json!(word)), "{error}");
            assert!(error["message"].as_str().unwrap().contains(&run.to_string()));
            assert_eq!(answer.headers["x-dromia-run"], run.to_string());
            assert_eq!(answer.headers["x-should-retry"], "false");
            assert!(!answer.headers.contains_key("retry-after"));
        }
    }
}

#[tokio::test]
async fn an_expired_wait_returns_an_error_that_names_the_run() {
    let world = World::new().await;
    world.rooms.lock().mood = Mood::Thinks;
    for (path, kind) in [(CHAT, "server_error"), (RESPONSES, "server_error"), (MESSAGES, "timeout_error")] {
        let answer = ask(&world, path, &[("x-dromia-wait-ms", "20")], &hello(path)).await;
        assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (504, "run_unfinished"));
        let error = &answer.json()["error"];
        assert_eq!((&error["type"], &error["run_status"]), (&json!(kind), &json!("running")));
        assert!(error["message"].as_str().unwrap().contains("the run continues"), "{error}");
    }
    for bad in ["0", "600001", "soon"] {
        let answer = ask(&world, CHAT, &[("x-dromia-wait-ms", bad)], &hello(CHAT)).await;
        assert_eq!(answer.foreign_code(), "invalid_request", "{bad}");
    }
}

#[tokio::test]
async fn overload_says_when_to_come_again_and_stores_nothing() {
    let world = World::with(|config| config.capacity.streams_max = 1).await;
    world.rooms.lock().mood = Mood::Thinks;
    let mut body = hello(CHAT);
    body["stream"] = json!(true);
    let first = authorized(request("POST", CHAT), &world.ours.token);
    let first = world.open_tcp(first.body(full(&body.to_string())).unwrap()).await;
    assert_eq!(first.status(), 200);
    let refused = ask(&world, CHAT, &[], &body).await;
    assert_eq!((refused.status.as_u16(), refused.foreign_code().as_str()), (429, "overloaded"));
    assert_eq!(
        (&refused.headers["retry-after"], &refused.headers["x-should-retry"]),
        (&"1".parse().unwrap(), &"true".parse().unwrap())
    );
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(world.rooms.lock().inputs.len(), 1);
}
