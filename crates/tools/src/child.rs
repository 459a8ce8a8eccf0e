//! What branches and workers have in common as they begin: their origin, their input, and why one does not begin.

use bytes::Bytes;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::run::RunKind;
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::scope::Actor;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{InboxPut, ItemKey, KeyLifetime, ReadError, SessionOpen};
use dromia_contracts::tool::{PreparedCall, ToolContext};

/// Why nothing was spawned, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("nothing was spawned: that agent does not exist")]
    NotFound,
    #[error("nothing was spawned: that agent accepts no more input")]
    Terminated,
    #[error(
        "nothing was spawned: {hops} messages between agents led here without a person, and at most {hops} may; \
         do it yourself or say it in your answer"
    )]
    TooManyHops { hops: u32 },
    #[error("nothing was spawned: there is no role {role}; there are {known}")]
    NoRole { role: HandleSlug, known: String },
    #[error("nothing was spawned: the store did not answer; trying again later may help")]
    Unavailable,
    #[error("nothing was spawned: the task cannot be stored")]
    Unwritable,
}

impl From<ReadError> for SpawnError {
    fn from(_: ReadError) -> Self {
        Self::Unavailable
    }
}

/// Says which call a child is for. A child of a branch concludes where the branch does: nobody reads the branch's own session.
pub(crate) fn child_origin(
    context: &ToolContext,
    call: &PreparedCall,
    kind: RunKind,
    grants: Vec<String>,
) -> RunOrigin {
    let parent = context.origin.as_ref();
    let branch = parent.filter(|parent| parent.kind == RunKind::Branch);
    let here = (context.session, context.position);
    let (session, position) = branch.map_or(here, |branch| (branch.session, branch.position));
    RunOrigin {
        run: context.run,
        call: call.id,
        kind,
        session,
        position,
        topic: None,
        role: None,
        deadline_ms: None,
        agent: context.agent,
        root: parent.map_or(context.run, |parent| parent.root),
        depth: parent.map_or(0, |parent| parent.depth) + 1,
        grants,
    }
}

/// Makes the input of a child, under the key of the call.
pub(crate) fn child_input(
    runtime: &Runtime,
    context: &ToolContext,
    call: &PreparedCall,
    (open, author): (&SessionOpen, Actor),
    body: Bytes,
) -> InboxPut {
    let key = ItemKey { key: context.key.clone(), request: call.action, lifetime: KeyLifetime::Forever };
    InboxPut {
        owner: InboxOwner::Session(open.session),
        item: runtime.item_id(),
        at: open.at,
        kind: ItemKind::Input,
        author,
        body,
        key: Some(key),
    }
}
