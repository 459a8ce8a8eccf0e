//! The three wire formats: what goes out, and what comes back in one piece, in events, and cut at every byte.
//!
//! The exchanges are written by hand after the providers' documentation; none is a recording of somebody else's.

use dromia_contracts::client::{SamplingOptions, ToolChoice};
use dromia_contracts::content::{
    AssistantMessage, CallStatus, ContentPart, ImageMediaType, InputMessage, ToolCall, ToolResult,
};
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::label::Label;
use dromia_contracts::model::{
    FinishReason, LanguageModel as _, ModelError, ModelReply, ModelRequest, UsageDetail,
};
use dromia_contracts::transcript::{OpenUnit, TranscriptTurn};
use dromia_contracts::{Actor, CallId, ErrorCode};
use dromia_models::http::{StreamReader, whole_reply};
use dromia_models::{HttpConfig, HttpModel, ProviderApiKey, TokenPrice, WireFormat};
use serde_json::{Value, json};

use crate::canned::{Then, answer_once, http};
use crate::scene::{Collected, attempt, egress, request, tool, unit};

/// One answer in a format's words: whole, and as the data of its events.
struct Exchange {
    format: WireFormat,
    whole: Value,
    events: Vec<Value>,
    end: &'static str,
}

/// The same answer three times: some text, then two calls at once.
fn exchanges() -> [Exchange; 3] {
    let arguments = r#"{"path":"ä.txt"}"#;
    let chat_call = |index: u32, name: &str, arguments: &str| json!({"index": index, "id": format!("c{index}"), "type": "function", "function": {"name": name, "arguments": arguments}});
    let chat_usage = json!({"prompt_tokens": 30, "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 20}, "completion_tokens_details": {"reasoning_tokens": 4}});
    let chat = Exchange {
        format: WireFormat::OpenAiChat,
        whole: json!({"choices": [{"message": {"content": "I look.",
            "tool_calls": [chat_call(0, "file__read", arguments), chat_call(1, "time__now", "{}")]},
            "finish_reason": "tool_calls"}], "usage": chat_usage}),
        events: vec![
            json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
            json!({"choices": [{"delta": {"content": "I "}}]}),
            json!({"choices": [{"delta": {"content": "look."}}]}),
            json!({"choices": [{"delta": {"tool_calls": [chat_call(0, "file__read", "")]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"path\":"}}]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"ä.txt\"}"}}]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [chat_call(1, "time__now", "{}")]}}]}),
            json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
            json!({"choices": [], "usage": chat_usage}),
        ],
        end: "data: [DONE]\n\n",
    };
    let output = json!([
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c0", "name": "file__read", "arguments": arguments},
        {"type": "function_call", "call_id": "c1", "name": "time__now", "arguments": "{}"},
    ]);
    let response = json!({"status": "completed", "output": output, "usage": {"input_tokens": 30, "output_tokens": 7,
        "input_tokens_details": {"cached_tokens": 20}, "output_tokens_details": {"reasoning_tokens": 4}}});
    let responses = Exchange {
        format: WireFormat::OpenAiResponses,
        whole: response.clone(),
        events: vec![
            json!({"type": "response.created", "response": {"status": "in_progress"}}),
            json!({"type": "response.output_text.delta", "delta": "I "}),
            json!({"type": "response.output_text.delta", "delta": "look."}),
            json!({"type": "response.function_call_arguments.delta", "delta": "{\"pa"}),
            json!({"type": "response.completed", "response": response}),
        ],
        end: "",
    };
    let used = json!({"input_tokens": 10, "cache_read_input_tokens": 20, "output_tokens": 7});
    let messages = Exchange {
        format: WireFormat::AnthropicMessages,
        whole: json!({"type": "message", "role": "assistant", "stop_reason": "tool_use", "usage": used, "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t0", "name": "file__read", "input": {"path": "ä.txt"}},
            {"type": "tool_use", "id": "t1", "name": "time__now", "input": {}},
        ]}),
        events: vec![
            json!({"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 10, "cache_read_input_tokens": 20, "output_tokens": 1}}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I "}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "look."}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t0", "name": "file__read", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"path\":"}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "\"ä.txt\"}"}}),
            json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "t1", "name": "time__now", "input": {}}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ],
        end: "",
    };
    [chat, responses, messages]
}

fn stream(exchange: &Exchange) -> String {
    let events = exchange.events.iter().map(|event| format!("event: x\ndata: {event}\n\n"));
    events.chain([exchange.end.to_owned()]).collect()
}

fn adapter(format: WireFormat, base_url: &str, stream: bool) -> HttpModel {
    let base = HttpConfig::new(format, base_url, "m-1");
    let config = HttpConfig { stream, key: Some(ProviderApiKey::new("sk-canary")), ..base };
    HttpModel::new(config, &egress()).unwrap()
}

fn read(format: WireFormat, chunks: &[&[u8]], deltas: &Collected) -> Result<ModelReply, ModelError> {
    let mut reader = StreamReader::new(format);
    for chunk in chunks {
        reader.push_chunk(chunk, deltas)?;
    }
    reader.into_reply(|| 0)
}

fn assert_is_the_answer(reply: &ModelReply, format: WireFormat) {
    assert_eq!(reply.text, "I look.", "{format:?}");
    assert_eq!(reply.finish, FinishReason::ToolCalls, "{format:?}");
    let calls: Vec<_> =
        reply.calls.iter().map(|call| (call.tool.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("file.read", r#"{"path":"ä.txt"}"#), ("time.now", "{}")], "{format:?}");
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (30, 7), "{format:?}");
    assert_eq!(reply.detail.cache_read_tokens, 20, "{format:?}");
    let reasoning = if format == WireFormat::AnthropicMessages { 0 } else { 4 };
    assert_eq!(reply.detail.reasoning_tokens, reasoning, "{format:?}");
}

#[test]
fn a_stream_cut_at_every_byte_gives_one_answer() {
    for exchange in exchanges() {
        let stream = stream(&exchange);
        for at in 0..=stream.len() {
            let (head, tail) = stream.as_bytes().split_at(at);
            let deltas = Collected::default();
            let reply = read(exchange.format, &[head, tail], &deltas).unwrap();
            assert_is_the_answer(&reply, exchange.format);
            assert_eq!(deltas.pieces().concat(), "I look.");
        }
    }
}

/// Two calls that are written at once come in turn, piece by piece.
#[test]
fn interleaved_pieces_of_two_calls_are_joined_per_call() {
    let piece = |index: u32, name: Value, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"choices": [{"delta": {"tool_calls": [{"index": index, "id": name, "function": function}]}}]})
    };
    let exchange = Exchange {
        format: WireFormat::OpenAiChat,
        whole: Value::Null,
        events: vec![
            piece(0, json!("file__read"), "{\"path\":"),
            piece(1, json!("file__list"), "{\"after\":"),
            piece(0, Value::Null, "\"a\"}"),
            piece(1, Value::Null, "\"b\"}"),
            json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        ],
        end: "data: [DONE]\n\n",
    };
    let reply = read(exchange.format, &[stream(&exchange).as_bytes()], &Collected::default()).unwrap();
    let calls: Vec<_> =
        reply.calls.iter().map(|call| (call.tool.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("file.read", r#"{"path":"a"}"#), ("file.list", r#"{"after":"b"}"#)]);
}

/// The exchanges of servers that count with every chunk.
fn counted_often() -> impl Iterator<Item = Exchange> {
    exchanges().into_iter().map(|mut exchange| {
        let count = |chunk: usize| match exchange.format {
            WireFormat::OpenAiChat => json!({"prompt_tokens": 3, "completion_tokens": chunk,
                "prompt_tokens_details": {"cached_tokens": 1}}),
            _ => json!({"input_tokens": 3, "output_tokens": chunk}),
        };
        let last = exchange.events.len() - 1;
        for (chunk, event) in exchange.events[..last].iter_mut().enumerate() {
            match exchange.format {
                WireFormat::OpenAiChat => event["usage"] = count(chunk),
                WireFormat::OpenAiResponses if event["response"].is_object() => {
                    event["response"]["usage"] = count(chunk);
                }
                WireFormat::AnthropicMessages if event["type"] == "content_block_delta" => {
                    *event = json!([event, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": chunk}}]);
                }
                _ => {}
            }
        }
        // A count of its own between two pieces of text, as Anthropic may send it.
        let flat = |event: Value| match event {
            Value::Array(events) => events,
            event => vec![event],
        };
        exchange.events = exchange.events.into_iter().flat_map(flat).collect();
        exchange
    })
}

/// The last count is the count.
#[test]
fn the_last_count_in_a_stream_wins() {
    for exchange in counted_often() {
        let reply = read(exchange.format, &[stream(&exchange).as_bytes()], &Collected::default()).unwrap();
        assert_is_the_answer(&reply, exchange.format);
    }
}

/// Planted fault: of all counts of a chat completion the first one counts, as the later ones are not heard.
#[test]
#[should_panic(expected = "(30, 7)")]
fn a_count_that_stays_the_first_is_caught() {
    let mut exchange = counted_often().next().expect("a chat completion");
    for event in &mut exchange.events[1..] {
        event.as_object_mut().expect("an object").remove("usage");
    }
    let reply = read(exchange.format, &[stream(&exchange).as_bytes()], &Collected::default()).unwrap();
    assert_is_the_answer(&reply, exchange.format);
}

#[test]
fn a_stream_ending_early_at_any_byte_is_cut() {
    for exchange in exchanges() {
        let stream = stream(&exchange);
        for end in 0..stream.len() {
            match read(exchange.format, &[&stream.as_bytes()[..end]], &Collected::default()) {
                Err(error) => assert_eq!(error.code, ErrorCode::ModelCut, "{:?} at {end}", exchange.format),
                // The provider has said why it stopped; what follows is a count, or the mark of the end.
                Ok(reply) => assert_eq!(reply.calls.len(), 2, "{:?} at {end}", exchange.format),
            }
        }
    }
}

#[tokio::test]
async fn a_whole_answer_says_the_same() {
    for exchange in exchanges() {
        let body = exchange.whole.to_string();
        let (address, _heard, _) = answer_once(http("200 OK", "", &body), Then::Close).await;
        let adapter = adapter(exchange.format, &format!("http://{address}/v1"), false);
        let reply = attempt(&adapter, &request("hello"), &Collected::default()).await.unwrap();
        assert_is_the_answer(&reply, exchange.format);
    }
}

/// What is sent: the head of the request and its body.
async fn sent(format: WireFormat, request: &ModelRequest) -> (String, Value) {
    let whole = exchanges().into_iter().find(|exchange| exchange.format == format).unwrap().whole;
    let (address, heard, _) = answer_once(http("200 OK", "", &whole.to_string()), Then::Close).await;
    let adapter = adapter(format, &format!("http://{address}/v1"), false);
    attempt(&adapter, request, &Collected::default()).await.unwrap();
    let heard = heard.await.unwrap();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
}

fn asked() -> ModelRequest {
    let mut asked = request("read it");
    asked.tools = vec![tool("file.read")].into();
    let first = ModelReply {
        text: String::new(),
        calls: vec![
            dromia_contracts::model::ProposedCall {
                tool: "file.read".into(),
                arguments: "{\"path\":\"a\"}".into(),
            },
            dromia_contracts::model::ProposedCall { tool: "file.read".into(), arguments: "not json".into() },
        ],
        usage: dromia_contracts::model::TokenUsage::default(),
        detail: UsageDetail::default(),
        cost_micros: 0,
        finish: FinishReason::ToolCalls,
        stopped_at: None,
    };
    asked.transcript.push_unit(unit(1, &first, &[(CallStatus::Ok, "text"), (CallStatus::Error, "bad")]));
    asked
}

/// The names of calls in a request, sorted.
fn names_of_calls(body: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(body).unwrap();
    let names = text.split('"').filter(|piece| piece.starts_with("call_") && *piece != "call_id");
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// A journal names calls within their run, so the second run of a conversation gives the names of the first again; and
/// providers refuse a conversation in which two calls have one name.
#[tokio::test]
async fn calls_have_unique_names_in_a_conversation() {
    let mut request = asked();
    let TranscriptTurn::Unit(of_first_run) = request.transcript.turns()[1].clone() else {
        panic!("it called tools")
    };
    let again = InputMessage {
        author: Actor::new("cli:ada"),
        parts: vec![ContentPart::new_text("again", Label::ACTOR_TEXT)],
        hops: 0,
    };
    request.transcript.push_input(again);
    request.transcript.push_unit(of_first_run);
    for format in [WireFormat::OpenAiChat, WireFormat::OpenAiResponses, WireFormat::AnthropicMessages] {
        let adapter = adapter(format, "http://127.0.0.1:9/v1", false);
        let prepared = adapter.prepare_attempt(&request).unwrap();
        let names =
            ["call_2_0", "call_2_0", "call_2_1", "call_2_1", "call_4_0", "call_4_0", "call_4_1", "call_4_1"];
        assert_eq!(names_of_calls(&prepared.body), names, "{format:?}: each once, and its result");
        assert_eq!(adapter.encode_request(&prepared.wording, &request).unwrap(), prepared.body);
        let left_out = RequestEncoding { left_out: 2, ..prepared.wording };
        let later = adapter.encode_request(&left_out, &request).unwrap();
        assert_eq!(names_of_calls(&later), names[4..], "{format:?}: a call keeps its name");
    }
}

#[tokio::test]
async fn anthropic_is_sent_alternating_roles_objects_and_its_own_headers() {
    let (head, body) = sent(WireFormat::AnthropicMessages, &asked()).await;
    assert!(head.starts_with("post /v1/messages http/1.1"), "{head}");
    assert!(head.contains("x-api-key: sk-canary"), "{head}");
    assert!(head.contains("anthropic-version: 2023-06-01"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(body["max_tokens"], 1024);
    assert_eq!(body["system"], json!([{"type": "text", "text": "You are Ada."}]));
    assert_eq!(body["tools"][0]["name"], "file__read");
    assert_eq!(body["tools"][0]["input_schema"]["type"], "object");
    let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    let calls = &body["messages"][1]["content"];
    assert_eq!(calls[0]["input"], json!({"path": "a"}), "text that is empty is left out: {calls}");
    assert_eq!(calls[1]["input"], json!({"unreadable": "not json"}));
    let results = &body["messages"][2]["content"];
    assert_eq!(
        results[0],
        json!({"type": "tool_result", "tool_use_id": calls[0]["id"], "content": "[ok] text", "is_error": false})
    );
    assert_eq!(results[1]["is_error"], true);
}

#[tokio::test]
async fn a_picture_is_encoded_in_place_in_each_format() {
    let mut request = request("what is this?");
    let image =
        ContentPart::Image { media: ImageMediaType::Png, data: "iVBORw0KGgo=".into(), label: Label::CLAIM };
    let parts = vec![image, ContentPart::new_text("and why?", Label::ACTOR_TEXT)];
    request.transcript.push_input(InputMessage { author: Actor::new("cli:ada"), parts, hops: 0 });
    let url = "data:image/png;base64,iVBORw0KGgo=";
    let (_, chat) = sent(WireFormat::OpenAiChat, &request).await;
    assert_eq!(chat["messages"][1]["content"], "what is this?", "a text alone stays one");
    assert_eq!(
        chat["messages"][2]["content"],
        json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "and why?"}])
    );
    let (_, responses) = sent(WireFormat::OpenAiResponses, &request).await;
    assert_eq!(
        responses["input"][1]["content"],
        json!([{"type": "input_image", "image_url": url, "detail": "auto"}, {"type": "input_text", "text": "and why?"}])
    );
    let (_, messages) = sent(WireFormat::AnthropicMessages, &request).await;
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
    assert_eq!(
        messages["messages"][0]["content"],
        json!([{"type": "text", "text": "what is this?"}, {"type": "image", "source": source}, {"type": "text", "text": "and why?"}])
    );
}

/// A request whose last unit has two results: one that went well and one that did not, each with a picture.
fn shown() -> ModelRequest {
    let mut request = request("look");
    let ids = [0, 1].map(|index| CallId { step: 1, index });
    let call = |id| ToolCall { id, tool: "shot".into(), arguments: "{}".into() };
    let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: ids.map(call).to_vec() });
    let text = |text: &str| ContentPart::new_text(text, Label::CLAIM);
    for (call, status, data) in
        [(ids[0], CallStatus::Ok, "iVBORw0KGgo="), (ids[1], CallStatus::Error, "iVBORw0K")]
    {
        let image = ContentPart::Image { media: ImageMediaType::Png, data: data.into(), label: Label::CLAIM };
        open.add_result(ToolResult { call, status, parts: vec![text("before"), image, text("behind")] })
            .expect("it waits");
    }
    request.transcript.push_unit(open.close().expect("both calls have a result"));
    request
}

#[tokio::test]
async fn a_result_picture_is_encoded_where_each_format_allows() {
    let request = shown();
    let url = |data: &str| format!("data:image/png;base64,{data}");
    let caption = |call: &str| format!("[pictures from the result of {call}; the user did not send them]");

    let (_, chat) = sent(WireFormat::OpenAiChat, &request).await;
    let messages = chat["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool", "user"]);
    assert_eq!(messages[3]["content"], "[ok] before\nbehind");
    assert_eq!(messages[4]["content"], "[error] before\nbehind");
    let image = |data: &str| json!({"type": "image_url", "image_url": {"url": url(data)}});
    let line = |call: &str| json!({"type": "text", "text": caption(call)});
    assert_eq!(
        messages[5]["content"],
        json!([line("call_2_0"), image("iVBORw0KGgo="), line("call_2_1"), image("iVBORw0K")])
    );

    let (_, responses) = sent(WireFormat::OpenAiResponses, &request).await;
    let text = |text: &str| json!({"type": "input_text", "text": text});
    let image = |data: &str| json!({"type": "input_image", "image_url": url(data), "detail": "auto"});
    for (at, status, data) in [(3, "[ok]", "iVBORw0KGgo="), (4, "[error]", "iVBORw0K")] {
        let item = &responses["input"][at];
        assert_eq!(item["type"], "function_call_output", "{item}");
        assert_eq!(item["output"], json!([text(status), text("before"), image(data), text("behind")]));
    }

    let (_, messages) = sent(WireFormat::AnthropicMessages, &request).await;
    let text = |text: &str| json!({"type": "text", "text": text});
    let image = |data: &str| json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}});
    assert_eq!(
        messages["messages"][2]["content"],
        json!([
            {"type": "tool_result", "tool_use_id": "call_2_0", "is_error": false,
                "content": [text("[ok]"), text("before"), image("iVBORw0KGgo="), text("behind")]},
            {"type": "tool_result", "tool_use_id": "call_2_1", "is_error": true, "content": "[error] before\nbehind"},
            text(&caption("call_2_1")),
            image("iVBORw0K"),
        ]),
        "a result that is an error holds text only, and nothing stands between the results"
    );
}

#[test]
fn a_result_with_pictures_is_written_again_byte_for_byte() {
    for format in [WireFormat::OpenAiChat, WireFormat::OpenAiResponses, WireFormat::AnthropicMessages] {
        let adapter = adapter(format, "http://127.0.0.1:9/v1", false);
        let prepared = adapter.prepare_attempt(&shown()).unwrap();
        assert_eq!(adapter.encode_request(&prepared.wording, &shown()).unwrap(), prepared.body, "{format:?}");
    }
}

#[tokio::test]
async fn sampling_options_are_encoded_per_format_or_refused() {
    let wishes = |choice| SamplingOptions {
        choice,
        one_call: true,
        temperature: serde_json::Number::from_f64(0.5),
        top_p: serde_json::Number::from_f64(0.25),
        ..SamplingOptions::default()
    };
    let named = || ToolChoice::Named("file.read".into());
    let function = json!({"type": "function", "function": {"name": "file__read"}});
    for (format, choice, place, value) in [
        (WireFormat::OpenAiChat, named(), "tool_choice", function),
        (WireFormat::OpenAiChat, ToolChoice::Required, "tool_choice", json!("required")),
        (WireFormat::OpenAiChat, ToolChoice::Free, "parallel_tool_calls", json!(false)),
        (
            WireFormat::OpenAiResponses,
            named(),
            "tool_choice",
            json!({"type": "function", "name": "file__read"}),
        ),
        (WireFormat::OpenAiResponses, ToolChoice::Required, "tool_choice", json!("required")),
        (WireFormat::OpenAiResponses, ToolChoice::Free, "parallel_tool_calls", json!(false)),
        (
            WireFormat::AnthropicMessages,
            named(),
            "tool_choice",
            json!({"type": "tool", "name": "file__read", "disable_parallel_tool_use": true}),
        ),
        (
            WireFormat::AnthropicMessages,
            ToolChoice::Free,
            "tool_choice",
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
    ] {
        let request = ModelRequest { wishes: wishes(choice), ..asked() };
        let (_, body) = sent(format, &request).await;
        assert_eq!(body[place], value, "{format:?}");
        assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0.5), &json!(0.25)), "{format:?}");
        let (_, plain) = sent(format, &asked()).await;
        for field in ["tool_choice", "parallel_tool_calls", "temperature", "top_p", "stop", "stop_sequences"]
        {
            assert!(plain.get(field).is_none(), "{format:?} {field}");
        }
    }
    let stop = SamplingOptions { stop: vec!["END".into()], ..SamplingOptions::default() };
    let request = ModelRequest { wishes: stop, ..asked() };
    assert_eq!(sent(WireFormat::OpenAiChat, &request).await.1["stop"], json!(["END"]));
    assert_eq!(sent(WireFormat::AnthropicMessages, &request).await.1["stop_sequences"], json!(["END"]));
    let adapter = adapter(WireFormat::OpenAiResponses, "http://127.0.0.1:9/v1", false);
    let refused = adapter.prepare_attempt(&request).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ModelRejected);
}

#[test]
fn a_stop_text_is_reported_if_the_provider_reports_it() {
    let anthropic = |reason: &str, sequence: Value| {
        let end = json!({"stop_reason": reason, "stop_sequence": sequence});
        let mut whole = json!({"type": "message", "content": [{"type": "text", "text": "hi"}]});
        whole["stop_reason"] = end["stop_reason"].clone();
        whole["stop_sequence"] = end["stop_sequence"].clone();
        let events = [
            json!({"type": "message_start", "message": {"content": []}}),
            json!({"type": "message_delta", "delta": end}),
            json!({"type": "message_stop"}),
        ];
        (WireFormat::AnthropicMessages, whole, events.to_vec())
    };
    let chat = |reason: &str, stop: Value| {
        let end = |said: &str| json!({"choices": [{said: {"content": "hi"}, "finish_reason": reason, "stop_reason": stop}]});
        (WireFormat::OpenAiChat, end("message"), vec![end("delta")])
    };
    for ((format, whole, events), told) in [
        (anthropic("stop_sequence", json!("END")), Some("END")),
        (anthropic("stop_sequence", json!("E".repeat(257))), None),
        (anthropic("end_turn", json!("END")), None),
        (anthropic("max_tokens", Value::Null), None),
        (chat("stop", json!("END")), Some("END")),
        (chat("stop", json!(128_009)), None),
        (chat("stop", Value::Null), None),
        (chat("length", json!("END")), None),
    ] {
        let deltas = Collected::default();
        let reply = whole_reply(format, whole.to_string().as_bytes(), &deltas, || 0).unwrap();
        assert_eq!(reply.stopped_at.as_deref(), told, "{whole}");
        let stream = events.iter().map(|event| format!("data: {event}\n\n")).collect::<Vec<_>>().concat();
        let reply = read(format, &[stream.as_bytes()], &Collected::default()).unwrap();
        assert_eq!(reply.stopped_at.as_deref(), told, "{stream}");
    }
}

#[tokio::test]
async fn long_prefixes_and_conversations_are_marked_for_the_cache() {
    let mut long = asked();
    long.system = "s".repeat(5_000).into();
    let (_, body) = sent(WireFormat::AnthropicMessages, &long).await;
    assert_eq!(body["system"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(body["messages"][2]["content"][1]["cache_control"], json!({"type": "ephemeral"}));
    let (_, body) = sent(WireFormat::AnthropicMessages, &asked()).await;
    assert!(!body.to_string().contains("cache_control"), "a short one gains nothing: {body}");
}

#[tokio::test]
async fn responses_get_the_whole_conversation_and_store_nothing() {
    let (head, body) = sent(WireFormat::OpenAiResponses, &asked()).await;
    assert!(head.starts_with("post /v1/responses http/1.1"), "{head}");
    assert!(head.contains("authorization: bearer sk-canary"), "{head}");
    assert_eq!((&body["store"], &body["max_output_tokens"]), (&json!(false), &json!(1024)));
    assert_eq!(body["instructions"], "You are Ada.");
    let types: Vec<_> = body["input"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    let expected =
        ["message", "function_call", "function_call", "function_call_output", "function_call_output"];
    assert_eq!(types, expected);
    assert_eq!(body["input"][1]["call_id"], body["input"][3]["call_id"]);
    assert_eq!(body["input"][3]["output"], "[ok] text");
}

/// What was sent is what was prepared, and what is written again from its wording in another process.
#[tokio::test]
async fn a_sent_request_can_be_encoded_again_identically() {
    for exchange in exchanges() {
        let whole = exchange.whole.to_string();
        let (address, heard, _) = answer_once(http("200 OK", "", &whole), Then::Close).await;
        let model = adapter(exchange.format, &format!("http://{address}/v1"), false);
        let asked = asked();
        let prepared = model.prepare_attempt(&asked).unwrap();
        model.call_model(&asked, &prepared, &Collected::default()).await.unwrap();
        let heard = heard.await.unwrap();
        let (_, body) = heard.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.as_bytes(), prepared.body, "{:?}", exchange.format);
        let asked = ModelRequest { output_tokens_max: prepared.output_tokens_max, ..asked };
        // Another adapter with other settings writes the same: the wording says it all.
        let other = WireFormat::AnthropicMessages;
        let other =
            HttpModel::new(HttpConfig::new(other, "http://127.0.0.1:1", "another"), &egress()).unwrap();
        assert_eq!(
            other.encode_request(&prepared.wording, &asked),
            Ok(prepared.body),
            "{:?}",
            exchange.format
        );
        let form = "chat/999".to_owned();
        let unknown = other.encode_request(
            &dromia_contracts::encoded_request::RequestEncoding { form, ..prepared.wording.clone() },
            &asked,
        );
        assert_eq!(unknown.unwrap_err().code, ErrorCode::RequestUnavailable);
        let left_out = 99;
        let unknown = other.encode_request(
            &dromia_contracts::encoded_request::RequestEncoding { left_out, ..prepared.wording },
            &asked,
        );
        assert_eq!(unknown.unwrap_err().code, ErrorCode::RequestUnavailable);
    }
}

#[tokio::test]
async fn an_answer_that_is_withheld_or_broken_is_typed() {
    let table = [
        (
            WireFormat::OpenAiChat,
            json!({"choices": [{"message": {}, "finish_reason": "content_filter"}]}),
            ErrorCode::ModelRejected,
        ),
        (
            WireFormat::AnthropicMessages,
            json!({"content": [], "stop_reason": "refusal"}),
            ErrorCode::ModelRejected,
        ),
        (
            WireFormat::OpenAiResponses,
            json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
            ErrorCode::ModelRejected,
        ),
        (
            WireFormat::OpenAiResponses,
            json!({"status": "failed", "error": {"code": "x"}}),
            ErrorCode::ModelCut,
        ),
        (
            WireFormat::AnthropicMessages,
            json!({"content": [{"type": "text", "text": "half"}]}),
            ErrorCode::ModelCut,
        ),
        (WireFormat::OpenAiChat, json!({"choices": [{"message": {"content": "half"}}]}), ErrorCode::ModelCut),
    ];
    for (format, body, code) in table {
        let (address, _heard, _) = answer_once(http("200 OK", "", &body.to_string()), Then::Close).await;
        let adapter = adapter(format, &format!("http://{address}/v1"), false);
        let error = attempt(&adapter, &request("hello"), &Collected::default()).await.unwrap_err();
        assert_eq!(error.code, code, "{format:?}: {body}");
    }
}

/// What servers of each format report within an answer that began with 200, and whether it says that the request is too
/// long.
fn reported_errors() -> Vec<(WireFormat, &'static str, bool)> {
    use WireFormat::{AnthropicMessages as Messages, OpenAiChat as Chat, OpenAiResponses as Responses};
    vec![
        (Messages, r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#, false),
        (
            Messages,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}"#,
            true,
        ),
        (Responses, r#"{"type":"response.failed","response":{"status":"failed"}}"#, false),
        (
            Responses,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"context_length_exceeded","message":"x"}}}"#,
            true,
        ),
        (Responses, r#"{"type":"error","code":"context_length_exceeded","message":"x","param":null}"#, true),
        (Responses, r#"{"type":"error","error":{"code":"context_length_exceeded","message":"x"}}"#, true),
        (Chat, r#"{"error":{"message":"x"}}"#, false),
        (Chat, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, true),
        (Chat, r#"{"object":"error","message":"maximum context length is 8","code":400}"#, true),
    ]
}

/// Says which reported error is not what it is with a status of its own, where the server's event arrives so.
fn misread_error(arrives: impl Fn(&str) -> String) -> Option<String> {
    reported_errors().into_iter().find_map(|(format, event, too_long)| {
        let sent = format!("data: {}\n\n", arrives(event));
        let code = read(format, &[sent.as_bytes()], &Collected::default()).unwrap_err().code;
        let must = if too_long { ErrorCode::ContextExceeded } else { ErrorCode::ModelCut };
        (code != must).then(|| format!("{format:?} {event}: {code}"))
    })
}

#[test]
fn an_error_within_a_stream_keeps_its_meaning() {
    assert_eq!(misread_error(str::to_owned), None);
}

/// Planted fault: what the error says is not read, so each one counts as an answer that broke off.
#[test]
fn a_context_error_read_as_a_cut_is_caught() {
    for words in ["context_length_exceeded", "prompt is too long", "maximum context length"] {
        assert!(misread_error(|event| event.replace(words, "an error")).is_some(), "{words}");
    }
}

#[tokio::test]
async fn an_error_after_status_200_names_the_window_but_no_key() {
    for (format, event, too_long) in reported_errors() {
        let event = event.replace(r#""x""#, r#""sk-canary is no key""#);
        for stream in [true, false] {
            let body = if stream { format!("data: {event}\n\n") } else { event.clone() };
            let (address, _heard, _) = answer_once(http("200 OK", "", &body), Then::Close).await;
            let config = HttpConfig::new(format, format!("http://{address}/v1"), "opus");
            let config = HttpConfig { stream, key: Some(ProviderApiKey::new("sk-canary")), ..config };
            let model = HttpModel::new(config, &egress()).unwrap();
            let error = attempt(&model, &request("hello"), &Collected::default()).await.unwrap_err();
            let must = if too_long { ErrorCode::ContextExceeded } else { ErrorCode::ModelCut };
            assert_eq!(error.code, must, "{format:?} {event}");
            assert_eq!(error.message.contains("does not fit opus"), too_long, "{error}");
            assert!(!error.message.contains("sk-"), "{error}");
        }
    }
}

#[test]
fn a_cached_token_costs_its_price_within_the_reservation() {
    let price =
        TokenPrice { input: 3_000_000, output: 15_000_000, cache_read: 300_000, cache_write: 3_750_000 };
    let usage = dromia_contracts::model::TokenUsage { input_tokens: 100, output_tokens: 10 };
    let detail = UsageDetail { cache_read_tokens: 60, cache_write_tokens: 30, reasoning_tokens: 0 };
    // 10 x 3 + 60 x 0.3 + 30 x 3.75 + 10 x 15 = 310.5, rounded up.
    assert_eq!(price.of_usage(usage, detail), 311);
    assert!(
        price.at_most(100, 10) >= price.of_usage(usage, UsageDetail { cache_write_tokens: 100, ..detail })
    );
}
