//! The records of a run's journal, past tense and versioned.
//!
//! An entry holds small facts; what was said lies beside it as a body. Each kind has a version whose meaning
//! never changes: a changed meaning is a new version, which is read beside the earlier one. A reader that meets a kind or
//! version it does not know gets [`DecodeError::Unknown`] and holds the run; nothing is lost.
//!
//! Stored form: kind, version and the fields as JSON, each field under its own name.
//!
//! What an entry means for a run is not decided here; the engine's state does that.

mod call;
mod model;
mod run;

pub use call::{CallAsked, ToolFinished, ToolHanded, ToolRefused, ToolStarted};
pub use model::{
    JudgedBy, MaskedCall, ModelCalled, ModelFailed, ModelReplied, OpinionCalled, OpinionGiven, WithheldReply,
};
pub use run::{
    HoldReason, InputsTaken, ParkReason, RunCancelled, RunCompleted, RunFailed, RunHeld, RunParked,
    RunStarted, RunYielded, SignalTaken, repeated_text,
};

macro_rules! entries {
    ($($(#[$doc:meta])* $variant:ident = $kind:literal v $version:literal;)+) => {
        /// One record of a run's journal.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Entry {
            $($(#[$doc])* $variant($variant),)+
        }

        impl Entry {
            /// Every kind that this version writes, with its version.
            pub const KINDS: &'static [(&'static str, u16)] = &[$(($kind, $version),)+];

            /// Returns the kind and its version as they are stored.
            pub const fn kind(&self) -> (&'static str, u16) {
                match self { $(Self::$variant(_) => ($kind, $version),)+ }
            }

            /// Returns the fields as JSON.
            pub fn encode(&self) -> String {
                let json = match self { $(Self::$variant(fields) => serde_json::to_string(fields)),+ };
                // The structs below hold strings, numbers and ids only, so serialization has no failing case.
                json.unwrap_or_default()
            }

            /// Reads what [`Entry::encode`] wrote.
            pub fn decode(kind: &str, version: u16, fields: &str) -> Result<Self, DecodeError> {
                let read = match (kind, version) {
                    $(($kind, $version) => serde_json::from_str(fields).map(Self::$variant),)+
                    _ => return Err(DecodeError::Unknown { kind: kind.to_owned(), version }),
                };
                read.map_err(|source| DecodeError::Fields {
                    kind: kind.to_owned(),
                    version,
                    problem: source.to_string(),
                })
            }
        }
    };
}

entries! {
    /// The run began and took its first inputs.
    RunStarted = "run_started" v 1;
    /// A model attempt is about to begin; its cost is reserved.
    ModelCalled = "model_called" v 1;
    /// The model answered; the body is an `AssistantMessage`.
    ModelReplied = "model_replied" v 1;
    /// A model attempt gave no answer.
    ModelFailed = "model_failed" v 1;
    /// An actor asked for one call, and the run is nothing else; the body is an `AssistantMessage` with that call.
    CallAsked = "call_asked" v 1;
    /// A second model is about to be asked about a call; the cost of all its answers is reserved.
    OpinionCalled = "opinion_called" v 1;
    /// A second model said what it thinks of a call, or was cut off.
    OpinionGiven = "opinion_given" v 1;
    /// A tool call passed the gate and is about to begin.
    ToolStarted = "tool_started" v 1;
    /// A tool call ended; the body is a `ToolResult`.
    ToolFinished = "tool_finished" v 1;
    /// A tool call was refused before it began; the body is a `ToolResult`.
    ToolRefused = "tool_refused" v 1;
    /// A tool call was handed to the client whose tool it is; its result comes with an input.
    ToolHanded = "tool_handed" v 1;
    /// The running turn took inputs of its session that came after it began; they enter before its next model call.
    InputsTaken = "inputs_taken" v 1;
    /// The run took a signal from its inbox.
    SignalTaken = "signal_taken" v 1;
    /// The run rests.
    RunParked = "run_parked" v 1;
    /// The run does not get on by itself; a person must look.
    RunHeld = "run_held" v 1;
    /// The run answered.
    RunCompleted = "run_completed" v 1;
    /// The run reached its iteration limit or a budget.
    RunYielded = "run_yielded" v 1;
    /// The run ended with an error.
    RunFailed = "run_failed" v 1;
    /// An actor ended the run.
    RunCancelled = "run_cancelled" v 1;
}

/// Says why a stored entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer version wrote it.
    #[error("this version does not know {kind} entries of version {version}")]
    Unknown {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u16,
    },
    /// The fields are not those of the kind.
    #[error("the fields of a {kind} entry of version {version} cannot be read: {problem}")]
    Fields {
        /// The stored kind.
        kind: String,
        /// The stored version.
        version: u16,
        /// What the parser says.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::digest::Digest;
    use crate::id::{ApprovalId, CallId};

    #[test]
    fn a_stop_text_is_optional_in_a_stored_answer() {
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
    fn a_withholding_reason_is_optional_in_a_stored_answer() {
        let usage = r#"{"input_tokens":3,"output_tokens":5}"#;
        let plain = format!(r#"{{"step":1,"attempt":1,"usage":{usage},"cost_micros":0,"finish":"stop""#);
        let withheld = r#","withheld":{"rule":"default deny","reason":"no"}"#;
        let masked = r#","masked":[{"call":"call_1_0","reason":"no"}]"#;
        let both = format!("{withheld}{masked}");
        for said in ["", withheld, masked, both.as_str()] {
            let fields = format!("{plain}{said}}}");
            let entry = Entry::decode("model_replied", 1, &fields).expect("all are read");
            assert_eq!((entry.kind(), entry.encode()), (("model_replied", 1), fields));
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
    fn a_stored_model_call_names_the_sent_request() {
        let first = r#"{"step":1,"attempt":1,"model":"m","history_from":1,"input_tokens":3,"output_tokens_max":9,"reserved_micros":0"#;
        let sent = r#""sent":{"form":"chat/1","model":"m-1","digest":"0001020304050607"}"#;
        let fields = format!("{first},{sent}}}");
        let entry = Entry::decode("model_called", 1, &fields).expect("it is read");
        assert_eq!((entry.kind(), entry.encode()), (("model_called", 1), fields));
        let torn =
            Entry::decode("model_called", 1, &format!("{first}}}")).expect_err("it must say what was sent");
        assert!(torn.to_string().contains("sent"), "{torn}");
    }

    #[test]
    fn judged_requests_are_optional_in_a_finished_call() {
        let egress =
            r#","egress":[{"method":"GET","to":"https://h:443","allowed":false,"rule":"default deny"}]"#;
        for judged in ["", egress] {
            let fields = format!(r#"{{"call":"call_1_0","status":"ok"{judged}}}"#);
            let entry = Entry::decode("tool_finished", 1, &fields).expect("both are read");
            assert_eq!((entry.kind(), entry.encode()), (("tool_finished", 1), fields));
        }
    }

    #[test]
    fn an_approval_is_optional_in_a_stored_signal() {
        let plain =
            format!(r#"{{"item":"itm_{}","position":1,"signal":"approve","by":"token:ops""#, "03".repeat(16));
        let answers = format!(r#","approval":"apr_{}""#, "06".repeat(16));
        for said in ["", answers.as_str()] {
            let fields = format!("{plain}{said}}}");
            let entry = Entry::decode("signal_taken", 1, &fields).expect("both are read");
            assert_eq!((entry.kind(), entry.encode()), (("signal_taken", 1), fields));
        }
    }

    #[test]
    fn a_decision_names_its_policy_or_is_written_without_it() {
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
    fn a_network_access_is_optional_in_a_stored_call() {
        let action = "0f".repeat(32);
        let started = format!(
            r#"{{"call":"call_1_0","tool":"exec","effect":"unkeyed","attempt":1,"action":"{action}","rule":"grant exec""#
        );
        let refused = r#"{"call":"call_1_0","tool":"exec","status":"denied","rule":"r""#;
        for (kind, fields) in [("tool_started", started.as_str()), ("tool_refused", refused)] {
            for said in ["", r#","network":"none""#, r#","network":"proxy""#] {
                let fields = format!("{fields}{said}}}");
                let entry = Entry::decode(kind, 1, &fields).expect("all are read");
                assert_eq!((entry.kind(), entry.encode()), ((kind, 1), fields));
            }
        }
    }

    #[test]
    fn a_parked_entry_keeps_its_reason_readable() {
        let entry = Entry::RunParked(RunParked { park: ParkReason::AgentPaused });
        assert_eq!(entry.encode(), r#"{"on":"agent_paused"}"#);
        assert_eq!(Entry::decode("run_parked", 1, &entry.encode()), Ok(entry));
        let park = ParkReason::Approval {
            approval: ApprovalId::from_bytes([1; 16]),
            call: CallId { step: 2, index: 1 },
            action: Digest::from_bytes([3; 32]),
            binding: Digest::from_bytes([4; 32]),
            until: Timestamp::UNIX_EPOCH,
            cools_until: None,
            replaces: None,
        };
        let entry = Entry::RunParked(RunParked { park });
        assert!(entry.encode().starts_with(r#"{"on":"approval","approval":"apr_0101"#), "{}", entry.encode());
        for absent in ["cools", "replaces"] {
            assert!(!entry.encode().contains(absent), "{}", entry.encode());
        }
        assert_eq!(Entry::decode("run_parked", 1, &entry.encode()), Ok(entry));
        let ParkReason::Approval { approval, call, action, binding, until, .. } = park else {
            unreachable!()
        };
        let (cools_until, replaces) = (Some(Timestamp::MAX), Some(ApprovalId::from_bytes([7; 16])));
        let park = ParkReason::Approval { approval, call, action, binding, until, cools_until, replaces };
        let entry = Entry::RunParked(RunParked { park });
        assert_eq!(Entry::decode("run_parked", 1, &entry.encode()), Ok(entry));
    }
}
