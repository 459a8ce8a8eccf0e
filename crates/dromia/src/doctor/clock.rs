//! The clock: ids, leases and expiries all hang on it.

use jiff::{Span, Timestamp};

use super::{Check, Scene, Server, Verdict, error, ok};

pub(super) const CHECKS: &[Check] =
    &[Check { id: "clock.build", run: build }, Check { id: "clock.store", run: store }];

const FIX: &str = "set the clock, and let a time service keep it";

/// How far two clocks may differ that are both right.
fn is_before(now: Timestamp, other: Timestamp) -> bool {
    now.checked_add(Span::new().minutes(5)).is_ok_and(|now| now < other)
}

fn build(scene: &Scene<'_>) -> Verdict {
    let now = scene.world.now();
    match scene.world.built_at() {
        Some(built) if is_before(now, built) => {
            error(format!("the clock says {now:.0}, which is before this program was made ({built:.0})"), FIX)
        }
        _ => ok(format!("{now:.0}")),
    }
}

fn store(scene: &Scene<'_>) -> Verdict {
    let newest = match scene.world.server() {
        Server::Answers(answers) => Some(answers.status.started_at),
        Server::Absent => scene.store().and_then(|store| store.newest_change_at().ok().flatten()),
        Server::Mute(_) => None,
    };
    let now = scene.world.now();
    match newest {
        Some(newest) if is_before(now, newest) => {
            error(format!("the clock says {now:.0}, and the store knows {newest:.0}"), FIX)
        }
        Some(_) => ok("not before anything that is stored"),
        None => ok("nothing is stored to compare it with"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    #[test]
    fn a_clock_before_the_build_or_before_the_server_is_an_error() {
        let mut planted = Planted::sound();
        planted.world.now = "2001-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(planted.found("clock.build"), Severity::Error);
        assert_eq!(planted.found("clock.store"), Severity::Error);
    }
}
