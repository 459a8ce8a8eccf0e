//! Each source file that a page of `docs/` names in backticks exists, so that a rename leaves no page behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Collects the files below a directory that have this ending.
fn collect_files(directory: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_files(&path, ending, files);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            files.push(path);
        }
    }
}

/// Lists the source files that a page names and that no path ends with; `a/{b,c}.rs` names two.
fn missing_files(page: &str, sources: &[PathBuf]) -> Vec<String> {
    let is_there = |name: &String| sources.iter().any(|path| path.ends_with(name));
    let names = page.split('`').skip(1).step_by(2).filter(|text| {
        Path::new(text).extension().is_some_and(|extension| extension == "rs") && !text.contains(' ')
    });
    names.flat_map(expand_braces).filter(|name| !is_there(name)).collect()
}

fn expand_braces(name: &str) -> Vec<String> {
    match name.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?))) {
        Some((head, (parts, tail))) => parts.split(',').map(|part| format!("{head}{part}{tail}")).collect(),
        None => vec![name.to_owned()],
    }
}

#[test]
fn every_source_file_that_a_page_names_exists() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut pages, mut sources) = (Vec::new(), Vec::new());
    collect_files(&repository.join("docs"), "md", &mut pages);
    collect_files(&repository.join("crates"), "rs", &mut sources);
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| repository.join(page)));
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        assert_eq!(missing_files(&text, &sources), Vec::<String>::new(), "{}", page.display());
    }
}

#[test]
fn a_page_that_names_a_renamed_file_is_caught() {
    let sources = [PathBuf::from("crates/gateway/src/rate_limit.rs")];
    for (page, missing) in [
        ("`rate_limit.rs` and `gateway/src/rate_limit.rs`", vec![]),
        ("`allowance.rs`", vec!["allowance.rs"]),
        ("`src/{rate_limit,allowance}.rs`", vec!["src/allowance.rs"]),
    ] {
        assert_eq!(missing_files(page, &sources), missing, "{page}");
    }
}
