//! What is left out: by table, and for any conversation and any window.

use dromia_contracts::client::SamplingOptions;
use dromia_contracts::content::{
    AssistantMessage, CallStatus, ContentPart, InputMessage, ToolCall, ToolResult,
};
use dromia_contracts::label::Label;
use dromia_contracts::transcript::{OpenUnit, Transcript};
use dromia_contracts::{Actor, CallId};
use proptest::prelude::*;

use super::*;

fn text(bytes: usize) -> Vec<ContentPart> {
    vec![ContentPart::new_text("x".repeat(bytes), Label::ACTOR_TEXT)]
}

/// What a turn of a test's conversation is.
#[derive(Debug, Clone, Copy)]
enum Said {
    /// An input of so many bytes.
    Input(usize),
    /// A unit with a call whose result has so many bytes.
    Unit(usize),
}

fn request(system: usize, output_tokens_max: u32, said: &[Said]) -> ModelRequest {
    let mut transcript = Transcript::default();
    for said in said {
        match *said {
            Said::Input(bytes) => {
                transcript.push_input(InputMessage { author: Actor::new("a"), parts: text(bytes), hops: 0 });
            }
            Said::Unit(bytes) => {
                let id = CallId { step: 1, index: 0 };
                let call = ToolCall { id, tool: "t".to_owned(), arguments: "{}".to_owned() };
                let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![call] });
                let result = ToolResult { call: id, status: CallStatus::Ok, parts: text(bytes) };
                open.add_result(result).expect("the call is open");
                transcript.push_unit(open.close().expect("every call is answered"));
            }
        }
    }
    ModelRequest {
        model: "m".to_owned(),
        system: "s".repeat(system).into(),
        transcript,
        tools: Vec::new().into(),
        output_tokens_max,
        wishes: SamplingOptions::default(),
        key: "run:1".to_owned(),
    }
}

fn window(context_tokens: u32) -> ContextWindow {
    ContextWindow { context_tokens: Some(context_tokens), output_tokens_max: None }
}

#[test]
fn whole_pieces_are_left_out_from_the_oldest() {
    use Said::{Input, Unit};
    // Each frame counts 64 bytes: an input of 236 bytes is 300, a unit with one result of 105 bytes (and 3 of the call) 300.
    let said = [Input(236), Unit(105), Input(236), Input(236), Unit(105), Unit(105)];
    // The system text is 236 bytes, so 300 with its frame: 100 tokens. The answer has 100.
    let table = [
        (100_000, Some(0)),
        (800, Some(0)),
        // The first piece has 600 bytes, 200 tokens.
        (799, Some(2)),
        // The line that says so counts 256 bytes.
        (686, Some(2)),
        (685, Some(3)),
        (586, Some(3)),
        (585, None),
    ];
    for (tokens, left_out) in table {
        let fitted = window(tokens).fit_request(&request(236, 100, &said));
        assert_eq!(fitted.map(|fitted| fitted.left_out).ok(), left_out, "a window of {tokens}");
    }
    let unknown =
        ContextWindow::default().fit_request(&request(236, 100, &said)).expect("nobody knows a bound");
    assert_eq!((unknown.left_out, unknown.output_tokens_max), (0, 100));
}

#[test]
fn an_answer_gets_at_most_half_of_the_window() {
    let asked = request(0, 4096, &[Said::Input(10)]);
    let given = |window: ContextWindow| window.fit_request(&asked).expect("it fits").output_tokens_max;
    assert_eq!(given(ContextWindow::default()), 4096);
    assert_eq!(given(ContextWindow { context_tokens: None, output_tokens_max: Some(1000) }), 1000);
    assert_eq!(given(window(4096)), 2048);
    assert_eq!(given(window(1_000_000)), 4096);
}

#[test]
fn an_oversized_request_names_model_window_and_need() {
    let long =
        window(1000).fit_request(&request(0, 100, &[Said::Input(30_000)])).expect_err("it is too long");
    let error = long.into_model_error("small-1");
    assert_eq!(error.code, ErrorCode::ContextExceeded);
    let need = tokens::count_window_tokens(30_000 + 64 + 64) + 100;
    for word in ["small-1", "window of 1000", &format!("needs {need} tokens")] {
        assert!(error.message.contains(word), "{word}: {error}");
    }
}

#[test]
fn handles_take_the_place_of_long_results_before_anything_is_left_out() {
    use Said::{Input, Unit};
    // Twelve units with a result of 3,000 bytes each: 3,195 with their frames, 355 with a handle.
    let said = [&[Input(236)][..], &[Unit(3_000); 12], &[Input(236), Unit(10)]].concat();
    let fitted = |tokens: u32| {
        let fitted = window(tokens).fit_request(&request(236, 100, &said)).expect("it fits");
        (fitted.left_out, fitted.shortened)
    };
    assert_eq!(fitted(100_000), (0, 0));
    // Some at a time: the next requests have the same beginning.
    assert_eq!([12_000, 8_000, 7_000].map(fitted), [(0, 8); 3]);
    assert_eq!(fitted(3_000), (0, 13), "the input and all units of the first piece");
    assert_eq!(fitted(700), (13, 0), "then the piece goes");
    // A long loop within the newest piece goes on with handles.
    let newest = [&[Input(236)][..], &[Unit(3_000); 12]].concat();
    let fitted = window(3_000).fit_request(&request(236, 100, &newest)).expect("it fits");
    assert_eq!((fitted.left_out, fitted.shortened), (0, 13));
}

#[test]
fn a_summary_is_never_left_out() {
    use Said::{Input, Unit};
    let mut with_summary = request(236, 100, &[]);
    with_summary.transcript.push_summary(text(236));
    for turn in request(0, 0, &[Input(236), Unit(105), Input(236)]).transcript.turns() {
        match turn {
            TranscriptTurn::Input(message) => with_summary.transcript.push_input(message.clone()),
            TranscriptTurn::Unit(unit) => with_summary.transcript.push_unit(unit.clone()),
            TranscriptTurn::Summary(_) => {}
        }
    }
    // System text, summary, the line and the newest input are 1,156 bytes: 386 tokens.
    let fitted = window(486).fit_request(&with_summary).expect("it fits");
    assert_eq!((fitted.left_out, fitted.bytes), (2, 1_156));
    assert!(window(485).fit_request(&with_summary).is_err());
}

fn any_said() -> impl Strategy<Value = Said> {
    prop_oneof![(0..400_usize).prop_map(Said::Input), (0..1_200_usize).prop_map(Said::Unit)]
}

proptest! {
    #[test]
    fn any_cut_is_whole_pieces_keeps_the_newest_and_fits(
        said in prop::collection::vec(any_said(), 1..12),
        system in 0..600_usize,
        output in 1..500_u32,
        context in 1..4_000_u32,
    ) {
        let request = request(system, output, &said);
        let turns = request.transcript.turns();
        let begins = |at: usize| at == 0 || matches!(turns[at], TranscriptTurn::Input(_));
        let newest = (0..turns.len()).rev().find(|at| begins(*at)).expect("there is one");
        let cost = |from: usize, short: usize| {
            let notice = if from > 0 { tokens::NOTICE_BYTES } else { 0 };
            let (short, whole) = turns[from..].split_at(short);
            let short: usize = short.iter().map(tokens::shortened_turn_bytes).sum();
            let whole: usize = whole.iter().map(tokens::turn_bytes).sum();
            tokens::count_window_tokens(tokens::fixed_bytes(&request) + notice + short + whole)
                + output.min(context / 2)
        };
        match window(context).fit_request(&request) {
            Ok(fitted) => {
                let (left_out, shortened) = (fitted.left_out as usize, fitted.shortened as usize);
                prop_assert!(begins(left_out), "a piece is torn");
                prop_assert!(left_out <= newest, "the newest is left out");
                prop_assert!(fitted.input_tokens() + fitted.output_tokens_max <= context);
                prop_assert_eq!(cost(left_out, shortened), fitted.input_tokens() + fitted.output_tokens_max);
                // No more is left out than must be.
                let before = (0..left_out).rev().find(|at| begins(*at));
                prop_assert!(before.is_none_or(|at| cost(at, newest - at) > context), "more would fit");
            }
            Err(_) => prop_assert!(cost(newest, turns.len() - newest) > context, "the newest would fit"),
        }
    }
}
