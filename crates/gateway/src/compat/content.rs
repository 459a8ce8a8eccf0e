//! What a message of a client holds: a text, or a list of typed blocks. One flat shape reads the blocks of every API;
//! which kinds a place takes is decided there, and what it does not take is refused by its path.

use std::fmt;

use dromia_contracts::content::ContentPart;
use dromia_contracts::label::Label;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::field_error::invalid_field;
use super::image;
use crate::failure::{Answer, ApiError};

/// The content of a message or of a tool's result.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MessageContent {
    /// A text alone.
    Text(String),
    /// Typed blocks.
    Blocks(Vec<MessageContentBlock>),
}

/// One typed block; which fields it has depends on its kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct MessageContentBlock {
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
    pub(super) content: Option<MessageContent>,
    #[serde(default)]
    pub(super) is_error: Option<bool>,
    /// A picture: an address, or a map with one.
    #[serde(default)]
    pub(super) image_url: Option<Value>,
    /// A picture in the Anthropic API.
    #[serde(default)]
    pub(super) source: Option<Value>,
}

impl MessageContent {
    /// Reads the texts; whatever else is there is refused by its path.
    pub(super) fn into_texts(self, path: &str) -> Answer<Vec<String>> {
        match self {
            Self::Text(text) => Ok(vec![text]),
            Self::Blocks(blocks) => blocks
                .into_iter()
                .enumerate()
                .map(|(at, block)| block.into_text(&format!("{path}[{at}]")))
                .collect(),
        }
    }

    /// Reads what a user says: texts and pictures.
    pub(super) fn into_user_parts(self, path: &str) -> Answer<Vec<ContentPart>> {
        self.into_parts(path, Label::ACTOR_TEXT)
    }

    /// Reads what a tool is said to have given: texts and pictures.
    pub(super) fn into_tool_parts(self, path: &str) -> Answer<Vec<ContentPart>> {
        self.into_parts(path, Label::CLAIM)
    }

    /// Reads texts, which have the label, and pictures.
    fn into_parts(self, path: &str, label: Label) -> Answer<Vec<ContentPart>> {
        match self {
            Self::Text(text) => Ok(vec![ContentPart::new_text(text, label)]),
            Self::Blocks(blocks) => blocks
                .into_iter()
                .enumerate()
                .map(|(at, block)| block.into_part(&format!("{path}[{at}]"), label))
                .collect(),
        }
    }
}

impl MessageContentBlock {
    /// Reads a block of what a user says.
    pub(super) fn into_user_part(self, path: &str) -> Answer<ContentPart> {
        self.into_part(path, Label::ACTOR_TEXT)
    }

    /// Reads a text, which has the label, or a picture, whose origin is not known here.
    fn into_part(self, path: &str, label: Label) -> Answer<ContentPart> {
        match self.kind.as_str() {
            "image_url" | "input_image" => {
                let address = self.image_url.as_ref();
                let address = address.and_then(|url| url.as_str().or(url["url"].as_str()));
                image::of_address(address, &format!("{path}.image_url"))
            }
            "image" => image::of_source(self.source.as_ref(), &format!("{path}.source")),
            _ => Ok(ContentPart::new_text(self.into_text(path)?, label)),
        }
    }

    /// Reads a block of text.
    pub(super) fn into_text(self, path: &str) -> Answer<String> {
        let text = match self.kind.as_str() {
            "text" | "input_text" | "output_text" => self.text,
            "refusal" => self.refusal,
            kind => return Err(not_taken(kind, path)),
        };
        text.ok_or_else(|| invalid_field(path, "the block has no text"))
    }
}

/// The failure for a block that this server does not take.
pub(super) fn not_taken(kind: &str, path: &str) -> ApiError {
    let kind: String = kind.chars().take(40).collect();
    let instead = "send text, or pictures in messages of a user or a tool";
    invalid_field(path, &format!("blocks of the type {kind:?} are not supported here; {instead}"))
}

impl<'de> Deserialize<'de> for MessageContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;

        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = MessageContent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("it must be a string or a list of content blocks")
            }

            fn visit_str<E>(self, text: &str) -> Result<MessageContent, E> {
                Ok(MessageContent::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MessageContent, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = seq.next_element()? {
                    blocks.push(block);
                }
                Ok(MessageContent::Blocks(blocks))
            }
        }

        deserializer.deserialize_any(ContentVisitor)
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

/// Tells whether a choice of tools leaves everything to the model, or forbids tools where none is declared.
pub(super) fn is_free_choice(value: &Value) -> bool {
    let kind = value.get("type").unwrap_or(value);
    matches!(kind.as_str(), Some("auto" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(value: Value) -> MessageContent {
        serde_json::from_value(value).expect("it is content")
    }

    #[test]
    fn texts_are_read_and_other_blocks_refused_by_path() {
        assert_eq!(content(json!("a")).into_texts("m").expect("a text"), ["a"]);
        let blocks = json!([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]);
        assert_eq!(content(blocks).into_texts("m").expect("texts"), ["a", "b"]);
        let image = json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]);
        let refused = content(image).into_texts("messages[3].content").expect_err("an image");
        assert_eq!(refused.field_path(), Some("messages[3].content[1]"));
        assert!(refused.full_message().contains("image_url"), "{refused:?}");
        let empty = content(json!([{"type": "text"}])).into_texts("m").expect_err("no text");
        assert_eq!(empty.field_path(), Some("m[0]"));
        assert!(serde_json::from_value::<MessageContent>(json!(7)).is_err());
    }

    #[test]
    fn the_author_decides_the_label_of_text_and_pictures() {
        let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
        let blocks = json!([{"type": "text", "text": "a"}, {"type": "image", "source": source}]);
        let labels = |parts: Vec<ContentPart>| parts.iter().map(ContentPart::label).collect::<Vec<_>>();
        let said = content(blocks.clone()).into_user_parts("m").expect("a user may show it");
        assert_eq!(labels(said), [Label::ACTOR_TEXT, Label::CLAIM]);
        let given = content(blocks.clone()).into_tool_parts("m").expect("a tool may show it");
        assert_eq!(labels(given), [Label::CLAIM, Label::CLAIM]);
        assert_eq!(content(blocks).into_texts("m").expect_err("nobody else").field_path(), Some("m[1]"));
        let file = content(json!([{"type": "input_file", "file_id": "f"}]))
            .into_tool_parts("m")
            .expect_err("a file");
        assert_eq!(file.field_path(), Some("m[0]"));
    }

    #[test]
    fn a_free_choice_of_tools_is_known_in_both_forms() {
        for (choice, free) in
            [(json!("auto"), true), (json!({"type": "none"}), true), (json!("required"), false)]
        {
            assert_eq!(is_free_choice(&choice), free, "{choice}");
        }
    }
}
