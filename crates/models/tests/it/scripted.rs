//! The scripted model through its port: time, live text, limits, failures.

use std::sync::Arc;

use dromia_contracts::ErrorCode;
use dromia_contracts::content::CallStatus;
use dromia_contracts::model::{FinishReason, ModelError, ModelReply};
use dromia_contracts::transcript::Transcript;
use dromia_models::{ScriptedModel, tokens};
use dromia_testkit::SimExecutor;

use crate::scene::{Collected, attempt, request, unit};

/// Asks in a simulation; gives the answer, the live pieces and the virtual milliseconds it took.
fn ask(asked: &dromia_contracts::model::ModelRequest) -> (Result<ModelReply, ModelError>, Vec<String>, i64) {
    let mut sim = SimExecutor::new(1);
    let clock = sim.runtime().clock;
    let began = clock.now().as_millisecond();
    let model = ScriptedModel::new(Arc::clone(&clock));
    let deltas = Collected::default();
    let answer = sim.block_on(attempt(&model, asked, &deltas)).expect("it ends");
    (answer, deltas.pieces(), clock.now().as_millisecond() - began)
}

#[test]
fn a_plain_answer_is_immediate_free_and_counted() {
    let asked = request("what is the weather?");
    let (reply, pieces, took) = ask(&asked);
    let reply = reply.expect("an answer");
    assert_eq!((reply.cost_micros, reply.finish, took), (0, FinishReason::Stop, 0));
    assert_eq!(pieces.concat(), reply.text);
    assert_eq!(reply.usage.input_tokens, tokens::estimate_request(&asked));
    assert_eq!(reply.usage.output_tokens, tokens::estimate_tokens(reply.text.len()));
}

#[test]
fn a_text_that_ends_the_answer_is_not_said() {
    let mut asked = request("@say one two three");
    asked.wishes.stop = vec![" three".into(), " two".into(), "four".into()];
    let (reply, pieces, _) = ask(&asked);
    let reply = reply.expect("an answer");
    assert_eq!(
        (reply.text.as_str(), reply.finish, pieces.concat().as_str()),
        ("one", FinishReason::Stop, "one")
    );
    assert_eq!(reply.stopped_at.as_deref(), Some(" two"));
}

#[test]
fn a_slow_step_takes_its_time_and_streams_meanwhile() {
    let (reply, pieces, took) = ask(&request("@slow 1500"));
    assert_eq!(took, 1500);
    assert!(pieces.len() > 1, "{pieces:?}");
    assert_eq!(pieces.concat(), reply.expect("an answer").text);
    let (failure, pieces, took) = ask(&request("@slow 200\n@fail unavailable"));
    assert_eq!(failure.expect_err("it was told to fail").code, ErrorCode::ModelUnavailable);
    assert_eq!((pieces.len(), took), (0, 200));
}

#[test]
fn a_slow_tool_step_is_slow_once() {
    let mut asked = request("@slow 700\n@tool time.now");
    let (reply, pieces, took) = ask(&asked);
    let reply = reply.expect("a call");
    assert_eq!((reply.finish, reply.calls.len(), took), (FinishReason::ToolCalls, 1, 700));
    assert_eq!(pieces.concat(), reply.text);
    asked.transcript.push_unit(unit(1, &reply, &[(CallStatus::Ok, "12:00")]));
    let (last, _, took) = ask(&asked);
    let last = last.expect("an answer");
    assert_eq!(took, 0);
    assert!(last.text.contains("time.now: ok, \"12:00\""), "{}", last.text);
}

#[test]
fn an_answer_longer_than_allowed_is_cut_and_says_so() {
    let mut asked = request("ä".repeat(100).as_str());
    asked.output_tokens_max = 10;
    let reply = ask(&asked).0.expect("an answer");
    assert_eq!(reply.finish, FinishReason::Length);
    assert!(reply.usage.output_tokens <= 10);
}

#[test]
fn a_transcript_without_an_input_gets_an_answer_too() {
    let mut asked = request("");
    asked.transcript = Transcript::default();
    assert!(ask(&asked).0.expect("an answer").text.contains("scripted model"));
}
