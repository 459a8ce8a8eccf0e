//! The node itself, who asks, and who may.

use dromia_api::overview::OverviewPage;
use dromia_api::status::{HealthResponse, NodeStatus, ReadyResponse};
use dromia_api::tenant::{CreateTenant, TenantCreated, TenantDeletionReport, TenantDetails, TenantResource};
use dromia_api::token::{CreateToken, TokenCreated, TokenResource, WhoamiResponse};
use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, ListPage};
use serde_json::Value;

use crate::openapi::operation::Operation;
use crate::routes::queries;

pub(super) fn node_operations() -> Vec<Operation> {
    vec![
        Operation::new("HEAD", "/", "probe", "Check that a server listens here")
            .gives_nothing(200, "A server listens."),
        Operation::new("GET", "/health", "health", "Check that the process runs")
            .gives_json::<HealthResponse>(200, "It lives."),
        Operation::new("GET", "/ready", "ready", "Check that the server accepts input")
            .gives_json::<ReadyResponse>(200, "The server accepts input.")
            .fails_with(&[ErrorCode::ShuttingDown, ErrorCode::StoreReadOnly]),
        Operation::new("GET", "/metrics", "metrics", "Read the metrics in the format of Prometheus")
            .gives_bytes(200, "The metrics, in the text format of Prometheus.", "text/plain"),
        Operation::new("GET", "/openapi.json", "openapi", "Read this document")
            .gives_json::<Value>(200, "This document."),
        Operation::new("GET", "/docs", "docs", "Read this document as a page").gives_bytes(
            200,
            "A page without external resources.",
            "text/html",
        ),
        Operation::new("GET", "/v1/status", "status", "Show the state of the server")
            .gives_json::<NodeStatus>(200, "Its state; an operator sees more of it."),
        Operation::new(
            "GET",
            "/v1/overview",
            "overview",
            "Show who needs a person, what runs and what was spent",
        )
        .with_query::<queries::OverviewQuery>()
        .gives_json::<OverviewPage>(200, "The caller's tenant; for an operator who asks so, a page of all."),
    ]
}

pub(super) fn token_operations() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/whoami", "whoami", "Show the caller and its rights")
            .gives_json::<WhoamiResponse>(200, "Who asks."),
        Operation::new("GET", "/v1/tokens", "token_list", "List tokens")
            .with_query::<queries::Tokens>()
            .gives_json::<ListPage<TokenResource>>(200, "A page of tokens, by id."),
        Operation::new("POST", "/v1/tokens", "token_create", "Register a token")
            .takes_json::<CreateToken>()
            .gives_json::<TokenCreated>(201, "The token, which no later request shows again.")
            .writes_store(),
        Operation::new("DELETE", "/v1/tokens/{token}", "token_revoke", "Revoke a token")
            .gives_json::<TokenResource>(200, "The token, revoked.")
            .writes_store()
            .fails_with(&[ErrorCode::TokenNotFound]),
    ]
}

pub(super) fn tenant_operations() -> Vec<Operation> {
    let changed = |path, id, summary| {
        Operation::new("POST", path, id, summary)
            .with_header(IDEMPOTENCY_HEADER, "Has no effect: a repeat changes nothing.")
            .gives_json::<TenantResource>(200, "The tenant; the same where nothing changed.")
            .writes_store()
            .fails_with(&[ErrorCode::TenantNotFound])
    };
    vec![
        Operation::new(
            "GET",
            "/v1/tenants/{tenant}",
            "tenant_show",
            "Show a tenant, what it has and what it spends",
        )
        .gives_json::<TenantDetails>(200, "The tenant.")
        .fails_with(&[ErrorCode::TenantNotFound]),
        changed(
            "/v1/tenants/{tenant}/suspend",
            "tenant_suspend",
            "Suspend a tenant: reads go on, runs rest, and nothing changes",
        ),
        changed(
            "/v1/tenants/{tenant}/resume",
            "tenant_resume",
            "Have a suspended tenant go on where it stopped",
        ),
        Operation::new(
            "DELETE",
            "/v1/tenants/{tenant}",
            "tenant_delete",
            "Erase a suspended tenant and everything that belongs to it",
        )
        .with_header(IDEMPOTENCY_HEADER, "Has no effect: a repeat finds no tenant.")
        .gives_json::<TenantDeletionReport>(200, "What was erased.")
        .writes_store()
        .fails_with(&[ErrorCode::TenantNotFound, ErrorCode::TenantActive]),
        Operation::new("GET", "/v1/tenants", "tenant_list", "List tenants")
            .with_query::<queries::Tenants>()
            .gives_json::<ListPage<TenantResource>>(200, "A page of tenants, by id."),
        Operation::new("POST", "/v1/tenants", "tenant_create", "Register a tenant")
            .with_header(
                IDEMPOTENCY_HEADER,
                "Has no effect: a repeat is refused, because the handle is taken.",
            )
            .takes_json::<CreateTenant>()
            .gives_json::<TenantCreated>(
                201,
                "The tenant with its token, which no later request shows again.",
            )
            .writes_store()
            .fails_with(&[ErrorCode::HandleTaken]),
    ]
}
