//! Tokens, policies and audits, over the corpus of their fuzz targets and what is near it. The fuzz targets use the same
//! readers.

mod audit;
mod policy;
mod token;

use dromia_testkit::fuzz::{Property, assert_holds, mutated, read_corpus};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;
/// And of a token, each of which is signed and checked many times.
const MUTATIONS_OF_TOKENS: u64 = 8;

fn tried(target: &str, property: Property, mutations: u64) {
    for (name, seed) in read_corpus(target) {
        assert_holds(&format!("{target}/{name}"), property, &seed);
        for number in 0..mutations {
            assert_holds(&format!("{target}/{name}~{number}"), property, &mutated(&seed, number));
        }
    }
}

#[test]
fn no_change_of_a_token_allows_more() {
    tried("token", token::property, MUTATIONS_OF_TOKENS);
    let made = read_corpus("token").iter().filter(|(_, seed)| token::is_made(seed)).count();
    assert!(made > 10, "{made} of the recipes make a token, so next to nothing was tried");
}

#[test]
fn any_policy_input_gets_a_strict_answer() {
    tried("policy_input", policy::property, MUTATIONS);
}

#[test]
fn no_change_of_a_file_of_the_audit_goes_unnoticed() {
    tried("audit_file", audit::property, MUTATIONS);
}
