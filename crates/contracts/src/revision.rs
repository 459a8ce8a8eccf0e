//! Revisions of an agent: what a change may say, what it changed, and what is kept of it.
//!
//! A change is data here; it refuses nothing but what has no meaning, such as an agent without a model. What a tenant has
//! (models, tools, other handles) is for the engine and the store to compare.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::agent::AgentConfig;
use crate::busy_policy::BusyPolicy;
use crate::digest::Digest;
use crate::identity_document::DocumentName;
use crate::mind::AgentMind;
use crate::scope::Actor;
use crate::workspace::WorkspaceReference;

/// How many revisions of an agent are kept at least, the newest ones. Older ones stay while a run began with them.
pub const REVISIONS_KEPT: u64 = 1_000;

/// The most revisions that one change removes, so that a commit stays small.
pub const REVISIONS_REMOVED_MAX: u64 = 8;

/// The longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1_024;

/// A field of an agent that a change may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentField {
    /// The alias of its model.
    Model,
    /// The system text.
    Instructions,
    /// What it may do.
    Grants,
    /// The most model calls of one run.
    ModelCallsMax,
    /// What it is for.
    Description,
    /// The directory that it works in.
    Workspace,
    /// What a message does while a turn runs.
    WhenBusy,
    /// How it divides its work.
    Mind,
    /// The documents that it was given.
    Identity,
    /// The name that people see.
    DisplayName,
    /// Free labels.
    Labels,
}

impl AgentField {
    /// Every field, in the order in which changes list them.
    pub const ALL: [Self; 11] = [
        Self::Model,
        Self::Instructions,
        Self::Grants,
        Self::ModelCallsMax,
        Self::Description,
        Self::Workspace,
        Self::WhenBusy,
        Self::Mind,
        Self::Identity,
        Self::DisplayName,
        Self::Labels,
    ];

    /// Returns the field as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Instructions => "instructions",
            Self::Grants => "grants",
            Self::ModelCallsMax => "model_calls_max",
            Self::Description => "description",
            Self::Workspace => "workspace",
            Self::WhenBusy => "when_busy",
            Self::Mind => "mind",
            Self::Identity => "identity",
            Self::DisplayName => "display_name",
            Self::Labels => "labels",
        }
    }

    /// Lists the fields in which two configurations differ.
    pub fn list_changed(before: &AgentConfig, after: &AgentConfig) -> Vec<Self> {
        let differs = |field: &Self| match field {
            Self::Model => before.model != after.model,
            Self::Instructions => before.instructions != after.instructions,
            Self::Grants => before.grants != after.grants,
            Self::ModelCallsMax => before.model_calls_max != after.model_calls_max,
            Self::Description => before.description != after.description,
            Self::Workspace => before.workspace != after.workspace,
            Self::WhenBusy => before.when_busy != after.when_busy,
            Self::Mind => before.mind != after.mind,
            Self::Identity => before.identity != after.identity,
            Self::DisplayName | Self::Labels => false,
        };
        Self::ALL.into_iter().filter(differs).collect()
    }
}

/// Lists what one list of grants has and another one has not.
pub fn grants_beyond(grants: &[String], others: &[String]) -> Vec<String> {
    grants.iter().filter(|grant| !others.contains(grant)).cloned().collect()
}

/// What is kept of a revision beside its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRecord {
    /// Its number; the first one of an agent is 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it; the server itself where absent.
    pub by: Option<Actor>,
    /// BLAKE3 of the configuration as JSON. A revision that went back to an earlier one has the digest of that one.
    pub digest: Digest,
    /// The fields that it changed; none for the first one.
    pub changed: Vec<AgentField>,
}

/// The key under which a client may repeat a change, and the digest of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionKey {
    /// The client's text.
    pub key: String,
    /// The digest of the request.
    pub request: Digest,
}

/// A change of an agent that a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentChange {
    /// The number of the revision that the caller saw, if only that one may be changed.
    pub expected: Option<u64>,
    /// The caller's idempotency key.
    pub key: Option<RevisionKey>,
    /// What to change.
    pub edit: AgentEdit,
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEdit {
    /// Sets what the patch names.
    Merge(Box<AgentPatch>),
    /// Writes a document, or removes it where there is no text.
    Document {
        /// Which one.
        name: DocumentName,
        /// What it says from now on.
        text: Option<String>,
    },
    /// Takes the configuration of an earlier revision.
    Revert(u64),
}

/// A merge patch of an agent (RFC 7396): what it does not name stays, and `null` takes a value away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentPatch {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_value")]
    pub display_name: Option<String>,
    /// Labels to set; one that is null is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// What of the configuration to set.
    #[serde(default)]
    pub config: ConfigPatch,
}

/// A merge patch of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigPatch {
    /// The alias of its model.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_value")]
    pub model: Option<String>,
    /// The system text; null empties it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub instructions: Option<Option<String>>,
    /// What it may do, as the whole list; null takes everything away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub grants: Option<Option<Vec<String>>>,
    /// The most model calls of one run; null is the instance's default.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub model_calls_max: Option<Option<u32>>,
    /// What it is for; null empties it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub description: Option<Option<String>>,
    /// The directory that it works in; null is the workspace of its home.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub workspace: Option<Option<WorkspaceReference>>,
    /// What a message does while a turn of its session runs, where it does not say; null is `follow_up`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub when_busy: Option<Option<BusyPolicy>>,
    /// How it divides its work; null is `solo`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_nullable")]
    pub mind: Option<Option<AgentMind>>,
}

impl ConfigPatch {
    /// Returns the configuration that the patch makes of another one.
    pub fn apply_to(&self, before: &AgentConfig) -> AgentConfig {
        let patch = self.clone();
        AgentConfig {
            model: patch.model.unwrap_or_else(|| before.model.clone()),
            instructions: patch
                .instructions
                .map_or_else(|| before.instructions.clone(), Option::unwrap_or_default),
            grants: patch.grants.map_or_else(|| before.grants.clone(), Option::unwrap_or_default),
            model_calls_max: patch.model_calls_max.unwrap_or(before.model_calls_max),
            description: patch
                .description
                .map_or_else(|| before.description.clone(), Option::unwrap_or_default),
            workspace: patch.workspace.unwrap_or_else(|| before.workspace.clone()),
            when_busy: patch.when_busy.unwrap_or(before.when_busy),
            mind: patch.mind.unwrap_or(before.mind),
            identity: before.identity.clone(),
        }
    }
}

impl AgentPatch {
    /// Returns the labels that the patch makes of others.
    pub fn merge_labels(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = before.clone();
        for (name, value) in &self.labels {
            match value {
                Some(value) => labels.insert(name.clone(), value.clone()),
                None => labels.remove(name),
            };
        }
        labels
    }
}

/// Reads a value that may be absent and may not be null.
fn read_value<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads a value that may be absent, or null, which is something else.
#[expect(clippy::option_option, reason = "a merge patch has three cases: absent, null and a value")]
fn read_nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_sets_what_it_names_and_null_takes_away() {
        let before = AgentConfig {
            model: "a".to_owned(),
            instructions: "Be kind.".to_owned(),
            grants: vec!["model".to_owned()],
            model_calls_max: Some(3),
            description: "helps".to_owned(),
            workspace: "/srv/work:ro".parse().ok(),
            when_busy: Some(BusyPolicy::Steer),
            mind: Some(AgentMind::Branching),
            ..AgentConfig::default()
        };
        let read = |text: &str| serde_json::from_str::<AgentPatch>(text).expect("a patch");
        assert_eq!(read("{}").config.apply_to(&before), before);
        let after = read(r#"{"config":{"model":"b","instructions":null,"model_calls_max":null}}"#);
        let after = after.config.apply_to(&before);
        assert_eq!((after.model.as_str(), after.instructions.as_str()), ("b", ""));
        assert_eq!((after.model_calls_max, after.description.as_str()), (None, "helps"));
        assert_eq!(after.workspace, before.workspace);
        let own = read(r#"{"config":{"workspace":null}}"#).config.apply_to(&before);
        assert_eq!(AgentField::list_changed(&before, &own), [AgentField::Workspace]);
        let plain = read(r#"{"config":{"when_busy":null}}"#).config.apply_to(&before);
        assert_eq!(AgentField::list_changed(&before, &plain), [AgentField::WhenBusy]);
        let alone = read(r#"{"config":{"mind":"solo"}}"#).config.apply_to(&before);
        assert_eq!(AgentField::list_changed(&before, &alone), [AgentField::Mind]);
        let changed = AgentField::list_changed(&before, &after);
        assert_eq!(changed, [AgentField::Model, AgentField::Instructions, AgentField::ModelCallsMax]);
        for bad in [r#"{"config":{"model":null}}"#, r#"{"model":"b"}"#, r#"{"config":{"grants":"exec"}}"#] {
            assert!(serde_json::from_str::<AgentPatch>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_null_label_is_removed_and_others_stay() {
        let patch: AgentPatch =
            serde_json::from_str(r#"{"labels":{"team":"b","old":null,"new":"x"}}"#).expect("a patch");
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let merged = patch.merge_labels(&map(&[("team", "a"), ("old", "1"), ("kept", "2")]));
        assert_eq!(merged, map(&[("kept", "2"), ("new", "x"), ("team", "b")]));
    }

    #[test]
    fn only_grants_that_the_others_lack_are_beyond() {
        let grants = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(grants_beyond(&grants(&["a", "b", "c"]), &grants(&["b", "d"])), grants(&["a", "c"]));
    }
}
