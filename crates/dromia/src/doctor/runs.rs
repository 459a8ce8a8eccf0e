//! Work that does not go on by itself: held runs, and input that nobody takes.

use jiff::Span;

use super::{Check, Scene, Server, Verdict, ok, warning};

pub(super) const CHECKS: &[Check] = &[
    Check { id: "runs.held", run: held },
    Check { id: "runs.waiting", run: waiting },
    Check { id: "runs.load", run: load },
];

const HELD_FIX: &str =
    "`dromia run list --status held`, then `dromia run why` and `dromia run resume` or `terminate`";

fn held(scene: &Scene<'_>) -> Verdict {
    let count = match scene.world.server() {
        Server::Answers(answers) => Some(answers.held),
        Server::Absent => scene.store().and_then(|store| store.held().ok().flatten()),
        Server::Mute(_) => None,
    };
    match count {
        None => ok("nobody could be asked"),
        Some(0) => ok("no run is held"),
        Some(1) => warning("1 run is held: it was taken over too often, or cannot be read", HELD_FIX),
        Some(count) => warning(
            format!("{count} runs are held: they were taken over too often, or cannot be read"),
            HELD_FIX,
        ),
    }
}

fn waiting(scene: &Scene<'_>) -> Verdict {
    let fix = "`dromia agent status` says whether its agent is paused; `dromia session show` shows the input";
    match scene.world.server() {
        Server::Answers(answers) => match &answers.stuck[..] {
            [] => ok("no input waits without a run"),
            [first, ..] => warning(
                format!(
                    "input waits in {} sessions and no run takes it, the first is {first}",
                    answers.stuck.len()
                ),
                fix,
            ),
        },
        Server::Absent => {
            let oldest = scene.store().and_then(|store| store.oldest_waiting_at().ok().flatten());
            let Some(oldest) = oldest else { return ok("no input waits") };
            let is_old =
                oldest.checked_add(Span::new().minutes(10)).is_ok_and(|late| late < scene.world.now());
            if is_old {
                warning(
                    format!("input waits since {oldest:.0}"),
                    "start a server, which takes it: `dromia up`",
                )
            } else {
                ok(format!("input waits since {oldest:.0}, not long"))
            }
        }
        Server::Mute(_) => ok("nobody could be asked"),
    }
}

fn load(scene: &Scene<'_>) -> Verdict {
    let Server::Answers(answers) = scene.world.server() else { return ok("no server is at work") };
    let load = answers.status.load;
    let text = format!("{} of {} runs are at work, {} wait", load.active, load.active_max, load.ready);
    if load.active >= load.active_max && load.ready > 0 {
        return warning(text, "raise engine.active_max in dromia.yaml, or send less at once");
    }
    ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    #[test]
    fn held_runs_waiting_input_and_a_full_engine_are_told() {
        let mut planted = Planted::sound();
        planted.world.answers().held = 2;
        assert_eq!(planted.found("runs.held"), Severity::Warning);
        planted.world.answers().stuck.push("ses_1".to_owned());
        assert_eq!(planted.found("runs.waiting"), Severity::Warning);
        let load = &mut planted.world.status().load;
        (load.active, load.ready) = (load.active_max, 7);
        assert_eq!(planted.found("runs.load"), Severity::Warning);
    }
}
