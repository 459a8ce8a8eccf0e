//! The records of a run's journal, past tense and versioned.
//!
//! An entry holds small facts; what was said lies beside it as a body. Each kind has a version whose meaning
//! never changes: a changed meaning is a new version, read beside the old one for ever. A reader that meets a
//! kind or version it does not know gets [`DecodeError::Unknown`] and holds the run; nothing is lost.
//!
//! Stored form: kind, version and the fields as JSON, each field under its own name.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::approval::ApprovedCall;
use crate::budget::Exhausted;
use crate::content::CallStatus;
use crate::digest::Digest;
use crate::egress::Decision;
use crate::fault::ErrorCode;
use crate::id::{AgentId, ApprovalId, CallId, ItemId, RunId, SessionId};
use crate::model::{Finish, Usage, UsageDetail};
use crate::opinion::Opinion;
use crate::run::RunKind;
use crate::scope::Actor;
use crate::sent::Sent;
use crate::session::ItemKind;
use crate::tool::EffectClass;

macro_rules! entries {
    ($($(#[$doc:meta])* $variant:ident = $kind:literal v $version:literal;)+) => {
        /// One record of a run's journal.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Entry {
            $($(#[$doc])* $variant($variant),)+
        }

        impl Entry {
            /// Every kind this version writes, with its version. A later version of a kind follows all first ones.
            pub const KINDS: &'static [(&'static str, u16)] =
                &[$(($kind, $version),)+ ModelCalled::SENT, ToolFinished::JUDGED, RunYielded::UNFUNDED];

            /// Returns the kind and its version as they are stored.
            pub const fn kind(&self) -> (&'static str, u16) {
                match self {
                    Self::ModelCalled(ModelCalled { sent: Some(_), .. }) => ModelCalled::SENT,
                    Self::ToolFinished(finished) if !finished.egress.is_empty() => ToolFinished::JUDGED,
                    Self::RunYielded(RunYielded { budget: Some(_), .. }) => RunYielded::UNFUNDED,
                    $(Self::$variant(_) => ($kind, $version),)+
                }
            }

            /// Returns the fields as JSON.
            pub fn encode(&self) -> String {
                let json = match self { $(Self::$variant(fields) => serde_json::to_string(fields)),+ };
                // The structs below hold strings, numbers and ids only, so serialization has no failing case.
                json.unwrap_or_default()
            }

            /// Reads what [`Entry::encode`] wrote.
            pub fn decode(kind: &str, version: u16, fields: &str) -> Result<Self, DecodeError> {
                let unreadable = |source: serde_json::Error| DecodeError::Fields {
                    kind: kind.to_owned(),
                    version,
                    problem: source.to_string(),
                };
                let read = match (kind, version) {
                    ModelCalled::SENT => serde_json::from_str::<ModelCalled>(fields)
                        .and_then(|called| match called.sent {
                            Some(_) => Ok(Self::ModelCalled(called)),
                            None => Err(<serde_json::Error as serde::de::Error>::missing_field("sent")),
                        })
                        .map_err(unreadable),
                    ToolFinished::JUDGED => serde_json::from_str::<ToolFinished>(fields)
                        .and_then(|finished| {
                            if finished.egress.is_empty() {
                                return Err(<serde_json::Error as serde::de::Error>::missing_field("egress"));
                            }
                            Ok(Self::ToolFinished(finished))
                        })
                        .map_err(unreadable),
                    RunYielded::UNFUNDED => serde_json::from_str::<RunYielded>(fields)
                        .and_then(|yielded| match yielded.budget {
                            Some(_) => Ok(Self::RunYielded(yielded)),
                            None => Err(<serde_json::Error as serde::de::Error>::missing_field("budget")),
                        })
                        .map_err(unreadable),
                    $(($kind, $version) => serde_json::from_str(fields).map(Self::$variant).map_err(unreadable),)+
                    _ => Err(DecodeError::Unknown { kind: kind.to_owned(), version }),
                };
                match read {
                    // The first version says nothing of what was sent, whatever stands there.
                    Ok(Self::ModelCalled(called)) if version == 1 => {
                        Ok(Self::ModelCalled(ModelCalled { sent: None, ..called }))
                    }
                    Ok(Self::ToolFinished(finished)) if version == 1 => {
                        Ok(Self::ToolFinished(ToolFinished { egress: Vec::new(), ..finished }))
                    }
                    Ok(Self::RunYielded(yielded)) if version == 1 => {
                        Ok(Self::RunYielded(RunYielded { budget: None, ..yielded }))
                    }
                    read => read,
                }
            }
        }
    };
}

entries! {
    /// The run began and took its first inputs.
    RunStarted = "run_started" v 1;
    /// A model attempt is about to begin; its cost is reserved. Version 2 says what was sent.
    ModelCalled = "model_called" v 1;
    /// The model answered; the body is an `AssistantMessage`.
    ModelReplied = "model_replied" v 1;
    /// A model attempt gave no answer.
    ModelFailed = "model_failed" v 1;
    /// Somebody asked for one call, and the run is nothing else; the body is an `AssistantMessage` with that call.
    CallAsked = "call_asked" v 1;
    /// A second model is about to be asked about a call; the cost of all its answers is reserved.
    OpinionCalled = "opinion_called" v 1;
    /// A second model said what it thinks of a call, or was cut off.
    OpinionGiven = "opinion_given" v 1;
    /// A tool call passed the gate and is about to begin.
    ToolStarted = "tool_started" v 1;
    /// A tool call ended; the body is a `ToolResult`. Version 2 says which requests to other hosts were judged.
    ToolFinished = "tool_finished" v 1;
    /// A tool call was refused before it began; the body is a `ToolResult`.
    ToolRefused = "tool_refused" v 1;
    /// A tool call was handed to the client whose tool it is; its result comes with an input.
    ToolHanded = "tool_handed" v 1;
    /// The run took a signal from its inbox.
    SignalTaken = "signal_taken" v 1;
    /// The run rests.
    RunParked = "run_parked" v 1;
    /// The run does not get on by itself; a person must look.
    RunHeld = "run_held" v 1;
    /// The run answered.
    RunCompleted = "run_completed" v 1;
    /// The run reached its iteration limit. Version 2 says which budget it reached instead.
    RunYielded = "run_yielded" v 1;
    /// The run ended with an error.
    RunFailed = "run_failed" v 1;
    /// Somebody ended the run.
    RunCancelled = "run_cancelled" v 1;
}

/// Says why a stored entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer version wrote it.
    #[error("this version knows no entry {kind} version {version}")]
    Unknown {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u16,
    },
    /// The fields are not those of the kind.
    #[error("the fields of {kind} version {version} are unreadable: {problem}")]
    Fields {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u16,
        /// What the parser says.
        problem: String,
    },
}

/// Fields of [`Entry::RunStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStarted {
    /// What the run is for.
    pub kind: RunKind,
    /// Its agent.
    pub agent: AgentId,
    /// Its session.
    pub session: SessionId,
    /// The inbox items it took, in order.
    pub items: Vec<ItemId>,
    /// The position after which it took them.
    pub after: u64,
    /// The yielded run that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<RunId>,
    /// The approved call that is all it does. Only a run of kind `worker` has one, which a program of before holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<ApprovedCall>,
    /// The configuration revision it is pinned to.
    pub config: Digest,
    /// The system text and the tools it is pinned to; a pin of the store.
    pub prompt: Digest,
    /// The most model calls it may begin.
    pub model_calls_max: u32,
}

/// Fields of [`Entry::ModelCalled`]. With the pinned prompt they rebuild the request exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCalled {
    /// The model step, counted from 1.
    pub step: u32,
    /// The attempt at this step, counted from 1.
    pub attempt: u32,
    /// The alias of the model.
    pub model: String,
    /// The position of the first inbox item in the transcript that was sent.
    pub history_from: u64,
    /// Counted input tokens.
    pub input_tokens: u32,
    /// The most tokens the answer may have.
    pub output_tokens_max: u32,
    /// What is reserved for the attempt.
    pub reserved_micros: u64,
    /// What was sent; absent in version 1, which cannot prove that a request is the one that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
}

impl ModelCalled {
    /// The kind and version that say what was sent.
    pub const SENT: (&'static str, u16) = ("model_called", 2);
}

/// Fields of [`Entry::ModelReplied`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReplied {
    /// The model step.
    pub step: u32,
    /// The attempt.
    pub attempt: u32,
    /// What it used.
    pub usage: Usage,
    /// What the tokens were.
    #[serde(default, skip_serializing_if = "UsageDetail::is_empty")]
    pub detail: UsageDetail,
    /// What it cost.
    pub cost_micros: u64,
    /// Why it stopped.
    pub finish: Finish,
    /// The stop text at which it ended. Most providers do not say it, and neither do entries of before; a program that does
    /// not know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
    /// The tools it asks for, by name, in order; the body has the arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Whether all that was sent for it was trusted, so that what it asks for is planned. Entries of before do not say it,
    /// and plan nothing; a program that does not know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// Fields of [`Entry::ModelFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFailed {
    /// The model step.
    pub step: u32,
    /// The attempt.
    pub attempt: u32,
    /// What happened; `outcome_unknown` for an attempt that a crash cut off.
    pub code: ErrorCode,
    /// What happened, in words.
    pub message: String,
    /// What stays charged: the reservation where the outcome is unknown, else nothing.
    pub charged_micros: u64,
}

/// Fields of [`Entry::OpinionCalled`]. The model is sent the same so many times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpinionCalled {
    /// The call.
    pub call: CallId,
    /// The digest of its canonical action.
    pub action: Digest,
    /// The alias of the model.
    pub model: String,
    /// How many times it is asked.
    pub samples: u32,
    /// Counted input tokens of one request.
    pub input_tokens: u32,
    /// The most tokens that one answer may have.
    pub output_tokens_max: u32,
    /// What is reserved for all of them.
    pub reserved_micros: u64,
    /// What is sent each time.
    pub sent: Sent,
}

/// Fields of [`Entry::OpinionGiven`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpinionGiven {
    /// The call.
    pub call: CallId,
    /// The digest of its canonical action.
    pub action: Digest,
    /// What was said; absent where a crash, or the end of the run, cut it off. Without an `OpinionCalled` before it, nobody
    /// could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<Opinion>,
    /// What the answers used, as far as it was reported.
    pub usage: Usage,
    /// The tokens that count: those that were reported, and those that were reserved for answers of which nobody knows.
    pub tokens: u64,
    /// What the answers cost, those of which nobody knows at their reservation.
    pub cost_micros: u64,
}

/// Fields of [`Entry::ToolStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolStarted {
    /// The call; with the run it is the idempotency key of every attempt.
    pub call: CallId,
    /// The tool.
    pub tool: String,
    /// What a repeated call may do.
    pub effect: EffectClass,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The digest of the canonical action that the gate judged.
    pub action: Digest,
    /// The rule that allowed it.
    pub rule: String,
    /// The policy that was asked, as the digest of its text. Entries of before say nothing of it; a program that does not
    /// know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// The approval that this start uses up, if the rule asks for one. Entries of before had none; a program that does not
    /// know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// Whether the call lay within the plan of its turn, if that was frozen when the gate was asked; a program that does
    /// not know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_plan: Option<bool>,
    /// What a second model said of the call before, where this run asked one; a program that does not know the field reads
    /// the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<Opinion>,
}

/// Fields of [`Entry::ToolFinished`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolFinished {
    /// The call.
    pub call: CallId,
    /// How it ended.
    pub status: CallStatus,
    /// What was judged about the requests that left this process, or did not; version 1 knows of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Decision>,
    /// BLAKE3 of what it gave, by which a call that gives the same again and again is known; absent in entries of before, and
    /// for calls that did not end by themselves. A program that does not know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
}

impl ToolFinished {
    /// The kind and version that say what was judged.
    pub const JUDGED: (&'static str, u16) = ("tool_finished", 2);
}

/// Fields of [`Entry::ToolRefused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRefused {
    /// The call.
    pub call: CallId,
    /// The tool as the model named it.
    pub tool: String,
    /// `denied` by the gate, `error` for arguments off the schema, `cancelled` before it began, `awaiting` where nobody
    /// approved it while the run waited.
    pub status: CallStatus,
    /// The rule that refused it, if a rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The policy that was asked, as the digest of its text. Entries of before say nothing of it; a program that does not
    /// know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// The approval that the call was asked for under: it goes on without the run where the status is `awaiting`, and is
    /// given back otherwise. Entries of before had none; a program that does not know the field reads the entry without it,
    /// and holds a run with the status `awaiting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// Whether the call lay within the plan of its turn, if that was frozen when the gate was asked; a program that does
    /// not know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_plan: Option<bool>,
    /// What a second model said of the call before, where this run asked one; a program that does not know the field reads
    /// the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<Opinion>,
}

/// Fields of [`Entry::CallAsked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallAsked {
    /// The call.
    pub call: CallId,
    /// The tool as it was named.
    pub tool: String,
}

/// Fields of [`Entry::ToolHanded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolHanded {
    /// The call.
    pub call: CallId,
    /// The client's tool.
    pub tool: String,
}

/// Fields of [`Entry::SignalTaken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalTaken {
    /// The item.
    pub item: ItemId,
    /// Its position in the run's inbox.
    pub position: u64,
    /// What it asks for.
    pub signal: ItemKind,
    /// Who sent it.
    pub by: Actor,
}

/// Why a run rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "on")]
pub enum Park {
    /// A retry of a model attempt is due at a time.
    Retry {
        /// When.
        until: Timestamp,
    },
    /// Its agent is paused.
    AgentPaused,
    /// A person must allow a call. A program of before holds such a run.
    Approval {
        /// The approval.
        approval: ApprovalId,
        /// The call.
        call: CallId,
        /// The digest of its action.
        action: Digest,
        /// What the approval is bound to.
        binding: Digest,
        /// Until when the run waits.
        until: Timestamp,
        /// From when on the call is allowed by itself, where it is delayed. A program of before takes it for one that a
        /// person must allow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cools_until: Option<Timestamp>,
    },
}

/// Fields of [`Entry::RunParked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunParked {
    /// What it waits for.
    #[serde(flatten)]
    pub park: Park,
}

/// Fields of [`Entry::RunHeld`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeld {
    /// Why.
    pub reason: HoldReason,
    /// The facts: how often, or which entry.
    pub detail: String,
}

/// Why a run is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// It was taken over too often without a new entry.
    Claims,
    /// Crash after crash cut off the same model step, or the second opinion about the same call.
    LostAttempts,
    /// Its journal has an entry that this version cannot read.
    Unreadable,
    /// A stored entry does not match its digest.
    Damaged,
}

/// Fields of [`Entry::RunCompleted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCompleted {
    /// The rule by which the gate let the reply out.
    pub rule: String,
    /// The policy that was asked, as the digest of its text. Entries of before say nothing of it; a program that does not
    /// know the field reads the entry without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
}

/// Fields of [`Entry::RunYielded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunYielded {
    /// The model calls it began.
    pub model_calls: u32,
    /// The budget that had no room for its next call; version 1 knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Exhausted>,
}

impl RunYielded {
    /// The kind and version that say which budget was used up.
    pub const UNFUNDED: (&'static str, u16) = ("run_yielded", 2);
}

/// Fields of [`Entry::RunFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailed {
    /// What happened.
    pub code: ErrorCode,
    /// What happened, in words that the tenant may read.
    pub message: String,
}

/// Fields of [`Entry::RunCancelled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCancelled {
    /// Who ended it.
    pub by: Actor,
    /// `cancel` or `terminate`.
    pub signal: ItemKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_at_which_text_it_stopped_or_is_written_as_ever() {
        let usage = r#"{"input_tokens":3,"output_tokens":5}"#;
        let plain = format!(r#"{{"step":1,"attempt":1,"usage":{usage},"cost_micros":0,"finish":"stop""#);
        for (stopped_at, fields) in
            [(None, format!("{plain}}}")), (Some("END"), format!(r#"{plain},"stopped_at":"END"}}"#))]
        {
            let entry = Entry::decode("model_replied", 1, &fields).expect("both are read");
            assert_eq!((entry.kind(), entry.encode()), (("model_replied", 1), fields));
            let Entry::ModelReplied(replied) = entry else { panic!("it is an answer") };
            assert_eq!(replied.stopped_at.as_deref(), stopped_at);
        }
    }

    #[test]
    fn an_unknown_kind_or_version_is_named() {
        let newer = Entry::decode("run_completed", 9, "{}").expect_err("version 9 does not exist");
        assert_eq!(newer, DecodeError::Unknown { kind: "run_completed".into(), version: 9 });
        assert!(Entry::decode("run_dreamed", 1, "{}").is_err());
        let damaged = Entry::decode("run_yielded", 1, "{}").expect_err("a field is missing");
        assert!(damaged.to_string().contains("model_calls"), "{damaged}");
    }

    #[test]
    fn a_model_call_keeps_the_version_that_it_was_written_in() {
        let first = r#"{"step":1,"attempt":1,"model":"m","history_from":1,"input_tokens":3,"output_tokens_max":9,"reserved_micros":0"#;
        let sent = r#""sent":{"form":"chat/1","model":"m-1","digest":"0001020304050607"}"#;
        for (version, fields) in [(1, format!("{first}}}")), (2, format!("{first},{sent}}}"))] {
            let entry = Entry::decode("model_called", version, &fields).expect("both versions are read");
            assert_eq!((entry.kind(), entry.encode()), (("model_called", version), fields));
        }
        let torn =
            Entry::decode("model_called", 2, &format!("{first}}}")).expect_err("it must say what was sent");
        assert!(torn.to_string().contains("sent"), "{torn}");
        let strange = Entry::decode("model_called", 1, &format!("{first},{sent}}}")).expect("it is read");
        assert_eq!(strange.kind(), ("model_called", 1));
    }

    #[test]
    fn a_finished_call_keeps_the_version_that_it_was_written_in() {
        let plain = r#"{"call":"call_1_0","status":"ok""#;
        let egress =
            r#""egress":[{"method":"GET","to":"https://h:443","allowed":false,"rule":"default deny"}]"#;
        for (version, fields) in [(1, format!("{plain}}}")), (2, format!("{plain},{egress}}}"))] {
            let entry = Entry::decode("tool_finished", version, &fields).expect("both versions are read");
            assert_eq!((entry.kind(), entry.encode()), (("tool_finished", version), fields));
        }
        let torn = Entry::decode("tool_finished", 2, &format!("{plain}}}")).expect_err("it must say what");
        assert!(torn.to_string().contains("egress"), "{torn}");
    }

    #[test]
    fn a_decision_names_its_policy_or_is_written_as_ever() {
        let digest = "0f".repeat(32);
        let named = format!(r#","policy":"{digest}""#);
        for (kind, fields) in [
            ("tool_refused", r#"{"call":"call_1_0","tool":"exec","status":"denied","rule":"r""#),
            ("run_completed", r#"{"rule":"grant reply""#),
        ] {
            for said in ["", named.as_str()] {
                let fields = format!("{fields}{said}}}");
                let entry = Entry::decode(kind, 1, &fields).expect("both are read");
                assert_eq!((entry.kind(), entry.encode()), ((kind, 1), fields));
            }
        }
    }

    #[test]
    fn a_parked_entry_keeps_its_reason_readable() {
        let entry = Entry::RunParked(RunParked { park: Park::AgentPaused });
        assert_eq!(entry.encode(), r#"{"on":"agent_paused"}"#);
        assert_eq!(Entry::decode("run_parked", 1, &entry.encode()), Ok(entry));
        let park = Park::Approval {
            approval: ApprovalId::from_bytes([1; 16]),
            call: CallId { step: 2, index: 1 },
            action: Digest::from_bytes([3; 32]),
            binding: Digest::from_bytes([4; 32]),
            until: Timestamp::UNIX_EPOCH,
            cools_until: None,
        };
        let entry = Entry::RunParked(RunParked { park });
        assert!(entry.encode().starts_with(r#"{"on":"approval","approval":"apr_0101"#), "{}", entry.encode());
        assert!(!entry.encode().contains("cools"), "{}", entry.encode());
        assert_eq!(Entry::decode("run_parked", 1, &entry.encode()), Ok(entry));
        let Park::Approval { approval, call, action, binding, until, .. } = park else { unreachable!() };
        let cools_until = Some(Timestamp::MAX);
        let park = Park::Approval { approval, call, action, binding, until, cools_until };
        let entry = Entry::RunParked(RunParked { park });
        assert_eq!(Entry::decode("run_parked", 1, &entry.encode()), Ok(entry));
    }
}
