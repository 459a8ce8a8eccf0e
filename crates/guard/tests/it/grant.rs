//! Grants are refused when they are written, with the place and the nearest known name.

use dromia_guard::{Grant, GrantError, parse_grants};

const TOOLS: &[&str] = &["file.append", "file.list", "file.read", "message.send", "time.now"];

fn refusal(grant: &str) -> String {
    let grants = ["reply".to_owned(), grant.to_owned()];
    parse_grants(&grants, TOOLS).expect_err(grant).to_string()
}

#[test]
fn every_known_spelling_is_read_as_it_will_match() {
    let grants =
        ["file.read", "file.*", "model", "model:fast-2.5", "reply", "secret:git_hub-1"].map(str::to_owned);
    let parsed = parse_grants(&grants, TOOLS).expect("all are known");
    assert_eq!(
        parsed,
        [
            Grant::Tool("file.read"),
            Grant::Family("file"),
            Grant::AnyModel,
            Grant::Model("fast-2.5"),
            Grant::Reply,
            Grant::Secret("git_hub-1"),
        ]
    );
    assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), grants);
}

#[test]
fn a_star_alone_is_refused_however_it_is_hidden() {
    assert_eq!(parse_grants(&["*".to_owned()], TOOLS), Err(GrantError::Everything));
    for hidden in ["**", "*.*", ".*", "*.read", "file.*.read", "file*", " *", "* ", "model:**", "model:a*"] {
        assert!(parse_grants(&[hidden.to_owned()], TOOLS).is_err(), "{hidden} was read as a grant");
    }
}

#[test]
fn a_typing_error_names_the_nearest_grant() {
    for (wrong, nearest) in [
        ("file.reed", "file.read"),
        ("files.*", "file.*"),
        ("mesage.send", "message.send"),
        ("replies", "reply"),
    ] {
        assert!(refusal(wrong).contains(&format!("did you mean {nearest:?}?")), "{}", refusal(wrong));
    }
    assert_eq!(refusal("shell.run"), "the grant \"shell.run\" covers no tool");
}

#[test]
fn a_malformed_grant_is_refused_with_its_reason() {
    for wrong in ["", "File.Read", "file..read", ".read", "file.", "file read", "model:", "model: x", "réply"]
    {
        assert!(matches!(Grant::parse(wrong), Err(GrantError::Malformed { .. })), "{wrong:?}");
    }
    assert!(matches!(Grant::parse(&"a".repeat(129)), Err(GrantError::Malformed { .. })));
    let many = vec!["reply".to_owned(); 257];
    assert_eq!(parse_grants(&many, TOOLS), Err(GrantError::TooMany { found: 257 }));
    assert_eq!(parse_grants(&many[1..], TOOLS).map(|grants| grants.len()), Ok(256));
}
