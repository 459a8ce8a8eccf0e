//! A home and a world in which a test plants its fault.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dromia_api::status::{Load, Status, Store};
use dromia_cli::Outcome;
use dromia_store::{Names, SqliteStore, StoreConfig, TenantNames};
use jiff::Timestamp;

use super::world::{Answers, FileSystem, Kept, Limit, Server, Walls, World};
use super::{Report, Scene, Severity, Verdict};
use crate::home::Home;

/// A world whose every answer is a field.
pub(super) struct PlantedWorld {
    pub(super) now: Timestamp,
    pub(super) disk: FileSystem,
    pub(super) files: Option<u64>,
    pub(super) file_bytes: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) port: Result<(), String>,
    pub(super) server: Server,
    pub(super) agents: Vec<String>,
    pub(super) secrets: Vec<Kept>,
    pub(super) walls: Vec<Walls>,
    pub(super) reached: Result<(), String>,
}

impl PlantedWorld {
    pub(super) fn answers(&mut self) -> &mut Answers {
        match &mut self.server {
            Server::Answers(answers) => answers,
            other => panic!("no server answers: {other:?}"),
        }
    }

    pub(super) fn status(&mut self) -> &mut Status {
        &mut self.answers().status
    }
}

impl World for PlantedWorld {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn built_at(&self) -> Option<Timestamp> {
        Some(time("2026-01-01T00:00:00Z"))
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(self.disk.clone())
    }

    fn limit(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Files => self.files,
            Limit::FileBytes => self.file_bytes,
        }
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.memory
    }

    fn try_port(&self, _: SocketAddr) -> io::Result<()> {
        self.port.clone().map_err(io::Error::other)
    }

    fn server(&self) -> &Server {
        &self.server
    }

    fn has_agent(&self, handle: &str) -> Option<bool> {
        Some(self.agents.iter().any(|agent| agent == handle))
    }

    fn names(&self, _: &[String]) -> Option<Names> {
        let agents = self.agents.iter().cloned().collect();
        let of_tenant = TenantNames { agents, ..TenantNames::default() };
        let tenants = BTreeMap::from([(dromia_api::TENANT_DEFAULT.to_owned(), of_tenant)]);
        Some(Names { tenants, ..Names::default() })
    }

    fn secrets(&self, _: &str) -> Option<Vec<Kept>> {
        Some(self.secrets.clone())
    }

    fn walls(&self, name: &str) -> Option<&Walls> {
        self.walls.iter().find(|walls| walls.name == name)
    }

    fn reach(&self, _: &str) -> Result<(), String> {
        self.reached.clone()
    }
}

/// A home with its world.
pub(super) struct Planted {
    pub(super) home: Home,
    pub(super) world: PlantedWorld,
    pub(super) env: BTreeMap<String, String>,
    _directory: tempfile::TempDir,
}

impl Planted {
    /// A home in which everything is as it should be, with a server.
    pub(super) fn sound() -> Self {
        let planted = Self::below("home");
        fs::create_dir(planted.home.root()).expect("is made");
        chmod(planted.home.root(), 0o700);
        drop(SqliteStore::open(StoreConfig::new(planted.home.store())).expect("the store is made"));
        planted.configure("version: 1\nmodels: { default: { kind: scripted } }\n");
        fs::write(planted.home.token(), "drm_planted\n").expect("is written");
        chmod(&planted.home.token(), 0o600);
        let key = format!("dromia-vault-key-1 {}\n", "0f".repeat(32));
        fs::write(planted.home.vault_key(), key).expect("is written");
        chmod(&planted.home.vault_key(), 0o600);
        planted
    }

    /// A home that nobody made, at a name of one's choice.
    pub(super) fn below(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root: PathBuf = directory.path().join(name);
        let world = PlantedWorld {
            now: time("2026-06-01T00:00:00Z"),
            disk: FileSystem {
                free_bytes: 1 << 40,
                free_inodes: Some(1 << 20),
                kind: Some("ext4".to_owned()),
            },
            files: Some(65_536),
            file_bytes: None,
            memory: Some(8 << 30),
            port: Ok(()),
            server: Server::Answers(Box::new(Answers {
                status: status(),
                held: 0,
                stuck: Vec::new(),
                stopped: 0,
                oldest_delivery: None,
            })),
            agents: vec!["assistant".to_owned()],
            secrets: Vec::new(),
            walls: ["native/strict", "bubblewrap", "docker", "firecracker", "gvisor", "native/base"]
                .map(walls)
                .into(),
            reached: Ok(()),
        };
        let env = BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
        Self { home: Home::find(Some(&root)), world, env, _directory: directory }
    }

    pub(super) fn nowhere() -> Self {
        let mut planted = Self::below("nowhere");
        planted.world.server = Server::Absent;
        planted
    }

    /// A home in which as much as possible is wrong.
    pub(super) fn ruined() -> Self {
        let mut planted = Self::sound();
        planted.configure(
            "version: 9\nmodels: { x: { kind: openai, base_url: 'http://x', key: 'env:GONE' } }\n",
        );
        chmod(planted.home.root(), 0o755);
        chmod(&planted.home.token(), 0o644);
        chmod(&planted.home.vault_key(), 0o644);
        fs::write(planted.home.root().join("cli.json"), "{").expect("is written");
        fs::write(planted.home.store().join("dromia.db"), "x".repeat(9_000)).expect("is written");
        planted.env.clear();
        let world = &mut planted.world;
        world.now = time("2001-01-01T00:00:00Z");
        world.disk = FileSystem { free_bytes: 1, free_inodes: Some(1), kind: Some("nfs".to_owned()) };
        (world.files, world.file_bytes, world.memory) = (Some(8), Some(8), Some(8));
        world.port = Err("address in use".to_owned());
        world.server = Server::Absent;
        world.reached = Err("no connection".to_owned());
        for walls in &mut world.walls {
            walls.missing =
                Some(("the kernel has no Landlock".to_owned(), "boot with lsm=landlock".to_owned()));
        }
        planted
    }

    pub(super) fn configure(&self, text: &str) {
        fs::write(self.home.config(), text).expect("is written");
    }

    pub(super) fn examined(&self, only: &[String]) -> Outcome<Report> {
        let env = |name: &str| self.env.get(name).cloned();
        super::examine(&Scene::new(&self.home, &env, &self.world), only)
    }

    pub(super) fn report(&self) -> Report {
        self.examined(&[]).expect("all checks are known")
    }

    pub(super) fn verdict(&self, id: &str) -> Verdict {
        let report = self.examined(&[id.to_owned()]).expect("the check is known");
        let finding = report.items.into_iter().next().expect("a finding");
        Verdict { severity: finding.severity, message: finding.message, fix: finding.fix }
    }

    pub(super) fn found(&self, id: &str) -> Severity {
        self.verdict(id).severity
    }
}

pub(super) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}

fn walls(name: &'static str) -> Walls {
    Walls { name, tier: "T1", missing: None, gaps: Vec::new() }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn status() -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: time("2026-05-31T00:00:00Z"),
        uptime_seconds: 86_400,
        draining: false,
        listening: None,
        tenants: 1,
        load: Load { active: 0, ready: 0, active_max: 1024 },
        store: Store {
            writable: true,
            read_only_cause: None,
            damaged: None,
            wal_bytes: 0,
            file_bytes: 1 << 20,
            commits: 1,
            batches: 1,
            rows: 1,
            writer_micros: 1,
            bytes_written: 1,
        },
        policy: None,
    }
}
