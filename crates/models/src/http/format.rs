//! The wire formats, and what differs between them.

use bytes::Bytes;
use dromia_contracts::ErrorCode;
use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::client::SamplingOptions;
use dromia_contracts::model::{DeltaSink, ModelError};
use dromia_contracts::vault::SecretSlot;

use super::draft::ReplyDraft;
use super::error::HttpError;
use crate::encoded_request::EncodableRequest;
use crate::secret::ProviderApiKey;
use crate::{anthropic, chat, responses};

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireFormat {
    /// OpenAI chat completions: OpenAI itself, vLLM, llama.cpp, Ollama and many gateways.
    OpenAiChat,
    /// OpenAI responses.
    OpenAiResponses,
    /// Anthropic messages.
    AnthropicMessages,
}

/// The version of the messages format that [`WireFormat::AnthropicMessages`] speaks.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

impl WireFormat {
    /// Every format.
    const ALL: [Self; 3] = [Self::OpenAiChat, Self::OpenAiResponses, Self::AnthropicMessages];

    /// The name and version of the form in which requests are written. A journal keeps it, so the bytes of a form never
    /// change: other bytes are a new version.
    pub(crate) const fn format_version(self) -> &'static str {
        match self {
            Self::OpenAiChat => "chat/1",
            Self::OpenAiResponses => "responses/1",
            Self::AnthropicMessages => "messages/1",
        }
    }

    /// Finds the format that writes a form.
    pub(crate) fn of_form(form: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.format_version() == form)
    }

    /// The path behind the base address.
    pub(super) const fn endpoint_path(self) -> &'static str {
        match self {
            Self::OpenAiChat => "/chat/completions",
            Self::OpenAiResponses => "/responses",
            Self::AnthropicMessages => "/messages",
        }
    }

    /// The part of a request that carries the key.
    pub fn key_slot(self) -> SecretSlot {
        SecretSlot::Header(self.key_header().0.to_owned())
    }

    /// The header of the key, and the prefix of its value.
    const fn key_header(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => ("authorization", "Bearer "),
            Self::AnthropicMessages => ("x-api-key", ""),
        }
    }

    /// The headers of every request.
    pub(super) fn request_headers(
        self,
        key: Option<&ProviderApiKey>,
    ) -> Result<Vec<(String, String)>, HttpError> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut headers = vec![pair("content-type", "application/json")];
        if self == Self::AnthropicMessages {
            let (name, version) = ANTHROPIC_VERSION;
            headers.push(pair(name, version));
        }
        let (name, prefix) = self.key_header();
        if let Some(key) = key {
            let key = key.expose_key();
            if key.chars().any(|c| c.is_ascii_control() && c != '\t') {
                return Err(HttpError::Key);
            }
            headers.push((name.to_owned(), format!("{prefix}{key}")));
        }
        Ok(headers)
    }

    /// Checks that the format has a field for every sampling option. None is left out silently: an answer that goes on
    /// where its client wanted it to stop is another answer.
    pub(super) fn check_sampling_options(self, wishes: &SamplingOptions) -> Result<(), ModelError> {
        match self {
            Self::OpenAiResponses if !wishes.stop.is_empty() => Err(ModelError {
                code: ErrorCode::ModelRejected,
                message: "the model is asked in the responses format, which has no stop texts".to_owned(),
                retry_after: None,
            }),
            Self::OpenAiChat | Self::OpenAiResponses | Self::AnthropicMessages => Ok(()),
        }
    }

    /// Tells whether a provider of the format can enforce the form of an answer. Anthropic takes no open objects.
    pub(super) fn enforces_answer(self, answer: &AnswerFormat) -> bool {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => true,
            Self::AnthropicMessages => answer.is_closed(false),
        }
    }

    /// Writes the body of one request.
    pub(crate) fn encode_body(self, letter: &EncodableRequest<'_>) -> Result<Bytes, serde_json::Error> {
        match self {
            Self::OpenAiChat => chat::request::encode_body(letter),
            Self::OpenAiResponses => responses::request::encode_body(letter),
            Self::AnthropicMessages => anthropic::request::encode_body(letter),
        }
    }

    /// Reads the data of one event of a stream.
    pub(super) fn take_event(
        self,
        draft: &mut ReplyDraft,
        data: &str,
        deltas: &dyn DeltaSink,
    ) -> Result<(), ModelError> {
        match (self, data.trim()) {
            (_, "") => Ok(()),
            (Self::OpenAiChat, "[DONE]") => {
                draft.done = true;
                Ok(())
            }
            (Self::OpenAiChat, data) => chat::reply::take_completion(draft, data.as_bytes(), deltas),
            (Self::OpenAiResponses, data) => responses::reply::take_event(draft, data.as_bytes(), deltas),
            (Self::AnthropicMessages, data) => anthropic::reply::take_event(draft, data.as_bytes(), deltas),
        }
    }

    /// Reads a whole answer.
    pub(super) fn take_whole(
        self,
        draft: &mut ReplyDraft,
        json: &[u8],
        deltas: &dyn DeltaSink,
    ) -> Result<(), ModelError> {
        match self {
            Self::OpenAiChat => chat::reply::take_completion(draft, json, deltas),
            Self::OpenAiResponses => responses::reply::take_whole(draft, json, deltas),
            Self::AnthropicMessages => anthropic::reply::take_whole(draft, json, deltas),
        }
    }
}
