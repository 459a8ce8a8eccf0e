//! The one way out: lines to other hosts, each judged at every hop.
//!
//! What a URL means is read once ([`target`]); which grants cover it is a matter of its parts and never of its text
//! ([`reach`]); what an address is worth is a table ([`address`]); what of it an operator opens, and to whom, is the
//! clearance of a line (`clearance`). `line` sends: the client's resolver looks a name up once for a connection, judges
//! every address of the answer, and hands exactly these to the connection, so there is no second look that could say
//! something else.
//!
//! A tunnel is one more way through the same judgement; what goes through it nobody looks at (`tunnel`).
//!
//! It refuses to: read proxy variables, keep cookies, follow a redirect without judging it, unpack an answer, or connect
//! to a door of this very server, whatever is granted.

pub mod address;
pub mod names;
pub mod private;
pub mod reach;
pub mod target;

mod clearance;
mod headers;
mod hop;
mod line;
mod pinning;
mod room;
mod trail;
mod tunnel;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use dromia_contracts::egress::{Egress, Line, LineError, Plan, Route};

use self::clearance::Clearance;
pub(crate) use self::headers::is_free as is_free_header;
use self::line::GuardedLine;
use self::names::Names;
use self::private::Private;
use self::room::Room;
use self::target::Target;
use crate::capability::Live;
use crate::vault::StoreVault;

/// What an operator opens of the networks that are not public.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressConfig {
    /// To servers that the configuration names, such as those of models.
    pub private_named: Vec<Private>,
    /// To what agents do, within their grants.
    pub private_granted: Vec<Private>,
}

/// Why something may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// The rule that refuses it.
    pub rule: &'static str,
    /// Why, in words that name no address.
    pub reason: &'static str,
}

/// The way out of this process.
#[derive(Debug)]
pub struct GuardedEgress {
    config: EgressConfig,
    around: Arc<Surroundings>,
    vault: Option<Arc<StoreVault>>,
}

/// What is known about this machine.
#[derive(Debug)]
struct Surroundings {
    names: Arc<dyn Names>,
    /// Where this server listens; a few at most.
    doors: RwLock<Vec<SocketAddr>>,
    /// What agents hold beside their grants, and within what runs stay.
    capabilities: OnceLock<Arc<Live>>,
}

impl GuardedEgress {
    /// Sets it up; nothing is resolved.
    pub fn new(config: EgressConfig, names: Arc<dyn Names>) -> Self {
        let around = Surroundings { names, doors: RwLock::default(), capabilities: OnceLock::new() };
        let around = Arc::new(around);
        Self { config, around, vault: None }
    }

    /// Lets the requests of agents use secrets. Lines that were opened before have none.
    #[must_use]
    pub fn with_vault(self, vault: Arc<StoreVault>) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// Lets capabilities count for what agents reach, for every line there is and will be.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Arc<Live>) -> Self {
        self.around.capabilities.get_or_init(|| capabilities);
        self
    }

    /// Refuses an address at which this server listens, for every line there is and will be.
    pub fn keep_from(&self, door: SocketAddr) {
        // No code panics while it holds the lock.
        self.around.doors.write().unwrap_or_else(PoisonError::into_inner).push(door);
    }
}

impl Surroundings {
    fn doors(&self) -> Vec<SocketAddr> {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Egress for GuardedEgress {
    fn line(&self, plan: Plan) -> Result<Arc<dyn Line>, LineError> {
        let Plan { route, limits } = plan;
        // What is for tenants has their secrets and shares; any other server that the configuration names has its key from
        // there, unless it says that the key is in the vault.
        let is_for_tenants = matches!(route, Route::Granted | Route::Tool(_));
        let has_secrets = is_for_tenants || matches!(route, Route::Keyed(_));
        let vault = self.vault.clone().filter(|_| has_secrets);
        let clearance = match route {
            Route::Granted => Clearance { named: None, private: self.config.private_granted.clone() },
            Route::Named(url) | Route::Keyed(url) | Route::Tool(url) => {
                let named =
                    Target::read(&url).map_err(|refused| LineError { problem: refused.reason.to_owned() })?;
                Clearance { named: Some(named), private: self.config.private_named.clone() }
            }
        };
        // What the configuration names is one's own, and nobody's share.
        let share_max = if is_for_tenants { limits.requests_max / 2 } else { limits.requests_max };
        let room = Room::new(limits.requests_max, share_max);
        Ok(Arc::new(GuardedLine::new(clearance, limits, room, Arc::clone(&self.around), vault)))
    }
}
