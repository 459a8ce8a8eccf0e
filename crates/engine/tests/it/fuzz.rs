//! What approvals are bound to, over the corpus of the fuzz target and what is near it.

mod binding;

use dromia_testkit::fuzz::{assert_holds, mutated, read_corpus};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

#[test]
fn approvals_share_a_binding_only_if_all_inputs_agree() {
    let files = read_corpus("approval_binding");
    assert!(files.len() > 3, "next to nothing was tried");
    for (name, seed) in files {
        assert_holds(&format!("approval_binding/{name}"), binding::property, &seed);
        for number in 0..MUTATIONS {
            assert_holds(
                &format!("approval_binding/{name}~{number}"),
                binding::property,
                &mutated(&seed, number),
            );
        }
    }
}
