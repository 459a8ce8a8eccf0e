//! Bytes from anywhere as files of sessions: the property of the fuzz target, over its corpus and what is near it.

use dromia_contracts::{ErrorCode, Fault};
use dromia_engine::check_session_file;
use dromia_testkit::fuzz::{assert_holds, mutated, read_corpus, session_file};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

#[test]
fn every_corpus_session_file_passes_or_is_refused_in_words() {
    let property = |data: &[u8]| session_file(check_session_file, data);
    let mut passed = 0;
    for (name, seed) in read_corpus("session_file") {
        assert_holds(&name, property, &seed);
        passed += u32::from(check_session_file(&seed).is_ok());
        for number in 0..MUTATIONS {
            assert_holds(&format!("{name}~{number}"), property, &mutated(&seed, number));
        }
    }
    assert!(passed > 1, "next to nothing passed, so nothing was tried");
}

/// Forms of a sound file whose bodies nobody could tell, each with what was changed.
const UNTELLABLE: [(&str, &str, &str); 5] = [
    ("a reply is no message", r#"\"text\",\"text\":\"known\""#, r#"\"tixt\",\"text\":\"known\""#),
    ("a result is no result", r#""{\"call\":\"call_1_0\""#, r#""{\"cell\":\"call_1_0\""#),
    ("a result answers no call", r#""{\"call\":\"call_1_0\""#, r#""{\"call\":\"call_1_7\""#),
    ("an input is no input", r#""{\"version\":1,\"offer\""#, r#""{\"version\":1,\"after\""#),
    ("an item is a signal", r#""kind":"input""#, r#""kind":"cancel""#),
];

/// The forms that a check takes though they cannot be told.
fn taken(check: impl Fn(&[u8]) -> Result<(), Fault>) -> Vec<&'static str> {
    let sound =
        read_corpus("session_file").into_iter().find(|(name, _)| name == "whole").expect("a whole file").1;
    assert_eq!(check(&sound), Ok(()));
    let sound: serde_json::Value = serde_json::from_slice(&sound).expect("it is JSON");
    let sound = sound.to_string();
    let mut taken = Vec::new();
    for (what, from, to) in UNTELLABLE {
        let changed = sound.replacen(from, to, 1);
        assert_ne!(changed, sound, "{what}");
        match check(changed.as_bytes()) {
            Ok(()) => taken.push(what),
            Err(fault) => assert_eq!(fault.code, ErrorCode::InvalidRequest, "{what}: {fault}"),
        }
    }
    taken
}

#[test]
fn a_file_whose_bodies_are_ambiguous_is_refused() {
    assert_eq!(taken(check_session_file), Vec::<&str>::new());
}

#[test]
fn a_check_that_reads_no_body_is_caught() {
    let shape = |bytes: &[u8]| {
        let read = serde_json::from_slice::<serde_json::Value>(bytes);
        read.map(drop).map_err(|error| Fault::new(ErrorCode::InvalidRequest, error.to_string()))
    };
    assert_eq!(taken(shape).len(), UNTELLABLE.len());
}
