//! A model server whose answers the test decides, for what the built-in scripted model would never say. It speaks as
//! much of the chat completions format as the adapter needs: one request and one whole answer per connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

/// What the model says.
pub(crate) enum Say {
    /// A text, which ends the turn.
    Text(String),
    /// One call: the tool as it travels on the wire, and its arguments.
    Call(&'static str, String),
    /// Nothing for so many seconds: there are too many requests.
    Busy {
        /// When to ask again.
        seconds: u32,
    },
}

/// What decides the answers, from the model's name and the messages.
type Mind = dyn Fn(&str, &[Value]) -> Say + Send + Sync;

/// A running model server; it ends with the test's process.
pub(crate) struct Model {
    address: SocketAddr,
}

impl Model {
    pub(crate) fn start(mind: impl Fn(&str, &[Value]) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mind: Arc<Mind> = Arc::new(mind);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mind = Arc::clone(&mind);
                std::thread::spawn(move || answer(stream, &*mind));
            }
        });
        Self { address }
    }

    /// One line of a configuration: an alias that leads here.
    pub(crate) fn alias(&self, name: &str) -> String {
        format!(
            "  {name}: {{ kind: openai, base_url: \"http://{}/v1\", model: {name}, stream: false }}\n",
            self.address
        )
    }
}

/// Reads one request: its first line and its body. A client that goes away, as a killed server does, gives none.
pub(crate) fn receive(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// Answers one request.
fn answer(stream: TcpStream, mind: &Mind) -> Option<()> {
    let (_, body) = receive(&stream)?;
    let request: Value = serde_json::from_slice(&body).ok()?;
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let (message, finish) = match mind(request["model"].as_str().unwrap_or_default(), &messages) {
        Say::Text(text) => (json!({"role": "assistant", "content": text}), "stop"),
        Say::Call(tool, arguments) => {
            let function = json!({"name": tool, "arguments": arguments});
            let call = json!({"id": "call_0", "type": "function", "function": function});
            (json!({"role": "assistant", "content": "", "tool_calls": [call]}), "tool_calls")
        }
        Say::Busy { seconds } => {
            let refused = format!(
                "HTTP/1.1 429 Too Many Requests\r\nretry-after: {seconds}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            return (&stream).write_all(refused.as_bytes()).ok();
        }
    };
    let completion = json!({
        "id": "c", "object": "chat.completion", "created": 0, "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    })
    .to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        completion.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(completion.as_bytes())).ok()
}

/// Tells whether the last message is somebody's, and not a tool's.
pub(crate) fn is_asked(messages: &[Value]) -> bool {
    messages.last().is_some_and(|message| message["role"] == "user")
}
