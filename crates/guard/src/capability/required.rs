//! What a call asks of capabilities: one of its tool, its file and its host must be covered.
//!
//! A place is read out of the canonical arguments, so what is compared is what will be executed.

use dromia_contracts::CallId;
use dromia_contracts::tool::PreparedCall;
use serde_json::Value;

use super::right::{FileAccessMode, Resource, Right};
use crate::egress::target::RequestTarget;

/// The kind of a right to hosts.
pub(crate) const HOSTS: &str = "net:http";

/// What a call asks for.
#[derive(Debug, Clone)]
pub(crate) struct CapabilityRequest {
    /// One of these.
    pub(super) any_of: Vec<Resource>,
    /// How long the call may take; a call that does not say it may take for ever.
    pub(super) wall_ms: u32,
    /// Kinds of which any right will do: the file or the host is not known yet.
    kinds: Vec<&'static str>,
}

impl CapabilityRequest {
    /// Reads what a call asks for. For [`CallId::PROBE`] any place will do.
    pub(crate) fn of_call(call: &PreparedCall) -> Self {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
        let mut any_of: Vec<Resource> = Resource::tool(&call.tool).ok().into_iter().collect();
        let mut kinds = Vec::new();
        if let Some(access) = file_access(&call.tool) {
            let path = arguments["path"].as_str().filter(|path| *path != ".").unwrap_or_default();
            let file = Resource::file(access, path);
            if call.id == CallId::PROBE {
                kinds.extend(file.as_ref().ok().map(Resource::kind_name));
            }
            any_of.extend(file.ok());
        }
        match &call.reaches {
            Some(reaches) => any_of
                .extend(RequestTarget::parse_url(&reaches.url).ok().and_then(|to| Self::host_resource(&to))),
            None if call.id == CallId::PROBE && call.tool == "http.request" => kinds.push(HOSTS),
            None => {}
        }
        let seconds = arguments["timeout_s"].as_u64();
        let wall_ms = seconds.and_then(|seconds| u32::try_from(seconds.checked_mul(1_000)?).ok());
        Self { any_of, wall_ms: wall_ms.unwrap_or(u32::MAX), kinds }
    }

    /// What a request to a server asks for, if it is at the port that its scheme has.
    pub(crate) fn of_target(target: &RequestTarget) -> Self {
        Self {
            any_of: Self::host_resource(target).into_iter().collect(),
            wall_ms: u32::MAX,
            kinds: Vec::new(),
        }
    }

    /// The kinds of right by whose place a call may be covered; a tool by itself has none.
    pub(crate) fn right_kinds(call: &PreparedCall) -> Vec<&'static str> {
        let file = file_access(&call.tool).and_then(|access| Resource::file(access, "").ok());
        let host = call.reaches.is_some().then_some(HOSTS);
        file.as_ref().map(Resource::kind_name).into_iter().chain(host).collect()
    }

    fn host_resource(target: &RequestTarget) -> Option<Resource> {
        target.has_own_port().then(|| Resource::host(target.host()).ok()).flatten()
    }

    /// Tells whether any right of the kind will do.
    pub(super) fn takes_any(&self, right: &Right) -> bool {
        self.kinds.contains(&right.resource.kind_name())
    }

    /// Tells whether a right lies where this does, whatever its limits.
    pub(super) fn lies_within(&self, right: &Right) -> bool {
        self.takes_any(right) || self.any_of.iter().any(|sought| right.resource.covers(sought))
    }
}

/// What a tool of files does with the file at `path`.
fn file_access(tool: &str) -> Option<FileAccessMode> {
    match tool {
        "file.list" | "file.read" | "file.search" => Some(FileAccessMode::Read),
        "file.append" | "file.delete" | "file.edit" | "file.write" => Some(FileAccessMode::Write),
        _ => None,
    }
}
