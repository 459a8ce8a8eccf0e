//! A whole chat completion; the property is in `dromia_testkit::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dromia_testkit::fuzz::chat_whole(data));
