//! What the world gives to the library: time, identity and a place to run.
//!
//! The library never reads the clock, the environment or randomness by itself. Under simulation the same three
//! ports are driven by a seed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::BoxFuture;
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, ItemId, RunId, SessionId, TenantId, TokenId};

/// Time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the wall time, cut to milliseconds, which is what the store keeps.
    fn now(&self) -> Timestamp;

    /// Waits until the wall time is reached.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}

/// Identity and randomness.
pub trait IdSource: Send + Sync + fmt::Debug {
    /// Returns a new UUIDv7; later ones sort after earlier ones.
    fn uuid(&self) -> Uuid;

    /// Returns 32 unpredictable bytes, for keys.
    fn secret(&self) -> [u8; 32];
}

/// A place to run tasks.
pub trait Spawn: Send + Sync + fmt::Debug {
    /// Runs a task to its end in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// The three together, as every room receives them.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity and randomness.
    pub ids: Arc<dyn IdSource>,
    /// A place to run tasks.
    pub spawn: Arc<dyn Spawn>,
}

impl Runtime {
    /// Mints a tenant id.
    pub fn tenant_id(&self) -> TenantId {
        TenantId::from_uuid(self.ids.uuid())
    }

    /// Mints an agent id.
    pub fn agent_id(&self) -> AgentId {
        AgentId::from_uuid(self.ids.uuid())
    }

    /// Mints a session id.
    pub fn session_id(&self) -> SessionId {
        SessionId::from_uuid(self.ids.uuid())
    }

    /// Mints a run id.
    pub fn run_id(&self) -> RunId {
        RunId::from_uuid(self.ids.uuid())
    }

    /// Mints an inbox item id.
    pub fn item_id(&self) -> ItemId {
        ItemId::from_uuid(self.ids.uuid())
    }

    /// Mints a delivery id.
    pub fn delivery_id(&self) -> DeliveryId {
        DeliveryId::from_uuid(self.ids.uuid())
    }

    /// Mints a capability id.
    pub fn capability_id(&self) -> CapabilityId {
        CapabilityId::from_uuid(self.ids.uuid())
    }

    /// Mints an approval id.
    pub fn approval_id(&self) -> ApprovalId {
        ApprovalId::from_uuid(self.ids.uuid())
    }

    /// Mints a token id.
    pub fn token_id(&self) -> TokenId {
        TokenId::from_uuid(self.ids.uuid())
    }
}
