//! The policy: rules in Rego that are asked about everything that an agent's grants cover.
//!
//! Three layers: the built-in one, the instance's and the tenant's. Each is a machine of its own, so that none redefines
//! another's rules. Of all that they say deny goes before ask, ask before delay and delay before allow, and only the built-in
//! layer's allow counts: a lower layer can forbid and cannot permit. What no rule allows, and what cannot be evaluated, is
//! denied.
//!
//! Layers are compiled once, and whoever has them count asks them [samples](Layer::probe) before. [`Policies`] holds those that
//! count now and takes others at any time; whoever asks sees the old ones or the new ones whole, and is told which by their
//! digest. Of others that cannot count it is told why ([`Policies::refuse`]). It reads no file.

mod known;
mod layer;
mod problem;
mod question;
mod reading;
mod samples;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{Action, PolicyRefused, PolicyStanding, Principal};
use dromia_contracts::id::TenantId;
use dromia_contracts::tool::{Manifest, PreparedCall, Sink};
use jiff::Timestamp;

use self::known::{Asked, Verdicts};
pub use self::layer::{
    BYTES_MAX, Call, FILES_MAX, Layer, PACKAGE, PolicyText, SAID_MAX, Said, TIME_MAX, TestEnd, file_rules,
    run_tests,
};
pub use self::problem::PolicyProblem;
use self::question::Manifests;
pub use self::question::VERSION;
pub use self::reading::FileRules;

/// The policy that every server has.
pub const DEFAULT: &str = include_str!("policy/default.rego");

/// What [`DEFAULT`] promises, as tests in Rego.
pub const DEFAULT_TESTS: &str = include_str!("policy/default_test.rego");

/// The rule that denies where a layer cannot be evaluated.
pub const BROKEN: &str = "policy-broken";

/// The rule that denies where no rule allows.
pub const SILENT: &str = "policy-silent";

/// The layers below the built-in one.
#[derive(Debug, Default)]
pub struct Layers {
    /// What the operator says for every tenant.
    pub instance: Option<Layer>,
    /// What is said for single tenants.
    pub tenants: BTreeMap<TenantId, Layer>,
}

impl Layers {
    /// Asks every layer the samples, and says what one of them cannot answer.
    pub fn probe(&self) -> Result<(), PolicyProblem> {
        self.all().try_for_each(Layer::probe)
    }

    /// What each file says, of every layer in their order.
    pub fn files(&self) -> impl Iterator<Item = &FileRules> {
        self.all().flat_map(Layer::files)
    }

    fn all(&self) -> impl Iterator<Item = &Layer> {
        self.instance.iter().chain(self.tenants.values())
    }
}

/// What the layers say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What was said, and by which rule.
    pub said: Said,
    /// Whose layer said it: `built-in`, `instance` or `tenant`.
    pub layer: &'static str,
    /// The digest of the layers that were asked.
    pub policy: Digest,
}

/// The layers that count now. A clone is a handle to the same ones.
#[derive(Debug, Clone)]
pub struct Policies {
    built_in: Arc<Layer>,
    below: Arc<RwLock<Below>>,
    known: Arc<Known>,
    verdicts: Arc<Verdicts>,
}

/// The layers below the built-in one that count, and what lies in their place and does not.
#[derive(Debug, Default)]
struct Below {
    layers: Arc<Layers>,
    refused: Option<PolicyRefused>,
}

/// What is told to every layer beside the action.
#[derive(Debug)]
struct Known {
    manifests: Manifests,
    /// What the operator says about calls that cannot be undone.
    irreversible: Call,
}

impl Default for Known {
    fn default() -> Self {
        Self { manifests: Manifests::new(), irreversible: Call::Allow }
    }
}

impl Policies {
    /// Makes the policy of a server that says nothing of its own.
    pub fn built_in() -> Result<Self, PolicyProblem> {
        let file = PolicyText { name: "built-in".to_owned(), text: DEFAULT.to_owned() };
        let built_in = Arc::new(Layer::compile("built-in", &[file])?);
        Ok(Self { built_in, below: Arc::default(), known: Arc::default(), verdicts: Arc::default() })
    }

    /// Tells the policy what is known of tools beside their calls.
    #[must_use]
    pub fn knowing(self, manifests: impl IntoIterator<Item = (String, Manifest)>) -> Self {
        let manifests = manifests.into_iter().collect();
        Self { known: Arc::new(Known { manifests, irreversible: self.known.irreversible }), ..self }
    }

    /// Tells the policy what the operator says about calls that cannot be undone; without it they are as others.
    #[must_use]
    pub fn about_irreversible(self, irreversible: Call) -> Self {
        let manifests = self.known.manifests.clone();
        Self { known: Arc::new(Known { manifests, irreversible }), ..self }
    }

    /// Lets other layers count from now on.
    pub fn replace(&self, layers: Layers) {
        let below = Below { layers: Arc::new(layers), refused: None };
        *self.below.write().unwrap_or_else(PoisonError::into_inner) = below;
    }

    /// Notes that others lie in the place of those that count, and cannot count themselves.
    pub fn refuse(&self, problem: &PolicyProblem, now: Timestamp) {
        let mut below = self.below.write().unwrap_or_else(PoisonError::into_inner);
        let since = below.refused.as_ref().map_or(now, |refused| refused.since);
        below.refused = Some(PolicyRefused { problem: problem.to_string(), since });
    }

    /// Tells what counts for a tenant.
    pub fn standing(&self, tenant: TenantId) -> PolicyStanding {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        let layers = &below.layers;
        PolicyStanding {
            digest: self.digest([layers.instance.as_ref(), layers.tenants.get(&tenant)]),
            files: layers.files().map(|file| file.name.clone()).collect(),
            refused: below.refused.clone(),
        }
    }

    /// The digest of what counts for a tenant without a layer of its own.
    pub fn instance_digest(&self) -> Digest {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        self.digest([below.layers.instance.as_ref(), None])
    }

    /// Tells where what a call does is seen, as the question to a policy says it; of a tool that nobody described it says
    /// nothing, which counts as outside.
    pub fn sink(&self, call: &PreparedCall) -> Sink {
        question::sink(call, self.known.manifests.get(&call.tool)).unwrap_or(Sink::Outside)
    }

    /// Tells whether nobody can undo a call, as the question to a policy says it.
    pub fn is_irreversible(&self, call: &PreparedCall) -> bool {
        question::is_irreversible(call, self.known.manifests.get(&call.tool))
    }

    /// Judges an action that a capability covers.
    pub fn judge(&self, principal: Principal<'_>, action: Action<'_>, capability: &str) -> Judged {
        let below = Arc::clone(&self.below.read().unwrap_or_else(PoisonError::into_inner).layers);
        let tenant = below.tenants.get(&principal.scope.tenant());
        let lower = [("instance", below.instance.as_ref()), ("tenant", tenant)];
        let policy = self.digest(lower.map(|(_, layer)| layer));
        let own = lower.iter().any(|(_, layer)| layer.is_some());
        let Some(asked) = Asked::of(principal, action, capability, policy, own) else {
            return self.evaluate(principal, action, capability, lower, policy);
        };
        if let Some(judged) = self.verdicts.of(&asked) {
            return judged;
        }
        let judged = self.evaluate(principal, action, capability, lower, policy);
        // What broke may have been the machine, and the next question finds it mended.
        if judged.said.rule != BROKEN {
            self.verdicts.keep(asked, judged.clone());
        }
        judged
    }

    /// Puts a question to the layers.
    fn evaluate(
        &self,
        principal: Principal<'_>,
        action: Action<'_>,
        capability: &str,
        lower: [(&'static str, Option<&Layer>); 2],
        policy: Digest,
    ) -> Judged {
        let denied = |rule: &str, reason: String| Judged {
            said: Said { call: Call::Deny, rule: rule.to_owned(), reason },
            layer: "built-in",
            policy,
        };
        let Some(question) =
            question::question(principal, action, capability, &self.known.manifests, self.known.irreversible)
        else {
            return denied(BROKEN, "what would happen cannot be put to the policy".to_owned());
        };
        let mut strongest: Option<(&'static str, Said)> = None;
        let layers = [("built-in", Some(&*self.built_in))].into_iter().chain(lower);
        for (index, (whose, layer)) in layers.enumerate() {
            let Some(layer) = layer else { continue };
            let said = match layer.ask(&question) {
                Ok(said) => said,
                Err(problem) => {
                    if layer.is_first(&problem) {
                        tracing::error!(layer = whose, %problem, "a policy broke on a question, so it denies that");
                    }
                    let reason = format!("the {whose} policy could not be evaluated: {problem}");
                    return Judged { layer: whose, ..denied(BROKEN, reason) };
                }
            };
            let counts = |said: &Said| index == 0 || said.call > Call::Allow;
            for said in said.into_iter().filter(counts) {
                if strongest.as_ref().is_none_or(|(_, known)| said.call > known.call) {
                    strongest = Some((whose, said));
                }
            }
            // Without an allow of the built-in layer nothing below can help, and nothing below is needed.
            if strongest.is_none() {
                return denied(SILENT, "no rule of the policy allows it".to_owned());
            }
        }
        match strongest {
            Some((layer, said)) => Judged { said, layer, policy },
            None => denied(SILENT, "no rule of the policy allows it".to_owned()),
        }
    }

    /// The digest of the built-in layer, of those below it and of what the operator says beside them.
    fn digest(&self, lower: [Option<&Layer>; 2]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.built_in.digest().as_bytes());
        for layer in lower {
            hasher.update(layer.map(Layer::digest).unwrap_or_default().as_bytes());
        }
        if self.known.irreversible != Call::Allow {
            hasher.update(self.known.irreversible.as_str().as_bytes());
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }
}
