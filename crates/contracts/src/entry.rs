//! The records of a run's journal, past tense and versioned.
//!
//! An entry holds small facts; what was said lies beside it as a body. Each kind has a version whose meaning
//! never changes: a changed meaning is a new version, read beside the old one for ever. A reader that meets a
//! kind or version it does not know gets [`DecodeError::Unknown`] and holds the run; nothing is lost.
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
    HoldReason, ParkReason, RunCancelled, RunCompleted, RunFailed, RunHeld, RunParked, RunStarted,
    RunYielded, SignalTaken, repeated_text,
};

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
                &[
                    $(($kind, $version),)+
                    ModelCalled::SENT,
                    ToolFinished::JUDGED,
                    RunYielded::UNFUNDED,
                    SignalTaken::ANSWERS,
                ];

            /// Returns the kind and its version as they are stored.
            pub const fn kind(&self) -> (&'static str, u16) {
                match self {
                    Self::ModelCalled(ModelCalled { sent: Some(_), .. }) => ModelCalled::SENT,
                    Self::ToolFinished(finished) if !finished.egress.is_empty() => ToolFinished::JUDGED,
                    Self::RunYielded(RunYielded { budget: Some(_), .. }) => RunYielded::UNFUNDED,
                    Self::SignalTaken(SignalTaken { approval: Some(_), .. }) => SignalTaken::ANSWERS,
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
                    SignalTaken::ANSWERS => serde_json::from_str::<SignalTaken>(fields)
                        .and_then(|taken| match taken.approval {
                            Some(_) => Ok(Self::SignalTaken(taken)),
                            None => Err(<serde_json::Error as serde::de::Error>::missing_field("approval")),
                        })
                        .map_err(unreadable),
                    $(($kind, $version) => serde_json::from_str(fields).map(Self::$variant).map_err(unreadable),)+
                    _ => Err(DecodeError::Unknown { kind: kind.to_owned(), version }),
                };
                match read {
                    // Version 1 does not have these fields; decoding drops what is there.
                    Ok(Self::ModelCalled(called)) if version == 1 => {
                        Ok(Self::ModelCalled(ModelCalled { sent: None, ..called }))
                    }
                    Ok(Self::ToolFinished(finished)) if version == 1 => {
                        Ok(Self::ToolFinished(ToolFinished { egress: Vec::new(), ..finished }))
                    }
                    Ok(Self::RunYielded(yielded)) if version == 1 => {
                        Ok(Self::RunYielded(RunYielded { budget: None, ..yielded }))
                    }
                    Ok(Self::SignalTaken(taken)) if version == 1 => {
                        Ok(Self::SignalTaken(SignalTaken { approval: None, ..taken }))
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
    /// An actor asked for one call, and the run is nothing else; the body is an `AssistantMessage` with that call.
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
    /// The run took a signal from its inbox. Version 2 says which approval it answers.
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
    fn an_answer_says_why_it_is_withheld_or_is_written_as_ever() {
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
    fn a_signal_says_which_approval_it_answers_or_is_written_as_ever() {
        let plain =
            format!(r#"{{"item":"itm_{}","position":1,"signal":"approve","by":"token:ops""#, "03".repeat(16));
        let answers = format!(r#""approval":"apr_{}""#, "06".repeat(16));
        for (version, fields) in [(1, format!("{plain}}}")), (2, format!("{plain},{answers}}}"))] {
            let entry = Entry::decode("signal_taken", version, &fields).expect("both versions are read");
            assert_eq!((entry.kind(), entry.encode()), (("signal_taken", version), fields));
        }
        let torn = Entry::decode("signal_taken", 2, &format!("{plain}}}")).expect_err("it must say which");
        assert!(torn.to_string().contains("approval"), "{torn}");
        let strange = Entry::decode("signal_taken", 1, &format!("{plain},{answers}}}")).expect("it is read");
        assert_eq!(strange.kind(), ("signal_taken", 1));
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
    fn a_call_says_what_its_program_was_to_be_given_or_is_written_as_ever() {
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
