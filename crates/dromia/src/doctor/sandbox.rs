//! The sandbox backends of this machine: which of them work, and what adds one that does not. What a hostile tenant of
//! the configuration needs is asked for by its name.

use dromia_sandbox::probe::BackendGap;

use super::environment::{BackendStatus, ServerProbe};
use super::{CheckContext, CheckResult, DoctorCheck, ok_result, warning_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "sandbox.strict", run: check_strict },
    DoctorCheck { id: "sandbox.bubblewrap", run: check_bubblewrap },
    DoctorCheck { id: "sandbox.docker", run: check_docker },
    DoctorCheck { id: "sandbox.firecracker", run: check_firecracker },
    DoctorCheck { id: "sandbox.gvisor", run: check_gvisor },
    DoctorCheck { id: "sandbox.memory", run: check_memory_limits },
    DoctorCheck { id: "sandbox.base", run: check_base },
];

const STRICT: &str = "native/strict";
const BUBBLEWRAP: &str = "bubblewrap";
const BASE: &str = "native/base";
const FIRECRACKER: &str = "firecracker";
const GVISOR: &str = "gvisor";

fn check_strict(scene: &CheckContext<'_>) -> CheckResult {
    backend_result(scene, STRICT)
}

fn check_bubblewrap(scene: &CheckContext<'_>) -> CheckResult {
    backend_result(scene, BUBBLEWRAP)
}

fn check_docker(scene: &CheckContext<'_>) -> CheckResult {
    backend_result(scene, "docker")
}

fn check_firecracker(scene: &CheckContext<'_>) -> CheckResult {
    // Who names its parts means them to be used, whatever else works.
    let is_named = scene.raw_config().is_some_and(|written| written["sandbox"]["firecracker"].is_object());
    match scene.world.backend_status(FIRECRACKER).and_then(|walls| walls.missing.as_ref()) {
        Some((what, fix)) if is_named => {
            warning_result(format!("{FIRECRACKER} is configured and does not work: {what}"), fix.clone())
        }
        Some(_) | None => backend_result(scene, FIRECRACKER),
    }
}

fn check_gvisor(scene: &CheckContext<'_>) -> CheckResult {
    let hostile = hostile_tenant_names(scene);
    // A machine holds them as well.
    let is_held = hostile.is_empty()
        || scene.world.backend_status(FIRECRACKER).is_some_and(|walls| walls.missing.is_none());
    match scene.world.backend_status(GVISOR).and_then(|walls| walls.missing.as_ref()) {
        Some((what, fix)) if !is_held => warning_result(
            format!(
                "programs of hostile tenants ({}) do not run, because {GVISOR} is not available: {what}",
                hostile.join(", ")
            ),
            fix.clone(),
        ),
        Some(_) | None => backend_result(scene, GVISOR),
    }
}

/// Checks whether programs of several tenants run where only the helper counts their memory.
fn check_memory_limits(scene: &CheckContext<'_>) -> CheckResult {
    let works = |name: &&str| scene.world.backend_status(name).is_some_and(|walls| walls.missing.is_none());
    let uncounted = |name: &&str| {
        let status = scene.world.backend_status(name);
        status.is_some_and(|status| status.gaps.iter().any(BackendGap::leaves_memory_unbounded))
    };
    let named = scene.raw_config().and_then(|written| written["sandbox"]["control_groups"].as_array());
    let is_named = named.is_some_and(|groups| !groups.is_empty());
    let backends = [STRICT, BUBBLEWRAP, BASE];
    let Some(taken) = backends.iter().find(|name| works(name)) else {
        return ok_result("no backend of this machine needs a control group to limit memory".to_owned());
    };
    if is_named && !uncounted(taken) {
        return ok_result(format!("control groups limit the memory of programs in {taken}"));
    }
    let tenants = count_tenants(scene);
    if tenants < 2 {
        return ok_result(format!(
            "no control group limits the memory of programs in {taken}; there is one tenant"
        ));
    }
    warning_result(
        format!(
            "no control group limits the memory of programs in {taken}, and there are {tenants} tenants: the \
             helper measures memory every 25 ms, but counts kernel memory for sockets only by the number of \
             sockets"
        ),
        "list control groups with a memory controller in sandbox.control_groups (`dromia docs sandbox`, control \
         groups)",
    )
}

/// How many tenants there are, as far as the server or the configuration says.
fn count_tenants(scene: &CheckContext<'_>) -> u64 {
    let written = scene.raw_config().and_then(|written| written["tenants"].as_object());
    // The default one is there without a word.
    let written = written.map_or(1, |tenants| {
        1 + tenants.keys().filter(|name| *name != dromia_api::TENANT_DEFAULT).count() as u64
    });
    match scene.world.server_probe() {
        ServerProbe::Answers(answers) => answers.status.tenants.max(written),
        ServerProbe::Absent | ServerProbe::Mute(_) => written,
    }
}

/// The tenants that the configuration calls hostile.
fn hostile_tenant_names(scene: &CheckContext<'_>) -> Vec<String> {
    let tenants = scene.raw_config().and_then(|written| written["tenants"].as_object());
    let hostile = tenants.into_iter().flatten().filter(|(_, tenant)| tenant["trust"] == "hostile");
    hostile.map(|(name, _)| name.clone()).collect()
}

fn check_base(scene: &CheckContext<'_>) -> CheckResult {
    backend_result(scene, BASE)
}

fn backend_result(scene: &CheckContext<'_>, name: &str) -> CheckResult {
    let Some(BackendStatus { name, tier, missing, gaps }) = scene.world.backend_status(name) else {
        return warning_result(
            format!("{name} was not tested"),
            "run `dromia doctor` from the installed program",
        );
    };
    let stands_in = || scene.world.backend_status(STRICT).is_some_and(|strict| strict.missing.is_none());
    match missing {
        None if gaps.is_empty() => ok_result(format!("{name} ({tier}) works")),
        None => {
            let gaps: Vec<_> = gaps.iter().map(ToString::to_string).collect();
            ok_result(format!("{name} ({tier}) works; {}", gaps.join("; ")))
        }
        // The strongest of a tier is enough.
        Some((what, fix)) if stands_in() => ok_result(format!(
            "{name} ({tier}) is not available, but {STRICT} is sufficient: {what}; to add it: {fix}"
        )),
        Some((what, fix)) => warning_result(format!("{name} ({tier}) does not work: {what}"), fix.clone()),
    }
}

#[cfg(test)]
mod tests {
    use dromia_sandbox::probe::GroupResource;

    use super::super::Severity;
    use super::super::test_home::PlantedHome;
    use super::*;

    #[test]
    fn a_missing_backend_matters_only_without_a_stronger_one() {
        let mut planted = PlantedHome::healthy_home();
        let lacks = |planted: &mut PlantedHome, name: &str| {
            let walls =
                planted.world.walls.iter_mut().find(|walls| walls.name == name).expect("it is listed");
            walls.missing =
                Some(("bwrap is not installed".to_owned(), "apt-get install bubblewrap".to_owned()));
        };
        lacks(&mut planted, "bubblewrap");
        let verdict = planted.result_of("sandbox.bubblewrap");
        assert_eq!((verdict.severity, verdict.fix), (Severity::Ok, None));
        assert!(verdict.message.contains("apt-get install bubblewrap"), "{}", verdict.message);
        lacks(&mut planted, "gvisor");
        assert_eq!(planted.severity_of("sandbox.gvisor"), Severity::Ok);
        planted.write_config("version: 1\ntenants: { acme: { trust: hostile }, ops: { trust: standard } }\n");
        assert_eq!(planted.severity_of("sandbox.gvisor"), Severity::Ok, "a machine holds them");
        lacks(&mut planted, "firecracker");
        assert_eq!(planted.severity_of("sandbox.firecracker"), Severity::Ok, "nobody asked for it");
        let verdict = planted.result_of("sandbox.gvisor");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("(acme)"), "{}", verdict.message);
        lacks(&mut planted, "native/strict");
        let verdict = planted.result_of("sandbox.bubblewrap");
        assert_eq!(verdict.fix.as_deref(), Some("apt-get install bubblewrap"));
        assert_eq!(planted.severity_of("sandbox.strict"), Severity::Warning);
        assert_eq!(planted.severity_of("sandbox.base"), Severity::Ok);
    }

    #[test]
    fn unbounded_memory_is_a_warning_with_a_second_tenant() {
        let mut planted = PlantedHome::healthy_home();
        assert_eq!(planted.severity_of("sandbox.memory"), Severity::Ok, "one tenant takes it from nobody");
        planted.write_config("version: 1\ntenants: { acme: { trust: standard } }\n");
        let verdict = planted.result_of("sandbox.memory");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("sandbox.control_groups")), "{}", verdict.message);
        let named = "version: 1\nsandbox: { control_groups: [/sys/fs/cgroup/own] }\n\
                     tenants: { acme: { trust: standard } }\n";
        planted.write_config(named);
        assert_eq!(planted.severity_of("sandbox.memory"), Severity::Ok);
        for walls in &mut planted.world.walls {
            walls.gaps.push(BackendGap::UnboundedResources(vec![GroupResource::Memory]));
        }
        assert_eq!(
            planted.severity_of("sandbox.memory"),
            Severity::Warning,
            "a group that bounds something else"
        );
    }

    #[test]
    fn a_broken_firecracker_configuration_is_a_warning_naming_the_part() {
        let mut planted = PlantedHome::healthy_home();
        assert_eq!(planted.severity_of("sandbox.firecracker"), Severity::Ok);
        let walls = planted.world.walls.iter_mut().find(|walls| walls.name == "firecracker");
        walls.expect("it is listed").missing = Some((
            "sandbox.firecracker.kernel: /k: No such file or directory".to_owned(),
            "`dromia docs sandbox` describes how to make one".to_owned(),
        ));
        assert_eq!(planted.severity_of("sandbox.firecracker"), Severity::Ok);
        planted.write_config(
            "version: 1\nsandbox: { firecracker: { binary: /b, jailer: /j, kernel: /k, rootfs: /r } }\n",
        );
        let verdict = planted.result_of("sandbox.firecracker");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.contains("sandbox.firecracker.kernel: /k"), "{}", verdict.message);
        assert!(verdict.fix.is_some_and(|fix| fix.contains("`dromia docs sandbox`")));
    }
}
