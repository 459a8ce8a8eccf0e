//! The route table: every route, and who may use it. There is no route beside it.
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
mod cost;
mod decision;
mod delivery;
pub(crate) mod event;
mod feed;
mod node;
mod reference;
mod request;
mod run;
mod secret;
mod session;
mod task;
mod tenant;
mod token;
mod tool;

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
use crate::caller::{Peer, operator_caller, tenant_caller};
use crate::compat;
pub use crate::compat::Dialect;
use crate::core::{Core, Shared};
use crate::failure::{Answer, Failure};
use crate::metrics::RouteMeters;
use crate::share::Share;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody who reaches the door.
    Nothing,
    /// Somebody of a tenant, whatever the credential may do.
    Credential,
    /// Somebody of a tenant whose credential has this scope.
    Tenant(TokenScope),
    /// Somebody who signs with the secret of a channel; the handler checks it, because it needs the whole body.
    Signature,
    /// Somebody on the Unix socket.
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
                    Needs::$needs $((TokenScope::$scope))?,
                    dialect!($($dialect)?),
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
    GET "/health" Nothing => node::health;
    GET "/ready" Nothing => node::ready;
    GET "/metrics" Tenant(Read) => node::metrics;
    GET "/openapi.json" Nothing => reference::document;
    GET "/docs" Nothing => reference::page;
    GET "/v1/status" Tenant(Read) => node::status;
    GET "/v1/whoami" Credential => token::whoami;
    POST "/v1/events" Tenant(Invoke) => event::send;
    POST "/v1/channels/{channel}/events" Signature => channel::receive;
    GET "/v1/deliveries" Tenant(Read) => delivery::list;
    GET "/v1/deliveries/{delivery}" Tenant(Read) => delivery::show;
    POST "/v1/deliveries/{delivery}/redrive" Tenant(Operate) => delivery::redrive;
    GET "/v1/feed" Tenant(Read) => feed::read;
    PUT "/v1/feed" Tenant(Invoke) => feed::move_cursor;
    GET "/v1/agents" Tenant(Read) => agent::list;
    POST "/v1/agents" Tenant(Admin) => agent::create;
    GET "/v1/agents/{agent}" Tenant(Read) => agent::show;
    DELETE "/v1/agents/{agent}" Tenant(Admin) => agent::delete;
    POST "/v1/agents/{agent}/pause" Tenant(Operate) => agent::pause;
    POST "/v1/agents/{agent}/resume" Tenant(Operate) => agent::resume;
    POST "/v1/agents/{agent}/terminate" Tenant(Operate) => agent::terminate;
    POST "/v1/agents/{agent}/spawn" Tenant(Invoke) => task::spawn;
    GET "/v1/agents/{agent}/tasks" Tenant(Read) => task::list;
    POST "/v1/agents/{agent}/kill" Tenant(Operate) => task::kill;
    GET "/v1/agents/{agent}/tools/{tool}/check" Tenant(Read) => capability::check;
    POST "/v1/agents/{agent}/tools/{tool}/call" Tenant(Admin) => call::call;
    GET "/v1/sessions" Tenant(Read) => session::list;
    POST "/v1/sessions/import" Tenant(Admin) => session::import;
    GET "/v1/sessions/{session}" Tenant(Read) => session::show;
    GET "/v1/sessions/{session}/transcript" Tenant(Read) => session::transcript;
    GET "/v1/sessions/{session}/export" Tenant(Read) => session::export;
    GET "/v1/sessions/{session}/state" Tenant(Read) => session::state_list;
    PUT "/v1/sessions/{session}/state/{name}" Tenant(Admin) => session::state_put;
    GET "/v1/runs" Tenant(Read) => run::list;
    GET "/v1/runs/{run}" Tenant(Read) => run::show;
    GET "/v1/runs/{run}/journal" Tenant(Read) => run::journal;
    GET "/v1/runs/{run}/cost" Tenant(Read) => cost::run;
    GET "/v1/runs/{run}/requests/{step}" Tenant(Read) => request::show;
    GET "/v1/runs/{run}/why" Tenant(Read) => run::why;
    GET "/v1/runs/{run}/decisions" Tenant(Read) => decision::list;
    POST "/v1/runs/{run}/resume" Tenant(Operate) => run::resume;
    POST "/v1/runs/{run}/cancel" Tenant(Operate) => run::cancel;
    POST "/v1/runs/{run}/terminate" Tenant(Operate) => run::terminate;
    GET "/v1/tools" Tenant(Read) => tool::list;
    GET "/v1/tools/{tool}" Tenant(Read) => tool::show;
    GET "/v1/cost" Tenant(Read) => cost::summary;
    GET "/v1/approvals" Tenant(Read) => approval::list;
    GET "/v1/approvals/{approval}" Tenant(Read) => approval::show;
    POST "/v1/approvals/{approval}/answer" Tenant(Approve) => approval::answer;
    GET "/v1/approval-rules" Tenant(Read) => approval::rules;
    PUT "/v1/approval-rules/{rule}" Tenant(Admin) => approval::rule_set;
    DELETE "/v1/approval-rules/{rule}" Tenant(Admin) => approval::rule_remove;
    GET "/v1/budgets" Tenant(Read) => budget::list;
    PUT "/v1/budgets/{budget}" Tenant(Admin) => budget::set;
    DELETE "/v1/budgets/{budget}" Tenant(Admin) => budget::remove;
    GET "/v1/audit" Tenant(Read) => audit::list;
    GET "/v1/audit/export" Tenant(Read) => audit::export;
    GET "/v1/audit/{record}" Tenant(Read) => audit::show;
    GET "/v1/tokens" Tenant(Read) => token::list;
    POST "/v1/tokens" Tenant(Admin) => token::create;
    DELETE "/v1/tokens/{token}" Tenant(Admin) => token::revoke;
    GET "/v1/secrets" Tenant(Read) => secret::list;
    POST "/v1/secrets" Tenant(Admin) => secret::set;
    POST "/v1/secrets/{secret}/rotate" Tenant(Admin) => secret::rotate;
    DELETE "/v1/secrets/{secret}" Tenant(Admin) => secret::delete;
    POST "/v1/vault/reset" Tenant(Admin) => secret::reset;
    GET "/v1/capabilities" Tenant(Read) => capability::list;
    POST "/v1/capabilities" Tenant(Admin) => capability::grant;
    POST "/v1/capabilities/{capability}/delegate" Tenant(Admin) => capability::delegate;
    DELETE "/v1/capabilities/{capability}" Tenant(Admin) => capability::revoke;
    GET "/v1/tenants" Operator => tenant::list;
    POST "/v1/tenants" Operator => tenant::create;
    POST "/v1/chat/completions" Tenant(Invoke) in OpenAi => compat::chat::complete;
    POST "/v1/responses" Tenant(Invoke) in OpenAi => compat::responses::create;
    POST "/v1/messages" Tenant(Invoke) in Anthropic => compat::messages::create;
    POST "/v1/messages/count_tokens" Tenant(Invoke) in Anthropic => compat::messages::count;
    GET "/v1/models" Tenant(Read) in ByHeader => compat::models::list;
    GET "/v1/models/{model}" Tenant(Read) in ByHeader => compat::models::show;
}

/// The query parameters of the routes, by what they list, for the interface's description.
pub(crate) mod queries {
    pub(crate) use super::agent::Listing as Agents;
    pub(crate) use super::approval::Listing as Approvals;
    pub(crate) use super::audit::{Exporting as AuditExport, Listing as Audit};
    pub(crate) use super::capability::{Checking, Listing as Capabilities};
    pub(crate) use super::cost::{Pricing, Summing};
    pub(crate) use super::decision::Listing as Decisions;
    pub(crate) use super::delivery::{Listing as Deliveries, Redriving};
    pub(crate) use super::feed::Reading as Feed;
    pub(crate) use super::request::Which;
    pub(crate) use super::run::{Listing as Runs, Reading};
    pub(crate) use super::secret::Listing as Secrets;
    pub(crate) use super::session::{ImportInto, Listing as Sessions, StateListing as States};
    pub(crate) use super::task::Listing as Tasks;
    pub(crate) use super::tenant::Listing as Tenants;
    pub(crate) use super::token::Listing as Tokens;
    pub(crate) use super::tool::Asking as Tools;
}

/// A guarded handler's future.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Puts a handler behind its table line.
fn guarded<H, T>(
    needs: Needs,
    dialect: Dialect,
    meters: RouteMeters,
    handler: H,
) -> impl Fn(State<Shared>, Request) -> Answering + Clone + Send + Sync + 'static
where
    H: Handler<T, Shared> + Sync,
    T: 'static,
{
    move |State(core): State<Shared>, mut request: Request| -> Answering {
        let handler = handler.clone();
        let meters = meters.clone();
        Box::pin(async move {
            let began = Instant::now();
            let dialect = dialect.of(request.headers());
            let mut response = match admit(&core, needs, dialect, &mut request).await {
                Ok(_share) => handler.call(request, core).await,
                Err(failure) => failure.into_response(),
            };
            meters.record(response.status(), began.elapsed());
            response.extensions_mut().insert(dialect);
            response
        })
    }
}

/// Takes a share and finds who asks, whom the request is charged to before anything else is looked at. The share is
/// given back when the answer's headers are made; a stream takes a share of its own.
async fn admit(core: &Core, needs: Needs, dialect: Dialect, request: &mut Request) -> Answer<Option<Share>> {
    if needs == Needs::Nothing {
        return Ok(None);
    }
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.ok_or_else(|| Failure::new(ErrorCode::Internal, "the request came through no door"))?;
    let mut share = Share::request(core, peer)?;
    match needs {
        Needs::Nothing | Needs::Signature => {}
        Needs::Credential | Needs::Tenant(_) => {
            let caller = tenant_caller(core, peer, dialect, request.headers()).await?;
            let spender = caller.spender();
            share = share.charge(core, spender)?;
            if let Needs::Tenant(scope) = needs {
                caller.must_have(scope)?;
            }
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
    unmatched(&core, &request, Failure::new(ErrorCode::RouteNotFound, "no such route"))
}

async fn no_method(State(core): State<Shared>, request: Request) -> Response {
    let failure = Failure::new(ErrorCode::RouteNotFound, "the route does not take this method");
    unmatched(&core, &request, failure.with_status(405))
}

fn unmatched(core: &Core, request: &Request, failure: Failure) -> Response {
    let mut response = failure.into_response();
    core.meters.unmatched().record(response.status(), Duration::ZERO);
    response.extensions_mut().insert(neighbours(request));
    response
}

/// What those APIs have whose clients are served, and this server has not: whoever asks for it is such a client. What only one
/// of the two has is known by the version that its clients say.
const NOT_SERVED: [&str; 16] = [
    "/v1/assistants",
    "/v1/audio",
    "/v1/batches",
    "/v1/complete",
    "/v1/completions",
    "/v1/containers",
    "/v1/conversations",
    "/v1/embeddings",
    "/v1/files",
    "/v1/fine_tuning",
    "/v1/images",
    "/v1/moderations",
    "/v1/realtime",
    "/v1/threads",
    "/v1/uploads",
    "/v1/vector_stores",
];

/// In whose words a request is refused that no route takes: those of the API below whose route it asks, or of which it asks
/// something that is not served, or of the one whose version it says; else our own.
fn neighbours(request: &Request) -> Dialect {
    let path = request.uri().path();
    let is_below = |route: &str| {
        let rest = path.strip_prefix(route);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut foreign = ROUTES.iter().filter(|route| route.dialect != Dialect::Dromia);
    let foreign = foreign.find(|route| is_below(route.path));
    let is_known = foreign.is_some() || NOT_SERVED.into_iter().any(is_below);
    match foreign.map_or(Dialect::ByHeader, |route| route.dialect).of(request.headers()) {
        Dialect::OpenAi if !is_known => Dialect::Dromia,
        dialect => dialect,
    }
}
