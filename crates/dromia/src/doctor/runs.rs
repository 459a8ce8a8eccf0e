//! Work that does not go on by itself: held runs, and input that no run takes.

use jiff::Span;

use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, ok_result, warning_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "runs.held", run: check_held },
    DoctorCheck { id: "runs.waiting", run: check_waiting },
    DoctorCheck { id: "runs.load", run: check_load },
];

const HELD_FIX: &str =
    "`dromia run list --status held`, then `dromia run why` and `dromia run resume` or `terminate`";

fn check_held(scene: &CheckContext<'_>) -> CheckResult {
    let count = match scene.world.server_probe() {
        ServerProbe::Answers(answers) => Some(answers.held),
        ServerProbe::Absent => {
            scene.offline_inspector().and_then(|store| store.count_held_runs().ok().flatten())
        }
        ServerProbe::Mute(_) => None,
    };
    match count {
        None => ok_result("the server does not answer, so this was not checked"),
        Some(0) => ok_result("no run is held"),
        Some(1) => warning_result(
            "1 run is held: it was taken over too often, or its journal cannot be read",
            HELD_FIX,
        ),
        Some(count) => warning_result(
            format!(
                "{count} runs are held: they were taken over too often, or their journals cannot be read"
            ),
            HELD_FIX,
        ),
    }
}

fn check_waiting(scene: &CheckContext<'_>) -> CheckResult {
    let fix = "`dromia agent status` says whether its agent is paused; `dromia session show` shows the input";
    match scene.world.server_probe() {
        ServerProbe::Answers(answers) => match &answers.stuck[..] {
            [] => ok_result("every waiting input has a run"),
            [first, ..] => warning_result(
                format!(
                    "input waits in {} sessions, but no run takes it; the first is {first}",
                    answers.stuck.len()
                ),
                fix,
            ),
        },
        ServerProbe::Absent => {
            let oldest = scene.offline_inspector().and_then(|store| store.oldest_waiting_at().ok().flatten());
            let Some(oldest) = oldest else { return ok_result("no input waits") };
            let is_old =
                oldest.checked_add(Span::new().minutes(10)).is_ok_and(|late| late < scene.world.now());
            if is_old {
                warning_result(
                    format!("input has waited since {oldest:.0}"),
                    "start a server, which processes it: `dromia up`",
                )
            } else {
                ok_result(format!("input has waited since {oldest:.0}, not long"))
            }
        }
        ServerProbe::Mute(_) => ok_result("the server does not answer, so this was not checked"),
    }
}

fn check_load(scene: &CheckContext<'_>) -> CheckResult {
    let ServerProbe::Answers(answers) = scene.world.server_probe() else {
        return ok_result("no server is running");
    };
    let Some(load) = answers.status.load else {
        return ok_result("the server shows its load only to its operator");
    };
    let text = format!("{} of {} runs are active, {} wait", load.active, load.active_max, load.ready);
    if load.active >= load.active_max && load.ready > 0 {
        return warning_result(text, "raise engine.active_max in dromia.yaml, or send fewer inputs at once");
    }
    ok_result(text)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn held_runs_waiting_input_and_a_full_engine_are_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.answers_mut().held = 2;
        assert_eq!(planted.severity_of("runs.held"), Severity::Warning);
        planted.world.answers_mut().stuck.push("ses_1".to_owned());
        assert_eq!(planted.severity_of("runs.waiting"), Severity::Warning);
        let load = planted.world.status_mut().load.as_mut().expect("an operator is told");
        (load.active, load.ready) = (load.active_max, 7);
        assert_eq!(planted.severity_of("runs.load"), Severity::Warning);
    }
}
