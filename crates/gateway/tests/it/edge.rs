//! The edge: what one token may take, which pages may ask, and clients that are slow, greedy or too many.

use std::time::Duration;

use dromia_contracts::run::RunStatus;
use http_body_util::BodyExt;
use hyper::Request;
use jiff::SignedDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::{Answer, authorized, full, request};
use crate::fake::Mood;
use crate::world::{World, entry, stored};

const PATIENCE: Duration = Duration::from_secs(20);

async fn whoami(world: &World, token: &str) -> Answer {
    world.tcp(authorized(request("GET", "/v1/whoami"), token).body(full("")).unwrap()).await
}

/// How often something was refused for a reason.
pub(crate) async fn refusals(world: &World, reason: &str) -> u64 {
    // On the socket, so that reading charges no token.
    let text = world.unix(request("GET", "/metrics").body(full("")).unwrap()).await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let line = format!("dromia_http_refusals_total{{reason=\"{reason}\"}} ");
    let count = text.lines().find_map(|found| found.strip_prefix(&line));
    count.unwrap_or_else(|| panic!("no {reason} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_token_over_its_rate_is_refused_without_hindering_others() {
    let world =
        World::with(|config| (config.callers.token_rate_max, config.callers.token_burst_max) = (1, 2)).await;
    for _ in 0..2 {
        assert_eq!(whoami(&world, &world.ours.token).await.status, 200);
    }
    let refused = whoami(&world, &world.ours.token).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(whoami(&world, &world.theirs.token).await.status, 200);
    for _ in 0..5 {
        let asked = request("GET", "/v1/whoami").body(full("")).unwrap();
        assert_eq!(world.unix(asked).await.status, 200, "the socket is charged to no token");
    }
    world.rooms.lock().now += SignedDuration::from_secs(1);
    assert_eq!(whoami(&world, &world.ours.token).await.status, 200);
    assert_eq!(refusals(&world, "token_rate").await, 1);
}

#[tokio::test]
async fn each_foreign_api_reports_rate_limits_in_its_own_shape() {
    let world =
        World::with(|config| (config.callers.token_rate_max, config.callers.token_burst_max) = (1, 1)).await;
    assert_eq!(whoami(&world, &world.ours.token).await.status, 200);
    for (path, code) in [
        ("/v1/chat/completions", "rate_limit_exceeded"),
        ("/v1/responses", "rate_limit_exceeded"),
        ("/v1/messages", "rate_limited"),
    ] {
        let refused = world.ask("POST", path, r#"{"model":"ops"}"#).await;
        assert_eq!((refused.status.as_u16(), refused.foreign_code().as_str()), (429, code), "{path}");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error", "{path}");
        assert_eq!(refused.headers["retry-after"], "1", "{path}");
        assert_eq!(refused.headers["x-should-retry"], "true", "{path}");
    }
    assert!(world.rooms.lock().inputs.is_empty());
}

#[tokio::test]
async fn concurrent_requests_of_each_token_are_bounded_separately() {
    let world = World::with(|config| config.callers.token_requests_max = 1).await;
    world.rooms.lock().mood = Mood::Thinks;
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let waiting = world.open_tcp(asked.body(full(r#"{"text":"x","wait":true}"#)).unwrap());
    let probing = async {
        world.until("the request waits", |world| !world.rooms.lock().inputs.is_empty()).await;
        let refused = whoami(&world, &world.ours.token).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(whoami(&world, &world.theirs.token).await.status, 200);
        assert_eq!(refusals(&world, "token_requests").await, 1);
    };
    tokio::select! {
        _ = waiting => panic!("the wait has no end"),
        () = probing => {}
    }
    world.until("the share is given back", |world| world.handle.requests_in_flight() == 0).await;
    assert_eq!(whoami(&world, &world.ours.token).await.status, 200);
}

#[tokio::test]
async fn streams_of_one_token_are_bounded_and_given_back() {
    let world = World::with(|config| config.callers.token_streams_max = 1).await;
    world.rooms.append(world.ours.run, entry(1), RunStatus::Running);
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let asked = || {
        let asked = authorized(request("GET", &path), &world.ours.token);
        asked.header("accept", "text/event-stream").body(full("")).unwrap()
    };
    let first = world.open_tcp(asked()).await;
    assert_eq!(first.status(), 200);
    let refused = world.tcp(asked()).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
    assert_eq!(refusals(&world, "token_streams").await, 1);
    drop(first);
    world.until("the share is given back", |world| world.handle.streams_open() == 0).await;
    assert_eq!(world.open_tcp(asked()).await.status(), 200);
}

#[tokio::test]
async fn the_operator_is_served_while_others_fill_every_slot() {
    let world =
        World::with(|config| (config.capacity.requests_max, config.capacity.connections_max) = (1, 2)).await;
    world.rooms.lock().mood = Mood::Thinks;
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let waiting = world.open_tcp(asked.body(full(r#"{"text":"x","wait":true}"#)).unwrap());
    let probing = async {
        world.until("the request waits", |world| !world.rooms.lock().inputs.is_empty()).await;
        let second = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
        world.until("both shares are taken", |world| world.handle.connections_open() == 2).await;
        let asked = request("GET", "/v1/status").body(full("")).unwrap();
        assert_eq!(world.unix(asked).await.status, 200);
        drop(second);
    };
    tokio::select! {
        _ = waiting => panic!("the wait has no end"),
        () = probing => {}
    }
}

/// Asks on a connection that stays open, and reads the answer.
async fn ask_on(stream: &mut TcpStream, path: &str) -> String {
    let asked = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    read_answer(stream).await
}

async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let whole = async {
        // A health answer is one small JSON object.
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
    };
    timeout(PATIENCE, whole).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_ends() {
    let world = World::with(|config| config.capacity.connections_max = 1).await;
    let address = world.handle.tcp_address().unwrap();
    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(ask_on(&mut first, "/health").await.starts_with("HTTP/1.1 200"));
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    for _ in 0..3 {
        ask_on(&mut first, "/health").await;
        assert_eq!(world.handle.connections_open(), 1);
    }
    drop(first);
    assert!(read_answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_another_is_served() {
    let world = World::with(|config| config.capacity.address_connections_max = 2).await;
    let address = world.handle.tcp_address().unwrap();
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    for stream in [&mut first, &mut second] {
        assert!(ask_on(stream, "/health").await.starts_with("HTTP/1.1 200"));
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, third.read_to_end(&mut rest)).await.expect("the connection stays open").unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(refusals(&world, "address_connections").await, 1);
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = elsewhere.connect(address).await.unwrap();
    assert!(ask_on(&mut other, "/health").await.starts_with("HTTP/1.1 200"));
    drop(first);
    world.until("the connection is gone", |world| world.handle.connections_open() == 2).await;
    let mut again = TcpStream::connect(address).await.unwrap();
    assert!(ask_on(&mut again, "/health").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_that_rests_too_long_is_closed() {
    let world = World::with(|config| config.deadlines.header_ms = 50).await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    assert!(ask_on(&mut stream, "/health").await.starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection stays open").unwrap();
    world.until("the connection is gone", |world| world.handle.connections_open() == 0).await;
}

#[tokio::test]
async fn headers_beyond_the_bound_are_refused() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    let filler = "x".repeat(20 << 10);
    let asked = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-filler: {filler}\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_client_with_a_slow_body_is_refused_and_counted() {
    let world = World::with(|config| config.deadlines.body_ms = 50).await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    let token = &world.ours.token;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 10\r\nconnection: close\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(refusals(&world, "slow_body").await, 1);
}

#[tokio::test]
async fn a_stalled_reader_is_dropped_and_resumes_without_loss() {
    let world = World::with(|config| config.deadlines.write_ms = 50).await;
    let run = world.ours.run;
    // More than the system buffers for a connection at both ends.
    let body = format!("\"{}\"", "x".repeat(512 << 10));
    for seq in 1..=64 {
        world.rooms.append(run, stored(seq, "tool_finished", "{}", Some(&body)), RunStatus::Running);
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = socket.connect(world.handle.tcp_address().unwrap()).await.unwrap();
    let token = &world.ours.token;
    let asked = format!(
        "GET /v1/runs/{run}/journal HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut read = vec![0; 64];
    stream.read_exact(&mut read).await.unwrap();
    world.until("its reader is dropped", |world| world.handle.streams_open() == 0).await;
    assert_eq!(refusals(&world, "slow_reader").await, 1);
    // What had left the server before still arrives.
    drop(timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap());
    let text = String::from_utf8_lossy(&read);
    let id = |rest: &str| rest.split_once('\n')?.0.parse().ok();
    let seen: Vec<u64> = text.split("id: ").skip(1).filter_map(id).collect();
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    // The last one may have been torn.
    let cursor = seen.len().saturating_sub(1) as u64;
    assert!(cursor < 64);
    let asked = authorized(request("GET", &format!("/v1/runs/{run}/journal")), &world.ours.token)
        .header("accept", "text/event-stream")
        .header("last-event-id", cursor.to_string());
    let mut again = world.open_tcp(asked.body(full("")).unwrap()).await.into_body();
    let first = timeout(PATIENCE, again.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(format!("id: {}\n", cursor + 1).as_bytes()));
}

fn from_page(method: &str, path: &str, origin: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:7700").header("origin", origin)
}

#[tokio::test]
async fn pages_of_listed_origins_and_the_own_are_served() {
    let world = World::with(|config| config.origins = vec!["https://app.example".to_owned()]).await;
    for (origin, status) in [
        ("https://app.example", 200),
        ("http://localhost:7700", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let answer = world.tcp(from_page("GET", "/health", origin).body(full("")).unwrap()).await;
        assert_eq!(answer.status, status, "{origin}");
        let readable = answer.headers.get("access-control-allow-origin").is_some();
        assert_eq!(readable, origin == "https://app.example", "{origin}");
        if status == 403 {
            assert_eq!(answer.code(), "forbidden");
        }
    }
    assert_eq!(refusals(&world, "origin").await, 2);
}

#[tokio::test]
async fn only_preflights_of_listed_origins_are_answered() {
    let world = World::with(|config| config.origins = vec!["https://app.example".to_owned()]).await;
    let asked = |origin| {
        from_page("OPTIONS", "/v1/events", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .body(full(""))
            .unwrap()
    };
    let answer = world.tcp(asked("https://app.example")).await;
    assert_eq!(answer.status, 204);
    for (header, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("vary", "origin"),
    ] {
        assert_eq!(answer.headers[header], value);
    }
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    assert_eq!(world.tcp(asked("https://evil.example")).await.status, 403);
    let own = world.tcp(asked("http://localhost:7700")).await;
    assert_eq!(own.status, 405, "a page of the server itself needs no preflight");
}

#[tokio::test]
async fn a_host_name_is_refused_until_it_is_listed() {
    let asked =
        || Request::builder().uri("/health").header("host", "agents.example:7700").body(full("")).unwrap();
    let world = World::new().await;
    let refused = world.tcp(asked()).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "forbidden"));
    assert_eq!(refusals(&world, "host").await, 1);
    let world = World::with(|config| config.hosts = vec!["agents.example".to_owned()]).await;
    assert_eq!(world.tcp(asked()).await.status, 200);
}
