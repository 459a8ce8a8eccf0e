//! What the body of a request says: the part of the routes for events and for other APIs that needs no server.
//!
//! Nobody is asked here who the caller is, no name is looked up and nothing is stored. The routes read their bodies by
//! the same functions; that they stand open lets anybody try bytes on them, as the fuzz targets do.

use dromia_api::event::SendEvent;
use dromia_contracts::Actor;
use dromia_contracts::client::Offer;
use dromia_contracts::content::{InputMessage, Part};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;

use crate::failure::{Answer, Failure};
use crate::{compat, extract};

/// In whose words a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
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
pub struct Refused {
    /// The field that does not fit, as a path, where the API of the route names one.
    pub place: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Words {
    /// Reads a body and returns what would be stored of it. `continues` says whether the request names a session; an
    /// event does that itself.
    pub fn read(self, author: &Actor, continues: bool, bytes: &[u8]) -> Result<InputBody, Refused> {
        let read = match self {
            Self::Event => event(author, bytes),
            Self::Chat => compat::chat::read(author, continues, bytes),
            Self::Messages => compat::messages::read(author, continues, bytes),
            Self::Responses => compat::responses::read(author, continues, bytes),
        };
        read.map_err(|failure| refused(&failure))
    }
}

fn event(author: &Actor, bytes: &[u8]) -> Answer<InputBody> {
    let event: SendEvent = extract::json(bytes)?;
    crate::routes::event::checked(&event)?;
    let parts = vec![Part::text(event.text, Label::ACTOR_TEXT)];
    let message = InputMessage { author: author.clone(), parts, hops: 0 };
    Ok(InputBody { history: Vec::new(), answers: None, offer: Offer::default(), call: None, message })
}

fn refused(failure: &Failure) -> Refused {
    Refused { place: failure.place().map(str::to_owned), message: failure.text() }
}
