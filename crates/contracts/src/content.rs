//! What is said: labelled parts, the message that a model gives, and the result of a tool call.
//!
//! These types are stored as JSON bodies. They carry a tag per part, so a later kind of part is an addition;
//! a reader that meets an unknown tag refuses the body instead of dropping a part.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::id::CallId;
use crate::label::Label;
use crate::scope::Actor;

/// One labelled piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    /// Plain text.
    Text {
        /// The text itself.
        text: String,
        /// How far it may be trusted and who may read it.
        label: Label,
    },
    /// A picture.
    Image {
        /// What its bytes are.
        media: ImageMediaType,
        /// Its bytes in base64, with padding.
        data: String,
        /// How far it may be trusted and who may read it.
        label: Label,
    },
}

/// The stored fields of a part of either type. They are read in one pass: an internally tagged enum would buffer the
/// whole part first, because the tag may come last, and every turn reads its whole past.
#[derive(Deserialize)]
struct WrittenPart {
    r#type: PartKind,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    media: Option<ImageMediaType>,
    #[serde(default)]
    data: Option<String>,
    label: Label,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PartKind {
    Text,
    Image,
}

impl<'de> Deserialize<'de> for ContentPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WrittenPart { r#type, text, media, data, label } = WrittenPart::deserialize(deserializer)?;
        let missing = de::Error::missing_field;
        Ok(match r#type {
            PartKind::Text => Self::Text { text: text.ok_or_else(|| missing("text"))?, label },
            PartKind::Image => Self::Image {
                media: media.ok_or_else(|| missing("media"))?,
                data: data.ok_or_else(|| missing("data"))?,
                label,
            },
        })
    }
}

/// What the bytes of a picture are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageMediaType {
    /// A PNG.
    #[serde(rename = "image/png")]
    Png,
    /// A JPEG.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// A GIF.
    #[serde(rename = "image/gif")]
    Gif,
    /// A WebP.
    #[serde(rename = "image/webp")]
    Webp,
}

impl ImageMediaType {
    /// Returns the media type as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }

    /// Recognizes what a picture is by its first bytes.
    pub fn sniff_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

impl ContentPart {
    /// Makes a text part.
    pub fn new_text(text: impl Into<String>, label: Label) -> Self {
        Self::Text { text: text.into(), label }
    }

    /// Returns the text of the part; a picture has none.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text { text, .. } => text,
            Self::Image { .. } => "",
        }
    }

    /// Counts the bytes of the text, or of the picture as it is sent.
    pub fn byte_count(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Image { data, .. } => data.len(),
        }
    }

    /// Returns whether it is a picture.
    pub fn is_image(&self) -> bool {
        match self {
            Self::Text { .. } => false,
            Self::Image { .. } => true,
        }
    }

    /// Returns the label of the part.
    pub fn label(&self) -> Label {
        match self {
            Self::Text { label, .. } | Self::Image { label, .. } => *label,
        }
    }
}

/// Joins the texts of several parts with line breaks; pictures are passed over.
pub fn parts_text(parts: &[ContentPart]) -> String {
    parts.iter().filter(|part| !part.is_image()).map(ContentPart::as_text).collect::<Vec<_>>().join("\n")
}

/// What an actor, an agent or a schedule said to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputMessage {
    /// Who said it; each input of a shared session carries its own author.
    pub author: Actor,
    /// What was said.
    pub parts: Vec<ContentPart>,
    /// How many agents in a row led to it: 0 for what comes from outside, one more for each message that an agent sends
    /// on. It is written only where it is not 0, so a body that lacks it reads as 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(hops: &u32) -> bool {
    *hops == 0
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The id that all attempts of this call carry.
    pub id: CallId,
    /// The tool's name as the model wrote it.
    pub tool: String,
    /// The arguments as the model wrote them: JSON if the model behaved, any text if it did not.
    pub arguments: String,
}

/// What the model said in one step; the body of a `model_replied` entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssistantMessage {
    /// What it said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ContentPart>,
    /// The calls it asks for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// It ran and did what was asked.
    Ok,
    /// It ran, or was looked at, and reports an error; it had no effect beyond what the text says.
    Error,
    /// The gate refused it; nothing ran.
    Denied,
    /// It began, and whether it had its effect is unknown. It is never run again by itself.
    Unknown,
    /// The run was cancelled before it began.
    Cancelled,
    /// It is not approved yet; nothing ran. Once it is approved, it runs by itself, and the session gets the result.
    Awaiting,
}

/// The one result of one call; the body of a `tool_finished` or `tool_refused` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// Which call it answers.
    pub call: CallId,
    /// How the call ended.
    pub status: CallStatus,
    /// What the model gets.
    pub parts: Vec<ContentPart>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_recognized_by_its_first_bytes() {
        for (bytes, media) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], Some(ImageMediaType::Png)),
            (&b"\xff\xd8\xff\xe0"[..], Some(ImageMediaType::Jpeg)),
            (&b"GIF89a.."[..], Some(ImageMediaType::Gif)),
            (&b"RIFF\x24\0\0\0WEBPVP8 "[..], Some(ImageMediaType::Webp)),
            (&b"GIF88a.."[..], None),
            (&b"<svg xmlns"[..], None),
            (&b""[..], None),
        ] {
            assert_eq!(ImageMediaType::sniff_bytes(bytes), media, "{bytes:?}");
        }
        let label = Label::CLAIM;
        let image = ContentPart::Image { media: ImageMediaType::Png, data: "iVBORw0K".into(), label };
        let text = serde_json::to_string(&image).expect("it is JSON");
        assert_eq!(
            text,
            r#"{"type":"image","media":"image/png","data":"iVBORw0K","label":"untrusted/actor"}"#
        );
        assert_eq!(serde_json::from_str::<ContentPart>(&text).expect("it was just written"), image);
        assert_eq!(
            parts_text(&[ContentPart::new_text("a", label), image, ContentPart::new_text("b", label)]),
            "a\nb"
        );
    }

    #[test]
    fn hops_are_written_where_there_are_some() {
        let plain = r#"{"author":"cli:ada","parts":[{"type":"text","text":"hi","label":"trusted/actor"}]}"#;
        let message: InputMessage = serde_json::from_str(plain).expect("the body is whole");
        assert_eq!(message.hops, 0);
        assert_eq!(serde_json::to_string(&message).expect("it is JSON"), plain);
        let sent = InputMessage { hops: 3, ..message };
        let text = serde_json::to_string(&sent).expect("it is JSON");
        assert_eq!(serde_json::from_str::<InputMessage>(&text).expect("it was just written"), sent);
    }
}
