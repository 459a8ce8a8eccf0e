//! The one way out: lines to other hosts, each judged at every hop.
//!
//! What a URL means is read once ([`target`]); which grants cover it is a matter of its parts and never of its text
//! ([`host_pattern`]); what an address is worth is a table ([`address`]); what of it an operator opens, and to whom, is the
//! clearance of a line (`clearance`). `line` sends: the client's resolver looks a name up once for a connection, judges
//! every address of the answer, and hands exactly these to the connection, so there is no second look that could say
//! something else.
//!
//! A tunnel passes the same judgement; its bytes are not inspected (`tunnel`).
//!
//! It refuses to: read proxy variables, keep cookies, follow a redirect without judging it, unpack an answer, or
//! connect to a listener of this very server, whatever is granted.

pub mod address;
pub mod host_pattern;
pub mod names;
pub mod private;
pub mod target;

mod clearance;
mod client;
mod decisions;
pub(crate) mod denied;
mod headers;
mod hop;
mod pinning;
mod slots;
mod tunnel;
mod withdrawal;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use dromia_contracts::egress::{Egress, EgressClient, EgressClientConfig, EgressPurpose, LineError};

use self::clearance::EgressPolicy;
use self::client::GuardedLine;
pub use self::denied::EgressDenied;
pub(crate) use self::headers::is_free as is_free_header;
use self::names::NameResolver;
use self::private::PrivateAllowance;
use self::slots::RequestSlots;
use self::target::RequestTarget;
use crate::capability::LiveCapabilities;
use crate::rights::CurrentRights;
use crate::vault::StoreVault;

/// The private networks that an operator opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressConfig {
    /// To servers that the configuration names, such as those of models.
    pub private_named: Vec<PrivateAllowance>,
    /// To what agents do, within their grants.
    pub private_granted: Vec<PrivateAllowance>,
}

/// The way out of this process.
#[derive(Debug)]
pub struct GuardedEgress {
    around: Arc<EgressContext>,
    vault: Option<Arc<StoreVault>>,
}

/// What is known about this machine.
#[derive(Debug)]
struct EgressContext {
    names: Arc<dyn NameResolver>,
    /// What the operator opens now.
    opened: RwLock<EgressConfig>,
    /// Where this server listens; a few at most.
    listeners: RwLock<Vec<SocketAddr>>,
    /// What agents hold in addition to their grants, and within what runs stay.
    capabilities: OnceLock<Arc<LiveCapabilities>>,
    /// What the configurations of agents grant now.
    rights: OnceLock<Arc<CurrentRights>>,
}

impl GuardedEgress {
    /// Sets it up; nothing is resolved.
    pub fn new(config: EgressConfig, names: Arc<dyn NameResolver>) -> Self {
        let around = EgressContext {
            names,
            opened: RwLock::new(config),
            listeners: RwLock::default(),
            capabilities: OnceLock::new(),
            rights: OnceLock::new(),
        };
        let around = Arc::new(around);
        Self { around, vault: None }
    }

    /// Lets the requests of agents use secrets. Lines that were opened before have none.
    #[must_use]
    pub fn with_vault(self, vault: Arc<StoreVault>) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// Lets capabilities count for what agents reach, for every line there is and will be.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Arc<LiveCapabilities>) -> Self {
        self.around.capabilities.get_or_init(|| capabilities);
        self
    }

    /// Has every line there is and will be ask what the configurations of agents grant now.
    pub fn ask_rights(&self, rights: Arc<CurrentRights>) {
        self.around.rights.get_or_init(|| rights);
    }

    /// Lets another list of opened networks count, for connections that every line there is and will be opens from now on.
    pub fn replace_opened(&self, opened: EgressConfig) {
        *self.around.opened.write().unwrap_or_else(PoisonError::into_inner) = opened;
    }

    /// Refuses an address at which this server listens, for every line there is and will be.
    pub fn keep_from(&self, listener: SocketAddr) {
        // No code panics while it holds the lock.
        self.around.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }
}

impl EgressContext {
    /// Returns what counts now of the grants of a run.
    fn narrow_grants<'g>(&self, grants: &'g [String]) -> Cow<'g, [String]> {
        self.rights.get_or_init(Arc::default).narrow_grants(grants)
    }

    // No code panics while it holds the lock.
    fn opened(&self) -> RwLockReadGuard<'_, EgressConfig> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_listeners(&self) -> Vec<SocketAddr> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Egress for GuardedEgress {
    fn open_client(&self, plan: EgressClientConfig) -> Result<Arc<dyn EgressClient>, LineError> {
        let EgressClientConfig { route, limits } = plan;
        // What is for tenants has their secrets and shares; any other server that the configuration names has its key from
        // there, unless it says that the key is in the vault.
        let is_for_tenants = matches!(route, EgressPurpose::Granted | EgressPurpose::Tool(_));
        let has_secrets = is_for_tenants || matches!(route, EgressPurpose::Keyed(_));
        let vault = self.vault.clone().filter(|_| has_secrets);
        let clearance = match route {
            EgressPurpose::Granted => EgressPolicy { named: None },
            EgressPurpose::Named(url) | EgressPurpose::Keyed(url) | EgressPurpose::Tool(url) => {
                let named = RequestTarget::parse_url(&url)
                    .map_err(|refused| LineError { problem: refused.reason.to_owned() })?;
                EgressPolicy { named: Some(named) }
            }
        };
        // What the configuration names is the operator's own, and no tenant's share.
        let share_max = if is_for_tenants { limits.requests_max / 2 } else { limits.requests_max };
        let room = RequestSlots::new(limits.requests_max, share_max);
        Ok(Arc::new(GuardedLine::new(clearance, limits, room, Arc::clone(&self.around), vault)))
    }
}
