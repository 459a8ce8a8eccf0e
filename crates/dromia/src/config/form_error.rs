//! Describes an error in the form of a configuration: the place, the key, the value there, what belongs there, and what
//! to do next.
//!
//! The reader of YAML speaks of types of this program and of options of its own; the author of the file knows keys and
//! values. What may be a secret at the wrong place is not repeated: a value where keys or a list belong, what a type
//! says that it found, and a key that does not look like one, as where the space behind its colon is missing.

use std::path::Path;

use serde_saphyr::Error;

use super::bounds;
use super::positions::{self, KeyNode, KeyPath, NodeContent, TextPosition};
use super::problem::{ConfigProblem, did_you_mean};
use super::schema;
use super::type_words::{ADDRESS, KEYS, NO_ADDRESS, expected_text, first_line};

/// The longest text that is repeated, in characters.
const TEXT_SHOWN: usize = 32;

/// Before what a type repeats of the text that it was to be read from.
const REPEATED: &str = "found \"";

/// Says what is wrong with the form of a text.
pub(super) fn form_problem(path: &Path, text: &str, error: &Error) -> ConfigProblem {
    let nodes = positions::list_nodes(text);
    // What is wrong with the text as a text explains the rest.
    let (error, nodes) = match &nodes {
        Ok(nodes) => (error.without_snippet(), nodes.as_slice()),
        Err(unread) if unread.location().is_some() => (unread.without_snippet(), <&[KeyNode]>::default()),
        Err(_) => (error.without_snippet(), <&[KeyNode]>::default()),
    };
    let at = error.location().map(|at| TextPosition { line: at.line(), column: at.column() });
    problem_at(path, at, nodes, error)
}

/// Says what is wrong with the form of a text at a place of it.
pub(super) fn problem_at(
    path: &Path,
    at: Option<TextPosition>,
    nodes: &[KeyNode],
    error: &Error,
) -> ConfigProblem {
    let told = match at {
        Some(TextPosition { line, column }) => format!("{}:{line}:{column}", path.display()),
        None => path.display().to_string(),
    };
    ConfigProblem { place: at, ..ConfigProblem::new(told, FormErrorText { at, nodes }.describe_error(error)) }
}

/// A place, and all keys and values of the text.
struct FormErrorText<'text> {
    at: Option<TextPosition>,
    nodes: &'text [KeyNode],
}

impl FormErrorText<'_> {
    fn describe_error(&self, error: &Error) -> String {
        match error {
            Error::SerdeUnknownField { field, expected, .. } => self.unknown_field_text(field, expected),
            Error::SerdeMissingField { field, .. } => self.missing_field_text(field),
            Error::DuplicateMappingKey { key, .. } => self.duplicate_key_text(key.as_deref()),
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                let near = did_you_mean(variant, expected.iter().copied());
                let near = if near.is_empty() { self.next() } else { near };
                let found = quote_if_short(variant);
                format!(
                    "{}must be one of {}, and is {found}{near}",
                    self.key_path_prefix(),
                    expected.join(", ")
                )
            }
            Error::InvalidScalar { ty, .. } => self.must_be(&expected_text(ty)),
            Error::InvalidBooleanStrict { .. } => self.must_be(&expected_text("boolean")),
            Error::SerdeInvalidType { expected, .. }
            | Error::SerdeInvalidValue { expected, .. }
            | Error::SerdeInvalidLength { expected, .. } => self.must_be(&expected_text(expected)),
            Error::Unexpected { expected: "sequence start", .. } => self.must_be("a list, such as [a, b]"),
            Error::Unexpected { expected: "mapping start", .. } => self.must_be(KEYS),
            Error::Unexpected { .. }
            | Error::NullIntoString { .. }
            | Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
            | Error::ExpectedStringKeyForExternallyTaggedEnum { .. }
            | Error::UnexpectedValueForUnitEnumVariant { .. } => self.must_be(&self.single_value_text()),
            Error::Message { msg, .. } if msg.contains(NO_ADDRESS) => self.must_be(ADDRESS),
            Error::Message { msg, .. } => {
                format!("{}{}{}", self.key_path_prefix(), without_found(msg), self.next())
            }
            Error::AliasError { error, .. } => self.describe_error(error),
            _ => of_the_text(error),
        }
    }

    /// The key whose value is at the place, or which is there itself.
    fn node_at_place(&self) -> Option<&KeyNode> {
        let at = self.at?;
        self.nodes.iter().find(|node| node.value == at).or_else(|| self.key_at_place())
    }

    fn key_at_place(&self) -> Option<&KeyNode> {
        let at = self.at?;
        self.nodes.iter().find(|node| node.key == Some(at))
    }

    /// The path of the key, before what is said of it.
    fn key_path_prefix(&self) -> String {
        self.node_at_place().map(|node| format!("{}: ", node.path.told)).unwrap_or_default()
    }

    fn must_be(&self, wanted: &str) -> String {
        let bounded = self.node_at_place().and_then(|node| bounds::bounds_text(&node.path.path, wanted));
        let wanted = bounded.as_deref().unwrap_or(wanted);
        // Where one value belongs, this is no secret that slipped; the same is not sure of a group.
        let is_told = wanted != KEYS && !wanted.starts_with("a list");
        let found = self.node_at_place().map(|node| match &node.found {
            NodeContent::Nothing => "nothing".to_owned(),
            NodeContent::Text(text) if is_told => quote_if_short(text),
            NodeContent::Text(_) => "a text".to_owned(),
            NodeContent::Plain(value) if is_told => value.clone(),
            NodeContent::Plain(value) if matches!(value.as_str(), "true" | "false") => {
                "true or false".to_owned()
            }
            NodeContent::Plain(_) => "a number".to_owned(),
            NodeContent::List => "a list".to_owned(),
            NodeContent::Mapping => "a group of keys".to_owned(),
        });
        let found = found.map(|found| format!(", and is {found}")).unwrap_or_default();
        format!("{}must be {wanted}{found}{}", self.key_path_prefix(), self.next())
    }

    /// What a key takes that takes one value.
    fn single_value_text(&self) -> String {
        let path = self.node_at_place().map(|node| node.path.path.as_str()).unwrap_or_default();
        let takes = schema::list_keys().into_iter().find(|key| key.is_meant_by(path)).map(|key| key.takes);
        match takes.as_deref() {
            Some("text") => "a text".to_owned(),
            Some("whole number") => "a whole number".to_owned(),
            Some(takes) if takes.starts_with("one of ") || takes == "true or false" => takes.to_owned(),
            _ => "a single value".to_owned(),
        }
    }

    fn unknown_field_text(&self, field: &str, known: &[&'static str]) -> String {
        let above = self.key_at_place().map(|node| &node.above).filter(|above| !above.is_empty());
        let place = above.map(|above| format!(" in `{}`", above.told)).unwrap_or_default();
        let near = match field.split_once(':') {
            Some((key, _)) if known.contains(&key) => format!("; add a space after `{key}:`"),
            _ => did_you_mean(field, known.iter().copied()),
        };
        let known = if near.is_empty() { format!("; there are {}", known.join(", ")) } else { near };
        match positions::printable_key(above.map_or("", |above| above.path.as_str()), field) {
            Ok(field) => format!("there is no key `{field}`{place}{known}"),
            Err(length) => format!("{length} is unknown{place}{known}"),
        }
    }

    fn missing_field_text(&self, field: &str) -> String {
        // The place is that of the last key, or of a group without any.
        let group = match self.key_at_place() {
            Some(last) => Some(&last.above),
            None => self.node_at_place().map(|node| &node.path),
        };
        let next = group.map(|group| next(&group.child_path(field))).unwrap_or_default();
        match group {
            Some(group) => format!("{}: needs `{field}`{next}", group.told),
            None => format!("the key `{field}` is missing here{next}"),
        }
    }

    fn duplicate_key_text(&self, key: Option<&str>) -> String {
        let unplaced = || key.map(|key| KeyPath::default().child_path(key));
        let way = self.key_at_place().map(|node| node.path.clone()).or_else(unplaced);
        let named = way.map(|way| format!("{}: ", way.told)).unwrap_or_default();
        format!("{named}appears twice; keep one of the two")
    }

    fn next(&self) -> String {
        let Some(node) = self.node_at_place() else { return String::new() };
        let own = next(&node.path);
        if own.is_empty() { next(&node.above) } else { own }
    }
}

/// Names the command that explains a key, where there is such a key.
fn next(way: &KeyPath) -> String {
    let Some(key) = schema::list_keys().into_iter().find(|key| key.is_meant_by(&way.path)) else {
        return String::new();
    };
    // A name that may not be printed gives way to its placeholder in the schema.
    let named = if way.told == way.path { &way.path } else { &key.path };
    format!("; `dromia config explain {named}` says more")
}

/// What is wrong with the text as a text.
fn of_the_text(error: &Error) -> String {
    match error {
        Error::ExternalMessage { msg, .. } => format!(
            "the text is not valid YAML from here on ({}); check the quotes, brackets and indentation of this \
             line and the line before",
            first_line(msg)
        ),
        Error::Eof { .. }
        | Error::ContainerEndMismatch { .. }
        | Error::UnexpectedSequenceEnd { .. }
        | Error::UnexpectedMappingEnd { .. } => {
            "a bracket or a quote has no partner; add or remove one".to_owned()
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here; a configuration is one document, so remove the line `---`"
                .to_owned()
        }
        Error::UnsupportedTag { .. } | Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            "a tag has no meaning here; remove the word that begins with `!`".to_owned()
        }
        Error::UnknownAnchor { .. } => {
            "the alias names no anchor above it; write the value itself".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            let levels = positions::DEPTH_MAX;
            format!(
                "the text is too large or nested too deeply (lists and groups of keys go at most {levels} \
                 levels deep); make it smaller"
            )
        }
        error => {
            let plain = error.to_string();
            let first = first_line(&plain).split(" at line").next().unwrap_or_default();
            format!("cannot be read: {first}; `dromia config explain` lists the keys of the file")
        }
    }
}

/// Writes a text in quotes if it is short.
fn quote_if_short(text: &str) -> String {
    let length = text.chars().count();
    if length <= TEXT_SHOWN { format!("{text:?}") } else { format!("a text of {length} characters") }
}

/// What a type says of a text, without the text.
fn without_found(message: &str) -> &str {
    let line = first_line(message);
    let said = line.split_once(REPEATED).map_or(line, |(said, _)| said);
    said.trim_end_matches([' ', ';', ',', ':'])
}
