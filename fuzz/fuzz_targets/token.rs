//! A token that was made of a recipe and changed; the property is in `dromia_testkit::fuzz`, the reader beside the tests
//! of `guard`.

#![no_main]

#[path = "../../crates/guard/tests/it/fuzz/token.rs"]
mod token;

libfuzzer_sys::fuzz_target!(|data: &[u8]| token::property(data));
