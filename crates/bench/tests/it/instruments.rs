//! The bare servers answer, the client counts what it sees, and a failure never looks like an answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

const BENCH: &str = env!("CARGO_BIN_EXE_dromia-bench");

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(BENCH).args(arguments).stdout(Stdio::piped()).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("speaks");
        let address = line.trim().strip_prefix("listening http://").expect("names its address").to_owned();
        Self { process, address }
    }

    fn exchange(&self, first_line: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("connects");
        let request = format!(
            "{first_line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("answers");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the whole body");
        serde_json::from_slice(&body).expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }
}

fn load(arguments: &[&str]) -> Value {
    let output = Command::new(BENCH).arg("load").args(arguments).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_probe_turn_is_two_commits_around_one_model_call() {
    let model = Server::start(&["model"]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let database = dir.path().join("probe.db");
    let base_url = format!("http://{}/v1", model.address);
    let probe =
        Server::start(&["probe", "--model", &base_url, "--database", database.to_str().expect("text")]);
    let answer = probe.exchange("POST /v1/events", r#"{"text":"hello","wait":true}"#);
    assert_eq!(answer, json!({"status": "completed", "reply": "I am a scripted model, and I heard you."}));
    // Another process reads what the probe said was durable.
    let rows: i64 = rusqlite::Connection::open(&database)
        .and_then(|db| {
            db.query_row("SELECT count(*) FROM rows WHERE length(body) = 200", [], |row| row.get(0))
        })
        .expect("the rows are read");
    assert_eq!(rows, 2);
    assert_eq!(model.exchange("GET /stats", "")["requests"], 1);
}

#[test]
fn the_model_server_reports_the_last_request_size() {
    let model = Server::start(&["model"]);
    let request =
        r#"{"model":"m","messages":[{"role":"system","content":"you are"},{"role":"user","content":"x"}]}"#;
    assert_eq!(model.exchange("POST /v1/chat/completions", request)["object"], "chat.completion");
    let expected = json!({"requests": 1, "request_bytes_last": request.len(), "system_bytes_last": 7});
    assert_eq!(model.exchange("GET /stats", ""), expected);
}

#[test]
fn a_load_sends_exactly_the_requested_count() {
    let echo = Server::start(&["echo"]);
    let summary =
        load(&["--address", &echo.address, "--connections", "4", "--count", "100", "--seconds", "60"]);
    assert_eq!((&summary["answered"], &summary["failed"]), (&json!(100), &json!(0)));
    assert!(summary["p50_ms"].as_f64() <= summary["p99_ms"].as_f64());
    let bursts = load(&["--address", &echo.address, "--connections", "8", "--bursts", "3"]);
    assert_eq!((&bursts["answered"], &bursts["failed"]), (&json!(24), &json!(0)));
}

#[test]
fn a_refusal_or_hang_up_is_counted_as_failure() {
    for answer in [
        "HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
        "",
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        // Ends with the test's process, as do its connections.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepted");
                let mut head = [0; 4096];
                let read = stream.read(&mut head).expect("read");
                assert!(read > 0);
                stream.write_all(answer.as_bytes()).expect("written");
            }
        });
        let summary = load(&["--address", &address, "--connections", "1", "--count", "5", "--seconds", "60"]);
        assert_eq!((&summary["answered"], &summary["failed"]), (&json!(0), &json!(5)), "{answer:?}");
    }
}
