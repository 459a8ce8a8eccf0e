//! A store around another store: it passes every read on and changes only what it is there for.

use std::fmt;
use std::time::Duration;

use super::answer::CommitOutcome;
use super::batch::WriteBatch;
use super::read::{Read, Store};
use super::row::{StoreHealth, StoreStats};
use crate::agent::ErasureCounts;
use crate::id::{AgentId, SessionId};
use crate::lease::NodeLife;
use crate::scope::{OperatorScope, Scope};
use crate::{BoxFuture, replay_store_reads};

/// Passes each read on to the wrapped store.
macro_rules! pass_on_reads {
    ($($(#[$text:meta])*
    fn $name:ident($scope:ident: $reach:ident $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        $($(#[$text])*
        fn $name<'a>(&'a self, $scope: &'a crate::$reach $(, $argument: $kind)*) -> Read<'a, $output> {
            self.wrap_read(move || self.wrapped_store().$name($scope $(, $argument)*))
        })+
    };
}

/// Answers each read of the port as the wrapper does.
macro_rules! answer_as_wrapper {
    ($($(#[$text:meta])*
    fn $name:ident($scope:ident: $reach:ident $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        $(fn $name<'a>(&'a self, $scope: &'a crate::$reach $(, $argument: $kind)*) -> Read<'a, $output> {
            StoreWrapper::$name(self, $scope $(, $argument)*)
        })+
    };
}

/// A store around another one. It is a [`Store`] itself: a call that it does not define goes to the wrapped store.
pub trait StoreWrapper: Send + Sync + fmt::Debug {
    /// Returns the store that answers what this one does not.
    fn wrapped_store(&self) -> &dyn Store;

    /// Performs a read that the wrapper does not define. One that spoils every read, or delays it, does so here.
    fn wrap_read<'a, T: Send + 'a>(&'a self, read: impl FnOnce() -> Read<'a, T> + Send + 'a) -> Read<'a, T> {
        read()
    }

    /// Writes a batch.
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        self.wrapped_store().commit(batch)
    }

    replay_store_reads! { pass_on_reads }

    /// Erases at most one page of an agent that is being deleted.
    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        self.wrap_read(move || self.wrapped_store().erase_agent_page(scope, agent))
    }

    /// Erases at most one page of a session that a commit erased.
    fn erase_session_page<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
    ) -> Read<'a, (ErasureCounts, bool)> {
        self.wrap_read(move || self.wrapped_store().erase_session_page(scope, session))
    }

    /// Begins a life of a node.
    fn begin_life<'a>(
        &'a self,
        operator: &'a OperatorScope,
        life: &'a NodeLife,
        lasts: Duration,
    ) -> Read<'a, ()> {
        self.wrap_read(move || self.wrapped_store().begin_life(operator, life, lasts))
    }

    /// Renews the lease of a life.
    fn renew_life<'a>(
        &'a self,
        operator: &'a OperatorScope,
        life: &'a NodeLife,
        lasts: Duration,
    ) -> Read<'a, bool> {
        self.wrap_read(move || self.wrapped_store().renew_life(operator, life, lasts))
    }

    /// Lists the lives whose lease lasts.
    fn living_lives<'a>(&'a self, operator: &'a OperatorScope) -> Read<'a, Vec<NodeLife>> {
        self.wrap_read(move || self.wrapped_store().living_lives(operator))
    }

    /// Returns whether the store takes writes, and what of it is known to be damaged.
    fn store_health(&self) -> StoreHealth {
        self.wrapped_store().store_health()
    }

    /// Returns what the writer did.
    fn store_stats(&self) -> StoreStats {
        self.wrapped_store().store_stats()
    }
}

impl<W: StoreWrapper> Store for W {
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        StoreWrapper::commit(self, batch)
    }

    replay_store_reads! { answer_as_wrapper }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        StoreWrapper::erase_agent_page(self, scope, agent)
    }

    fn erase_session_page<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
    ) -> Read<'a, (ErasureCounts, bool)> {
        StoreWrapper::erase_session_page(self, scope, session)
    }

    fn begin_life<'a>(
        &'a self,
        operator: &'a OperatorScope,
        life: &'a NodeLife,
        lasts: Duration,
    ) -> Read<'a, ()> {
        StoreWrapper::begin_life(self, operator, life, lasts)
    }

    fn renew_life<'a>(
        &'a self,
        operator: &'a OperatorScope,
        life: &'a NodeLife,
        lasts: Duration,
    ) -> Read<'a, bool> {
        StoreWrapper::renew_life(self, operator, life, lasts)
    }

    fn living_lives<'a>(&'a self, operator: &'a OperatorScope) -> Read<'a, Vec<NodeLife>> {
        StoreWrapper::living_lives(self, operator)
    }

    fn store_health(&self) -> StoreHealth {
        StoreWrapper::store_health(self)
    }

    fn store_stats(&self) -> StoreStats {
        StoreWrapper::store_stats(self)
    }
}
