//! What the body of a request says: the part of the routes for events and for other APIs that needs no server.
//!
//! These functions do not authenticate, look up no name and store nothing. The routes read their bodies by the same
//! functions; they are public so that fuzz targets can feed them any bytes.

use dromia_api::event::SendEvent;
use dromia_contracts::Actor;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;

use crate::failure::{Answer, ApiError};
use crate::{compat, extract};

/// In whose words a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// `POST /v1/events`.
    Event,
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/responses`.
    Responses,
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BodyRejection {
    /// The field that does not fit, as a path, where the API of the route names one.
    pub place: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl BodyFormat {
    /// Reads a body and returns what would be stored of it. `continues` says whether the request names a session; an
    /// event does that itself.
    pub fn parse_body(
        self,
        author: &Actor,
        continues: bool,
        bytes: &[u8],
    ) -> Result<InputBody, BodyRejection> {
        let read = match self {
            Self::Event => parse_event_body(author, bytes),
            Self::Chat => compat::chat::parse_chat_body(author, continues, bytes),
            Self::Messages => compat::messages::parse_messages_body(author, continues, bytes),
            Self::Responses => compat::responses::parse_responses_body(author, continues, bytes),
        };
        read.map_err(|failure| body_rejection(&failure))
    }
}

fn parse_event_body(author: &Actor, bytes: &[u8]) -> Answer<InputBody> {
    let event: SendEvent = extract::parse_json_body(bytes)?;
    crate::routes::event::check_event(&event)?;
    let parts = vec![ContentPart::new_text(event.text, Label::ACTOR_TEXT)];
    let message = InputMessage { author: author.clone(), parts, hops: 0 };
    Ok(InputBody::from_message(message))
}

fn body_rejection(failure: &ApiError) -> BodyRejection {
    BodyRejection { place: failure.field_path().map(str::to_owned), message: failure.full_message() }
}
