//! The position of each key in the text.
//!
//! The text is read a second time, as a tree without types, because the typed form keeps no positions. A key is named
//! by its path, such as `models.default.fallback.0`. A value that is a mapping or a list is found at its key, any other
//! at itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// A line and a column, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextPosition {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// The kind of value at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeContent {
    Nothing,
    Text(String),
    /// A number, or true or false, as it is written in JSON.
    Plain(String),
    List,
    Mapping,
}

/// The path of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyPath {
    /// As it is in the text.
    pub(crate) path: String,
    /// As it may be printed: a key that may be a secret at the wrong place is replaced by its length.
    pub(crate) told: String,
}

impl KeyPath {
    /// The path of a key or item below this one.
    pub(crate) fn child_path(&self, name: &str) -> Self {
        let of = |above: &str, name: &str| {
            if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
        };
        let told = match printable_key(&self.path, name) {
            Ok(name) => of(&self.told, name),
            Err(length) => of(&self.told, &format!("({length})")),
        };
        Self { path: of(&self.path, name), told }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.path.is_empty()
    }
}

/// The longest key that is repeated, in characters; those of the file's own are shorter.
const KEY_TOLD: usize = 32;

/// Returns a key below a path if it looks like one, else what is said of it: where a space behind a colon is missing, a value
/// is a part of its key.
pub(super) fn printable_key<'key>(above: &str, key: &'key str) -> Result<&'key str, String> {
    let is_plain = |text: &str| {
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !text.is_empty() && text.len() <= KEY_TOLD && text.chars().all(is_of_names)
    };
    let is_told = match key.split_once('/') {
        // TENANT/HANDLE.
        Some((tenant, handle)) if above == "agents" => is_plain(tenant) && is_plain(handle),
        _ => is_plain(key),
    };
    if is_told { Ok(key) } else { Err(format!("a key of {} characters", key.chars().count())) }
}

/// A key or an item of a list, with what it contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyNode {
    /// Its path, and the path of what it belongs to, which is empty at the top.
    pub(crate) path: KeyPath,
    pub(crate) above: KeyPath,
    /// How many keys and items it lies below; 0 at the top.
    pub(crate) depth: usize,
    /// The place of the key; an item has none.
    pub(crate) key: Option<TextPosition>,
    pub(crate) value: TextPosition,
    pub(crate) found: NodeContent,
}

impl KeyNode {
    /// The key itself, without what it lies below.
    pub(crate) fn key_name(&self) -> &str {
        let above = self.above.path.as_str();
        let below = self.path.path.strip_prefix(above).and_then(|rest| rest.strip_prefix('.'));
        below.filter(|_| !above.is_empty()).unwrap_or(&self.path.path)
    }
}

/// Lists every key and item, each before what lies below it. A key that is written twice is listed twice. Fails with
/// what is wrong with the text whatever it is meant to say.
pub(crate) fn list_nodes(text: &str) -> Result<Vec<KeyNode>, serde_saphyr::Error> {
    let mut nodes = Vec::new();
    if let Some(tree) = parse_tree(text, DuplicateKeyPolicy::LastWins)? {
        collect_nodes(&KeyPath::default(), 0, tree, &mut nodes);
    }
    Ok(nodes)
}

fn collect_nodes(above: &KeyPath, depth: usize, tree: YamlTree, nodes: &mut Vec<KeyNode>) {
    let mut add = |name: &str, key: Option<TextPosition>, value: Spanned<YamlTree>| {
        let path = above.child_path(name);
        let place = text_position(value.referenced);
        let (found, below) = match value.value {
            YamlTree::Leaf(found) => (found, None),
            YamlTree::List(items) => (NodeContent::List, Some(YamlTree::List(items))),
            YamlTree::Mapping(entries) => (NodeContent::Mapping, Some(YamlTree::Mapping(entries))),
        };
        nodes.push(KeyNode { path: path.clone(), above: above.clone(), depth, key, value: place, found });
        if let Some(below) = below {
            collect_nodes(&path, depth + 1, below, nodes);
        }
    };
    match tree {
        YamlTree::Leaf(_) => {}
        YamlTree::List(items) => {
            for (index, item) in items.into_iter().enumerate() {
                add(&index.to_string(), None, item);
            }
        }
        YamlTree::Mapping(entries) => {
            for (key, value) in entries {
                let at = text_position(key.referenced);
                add(&key.value, Some(at), value);
            }
        }
    }
}

fn text_position(at: Location) -> TextPosition {
    TextPosition { line: at.line(), column: at.column() }
}

/// Finds the place of every key. A text that cannot be read has none.
pub(crate) fn key_positions(text: &str) -> BTreeMap<String, TextPosition> {
    let mut places = BTreeMap::new();
    if let Ok(Some(YamlTree::Mapping(entries))) = parse_tree(text, DuplicateKeyPolicy::Error) {
        collect_positions("", entries, &mut places);
    }
    places
}

fn collect_positions(
    above: &str,
    entries: Vec<(Spanned<String>, Spanned<YamlTree>)>,
    places: &mut BTreeMap<String, TextPosition>,
) {
    for (key, value) in entries {
        let path = if above.is_empty() { key.value } else { format!("{above}.{}", key.value) };
        let at = match value.value {
            YamlTree::Leaf(_) => value.referenced,
            YamlTree::List(_) | YamlTree::Mapping(_) => key.referenced,
        };
        places.insert(path.clone(), TextPosition { line: at.line(), column: at.column() });
        match value.value {
            YamlTree::Leaf(_) => {}
            YamlTree::Mapping(entries) => collect_positions(&path, entries, places),
            YamlTree::List(items) => {
                for (index, item) in items.into_iter().enumerate() {
                    let at = TextPosition { line: item.referenced.line(), column: item.referenced.column() };
                    places.insert(format!("{path}.{index}"), at);
                }
            }
        }
    }
}

/// Reads a text without types.
fn parse_tree(
    text: &str,
    duplicate_keys: DuplicateKeyPolicy,
) -> Result<Option<YamlTree>, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, parser_options(duplicate_keys))
}

/// How a configuration is read, with types and without: what is nested too deeply is refused, because each level takes some of
/// the stack, and what one of the two takes the other does too.
pub(super) fn parser_options(duplicate_keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    }
}

/// How deeply lists and mappings may be nested; the deepest key of Dromia's own lies at the tenth level.
pub(super) const DEPTH_MAX: usize = 32;

/// A text without types.
enum YamlTree {
    Leaf(NodeContent),
    List(Vec<Spanned<YamlTree>>),
    Mapping(Vec<(Spanned<String>, Spanned<YamlTree>)>),
}

impl<'de> Deserialize<'de> for YamlTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlTreeVisitor)
    }
}

struct YamlTreeVisitor;

impl<'de> Visitor<'de> for YamlTreeVisitor {
    type Value = YamlTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Plain(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Plain(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Plain(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Plain(format!("{value:?}"))))
    }

    fn visit_str<E>(self, value: &str) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Text(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Nothing))
    }

    fn visit_none<E>(self) -> Result<YamlTree, E> {
        Ok(YamlTree::Leaf(NodeContent::Nothing))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlTree, D::Error> {
        YamlTree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<YamlTree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(YamlTree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<YamlTree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(YamlTree::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_in_both_styles_of_yaml() {
        let text = "# first\nlisten: 127.0.0.1:1\nengine:\n  active_max: 3\nmodels:\n  gpt-4.1: { kind: openai, fallback: [a, b] }\n  a:\n    stream: true\n    fallback:\n      - b\nlimits:\n";
        let places = key_positions(text);
        for (key, line, column) in [
            ("listen", 2, 9),
            ("engine", 3, 1),
            ("engine.active_max", 4, 15),
            ("models.gpt-4.1", 6, 3),
            ("models.gpt-4.1.kind", 6, 20),
            ("models.gpt-4.1.fallback.1", 6, 42),
            ("models.a.stream", 8, 13),
            ("models.a.fallback", 9, 5),
            ("models.a.fallback.0", 10, 9),
        ] {
            assert_eq!(places.get(key), Some(&TextPosition { line, column }), "{key}: {places:?}");
        }
        assert!(places.contains_key("limits"));
    }

    #[test]
    fn only_a_plausible_key_is_quoted_in_a_problem() {
        let (long, longer) = ("k".repeat(KEY_TOLD), "k".repeat(KEY_TOLD + 1));
        for (above, key, says) in [
            ("", "listen", "listen"),
            ("models", "gpt-4.1_mini", "gpt-4.1_mini"),
            ("models", long.as_str(), long.as_str()),
            ("models", longer.as_str(), "(a key of 33 characters)"),
            ("agents", "acme/ops", "acme/ops"),
            ("agents", "acme/ops/more", "(a key of 13 characters)"),
            ("agents", "acme/", "(a key of 5 characters)"),
            ("models", "acme/ops", "(a key of 8 characters)"),
            ("models", "kind:x", "(a key of 6 characters)"),
            ("models", "\u{fc}ber", "(a key of 4 characters)"),
            ("models", "", "(a key of 0 characters)"),
        ] {
            let above = KeyPath { path: above.to_owned(), told: above.to_owned() };
            let of = |name: &str| {
                if above.is_empty() { name.to_owned() } else { format!("{}.{name}", above.path) }
            };
            assert_eq!(above.child_path(key), KeyPath { path: of(key), told: of(says) });
        }
        let hidden = KeyPath::default().child_path("a b").child_path("kind");
        assert_eq!(
            (hidden.path.as_str(), hidden.told.as_str()),
            ("a b.kind", "(a key of 3 characters).kind")
        );
    }

    #[test]
    fn a_text_that_cannot_be_read_has_no_places() {
        for text in ["", "# nothing\n", "listen: [\n", "just a word", "a: 1\na: 2\n"] {
            assert!(key_positions(text).is_empty(), "{text}");
        }
    }
}
