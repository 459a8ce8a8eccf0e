//! Makes exported files and checkpoints of recipes and reads them, for the property of
//! `dromia_testkit::fuzz::audit_file`.

use std::convert::Infallible;

use dromia_contracts::audit::AuditHead;
use dromia_contracts::{Digest, TenantId};
use dromia_guard::audit::{
    AuditCheckpoint, AuditKey, CheckpointHead, check_export, first_line, last_line, record_line,
};
use dromia_testkit::fuzz;

fn key() -> AuditKey {
    AuditKey::from_seed([7; 32]).expect("32 bytes make a key")
}

/// A file with a line for each record.
fn file(records: &[&str]) -> Vec<u8> {
    let (mut text, mut link) = first_line(&key(), r#"{"tenant":"acme","filters":""}"#);
    for record in records {
        let (next, after) = record_line(link, record);
        text.push_str(&next);
        link = after;
    }
    (text + &last_line(&key(), link, records.len() as u64)).into_bytes()
}

fn read_file(bytes: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut rest = text.split_inclusive('\n');
    let lines = || Ok::<_, Infallible>(rest.next().map(str::to_owned));
    let checked = match check_export(lines, Some(key().public_key()), |_| {}) {
        Ok(checked) => checked,
        Err(never) => match never {},
    };
    checked.map(|export| export.records).map_err(|error| error.to_string())
}

/// A checkpoint whose number is the number of records, and which says two of them.
fn checkpoint(records: &[&str]) -> Vec<u8> {
    let text = |at: usize| records.get(at).copied().unwrap_or_default().to_owned();
    let head = CheckpointHead {
        number: records.len() as u64,
        at: text(0),
        before: AuditCheckpoint::origin_digest(),
        why: text(1),
    };
    let chain =
        AuditHead { tenant: TenantId::from_bytes([1; 16]), seal: 3, chain: Digest::from_bytes([4; 32]) };
    AuditCheckpoint::make_signed(&key(), head, &[chain]).1.into_bytes()
}

fn read_checkpoint(bytes: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let read =
        AuditCheckpoint::read_line(text, Some(key().public_key())).map_err(|error| error.to_string())?;
    Ok(read.head.number)
}

/// What must hold of any bytes.
pub(crate) fn property(data: &[u8]) {
    fuzz::audit_file(file, read_file, data);
    fuzz::audit_file(checkpoint, read_checkpoint, data);
}
