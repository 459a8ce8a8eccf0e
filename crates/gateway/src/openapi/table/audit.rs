//! The operations of the audit.

use dromia_api::audit::{AuditRecord, AuditStreamStart, EVENT_BEGUN, EVENT_RECORD, RecordExplanation};
use dromia_api::run::EVENT_PROBLEM;
use dromia_api::{ErrorCode, ListPage, ProblemDetails};

use crate::openapi::operation::{Operation, schema_of};
use crate::routes::queries;

/// Describes the routes of the audit.
pub(super) fn audit_operations() -> Vec<Operation> {
    let events = [
        (EVENT_BEGUN, schema_of::<AuditStreamStart>()),
        (EVENT_RECORD, schema_of::<AuditRecord>()),
        (EVENT_PROBLEM, schema_of::<ProblemDetails>()),
    ];
    vec![
        Operation::new(
            "GET",
            "/v1/audit",
            "audit_list",
            "List who did what and what was decided, or follow the log",
        )
        .with_query::<queries::Audit>()
        .with_header("accept", "`text/event-stream` follows the log until the client closes it.")
        .with_header("last-event-id", "The place of the last record seen; it has priority over `after`.")
        .gives_json::<ListPage<AuditRecord>>(
            200,
            "A page of records, in the order in which they became durable; if it has `next` there may be \
             more, even after an empty page.",
        )
        .gives_stream(
            "As a stream: every record once and in order, from now on unless a place is given.",
            &events,
        )
        .fails_with(&[
            ErrorCode::AgentNotFound,
            ErrorCode::CursorInFuture,
            ErrorCode::JournalDamaged,
        ]),
        Operation::new("GET", "/v1/audit/export", "audit_export", "Write records to a signed file")
            .with_query::<queries::AuditExport>()
            .gives_bytes(
                200,
                "A first line with the filters, a line for each record, each linked to the one before, and a \
                 last line with the signature. A file without its last line is incomplete.",
                "application/x-ndjson",
            )
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/audit/{record}", "audit_explain", "Explain a record")
            .gives_json::<RecordExplanation>(
                200,
                "Which rule decided, who asked, by what right, and what is unknown.",
            )
            .fails_with(&[ErrorCode::RecordNotFound, ErrorCode::JournalDamaged]),
    ]
}
