//! `POST /v1/agents/{agent}/tools/{tool}/call`: one call by hand.
//!
//! It is a run like any other, in a session of its own: its input asks for the call in place of an answer, so it is
//! durable before it is judged, passes the gate with the agent's grants, runs in the agent's sandbox and ends in the
//! agent's journal. No model is asked. What the tool said is read off that journal.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use dromia_api::event::{PLATFORM_DEFAULT, WAIT_MS_MAX};
use dromia_api::tool::{CallResult, CallTool, ToolCalled};
use dromia_contracts::agent::AgentState;
use dromia_contracts::client::ClientOptions;
use dromia_contracts::content::{ContentPart, ToolResult, parts_text};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::ManualCall;
use dromia_contracts::label::Label;
use dromia_contracts::runs::{InputTarget, NewInput};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::PageRequest;
use dromia_contracts::{Digest, ErrorCode, RunId, Scope};
use tokio::time::sleep;

use super::agent::find_agent;
use super::event::accepted_response;
use super::tool::no_such_tool;
use crate::caller::{Caller, input_author};
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments};
use crate::failure::{Answer, ApiError};
use crate::idempotency_key::IdempotencyKey;
use crate::ingress::{self, Submitter};
use crate::wire;

/// The longest wait where the request says none.
const WAIT_MS_DEFAULT: u64 = 120_000;

/// The longest wait for a paused agent, which makes no call: only the repetition of an ended call has a result to wait for.
const PAUSED_WAIT_MS: u64 = 1_000;

pub(crate) async fn call_tool(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments((name, tool)): PathSegments<(String, String)>,
    key: IdempotencyKey,
    JsonBody(asked): JsonBody<CallTool>,
) -> Answer<Response> {
    let wait_ms = asked.wait_ms.unwrap_or(WAIT_MS_DEFAULT);
    if !(1..=WAIT_MS_MAX).contains(&wait_ms) {
        return Err(ApiError::invalid_request(format!(
            "`wait_ms` must be from 1 to {WAIT_MS_MAX}, and is {wait_ms}"
        )));
    }
    let found = find_agent(&core, &caller.scope, &name).await?;
    let agent = found.id;
    let wait_ms = if found.state == AgentState::Paused { wait_ms.min(PAUSED_WAIT_MS) } else { wait_ms };
    if !core.ports.tools.has_tool(&caller.scope, agent, &tool).await? {
        return Err(no_such_tool(&tool));
    }
    let author = input_author(&caller.scope, None);
    // Strings, ids and JSON only, so serialization has no failing case.
    let arguments = serde_json::to_string(&asked.arguments).unwrap_or_default();
    let request = serde_json::to_vec(&(&author, agent, &tool, &arguments)).unwrap_or_default();
    let channel = core.ports.runtime.ids.new_uuid().simple().to_string();
    let session = SessionKey { platform: PLATFORM_DEFAULT.to_owned(), channel, actor: author.clone() };
    let input = NewInput {
        target: InputTarget::Fresh { agent, key: session },
        author,
        history: Vec::new(),
        answers: None,
        offer: ClientOptions::default(),
        parts: vec![ContentPart::new_text(format!("Call {tool}."), Label::ACTOR_TEXT)],
        call: Some(ManualCall { tool, arguments }),
        workspace: None,
        when_busy: None,
        key: key.of_request(Digest::from_bytes(*blake3::hash(&request).as_bytes())),
        wait: true,
    };
    let bringer = Submitter::from_caller(&caller, &input.author);
    let scope = caller.scope;
    let mut submitted = ingress::submit_input(&core, bringer, scope.clone(), input).await?;
    let Some(outcome) = submitted.outcome.take() else { return Ok(accepted_response(&submitted)) };
    let ended = tokio::select! {
        biased;
        ended = outcome => Some(ended),
        () = sleep(Duration::from_millis(wait_ms)) => None,
        () = core.phase.hurry.cancelled() => None,
    };
    match ended {
        // The call goes on, or its outcome is not known here; its run tells.
        None => Ok(accepted_response(&submitted)),
        Some(Err(fault)) if fault.code == ErrorCode::AgentTerminated => Err(fault.into()),
        Some(Err(fault)) => {
            tracing::warn!(code = fault.code.as_str(), "a wait for a call ended without its result");
            Ok(accepted_response(&submitted))
        }
        Some(Ok(outcome)) => {
            // The result is the answer of such a run: where the gate refuses it, it stays in the journal.
            let refused =
                outcome.failure.as_ref().is_some_and(|failure| failure.code == ErrorCode::ActionDenied);
            let result = if refused { None } else { read_call_result(&core, &scope, outcome.run).await? };
            let called = ToolCalled {
                run: outcome.run,
                session: submitted.session,
                status: outcome.head.status,
                result,
                failure: outcome.failure.map(wire::api_failure),
            };
            Ok(Json(called).into_response())
        }
    }
}

/// Reads the result of the one call off the journal of its run.
async fn read_call_result(core: &GatewayCore, scope: &Scope, run: RunId) -> Answer<Option<CallResult>> {
    let journal = core.ports.store.journal_entries(scope, run, 0, PageRequest::<RunId>::LIMIT_MAX).await?;
    for stored in journal.iter().rev() {
        let entry = stored.decode();
        let entry = entry.map_err(|error| ApiError::new(ErrorCode::JournalUnreadable, error.to_string()))?;
        if let (Entry::ToolFinished(_) | Entry::ToolRefused(_), Some(body)) = (entry, &stored.body) {
            let result: ToolResult = serde_json::from_slice(body).map_err(|error| {
                ApiError::new(ErrorCode::JournalUnreadable, "a body does not match its entry")
                    .with_cause(error.to_string())
            })?;
            return Ok(Some(CallResult { status: result.status, text: parts_text(&result.parts) }));
        }
    }
    Ok(None)
}
