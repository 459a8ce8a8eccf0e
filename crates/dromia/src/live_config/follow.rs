//! Following `dromia.yaml` while a server runs: looks, reads what rests, builds the parts that it means, swaps them in, and
//! then does what takes time: budgets, the record of the audit, and the log.
//!
//! Order: everything that can fail is done first. What was swapped in counts together for whatever begins after it.

use std::sync::Arc;

use anyhow::Context as _;
use dromia_gateway::{GatewayHandle, Outbox};
use dromia_guard::GrantGate;
use dromia_models::ModelRegistry;
use dromia_tools::CallSettings;
use jiff::Timestamp;

use super::file_watch::{ConfigFileWatch, FoundText, LOOK};
use super::{ConfigHistory, ConfigRevision, LiveConfig, OfferedConfig};
use crate::audit::seal_configuration;
use crate::config::{ConfigProblem, ResolvedConfig};
use crate::egress_client;
use crate::home::Home;
use crate::home_services::{self, ConnectedTool, HomeServices};
use crate::up;
use crate::vault_keys;

/// What a changed configuration reaches.
pub(crate) struct LiveServices {
    /// The services of the home.
    pub(crate) of_home: Arc<HomeServices>,
    /// The gateway.
    pub(crate) gateway: GatewayHandle,
    /// The outbox.
    pub(crate) outbox: Outbox,
}

/// Follows the file in the background, as long as the server runs.
pub(crate) fn follow_file(live: Arc<LiveConfig>, services: LiveServices) {
    tokio::spawn(async move {
        let mut watch = ConfigFileWatch::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let home = live.home.clone();
            let looking = tokio::task::spawn_blocking(move || {
                let found = watch.look(&home);
                (watch, found)
            });
            let Ok((next, found)) = looking.await else {
                tracing::error!("the server no longer looks for changes of dromia.yaml");
                return;
            };
            watch = next;
            let now = services.of_home.runtime.clock.now();
            let applied = match found {
                None => continue,
                Some(Err(problem)) => Err(problem),
                Some(Ok(found)) => apply_text(&live, &services, found, now).await,
            };
            if let Err(problem) = applied
                && live.note_refused(problem.clone(), now)
            {
                tracing::error!(%problem, revision = live.current.load().record.number, "dromia.yaml cannot be \
                                used, so the server keeps the last good configuration");
            }
        }
    });
}

/// Lets a text count, or says why it cannot.
async fn apply_text(
    live: &LiveConfig,
    services: &LiveServices,
    found: FoundText,
    now: Timestamp,
) -> Result<(), String> {
    let FoundText { text, author } = found;
    let Some(offered) = live.read_offer(text, author)? else {
        live.note_agreed();
        return Ok(());
    };
    let (current, next) = (live.current.load_full(), &offered.loaded.written);
    let before = &current.loaded.written;
    // The bounds of egress are those of the lines to external tools.
    let is_rerouted = before.egress != next.egress && !next.tools.external.is_empty();
    let is_retooled = is_rerouted || before.tools.external != next.tools.external;
    let built = BuiltParts::build(&services.of_home, &offered.resolved, is_retooled).await;
    let built = built.map_err(|problem| format!("{problem:#}"))?;
    let OfferedConfig { text, author, loaded, resolved } = offered;
    built.swap_in(&live.home, services, &resolved);
    let history = ConfigHistory::of_home(&live.home);
    let recorded = tokio::task::spawn_blocking(move || history.record_or_warn(&text, &author)).await;
    let record = recorded.map_err(|error| error.to_string())?;
    let (number, digest, author) = (record.number, record.digest, record.author.clone());
    let revision = ConfigRevision::new(record, loaded).with_keys(&resolved);
    let pending = live.note_applied(revision, now).join(", ");
    tracing::warn!(revision = number, %digest, author, "the configuration changed and counts now");
    if !pending.is_empty() {
        tracing::warn!(keys = pending, "edited keys take effect only at the next start of the server");
    }
    finish_change(&live.home, &services.of_home, &resolved, digest, now).await;
    Ok(())
}

/// The parts of a configuration, built and not counting yet.
struct BuiltParts {
    models: ModelRegistry,
    gate: GrantGate,
    /// The tools of others, where they changed.
    external: Option<Vec<ConnectedTool>>,
    calls: CallSettings,
}

impl BuiltParts {
    async fn build(
        services: &HomeServices,
        resolved: &ResolvedConfig,
        is_retooled: bool,
    ) -> anyhow::Result<Self> {
        let models = ModelRegistry::new(resolved.models.clone(), &services.runtime.clock, &*services.egress)
            .context("the models cannot be built")?;
        vault_keys::find_provider_scopes(services, &resolved.models).await?;
        let external = is_retooled
            .then(|| home_services::connect_external_tools(resolved, &*services.egress))
            .transpose()?;
        let calls = egress_client::call_settings(resolved, &*services.egress)?;
        let gate = home_services::build_gate(&services.policies, &services.capabilities, resolved);
        Ok(Self { models, gate, external, calls })
    }

    /// Swaps the parts in. The engine comes last: it forgets what it read under the earlier
    /// ones.
    fn swap_in(self, home: &Home, services: &LiveServices, resolved: &ResolvedConfig) {
        let parts = &services.of_home.parts;
        if let Some(external) = self.external {
            parts.toolbox.replace_external(external);
        }
        services.of_home.egress.replace_opened(resolved.calls.reachable.opened.clone());
        parts.toolbox.replace_settings(self.calls);
        parts.sandboxes.replace_hostile(resolved.programs.hostile.clone());
        parts.models.replace_models(self.models);
        parts.gate.replace_gate(self.gate);
        parts.terms.replace_settings(resolved.calls.said.clone(), resolved.calls.prompts.clone());
        services.outbox.replace_channels(resolved.channels.clone().relative_to(home.root_dir()));
        services.gateway.replace_settings(resolved.gateway_config(None));
        services.of_home.engine.replace_config(resolved.engine.clone());
    }
}

/// Does what may take time or fail without harm to what counts already.
async fn finish_change(
    home: &Home,
    services: &HomeServices,
    resolved: &ResolvedConfig,
    digest: dromia_contracts::Digest,
    now: Timestamp,
) {
    if let Err(error) = services.engine.budgets_declare(&resolved.budgets).await {
        tracing::error!(%error, "failed to set the budgets of dromia.yaml; the next change or start sets them");
    }
    let operator = services.authority.issue_operator();
    if let Err(error) = seal_configuration(&*services.store, &*services.store, &operator, digest, now).await {
        tracing::warn!(%error, "failed to record the configuration; the next start records it");
    }
    if let Err(error) = vault_keys::check_channel_keys(services, &resolved.channels).await {
        tracing::warn!(%error, "failed to check the secrets of channels");
    }
    for ConfigProblem { at, message, .. } in &resolved.references.missing_keys {
        tracing::warn!(%at, problem = %message, "a provider or channel is disabled, because it has no key");
    }
    up::tell_unmatched(home, resolved).await;
}
