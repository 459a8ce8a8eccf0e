//! What the server that runs on a home says about its configuration, for the commands that read the file. Without an answer
//! they say nothing of it: no server is needed.

use std::time::Duration;

use dromia_api::status::{ConfigStatus, NodeStatus};
use dromia_cli::{CommandOutput, GlobalOptions, Outcome};

use crate::home::Home;
use crate::policy;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Asks the server of a home which configuration it uses.
pub(super) fn ask_served(home: &Home, global: &GlobalOptions) -> anyhow::Result<Option<ConfigStatus>> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = policy::server_client(home, global);
    let asked =
        tokio.block_on(async { tokio::time::timeout(ANSWER, client.get::<NodeStatus>("/v1/status")).await });
    Ok(asked.ok().and_then(Result::ok).and_then(|status| status.config))
}

/// Says what the server on this home does not use of the file. Returns the keys that wait for its next start.
pub(super) fn tell_served(
    served: Option<ConfigStatus>,
    output: &mut CommandOutput<'_>,
) -> Outcome<Vec<String>> {
    let Some(ConfigStatus { revision, refused, pending, .. }) = served else { return Ok(Vec::new()) };
    if refused.is_some() {
        output.print_notice(&format!(
            "note: the running server ignores the file and uses revision {revision}; go back with `dromia config \
             revert {revision}`"
        ))?;
    }
    if !pending.is_empty() {
        output.print_notice(&format!("note: {} takes effect at the next start", pending.join(", ")))?;
    }
    Ok(pending)
}
