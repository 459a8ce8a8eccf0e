//! The route table: every route, and who may use it. No other route exists.
//!
//! The table is the router: a line makes the route, its guard and its meters. The guard takes a share of the
//! concurrent requests, authenticates, charges the token, and compares the line's scope with the caller's before the
//! handler sees the request; routes that need nothing pass without a share, so that probes are answered under load. A
//! line of another API names its dialect, in which the guard refuses too.

pub(crate) mod agent;
mod approval;
mod audit;
mod budget;
mod call;
mod capability;
mod channel;
mod child;
mod cost;
mod decision;
mod delivery;
pub(crate) mod event;
mod feed;
mod file;
mod id;
mod node;
mod overview;
mod reference;
mod request;
mod retention;
mod run;
mod run_end;
mod run_tree;
mod secret;
mod session;
mod session_context;
mod task;
mod template;
mod tenant;
mod token;
mod tool;
mod worker_role;

use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use dromia_contracts::ErrorCode;
use dromia_contracts::token::TokenScope;
use tokio::time::Instant;

pub(crate) use self::run::no_such_run;
use crate::authentication::{operator_caller, tenant_caller};
use crate::body_budget::BodyPayer;
use crate::caller::Peer;
use crate::compat;
pub use crate::compat::Dialect;
use crate::core::{GatewayCore, Shared};
use crate::failure::{Answer, ApiError};
use crate::keyed_change::{KeyUse, carry_out_once};
use crate::metrics::RouteMeters;
use crate::share::ConcurrencyPermit;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any client that reaches the listener.
    Nothing,
    /// A caller of a tenant, whatever the credential may do.
    Credential,
    /// A caller of a tenant whose credential has this scope.
    Tenant(TokenScope),
    /// A sender that signs with the secret of a channel; the handler checks it, because it needs the whole body.
    Signature,
    /// A caller on the Unix socket.
    Operator,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path, with its variable segments in braces.
    pub path: &'static str,
    /// Who may use it.
    pub needs: Needs,
    /// In whose words it answers.
    pub dialect: Dialect,
}

impl Route {
    /// What a client's key does for it. Nothing for inputs, tasks, calls and revisions, whose keys are written in the commit
    /// of the change, and for the import of a session, which its content names.
    pub(crate) fn key_use(&self) -> KeyUse {
        let is_change = !matches!(self.method, "GET" | "HEAD") && self.dialect == Dialect::Dromia;
        match (self.method, self.path) {
            _ if !is_change || !matches!(self.needs, Needs::Tenant(_)) => KeyUse::None,
            ("PATCH", "/v1/agents/{agent}")
            | (
                "POST",
                "/v1/events"
                | "/v1/agents/{agent}/revert"
                | "/v1/agents/{agent}/spawn"
                | "/v1/agents/{agent}/tools/{tool}/call"
                | "/v1/sessions/import",
            ) => KeyUse::None,
            ("POST", "/v1/tokens") => KeyUse::AnswerDropped,
            _ => KeyUse::AnswerKept,
        }
    }
}

macro_rules! dialect {
    () => {
        Dialect::Dromia
    };
    ($dialect:ident) => {
        Dialect::$dialect
    };
}

macro_rules! routes {
    ($($method:ident $path:literal $needs:ident $(($scope:ident))? $(in $dialect:ident)? => $handler:path;)+) => {
        /// Every route of the gateway.
        pub const ROUTES: &[Route] = &[
            $(Route {
                method: stringify!($method),
                path: $path,
                needs: Needs::$needs $((TokenScope::$scope))?,
                dialect: dialect!($($dialect)?),
            },)+
        ];

        /// Builds the router of the table.
        pub(crate) fn router(core: &Shared) -> Router {
            Router::new()
                $(.route($path, on(MethodFilter::$method, guarded(
                    &Route {
                        method: stringify!($method),
                        path: $path,
                        needs: Needs::$needs $((TokenScope::$scope))?,
                        dialect: dialect!($($dialect)?),
                    },
                    core.meters.of(stringify!($method), $path),
                    $handler,
                ))))+
                .fallback(no_route)
                .method_not_allowed_fallback(no_method)
                .with_state(core.clone())
        }
    };
}

routes! {
    HEAD "/" Nothing => node::answer_probe;
    GET "/health" Nothing => node::show_health;
    GET "/ready" Nothing => node::check_ready;
    GET "/metrics" Tenant(Metrics) => node::render_metrics;
    GET "/openapi.json" Nothing => reference::serve_document;
    GET "/docs" Nothing => reference::serve_docs_page;
    GET "/v1/status" Tenant(Read) => node::show_status;
    GET "/v1/overview" Tenant(Read) => overview::show_overview;
    GET "/v1/whoami" Credential => token::whoami;
    POST "/v1/events" Tenant(Invoke) => event::send_event;
    POST "/v1/channels/{channel}/events" Signature => channel::receive_event;
    GET "/v1/deliveries" Tenant(Read) => delivery::list_deliveries;
    GET "/v1/deliveries/{delivery}" Tenant(Read) => delivery::show_delivery;
    POST "/v1/deliveries/{delivery}/redrive" Tenant(Operate) => delivery::redrive_delivery;
    GET "/v1/feed" Tenant(Read) => feed::read_feed;
    PUT "/v1/feed" Tenant(Invoke) => feed::move_cursor;
    GET "/v1/agents" Tenant(Read) => agent::list_agents;
    POST "/v1/agents" Tenant(Admin) => agent::create_agent;
    GET "/v1/agents/{agent}" Tenant(Read) => agent::show_agent;
    DELETE "/v1/agents/{agent}" Tenant(Admin) => agent::delete_agent;
    PATCH "/v1/agents/{agent}" Tenant(Admin) => agent::revision::change_agent;
    GET "/v1/agents/{agent}/revisions" Tenant(Read) => agent::revision::list_revisions;
    GET "/v1/agents/{agent}/revisions/{number}" Tenant(Read) => agent::revision::show_revision;
    POST "/v1/agents/{agent}/revert" Tenant(Admin) => agent::revision::revert_agent;
    GET "/v1/agents/{agent}/identity" Tenant(Read) => agent::identity::list_documents;
    GET "/v1/agents/{agent}/identity/{document}" Tenant(Read) => agent::identity::show_document;
    PUT "/v1/agents/{agent}/identity/{document}" Tenant(Admin) => agent::identity::write_document;
    DELETE "/v1/agents/{agent}/identity/{document}" Tenant(Admin) => agent::identity::remove_document;
    POST "/v1/agents/{agent}/rename" Tenant(Admin) => agent::revision::rename_agent;
    POST "/v1/agents/{agent}/pause" Tenant(Operate) => agent::pause_agent;
    POST "/v1/agents/{agent}/resume" Tenant(Operate) => agent::resume_agent;
    POST "/v1/agents/{agent}/terminate" Tenant(Operate) => agent::terminate_agent;
    POST "/v1/agents/{agent}/spawn" Tenant(Invoke) => task::spawn_task;
    GET "/v1/agents/{agent}/tasks" Tenant(Read) => task::list_tasks;
    POST "/v1/agents/{agent}/kill" Tenant(Operate) => task::kill_runs;
    GET "/v1/agents/{agent}/tools/{tool}/check" Tenant(Read) => capability::check_tool_call;
    POST "/v1/agents/{agent}/tools/{tool}/call" Tenant(Admin) => call::call_tool;
    GET "/v1/agents/{agent}/files" Tenant(Read) => file::list_files;
    GET "/v1/agents/{agent}/files/{file}" Tenant(Read) => file::get_file;
    PUT "/v1/agents/{agent}/files/{file}" Tenant(Admin) => file::put_file;
    GET "/v1/sessions" Tenant(Read) => session::list_sessions;
    POST "/v1/sessions/import" Tenant(Admin) => session::import_session;
    GET "/v1/sessions/{session}" Tenant(Read) => session::show_session;
    DELETE "/v1/sessions/{session}" Tenant(Admin) => retention::delete_session;
    POST "/v1/sessions/{session}/hold" Tenant(Admin) => retention::set_hold;
    DELETE "/v1/sessions/{session}/hold" Tenant(Admin) => retention::end_hold;
    GET "/v1/retention" Tenant(Read) => retention::show_retention;
    GET "/v1/retention/due" Tenant(Read) => retention::list_due;
    POST "/v1/retention/run" Tenant(Admin) => retention::run_retention;
    GET "/v1/sessions/{session}/transcript" Tenant(Read) => session::show_transcript;
    GET "/v1/sessions/{session}/context" Tenant(Read) => session_context::show_context;
    POST "/v1/sessions/{session}/compaction" Tenant(Invoke) => session_context::compact_session;
    GET "/v1/sessions/{session}/children" Tenant(Read) => child::list_children;
    GET "/v1/sessions/{session}/export" Tenant(Read) => session::export_session;
    GET "/v1/sessions/{session}/state" Tenant(Read) => session::state_list;
    PUT "/v1/sessions/{session}/state/{name}" Tenant(Admin) => session::state_put;
    GET "/v1/children/{child}" Tenant(Read) => child::show_child;
    POST "/v1/children/{child}/cancel" Tenant(Operate) => child::cancel_child;
    GET "/v1/ids/{fragment}" Tenant(Read) => id::find_ids;
    GET "/v1/runs" Tenant(Read) => run::list_runs;
    GET "/v1/runs/{run}" Tenant(Read) => run::show_run;
    GET "/v1/runs/{run}/journal" Tenant(Read) => run::read_journal;
    GET "/v1/runs/{run}/cost" Tenant(Read) => cost::show_run_cost;
    GET "/v1/runs/{run}/requests/{step}" Tenant(Read) => request::show_sent_request;
    GET "/v1/runs/{run}/tree" Tenant(Read) => run_tree::show_run_tree;
    GET "/v1/runs/{run}/why" Tenant(Read) => run::explain_run;
    GET "/v1/runs/{run}/decisions" Tenant(Read) => decision::list_decisions;
    POST "/v1/runs/{run}/resume" Tenant(Operate) => run::resume_run;
    POST "/v1/runs/{run}/cancel" Tenant(Operate) => run_end::cancel_run;
    POST "/v1/runs/{run}/terminate" Tenant(Operate) => run_end::terminate_run;
    GET "/v1/model-aliases" Tenant(Read) => agent::list_model_aliases;
    GET "/v1/templates" Tenant(Read) => template::list_templates;
    GET "/v1/templates/{template}" Tenant(Read) => template::show_template;
    POST "/v1/templates/{template}/render" Tenant(Admin) => template::render_template;
    GET "/v1/worker-roles" Tenant(Read) => worker_role::list_roles;
    GET "/v1/worker-roles/{role}" Tenant(Read) => worker_role::show_role;
    GET "/v1/tools" Tenant(Read) => tool::list_tools;
    GET "/v1/tools/{tool}" Tenant(Read) => tool::show_tool;
    GET "/v1/cost" Tenant(Read) => cost::summarize_costs;
    GET "/v1/approvals" Tenant(Read) => approval::list_approvals;
    GET "/v1/approvals/{approval}" Tenant(Read) => approval::show_approval;
    POST "/v1/approvals/{approval}/answer" Tenant(Approve) => approval::answer_approval;
    GET "/v1/approval-rules" Tenant(Read) => approval::list_approval_rules;
    PUT "/v1/approval-rules/{rule}" Tenant(Admin) => approval::rule_set;
    DELETE "/v1/approval-rules/{rule}" Tenant(Admin) => approval::rule_remove;
    GET "/v1/budgets" Tenant(Read) => budget::list_budgets;
    PUT "/v1/budgets/{budget}" Tenant(Admin) => budget::set_budget;
    DELETE "/v1/budgets/{budget}" Tenant(Admin) => budget::remove_budget;
    GET "/v1/audit" Tenant(Read) => audit::list_records;
    GET "/v1/audit/export" Tenant(Read) => audit::export_records;
    GET "/v1/audit/{record}" Tenant(Read) => audit::explain_record;
    GET "/v1/tokens" Tenant(Read) => token::list_tokens;
    POST "/v1/tokens" Tenant(Admin) => token::create_token;
    DELETE "/v1/tokens/{token}" Tenant(Admin) => token::revoke_token;
    GET "/v1/secrets" Tenant(Read) => secret::list_secrets;
    POST "/v1/secrets" Tenant(Admin) => secret::set_secret;
    POST "/v1/secrets/{secret}/rotate" Tenant(Admin) => secret::rotate_secret;
    DELETE "/v1/secrets/{secret}" Tenant(Admin) => secret::delete_secret;
    POST "/v1/vault/reset" Tenant(Admin) => secret::reset_vault;
    GET "/v1/capabilities" Tenant(Read) => capability::list_capabilities;
    POST "/v1/capabilities" Tenant(Admin) => capability::grant_capability;
    POST "/v1/capabilities/{capability}/delegate" Tenant(Admin) => capability::delegate_capability;
    DELETE "/v1/capabilities/{capability}" Tenant(Admin) => capability::revoke_capability;
    GET "/v1/tenants" Operator => tenant::list_tenants;
    POST "/v1/tenants" Operator => tenant::create_tenant;
    GET "/v1/tenants/{tenant}" Operator => tenant::show_tenant;
    DELETE "/v1/tenants/{tenant}" Operator => tenant::delete_tenant;
    POST "/v1/tenants/{tenant}/suspend" Operator => tenant::suspend_tenant;
    POST "/v1/tenants/{tenant}/resume" Operator => tenant::resume_tenant;
    POST "/v1/chat/completions" Tenant(Invoke) in OpenAi => compat::chat::complete_chat;
    POST "/v1/responses" Tenant(Invoke) in OpenAi => compat::responses::create_response;
    POST "/v1/messages" Tenant(Invoke) in Anthropic => compat::messages::create_message;
    POST "/v1/messages/count_tokens" Tenant(Invoke) in Anthropic => compat::messages::count_tokens;
    GET "/v1/models" Tenant(Read) in ByHeader => compat::models::list_models;
    GET "/v1/models/{model}" Tenant(Read) in ByHeader => compat::models::show_model;
}

/// The query parameters of the routes, by what they list, for the interface's description.
pub(crate) mod queries {
    pub(crate) use super::agent::AgentListQuery as Agents;
    pub(crate) use super::agent::identity::DocumentQuery as Documents;
    pub(crate) use super::agent::revision::RevisionListQuery as Revisions;
    pub(crate) use super::approval::ApprovalListQuery as Approvals;
    pub(crate) use super::audit::{AuditExportQuery as AuditExport, AuditListQuery as Audit};
    pub(crate) use super::capability::{CapabilityCheckQuery, CapabilityListQuery as Capabilities};
    pub(crate) use super::child::ChildListQuery;
    pub(crate) use super::cost::{CostSummaryQuery, RunCostQuery};
    pub(crate) use super::decision::DecisionListQuery as Decisions;
    pub(crate) use super::delivery::{DeliveryListQuery as Deliveries, DeliveryRedriveQuery};
    pub(crate) use super::feed::FeedReadQuery as Feed;
    pub(crate) use super::file::FileListQuery as Files;
    pub(crate) use super::id::IdQuery;
    pub(crate) use super::overview::OverviewQuery;
    pub(crate) use super::request::SentRequestQuery;
    pub(crate) use super::retention::RetentionQuery;
    pub(crate) use super::run::{JournalReadQuery, RunListQuery as Runs};
    pub(crate) use super::run_end::RunEndQuery;
    pub(crate) use super::secret::SecretListQuery as Secrets;
    pub(crate) use super::session::{
        ImportInto, SessionListQuery as Sessions, StateListing as States, TranscriptRange,
    };
    pub(crate) use super::session_context::CompactionQuery;
    pub(crate) use super::task::TaskListQuery as Tasks;
    pub(crate) use super::tenant::TenantListQuery as Tenants;
    pub(crate) use super::token::TokenListQuery as Tokens;
    pub(crate) use super::tool::ToolQuery as Tools;
    pub(crate) use super::worker_role::RoleQuery;
}

/// A guarded handler's future.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Puts a handler behind its table line.
fn guarded<H, T>(
    route: &Route,
    meters: RouteMeters,
    handler: H,
) -> impl Fn(State<Shared>, Request) -> Answering + Clone + Send + Sync + 'static
where
    H: Handler<T, Shared> + Sync,
    T: 'static,
{
    let (needs, dialect, key_use) = (route.needs, route.dialect, route.key_use());
    move |State(core): State<Shared>, mut request: Request| -> Answering {
        let handler = handler.clone();
        let meters = meters.clone();
        Box::pin(async move {
            let began = Instant::now();
            let dialect = dialect.for_request(request.headers());
            let (version, mut tenant) = (request.version(), None);
            let mut response = match admit_request(&core, needs, dialect, &mut request).await {
                Ok(_share) => {
                    tenant = request.extensions().get::<BodyPayer>().and_then(|payer| payer.tenant);
                    let shared = Shared::clone(&core);
                    carry_out_once(&core, key_use, request, move |request| handler.call(request, shared))
                        .await
                }
                Err(failure) => failure.into_response(),
            };
            meters.record_request(response.status(), began.elapsed());
            if let Some(tenant) = tenant {
                core.meters.tenants.count_answer(tenant, response.status());
            }
            // Nothing is held meanwhile but the connection.
            core.limits.pauses.delay_refusal(&mut response, version, &core.phase.closing).await;
            response.extensions_mut().insert(dialect);
            response
        })
    }
}

/// Takes a share and finds who asks, whom the request is charged to before anything else is looked at. The share is
/// given back when the answer's headers are made; a stream takes a share of its own.
async fn admit_request(
    core: &GatewayCore,
    needs: Needs,
    dialect: Dialect,
    request: &mut Request,
) -> Answer<Option<ConcurrencyPermit>> {
    if needs == Needs::Nothing {
        return Ok(None);
    }
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no listener"))?;
    let mut share = ConcurrencyPermit::acquire_request(core, peer)?;
    match needs {
        Needs::Nothing | Needs::Signature => {}
        Needs::Credential | Needs::Tenant(_) => {
            let caller = tenant_caller(core, peer, dialect, request.headers()).await?;
            let spender = caller.request_payer();
            share = share.charge_payer(core, spender)?;
            if let Needs::Tenant(scope) = needs {
                caller.must_have(scope)?;
            }
            if !request.method().is_safe() {
                caller.must_not_be_suspended()?;
            }
            let payer = BodyPayer { tenant: Some(spender.tenant), token: spender.token };
            request.extensions_mut().insert(payer);
            request.extensions_mut().insert(spender);
            request.extensions_mut().insert(caller);
        }
        Needs::Operator => {
            let operator = operator_caller(core, peer, request.headers()).await?;
            request.extensions_mut().insert(operator);
        }
    }
    Ok(Some(share))
}

async fn no_route(State(core): State<Shared>, request: Request) -> Response {
    let failure = ApiError::new(ErrorCode::RouteNotFound, "there is no such route");
    let failure = match not_served(request.uri().path()) {
        None => failure,
        Some((route, instead)) => {
            let text = format!("{route} is no route of this server, which serves agents and not models");
            ApiError::new(ErrorCode::RouteNotFound, text).with_hint(instead)
        }
    };
    unmatched_response(&core, &request, failure)
}

async fn no_method(State(core): State<Shared>, request: Request) -> Response {
    let failure = ApiError::new(ErrorCode::RouteNotFound, "the route does not support this method");
    unmatched_response(&core, &request, failure.with_status(405))
}

fn unmatched_response(core: &GatewayCore, request: &Request, failure: ApiError) -> Response {
    let mut response = failure.into_response();
    core.meters.unmatched_route().record_request(response.status(), Duration::ZERO);
    response.extensions_mut().insert(neighbour_dialect(request));
    response
}

/// Routes of the compatible APIs that this server does not serve: a request for one comes from a client of such an API.
/// What only one of the two APIs has is known by the version that its clients say. Each has its way on.
const NOT_SERVED: [(&str, &str); 16] = [
    ("/v1/assistants", USE_AGENTS),
    ("/v1/audio", USE_PROVIDER),
    ("/v1/batches", "send each request by itself; a repeat with the same Idempotency-Key joins the first"),
    ("/v1/complete", USE_MESSAGES),
    ("/v1/completions", "send the text as a message to POST /v1/chat/completions"),
    ("/v1/containers", USE_AGENTS),
    ("/v1/conversations", "continue a session with `previous_response_id` or the header X-Dromia-Session"),
    ("/v1/embeddings", USE_PROVIDER),
    ("/v1/files", "put text and pictures into the messages, or let the agent read its workspace"),
    ("/v1/fine_tuning", USE_PROVIDER),
    ("/v1/images", USE_PROVIDER),
    ("/v1/moderations", USE_PROVIDER),
    ("/v1/realtime", "stream the answer of POST /v1/responses"),
    ("/v1/threads", USE_AGENTS),
    ("/v1/uploads", "put text and pictures into the messages, or let the agent read its workspace"),
    ("/v1/vector_stores", USE_PROVIDER),
];

const USE_AGENTS: &str = "create agents with `dromia agent create` and talk to them by POST /v1/responses";
const USE_PROVIDER: &str = "send this request to a model provider itself";
const USE_MESSAGES: &str = "send the text as a message to POST /v1/messages";

/// Finds the route of another API that a path asks for and that is not served, and what to do instead.
fn not_served(path: &str) -> Option<(&'static str, &'static str)> {
    NOT_SERVED.into_iter().find(|(route, _)| is_below(path, route))
}

fn is_below(path: &str, route: &str) -> bool {
    path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// In whose words a request is refused that no route takes: those of the API below whose route it asks, or of which it asks
/// something that is not served, or of the one whose version it says; else our own.
fn neighbour_dialect(request: &Request) -> Dialect {
    let path = request.uri().path();
    let mut foreign = ROUTES.iter().filter(|route| route.dialect != Dialect::Dromia);
    let foreign = foreign.find(|route| is_below(path, route.path));
    let is_known = foreign.is_some() || not_served(path).is_some();
    match foreign.map_or(Dialect::ByHeader, |route| route.dialect).for_request(request.headers()) {
        Dialect::OpenAi if !is_known => Dialect::Dromia,
        dialect => dialect,
    }
}
