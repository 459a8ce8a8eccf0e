//! The parts of a server that another configuration replaces, each behind a port that stays the same: the models, the gate
//! and what the operator says about tools. A call that began goes on with what it began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::gate::{ActivePolicy, Gate, GateAction, GateVerdict, Principal, RightsHold};
use dromia_contracts::model::{
    DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
};
use dromia_contracts::model_route::RouteFacts;
use dromia_contracts::tool::{EffectSink, PreparedCall};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::{AgentId, BoxFuture, Scope, TenantId};
use dromia_guard::GrantGate;
use dromia_models::ModelRegistry;
use dromia_tools::Toolbox;

use crate::sandbox_choice::TenantSandboxes;
use crate::tool_policy::ToolTermsTable;

/// The parts that are replaced.
#[derive(Debug, Clone)]
pub(crate) struct ReplaceableParts {
    /// The models.
    pub(crate) models: Arc<LiveModels>,
    /// The gate.
    pub(crate) gate: Arc<LiveGate>,
    /// What the operator says about tools.
    pub(crate) terms: Arc<ToolTermsTable>,
    /// The tools, of which those of others are replaced.
    pub(crate) toolbox: Arc<Toolbox>,
    /// Which tenants need a kernel of their own for their programs.
    pub(crate) sandboxes: Arc<TenantSandboxes>,
}

/// The models of the newest configuration.
#[derive(Debug)]
pub(crate) struct LiveModels(ArcSwap<ModelRegistry>);

impl LiveModels {
    /// Begins with the models of the start.
    pub(crate) fn new(models: ModelRegistry) -> Self {
        Self(ArcSwap::from_pointee(models))
    }

    /// Lets other models answer from now on.
    pub(super) fn replace_models(&self, models: ModelRegistry) {
        self.0.store(Arc::new(models));
    }
}

impl LanguageModel for LiveModels {
    fn knows_alias(&self, alias: &str) -> bool {
        self.0.load().knows_alias(alias)
    }

    fn list_aliases(&self) -> Vec<String> {
        self.0.load().list_aliases()
    }

    fn route_alias(&self, alias: &str, facts: &RouteFacts<'_>) -> Option<String> {
        self.0.load().route_alias(alias, facts)
    }

    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        self.0.load().prepare_attempt(request)
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        self.0.load().encode_request(wording, request)
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        let models = self.0.load_full();
        Box::pin(async move { models.call_model(request, prepared, deltas).await })
    }
}

/// The gate of the newest configuration.
#[derive(Debug)]
pub(crate) struct LiveGate(ArcSwap<GrantGate>);

impl LiveGate {
    /// Begins with the gate of the start.
    pub(crate) fn new(gate: GrantGate) -> Self {
        Self(ArcSwap::from_pointee(gate))
    }

    /// Lets another gate judge from now on, by the current rights of agents that the earlier one knows.
    pub(super) fn replace_gate(&self, gate: GrantGate) {
        let rights = self.0.load().current_rights();
        self.0.store(Arc::new(gate.with_rights(rights)));
    }
}

impl Gate for LiveGate {
    fn check_grants(&self, grants: &[String], tools: &ToolCatalogue) -> Result<(), String> {
        self.0.load().check_grants(grants, tools)
    }

    fn note_rights(&self, tenant: TenantId, agent: AgentId, number: u64, grants: &[String]) -> RightsHold {
        self.0.load().note_rights(tenant, agent, number, grants)
    }

    fn share_grants(&self, grants: &[String], bound: &[String]) -> Vec<String> {
        self.0.load().share_grants(grants, bound)
    }

    fn await_withdrawal<'a>(
        &'a self,
        scope: &'a Scope,
        grants: &'a [String],
        call: &'a PreparedCall,
    ) -> BoxFuture<'a, String> {
        let gate = self.0.load_full();
        Box::pin(async move { gate.await_withdrawal(scope, grants, call).await })
    }

    fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        self.0.load().call_sink(call)
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        self.0.load().is_irreversible(call)
    }

    fn tenant_policy(&self, tenant: TenantId) -> Option<ActivePolicy> {
        self.0.load().tenant_policy(tenant)
    }

    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict> {
        let gate = self.0.load_full();
        Box::pin(async move { gate.evaluate_action(principal, action).await })
    }
}
