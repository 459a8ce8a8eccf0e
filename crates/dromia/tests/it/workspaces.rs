//! Workspaces by reference, through the real binary: an agent works in a directory of the operator's, below a root that the
//! configuration lists, and nowhere else; what lies there stays the operator's.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::approvals::document;
use crate::home::{Home, Server, append, block_on, stderr};
use crate::programs::told;

/// A home, and a directory beside it in which a site lies.
struct Scene {
    home: Home,
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["site/.git/hooks", "other"] {
            std::fs::create_dir_all(root.path().join(name)).expect("made");
        }
        std::fs::write(root.path().join("site/page.html"), "hello\n").expect("written");
        std::os::unix::fs::symlink("site", root.path().join("link")).expect("linked");
        let home = Home::new();
        let roots = json!([root.path()]);
        append(&home.path().join("dromia.yaml"), &format!("workspaces: {{ roots: {roots} }}\n"));
        Self { home, root }
    }

    fn site(&self) -> PathBuf {
        self.root.path().join("site")
    }

    /// Makes the agent `dev` with this workspace.
    fn create(&self, workspace: &str) -> serde_json::Value {
        let grants = ["model", "reply", "exec", "shell.execute", "file.*"].map(|grant| ["--grant", grant]);
        let words = [&["agent", "create", "dev", "--workspace", workspace][..], &grants.concat()].concat();
        document(&self.home, &words)
    }

    /// Returns why `dev` cannot get a workspace.
    fn refused(&self, workspace: &str) -> String {
        let output = self.home.run(&["agent", "set", "dev", &format!("workspace={workspace}")]);
        assert!(!output.status.success(), "{workspace} is taken");
        stderr(&output)
    }
}

async fn shell(server: &Server, command: &str) -> String {
    told(server, "shell.execute", json!({"command": command})).await
}

async fn write(server: &Server, path: &str, content: &str) -> String {
    told(server, "file.write", json!({"path": path, "content": content})).await
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn files_and_programs_work_in_a_referenced_directory() {
    let scene = Scene::new();
    let (site, server) = (scene.site(), scene.home.serve());
    let made = scene.create(&site.display().to_string());
    assert_eq!(made["config"]["workspace"], json!(site), "{made}");
    let shown = scene.home.run(&["agent", "show", "dev"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&site.display().to_string()));
    block_on(async {
        assert!(told(&server, "file.read", json!({"path": "page.html"})).await.contains("hello"));
        assert!(write(&server, "new.html", "made by a tool").await.starts_with("wrote"));
        let said = shell(&server, "pwd; cat page.html new.html; echo by a program > made; ls -a ..").await;
        assert!(said.contains("/workspace\nhello\nmade by a tool"), "{said}");
        assert!(!said.contains("other"), "{said}");
    });
    assert_eq!(read(&site.join("made")), "by a program\n");
    assert_eq!(read(&site.join("new.html")), "made by a tool");
    block_on(async {
        // What programs outside execute stays as it is, for programs and for file tools.
        for name in [".git/hooks/pre-commit", ".envrc", ".vscode/tasks.json"] {
            assert!(write(&server, name, "evil").await.contains("programs outside the sandbox"), "{name}");
            assert!(!site.join(name).exists());
        }
        let said =
            shell(&server, "echo evil > .git/hooks/pre-commit; echo evil > .git/config; echo $?").await;
        assert!(said.to_lowercase().contains("read-only file system"), "{said}");
    });
    assert!(
        !site.join(".git/hooks/pre-commit").exists() && !read(&site.join(".git/config")).contains("evil")
    );
    // Longer results than a model is shown are kept in the home, and read there.
    block_on(async {
        let said = shell(&server, "seq 1 30000").await;
        let kept = said.lines().find_map(|line| line.split("bytes are in ").nth(1)).expect("it is kept");
        let path = kept.split(';').next().expect("a path").to_owned();
        assert!(!site.join(&path).exists(), "{path} is in the operator's directory");
        assert!(told(&server, "file.read", json!({"path": path})).await.contains("\n17\n"));
    });
    let deleted = scene.home.run(&["agent", "delete", "dev", "--yes"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert_eq!(read(&site.join("page.html")), "hello\n", "the directory outlives its agent");
}

#[test]
fn a_read_only_workspace_takes_no_change() {
    let scene = Scene::new();
    let (site, server) = (scene.site(), scene.home.serve());
    scene.create(&format!("{}:ro", site.display()));
    block_on(async {
        assert!(told(&server, "file.read", json!({"path": "page.html"})).await.contains("hello"));
        for (tool, arguments) in [
            ("file.write", json!({"path": "page.html", "content": "x"})),
            ("file.append", json!({"path": "page.html", "content": "x"})),
            ("file.edit", json!({"path": "page.html", "old": "hello", "new": "x"})),
            ("file.delete", json!({"path": "page.html"})),
        ] {
            let said = told(&server, tool, arguments).await;
            assert!(said.contains("for reading only"), "{tool}: {said}");
        }
        let said =
            shell(&server, "cat page.html; echo x > page.html; rm page.html; mkdir d; echo over").await;
        assert!(said.contains("hello\n") && said.contains("over"), "{said}");
    });
    assert_eq!(read(&site.join("page.html")), "hello\n");
    assert!(!site.join("d").exists());
    // With the mark taken away it counts for the next run, and without a directory the home's own does.
    document(&scene.home, &["agent", "set", "dev", &format!("workspace={}", site.display())]);
    block_on(async { assert!(write(&server, "new", "x").await.starts_with("wrote")) });
    document(&scene.home, &["agent", "set", "dev", "workspace="]);
    block_on(async { assert!(write(&server, "own", "x").await.starts_with("wrote")) });
    assert!(site.join("new").exists() && !site.join("own").exists());
    let history = document(&scene.home, &["agent", "history", "dev"]);
    let changed: Vec<_> =
        history["items"].as_array().expect("rows").iter().map(|row| &row["changed"]).collect();
    assert_eq!(changed, [&json!(["workspace"]), &json!(["workspace"]), &json!([])]);
    document(&scene.home, &["agent", "revert", "dev", "1"]);
    block_on(async { assert!(write(&server, "late", "x").await.contains("for reading only")) });
}

#[test]
fn an_unfit_workspace_is_refused_with_its_reason() {
    let scene = Scene::new();
    let (site, _server) = (scene.site(), scene.home.serve());
    scene.create(&site.display().to_string());
    let (root, home) = (scene.root.path().display().to_string(), scene.home.path().display().to_string());
    for (workspace, reason) in [
        ("/", "can't be /"),
        ("site", "absolute path"),
        ("/srv/../etc", "without `.`"),
        ("/etc", "workspaces.roots"),
        (&format!("{root}/link"), "symbolic link"),
        (&format!("{root}/gone"), "not there"),
        (&format!("{root}/site/page.html"), "not a directory"),
        (&format!("{root}/site/.git"), "programs outside execute"),
        (&format!("{home}/agents"), "workspaces.roots"),
    ] {
        let said = scene.refused(workspace);
        assert!(said.contains(reason), "{workspace}: {said}");
    }
    let shown = document(&scene.home, &["agent", "show", "dev"]);
    assert_eq!((&shown["revision"], &shown["config"]["workspace"]), (&json!(1), &json!(site)));
}

#[test]
fn a_workspace_that_moves_away_refuses_calls() {
    let scene = Scene::new();
    let (site, server) = (scene.site(), scene.home.serve());
    scene.create(&site.display().to_string());
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::rename(&site, scene.root.path().join("away")).expect("moved");
    let check = |reason: &str| {
        block_on(async {
            for said in [write(&server, "x", "x").await, shell(&server, "echo x > x").await] {
                assert!(said.contains(reason) && said.contains(&site.display().to_string()), "{said}");
            }
        });
    };
    check("it is not there");
    std::os::unix::fs::symlink(outside.path(), &site).expect("linked");
    check("symbolic link");
    assert!(!outside.path().join("x").exists(), "a link led out of the root");
    // An agent whose directory is gone can still be changed.
    document(&scene.home, &["agent", "set", "dev", "description=away"]);
}

#[test]
fn another_tenants_directory_is_outside_of_every_root() {
    let root = tempfile::tempdir().expect("a directory");
    for tenant in ["default", "acme"] {
        std::fs::create_dir_all(root.path().join(tenant).join("site")).expect("made");
    }
    let home = Home::new();
    let roots = json!([root.path().join("{tenant}")]);
    append(&home.path().join("dromia.yaml"), &format!("workspaces: {{ roots: {roots} }}\n"));
    let _server = home.serve();
    let create = |name: &str, tenant: &str| {
        let workspace = root.path().join(tenant).join("site").display().to_string();
        home.run(&["agent", "create", name, "--workspace", &workspace])
    };
    assert!(create("mine", "default").status.success());
    let theirs = create("theirs", "acme");
    assert!(!theirs.status.success() && stderr(&theirs).contains("workspaces.roots"), "{}", stderr(&theirs));
}

#[test]
fn a_person_takes_files_out_and_puts_them_in() {
    let scene = Scene::new();
    let (site, server) = (scene.site(), scene.home.serve());
    scene.create(&site.display().to_string());
    let file = |words: &[&str]| scene.home.run(&[&["file"][..], words, &["--agent", "dev"]].concat());
    let listed = document(&scene.home, &["file", "list", "--agent", "dev"]);
    let names: Vec<_> = listed["items"].as_array().expect("rows").iter().map(|row| &row["name"]).collect();
    assert_eq!(names, [&json!(".git"), &json!("page.html")]);
    assert_eq!(file(&["get", "page.html"]).stdout, b"hello\n");
    let local = scene.root.path().join("local");
    std::fs::write(&local, [0xff, 0x00]).expect("written");
    let local = local.to_str().expect("a path");
    assert!(file(&["put", local, "notes/bytes"]).status.success());
    assert_eq!(std::fs::read(site.join("notes/bytes")).expect("it is there"), [0xff, 0x00]);
    for (words, reason) in [
        (&["get", "gone"][..], "there is no such file"),
        (&["get", "../local"], "must not contain .."),
        (&["list", "gone"], "there is no such file"),
        (&["put", local, ".git/hooks/pre-commit"], "programs outside the sandbox"),
        (&["put", local, "../outside"], "must not contain .."),
    ] {
        let output = file(words);
        assert!(
            !output.status.success() && stderr(&output).contains(reason),
            "{words:?}: {}",
            stderr(&output)
        );
    }
    document(&scene.home, &["agent", "set", "dev", &format!("workspace={}:ro", site.display())]);
    let refused = file(&["put", local, "late"]);
    assert!(stderr(&refused).contains("for reading only"), "{}", stderr(&refused));
    drop(server);
}

/// Asks `dev` to write a file, from a directory of the machine, and returns what the command did.
fn ask_to_write(scene: &Scene, workspace: &str, path: &str, more: &[&str]) -> std::process::Output {
    let call = format!("@tool file.write {}", json!({"path": path, "content": "x"}));
    let words = [&["ask", "--agent", "dev", "--json", "--workspace", workspace][..], more, &[&call]].concat();
    scene.home.command().current_dir(scene.root.path()).args(words).output().expect("it runs")
}

#[test]
fn one_question_works_in_a_directory_of_its_own() {
    let scene = Scene::new();
    let _server = scene.home.serve();
    scene.create(&scene.root.path().join("other").display().to_string());
    // The server resolves no relative path: the client does.
    let asked = ask_to_write(&scene, "site", "one", &[]);
    assert!(asked.status.success(), "{}", stderr(&asked));
    let answered: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("a document");
    let (run, session) =
        (answered["run"].as_str().expect("a run"), answered["session"].as_str().expect("one"));
    assert_eq!(document(&scene.home, &["run", "show", run])["run"]["workspace"], json!(scene.site()));
    assert_eq!(read(&scene.site().join("one")), "x");
    // The next question of the session works in the agent's workspace again.
    let call = format!("@tool file.write {}", json!({"path": "two", "content": "x"}));
    document(&scene.home, &["ask", "--session", session, &call]);
    assert!(scene.root.path().join("other/two").exists() && !scene.site().join("two").exists());
    ask_to_write(&scene, "site:ro", "three", &[]);
    assert!(!scene.site().join("three").exists());
    for (workspace, reason) in [
        ("/etc", "workspace: /etc: it does not lie below"),
        ("link/../gone", "does not exist; create it"),
        (&format!("{}/link", scene.root.path().display()), "symbolic link"),
        ("site/.git", "programs outside execute"),
    ] {
        let refused = ask_to_write(&scene, workspace, "x", &[]);
        assert!(!refused.status.success() && stderr(&refused).contains(reason), "{}", stderr(&refused));
    }
}

#[test]
fn only_who_may_change_an_agent_names_a_directory() {
    let scene = Scene::new();
    let server = scene.home.serve();
    scene.create(&scene.site().display().to_string());
    let made = document(&scene.home, &["token", "create", "weak", "--scope", "invoke", "--scope", "read"]);
    let token = made["token"].as_str().or(made["secret"].as_str()).expect("a token").to_owned();
    let event = json!({"agent": "dev", "text": "hi", "workspace": scene.site()});
    block_on(async {
        let request = reqwest::Client::new().post(format!("{}/v1/events", server.url));
        let request = request.bearer_auth(token).json(&event);
        let (status, problem) = server.send(request).await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("forbidden")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("`admin`")), "{problem}");
    });
}
