//! Texts that nobody meant as a configuration: each is read, or refused with its line and column. The property is that of
//! the fuzz target, and so is what it is asked of.

use dromia_testkit::fuzz::{assert_holds, configuration, mutated, read_corpus};

use crate::read_configuration;

/// How many changed forms of each text are read.
const MUTATIONS: u64 = 64;

#[test]
fn any_text_is_read_or_refused_with_line_and_column() {
    let property = |data: &[u8]| configuration(read_configuration, data);
    let mut read = 0;
    for (name, seed) in read_corpus("config") {
        assert_holds(&name, property, &seed);
        read += u32::from(std::str::from_utf8(&seed).is_ok_and(|text| read_configuration(text).is_ok()));
        for number in 0..MUTATIONS {
            assert_holds(&format!("{name}~{number}"), property, &mutated(&seed, number));
        }
    }
    assert!(read > 1, "next to nothing was read, so nothing was tried");
}
