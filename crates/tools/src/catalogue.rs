//! The built-in tools by name: their descriptors, and which argument type each one reads.
//!
//! Invariant: a [`Builtin`] has exactly one descriptor, and the list is sorted by name.

use dromia_contracts::label::Label;
use dromia_contracts::past;
use dromia_contracts::plan::{self, Declaration};
use dromia_contracts::tool::{ArgumentRole, EffectClass, Manifest, Sink, ToolDescriptor};
use serde_json::Value;

use crate::arguments::{
    Exec, FileContent, FileDelete, FileEdit, FileList, FileRead, FileSearch, HttpRequest, MessageSend,
    PastRead, ShellExecute, TimeNow, canonical, parse, schema,
};

/// One built-in tool; the order is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
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
    ShellExecute,
    TimeNow,
}

impl Builtin {
    /// All of them, sorted by name.
    pub(crate) const ALL: [Self; 14] = [
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
        Self::ShellExecute,
        Self::TimeNow,
    ];

    /// Finds a tool. Some providers allow no dots in names, so `file_read` is taken for `file.read`.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let dotted = name.replace('_', ".");
        Self::ALL.into_iter().find(|tool| tool.name() == dotted)
    }

    /// Returns the name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::FileAppend => "file.append",
            Self::FileDelete => "file.delete",
            Self::FileEdit => "file.edit",
            Self::FileList => "file.list",
            Self::FileRead => "file.read",
            Self::FileSearch => "file.search",
            Self::FileWrite => "file.write",
            Self::HttpRequest => "http.request",
            Self::MessageSend => "message.send",
            Self::PastRead => past::READ,
            Self::PlanDeclare => plan::DECLARE,
            Self::ShellExecute => "shell.execute",
            Self::TimeNow => "time.now",
        }
    }

    /// Returns what a repeated call may do, at worst: what a request may do depends on its method.
    pub(crate) const fn effect(self) -> EffectClass {
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
            Self::MessageSend => EffectClass::Transactional,
        }
    }

    /// Puts arguments into canonical form, or says what is wrong and where.
    pub(crate) fn canonical(self, arguments: &str) -> Result<String, String> {
        match self {
            Self::Exec => canonical::<Exec>(arguments),
            Self::FileAppend | Self::FileWrite => canonical::<FileContent>(arguments),
            Self::FileDelete => canonical::<FileDelete>(arguments),
            Self::FileEdit => {
                parse::<FileEdit>(arguments)?.check()?;
                canonical::<FileEdit>(arguments)
            }
            Self::FileList => canonical::<FileList>(arguments),
            Self::FileRead => canonical::<FileRead>(arguments),
            Self::FileSearch => {
                parse::<FileSearch>(arguments)?.compile()?;
                canonical::<FileSearch>(arguments)
            }
            Self::HttpRequest => {
                parse::<HttpRequest>(arguments)?.check()?;
                canonical::<HttpRequest>(arguments)
            }
            Self::MessageSend => canonical::<MessageSend>(arguments),
            Self::PastRead => canonical::<PastRead>(arguments),
            Self::PlanDeclare => {
                parse::<Declaration>(arguments)?.problem().map_or(Ok(()), Err)?;
                canonical::<Declaration>(arguments)
            }
            Self::ShellExecute => canonical::<ShellExecute>(arguments),
            Self::TimeNow => canonical::<TimeNow>(arguments),
        }
    }

    /// Returns what the tool says about itself.
    pub(crate) fn descriptor(self) -> ToolDescriptor {
        ToolDescriptor {
            name: self.name().to_owned(),
            description: self.description().to_owned(),
            parameters: self.parameters(),
            effect: self.effect(),
            roles: self.roles().iter().map(|&(name, role)| (name.to_owned(), role)).collect(),
            result_label: self.result_label(),
        }
    }

    /// Returns what a policy is told of the tool.
    pub(crate) fn manifest(self) -> Manifest {
        Manifest {
            sink: self.sink(),
            roles: self.roles().iter().map(|&(name, role)| (name.to_owned(), role)).collect(),
        }
    }

    /// Tells where what the tool does is seen. A program may be given a way out, and nobody knows what it does with it; of a
    /// call that gives it none, whoever judges it knows better.
    const fn sink(self) -> Sink {
        match self {
            Self::Exec | Self::HttpRequest | Self::ShellExecute => Sink::Outside,
            Self::FileAppend
            | Self::FileDelete
            | Self::FileEdit
            | Self::FileList
            | Self::FileRead
            | Self::FileSearch
            | Self::FileWrite
            | Self::MessageSend
            | Self::PastRead
            | Self::PlanDeclare
            | Self::TimeNow => Sink::Inside,
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Exec => "Run a program in the workspace's sandbox; no network but $HTTP_PROXY.",
            Self::FileAppend => "Append text to a workspace file, making it if needed.",
            Self::FileDelete => "Delete a workspace file or empty directory.",
            Self::FileEdit => "Replace exact text in a workspace file.",
            Self::FileList => "List a workspace directory; the whole workspace by default.",
            Self::FileRead => "Read a workspace text file.",
            Self::FileSearch => "Find lines of text in a workspace file or below a directory.",
            Self::FileWrite => "Replace or make a workspace file and its directories.",
            Self::HttpRequest => "Ask another host over HTTP.",
            Self::MessageSend => "Send a message to another session; its agent answers there.",
            Self::PastRead => "Read what an earlier turn told, by the handle that stands there.",
            Self::PlanDeclare => {
                "Say first which tools you will call, each with its recipients or addresses, if any."
            }
            Self::ShellExecute => {
                "Run a shell command in the workspace's sandbox; no network but $HTTP_PROXY."
            }
            Self::TimeNow => "Tell date and time (UTC).",
        }
    }

    fn parameters(self) -> Value {
        match self {
            Self::Exec => schema::<Exec>(),
            Self::FileAppend | Self::FileWrite => schema::<FileContent>(),
            Self::FileDelete => schema::<FileDelete>(),
            Self::FileEdit => schema::<FileEdit>(),
            Self::FileList => schema::<FileList>(),
            Self::FileRead => schema::<FileRead>(),
            Self::FileSearch => schema::<FileSearch>(),
            Self::HttpRequest => schema::<HttpRequest>(),
            Self::MessageSend => schema::<MessageSend>(),
            Self::PastRead => schema::<PastRead>(),
            Self::PlanDeclare => schema::<Declaration>(),
            Self::ShellExecute => schema::<ShellExecute>(),
            Self::TimeNow => schema::<TimeNow>(),
        }
    }

    const fn roles(self) -> &'static [(&'static str, ArgumentRole)] {
        match self {
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
            // It does nothing with what it names.
            Self::PlanDeclare | Self::TimeNow => &[],
        }
    }

    const fn result_label(self) -> Label {
        match self {
            // Names are chosen by whoever made the files, and so is what programs say.
            Self::Exec | Self::FileList | Self::FileRead | Self::FileSearch | Self::ShellExecute => {
                Label::UNKNOWN_FILE
            }
            Self::HttpRequest => Label::OUTSIDE,
            // At worst: each result has the label of what is read.
            Self::PastRead => Label::CLAIM,
            Self::FileAppend
            | Self::FileDelete
            | Self::FileEdit
            | Self::FileWrite
            | Self::MessageSend
            | Self::PlanDeclare
            | Self::TimeNow => Label::PUBLIC_FACT,
        }
    }
}
