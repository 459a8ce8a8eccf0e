//! The node itself, who asks, and who may.

use dromia_api::status::{Health, Ready, Status};
use dromia_api::tenant::{CreateTenant, Tenant, TenantCreated};
use dromia_api::token::{CreateToken, Token, TokenCreated, Whoami};
use dromia_api::{ErrorCode, List};
use serde_json::Value;

use crate::openapi::operation::Operation;
use crate::routes::queries;

pub(super) fn node() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/health", "health", "Tell that the process lives")
            .gives::<Health>(200, "It lives."),
        Operation::new("GET", "/ready", "ready", "Tell whether input is taken")
            .gives::<Ready>(200, "Input is taken.")
            .fails(&[ErrorCode::ShuttingDown, ErrorCode::StoreReadOnly]),
        Operation::new("GET", "/metrics", "metrics", "Read the meters, as Prometheus does").gives_bytes(
            200,
            "The meters, in the text format of Prometheus.",
            "text/plain",
        ),
        Operation::new("GET", "/openapi.json", "openapi", "Read this document")
            .gives::<Value>(200, "This document."),
        Operation::new("GET", "/docs", "docs", "Read this document as a page").gives_bytes(
            200,
            "A page that needs nothing from elsewhere.",
            "text/html",
        ),
        Operation::new("GET", "/v1/status", "status", "Tell how the server stands")
            .gives::<Status>(200, "How it stands; an operator is told more."),
    ]
}

pub(super) fn tokens() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/whoami", "whoami", "Tell who asks, and what the credential may do")
            .gives::<Whoami>(200, "Who asks."),
        Operation::new("GET", "/v1/tokens", "token_list", "List tokens")
            .query::<queries::Tokens>()
            .gives::<List<Token>>(200, "A page of tokens, by id."),
        Operation::new("POST", "/v1/tokens", "token_create", "Register a token")
            .takes::<CreateToken>()
            .gives::<TokenCreated>(201, "The token, which is shown this once.")
            .writes(),
        Operation::new("DELETE", "/v1/tokens/{token}", "token_revoke", "Take a token back")
            .gives::<Token>(200, "The token, revoked.")
            .writes()
            .fails(&[ErrorCode::TokenNotFound]),
    ]
}

pub(super) fn tenants() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/tenants", "tenant_list", "List tenants")
            .query::<queries::Tenants>()
            .gives::<List<Tenant>>(200, "A page of tenants, by id."),
        Operation::new("POST", "/v1/tenants", "tenant_create", "Register a tenant")
            .takes::<CreateTenant>()
            .gives::<TenantCreated>(201, "The tenant with its token, which is shown this once.")
            .writes()
            .fails(&[ErrorCode::HandleTaken]),
    ]
}
