//! `--jq EXPR`: the filter that a JSON result passes before it is printed.
//!
//! The language is jq's, as the crate jaq reads it. A filter sees the result alone: no variables of the environment, no clock
//! and no files. A text that it gives is printed without its quotes, so that a shell can use it.

use std::fmt;

use jaq_core::load::{Arena, Error as LoadError, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, data};
use jaq_json::{Val, read, write};

/// The most values that a filter may give for one document.
const VALUES_MAX: usize = 1_000_000;

/// What would read the surroundings of the process.
const AMBIENT: [&str; 4] = ["env", "now", "localtime", "strflocaltime"];

/// A filter that was read.
pub(super) struct JqFilter(Filter<data::JustLut<Val>>);

impl fmt::Debug for JqFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JqFilter")
    }
}

impl JqFilter {
    /// Reads an expression; an error names the character at which it goes wrong.
    pub(super) fn parse(code: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let funs = funs.filter(|(name, ..)| !AMBIENT.contains(name));
        let (arena, loader) = (Arena::default(), Loader::new(defs));
        let modules = loader.load(&arena, File { code, path: () }).map_err(|errors| {
            let (at, what) = match errors.first() {
                Some((_, LoadError::Lex(found))) => found.first().map(|(wish, at)| (*at, wish.as_str())),
                Some((_, LoadError::Parse(found))) => found.first().map(|(wish, at)| (*at, wish.as_str())),
                Some((_, LoadError::Io(found))) => found.first().map(|(at, _)| (*at, "no module")),
                None => None,
            }
            .unwrap_or((code, "an expression"));
            describe_place(code, at, &format!("expected {what}"))
        })?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let found = errors.first().and_then(|(_, found)| found.first());
            let (name, what) = found.map_or((code, "filter"), |(name, kind)| (*name, kind.as_str()));
            describe_place(code, name, &format!("there is no {what} {name:?}"))
        })?;
        Ok(Self(filter))
    }

    /// Filters one JSON document. Values are written as `indent` says: over several lines, or each in one.
    pub(super) fn filter_document(&self, json: &str, indent: Option<&str>) -> Result<String, String> {
        let input = read::parse_single(json.as_bytes()).map_err(|error| error.to_string())?;
        let style = write::Pp {
            indent: indent.map(str::to_owned),
            sep_space: indent.is_some(),
            ..write::Pp::default()
        };
        let ctx = Ctx::<data::JustLut<Val>>::new(&self.0.lut, Vars::new([]));
        let mut told = Vec::new();
        for (number, value) in self.0.id.run((ctx, input)).enumerate() {
            let value = value.map_err(|stop| match stop.get_err() {
                Ok(error) => error.to_string(),
                Err(_) => "the filter halted".to_owned(),
            })?;
            if number == VALUES_MAX {
                return Err(format!("it gives more than {VALUES_MAX} values"));
            }
            if number > 0 {
                told.push(b'\n');
            }
            match &value {
                Val::TStr(text) => told.extend_from_slice(text),
                other => write::write(&mut told, &style, 0, other).map_err(|error| error.to_string())?,
            }
        }
        Ok(String::from_utf8_lossy(&told).into_owned())
    }
}

/// Says at which character of an expression something is wrong; `at` is a part of it.
fn describe_place(code: &str, at: &str, what: &str) -> String {
    let start = (at.as_ptr() as usize).checked_sub(code.as_ptr() as usize);
    let before = start.and_then(|start| code.get(..start)).unwrap_or(code);
    let rest = code.get(before.len()..).unwrap_or_default();
    let place = before.chars().count() + 1;
    if rest.is_empty() {
        format!("{what} at its end, character {place}")
    } else {
        format!("{what} at character {place}, {:?}", rest.chars().take(20).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_gives_texts_bare_and_values_as_json() {
        let json = r#"{"items":[{"id":"run_1","n":1.50},{"id":"run_2","n":9007199254740993}]}"#;
        for (code, given) in [
            (".items[].id", "run_1\nrun_2"),
            (".items | map(.n)", "[1.50,9007199254740993]"),
            (".items[0] | {n, id}", r#"{"n":1.50,"id":"run_1"}"#),
            (".items[] | select(.id == \"none\")", ""),
        ] {
            let filter = JqFilter::parse(code).expect("an expression");
            assert_eq!(filter.filter_document(json, None).as_deref(), Ok(given), "{code}");
        }
        let whole = JqFilter::parse(".items[0]").expect("an expression").filter_document(json, Some("  "));
        assert_eq!(whole.as_deref(), Ok("{\n  \"id\": \"run_1\",\n  \"n\": 1.50\n}"));
    }

    #[test]
    fn a_wrong_filter_names_the_place() {
        for (code, said) in [
            (".items[", "expected closing bracket at its end, character 8"),
            (".a }", "expected token at character 4, \"}\""),
            (".a | nothing(1)", "there is no filter \"nothing\" at character 6, \"nothing(1)\""),
            ("$x", "there is no variable \"$x\" at character 1, \"$x\""),
            ("", "expected term at its end, character 1"),
            (".a |", "expected term at its end, character 5"),
            ("env", "there is no filter \"env\" at character 1, \"env\""),
        ] {
            assert_eq!(JqFilter::parse(code).expect_err("it is wrong"), said);
        }
        for (code, said) in
            [(".a.b", "cannot index"), ("halt", "the filter halted"), ("repeat(1)", "more than")]
        {
            let problem = JqFilter::parse(code).expect("an expression").filter_document(r#"{"a":1}"#, None);
            assert!(problem.as_ref().is_err_and(|problem| problem.contains(said)), "{code}: {problem:?}");
        }
    }
}
