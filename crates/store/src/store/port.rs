//! The port, call by call: each read goes to a reader with what its scope sees, each write to the store.
//!
//! Nothing is decided, no row is read and no SQL is written here; `crate::read` and the writer do that on threads of their
//! own.

use std::time::Duration;

use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::id::{AgentId, SessionId};
use dromia_contracts::lease::NodeLife;
use dromia_contracts::scope::{OperatorScope, Scope};
use dromia_contracts::store::{
    CommitOutcome, LendArgument as _, Read, ReadArgument as _, Store, StoreHealth, StoreStats, WriteBatch,
};
use dromia_contracts::{BoxFuture, replay_store_reads};

use super::SqliteStore;
use crate::erase::ErasedOwner;
use crate::read::{ScopeView, answers};

/// Has each read answered on a reader's thread by what has its name in [`answers`]. A reader may try more than once, so it
/// keeps the arguments and lends them.
macro_rules! read_on_thread {
    ($($(#[$text:meta])*
    fn $name:ident($scope:ident: $reach:ident $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        $(fn $name<'a>(
            &'a self,
            $scope: &'a dromia_contracts::$reach
            $(, $argument: $kind)*
        ) -> Read<'a, $output> {
            read_on_thread!(@$reach $name self $scope [$($argument)*] $($argument)*)
        })+
    };
    // What the node asks about one tenant waits in that tenant's turn.
    (@OperatorScope $name:ident $store:ident $scope:ident [tenant $($rest:ident)*]
        $tenant:ident $($argument:ident)*) => {{
        let _ = $scope;
        $(let $argument = $argument.into_owned_argument();)*
        $store.read_of($tenant, move |r| answers::$name(r, $tenant $(, $argument.lend_argument())*))
    }};
    (@OperatorScope $name:ident $store:ident $scope:ident [$($names:ident)*] $($argument:ident)*) => {{
        let _ = $scope;
        $(let $argument = $argument.into_owned_argument();)*
        $store.read_for_node(move |r| answers::$name(r $(, $argument.lend_argument())*))
    }};
    (@Scope $name:ident $store:ident $scope:ident [$($names:ident)*] $($argument:ident)*) => {{
        let view = ScopeView::for_scope($scope);
        $(let $argument = $argument.into_owned_argument();)*
        $store.read_of(view.tenant, move |r| answers::$name(r, view $(, $argument.lend_argument())*))
    }};
}

impl Store for SqliteStore {
    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        self.submit_batch(batch)
    }

    replay_store_reads! { read_on_thread }

    fn erase_agent_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (ErasureCounts, bool)> {
        self.erase_page(scope, ErasedOwner::Agent(agent))
    }

    fn erase_session_page<'a>(
        &'a self,
        scope: &'a Scope,
        session: SessionId,
    ) -> Read<'a, (ErasureCounts, bool)> {
        self.erase_page(scope, ErasedOwner::Session(session))
    }

    fn begin_life<'a>(&'a self, _: &'a OperatorScope, life: &'a NodeLife, lasts: Duration) -> Read<'a, ()> {
        self.leases.begin_life(life, lasts);
        Box::pin(std::future::ready(Ok(())))
    }

    fn renew_life<'a>(&'a self, _: &'a OperatorScope, life: &'a NodeLife, lasts: Duration) -> Read<'a, bool> {
        Box::pin(std::future::ready(Ok(self.leases.renew_life(life, lasts))))
    }

    fn living_lives<'a>(&'a self, _: &'a OperatorScope) -> Read<'a, Vec<NodeLife>> {
        Box::pin(std::future::ready(Ok(self.leases.living_lives())))
    }

    fn store_health(&self) -> StoreHealth {
        let length = |path| std::fs::metadata(path).as_ref().map_or(0, std::fs::Metadata::len);
        StoreHealth {
            read_only: self.gauge.read_only(),
            damaged: self.gauge.known_damage(),
            wal_bytes: length(self.config.wal_path()),
            file_bytes: length(self.config.database_path()),
        }
    }

    fn store_stats(&self) -> StoreStats {
        self.gauge.stats()
    }
}
