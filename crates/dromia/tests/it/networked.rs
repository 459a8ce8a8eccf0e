//! Commands from another machine: contexts, tokens, and certificates that are not trusted.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dromia_testkit::tls::{AUTHORITY, CERTIFICATE, EXPIRED, KEY};

use crate::home::{Home, Server, append, stderr};

/// A server with TLS, and the directory of a user who has no home.
struct NetworkScene {
    home: Home,
    server: Server,
    user: tempfile::TempDir,
}

impl NetworkScene {
    fn new(certificate: &str) -> Self {
        let home = Home::new();
        std::fs::write(home.path().join("cert.pem"), certificate).expect("is written");
        std::fs::write(home.path().join("key.pem"), KEY).expect("is written");
        append(&home.path().join("dromia.yaml"), "http:\n  tls: { cert: cert.pem, key: key.pem }\n");
        let server = home.serve();
        let user = tempfile::tempdir().expect("a directory");
        std::fs::write(user.path().join("ca.pem"), AUTHORITY).expect("is written");
        std::fs::write(user.path().join("other.pem"), CERTIFICATE).expect("is written");
        Self { home, server, user }
    }

    fn file(&self, name: &str) -> String {
        self.user.path().join(name).display().to_string()
    }

    fn book(&self) -> PathBuf {
        self.user.path().join("config/dromia/contexts.json")
    }

    /// The program as that user runs it.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command();
        command
            .env_remove("DROMIA_HOME")
            .env("HOME", self.user.path())
            .env("XDG_CONFIG_HOME", self.user.path().join("config"))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// Adds a context whose token comes through a pipe.
    fn add(&self, name: &str, url: &str, ca: &str, token: &str) -> Output {
        let ca = self.file(ca);
        let arguments = ["context", "add", name, "--server", url, "--ca", &ca, "--token-stdin"];
        let mut command = self.command(&arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        writeln!(child.stdin.take().expect("a pipe"), "{token}").expect("it reads");
        child.wait_with_output().expect("it ends")
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Lets a server be reached under another address of this machine; the threads end with the test.
fn relay(server: &str) -> String {
    let server = server.strip_prefix("https://").expect("it is encrypted").to_owned();
    let listener = TcpListener::bind("127.0.0.2:0").expect("an address");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(&server).expect("the server is there");
            for (mut from, mut to) in
                [(near.try_clone().expect("a handle"), far.try_clone().expect("a handle")), (far, near)]
            {
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            }
        }
    });
    url
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn commands_work_from_elsewhere_over_tls_with_a_context() {
    let scene = NetworkScene::new(CERTIFICATE);
    let (url, token) = (scene.server.url.clone(), scene.server.token.clone());
    let added = scene.add("prod", &url, "ca.pem", &token);
    assert!(added.status.success(), "{}", stderr(&added));
    assert_eq!((mode(&scene.book()), mode(scene.book().parent().expect("a directory"))), (0o600, 0o700));
    for asked in
        [&["context", "list"][..], &["context", "show", "prod", "--json"], &["context", "use", "prod"]]
    {
        let told = scene.run(asked);
        assert!(told.status.success() && stdout(&told).contains(&url), "{asked:?}: {}", stderr(&told));
        assert!(!(stdout(&told) + &stderr(&told)).contains(&token), "{asked:?} prints the token");
    }
    // From here on the context in use is meant.
    let who = scene.run(&["whoami"]);
    let said = stdout(&who);
    assert!(who.status.success(), "{}", stderr(&who));
    for part in ["server", &url, "default", "token:", "role", "admin"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let asked = scene.run(&["ask", "hello", "--json"]);
    assert!(asked.status.success(), "{}", stderr(&asked));
    let answer: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("one document");
    let run = answer["run"].as_str().expect("a run");
    let watched = scene.run(&["run", "watch", run, "--jsonl"]);
    assert!(watched.status.success() && stdout(&watched).contains("run_completed"), "{}", stderr(&watched));
    for asked in [&["status"][..], &["run", "list"], &["audit", "query"], &["cost", "summary"]] {
        let told = scene.run(asked);
        assert!(told.status.success(), "{asked:?}: {}", stderr(&told));
    }
    let bare = scene.run(&[]);
    assert!(stdout(&bare).contains("Spent today"), "{}{}", stdout(&bare), stderr(&bare));
    let operators = scene.run(&["tenant", "list"]);
    assert_eq!(operators.status.code(), Some(4));
    assert!(stderr(&operators).contains("on the server's machine"), "{}", stderr(&operators));
    let local = scene.run(&["--context", "prod", "config", "show"]);
    assert_eq!(local.status.code(), Some(2), "{}", stdout(&local));
    // The flag and the variable go before the context in use.
    let named = scene.command(&["whoami"]).env("DROMIA_HOME", scene.home.path()).output().expect("it runs");
    assert!(stdout(&named).contains("socket"), "{}", stdout(&named));
    let mut named = scene.command(&["whoami", "--ca", &scene.file("ca.pem"), "--server", &url]);
    let unnamed = named.output().expect("it runs");
    assert_eq!(unnamed.status.code(), Some(2));
    assert!(stderr(&unnamed).contains("DROMIA_TOKEN"), "{}", stderr(&unnamed));
    let told = named.env("DROMIA_TOKEN", &token).output().expect("it runs");
    assert!(told.status.success(), "{}", stderr(&told));
    assert!(scene.run(&["context", "remove", "prod"]).status.success());
    assert!(!std::fs::read_to_string(scene.book()).expect("it is there").contains(&token));
}

#[test]
fn a_certificate_that_is_not_trusted_ends_with_one_line_and_five() {
    let scene = NetworkScene::new(CERTIFICATE);
    let url = &scene.server.url;
    let expired = NetworkScene::new(EXPIRED);
    let plain = url.replace("https://127.0.0.1", "http://127.0.0.1");
    for (name, url, ca, cause) in [
        ("unknown", url.as_str(), "other.pem", "does not trust"),
        ("foreign", relay(url).as_str(), "ca.pem", "for another name"),
        ("expired", expired.server.url.as_str(), "ca.pem", "has expired"),
        ("unencrypted", plain.as_str(), "ca.pem", "the connection"),
        ("absent", "https://127.0.0.1:1", "ca.pem", "no server answers"),
    ] {
        assert!(scene.add(name, url, ca, &scene.server.token).status.success());
        let refused = scene.run(&["--context", name, "whoami"]);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(5), "{name}: {said}");
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].contains(cause) && lines.len() <= 2, "{name}: {said}");
        assert!(name == "unencrypted" || lines[1].starts_with("hint: "), "{name}: {said}");
        assert!(!said.contains(&scene.server.token));
    }
    assert!(scene.add("stale", url, "ca.pem", "drm_stale").status.success());
    let refused = scene.run(&["--context", "stale", "whoami"]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("dromia context add stale"), "{}", stderr(&refused));
    let open = scene.add("open", "http://agents.example", "ca.pem", "drm_x");
    assert_eq!(open.status.code(), Some(2));
    assert!(stderr(&open).contains("in the open"), "{}", stderr(&open));
}
