//! Checkpoints and exported files: any bit that changes in them, and any line that goes, is found.

use proptest::prelude::*;

use dromia_contracts::audit::AuditHead;
use dromia_contracts::{Digest, TenantId};
use dromia_guard::audit::{
    AuditCheckpoint, AuditExport, AuditKey, CheckpointError, CheckpointHead, ExportError, PublicKey,
    check_export, first_line, last_line, record_line,
};

fn key() -> AuditKey {
    AuditKey::from_seed([7; 32]).expect("32 bytes make a key")
}

/// A file of records.
fn exported(records: usize) -> String {
    let key = key();
    let (mut text, mut link) = first_line(&key, r#"{"tenant":"acme","filters":""}"#);
    for number in 0..records {
        let (next, after) = record_line(link, &format!(r#"{{"id":"act:{number}","kind":"token_created"}}"#));
        text.push_str(&next);
        link = after;
    }
    text + &last_line(&key, link, records as u64)
}

fn checked(bytes: &[u8], key: Option<PublicKey>) -> Result<AuditExport, ExportError> {
    let mut rest = bytes;
    let mut lines = || -> Result<Option<String>, std::convert::Infallible> {
        if rest.is_empty() {
            return Ok(None);
        }
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (taken, left) = rest.split_at(end);
        rest = left;
        Ok(Some(String::from_utf8_lossy(taken).into_owned()))
    };
    match check_export(&mut lines, key, |_| {}) {
        Ok(checked) => checked,
        Err(never) => match never {},
    }
}

#[test]
fn a_whole_file_is_taken_and_says_who_signed_it() {
    for records in [0, 1, 5] {
        let text = exported(records);
        for known in [None, Some(key().public_key())] {
            let export = checked(text.as_bytes(), known).expect("it is whole");
            assert_eq!((export.records, export.head.key), (records as u64, key().public_key()));
            assert_eq!(export.head.about, r#"{"tenant":"acme","filters":""}"#);
        }
        let other = AuditKey::from_seed([8; 32]).expect("a key").public_key();
        let refused = ExportError::OtherKey { signed: key().public_key(), wanted: other };
        assert_eq!(checked(text.as_bytes(), Some(other)), Err(refused));
        // What is wrong with the file itself goes before the key.
        let followed = checked(format!("{text}\n").as_bytes(), Some(other));
        assert!(
            matches!(followed, Err(ExportError::Form { line, .. }) if line == records as u64 + 3),
            "{followed:?}"
        );
        let (unsigned, _) = text.rsplit_once("\"signature\":\"").expect("it is signed");
        let unsigned = format!("{unsigned}\"signature\":\"{}\"}}\n", "0".repeat(128));
        assert_eq!(
            checked(unsigned.as_bytes(), Some(other)),
            Err(ExportError::Signature(key().public_key()))
        );
    }
}

#[test]
fn a_removed_moved_or_doubled_audit_line_is_located() {
    let text = exported(6);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    for gone in 0..lines.len() {
        let left: String =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| *line).collect();
        let error = checked(left.as_bytes(), None).expect_err("a line is gone");
        let expected = gone as u64 + 1;
        match error {
            ExportError::Broken { line } => assert_eq!(line, expected),
            ExportError::Form { line, .. } => assert_eq!((line, gone), (1, 0), "the first line is gone"),
            ExportError::Cut { line } => assert_eq!(line, expected - 1, "the last line is gone"),
            other => panic!("{other}"),
        }
    }
    for at in 1..lines.len() - 2 {
        let mut moved = lines.clone();
        moved.swap(at, at + 1);
        assert!(checked(moved.concat().as_bytes(), None).is_err());
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        assert!(checked(doubled.concat().as_bytes(), None).is_err());
    }
    assert!(checked(format!("{text}\n").as_bytes(), None).is_err(), "something follows");
    for cut in 0..text.len() {
        assert!(checked(&text.as_bytes()[..cut], None).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_audit_file_signed_with_another_key_is_refused() {
    let other = AuditKey::from_seed([8; 32]).expect("a key");
    let (first, link) = first_line(&other, "{}");
    let forged = first + &last_line(&other, link, 0);
    assert!(checked(forged.as_bytes(), None).is_ok(), "it is whole, by its own word");
    assert!(checked(forged.as_bytes(), Some(key().public_key())).is_err());
    let newer = forged.replace("{\"dromia_audit\":1", "{\"dromia_audit\":2");
    assert_eq!(checked(newer.as_bytes(), None), Err(ExportError::Version(2)));
    let never = forged.replace("{\"dromia_audit\":1", "{\"dromia_audit\":0");
    assert!(matches!(checked(never.as_bytes(), None), Err(ExportError::Form { line: 1, .. })));
}

fn checkpoint(number: u64, before: Digest) -> (AuditCheckpoint, String) {
    let chains: Vec<_> = (1..=3)
        .map(|byte: u8| AuditHead {
            tenant: TenantId::from_bytes([byte; 16]),
            seal: u64::from(byte) * 10,
            chain: Digest::from_bytes([byte; 32]),
        })
        .collect();
    let head =
        CheckpointHead { number, at: "2026-01-02T03:04:05Z".to_owned(), before, why: "time".to_owned() };
    AuditCheckpoint::make_signed(&key(), head, &chains)
}

#[test]
fn a_checkpoint_is_read_back_only_under_its_key() {
    let origin = AuditCheckpoint::origin_digest();
    assert_eq!(origin, Digest::from_bytes(*blake3::hash(b"").as_bytes()));
    let (made, text) = checkpoint(1, origin);
    assert_eq!(AuditCheckpoint::read_line(&text, None), Ok(made.clone()));
    assert_eq!(AuditCheckpoint::read_line(&text, Some(key().public_key())), Ok(made.clone()));
    let other = AuditKey::from_seed([8; 32]).expect("a key").public_key();
    assert_eq!(AuditCheckpoint::read_line(&text, Some(other)), Err(CheckpointError::Signature(other)));
    let (next, _) = checkpoint(2, made.digest);
    assert_eq!(next.head.before, made.to_mark().digest);
    let newer = text.replace("\"dromia_checkpoint\":1", "\"dromia_checkpoint\":2");
    assert_eq!(AuditCheckpoint::read_line(&newer, None), Err(CheckpointError::Version(2)));
    let never = text.replace("\"dromia_checkpoint\":1", "\"dromia_checkpoint\":0");
    assert!(matches!(AuditCheckpoint::read_line(&never, None), Err(CheckpointError::Form(_))));
    // The same meaning in another spelling is not the same line.
    let spaced = text.replacen(",\"number\"", ", \"number\"", 1);
    assert!(AuditCheckpoint::read_line(&spaced, None).is_err());
}

#[test]
fn any_bit_that_changes_in_a_checkpoint_is_found() {
    let (_, text) = checkpoint(1, AuditCheckpoint::origin_digest());
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        assert!(AuditCheckpoint::read_line(&changed, None).is_err(), "bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bit_that_changes_in_a_file_is_found(records in 0..6_usize, bit in any::<usize>()) {
        let mut bytes = exported(records).into_bytes();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(checked(&bytes, None).is_err(), "bit {}", bit);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(checked(&bytes, None).is_err());
        prop_assert!(AuditCheckpoint::read_line(&String::from_utf8_lossy(&bytes), None).is_err());
    }
}
