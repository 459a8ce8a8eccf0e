//! Texts that nobody meant as a configuration: each is read or refused with its line and column.

use dromia_testkit::fuzz::{TIME_MAX, corpus, mutated};

use super::*;

/// How many changed forms of each text are read.
const MUTATIONS: u64 = 64;

#[test]
fn any_text_is_read_or_refused_with_line_and_column() {
    for (name, seed) in corpus("config") {
        for number in 0..=MUTATIONS {
            let bytes = if number == 0 { seed.clone() } else { mutated(&seed, number) };
            // What is not text is refused before it is read as one.
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let began = std::time::Instant::now();
            let read = parse(Path::new("dromia.yaml"), &text);
            assert!(began.elapsed() < TIME_MAX, "{name}~{number} took {:?}", began.elapsed());
            if let Err(problem) = read {
                let place: Vec<_> = problem.at.split(':').collect();
                let is_place = matches!(place[..], ["dromia.yaml", line, column]
                    if line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok());
                assert!(is_place, "{name}~{number}: {problem}");
            }
        }
    }
}
