//! The server: that it answers, that it is the same program, and that its address is free or its own.

use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, error_result, ok_result, warning_result};
use crate::config::LISTEN_DEFAULT;

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "server.answers", run: check_answers },
    DoctorCheck { id: "server.version", run: check_version },
    DoctorCheck { id: "server.port", run: check_port },
    DoctorCheck { id: "server.draining", run: check_draining },
];

fn check_answers(scene: &CheckContext<'_>) -> CheckResult {
    match scene.world.server_probe() {
        ServerProbe::Answers(answers) => {
            ok_result(format!("it has been running for {} s", answers.status.uptime_seconds))
        }
        ServerProbe::Absent => warning_result("no server runs on this home", "start one with `dromia up`"),
        ServerProbe::Mute(problem) => error_result(
            format!("a program has the socket open but does not answer as a server: {problem}"),
            "read its log; if it hangs, end it and start it again with `dromia up`",
        ),
    }
}

fn check_version(scene: &CheckContext<'_>) -> CheckResult {
    let own = env!("CARGO_PKG_VERSION");
    match scene.world.server_probe() {
        ServerProbe::Answers(answers) if answers.status.version != own => warning_result(
            format!("the server has version {} and this program {own}", answers.status.version),
            "restart the server with this program, or use the server's program",
        ),
        _ => ok_result(own),
    }
}

fn check_port(scene: &CheckContext<'_>) -> CheckResult {
    let written =
        scene.raw_config().and_then(|written| written.get("listen")).and_then(|listen| listen.as_str());
    let address = (scene.env)("DROMIA_LISTEN").or(written.map(str::to_owned));
    let address = address.unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
    if let ServerProbe::Answers(answers) = scene.world.server_probe() {
        // It may listen on another address than the one in the file.
        return ok_result(match &answers.status.listening {
            Some(address) => format!("a server of this home listens on {address}"),
            None => "a server of this home runs, so the address was not tried".to_owned(),
        });
    }
    let Ok(parsed) = address.parse() else {
        return error_result(format!("{address:?} is not an address"), "write it as 127.0.0.1:7700");
    };
    match scene.world.try_port(parsed) {
        Ok(()) => ok_result(format!("{address} is free")),
        Err(problem) => error_result(
            format!("{address} cannot be used: {problem}"),
            "stop the program that uses it, or choose another address with listen in dromia.yaml or `dromia \
             up --listen`",
        ),
    }
}

fn check_draining(scene: &CheckContext<'_>) -> CheckResult {
    match scene.world.server_probe() {
        ServerProbe::Answers(answers) if answers.status.draining => warning_result(
            "the server is stopping and accepts no input",
            "wait until it has ended, then run `dromia up`",
        ),
        _ => ok_result("no server is stopping"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;
    use super::*;

    #[test]
    fn an_absent_or_silent_server_is_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("server.answers"), Severity::Warning);
        planted.world.server = ServerProbe::Mute("it hung up".to_owned());
        assert_eq!(planted.severity_of("server.answers"), Severity::Error);
    }

    #[test]
    fn another_version_and_a_draining_server_are_reported() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.status_mut().version = "0.0.9".to_owned();
        assert_eq!(planted.severity_of("server.version"), Severity::Warning);
        planted.world.status_mut().draining = true;
        assert_eq!(planted.severity_of("server.draining"), Severity::Warning);
    }

    #[test]
    fn a_port_that_another_program_has_is_an_error() {
        let mut planted = PlantedHome::healthy_home();
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("server.port"), Severity::Ok);
        planted.world.port = Err("address in use".to_owned());
        assert_eq!(planted.severity_of("server.port"), Severity::Error);
        planted.write_config("listen: everywhere\n");
        assert_eq!(planted.severity_of("server.port"), Severity::Error);
    }
}
