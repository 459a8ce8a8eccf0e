//! The backends of this machine, and a process run to its end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use dromia_contracts::sandbox::{
    NetworkAccess, OutputStream, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec, SandboxBackend,
    SandboxProcess,
};
use dromia_sandbox::probe::{self, BackendKind, BackendParts};
use dromia_sandbox::{DockerEngine, GvisorSandbox};

/// The helper that is built with these tests.
pub(crate) fn helper() -> &'static Path {
    static HELPER: OnceLock<PathBuf> = OnceLock::new();
    HELPER.get_or_init(|| {
        let built = || env!("CARGO_BIN_EXE_dromia-sandbox-helper").into();
        std::env::var_os(HELPER_VARIABLE).map_or_else(built, PathBuf::from)
    })
}

/// Names another copy of the helper, for a user who may not enter where it is built.
const HELPER_VARIABLE: &str = "DROMIA_TEST_SANDBOX_HELPER";

/// An ordinary user, whom every machine has.
const NOBODY: u32 = 65_534;

/// Runs a test of this program once more as an ordinary user, where this process is root; it must run there and pass.
pub(crate) fn as_ordinary_user(test: &str) {
    let program = std::env::current_exe().expect("it is told");
    let place = tempfile::tempdir().expect("a directory");
    let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(place.path(), open(0o755)).expect("set");
    let (copy, copied_helper) = (place.path().join("tests"), place.path().join("helper"));
    for (from, to) in [(program.as_path(), &copy), (helper(), &copied_helper)] {
        std::fs::copy(from, to).expect("it is copied");
        std::fs::set_permissions(to, open(0o755)).expect("set");
    }
    let own = place.path().join("own");
    std::fs::create_dir(&own).expect("a directory");
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).expect("root may");
    let output = Command::new("setpriv")
        .args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"])
        .args(["--pdeathsig", "KILL"])
        .arg(&copy)
        .args(["--exact", test, "--nocapture"])
        .env(HELPER_VARIABLE, &copied_helper)
        .env("TMPDIR", &own)
        .env("HOME", &own)
        .current_dir(&own)
        .output()
        .expect("setpriv runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Fails where this user is not root: without it the test has nothing to look at, and that is no success.
pub(crate) fn needs_root(why: &str) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, as {why}: run it by sudo");
}

/// The helper that binds guards by their paths.
pub(crate) fn helper_by_path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dromia-sandbox-helper-by-path"))
}

/// This machine, with the engine that a test started.
pub(crate) fn machine(engine: Option<DockerEngine>) -> BackendParts {
    BackendParts { helper: helper().to_owned(), engine, monitor: None, groups: Vec::new() }
}

/// Every backend of this machine that starts at once; each must work.
pub(crate) fn backends() -> Vec<Arc<dyn SandboxBackend>> {
    let is_slow = |kind: &BackendKind| {
        matches!(kind, BackendKind::Docker | BackendKind::Firecracker | BackendKind::Gvisor)
    };
    let quick = BackendKind::ALL.into_iter().filter(|kind| !is_slow(kind));
    let all: Vec<_> = quick.map(|kind| probe::probe_one(&machine(None), kind)).collect();
    for name in ["native/strict", "bubblewrap", "native/base"] {
        let backend = all.iter().find(|backend| backend.name == name).expect("it is listed");
        assert!(backend.state.is_ok(), "{name} does not work here: {:?}", backend.state);
    }
    all.into_iter().filter_map(|backend| backend.state.ok()).collect()
}

/// gVisor with a helper; its programs take seconds to start.
pub(crate) fn gvisor(helper: &Path) -> GvisorSandbox {
    let places = ["/usr/local/bin/runsc", "/usr/bin/runsc"].map(PathBuf::from);
    let runsc =
        places.into_iter().find(|path| path.is_file()).expect("gVisor is there: apt-get install runsc");
    GvisorSandbox::new(helper.to_owned(), runsc)
}

/// A shell script in a workspace.
pub(crate) fn script(workspace: &Path, script: &str) -> ProcessSpec {
    ProcessSpec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: Vec::new(),
        workspace: workspace.to_owned(),
        reference: None,
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: ProcessLimits { wall_ms: 10_000, ..ProcessLimits::DEFAULT },
        network: NetworkAccess::None,
        family: None,
    }
}

/// What a process wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ending: ProcessExit,
}

/// Runs a process to its end.
pub(crate) async fn run(backend: &dyn SandboxBackend, spec: ProcessSpec) -> Told {
    told(backend.start_process(spec).await.expect("it starts")).await
}

/// Hears a process to its end.
pub(crate) async fn told(mut process: Box<dyn SandboxProcess>) -> Told {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match process.next().await.expect("an end comes last") {
            ProcessEvent::Output { stream: OutputStream::Out, bytes } => out.extend_from_slice(&bytes),
            ProcessEvent::Output { stream: OutputStream::Err, bytes } => err.extend_from_slice(&bytes),
            ProcessEvent::Ended(ending) => {
                assert_eq!(process.next().await, None, "nothing comes after the end");
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                return Told { out: text(out), err: text(err), ending };
            }
        }
    }
}
