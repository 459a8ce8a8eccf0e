//! Secrets of a tenant: list, set, rotate, delete, and give up what does not open any more. Values come in and never go
//! out.

use axum::Json;
use axum::extract::State;
use dromia_api::ListPage;
use dromia_api::secret::{RotateSecret, SecretResource, SecretText, SetSecret};
use dromia_contracts::vault::{GivenUpBy, NewSecret, SecretValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretListQuery {
    /// Only secrets after this one, by name.
    after: Option<String>,
    /// The most secrets of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_secrets(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<SecretListQuery>,
) -> Answer<Json<ListPage<SecretResource>>> {
    let limit = page_limit(listing.limit)?;
    let secrets = core.ports.vault.list_secrets(caller.scope, listing.after, limit).await?;
    let items = secrets.into_iter().map(wire::api_secret).collect();
    Ok(Json(ListPage::from_limited(items, limit, |secret| secret.name.clone())))
}

pub(crate) async fn set_secret(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(set): JsonBody<SetSecret>,
) -> Answer<Json<SecretResource>> {
    let SetSecret { name, value, host, placement } = set;
    let new = NewSecret { name, value: read_secret_value(value)?, host, placement };
    Ok(Json(wire::api_secret(core.ports.vault.set_secret(caller.scope, new).await?)))
}

pub(crate) async fn rotate_secret(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
    JsonBody(rotate): JsonBody<RotateSecret>,
) -> Answer<Json<SecretResource>> {
    let value = read_secret_value(rotate.value)?;
    Ok(Json(wire::api_secret(core.ports.vault.rotate_secret(caller.scope, name, value).await?)))
}

pub(crate) async fn delete_secret(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<SecretResource>> {
    Ok(Json(wire::api_secret(core.ports.vault.delete_secret(caller.scope, name).await?)))
}

pub(crate) async fn reset_vault(
    State(core): State<Shared>,
    caller: Caller,
) -> Answer<Json<ListPage<SecretResource>>> {
    // Only the owner of the home knows whether a key file that is missing comes back.
    let by = if caller.is_operator() { GivenUpBy::Owner } else { GivenUpBy::Tenant };
    let secrets = core.ports.vault.reset_vault(caller.scope, by).await?;
    Ok(Json(ListPage { items: secrets.into_iter().map(wire::api_secret).collect(), next: None }))
}

fn read_secret_value(SecretText(text): SecretText) -> Answer<SecretValue> {
    SecretValue::new(text)
        .map_err(|problem| ApiError::invalid_request(format!("`value`: {problem}")).at_field("value"))
}
