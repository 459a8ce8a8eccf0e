//! The text of a configuration; the property is in `dromia_testkit::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dromia_testkit::fuzz::configuration(dromia::read_configuration, data);
});
