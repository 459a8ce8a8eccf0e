//! How a session fills its model's window, and its compaction.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::session_context::{CompactionResource, CompactionState, SessionContext, SummaryResource};
use dromia_contracts::SessionId;
use dromia_contracts::compaction::{CompactionAnswer, ContextUse, SummarySection};
use dromia_contracts::content::parts_text;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathSegments, QueryParams, parse_id};
use crate::failure::Answer;

pub(crate) async fn show_context(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
) -> Answer<Json<SessionContext>> {
    let session = parse_id::<SessionId>(&session)?;
    let used = core.ports.runs.session_context(caller.scope, session).await?;
    let ContextUse { model, window, is_window_known, percent, compaction_percent, left_out, .. } = used;
    Ok(Json(SessionContext {
        session,
        model,
        window,
        window_known: is_window_known,
        system: used.system_tokens,
        tools: used.tools_tokens,
        summary: used.summary_tokens,
        past: used.past_tokens,
        answer: used.output_tokens_max,
        percent,
        compaction_percent,
        left_out,
        summaries: used.summaries.into_iter().map(api_summary).collect(),
    }))
}

fn api_summary(section: SummarySection) -> SummaryResource {
    let SummarySection { from, upto, run, parts } = section;
    SummaryResource { from, upto, run, text: parts_text(&parts) }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompactionQuery {
    /// Only say which part would be summarized.
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn compact_session(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(session): PathSegments<String>,
    QueryParams(query): QueryParams<CompactionQuery>,
) -> Answer<Response> {
    let session = parse_id::<SessionId>(&session)?;
    let answer = core.ports.runs.compact_session(caller.scope, session, query.dry_run).await?;
    let nothing = |state| CompactionResource { state, session: None, from: None, upto: None, bytes: None };
    let told = match answer {
        CompactionAnswer::Planned(planned) => CompactionResource {
            state: if query.dry_run { CompactionState::Planned } else { CompactionState::Started },
            session: planned.session,
            from: Some(planned.from),
            upto: Some(planned.upto),
            bytes: Some(planned.bytes),
        },
        CompactionAnswer::UnderWay => nothing(CompactionState::UnderWay),
        CompactionAnswer::NothingToDo => nothing(CompactionState::NothingToDo),
    };
    let status = if told.state == CompactionState::Started { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(told)).into_response())
}
