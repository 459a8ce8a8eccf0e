//! A call that somebody approves; the property is in `dromia_testkit::fuzz`, the reader beside the tests of `tools`.

#![no_main]

#[path = "../../crates/tools/tests/it/fuzz/call.rs"]
mod call;

libfuzzer_sys::fuzz_target!(|data: &[u8]| call::property(data));
