//! Tools that a client declares: how they travel in, how a call to one leaves, and how its result comes back.

use dromia_contracts::client::{ClientCallId, ToolChoice};
use dromia_contracts::content::{
    AssistantMessage, CallStatus, ContentPart, ImageMediaType, ToolCall, parts_text,
};
use dromia_contracts::entry::{Entry, ModelReplied, RunCompleted, ToolHanded};
use dromia_contracts::label::Label;
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::StoredEntry;
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{CallId, RunId};
use serde_json::{Value, json};

use super::{CHAT, MESSAGES, RESPONSES, ask, hello};
use crate::client::Answer;
use crate::fake::Mood;
use crate::fake::runs::kept;
use crate::world::{World, stored};

const ARGUMENTS: &str = r#"{"city":"Bonn"}"#;

/// A request of each API that declares the same tool.
fn declaring(path: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let mut body = hello(path);
    body["tools"] = match path {
        CHAT => json!([{"type": "function", "function":
            {"name": "sky__look", "description": "Looks.", "parameters": schema}}]),
        MESSAGES => json!([{"name": "sky__look", "description": "Looks.", "input_schema": schema}]),
        _ => {
            json!([{"type": "function", "name": "sky__look", "description": "Looks.", "parameters": schema}])
        }
    };
    body
}

/// The entry of an answer with a text and two calls for the client.
fn asked_for(seq: u64, text: &str) -> StoredEntry {
    let entry = Entry::ModelReplied(ModelReplied {
        step: 1,
        attempt: 1,
        usage: TokenUsage { input_tokens: 3, output_tokens: 5 },
        detail: UsageDetail::default(),
        cost_micros: 42,
        finish: FinishReason::ToolCalls,
        stopped_at: None,
        tools: vec!["sky.look".into(); 2],
        clean: true,
        withheld: None,
        masked: Vec::new(),
    });
    let call = |index| ToolCall {
        id: CallId { step: 1, index },
        tool: "sky.look".into(),
        arguments: ARGUMENTS.into(),
    };
    let parts = if text.is_empty() { vec![] } else { vec![ContentPart::new_text(text, Label::ACTOR_TEXT)] };
    let body = serde_json::to_string(&AssistantMessage { parts, calls: vec![call(0), call(1)] }).unwrap();
    stored(seq, entry.kind().0, &entry.encode(), Some(&body))
}

/// Asks, and ends the run with two calls for the client.
async fn handed(world: &World, path: &str, text: &str, stream: bool) -> (Answer, RunId) {
    world.rooms.lock().mood = Mood::Thinks;
    let before = world.rooms.lock().runs.len();
    let mut body = declaring(path);
    body["stream"] = json!(stream);
    let ending = async {
        world.until("the run began", |world| world.rooms.lock().runs.len() > before).await;
        let (run, seq) = world.rooms.lock().runs.last().map(|(_, row)| (row.id, row.last_seq)).unwrap();
        world.rooms.append(run, asked_for(seq + 1, text), RunStatus::Running);
        for index in 0..2 {
            let call = CallId { step: 1, index };
            let entry = Entry::ToolHanded(ToolHanded { call, tool: "sky.look".into() });
            world.rooms.append(run, kept(seq + 2 + u64::from(index), &entry), RunStatus::Running);
        }
        let end = Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None });
        world.rooms.append(run, kept(seq + 4, &end), RunStatus::Completed);
        run
    };
    tokio::join!(ask(world, path, &[], &body), ending)
}

fn name(run: RunId, index: u32) -> String {
    ClientCallId { run, call: CallId { step: 1, index } }.to_string()
}

#[tokio::test]
async fn declared_tools_and_their_calls_keep_each_apis_shape() {
    let world = World::new().await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        for text in ["I look.", ""] {
            let (answer, run) = handed(&world, path, text, false).await;
            let answer = answer.json();
            let (first, second) = (name(run, 0), name(run, 1));
            match path {
                CHAT => {
                    let choice = &answer["choices"][0];
                    let function = json!({"name": "sky__look", "arguments": ARGUMENTS});
                    let call = |id: &str| json!({"id": id, "type": "function", "function": function});
                    assert_eq!(choice["message"]["tool_calls"], json!([call(&first), call(&second)]));
                    let content = if text.is_empty() { Value::Null } else { json!(text) };
                    assert_eq!(
                        (&choice["finish_reason"], &choice["message"]["content"]),
                        (&json!("tool_calls"), &content)
                    );
                }
                MESSAGES => {
                    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "sky__look", "input": {"city": "Bonn"}});
                    let mut content =
                        vec![json!({"type": "text", "text": text}), call(&first), call(&second)];
                    content.retain(|block| block["text"] != "");
                    assert_eq!(
                        (&answer["content"], &answer["stop_reason"]),
                        (&json!(content), &json!("tool_use"))
                    );
                }
                _ => {
                    let output = answer["output"].as_array().unwrap();
                    let calls = &output[usize::from(!text.is_empty())..];
                    let call = |id: &str| {
                        json!({"id": format!("fc_{id}"), "type": "function_call",
                        "status": "completed", "call_id": id, "name": "sky__look", "arguments": ARGUMENTS})
                    };
                    assert_eq!(calls, [call(&first), call(&second)]);
                    assert_eq!(answer["status"], "completed");
                }
            }
            let input = world.rooms.lock().inputs.pop().unwrap();
            assert_eq!((input.offer.tools.len(), input.offer.tools[0].name.as_str()), (1, "sky.look"));
        }
    }
}

#[tokio::test]
async fn a_stream_sends_calls_after_text_at_their_own_indexes() {
    let world = World::new().await;
    for text in ["I look.", ""] {
        let first = usize::from(!text.is_empty());
        for path in [CHAT, MESSAGES, RESPONSES] {
            let (answer, run) = handed(&world, path, text, true).await;
            let body = std::str::from_utf8(&answer.body).unwrap();
            let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
            let data: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
            let find =
                |kind: &str| data.iter().filter(|data| data["type"] == kind).cloned().collect::<Vec<_>>();
            match path {
                CHAT => {
                    let deltas =
                        data.iter().filter_map(|data| data["choices"][0]["delta"]["tool_calls"].get(0));
                    let deltas: Vec<_> = deltas.cloned().collect();
                    let begun = json!({"index": 1, "id": name(run, 1), "type": "function",
                        "function": {"name": "sky__look", "arguments": ""}});
                    let rest = json!({"index": 1, "function": {"arguments": ARGUMENTS}});
                    assert_eq!(deltas[2..], [begun, rest]);
                    assert!(body.contains("\"finish_reason\":\"tool_calls\""), "{body}");
                }
                MESSAGES => {
                    let starts = find("content_block_start");
                    let block =
                        json!({"type": "tool_use", "id": name(run, 0), "name": "sky__look", "input": {}});
                    assert_eq!(
                        (&starts[first]["index"], &starts[first]["content_block"]),
                        (&json!(first), &block)
                    );
                    assert_eq!((starts.len(), find("content_block_stop").len()), (first + 2, first + 2));
                    let deltas = find("content_block_delta");
                    let arguments = json!({"type": "input_json_delta", "partial_json": ARGUMENTS});
                    assert_eq!(deltas.last().unwrap()["delta"], arguments);
                    assert_eq!(find("message_delta")[0]["delta"]["stop_reason"], "tool_use");
                }
                _ => {
                    let done = find("response.output_item.done");
                    assert_eq!(done.len(), first + 2);
                    assert_eq!(
                        (&done[first]["output_index"], &done[first]["item"]["call_id"]),
                        (&json!(first), &json!(name(run, 0)))
                    );
                    let arguments = find("response.function_call_arguments.done");
                    assert_eq!(arguments[1]["arguments"], ARGUMENTS);
                    let items: Vec<_> = done.iter().map(|done| done["item"].clone()).collect();
                    assert_eq!(find("response.completed")[0]["response"]["output"], json!(items));
                }
            }
        }
    }
}

/// The results of two calls, as the last messages of each API.
fn results(path: &str, first: &str, second: &str) -> Value {
    match path {
        CHAT => json!({"model": "ops", "messages": [
            {"role": "user", "content": "not taken"},
            {"role": "tool", "tool_call_id": first, "content": "rain"},
            {"role": "tool", "tool_call_id": second, "content": [{"type": "text", "text": "sun"}]},
        ]}),
        MESSAGES => json!({"model": "ops", "max_tokens": 9, "messages": [
            {"role": "user", "content": "not taken"},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": first, "content": "rain"},
                {"type": "tool_result", "tool_use_id": second, "content": "sun", "is_error": true},
            ]},
        ]}),
        _ => json!({"model": "ops", "input": [
            {"role": "user", "content": "not taken"},
            {"type": "function_call_output", "call_id": first, "output": "rain"},
            {"type": "function_call_output", "call_id": second, "output": "sun"},
        ]}),
    }
}

#[tokio::test]
async fn results_continue_their_session_under_the_names_of_calls() {
    let world = World::new().await;
    let session = world.ours.session.to_string();
    let head = [("x-dromia-session", session.as_str())];
    let run = RunId::from_bytes([7; 16]);
    for path in [CHAT, MESSAGES, RESPONSES] {
        let answer = ask(&world, path, &head, &results(path, &name(run, 1), &name(run, 0))).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let input = world.rooms.lock().inputs.pop().unwrap();
        let answers = input.answers.unwrap();
        let given = answers.results.iter();
        let given: Vec<_> = given.map(|result| (result.call.index, parts_text(&result.parts))).collect();
        assert_eq!((answers.run, given), (run, vec![(1, "rain".to_owned()), (0, "sun".to_owned())]));
        assert_eq!((input.parts.len(), input.history.len()), (0, 0));
        let failed = answers.results[1].status == CallStatus::Error;
        assert_eq!(failed, path == MESSAGES, "only that API has a word for it");
        for (first, second, place) in [
            ("c1".to_owned(), name(run, 0), 1),
            (name(run, 0), name(run, 0), 2),
            (name(run, 0), name(RunId::from_bytes([8; 16]), 1), 2),
        ] {
            let refused = ask(&world, path, &head, &results(path, &first, &second)).await;
            assert_eq!(refused.status, 400, "{path}");
            let param = refused.json()["error"]["param"].as_str().unwrap().to_owned();
            let expected = match path {
                CHAT => format!("messages[{place}]"),
                MESSAGES => format!("messages[1].content[{}]", place - 1),
                _ => format!("input[{place}]"),
            };
            assert_eq!(param, expected, "{:?}", refused.body);
        }
    }
    assert!(world.rooms.lock().inputs.is_empty());
}

#[tokio::test]
async fn a_sent_history_may_end_with_results_and_keeps_options() {
    let world = World::new().await;
    let function = json!({"name": "sky__look", "arguments": ARGUMENTS});
    let mut body = declaring(CHAT);
    body["messages"] = json!([
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]);
    body["tool_choice"] = json!("required");
    body["parallel_tool_calls"] = json!(false);
    body["max_completion_tokens"] = json!(7);
    body["stop"] = json!("END");
    assert_eq!(ask(&world, CHAT, &[], &body).await.status, 200);
    let input = world.rooms.lock().inputs.pop().unwrap();
    assert_eq!((input.history.len(), input.parts.len(), input.answers), (2, 0, None));
    let wishes = input.offer.wishes;
    assert_eq!((wishes.choice, wishes.one_call), (ToolChoice::Required, true));
    assert_eq!((wishes.output_tokens_max, wishes.stop), (Some(7), vec!["END".to_owned()]));
    body["tool_choice"] = json!("none");
    assert_eq!(ask(&world, CHAT, &[], &body).await.status, 200);
    assert!(world.rooms.lock().inputs.pop().unwrap().offer.tools.is_empty());
}

#[tokio::test]
async fn a_users_picture_travels_with_the_input_in_every_api() {
    let world = World::new().await;
    let (media, data) = ("image/png", "iVBORw0KGgo=");
    let url = format!("data:{media};base64,{data}");
    let source = json!({"type": "base64", "media_type": media, "data": data});
    for (path, block, text) in [
        (CHAT, json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}}), "text"),
        (MESSAGES, json!({"type": "image", "source": source}), "text"),
        (RESPONSES, json!({"type": "input_image", "image_url": url}), "input_text"),
    ] {
        let content = json!([block, {"type": text, "text": "what is it?"}]);
        let mut body = hello(path);
        let field = if path == RESPONSES { "input" } else { "messages" };
        body[field] = json!([{"role": "user", "content": content}]);
        let answer = ask(&world, path, &[], &body).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let input = world.rooms.lock().inputs.pop().unwrap();
        let image =
            ContentPart::Image { media: ImageMediaType::Png, data: data.to_owned(), label: Label::CLAIM };
        assert_eq!(input.parts, [image, ContentPart::new_text("what is it?", Label::ACTOR_TEXT)], "{path}");
    }
}

/// A request of each API in which a tool gave a text and a picture, and the picture's block.
fn showing(path: &str, call: &str) -> Value {
    let (media, data) = ("image/png", "iVBORw0KGgo=");
    let url = format!("data:{media};base64,{data}");
    let given = match path {
        CHAT => json!([{"type": "text", "text": "rain"}, {"type": "image_url", "image_url": {"url": url}}]),
        MESSAGES => json!([{"type": "text", "text": "rain"},
            {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}]),
        _ => json!([{"type": "input_text", "text": "rain"}, {"type": "input_image", "image_url": url}]),
    };
    match path {
        CHAT => json!({"model": "ops", "messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": null, "tool_calls":
                [{"id": call, "type": "function", "function": {"name": "sky__look", "arguments": ARGUMENTS}}]},
            {"role": "tool", "tool_call_id": call, "content": given},
        ]}),
        MESSAGES => json!({"model": "ops", "max_tokens": 9, "messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content":
                [{"type": "tool_use", "id": call, "name": "sky__look", "input": {"city": "Bonn"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": given}]},
        ]}),
        _ => json!({"model": "ops", "input": [
            {"role": "user", "content": "look"},
            {"type": "function_call", "call_id": call, "name": "sky__look", "arguments": ARGUMENTS},
            {"type": "function_call_output", "call_id": call, "output": given},
        ]}),
    }
}

#[tokio::test]
async fn a_tools_picture_travels_with_its_result_in_every_api() {
    let world = World::new().await;
    let image = ContentPart::Image {
        media: ImageMediaType::Png,
        data: "iVBORw0KGgo=".to_owned(),
        label: Label::CLAIM,
    };
    let parts = [ContentPart::new_text("rain", Label::CLAIM), image];
    let session = world.ours.session.to_string();
    let run = RunId::from_bytes([7; 16]);
    for path in [CHAT, MESSAGES, RESPONSES] {
        let answer = ask(&world, path, &[], &showing(path, "c1")).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let told = world.rooms.lock().inputs.pop().unwrap().history;
        let Some(TranscriptTurn::Unit(unit)) = told.last() else { panic!("{path}: {told:?}") };
        assert_eq!(unit.results()[0].parts, parts, "{path}");

        let head = [("x-dromia-session", session.as_str())];
        let answer = ask(&world, path, &head, &showing(path, &name(run, 0))).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let answers = world.rooms.lock().inputs.pop().unwrap().answers.unwrap();
        assert_eq!((answers.run, answers.results[0].parts.as_slice()), (run, parts.as_slice()), "{path}");
    }
}

#[tokio::test]
async fn an_invalid_tool_picture_is_refused_by_its_path() {
    let world = World::new().await;
    for (path, place) in [
        (CHAT, "messages[2].content[1].image_url"),
        (MESSAGES, "messages[2].content[0].content[1].source"),
        (RESPONSES, "input[2].output[1].image_url"),
    ] {
        let text = showing(path, "c1").to_string().replace("image/png", "image/gif");
        let refused = ask(&world, path, &[], &serde_json::from_str(&text).unwrap()).await;
        assert_eq!(refused.status, 400, "{path}");
        assert_eq!(refused.json()["error"]["param"], place, "{:?}", refused.body);
        let file = text.replace("image_url", "input_file").replace("\"image\"", "\"document\"");
        let file = file.replace("input_image", "input_file");
        let refused = ask(&world, path, &[], &serde_json::from_str(&file).unwrap()).await;
        assert_eq!(refused.status, 400, "{path}");
    }
    assert!(world.rooms.lock().inputs.is_empty());
}

#[tokio::test]
async fn the_same_key_with_other_tools_is_another_request() {
    let world = World::new().await;
    let key = [("idempotency-key", "k")];
    let first = ask(&world, CHAT, &key, &declaring(CHAT)).await;
    let again = ask(&world, CHAT, &key, &declaring(CHAT)).await;
    assert_eq!((first.status.as_u16(), &first.body), (200, &again.body));
    let conflict = ask(&world, CHAT, &key, &hello(CHAT)).await;
    assert_eq!((conflict.status.as_u16(), conflict.foreign_code().as_str()), (409, "idempotency_conflict"));
}
