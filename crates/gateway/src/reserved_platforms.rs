//! Platforms whose sessions take no input through the API: one check, for a platform that a request names and for the
//! session that it names instead.
//!
//! In a session of a channel, what is said was signed by its sender; in one of a task or of an approved call, it was
//! said by an agent or by the approver. Words of a caller there would count as theirs.

use dromia_contracts::channel::is_channel_platform;
use dromia_contracts::run::RunKind;
use dromia_contracts::session::IMPORT;
use dromia_contracts::{ErrorCode, Scope, SessionId, approval, compaction, task};

use crate::core::GatewayCore;
use crate::failure::{Answer, ApiError};

/// Refuses a platform under which a request may open no session.
pub(crate) fn may_open(platform: &str) -> Answer<()> {
    may_continue(platform)?;
    if platform == IMPORT {
        let text = format!("`platform` {IMPORT} is reserved for imported sessions");
        return Err(ApiError::invalid_request(text).with_hint("name the session with `session`"));
    }
    Ok(())
}

/// Refuses a platform in whose sessions a request may say nothing. A session that came as a file goes on by its id.
fn may_continue(platform: &str) -> Answer<()> {
    let refused =
        |text: &str| Err(ApiError::invalid_request(format!("`platform` {platform} is reserved for {text}")));
    match platform {
        of_channel if is_channel_platform(of_channel) => {
            refused("the channels of dromia.yaml, whose senders are known by the channel")
        }
        task::PLATFORM => refused("the tasks of agents").map_err(|failure: ApiError| {
            failure.with_hint("give an agent a task with POST /v1/agents/NAME/spawn")
        }),
        task::BRANCH_PLATFORM => refused("branches"),
        approval::PLATFORM => refused("approved calls"),
        compaction::PLATFORM => refused("summaries of sessions"),
        _ => Ok(()),
    }
}

/// Refuses a session in which a request may say nothing.
pub(crate) async fn check_session(core: &GatewayCore, scope: &Scope, session: SessionId) -> Answer<()> {
    let found = core.ports.store.session(scope, session).await?;
    let found = found.ok_or_else(|| ApiError::new(ErrorCode::SessionNotFound, "there is no such session"))?;
    if found.origin.is_some_and(|origin| origin.kind == RunKind::Worker) {
        // Who says more to a worker is the author of that, and the worker has the bounds that it had.
        return Ok(());
    }
    may_continue(&found.key.platform)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::channel::{FILE, WEBHOOK};

    use super::*;

    /// Which of the platforms are refused where a request names a session on them.
    fn refused(check: impl Fn(&str) -> Answer<()>) -> Vec<&'static str> {
        let platforms = [
            WEBHOOK,
            FILE,
            task::PLATFORM,
            task::BRANCH_PLATFORM,
            approval::PLATFORM,
            compaction::PLATFORM,
            IMPORT,
            "http",
            "openai",
        ];
        platforms.into_iter().filter(|platform| check(platform).is_err()).collect()
    }

    #[test]
    fn a_reserved_platform_is_refused_except_to_continue_an_import() {
        assert_eq!(
            refused(may_continue),
            [WEBHOOK, FILE, task::PLATFORM, task::BRANCH_PLATFORM, approval::PLATFORM, compaction::PLATFORM]
        );
        assert_eq!(
            refused(may_open),
            [
                WEBHOOK,
                FILE,
                task::PLATFORM,
                task::BRANCH_PLATFORM,
                approval::PLATFORM,
                compaction::PLATFORM,
                IMPORT
            ]
        );
    }

    /// Planted fault: only the platform that a request names is looked at, and one that names a session names none.
    #[test]
    fn a_check_of_the_named_platform_alone_is_caught() {
        assert!(refused(|_| Ok(())).is_empty(), "nothing notices it");
    }
}
