//! Which rule answers a call ahead, the same for a run and for a question about a hypothetical call.
//!
//! It finds the rule and judges nothing: that a call needs an answer at all, the gate says first.

use jiff::Timestamp;

use super::{ApprovalRuleRecord, ParsedRule, RuleAnswer};
use crate::id::{AgentId, SessionId};

/// A rule of the configuration, which answers for every tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredRule {
    /// What it answers.
    pub answer: RuleAnswer,
    /// Which calls it answers.
    pub rule: ParsedRule,
}

impl DeclaredRule {
    /// Names each of them by its place in `dromia.yaml`, such as `approvals.deny.0`. No rule that is stored has such a name.
    pub fn with_names(declared: &[Self]) -> impl Iterator<Item = (String, &Self)> {
        declared.iter().enumerate().map(move |(place, rule)| {
            let before = declared[..place].iter().filter(|known| known.answer == rule.answer).count();
            (format!("approvals.{}.{before}", rule.answer), rule)
        })
    }
}

/// A call that a rule may answer.
#[derive(Debug, Clone, Copy)]
pub struct RuledCall<'c> {
    /// The agent whose call it is.
    pub agent: AgentId,
    /// The session in which it is asked for; nothing for a call of none, which no rule of a session answers.
    pub session: Option<SessionId>,
    /// The tool.
    pub tool: &'c str,
    /// The canonical arguments.
    pub arguments: &'c str,
}

impl RuledCall<'_> {
    /// Finds the answer and what gives it: the rules of the configuration are asked, and those of the tenant. One that denies
    /// goes before one that allows.
    pub fn answered_by(
        &self,
        declared: &[DeclaredRule],
        standing: &[ApprovalRuleRecord],
        now: Timestamp,
    ) -> Option<(RuleAnswer, String)> {
        let counts = |rule: &&ApprovalRuleRecord| {
            rule.applies_to(self.agent, self.session, now)
                && ParsedRule::parse(&rule.rule)
                    .is_ok_and(|rule| rule.matches_call(self.tool, self.arguments))
        };
        let standing = standing.iter().filter(counts).map(|rule| (rule.answer, rule.name.clone()));
        let declared = declared
            .iter()
            .filter(|declared| declared.rule.matches_call(self.tool, self.arguments))
            .map(|declared| (declared.answer, format!("dromia.yaml: {}", declared.rule)));
        // Deny is the greater answer.
        declared.chain(standing).max_by_key(|(answer, _)| *answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Actor;

    fn declared(answer: RuleAnswer, text: &str) -> DeclaredRule {
        DeclaredRule { answer, rule: ParsedRule::parse(text).expect("it is read") }
    }

    #[test]
    fn denying_rules_go_first_and_session_rules_stay_there() {
        let (agent, session) = (AgentId::from_bytes([2; 16]), SessionId::from_bytes([3; 16]));
        let second = |second| Timestamp::from_second(second).expect("a time");
        let stored = |name: &str, answer, session| ApprovalRuleRecord {
            name: name.to_owned(),
            answer,
            rule: "file.write path=notes/**".to_owned(),
            agent: Some(agent),
            session,
            owner: Actor::new("cli:0"),
            created_at: second(0),
            expires_at: second(10),
        };
        let call = RuledCall { agent, session: None, tool: "file.write", arguments: r#"{"path":"notes/a"}"# };
        let allow = stored("mine", RuleAnswer::Allow, None);
        let by = |call: &RuledCall<'_>, declared: &[DeclaredRule], stored: &[ApprovalRuleRecord], at| {
            call.answered_by(declared, stored, second(at)).map(|(answer, name)| format!("{answer} {name}"))
        };
        let one = std::slice::from_ref(&allow);
        assert_eq!(by(&call, &[], one, 5).as_deref(), Some("allow mine"));
        assert_eq!(by(&call, &[], one, 10), None, "its time is over");
        let stranger = RuledCall { agent: AgentId::from_bytes([9; 16]), ..call };
        assert_eq!(by(&stranger, &[], one, 5), None);
        let elsewhere = RuledCall { arguments: r#"{"path":"a"}"#, ..call };
        assert_eq!(by(&elsewhere, &[], one, 5), None);
        let deny = [declared(RuleAnswer::Deny, "file.write")];
        assert_eq!(by(&call, &deny, one, 5).as_deref(), Some("deny dromia.yaml: file.write"));
        assert_eq!(by(&stranger, &deny, one, 5).as_deref(), Some("deny dromia.yaml: file.write"));
        let own = [stored("own", RuleAnswer::Deny, Some(session)), allow];
        assert_eq!(by(&call, &[], &own, 5).as_deref(), Some("allow mine"), "it is a call of no session");
        let within = RuledCall { session: Some(session), ..call };
        assert_eq!(by(&within, &[], &own, 5).as_deref(), Some("deny own"));
    }

    #[test]
    fn a_declared_rule_is_named_by_its_place() {
        let rules = [
            declared(RuleAnswer::Allow, "a"),
            declared(RuleAnswer::Allow, "b"),
            declared(RuleAnswer::Deny, "c"),
        ];
        let names: Vec<_> =
            DeclaredRule::with_names(&rules).map(|(name, rule)| format!("{name} {}", rule.rule)).collect();
        assert_eq!(names, ["approvals.allow.0 a", "approvals.allow.1 b", "approvals.deny.0 c"]);
        assert!(DeclaredRule::with_names(&rules).all(|(name, _)| !super::super::is_rule_name(&name)));
    }
}
