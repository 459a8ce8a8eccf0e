//! Streams while their run goes on: live text once, the rest from the entry, the end after the commit, and no bytes
//! taken back.

use std::time::Duration;

use dromia_contracts::entry::{
    Entry, ModelCalled, ModelFailed, ParkReason, RunCompleted, RunFailed, RunParked,
};
use dromia_contracts::model::FinishReason;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::LiveEvent;
use dromia_contracts::{ApprovalId, CallId, Digest, ErrorCode, RunId};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{CHAT, MESSAGES, RESPONSES, hello};
use crate::client::{authorized, full, request};
use crate::fake::Mood;
use crate::fake::runs::{kept, replied};
use crate::world::World;

/// An open stream and the run that it tells of.
struct Open {
    run: RunId,
    /// The request's id, as the headers say it.
    request_id: String,
    body: Incoming,
    text: String,
}

impl Open {
    async fn new(world: &World, path: &str) -> Self {
        Self::with_waiting(world, path, "comment").await
    }

    async fn with_waiting(world: &World, path: &str, waiting: &str) -> Self {
        world.rooms.lock().mood = Mood::Thinks;
        let mut body = hello(path);
        body["stream"] = json!(true);
        let asked = authorized(request("POST", path), &world.ours.token).header("x-dromia-waiting", waiting);
        let response = world.open_tcp(asked.body(full(&body.to_string())).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let (run, request_id) = (header("x-dromia-run").parse().unwrap(), header("x-request-id"));
        let open = Self { run, request_id, body: response.into_body(), text: String::new() };
        world.until("the stream watches", |world| world.rooms.lock().watchers.contains_key(&run)).await;
        open
    }

    /// Reads until the text holds something.
    async fn until(&mut self, what: &str) {
        while !self.text.contains(what) {
            assert!(self.more().await, "{what:?} is not in {}", self.text);
        }
    }

    async fn whole(mut self) -> String {
        while self.more().await {}
        self.text
    }

    async fn more(&mut self) -> bool {
        let frame = timeout(Duration::from_secs(20), self.body.frame()).await.expect("the stream is silent");
        let Some(frame) = frame else { return false };
        let data = frame.unwrap().into_data().unwrap();
        self.text.push_str(std::str::from_utf8(&data).unwrap());
        true
    }

    fn delta(&self, world: &World, attempt: u32, offset: u64, text: &str) {
        world.rooms.live(self.run, &LiveEvent::Delta { step: 1, attempt, offset, text: text.into() });
    }

    fn append(&self, world: &World, entry: &Entry, status: RunStatus) {
        let seq = world.rooms.lock().runs.last().unwrap().1.last_seq + 1;
        world.rooms.append(self.run, kept(seq, entry), status);
    }

    fn replied(&self, world: &World, step: u32, text: &str, finish: FinishReason) {
        let seq = world.rooms.lock().runs.last().unwrap().1.last_seq + 1;
        world.rooms.append(self.run, replied(seq, step, text, finish), RunStatus::Running);
    }

    /// An answer of which nothing is told.
    fn withheld(&self, world: &World, text: &str) {
        let seq = world.rooms.lock().runs.last().unwrap().1.last_seq + 1;
        let mut entry = replied(seq, 1, text, FinishReason::Stop);
        entry.fields = entry.fields.replacen('{', r#"{"withheld":{"rule":"leak scan","reason":"no"},"#, 1);
        assert!(matches!(entry.decode(), Ok(Entry::ModelReplied(replied)) if replied.withheld.is_some()));
        world.rooms.append(self.run, entry, RunStatus::Running);
    }
}

fn completed() -> Entry {
    Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None })
}

fn failed(code: ErrorCode) -> Entry {
    Entry::ModelFailed(ModelFailed {
        step: 1,
        attempt: 1,
        code,
        message: "no".into(),
        charged_micros: 0,
        attempts_max: None,
        judged: None,
    })
}

fn called(step: u32, attempt: u32) -> Entry {
    Entry::ModelCalled(ModelCalled {
        step,
        attempt,
        model: "default".into(),
        history_from: 1,
        input_tokens: 3,
        output_tokens_max: 9,
        reserved_micros: 0,
        unpriced: false,
        sent: serde_json::from_str(r#"{"form":"chat/1","model":"m","digest":"0001020304050607"}"#)
            .expect("is data"),
        judged: None,
    })
}

/// The text that a chat stream said.
fn said(stream: &str) -> String {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let chunks = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    chunks.filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn text_is_streamed_as_generated_and_ended_after_the_commit() {
    let world = World::new().await;
    let mut open = Open::new(&world, CHAT).await;
    open.delta(&world, 1, 0, "Hel");
    open.until("\"Hel\"").await;
    open.delta(&world, 1, 3, "lo");
    open.until("\"lo\"").await;
    assert!(!open.text.contains("finish_reason\":\"") && !open.text.contains("[DONE]"), "{}", open.text);
    open.replied(&world, 1, "Hello, you", FinishReason::Length);
    open.append(&world, &completed(), RunStatus::Completed);
    let text = open.whole().await;
    assert_eq!(said(&text), "Hello, you");
    assert!(text.contains("\"finish_reason\":\"length\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn missed_or_late_deltas_leave_no_gap_and_no_duplicate() {
    let world = World::new().await;
    let mut open = Open::new(&world, CHAT).await;
    open.delta(&world, 1, 0, "a");
    open.until("\"a\"").await;
    // The second piece was missed, so the third must wait for the entry.
    open.delta(&world, 1, 2, "c");
    world.rooms.live(open.run, &LiveEvent::Lagged);
    open.replied(&world, 1, "abc", FinishReason::ToolCalls);
    open.delta(&world, 1, 2, "c");
    // What a program says while it runs is no text of the answer.
    let call = CallId { step: 1, index: 0 };
    world.rooms.live(open.run, &LiveEvent::Output { call, offset: 0, bytes: 3, text: "no!".into() });
    open.append(&world, &called(2, 1), RunStatus::Running);
    // What was missed is said when the run goes on from it.
    open.until("\"bc\"").await;
    open.replied(&world, 2, "done", FinishReason::Stop);
    open.append(&world, &completed(), RunStatus::Completed);
    assert_eq!(said(&open.whole().await), "abc\n\ndone");
}

#[tokio::test]
async fn a_second_attempt_after_streamed_text_ends_the_stream() {
    let world = World::new().await;
    for (path, shape) in [
        (CHAT, "data: {\"error\":{"),
        (MESSAGES, "event: error\ndata: {\"type\":\"error\""),
        (RESPONSES, "event: response.failed\n"),
    ] {
        for by_entry in [false, true] {
            let mut open = Open::new(&world, path).await;
            open.delta(&world, 1, 0, "Hel");
            open.until("\"Hel\"").await;
            let (run, request_id) = (open.run.to_string(), open.request_id.clone());
            if by_entry {
                open.append(&world, &failed(ErrorCode::ModelCut), RunStatus::Running);
                open.append(&world, &called(1, 2), RunStatus::Running);
            } else {
                open.delta(&world, 2, 0, "Good");
            }
            let text = open.whole().await;
            assert!(text.contains(shape) && text.contains("run_unfinished") && text.contains(&run), "{text}");
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
            // Only one of these APIs has a place for it.
            let named = format!("\"request_id\":\"{request_id}\"");
            assert_eq!(text.contains(&named), path == MESSAGES, "{text}");
            assert!(!text.contains("response.completed") && !text.contains("Good"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_silent_attempt_is_followed_by_the_next_one() {
    let world = World::new().await;
    let open = Open::new(&world, CHAT).await;
    open.append(&world, &failed(ErrorCode::ModelUnavailable), RunStatus::Running);
    open.append(&world, &called(1, 2), RunStatus::Running);
    open.delta(&world, 2, 0, "Good");
    open.replied(&world, 1, "Good", FinishReason::Stop);
    open.append(&world, &completed(), RunStatus::Completed);
    assert_eq!(said(&open.whole().await), "Good");
}

#[tokio::test]
async fn a_failing_run_ends_its_stream_with_a_typed_error() {
    let world = World::new().await;
    let mut open = Open::new(&world, CHAT).await;
    open.delta(&world, 1, 0, "Hel");
    open.until("\"Hel\"").await;
    open.append(&world, &failed(ErrorCode::ModelRejected), RunStatus::Running);
    let end = RunFailed { code: ErrorCode::ModelRejected, message: "the model refused".into() };
    open.append(&world, &Entry::RunFailed(end), RunStatus::Failed);
    let text = open.whole().await;
    assert!(text.contains("\"code\":\"model_rejected\"") && text.contains("the model refused"), "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn a_refused_answer_is_not_streamed_and_its_reason_is() {
    let world = World::new().await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        // A value under its stars, as live text shows it; and what was never live.
        for live in ["", "it is *****"] {
            for marked in [false, true] {
                let mut open = Open::new(&world, path).await;
                if !live.is_empty() {
                    open.delta(&world, 1, 0, live);
                    open.until(live).await;
                }
                let text = format!("{live} and more");
                if marked {
                    open.withheld(&world, "something else");
                } else {
                    open.replied(&world, 1, &text, FinishReason::Stop);
                }
                let message = "the rule `default deny` denied the reply: no".to_owned();
                let end = RunFailed { code: ErrorCode::ActionDenied, message };
                open.append(&world, &Entry::RunFailed(end), RunStatus::Failed);
                let whole = open.whole().await;
                assert!(
                    whole.contains("action_denied")
                        && whole.contains("the rule `default deny` denied the reply"),
                    "{whole}"
                );
                assert!(!whole.contains("run_unfinished") && !whole.contains("the run continues"), "{whole}");
                assert!(!whole.contains("and more") && !whole.contains("something else"), "{whole}");
            }
        }
    }
}

#[tokio::test]
async fn a_withheld_step_streams_nothing_and_the_run_goes_on() {
    let world = World::new().await;
    let open = Open::new(&world, CHAT).await;
    open.withheld(&world, "not for you");
    open.append(&world, &called(2, 1), RunStatus::Running);
    open.replied(&world, 2, "done", FinishReason::Stop);
    open.append(&world, &completed(), RunStatus::Completed);
    let text = open.whole().await;
    assert!(!text.contains("not for you"), "{text}");
    assert_eq!(said(&text), "done");
}

#[tokio::test]
async fn a_watch_that_ends_loses_no_text() {
    let world = World::new().await;
    let mut open = Open::new(&world, CHAT).await;
    open.delta(&world, 1, 0, "Hel");
    open.until("\"Hel\"").await;
    world.rooms.leave(open.run);
    open.replied(&world, 1, "Hello", FinishReason::Stop);
    open.append(&world, &completed(), RunStatus::Completed);
    assert_eq!(said(&open.whole().await), "Hello");
}

#[tokio::test]
async fn a_server_that_stops_says_that_the_run_goes_on() {
    let world = World::new().await;
    let mut open = Open::new(&world, CHAT).await;
    open.until("\"assistant\"").await;
    world.stop.cancel();
    let text = open.whole().await;
    assert!(text.contains("run_unfinished") && text.contains("the server is stopping"), "{text}");
}

#[tokio::test]
async fn a_disconnected_client_frees_its_share_and_keeps_its_input() {
    let world = World::new().await;
    let open = Open::new(&world, CHAT).await;
    let run = open.run;
    drop(open);
    world.rooms.append(run, replied(3, 1, "late", FinishReason::Stop), RunStatus::Running);
    world.until("the share is given back", |world| world.handle.streams_open() == 0).await;
    assert_eq!(world.rooms.lock().inputs.len(), 1);
}

fn parked(park: ParkReason) -> Entry {
    Entry::RunParked(RunParked { park })
}

fn asked_for(approval: ApprovalId) -> Entry {
    let (call, action, binding) = (CallId { step: 1, index: 0 }, Digest::default(), Digest::default());
    let until = jiff::Timestamp::MAX;
    parked(ParkReason::Approval { approval, call, action, binding, until, cools_until: None, replaces: None })
}

#[tokio::test]
async fn a_stream_says_what_it_waits_for() {
    let world = World::new().await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        let mut open = Open::new(&world, path).await;
        open.append(&world, &failed(ErrorCode::ModelUnavailable), RunStatus::Running);
        open.append(&world, &parked(ParkReason::Retry { until: jiff::Timestamp::MAX }), RunStatus::Parked);
        open.until("\n: waiting for another attempt at the model").await;
        open.until("after model_unavailable: no\n\n").await;
        let approval = ApprovalId::from_bytes([7; 16]);
        open.append(&world, &asked_for(approval), RunStatus::Parked);
        open.until(&format!(": waiting for the approval {approval} of its call call_1_0\n\n")).await;
        open.replied(&world, 1, "hi", FinishReason::Stop);
        open.append(&world, &completed(), RunStatus::Completed);
        let said = open.whole().await;
        assert!(said.lines().filter(|line| line.starts_with(": ")).count() >= 2, "{said}");
    }
}

#[tokio::test]
async fn a_stream_says_what_it_waits_for_as_text_if_asked() {
    let world = World::new().await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        let mut open = Open::with_waiting(&world, path, "text").await;
        let approval = ApprovalId::from_bytes([7; 16]);
        open.append(&world, &asked_for(approval), RunStatus::Parked);
        open.until(&format!("[waiting for the approval {approval} of its call call_1_0]")).await;
        open.replied(&world, 1, "hi", FinishReason::Stop);
        open.append(&world, &completed(), RunStatus::Completed);
        assert!(!open.whole().await.contains(": waiting for"), "it is said once");
    }
    let mut body = hello(CHAT);
    body["stream"] = json!(true);
    let asked = authorized(request("POST", CHAT), &world.ours.token).header("x-dromia-waiting", "loudly");
    let refused = world.tcp(asked.body(full(&body.to_string())).unwrap()).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_wait_that_ends_first_names_what_the_run_is_parked_for() {
    let world = World::new().await;
    world.rooms.lock().mood = Mood::Thinks;
    let body = hello(CHAT);
    let waiting = super::ask(&world, CHAT, &[("x-dromia-wait-ms", "1500")], &body);
    let before = world.rooms.lock().runs.len();
    let park = async {
        world.until("the run began", |world| world.rooms.lock().runs.len() > before).await;
        let (run, seq) = world.rooms.lock().runs.last().map(|(_, row)| (row.id, row.last_seq)).unwrap();
        let entry = asked_for(ApprovalId::from_bytes([7; 16]));
        world.rooms.append(run, kept(seq + 1, &entry), RunStatus::Parked);
    };
    let (answer, ()) = tokio::join!(waiting, park);
    assert_eq!((answer.status.as_u16(), answer.foreign_code().as_str()), (504, "run_unfinished"));
    let told = answer.json();
    let text = told["error"]["message"].as_str().unwrap();
    assert!(text.contains("parked") && text.contains("apr_0707"), "{text}");
    assert_eq!(told["error"]["run_status"], "parked");
}
