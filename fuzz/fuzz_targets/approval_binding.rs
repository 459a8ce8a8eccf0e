//! What an approval is bound to; the property is in `dromia_testkit::fuzz`, what binds beside the tests of `engine`.

#![no_main]

#[path = "../../crates/engine/tests/it/fuzz/binding.rs"]
mod binding;

libfuzzer_sys::fuzz_target!(|data: &[u8]| binding::property(data));
