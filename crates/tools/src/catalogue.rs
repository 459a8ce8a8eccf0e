//! The built-in tools by name: their descriptors, and which argument type each one reads.
//!
//! Invariant: a [`BuiltinTool`] has exactly one descriptor, and the list is sorted by name.

use dromia_contracts::label::Label;
use dromia_contracts::plan::{self, PlanDeclaration};
use dromia_contracts::redacted_history;
use dromia_contracts::tool::{
    ArgumentRole, BRANCH, CANCEL, EffectClass, EffectSink, REPLY, ROUTE, SEND, SPAWN, Sensitivity,
    ToolDescriptor, ToolManifest,
};
use serde_json::{Value, json};

use crate::arguments::{
    BranchBegin, FileContent, FileDelete, FileEdit, FileList, FileRead, FileSearch, HttpRequest,
    InterimReply, MessageSend, PastRead, ProgramExecute, ShellExecute, TimeNow, WorkerCancel, WorkerRoute,
    WorkerSpawn, argument_schema, canonical_arguments, parse_arguments,
};

/// One built-in tool; the order is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuiltinTool {
    Branch,
    Exec,
    FileAppend,
    FileDelete,
    FileEdit,
    FileList,
    FileRead,
    FileSearch,
    FileWrite,
    HttpRequest,
    MessageSend,
    PastRead,
    PlanDeclare,
    Reply,
    ShellExecute,
    TimeNow,
    WorkerCancel,
    WorkerRoute,
    WorkerSpawn,
}

impl BuiltinTool {
    /// All of them, sorted by name.
    pub(crate) const ALL: [Self; 19] = [
        Self::Branch,
        Self::Exec,
        Self::FileAppend,
        Self::FileDelete,
        Self::FileEdit,
        Self::FileList,
        Self::FileRead,
        Self::FileSearch,
        Self::FileWrite,
        Self::HttpRequest,
        Self::MessageSend,
        Self::PastRead,
        Self::PlanDeclare,
        Self::Reply,
        Self::ShellExecute,
        Self::TimeNow,
        Self::WorkerCancel,
        Self::WorkerRoute,
        Self::WorkerSpawn,
    ];

    /// Returns whether it works in a workspace.
    pub(crate) fn uses_workspace(self) -> bool {
        match self {
            Self::Exec
            | Self::FileAppend
            | Self::FileDelete
            | Self::FileEdit
            | Self::FileList
            | Self::FileRead
            | Self::FileSearch
            | Self::FileWrite
            | Self::ShellExecute => true,
            Self::Branch
            | Self::HttpRequest
            | Self::MessageSend
            | Self::PastRead
            | Self::PlanDeclare
            | Self::Reply
            | Self::WorkerCancel
            | Self::WorkerRoute
            | Self::WorkerSpawn
            | Self::TimeNow => false,
        }
    }

    /// Finds a tool. Some providers allow no dots in names, so `file_read` is taken for `file.read`.
    pub(crate) fn find_by_name(name: &str) -> Option<Self> {
        let dotted = name.replace('_', ".");
        Self::ALL.into_iter().find(|tool| tool.name() == dotted)
    }

    /// Returns the name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Branch => BRANCH,
            Self::Exec => "exec",
            Self::FileAppend => "file.append",
            Self::FileDelete => "file.delete",
            Self::FileEdit => "file.edit",
            Self::FileList => "file.list",
            Self::FileRead => "file.read",
            Self::FileSearch => "file.search",
            Self::FileWrite => "file.write",
            Self::HttpRequest => "http.request",
            Self::MessageSend => SEND,
            Self::PastRead => redacted_history::READ,
            Self::PlanDeclare => plan::DECLARE,
            Self::Reply => REPLY,
            Self::ShellExecute => "shell.execute",
            Self::WorkerCancel => CANCEL,
            Self::WorkerRoute => ROUTE,
            Self::WorkerSpawn => SPAWN,
            Self::TimeNow => "time.now",
        }
    }

    /// Returns what a repeated call may do, at worst: what a request may do depends on its method.
    pub(crate) const fn effect_class(self) -> EffectClass {
        match self {
            Self::FileList
            | Self::FileRead
            | Self::FileSearch
            | Self::PastRead
            | Self::PlanDeclare
            | Self::TimeNow => EffectClass::Pure,
            // An edit looks first whether its new text is there already.
            Self::FileDelete | Self::FileEdit | Self::FileWrite => EffectClass::Idempotent,
            Self::Exec | Self::FileAppend | Self::HttpRequest | Self::ShellExecute => EffectClass::Unkeyed,
            Self::Branch
            | Self::MessageSend
            | Self::Reply
            | Self::WorkerCancel
            | Self::WorkerRoute
            | Self::WorkerSpawn => EffectClass::Transactional,
        }
    }

    /// Puts arguments into canonical form, or says what is wrong and where.
    pub(crate) fn canonical_arguments(self, arguments: &str) -> Result<String, String> {
        match self {
            Self::Branch => canonical_arguments::<BranchBegin>(arguments),
            Self::Exec => canonical_arguments::<ProgramExecute>(arguments),
            Self::FileAppend | Self::FileWrite => canonical_arguments::<FileContent>(arguments),
            Self::FileDelete => canonical_arguments::<FileDelete>(arguments),
            Self::FileEdit => {
                parse_arguments::<FileEdit>(arguments)?.check_arguments()?;
                canonical_arguments::<FileEdit>(arguments)
            }
            Self::FileList => canonical_arguments::<FileList>(arguments),
            Self::FileRead => canonical_arguments::<FileRead>(arguments),
            Self::FileSearch => {
                parse_arguments::<FileSearch>(arguments)?.compile_pattern()?;
                canonical_arguments::<FileSearch>(arguments)
            }
            Self::HttpRequest => {
                parse_arguments::<HttpRequest>(arguments)?.check_arguments()?;
                canonical_arguments::<HttpRequest>(arguments)
            }
            Self::MessageSend => canonical_arguments::<MessageSend>(arguments),
            Self::PastRead => canonical_arguments::<PastRead>(arguments),
            Self::PlanDeclare => {
                parse_arguments::<PlanDeclaration>(arguments)?.validation_problem().map_or(Ok(()), Err)?;
                canonical_arguments::<PlanDeclaration>(arguments)
            }
            Self::Reply => canonical_arguments::<InterimReply>(arguments),
            Self::ShellExecute => canonical_arguments::<ShellExecute>(arguments),
            Self::WorkerCancel => canonical_arguments::<WorkerCancel>(arguments),
            Self::WorkerRoute => canonical_arguments::<WorkerRoute>(arguments),
            Self::WorkerSpawn => canonical_arguments::<WorkerSpawn>(arguments),
            Self::TimeNow => canonical_arguments::<TimeNow>(arguments),
        }
    }

    /// Returns what the tool says about itself.
    pub(crate) fn descriptor(self) -> ToolDescriptor {
        ToolDescriptor {
            name: self.name().to_owned(),
            description: self.description().to_owned(),
            parameters: self.parameter_schema(),
            effect: self.effect_class(),
            roles: self.argument_roles().iter().map(|&(name, role)| (name.to_owned(), role)).collect(),
            result_label: self.result_label(),
            // Whose own a file or an earlier turn is, their labels say.
            sensitivity: Sensitivity::Low,
            records: None,
        }
    }

    /// Returns the facts of the tool that a policy gets.
    pub(crate) fn manifest(self) -> ToolManifest {
        ToolManifest {
            sink: self.output_sink(),
            roles: self.argument_roles().iter().map(|&(name, role)| (name.to_owned(), role)).collect(),
        }
    }

    /// Returns where the tool's effect is seen. A program may be given a way out, and what it does with it is unknown;
    /// for a call that gives it none, the judge of the call knows better.
    const fn output_sink(self) -> EffectSink {
        match self {
            Self::Exec | Self::HttpRequest | Self::ShellExecute => EffectSink::Outside,
            Self::Branch
            | Self::FileAppend
            | Self::FileDelete
            | Self::FileEdit
            | Self::FileList
            | Self::FileRead
            | Self::FileSearch
            | Self::FileWrite
            | Self::MessageSend
            | Self::PastRead
            | Self::PlanDeclare
            | Self::Reply
            | Self::WorkerCancel
            | Self::WorkerRoute
            | Self::WorkerSpawn
            | Self::TimeNow => EffectSink::Inside,
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Branch => {
                "Think about a question beside the conversation; the conclusion comes as a later message."
            }
            Self::Exec => "Run a program in the workspace's sandbox; no network but $HTTP_PROXY.",
            Self::FileAppend => "Append to a workspace file, or create it.",
            Self::FileDelete => "Delete a workspace file or empty directory.",
            Self::FileEdit => "Replace exact text in a workspace file.",
            Self::FileList => "List a directory; the whole workspace by default.",
            Self::FileRead => "Read a workspace text file.",
            Self::FileSearch => "Search lines of text in a workspace file or below a directory.",
            Self::FileWrite => "Write a workspace file; creates directories.",
            Self::HttpRequest => "Send an HTTP request to another host.",
            Self::MessageSend => "Send a message to another session; its agent answers there.",
            Self::PastRead => "Read redacted content of an earlier turn by its handle.",
            Self::PlanDeclare => {
                "Declare before you read which tools you will call, how often, to whom, on what."
            }
            Self::Reply => "Say something to the person before your answer, while you go on.",
            Self::ShellExecute => {
                "Run a shell command in the workspace's sandbox; no network but $HTTP_PROXY."
            }
            Self::WorkerCancel => "End a worker or branch of this conversation.",
            Self::WorkerRoute => "Say more to a worker of this conversation, working or done.",
            Self::WorkerSpawn => "Give a task to a worker; its result comes as a later message.",
            Self::TimeNow => "Get date and time (UTC).",
        }
    }

    fn parameter_schema(self) -> Value {
        match self {
            Self::Branch => argument_schema::<BranchBegin>(),
            Self::Exec => argument_schema::<ProgramExecute>(),
            Self::FileAppend | Self::FileWrite => argument_schema::<FileContent>(),
            Self::FileDelete => argument_schema::<FileDelete>(),
            Self::FileEdit => argument_schema::<FileEdit>(),
            Self::FileList => argument_schema::<FileList>(),
            Self::FileRead => argument_schema::<FileRead>(),
            Self::FileSearch => argument_schema::<FileSearch>(),
            Self::HttpRequest => argument_schema::<HttpRequest>(),
            Self::MessageSend => argument_schema::<MessageSend>(),
            Self::PastRead => argument_schema::<PastRead>(),
            Self::PlanDeclare => plan_schema(),
            Self::Reply => argument_schema::<InterimReply>(),
            Self::ShellExecute => argument_schema::<ShellExecute>(),
            Self::WorkerCancel => argument_schema::<WorkerCancel>(),
            Self::WorkerRoute => argument_schema::<WorkerRoute>(),
            Self::WorkerSpawn => argument_schema::<WorkerSpawn>(),
            Self::TimeNow => argument_schema::<TimeNow>(),
        }
    }

    const fn argument_roles(self) -> &'static [(&'static str, ArgumentRole)] {
        match self {
            Self::Branch => &[("task", ArgumentRole::Payload), ("topic", ArgumentRole::Payload)],
            Self::Exec => &[("argv", ArgumentRole::Payload), ("cwd", ArgumentRole::Object)],
            Self::ShellExecute => &[("command", ArgumentRole::Payload), ("cwd", ArgumentRole::Object)],
            Self::FileAppend | Self::FileWrite => {
                &[("content", ArgumentRole::Payload), ("path", ArgumentRole::Object)]
            }
            Self::FileDelete | Self::FileList | Self::FileRead => &[("path", ArgumentRole::Object)],
            Self::FileEdit => &[
                ("new", ArgumentRole::Payload),
                ("old", ArgumentRole::Payload),
                ("path", ArgumentRole::Object),
            ],
            Self::FileSearch => &[("path", ArgumentRole::Object), ("pattern", ArgumentRole::Payload)],
            // The address says where and what; its query carries, as the body and the headers do.
            Self::HttpRequest => &[
                ("body", ArgumentRole::Payload),
                ("headers", ArgumentRole::Payload),
                ("query", ArgumentRole::Payload),
                ("url", ArgumentRole::Destination),
            ],
            Self::MessageSend => &[("session", ArgumentRole::Destination), ("text", ArgumentRole::Payload)],
            Self::PastRead => &[("handle", ArgumentRole::Object)],
            Self::Reply => &[("text", ArgumentRole::Payload)],
            Self::WorkerCancel => &[("worker", ArgumentRole::Object)],
            Self::WorkerRoute => &[("text", ArgumentRole::Payload), ("worker", ArgumentRole::Destination)],
            Self::WorkerSpawn => &[
                ("agent", ArgumentRole::Destination),
                ("deadline_s", ArgumentRole::Object),
                ("rights", ArgumentRole::Object),
                ("role", ArgumentRole::Object),
                ("task", ArgumentRole::Payload),
            ],
            // It does nothing with what it names.
            Self::PlanDeclare | Self::TimeNow => &[],
        }
    }

    const fn result_label(self) -> Label {
        match self {
            // Names are chosen by the authors of the files, and so is what programs say.
            Self::Exec | Self::FileList | Self::FileRead | Self::FileSearch | Self::ShellExecute => {
                Label::UNKNOWN_FILE
            }
            Self::HttpRequest => Label::OUTSIDE,
            // At worst: each result has the label of what is read, or of what led to the words.
            Self::PastRead | Self::Reply => Label::CLAIM,
            Self::Branch
            | Self::FileAppend
            | Self::FileDelete
            | Self::FileEdit
            | Self::FileWrite
            | Self::MessageSend
            | Self::PlanDeclare
            | Self::WorkerCancel
            | Self::WorkerRoute
            | Self::WorkerSpawn
            | Self::TimeNow => Label::PUBLIC_FACT,
        }
    }
}

/// What a declaration looks like, in as few bytes as will do: every byte is sent with every request to a model. What it does not
/// name is refused when it is read.
fn plan_schema() -> Value {
    let words = || json!({ "items": { "type": "string" }, "type": "array" });
    let described_words =
        |about: &str| json!({ "description": about, "items": { "type": "string" }, "type": "array" });
    let calls = json!({
        "properties": {
            "amount_max": { "type": "number" },
            "arguments": {
                "additionalProperties": { "type": "array" },
                "description": "Allowed values of others.",
                "type": "object",
            },
            "carries": described_words("Tools whose results it passes on."),
            "objects": words(),
            "texts": described_words("Exact texts."),
            "times": { "description": "1 by default.", "type": "integer" },
            "to": words(),
        },
        "type": "object",
    });
    json!({
        "additionalProperties": false,
        "properties": { "tools": { "additionalProperties": calls, "type": "object" } },
        "required": ["tools"],
        "type": "object",
    })
}
