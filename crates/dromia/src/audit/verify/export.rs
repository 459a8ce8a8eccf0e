//! An exported file, which is checked by itself: no store is opened for it, so it is checked anywhere.

use std::path::Path;

use dromia_api::audit::ExportAbout;
use dromia_guard::audit::{ExportError, PublicKey, check_export};

use super::verified::{AuditVerification, ExportHeader, VerifyFinding};
use crate::audit::file::BoundedLines;
use crate::system;

/// Checks a file of records.
pub(super) fn of_file(path: &Path, key: Option<PublicKey>) -> anyhow::Result<AuditVerification> {
    let mut verified = AuditVerification::new();
    let Some(mut lines) = BoundedLines::open(path)? else {
        return Err(system::ExitError::usage_error(format!("there is no file {}", path.display())));
    };
    let mut records = 0;
    let checked = check_export(|| lines.next(), key, |_| records += 1)?;
    verified.records = records;
    match checked {
        Ok(export) => {
            verified.key = Some(export.head.key.to_string());
            // What a newer program says beside it is not shown.
            let about = serde_json::from_str::<ExportAbout>(&export.head.about).ok();
            verified.about =
                about.map(|ExportAbout { tenant, at, filters, .. }| ExportHeader { tenant, at, filters });
        }
        Err(error) => {
            let text = error.to_string();
            let (problem, line) = match error {
                // Nothing can be said of a file that cannot be read here.
                ExportError::Version(_) => {
                    return Err(system::ExitError::usage_error(format!("{}: {text}", path.display())));
                }
                ExportError::OtherKey { signed, wanted } => {
                    verified.key = Some(signed.to_string());
                    verified.findings.push(VerifyFinding::of_key(signed, wanted, "the file"));
                    return Ok(verified);
                }
                ExportError::Form { line, .. } => ("line_changed", Some(line)),
                ExportError::Broken { line } => ("record_removed_or_changed", Some(line)),
                ExportError::Cut { line } => ("file_truncated", Some(line)),
                ExportError::Count { .. } => ("records_miscounted", None),
                ExportError::Signature(_) => ("signature_wrong", None),
            };
            verified.findings.push(VerifyFinding { line, ..VerifyFinding::new(problem, text) });
        }
    }
    Ok(verified)
}
