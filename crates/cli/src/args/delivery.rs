//! `delivery`: outgoing messages.

use clap::{Args, Subcommand, ValueEnum};
use dromia_api::{DeliveryId, DeliveryState};

use super::{IdReference, PageArguments};

/// What to do with deliveries.
#[derive(Debug, Clone, Subcommand)]
pub enum DeliveryCommand {
    /// List outgoing messages, newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia delivery list\n  dromia delivery list --state dead\n  dromia delivery list --target webhook:orders --json"
    )]
    List(ListDeliveries),
    /// Show a message, its state and each attempt
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia delivery show 3f9a1c72")]
    Show(DeliveryName),
    /// Resend a message that is dead or may not have arrived; a repeat sends nothing
    #[command(
        after_help = "Examples:\n  dromia delivery redrive 3f9a1c72\n  dromia delivery redrive 3f9a1c72 --accept-double"
    )]
    Redrive(RedriveDelivery),
}

/// Which deliveries to list.
#[derive(Debug, Clone, Args)]
pub struct ListDeliveries {
    /// Which page
    #[command(flatten)]
    pub page: PageArguments,
    /// Only messages in this state
    #[arg(long, value_enum, value_name = "STATE")]
    pub state: Option<DeliveryStanding>,
    /// Only messages to this target, such as webhook:orders
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
}

/// The state of a delivery, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum DeliveryStanding {
    /// It waits for its turn
    Prepared,
    /// It is being sent
    Sending,
    /// An attempt failed, another is due
    Failed,
    /// It arrived
    Delivered,
    /// It is not sent any more
    Dead,
    /// It may have arrived
    UnknownAfterSend,
}

impl From<DeliveryStanding> for DeliveryState {
    fn from(state: DeliveryStanding) -> Self {
        match state {
            DeliveryStanding::Prepared => Self::Prepared,
            DeliveryStanding::Sending => Self::Sending,
            DeliveryStanding::Failed => Self::Failed,
            DeliveryStanding::Delivered => Self::Delivered,
            DeliveryStanding::Dead => Self::Dead,
            DeliveryStanding::UnknownAfterSend => Self::UnknownAfterSend,
        }
    }
}

/// A delivery, by id.
#[derive(Debug, Clone, Args)]
pub struct DeliveryName {
    /// Its id, the first or last digits of it, or @last
    #[arg(value_name = "ID")]
    pub id: IdReference<DeliveryId>,
}

/// A delivery to send again.
#[derive(Debug, Clone, Args)]
pub struct RedriveDelivery {
    /// Its id, the first or last digits of it, or @last
    #[arg(value_name = "ID")]
    pub id: IdReference<DeliveryId>,
    /// Resend it even if the receiver may have it already and would count it twice
    #[arg(long)]
    pub accept_double: bool,
}
