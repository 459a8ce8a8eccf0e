//! What a message of a client holds: a text, or a list of typed blocks. One flat shape reads the blocks of every API;
//! which kinds a place takes is decided there, and what it does not take is refused by its path.

use std::fmt;

use dromia_contracts::content::Part;
use dromia_contracts::label::Label;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::image;
use crate::failure::{Answer, Failure};

/// The content of a message or of a tool's result.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// A text alone.
    Text(String),
    /// Typed blocks.
    Blocks(Vec<Block>),
}

/// One typed block; which fields it has depends on its kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Block {
    /// The kind.
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) refusal: Option<String>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) input: Option<Value>,
    #[serde(default)]
    pub(super) tool_use_id: Option<String>,
    #[serde(default)]
    pub(super) content: Option<Content>,
    #[serde(default)]
    pub(super) is_error: Option<bool>,
    /// A picture: an address, or a map with one.
    #[serde(default)]
    pub(super) image_url: Option<Value>,
    /// A picture in the Anthropic API.
    #[serde(default)]
    pub(super) source: Option<Value>,
}

impl Content {
    /// Reads the texts; whatever else is there is refused by its path.
    pub(super) fn texts(self, path: &str) -> Answer<Vec<String>> {
        match self {
            Self::Text(text) => Ok(vec![text]),
            Self::Blocks(blocks) => blocks
                .into_iter()
                .enumerate()
                .map(|(at, block)| block.text(&format!("{path}[{at}]")))
                .collect(),
        }
    }

    /// Reads what a user says: texts and pictures.
    pub(super) fn said(self, path: &str) -> Answer<Vec<Part>> {
        self.parts(path, Label::ACTOR_TEXT)
    }

    /// Reads what a tool is said to have given: texts and pictures.
    pub(super) fn given(self, path: &str) -> Answer<Vec<Part>> {
        self.parts(path, Label::CLAIM)
    }

    /// Reads texts, which have the label, and pictures.
    fn parts(self, path: &str, label: Label) -> Answer<Vec<Part>> {
        match self {
            Self::Text(text) => Ok(vec![Part::text(text, label)]),
            Self::Blocks(blocks) => blocks
                .into_iter()
                .enumerate()
                .map(|(at, block)| block.part(&format!("{path}[{at}]"), label))
                .collect(),
        }
    }
}

impl Block {
    /// Reads a block of what a user says.
    pub(super) fn said(self, path: &str) -> Answer<Part> {
        self.part(path, Label::ACTOR_TEXT)
    }

    /// Reads a text, which has the label, or a picture: whose that is nobody here knows.
    fn part(self, path: &str, label: Label) -> Answer<Part> {
        match self.kind.as_str() {
            "image_url" | "input_image" => {
                let address = self.image_url.as_ref();
                let address = address.and_then(|url| url.as_str().or(url["url"].as_str()));
                image::of_address(address, &format!("{path}.image_url"))
            }
            "image" => image::of_source(self.source.as_ref(), &format!("{path}.source")),
            _ => Ok(Part::text(self.text(path)?, label)),
        }
    }

    /// Reads a block of text.
    pub(super) fn text(self, path: &str) -> Answer<String> {
        let text = match self.kind.as_str() {
            "text" | "input_text" | "output_text" => self.text,
            "refusal" => self.refusal,
            kind => return Err(not_taken(kind, path)),
        };
        text.ok_or_else(|| invalid(path, "the block has no text"))
    }
}

/// The failure for a block that this server does not take.
pub(super) fn not_taken(kind: &str, path: &str) -> Failure {
    let kind: String = kind.chars().take(40).collect();
    let instead = "send text, or pictures where a user or a tool speaks";
    invalid(path, &format!("a block of the type {kind:?} is not taken here; {instead}"))
}

/// The failure for a field that does not fit.
pub(super) fn invalid(path: &str, problem: &str) -> Failure {
    Failure::invalid(format!("`{path}`: {problem}")).at(path)
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content blocks")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = seq.next_element()? {
                    blocks.push(block);
                }
                Ok(Content::Blocks(blocks))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Refuses a field that asks for something that would change the answer and is not done here. `null` and whatever
/// `means_nothing` lets pass ask for nothing.
pub(super) fn refuse(
    field: &str,
    value: Option<&Value>,
    means_nothing: impl FnOnce(&Value) -> bool,
) -> Answer<()> {
    match value {
        Some(value) if !value.is_null() && !means_nothing(value) => {
            Err(Failure::invalid(format!("`{field}` is not supported here as it is asked")).at(field))
        }
        _ => Ok(()),
    }
}

/// Tells whether a list, map, text or flag asks for nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Tells whether a choice of tools leaves everything to the model, or forbids tools that nobody declared.
pub(super) fn is_free_choice(value: &Value) -> bool {
    let kind = value.get("type").unwrap_or(value);
    matches!(kind.as_str(), Some("auto" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(value: Value) -> Content {
        serde_json::from_value(value).expect("it is content")
    }

    #[test]
    fn texts_are_read_and_other_blocks_are_refused_by_their_path() {
        assert_eq!(content(json!("a")).texts("m").expect("a text"), ["a"]);
        let blocks = json!([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]);
        assert_eq!(content(blocks).texts("m").expect("texts"), ["a", "b"]);
        let image = json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]);
        let refused = content(image).texts("messages[3].content").expect_err("an image");
        assert_eq!(refused.place(), Some("messages[3].content[1]"));
        assert!(refused.text().contains("image_url"), "{refused:?}");
        let empty = content(json!([{"type": "text"}])).texts("m").expect_err("no text");
        assert_eq!(empty.place(), Some("m[0]"));
        assert!(serde_json::from_value::<Content>(json!(7)).is_err());
    }

    #[test]
    fn whose_word_it_is_decides_the_label_of_a_text_and_no_picture_is_anybodys() {
        let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
        let blocks = json!([{"type": "text", "text": "a"}, {"type": "image", "source": source}]);
        let labels = |parts: Vec<Part>| parts.iter().map(Part::label).collect::<Vec<_>>();
        let said = content(blocks.clone()).said("m").expect("a user may show it");
        assert_eq!(labels(said), [Label::ACTOR_TEXT, Label::CLAIM]);
        let given = content(blocks.clone()).given("m").expect("a tool may show it");
        assert_eq!(labels(given), [Label::CLAIM, Label::CLAIM]);
        assert_eq!(content(blocks).texts("m").expect_err("nobody else").place(), Some("m[1]"));
        let file = content(json!([{"type": "input_file", "file_id": "f"}])).given("m").expect_err("a file");
        assert_eq!(file.place(), Some("m[0]"));
    }

    #[test]
    fn a_field_that_asks_for_nothing_is_let_pass() {
        for nothing in [json!(null), json!([]), json!({}), json!(""), json!(false)] {
            assert!(refuse("stop", Some(&nothing), is_empty).is_ok(), "{nothing}");
        }
        let refused = refuse("stop", Some(&json!(["x"])), is_empty).expect_err("it asks");
        assert_eq!(refused.place(), Some("stop"));
        for (choice, free) in
            [(json!("auto"), true), (json!({"type": "none"}), true), (json!("required"), false)]
        {
            assert_eq!(is_free_choice(&choice), free, "{choice}");
        }
    }
}
