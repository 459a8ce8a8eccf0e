//! Bytes from anywhere as bodies of requests, read without a server: the properties of the fuzz targets, over their corpus
//! and what is near it.

use dromia_contracts::Actor;
use dromia_gateway::reading::Words;
use dromia_testkit::fuzz::{Property, corpus, holds, mutated, request};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

fn read(words: Words, data: &[u8]) {
    request(|continues, bytes| words.read(&Actor::new("token:fuzz"), continues, bytes), data);
}

#[test]
fn every_body_of_the_corpus_and_near_it_is_refused_in_words_or_can_be_stored() {
    let targets: [(&str, Words, Property); 4] = [
        ("chat_request", Words::Chat, |data| read(Words::Chat, data)),
        ("messages_request", Words::Messages, |data| read(Words::Messages, data)),
        ("responses_request", Words::Responses, |data| read(Words::Responses, data)),
        ("event_request", Words::Event, |data| read(Words::Event, data)),
    ];
    for (target, words, property) in targets {
        let mut taken = 0;
        for (name, seed) in corpus(target) {
            holds(&format!("{target}/{name}"), property, &seed);
            taken += u32::from(words.read(&Actor::new("token:fuzz"), false, &seed).is_ok());
            for number in 0..MUTATIONS {
                holds(&format!("{target}/{name}~{number}"), property, &mutated(&seed, number));
            }
        }
        assert!(taken > 1, "{target}: next to nothing was taken, so nothing was tried");
    }
}
