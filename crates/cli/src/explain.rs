//! `explain`: what an error code means, whether the same request may be sent again, and what to do; and what a rule means that
//! the program has by itself.
//!
//! The texts are in `pages`; status, exit code and recourse are read from where they are decided, so a page cannot
//! contradict the program. `docs/errors.md` is made from the same table. No server is asked.

mod pages;
mod rules;

use dromia_api::problem::http_status;
use dromia_api::{ErrorCode, ListPage, Recourse};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::GlobalOptions;
use crate::context::CommandContext;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::nearest_word::nearest_word;
use crate::output::{CommandOutput, draw_pairs};

use self::pages::page_for_code;
use self::rules::{RULES, RulePage};

/// What is said about a code, or about a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct CodeExplanation {
    /// The code, or the name of the rule.
    code: &'static str,
    /// `error`, or `rule` where it names why something may not happen.
    kind: &'static str,
    /// What it means.
    meaning: &'static str,
    /// `yes`: nothing happened and the same request may succeed later; `no`: it fails again; `look`: it may have
    /// happened, so look, or repeat it with the same idempotency key.
    retry: &'static str,
    /// What to do.
    todo: &'static str,
    /// The HTTP status under which it travels; a rule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    /// The exit code of a command that meets it; a rule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<u8>,
    /// The exit code of a command whose run ended with it, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_exit: Option<u8>,
}

impl CodeExplanation {
    fn for_code(code: ErrorCode) -> Self {
        let page = page_for_code(code);
        Self {
            code: code.as_str(),
            kind: "error",
            meaning: page.meaning,
            retry: match code.recourse() {
                Recourse::Retry => "yes",
                Recourse::Change => "no",
                Recourse::Look => "look",
            },
            todo: page.todo,
            http_status: Some(http_status(code)),
            exit: Some(CommandExit::from(code).exit_code()),
            run_exit: CommandExit::of_run(code).map(CommandExit::exit_code),
        }
    }

    /// What a rule refused is refused again.
    fn of_rule(rule: &RulePage) -> Self {
        let (meaning, todo) = (rule.page.meaning, rule.page.todo);
        Self {
            code: rule.name,
            kind: "rule",
            meaning,
            retry: "no",
            todo,
            http_status: None,
            exit: None,
            run_exit: None,
        }
    }

    fn transport_text(&self) -> Option<String> {
        let of_run = self.run_exit.map(|exit| format!("; {exit} where it ends a run")).unwrap_or_default();
        Some(format!("HTTP {}, exit code {}{of_run}", self.http_status?, self.exit?))
    }

    fn retry_text(&self) -> &'static str {
        match self.retry {
            "yes" => "yes: nothing happened, and the same request may succeed later",
            "no" => "no: nothing happened, and the same request fails again",
            _ => {
                "look first: the request may have taken effect; repeat it only with the same idempotency key"
            }
        }
    }
}

/// Explains a code or a rule, or lists them all.
pub fn run_explain(code: Option<&str>, global: &GlobalOptions, context: &mut CommandContext) -> CommandExit {
    let mut output = CommandOutput::of_local(context, global);
    match print_explanation(code, &mut output) {
        Ok(()) => CommandExit::Done,
        Err(error) => {
            output.print_error(&error);
            error.command_exit()
        }
    }
}

fn print_explanation(code: Option<&str>, output: &mut CommandOutput<'_>) -> Outcome {
    output.check_format()?;
    let items = if let Some(typed) = code {
        vec![find_explanation(typed)?]
    } else {
        let codes = ErrorCode::ALL.iter().map(|code| CodeExplanation::for_code(*code));
        codes.chain(RULES.iter().map(CodeExplanation::of_rule)).collect()
    };
    if output.is_json() {
        return output.print_document(&ListPage { items, next: None });
    }
    if let (Some(_), Some(one)) = (code, items.first()) {
        return output.print_line(&explanation_text(one));
    }
    let rows = items.iter().map(|one| [one.code, one.retry, one.meaning].map(str::to_owned).to_vec());
    output.print_table(&["code", "retry", "meaning"], rows.collect())
}

/// Finds a code as it is typed: case and hyphens do not matter. What is no code may be a rule.
fn find_explanation(typed: &str) -> Outcome<CodeExplanation> {
    let name = typed.trim().to_ascii_lowercase().replace('-', "_");
    if let Some(code) = ErrorCode::ALL.iter().find(|code| code.as_str() == name) {
        return Ok(CodeExplanation::for_code(*code));
    }
    if let Some(rule) = rules::find_rule(typed) {
        return Ok(CodeExplanation::of_rule(rule));
    }
    let rules = RULES.iter().map(|rule| rule.name);
    let near_rule = nearest_word(&typed.trim().to_ascii_lowercase(), rules);
    let nearest = nearest_word(&name, ErrorCode::ALL.iter().map(|code| code.as_str())).or(near_rule);
    let hint = nearest.map_or_else(
        || "run `dromia explain` to list them".to_owned(),
        |nearest| format!("did you mean `{nearest}`? `dromia explain` lists all of them"),
    );
    Err(Error::Usage(format!("{typed:?} is neither an error code nor a rule; {hint}")))
}

fn explanation_text(one: &CodeExplanation) -> String {
    let Some(status) = one.transport_text() else {
        let (meaning, todo) = (one.meaning.to_owned(), one.todo.to_owned());
        return draw_pairs(&[("rule", one.code.to_owned()), ("means", meaning), ("do", todo)]);
    };
    draw_pairs(&[
        ("code", one.code.to_owned()),
        ("means", one.meaning.to_owned()),
        ("retry", one.retry_text().to_owned()),
        ("do", one.todo.to_owned()),
        ("status", status),
    ])
}

/// Writes all codes as the page `docs/errors.md`.
pub fn errors_page() -> String {
    let mut page = "# Error codes\n\n\
        Every failure carries one of these codes, in a journal, over HTTP and on the command line. This page is made\n\
        from the program (`make docs`); `dromia explain CODE` prints the same.\n"
        .to_owned();
    for one in ErrorCode::ALL.iter().map(|code| CodeExplanation::for_code(*code)) {
        page.extend([
            format!("\n## `{}`\n\n{}.\n\n", one.code, capitalize_first(one.meaning)),
            format!("- Retry: {}.\n", one.retry_text()),
            format!("- Do: {}.\n", one.todo),
            format!("- {}.\n", one.transport_text().unwrap_or_default()),
        ]);
    }
    page
}

fn capitalize_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_text_is_one_sentence_without_full_stop() {
        for &code in ErrorCode::ALL {
            let page = page_for_code(code);
            for text in [page.meaning, page.todo] {
                let good =
                    text.len() > 20 && !text.ends_with('.') && text.trim() == text && !text.contains('\n');
                assert!(good, "{code}: {text:?}");
            }
        }
    }

    #[test]
    fn no_two_codes_have_the_same_text() {
        for (at, &code) in ErrorCode::ALL.iter().enumerate() {
            let same = ErrorCode::ALL[..at]
                .iter()
                .find(|other| page_for_code(**other).meaning == page_for_code(code).meaning);
            assert_eq!(same, None, "{code}");
        }
    }

    #[test]
    fn a_misspelt_code_is_answered_with_the_nearest() {
        for (typed, meant) in [
            ("run_not_foud", "run_not_found"),
            ("overload", "overloaded"),
            ("Run-Terminal", "run_terminal"),
            ("idempotency", "idempotency_conflict"),
        ] {
            let found = find_explanation(typed)
                .map_or_else(|error| error.to_string(), |found| format!("`{}`", found.code));
            assert!(found.contains(&format!("`{meant}`")), "{typed}: {found}");
        }
        assert!(
            find_explanation("sunflower")
                .unwrap_err()
                .to_string()
                .ends_with("run `dromia explain` to list them")
        );
    }

    #[test]
    fn a_rule_is_explained_without_status_or_exit_code() {
        insta::assert_snapshot!(explanation_text(&find_explanation("ask unplanned").unwrap()), @r"
        rule   unplanned
        means  the turn has read untrusted content, and the call has an outside effect that its plan does not contain, or not this often
        do     compare the call with the plan in `dromia run why`, then approve or deny it; a permission that allows the tool skips this check, as `dromia docs policy` describes
        ");
        let json = serde_json::to_value(find_explanation("policy-broken").unwrap()).unwrap();
        assert_eq!((&json["kind"], &json["retry"]), (&"rule".into(), &"no".into()));
        assert!(json.get("exit").is_none() && json.get("http_status").is_none(), "{json}");
    }

    /// Whoever was refused looks first; a grant is the last way out, not the first.
    #[test]
    fn a_refused_action_is_looked_at_before_anything_is_granted() {
        let page = page_for_code(ErrorCode::ActionDenied);
        assert!(page.meaning.starts_with("the gate denied an action"), "{}", page.meaning);
        let ways = [
            "dromia run why",
            "dromia policy explain",
            "leave it denied",
            "permissions.ask",
            "without asking",
        ];
        let found: Vec<_> = ways.iter().map(|way| page.todo.find(*way)).collect();
        assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{found:?} in {}", page.todo);
    }

    #[test]
    fn a_code_is_explained_in_five_lines() {
        insta::assert_snapshot!(explanation_text(&CodeExplanation::for_code(ErrorCode::Overloaded)), @r"
        code    overloaded
        means   the tenant or the node has used up its share: too many inputs wait, or too many requests arrived at once
        retry   yes: nothing happened, and the same request may succeed later
        do      wait for the time in Retry-After, then send the request again with the same idempotency key; send fewer requests at once
        status  HTTP 429, exit code 1
        ");
    }

    #[test]
    fn a_code_that_ends_a_run_names_both_exit_codes() {
        let denied = explanation_text(&CodeExplanation::for_code(ErrorCode::ActionDenied));
        assert!(denied.ends_with("HTTP 403, exit code 4; 7 where it ends a run"), "{denied}");
        let cut = explanation_text(&CodeExplanation::for_code(ErrorCode::ModelCut));
        assert!(cut.ends_with("exit code 7"), "one code is said once: {cut}");
    }

    #[test]
    fn the_page_of_errors_is_made_from_the_table() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("DROMIA_WRITE_DOCS").is_some() {
            std::fs::write(file, errors_page()).unwrap();
        }
        let found = std::fs::read_to_string(file).unwrap_or_default();
        assert!(found == errors_page(), "docs/errors.md is old; write it anew with `make docs`");
    }
}
