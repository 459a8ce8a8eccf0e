//! Documents that say who an agent is and whom it talks with: their names, what one may contain, and which ones count in a
//! session.
//!
//! An agent's configuration has the digest of each document; the text is a pin of the store. People write documents, and no tool
//! does. Nothing here joins texts or reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::handle::HandleSlug;
use crate::scope::Actor;
use crate::session::SessionKey;

/// The most bytes of a document.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// The most documents of an agent.
pub const DOCUMENTS_MAX: usize = 256;

/// The most bytes of a document's name.
pub const NAME_BYTES_MAX: usize = 320;

/// Which document: it reads like the path of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DocumentName {
    /// `SOUL.md`: the character of the agent. It takes the place of the agent's instructions.
    Soul,
    /// `IDENTITY.md`: what the agent is called, and how it presents itself.
    Identity,
    /// `USER.md`: whom the agent works for.
    User,
    /// `platforms/NAME.md`: what counts on a platform.
    Platform(String),
    /// `channels/PLATFORM/CHANNEL.md`: what counts in one channel of a platform.
    Channel {
        /// The platform.
        platform: String,
        /// The channel; it may contain slashes.
        channel: String,
    },
    /// `actors/ACTOR.md`: what counts with one person or system.
    Actor(Actor),
    /// `prompts/KIND.md`: what a kind of run reads first.
    Prompt(PromptKind),
    /// `roles/NAME.md`: what a worker with that role reads with its task.
    Role(HandleSlug),
}

impl DocumentName {
    /// Returns the role of workers that the document describes, if it is one of a role.
    pub const fn role(&self) -> Option<&HandleSlug> {
        match self {
            Self::Role(role) => Some(role),
            _ => None,
        }
    }
}

/// A kind of run that has a prompt of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// A turn, and a branch, which repeats the requests of its turn.
    Turn,
    /// A worker.
    Worker,
    /// A compaction.
    Compaction,
}

impl PromptKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Turn, Self::Worker, Self::Compaction];

    /// Returns the kind as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Worker => "worker",
            Self::Compaction => "compaction",
        }
    }
}

/// What a configuration says of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentDigest {
    /// BLAKE3 of its text.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u32,
}

/// Why a name is none of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no document of an agent; the documents are SOUL.md, IDENTITY.md, USER.md, platforms/NAME.md, \
     channels/PLATFORM/CHANNEL.md, actors/ACTOR.md, roles/NAME.md, and prompts/turn.md, prompts/worker.md and prompts/compaction.md"
)]
pub struct ParseDocumentNameError(String);

/// Why a text can be no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentTextError {
    /// There is nothing to read in it.
    #[error("the document is empty; remove it instead")]
    Empty,
    /// It is too long.
    #[error("the document has {0} bytes; it may have {DOCUMENT_BYTES_MAX}")]
    TooLong(usize),
    /// It has a character that no text has.
    #[error("the document has the control character U+{0:04X} at byte {1}; write text")]
    Control(u32, usize),
}

impl FromStr for DocumentName {
    type Err = ParseDocumentNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseDocumentNameError(text.chars().take(80).collect());
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(refused());
        }
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let found = match text {
            "SOUL.md" => Some(Self::Soul),
            "IDENTITY.md" => Some(Self::Identity),
            "USER.md" => Some(Self::User),
            _ => {
                let (folder, name) = text.split_once('/').ok_or_else(refused)?;
                let name = name.strip_suffix(".md").ok_or_else(refused)?;
                match folder {
                    "platforms" => part(name).filter(|name| !name.contains('/')).map(Self::Platform),
                    "channels" => name.split_once('/').and_then(|(platform, channel)| {
                        Some(Self::Channel { platform: part(platform)?, channel: part(channel)? })
                    }),
                    "actors" => part(name)
                        .filter(|name| name.len() <= Actor::BYTES_MAX)
                        .map(|name| Self::Actor(Actor::new(&name))),
                    "prompts" => {
                        PromptKind::ALL.into_iter().find(|kind| kind.as_str() == name).map(Self::Prompt)
                    }
                    "roles" => name.parse().ok().map(Self::Role),
                    _ => None,
                }
            }
        };
        found.ok_or_else(refused)
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Soul => f.write_str("SOUL.md"),
            Self::Identity => f.write_str("IDENTITY.md"),
            Self::User => f.write_str("USER.md"),
            Self::Platform(name) => write!(f, "platforms/{name}.md"),
            Self::Channel { platform, channel } => write!(f, "channels/{platform}/{channel}.md"),
            Self::Actor(actor) => write!(f, "actors/{actor}.md"),
            Self::Prompt(kind) => write!(f, "prompts/{}.md", kind.as_str()),
            Self::Role(role) => write!(f, "roles/{role}.md"),
        }
    }
}

impl TryFrom<String> for DocumentName {
    type Error = ParseDocumentNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DocumentName> for String {
    fn from(name: DocumentName) -> Self {
        name.to_string()
    }
}

/// Refuses a text that can be no document.
pub fn check_document_text(text: &str) -> Result<(), DocumentTextError> {
    if text.trim().is_empty() {
        return Err(DocumentTextError::Empty);
    }
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentTextError::TooLong(text.len()));
    }
    let is_refused = |sign: char| sign.is_control() && !matches!(sign, '\n' | '\r' | '\t');
    match text.char_indices().find(|(_, sign)| is_refused(*sign)) {
        Some((at, sign)) => Err(DocumentTextError::Control(u32::from(sign), at)),
        None => Ok(()),
    }
}

/// Returns the digests of the documents that count in a session, in the order in which a model reads them.
pub fn session_layers(
    documents: &BTreeMap<DocumentName, DocumentDigest>,
    session: &SessionKey,
) -> Vec<Digest> {
    if documents.is_empty() {
        return Vec::new();
    }
    let SessionKey { platform, channel, actor } = session;
    let names = [
        DocumentName::Soul,
        DocumentName::Identity,
        DocumentName::User,
        DocumentName::Platform(platform.clone()),
        DocumentName::Channel { platform: platform.clone(), channel: channel.clone() },
        DocumentName::Actor(actor.clone()),
    ];
    names.iter().filter_map(|name| documents.get(name)).map(|document| document.digest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for name in [
            "SOUL.md",
            "IDENTITY.md",
            "USER.md",
            "platforms/telegram.md",
            "channels/matrix/!room/7:example.com.md",
            "actors/telegram:42.md",
            "prompts/worker.md",
            "roles/data-clerk.md",
        ] {
            assert_eq!(name.parse::<DocumentName>().expect(name).to_string(), name);
        }
        let long = format!("platforms/{}.md", "a".repeat(NAME_BYTES_MAX));
        for name in [
            "",
            "soul.md",
            "SOUL",
            "/SOUL.md",
            "platforms/.md",
            "platforms/a/b.md",
            "channels/a.md",
            "channels//b.md",
            "channels/a/.md",
            "actors/.md",
            "actors/a\n.md",
            "prompts/branch.md",
            "notes/a.md",
            "roles/.md",
            "roles/Big.md",
            "roles/a/b.md",
            "../SOUL.md",
            &long,
        ] {
            assert!(name.parse::<DocumentName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_document_is_text_within_its_limit() {
        assert_eq!(check_document_text("You are kind.\r\n\tAlways.\n"), Ok(()));
        assert_eq!(check_document_text(" \n"), Err(DocumentTextError::Empty));
        let longest = "a".repeat(DOCUMENT_BYTES_MAX);
        assert_eq!(check_document_text(&longest), Ok(()));
        assert_eq!(check_document_text(&format!("{longest}a")), Err(DocumentTextError::TooLong(65_537)));
        assert_eq!(check_document_text("a\u{1b}[0m"), Err(DocumentTextError::Control(0x1b, 1)));
    }

    #[test]
    fn a_session_has_the_documents_of_its_place_and_no_other() {
        let digest = |byte| DocumentDigest { digest: Digest::from_bytes([byte; 32]), bytes: 1 };
        let documents: BTreeMap<DocumentName, DocumentDigest> = [
            ("actors/slack:U1.md", 6),
            ("actors/slack:U2.md", 9),
            ("channels/slack/C1.md", 5),
            ("channels/teams/C1.md", 9),
            ("platforms/slack.md", 4),
            ("prompts/worker.md", 9),
            ("USER.md", 3),
            ("SOUL.md", 1),
            ("IDENTITY.md", 2),
        ]
        .into_iter()
        .map(|(name, byte)| (name.parse().expect(name), digest(byte)))
        .collect();
        let key = |platform: &str, actor: &str| SessionKey {
            platform: platform.to_owned(),
            channel: "C1".to_owned(),
            actor: Actor::new(actor),
        };
        let layers = |key| {
            let layers = session_layers(&documents, &key);
            layers.iter().map(|digest| digest.as_bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(layers(key("slack", "slack:U1")), [1, 2, 3, 4, 5, 6]);
        assert_eq!(layers(key("cli", "cli:ada")), [1, 2, 3]);
        assert_eq!(session_layers(&BTreeMap::new(), &key("slack", "slack:U1")), []);
    }
}
