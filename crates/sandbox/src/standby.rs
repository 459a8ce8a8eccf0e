//! One helper that is ready when the next program comes: starting it is a good part of what a small program waits for.
//!
//! It is the same helper, started a little earlier; for the strict backend it has entered its namespaces, which are the
//! same for every program. It has read no order, so it has nothing of any program, tenant or agent, and it takes one
//! order as every other. It is made once a program has begun, and ends when it was not needed for [`KEPT`]: a server
//! whose agents run no programs has none, and no process outlives the server, because its socket closes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dromia_contracts::sandbox::SandboxError;
use tokio::task::JoinHandle;

use crate::order::HelperOrder;
use crate::process::{RunningProcess, WaitingHelper};

/// How long one waits for its order, well below the time after which it ends by itself.
const KEPT: Duration = Duration::from_secs(5);

/// The place of the one that waits, and who takes it away in the end. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct HelperStandby {
    place: Arc<Mutex<Option<ReadyHelper>>>,
    ahead: bool,
}

#[derive(Debug)]
struct ReadyHelper {
    waiting: WaitingHelper,
    ends: JoinHandle<()>,
}

impl HelperStandby {
    /// Makes an empty place. `ahead`, a helper that waits there has already entered the strict backend's namespaces.
    pub(crate) fn new(ahead: bool) -> Self {
        Self { place: Arc::default(), ahead }
    }

    /// Hands an order to the one that waits, or to a new one, and has the next one made.
    pub(crate) async fn start_process(
        &self,
        helper: &Path,
        order: &HelperOrder,
    ) -> Result<RunningProcess, SandboxError> {
        let waiting = match self.take_ready() {
            Some(waiting) => waiting,
            None => WaitingHelper::start_helper(helper, false)
                .map_err(|problem| SandboxError::Start { problem: problem.to_string() })?,
        };
        let running = waiting.hand_order(order).await?;
        self.prepare_next(helper);
        Ok(running)
    }

    /// Takes the one that waits, if it is still there.
    fn take_ready(&self) -> Option<WaitingHelper> {
        let ReadyHelper { mut waiting, ends } =
            self.place.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        ends.abort();
        waiting.is_there().then_some(waiting)
    }

    /// Makes the next one beside the program that begins now. If it cannot be made, the next program says why.
    fn prepare_next(&self, helper: &Path) {
        let (standby, helper) = (self.clone(), helper.to_owned());
        tokio::spawn(async move {
            let Ok(waiting) = WaitingHelper::start_helper(&helper, standby.ahead) else { return };
            let place = Arc::downgrade(&standby.place);
            let ends = tokio::spawn(async move {
                tokio::time::sleep(KEPT).await;
                if let Some(place) = place.upgrade() {
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
            });
            let ready = Some(ReadyHelper { waiting, ends });
            let before =
                std::mem::replace(&mut *standby.place.lock().unwrap_or_else(PoisonError::into_inner), ready);
            if let Some(before) = before {
                before.ends.abort();
            }
        });
    }
}
