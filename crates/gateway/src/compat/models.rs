//! `GET /v1/models` and `GET /v1/models/{model}`: the tenant's agents, each a model by its handle.
//!
//! An item carries the fields of both APIs, so one document serves the clients of either.

use axum::Json;
use axum::extract::State;
use dromia_contracts::AgentId;
use dromia_contracts::agent::{AgentRecord, AgentState};
use dromia_contracts::store::PageRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{PathSegments, QueryParams};
use crate::failure::{Answer, ApiError};
use crate::routes::agent::{find_agent, no_such_agent};

/// The most models of a page, which is also what a client gets that asks for no number.
const LIMIT_MAX: usize = 1_000;

/// The query parameters of the listing; others are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelListQuery {
    after_id: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn list_models(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<ModelListQuery>,
) -> Answer<Json<Value>> {
    let limit = listing.limit.unwrap_or(LIMIT_MAX);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(
            ApiError::invalid_request(format!("`limit` must be from 1 to {LIMIT_MAX}")).at_field("limit")
        );
    }
    let mut after = match &listing.after_id {
        Some(name) => Some(
            find_agent(&core, &caller.scope, name).await.map_err(|failure| failure.at_field("after_id"))?.id,
        ),
        None => None,
    };
    let mut models = Vec::new();
    let has_more = loop {
        let page = PageRequest { after, limit: PageRequest::<AgentId>::LIMIT_MAX };
        let agents = core.ports.store.agents(&caller.scope, None, page).await?;
        let is_last = agents.len() < PageRequest::<AgentId>::LIMIT_MAX;
        after = agents.last().map(|agent| agent.id);
        models.extend(agents.into_iter().filter(takes_input).map(|agent| model_object(&agent)));
        if is_last || models.len() > limit {
            break models.len() > limit;
        }
    };
    models.truncate(limit);
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    let (first, last) = (id(models.first()), id(models.last()));
    Ok(Json(json!({
        "object": "list",
        "data": models,
        "has_more": has_more,
        "first_id": first,
        "last_id": last,
    })))
}

pub(crate) async fn show_model(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<Value>> {
    let agent = find_agent(&core, &caller.scope, &name).await.map_err(|failure| failure.at_field("model"))?;
    if !takes_input(&agent) {
        return Err(no_such_agent().at_field("model"));
    }
    Ok(Json(model_object(&agent)))
}

/// Tells whether an agent takes input.
fn takes_input(agent: &AgentRecord) -> bool {
    match agent.state {
        AgentState::Running | AgentState::Paused => true,
        AgentState::Terminated | AgentState::Deleting => false,
    }
}

fn model_object(agent: &AgentRecord) -> Value {
    json!({
        "id": agent.handle,
        "object": "model",
        "created": agent.created_at.as_second(),
        "owned_by": "dromia",
        "type": "model",
        "display_name": agent.display_name,
        "created_at": agent.created_at,
    })
}
