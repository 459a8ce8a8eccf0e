//! The operations of the audit.

use dromia_api::audit::{Begun, EVENT_BEGUN, EVENT_RECORD, Explained, Record};
use dromia_api::run::EVENT_PROBLEM;
use dromia_api::{ErrorCode, List, Problem};

use crate::openapi::operation::{Operation, of};
use crate::routes::queries;

/// Describes the routes of the audit.
pub(super) fn audit() -> Vec<Operation> {
    let events =
        [(EVENT_BEGUN, of::<Begun>()), (EVENT_RECORD, of::<Record>()), (EVENT_PROBLEM, of::<Problem>())];
    vec![
        Operation::new("GET", "/v1/audit", "audit_list", "List who did and decided what, or follow it")
            .query::<queries::Audit>()
            .header("accept", "`text/event-stream` follows the audit for as long as it is read.")
            .header("last-event-id", "The place of the last record seen; it goes before `after`.")
            .gives::<List<Record>>(
                200,
                "A page of records, in the order in which they became durable; where `next` stands there may be more, \
                 also after an empty page.",
            )
            .streams("As a stream: every record once and in order, from now on where no place is named.", &events)
            .fails(&[ErrorCode::AgentNotFound, ErrorCode::CursorInFuture, ErrorCode::JournalDamaged]),
        Operation::new("GET", "/v1/audit/export", "audit_export", "Write records into a signed file")
            .query::<queries::AuditExport>()
            .gives_bytes(
                200,
                "A line that says what the file is about, a line for each record, each linked to the one before, and a \
                 line that signs. A file without its last line was cut off.",
                "application/x-ndjson",
            )
            .fails(&[ErrorCode::AgentNotFound]),
        Operation::new("GET", "/v1/audit/{record}", "audit_explain", "Say why a record is as it is")
            .gives::<Explained>(200, "Which rule decided, who asked, by what right, and what is missing.")
            .fails(&[ErrorCode::RecordNotFound, ErrorCode::JournalDamaged]),
    ]
}
