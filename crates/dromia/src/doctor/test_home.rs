//! A home and a world in which a test plants its fault.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dromia_api::status::{LoadStatus, NodeStatus, StoreCounters, StoreStatus};
use dromia_cli::Outcome;
use dromia_store::{NameInventory, SqliteStore, StoreConfig, TenantNames};
use jiff::Timestamp;

use super::environment::{
    BackendStatus, DoctorWorld, FileSystem, SecretRow, ServerAnswers, ServerProbe, SystemLimit,
};
use super::{CheckContext, CheckResult, DoctorReport, Severity};
use crate::home::Home;

/// A world whose every answer is a field.
pub(super) struct PlantedWorld {
    pub(super) now: Timestamp,
    pub(super) disk: FileSystem,
    pub(super) files: Option<u64>,
    pub(super) file_bytes: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) port: Result<(), String>,
    pub(super) server: ServerProbe,
    pub(super) agents: Vec<String>,
    pub(super) secrets: Vec<SecretRow>,
    pub(super) walls: Vec<BackendStatus>,
    pub(super) reached: Result<(), String>,
}

impl PlantedWorld {
    pub(super) fn answers_mut(&mut self) -> &mut ServerAnswers {
        match &mut self.server {
            ServerProbe::Answers(answers) => answers,
            other => panic!("no server answers: {other:?}"),
        }
    }

    pub(super) fn status_mut(&mut self) -> &mut NodeStatus {
        &mut self.answers_mut().status
    }
}

impl DoctorWorld for PlantedWorld {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn built_at(&self) -> Option<Timestamp> {
        Some(parse_time("2026-01-01T00:00:00Z"))
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(self.disk.clone())
    }

    fn system_limit(&self, limit: SystemLimit) -> Option<u64> {
        match limit {
            SystemLimit::Files => self.files,
            SystemLimit::FileBytes => self.file_bytes,
        }
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.memory
    }

    fn try_port(&self, _: SocketAddr) -> io::Result<()> {
        self.port.clone().map_err(io::Error::other)
    }

    fn server_probe(&self) -> &ServerProbe {
        &self.server
    }

    fn has_agent(&self, handle: &str) -> Option<bool> {
        Some(self.agents.iter().any(|agent| agent == handle))
    }

    fn known_names(&self, _: &[String]) -> Option<NameInventory> {
        let agents = self.agents.iter().cloned().collect();
        let of_tenant = TenantNames { agents, ..TenantNames::default() };
        let tenants = BTreeMap::from([(dromia_api::TENANT_DEFAULT.to_owned(), of_tenant)]);
        Some(NameInventory { tenants, ..NameInventory::default() })
    }

    fn tenant_secrets(&self, _: &str) -> Option<Vec<SecretRow>> {
        Some(self.secrets.clone())
    }

    fn backend_status(&self, name: &str) -> Option<&BackendStatus> {
        self.walls.iter().find(|walls| walls.name == name)
    }

    fn reach_url(&self, _: &str) -> Result<(), String> {
        self.reached.clone()
    }
}

/// A home with its world.
pub(super) struct PlantedHome {
    pub(super) home: Home,
    pub(super) world: PlantedWorld,
    pub(super) env: BTreeMap<String, String>,
    _directory: tempfile::TempDir,
}

impl PlantedHome {
    /// A home in which everything is as it should be, with a server.
    pub(super) fn healthy_home() -> Self {
        let planted = Self::missing_home("home");
        fs::create_dir(planted.home.root_dir()).expect("is made");
        set_mode(planted.home.root_dir(), 0o700);
        drop(SqliteStore::open(StoreConfig::new(planted.home.store_dir())).expect("the store is made"));
        planted.write_config("version: 1\nmodels: { default: { kind: scripted } }\n");
        fs::write(planted.home.token_path(), "drm_planted\n").expect("is written");
        set_mode(&planted.home.token_path(), 0o600);
        let key = format!("dromia-vault-key-1 {}\n", "0f".repeat(32));
        fs::write(planted.home.vault_key(), key).expect("is written");
        set_mode(&planted.home.vault_key(), 0o600);
        planted
    }

    /// A home that was never made, at a name of one's choice.
    pub(super) fn missing_home(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root: PathBuf = directory.path().join(name);
        let world = PlantedWorld {
            now: parse_time("2026-06-01T00:00:00Z"),
            disk: FileSystem {
                free_bytes: 1 << 40,
                free_inodes: Some(1 << 20),
                kind: Some("ext4".to_owned()),
            },
            files: Some(65_536),
            file_bytes: None,
            memory: Some(8 << 30),
            port: Ok(()),
            server: ServerProbe::Answers(Box::new(ServerAnswers {
                status: server_status(),
                held: 0,
                stuck: Vec::new(),
                stopped: 0,
                oldest_delivery: None,
            })),
            agents: vec!["assistant".to_owned()],
            secrets: Vec::new(),
            walls: ["native/strict", "bubblewrap", "docker", "firecracker", "gvisor", "native/base"]
                .map(backend_status)
                .into(),
            reached: Ok(()),
        };
        let env = BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
        Self { home: Home::locate_home(Some(&root)), world, env, _directory: directory }
    }

    pub(super) fn nowhere_home() -> Self {
        let mut planted = Self::missing_home("nowhere");
        planted.world.server = ServerProbe::Absent;
        planted
    }

    /// A home in which as much as possible is wrong.
    pub(super) fn ruined_home() -> Self {
        let mut planted = Self::healthy_home();
        planted.write_config(
            "version: 9\nmodels: { x: { kind: openai, base_url: 'http://x', key: 'env:GONE' } }\n",
        );
        set_mode(planted.home.root_dir(), 0o755);
        set_mode(&planted.home.token_path(), 0o644);
        set_mode(&planted.home.vault_key(), 0o644);
        fs::write(planted.home.root_dir().join("cli.json"), "{").expect("is written");
        fs::write(planted.home.store_dir().join("dromia.db"), "x".repeat(9_000)).expect("is written");
        planted.env.clear();
        let world = &mut planted.world;
        world.now = parse_time("2001-01-01T00:00:00Z");
        world.disk = FileSystem { free_bytes: 1, free_inodes: Some(1), kind: Some("nfs".to_owned()) };
        (world.files, world.file_bytes, world.memory) = (Some(8), Some(8), Some(8));
        world.port = Err("address in use".to_owned());
        world.server = ServerProbe::Absent;
        world.reached = Err("no connection".to_owned());
        for walls in &mut world.walls {
            walls.missing =
                Some(("the kernel has no Landlock".to_owned(), "boot with lsm=landlock".to_owned()));
        }
        planted
    }

    pub(super) fn write_config(&self, text: &str) {
        fs::write(self.home.config_path(), text).expect("is written");
    }

    pub(super) fn run_checks(&self, only: &[String]) -> Outcome<DoctorReport> {
        let env = |name: &str| self.env.get(name).cloned();
        super::run_checks(&CheckContext::new(&self.home, &env, &self.world), only)
    }

    pub(super) fn full_report(&self) -> DoctorReport {
        self.run_checks(&[]).expect("all checks are known")
    }

    pub(super) fn result_of(&self, id: &str) -> CheckResult {
        let report = self.run_checks(&[id.to_owned()]).expect("the check is known");
        let finding = report.items.into_iter().next().expect("a finding");
        CheckResult { severity: finding.severity, message: finding.message, fix: finding.fix }
    }

    pub(super) fn severity_of(&self, id: &str) -> Severity {
        self.result_of(id).severity
    }
}

pub(super) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}

fn backend_status(name: &'static str) -> BackendStatus {
    BackendStatus { name, tier: "T1", missing: None, gaps: Vec::new() }
}

fn parse_time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn server_status() -> NodeStatus {
    NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: parse_time("2026-05-31T00:00:00Z"),
        uptime_seconds: 86_400,
        draining: false,
        listening: None,
        tenants: 1,
        load: Some(LoadStatus { active: 0, ready: 0, active_max: 1024 }),
        store: StoreStatus {
            writable: true,
            read_only_cause: None,
            damaged: None,
            counters: Some(StoreCounters {
                wal_bytes: 0,
                file_bytes: 1 << 20,
                commits: 1,
                batches: 1,
                rows: 1,
                writer_micros: 1,
                bytes_written: 1,
            }),
        },
        policy: None,
        config: None,
    }
}
