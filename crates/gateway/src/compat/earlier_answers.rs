//! Answers that this server gave earlier, as later requests name them: the session that goes on behind an answer, and
//! the text or the call that an item held.
//!
//! An id is that of a run behind a prefix of its API. What the caller cannot see is not found, and so is an answer of
//! another agent. An answer behind which its session went on is refused: its client does not know what came since, and
//! would get an answer to another conversation.

use dromia_contracts::client::{ClientCallId, ClientTool};
use dromia_contracts::input::InputBody;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner, ItemKind};
use dromia_contracts::{ErrorCode, RunId, Scope, SessionId};
use tokio::time::Instant;

use super::history::system_texts;
use super::request_heads::RequestHeads;
use super::run_answer::RunAnswer;
use super::run_listener::{ListenOptions, ListenerEvent, RunListener};
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::routes::event::named_agent;

/// In which words an API names an earlier answer, and says that it cannot be continued.
pub(super) struct ContinuationWords {
    /// The prefix of the answer's id.
    pub(super) prefix: &'static str,
    /// The field that names the answer.
    pub(super) field: &'static str,
    /// What its clients know as a missing answer, and under which status.
    pub(super) missing: (&'static str, u16),
    /// What they know as an answer that was continued.
    pub(super) continued: &'static str,
    /// What they know as an answer that is being given.
    pub(super) unfinished: &'static str,
}

/// A session that goes on behind an answer that a request names.
pub(super) struct ContinuedSession {
    pub(super) session: SessionId,
    /// The texts of the client's system with which it began.
    pub(super) system: Vec<String>,
    /// The tools that the client declared for that answer.
    pub(super) tools: Vec<ClientTool>,
    /// Why the answer can be continued with nothing but results of its calls.
    pub(super) stale: Option<ApiError>,
}

/// Finds the session behind an answer.
pub(super) async fn find_continued(
    core: &GatewayCore,
    caller: &Caller,
    heads: &RequestHeads,
    (model, id): (&str, &str),
    words: &ContinuationWords,
) -> Answer<ContinuedSession> {
    let at = |failure: ApiError| failure.at_field(words.field);
    if heads.session.is_some() {
        let text = format!(
            "the header X-Dromia-Session and `{}` both name a session; send one of them",
            words.field
        );
        return Err(at(ApiError::invalid_request(text)));
    }
    let scope = &caller.scope;
    let missing = || {
        let (word, status) = words.missing;
        let text = format!("this server has no answer {:?} to continue", short(id));
        let failure = ApiError::new(ErrorCode::RunNotFound, text).with_status(status).with_foreign_word(word);
        at(failure.with_hint("send the whole conversation"))
    };
    let Some(run) = id.strip_prefix(words.prefix).and_then(|run| run.parse().ok()) else {
        return Err(missing());
    };
    let Some(run) = visible_run(core, scope, model, run).await? else { return Err(missing()) };
    let Some(session) = core.ports.store.session(scope, run.session).await? else { return Err(missing()) };
    let owner = InboxOwner::Session(session.id);
    let first = core.ports.store.inbox_items(scope, owner, 0, 1).await?;
    let last = core.ports.store.inbox_items(scope, owner, session.head.last.saturating_sub(1), 1).await?;
    let body = |items: &[InboxItem]| {
        let body = items.first().filter(|item| item.kind == ItemKind::Input)?.body.clone()?;
        InputBody::decode(&body).ok()
    };
    let refusal = |code, text: String, word| {
        let hint = "send the whole conversation, or continue the newest answer";
        Some(at(ApiError::new(code, text).with_status(409).with_foreign_word(word).with_hint(hint)))
    };
    let stale = if heads.may_repeat(core, scope, session.id).await? {
        None
    } else if last.first().and_then(|item| item.taken_by) != Some(run.id) {
        let text = format!("{} went on after the answer {id}", session.id);
        refusal(ErrorCode::VersionConflict, text, words.continued)
    } else if session.head.active.is_some() {
        refusal(ErrorCode::RunUnfinished, format!("{} has not ended", run.id), words.unfinished)
    } else {
        None
    };
    Ok(ContinuedSession {
        session: session.id,
        system: body(&first).map(|body| system_texts(&body.history)).unwrap_or_default(),
        tools: body(&last).map(|body| body.offer.tools).unwrap_or_default(),
        stale,
    })
}

/// What an item of an earlier answer held.
#[derive(Debug, Clone)]
pub(super) enum EarlierItem {
    /// What was said.
    Text(String),
    /// A call that was handed to the client: its id, its tool as the client wrote it, and its arguments.
    Call(String, String, String),
}

/// Reads items of earlier answers by their ids; each answer is read once.
pub(super) struct EarlierItems<'a> {
    core: &'a Shared,
    scope: &'a Scope,
    model: &'a str,
    read: Vec<(RunId, RunAnswer)>,
}

impl<'a> EarlierItems<'a> {
    pub(super) fn new(core: &'a Shared, scope: &'a Scope, model: &'a str) -> Self {
        Self { core, scope, model, read: Vec::new() }
    }

    /// Reads an item: the text of `msg_RUN`, or the call of `fc_RUN_STEP_INDEX`.
    pub(super) async fn read_item(&mut self, id: &str, path: &str) -> Answer<EarlierItem> {
        let missing = || {
            let text = format!("this server has no item {:?}", short(id));
            let failure = ApiError::new(ErrorCode::RunNotFound, text).with_foreign_word("item_not_found");
            failure.at_field(path).with_hint("send the item itself in place of its reference")
        };
        if let Some(run) = id.strip_prefix("msg_").and_then(|run| run.parse().ok()) {
            let answer = self.answer_of(run).await?.ok_or_else(missing)?;
            return Ok(EarlierItem::Text(answer.text.clone()));
        }
        let call =
            id.strip_prefix("fc_").and_then(|call| call.parse::<ClientCallId>().ok()).ok_or_else(missing)?;
        let name = call.to_string();
        let answer = self.answer_of(call.run).await?;
        let found = answer.and_then(|answer| answer.calls.iter().find(|call| call.id == name));
        let found = found.ok_or_else(missing)?;
        Ok(EarlierItem::Call(name, found.tool.clone(), found.arguments.clone()))
    }

    async fn answer_of(&mut self, run: RunId) -> Answer<Option<&RunAnswer>> {
        if let Some(at) = self.read.iter().position(|(known, _)| *known == run) {
            return Ok(self.read.get(at).map(|(_, answer)| answer));
        }
        if visible_run(self.core, self.scope, self.model, run).await?.is_none() {
            return Ok(None);
        }
        // What the run has said by now; it is not waited for.
        let stop = self.core.phase.hurry.clone();
        let patience = ListenOptions {
            live: false,
            last_only: false,
            until: Some(Instant::now()),
            stop,
            authentication: None,
        };
        let mut listener = RunListener::new(self.core.clone(), self.scope.clone(), run, patience);
        loop {
            match listener.next_event().await {
                Some(ListenerEvent::RunAnswer(answer)) => {
                    self.read.push((run, *answer));
                    return Ok(self.read.last().map(|(_, answer)| answer));
                }
                Some(ListenerEvent::Broken(failure)) => return Err(failure),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

/// The run behind an answer, if the caller can see it and it is one of the agent that a request names.
async fn visible_run(
    core: &GatewayCore,
    scope: &Scope,
    model: &str,
    run: RunId,
) -> Answer<Option<RunRecord>> {
    let agent = named_agent(core, scope, model).await.map_err(|failure| failure.at_field("model"))?;
    Ok(core.ports.store.run(scope, run).await?.filter(|run| run.agent == agent))
}

/// What of a name is repeated.
fn short(id: &str) -> String {
    id.chars().take(64).collect()
}
