//! Tenants: list, register, show, suspend, resume and delete; for the operator only.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::TENANT_DEFAULT;
use dromia_api::tenant::{CreateTenant, TenantCreated, TenantDeletionReport, TenantDetails, TenantResource};
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::store::PageRequest;
use dromia_contracts::{ErrorCode, TenantId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::budget::read_budget_uses;
use super::overview::OverviewReader;
use crate::authentication::{node_scope, stored_tenant};
use crate::caller::NodeOperator;
use crate::core::Shared;
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::wire;

/// What the first token of a tenant is called.
const TOKEN_NAME: &str = "default";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantListQuery {
    /// Only tenants after this one; the `next` of the page before.
    after: Option<TenantId>,
    /// The most rows, from 1 to 256; 50 where it is absent.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_tenants(
    State(core): State<Shared>,
    NodeOperator(operator): NodeOperator,
    QueryParams(listing): QueryParams<TenantListQuery>,
) -> Answer<Json<ListPage<TenantResource>>> {
    let limit = page_limit(listing.limit)?;
    let tenants = core.ports.store.tenants(&operator, PageRequest { after: listing.after, limit }).await?;
    let items = tenants.into_iter().map(wire::api_tenant).collect();
    Ok(Json(ListPage::from_limited(items, limit, |tenant| tenant.id.to_string())))
}

pub(crate) async fn create_tenant(
    State(core): State<Shared>,
    NodeOperator(operator): NodeOperator,
    JsonBody(new): JsonBody<CreateTenant>,
) -> Answer<Response> {
    let (tenant, token) = core.ports.runs.tenant_create(operator, new.handle, TOKEN_NAME.to_owned()).await?;
    core.caches.strangers.forget_all();
    let created =
        TenantCreated { id: tenant.id, handle: tenant.handle, created_at: tenant.created_at, token };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

pub(crate) async fn show_tenant(
    State(core): State<Shared>,
    NodeOperator(_): NodeOperator,
    PathSegments(handle): PathSegments<HandleSlug>,
) -> Answer<Json<TenantDetails>> {
    let tenant = stored_tenant(&core, &handle).await?;
    let scope = node_scope(&core, tenant.id);
    let budgets = read_budget_uses(&core, &scope).await?;
    Ok(Json(TenantDetails {
        tenant: wire::api_tenant(tenant),
        counts: core.ports.store.tenant_counts(&scope).await?,
        budgets: budgets.into_iter().map(wire::api_budget).collect(),
        spend: OverviewReader::new(&core, scope).read_spend().await?,
    }))
}

/// Erases a tenant. The one that the server itself uses is refused, because keys of providers are in its vault and callers who
/// name no tenant mean it.
pub(crate) async fn delete_tenant(
    State(core): State<Shared>,
    NodeOperator(operator): NodeOperator,
    PathSegments(handle): PathSegments<HandleSlug>,
) -> Answer<Json<TenantDeletionReport>> {
    let tenant = stored_tenant(&core, &handle).await?;
    if handle.as_str() == TENANT_DEFAULT {
        let text = format!("the server itself uses the tenant {handle}, so it is not deleted");
        let hint =
            "delete its agents with `dromia agent delete`, and its secrets with `dromia secret delete`";
        return Err(ApiError::new(ErrorCode::InvalidRequest, text).with_hint(hint));
    }
    if tenant.suspended_at.is_none() {
        let text = format!("the tenant {handle} is not suspended, so it is not deleted");
        let hint = format!("suspend it first with `dromia tenant suspend {handle}`");
        return Err(ApiError::new(ErrorCode::TenantActive, text).with_hint(hint));
    }
    let (shared, id) = (Shared::clone(&core), tenant.id);
    let erased = core.ports.runtime.carried_through(async move {
        let erasing = shared.ports.runs.tenant_delete(operator, id);
        // Its tokens stop with the mark and not with the last page; what was looked up before the mark goes at the end.
        let erased = erasing.await;
        shared.caches.tenants.forget_all();
        shared.caches.tokens.forget_all();
        shared.caches.agents.forget_all();
        erased
    });
    Ok(Json(TenantDeletionReport { id, handle, erased: erased.await? }))
}

pub(crate) async fn suspend_tenant(
    core: State<Shared>,
    operator: NodeOperator,
    tenant: PathSegments<HandleSlug>,
) -> Answer<Json<TenantResource>> {
    set_suspension(core, operator, tenant, true).await
}

pub(crate) async fn resume_tenant(
    core: State<Shared>,
    operator: NodeOperator,
    tenant: PathSegments<HandleSlug>,
) -> Answer<Json<TenantResource>> {
    set_suspension(core, operator, tenant, false).await
}

async fn set_suspension(
    State(core): State<Shared>,
    NodeOperator(operator): NodeOperator,
    PathSegments(handle): PathSegments<HandleSlug>,
    suspended: bool,
) -> Answer<Json<TenantResource>> {
    let tenant = stored_tenant(&core, &handle).await?;
    let set = core.ports.runs.tenant_suspend(operator, tenant, suspended).await;
    // Also where the outcome is unknown: no request is judged by what was before.
    core.caches.tenants.forget_all();
    core.caches.tokens.forget_all();
    Ok(Json(wire::api_tenant(set?)))
}
