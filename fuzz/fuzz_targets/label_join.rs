//! Labels that are joined; the property is in `dromia_testkit::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dromia_testkit::fuzz::label_join(data));
