//! `dromia agent set` and its like: what to change of an agent, as it is typed.
//!
//! A key is checked here, before anything is sent; what a value may be is the server's to say.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use dromia_api::{AgentField, HandleSlug};

use super::PageArguments;
use crate::nearest_word::nearest_word;

/// What to set of an agent.
#[derive(Debug, Clone, Args)]
pub struct SetAgent {
    /// The agent's handle or id
    pub name: String,
    /// What to set: KEY=VALUE; for grants and labels also KEY+=VALUE and KEY-=VALUE
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub settings: Vec<AgentSetting>,
}

/// One thing to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSetting {
    /// The field.
    pub field: AgentField,
    /// How the value counts.
    pub mode: SettingMode,
    /// The value, or `@` and the name of a file that has it.
    pub value: String,
}

/// How a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingMode {
    /// It is the whole value from now on.
    Replace,
    /// It joins what is there.
    Add,
    /// It goes from what is there.
    Remove,
}

impl FromStr for AgentSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("expected KEY=VALUE, such as model=fast; found {text:?}"));
        };
        let (key, mode) = match (key.strip_suffix('+'), key.strip_suffix('-')) {
            (Some(key), _) => (key, SettingMode::Add),
            (None, Some(key)) => (key, SettingMode::Remove),
            (None, None) => (key, SettingMode::Replace),
        };
        let field = parse_field(key)?;
        if mode != SettingMode::Replace && !matches!(field, AgentField::Grants | AgentField::Labels) {
            return Err(format!("{key} is one value: write {key}=VALUE"));
        }
        Ok(Self { field, mode, value: value.to_owned() })
    }
}

/// Reads the name of a field, and says which one may be meant.
pub(crate) fn parse_field(name: &str) -> Result<AgentField, String> {
    let known = AgentField::ALL.into_iter().find(|field| field.as_str() == name);
    known.ok_or_else(|| format!("there is no key {name:?}{}", suggest_field(name, &[])))
}

/// Says which field, or other key, may be meant by a name; otherwise which there are.
pub(crate) fn suggest_field(name: &str, others: &[&'static str]) -> String {
    let keys = || others.iter().copied().chain(AgentField::ALL.into_iter().map(AgentField::as_str));
    match nearest_word(name, keys()) {
        Some(key) => format!("; did you mean {key:?}?"),
        None => format!("; the keys are {}", keys().collect::<Vec<_>>().join(", ")),
    }
}

/// An agent and which of its revisions to show.
#[derive(Debug, Clone, Args)]
pub struct AgentHistory {
    /// The agent's handle or id
    pub name: String,
    /// Which page
    #[command(flatten)]
    pub page: PageArguments,
}

/// An agent and the revisions to compare.
#[derive(Debug, Clone, Args)]
pub struct DiffAgent {
    /// The agent's handle or id
    pub name: String,
    /// Compare this revision; without it, the one before the current one
    #[arg(value_name = "REV")]
    pub from: Option<u64>,
    /// With this one; without it, the current one
    #[arg(value_name = "REV")]
    pub to: Option<u64>,
}

/// An agent and the revision to take again.
#[derive(Debug, Clone, Args)]
pub struct RevertAgent {
    /// The agent's handle or id
    pub name: String,
    /// The number of the revision
    #[arg(value_name = "REV")]
    pub revision: u64,
}

/// An agent and its new handle.
#[derive(Debug, Clone, Args)]
pub struct RenameAgent {
    /// The agent's handle or id
    pub name: String,
    /// The new handle
    #[arg(value_name = "NEW")]
    pub handle: HandleSlug,
}

/// A file of agents.
#[derive(Debug, Clone, Args)]
pub struct ApplyAgents {
    /// Read the agents from this YAML file; `-` is stdin
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: PathBuf,
    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Erase agents that the file does not name
    #[arg(long)]
    pub prune: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_and_a_misspelt_key_suggested() {
        let read = |text: &str| text.parse::<AgentSetting>();
        let setting = read("grants+=exec").expect("a setting");
        assert_eq!(
            (setting.field, setting.mode, setting.value.as_str()),
            (AgentField::Grants, SettingMode::Add, "exec")
        );
        assert_eq!(read("instructions=a=b").expect("a setting").value, "a=b");
        for (text, told) in [
            ("model", "expected KEY=VALUE"),
            ("modle=fast", "did you mean \"model\"?"),
            ("instruction=x", "did you mean \"instructions\"?"),
            ("colour=red", "the keys are model, instructions"),
            ("model+=fast", "write model=VALUE"),
            ("=x", "the keys are"),
        ] {
            let error = read(text).expect_err("it is refused");
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
