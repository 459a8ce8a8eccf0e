//! From inside of every wall of this machine a program tries to reach what belongs to the server and to other agents:
//! its doors, its data, its environment, another workspace. Each try gets through without walls.
//!
//! Containers of an engine are tried by the battery of `dromia-sandbox`, which makes an engine; none runs here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dromia_contracts::sandbox::{
    NetworkAccess, OutputStream, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec, SandboxBackend,
    SandboxMount,
};
use dromia_sandbox::probe::{self, BackendKind, BackendParts};
use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, block_on};
use crate::programs::told;

/// A word in the server's environment, and its name.
const CANARY: (&str, &str) = ("DROMIA_TEST_CANARY", "canary-of-the-environment-yranac");

/// Tries everything, and tells of each try whether it got through.
const TRIES: &str = r#"
import json, os, socket, sys
at = json.loads(sys.argv[1])

def unix(kind):
    door = socket.socket(socket.AF_UNIX, kind)
    door.settimeout(5)
    door.connect(at["socket"])

def tcp():
    door = socket.create_connection((at["host"], at["port"]), 5)
    door.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert door.recv(16).startswith(b"HTTP/1.1 200"), "no answer"

def read(path):
    assert open(path, "rb").read(), "nothing is in it"

def write(path):
    with open(os.path.join(path, "planted"), "w") as file:
        file.write("planted")

def listed(path, name):
    assert name in os.listdir(path), "it is not listed"

def environment():
    for process in [str(at["pid"]), *filter(str.isdigit, os.listdir("/proc"))]:
        try:
            if at["canary"].encode() in open(f"/proc/{process}/environ", "rb").read():
                return
        except OSError:
            pass
    raise OSError("it is nowhere")

tries = {
    "the Unix socket": lambda: unix(socket.SOCK_STREAM),
    "the TCP port": tcp,
    "the data, listed": lambda: listed(at["home"], "dromia.yaml"),
    "the data, written": lambda: write(at["home"]),
    "the token": lambda: read(os.path.join(at["home"], "token")),
    "the configuration": lambda: read(os.path.join(at["home"], "dromia.yaml")),
    "the store": lambda: read(at["store"]),
    "the data, through the server": lambda: read(f"/proc/{at['pid']}/root{at['home']}/token"),
    "the server's descriptors": lambda: listed(f"/proc/{at['pid']}/fd", "0"),
    "the server's environment": environment,
    "another workspace, listed": lambda: listed(at["other"], "secret.txt"),
    "another workspace, read": lambda: read(os.path.join(at["other"], "secret.txt")),
    "another workspace, written": lambda: write(at["other"]),
    "another workspace, by a climb": lambda: read(os.path.join(at["climb"], "secret.txt")),
}
found = {}
for name, go in tries.items():
    try:
        go()
        found[name] = "through"
    except BaseException as problem:
        found[name] = f"refused: {type(problem).__name__}"
print(json.dumps(found))
"#;

/// How many tries there are.
const TRIES_COUNT: usize = 14;

/// A server with two agents that have workspaces, and what a program is told of it.
struct Scene {
    home: Home,
    server: Server,
    workspace: PathBuf,
    at: Value,
}

impl Scene {
    fn open() -> Self {
        let home = Home::new();
        let mut command = home.command();
        command.env(CANARY.0, CANARY.1);
        let server = home.serve_by(command);
        let mut workspaces = Vec::new();
        for agent in ["dev", "other"] {
            create(&home, agent, &["file.*".to_owned()]);
            let before = all_workspaces(&home);
            let event = json!({
                "text": format!("@tool file.write {}", json!({"path": "secret.txt", "content": agent})),
                "agent": agent,
                "wait": true,
            });
            let (status, answer) = block_on(server.event(&event));
            assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
            let made = all_workspaces(&home).into_iter().find(|path| !before.contains(path));
            workspaces.push(made.expect("it was made"));
        }
        let (workspace, other) = (workspaces[0].clone(), workspaces[1].clone());
        let name = other.parent().and_then(Path::file_name).expect("it lies below its agent's name");
        let climb = format!("../../{}/workspace", name.to_string_lossy());
        let (host, port) = server.url.trim_start_matches("http://").split_once(':').expect("a port");
        let real = home.path().canonicalize().expect("it is there");
        let at = json!({
            "socket": real.join("run/dromia.sock"),
            "host": host,
            "port": port.parse::<u16>().expect("a port"),
            "home": real,
            "store": store(&real),
            "pid": server.pid(),
            "canary": CANARY.1,
            "other": other,
            "climb": climb,
        });
        Self { home, server, workspace, at }
    }

    /// Tries everything without walls.
    fn without_walls(&self) -> BTreeMap<String, String> {
        let output = Command::new("python3")
            .args(["-c", TRIES])
            .arg(self.at.to_string())
            .current_dir(&self.workspace)
            .output()
            .expect("python3 is there: apt-get install python3");
        let found = serde_json::from_slice(&output.stdout);
        found.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Tries everything behind walls, with a directory handed in or none.
    fn behind(
        &self,
        walls: &dyn SandboxBackend,
        mounts: Vec<SandboxMount>,
        at: &Value,
    ) -> BTreeMap<String, String> {
        let spec = ProcessSpec {
            argv: ["python3", "-c", TRIES, &at.to_string()].map(str::to_owned).into(),
            env: Vec::new(),
            workspace: self.workspace.clone(),
            reference: None,
            cwd: PathBuf::new(),
            mounts,
            network: NetworkAccess::None,
            limits: ProcessLimits { wall_ms: 60_000, ..ProcessLimits::DEFAULT },
            family: None,
        };
        block_on(async {
            let mut process = walls.start_process(spec).await.expect("it starts");
            let (mut said, mut complaint) = (Vec::new(), Vec::new());
            loop {
                match process.next().await.expect("an end comes last") {
                    ProcessEvent::Output { stream: OutputStream::Out, bytes } => {
                        said.extend_from_slice(&bytes);
                    }
                    ProcessEvent::Output { stream: OutputStream::Err, bytes } => {
                        complaint.extend_from_slice(&bytes);
                    }
                    ProcessEvent::Ended(ending) => {
                        let complaint = String::from_utf8_lossy(&complaint);
                        assert_eq!(
                            ending,
                            ProcessExit::Exited { code: 0 },
                            "{}: {complaint}",
                            walls.backend_name()
                        );
                        return serde_json::from_slice(&said).expect("a table");
                    }
                }
            }
        })
    }

    /// Insists that nothing gets through walls that does without them.
    fn holds(&self, walls: &dyn SandboxBackend) {
        let found = self.behind(walls, Vec::new(), &self.at);
        assert_eq!(found.len(), TRIES_COUNT, "{found:#?}");
        let refused = found.values().all(|verdict| verdict.starts_with("refused: "));
        assert!(refused, "{}: {found:#?}", walls.backend_name());
        assert_eq!(self.planted(), [""; 0], "{}", walls.backend_name());
    }

    /// Where something was planted; it is taken away.
    fn planted(&self) -> Vec<String> {
        let places = [self.home.path(), PathBuf::from(self.at["other"].as_str().expect("a path"))];
        let planted = places.iter().map(|place| place.join("planted"));
        planted
            .filter(|file| std::fs::remove_file(file).is_ok())
            .map(|file| file.display().to_string())
            .collect()
    }
}

/// The workspaces of a home.
fn all_workspaces(home: &Home) -> Vec<PathBuf> {
    let agents = std::fs::read_dir(home.path().join("agents")).into_iter().flatten().flatten();
    let workspaces = agents.map(|agent| agent.path().join("workspace"));
    workspaces.filter_map(|path| path.canonicalize().ok()).collect()
}

/// The file of the store: the largest of the home.
fn store(home: &Path) -> PathBuf {
    let mut found = (0, PathBuf::new());
    let mut open = vec![home.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("it can be read").flatten() {
            let about = entry.metadata().expect("it is there");
            if about.is_dir() {
                open.push(entry.path());
            } else if about.is_file() && about.len() > found.0 {
                found = (about.len(), entry.path());
            }
        }
    }
    found.1
}

/// One backend of this machine, which must work.
fn walls(kind: BackendKind) -> Arc<dyn SandboxBackend> {
    let helper = Path::new(env!("CARGO_BIN_EXE_dromia")).canonicalize().expect("it is there");
    let backend =
        probe::probe_one(&BackendParts { helper, engine: None, monitor: None, groups: Vec::new() }, kind);
    backend.state.unwrap_or_else(|missing| panic!("{}: {}; {}", kind.name(), missing.what, missing.fix))
}

/// The walls that rise at once.
const QUICK: [BackendKind; 3] = [BackendKind::Strict, BackendKind::Bubblewrap, BackendKind::Base];

#[test]
fn no_sandboxed_program_reaches_the_server_or_other_agents() {
    let scene = Scene::open();
    let open = scene.without_walls();
    assert_eq!(open.len(), TRIES_COUNT, "{open:#?}");
    assert!(open.values().all(|verdict| verdict == "through"), "each works without walls: {open:#?}");
    assert_eq!(scene.planted().len(), 2);
    for kind in QUICK {
        scene.holds(&*walls(kind));
    }
    // The server is as it was.
    let read = block_on(told(&scene.server, "file.read", json!({"path": "secret.txt"})));
    assert!(read.starts_with("dev"), "{read}");
}

#[test]
fn the_server_and_other_agents_are_unreachable_from_a_guest() {
    let is_installed =
        ["/usr/bin/runsc", "/usr/local/bin/runsc"].iter().any(|path| Path::new(path).is_file());
    assert!(is_installed, "gVisor is missing: apt-get install runsc");
    Scene::open().holds(&*walls(BackendKind::Gvisor));
}

/// The planted fault: the home is handed in.
#[test]
fn a_home_that_is_handed_in_is_caught() {
    let scene = Scene::open();
    for kind in QUICK {
        let walls = walls(kind);
        let source = scene.home.path().canonicalize().expect("it is there");
        let mount = SandboxMount { source: source.clone(), target: "/opt/home".into(), writable: false };
        let place = walls.mount_path(&mount).to_owned();
        let mut at = scene.at.clone();
        let store = Path::new(at["store"].as_str().expect("a path"));
        let store = place.join(store.strip_prefix(&source).expect("it is in the home"));
        at["home"] = json!(place);
        at["store"] = json!(store);
        let found = scene.behind(&*walls, vec![mount], &at);
        for name in ["the data, listed", "the token", "the configuration", "the store"] {
            assert_eq!(found[name], "through", "{}: {found:#?}", kind.name());
        }
        assert!(found["the data, written"].starts_with("refused: "), "{found:#?}");
    }
}
