//! A rule of approvals, and arguments that it is tried on; the property is in `dromia_testkit::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dromia_testkit::fuzz::approval_rule(data));
