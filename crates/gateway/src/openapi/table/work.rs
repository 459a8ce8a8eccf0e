//! What came of it: sessions, runs and what they cost.

use dromia_api::cost::{CostSummary, RunCost};
use dromia_api::event::EventAccepted;
use dromia_api::run::{
    Decision, Delta, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM, Entry, JournalPage,
    Output, Run, StreamEnd, Why,
};
use dromia_api::session::{Imported, Session, StateEntry, StateWritten, Transcript};
use dromia_api::{ErrorCode, List, Problem};
use serde_json::Value;

use crate::openapi::operation::{Operation, of};
use crate::routes::queries;

const BYTES: &str = "application/octet-stream";

pub(super) fn sessions() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/sessions", "session_list", "List sessions, the newest first")
            .query::<queries::Sessions>()
            .gives::<List<Session>>(200, "A page of sessions.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("POST", "/v1/sessions/import", "session_import", "Read a session from a file")
            .query::<queries::ImportInto>()
            .takes_bytes(BYTES)
            .gives::<Imported>(201, "The new session.")
            .writes()
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated]),
        Operation::new("GET", "/v1/sessions/{session}", "session_show", "Show a session")
            .gives::<Session>(200, "The session.")
            .fails(&[ErrorCode::SessionNotFound]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/transcript",
            "session_transcript",
            "Read what was said last",
        )
        .gives::<Transcript>(200, "The newest part of the conversation.")
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/export",
            "session_export",
            "Write a session into a file",
        )
        .gives_bytes(
            200,
            "The file: transcript, tool history, bodies and custom state, of runs that have ended. The headers \
             `x-dromia-open-runs` and `x-dromia-waiting-inputs` count what is not in it.",
            BYTES,
        )
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable]),
        Operation::new("GET", "/v1/sessions/{session}/state", "state_list", "List a session's custom state")
            .query::<queries::States>()
            .gives::<List<StateEntry>>(200, "A page of entries, by name.")
            .fails(&[ErrorCode::SessionNotFound]),
        Operation::new("PUT", "/v1/sessions/{session}/state/{name}", "state_put", "Write custom state")
            .header("if-match", "The version that must be there; 0 for none. Absent: whatever is there.")
            .takes::<Value>()
            .gives::<StateWritten>(200, "The version that was written.")
            .writes()
            .fails(&[ErrorCode::SessionNotFound, ErrorCode::StateNotFound, ErrorCode::VersionConflict]),
    ]
}

pub(super) fn runs() -> Vec<Operation> {
    let ended = |path, id, summary| {
        Operation::new("POST", path, id, summary)
            .gives::<Run>(202, "How the run stands; it ends at its next safe point.")
            .writes()
            .fails(&[ErrorCode::RunNotFound, ErrorCode::RunTerminal])
    };
    let events = [
        (EVENT_ENTRY, of::<Entry>()),
        (EVENT_DELTA, of::<Delta>()),
        (EVENT_OUTPUT, of::<Output>()),
        (EVENT_END, of::<StreamEnd>()),
        (EVENT_PROBLEM, of::<Problem>()),
    ];
    vec![
        Operation::new("GET", "/v1/runs", "run_list", "List runs, the newest first")
            .query::<queries::Runs>()
            .gives::<List<Run>>(200, "A page of runs.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/runs/{run}", "run_show", "Show a run")
            .gives::<Run>(200, "The run.")
            .fails(&[ErrorCode::RunNotFound]),
        Operation::new("GET", "/v1/runs/{run}/journal", "run_journal", "Read a run's journal, or follow it")
            .query::<queries::Reading>()
            .header("accept", "`text/event-stream` follows the run until it ends.")
            .header("last-event-id", "The number of the last entry seen; it goes before `after`.")
            .gives::<JournalPage>(200, "A page of entries, in order.")
            .streams(
                "As a stream: every entry once and in order, live text and live output in between, then `end`.",
                &events,
            )
            .fails(&[ErrorCode::RunNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalUnreadable]),
        Operation::new(
            "GET",
            "/v1/runs/{run}/requests/{step}",
            "run_request",
            "Read what a model was sent, byte for byte",
        )
        .query::<queries::Which>()
        .gives::<Value>(
            200,
            "The body that was sent, in its model's own form. Headers name step and attempt (`x-dromia-step`), alias, \
             model, form and digest; no header of the request itself is told.",
        )
        .fails(&[
            ErrorCode::RunNotFound,
            ErrorCode::RequestNotFound,
            ErrorCode::RequestUnavailable,
            ErrorCode::SessionNotFound,
            ErrorCode::JournalUnreadable,
        ]),
        Operation::new(
            "GET",
            "/v1/runs/{run}/decisions",
            "run_decisions",
            "List what was decided about a run's calls, by which rule and why",
        )
        .query::<queries::Decisions>()
        .gives::<List<Decision>>(200, "A page of decisions, in the order of the journal.")
        .fails(&[ErrorCode::RunNotFound, ErrorCode::JournalUnreadable]),
        Operation::new("GET", "/v1/runs/{run}/why", "run_why", "Say why a run stands where it stands")
            .gives::<Why>(200, "What it waits for, and what moves it.")
            .fails(&[ErrorCode::RunNotFound, ErrorCode::JournalUnreadable]),
        Operation::new(
            "POST",
            "/v1/runs/{run}/resume",
            "run_resume",
            "Go on from a yielded run, or release a held one",
        )
        .gives::<EventAccepted>(202, "The wish is durable.")
        .writes()
        .fails(&[
            ErrorCode::RunNotFound,
            ErrorCode::RunNotResumable,
            ErrorCode::RunTerminal,
            ErrorCode::AgentTerminated,
            ErrorCode::JournalUnreadable,
        ]),
        ended("/v1/runs/{run}/cancel", "run_cancel", "End a run at its next safe point"),
        ended("/v1/runs/{run}/terminate", "run_terminate", "End a run now"),
    ]
}

pub(super) fn costs() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/cost", "cost_summary", "Sum up what runs cost")
            .query::<queries::Summing>()
            .gives::<CostSummary>(200, "The sums; `next` says where to count on.")
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/runs/{run}/cost", "run_cost", "Show what a run cost, attempt by attempt")
            .query::<queries::Pricing>()
            .gives::<RunCost>(200, "The run's own sum, its total, and a page of attempts.")
            .fails(&[ErrorCode::RunNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalUnreadable]),
    ]
}
