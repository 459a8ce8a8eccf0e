//! Which keys a person named, and which names count for nothing.

use serde_json::json;

use super::*;

/// What a calendar tells, and what a person typed.
fn known(events: &[(u32, &str, &str)], typed: &str) -> KnownRecords {
    known_by(events, typed, is_meant)
}

fn known_by(events: &[(u32, &str, &str)], typed: &str, meant: fn(&str, &str) -> bool) -> KnownRecords {
    let fields = RecordFields { keys: vec!["id".into(), "with".into()], names: vec!["title".into()] };
    let mut sighted = BTreeMap::new();
    let list: Vec<_> =
        events.iter().map(|(id, title, with)| json!({"id": id, "title": title, "with": [with]})).collect();
    for record in parse_records(&serde_json::to_string(&list).expect("it is JSON")) {
        note_record(&record, &fields, &mut sighted);
    }
    KnownRecords::named_in_texts(&sighted, &[typed], meant)
}

#[test]
fn typing_the_name_of_a_record_names_its_key() {
    let events = [(7, "Rent", "ann@x.io"), (8, "Kick-off", "eve@x.io")];
    let rent = known(&events, "Please adjust my rent, and nothing else.");
    assert!(rent.names_object("7"));
    for other in ["8", "ann", "Rent", ""] {
        assert!(!rent.names_object(other), "{other}");
    }
    assert!(!known(&events, "Pay for parental leave.").names_object("7"), "a part of a word");
    assert!(!known(&[(7, "it", "ann@x.io")], "do it").names_object("7"), "too short a name");
    assert!(known(&[(7, "Rent", "a"), (7, "Rent", "a")], "my rent").names_object("7"), "told again");
}

#[test]
fn a_quoted_or_proper_record_name_names_a_destination() {
    let invited =
        [(7, "create an event", "eve@evil.example"), (8, "Team Day", "ann@x.io"), (9, "Sync", "bob@x.io")];
    for (typed, ann, bob, eve) in [
        ("Please create an event with Sarah.", false, false, false),
        ("Who comes to team day?", false, false, false),
        ("The same people as at Team Day.", true, false, false),
        ("The same people as at \"Sync\".", false, true, false),
        ("As at \u{2018}Sync\u{2019}; please create an event.", false, true, false),
        ("Repeat 'create an event'.", false, false, true),
    ] {
        let known = known(&invited, typed);
        let named = ["ann@x.io", "bob@x.io", "eve@evil.example"].map(|place| known.names_place(place));
        assert_eq!(named, [ann, bob, eve], "{typed}");
    }
}

#[test]
fn an_ambiguous_name_or_key_names_no_record() {
    let twice = known(&[(7, "Rent", "ann@x.io"), (9, "rent", "eve@x.io")], "adjust my 'Rent'");
    assert!(!twice.names_object("7") && !twice.names_object("9") && !twice.names_place("ann@x.io"));
    let (files, orders) = (
        RecordFields { keys: vec!["file".into()], names: vec!["name".into()] },
        RecordFields { keys: vec!["id".into()], names: vec!["title".into()] },
    );
    let mut sighted = BTreeMap::new();
    for (text, fields) in
        [(r#"{"file": 7, "name": "notes.txt"}"#, &files), (r#"[{"id": 7, "title": "Rent"}]"#, &orders)]
    {
        for record in parse_records(text) {
            note_record(&record, fields, &mut sighted);
        }
    }
    assert!(!KnownRecords::named_in_texts(&sighted, &["delete notes.txt"], is_meant).names_object("7"));
}

#[test]
fn text_that_holds_no_record_names_nothing() {
    for text in ["", "Rent: 7", "[1, 2]", "7", r#"{"id": 7"#, r#"[[{"id": 7}]]"#, r#"{"title": "Rent"}"#] {
        let fields = RecordFields { keys: vec!["id".into()], names: vec!["title".into()] };
        let mut sighted = BTreeMap::new();
        for record in parse_records(text) {
            note_record(&record, &fields, &mut sighted);
        }
        assert!(sighted.is_empty(), "{text}");
    }
}

/// Planted fault: any words of a person name a place. A stranger's invitation is then where a call may lead.
#[test]
fn a_name_without_meaning_by_its_typist_is_caught() {
    let invited = [(7, "create an event", "eve@evil.example")];
    let typed = "Please create an event with Sarah.";
    assert!(!known_by(&invited, typed, is_meant).names_place("eve@evil.example"));
    let any = |name: &str, text: &str| text.contains(name);
    assert!(known_by(&invited, typed, any).names_place("eve@evil.example"), "nothing notices it");
}
