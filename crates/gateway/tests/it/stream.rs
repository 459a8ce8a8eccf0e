//! The journal as a stream: gap-free from every entry, live text without cursor, an end.

use std::time::Duration;

use dromia_contracts::CallId;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::LiveEvent;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::client::{authorized, full, request};
use crate::world::{World, entry, stored};

/// Reads a stream event by event.
struct Reader {
    /// The request's id, as the headers say it.
    request_id: String,
    body: Incoming,
    text: String,
    /// How often the stream said nothing but that it lives.
    keep_alives: usize,
}

impl Reader {
    async fn open(world: &World, after: u64) -> Self {
        Self::open_with(world, &world.ours.token, after).await
    }

    async fn open_with(world: &World, token: &str, after: u64) -> Self {
        let path = format!("/v1/runs/{}/journal", world.ours.run);
        let asked = authorized(request("GET", &path), token)
            .header("accept", "text/event-stream")
            .header("last-event-id", after.to_string());
        let response: Response<Incoming> = world.open_tcp(asked.body(full("")).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        Self { request_id, body: response.into_body(), text: String::new(), keep_alives: 0 }
    }

    /// Returns the next event, or nothing at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    self.keep_alives += 1;
                    continue;
                }
                return Some(event);
            }
            let frame =
                timeout(Duration::from_secs(20), self.body.frame()).await.expect("the stream says nothing");
            let data = frame?.ok()?.into_data().ok()?;
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// Reads until the end event and returns the ids of the entries.
    async fn ids_to_end(&mut self) -> Vec<u64> {
        let mut ids = Vec::new();
        loop {
            let event = self.next().await.expect("the stream broke off");
            match event.lines().next().unwrap() {
                "event: end" => return ids,
                line => ids.push(line.strip_prefix("id: ").unwrap().parse().unwrap()),
            }
        }
    }
}

fn append(world: &World, seq: u64, status: RunStatus) {
    world.rooms.append(world.ours.run, entry(seq), status);
}

#[tokio::test]
async fn a_stream_resumes_at_every_entry_and_sees_each_once() {
    let world = World::new().await;
    // More than two pages, so that every border is crossed somewhere.
    for seq in 1..=40 {
        append(&world, seq, if seq == 40 { RunStatus::Completed } else { RunStatus::Running });
    }
    for after in 0..=40 {
        let ids = Reader::open(&world, after).await.ids_to_end().await;
        assert_eq!(ids, (after + 1..=40).collect::<Vec<_>>(), "after {after}");
    }
    world.until("the shares are given back", |world| world.handle.streams_open() == 0).await;
}

#[tokio::test]
async fn a_follower_sees_new_entries_and_deltas_without_a_cursor() {
    let world = World::new().await;
    let run = world.ours.run;
    append(&world, 1, RunStatus::Running);
    let mut reader = Reader::open(&world, 0).await;
    assert!(reader.next().await.unwrap().starts_with("id: 1\nevent: entry\ndata: {\"seq\":1,"));
    world.rooms.live(run, &LiveEvent::Delta { step: 1, attempt: 1, offset: 0, text: "Hel".into() });
    let delta = reader.next().await.unwrap();
    assert_eq!(delta, "event: delta\ndata: {\"step\":1,\"attempt\":1,\"offset\":0,\"text\":\"Hel\"}");
    let fields = r#"{"step":1,"attempt":1,"usage":{"input_tokens":1,"output_tokens":1},"cost_micros":0,"finish":"stop"}"#;
    world.rooms.append(run, stored(2, "model_replied", fields, Some(r#"{"parts":[]}"#)), RunStatus::Running);
    assert!(reader.next().await.unwrap().starts_with("id: 2\n"));
    // It comes after its entry: the text was said already.
    world.rooms.live(run, &LiveEvent::Delta { step: 1, attempt: 1, offset: 3, text: "lo".into() });
    world.rooms.live(run, &LiveEvent::Lagged);
    append(&world, 3, RunStatus::Completed);
    assert_eq!(reader.ids_to_end().await, [3]);
    assert_eq!(reader.next().await, None, "nothing follows the end");
}

#[tokio::test]
async fn live_output_has_no_cursor_and_ends_with_its_result() {
    let world = World::new().await;
    let run = world.ours.run;
    let output = |index, offset| {
        let call = CallId { step: 1, index };
        LiveEvent::Output { call, offset, bytes: 3, text: "a\nb".into() }
    };
    append(&world, 1, RunStatus::Running);
    let mut reader = Reader::open(&world, 0).await;
    assert!(reader.next().await.unwrap().starts_with("id: 1\n"));
    world.rooms.live(run, &output(0, 0));
    assert_eq!(
        reader.next().await.unwrap(),
        "event: output\ndata: {\"call\":\"call_1_0\",\"offset\":0,\"bytes\":3,\"text\":\"a\\nb\"}"
    );
    let finished =
        stored(2, "tool_finished", r#"{"call":"call_1_0","status":"ok"}"#, Some(r#"{"parts":[]}"#));
    world.rooms.append(run, finished, RunStatus::Running);
    assert!(reader.next().await.unwrap().starts_with("id: 2\n"));
    // It comes after the result of its call, which says all of it; the next call's is news.
    world.rooms.live(run, &output(0, 3));
    world.rooms.live(run, &output(1, 0));
    let event = reader.next().await.unwrap();
    assert!(event.starts_with("event: output\ndata: {\"call\":\"call_1_1\""), "{event}");
    append(&world, 3, RunStatus::Completed);
    assert_eq!(reader.ids_to_end().await, [3]);
}

/// How often a stream says nothing but that it lives before it finds entries of which it hears no more than this.
async fn keep_alives_after(hint: LiveEvent) -> usize {
    let world = World::new().await;
    let run = world.ours.run;
    append(&world, 1, RunStatus::Running);
    let mut reader = Reader::open(&world, 0).await;
    assert!(reader.next().await.unwrap().starts_with("id: 1\n"));
    world.rooms.append_unsaid(run, entry(2), RunStatus::Running);
    world.rooms.append_unsaid(run, entry(3), RunStatus::Completed);
    world.rooms.live(run, &hint);
    assert_eq!(reader.ids_to_end().await, [2, 3]);
    reader.keep_alives
}

#[tokio::test]
async fn a_watch_that_lags_reads_on_at_once() {
    assert_eq!(
        keep_alives_after(LiveEvent::Lagged).await,
        0,
        "it was not the next look by itself that found them"
    );
}

/// Planted fault: that the watch lags is passed over, as a hint that brings nothing new is.
#[tokio::test]
async fn a_lag_that_is_passed_over_is_caught() {
    let nothing_new = LiveEvent::Committed { seq: 1, status: RunStatus::Running };
    assert!(keep_alives_after(nothing_new).await > 0, "nothing notices it");
}

#[tokio::test]
async fn entries_whose_hints_were_lost_still_come() {
    let world = World::new().await;
    let run = world.ours.run;
    let mut reader = Reader::open(&world, 0).await;
    world.until("the stream watches", |world| world.rooms.lock().watchers.contains_key(&run)).await;
    append(&world, 1, RunStatus::Running);
    assert!(reader.next().await.unwrap().starts_with("id: 1\n"));
    // Nobody works on the run: no hint comes any more, and entries are written all the same.
    world.rooms.leave(run);
    append(&world, 2, RunStatus::Parked);
    append(&world, 3, RunStatus::Completed);
    assert_eq!(reader.ids_to_end().await, [2, 3]);
}

#[tokio::test]
async fn a_gap_in_the_journal_is_reported_as_a_problem() {
    let world = World::new().await;
    append(&world, 1, RunStatus::Running);
    append(&world, 3, RunStatus::Completed);
    let mut reader = Reader::open(&world, 0).await;
    let event = reader.next().await.unwrap();
    assert!(event.starts_with("event: problem\n") && event.contains("journal_damaged"), "{event}");
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_cursor_from_the_future_is_refused_in_both_forms() {
    let world = World::new().await;
    append(&world, 1, RunStatus::Running);
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let page = world.ask("GET", &format!("{path}?after=2"), "").await;
    assert_eq!((page.status.as_u16(), page.code().as_str()), (400, "cursor_in_future"));
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    let stream = world.tcp(asked.header("last-event-id", "2").body(full("")).unwrap()).await;
    assert_eq!(stream.code(), "cursor_in_future");
    for cursor in ["-1", "one", ""] {
        let asked = authorized(request("GET", &path), &world.ours.token).header("last-event-id", cursor);
        assert_eq!(world.tcp(asked.body(full("")).unwrap()).await.code(), "invalid_request", "{cursor:?}");
    }
}

#[tokio::test]
async fn journal_streams_beyond_the_bound_are_refused() {
    let world = World::with(|config| config.capacity.streams_max = 1).await;
    append(&world, 1, RunStatus::Running);
    let mut first = Reader::open(&world, 0).await;
    first.next().await.unwrap();
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    let asked = authorized(request("GET", &path), &world.ours.token).header("accept", "text/event-stream");
    assert_eq!(world.tcp(asked.body(full("")).unwrap()).await.code(), "overloaded");
    drop(first);
    world.until("the share is given back", |world| world.handle.streams_open() == 0).await;
}

#[tokio::test]
async fn the_journal_is_read_in_pages() {
    let world = World::new().await;
    for seq in 1..=40 {
        append(&world, seq, RunStatus::Running);
    }
    let path = format!("/v1/runs/{}/journal", world.ours.run);
    for (query, from, to) in
        [("", 1, 40), ("?limit=20", 1, 20), ("?after=20&limit=20", 21, 40), ("?after=39", 40, 40)]
    {
        let page = world.ask("GET", &format!("{path}{query}"), "").await.json();
        let seqs: Vec<_> =
            page["entries"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (from..=to).collect::<Vec<u64>>(), "{query}");
        assert_eq!((&page["last_seq"], &page["status"]), (&40.into(), &"running".into()));
    }
    let first = &world.ask("GET", &path, "").await.json()["entries"][0];
    assert_eq!(
        *first,
        serde_json::json!({
            "seq": 1, "at": "1970-01-01T00:00:00Z", "epoch": 1, "kind": "tool_started", "version": 1,
            "fields": {}, "body": null, "chain": "0".repeat(64),
        })
    );
}

/// Opens a stream by a token of its own, takes the token back in some way, and checks that the stream soon says so and
/// ends.
async fn ends_after(take_back: impl AsyncFnOnce(&World, &str)) {
    let world = World::new().await;
    append(&world, 1, RunStatus::Running);
    let body = r#"{"name":"short","scopes":["read"],"expires_in_seconds":60}"#;
    let created = world.ask("POST", "/v1/tokens", body).await.json();
    let (id, token) = (created["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    let mut reader = Reader::open_with(&world, token, 0).await;
    assert!(reader.next().await.unwrap().starts_with("id: 1"));
    take_back(&world, id).await;
    let mut seq = 1;
    let problem = loop {
        // The token is looked up again before a piece is made, and an entry is a piece.
        seq += 1;
        append(&world, seq, RunStatus::Running);
        let event = reader.next().await.expect("the stream says why it ends");
        if event.starts_with("event: problem") {
            break event;
        }
        assert!(seq < 200, "the stream runs on after its token: {event}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(problem.contains("\"code\":\"unauthorized\""), "{problem}");
    assert!(problem.contains(&format!("\"request_id\":\"{}\"", reader.request_id)), "{problem}");
    assert_eq!(reader.next().await, None, "nothing follows the problem");
    world.until("the share is given back", |world| world.handle.streams_open() == 0).await;
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_token_was_revoked() {
    ends_after(async |world, id| {
        assert_eq!(world.ask("DELETE", &format!("/v1/tokens/{id}"), "").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_token_expired() {
    ends_after(async |world, _| world.rooms.lock().now += jiff::SignedDuration::from_secs(60)).await;
}

#[tokio::test]
async fn a_stream_outlives_a_failed_lookup_of_its_token() {
    let world = World::new().await;
    append(&world, 1, RunStatus::Running);
    let mut reader = Reader::open_with(&world, &world.ours.token, 0).await;
    assert!(reader.next().await.unwrap().starts_with("id: 1"));
    let before = {
        let mut rooms = world.rooms.lock();
        rooms.tokens_fail = true;
        rooms.token_reads
    };
    let mut seq = 1;
    while world.rooms.lock().token_reads == before {
        seq += 1;
        append(&world, seq, RunStatus::Running);
        let event = reader.next().await.expect("nothing is known against the token");
        assert!(event.starts_with(&format!("id: {seq}")) && seq < 200, "{event}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
