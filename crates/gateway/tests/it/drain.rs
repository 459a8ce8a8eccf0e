//! The end of a gateway: what is in flight ends, what waits is told, what hangs is cut.

use std::time::Duration;

use dromia_contracts::run::RunStatus;
use dromia_gateway::DrainReport;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{authorized, full, request, whole};
use crate::fake::Mood;
use crate::world::{World, entry};

#[tokio::test]
async fn a_stopping_server_answers_waiting_requests_and_takes_no_new() {
    let world = World::new().await;
    world.rooms.lock().mood = Mood::Thinks;
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let waiting = world.open_tcp(asked.body(full(r#"{"text":"x","wait":true}"#)).unwrap());
    let stopping = async {
        world.until("the request waits", |world| !world.rooms.lock().inputs.is_empty()).await;
        world.stop.cancel();
    };
    let (response, ()) = tokio::join!(waiting, stopping);
    let answer = whole(response).await;
    assert_eq!(answer.status, 202, "the input is durable, and the wait ended first");
    let drained = timeout(Duration::from_secs(20), world.served).await.unwrap().unwrap();
    assert_eq!(drained, DrainReport { cut: 0 });
    assert!(world.handle.is_draining());
    assert!(TcpStream::connect(world.handle.tcp_address().unwrap()).await.is_err());
    assert!(!world.socket.exists(), "the socket is left behind");
}

#[tokio::test]
async fn a_wait_that_expires_during_a_drain_still_answers() {
    let world = World::new().await;
    let thought = {
        let mut rooms = world.rooms.lock();
        rooms.mood = Mood::Thinks;
        rooms.thought.clone()
    };
    let asked = authorized(request("POST", "/v1/events"), &world.ours.token);
    let wait = Duration::from_millis(300);
    let waiting = world.open_tcp(asked.body(full(r#"{"text":"x","wait":true,"wait_ms":300}"#)).unwrap());
    let mut waiting = Box::pin(waiting);
    let stopping = async {
        world.until("the request waits", |world| !world.rooms.lock().inputs.is_empty()).await;
        world.stop.cancel();
        world.until("it stops", |world| world.handle.is_draining()).await;
    };
    tokio::select! {
        _ = &mut waiting => panic!("it is answered before the server stops"),
        () = stopping => {}
    }
    // Its own time is over, and a client that is told "accepted" now finds no server any more.
    assert!(timeout(2 * wait, &mut waiting).await.is_err(), "it is answered without an outcome");
    thought.cancel();
    let answer = whole((&mut waiting).await).await;
    drop(waiting);
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &"completed".into()));
    assert_eq!(world.served.await.unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_stopping_server_streams_a_working_run_to_its_end() {
    let world = World::new().await;
    world.rooms.append(world.ours.run, entry(1), RunStatus::Running);
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    let mut body = world.open_tcp(asked.body(full("")).unwrap()).await.into_body();
    let mut next = async || {
        let frame = timeout(Duration::from_secs(20), body.frame()).await.expect("it says nothing");
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    assert!(next().await.unwrap().starts_with("id: 1\n"));
    world.stop.cancel();
    world.until("it stops", |world| world.handle.is_draining()).await;
    world.rooms.append(world.ours.run, entry(2), RunStatus::Completed);
    assert!(next().await.unwrap().starts_with("id: 2\n"));
    assert!(next().await.unwrap().starts_with("event: end\n"));
    assert_eq!(next().await, None);
    assert_eq!(world.served.await.unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_drain_ends_the_stream_of_an_endless_run_cleanly() {
    let world = World::with(|config| config.deadlines.drain_ms = 200).await;
    world.rooms.append(world.ours.run, entry(1), RunStatus::Running);
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    let mut body = world.open_tcp(asked.body(full("")).unwrap()).await.into_body();
    body.frame().await.unwrap().unwrap();
    world.stop.cancel();
    assert!(timeout(Duration::from_secs(20), body.frame()).await.unwrap().is_none(), "the stream goes on");
    assert_eq!(world.served.await.unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_stream_ends_and_its_client_knows_where_it_was() {
    let world = World::new().await;
    world.rooms.append(world.ours.run, entry(1), RunStatus::Parked);
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    let mut body = world.open_tcp(asked.body(full("")).unwrap()).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"id: 1\n"));
    world.stop.cancel();
    let rest = timeout(Duration::from_secs(20), body.frame()).await.unwrap();
    assert!(rest.is_none(), "the stream goes on: {rest:?}");
    assert_eq!(world.served.await.unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_is_cut() {
    let world = World::with(|config| config.deadlines.drain_ms = 50).await;
    let mut stream = TcpStream::connect(world.handle.tcp_address().unwrap()).await.unwrap();
    let token = &world.ours.token;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 10\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    world.until("the request is in flight", |world| world.handle.requests_in_flight() == 1).await;
    world.stop.cancel();
    let drained = timeout(Duration::from_secs(20), world.served).await.unwrap().unwrap();
    assert_eq!(drained, DrainReport { cut: 1 });
}
