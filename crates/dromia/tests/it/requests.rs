//! What a model was sent, as `dromia run show --request` prints it: the bytes that its server heard, for every form, with
//! tools, behind a stand-in, after a kill, and after the configuration became another one.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, block_on, count, stderr};
use crate::model::receive;

/// Asks for a tool; the answer follows its result.
const USE_TOOL: &str = "use the tool";
/// Is answered at the second time only.
const SLOW: &str = "take your time";

/// A model server that writes down what it hears, in the order in which it came.
struct Recorder {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (book, was_slow) = (Arc::clone(&heard), Arc::<AtomicBool>::default());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (book, was_slow) = (Arc::clone(&book), Arc::clone(&was_slow));
                std::thread::spawn(move || hear(stream, &book, &was_slow));
            }
        });
        Self { address, heard }
    }

    /// Takes what was heard since the last time.
    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.heard.lock().expect("nobody panics while it holds this"))
    }

    fn count(&self) -> usize {
        self.heard.lock().expect("nobody panics while it holds this").len()
    }

    /// One line of a configuration.
    fn alias(&self, name: &str, kind: &str, more: &str) -> String {
        let place = if name == "down" { "down/v1" } else { "v1" };
        let address = self.address;
        format!(
            "  {name}: {{ kind: {kind}, base_url: \"http://{address}/{place}\", model: {name}-1, stream: false{more} }}\n"
        )
    }
}

/// Hears one request and answers it; a client that went away is nobody to answer.
fn hear(stream: TcpStream, book: &Mutex<Vec<Vec<u8>>>, was_slow: &AtomicBool) -> Option<()> {
    let (first, body) = receive(&stream)?;
    let text = String::from_utf8(body.clone()).ok()?;
    book.lock().ok()?.push(body);
    if text.contains(SLOW) && !was_slow.swap(true, Ordering::SeqCst) {
        std::thread::sleep(Duration::from_mins(2));
    }
    let (status, answer) = if first.contains("/down/") {
        ("503 Service Unavailable", json!({"error": {"message": "down"}}))
    } else {
        // The result of the tool stands behind what asked for it.
        let asked = text.rfind(USE_TOOL);
        let told = ["tool_call_id", "function_call_output", "tool_use_id"];
        let told = told.iter().filter_map(|mark| text.rfind(mark)).max();
        let sent: Value = serde_json::from_str(&text).ok()?;
        ("200 OK", answer(&first, asked > told, &sent["stop_sequences"][0]))
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())).ok()
}

/// An answer in the words of the place that was asked: a call of a tool, or a text, which ends where it may.
fn answer(first: &str, calls: bool, stop_text: &Value) -> Value {
    if first.contains("/chat/completions") {
        let function = json!({"name": "time__now", "arguments": "{}"});
        let call = json!({"id": "c0", "type": "function", "function": function});
        let (message, finish) = if calls {
            (json!({"role": "assistant", "content": "", "tool_calls": [call]}), "tool_calls")
        } else {
            (json!({"role": "assistant", "content": "done \u{1b} ä"}), "stop")
        };
        return json!({"choices": [{"message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5}});
    }
    if first.contains("/responses") {
        let output = if calls {
            json!({"type": "function_call", "call_id": "c0", "name": "time__now", "arguments": "{}"})
        } else {
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]})
        };
        return json!({"status": "completed", "output": [output], "usage": {"input_tokens": 3, "output_tokens": 5}});
    }
    let (content, stop) = if calls {
        (json!({"type": "tool_use", "id": "t0", "name": "time__now", "input": {}}), "tool_use")
    } else {
        let stop = if stop_text.is_null() { "end_turn" } else { "stop_sequence" };
        (json!({"type": "text", "text": "done"}), stop)
    };
    json!({"type": "message", "role": "assistant", "content": [content], "stop_reason": stop, "stop_sequence": stop_text,
        "usage": {"input_tokens": 3, "output_tokens": 5}})
}

fn agent(home: &Home, name: &str) {
    let instructions = format!("You are {name}, and you say \"ä\".");
    let line = ["agent", "create", name, "--model", name, "--instructions", instructions.as_str()];
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "time.now"];
    let made = home.run(&[&line[..], &grants[..]].concat());
    assert!(made.status.success(), "{}", stderr(&made));
}

/// A model call, by run, step and attempt, and the bytes that were heard of it.
struct Call {
    run: String,
    step: u64,
    attempt: u64,
    body: Vec<u8>,
}

impl Call {
    /// What the command prints.
    fn printed(&self, home: &Home) -> Vec<u8> {
        let (step, attempt) = (self.step.to_string(), self.attempt.to_string());
        let output =
            home.run(&["run", "show", &self.run, "--request", "--step", &step, "--attempt", &attempt]);
        assert!(output.status.success(), "{}: {}", self.run, stderr(&output));
        assert_eq!(stderr(&output), "", "{}", self.run);
        output.stdout
    }
}

/// Pairs the calls of a session's newest run with what was heard meanwhile.
async fn calls(server: &Server, session: &str, heard: Vec<Vec<u8>>) -> Vec<Call> {
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    let (_, runs) = server.get(&format!("/v1/runs?session={session}")).await;
    let run = runs["items"][0]["id"].as_str().expect("a run").to_owned();
    let called: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "model_called").collect();
    assert_eq!(called.len(), heard.len(), "{entries:#?}");
    let number = |value: &Value| value.as_u64().expect("a number");
    let call = |(entry, body): (&&Value, Vec<u8>)| {
        let fields = &entry["fields"];
        assert_eq!(entry["version"], 1, "{entry}");
        Call { run: run.clone(), step: number(&fields["step"]), attempt: number(&fields["attempt"]), body }
    };
    called.iter().zip(heard).map(call).collect()
}

#[test]
fn a_printed_request_equals_the_sent_bytes() {
    let (home, recorder) = (Home::new(), Recorder::start());
    let names = ["chat", "responses", "messages", "down"];
    let kinds = ["openai", "openai_responses", "anthropic", "openai"];
    let mut models = String::new();
    for (name, kind) in names.into_iter().zip(kinds) {
        let more = if name == "down" { ", fallback: [messages]" } else { "" };
        models.push_str(&recorder.alias(name, kind, more));
    }
    let file = home.path().join("dromia.yaml");
    let first = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{models}");
    std::fs::write(&file, first).expect("the configuration can be written");
    let server = home.serve();
    let mut all = Vec::new();
    for name in names {
        agent(&home, name);
        // The first turn is a past of the second, which has two steps; a model that is down has a second attempt.
        for text in ["hello", USE_TOOL] {
            all.extend(block_on(async {
                let event = json!({"text": text, "agent": name, "channel": name, "wait": true});
                let (_, answer) = server.event(&event).await;
                assert_eq!(answer["status"], "completed", "{name}: {answer}");
                calls(&server, answer["session"].as_str().expect("a session"), recorder.take()).await
            }));
        }
    }
    assert!(all.iter().any(|call| call.step == 2) && all.iter().any(|call| call.attempt == 2));
    let slow = block_on(async {
        let (_, accepted) = server.event(&json!({"text": SLOW, "agent": "chat", "channel": "slow"})).await;
        let until = Instant::now() + DEADLINE;
        while recorder.count() == 0 {
            assert!(Instant::now() < until, "the model is not asked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        accepted["session"].as_str().expect("a session").to_owned()
    });
    server.kill();

    // Another life with another configuration, in which every alias means something else.
    let server = home.serve();
    let cut_off = block_on(async {
        server.journal_until(&slow, |entries| count(entries, "run_completed") == 1).await;
        calls(&server, &slow, recorder.take()).await
    });
    assert_eq!(cut_off.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
    all.extend(cut_off);
    let check = |all: &[Call]| {
        for call in all {
            let (printed, heard) = (call.printed(&home), &call.body);
            assert!(
                printed == *heard,
                "step {}, attempt {}:\n{}\nwas heard, and this is printed:\n{}",
                call.step,
                call.attempt,
                String::from_utf8_lossy(heard),
                String::from_utf8_lossy(&printed)
            );
        }
    };
    check(&all);
    drop(server);
    let others = "version: 1\nengine: { output_tokens_max: 77 }\ncontext: { window_tokens: 2000 }\nmodels:\n  default: { kind: scripted }\n";
    std::fs::write(&file, others).expect("the configuration can be written");
    let server = home.serve();
    check(&all);

    // The last attempt is meant where none is named, and the route says who was asked.
    let of_down = all.iter().filter(|call| call.attempt == 2).collect::<Vec<_>>();
    let (run, step) = (&of_down[0].run, of_down[0].step);
    let last = home.run(&["run", "show", run, "--step", &step.to_string(), "--request"]);
    assert_eq!(last.stdout, of_down[0].body);
    block_on(async {
        let url = format!("{}/v1/runs/{run}/requests/{step}", server.url);
        let asked = reqwest::Client::new().get(url).bearer_auth(&server.token);
        let told = asked.timeout(DEADLINE).send().await.expect("the server answers");
        let header = |name: &str| told.headers()[name].to_str().expect("a text").to_owned();
        assert_eq!(
            [header("x-dromia-alias"), header("x-dromia-model"), header("x-dromia-form")],
            ["messages", "messages-1", "messages/1"]
        );
        assert_eq!(header("x-dromia-digest").len(), 16);
        assert_eq!(told.bytes().await.expect("a body"), of_down[0].body);
    });
    let absent = home.run(&["run", "show", run, "--step", "9", "--request"]);
    assert_eq!((absent.status.code(), absent.stdout.len()), (Some(1), 0));
    assert!(stderr(&absent).contains("request_not_found"), "{}", stderr(&absent));

    // The scripted model is sent nothing; what it was asked is told all the same.
    let (_, answer) = block_on(server.event(&json!({"text": "hello", "wait": true})));
    let scripted = answer["run"].as_str().expect("a run");
    let printed = home.run(&["run", "show", scripted, "--step", "1", "--request"]);
    let printed: Value = serde_json::from_slice(&printed.stdout).expect("it is JSON");
    let said = printed["messages"].as_array().and_then(|messages| messages.last()).expect("a message");
    assert_eq!((&printed["model"], &said["content"]), (&json!("scripted"), &json!("hello")), "{printed}");

    // The run itself is shown by its steps.
    let shown = home.run(&["run", "show", run, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("a document");
    let steps = shown["steps"].as_array().expect("steps");
    let outcomes: Vec<_> = steps.iter().map(|step| (&step["name"], &step["outcome"])).collect();
    assert_eq!(outcomes[0], (&json!("down"), &json!("model_unavailable")), "{shown:#}");
    assert_eq!(outcomes[1].0, "messages", "{shown:#}");
    let table = home.run(&["run", "show", run]);
    let table = String::from_utf8(table.stdout).expect("it is text");
    assert!(table.contains("model messages") && table.contains("model_unavailable"), "{table}");
}

#[test]
fn a_message_says_at_which_text_its_model_stopped() {
    let (home, recorder) = (Home::new(), Recorder::start());
    let model = recorder.alias("messages", "anthropic", "");
    let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{model}");
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    agent(&home, "messages");
    for (stops, reason, sequence) in
        [(json!(["END"]), "stop_sequence", json!("END")), (json!([]), "end_turn", Value::Null)]
    {
        let asked = json!({"model": "messages", "max_tokens": 64, "stop_sequences": stops,
            "messages": [{"role": "user", "content": "hello"}]});
        let (status, message) = block_on(async {
            let request = reqwest::Client::new().post(format!("{}/v1/messages", server.url));
            server.send(request.bearer_auth(&server.token).json(&asked)).await
        });
        assert_eq!(status, 200, "{message}");
        assert_eq!(
            (&message["stop_reason"], &message["stop_sequence"]),
            (&json!(reason), &sequence),
            "{message}"
        );
    }
}

#[test]
fn old_messages_outside_the_window_are_left_out_whole() {
    let (home, recorder) = (Home::new(), Recorder::start());
    let model = recorder.alias("small", "openai", ", context_tokens: 1600, output_tokens_max: 100");
    let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{model}");
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    agent(&home, "small");
    let mut left_out = Vec::new();
    block_on(async {
        // The second turn leaves the window less than four fifths full, so that no compaction begins before the third.
        for (number, length) in [60, 60, 220].into_iter().enumerate() {
            let text = format!("number {number}: {}", "lorem ipsum ".repeat(length));
            let event = json!({"text": text, "agent": "small", "channel": "one", "wait": true});
            let (_, answer) = server.event(&event).await;
            assert_eq!(answer["status"], "completed", "{answer}");
            let session = answer["session"].as_str().expect("a session");
            let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
            let called = entries.iter().find(|entry| entry["kind"] == "model_called").expect("it was called");
            let fields = &called["fields"];
            left_out.push(fields["sent"]["left_out"].as_u64().unwrap_or_default());
            let (input, output) = (fields["input_tokens"].as_u64(), fields["output_tokens_max"].as_u64());
            assert!(input.zip(output).is_some_and(|(input, output)| input + output <= 1600), "{fields}");
            assert_eq!(output, Some(100), "{fields}");
            // The last turn fills the window, so a compaction follows it.
            let mut heard = recorder.take();
            heard.retain(|body| !String::from_utf8_lossy(body).contains("You summarize the oldest part"));
            for call in calls(&server, session, heard).await {
                let body = String::from_utf8_lossy(&call.body).into_owned();
                assert!(body.contains(&format!("number {number}:")), "the newest is left out: {body}");
                assert_eq!(call.printed(&home), call.body);
            }
        }
        assert!(left_out[..2] == [0, 0] && left_out[2] > 0, "{left_out:?}");
        assert!(
            left_out.iter().all(|turns| turns.is_multiple_of(2)),
            "an answer goes with its question: {left_out:?}"
        );

        let text = "lorem ipsum ".repeat(600);
        let event = json!({"text": text, "agent": "small", "channel": "one", "wait": true});
        let (_, answer) = server.event(&event).await;
        assert_eq!(answer["failure"]["code"], "context_exceeded", "{answer}");
        let message = answer["failure"]["message"].as_str().expect("a message");
        assert!(message.contains("small-1") && message.contains("window of 1600"), "{message}");
        assert_eq!(recorder.take().len(), 0, "nothing was sent");
        // The next one goes on, without the one that did not fit.
        let event = json!({"text": "and now?", "agent": "small", "channel": "one", "wait": true});
        let (_, answer) = server.event(&event).await;
        assert_eq!(answer["status"], "completed", "{answer}");
    });
}

/// The schema is in the system text of every request, and in a field of its own where the provider has one. Requests for
/// repairs can be written again like any other.
#[test]
fn the_schema_of_an_answer_reaches_its_model() {
    let (home, recorder) = (Home::new(), Recorder::start());
    let kinds = ["openai", "openai_responses", "anthropic"];
    let mut file = "version: 1\nproviders:\n".to_owned();
    for (kind, field) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let address = recorder.address;
        file.extend([format!(
            "  p-{}-{field}: {{ kind: {kind}, base_url: \"http://{address}/v1\", answer_schemas: {field} }}\n",
            kind.replace('_', "-")
        )]);
    }
    file.push_str("models:\n  default: { kind: scripted }\n");
    let names: Vec<_> = kinds
        .iter()
        .flat_map(|kind| [false, true].map(|field| format!("{}-{field}", kind.replace('_', "-"))))
        .collect();
    for name in &names {
        file.extend([format!("  {name}: {{ provider: p-{name}, model: m, stream: false }}\n")]);
    }
    std::fs::write(home.path().join("dromia.yaml"), file).expect("the configuration can be written");
    let server = home.serve();
    let schema =
        json!({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "f", "schema": schema, "strict": true}});
    for name in &names {
        agent(&home, name);
        let asked = json!({"model": name, "messages": [{"role": "user", "content": "hello"}], "response_format": format});
        let (status, refused) = block_on(async {
            let request = reqwest::Client::new().post(format!("{}/v1/chat/completions", server.url));
            server.send(request.bearer_auth(&server.token).json(&asked)).await
        });
        assert_eq!(
            (status, &refused["error"]["code"]),
            (422, &json!("answer_schema_unsatisfied")),
            "{refused}"
        );
        let run = refused["error"]["run"].as_str().expect("a run").to_owned();
        let heard = recorder.take();
        assert_eq!(heard.len(), 3, "{name}: two repairs");
        for (step, body) in (1..).zip(heard) {
            let sent: Value = serde_json::from_slice(&body).expect("it is JSON");
            let field = [
                &sent["response_format"]["json_schema"]["schema"],
                &sent["text"]["format"]["schema"],
                &sent["output_config"]["format"]["schema"],
            ];
            let has_field = field.contains(&&schema);
            assert_eq!(has_field, name.ends_with("true"), "{name}: {sent}");
            assert!(sent.to_string().contains("It must satisfy this JSON Schema"), "{name}: {sent}");
            let call = Call { run: run.clone(), step, attempt: 1, body };
            assert_eq!(call.printed(&home), call.body, "{name}, step {step}");
        }
    }
}
