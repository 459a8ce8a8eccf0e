//! Bytes from anywhere as bodies of requests, read without a server: the properties of the fuzz targets, over their corpus
//! and what is near it.

use dromia_contracts::Actor;
use dromia_gateway::request_body::BodyFormat;
use dromia_testkit::fuzz::{Property, assert_holds, mutated, read_corpus, request};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

fn read(words: BodyFormat, data: &[u8]) {
    request(|continues, bytes| words.parse_body(&Actor::new("token:fuzz"), continues, bytes), data);
}

#[test]
fn every_corpus_body_is_refused_in_words_or_storable() {
    let targets: [(&str, BodyFormat, Property); 4] = [
        ("chat_request", BodyFormat::Chat, |data| read(BodyFormat::Chat, data)),
        ("messages_request", BodyFormat::Messages, |data| read(BodyFormat::Messages, data)),
        ("responses_request", BodyFormat::Responses, |data| read(BodyFormat::Responses, data)),
        ("event_request", BodyFormat::Event, |data| read(BodyFormat::Event, data)),
    ];
    for (target, words, property) in targets {
        let mut taken = 0;
        for (name, seed) in read_corpus(target) {
            assert_holds(&format!("{target}/{name}"), property, &seed);
            taken += u32::from(words.parse_body(&Actor::new("token:fuzz"), false, &seed).is_ok());
            for number in 0..MUTATIONS {
                assert_holds(&format!("{target}/{name}~{number}"), property, &mutated(&seed, number));
            }
        }
        assert!(taken > 1, "{target}: next to nothing was taken, so nothing was tried");
    }
}
