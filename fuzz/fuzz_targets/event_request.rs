//! An event, read without a server; the property is in `dromia_testkit::fuzz`.

#![no_main]

use dromia_contracts::Actor;
use dromia_gateway::reading::Words;
use dromia_testkit::fuzz::request;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    request(|continues, bytes| Words::Event.read(&Actor::new("token:fuzz"), continues, bytes), data);
});
