//! The clock: ids, leases and expiries all hang on it.

use jiff::{Span, Timestamp};

use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, error_result, ok_result};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "clock.build", run: check_against_build },
    DoctorCheck { id: "clock.store", run: check_against_store },
];

const FIX: &str = "set the clock, and keep it right with a time service";

/// How far two clocks may differ that are both right.
fn is_before(now: Timestamp, other: Timestamp) -> bool {
    now.checked_add(Span::new().minutes(5)).is_ok_and(|now| now < other)
}

fn check_against_build(scene: &CheckContext<'_>) -> CheckResult {
    let now = scene.world.now();
    match scene.world.built_at() {
        Some(built) if is_before(now, built) => error_result(
            format!("the clock shows {now:.0}, which is before the build date of this program ({built:.0})"),
            FIX,
        ),
        _ => ok_result(format!("{now:.0}")),
    }
}

fn check_against_store(scene: &CheckContext<'_>) -> CheckResult {
    let newest = match scene.world.server_probe() {
        ServerProbe::Answers(answers) => Some(answers.status.started_at),
        ServerProbe::Absent => {
            scene.offline_inspector().and_then(|store| store.newest_change_at().ok().flatten())
        }
        ServerProbe::Mute(_) => None,
    };
    let now = scene.world.now();
    match newest {
        Some(newest) if is_before(now, newest) => {
            error_result(format!("the clock shows {now:.0}, but the store has an entry of {newest:.0}"), FIX)
        }
        Some(_) => ok_result("not before any entry of the store"),
        None => ok_result("the store has no entry to compare it with"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn a_clock_before_the_build_or_server_is_an_error() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.now = "2001-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(planted.severity_of("clock.build"), Severity::Error);
        assert_eq!(planted.severity_of("clock.store"), Severity::Error);
    }
}
