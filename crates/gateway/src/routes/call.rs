//! `POST /v1/agents/{agent}/tools/{tool}/call`: one call by hand.
//!
//! It is a run like any other, in a session of its own: its input asks for the call in place of an answer, so it is durable
//! before it is judged, passes the gate with the agent's grants, runs behind the agent's walls and ends in the agent's
//! journal. No model is asked. What the tool said is read off that journal.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use dromia_api::event::{PLATFORM_DEFAULT, WAIT_MS_MAX};
use dromia_api::tool::{CallResult, CallTool, ToolCalled};
use dromia_contracts::client::Offer;
use dromia_contracts::content::{Part, ToolResult, parts_text};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::AskedCall;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{NewInput, Target};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::Page;
use dromia_contracts::{Digest, ErrorCode, RunId, Scope};
use tokio::time::sleep;

use super::agent::find;
use super::event::{IdempotencyKey, accepted};
use super::tool::no_such_tool;
use crate::caller::{Caller, author};
use crate::core::{Core, Shared};
use crate::extract::{JsonBody, Segments};
use crate::failure::{Answer, Failure};
use crate::ingress::{self, Bringer};
use crate::wire;

/// The longest wait where the request says none.
const WAIT_MS_DEFAULT: u64 = 120_000;

pub(crate) async fn call(
    State(core): State<Shared>,
    caller: Caller,
    Segments((name, tool)): Segments<(String, String)>,
    key: IdempotencyKey,
    JsonBody(asked): JsonBody<CallTool>,
) -> Answer<Response> {
    let wait_ms = asked.wait_ms.unwrap_or(WAIT_MS_DEFAULT);
    if !(1..=WAIT_MS_MAX).contains(&wait_ms) {
        return Err(Failure::invalid(format!("`wait_ms` must be from 1 to {WAIT_MS_MAX}, and is {wait_ms}")));
    }
    let agent = find(&core, &caller.scope, &name).await?.id;
    if !core.ports.tools.descriptors().iter().any(|known| known.name == tool) {
        return Err(no_such_tool(&tool));
    }
    let author = author(&caller.scope, None);
    // Strings, ids and JSON only, so serialization has no failing case.
    let arguments = serde_json::to_string(&asked.arguments).unwrap_or_default();
    let request = serde_json::to_vec(&(&author, agent, &tool, &arguments)).unwrap_or_default();
    let channel = core.ports.runtime.ids.uuid().simple().to_string();
    let session = SessionKey { platform: PLATFORM_DEFAULT.to_owned(), channel, actor: author.clone() };
    let input = NewInput {
        target: Target::Fresh { agent, key: session },
        author,
        history: Vec::new(),
        answers: None,
        offer: Offer::default(),
        parts: vec![Part::text(format!("Call {tool}."), Label::ACTOR_TEXT)],
        call: Some(AskedCall { tool, arguments }),
        key: key.of_request(Digest::from_bytes(*blake3::hash(&request).as_bytes())),
        wait: true,
    };
    let bringer = Bringer::of(&caller, &input.author);
    let scope = caller.scope;
    let mut submitted = ingress::submit(&core, bringer, scope.clone(), input).await?;
    let Some(outcome) = submitted.outcome.take() else { return Ok(accepted(&submitted)) };
    let ended = tokio::select! {
        biased;
        ended = outcome => Some(ended),
        () = sleep(Duration::from_millis(wait_ms)) => None,
        () = core.phase.hurry.cancelled() => None,
    };
    match ended {
        // The call goes on, or its outcome is not known here; its run tells.
        None => Ok(accepted(&submitted)),
        Some(Err(fault)) if fault.code == ErrorCode::AgentTerminated => Err(fault.into()),
        Some(Err(fault)) => {
            tracing::warn!(code = fault.code.as_str(), "a wait for a call ended without its outcome");
            Ok(accepted(&submitted))
        }
        Some(Ok(outcome)) => {
            // The result is the answer of such a run: where the gate refuses it, it stays in the journal.
            let refused =
                outcome.failure.as_ref().is_some_and(|failure| failure.code == ErrorCode::ActionDenied);
            let result = if refused { None } else { result(&core, &scope, outcome.run).await? };
            let called = ToolCalled {
                run: outcome.run,
                session: submitted.session,
                status: outcome.head.status,
                result,
                failure: outcome.failure.map(wire::failure),
            };
            Ok(Json(called).into_response())
        }
    }
}

/// Reads the result of the one call off the journal of its run.
async fn result(core: &Core, scope: &Scope, run: RunId) -> Answer<Option<CallResult>> {
    let journal = core.ports.store.journal(scope, run, 0, Page::<RunId>::LIMIT_MAX).await?;
    for stored in journal.iter().rev() {
        let entry = stored.decode();
        let entry = entry.map_err(|error| Failure::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        if let (Entry::ToolFinished(_) | Entry::ToolRefused(_), Some(body)) = (entry, &stored.body) {
            let result: ToolResult = serde_json::from_slice(body).map_err(|error| {
                Failure::new(ErrorCode::JournalUnreadable, "a body is not what its entry says")
                    .with_cause(error.to_string())
            })?;
            return Ok(Some(CallResult { status: result.status, text: parts_text(&result.parts) }));
        }
    }
    Ok(None)
}
