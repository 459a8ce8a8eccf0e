//! What an agent's configuration may grant, and how a grant is spelled.
//!
//! A grant is a tool (`file.read`), a family of tools (`file.*`), answers (`reply`), messages before them (`tool:reply`), every model (`model` or `model:*`), one
//! model (`model:fast`), hosts that tools may reach (`net:api.example.com`, see [`NetworkGrant`]), or a secret that
//! requests may use (`secret:github`). The operator's word for a privileged tool (`privileged:exec`) is spelled in the
//! same way, and is never part of an agent's configuration.
//!
//! Invariant: no spelling covers everything; `*` alone is refused, because its author cannot list what it will cover
//! tomorrow; `net:*` is what is public. A grant for an unknown tool is refused too, with the nearest known name, so
//! that a typing error is found when the configuration is written and not in the middle of a run.

use std::fmt;

use dromia_contracts::egress::HttpMethod;
use dromia_contracts::tool::{REPLY, REPLY_GRANT};
use dromia_contracts::tool_policy::CLEARED;
use dromia_contracts::vault;

use crate::egress::host_pattern::NetworkGrant;
use crate::egress::target::RequestTarget;
use crate::permission::parse_row;
use crate::policy::PolicyVerdict;

/// The longest grant, in bytes.
pub const BYTES_MAX: usize = 128;
/// The most grants of one agent.
pub const COUNT_MAX: usize = 256;

/// One grant, as it will match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant<'a> {
    /// One tool: `file.read`.
    Tool(&'a str),
    /// Every tool whose name begins with the prefix and a dot: `file.*`.
    Family(&'a str),
    /// Every model: `model` or `model:*`.
    AnyModel,
    /// The model of one alias: `model:fast`.
    Model(&'a str),
    /// Answers to the agent's own sessions: `reply`.
    Reply,
    /// Hosts that tools may reach: `net:api.example.com`.
    Net(NetworkGrant<'a>),
    /// A secret of the tenant, to be used where it is for: `secret:github`.
    Secret(&'a str),
    /// The operator's word for a privileged tool: `privileged:exec`. No agent's configuration may hold it.
    Cleared(&'a str),
}

impl<'a> Grant<'a> {
    /// Reads one grant without asking whether its tool exists.
    pub fn parse(text: &'a str) -> Result<Self, GrantError> {
        let malformed = |problem| GrantError::Malformed { grant: shorten(text), problem };
        if text.len() > BYTES_MAX {
            return Err(malformed("it is longer than 128 bytes"));
        }
        match text {
            "" => return Err(malformed("it is empty")),
            "*" => return Err(GrantError::Everything),
            "reply" => return Ok(Self::Reply),
            // The bare name of that tool is the grant of answers.
            REPLY_GRANT => return Ok(Self::Tool(REPLY)),
            "model" | "model:*" => return Ok(Self::AnyModel),
            _ => {}
        }
        if let Some(alias) = text.strip_prefix("model:") {
            return if is_word(alias, b"-_.") {
                Ok(Self::Model(alias))
            } else {
                Err(malformed("an alias has letters, digits, -, _ and . only"))
            };
        }
        if let Some(name) = text.strip_prefix(vault::GRANT) {
            return if vault::is_name(name) {
                Ok(Self::Secret(name))
            } else {
                Err(malformed("after secret: comes the name of one secret"))
            };
        }
        if let Some(tool) = text.strip_prefix(CLEARED) {
            return if is_name(tool) {
                Ok(Self::Cleared(tool))
            } else {
                Err(malformed("after privileged: comes a tool"))
            };
        }
        if let Some(reach) = NetworkGrant::parse(text) {
            return reach.map(Self::Net).map_err(malformed);
        }
        if let Some(prefix) = text.strip_suffix(".*") {
            return if is_name(prefix) {
                Ok(Self::Family(prefix))
            } else {
                Err(malformed("a family is a name followed by .*"))
            };
        }
        if text.contains('*') {
            return Err(malformed("a star may only end a family such as file.*"));
        }
        if is_name(text) {
            Ok(Self::Tool(text))
        } else {
            Err(malformed("a tool's name has words of a-z, 0-9, - and _ with dots between them"))
        }
    }

    /// Tells whether the grant covers a tool.
    pub fn covers_tool(self, tool: &str) -> bool {
        match self {
            Self::Tool(name) => name == tool,
            Self::Family(prefix) => tool
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| !rest.is_empty()),
            Self::AnyModel
            | Self::Model(_)
            | Self::Reply
            | Self::Net(_)
            | Self::Secret(_)
            | Self::Cleared(_) => false,
        }
    }

    /// Tells whether the grant covers everything that another one covers, as far as their spelling shows it.
    pub fn covers_grant(self, other: Grant<'_>) -> bool {
        match (self, other) {
            (Self::Family(_), Grant::Tool(tool)) => self.covers_tool(tool),
            (Self::Family(outer), Grant::Family(inner)) => {
                inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            (Self::AnyModel, Grant::Model(_)) => true,
            (Self::Net(outer), Grant::Net(inner)) => outer.covers_reach(inner),
            (one, other) => one == other,
        }
    }

    /// Tells whether the grant covers a secret; only its own does.
    pub fn covers_secret(self, secret: &str) -> bool {
        match self {
            Self::Secret(name) => name == secret,
            Self::Tool(_)
            | Self::Family(_)
            | Self::AnyModel
            | Self::Model(_)
            | Self::Reply
            | Self::Net(_)
            | Self::Cleared(_) => false,
        }
    }

    /// Tells whether the grant covers a model.
    pub fn covers_model(self, model: &str) -> bool {
        match self {
            Self::AnyModel => true,
            Self::Model(alias) => alias == model,
            Self::Tool(_)
            | Self::Family(_)
            | Self::Reply
            | Self::Net(_)
            | Self::Secret(_)
            | Self::Cleared(_) => false,
        }
    }

    /// Tells whether the grant covers answers.
    pub fn covers_reply(self) -> bool {
        match self {
            Self::Reply => true,
            Self::Tool(_)
            | Self::Family(_)
            | Self::AnyModel
            | Self::Model(_)
            | Self::Net(_)
            | Self::Secret(_)
            | Self::Cleared(_) => false,
        }
    }
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(REPLY) => f.write_str(REPLY_GRANT),
            Self::Tool(name) => f.write_str(name),
            Self::Family(prefix) => write!(f, "{prefix}.*"),
            Self::AnyModel => f.write_str("model"),
            Self::Model(alias) => write!(f, "model:{alias}"),
            Self::Reply => f.write_str("reply"),
            Self::Net(reach) => write!(f, "{reach}"),
            Self::Secret(name) => write!(f, "{}{name}", vault::GRANT),
            Self::Cleared(tool) => write!(f, "{CLEARED}{tool}"),
        }
    }
}

/// Says why a list of grants is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It would cover everything, also what does not exist yet.
    #[error("the grant \"*\" would cover every future tool; name families such as file.*")]
    Everything,
    /// It is spelled like no grant.
    #[error("the grant {grant:?} cannot be read: {problem}")]
    Malformed {
        /// The grant, cut to 64 characters.
        grant: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No tool has this name, or no tool is of this family.
    #[error("the grant {grant:?} covers no tool{}", suggestion_hint(.nearest.as_deref()))]
    Unknown {
        /// The grant.
        grant: String,
        /// The known grant that looks most like it.
        nearest: Option<String>,
    },
    /// There are too many.
    #[error("there are {found} grants; an agent may have at most 256")]
    TooMany {
        /// How many there are.
        found: usize,
    },
}

/// Reads the grants of a configuration. `tools` are the names of every tool there is.
pub fn parse_grants<'a>(grants: &'a [String], tools: &[&str]) -> Result<Vec<Grant<'a>>, GrantError> {
    if grants.len() > COUNT_MAX {
        return Err(GrantError::TooMany { found: grants.len() });
    }
    grants.iter().map(|text| parse_known(text, tools)).collect()
}

/// Finds the grant that covers a request; one that names the host counts before one that does not.
pub(crate) fn find_covering_grant<'g>(
    grants: &'g [String],
    method: HttpMethod,
    target: &RequestTarget,
) -> Option<(&'g str, NetworkGrant<'g>)> {
    let covering = grants.iter().filter_map(|text| match Grant::parse(text) {
        Ok(Grant::Net(reach)) if reach.covers_request(method, target) => Some((text.as_str(), reach)),
        _ => None,
    });
    covering.min_by_key(|(_, reach)| reach.is_public_only())
}

/// Lists the rows that speak of a tool.
pub(crate) fn rows_for_tool<'g>(grants: &'g [String], tool: &str) -> Vec<(PolicyVerdict, &'g str)> {
    let speaks = |known: &str| Grant::parse(known).is_ok_and(|grant| grant.covers_tool(tool));
    grants.iter().filter_map(|text| parse_row(text)).filter(|(_, known)| speaks(known)).collect()
}

fn parse_known<'a>(text: &'a str, tools: &[&str]) -> Result<Grant<'a>, GrantError> {
    if parse_row(text).is_some() {
        let problem = "set this with permissions in dromia.yaml";
        return Err(GrantError::Malformed { grant: shorten(text), problem });
    }
    let grant = Grant::parse(text)?;
    match grant {
        Grant::Tool(_) | Grant::Family(_) if !tools.iter().any(|tool| grant.covers_tool(tool)) => {
            Err(GrantError::Unknown { grant: text.to_owned(), nearest: nearest_grant(text, tools) })
        }
        Grant::Tool(_)
        | Grant::Family(_)
        | Grant::AnyModel
        | Grant::Model(_)
        | Grant::Reply
        | Grant::Net(_)
        | Grant::Secret(_) => Ok(grant),
        Grant::Cleared(_) => Err(GrantError::Malformed {
            grant: shorten(text),
            problem: "set this with agents.HANDLE.tools.TOOL.privileged in dromia.yaml",
        }),
    }
}

/// Finds the known grant that looks most like `text`, if one is near enough to be meant.
fn nearest_grant(text: &str, tools: &[&str]) -> Option<String> {
    const ALIKE_MIN: f64 = 0.75;
    let families =
        tools.iter().filter_map(|tool| tool.rsplit_once('.')).map(|(family, _)| format!("{family}.*"));
    let others = ["model", "reply", REPLY_GRANT].map(str::to_owned);
    families
        .chain(tools.iter().map(|tool| (*tool).to_owned()))
        .chain(others)
        .map(|known| (strsim::jaro_winkler(text, &known), known))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn suggestion_hint(nearest: Option<&str>) -> String {
    nearest.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default()
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn is_name(text: &str) -> bool {
    let lower = |word: &str| is_word(word, b"-_") && !word.bytes().any(|b| b.is_ascii_uppercase());
    text.split('.').all(lower)
}

fn is_word(text: &str, also: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}
