//! How an owner puts a call before a person, or puts it off: what the request says, what it is bound to, whether a rule
//! answers it, and how the session that asked hears of the end of a call that ran by itself.
//!
//! The binding is a digest of everything that was judged. It is made anew when the call is about to begin, by the same
//! function, so whatever changed in between makes another one.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::approval::{
    ARGUMENTS_BYTES_MAX, Approval, ApprovalState, ArgumentOrigin, BoundParts, OPEN_MAX, Origin,
    QUOTE_BYTES_MAX, RuleAnswer, RuledCall, WAITING_MAX,
};
use dromia_contracts::content::{InputMessage, Part};
use dromia_contracts::label::{Integrity, Label};
use dromia_contracts::plan::Standing;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::InboxPut;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::transcript::{Transcript, Turn};
use dromia_contracts::vault::Spotter;
use dromia_contracts::{CallId, Digest};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::quoting::{LOOKED_BYTES_MAX, Starred};
use super::{Lost, Owner};
use crate::binding::Bound;
use crate::decide::{Asks, FULL, Input, Judgement, Next, UNHELD};
use crate::defaults::defaults;
use crate::outcome::answer;

/// What of a rule that asks, or delays, is kept.
pub(super) struct Asking {
    pub(super) rule: String,
    pub(super) reason: String,
    pub(super) policy: Option<Digest>,
    /// How long the call may be refused before it begins by itself; without it only a person can allow it.
    pub(super) cooling: Option<SignedDuration>,
    /// What of the call was typed and planned.
    pub(super) standing: Standing,
}

impl Asking {
    /// The word of the verdict.
    fn word(&self) -> &'static str {
        if self.cooling.is_some() { "delay" } else { "ask" }
    }
}

/// The shortest text that is looked for in what was said: a shorter one stands everywhere.
const TEXT_CHARS_MIN: usize = 3;

/// The most texts of a call that are looked for in what was said. Of one beyond them the worst is told.
const TEXTS_MAX: usize = 64;

impl Owner {
    /// Judges a call that a person must allow, or that is delayed: by a rule, or by what somebody answered, or by asking.
    pub(super) async fn judge_asked(
        &mut self,
        call: PreparedCall,
        asking: Asking,
    ) -> Result<Judgement, Lost> {
        if let Some(judgement) = self.answered_ahead(&call, &asking).await? {
            return Ok(judgement);
        }
        let attended = self.is_attended();
        let call = match self.held(call, attended || asking.cooling.is_some()).await {
            Ok(call) => call,
            Err(problem) => return Ok(unheld(&problem, asking.policy)),
        };
        let (binding, parts) = self.binding(&call, &asking).await?;
        let changed = self.changed(call.id, binding, &parts).await?;
        let spotter = self.spotter().await;
        let origins = self.origins(&call, spotter);
        let config = &self.core.config.approvals;
        // What is asked for together is asked for at one time, and has the same times.
        let asked = self.asks.iter().find(|ask| ask.state.is_open()).map(|ask| ask.asked_at);
        let now = asked.unwrap_or_else(|| self.core.ports.runtime.clock.now());
        let until = |time: SignedDuration| now.checked_add(time).unwrap_or(Timestamp::MAX);
        let hold = match asking.cooling {
            // Nobody is expected to come sooner, so the run need not wait.
            Some(cooling) if cooling > config.hold => SignedDuration::ZERO,
            Some(_) | None => config.hold,
        };
        // What nobody could refuse for so long after its time, because no server was there, does not begin any more.
        let expire = config.expire.max(config.hold).saturating_add(asking.cooling.unwrap_or_default());
        let approval = Approval {
            id: self.core.ports.runtime.approval_id(),
            agent: self.agent.id,
            session: self.session,
            run: self.run,
            call: call.id,
            author: self.author.clone(),
            hops: self.story.hops,
            context: self.story.label,
            standing: asking.standing,
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
            action: call.action,
            binding,
            bound: Some(parts),
            origins,
            rule: asking.rule,
            reason: asking.reason,
            approvers: config.approvers.clone(),
            asked_at: now,
            holds_until: until(hold),
            expires_at: until(expire),
            cools_until: asking.cooling.map(until),
            state: ApprovalState::Holding,
            released: false,
            answer: None,
            used_by: None,
        };
        if !attended && asking.cooling.is_none() {
            self.core.count_denied(&call.tool);
        }
        let chained = self.story.hops >= self.core.config.hops_max;
        Ok(Judgement::Asks(Box::new(Asks {
            call,
            approval,
            changed,
            policy: asking.policy,
            attended,
            chained,
        })))
    }

    /// Holds a call to the files that its program could execute, as they are now. One that is refused anyway, because nobody
    /// could be asked about it, is not looked at.
    async fn held(&self, call: PreparedCall, askable: bool) -> Result<PreparedCall, String> {
        let is_allowed = self.state.approved(call.id).is_some();
        let is_told = call.arguments.len() <= ARGUMENTS_BYTES_MAX && self.state.awaiting.len() < WAITING_MAX;
        let is_looked_at = is_allowed || askable && is_told;
        if !is_looked_at {
            return Ok(call);
        }
        let extent = self.core.config.approvals.files;
        let contents = self.core.ports.tools.contents(self.agent.id, &call, extent).await?;
        Ok(PreparedCall { contents, ..call })
    }

    /// Tells whether anybody could be asked in this session.
    pub(super) fn is_attended(&self) -> bool {
        !self.core.config.approvals.unattended.contains(&self.platform)
    }

    /// Takes back what was to be asked for, because as many of the tenant's wait as may: first what is before its turn, and then
    /// the one request, whose call is refused instead; the run goes on. Nothing if no request is pending.
    pub(super) fn unask(&mut self) -> Option<Next> {
        if self.unask_ahead() {
            return Some(Next::Rest);
        }
        let index = self.asks.iter().rposition(|ask| ask.state.is_open())?;
        let before = self.before.take()?;
        let ask = self.asks.remove(index);
        self.pending.truncate(before.pending);
        self.state = before.state;
        self.core.count_denied(&ask.tool);
        tracing::warn!(run = %self.run, tool = %ask.tool, "nobody is asked: too many approvals of the tenant are open");
        let reason = format!(
            "This must be allowed first ({}), and nobody is asked: {OPEN_MAX} calls of this tenant wait for an answer \
             already, which is the most. Nothing was done. People must answer some of them (`dromia approval list`); \
             until then go on without it, or say what you wait for.",
            ask.reason
        );
        let denied = Judgement::Denied { rule: FULL.to_owned(), reason, policy: None };
        Some(self.decide(Input::Judged(ask.call, denied)))
    }

    /// Asks the rules: those of the configuration, then those of the tenant. One that denies goes before one that allows.
    async fn answered_ahead(&self, call: &PreparedCall, asking: &Asking) -> Result<Option<Judgement>, Lost> {
        let now = self.core.ports.runtime.clock.now();
        let standing = self.core.ports.store.approval_rules(&self.scope).await.map_err(|_| Lost::Store)?;
        // A call that runs by itself was asked for in another session.
        let session = self.state.approved_call().map_or(self.session, |approved| approved.session);
        let ruled = RuledCall {
            agent: self.agent.id,
            session: Some(session),
            tool: &call.tool,
            arguments: &call.arguments,
        };
        let strongest = ruled.answered_by(&self.core.config.approvals.rules, &standing, now);
        Ok(strongest.map(|(answer, name)| match answer {
            RuleAnswer::Allow => Judgement::Allowed {
                call: call.clone(),
                rule: format!("approval rule {name} for {} {}", asking.word(), asking.rule),
                policy: asking.policy,
            },
            RuleAnswer::Deny => Judgement::Denied {
                rule: format!("approval rule {name}"),
                reason: format!(
                    "this {} ({}), and a rule refuses it ahead; nothing was done. Trying again will not help.",
                    if asking.cooling.is_some() { "would be delayed" } else { "needs a person's approval" },
                    asking.reason
                ),
                policy: asking.policy,
            },
        }))
    }

    /// The digest of everything that is judged: the canonical action, the tool as it is described, where it would reach
    /// out to, what it may use, the files that it could execute, who asks and with which grants, the rule and the policy.
    async fn binding(&self, call: &PreparedCall, asking: &Asking) -> Result<(Digest, BoundParts), Lost> {
        let ports = &self.core.ports;
        let tool = ports.tools.descriptors().iter().find(|descriptor| descriptor.name == call.tool);
        let terms = ports.terms.of(&call.tool, Some((&self.scope, self.agent.id))).await;
        let terms = terms.map_err(|_| Lost::Store)?;
        let limits = ports.tools.limits(&call.tool, &terms);
        let bound = Bound {
            tenant: self.scope.tenant(),
            agent: self.agent.id,
            author: &self.author,
            grants: &self.agent.grants,
            call,
            tool,
            limits,
            terms: &terms,
            rule: &asking.rule,
            policy: asking.policy,
            verdict: asking.cooling.is_some().then(|| asking.word()),
        };
        Ok((bound.digest(), bound.parts()))
    }

    /// Names what is another one now than when a call was asked for that was approved; nothing where all is the same, or where
    /// the request does not say.
    async fn changed(
        &self,
        call: CallId,
        binding: Digest,
        now: &BoundParts,
    ) -> Result<Vec<&'static str>, Lost> {
        let Some((asked, _)) = self.state.approved(call).filter(|(_, known)| *known != binding) else {
            return Ok(Vec::new());
        };
        let asked = self.core.ports.store.approval(&self.scope, asked).await.map_err(|_| Lost::Store)?;
        let then = asked.and_then(|asked| asked.bound);
        Ok(then.map(|then| then.changed(now)).unwrap_or_default())
    }

    /// Tells where each argument came from, as far as the conversation tells, and quotes it without the values of secrets.
    fn origins(&mut self, call: &PreparedCall, spotter: Option<Arc<dyn Spotter>>) -> Vec<ArgumentOrigin> {
        let Ok(Value::Object(fields)) = serde_json::from_str(&call.arguments) else { return Vec::new() };
        let descriptors = self.core.ports.tools.descriptors();
        let roles = descriptors.iter().find(|tool| tool.name == call.tool).map(|tool| &tool.roles[..]);
        let defaults = defaults(&*self.core.ports.tools, call);
        let (transcript, label) = (&self.story.transcript, self.story.label);
        let mut room = TEXTS_MAX;
        let mut starred = Starred::new(spotter, LOOKED_BYTES_MAX.saturating_sub(self.looked));
        let origin = |(name, value): (String, Value)| {
            let source = if defaults.contains(&name) {
                Source { origin: Origin::Default, label: Label::PUBLIC_FACT, place: None }
            } else {
                origin_of(transcript, &value, label, &mut room)
            };
            let role = roles.unwrap_or_default().iter().find(|(known, _)| *known == name);
            let Source { origin, label, place } = source;
            let place = match place {
                Some((whole, at, length)) => starred.of(whole).map(|whole| (whole, at, length)),
                None => None,
            };
            let (role, quote) = (role.map(|(_, role)| *role), Source { origin, label, place }.quote());
            ArgumentOrigin { role, name, origin, label, quote }
        };
        let origins = fields.into_iter().map(origin).collect();
        self.looked = LOOKED_BYTES_MAX - starred.room();
        origins
    }

    /// Writes what the session that asked is told, once a call that ran by itself has ended. Nothing for other runs.
    pub(super) fn wake(&self) -> Option<InboxPut> {
        let approved = self.state.approved_call().filter(|_| self.state.is_ended())?;
        // One that was refused when it was about to begin, because something had changed, did nothing.
        let ran = if self.story.began { "It ran" } else { "It did not run: nothing was done" };
        let end = match self.state.status() {
            RunStatus::Completed if self.story.began => "has ended; its result follows".to_owned(),
            RunStatus::Completed => {
                "was approved and refused when it was about to begin; why follows".to_owned()
            }
            status => {
                let why = self.state.fault().map(|fault| format!(": {}", fault.message)).unwrap_or_default();
                format!("was approved, and its run is {}{why}", status.as_str())
            }
        };
        let text = format!(
            "The call {} of {} that waited for approval ({}) {end}. {ran} in {}.",
            approved.call, approved.run, approved.approval, self.run
        );
        let mut parts = vec![Part::text(text, Label::PUBLIC_FACT)];
        if let Some(answer) = answer(self.state.status(), &self.story) {
            parts.extend(answer.iter().cloned().map(|part| given(part, self.story.by_hand)));
        }
        let message = InputMessage { author: self.author.clone(), parts, hops: self.story.hops };
        Some(InboxPut {
            owner: InboxOwner::Session(approved.session),
            item: self.core.ports.runtime.item_id(),
            at: self.core.ports.runtime.clock.now(),
            kind: ItemKind::Input,
            author: self.author.clone(),
            // Strings, numbers and ids only, so serialization has no failing case.
            body: serde_json::to_vec(&message).map(Bytes::from).unwrap_or_default(),
            key: None,
        })
    }
}

/// Refuses a call that nobody can be asked about, because what it would execute cannot be looked at.
fn unheld(problem: &str, policy: Option<Digest>) -> Judgement {
    let reason = format!(
        "this needs a person's approval, and the files of the workspace that the program could execute cannot be looked at: \
         {problem}. Nothing was done. Ask again later, or tidy the workspace"
    );
    Judgement::Denied { rule: UNHELD.to_owned(), reason, policy }
}

/// What a call gave, told as an input: whatever it is worth, nobody typed it, and so it endorses nothing. A result may repeat
/// the arguments, and a refusal may quote them: it is as little trusted as what led to the call, because it is told to a
/// session that may not know of that any more.
fn given(mut part: Part, led_to: Label) -> Part {
    let (Part::Text { label, .. } | Part::Image { label, .. }) = &mut part;
    if led_to.integrity == Integrity::Untrusted {
        *label = label.join(led_to);
    }
    if *label == Label::ACTOR_TEXT {
        *label = Label::CLAIM;
    }
    part
}

/// Where a text of a call came from.
#[derive(Debug, Clone, Copy)]
struct Source<'t> {
    origin: Origin,
    label: Label,
    /// The text in which it stands, where in it, and how long it is.
    place: Option<(&'t str, usize, usize)>,
}

impl Source<'_> {
    /// Quotes what stands around it.
    fn quote(self) -> Option<String> {
        let (whole, at, length) = self.place?;
        let before = QUOTE_BYTES_MAX.saturating_sub(length) / 2;
        let from = whole.ceil_char_boundary(at.saturating_sub(before));
        let to = whole.floor_char_boundary(whole.len().min(from + QUOTE_BYTES_MAX));
        let cut = |is_cut: bool| if is_cut { "…" } else { "" };
        Some(format!("{}{}{}", cut(from > 0), &whole[from..to], cut(to < whole.len())))
    }
}

/// Tells where a value came from: of its texts, the one with the worst origin counts.
fn origin_of<'t>(transcript: &'t Transcript, value: &Value, context: Label, room: &mut usize) -> Source<'t> {
    let nowhere = |origin| Source { origin, label: context, place: None };
    let mut texts = Vec::new();
    leaves(value, &mut texts);
    let origins = texts.into_iter().filter(|text| text.chars().count() >= TEXT_CHARS_MIN);
    let origins = origins.map(|text| match room.checked_sub(1) {
        Some(left) => {
            *room = left;
            stands_in(transcript, text).unwrap_or(nowhere(Origin::Written))
        }
        None => nowhere(Origin::Found),
    });
    origins.max_by_key(|source| source.origin).unwrap_or(nowhere(Origin::Written))
}

/// Finds a text in what was said. What an actor typed goes first: there it was not only found.
fn stands_in<'t>(transcript: &'t Transcript, text: &str) -> Option<Source<'t>> {
    let mut found = None;
    for turn in transcript.turns() {
        let parts: Vec<&Part> = match turn {
            Turn::Input(message) => message.parts.iter().collect(),
            // What the model said is no source of its own.
            Turn::Unit(unit) => unit.results().iter().flat_map(|result| &result.parts).collect(),
        };
        for part in parts {
            let (whole, label) = (part.as_text(), part.label());
            let Some(at) = whole.find(text) else { continue };
            let source = |origin, at| Source { origin, label, place: Some((whole, at, text.len())) };
            let is_typed = label == Label::ACTOR_TEXT && matches!(turn, Turn::Input(_));
            if !is_typed {
                found = Some(source(Origin::Found, at));
            } else if let Some(at) = whole_in(text, whole) {
                return Some(source(Origin::Said, at));
            }
            // A part of what was said is something else.
        }
    }
    found
}

/// Finds where a text stands in another with words that begin and end there: `bob@example.com` is not said with
/// `bob@example.com.evil`.
fn whole_in(text: &str, whole: &str) -> Option<usize> {
    let mut places = whole.match_indices(text).map(|(at, _)| at);
    places.find(|at| {
        let (before, after) = (&whole[..*at], &whole[at + text.len()..]);
        !goes_on(before.chars().rev()) && !goes_on(after.chars())
    })
}

/// Tells whether a word goes on here: by one of its characters, or by a sign that joins two of them.
fn goes_on(mut chars: impl Iterator<Item = char>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '-' | '%' | '+' | '\\');
    match chars.next() {
        Some('.' | '/' | ':' | '=' | '&' | '?' | '#') => chars.next().is_some_and(is_word),
        Some(c) => is_word(c),
        None => false,
    }
}

fn leaves<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| leaves(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| leaves(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::content::{AssistantMessage, CallStatus, ToolCall, ToolResult};
    use dromia_contracts::transcript::OpenUnit;
    use dromia_contracts::{Actor, CallId};

    #[test]
    fn what_a_call_gave_is_nobodys_typed_text_when_it_is_told_as_an_input() {
        let given = |label, led_to| given(Part::text("eve@example.com", label), led_to).label();
        for led_to in [Label::ACTOR_TEXT, Label::PUBLIC_FACT] {
            assert_eq!(given(Label::ACTOR_TEXT, led_to), Label::CLAIM);
            for label in [Label::CLAIM, Label::OUTSIDE, Label::UNKNOWN_FILE, Label::PUBLIC_FACT] {
                assert_eq!(given(label, led_to), label);
            }
        }
        // A built-in tool states a fact in the words of whoever asked for it.
        for label in [Label::ACTOR_TEXT, Label::OUTSIDE, Label::PUBLIC_FACT] {
            assert_eq!(given(label, Label::OUTSIDE).integrity, Integrity::Untrusted, "{label}");
        }
        assert_eq!(given(Label::PUBLIC_FACT, Label::CLAIM), Label::CLAIM);
    }

    /// Tells whether words that a mail put into a call come back as somebody's who is trusted.
    fn launders(given: fn(Part, Label) -> Part) -> bool {
        let told = |label| given(Part::text("eve@example.com", label), Label::OUTSIDE).label().integrity;
        [Label::ACTOR_TEXT, Label::PUBLIC_FACT].into_iter().any(|label| told(label) == Integrity::Trusted)
    }

    /// Planted fault: a result that is told as if its actor alone had led to its call.
    #[test]
    fn a_result_that_forgets_what_led_to_its_call_is_caught() {
        assert!(!launders(given));
        assert!(launders(|part, _| given(part, Label::ACTOR_TEXT)), "nothing notices it");
    }

    #[test]
    fn an_argument_is_told_by_where_its_text_stands() {
        let mut transcript = Transcript::default();
        let said = |text: &str, label| InputMessage {
            author: Actor::new("cli:ada"),
            parts: vec![Part::text(text, label)],
            hops: 0,
        };
        transcript.push_input(said("Send it to bob@example.com.", Label::ACTOR_TEXT));
        let call = CallId { step: 1, index: 0 };
        let asked = ToolCall { id: call, tool: "t".into(), arguments: "{}".into() };
        let mut open = OpenUnit::new(AssistantMessage { parts: vec![], calls: vec![asked] });
        let parts = vec![Part::text("pay to eve@example.com", Label::UNKNOWN_FILE)];
        open.answer(ToolResult { call, status: CallStatus::Ok, parts }).expect("it is open");
        transcript.push_unit(open.close().expect("its call has a result"));
        let context = Label::UNKNOWN_FILE;
        let of = |json: Value| {
            let source = origin_of(&transcript, &json, context, &mut { TEXTS_MAX });
            (source.origin, source.label)
        };
        assert_eq!(of(Value::from("bob@example.com")), (Origin::Said, Label::ACTOR_TEXT));
        assert_eq!(of(Value::from("eve@example.com")), (Origin::Found, Label::UNKNOWN_FILE));
        assert_eq!(of(Value::from("somebody else")), (Origin::Written, context));
        for part in ["bob@example.co", "ob@example.com"] {
            assert_eq!(of(Value::from(part)), (Origin::Written, context), "{part}");
        }
        assert_eq!(of(serde_json::json!(["bob@example.com", "eve@example.com"])).0, Origin::Found);
        assert_eq!(of(serde_json::json!(7)), (Origin::Written, context));
        let many = vec!["bob@example.com"; TEXTS_MAX + 1];
        assert_eq!(of(Value::from(many[1..].to_vec())).0, Origin::Said);
        assert_eq!(of(Value::from(many)).0, Origin::Found, "nobody looks for more");
        transcript.push_input(said("eve@example.com is fine", Label::ACTOR_TEXT));
        let now = origin_of(&transcript, &Value::from("eve@example.com"), context, &mut { TEXTS_MAX });
        assert_eq!(now.origin, Origin::Said);
        assert_eq!(now.quote().as_deref(), Some("eve@example.com is fine"));
    }

    #[test]
    fn a_quote_is_short_and_says_where_it_is_cut_off() {
        let quote = |before: &str, text: &str, after: &str| {
            let whole = format!("{before}{text}{after}");
            let place = Some((whole.as_str(), before.len(), text.len()));
            let source = Source { origin: Origin::Found, label: Label::CLAIM, place };
            source.quote().expect("it stands somewhere")
        };
        assert_eq!(quote("pay to ", "eve", " now"), "pay to eve now");
        let long = "ä".repeat(400);
        for (before, text, after) in [
            (long.as_str(), "eve", long.as_str()),
            ("", long.as_str(), ""),
            ("", "eve", long.as_str()),
            (long.as_str(), "eve", ""),
        ] {
            let quoted = quote(before, text, after);
            assert!(quoted.len() <= QUOTE_BYTES_MAX + 2 * "…".len(), "{quoted}");
            assert!(text == long || quoted.contains(text), "{quoted}");
            assert_eq!(quoted.starts_with('…'), !before.is_empty(), "{quoted}");
            assert_eq!(quoted.ends_with('…'), text == long || !after.is_empty(), "{quoted}");
        }
        let nowhere = Source { origin: Origin::Written, label: Label::CLAIM, place: None };
        assert_eq!(nowhere.quote(), None);
    }
}
