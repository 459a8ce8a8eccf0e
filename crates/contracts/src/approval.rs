//! Approvals: a call that a person must allow, asked for durably, answered once and used once.
//!
//! An [`Approval`] is the request as it stands: the exact call, what it is bound to, who may answer and until when. Its
//! `binding` covers all that the person was shown and all that was judged; a call with another binding is another call.
//! The store moves an approval with the entries of the runs that it concerns ([`touched`], [`Approval::touch`]), in the
//! same commit, so none is used twice and none is forgotten. A [`Rule`] answers in a person's place.
//!
//! A delayed call is a request with a time to cool ([`Approval::cools_until`]): the engine approves it once that time is
//! over, if nobody answered before. The row is its own timer, so no crash loses one. To the store it is an answer as any.
//! A program of before does not know the time and leaves such a request to people.
//!
//! ```text
//! holding --release--> waiting            the run let go; the call will be a run of its own
//! holding, waiting --answer--> approved | denied
//! approved --use--> used                  with the `ToolStarted` that it allows
//! holding, approved --withdraw--> withdrawn    with the end of its call, or of its agent where no run has its call yet
//! holding, approved --retract--> withdrawn     with the start of a call that nobody need allow any more
//! ```
//! No row says that an approval has expired: that follows from the time ([`Approval::state_at`]). A tenant has at most
//! [`OPEN_MAX`] that are open and keeps at most [`KEPT_MAX`] others; the store sees to both where one is asked for.

mod ahead;
mod barred;
mod bound;
mod rule;
mod suggest;

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::content::CallStatus;
use crate::digest::Digest;
use crate::entry::{Entry, Park, RunParked};
use crate::id::{AgentId, ApprovalId, CallId, RunId, SessionId};
use crate::label::Label;
use crate::plan::Standing;
use crate::scope::Actor;
use crate::tool::ArgumentRole;

pub use self::ahead::{DeclaredRule, RuledCall};
pub use self::barred::{Barred, RuleTool};
pub use self::bound::{BoundFiles, BoundParts, Contents};
pub use self::rule::{Rule, RuleError};
pub use self::suggest::{Seen, Suggestion, suggest};

/// Where approved calls run whose own run did not wait for them. Nobody else opens a session on this platform.
pub const PLATFORM: &str = "approval";

/// The most approvals that one run may leave waiting.
pub const WAITING_MAX: usize = 8;

/// The most approvals that are answered together with another one.
pub const ALSO_MAX: usize = 32;

/// The most approvals of a tenant that are open; of one more nobody is asked.
pub const OPEN_MAX: usize = 1024;

/// The most approvals of a tenant that are kept when they are not open any more. With each one that is asked for beyond
/// them, the oldest go that nothing will move ([`sweep_looks`]): none that was approved and has not begun, and none whose run
/// goes on.
pub const KEPT_MAX: usize = 4096;

/// The most approvals that go with one that is asked for.
pub const SWEPT_MAX: usize = 16;

/// The most approvals of one look for those that go; one that is asked for has two such looks made.
pub const SWEEP_LOOKS_MAX: usize = 256;

/// Tells over how many of the oldest each look for those that go passes, where so many are beyond [`KEPT_MAX`]. The first
/// passes over none. The second is for when those may not go yet: it takes its turns over what lies behind them, as far as the
/// number beyond, which grows with each turn that finds nothing. So what may not go is kept besides, and holds up nothing else.
pub const fn sweep_looks(beyond: usize) -> [usize; 2] {
    let turns = beyond / SWEEP_LOOKS_MAX + 1;
    [0, SWEEP_LOOKS_MAX * (1 + beyond % turns)]
}

/// The most bytes of the arguments of a call that a person is asked about.
pub const ARGUMENTS_BYTES_MAX: usize = 128 << 10;

/// The most rules of a tenant.
pub const RULES_MAX: usize = 256;

/// The most bytes of a reason that comes with an answer.
pub const REASON_BYTES_MAX: usize = 1024;

/// The most bytes of a text that are quoted for an argument which stands in it.
pub const QUOTE_BYTES_MAX: usize = 160;

/// How an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody answered, and the run that asked waits for it.
    Holding,
    /// Nobody answered, and the run that asked went on without it.
    Waiting,
    /// Somebody allowed it, and the call has not begun.
    Approved,
    /// Somebody, or the server in nobody's presence, refused it.
    Denied,
    /// The call that it allows has begun.
    Used,
    /// The call that it was for will not begin.
    Withdrawn,
    /// Nobody answered in time.
    Expired,
}

impl ApprovalState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Holding,
        Self::Waiting,
        Self::Approved,
        Self::Denied,
        Self::Used,
        Self::Withdrawn,
        Self::Expired,
    ];

    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }

    /// Tells whether it may still be answered.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Holding | Self::Waiting)
    }
}

impl fmt::Display for ApprovalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an argument's value came from, as far as the conversation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is what the tool takes where nobody says anything, whoever wrote it.
    Default,
    /// It stands, as whole words, in what an authenticated actor typed.
    Said,
    /// The model wrote it, and it stands nowhere else.
    Written,
    /// It stands in something that nobody vouches for: a tool's result, a file, a claim.
    Found,
}

/// What is known of one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgumentOrigin {
    /// The argument's name.
    pub name: String,
    /// What it means to the gate, if the tool says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ArgumentRole>,
    /// Where its value came from.
    pub origin: Origin,
    /// The label of the text in which it stands, or of everything that led to it.
    pub label: Label,
    /// What stands around it there, [`QUOTE_BYTES_MAX`] at most and marked where it is cut off. Nothing where it stands nowhere
    /// else or nobody looked, and in rows of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
}

/// How far an answer goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// This one call.
    Once,
    /// This call, and the very same one as often as it comes in this session, until the rule ends.
    Session,
    /// This call, and whatever this rule matches of its agent, until the rule ends.
    Always {
        /// The rule.
        rule: String,
    },
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::Session => f.write_str("session"),
            Self::Always { rule } => write!(f, "always `{rule}`"),
        }
    }
}

/// Who answered, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why, in the words of whoever answered; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How far it goes, its rule in canonical form. A refusal has none, and rows of before do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// A request for approval, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The agent whose call it is.
    pub agent: AgentId,
    /// The session in which it asked.
    pub session: SessionId,
    /// The run that asked.
    pub run: RunId,
    /// The call.
    pub call: CallId,
    /// On whose input the run worked.
    pub author: Actor,
    /// How many agents in a row led to that input.
    pub hops: u32,
    /// The join of the labels of everything that led to the call.
    pub context: Label,
    /// What of the call was typed and planned when it was asked for. Rows of before do not say it: nothing was.
    #[serde(default)]
    pub standing: Standing,
    /// The tool.
    pub tool: String,
    /// The canonical arguments, byte for byte what would be executed.
    pub arguments: String,
    /// The digest of tool and arguments.
    pub action: Digest,
    /// BLAKE3 of everything that was judged: action, tool, destination, limits, files, principal, rule and policy.
    pub binding: Digest,
    /// Of what the binding is made, part by part. Rows of before do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<BoundParts>,
    /// Where the arguments came from, in their order.
    pub origins: Vec<ArgumentOrigin>,
    /// The rule that asks.
    pub rule: String,
    /// Why it asks.
    pub reason: String,
    /// Who may answer; whoever has the scope, if nobody is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Actor>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Until when the run waits for it.
    pub holds_until: Timestamp,
    /// Until when it may be answered.
    pub expires_at: Timestamp,
    /// From when on the engine allows it, if nobody answered; absent where only a person can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<Timestamp>,
    /// How the row says that it stands; never [`ApprovalState::Expired`].
    pub state: ApprovalState,
    /// Whether the run let go of it before it was answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answered>,
    /// The run whose call began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<RunId>,
}

impl Approval {
    /// Returns the verdict that asked for it and its rule: `ask RULE`, or `delay RULE` where time allows the call too.
    pub fn asked_by(&self) -> String {
        format!("{} {}", if self.cools_until.is_some() { "delay" } else { "ask" }, self.rule)
    }

    /// Returns how it stands at a time.
    pub fn state_at(&self, now: Timestamp) -> ApprovalState {
        if self.state.is_open() && now >= self.expires_at { ApprovalState::Expired } else { self.state }
    }

    /// Tells whether it counts as open at a time, in the milliseconds in which stores count.
    pub fn is_open_at(&self, at: Timestamp) -> bool {
        self.state.is_open() && self.expires_at.as_millisecond() > at.as_millisecond()
    }

    /// Tells whether nothing moves it any more, at this time or later, once its [runs](Self::runs) have ended.
    pub fn is_over_at(&self, at: Timestamp) -> bool {
        match self.state {
            ApprovalState::Holding | ApprovalState::Waiting => !self.is_open_at(at),
            ApprovalState::Approved => false,
            ApprovalState::Denied
            | ApprovalState::Used
            | ApprovalState::Withdrawn
            | ApprovalState::Expired => true,
        }
    }

    /// Lists the runs that look at it while they go on: the one that asked, and the one whose call began.
    pub fn runs(&self) -> impl Iterator<Item = RunId> {
        std::iter::once(self.run).chain(self.used_by)
    }

    /// Returns from when on it is allowed by itself, while nobody answered.
    pub fn cooling_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.cools_until.filter(|_| self.state_at(now).is_open())
    }

    /// Tells whether nobody answered it and its time to cool is over.
    pub fn has_cooled(&self, now: Timestamp) -> bool {
        self.cooling_at(now).is_some_and(|until| until <= now)
    }

    /// Tells whether somebody may answer it, besides having the scope.
    pub fn may_be_answered_by(&self, actor: &Actor) -> bool {
        self.approvers.is_empty() || self.approvers.contains(actor)
    }

    /// Tells whether what somebody says is what he said already: the same verdict, as far. Without a reach he refuses. What a
    /// program of before wrote counts as said of the one call.
    pub fn is_answered_so(&self, by: &Actor, reach: Option<&Reach>) -> bool {
        const ONCE: &Reach = &Reach::Once;
        let Some(known) = &self.answer else { return false };
        let is_denied = self.state == ApprovalState::Denied;
        let stands = (!is_denied).then(|| known.reach.as_ref().unwrap_or(ONCE));
        known.by == *by && stands == reach
    }

    /// Answers it. Refused with how it stands, unless it stands as the caller found it and has not expired. The same
    /// answer again changes nothing.
    pub fn answer(
        &mut self,
        from: ApprovalState,
        approved: bool,
        answered: &Answered,
    ) -> Result<(), ApprovalState> {
        let to = if approved { ApprovalState::Approved } else { ApprovalState::Denied };
        if self.answer.as_ref() == Some(answered) {
            let denied = self.state == ApprovalState::Denied;
            return if denied == approved { Err(self.state) } else { Ok(()) };
        }
        let found = self.state_at(answered.at);
        if found != from || !found.is_open() {
            return Err(found);
        }
        self.state = to;
        self.answer = Some(answered.clone());
        Ok(())
    }

    /// Withdraws it if it was approved for a run of its own whose call has not begun: its agent has ended, so none will. Tells
    /// whether it was.
    pub fn give_up(&mut self) -> bool {
        let is_idle = self.state == ApprovalState::Approved && self.released;
        if is_idle {
            self.state = ApprovalState::Withdrawn;
        }
        is_idle
    }

    /// Moves it as an entry of a run asks for. Refused with how it stands, if it stands otherwise.
    pub fn touch(&mut self, run: RunId, touch: Touch) -> Result<(), ApprovalState> {
        match (touch, self.state) {
            (Touch::Use(action), ApprovalState::Approved) => {
                // One whose run waited is for that run, and one whose run did not is for a run of its own.
                if action != self.action || (run == self.run) == self.released {
                    return Err(self.state);
                }
                self.state = ApprovalState::Used;
                self.used_by = Some(run);
                Ok(())
            }
            (Touch::Release, ApprovalState::Holding) if run == self.run => {
                self.state = ApprovalState::Waiting;
                self.released = true;
                Ok(())
            }
            (Touch::Withdraw | Touch::Retract, ApprovalState::Holding | ApprovalState::Approved) => {
                self.state = ApprovalState::Withdrawn;
                Ok(())
            }
            (Touch::Withdraw, ApprovalState::Denied | ApprovalState::Withdrawn) => Ok(()),
            (Touch::Use(_) | Touch::Release | Touch::Withdraw | Touch::Retract, found) => Err(found),
        }
    }
}

/// What an entry does to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The call of this action begins.
    Use(Digest),
    /// The run goes on without it.
    Release,
    /// The call will not begin.
    Withdraw,
    /// The call begins, and nobody need allow it any more. What somebody refused stands, and such a start does not.
    Retract,
}

/// Tells what an entry does to which approval, if it does anything.
pub fn touched(entry: &Entry) -> Option<(ApprovalId, Touch)> {
    match entry {
        Entry::ToolStarted(started) => {
            let used = started.approval.map(|id| (id, Touch::Use(started.action)));
            used.or_else(|| started.unneeded.map(|id| (id, Touch::Retract)))
        }
        // The call that was asked for before its turn is asked for anew.
        Entry::RunParked(RunParked { park: Park::Approval { replaces, .. } }) => {
            replaces.map(|id| (id, Touch::Withdraw))
        }
        Entry::ToolRefused(refused) => refused.approval.map(|id| {
            let released = refused.status == CallStatus::Awaiting;
            (id, if released { Touch::Release } else { Touch::Withdraw })
        }),
        _ => None,
    }
}

/// What a run is told of the approval that it was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedCall {
    /// The approval.
    pub approval: ApprovalId,
    /// The run that asked.
    pub run: RunId,
    /// The call of that run.
    pub call: CallId,
    /// The session of that run, which is told how the call ended.
    pub session: SessionId,
    /// What the approval is bound to.
    pub binding: Digest,
}

/// The body of an approved call that waits for its run: the call as it was approved, and what it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedBody {
    /// The form of the body; this program writes and reads 1, and refuses a later one.
    pub version: u32,
    /// What the run is told.
    pub approved: ApprovedCall,
    /// The tool.
    pub tool: String,
    /// The canonical arguments.
    pub arguments: String,
    /// The join of the labels of everything that led to the call.
    pub context: Label,
    /// How many agents in a row led to it.
    pub hops: u32,
}

impl ApprovedBody {
    /// The form that this program writes.
    pub const VERSION: u32 = 1;

    /// Takes an approval's call.
    pub fn of(approval: &Approval) -> Self {
        Self {
            version: Self::VERSION,
            approved: ApprovedCall {
                approval: approval.id,
                run: approval.run,
                call: approval.call,
                session: approval.session,
                binding: approval.binding,
            },
            tool: approval.tool.clone(),
            arguments: approval.arguments.clone(),
            context: approval.context,
            hops: approval.hops,
        }
    }

    /// Reads a body of the form that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let body: Self = serde_json::from_slice(bytes)?;
        if body.version == Self::VERSION {
            return Ok(body);
        }
        let text = format!("this version knows no approved call of version {}", body.version);
        Err(serde::de::Error::custom(text))
    }
}

/// The body of a signal that answers an approval for the run that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// The form of the body; this program writes and reads 1.
    pub version: u32,
    /// The approval.
    pub approval: ApprovalId,
    /// Why, in the words of whoever answered; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl AnswerBody {
    /// The form that this program writes.
    pub const VERSION: u32 = 1;

    /// Answers an approval.
    pub fn new(approval: ApprovalId, reason: &str) -> Self {
        Self { version: Self::VERSION, approval, reason: reason.to_owned() }
    }

    /// Reads which approval a signal answers, and why. What a program of before wrote is the reason alone: its run waited for
    /// one call at a time.
    pub fn read(body: &[u8]) -> (Option<ApprovalId>, String) {
        match serde_json::from_slice::<Self>(body) {
            Ok(body) if body.version == Self::VERSION => (Some(body.approval), body.reason),
            Ok(_) | Err(_) => (None, String::from_utf8_lossy(body).trim().to_owned()),
        }
    }
}

/// What a rule answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleAnswer {
    /// The call may happen.
    Allow,
    /// It may not.
    Deny,
}

impl RuleAnswer {
    /// Returns the answer as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for RuleAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer given ahead, by somebody, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it answers.
    pub answer: RuleAnswer,
    /// Which calls it answers, as [`Rule::stored`] reads it.
    pub rule: String,
    /// The one agent whose calls it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The one session in which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Who made it.
    pub owner: Actor,
    /// When.
    pub created_at: Timestamp,
    /// From when on it answers nothing.
    pub expires_at: Timestamp,
}

impl ApprovalRule {
    /// Says what is wrong with it, if anything is.
    pub fn problem(&self) -> Option<String> {
        if !is_rule_name(&self.name) {
            return Some(format!("a rule's name is {RULE_NAME}"));
        }
        if self.expires_at <= self.created_at {
            return Some("a rule ends after it was made".to_owned());
        }
        Rule::stored(&self.rule).err().map(|error| error.to_string())
    }

    /// Tells whether it answers calls of an agent in a session, or in none, at a time.
    pub fn counts(&self, agent: AgentId, session: Option<SessionId>, now: Timestamp) -> bool {
        now < self.expires_at
            && self.agent.is_none_or(|only| only == agent)
            && self.session.is_none_or(|only| session == Some(only))
    }
}

/// What a rule's name looks like, in words for people.
pub const RULE_NAME: &str = "1 to 64 characters of a-z, 0-9, - and _";

/// Tells whether a text may name a rule.
pub fn is_rule_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Tells whether a character does not show what it is: a control character, a blank that is no plain space, and one that changes
/// the direction or hides.
pub fn hides(c: char) -> bool {
    let is_listed = matches!(
        c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    );
    is_listed || c.is_control() || (c.is_whitespace() && c != ' ')
}

/// Writes a text so that it shows what it is: characters that do not ([`hides`]) are spelled out.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests;
