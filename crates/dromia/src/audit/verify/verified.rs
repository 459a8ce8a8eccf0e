//! What was looked at and what is wrong with it, as a document and in words.

use dromia_api::escape_hidden;
use dromia_cli::output::{draw_pairs, format_time};
use dromia_contracts::{RunId, SessionId, TenantId};
use dromia_guard::audit::PublicKey;
use dromia_store::AuditFinding;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// What was looked at, and what is wrong.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditVerified")]
pub(crate) struct AuditVerification {
    /// Whether nothing is wrong.
    pub(super) ok: bool,
    /// The public key that signed; nothing if nothing is signed.
    pub(super) key: Option<String>,
    /// Whether that key was named or is the home's own; else only the file itself says that it is the right one.
    pub(super) key_is_known: bool,
    /// The last checkpoint as NUMBER:DIGEST, to be kept elsewhere and asked for with `--checkpoint`.
    pub(super) last_checkpoint: Option<String>,
    /// Checkpoints.
    pub(super) checkpoints: u64,
    /// Tenants.
    pub(super) tenants: u64,
    /// Runs.
    pub(super) runs: u64,
    /// Entries of their journals.
    pub(super) entries: u64,
    /// Seals.
    pub(super) seals: u64,
    /// Changes among them.
    pub(super) acts: u64,
    /// Spans of entries that were erased with their agents.
    pub(super) erased: u64,
    /// Rows of tokens, agents, secrets, capabilities, budgets, approvals and their rules that were compared with the changes.
    pub(super) rights: u64,
    /// Records of an exported file.
    pub(super) records: u64,
    /// What an exported file says it is about.
    pub(super) about: Option<ExportHeader>,
    /// What is wrong.
    pub(super) findings: Vec<VerifyFinding>,
}

/// What an exported file says it is about. It has the records that these filters let through, and of no other tenant.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditAbout")]
pub(super) struct ExportHeader {
    /// The tenant's handle.
    pub(super) tenant: String,
    /// When it was written.
    pub(super) at: Timestamp,
    /// The filters, as they were asked for; empty where every record was.
    pub(super) filters: String,
}

/// Something that was removed or changed.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "AuditFinding")]
pub(super) struct VerifyFinding {
    /// What is wrong, as a word.
    pub(super) problem: String,
    /// What is wrong, in words.
    pub(super) text: String,
    /// The tenant.
    pub(super) tenant: Option<TenantId>,
    /// The session.
    pub(super) session: Option<SessionId>,
    /// The run.
    pub(super) run: Option<RunId>,
    /// The number of the entry in the run's journal.
    pub(super) seq: Option<u64>,
    /// The number of the seal in the tenant's chain; of a row, that of the record `act:SEAL` which tells of it.
    pub(super) seal: Option<u64>,
    /// The row, if it is outside of the journals, such as `token tok_…`.
    pub(super) row: Option<String>,
    /// The number of the checkpoint.
    pub(super) checkpoint: Option<u64>,
    /// The line of the file.
    pub(super) line: Option<u64>,
}

impl VerifyFinding {
    pub(super) fn new(problem: &str, text: impl Into<String>) -> Self {
        Self { problem: problem.to_owned(), text: text.into(), ..Self::default() }
    }

    pub(super) fn of_checkpoint(problem: &str, number: u64, text: impl Into<String>) -> Self {
        Self { checkpoint: Some(number), ..Self::new(problem, text) }
    }

    /// The finding for what is whole and signed by another key. The key that was asked for may be the wrong one, or the
    /// history was rewritten and signed: this code cannot tell the two apart.
    pub(super) fn of_key(signed: PublicKey, wanted: PublicKey, of: &str) -> Self {
        let text = format!(
            "{signed} signed all of it: either {wanted} is not the key that wrote {of}, and --key must name \
             the right one, or another key rewrote all of it"
        );
        Self::new("key_differs", text)
    }

    pub(super) fn of_store(found: AuditFinding) -> Self {
        let text = match found.detail {
            Some(detail) => format!("{}: {detail}", found.problem.description()),
            None => found.problem.description().to_owned(),
        };
        Self {
            tenant: Some(found.tenant),
            session: found.session,
            run: found.run,
            seq: found.seq,
            seal: found.seal,
            row: found.row,
            ..Self::new(found.problem.as_str(), text)
        }
    }

    fn write_line(&self, text: &mut String, words: &str) {
        text.extend(["\n", &self.problem, ": ", words]);
        let place = self.location_text();
        if !place.is_empty() {
            text.extend(["\n  ", &place]);
        }
    }

    fn location_text(&self) -> String {
        let mut place = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                place.extend([" ", name, " ", &value]);
            }
        };
        add("tenant", self.tenant.map(|id| id.to_string()));
        add("session", self.session.map(|id| id.to_string()));
        add("run", self.run.map(|id| id.to_string()));
        add("entry", self.seq.map(|seq| seq.to_string()));
        add("row", self.row.as_deref().map(escape_hidden));
        add("seal", self.seal.map(|seal| seal.to_string()));
        add("checkpoint", self.checkpoint.map(|number| number.to_string()));
        add("line", self.line.map(|line| line.to_string()));
        place.trim_start().to_owned()
    }
}

impl AuditVerification {
    /// What is wrong, a text for each.
    pub(crate) fn finding_texts(&self) -> Vec<String> {
        let text = |finding: &VerifyFinding| {
            let mut text = String::new();
            finding.write_line(&mut text, &finding.text);
            text.trim_start().replace('\n', " ")
        };
        self.findings.iter().map(text).collect()
    }

    /// How many runs, and how many checkpoints.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.runs, self.checkpoints)
    }

    pub(super) fn new() -> Self {
        Self {
            ok: false,
            key: None,
            key_is_known: false,
            last_checkpoint: None,
            checkpoints: 0,
            tenants: 0,
            runs: 0,
            entries: 0,
            seals: 0,
            acts: 0,
            erased: 0,
            rights: 0,
            records: 0,
            about: None,
            findings: Vec::new(),
        }
    }
}

/// Writes it as lines.
pub(super) fn verification_text(verified: &AuditVerification) -> String {
    let key = verified.key.as_ref().map(|key| {
        let note = if verified.key_is_known { "" } else { " (not verified: name the key with --key)" };
        format!("{key}{note}")
    });
    let some = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    let verdict = match (verified.ok, &verified.about) {
        (false, _) => "CHANGED",
        (true, None) => "no record is missing or changed, and the rights match their records",
        (true, Some(_)) => "no line is missing or changed",
    };
    let about = verified.about.as_ref();
    let only = about.map(|about| match about.filters.as_str() {
        "" => "every record up to that time".to_owned(),
        filters => format!("records with {}", escape_hidden(filters)),
    });
    let mut text = draw_pairs(&[
        ("verdict", verdict.to_owned()),
        ("tenant", about.map(|about| escape_hidden(&about.tenant)).unwrap_or_default()),
        ("written", about.map(|about| format_time(about.at)).unwrap_or_default()),
        ("holds", only.unwrap_or_default()),
        ("tenants", some(verified.tenants)),
        ("runs", some(verified.runs)),
        ("entries", some(verified.entries)),
        ("seals", some(verified.seals)),
        ("changes", some(verified.acts)),
        ("erased", some(verified.erased)),
        ("rights", some(verified.rights)),
        ("records", some(verified.records)),
        ("checkpoints", some(verified.checkpoints)),
        ("last checkpoint", verified.last_checkpoint.clone().unwrap_or_default()),
        ("key", key.unwrap_or_default()),
    ]);
    for finding in &verified.findings {
        finding.write_line(&mut text, &finding.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_problem_tenant_and_entry() {
        let mut verified = AuditVerification::new();
        verified.tenants = 1;
        verified.findings.push(VerifyFinding {
            tenant: Some(TenantId::from_bytes([1; 16])),
            seq: Some(4),
            ..VerifyFinding::new("entry_removed", "this entry was removed")
        });
        insta::assert_snapshot!(verification_text(&verified), @r"
        verdict          CHANGED
        tenants          1
        entry_removed: this entry was removed
          tenant ten_01010101010101010101010101010101 entry 4
        ");
    }

    #[test]
    fn a_file_says_whose_records_it_holds_and_which() {
        let mut verified = AuditVerification::new();
        verified.ok = true;
        verified.records = 1;
        verified.about = Some(ExportHeader {
            tenant: "acme".to_owned(),
            at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            filters: "decision=allow\nverdict".to_owned(),
        });
        insta::assert_snapshot!(verification_text(&verified), @r"
        verdict          no line is missing or changed
        tenant           acme
        written          2026-01-02 03:04:05Z
        holds            records with decision=allow\u{a}verdict
        records          1
        ");
    }
}
