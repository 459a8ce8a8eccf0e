//! Names in `dromia.yaml` that lead out of it: to tenants, agents and tokens of the store, to platforms of sessions, and to
//! actors.
//!
//! A name that matches nothing guards nothing, without any error: a tool that is kept from `asistant` is kept from no
//! agent. It is no mistake all the same, because what it names may be made later. So it is reported with its place, as
//! far as the file alone says it by `config validate`, and by `doctor` and each start with what the store has; nothing
//! is refused.
//!
//! Names of tools, models, providers and roles are not here: one that is not there is refused where it is read.

use std::collections::BTreeSet;

use dromia_api::TENANT_DEFAULT;
use dromia_api::event::PLATFORM_DEFAULT;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::budget::BudgetScope;
use dromia_contracts::channel::{FILE, WEBHOOK, is_channel_platform};
use dromia_contracts::session::IMPORT;
use dromia_contracts::{approval, compaction, task};
use dromia_store::NameInventory;

use super::file::external::WrittenExternal;
use super::file::{WrittenBudget, WrittenConfig};
use super::origin::{ValueOrigin, ValueOrigins};
use super::problem::{ConfigProblem, did_you_mean};
use super::tools;

/// The platforms of sessions that this program opens itself, and those that its clients name.
const PLATFORMS: [&str; 11] = [
    "cli",
    PLATFORM_DEFAULT,
    "openai",
    "anthropic",
    WEBHOOK,
    FILE,
    task::PLATFORM,
    task::BRANCH_PLATFORM,
    approval::PLATFORM,
    compaction::PLATFORM,
    IMPORT,
];

/// What the name of an actor begins with.
const ACTORS: [&str; 5] = ["cli", "token", WEBHOOK, FILE, "agent"];

/// The key that the doctor looks at by itself.
pub(crate) const DEFAULT_AGENT: &str = "default_agent";

/// A name with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameMention {
    at: String,
    pub(crate) key: String,
    what: MentionTarget,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MentionTarget {
    /// A tenant.
    Tenant(String),
    /// An agent of a tenant.
    Agent { tenant: String, agent: String },
    /// A token of a tenant, or of any.
    Token { tenant: Option<String>, token: String },
    /// The platform of sessions.
    Platform(String),
    /// To nothing, whatever the store has; this is why.
    Nothing(String),
}

/// Gathers names.
struct MentionCollector<'file> {
    written: &'file WrittenConfig,
    origins: &'file ValueOrigins,
    found: Vec<NameMention>,
}

/// Lists the names of a configuration that lead out of it.
pub(super) fn collect_mentions(written: &WrittenConfig, origins: &ValueOrigins) -> Vec<NameMention> {
    let mut mentions = MentionCollector { written, origins, found: Vec::new() };
    mentions.collect_all();
    mentions.found
}

impl MentionCollector<'_> {
    fn collect_all(&mut self) {
        let written = self.written;
        let tenant_default = || TENANT_DEFAULT.to_owned();
        // A default that is not written cannot be misspelt.
        if self.origins.origin_of(DEFAULT_AGENT) != ValueOrigin::Default {
            let agent = written.default_agent.to_string();
            self.add_mention(
                DEFAULT_AGENT.to_owned(),
                MentionTarget::Agent { tenant: tenant_default(), agent },
            );
        }
        for (name, channel) in &written.channels {
            let here = format!("channels.{name}");
            let tenant = channel.tenant.as_ref().map_or_else(tenant_default, ToString::to_string);
            if channel.tenant.is_some() {
                self.add_mention(format!("{here}.tenant"), MentionTarget::Tenant(tenant.clone()));
            }
            self.add_mention(
                format!("{here}.agent"),
                MentionTarget::Agent { tenant, agent: channel.agent.to_string() },
            );
        }
        for (name, tenant) in &written.tenants {
            self.add_mention(format!("tenants.{name}"), MentionTarget::Tenant(name.clone()));
            for (index, budget) in tenant.budgets.iter().enumerate() {
                self.add_budget(format!("tenants.{name}.budgets.{index}"), name, budget);
            }
        }
        for (index, user) in written.socket.users.iter().enumerate() {
            if let Some(tenant) = &user.tenant {
                self.add_mention(format!("socket.users.{index}"), MentionTarget::Tenant(tenant.to_string()));
            }
        }
        for (index, name) in written.approvals.approvers.iter().enumerate() {
            // A token is named by its id, which is copied and not typed.
            if !name.starts_with("token:") {
                self.add_actor(format!("approvals.approvers.{index}"), None, name);
            }
        }
        for (index, platform) in written.approvals.unattended.iter().enumerate() {
            self.add_mention(
                format!("approvals.unattended.{index}"),
                MentionTarget::Platform(platform.clone()),
            );
        }
        for name in written.agents.keys() {
            // A name that is no handle is refused where it is read.
            if let Some((tenant, agent)) = tools::parse_agent_key(name) {
                let what = MentionTarget::Agent { tenant: tenant.to_string(), agent: agent.to_string() };
                self.add_mention(format!("agents.{name}"), what);
            }
        }
        for (name, tool) in &written.tools.external {
            self.add_audience(&format!("tools.external.{name}"), tool);
        }
    }

    fn add_audience(&mut self, here: &str, tool: &WrittenExternal) {
        for (index, tenant) in tool.tenants.iter().flatten().enumerate() {
            self.add_mention(format!("{here}.tenants.{index}"), MentionTarget::Tenant(tenant.clone()));
        }
        for (index, name) in tool.agents.iter().flatten().enumerate() {
            if let Some((tenant, agent)) = tools::parse_agent_key(name) {
                let what = MentionTarget::Agent { tenant: tenant.to_string(), agent: agent.to_string() };
                self.add_mention(format!("{here}.agents.{index}"), what);
            }
        }
    }

    fn add_mention(&mut self, key: String, what: MentionTarget) {
        self.found.push(NameMention { at: self.origins.location_text(&key), key, what });
    }

    fn add_budget(&mut self, key: String, tenant: &str, budget: &WrittenBudget) {
        let Some(of) = &budget.of else { return };
        match budget.per {
            // An id is copied and not typed.
            BudgetScope::Agent if of.parse::<HandleSlug>().is_ok() => {
                self.add_mention(key, MentionTarget::Agent { tenant: tenant.to_owned(), agent: of.clone() });
            }
            BudgetScope::Actor => self.add_actor(key, Some(tenant), of),
            BudgetScope::Agent | BudgetScope::Tenant | BudgetScope::Session | BudgetScope::Run => {}
        }
    }

    /// Notes an actor: one that a token speaks for is written as `token:ci/ada`.
    fn add_actor(&mut self, key: String, tenant: Option<&str>, name: &str) {
        let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
        let of = rest.split('/').next().unwrap_or_default();
        let what = match kind {
            "token" if !of.is_empty() => {
                MentionTarget::Token { tenant: tenant.map(str::to_owned), token: of.to_owned() }
            }
            "cli" if of.parse::<u32>().is_ok() => return,
            "cli" => MentionTarget::Nothing(format!(
                "there is no actor `{name}`: `cli:` needs the number of a user after it, such as cli:1000"
            )),
            kind if is_channel_platform(kind) && self.written.channels.contains_key(of) => return,
            kind if is_channel_platform(kind) => {
                let near = did_you_mean(of, self.written.channels.keys().map(String::as_str));
                MentionTarget::Nothing(format!(
                    "there is no actor `{name}`: there is no channel `{of}`{near}"
                ))
            }
            "agent" => return,
            _ => {
                let near = did_you_mean(kind, ACTORS);
                MentionTarget::Nothing(format!(
                    "there is no actor `{name}`: actors are cli:UID, token:NAME, webhook:CHANNEL/NAME, \
                     file:CHANNEL/NAME and agent:ID{near}"
                ))
            }
        };
        self.add_mention(key, what);
    }
}

/// The platforms that the store must be asked for.
pub(crate) fn mentioned_platforms(mentions: &[NameMention]) -> Vec<String> {
    let named = mentions.iter().filter_map(|mention| match &mention.what {
        MentionTarget::Platform(name) if !PLATFORMS.contains(&name.as_str()) => Some(name.clone()),
        MentionTarget::Platform(_)
        | MentionTarget::Tenant(_)
        | MentionTarget::Agent { .. }
        | MentionTarget::Token { .. }
        | MentionTarget::Nothing(_) => None,
    });
    named.collect()
}

/// Says which names nothing has: of a store, or without one as far as the file alone tells.
pub(crate) fn unmatched_names(mentions: &[NameMention], store: Option<&NameInventory>) -> Vec<ConfigProblem> {
    let mut absent = BTreeSet::new();
    let told = mentions.iter().filter_map(|mention| {
        let NameMention { at, key, what } = mention;
        let problem = match (what, store) {
            (MentionTarget::Nothing(why), _) => why.clone(),
            (MentionTarget::Platform(name), _) => platform_problem(name, store)?,
            (_, None) => return None,
            (MentionTarget::Tenant(tenant), Some(store)) => no_tenant(tenant, store, &mut absent)?,
            (MentionTarget::Agent { tenant, agent }, Some(store)) => match store.tenants.get(tenant) {
                None => no_tenant(tenant, store, &mut absent)?,
                Some(known) if known.agents.contains(agent) => return None,
                Some(known) => {
                    let near = did_you_mean(agent, known.agents.iter().map(String::as_str));
                    format!("the tenant {tenant} has no agent `{agent}`{near}")
                }
            },
            (MentionTarget::Token { tenant, token }, Some(store)) => {
                no_token(tenant.as_deref(), token, store)?
            }
        };
        Some(ConfigProblem::new(at.clone(), format!("{key}: {problem}")))
    });
    told.collect()
}

fn platform_problem(name: &str, store: Option<&NameInventory>) -> Option<String> {
    if PLATFORMS.contains(&name) || store.is_some_and(|store| store.platforms.contains(name)) {
        return None;
    }
    let near = did_you_mean(name, PLATFORMS);
    let known = PLATFORMS.join(", ");
    Some(format!(
        "no session has the platform `{name}` unless a client uses that name; the built-in platforms are \
         {known}{near}"
    ))
}

/// Reports a tenant once.
fn no_tenant(tenant: &str, store: &NameInventory, absent: &mut BTreeSet<String>) -> Option<String> {
    if store.tenants.contains_key(tenant) || !absent.insert(tenant.to_owned()) {
        return None;
    }
    let near = did_you_mean(tenant, store.tenants.keys().map(String::as_str));
    Some(format!("there is no tenant `{tenant}`{near}"))
}

fn no_token(tenant: Option<&str>, token: &str, store: &NameInventory) -> Option<String> {
    let of = store.tenants.iter().filter(|(handle, _)| tenant.is_none_or(|tenant| tenant == *handle));
    let known: BTreeSet<&str> = of.flat_map(|(_, names)| &names.tokens).map(String::as_str).collect();
    if known.contains(token) {
        return None;
    }
    let near = did_you_mean(token, known);
    Some(format!("there is no active token `{token}`{near}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use dromia_store::TenantNames;

    use super::super::{EnvironmentVariables, parse_layered};
    use super::*;

    const FILE: &str = "default_agent: asistant
channels:
  orders: { kind: webhook, agent: opss, tenant: acm, url: 'https://shop.example/hook', secret: 'env:ORDERS' }
tenants:
  acme:
    budgets:
      - { name: a, per: agent, of: op, measure: calls, period: day, limit: \"5\" }
      - { name: b, per: actor, of: 'token:cii/ada', measure: calls, period: day, limit: \"5\" }
      - { name: c, per: actor, of: 'webhook:order/ada', measure: calls, period: day, limit: \"5\" }
approvals:
  approvers: [bob, 'webhook:opps', 'cli:ada', 'cli:1000']
  unattended: [webhook, slak, weebhook]
agents:
  asistant: { permissions: { deny: [file.write] } }
  acme/ops: { permissions: { deny: [file.write] } }
  ghosts/ops: { permissions: { deny: [file.write] } }
  ghosts/dev: { permissions: { deny: [file.write] } }
tools:
  external:
    bank.pay: { description: Pays., url: 'https://h/pay', tenants: [acme, akme], agents: [acme/opz, asistent] }
";

    fn told(text: &str, store: Option<&NameInventory>) -> Vec<String> {
        let path = Path::new("dromia.yaml");
        let loaded = parse_layered(path, text, &EnvironmentVariables::default(), &[]).expect("is read");
        let found = unmatched_names(&collect_mentions(&loaded.written, &loaded.origins), store);
        found.iter().map(ToString::to_string).collect()
    }

    fn store() -> NameInventory {
        let names = |agents: &[&str], tokens: &[&str]| TenantNames {
            agents: agents.iter().map(|name| (*name).to_owned()).collect(),
            tokens: tokens.iter().map(|name| (*name).to_owned()).collect(),
        };
        let tenants = [("default", names(&["assistant"], &["ops"])), ("acme", names(&["ops"], &["ci"]))];
        let tenants: BTreeMap<_, _> = tenants.map(|(handle, names)| (handle.to_owned(), names)).into();
        NameInventory { tenants, platforms: BTreeSet::from(["slak".to_owned()]) }
    }

    #[test]
    fn references_within_the_file_are_checked_without_a_store() {
        let told = told(FILE, None);
        let keys: Vec<_> = told.iter().filter_map(|text| text.split(": ").nth(1)).collect();
        assert_eq!(
            keys,
            [
                "tenants.acme.budgets.2",
                "approvals.approvers.0",
                "approvals.approvers.1",
                "approvals.approvers.2",
                "approvals.unattended.1",
                "approvals.unattended.2",
            ],
            "{told:#?}"
        );
        assert!(told[0].ends_with("there is no channel `order`; did you mean `orders`?"), "{told:#?}");
        assert!(
            told[1].starts_with("dromia.yaml:11:15: approvals.approvers.0: there is no actor `bob`"),
            "{told:#?}"
        );
        assert!(told[5].ends_with("; did you mean `webhook`?"), "{told:#?}");
    }

    #[test]
    fn an_unknown_name_is_reported_with_place_and_suggestion() {
        let told = told(FILE, Some(&store()));
        for says in [
            "dromia.yaml:1:16: default_agent: the tenant default has no agent `asistant`; did you mean `assistant`?",
            "channels.orders.tenant: there is no tenant `acm`; did you mean `acme`?",
            "tenants.acme.budgets.0: the tenant acme has no agent `op`; did you mean `ops`?",
            "tenants.acme.budgets.1: there is no active token `cii`; did you mean `ci`?",
            "approvals.approvers.1: there is no actor `webhook:opps`: there is no channel `opps`",
            "dromia.yaml:14:3: agents.asistant: the tenant default has no agent `asistant`",
            "agents.ghosts/dev: there is no tenant `ghosts`",
            "tools.external.bank.pay.tenants.1: there is no tenant `akme`; did you mean `acme`?",
            "tools.external.bank.pay.agents.0: the tenant acme has no agent `opz`; did you mean `ops`?",
            "tools.external.bank.pay.agents.1: the tenant default has no agent `asistent`",
        ] {
            assert!(told.iter().any(|text| text.contains(says)), "{says}: {told:#?}");
        }
        // A tenant is told of once, a platform that sessions are on and an actor that may be not at all.
        for silent in ["ghosts/ops", "channels.orders.agent", "`slak`", "acme/ops", "approvers.3"] {
            assert!(!told.iter().any(|text| text.contains(silent)), "{silent}: {told:#?}");
        }
    }

    #[test]
    fn a_file_with_only_known_names_reports_no_problem() {
        for text in [
            "",
            "default_agent: assistant",
            "agents: { assistant: { permissions: { deny: [exec] } }, acme/ops: { permissions: { deny: [exec] } } }",
            "approvals: { approvers: ['cli:0'], unattended: [webhook, http, cli] }",
            "tenants: { acme: { trust: hostile } }",
        ] {
            assert_eq!(told(text, Some(&store())), Vec::<String>::new(), "{text}");
        }
    }
}
