//! Every mistake in the form of a text, where the reader of YAML stops at the first.
//!
//! What the first mistake is about is left out and the rest is read again, until a rest has a form. So that one key can
//! be left out of any style of YAML, the rest is rewritten, each key and item on a line of its own, and a mistake in it
//! is reported at the place that its key has in the file.
//!
//! A mistake that may follow from what was left out is not reported. What is wrong with the text as a text is reported
//! alone.

use std::path::Path;

use serde_saphyr::{DuplicateKeyPolicy, Error};

use super::edit::double_quote;
use super::file::WrittenConfig;
use super::form_error;
use super::positions::{self, KeyNode, NodeContent, TextPosition};
use super::problem::{ConfigProblem, FOUND_MAX};

/// Sections whose meaning is checked against what other sections say, with those.
const LEANS: [(&str, &[&str]); 8] = [
    ("listen", &["http"]),
    ("models", &["providers"]),
    ("irreversible", &["models"]),
    ("socket", &["roles"]),
    ("tools", &["sandbox", "egress"]),
    ("permissions", &["tools"]),
    ("agents", &["tools", "sandbox"]),
    ("approvals", &["tools", "irreversible"]),
];

/// A section whose keys are each checked by themselves.
const UNCONNECTED: &str = "limits";

/// A text that has not the form of a configuration.
pub(super) struct MalformedConfig {
    /// What is wrong with its form, in the order in which it was found.
    pub(super) problems: Vec<ConfigProblem>,
    /// What the text says without that, if it could be separated and the places of its keys are known.
    pub(super) rest: Option<WrittenConfig>,
    /// The paths of what the rest lacks.
    pub(super) left_out: Vec<String>,
}

/// Looks for all that is wrong with the form of a text, of which the first is known.
pub(super) fn find_form_problems(path: &Path, text: &str, first: ConfigProblem) -> MalformedConfig {
    let mut unfit = MalformedConfig { problems: Vec::new(), rest: None, left_out: Vec::new() };
    let nodes = positions::list_nodes(text).unwrap_or_default();
    let is_mapping = nodes.iter().all(|node| node.depth > 0 || node.key.is_some());
    let mut kept = NodeSelection { nodes: &nodes, is_kept: vec![true; nodes.len()] };
    if nodes.is_empty() || !is_mapping {
        unfit.problems.push(first);
        return unfit;
    }
    while unfit.left_out.len() < FOUND_MAX {
        let (written, lines) = kept.rewritten_text();
        let options = positions::parser_options(DuplicateKeyPolicy::Error);
        let failed = match serde_saphyr::from_str_with_options::<Option<WrittenConfig>>(&written, options) {
            Ok(rest) => {
                // A key that is written twice has no one place.
                let is_placed = !positions::key_positions(text).is_empty();
                unfit.rest = rest.filter(|_| is_placed);
                break;
            }
            Err(failed) => failed,
        };
        let error = failed.without_snippet();
        let Some((index, at)) = kept.locate_error(&lines, error) else { break };
        let problem = form_error::problem_at(path, Some(at), &nodes, error);
        // Where the rest is not read as the file is, the file's own word is the only one.
        if unfit.problems.is_empty() && problem != first {
            break;
        }
        let wrong = if let Error::SerdeMissingField { field, .. } = error {
            let group = kept.lacking_group(index, at);
            let lacks = nodes[group].path.child_path(field).path;
            let is_known = unfit.problems.iter().any(|known| known.message == problem.message);
            if !is_known && !unfit.left_out.contains(&lacks) {
                unfit.problems.push(problem);
            }
            group
        } else {
            unfit.problems.push(problem);
            index
        };
        unfit.left_out.push(nodes[wrong].path.path.clone());
        kept.leave_out(wrong);
    }
    if unfit.problems.is_empty() {
        unfit.problems.push(first);
    }
    unfit
}

/// Tells whether what is wrong with the meaning of the rest cannot follow from what was left out.
pub(super) fn stands_by_itself(problem: &ConfigProblem, left_out: &[String]) -> bool {
    let section = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
    let Some(own) = problem.key.as_deref().map(section) else { return true };
    let leans = LEANS.iter().find(|(name, _)| *name == own).map_or(&[][..], |(_, leans)| *leans);
    left_out.iter().all(|path| {
        let gone = section(path);
        if gone == own {
            return own == UNCONNECTED;
        }
        // At the top a whole section is gone, and under a name that is no section's it may have been any.
        let is_known = LEANS.iter().any(|(name, of)| *name == gone || of.contains(&gone.as_str()));
        !leans.contains(&gone.as_str()) && (leans.is_empty() || is_known || path.contains('.'))
    })
}

/// What of a text is read again.
struct NodeSelection<'text> {
    nodes: &'text [KeyNode],
    is_kept: Vec<bool>,
}

impl NodeSelection<'_> {
    /// Rewrites the kept nodes; of each line, counted from 1, the key or item on it is listed at its number less one.
    fn rewritten_text(&self) -> (String, Vec<Option<usize>>) {
        let (mut text, mut lines) = ("{\n".to_owned(), vec![None]);
        let mut open: Vec<(usize, &str)> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| self.is_kept[*index]) {
            while let Some((_, end)) = open.pop_if(|(depth, _)| *depth >= node.depth) {
                text.push_str(end);
                lines.push(None);
            }
            text.push(' ');
            if node.key.is_some() {
                text.extend([double_quote(node.key_name()).as_str(), ": "]);
            }
            match &node.found {
                NodeContent::Nothing => text.push_str("null,\n"),
                NodeContent::Text(value) => text.extend([double_quote(value).as_str(), ",\n"]),
                NodeContent::Plain(value) => text.extend([value.as_str(), ",\n"]),
                NodeContent::List => {
                    text.push_str("[\n");
                    open.push((node.depth, " ],\n"));
                }
                NodeContent::Mapping => {
                    text.push_str("{\n");
                    open.push((node.depth, " },\n"));
                }
            }
            lines.push(Some(index));
        }
        text.extend(open.into_iter().rev().map(|(_, end)| end));
        text.push_str("}\n");
        (text, lines)
    }

    /// Finds which key or item a mistake is about, and where in the file it is.
    fn locate_error(&self, lines: &[Option<usize>], error: &Error) -> Option<(usize, TextPosition)> {
        let at = error.location()?;
        let line = usize::try_from(at.line()).ok()?.checked_sub(1)?;
        let index = (*lines.get(line)?)?;
        let node = &self.nodes[index];
        // A key begins its line, behind one space.
        Some((index, node.key.filter(|_| at.column() == 2).unwrap_or(node.value)))
    }

    /// The group that lacks a key: the one that the key at the place belongs to, or the value there itself.
    fn lacking_group(&self, index: usize, at: TextPosition) -> usize {
        let node = &self.nodes[index];
        if node.key != Some(at) {
            return index;
        }
        let above = self.nodes[..index].iter().rposition(|above| above.depth < node.depth);
        above.unwrap_or(index)
    }

    /// Leaves a key or item out, with all that lies below it.
    fn leave_out(&mut self, index: usize) {
        let depth = self.nodes[index].depth;
        let below = self.nodes[index + 1..].iter().take_while(|node| node.depth > depth).count();
        self.is_kept[index..=index + below].fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EnvironmentVariables, parse_and_resolve};
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let problems =
            parse_and_resolve(Path::new("dromia.yaml"), text, &EnvironmentVariables::default(), &[]);
        problems.expect_err("it is wrong").0.iter().map(ToString::to_string).collect()
    }

    fn check(text: &str, says: &[&str]) {
        let told = told(text);
        assert_eq!(told.len(), says.len(), "{text}\n{told:#?}");
        for (told, says) in told.iter().zip(says) {
            assert!(told.starts_with(says), "{text}\n{told}\n{says}");
        }
    }

    #[test]
    fn form_mistakes_are_reported_in_file_order_in_any_style() {
        check(
            "engine:\n  active_max: many\n  colour: red\nlisten: nowhere\nmodels: { a: { kind: opnai, stream: 5 } }\negress:\n  private_tools: x\n  https_only: perhaps\n",
            &[
                "dromia.yaml:2:15: engine.active_max: must be a whole number",
                "dromia.yaml:3:3: there is no key `colour` in `engine`",
                "dromia.yaml:4:9: listen: must be an IP address",
                "dromia.yaml:5:22: models.a.kind: must be one of",
                "dromia.yaml:5:37: models.a.stream: must be true or false",
                "dromia.yaml:7:18: egress.private_tools: must be a list",
                "dromia.yaml:8:15: egress.https_only: must be true or false",
            ],
        );
    }

    #[test]
    fn range_mistakes_are_reported_beside_form_mistakes() {
        check(
            "limits:\n  drain_ms: 600001\n  requests_max: many\n  body_bytes_max: 0\n  body_ms: 1\nengine: { active_max: 0 }\n",
            &[
                "dromia.yaml:2:13: limits.drain_ms: must be from 0",
                "dromia.yaml:3:17: limits.requests_max: must be a whole number",
                "dromia.yaml:4:19: limits.body_bytes_max: must be from 1024",
                "dromia.yaml:5:12: limits.body_ms: must be from 10",
                "dromia.yaml:6:23: engine.active_max: must be at least 1",
            ],
        );
    }

    #[test]
    fn a_problem_that_may_follow_from_another_is_not_reported() {
        // The key that is left out is no missing one; neither is the model, the window or the encryption.
        check(
            "channels:\n  w: { kind: webhook, agent: No Handle, url: 'http://h/', secret: 'env:S' }\n",
            &["dromia.yaml:2:30: channels.w.agent: a handle has"],
        );
        check(
            "models:\n  a: { kind: opnai }\nirreversible: { second_opinion: { model: a, samples: 1 } }\n",
            &["dromia.yaml:2:14: models.a.kind"],
        );
        check(
            "modles:\n  a: { kind: scripted }\nirreversible: { second_opinion: { model: a, samples: 1 } }\n",
            &["dromia.yaml:1:1: there is no key `modles`"],
        );
        check(
            "approvals: { hold_ms: many, expire_ms: 60 }\n",
            &["dromia.yaml:1:23: approvals.hold_ms: must be a whole number"],
        );
        check("listen: 0.0.0.0:1\nhttp: { tls: 5 }\n", &["dromia.yaml:2:14: http.tls: must be keys"]);
    }

    #[test]
    fn a_missing_key_is_reported_beside_its_groups_other_mistakes() {
        check(
            "channels:\n  w: { kind: webhook, url: 'http://h/', secret: 'env:S', attempts_max: x }\nengine: []\n",
            &[
                "dromia.yaml:2:41: channels.w: needs `agent`",
                "dromia.yaml:2:72: channels.w.attempts_max: must be a whole number",
                "dromia.yaml:3:9: engine: must be keys",
            ],
        );
    }

    #[test]
    fn a_duplicate_key_is_reported_beside_other_mistakes() {
        check(
            "engine:\n  active_max: 1\n  active_max: 2\nlisten: nowhere\n",
            &["dromia.yaml:3:3: engine.active_max: appears twice", "dromia.yaml:4:9: listen"],
        );
    }

    #[test]
    fn invalid_yaml_is_reported_as_the_only_problem() {
        for text in ["listen: nowhere\nengine: [\n", "- listen\n", "a: 1\n---\nb: 1\n", "word\n"] {
            assert_eq!(told(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn the_search_for_mistakes_stops_at_its_limit() {
        let many = (0..300).fold(String::new(), |text, number| text + &format!("  colour{number}: red\n"));
        let problems = parse_and_resolve(
            Path::new("dromia.yaml"),
            &format!("engine:\n{many}"),
            &EnvironmentVariables::default(),
            &[],
        );
        let problems = problems.expect_err("it is wrong");
        assert_eq!(problems.0.len(), FOUND_MAX);
        assert!(problems.to_string().ends_with("\nand at least 80 more"), "{problems}");
    }
}
