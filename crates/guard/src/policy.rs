//! The policy: rules in Rego that are asked about everything that an agent's grants cover.
//!
//! Three layers: the built-in one, the instance's and the tenant's. Each is a machine of its own, so that none redefines
//! another's rules. Of all that they say deny goes before ask, ask before delay and delay before allow, and only the built-in
//! layer's allow counts: a lower layer can forbid and cannot permit. What no rule allows, and what cannot be evaluated, is
//! denied.
//!
//! Layers are compiled once, and must answer [samples](PolicyLayer::probe_samples) before they count. [`PolicyEngine`]
//! holds those that count now and takes others at any time; a question sees the old ones or the new ones as a whole,
//! and the decision names them by their digest. Why refused layers cannot count is noted in it
//! ([`PolicyEngine::note_refused`]). It reads no file.

mod bounds;
mod layer;
mod policy_tests;
mod problem;
mod question;
mod recursion;
mod samples;
mod static_checks;
mod verdict;
mod verdict_cache;
mod worker;
mod workers;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{ActivePolicy, GateAction, PolicyRefused, Principal};
use dromia_contracts::id::TenantId;
use dromia_contracts::tool::{EffectSink, PreparedCall, ToolManifest};
use jiff::Timestamp;

pub use self::bounds::{ARGUMENT_BYTES_MAX, ARGUMENT_DEPTH_MAX, ARGUMENT_VALUES_MAX, PATH_PARTS_MAX};
pub use self::layer::{
    BYTES_MAX, FILES_MAX, PolicyLayer, PolicyText, RuleVerdict, SAID_MAX, TIME_MAX, file_rules,
};
pub use self::policy_tests::{TestEnd, run_tests};
pub use self::problem::PolicyProblem;
pub use self::question::VERSION;
use self::question::{Manifests, QuestionError};
pub use self::recursion::DEPTH_MAX;
pub use self::static_checks::FileRules;
pub use self::verdict::{PACKAGE, PolicyVerdict};
use self::verdict_cache::{VerdictCache, VerdictKey};
pub use self::worker::{MEMORY_MAX, STACK, WORKER_NAME, enter_worker};
pub use self::workers::{
    GRACE, IDLE_MAX, LOAD_TIME_MAX, PolicyEvaluator, PolicyWorkers, TENANT_WORKERS_MAX, WAIT_MAX,
    WAITING_MAX, WORKERS_MAX,
};

/// The policy that every server has.
pub const DEFAULT: &str = include_str!("policy/default.rego");

/// What [`DEFAULT`] promises, as tests in Rego.
pub const DEFAULT_TESTS: &str = include_str!("policy/default_test.rego");

/// The rule that denies where a layer cannot be evaluated.
pub const BROKEN: &str = "policy-broken";

/// The rule that denies what is larger than a policy is asked about.
pub const BOUND: &str = "policy-bound";

/// The rule that denies where no rule allows.
pub const SILENT: &str = "policy-silent";

/// The layers below the built-in one.
#[derive(Debug, Default)]
pub struct PolicyLayers {
    /// What the operator says for every tenant.
    pub instance: Option<PolicyLayer>,
    /// What is said for single tenants.
    pub tenants: BTreeMap<TenantId, PolicyLayer>,
}

impl PolicyLayers {
    /// What each file says, of every layer in their order.
    pub fn file_rules(&self) -> impl Iterator<Item = &FileRules> {
        self.all_layers().flat_map(PolicyLayer::layer_files)
    }

    fn all_layers(&self) -> impl Iterator<Item = &PolicyLayer> {
        self.instance.iter().chain(self.tenants.values())
    }

    /// Those that a tenant's actions are put to, the instance's first, each with whose it is.
    fn named_layers(&self, tenant: TenantId) -> impl Iterator<Item = (&'static str, &PolicyLayer)> {
        let instance = self.instance.iter().map(|layer| ("instance", layer));
        instance.chain(self.tenants.get(&tenant).map(|layer| ("tenant", layer)))
    }

    /// The same alone.
    fn for_tenant(&self, tenant: TenantId) -> impl Iterator<Item = &PolicyLayer> {
        self.named_layers(tenant).map(|(_, layer)| layer)
    }
}

/// What the layers say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDecision {
    /// What was said, and by which rule.
    pub said: RuleVerdict,
    /// Whose layer said it: `built-in`, `instance` or `tenant`.
    pub layer: &'static str,
    /// The digest of the layers that were asked.
    pub policy: Digest,
}

/// The layers that count now. A clone is a handle to the same ones.
#[derive(Debug, Clone)]
pub struct PolicyEngine {
    built_in: Arc<PolicyLayer>,
    below: Arc<RwLock<ActiveLayers>>,
    known: Arc<PolicyContext>,
    verdicts: Arc<VerdictCache>,
    evaluator: PolicyEvaluator,
}

/// The layers below the built-in one that count, and what lies in their place and does not.
#[derive(Debug, Default)]
struct ActiveLayers {
    layers: Arc<PolicyLayers>,
    refused: Option<PolicyRefused>,
}

/// What every layer gets in addition to the action.
#[derive(Debug)]
struct PolicyContext {
    manifests: Manifests,
    /// What the operator says about calls that cannot be undone.
    irreversible: PolicyVerdict,
}

impl Default for PolicyContext {
    fn default() -> Self {
        Self { manifests: Manifests::new(), irreversible: PolicyVerdict::Allow }
    }
}

impl PolicyEngine {
    /// Makes the policy of a server that says nothing of its own.
    pub fn built_in() -> Result<Self, PolicyProblem> {
        let file = PolicyText { name: "built-in".to_owned(), text: DEFAULT.to_owned() };
        let built_in = Arc::new(PolicyLayer::compile_layer("built-in", &[file])?);
        let (below, known, verdicts) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { built_in, below, known, verdicts, evaluator: PolicyEvaluator::default() })
    }

    /// Has the layers below the built-in one evaluated elsewhere than in this process.
    #[must_use]
    pub fn with_evaluator(self, evaluator: PolicyEvaluator) -> Self {
        Self { evaluator, ..self }
    }

    /// Where the layers below the built-in one are evaluated.
    pub fn evaluator(&self) -> &PolicyEvaluator {
        &self.evaluator
    }

    /// Gives the policy what is known of tools in addition to their calls.
    #[must_use]
    pub fn with_manifests(self, manifests: impl IntoIterator<Item = (String, ToolManifest)>) -> Self {
        let manifests = manifests.into_iter().collect();
        Self { known: Arc::new(PolicyContext { manifests, irreversible: self.known.irreversible }), ..self }
    }

    /// Tells the policy what the operator says about calls that cannot be undone; without it they are as others.
    #[must_use]
    pub fn about_irreversible(self, irreversible: PolicyVerdict) -> Self {
        let manifests = self.known.manifests.clone();
        // Verdicts that were kept answered a question that said otherwise.
        let verdicts = Arc::default();
        Self { known: Arc::new(PolicyContext { manifests, irreversible }), verdicts, ..self }
    }

    /// Lets other layers count from now on.
    pub fn replace_layers(&self, layers: PolicyLayers) {
        let below = ActiveLayers { layers: Arc::new(layers), refused: None };
        *self.below.write().unwrap_or_else(PoisonError::into_inner) = below;
    }

    /// Notes that others lie in the place of those that count, and cannot count themselves.
    pub fn note_refused(&self, problem: &PolicyProblem, now: Timestamp) {
        let mut below = self.below.write().unwrap_or_else(PoisonError::into_inner);
        let since = below.refused.as_ref().map_or(now, |refused| refused.since);
        below.refused = Some(PolicyRefused { problem: problem.to_string(), since });
    }

    /// Tells what counts for a tenant.
    pub fn active_policy(&self, tenant: TenantId) -> ActivePolicy {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        let layers = &below.layers;
        ActivePolicy {
            digest: self.layers_digest([layers.instance.as_ref(), layers.tenants.get(&tenant)]),
            files: layers.file_rules().map(|file| file.name.clone()).collect(),
            refused: below.refused.clone(),
        }
    }

    /// The digest of what counts for a tenant without a layer of its own.
    pub fn instance_digest(&self) -> Digest {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        self.layers_digest([below.layers.instance.as_ref(), None])
    }

    /// Returns where the effects of a call are visible, as the question to a policy says it. A tool without a manifest
    /// says nothing, which counts as outside.
    pub fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        question::call_sink(call, self.known.manifests.get(&call.tool)).unwrap_or(EffectSink::Outside)
    }

    /// Tells whether a call cannot be undone, as the question to a policy says it.
    pub fn is_irreversible(&self, call: &PreparedCall) -> bool {
        question::is_irreversible(call, self.known.manifests.get(&call.tool))
    }

    /// Judges an action that a capability covers.
    pub async fn judge_action(
        &self,
        principal: Principal<'_>,
        action: GateAction<'_>,
        capability: &str,
    ) -> PolicyDecision {
        let below = Arc::clone(&self.below.read().unwrap_or_else(PoisonError::into_inner).layers);
        let tenant = below.tenants.get(&principal.scope.tenant());
        let policy = self.layers_digest([below.instance.as_ref(), tenant]);
        let own = below.instance.is_some() || tenant.is_some();
        let asked = VerdictKey::from_action(principal, action, capability, policy, own);
        if let Some(judged) = asked.as_ref().and_then(|asked| self.verdicts.find_verdict(asked)) {
            return judged;
        }
        let judged = self.ask_layers(principal, action, capability, below, policy).await;
        // The interpreter itself may have broken, so the next question is evaluated again.
        if let Some(asked) = asked.filter(|_| judged.said.rule != BROKEN) {
            self.verdicts.keep_verdict(asked, judged.clone());
        }
        judged
    }

    /// Puts a question to the layers: the built-in one first and here, then those below it where they are evaluated.
    async fn ask_layers(
        &self,
        principal: Principal<'_>,
        action: GateAction<'_>,
        capability: &str,
        below: Arc<PolicyLayers>,
        policy: Digest,
    ) -> PolicyDecision {
        let denied = |layer, rule: &str, reason: String| PolicyDecision {
            said: RuleVerdict { call: PolicyVerdict::Deny, rule: rule.to_owned(), reason },
            layer,
            policy,
        };
        let broken = |whose, layer: &PolicyLayer, problem: &PolicyProblem| {
            if layer.is_first(problem) {
                tracing::error!(layer = whose, %problem, "a policy failed on a question, so it denies the \
                                                          action");
            }
            denied(whose, BROKEN, format!("the {whose} policy could not be evaluated: {problem}"))
        };
        let irreversible = self.known.irreversible;
        let question =
            question::write_question(principal, action, capability, &self.known.manifests, irreversible);
        let question = match question {
            Ok(question) => question,
            Err(QuestionError::Bound(bound)) => return denied(BUILT_IN, BOUND, bound),
            Err(QuestionError::Unreadable) => {
                return denied(BUILT_IN, BROKEN, "the call is too large for the policy".to_owned());
            }
        };
        let tenant = principal.scope.tenant();
        let own: Vec<_> = below.named_layers(tenant).collect();
        let asked = if own.is_empty() { None } else { Some(question.clone()) };
        let mut strongest = match self.built_in.ask_question(&question.into()) {
            Ok(said) => strongest_verdict(None, BUILT_IN, said),
            Err(problem) => return broken(BUILT_IN, &self.built_in, &problem),
        };
        // Without an allow of the built-in layer nothing below can help, and nothing below is needed.
        if strongest.is_none() {
            return denied(BUILT_IN, SILENT, "no rule of the policy allows it".to_owned());
        }
        if let Some(question) = asked {
            let said = self.evaluator.evaluate_layers(Arc::clone(&below), tenant, question).await;
            let mut said = said.into_iter();
            for (whose, layer) in own {
                let unanswered = || Err(PolicyProblem::in_file(layer.blamed_name(), "it gave no result"));
                match said.next().unwrap_or_else(unanswered) {
                    Ok(said) => {
                        let counts = said.into_iter().filter(|said| said.call > PolicyVerdict::Allow);
                        strongest = self::strongest_verdict(strongest, whose, counts);
                    }
                    Err(problem) => return broken(whose, layer, &problem),
                }
            }
        }
        match strongest {
            Some((layer, said)) => PolicyDecision { said, layer, policy },
            None => denied(BUILT_IN, SILENT, "no rule of the policy allows it".to_owned()),
        }
    }

    /// The digest of the built-in layer, of those below it and of what the operator says in addition.
    fn layers_digest(&self, lower: [Option<&PolicyLayer>; 2]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.built_in.files_digest().as_bytes());
        for layer in lower {
            hasher.update(layer.map(PolicyLayer::files_digest).unwrap_or_default().as_bytes());
        }
        if self.known.irreversible != PolicyVerdict::Allow {
            hasher.update(self.known.irreversible.as_str().as_bytes());
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// Whose the built-in layer is.
const BUILT_IN: &str = "built-in";

/// The strongest of what was known and what a layer says; of equal ones the first.
fn strongest_verdict(
    known: Option<(&'static str, RuleVerdict)>,
    whose: &'static str,
    said: impl IntoIterator<Item = RuleVerdict>,
) -> Option<(&'static str, RuleVerdict)> {
    said.into_iter().fold(known, |known, said| match known {
        Some(known) if known.1.call >= said.call => Some(known),
        Some(_) | None => Some((whose, said)),
    })
}
