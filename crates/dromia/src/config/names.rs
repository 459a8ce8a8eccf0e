//! Names in `dromia.yaml` that lead out of it: to tenants, agents and tokens of the store, to platforms of sessions, and to
//! actors.
//!
//! A name that nothing has guards nothing, and nobody notices: a tool that is kept from `asistant` is kept from nobody. It is
//! no mistake all the same, because what it names may be made later. So it is told with its place, as far as the file alone
//! says it by `config validate`, and by `doctor` and each start with what the store has; nothing is refused.
//!
//! Names of tools, models, providers and roles are not here: one that is not there is refused where it is read.

use std::collections::BTreeSet;

use dromia_api::TENANT_DEFAULT;
use dromia_api::event::PLATFORM_DEFAULT;
use dromia_contracts::agent::Handle;
use dromia_contracts::budget::Per;
use dromia_contracts::delivery::WEBHOOK;
use dromia_contracts::session::IMPORT;
use dromia_contracts::{approval, task};
use dromia_store::Names;

use super::origin::{Origin, Origins};
use super::problem::{Problem, did_you_mean};
use super::tools;
use super::written::{Written, WrittenBudget};

/// The platforms of sessions that this program opens itself, and those that its clients name.
const PLATFORMS: [&str; 8] =
    ["cli", PLATFORM_DEFAULT, "openai", "anthropic", WEBHOOK, task::PLATFORM, approval::PLATFORM, IMPORT];

/// What the name of an actor begins with.
const ACTORS: [&str; 4] = ["cli", "token", WEBHOOK, "agent"];

/// The key that the doctor looks at by itself.
pub(crate) const DEFAULT_AGENT: &str = "default_agent";

/// A name with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    at: String,
    pub(crate) key: String,
    what: What,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
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
struct Mentions<'file> {
    written: &'file Written,
    origins: &'file Origins,
    found: Vec<Mention>,
}

/// Lists the names of a configuration that lead out of it.
pub(super) fn mentioned(written: &Written, origins: &Origins) -> Vec<Mention> {
    let mut mentions = Mentions { written, origins, found: Vec::new() };
    mentions.all();
    mentions.found
}

impl Mentions<'_> {
    fn all(&mut self) {
        let written = self.written;
        let tenant_default = || TENANT_DEFAULT.to_owned();
        // Where nobody wrote it, nobody misspelt it.
        if self.origins.of(DEFAULT_AGENT) != Origin::Default {
            let agent = written.default_agent.to_string();
            self.add(DEFAULT_AGENT.to_owned(), What::Agent { tenant: tenant_default(), agent });
        }
        for (name, channel) in &written.channels {
            let here = format!("channels.{name}");
            let tenant = channel.tenant.as_ref().map_or_else(tenant_default, ToString::to_string);
            if channel.tenant.is_some() {
                self.add(format!("{here}.tenant"), What::Tenant(tenant.clone()));
            }
            self.add(format!("{here}.agent"), What::Agent { tenant, agent: channel.agent.to_string() });
        }
        for (name, tenant) in &written.tenants {
            self.add(format!("tenants.{name}"), What::Tenant(name.clone()));
            for (index, budget) in tenant.budgets.iter().enumerate() {
                self.budget(format!("tenants.{name}.budgets.{index}"), name, budget);
            }
        }
        for (index, user) in written.socket.users.iter().enumerate() {
            if let Some(tenant) = &user.tenant {
                self.add(format!("socket.users.{index}"), What::Tenant(tenant.to_string()));
            }
        }
        for (index, name) in written.approvals.approvers.iter().enumerate() {
            self.actor(format!("approvals.approvers.{index}"), None, name);
        }
        for (index, platform) in written.approvals.unattended.iter().enumerate() {
            self.add(format!("approvals.unattended.{index}"), What::Platform(platform.clone()));
        }
        for name in written.agents.keys() {
            // A name that is no handle is refused where it is read.
            if let Some((tenant, agent)) = tools::named(name) {
                let what = What::Agent { tenant: tenant.to_string(), agent: agent.to_string() };
                self.add(format!("agents.{name}"), what);
            }
        }
    }

    fn add(&mut self, key: String, what: What) {
        self.found.push(Mention { at: self.origins.at(&key), key, what });
    }

    fn budget(&mut self, key: String, tenant: &str, budget: &WrittenBudget) {
        let Some(of) = &budget.of else { return };
        match budget.per {
            // An id is copied and not typed.
            Per::Agent if of.parse::<Handle>().is_ok() => {
                self.add(key, What::Agent { tenant: tenant.to_owned(), agent: of.clone() });
            }
            Per::Actor => self.actor(key, Some(tenant), of),
            Per::Agent | Per::Tenant | Per::Session | Per::Run => {}
        }
    }

    /// Notes an actor: whoever speaks for somebody else stands as `token:ci/ada`.
    fn actor(&mut self, key: String, tenant: Option<&str>, name: &str) {
        let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
        let of = rest.split('/').next().unwrap_or_default();
        let what = match kind {
            "token" if !of.is_empty() => {
                What::Token { tenant: tenant.map(str::to_owned), token: of.to_owned() }
            }
            "cli" if of.parse::<u32>().is_ok() => return,
            "cli" => What::Nothing(format!(
                "nobody is called `{name}`: behind `cli:` stands the number of a user, such as cli:1000"
            )),
            WEBHOOK if self.written.channels.contains_key(of) => return,
            WEBHOOK => {
                let near = did_you_mean(of, self.written.channels.keys().map(String::as_str));
                What::Nothing(format!("nobody is called `{name}`: there is no channel `{of}`{near}"))
            }
            "agent" => return,
            _ => {
                let near = did_you_mean(kind, ACTORS);
                What::Nothing(format!(
                    "nobody is called `{name}`: actors are cli:UID, token:NAME, webhook:CHANNEL/NAME and agent:ID{near}"
                ))
            }
        };
        self.add(key, what);
    }
}

/// The platforms that the store must be asked for.
pub(crate) fn platforms(mentions: &[Mention]) -> Vec<String> {
    let named = mentions.iter().filter_map(|mention| match &mention.what {
        What::Platform(name) if !PLATFORMS.contains(&name.as_str()) => Some(name.clone()),
        What::Platform(_) | What::Tenant(_) | What::Agent { .. } | What::Token { .. } | What::Nothing(_) => {
            None
        }
    });
    named.collect()
}

/// Says which names nothing has: of a store, or without one as far as the file alone tells.
pub(crate) fn unmatched(mentions: &[Mention], store: Option<&Names>) -> Vec<Problem> {
    let mut absent = BTreeSet::new();
    let told = mentions.iter().filter_map(|mention| {
        let Mention { at, key, what } = mention;
        let problem = match (what, store) {
            (What::Nothing(why), _) => why.clone(),
            (What::Platform(name), _) => platform(name, store)?,
            (_, None) => return None,
            (What::Tenant(tenant), Some(store)) => no_tenant(tenant, store, &mut absent)?,
            (What::Agent { tenant, agent }, Some(store)) => match store.tenants.get(tenant) {
                None => no_tenant(tenant, store, &mut absent)?,
                Some(known) if known.agents.contains(agent) => return None,
                Some(known) => {
                    let near = did_you_mean(agent, known.agents.iter().map(String::as_str));
                    format!("no agent of the tenant {tenant} is called `{agent}`{near}")
                }
            },
            (What::Token { tenant, token }, Some(store)) => no_token(tenant.as_deref(), token, store)?,
        };
        Some(Problem::new(at.clone(), format!("{key}: {problem}")))
    });
    told.collect()
}

fn platform(name: &str, store: Option<&Names>) -> Option<String> {
    if PLATFORMS.contains(&name) || store.is_some_and(|store| store.platforms.contains(name)) {
        return None;
    }
    let near = did_you_mean(name, PLATFORMS);
    let known = PLATFORMS.join(", ");
    Some(format!(
        "no session is on a platform `{name}` unless a client names it so; this program knows {known}{near}"
    ))
}

/// Tells of a tenant once.
fn no_tenant(tenant: &str, store: &Names, absent: &mut BTreeSet<String>) -> Option<String> {
    if store.tenants.contains_key(tenant) || !absent.insert(tenant.to_owned()) {
        return None;
    }
    let near = did_you_mean(tenant, store.tenants.keys().map(String::as_str));
    Some(format!("there is no tenant `{tenant}`{near}"))
}

fn no_token(tenant: Option<&str>, token: &str, store: &Names) -> Option<String> {
    let of = store.tenants.iter().filter(|(handle, _)| tenant.is_none_or(|tenant| tenant == *handle));
    let known: BTreeSet<&str> = of.flat_map(|(_, names)| &names.tokens).map(String::as_str).collect();
    if known.contains(token) {
        return None;
    }
    let near = did_you_mean(token, known);
    Some(format!("no token that counts is called `{token}`{near}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use dromia_store::TenantNames;

    use super::super::{Environment, read};
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
  approvers: [bob, 'token:opps', 'cli:ada', 'cli:1000', 'token:ci']
  unattended: [webhook, slak, weebhook]
agents:
  asistant: { permissions: { deny: [file.write] } }
  acme/ops: { permissions: { deny: [file.write] } }
  ghosts/ops: { permissions: { deny: [file.write] } }
  ghosts/dev: { permissions: { deny: [file.write] } }
";

    fn told(text: &str, store: Option<&Names>) -> Vec<String> {
        let path = Path::new("dromia.yaml");
        let loaded = read(path, text, &Environment::default(), &[]).expect("is read");
        let found = unmatched(&mentioned(&loaded.written, &loaded.origins), store);
        found.iter().map(ToString::to_string).collect()
    }

    fn store() -> Names {
        let names = |agents: &[&str], tokens: &[&str]| TenantNames {
            agents: agents.iter().map(|name| (*name).to_owned()).collect(),
            tokens: tokens.iter().map(|name| (*name).to_owned()).collect(),
        };
        let tenants = [("default", names(&["assistant"], &["ops"])), ("acme", names(&["ops"], &["ci"]))];
        let tenants: BTreeMap<_, _> = tenants.map(|(handle, names)| (handle.to_owned(), names)).into();
        Names { tenants, platforms: BTreeSet::from(["slak".to_owned()]) }
    }

    #[test]
    fn what_the_file_alone_tells_needs_no_store() {
        let told = told(FILE, None);
        let keys: Vec<_> = told.iter().filter_map(|text| text.split(": ").nth(1)).collect();
        assert_eq!(
            keys,
            [
                "tenants.acme.budgets.2",
                "approvals.approvers.0",
                "approvals.approvers.2",
                "approvals.unattended.1",
                "approvals.unattended.2",
            ],
            "{told:#?}"
        );
        assert!(told[0].ends_with("there is no channel `order`; did you mean `orders`?"), "{told:#?}");
        assert!(
            told[1].starts_with("dromia.yaml:11:15: approvals.approvers.0: nobody is called `bob`"),
            "{told:#?}"
        );
        assert!(told[4].ends_with("; did you mean `webhook`?"), "{told:#?}");
    }

    #[test]
    fn what_the_store_lacks_is_told_with_its_place_and_the_name_that_was_meant() {
        let told = told(FILE, Some(&store()));
        for says in [
            "dromia.yaml:1:16: default_agent: no agent of the tenant default is called `asistant`; did you mean `assistant`?",
            "channels.orders.tenant: there is no tenant `acm`; did you mean `acme`?",
            "tenants.acme.budgets.0: no agent of the tenant acme is called `op`; did you mean `ops`?",
            "tenants.acme.budgets.1: no token that counts is called `cii`; did you mean `ci`?",
            "approvals.approvers.1: no token that counts is called `opps`; did you mean `ops`?",
            "dromia.yaml:14:3: agents.asistant: no agent of the tenant default is called `asistant`",
            "agents.ghosts/dev: there is no tenant `ghosts`",
        ] {
            assert!(told.iter().any(|text| text.contains(says)), "{says}: {told:#?}");
        }
        // A tenant is told of once, a platform that sessions are on and an actor that may be not at all.
        for silent in
            ["ghosts/ops", "channels.orders.agent", "`slak`", "acme/ops", "approvers.3", "approvers.4"]
        {
            assert!(!told.iter().any(|text| text.contains(silent)), "{silent}: {told:#?}");
        }
    }

    #[test]
    fn a_file_of_names_that_are_there_is_told_nothing() {
        for text in [
            "",
            "default_agent: assistant",
            "agents: { assistant: { permissions: { deny: [exec] } }, acme/ops: { permissions: { deny: [exec] } } }",
            "approvals: { approvers: ['token:ops', 'cli:0'], unattended: [webhook, http, cli] }",
            "tenants: { acme: { trust: hostile } }",
        ] {
            assert_eq!(told(text, Some(&store())), Vec::<String>::new(), "{text}");
        }
    }
}
