//! The canonical form of calls and the digest that is approved, over the corpus of the fuzz target and what is near it.

mod call;

use dromia_testkit::fuzz::{assert_holds, mutated, read_corpus};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

#[test]
fn every_approved_call_has_one_form_and_one_digest() {
    let mut calls = 0;
    for (name, seed) in read_corpus("approval_hash") {
        calls += u32::from(call::is_call(&seed));
        assert_holds(&format!("approval_hash/{name}"), call::property, &seed);
        for number in 0..MUTATIONS {
            assert_holds(&format!("approval_hash/{name}~{number}"), call::property, &mutated(&seed, number));
        }
    }
    assert!(calls > 10, "{calls} files are calls, so next to nothing was tried");
}
