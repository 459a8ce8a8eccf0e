//! What came of it: sessions, runs and what they cost.

use dromia_api::agent::DeletionReport;
use dromia_api::child::ChildResource;
use dromia_api::cost::{CostSummary, RunCost};
use dromia_api::event::EventAccepted;
use dromia_api::id::IdMatches;
use dromia_api::retention::{DuePage, RetentionRun, RetentionState};
use dromia_api::run::{
    CallDecision, CallOutput, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM,
    JournalEntryResource, JournalPage, RunExplanation, RunResource, RunTree, StreamEnd, TextDelta,
};
use dromia_api::session::{SessionImport, SessionResource, StateEntry, StateWritten, TranscriptPage};
use dromia_api::session_context::{CompactionResource, SessionContext};
use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, ListPage, ProblemDetails};
use serde_json::Value;

use crate::openapi::operation::{Operation, schema_of};
use crate::routes::queries;

const BYTES: &str = "application/octet-stream";

pub(super) fn session_operations() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/sessions", "session_list", "List sessions, newest first")
            .with_query::<queries::Sessions>()
            .gives_json::<ListPage<SessionResource>>(200, "A page of sessions.")
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("POST", "/v1/sessions/import", "session_import", "Read a session from a file")
            .with_query::<queries::ImportInto>()
            .with_header(IDEMPOTENCY_HEADER, "Has no effect: the same file, labels and name give the same session.")
            .takes_bytes(BYTES)
            .gives_json::<SessionImport>(201, "The new session.")
            .writes_store()
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::AgentTerminated]),
        Operation::new("GET", "/v1/sessions/{session}", "session_show", "Show a session")
            .gives_json::<SessionResource>(200, "The session.")
            .fails_with(&[ErrorCode::SessionNotFound]),
        Operation::new("DELETE", "/v1/sessions/{session}", "session_delete", "Delete a session with its runs and children")
            .gives_json::<DeletionReport>(200, "What was deleted.")
            .writes_store()
            .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::SessionHeld, ErrorCode::SessionInUse]),
        Operation::new("POST", "/v1/sessions/{session}/hold", "session_hold", "Set a session on hold: it is not deleted")
            .gives_json::<SessionResource>(200, "The session, with its hold.")
            .writes_store()
            .fails_with(&[ErrorCode::SessionNotFound]),
        Operation::new("DELETE", "/v1/sessions/{session}/hold", "session_hold_end", "End the hold of a session")
            .gives_json::<SessionResource>(200, "The session.")
            .writes_store()
            .fails_with(&[ErrorCode::SessionNotFound]),
        Operation::new("GET", "/v1/retention", "retention_show", "Show how long sessions stay, and which are on hold")
            .gives_json::<RetentionState>(200, "The policy and the holds."),
        Operation::new("GET", "/v1/retention/due", "retention_due", "List the next sessions that are due")
            .with_query::<queries::RetentionQuery>()
            .gives_json::<DuePage>(200, "Those of the sessions that were looked at which are due; there may be none, and more to look at."),
        Operation::new("POST", "/v1/retention/run", "retention_run", "Delete the next sessions that are due")
            .with_query::<queries::RetentionQuery>()
            .gives_json::<RetentionRun>(200, "What was deleted of the sessions that were looked at.")
            .writes_store(),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/transcript",
            "session_transcript",
            "Read the newest messages of a session",
        )
        .with_query::<queries::TranscriptRange>()
        .gives_json::<TranscriptPage>(200, "The newest part of the conversation, or the part that was asked for.")
        .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/context",
            "session_context",
            "Count what the next request of a session would hold",
        )
        .gives_json::<SessionContext>(200, "The parts of the request, in tokens, and the summaries in it.")
        .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable, ErrorCode::ContextExceeded]),
        Operation::new(
            "POST",
            "/v1/sessions/{session}/compaction",
            "session_compact",
            "Have the oldest half of a session summarized",
        )
        .with_query::<queries::CompactionQuery>()
        .gives_json::<CompactionResource>(202, "The part is being summarized.")
        .gives_json::<CompactionResource>(200, "Nothing was begun: it was only asked for, or there is nothing to do.")
        .writes_store()
        .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable, ErrorCode::ContextExceeded]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/children",
            "session_children",
            "List the branches and workers of a session, oldest first",
        )
        .with_query::<queries::ChildListQuery>()
        .gives_json::<ListPage<ChildResource>>(200, "A page of branches and workers.")
        .fails_with(&[ErrorCode::SessionNotFound]),
        Operation::new("GET", "/v1/children/{child}", "child_show", "Show a branch or a worker, by its session")
            .gives_json::<ChildResource>(200, "The branch or worker.")
            .fails_with(&[ErrorCode::SessionNotFound]),
        Operation::new(
            "POST",
            "/v1/children/{child}/cancel",
            "child_cancel",
            "End what a branch or a worker does, after its current tool call",
        )
        .gives_json::<ChildResource>(202, "The branch or worker, which may not have ended yet.")
        .writes_store()
        .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::RunTerminal]),
        Operation::new(
            "GET",
            "/v1/sessions/{session}/export",
            "session_export",
            "Export a session to a file",
        )
        .gives_bytes(
            200,
            "The file: transcript, tool history, bodies and custom state, of runs that have ended. The headers \
             `x-dromia-open-runs` and `x-dromia-waiting-inputs` count what is not in it.",
            BYTES,
        )
        .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::JournalUnreadable]),
        Operation::new("GET", "/v1/sessions/{session}/state", "state_list", "List a session's custom state")
            .with_query::<queries::States>()
            .gives_json::<ListPage<StateEntry>>(200, "A page of entries, by name.")
            .fails_with(&[ErrorCode::SessionNotFound]),
        Operation::new("PUT", "/v1/sessions/{session}/state/{name}", "state_put", "Write custom state")
            .with_header("if-match", "The version that the entry must have; 0 for no entry. Absent: any \
                                      version.")
            .takes_json::<Value>()
            .gives_json::<StateWritten>(200, "The new version.")
            .writes_store()
            .fails_with(&[ErrorCode::SessionNotFound, ErrorCode::StateNotFound, ErrorCode::VersionConflict]),
    ]
}

pub(super) fn run_operations() -> Vec<Operation> {
    let ended = |path, id, summary| {
        Operation::new("POST", path, id, summary)
            .with_query::<queries::RunEndQuery>()
            .gives_json::<RunResource>(202, "The run's state; it ends at its next safe point.")
            .writes_store()
            .fails_with(&[ErrorCode::RunNotFound, ErrorCode::RunTerminal])
    };
    let events = [
        (EVENT_ENTRY, schema_of::<JournalEntryResource>()),
        (EVENT_DELTA, schema_of::<TextDelta>()),
        (EVENT_OUTPUT, schema_of::<CallOutput>()),
        (EVENT_END, schema_of::<StreamEnd>()),
        (EVENT_PROBLEM, schema_of::<ProblemDetails>()),
    ];
    vec![
        Operation::new("GET", "/v1/ids/{fragment}", "id_find", "Find ids by their first or last digits")
            .with_query::<queries::IdQuery>()
            .gives_json::<IdMatches>(200, "The ids that fit, the newest first.")
            .fails_with(&[
                ErrorCode::RunNotFound,
                ErrorCode::SessionNotFound,
                ErrorCode::ApprovalNotFound,
                ErrorCode::DeliveryNotFound,
                ErrorCode::CapabilityNotFound,
                ErrorCode::TokenNotFound,
            ]),
        Operation::new("GET", "/v1/runs", "run_list", "List runs, newest first")
            .with_query::<queries::Runs>()
            .gives_json::<ListPage<RunResource>>(200, "A page of runs.")
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/runs/{run}", "run_show", "Show a run")
            .gives_json::<RunResource>(200, "The run.")
            .fails_with(&[ErrorCode::RunNotFound]),
        Operation::new("GET", "/v1/runs/{run}/journal", "run_journal", "Read a run's journal, or follow it")
            .with_query::<queries::JournalReadQuery>()
            .with_header("accept", "`text/event-stream` follows the run until it ends.")
            .with_header("last-event-id", "The number of the last entry seen; it has priority over `after`.")
            .gives_json::<JournalPage>(200, "A page of entries, in order.")
            .gives_stream(
                "As a stream: every entry once and in order, with live text and live output in between, then \
                 `end`.",
                &events,
            )
            .fails_with(&[ErrorCode::RunNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalUnreadable]),
        Operation::new(
            "GET",
            "/v1/runs/{run}/requests/{step}",
            "run_request",
            "Read the request that a model got, byte for byte",
        )
        .with_query::<queries::SentRequestQuery>()
        .gives_json::<Value>(
            200,
            "The request body, in the model's own format. Headers name step and attempt (`x-dromia-step`), \
             alias, model, format and digest; the response contains no header of the request itself.",
        )
        .fails_with(&[
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
            "List decisions about a run's calls, each with its rule and reason",
        )
        .with_query::<queries::Decisions>()
        .gives_json::<ListPage<CallDecision>>(200, "A page of decisions, in the order of the journal.")
        .fails_with(&[ErrorCode::RunNotFound, ErrorCode::JournalUnreadable]),
        Operation::new("GET", "/v1/runs/{run}/tree", "run_tree", "Show the tree that a run belongs to")
            .gives_json::<RunTree>(
                200,
                "The run that began the tree and the tasks below it, at most 256 nodes, each with its own and its total cost.",
            )
            .fails_with(&[ErrorCode::RunNotFound]),
        Operation::new("GET", "/v1/runs/{run}/why", "run_why", "Explain why a run is in its state")
            .gives_json::<RunExplanation>(200, "What the run waits for, and what continues it.")
            .fails_with(&[ErrorCode::RunNotFound, ErrorCode::JournalUnreadable]),
        Operation::new(
            "POST",
            "/v1/runs/{run}/resume",
            "run_resume",
            "Continue a yielded run, or release a held one",
        )
        .gives_json::<EventAccepted>(202, "The request is durable.")
        .writes_store()
        .fails_with(&[
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

pub(super) fn cost_operations() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/cost", "cost_summary", "Sum up what runs cost")
            .with_query::<queries::CostSummaryQuery>()
            .gives_json::<CostSummary>(200, "The sums; `next` says where to continue.")
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/runs/{run}/cost", "run_cost", "Show what a run cost, attempt by attempt")
            .with_query::<queries::RunCostQuery>()
            .gives_json::<RunCost>(200, "The run's own sum, its total, and a page of attempts.")
            .fails_with(&[ErrorCode::RunNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalUnreadable]),
    ]
}
