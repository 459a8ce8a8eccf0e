//! HTTP/2 over TLS: it works, and what a client can do with its streams is bounded.

use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::run::RunStatus;
use dromia_gateway::DrainReport;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::client::{authorized, full, whole};
use crate::fake::Mood;
use crate::tls::{connect, encrypted};
use crate::world::{World, entry, stored};

const PATIENCE: Duration = Duration::from_secs(20);

fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(format!("https://localhost{path}"))
}

/// A client that opens a window of so many bytes for each answer.
async fn client(world: &World, window: u32) -> SendRequest<Full<Bytes>> {
    let stream = connect(world, &["h2"]).await;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn requests_and_streams_share_a_connection() {
    let world = encrypted(|_| {}).await;
    let mut sender = client(&world, 1 << 16).await;
    world.rooms.append(world.ours.run, entry(1), RunStatus::Running);
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    let stream = sender.send_request(asked.body(full("")).unwrap()).await.unwrap();
    assert_eq!((stream.status().as_u16(), stream.version()), (200, Version::HTTP_2));
    let mut stream = stream.into_body();
    let first = timeout(PATIENCE, stream.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"id: 1\n"));
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let asked = asked.body(full(r#"{"text":"hi","wait":true}"#)).unwrap();
    let answer = whole(sender.send_request(asked).await.unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["reply"]), (200, &"you said: hi".into()));
    let answer = sender.send_request(request("GET", "/openapi.json").body(full("")).unwrap()).await.unwrap();
    assert!(whole(answer).await.body.len() > 16 << 10, "a long body comes whole");
    let foreign = Request::builder().uri("https://evil.example/health").body(full("")).unwrap();
    assert_eq!(sender.send_request(foreign).await.unwrap().status(), 403);
    assert_eq!(world.handle.connections_open(), 1);
    world.stop.cancel();
    // The end of a stream may be a frame without bytes.
    while let Some(rest) = timeout(PATIENCE, stream.frame()).await.unwrap() {
        assert_eq!(rest.unwrap().into_data().unwrap(), Bytes::new(), "the stream goes on");
    }
    assert_eq!(timeout(PATIENCE, world.served).await.unwrap().unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_stalled_http2_stream_is_dropped_and_its_connection_stays() {
    let world = encrypted(|config| config.deadlines.write_ms = 50).await;
    let run = world.ours.run;
    let body = format!("\"{}\"", "x".repeat(1 << 10));
    for seq in 1..=64 {
        world.rooms.append(run, stored(seq, "tool_finished", "{}", Some(&body)), RunStatus::Running);
    }
    let mut sender = client(&world, 1 << 10).await;
    let path = format!("/v1/runs/{run}/journal");
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    let stalled = sender.send_request(asked.body(full("")).unwrap()).await.unwrap();
    assert_eq!(stalled.status(), 200);
    world.until("its reader is dropped", |world| world.handle.streams_open() == 0).await;
    let answer = sender.send_request(request("GET", "/health").body(full("")).unwrap()).await.unwrap();
    assert_eq!(whole(answer).await.status, 200, "one stream was dropped and not the connection");
    drop(stalled);
}

/// The parts of HTTP/2 that the tests speak by hand.
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a client says first.
fn hello() -> Vec<u8> {
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[]));
    hello
}

/// A block of headers, each written out: a POST of a path, by a token.
fn headers(path: &str, token: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut written = vec![u8::try_from(text.len()).unwrap()];
        written.extend_from_slice(text.as_bytes());
        written
    };
    // `:method: POST` and `:scheme: https` stand in the static table, and so do the names of `:path` and `:authority`.
    let mut block = vec![0x83, 0x87, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("localhost"));
    block.push(0x00);
    block.extend(text("authorization"));
    block.extend(text(&format!("Bearer {token}")));
    block
}

/// Reads until a frame of a kind comes, and returns its stream and the last number in it.
async fn until(stream: &mut TlsStream<TcpStream>, kind: u8) -> (u32, u32) {
    let search = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("the frame never came");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.expect("the frame is whole");
            if head[3] == kind {
                let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
                let last = if kind == GO_AWAY { &payload[4..8] } else { &payload[..4] };
                return (number(&head[5..9]), number(last));
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the frame never came")
}

#[tokio::test]
async fn many_opened_and_reset_streams_end_the_connection() {
    let world = encrypted(|_| {}).await;
    let mut stream = connect(&world, &["h2"]).await;
    let mut said = hello();
    let block = headers("/v1/events", &world.ours.token);
    for number in 0..100 {
        said.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block));
        said.extend(frame(RESET, 0, 2 * number + 1, &CANCEL.to_be_bytes()));
    }
    stream.write_all(&said).await.unwrap();
    stream.flush().await.unwrap();
    let (_, reason) = until(&mut stream, GO_AWAY).await;
    assert_eq!(reason, ENHANCE_YOUR_CALM);
    world.until("the connection is gone", |world| world.handle.connections_open() == 0).await;
}

#[tokio::test]
async fn http2_streams_beyond_the_bound_are_refused() {
    let world = encrypted(|config| config.capacity.http2_streams_max = 2).await;
    world.rooms.lock().mood = Mood::Thinks;
    let mut stream = connect(&world, &["h2"]).await;
    let mut said = hello();
    let block = headers("/v1/events", &world.ours.token);
    let body = br#"{"text":"x","wait":true}"#;
    for number in [1, 3] {
        said.extend(frame(HEADERS, END_HEADERS, number, &block));
        said.extend(frame(0, END_STREAM, number, body));
    }
    said.extend(frame(HEADERS, END_STREAM | END_HEADERS, 5, &block));
    stream.write_all(&said).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(until(&mut stream, RESET).await, (5, REFUSED_STREAM));
    world.until("the others wait", |world| world.rooms.lock().inputs.len() == 2).await;
    drop(stream);
    world.until("they end with their connection", |world| world.handle.requests_in_flight() == 0).await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let world = encrypted(|config| config.deadlines.header_ms = 1_000).await;
    let mut silent = connect(&world, &["h2"]).await;
    let mut polite = connect(&world, &["h2"]).await;
    polite.write_all(&hello()).await.unwrap();
    polite.flush().await.unwrap();
    assert_eq!(until(&mut polite, GO_AWAY).await.1, 0, "no fault of the client");
    let mut rest = Vec::new();
    // They end, with or without a farewell of TLS.
    drop(timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("the connection stays open"));
    drop(timeout(PATIENCE, polite.read_to_end(&mut rest)).await.expect("the connection stays open"));
    world.until("both are gone", |world| world.handle.connections_open() == 0).await;
}
