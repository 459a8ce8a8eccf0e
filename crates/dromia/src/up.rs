//! `dromia up`: opens the services of a home, serves them, drains.
//!
//! Order: read the configuration, open the store (which takes the home's lock), build, bind, announce, run. The first
//! line on standard output is the address. On SIGTERM or Ctrl-C: take no more, let turns end, leave; what did not end
//! is taken over at the next start. From the signal to the end it takes `limits.drain_ms` at most: connections and
//! turns have one deadline. A second signal ends it at once.

mod stop;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use dromia_contracts::audit::AuditLog;
use dromia_gateway::{AdapterPorts, BuildError, ChannelSet, Outbox, OutboxPorts};
use dromia_store::{SqliteStore, StoreConfig, StoreInspector};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::audit::{AuditDirectory, CheckpointWriter, HomeNotary};
use crate::config::{
    self, ConfigFlag, ConfigProblem, EnvironmentVariables, ResolvedConfig, SetArguments, references,
};
use crate::file_limit;
use crate::home::Home;
use crate::home_services::{HomeServices, open_services};
use crate::live_config::{LiveConfig, LiveServices, StartConfig, follow_file};
use crate::log::{LogFormat, ServerLog};
use crate::outbox_client::HttpPost;
use crate::policy;
use crate::redact::{self, Redactor};
use crate::sandbox_choice;
use crate::service;
use crate::system::{self, ExitError};
use crate::vault_keys::{self, VaultKeys};

use self::stop::{StopListener, StopSignal};

/// Reads an address as it is typed. A name is none: it may mean several.
fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write it as an IP address and a port, such as 127.0.0.1:7700".to_owned())
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With port 0 the server takes a free port and prints it in its first line.\n\nExamples:\n  dromia up\n  dromia up --listen 127.0.0.1:0"
)]
pub(crate) struct UpArguments {
    /// Listen on this TCP address, whatever DROMIA_LISTEN and `listen` in dromia.yaml say. Without `http.tls` loopback only.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_socket_address)]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    set: SetArguments,

    /// Write the log as JSON lines.
    #[arg(long)]
    log_json: bool,

    /// Refuse to start where dromia.yaml cannot be used, instead of starting on the last good configuration.
    #[arg(long)]
    strict_config: bool,
}

/// How long the store may take to tell which names it has.
const NAMES_PATIENCE: Duration = Duration::from_secs(10);

/// Serves a home until a signal stops it.
pub(crate) fn run_server(home: &Home, arguments: &UpArguments) -> anyhow::Result<ExitCode> {
    let mut flags = arguments.set.config_flags();
    flags.extend(arguments.listen.map(|address| ConfigFlag {
        name: "--listen",
        key: "listen".to_owned(),
        value: address.to_string(),
    }));
    let start = StartConfig::choose(home, &flags, arguments.strict_config)?;
    home.check_store()?;
    if let Some(banner) = start.banner_text() {
        anstream::eprintln!("{banner}");
    }
    let text = start.revision.record.text.clone();
    let written = serde_saphyr::from_str::<serde_json::Value>(&text).ok();
    let redactor = Redactor::from_home(home, &redact::process_variables(), written.as_ref());
    let log = ServerLog::start(redactor, if arguments.log_json { LogFormat::Json } else { LogFormat::Text })?;
    for ConfigProblem { at, message, .. } in
        config::misspelt_variables(&EnvironmentVariables::of_process(), &text)
    {
        tracing::warn!(%at, problem = %message, "a variable begins with DROMIA_ but sets no key");
    }
    for ConfigProblem { at, message, .. } in &start.resolved.references.missing_keys {
        tracing::warn!(%at, problem = %message, "a provider or channel is disabled, because it has no key; \
                                                 everything else works");
    }
    file_limit::raise_files();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = tokio.block_on(serve_home(home, start, flags, &log));
    // Tasks that did not end in time are dropped: recovery takes their runs over.
    tokio.shutdown_timeout(Duration::from_millis(100));
    log.flush_lines();
    result
}

/// Builds the outbox and has the engine notify it.
fn build_outbox(services: &HomeServices, channels: ChannelSet) -> Outbox {
    let ports = OutboxPorts {
        store: Arc::clone(&services.store) as _,
        channels: AdapterPorts {
            post: Arc::new(HttpPost::new(Arc::clone(&services.egress) as _)),
            keys: Arc::new(VaultKeys(Arc::clone(&services.vault))),
        },
        leaks: Arc::clone(&services.vault) as _,
        runtime: services.runtime.clone(),
        authority: services.authority.clone(),
    };
    let outbox = Outbox::new(ports, channels);
    services.engine.tell_of_deliveries(Arc::new(outbox.clone()));
    outbox
}

async fn serve_home(
    home: &Home,
    start: StartConfig,
    flags: Vec<ConfigFlag>,
    log: &ServerLog,
) -> anyhow::Result<ExitCode> {
    let StartConfig { revision, resolved, refused } = start;
    let mut ear = StopListener::start_listening()?;
    let _outgrown = stop::outlive_file_size()?;
    let services = Arc::new(open_services(home, &resolved)?);
    log.watch_vault(&services.vault);
    vault_keys::tell_locked(home, &services).await;
    vault_keys::find_provider_scopes(&services, &resolved.models).await?;
    vault_keys::check_channel_keys(&services, &resolved.channels).await?;
    policy::follow_folder(home, &services.policies, Arc::clone(&services.runtime.clock))?;
    sandbox_choice::clear_stale_containers(&resolved);
    tell_unmatched(home, &resolved).await;
    let socket = home.checked_socket()?;
    if let Some(dir) = socket.parent() {
        system::private_dir(dir)?;
    }
    let mut gateway = resolved.gateway_config(Some(socket));
    gateway.tls = gateway.tls.map(|files| files.relative_to(home.root_dir()));
    let outbox = build_outbox(&services, resolved.channels.clone().relative_to(home.root_dir()));
    let written = revision.record.text.clone();
    let book = AuditDirectory::for_home(home);
    let key = Arc::new(book.load_or_create_key(services.runtime.ids.random_secret())?);
    let notary = HomeNotary::new(Arc::clone(&key), home, &written);
    let records: Arc<dyn AuditLog> = Arc::clone(&services.store) as _;
    let clock = Arc::clone(&services.runtime.clock);
    let keeper =
        CheckpointWriter::open(&book, key, Arc::clone(&records), services.authority.issue_operator(), clock)
            .await?;
    let ports = dromia_gateway::GatewayPorts {
        store: Arc::clone(&services.store) as _,
        runs: Arc::new(services.engine.clone()),
        outbox: outbox.clone(),
        tools: Arc::clone(&services.tools),
        files: Arc::clone(&services.parts.toolbox) as _,
        gate: Arc::clone(&services.gate),
        reach: Arc::clone(&services.parts.toolbox) as _,
        terms: Arc::clone(&services.terms),
        vault: Arc::clone(&services.vault) as _,
        audit: records,
        notary: Arc::new(notary),
        capabilities: Arc::clone(&services.capabilities) as _,
        runtime: services.runtime.clone(),
        authority: services.authority.clone(),
    };
    let built = dromia_gateway::build_gateway(gateway, ports).await;
    let (gateway, handle) = built.map_err(|error| not_built(home, error))?;
    if let Some(listener) = handle.tcp_address() {
        // Before any agent runs: none of them reaches this server by its own address, whatever is opened.
        services.egress.keep_from(listener);
    }
    services.engine.tell_of_calls(Arc::new(handle.tool_meters()));
    log.count_with(handle.log_meter());
    services.engine.budgets_declare(&resolved.budgets).await?;
    services.engine.start();
    outbox.start();
    sweep_orphaned_files(Arc::clone(&services.store));
    let keeping = keeper.spawn_task(Arc::clone(&services.store) as _, revision.record.digest);
    let now = services.runtime.clock.now();
    let live = Arc::new(LiveConfig::begin(home, flags, revision, &resolved, refused, now));
    handle.tell_of_configuration(Arc::clone(&live) as _);
    follow_file(
        live,
        LiveServices { of_home: Arc::clone(&services), gateway: handle.clone(), outbox: outbox.clone() },
    );
    announce_address(&handle, home)?;
    service::notify_manager("READY=1");

    let (engine, stopping) = (services.engine.clone(), outbox.clone());
    let told = OnceLock::new();
    let (first, to_stop) = oneshot::channel();
    // One listener for both signals: it has taken the first when the terminal shows how to give the second. Two signals
    // between two polls of a listener are one to it.
    let words = async {
        let _ = first.send(ear.next_signal().await);
        ear.next_signal().await
    };
    let stop = async {
        if to_stop.await == Ok(StopSignal::Interrupt) {
            print_to_terminal(stop::draining_text(engine.count_active_runs(), handle.drain_time()));
        }
        told.get_or_init(Instant::now);
        tracing::info!("draining");
        service::notify_manager("STOPPING=1");
        engine.drain();
        stopping.drain();
    };
    let drained = async {
        gateway.run(stop).await;
        // The gateway used up some of that time; what is left of it is the turns' and the messages'.
        let deadline = told.get().copied().unwrap_or_else(Instant::now) + handle.drain_time();
        let is_at_work = || services.engine.count_active_runs() > 0 || outbox.in_flight() > 0;
        while is_at_work() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        keeping.stop_and_write().await;
    };
    tokio::select! {
        () = Box::pin(drained) => Ok(ExitCode::SUCCESS),
        _ = words => {
            tracing::warn!("stopping at once on a second signal; the next start continues open runs");
            Ok(dromia_cli::CommandExit::Interrupted.into())
        }
    }
}

/// Tells the person at the terminal; nothing waits until it is read.
fn print_to_terminal(text: String) {
    tokio::task::spawn_blocking(move || anstream::eprintln!("{text}"));
}

/// Logs which names of the configuration match nothing, as `doctor` does. It omits names that could not be looked up.
pub(crate) async fn tell_unmatched(home: &Home, resolved: &ResolvedConfig) {
    if resolved.references.mentions.is_empty() {
        return;
    }
    let platforms = references::mentioned_platforms(&resolved.references.mentions);
    let look = StoreInspector::new(StoreConfig::new(home.store_dir()), NAMES_PATIENCE);
    let found = match tokio::task::spawn_blocking(move || look.list_names(&platforms)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to compare the names in dromia.yaml with the store");
            None
        }
        Err(_) => None,
    };
    for ConfigProblem { at, message, .. } in
        references::unmatched_names(&resolved.references.mentions, found.as_ref())
    {
        tracing::warn!(%at, problem = %message, "dromia.yaml has a name that matches nothing, so its \
                                                 settings have no effect");
    }
}

/// Removes, in the background, the files that an earlier life left without a row.
fn sweep_orphaned_files(store: Arc<SqliteStore>) {
    tokio::spawn(async move {
        match store.sweep_bodies().await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed body files without a row"),
            Err(error) => tracing::warn!(%error, "body files without a row stay until the next start"),
        }
    });
}

/// Says where the server is reached; a program that started it reads the first line, and a person also the second one.
fn announce_address(handle: &dromia_gateway::GatewayHandle, home: &Home) -> anyhow::Result<()> {
    use std::io::{IsTerminal as _, Write as _};
    let mut out = std::io::stdout().lock();
    if let Some(address) = handle.tcp_address() {
        let scheme = if handle.is_encrypted() { "https" } else { "http" };
        writeln!(out, "listening {scheme}://{address}").context("failed to print the address")?;
    }
    if out.is_terminal() {
        let home = home.root_dir().display();
        writeln!(out, "home {home}; press Ctrl-C to stop the server").context("failed to print the home")?;
    }
    out.flush().context("failed to print the address")
}

/// Adds to a failure to build the gateway what an operator can do about it.
fn not_built(home: &Home, error: BuildError) -> anyhow::Error {
    let socket = home.socket_path().display().to_string();
    match error {
        BuildError::Config(problem) => ExitError::usage_error(format!(
            "{problem}; correct it in {}, or choose an address with --listen 127.0.0.1:0",
            home.config_path().display()
        )),
        BuildError::Tls(problem) => ExitError::usage_error(format!(
            "{problem}; correct http.tls in {}, and check it with `dromia doctor --only tls`",
            home.config_path().display()
        )),
        BuildError::SocketInUse { path } => ExitError::conflict_error(format!(
            "another server answers on {}; stop it, or choose another home with --home",
            path.display()
        )),
        BuildError::Bind { address, source } if address == socket => ExitError::conflict_error(format!(
            "failed to bind {address}: {source}; remove the file there, or choose another home with --home"
        )),
        BuildError::Bind { address, source } => ExitError::conflict_error(format!(
            "failed to bind {address}: {source}; stop the program that uses it, or choose another address with \
             --listen 127.0.0.1:0"
        )),
        other @ BuildError::Meters(_) => other.into(),
    }
}
