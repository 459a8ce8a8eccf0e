//! Whole answers and whole streams as documents: what a client of each API reads.

use serde_json::{Value, json};

use super::{CHAT, MESSAGES, RESPONSES, ask, hello};
use crate::world::World;

/// Asks in a stream and returns what it says until its end: the event names, where the API has them, and the data.
async fn streamed(world: &World, path: &str, options: Value) -> Vec<(String, Value)> {
    let mut body = hello(path);
    body["stream"] = json!(true);
    if !options.is_null() {
        body["stream_options"] = options;
    }
    let answer = ask(world, path, &[], &body).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream", "{:?}", answer.body);
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(text.ends_with("\n\n"), "{text}");
    let event = |event: &str| {
        let name = event.lines().find_map(|line| line.strip_prefix("event: ")).unwrap_or_default().to_owned();
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        (name, serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
    };
    text.trim_end().split("\n\n").map(event).collect()
}

/// Replaces the ids, which differ from run to run, by their prefix.
fn nameless(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.split_once("run_") {
            Some((prefix, _)) => json!(format!("{prefix}RUN")),
            None => value.clone(),
        },
        Value::Array(list) => list.iter().map(nameless).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), nameless(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[tokio::test]
async fn a_chat_completion_whole_and_in_chunks() {
    let world = World::new().await;
    let usage = json!({
        "prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    });
    let whole = ask(&world, CHAT, &[], &hello(CHAT)).await.json();
    assert_eq!(
        nameless(&whole),
        json!({
            "id": "chatcmpl-RUN", "object": "chat.completion", "created": 0, "model": "ops",
            "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop", "message":
                {"role": "assistant", "content": "you said: hi", "refusal": null, "annotations": []}}],
            "usage": usage,
        })
    );
    let chunks = streamed(&world, CHAT, json!({"include_usage": true})).await;
    let data: Vec<_> = chunks.iter().map(|(_, data)| data).collect();
    let deltas: Vec<_> = data.iter().filter_map(|data| data["choices"].get(0)).collect();
    assert_eq!(deltas[0]["delta"], json!({"role": "assistant", "content": "", "refusal": null}));
    assert_eq!(deltas[1]["delta"], json!({"content": "you said: hi"}));
    assert_eq!((&deltas[2]["delta"], &deltas[2]["finish_reason"]), (&json!({}), &json!("stop")));
    assert_eq!((data.len(), data[3]["usage"].clone(), &data[3]["choices"]), (5, usage, &json!([])));
    assert_eq!((data[0]["usage"].clone(), data[4]), (Value::Null, &json!("[DONE]")));
    let plain = streamed(&world, CHAT, Value::Null).await;
    assert!(plain.iter().all(|(_, data)| data.get("usage").is_none()));
    assert_eq!(plain.len(), 4);
}

#[tokio::test]
async fn a_message_whole_and_in_events() {
    let world = World::new().await;
    let usage = json!({"input_tokens": 2, "output_tokens": 5, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1});
    let whole = ask(&world, MESSAGES, &[], &hello(MESSAGES)).await.json();
    assert_eq!(
        nameless(&whole),
        json!({"id": "msg_RUN", "type": "message", "role": "assistant", "model": "ops",
            "content": [{"type": "text", "text": "you said: hi"}], "stop_reason": "end_turn",
            "stop_sequence": null, "usage": usage})
    );
    let events = streamed(&world, MESSAGES, Value::Null).await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(events.iter().all(|(name, data)| data["type"] == **name));
    assert_eq!(events[2].1["delta"], json!({"type": "text_delta", "text": "you said: hi"}));
    assert_eq!((&events[4].1["delta"]["stop_reason"], &events[4].1["usage"]), (&json!("end_turn"), &usage));
}

#[tokio::test]
async fn a_response_whole_and_in_events() {
    let world = World::new().await;
    let whole = nameless(&ask(&world, RESPONSES, &[], &hello(RESPONSES)).await.json());
    assert_eq!((&whole["id"], &whole["object"]), (&json!("resp_RUN"), &json!("response")));
    assert_eq!((&whole["status"], &whole["created_at"]), (&json!("completed"), &json!(0)));
    let part = json!({"type": "output_text", "text": "you said: hi", "annotations": [], "logprobs": []});
    assert_eq!(
        whole["output"],
        json!([{"id": "msg_RUN", "type": "message", "status": "completed", "role": "assistant", "content": [part]}])
    );
    assert_eq!(
        whole["usage"],
        json!({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 8})
    );
    let events = streamed(&world, RESPONSES, Value::Null).await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    for (number, (name, data)) in (0_u64..).zip(&events) {
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
    }
    assert_eq!(nameless(&events[8].1["response"]), whole);
}
