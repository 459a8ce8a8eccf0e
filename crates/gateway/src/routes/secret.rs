//! Secrets of a tenant: list, set, rotate, delete, and give up what nobody can open any more. Values come in and never go out.

use axum::Json;
use axum::extract::State;
use dromia_api::List;
use dromia_api::secret::{RotateSecret, Secret, SecretText, SetSecret};
use dromia_contracts::vault::{GivenUpBy, NewSecret, SecretValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{JsonBody, Params, Segments, page_limit};
use crate::failure::{Answer, Failure};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only secrets after this one, by name.
    after: Option<String>,
    /// The most secrets of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Secret>>> {
    let limit = page_limit(listing.limit)?;
    let secrets = core.ports.vault.list(caller.scope, listing.after, limit).await?;
    let items = secrets.into_iter().map(wire::secret).collect();
    Ok(Json(List::page(items, limit, |secret| secret.name.clone())))
}

pub(crate) async fn set(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(set): JsonBody<SetSecret>,
) -> Answer<Json<Secret>> {
    let SetSecret { name, value, host, placement } = set;
    let new = NewSecret { name, value: read(value)?, host, placement };
    Ok(Json(wire::secret(core.ports.vault.set(caller.scope, new).await?)))
}

pub(crate) async fn rotate(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
    JsonBody(rotate): JsonBody<RotateSecret>,
) -> Answer<Json<Secret>> {
    let value = read(rotate.value)?;
    Ok(Json(wire::secret(core.ports.vault.rotate(caller.scope, name, value).await?)))
}

pub(crate) async fn delete(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<Secret>> {
    Ok(Json(wire::secret(core.ports.vault.delete(caller.scope, name).await?)))
}

pub(crate) async fn reset(State(core): State<Shared>, caller: Caller) -> Answer<Json<List<Secret>>> {
    // Whether a key file that is missing comes back, nobody knows but whoever owns the home.
    let by = if caller.is_operator() { GivenUpBy::Owner } else { GivenUpBy::Tenant };
    let secrets = core.ports.vault.reset(caller.scope, by).await?;
    Ok(Json(List { items: secrets.into_iter().map(wire::secret).collect(), next: None }))
}

fn read(SecretText(text): SecretText) -> Answer<SecretValue> {
    SecretValue::new(text).map_err(|problem| Failure::invalid(format!("`value`: {problem}")).at("value"))
}
