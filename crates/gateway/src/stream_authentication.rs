//! Whether a caller is still let in while a stream of theirs runs.
//!
//! A request that was let in goes on to its end, but a stream may have none for hours: so before a piece of it is
//! made, its token is looked up again, at most every [`EVERY`]. A silent stream makes a piece at each keep-alive, so
//! it ends within one keep-alive after its token.

use std::time::Duration;

use tokio::time::Instant;

use crate::caller::Caller;
use crate::core::GatewayCore;
use crate::failure::Answer;

/// How often a stream's token is looked up again at most.
const EVERY: Duration = Duration::from_secs(2);

/// A caller who has a stream.
#[derive(Debug)]
pub(crate) struct StreamAuthentication {
    caller: Caller,
    due: Instant,
}

impl StreamAuthentication {
    /// Begins with a caller who was just let in.
    pub(crate) fn new(caller: Caller) -> Self {
        Self { caller, due: Instant::now() + EVERY }
    }

    /// Refuses a caller whose token has ended.
    pub(crate) async fn check_caller(&mut self, core: &GatewayCore) -> Answer<()> {
        let now = Instant::now();
        if now < self.due {
            return Ok(());
        }
        self.due = now + EVERY;
        self.caller.must_still_be_let_in(core).await
    }
}
