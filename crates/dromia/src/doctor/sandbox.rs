//! The walls of this machine: which backend of process isolation works, and what adds one that does not. What a hostile
//! tenant of the configuration needs is asked for by its name.

use super::world::Walls;
use super::{Check, Scene, Verdict, ok, warning};

pub(super) const CHECKS: &[Check] = &[
    Check { id: "sandbox.strict", run: strict },
    Check { id: "sandbox.bubblewrap", run: bubblewrap },
    Check { id: "sandbox.docker", run: docker },
    Check { id: "sandbox.firecracker", run: firecracker },
    Check { id: "sandbox.gvisor", run: gvisor },
    Check { id: "sandbox.base", run: base },
];

const STRICT: &str = "native/strict";
const FIRECRACKER: &str = "firecracker";
const GVISOR: &str = "gvisor";

fn strict(scene: &Scene<'_>) -> Verdict {
    told(scene, STRICT)
}

fn bubblewrap(scene: &Scene<'_>) -> Verdict {
    told(scene, "bubblewrap")
}

fn docker(scene: &Scene<'_>) -> Verdict {
    told(scene, "docker")
}

fn firecracker(scene: &Scene<'_>) -> Verdict {
    // Who names its parts means them to be used, whatever else works.
    let is_named = scene.written().is_some_and(|written| written["sandbox"]["firecracker"].is_object());
    match scene.world.walls(FIRECRACKER).and_then(|walls| walls.missing.as_ref()) {
        Some((what, fix)) if is_named => {
            warning(format!("{FIRECRACKER} is configured and does not work: {what}"), fix.clone())
        }
        Some(_) | None => told(scene, FIRECRACKER),
    }
}

fn gvisor(scene: &Scene<'_>) -> Verdict {
    let hostile = hostile(scene);
    // A machine holds them as well.
    let is_held =
        hostile.is_empty() || scene.world.walls(FIRECRACKER).is_some_and(|walls| walls.missing.is_none());
    match scene.world.walls(GVISOR).and_then(|walls| walls.missing.as_ref()) {
        Some((what, fix)) if !is_held => warning(
            format!(
                "programs of hostile tenants ({}) do not run, because {GVISOR} is not there: {what}",
                hostile.join(", ")
            ),
            fix.clone(),
        ),
        Some(_) | None => told(scene, GVISOR),
    }
}

/// The tenants that the configuration calls hostile.
fn hostile(scene: &Scene<'_>) -> Vec<String> {
    let tenants = scene.written().and_then(|written| written["tenants"].as_object());
    let hostile = tenants.into_iter().flatten().filter(|(_, tenant)| tenant["trust"] == "hostile");
    hostile.map(|(name, _)| name.clone()).collect()
}

fn base(scene: &Scene<'_>) -> Verdict {
    told(scene, "native/base")
}

fn told(scene: &Scene<'_>, name: &str) -> Verdict {
    let Some(Walls { name, tier, missing, gaps }) = scene.world.walls(name) else {
        return warning(
            format!("{name} could not be tried"),
            "run `dromia doctor` from the installed program",
        );
    };
    let stands_in = || scene.world.walls(STRICT).is_some_and(|strict| strict.missing.is_none());
    match missing {
        None if gaps.is_empty() => ok(format!("{name} ({tier}) works")),
        None => ok(format!("{name} ({tier}) works; {}", gaps.join("; "))),
        // The strongest of a tier is enough.
        Some((what, fix)) if stands_in() => {
            ok(format!("{name} ({tier}) is not there, and {STRICT} is enough: {what}; to add it: {fix}"))
        }
        Some((what, fix)) => warning(format!("{name} ({tier}) does not work: {what}"), fix.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    #[test]
    fn a_backend_that_is_missing_matters_only_without_a_stronger_one() {
        let mut planted = Planted::sound();
        let lacks = |planted: &mut Planted, name: &str| {
            let walls =
                planted.world.walls.iter_mut().find(|walls| walls.name == name).expect("it is listed");
            walls.missing =
                Some(("bwrap is not installed".to_owned(), "apt-get install bubblewrap".to_owned()));
        };
        lacks(&mut planted, "bubblewrap");
        let verdict = planted.verdict("sandbox.bubblewrap");
        assert_eq!((verdict.severity, verdict.fix), (Severity::Ok, None));
        assert!(verdict.message.contains("apt-get install bubblewrap"), "{}", verdict.message);
        lacks(&mut planted, "gvisor");
        assert_eq!(planted.found("sandbox.gvisor"), Severity::Ok);
        planted.configure("version: 1\ntenants: { acme: { trust: hostile }, ops: { trust: standard } }\n");
        assert_eq!(planted.found("sandbox.gvisor"), Severity::Ok, "a machine holds them");
        lacks(&mut planted, "firecracker");
        assert_eq!(planted.found("sandbox.firecracker"), Severity::Ok, "nobody asked for it");
        let verdict = planted.verdict("sandbox.gvisor");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("(acme)"), "{}", verdict.message);
        lacks(&mut planted, "native/strict");
        let verdict = planted.verdict("sandbox.bubblewrap");
        assert_eq!(verdict.fix.as_deref(), Some("apt-get install bubblewrap"));
        assert_eq!(planted.found("sandbox.strict"), Severity::Warning);
        assert_eq!(planted.found("sandbox.base"), Severity::Ok);
    }

    #[test]
    fn a_machine_that_is_configured_and_does_not_work_is_a_warning_that_names_the_part() {
        let mut planted = Planted::sound();
        assert_eq!(planted.found("sandbox.firecracker"), Severity::Ok);
        let walls = planted.world.walls.iter_mut().find(|walls| walls.name == "firecracker");
        walls.expect("it is listed").missing = Some((
            "sandbox.firecracker.kernel: /k: No such file or directory".to_owned(),
            "docs/sandbox.md of this program says how one is made".to_owned(),
        ));
        assert_eq!(planted.found("sandbox.firecracker"), Severity::Ok);
        planted.configure(
            "version: 1\nsandbox: { firecracker: { binary: /b, jailer: /j, kernel: /k, rootfs: /r } }\n",
        );
        let verdict = planted.verdict("sandbox.firecracker");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("sandbox.firecracker.kernel: /k"), "{}", verdict.message);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("docs/sandbox.md")));
    }
}
