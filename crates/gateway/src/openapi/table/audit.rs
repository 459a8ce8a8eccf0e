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
        Operation::new("GET", "/v1/audit", "audit_list", "List who did and decided what, or follow it")
            .with_query::<queries::Audit>()
            .with_header("accept", "`text/event-stream` follows the audit for as long as it is read.")
            .with_header("last-event-id", "The place of the last record seen; it goes before `after`.")
            .gives_json::<ListPage<AuditRecord>>(
                200,
                "A page of records, in the order in which they became durable; where `next` stands there may be more, \
                 also after an empty page.",
            )
            .gives_stream("As a stream: every record once and in order, from now on where no place is named.", &events)
            .fails_with(&[ErrorCode::AgentNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalDamaged]),
        Operation::new("GET", "/v1/audit/export", "audit_export", "Write records into a signed file")
            .with_query::<queries::AuditExport>()
            .gives_bytes(
                200,
                "A line that says what the file is about, a line for each record, each linked to the one before, and a \
                 line that signs. A file without its last line was cut off.",
                "application/x-ndjson",
            )
            .fails_with(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/audit/{record}", "audit_explain", "Say why a record is as it is")
            .gives_json::<RecordExplanation>(200, "Which rule decided, who asked, by what right, and what is missing.")
            .fails_with(&[ErrorCode::RecordNotFound, ErrorCode::JournalDamaged]),
    ]
}
