//! A whole response; the property is in `dromia_testkit::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dromia_testkit::fuzz::responses_whole(data));
