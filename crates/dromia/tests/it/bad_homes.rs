//! Homes and configurations that cannot be served: each a clear line, the next step and its exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::home::{Home, append, block_on, stderr};

#[test]
fn a_home_that_is_not_there_names_init() {
    let home = Home::new();
    let output =
        home.command().args(["up", "--home", "/nonexistent/home"]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`dromia --home /nonexistent/home init`"), "{}", stderr(&output));
}

#[test]
fn an_unknown_key_is_named_with_line_column_and_suggestion() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "default_agnet: x\n");
    let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("did you mean `default_agent`?"), "{text}");
    let written = std::fs::read_to_string(home.path().join("dromia.yaml")).expect("the configuration");
    assert!(text.contains(&format!("dromia.yaml:{}:1: ", written.lines().count())), "{text}");
}

#[test]
fn an_invalid_configuration_is_refused_before_anything_is_opened() {
    for (text, says) in [
        ("version: 2\n", "dromia.yaml:1:10: version: this program reads version 1, not 2"),
        ("engine:\n  active_max: many\n", "dromia.yaml:2:15: "),
        ("engine:\n  active_mx: 3\n", "did you mean `active_max`?"),
        ("engine: { active_max: 0 }\n", "engine.active_max: must be at least 1"),
        ("listen: [\n", "dromia.yaml:"),
        (
            "models: { default: { kind: openai, base_url: 'http://x', model: m, key: sk-1 } }\n",
            "write env:NAME",
        ),
        ("models: { default: { kind: openai, base_url: 'nowhere', model: m } }\n", "default"),
        ("tools: { message_hops_max: -1 }\n", "dromia.yaml:1:"),
    ] {
        let home = Home::new();
        std::fs::write(home.path().join("dromia.yaml"), text).expect("the configuration can be written");
        let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(2), "{text}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{text}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
}

#[test]
fn a_configuration_that_is_not_utf8_is_refused() {
    let home = Home::new();
    std::fs::write(home.path().join("dromia.yaml"), b"listen: \xff\xfe\n").expect("the file can be written");
    let output = home.run(&["up"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("dromia.yaml"), "{}", stderr(&output));
}

/// Sets the mode of every directory and of every file of a home.
fn set_modes(home: &Home, directories: u32, files: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut left = vec![home.path()];
    while let Some(path) = left.pop() {
        let is_dir = path.is_dir();
        let mode = std::fs::Permissions::from_mode(if is_dir { directories } else { files });
        std::fs::set_permissions(&path, mode).expect("it is ours");
        if is_dir {
            let entries = std::fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
}

/// What lies at a path: its mode, when it was written last, and its bytes where it is a file.
type Lies = (u32, SystemTime, Option<Vec<u8>>);

/// Everything in a home by its path there, the home itself included.
fn tree(home: &Home) -> BTreeMap<PathBuf, Lies> {
    use std::os::unix::fs::PermissionsExt as _;
    let root = home.path();
    let (mut found, mut left) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(path) = left.pop() {
        let about = std::fs::symlink_metadata(&path).expect("it lies there");
        let bytes = about.is_file().then(|| std::fs::read(&path).expect("it is ours"));
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        let below = path.strip_prefix(&root).expect("it lies below").to_owned();
        let written = about.modified().expect("a file system that keeps times");
        found.insert(below, (about.permissions().mode(), written, bytes));
    }
    found
}

#[test]
fn a_touched_home_is_caught() {
    let home = Home::new();
    let before = tree(&home);
    assert_eq!(before, tree(&home), "looking changes nothing");
    let config = home.path().join("dromia.yaml");
    let text = std::fs::read(&config).expect("it is there");
    // The same bytes, written again.
    std::fs::write(&config, &text).expect("it can be written");
    let file = std::fs::File::options().write(true).open(&config).expect("it is there");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("it is ours");
    assert_ne!(before, tree(&home));
    let before = tree(&home);
    std::fs::write(home.path().join("new"), "").expect("it can be written");
    assert_ne!(before, tree(&home));
}

/// A command that has no right that the modes do not give: root becomes nobody, anybody else stays who he is.
fn without_rights(home: &Home) -> std::process::Command {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let above = home.path().parent().expect("the temporary directory").to_owned();
    if std::fs::metadata(&above).expect("it is there").uid() != 0 {
        return home.command();
    }
    std::fs::set_permissions(&above, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    // Nobody may not look into the directory of the build, so the program comes along.
    let program = above.join("dromia");
    std::fs::copy(env!("CARGO_BIN_EXE_dromia"), &program).expect("there is room");
    let mut command = std::process::Command::new(program);
    command.env("DROMIA_HOME", home.path()).env_remove("OPENAI_API_KEY").stdin(std::process::Stdio::null());
    command.uid(65_534).gid(65_534);
    command
}

#[test]
fn a_read_only_home_is_refused_and_left_unchanged() {
    let home = Home::new();
    set_modes(&home, 0o555, 0o444);
    let before = tree(&home);
    assert!(before.len() > 3 && before.contains_key(Path::new("dromia.yaml")), "{:?}", before.keys());
    let mut command = without_rights(&home);
    let output = command.args(["up", "--listen", "127.0.0.1:0"]).output().expect("the program runs");
    let after = tree(&home);
    // The temporary directory must be able to go away.
    set_modes(&home, 0o755, 0o644);
    let touched: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let touched: Vec<_> = touched.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(touched.is_empty(), "{touched:?} is not as it was");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("cannot be written") && text.contains("change its owner or mode"), "{text}");
    assert!(text.contains(&home.path().display().to_string()), "{text}");
}

#[test]
fn a_second_server_is_refused_and_names_the_first() {
    let home = Home::new();
    let server = home.serve();
    let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains(&format!("process {}", server.pid())), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_refused_with_the_way_out() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = home.run(&["up", "--listen", &address]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("--listen 127.0.0.1:0"), "{}", stderr(&output));
}

#[test]
fn a_home_path_too_long_for_a_socket_is_refused() {
    let home = Home::new();
    let deep = home.path().join("x".repeat(100));
    let deep = deep.to_str().expect("is UTF-8");
    let output =
        home.run(&["init", "--defaults", "--no-input", "--model-source", "scripted", "--home", deep]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("choose a shorter path with --home"), "{}", stderr(&output));
    assert!(!std::path::Path::new(deep).exists());
}

#[test]
fn a_file_at_the_socket_path_is_named_and_unchanged() {
    let home = Home::new();
    let socket = home.path().join("run").join("dromia.sock");
    std::fs::create_dir_all(home.path().join("run")).expect("can be made");
    std::fs::write(&socket, "mine").expect("can be written");
    let output = home.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(6));
    let text = stderr(&output);
    assert!(text.contains("run/dromia.sock") && text.contains("remove the file there"), "{text}");
    assert_eq!(std::fs::read_to_string(&socket).expect("is there"), "mine");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let home = Home::new();
    let output = home.run(&["up", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("loopback"), "{}", stderr(&output));
    let output = home.run(&["up", "--listen", "localhost:7700"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("such as 127.0.0.1:7700"), "{}", stderr(&output));
}

#[test]
fn a_home_is_made_once() {
    let home = Home::new();
    let output = home.run(&["init", "--defaults", "--no-input", "--model-source", "scripted"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("is a home already"), "{}", stderr(&output));
}

#[test]
fn a_command_without_a_server_names_up() {
    let home = Home::new();
    let output = home.run(&["ask", "hello"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("dromia up"), "{}", stderr(&output));
}

#[test]
fn init_restores_a_lost_configuration_and_keeps_the_token() {
    let home = Home::new();
    let token = home.token_path();
    assert!(home.run(&["config", "validate"]).status.success());
    std::fs::remove_file(home.path().join("dromia.yaml")).expect("it is there");
    for line in [&["up"][..], &["config", "validate"]] {
        let told = home.run(line);
        assert_eq!(told.status.code(), Some(2), "{line:?}: {}", stderr(&told));
        let text = stderr(&told);
        assert!(text.contains("has a store but no dromia.yaml") && text.contains("`dromia init`"), "{text}");
    }
    let made = home.run(&["init", "--defaults", "--no-input", "--model-source", "scripted"]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stderr(&made).contains("The store is unchanged"), "{made:?}");
    assert_eq!(home.token_path(), token, "the token of before is kept");
    let server = home.serve();
    let (status, tokens) = block_on(server.get("/v1/tokens"));
    assert_eq!((status, tokens["items"].as_array().map(Vec::len)), (200, Some(1)), "{tokens}");
}

#[test]
fn a_home_that_lost_its_store_is_refused_not_reinitialized() {
    for (how, says) in
        [("removed", "dromia.db is gone"), ("emptied", "dromia.db is empty"), ("all", "dromia.db is gone")]
    {
        let home = Home::new();
        let store = home.path().join("store");
        match how {
            "removed" => std::fs::remove_file(store.join("dromia.db")).expect("it is there"),
            "emptied" => std::fs::write(store.join("dromia.db"), "").expect("it can be written"),
            _ => std::fs::remove_dir_all(&store).expect("it is there"),
        }
        for line in [
            &["up", "--listen", "127.0.0.1:0"][..],
            &["init", "--defaults", "--no-input"],
            &["migrate", "state"],
            &["migrate", "state", "--dry-run"],
        ] {
            let told = home.run(line);
            assert_eq!(told.status.code(), Some(1), "{how}: {line:?}: {}", stderr(&told));
            let text = stderr(&told);
            assert!(text.contains(says) && text.contains("dromia docs backup"), "{how}: {line:?}: {text}");
        }
        let made = std::fs::metadata(store.join("dromia.db")).map_or(0, |made| made.len());
        assert_eq!(made, 0, "{how}: an empty store was made");
        let doctor = home.run(&["doctor", "--only", "store.opens"]);
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(text.contains(says) && text.contains("dromia docs backup"), "{how}: {text}");
    }
}

#[test]
fn init_keeps_an_existing_configuration_and_makes_the_rest() {
    let home = Home::new();
    let fresh = home.path().with_file_name("fresh");
    std::fs::create_dir(&fresh).expect("can be made");
    let written = "version: 1\ndefault_agent: ops # mine\n";
    std::fs::write(fresh.join("dromia.yaml"), written).expect("can be written");
    let at = |arguments: &[&str]| {
        home.command().env("DROMIA_HOME", &fresh).args(arguments).output().expect("the program runs")
    };
    let up = at(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(up.status.code(), Some(2), "{}", stderr(&up));
    assert!(stderr(&up).contains("`dromia init`, which keeps the file"), "{}", stderr(&up));
    let made = at(&["init", "--defaults"]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stderr(&made).contains("dromia.yaml is unchanged"), "{}", stderr(&made));
    assert_eq!(std::fs::read_to_string(fresh.join("dromia.yaml")).expect("it is there"), written);
    assert!(fresh.join("token").is_file() && fresh.join("vault.key").is_file());
    let again = at(&["init", "--defaults"]);
    assert_eq!(again.status.code(), Some(6), "{}", stderr(&again));
    let mut command = home.command();
    command.env("DROMIA_HOME", &fresh);
    let _server = home.serve_by(command);
    let told = at(&["ask", "hello"]);
    assert!(told.status.success(), "{}", stderr(&told));
    let agents = at(&["agent", "list"]);
    assert!(String::from_utf8_lossy(&agents.stdout).contains("ops"), "{agents:?}");
}
