//! The corpus of the fuzz targets, through the functions that the targets call.

use std::collections::BTreeSet;

use dromia_testkit::fuzz::{TARGETS, TARGETS_ELSEWHERE, assert_holds, fuzz_directory, mutated, read_corpus};

/// How many changed forms of each file are tried.
const MUTATIONS: u64 = 32;

#[test]
#[expect(clippy::print_stdout, reason = "the input that breaks a property must be named")]
fn every_property_holds_for_the_corpus_and_its_mutations() {
    for (name, property) in TARGETS {
        for (file, seed) in read_corpus(name) {
            // Says which file it was, if the property panics.
            println!("{name}/{file}");
            assert_holds(name, property, &seed);
            for number in 0..MUTATIONS {
                println!("{name}/{file} mutation {number}");
                assert_holds(name, property, &mutated(&seed, number));
            }
        }
    }
}

#[test]
fn every_property_has_a_target_and_a_corpus_of_twenty() {
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.file_stem().unwrap().to_string_lossy().into_owned()
    };
    let files = std::fs::read_dir(fuzz_directory().join("fuzz_targets")).unwrap().map(stem);
    let targets: BTreeSet<_> = files.collect();
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| *name).chain(TARGETS_ELSEWHERE).collect();
    let known: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(targets, known);
    let manifest = std::fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is no binary of the crate");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"\n")), "{name} has no source");
        assert!(read_corpus(name).len() >= 20, "{name} has {} files", read_corpus(name).len());
    }
}

#[test]
fn a_mutation_is_deterministic_and_varies_with_its_number() {
    let seed = b"data: {\"text\": \"hello\"}\n\n";
    let all: BTreeSet<_> = (0..100).map(|number| mutated(seed, number)).collect();
    assert!(all.len() > 50, "{}", all.len());
    assert_eq!(mutated(seed, 7), mutated(seed, 7));
    assert!(mutated(b"", 3).len() < 64);
}
