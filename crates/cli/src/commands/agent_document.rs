//! An agent as YAML: written so that a person can edit it, read with the key and the place of what is wrong, and compared
//! line by line.
//!
//! Nothing is sent from here. What is written here is read here: a text that no plain form keeps is quoted.

use dromia_api::agent::{AgentResource, CreateAgent};
use dromia_api::{AgentConfig, AgentField, AgentMind, AgentPatch, BusyPolicy, ConfigPatch};
use serde_json::{Map, Value};

use crate::args::agent_change::suggest_field;
use crate::output::write_scalar;

/// The most bytes of a file of agents.
pub(super) const FILE_BYTES_MAX: usize = 8 << 20;

/// The most agents of a file.
pub(super) const AGENTS_MAX: usize = 1_000;

/// The most pairs of lines that a comparison looks at; of longer texts everything counts as changed.
const LINE_PAIRS_MAX: usize = 4_000_000;

/// Keys of a document beside the fields of an agent.
const NAMES: [&str; 1] = ["name"];

/// An agent as a file says it; what it does not say stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AgentDocument {
    /// The handle.
    pub(super) name: Option<String>,
    /// What the file says.
    pub(super) patch: AgentPatch,
}

impl AgentDocument {
    /// Writes down an agent.
    pub(super) fn of_agent(agent: &AgentResource) -> Self {
        let mut document = agent.config.as_ref().map(Self::of_config).unwrap_or_default();
        document.name = Some(agent.handle.to_string());
        document.patch.display_name = Some(agent.display_name.clone());
        document.patch.labels =
            agent.labels.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        document
    }

    /// Writes down a configuration.
    pub(super) fn of_config(config: &AgentConfig) -> Self {
        let config = ConfigPatch {
            model: Some(config.model.clone()),
            instructions: Some(Some(config.instructions.clone())),
            grants: Some(Some(config.grants.clone())),
            model_calls_max: config.model_calls_max.map(Some),
            description: Some(Some(config.description.clone()).filter(|text| !text.is_empty()))
                .filter(Option::is_some),
            workspace: config.workspace.clone().map(Some),
            when_busy: config.when_busy.map(Some),
            mind: config.mind.map(Some),
        };
        Self { name: None, patch: AgentPatch { config, ..AgentPatch::default() } }
    }

    /// Makes the request that registers the agent.
    pub(super) fn to_create(&self) -> Result<CreateAgent, String> {
        let name = self.name.as_deref().unwrap_or_default();
        let handle = name.parse().map_err(|error| format!("name: {error}"))?;
        let patch = &self.patch;
        let model = patch.config.model.clone().unwrap_or_else(|| "default".to_owned());
        let grants = patch.config.grants.clone().flatten();
        let config = AgentConfig {
            model,
            instructions: patch.config.instructions.clone().flatten().unwrap_or_default(),
            // As `agent create` has it.
            grants: grants.unwrap_or_else(|| vec!["model".to_owned(), "reply".to_owned()]),
            model_calls_max: patch.config.model_calls_max.flatten(),
            description: patch.config.description.clone().flatten().unwrap_or_default(),
            workspace: patch.config.workspace.clone().flatten(),
            when_busy: patch.config.when_busy.flatten(),
            mind: patch.config.mind.flatten(),
            ..AgentConfig::default()
        };
        let labels = patch.labels.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        Ok(CreateAgent { handle, display_name: patch.display_name.clone(), labels: labels.collect(), config })
    }

    /// Returns the agent as it would be with what the document says.
    pub(super) fn applied_to(&self, agent: &AgentResource) -> AgentResource {
        AgentResource {
            display_name: self.patch.display_name.clone().unwrap_or_else(|| agent.display_name.clone()),
            labels: self.patch.merge_labels(&agent.labels),
            config: agent.config.as_ref().map(|config| self.patch.config.apply_to(config)),
            ..agent.clone()
        }
    }

    /// Takes away what a whole document does not say, so that a deleted line counts.
    pub(super) fn into_whole(mut self, before: &AgentResource) -> Self {
        let config = &mut self.patch.config;
        config.instructions.get_or_insert(None);
        config.grants.get_or_insert(None);
        config.model_calls_max.get_or_insert(None);
        config.description.get_or_insert(None);
        config.workspace.get_or_insert(None);
        config.when_busy.get_or_insert(None);
        config.mind.get_or_insert(None);
        for name in before.labels.keys() {
            self.patch.labels.entry(name.clone()).or_insert(None);
        }
        self
    }

    /// Writes it as YAML.
    pub(super) fn to_yaml(&self) -> String {
        let mut text = String::new();
        let (patch, config) = (&self.patch, &self.patch.config);
        let mut line = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                text.extend([key, ":", &yaml_scalar(value), "\n"]);
            }
        };
        line("name", self.name.as_deref());
        line("display_name", patch.display_name.as_deref());
        line("description", config.description.as_ref().and_then(Option::as_deref));
        line("model", config.model.as_deref());
        let workspace = config.workspace.as_ref().and_then(Option::as_ref).map(ToString::to_string);
        line("workspace", workspace.as_deref());
        line("when_busy", config.when_busy.flatten().map(BusyPolicy::as_str));
        line("mind", config.mind.flatten().map(AgentMind::as_str));
        if let Some(Some(most)) = config.model_calls_max {
            text.extend(["model_calls_max: ", &most.to_string(), "\n"]);
        }
        if let Some(Some(grants)) = &config.grants {
            text.push_str(if grants.is_empty() { "grants: []\n" } else { "grants:\n" });
            for grant in grants {
                text.push_str("  - ");
                write_scalar(&mut text, grant);
                text.push('\n');
            }
        }
        if !patch.labels.is_empty() {
            text.push_str("labels:\n");
            for (name, value) in &patch.labels {
                let value = value.as_deref().unwrap_or_default();
                text.push_str("  ");
                write_scalar(&mut text, name);
                text.push_str(": ");
                write_scalar(&mut text, value);
                text.push('\n');
            }
        }
        if let Some(Some(instructions)) = &config.instructions {
            text.extend(["instructions:", &yaml_scalar(instructions), "\n"]);
        }
        text
    }
}

/// Reads the agents of a YAML text: one, a list, a mapping with a list under `agents`, or several documents of these.
pub(super) fn parse_documents(text: &str) -> Result<Vec<AgentDocument>, String> {
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {FILE_BYTES_MAX} are read", text.len()));
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut agents = Vec::new();
    for value in documents {
        let listed = match value {
            Value::Null => Vec::new(),
            Value::Array(list) => list,
            Value::Object(mut map) if map.len() == 1 && map.contains_key("agents") => {
                match map.remove("agents") {
                    Some(Value::Array(list)) => list,
                    Some(Value::Null) | None => Vec::new(),
                    Some(_) => return Err("agents: expected a list of agents".to_owned()),
                }
            }
            other => vec![other],
        };
        for value in listed {
            let place = format!("agent {}", agents.len() + 1);
            agents.push(parse_document(value).map_err(|problem| format!("{place}: {problem}"))?);
            if agents.len() > AGENTS_MAX {
                return Err(format!("it has more than {AGENTS_MAX} agents"));
            }
        }
    }
    Ok(agents)
}

/// Why documents are no part of a file of agents.
pub(super) const DOCUMENTS_ALONE: &str =
    "documents are written one by one; use `dromia agent identity edit AGENT DOCUMENT`";

fn parse_document(value: Value) -> Result<AgentDocument, String> {
    let Value::Object(mut map) = value else {
        return Err("expected keys with values, such as `name: ops`".to_owned());
    };
    let is_known =
        |key: &str| NAMES.contains(&key) || AgentField::ALL.iter().any(|field| field.as_str() == key);
    if let Some(key) = map.keys().find(|key| !is_known(key)) {
        return Err(format!("there is no key {key:?}{}", suggest_field(key, &NAMES)));
    }
    if map.contains_key(AgentField::Identity.as_str()) {
        return Err(format!("identity: {DOCUMENTS_ALONE}"));
    }
    let name = match map.remove("name") {
        None => None,
        Some(Value::String(name)) => {
            let handle: Result<dromia_api::HandleSlug, _> = name.parse();
            handle.map_err(|error| format!("name: {error}"))?;
            Some(name)
        }
        Some(other) => return Err(format!("name: expected a text, found {}", kind_of(&other))),
    };
    let mut whole = Map::new();
    for key in ["display_name", "labels"] {
        if let Some(value) = map.remove(key) {
            whole.insert(key.to_owned(), if value.is_null() { Value::Object(Map::new()) } else { value });
        }
    }
    for (key, value) in &map {
        check_kind(key, value)?;
    }
    whole.insert("config".to_owned(), Value::Object(map));
    let named = name.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    let patch = serde_json::from_value(Value::Object(whole)).map_err(|error| format!("{named}{error}"))?;
    Ok(AgentDocument { name, patch })
}

/// Refuses a value of another kind than its key has, by the key.
fn check_kind(key: &str, value: &Value) -> Result<(), String> {
    let (expected, fits) = match key {
        "grants" => (
            "a list of texts",
            value.is_null() || value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        ),
        "model_calls_max" => ("a whole number", value.is_null() || value.is_u64()),
        "model" => ("a text", value.is_string()),
        _ => ("a text", value.is_null() || value.is_string()),
    };
    if fits { Ok(()) } else { Err(format!("{key}: expected {expected}, found {}", kind_of(value))) }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false; put a text in quotes",
        Value::Number(_) => "a number; put a text in quotes",
        Value::String(_) => "a text",
        Value::Array(_) => "a list of something else",
        Value::Object(_) => "keys with values",
    }
}

/// Writes a text after a key: as it is, as a block of lines, or in quotes.
fn yaml_scalar(text: &str) -> String {
    let is_shown =
        |c: char| c == '\n' || !(c.is_control() || dromia_api::is_hidden_char(c) || c == '\u{feff}');
    let fits_a_block = text.contains('\n')
        && text.chars().all(is_shown)
        && !text.starts_with([' ', '\n', '\t'])
        && !text.lines().any(|line| line.ends_with(' ') || line.trim().is_empty() && !line.is_empty());
    let (sign, body) = match text.strip_suffix('\n') {
        None => ("|-", text),
        Some(body) => ("|", body),
    };
    if !fits_a_block || sign == "|" && body.ends_with('\n') {
        let mut quoted = " ".to_owned();
        write_scalar(&mut quoted, text);
        return quoted;
    }
    let lines =
        body.split('\n').map(|line| if line.is_empty() { "\n".to_owned() } else { format!("\n  {line}") });
    format!(" {sign}{}", lines.collect::<String>())
}

/// Compares two texts line by line. Returns the lines of which one has more, each after `-` or `+`, with those around them;
/// nothing where they are equal.
pub(super) fn line_diff(before: &str, after: &str) -> Vec<String> {
    if before == after {
        return Vec::new();
    }
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let mut lines = Vec::new();
    if old.len().saturating_mul(new.len()) > LINE_PAIRS_MAX {
        lines.extend(old.iter().map(|line| format!("-{line}")));
        lines.extend(new.iter().map(|line| format!("+{line}")));
        return lines;
    }
    // The length of the longest common rest from each pair of places on.
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for (i, from) in old.iter().enumerate().rev() {
        for (j, to) in new.iter().enumerate().rev() {
            common[i * width + j] = if from == to {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!(" {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]
        {
            lines.push(format!("-{}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    keep_near_changes(lines)
}

/// Leaves out equal lines that are more than two away from a change.
fn keep_near_changes(lines: Vec<String>) -> Vec<String> {
    let changes: Vec<usize> = (0..lines.len()).filter(|place| !lines[*place].starts_with(' ')).collect();
    let is_near = |place: usize| {
        let next = changes.partition_point(|change| *change < place);
        let near = |change: Option<&usize>| change.is_some_and(|change| change.abs_diff(place) <= 2);
        near(changes.get(next)) || near(next.checked_sub(1).and_then(|before| changes.get(before)))
    };
    let (mut kept, mut left_out) = (Vec::new(), false);
    for (place, line) in lines.into_iter().enumerate() {
        if is_near(place) {
            kept.push(line);
        } else if !left_out {
            kept.push(" …".to_owned());
        }
        left_out = !is_near(place);
    }
    kept
}

#[cfg(test)]
mod tests;
