//! The end of a run on request, alone or with the tasks below it.
//!
//! A task that is spawned while its tree ends is spared: nothing here waits for a run to have ended.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_contracts::ErrorCode;
use dromia_contracts::runs::RunEndMode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::run::find_run_view;
use super::run_tree::end_tasks_below;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams, parse_id};
use crate::failure::Answer;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunEndQuery {
    /// Whether the tasks below the run are ended too. Without this they go on.
    #[serde(default)]
    tree: bool,
}

pub(crate) async fn cancel_run(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
    QueryParams(ending): QueryParams<RunEndQuery>,
) -> Answer<Response> {
    end_run(&core, caller, &run, RunEndMode::Cancel, &ending).await
}

pub(crate) async fn terminate_run(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
    QueryParams(ending): QueryParams<RunEndQuery>,
) -> Answer<Response> {
    end_run(&core, caller, &run, RunEndMode::Terminate, &ending).await
}

/// Asks a run to end and answers with its status; it may take until its next unit border.
async fn end_run(
    core: &GatewayCore,
    caller: Caller,
    run: &str,
    end: RunEndMode,
    ending: &RunEndQuery,
) -> Answer<Response> {
    let run = parse_id(run)?;
    match core.ports.runs.end_run(caller.scope.clone(), run, end).await {
        // Its tasks may go on after it.
        Err(fault) if fault.code == ErrorCode::RunTerminal && ending.tree => {}
        ended => ended?,
    }
    if ending.tree {
        end_tasks_below(core, &caller.scope, run, end).await?;
    }
    let run = find_run_view(core, &caller.scope, run).await?;
    Ok((StatusCode::ACCEPTED, Json(run)).into_response())
}
