//! A call that is put to the policy; the property is in `dromia_testkit::fuzz`, the reader beside the tests of `guard`.

#![no_main]

#[path = "../../crates/guard/tests/it/fuzz/policy.rs"]
mod policy;

libfuzzer_sys::fuzz_target!(|data: &[u8]| policy::property(data));
