//! Bytes from anywhere as files of sessions: the property of the fuzz target, over its corpus and what is near it.

use dromia_engine::check_session_file;
use dromia_testkit::fuzz::{corpus, holds, mutated, session_file};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

#[test]
fn every_file_of_the_corpus_and_near_it_passes_or_is_refused_in_words() {
    let property = |data: &[u8]| session_file(check_session_file, data);
    let mut passed = 0;
    for (name, seed) in corpus("session_file") {
        holds(&name, property, &seed);
        passed += u32::from(check_session_file(&seed).is_ok());
        for number in 0..MUTATIONS {
            holds(&format!("{name}~{number}"), property, &mutated(&seed, number));
        }
    }
    assert!(passed > 1, "next to nothing passed, so nothing was tried");
}
