//! What a question used, in a file for programs: written before anything is sent, and again however the command ends.

use std::path::Path;

use dromia_api::event::EventAnswered;
use dromia_api::run::RunResource;
use dromia_api::{RunId, RunStatus, SessionId, TokenUsage};
use serde::Serialize;

use crate::commands::Cli;
use crate::error::{CommandFailure, Error, Outcome};

/// What a question used, for `--usage-file`.
#[derive(Debug, Default, Serialize)]
pub(super) struct UsageReport {
    /// The run, once there is one.
    pub(super) run: Option<RunId>,
    /// Its session; no part of the file.
    #[serde(skip)]
    pub(super) session: Option<SessionId>,
    /// The status of the run; `None` while it is unknown.
    status: Option<RunStatus>,
    usage: TokenUsage,
    cost_micros: u64,
    model_calls: u32,
    /// Why the command failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<CommandFailure>,
}

impl UsageReport {
    /// Takes what an answer says of its run.
    pub(super) fn take_answer(&mut self, answered: &EventAnswered) {
        (self.run, self.status) = (Some(answered.run), Some(answered.status));
        self.session = Some(answered.session);
        (self.usage, self.cost_micros) = (answered.usage, answered.cost_micros);
        self.model_calls = answered.model_calls;
    }

    /// Asks the server what the run used until now, where no answer said it. If that fails, the file has no status.
    pub(super) async fn fetch_missing_usage(&mut self, cli: &Cli<'_>) {
        let (Some(run), None) = (self.run, self.status) else { return };
        if let Ok(run) = cli.client.get::<RunResource>(&format!("/v1/runs/{run}")).await {
            self.status = Some(run.status);
            self.usage = run.usage;
            self.cost_micros = run.cost_micros;
            self.model_calls = run.model_calls;
        }
    }

    pub(super) fn write_file(&self, file: &Path) -> Outcome {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Broken(error.to_string()))?;
        std::fs::write(file, text + "\n").map_err(Error::io_error(format!("write {}", file.display())))
    }
}
