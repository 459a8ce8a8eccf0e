//! Which directories are opened, and what is said of the others.

use std::os::unix::fs::symlink;

use super::*;

/// A root with a site in it, a home beside it, and what lies around.
struct Scene {
    top: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("a directory");
        for name in ["root/site", "home/agents", "outside"] {
            std::fs::create_dir_all(top.path().join(name)).expect("made");
        }
        std::fs::write(top.path().join("root/file"), "x").expect("written");
        symlink(top.path().join("outside"), top.path().join("root/link")).expect("linked");
        symlink("site", top.path().join("root/inner")).expect("linked");
        symlink(top.path().join("root"), top.path().join("rootlink")).expect("linked");
        Self { top }
    }

    fn open(&self, resolver: PathResolver, root: &str, name: &str) -> Result<HeldReference, ReferenceError> {
        let top = self.top.path();
        let reference = top.join(name).display().to_string().parse().expect("a reference");
        HeldReference::open(&reference, &[top.join(root)], &top.join("home"), resolver)
    }
}

#[test]
fn a_directory_below_a_root_is_held() {
    let scene = Scene::new();
    for resolver in [PathResolver::Kernel, PathResolver::Walk] {
        for (root, name, real) in [
            ("root", "root/site", "root/site"),
            ("root", "root", "root"),
            ("rootlink", "rootlink/site", "root/site"),
        ] {
            let held = scene.open(resolver, root, name).expect("it is held");
            assert_eq!(held.path, scene.top.path().join(real).canonicalize().expect("it is there"));
        }
    }
}

#[test]
fn a_refused_directory_is_named_with_its_reason() {
    let scene = Scene::new();
    for resolver in [PathResolver::Kernel, PathResolver::Walk] {
        for (root, name, kind) in [
            ("root", "outside", RefusalKind::OutsideRoots),
            ("root", "rootlink/site", RefusalKind::OutsideRoots),
            ("root", "root/gone", RefusalKind::Gone),
            ("root", "root/file", RefusalKind::NotDirectory),
            ("root", "root/link", RefusalKind::Link),
            ("root", "root/inner", RefusalKind::Link),
            ("root", "root/link/x", RefusalKind::Link),
            ("nowhere", "nowhere/x", RefusalKind::RootGone),
            ("", "home", RefusalKind::Home),
            ("", "home/agents", RefusalKind::Home),
            ("", "", RefusalKind::Home),
        ] {
            let refused = scene.open(resolver, root, name).expect_err(name);
            assert_eq!(refused.kind, kind, "{name} by {resolver:?}");
            let text = refused.to_string();
            let directory = scene.top.path().join(name).display().to_string();
            assert!(text.contains(directory.trim_end_matches('/')) && text.contains("; "), "{text}");
        }
    }
    let reference = "/srv/site".parse().expect("a reference");
    let none = HeldReference::open(&reference, &[], scene.top.path(), PathResolver::Kernel);
    assert_eq!(none.expect_err("no roots").kind, RefusalKind::NoRoots);
}

#[test]
fn another_file_system_below_a_root_is_refused() {
    // Every machine has one mounted below `/`.
    let reference = "/proc/self".parse().expect("a reference");
    let home = tempfile::tempdir().expect("a directory");
    let open = |text: &str| {
        let reference: WorkspaceReference = text.parse().expect("a reference");
        HeldReference::open(&reference, &[PathBuf::from("/")], home.path(), PathResolver::Kernel)
    };
    assert_eq!(open("/proc").expect_err("it is mounted").kind, RefusalKind::OtherDevice);
    let linked = HeldReference::open(&reference, &[PathBuf::from("/")], home.path(), PathResolver::Kernel);
    assert_eq!(linked.expect_err("a link").kind, RefusalKind::Link);
}

#[test]
fn a_directory_that_is_only_read_needs_no_write_access() {
    let scene = Scene::new();
    let top = scene.top.path();
    for (suffix, is_allowed) in [("", true), (":ro", true)] {
        let text = format!("{}{suffix}", top.join("root/site").display());
        let reference: WorkspaceReference = text.parse().expect("a reference");
        let held =
            HeldReference::open(&reference, &[top.join("root")], &top.join("home"), PathResolver::Kernel);
        assert_eq!(held.expect("it is held").check_access(&reference).is_ok(), is_allowed, "{suffix}");
    }
}

/// Returns which directories outside of the root `root` are opened.
fn opened_outside(scene: &Scene, opens: impl Fn(&Path, &Path) -> bool) -> Vec<&'static str> {
    let top = scene.top.path();
    let outside = ["outside", "root/link", "rootlink/../outside", "home"];
    outside.into_iter().filter(|name| opens(&top.join("root"), &top.join(name))).collect()
}

#[test]
fn no_directory_outside_of_a_root_is_opened() {
    let scene = Scene::new();
    for resolver in [PathResolver::Kernel, PathResolver::Walk] {
        let opens = |root: &Path, directory: &Path| {
            let Ok(reference) = directory.display().to_string().parse() else { return false };
            let home = scene.top.path().join("home");
            HeldReference::open(&reference, &[root.to_owned()], &home, resolver).is_ok()
        };
        assert_eq!(opened_outside(&scene, opens), Vec::<&str>::new());
    }
}

/// Planted fault: the path is compared as a text, and opened by its path.
#[test]
fn a_workspace_outside_its_root_is_caught() {
    let scene = Scene::new();
    let opens = |root: &Path, directory: &Path| directory.starts_with(root) && directory.read_dir().is_ok();
    assert_eq!(opened_outside(&scene, opens), ["root/link"]);
}
