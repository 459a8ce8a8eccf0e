//! The file of a session, checked as an import does; the property is in `dromia_testkit::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dromia_testkit::fuzz::session_file(dromia_engine::check_session_file, data);
});
