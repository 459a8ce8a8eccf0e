//! `approvals`: how calls that need a person's approval are asked for, and which rules answer in a person's place.
//!
//! Each rule is read when the file is, and refused where one that a person adds would be: it must not allow whatever a
//! program is told, and one that allows says where the tool aims.

use dromia_contracts::Actor;
use dromia_contracts::approval::{Barred, BoundFiles, DeclaredRule, Rule, RuleAnswer, RuleTool};
use dromia_engine::ApprovalsConfig;
use dromia_tools::Toolbox;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::external::External;
use super::resolve::Check;

/// The most entries of one list.
const ENTRIES_MAX: usize = 64;

/// The longest time that a run waits, and that an approval may be answered.
const TIME_MS_MAX: u64 = 90 * 24 * 3600 * 1000;

/// How calls that need a person's approval are asked for. Which calls those are, `permissions` and policies say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenApprovals {
    /// How long a run waits for an answer before it goes on without the call, in milliseconds. A call that is approved
    /// later runs by itself, and its session is told.
    pub(crate) hold_ms: u64,
    /// How long an approval may be answered, in milliseconds.
    pub(crate) expire_ms: u64,
    /// Who may answer, as transcripts name them (`token:ops`, `cli:1000`); whoever has the scope `approve`, if nobody is
    /// named.
    pub(crate) approvers: Vec<String>,
    /// The platforms of sessions that nobody attends, such as `webhook`: what would be asked there is refused, and listed.
    pub(crate) unattended: Vec<String>,
    /// Which files an approval of a program is bound to: `all` of the workspace, or only those that the call has `named`, which
    /// is for workspaces in which other runs write all the time.
    pub(crate) files: BoundFiles,
    /// Rules for calls that need nobody's answer, such as `file.write path=notes/**`.
    pub(crate) allow: Vec<String>,
    /// Rules for calls that are refused instead of being asked for; one of these goes before any that allows.
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
pub(super) fn resolve(
    written: &WrittenApprovals,
    cooling: SignedDuration,
    external: &[External],
    check: &mut Check<'_>,
) -> ApprovalsConfig {
    let WrittenApprovals { hold_ms, expire_ms, approvers, unattended, files, allow, deny } = written;
    let mut time = |key: &str, ms: u64| {
        if ms > TIME_MS_MAX {
            check.wrong(key, format!("must be {TIME_MS_MAX} at most, and is {ms}"));
        }
        SignedDuration::from_millis(i64::try_from(ms.min(TIME_MS_MAX)).unwrap_or(i64::MAX))
    };
    let (hold, expire) = (time("approvals.hold_ms", *hold_ms), time("approvals.expire_ms", *expire_ms));
    if expire < hold {
        check.wrong("approvals.expire_ms", format!("is shorter than a run waits ({hold_ms})"));
    }
    for (list, entries) in
        [("approvers", approvers), ("unattended", unattended), ("allow", allow), ("deny", deny)]
    {
        let key = format!("approvals.{list}");
        if entries.len() > ENTRIES_MAX {
            check.wrong(&key, format!("holds at most {ENTRIES_MAX} entries"));
        }
        for (index, entry) in entries.iter().enumerate() {
            if entry.is_empty() || entry.len() > Actor::BYTES_MAX {
                check.wrong(&format!("{key}.{index}"), "is empty or too long");
            }
        }
    }
    let mut rules = Vec::new();
    for (answer, texts) in [(RuleAnswer::Allow, allow), (RuleAnswer::Deny, deny)] {
        for (index, text) in texts.iter().enumerate() {
            match rule(text, answer, external) {
                Ok(rule) => rules.push(DeclaredRule { answer, rule }),
                Err(problem) => check.wrong(&format!("approvals.{answer}.{index}"), problem),
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

fn rule(text: &str, answer: RuleAnswer, external: &[External]) -> Result<Rule, String> {
    let rule = Rule::parse(text).map_err(|error| error.to_string())?;
    let mut own = external.iter().map(|external| external.tool.descriptor());
    let own = own.find(|tool| tool.name == rule.tool());
    let Some(tool) = own.cloned().or_else(|| Toolbox::described(rule.tool())) else {
        return Err(format!("there is no tool {:?}", rule.tool()));
    };
    let runs_programs = Toolbox::runs_programs(&tool.name);
    let known = RuleTool { parameters: &tool.parameters, roles: &tool.roles, runs_programs };
    match rule.barred(answer, &known) {
        None => Ok(rule),
        Some(Barred { problem, hint: None }) => Err(problem),
        Some(Barred { problem, hint: Some(hint) }) => Err(format!("{problem}: {hint}")),
    }
}
