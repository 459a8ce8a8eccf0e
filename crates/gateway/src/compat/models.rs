//! `GET /v1/models` and `GET /v1/models/{model}`: the tenant's agents, each a model by its handle.
//!
//! An item carries the fields of both APIs, so one document serves the clients of either.

use axum::Json;
use axum::extract::State;
use dromia_contracts::AgentId;
use dromia_contracts::agent::{Agent, AgentState};
use dromia_contracts::store::Page;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{Params, Segments};
use crate::failure::{Answer, Failure};
use crate::routes::agent::{find, no_such_agent};

/// The most models of a page, which is also what a client gets that asks for no number.
const LIMIT_MAX: usize = 1_000;

/// What a client may ask of the listing; what else it asks is not for us.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    after_id: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<Value>> {
    let limit = listing.limit.unwrap_or(LIMIT_MAX);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Failure::invalid(format!("`limit` must be from 1 to {LIMIT_MAX}")).at("limit"));
    }
    let mut after = match &listing.after_id {
        Some(name) => {
            Some(find(&core, &caller.scope, name).await.map_err(|failure| failure.at("after_id"))?.id)
        }
        None => None,
    };
    let mut models = Vec::new();
    let has_more = loop {
        let page = Page { after, limit: Page::<AgentId>::LIMIT_MAX };
        let agents = core.ports.store.agents(&caller.scope, None, page).await?;
        let is_last = agents.len() < Page::<AgentId>::LIMIT_MAX;
        after = agents.last().map(|agent| agent.id);
        models.extend(agents.into_iter().filter(answers).map(|agent| model(&agent)));
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

pub(crate) async fn show(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<Value>> {
    let agent = find(&core, &caller.scope, &name).await.map_err(|failure| failure.at("model"))?;
    if !answers(&agent) {
        return Err(no_such_agent().at("model"));
    }
    Ok(Json(model(&agent)))
}

/// Tells whether an agent takes input.
fn answers(agent: &Agent) -> bool {
    match agent.state {
        AgentState::Running | AgentState::Paused => true,
        AgentState::Terminated | AgentState::Deleting => false,
    }
}

fn model(agent: &Agent) -> Value {
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
