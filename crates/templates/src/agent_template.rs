//! Templates of agents: the system text and the rights of agents for one kind of work, with variables that a person sets.
//!
//! A template is rendered once, and its result is an ordinary configuration. A value is put in as it is; it is never read as a
//! template itself.

use std::collections::BTreeMap;

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::mind::AgentMind;
use minijinja::{Environment, UndefinedBehavior};

/// The most bytes of a variable's value.
pub const VALUE_BYTES_MAX: usize = 200;

/// What rendering may compute. The built-in templates need less than a hundredth.
const FUEL: u64 = 100_000;

/// The label of an agent that says which template it was made from.
const LABEL: &str = "template";

/// What a person may set in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateVariable {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Its value where it is not set; it may be empty.
    pub default: &'static str,
}

/// An agent to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentTemplate {
    /// Its name, spelled like a handle.
    pub name: &'static str,
    /// What its agents are for, in a line.
    pub summary: &'static str,
    /// The system text, with `{{ variables }}`.
    pub instructions: &'static str,
    /// What its agents may do.
    pub grants: &'static [&'static str],
    /// How its agents divide their work.
    pub mind: AgentMind,
    /// What may be set.
    pub variables: &'static [TemplateVariable],
    /// Something to ask such an agent first.
    pub sample: &'static str,
    /// What to look at while such an agent works: a command, with `NAME` for the agent.
    pub watch: &'static str,
}

const TONE: TemplateVariable = TemplateVariable {
    name: "tone",
    about: "how it speaks, such as friendly, dry or formal",
    default: "friendly and brief",
};

const LANGUAGE: TemplateVariable = TemplateVariable {
    name: "language",
    about: "the language it answers in",
    default: "the language of the person who writes to you",
};

/// Every template, by name.
pub const TEMPLATES: [AgentTemplate; 3] = [
    AgentTemplate {
        name: "base",
        summary: "an assistant with files of its own",
        instructions: include_str!("agents/base.md"),
        grants: &["model", "reply", "time.now", "file.*", "message.send"],
        mind: AgentMind::Solo,
        variables: &[LANGUAGE, TONE],
        sample: "Write a shopping list for pancakes into shopping.md.",
        watch: "dromia agent status NAME",
    },
    AgentTemplate {
        name: "code",
        summary: "changes code in its workspace and checks that it works",
        instructions: include_str!("agents/code.md"),
        grants: &["model", "reply", "time.now", "file.*", "shell.execute", "exec"],
        mind: AgentMind::Branching,
        variables: &[
            TemplateVariable {
                name: "check",
                about: "the command that shows that the code works, such as make test",
                default: "",
            },
            LANGUAGE,
            TONE,
        ],
        sample: "Say what this project does, and which of its tests fail.",
        watch: "dromia worker list",
    },
    AgentTemplate {
        name: "research",
        summary: "finds facts on the web and writes them down with their sources",
        instructions: include_str!("agents/research.md"),
        grants: &["model", "reply", "time.now", "file.*", "http.request", "net.read:*"],
        mind: AgentMind::Branching,
        variables: &[
            LANGUAGE,
            TemplateVariable {
                name: "sources",
                about: "how many independent sources a fact needs",
                default: "2",
            },
            TONE,
        ],
        sample: "What changed in HTTP between RFC 7231 and RFC 9110? Write it into http.md.",
        watch: "dromia worker list",
    },
];

/// A template with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedAgent {
    /// The configuration; its model is still to be named.
    pub config: AgentConfig,
    /// The labels of the agent.
    pub labels: BTreeMap<String, String>,
}

/// Why a template was not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template has no such variable.
    #[error("the template {template} has no variable `{name}`; it has {known}")]
    UnknownVariable {
        /// The template.
        template: &'static str,
        /// The variable.
        name: String,
        /// What there is, in words.
        known: String,
    },
    /// A value is too long, or has control characters.
    #[error("`{name}` must be a line of at most {VALUE_BYTES_MAX} bytes")]
    Value {
        /// The variable.
        name: String,
    },
    /// The template itself is wrong.
    #[error("the template {template} cannot be rendered: {problem}")]
    Broken {
        /// The template.
        template: &'static str,
        /// Why.
        problem: String,
    },
}

/// Finds a template by its name.
pub fn find_template(name: &str) -> Option<&'static AgentTemplate> {
    TEMPLATES.iter().find(|template| template.name == name)
}

impl AgentTemplate {
    /// Renders the template with values of its variables; those that are not set have their defaults.
    pub fn render_agent(&self, values: &BTreeMap<String, String>) -> Result<RenderedAgent, TemplateError> {
        for (name, value) in values {
            if !self.variables.iter().any(|variable| variable.name == name) {
                return Err(self.refuse_variable(name));
            }
            if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
                return Err(TemplateError::Value { name: name.clone() });
            }
        }
        let value_of = |variable: &TemplateVariable| {
            let set = values.get(variable.name).map(String::as_str);
            (variable.name, set.unwrap_or(variable.default).to_owned())
        };
        let context: BTreeMap<_, _> = self.variables.iter().map(value_of).collect();
        let broken = |error: minijinja::Error| TemplateError::Broken {
            template: self.name,
            problem: error.to_string(),
        };
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let text = environment.render_str(self.instructions, context).map_err(broken)?;
        let config = AgentConfig {
            description: self.summary.to_owned(),
            instructions: text,
            grants: self.grants.iter().map(|&grant| grant.to_owned()).collect(),
            mind: Some(self.mind).filter(|mind| !mind.is_solo()),
            ..AgentConfig::default()
        };
        Ok(RenderedAgent { config, labels: BTreeMap::from([(LABEL.to_owned(), self.name.to_owned())]) })
    }

    fn refuse_variable(&self, name: &str) -> TemplateError {
        let names: Vec<_> = self.variables.iter().map(|variable| variable.name).collect();
        TemplateError::UnknownVariable {
            template: self.name,
            name: name.chars().take(80).collect(),
            known: names.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::agent::HandleSlug;
    use dromia_contracts::identity_document::check_document_text;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn instructions_of(name: &str, pairs: &[(&str, &str)]) -> String {
        let template = find_template(name).expect("a template");
        template.render_agent(&values(pairs)).expect("rendered").config.instructions
    }

    #[test]
    fn every_template_renders_with_its_defaults_and_uses_each_variable() {
        assert!(TEMPLATES.is_sorted_by_key(|template| template.name));
        for template in TEMPLATES {
            assert!(template.name.parse::<HandleSlug>().is_ok(), "{}", template.name);
            assert!(template.variables.is_sorted_by_key(|variable| variable.name), "{}", template.name);
            let plain = template.render_agent(&BTreeMap::new()).expect("rendered");
            assert_eq!(check_document_text(&plain.config.instructions), Ok(()));
            assert!(!plain.config.instructions.contains("{{"), "{}", plain.config.instructions);
            assert_eq!(plain.labels, values(&[("template", template.name)]));
            for variable in template.variables {
                let text = instructions_of(template.name, &[(variable.name, "zebra-7")]);
                assert!(text.contains("zebra-7"), "{}: {text}", variable.name);
            }
        }
    }

    #[test]
    fn a_value_is_put_in_as_it_is_and_never_rendered() {
        let text = instructions_of("base", &[("tone", "{{ language }} {% for x in [1] %}")]);
        assert!(text.contains("{{ language }} {% for x in [1] %}"), "{text}");
    }

    #[test]
    fn an_unset_part_leaves_no_gap() {
        assert!(!instructions_of("code", &[]).contains("\n\n\n"));
        assert!(instructions_of("code", &[("check", "make test")]).contains("`make test`"));
    }

    #[test]
    fn unknown_variables_and_values_that_are_no_line_are_refused() {
        let template = find_template("research").expect("a template");
        let refused = |name: &str, value: &str| {
            template.render_agent(&values(&[(name, value)])).expect_err("a refusal").to_string()
        };
        assert_eq!(
            refused("tune", "dry"),
            "the template research has no variable `tune`; it has language, sources, tone"
        );
        let long = "a".repeat(VALUE_BYTES_MAX + 1);
        for value in [long.as_str(), "a\nb", "\u{1b}[0m"] {
            assert_eq!(refused("tone", value), "`tone` must be a line of at most 200 bytes");
        }
        assert_eq!(find_template("trader"), None);
    }

    #[test]
    fn a_template_that_computes_without_end_is_stopped() {
        let endless = AgentTemplate {
            instructions: "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            ..TEMPLATES[0]
        };
        let refused = endless.render_agent(&BTreeMap::new());
        assert!(matches!(refused, Err(TemplateError::Broken { .. })), "{refused:?}");
    }
}
