//! What the battery promises of itself.

use std::collections::BTreeSet;

use super::*;

#[test]
fn an_attempt_that_did_not_run_proves_nothing() {
    for (ending, ran) in [
        (ProcessExit::Exited { code: i32::from(THROUGH) }, true),
        (ProcessExit::Exited { code: i32::from(REFUSED) }, true),
        (ProcessExit::Exited { code: 0 }, false),
        (ProcessExit::Exited { code: 127 }, false),
        (ProcessExit::Exited { code: i32::from(UNKNOWN) }, false),
        (ProcessExit::Signalled { signal: 6 }, true),
        (ProcessExit::NotStarted { problem: "gone".to_owned() }, false),
        (ProcessExit::Lost, false),
    ] {
        assert_eq!(has_run(Class::Files, &ending), ran, "{ending:?}");
    }
    let late = ProcessExit::Killed { limit: LimitKind::Time };
    assert!(has_run(Class::Bombs, &late) && !has_run(Class::Files, &late));
}

#[test]
fn the_battery_has_sixty_distinct_attempts_in_every_class() {
    let names: BTreeSet<_> = ALL.iter().map(|attempt| attempt.name).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(names.len() >= 60, "{}", names.len());
    assert!(!names.contains(HOLD));
    let classes: BTreeSet<_> = ALL.iter().map(|attempt| attempt.class).collect();
    assert_eq!(classes, BTreeSet::from(Class::ALL));
    // A quick battery makes the first of each class, which must prove something for everybody.
    for class in Class::ALL {
        let first = ALL.iter().find(|attempt| attempt.class == class).expect("there is one");
        assert!(!first.needs_root, "{}", first.name);
    }
    // What needs root, and what only some promise, is the smaller part.
    assert!(ALL.iter().filter(|attempt| !attempt.needs_root && !attempt.is_strict).count() >= 45);
}
