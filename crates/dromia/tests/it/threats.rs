//! `SECURITY.md` names tests beside threats, and `docs/design/invariants.md` beside invariants; each of them is there.

use std::fs;
use std::path::{Path, PathBuf};

/// A name of fewer words is no claim, but a command or a file.
const WORDS_MIN: usize = 4;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Gathers the text of every source below a directory.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Gathers the text of the Python files of a directory; what else was put below it is not ours.
fn scripts(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "py") {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Lists the names of tests in a page: what stands in backticks and is made of words with `_` between them.
fn named(page: &str) -> Vec<&str> {
    let is_name = |text: &&str| {
        text.split('_').count() >= WORDS_MIN
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    page.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Lists the names that no source has as a function.
fn missing<'p>(page: &'p str, sources: &str) -> Vec<&'p str> {
    let is_there =
        |name: &&str| ["fn", "def"].iter().any(|word| sources.contains(&format!("{word} {name}(")));
    named(page).into_iter().filter(|name| !is_there(name)).collect()
}

#[test]
fn every_test_that_a_threat_names_is_there() {
    let page = fs::read_to_string(repository().join("SECURITY.md")).expect("the page");
    let mut text = String::new();
    sources(&repository().join("crates"), &mut text);
    assert!(named(&page).len() > 40, "the page names tests");
    assert_eq!(missing(&page, &text), Vec::<&str>::new());
    let planted = page.replacen("nothing_is_allowed_that_no_grant_names", "nothing_of_this_is_a_test", 1);
    assert_eq!(
        missing(&planted, &text),
        ["nothing_of_this_is_a_test"],
        "a name that is not there is noticed"
    );
}

#[test]
fn every_test_that_the_table_of_invariants_names_is_there() {
    let page = fs::read_to_string(repository().join("docs/design/invariants.md")).expect("the page");
    let (_, table) = page.split_once("\n## Invariants and the tests that keep them\n").expect("its heading");
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut text = String::new();
    sources(&repository().join("crates"), &mut text);
    for directory in ["tests/foreign", "eval/security"] {
        scripts(&repository().join(directory), &mut text);
    }
    assert!(named(table).len() > 300, "the table names tests");
    assert_eq!(missing(table, &text), Vec::<&str>::new());
    let planted = table.replacen("no_seed_breaks_an_invariant", "no_seed_breaks_the_rules", 1);
    assert_eq!(missing(&planted, &text), ["no_seed_breaks_the_rules"], "a name that is not there is noticed");
    // A row that names no function says nothing; the first one is the heading.
    let is_empty = |row: &&str| row.starts_with("| ") && named(row).is_empty();
    assert_eq!(table.lines().filter(is_empty).collect::<Vec<_>>(), ["| id | test |"]);
}

#[test]
fn every_threat_of_both_lists_is_spoken_of() {
    let page = fs::read_to_string(repository().join("SECURITY.md")).expect("the page");
    for number in 1..=10 {
        for list in ["ASI", "LLM"] {
            let row = format!("| {list}{number:02} ");
            assert!(page.contains(&row), "{row} is missing");
        }
    }
}
