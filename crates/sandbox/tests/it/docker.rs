//! Containers of a Docker engine that the test starts and ends itself, with an image of this machine's own files.
//!
//! An engine needs root. Everything that takes one is in one test, because it is started once; it fails for an ordinary user,
//! to whom it would have shown nothing. What holds without an engine is in tests of its own.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{
    IsolationTier, LimitKind, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec, SandboxBackend,
    SandboxError, SandboxFamily, SandboxMount,
};
use dromia_contracts::{AgentId, RunId};
use dromia_sandbox::battery::{AttackBattery, BatteryPace, EscapeOutcome, PlantedHole, RACED_NAMES};
use dromia_sandbox::probe::{self, BackendKind};
use dromia_sandbox::{DockerEngine, DockerSandbox};
use serde_json::json;

use crate::races;
use crate::support::{helper, helper_by_path, machine, needs_root, run, script};
use crate::volumes::SmallVolume;

/// The fewest attempts that must be shown to work without walls.
const PROVEN_MIN: usize = 60;

const IMAGE: &str = "walls:test";

/// How long the engine may take to begin, and to end.
const ENGINE_WAIT: Duration = Duration::from_mins(1);

const LIMITS: ProcessLimits = ProcessLimits { wall_ms: 60_000, ..ProcessLimits::DEFAULT };

/// How many containers are started for each name that is raced for.
const RACES: usize = 3;

/// What the image can do, all of it busybox.
const PROGRAMS: [&str; 12] =
    ["cat", "cut", "echo", "env", "head", "ls", "printf", "rm", "setsid", "sh", "sleep", "true"];

/// An engine in a directory of its own, ended with the test.
struct Dockerd {
    directory: tempfile::TempDir,
    daemon: Child,
}

impl Dockerd {
    /// Starts one, as root.
    fn start() -> Self {
        let places = ["/usr/sbin/dockerd", "/usr/bin/dockerd"];
        let program = places.into_iter().find(|path| Path::new(path).is_file());
        let program = program.expect("an engine is installed: apt-get install docker.io");
        let directory = tempfile::tempdir().expect("a directory");
        let place = |name: &str| directory.path().join(name);
        let log = std::fs::File::create(place("log")).expect("a file");
        // It dies with this test, however that ends.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", program])
            .arg("--data-root")
            .arg(place("data"))
            .arg("--exec-root")
            .arg(place("exec"))
            .arg("--pidfile")
            .arg(place("pid"))
            .arg("--host")
            .arg(format!("unix://{}", place("engine.sock").display()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv runs");
        let mut engine = Self { directory, daemon };
        let until = Instant::now() + ENGINE_WAIT;
        while !engine.asked("GET", "/version", None).0 {
            let has_ended = engine.daemon.try_wait().expect("it is ours").is_some();
            let said = || std::fs::read_to_string(engine.directory.path().join("log")).unwrap_or_default();
            assert!(!has_ended && Instant::now() < until, "the engine does not begin: {}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
        engine
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// Asks the engine over its socket: whether it did what was asked, and what it said. A body has its type.
    fn asked(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> (bool, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--request", method])
            .arg("--unix-socket")
            .arg(self.socket());
        if let Some((kind, data)) = body {
            curl.args(["--header", &format!("Content-Type: {kind}"), "--data-binary", data]);
        }
        let output = curl.arg(format!("http://engine{path}")).output().expect("curl runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Makes the image: busybox and what the helper is linked with.
    fn import(&self) {
        let root = self.directory.path().join("root");
        for name in ["bin", "usr/bin", "tmp"] {
            std::fs::create_dir_all(root.join(name)).expect("a directory");
        }
        let needed = Command::new("ldd").arg(helper()).output().expect("ldd runs").stdout;
        let needed = String::from_utf8_lossy(&needed).into_owned();
        let libraries = needed.split_ascii_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain(["/bin/busybox"]) {
            let place = root.join(&file[1..]);
            std::fs::create_dir_all(place.parent().expect("it lies somewhere")).expect("a directory");
            std::fs::copy(file, place).expect("it is copied");
        }
        for name in PROGRAMS {
            std::os::unix::fs::symlink("/bin/busybox", root.join("bin").join(name)).expect("a link");
            std::os::unix::fs::symlink("/bin/busybox", root.join("usr/bin").join(name)).expect("a link");
        }
        let archive = self.directory.path().join("image.tar");
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.expect("tar runs").success());
        let data = format!("@{}", archive.display());
        let path = "/images/create?fromSrc=-&repo=walls&tag=test&changes=ENV%20FROM_IMAGE=1";
        let (is_done, said) = self.asked("POST", path, Some(("application/x-tar", &data)));
        assert!(is_done && !said.contains("error"), "{said}");
    }

    /// The ids of all containers.
    fn containers(&self) -> Vec<String> {
        let (is_done, said) = self.asked("GET", "/containers/json?all=1", None);
        assert!(is_done, "{said}");
        let listed: Vec<serde_json::Value> = serde_json::from_str(&said).expect("a list");
        listed.iter().filter_map(|container| container["Id"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id().cast_signed()) {
            // It may have ended already.
            let _: rustix::io::Result<()> = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + ENGINE_WAIT;
        while Instant::now() < until && matches!(self.daemon.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

#[tokio::test]
async fn containers_hold_the_attacks_that_other_backends_hold() {
    needs_root("it starts an engine");
    let dockerd = Dockerd::start();
    let engine = DockerEngine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    let missing = probe::probe_one(&machine(Some(engine.clone())), BackendKind::Docker)
        .state
        .expect_err("it has no image");
    assert!(missing.what.contains(IMAGE) && missing.fix.contains("docker import"), "{missing:?}");
    dockerd.import();
    let backend = probe::probe_one(&machine(Some(engine)), BackendKind::Docker);
    let backend = backend.state.expect("it works");
    assert_eq!((backend.backend_name(), backend.isolation_tier()), ("docker", IsolationTier::Process));

    its_program_has_what_the_spec_names(&*backend).await;
    its_limits_are_kept(&*backend).await;
    nothing_is_left(&*backend, &dockerd).await;
    what_a_killed_helper_left_is_taken_away(&*backend, &dockerd).await;
    nothing_escapes(&*backend).await;
    no_race_leads_out(&*backend, &dockerd).await;
    guards_are_made_by_handle_and_nothing_is_left_of_them(&*backend).await;
    programs_of_one_family_share_a_container_and_others_do_not(&dockerd).await;
    what_servers_left_is_taken_away_at_the_start(&dockerd).await;
    assert_eq!(dockerd.containers(), [""; 0], "every container was taken away");
}

#[test]
fn an_absent_engine_is_named_with_its_package() {
    let nowhere = DockerEngine { socket: "/no/such/engine.sock".into(), image: IMAGE.to_owned() };
    let missing =
        probe::probe_one(&machine(Some(nowhere)), BackendKind::Docker).state.expect_err("there is none");
    assert!(
        missing.what.contains("/no/such/engine.sock") && missing.fix.contains("apt-get install docker.io")
    );
}

/// It takes no root, so it holds for everybody: an engine that is not one runs nothing, and nobody is shown its socket.
#[tokio::test]
async fn without_an_answering_engine_nothing_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // Whoever comes is hung up on, until the test ends.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let engine = DockerEngine { socket, image: IMAGE.to_owned() };
    let missing = probe::probe_one(&machine(Some(engine.clone())), BackendKind::Docker).state;
    let missing = missing.expect_err("nobody answers");
    assert!(missing.fix.contains("check the engine"), "{missing:?}");
    let backend = DockerSandbox::new(helper().to_owned(), engine);
    let workspace = tempfile::tempdir().expect("a directory");
    let told = run(&backend, script(workspace.path(), "echo x > ran")).await;
    assert!(matches!(told.ending, ProcessExit::NotStarted { .. }), "{told:?}");
    assert!(!workspace.path().join("ran").exists(), "it ran: {told:?}");
    let shown = backend.start_process(script(dir.path(), "ls")).await;
    assert!(matches!(shown, Err(SandboxError::Spec { place: "workspace", .. })), "{shown:?}");
}

async fn its_program_has_what_the_spec_names(backend: &dyn SandboxBackend) {
    let dir = tempfile::tempdir().expect("a directory");
    let given = tempfile::tempdir().expect("a directory");
    std::fs::write(given.path().join("text"), "given\n").expect("a file");
    let text = "echo out; echo err >&2; echo kept > file; cat /opt/given/text; echo x > /opt/given/new; echo x > /new; env | cut -d= -f1; exit 7";
    let mut spec = script(dir.path(), text);
    spec.limits = LIMITS;
    spec.env = vec![("GIVEN".to_owned(), "by the spec".to_owned())];
    let source = given.path().canonicalize().expect("it is there");
    spec.mounts = vec![SandboxMount { source, target: "/opt/given".into(), writable: false }];
    let told = run(backend, spec).await;
    assert_eq!(told.ending, ProcessExit::Exited { code: 7 }, "{told:?}");
    assert!(told.out.starts_with("out\ngiven\n") && told.err.starts_with("err\n"), "{told:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).expect("it was written"), "kept\n");
    assert!(!given.path().join("new").exists(), "{told:?}");
    let own = |name: &&str| !matches!(*name, "PWD" | "SHLVL" | "OLDPWD");
    let mut names: Vec<_> = told.out.lines().skip(2).filter(own).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "TMPDIR"]);
}

async fn its_limits_are_kept(backend: &dyn SandboxBackend) {
    let cases: [(&str, ProcessLimits, LimitKind); 5] = [
        ("while :; do :; done", ProcessLimits { cpu_ms: 1_000, ..LIMITS }, LimitKind::Cpu),
        ("trap '' TERM INT HUP; sleep 30", ProcessLimits { wall_ms: 1_000, ..LIMITS }, LimitKind::Time),
        (
            "while :; do echo flood; done",
            ProcessLimits { output_bytes: 100_000, ..LIMITS },
            LimitKind::Output,
        ),
        (
            "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 30",
            ProcessLimits { disk_bytes: 8 << 20, ..LIMITS },
            LimitKind::Disk,
        ),
        // In no directory, and held.
        (
            "exec 3>a 4>b 5>c; rm a b c; for fd in 3 4 5; do head -c 4000000 /dev/zero >&$fd; done; sleep 50",
            ProcessLimits { disk_bytes: 8 << 20, ..LIMITS },
            LimitKind::Disk,
        ),
    ];
    for (text, limits, limit) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), text);
        spec.limits = limits;
        let told = run(backend, spec).await;
        assert_eq!(told.ending, ProcessExit::Killed { limit }, "{text} {}", told.err);
        assert!(told.out.len() as u64 <= limits.output_bytes);
    }
    // The quota has room, and the volume has not.
    let volume = SmallVolume::mount(48);
    let mut spec = script(volume.path(), "head -c 60000000 /dev/zero > file; sleep 50");
    spec.limits = LIMITS;
    let ended = run(backend, spec).await;
    assert_eq!(ended.ending, ProcessExit::Killed { limit: LimitKind::Disk }, "{ended:?}");
}

/// The processes of this machine, seen from outside, that have a word in their command line as an argument.
fn sleepers(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("the processes").flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.split('\0').any(|argument| argument == word)).collect()
}

async fn nothing_is_left(backend: &dyn SandboxBackend, dockerd: &Dockerd) {
    for is_dropped in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        // Nobody else sleeps for so many seconds.
        let word = format!("{}{:07}", 8 + u8::from(is_dropped), std::process::id());
        let mut spec = script(dir.path(), &format!("setsid sleep {word} & echo here; sleep {word}"));
        spec.limits = LIMITS;
        let mut process = backend.start_process(spec).await.expect("it starts");
        assert!(matches!(process.next().await, Some(ProcessEvent::Output { .. })));
        assert_eq!(dockerd.containers().len(), 1, "it is in a container");
        if is_dropped {
            drop(process);
        } else {
            process.stop();
            let mut last = None;
            while let Some(event) = process.next().await {
                last = Some(event);
            }
            assert_eq!(last, Some(ProcessEvent::Ended(ProcessExit::Stopped)));
        }
        let until = Instant::now() + ENGINE_WAIT;
        while !(sleepers(&word).is_empty() && dockerd.containers().is_empty()) {
            assert!(Instant::now() < until, "left behind: {:?}, {:?}", sleepers(&word), dockerd.containers());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A container of a holder that is gone, and one of somebody else.
async fn what_a_killed_helper_left_is_taken_away(backend: &dyn SandboxBackend, dockerd: &Dockerd) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("it is told");
    let namespace = std::fs::read_link("/proc/self/ns/pid").expect("it is told");
    let gone = json!({
        "dromia.sandbox.place": format!("{}/{}", boot.trim(), namespace.display()),
        "dromia.sandbox.holder": format!("{}-1", std::process::id()),
    });
    for labels in [gone, json!({"of": "another"})] {
        let body = json!({"Image": IMAGE, "Cmd": ["true"], "Labels": labels}).to_string();
        let (is_done, said) = dockerd.asked("POST", "/containers/create", Some(("application/json", &body)));
        assert!(is_done, "{said}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut spec = script(dir.path(), "exit 0");
    spec.limits = LIMITS;
    assert_eq!(run(backend, spec).await.ending, ProcessExit::Exited { code: 0 });
    let left = dockerd.containers();
    assert_eq!(left.len(), 1, "only the other's: {left:?}");
    assert!(dockerd.asked("DELETE", &format!("/containers/{}", left[0]), None).0);
}

#[expect(clippy::unnecessary_wraps, reason = "as a spec has it")]
fn of(run: u8, label: Label) -> Option<SandboxFamily> {
    Some(SandboxFamily { run: RunId::from_bytes([run; 16]), agent: AgentId::from_bytes([1; 16]), label })
}

/// Waits until the engine has as many containers.
async fn until_there_are(dockerd: &Dockerd, count: usize) {
    let until = Instant::now() + ENGINE_WAIT;
    while dockerd.containers().len() != count {
        assert!(Instant::now() < until, "{:?} are there, not {count}", dockerd.containers());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn programs_of_one_family_share_a_container_and_others_do_not(dockerd: &Dockerd) {
    let engine = DockerEngine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    let backend = DockerSandbox::new(helper().to_owned(), engine.clone());
    let dir = tempfile::tempdir().expect("a directory");
    let told = async |family, text: &str| {
        let spec = ProcessSpec { limits: LIMITS, family, ..script(dir.path(), text) };
        run(&backend, spec).await
    };
    let (first, seen) = (of(1, Label::ACTOR_TEXT), "cat /tmp/mark; echo x > /tmp/mark; echo $GIVEN; exit 3");
    let spec = ProcessSpec { limits: LIMITS, family: first, ..script(dir.path(), seen) };
    let given = vec![("GIVEN".to_owned(), "for the first".to_owned())];
    let begun = run(&backend, ProcessSpec { env: given, ..spec }).await;
    assert_eq!((&begun.ending, begun.out.as_str()), (&ProcessExit::Exited { code: 3 }, "for the first\n"));
    let kept = dockerd.containers();
    assert_eq!(kept.len(), 1, "it is kept");
    let next = told(first, seen).await;
    assert_eq!((&next.ending, next.out.as_str()), (&ProcessExit::Exited { code: 3 }, "x\n\n"), "{next:?}");
    assert_eq!(dockerd.containers(), kept, "it is the same");
    // Another label is another container, and sees nothing of the first.
    let other = told(of(1, Label::UNKNOWN_FILE), "cat /tmp/mark; echo other").await;
    assert_eq!(other.out, "other\n", "{other:?}");
    assert_eq!(dockerd.containers().len(), 2);
    // The walls are the same, and no program lives on.
    let barred = told(first, "echo x > /new; cat /proc/1/environ; echo $?; (sleep 50 &) ; exit 0").await;
    assert_eq!(
        (&barred.ending, barred.err.contains("/new")),
        (&ProcessExit::Exited { code: 0 }, true),
        "{barred:?}"
    );
    until_there_are(dockerd, 1).await;
    assert!(!dockerd.containers().contains(&kept[0]), "a container in which something was left is gone");
    // A limit ends it with its container.
    let limits = ProcessLimits { wall_ms: 1_000, ..LIMITS };
    let spec = ProcessSpec { limits, family: first, ..script(dir.path(), "sleep 50") };
    assert_eq!(run(&backend, spec).await.ending, ProcessExit::Killed { limit: LimitKind::Time });
    let spec = ProcessSpec {
        limits: ProcessLimits { cpu_ms: 1_000, ..LIMITS },
        family: first,
        ..script(dir.path(), "while :; do :; done")
    };
    assert_eq!(run(&backend, spec).await.ending, ProcessExit::Killed { limit: LimitKind::Cpu });
    until_there_are(dockerd, 1).await;
    // The run comes to rest.
    backend.let_go(RunId::from_bytes([1; 16]));
    until_there_are(dockerd, 0).await;
    // An idle one goes by itself, and one of a server that is gone goes with it.
    let soon = DockerSandbox::new(helper().to_owned(), engine.clone()).kept_for(Duration::from_millis(300));
    let spec = |family| ProcessSpec { limits: LIMITS, family, ..script(dir.path(), "exit 0") };
    assert_eq!(run(&soon, spec(first)).await.ending, ProcessExit::Exited { code: 0 });
    until_there_are(dockerd, 0).await;
    assert_eq!(run(&soon, spec(first)).await.ending, ProcessExit::Exited { code: 0 }, "it is made anew");
    assert_eq!(run(&backend, spec(first)).await.ending, ProcessExit::Exited { code: 0 });
    drop((backend, soon));
    until_there_are(dockerd, 0).await;
}

async fn what_servers_left_is_taken_away_at_the_start(dockerd: &Dockerd) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("it is told");
    let namespace = std::fs::read_link("/proc/self/ns/pid").expect("it is told");
    let labels = json!({
        "dromia.sandbox.place": format!("{}/{}", boot.trim(), namespace.display()),
        "dromia.sandbox.holder": format!("{}-1", std::process::id()),
    });
    let body = json!({"Image": IMAGE, "Cmd": ["true"], "Labels": labels}).to_string();
    let (is_done, said) = dockerd.asked("POST", "/containers/create", Some(("application/json", &body)));
    assert!(is_done, "{said}");
    let engine = DockerEngine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    DockerSandbox::new(helper().to_owned(), engine).remove_leftovers().await.expect("the engine answers");
    assert_eq!(dockerd.containers(), [""; 0]);
    let nowhere = DockerEngine { socket: "/no/such/engine.sock".into(), image: IMAGE.to_owned() };
    DockerSandbox::new(helper().to_owned(), nowhere)
        .remove_leftovers()
        .await
        .expect_err("there is no engine");
}

/// Races for every name, and with a helper that has the engine look names up.
async fn no_race_leads_out(backend: &dyn SandboxBackend, dockerd: &Dockerd) {
    // Docker refuses directories of the operator, and only there nested names are guarded.
    let names = RACED_NAMES.into_iter().filter(|raced| !raced.name.starts_with("sub"));
    races::assert_held(&races::raced(backend, names, races::tries(RACES)).await);
    let engine = DockerEngine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    races::is_caught(&DockerSandbox::new(helper_by_path().to_owned(), engine)).await;
}

/// What the helper builds for a container lies below a directory of its own only until the container has begun.
async fn guards_are_made_by_handle_and_nothing_is_left_of_them(backend: &dyn SandboxBackend) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(dir.path().join(".git")).expect("a directory");
    std::fs::write(dir.path().join(".envrc"), "as it was\n").expect("a file");
    let text =
        "echo x > .envrc; echo x > .git/config; echo x > .git/hooks/new; echo x > .git/index; echo done";
    let mut spec = script(dir.path(), text);
    spec.limits = LIMITS;
    let told = run(backend, spec).await;
    assert!(told.out.ends_with("done\n"), "{told:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join(".envrc")).expect("it is there"), "as it was\n");
    assert_eq!(std::fs::read_to_string(dir.path().join(".git/config")).expect("it is there"), "");
    assert_eq!(std::fs::read_to_string(dir.path().join(".git/index")).expect("it is there"), "x\n");
    assert_eq!(std::fs::read_dir(dir.path().join(".git/hooks")).expect("it is there").count(), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("it is told");
    assert!(!mounts.contains("/run/dromia-sandbox/"), "{mounts}");
}

/// One attempt of each class. `dromia sandbox test` makes all.
async fn nothing_escapes(backend: &dyn SandboxBackend) {
    let directory = tempfile::tempdir().expect("a directory");
    let program = helper().canonicalize().expect("it is there");
    let scratch = directory.path().to_owned();
    let battery = AttackBattery { program, scratch, classes: Vec::new(), pace: BatteryPace::Whole };
    let rows = battery.run_attempts(backend, false, PlantedHole::None).await.expect("it runs");
    let of = |outcome| rows.iter().filter(move |row| row.outcome == outcome).map(|row| row.name);
    assert_eq!(of(EscapeOutcome::Escaped).collect::<Vec<_>>(), [""; 0], "{rows:#?}");
    assert!(
        of(EscapeOutcome::Held).count() >= PROVEN_MIN,
        "{:?}",
        of(EscapeOutcome::Unproven).collect::<Vec<_>>()
    );
    let battery = AttackBattery { pace: BatteryPace::Quick, ..battery };
    let rows = battery.run_attempts(backend, false, PlantedHole::Planted).await.expect("it runs");
    assert!(rows.iter().all(|row| row.outcome == EscapeOutcome::Escaped), "{rows:#?}");
}
