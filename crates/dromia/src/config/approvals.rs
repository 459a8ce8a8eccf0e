//! `approvals`: how calls that need a person's approval are asked for, and which rules answer in a person's place.
//!
//! Each rule is read when the file is, and refused where one that a person adds would be: it must not allow a program
//! whatever its arguments are, and one that allows says where the tool aims.

use dromia_contracts::approval::{BoundFiles, DeclaredRule, ParsedRule, RuleAnswer, RuleRejection, RuleTool};
use dromia_contracts::{Actor, TokenId};
use dromia_engine::ApprovalsConfig;
use dromia_tools::Toolbox;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::external::ExternalToolConfig;
use super::problem_collector::ProblemCollector;

/// The most entries of one list.
const ENTRIES_MAX: usize = 64;

/// The longest time that a run waits, and that an approval may be answered.
const TIME_MS_MAX: u64 = 90 * 24 * 3600 * 1000;

/// How calls that need a person's approval are asked for. Which calls those are, `permissions` and policies say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenApprovals {
    /// How long a run waits for an answer before it continues without the call, in milliseconds. A call that is
    /// approved later runs on its own, and its session is notified.
    pub(crate) hold_ms: u64,
    /// How long an approval request can be answered, in milliseconds.
    pub(crate) expire_ms: u64,
    /// Who may answer: a socket user such as `cli:1000`, or a token by its id, such as `token:tok_…` from `dromia token
    /// list`. If the list is empty, everyone with the scope `approve` may answer.
    pub(crate) approvers: Vec<String>,
    /// Platforms whose sessions no person attends, such as `webhook`. A call that needs an approval there is refused
    /// and listed.
    pub(crate) unattended: Vec<String>,
    /// Which workspace files an approval of a program is bound to; if one of them changes, the approval is void. `all`:
    /// every file. `named`: only files that the call names; use it if other runs write to the workspace all the time.
    pub(crate) files: BoundFiles,
    /// Rules for calls that need no person's answer, such as `file.write path=notes/**`.
    pub(crate) allow: Vec<String>,
    /// Rules for calls that are refused instead of being asked for. A rule here wins over one in `allow`.
    pub(crate) deny: Vec<String>,
}

impl Default for WrittenApprovals {
    fn default() -> Self {
        let ApprovalsConfig { hold, expire, unattended, files, .. } = ApprovalsConfig::default();
        let ms = |time: SignedDuration| u64::try_from(time.as_millis()).unwrap_or(TIME_MS_MAX);
        Self {
            hold_ms: ms(hold),
            expire_ms: ms(expire),
            approvers: Vec::new(),
            unattended,
            files,
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

/// Resolves how approvals are asked for.
pub(super) fn resolve_approvals(
    written: &WrittenApprovals,
    cooling: SignedDuration,
    external: &[ExternalToolConfig],
    check: &mut ProblemCollector<'_>,
) -> ApprovalsConfig {
    let WrittenApprovals { hold_ms, expire_ms, approvers, unattended, files, allow, deny } = written;
    let mut time = |key: &str, ms: u64| {
        if ms > TIME_MS_MAX {
            check.add_problem(key, format!("must be at most {TIME_MS_MAX}, and is {ms}"));
        }
        SignedDuration::from_millis(i64::try_from(ms.min(TIME_MS_MAX)).unwrap_or(i64::MAX))
    };
    let (hold, expire) = (time("approvals.hold_ms", *hold_ms), time("approvals.expire_ms", *expire_ms));
    if expire < hold {
        check.add_problem(
            "approvals.expire_ms",
            format!("is shorter than the time that a run waits ({hold_ms})"),
        );
    }
    for (list, entries) in
        [("approvers", approvers), ("unattended", unattended), ("allow", allow), ("deny", deny)]
    {
        let key = format!("approvals.{list}");
        if entries.len() > ENTRIES_MAX {
            check.add_problem(&key, format!("has more than {ENTRIES_MAX} entries"));
        }
        for (index, entry) in entries.iter().enumerate() {
            if entry.is_empty() || entry.len() > Actor::BYTES_MAX {
                check.add_problem(&format!("{key}.{index}"), "is empty or too long");
            }
        }
    }
    for (index, approver) in approvers.iter().enumerate() {
        if approver.strip_prefix("token:").is_some_and(|id| id.parse::<TokenId>().is_err()) {
            let text = "names a token, but any admin of a tenant can give that name to another token; write \
                        its id: token:tok_…, as `dromia token list` shows it";
            check.add_problem(&format!("approvals.approvers.{index}"), text);
        }
    }
    let mut rules = Vec::new();
    for (answer, texts) in [(RuleAnswer::Allow, allow), (RuleAnswer::Deny, deny)] {
        for (index, text) in texts.iter().enumerate() {
            match parse_rule(text, answer, external) {
                Ok(rule) => rules.push(DeclaredRule { answer, rule }),
                Err(problem) => check.add_problem(&format!("approvals.{answer}.{index}"), problem),
            }
        }
    }
    ApprovalsConfig {
        hold,
        expire,
        cooling,
        approvers: approvers.iter().map(|name| Actor::new(name)).collect(),
        unattended: unattended.clone(),
        files: *files,
        rules,
    }
}

fn parse_rule(text: &str, answer: RuleAnswer, external: &[ExternalToolConfig]) -> Result<ParsedRule, String> {
    let rule = ParsedRule::parse(text).map_err(|error| error.to_string())?;
    let mut own = external.iter().map(|external| external.tool.descriptor());
    let own = own.find(|tool| tool.name == rule.tool_name());
    let Some(tool) = own.cloned().or_else(|| Toolbox::describe_builtin(rule.tool_name())) else {
        return Err(format!("there is no tool {:?}", rule.tool_name()));
    };
    let runs_programs = Toolbox::runs_programs(&tool.name);
    let known = RuleTool { parameters: &tool.parameters, roles: &tool.roles, runs_programs };
    match rule.find_rejection(answer, &known) {
        None => Ok(rule),
        Some(RuleRejection { problem, hint: None }) => Err(problem),
        Some(RuleRejection { problem, hint: Some(hint) }) => Err(format!("{problem}: {hint}")),
    }
}
