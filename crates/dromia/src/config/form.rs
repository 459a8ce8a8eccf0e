//! What is said about a text that has not the form of a configuration: the place, the key, what stands there, what belongs
//! there, and what to do next.
//!
//! The reader of YAML speaks of types of this program and of options of its own; whoever writes the file knows keys and
//! values. A text that stands where keys or a list belong is not repeated, for it may be a secret at the wrong place.

use std::path::Path;

use serde_saphyr::Error;

use super::places::{self, Found, Node, Place};
use super::problem::{Problem, did_you_mean};
use super::schema;

/// The longest text that is repeated, in characters.
const TEXT_SHOWN: usize = 32;

/// What the standard library says of an address that is none, and what one is.
const NO_ADDRESS: &str = "socket address syntax";
const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:7700";

/// What a group of keys is.
const KEYS: &str = "keys with their values, each on a line of its own below it";

/// Says what is wrong with the form of a text.
pub(super) fn problem(path: &Path, text: &str, error: &Error) -> Problem {
    let nodes = places::nodes(text);
    // What is wrong with the text as a text explains the rest.
    let (error, nodes) = match &nodes {
        Ok(nodes) => (error.without_snippet(), nodes.as_slice()),
        Err(unread) if unread.location().is_some() => (unread.without_snippet(), <&[Node]>::default()),
        Err(_) => (error.without_snippet(), <&[Node]>::default()),
    };
    let at = error.location().map(|at| Place { line: at.line(), column: at.column() });
    let place = match at {
        Some(Place { line, column }) => format!("{}:{line}:{column}", path.display()),
        None => path.display().to_string(),
    };
    Problem::new(place, Told { at, nodes }.of(error))
}

/// Says in our words why a value above the file does not fit, from the words of serde.
pub(super) fn unfit(words: &str) -> String {
    match words.rsplit_once("expected ") {
        Some((_, expected)) => format!("it must be {}", belonging(expected)),
        None if words.contains(NO_ADDRESS) => format!("it must be {ADDRESS}"),
        None => words.to_owned(),
    }
}

/// A place, and all that stands in the text.
struct Told<'text> {
    at: Option<Place>,
    nodes: &'text [Node],
}

impl Told<'_> {
    fn of(&self, error: &Error) -> String {
        match error {
            Error::SerdeUnknownField { field, expected, .. } => self.unknown(field, expected),
            Error::SerdeMissingField { field, .. } => self.missing(field),
            Error::DuplicateMappingKey { key, .. } => self.twice(key.as_deref()),
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                let near = did_you_mean(variant, expected.iter().copied());
                let near = if near.is_empty() { self.next() } else { near };
                let found = shortened(variant);
                format!("{}must be one of {}, and is {found}{near}", self.named(), expected.join(", "))
            }
            Error::InvalidScalar { ty, .. } => self.must_be(&belonging(ty)),
            Error::InvalidBooleanStrict { .. } => self.must_be(&belonging("boolean")),
            Error::SerdeInvalidType { expected, .. }
            | Error::SerdeInvalidValue { expected, .. }
            | Error::SerdeInvalidLength { expected, .. } => self.must_be(&belonging(expected)),
            Error::Unexpected { expected: "sequence start", .. } => self.must_be("a list, such as [a, b]"),
            Error::Unexpected { expected: "mapping start", .. } => self.must_be(KEYS),
            Error::Unexpected { .. }
            | Error::NullIntoString { .. }
            | Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
            | Error::ExpectedStringKeyForExternallyTaggedEnum { .. }
            | Error::UnexpectedValueForUnitEnumVariant { .. } => self.must_be(&self.single()),
            Error::Message { msg, .. } if msg.contains(NO_ADDRESS) => self.must_be(ADDRESS),
            Error::Message { msg, .. } => format!("{}{}{}", self.named(), first_line(msg), self.next()),
            Error::AliasError { error, .. } => self.of(error),
            _ => of_the_text(error),
        }
    }

    /// The key whose value stands at the place, or which stands there itself.
    fn node(&self) -> Option<&Node> {
        let at = self.at?;
        self.nodes.iter().find(|node| node.value == at).or_else(|| self.key())
    }

    fn key(&self) -> Option<&Node> {
        let at = self.at?;
        self.nodes.iter().find(|node| node.key == Some(at))
    }

    /// The path of the key, before what is said of it.
    fn named(&self) -> String {
        self.node().map(|node| format!("{}: ", node.path)).unwrap_or_default()
    }

    fn must_be(&self, wanted: &str) -> String {
        let found = self.node().map(|node| match &node.found {
            Found::Nothing => "nothing".to_owned(),
            // What belongs here is one value, so this is no secret that slipped; the same is not sure of a group.
            Found::Text(text) if wanted != KEYS && !wanted.starts_with("a list") => shortened(text),
            Found::Text(_) => "a text".to_owned(),
            Found::Plain(value) => value.clone(),
            Found::List => "a list".to_owned(),
            Found::Mapping => "a group of keys".to_owned(),
        });
        let found = found.map(|found| format!(", and is {found}")).unwrap_or_default();
        format!("{}must be {wanted}{found}{}", self.named(), self.next())
    }

    /// What a key takes that takes one value.
    fn single(&self) -> String {
        let path = self.node().map(|node| node.path.as_str()).unwrap_or_default();
        let takes = schema::keys().into_iter().find(|key| key.is_meant_by(path)).map(|key| key.takes);
        match takes.as_deref() {
            Some("text") => "a text".to_owned(),
            Some("whole number") => "a whole number".to_owned(),
            Some(takes) if takes.starts_with("one of ") || takes == "true or false" => takes.to_owned(),
            _ => "a single value".to_owned(),
        }
    }

    fn unknown(&self, field: &str, known: &[&'static str]) -> String {
        let above = self.key().map(|node| node.above.as_str()).filter(|above| !above.is_empty());
        let place = above.map(|above| format!(" in `{above}`")).unwrap_or_default();
        let near = did_you_mean(field, known.iter().copied());
        let known = if near.is_empty() { format!("; there are {}", known.join(", ")) } else { near };
        format!("there is no key `{}`{place}{known}", first_line(field))
    }

    fn missing(&self, field: &str) -> String {
        // The place is that of the last key, or of a group without any.
        let group = match self.key() {
            Some(last) => Some(last.above.as_str()),
            None => self.node().map(|node| node.path.as_str()),
        };
        let whole = group.map(|group| format!("{group}.{field}"));
        let next = whole.map(|path| next(&path)).unwrap_or_default();
        match group {
            Some(group) => format!("{group}: needs `{field}`{next}"),
            None => format!("the key `{field}` is needed here{next}"),
        }
    }

    fn twice(&self, key: Option<&str>) -> String {
        let path = self.key().map(|node| node.path.as_str()).or(key);
        let named = path.map(|path| format!("{}: ", first_line(path))).unwrap_or_default();
        format!("{named}stands here for the second time; keep one of the two")
    }

    fn next(&self) -> String {
        let Some(node) = self.node() else { return String::new() };
        let own = next(&node.path);
        if own.is_empty() { next(&node.above) } else { own }
    }
}

/// Names the command that explains a key, where there is such a key.
fn next(path: &str) -> String {
    let is_known = schema::keys().iter().any(|key| key.is_meant_by(path));
    if is_known { format!("; `dromia config explain {path}` says more") } else { String::new() }
}

/// What belongs where the reader expected something of its own.
fn belonging(expected: &str) -> String {
    let whole = |most: u64| format!("a whole number from 0 to {most}");
    match expected.trim() {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" => whole(u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" | "floating point" => "a number".to_owned(),
        "bool" | "boolean" | "a boolean" => "true or false".to_owned(),
        "a string" | "string" => "a text".to_owned(),
        "a sequence" | "sequence" => "a list, such as [a, b]".to_owned(),
        "a map" | "map" => KEYS.to_owned(),
        group if group.starts_with("struct ") => KEYS.to_owned(),
        "socket address" => ADDRESS.to_owned(),
        other => first_line(other).to_owned(),
    }
}

/// What is wrong with the text as a text.
fn of_the_text(error: &Error) -> String {
    match error {
        Error::ExternalMessage { msg, .. } => format!(
            "from here on it is no YAML ({}); look at the quotes, the brackets and the indentation of this line and of the \
             one before it",
            first_line(msg)
        ),
        Error::Eof { .. }
        | Error::ContainerEndMismatch { .. }
        | Error::UnexpectedSequenceEnd { .. }
        | Error::UnexpectedMappingEnd { .. } => {
            "a bracket or a quote is not closed, or closed where none is open; close what is open".to_owned()
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here; a configuration is one, so take the line `---` out".to_owned()
        }
        Error::UnsupportedTag { .. } | Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            "a tag means nothing here; leave the word that begins with `!` out".to_owned()
        }
        Error::UnknownAnchor { .. } => {
            "the alias names no anchor above it; write the value itself".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "the text is larger, or nested deeper, than a configuration may be; make it smaller".to_owned()
        }
        error => {
            let plain = error.to_string();
            let first = first_line(&plain).split(" at line").next().unwrap_or_default();
            format!("cannot be read: {first}; `dromia config explain` lists what can stand in the file")
        }
    }
}

/// Writes a text in quotes if it is short.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= TEXT_SHOWN { format!("{text:?}") } else { format!("a text of {length} characters") }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
