//! A file of records: a first line that says what it is about, a line for each record, and a last line that signs.
//!
//! Each line's link is `BLAKE3(link before | the record's JSON)`, and the first one's is over all that the first line
//! says; the last line signs the last link and how many records there are. So a record that is removed, changed, put in
//! or moved breaks the file at that line, and a file that was cut off has no last line. A reader that meets another
//! version refuses the file.

use dromia_contracts::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::digest_of;
use super::key::{AuditKey, PublicKey};

/// The version of the form.
const VERSION: u32 = 1;

const LINK: &str = "{\"link\":\"";
const RECORD: &str = "\",\"record\":";

/// What the first line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditExportHeader<'t> {
    dromia_audit: u32,
    key: Digest,
    #[serde(borrow)]
    about: &'t RawValue,
}

/// What the last line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditExportTrailer {
    records: u64,
    link: Digest,
}

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportHead {
    /// Who signed it, as it says.
    pub key: PublicKey,
    /// What it is about, a JSON object.
    pub about: String,
}

/// A file that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditExport {
    /// What it says about itself.
    pub head: ExportHead,
    /// How many records it has.
    pub records: u64,
}

/// Says why a file is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A line is not as it was written.
    #[error("line {line} was changed: {problem}")]
    Form {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A newer program wrote it.
    #[error("the file has version {0}, and this program supports up to {known}; use the newer program", known = VERSION)]
    Version(u32),
    /// A line does not follow the one before.
    #[error(
        "line {line} does not follow the line before: one of the two was changed, or a line between them was \
         removed"
    )]
    Broken {
        /// The line, counted from 1.
        line: u64,
    },
    /// The file ends before its last line.
    #[error("the file ends after line {line}, before its signature; export it again")]
    Cut {
        /// The last line that is there.
        line: u64,
    },
    /// The last line counts other records than there are.
    #[error("the last line counts {said} records, but the file has {found}")]
    Count {
        /// What it says.
        said: u64,
        /// What there is.
        found: u64,
    },
    /// The key that the file names did not sign it.
    #[error("its signature is not from {0}, the key that it names")]
    Signature(PublicKey),
    /// It is complete, and another key than the wanted one signed it. An attacker who rewrites a history leaves such a
    /// file, too.
    #[error("{signed} signed all of it, not {wanted}")]
    OtherKey {
        /// Who signed it.
        signed: PublicKey,
        /// Who was asked for.
        wanted: PublicKey,
    },
}

/// Writes the first line, with its line end. `about` is a JSON object.
pub fn first_line(key: &AuditKey, about: &str) -> (String, Digest) {
    let line = format!("{{\"dromia_audit\":{VERSION},\"key\":\"{}\",\"about\":{about}}}", key.public_key());
    let link = digest_of(line.as_bytes());
    (line + "\n", link)
}

/// Writes the line of a record, with its line end. `record` is a JSON object on one line.
pub fn record_line(before: Digest, record: &str) -> (String, Digest) {
    let link = next_link(before, record);
    (format!("{LINK}{link}{RECORD}{record}}}\n"), link)
}

/// Writes the last line, with its line end.
pub fn last_line(key: &AuditKey, before: Digest, records: u64) -> String {
    let said = trailer_text(before, records);
    let signature = key.sign(&said);
    format!("{{\"end\":{said},\"signature\":\"{signature}\"}}\n")
}

fn trailer_text(link: Digest, records: u64) -> String {
    format!("{{\"records\":{records},\"link\":\"{link}\"}}")
}

fn next_link(before: Digest, record: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    hasher.update(record.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// Reads a file to its end and tells `each` of every record. With a key only what that key signed is taken; without one,
/// what the key signed that the file names. What is wrong with the file itself goes before a key that is another one.
///
/// The caller passes lines one at a time, with their line ends: only the caller knows how long one may be.
pub fn check_export<E>(
    mut lines: impl FnMut() -> Result<Option<String>, E>,
    key: Option<PublicKey>,
    mut each: impl FnMut(&str),
) -> Result<Result<AuditExport, ExportError>, E> {
    let mut number = 1;
    let Some(first) = lines()? else { return Ok(Err(ExportError::Cut { line: 0 })) };
    let (head, mut link) = match read_first(&first) {
        Ok(read) => read,
        Err(error) => return Ok(Err(error)),
    };
    let mut records = 0;
    while let Some(text) = lines()? {
        number += 1;
        let Some(bare) = text.strip_suffix('\n') else { return Ok(Err(ExportError::Cut { line: number })) };
        if let Some(end) = bare.strip_prefix("{\"end\":") {
            if let Err(error) = read_last(end, number, link, records, head.key) {
                return Ok(Err(error));
            }
            if lines()?.is_some() {
                let problem = "it comes after the last one".to_owned();
                return Ok(Err(ExportError::Form { line: number + 1, problem }));
            }
            return Ok(match key.filter(|wanted| *wanted != head.key) {
                Some(wanted) => Err(ExportError::OtherKey { signed: head.key, wanted }),
                None => Ok(AuditExport { head, records }),
            });
        }
        match read_line(bare, number, link) {
            Ok((record, next)) => {
                each(record);
                link = next;
                records += 1;
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Err(ExportError::Cut { line: number }))
}

fn form_error(line: u64, problem: impl Into<String>) -> ExportError {
    ExportError::Form { line, problem: problem.into() }
}

fn read_first(text: &str) -> Result<(ExportHead, Digest), ExportError> {
    #[derive(Deserialize)]
    struct ExportVersion {
        dromia_audit: u32,
    }
    let bare = text.strip_suffix('\n').ok_or(ExportError::Cut { line: 1 })?;
    let versioned: ExportVersion =
        serde_json::from_str(bare).map_err(|error| form_error(1, error.to_string()))?;
    match versioned.dromia_audit {
        VERSION => {}
        newer if newer > VERSION => return Err(ExportError::Version(newer)),
        never => return Err(form_error(1, format!("version {never} never existed"))),
    }
    let first: AuditExportHeader<'_> =
        serde_json::from_str(bare).map_err(|error| form_error(1, error.to_string()))?;
    let head = ExportHead { key: PublicKey::of_digest(first.key), about: first.about.get().to_owned() };
    Ok((head, digest_of(bare.as_bytes())))
}

fn read_line(bare: &str, number: u64, before: Digest) -> Result<(&str, Digest), ExportError> {
    let rest = bare.strip_prefix(LINK).ok_or_else(|| form_error(number, "it is not a record"))?;
    let (link, rest) = rest.split_at_checked(64).ok_or_else(|| form_error(number, "it is not a record"))?;
    let record = rest.strip_prefix(RECORD).and_then(|rest| rest.strip_suffix('}'));
    let record = record.ok_or_else(|| form_error(number, "it is not a record"))?;
    let link: Digest = link.parse().map_err(|_| form_error(number, "its link is not a digest"))?;
    if next_link(before, record) != link {
        return Err(ExportError::Broken { line: number });
    }
    Ok((record, link))
}

fn read_last(end: &str, number: u64, link: Digest, records: u64, key: PublicKey) -> Result<(), ExportError> {
    let parts = end.strip_suffix("\"}").and_then(|end| end.rsplit_once(",\"signature\":\""));
    let (text, signature) = parts.ok_or_else(|| form_error(number, "it is not a last line"))?;
    let last: AuditExportTrailer =
        serde_json::from_str(text).map_err(|error| form_error(number, error.to_string()))?;
    if trailer_text(last.link, last.records) != text {
        return Err(form_error(number, "it is not in the form in which it was written"));
    }
    if last.link != link {
        return Err(ExportError::Broken { line: number });
    }
    if last.records != records {
        return Err(ExportError::Count { said: last.records, found: records });
    }
    if key.verify_signature(text, signature) { Ok(()) } else { Err(ExportError::Signature(key)) }
}
