//! `ask`: one question, and nothing but the answer on stdout.

use dromia_api::event::SendEvent;

use super::event::{PLATFORM, print, wait};
use super::{Cli, said};
use crate::args::Ask;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::Output;

pub(super) async fn run(cli: &Cli<'_>, ask: Ask, output: &mut Output<'_>) -> Outcome<Exit> {
    let text = said(ask.text, output)?;
    let event = match ask.session {
        Some(_) => SendEvent { text, session: ask.session, ..SendEvent::default() },
        None => SendEvent {
            text,
            agent: cli.agent(),
            platform: Some(PLATFORM.to_owned()),
            ..SendEvent::default()
        },
    };
    print(&wait(cli, event, None).await?, output)
}
