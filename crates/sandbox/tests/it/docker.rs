//! Containers of a Docker engine that the test starts and ends itself, with an image of this machine's own files.
//!
//! An engine needs root. Everything that takes one is in one test, because it is started once. An ordinary user is told that
//! no container was made, and has what holds without an engine checked.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{
    Ending, Family, Limit, Limits, Mount, ProcessEvent, ProcessSpec, Sandbox, SandboxError, Tier,
};
use dromia_contracts::{AgentId, RunId};
use dromia_sandbox::battery::{Battery, Class, Hole, Outcome, Pace};
use dromia_sandbox::probe::{self, Kind};
use dromia_sandbox::{Containers, Engine};
use serde_json::json;

use crate::support::{helper, machine, run, script};

const IMAGE: &str = "walls:test";

/// How long the engine may take to begin, and to end.
const ENGINE_WAIT: Duration = Duration::from_mins(1);

const LIMITS: Limits = Limits { wall_ms: 60_000, ..Limits::DEFAULT };

/// What the image can do, all of it busybox.
const PROGRAMS: [&str; 11] =
    ["cat", "cut", "echo", "env", "head", "ls", "printf", "setsid", "sh", "sleep", "true"];

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
async fn containers_hold_what_other_walls_hold() {
    let nowhere = Engine { socket: "/no/such/engine.sock".into(), image: IMAGE.to_owned() };
    let missing = probe::one(&machine(Some(nowhere)), Kind::Docker).state.expect_err("there is none");
    assert!(
        missing.what.contains("/no/such/engine.sock") && missing.fix.contains("apt-get install docker.io")
    );
    if !rustix::process::geteuid().is_root() {
        let said = "containers_hold_what_other_walls_hold: an engine needs root and this user is not, so no container was \
                    made. Checked instead: an engine that is not there, and (where_no_engine_answers_nothing_runs) a \
                    socket at which none answers. Run the tests as root for the rest.\n";
        // Not by a macro: what those write is kept back where a test passes.
        std::io::stderr().write_all(said.as_bytes()).expect("it is said");
        return;
    }
    let dockerd = Dockerd::start();
    let engine = Engine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    let missing =
        probe::one(&machine(Some(engine.clone())), Kind::Docker).state.expect_err("it has no image");
    assert!(missing.what.contains(IMAGE) && missing.fix.contains("docker import"), "{missing:?}");
    dockerd.import();
    let backend = probe::one(&machine(Some(engine)), Kind::Docker);
    let backend = backend.state.expect("it works");
    assert_eq!((backend.name(), backend.tier()), ("docker", Tier::Process));

    its_program_has_what_the_spec_names(&*backend).await;
    its_limits_are_kept(&*backend).await;
    nothing_is_left(&*backend, &dockerd).await;
    what_a_killed_helper_left_is_taken_away(&*backend, &dockerd).await;
    nothing_escapes(&*backend).await;
    programs_of_one_family_share_a_container_and_others_do_not(&dockerd).await;
    what_servers_left_is_taken_away_at_the_start(&dockerd).await;
    assert_eq!(dockerd.containers(), [""; 0], "every container was taken away");
}

/// It takes no root, so it holds for everybody: an engine that is not one runs nothing, and nobody is shown its socket.
#[tokio::test]
async fn where_no_engine_answers_nothing_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // Whoever comes is hung up on, until the test ends.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let engine = Engine { socket, image: IMAGE.to_owned() };
    let missing = probe::one(&machine(Some(engine.clone())), Kind::Docker).state;
    let missing = missing.expect_err("nobody answers");
    assert!(missing.fix.contains("look at the engine"), "{missing:?}");
    let backend = Containers::new(helper().to_owned(), engine);
    let workspace = tempfile::tempdir().expect("a directory");
    let told = run(&backend, script(workspace.path(), "echo x > ran")).await;
    assert!(matches!(told.ending, Ending::NotStarted { .. }), "{told:?}");
    assert!(!workspace.path().join("ran").exists(), "it ran: {told:?}");
    let shown = backend.start(script(dir.path(), "ls")).await;
    assert!(matches!(shown, Err(SandboxError::Spec { place: "workspace", .. })), "{shown:?}");
}

async fn its_program_has_what_the_spec_names(backend: &dyn Sandbox) {
    let dir = tempfile::tempdir().expect("a directory");
    let given = tempfile::tempdir().expect("a directory");
    std::fs::write(given.path().join("text"), "given\n").expect("a file");
    let text = "echo out; echo err >&2; echo kept > file; cat /opt/given/text; echo x > /opt/given/new; echo x > /new; env | cut -d= -f1; exit 7";
    let mut spec = script(dir.path(), text);
    spec.limits = LIMITS;
    spec.env = vec![("GIVEN".to_owned(), "by the spec".to_owned())];
    let source = given.path().canonicalize().expect("it is there");
    spec.mounts = vec![Mount { source, target: "/opt/given".into(), writable: false }];
    let told = run(backend, spec).await;
    assert_eq!(told.ending, Ending::Exited { code: 7 }, "{told:?}");
    assert!(told.out.starts_with("out\ngiven\n") && told.err.starts_with("err\n"), "{told:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).expect("it was written"), "kept\n");
    assert!(!given.path().join("new").exists(), "{told:?}");
    let own = |name: &&str| !matches!(*name, "PWD" | "SHLVL" | "OLDPWD");
    let mut names: Vec<_> = told.out.lines().skip(2).filter(own).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "TMPDIR"]);
}

async fn its_limits_are_kept(backend: &dyn Sandbox) {
    let cases: [(&str, Limits, Limit); 4] = [
        ("while :; do :; done", Limits { cpu_ms: 1_000, ..LIMITS }, Limit::Cpu),
        ("trap '' TERM INT HUP; sleep 30", Limits { wall_ms: 1_000, ..LIMITS }, Limit::Time),
        ("while :; do echo flood; done", Limits { output_bytes: 100_000, ..LIMITS }, Limit::Output),
        (
            "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/zero > f$i; done; sleep 30",
            Limits { disk_bytes: 8 << 20, ..LIMITS },
            Limit::Disk,
        ),
    ];
    for (text, limits, limit) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), text);
        spec.limits = limits;
        let told = run(backend, spec).await;
        assert_eq!(told.ending, Ending::Killed { limit }, "{text} {}", told.err);
        assert!(told.out.len() as u64 <= limits.output_bytes);
    }
}

/// The processes of this machine, seen from outside, that have a word in their command line as an argument.
fn sleepers(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("the processes").flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.split('\0').any(|argument| argument == word)).collect()
}

async fn nothing_is_left(backend: &dyn Sandbox, dockerd: &Dockerd) {
    for is_dropped in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        // Nobody else sleeps for so many seconds.
        let word = format!("{}{:07}", 8 + u8::from(is_dropped), std::process::id());
        let mut spec = script(dir.path(), &format!("setsid sleep {word} & echo here; sleep {word}"));
        spec.limits = LIMITS;
        let mut process = backend.start(spec).await.expect("it starts");
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
            assert_eq!(last, Some(ProcessEvent::Ended(Ending::Stopped)));
        }
        let until = Instant::now() + ENGINE_WAIT;
        while !(sleepers(&word).is_empty() && dockerd.containers().is_empty()) {
            assert!(Instant::now() < until, "left behind: {:?}, {:?}", sleepers(&word), dockerd.containers());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A container of a holder that is gone, and one of somebody else.
async fn what_a_killed_helper_left_is_taken_away(backend: &dyn Sandbox, dockerd: &Dockerd) {
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
    assert_eq!(run(backend, spec).await.ending, Ending::Exited { code: 0 });
    let left = dockerd.containers();
    assert_eq!(left.len(), 1, "only the other's: {left:?}");
    assert!(dockerd.asked("DELETE", &format!("/containers/{}", left[0]), None).0);
}

#[expect(clippy::unnecessary_wraps, reason = "as a spec has it")]
fn of(run: u8, label: Label) -> Option<Family> {
    Some(Family { run: RunId::from_bytes([run; 16]), agent: AgentId::from_bytes([1; 16]), label })
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
    let engine = Engine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    let backend = Containers::new(helper().to_owned(), engine.clone());
    let dir = tempfile::tempdir().expect("a directory");
    let told = async |family, text: &str| {
        let spec = ProcessSpec { limits: LIMITS, family, ..script(dir.path(), text) };
        run(&backend, spec).await
    };
    let (first, seen) = (of(1, Label::ACTOR_TEXT), "cat /tmp/mark; echo x > /tmp/mark; echo $GIVEN; exit 3");
    let spec = ProcessSpec { limits: LIMITS, family: first, ..script(dir.path(), seen) };
    let given = vec![("GIVEN".to_owned(), "for the first".to_owned())];
    let begun = run(&backend, ProcessSpec { env: given, ..spec }).await;
    assert_eq!((&begun.ending, begun.out.as_str()), (&Ending::Exited { code: 3 }, "for the first\n"));
    let kept = dockerd.containers();
    assert_eq!(kept.len(), 1, "it is kept");
    let next = told(first, seen).await;
    assert_eq!((&next.ending, next.out.as_str()), (&Ending::Exited { code: 3 }, "x\n\n"), "{next:?}");
    assert_eq!(dockerd.containers(), kept, "it is the same");
    // Another label is another container, and sees nothing of the first.
    let other = told(of(1, Label::UNKNOWN_FILE), "cat /tmp/mark; echo other").await;
    assert_eq!(other.out, "other\n", "{other:?}");
    assert_eq!(dockerd.containers().len(), 2);
    // The walls are the same, and no program lives on.
    let barred = told(first, "echo x > /new; cat /proc/1/environ; echo $?; (sleep 50 &) ; exit 0").await;
    assert_eq!(
        (&barred.ending, barred.err.contains("/new")),
        (&Ending::Exited { code: 0 }, true),
        "{barred:?}"
    );
    until_there_are(dockerd, 1).await;
    assert!(!dockerd.containers().contains(&kept[0]), "a container in which something was left is gone");
    // A limit ends it with its container.
    let limits = Limits { wall_ms: 1_000, ..LIMITS };
    let spec = ProcessSpec { limits, family: first, ..script(dir.path(), "sleep 50") };
    assert_eq!(run(&backend, spec).await.ending, Ending::Killed { limit: Limit::Time });
    let spec = ProcessSpec {
        limits: Limits { cpu_ms: 1_000, ..LIMITS },
        family: first,
        ..script(dir.path(), "while :; do :; done")
    };
    assert_eq!(run(&backend, spec).await.ending, Ending::Killed { limit: Limit::Cpu });
    until_there_are(dockerd, 1).await;
    // The run comes to rest.
    backend.let_go(RunId::from_bytes([1; 16]));
    until_there_are(dockerd, 0).await;
    // An idle one goes by itself, and one of a server that is gone goes with it.
    let soon = Containers::new(helper().to_owned(), engine.clone()).kept_for(Duration::from_millis(300));
    let spec = |family| ProcessSpec { limits: LIMITS, family, ..script(dir.path(), "exit 0") };
    assert_eq!(run(&soon, spec(first)).await.ending, Ending::Exited { code: 0 });
    until_there_are(dockerd, 0).await;
    assert_eq!(run(&soon, spec(first)).await.ending, Ending::Exited { code: 0 }, "it is made anew");
    assert_eq!(run(&backend, spec(first)).await.ending, Ending::Exited { code: 0 });
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
    let engine = Engine { socket: dockerd.socket(), image: IMAGE.to_owned() };
    Containers::new(helper().to_owned(), engine).clear().await.expect("the engine answers");
    assert_eq!(dockerd.containers(), [""; 0]);
    let nowhere = Engine { socket: "/no/such/engine.sock".into(), image: IMAGE.to_owned() };
    Containers::new(helper().to_owned(), nowhere).clear().await.expect_err("there is no engine");
}

/// One attempt of each class. `dromia sandbox test` makes all.
async fn nothing_escapes(backend: &dyn Sandbox) {
    let directory = tempfile::tempdir().expect("a directory");
    let program = helper().canonicalize().expect("it is there");
    let scratch = directory.path().to_owned();
    let battery = Battery { program, scratch, classes: Vec::new(), pace: Pace::Quick };
    let rows = battery.run(backend, false, Hole::None).await.expect("it runs");
    let of = |outcome| rows.iter().filter(move |row| row.outcome == outcome).map(|row| row.name);
    assert_eq!(of(Outcome::Escaped).collect::<Vec<_>>(), [""; 0], "{rows:#?}");
    assert!(of(Outcome::Held).count() >= Class::ALL.len() - 2, "{rows:#?}");
    let rows = battery.run(backend, false, Hole::Planted).await.expect("it runs");
    assert!(rows.iter().all(|row| row.outcome == Outcome::Escaped), "{rows:#?}");
}
