//! The server: that it answers, that it is the same program, and that its address is free or its own.

use super::{Check, Scene, Server, Verdict, error, ok, warning};
use crate::config::LISTEN_DEFAULT;

pub(super) const CHECKS: &[Check] = &[
    Check { id: "server.answers", run: answers },
    Check { id: "server.version", run: version },
    Check { id: "server.port", run: port },
    Check { id: "server.draining", run: draining },
];

fn answers(scene: &Scene<'_>) -> Verdict {
    match scene.world.server() {
        Server::Answers(answers) => ok(format!("it has answered for {} s", answers.status.uptime_seconds)),
        Server::Absent => warning("no server runs on this home", "start one with `dromia up`"),
        Server::Mute(problem) => error(
            format!("something has the socket and does not answer as a server: {problem}"),
            "look at its log; if it hangs, end it and start it again with `dromia up`",
        ),
    }
}

fn version(scene: &Scene<'_>) -> Verdict {
    let own = env!("CARGO_PKG_VERSION");
    match scene.world.server() {
        Server::Answers(answers) if answers.status.version != own => warning(
            format!("the server is {} and this program is {own}", answers.status.version),
            "restart the server with this program, or use the program that serves",
        ),
        _ => ok(own),
    }
}

fn port(scene: &Scene<'_>) -> Verdict {
    let written =
        scene.written().and_then(|written| written.get("listen")).and_then(|listen| listen.as_str());
    let address = (scene.env)("DROMIA_LISTEN").or(written.map(str::to_owned));
    let address = address.unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
    if let Server::Answers(answers) = scene.world.server() {
        // It may have been told another address than the one that is written.
        return ok(match &answers.status.listening {
            Some(address) => format!("a server of this home listens on {address}"),
            None => "a server of this home runs; no address is tried".to_owned(),
        });
    }
    let Ok(parsed) = address.parse() else {
        return error(format!("{address:?} is no address"), "write it as 127.0.0.1:7700");
    };
    match scene.world.try_port(parsed) {
        Ok(()) => ok(format!("{address} is free")),
        Err(problem) => error(
            format!("{address} cannot be had: {problem}"),
            "stop what has it, or choose another with listen in dromia.yaml or `dromia up --listen`",
        ),
    }
}

fn draining(scene: &Scene<'_>) -> Verdict {
    match scene.world.server() {
        Server::Answers(answers) if answers.status.draining => {
            warning("the server is stopping and takes no input", "wait until it has ended, then `dromia up`")
        }
        _ => ok("no server is about to stop"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;
    use super::*;

    #[test]
    fn a_server_that_is_absent_or_mute_is_told() {
        let mut planted = Planted::sound();
        planted.world.server = Server::Absent;
        assert_eq!(planted.found("server.answers"), Severity::Warning);
        planted.world.server = Server::Mute("it hung up".to_owned());
        assert_eq!(planted.found("server.answers"), Severity::Error);
    }

    #[test]
    fn another_version_and_a_drain_are_told() {
        let mut planted = Planted::sound();
        planted.world.status().version = "0.0.9".to_owned();
        assert_eq!(planted.found("server.version"), Severity::Warning);
        planted.world.status().draining = true;
        assert_eq!(planted.found("server.draining"), Severity::Warning);
    }

    #[test]
    fn a_port_that_another_program_has_is_an_error() {
        let mut planted = Planted::sound();
        planted.world.server = Server::Absent;
        assert_eq!(planted.found("server.port"), Severity::Ok);
        planted.world.port = Err("address in use".to_owned());
        assert_eq!(planted.found("server.port"), Severity::Error);
        planted.configure("listen: everywhere\n");
        assert_eq!(planted.found("server.port"), Severity::Error);
    }
}
