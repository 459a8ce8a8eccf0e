//! Packing and its way back.

use proptest::prelude::*;

use super::*;

const STARTED: &str = r#"{"kind":"turn","agent":"agt_01a1ff9a3ae3749aad20fdb7b87157a1","session":"ses_01a1ff9a466a709dbd876a10e76137ed","items":["itm_01a1ff9a466a709dbd876a0f111add39"],"after":0,"config":"8acb66180126d2504a2ef38b8dbc23672ab3134a9f91819ffd31d25b4f44cfa9","prompt":"5fcca1e3fa76ac7f2dddbd728d7f39af4b5260ccb3393c46d7767bd571b52249","model_calls_max":50}"#;

#[test]
fn the_first_entry_of_a_turn_takes_less_than_half() {
    let packed = pack(STARTED).expect("it packs");
    assert_eq!(unpack(&packed).as_deref(), Some(STARTED));
    assert!(packed.len() * 2 < STARTED.len(), "{} of {}", packed.len(), STARTED.len());
}

/// These bytes lie in files: this test fails if a number of the form changes.
#[test]
fn the_form_does_not_change() {
    let text = r#"{"kind":"turn","by":"cli:ada","new":[true,false,null,300],"item":"itm_000102030405060708090a0b0c0d0e0f","action":"00112233445566778899aabbccddeeff"}"#;
    let packed = pack(text).expect("it packs");
    let mut expected = vec![9, 2, 5, 0, 36, 4, 7];
    expected.extend(b"cli:ada");
    expected.extend([0, 3]);
    expected.extend(b"new");
    expected.extend([8, 2, 1, 0, 3, 0xac, 2, 10, 33, 6, 4]);
    expected.extend(0..16);
    expected.extend([30, 7, 16]);
    expected.extend((0..16).map(|digit| digit * 0x11));
    expected.push(1);
    assert_eq!(packed, expected);
}

#[test]
fn text_that_would_not_round_trip_stays_unpacked() {
    for text in ["{\"a\": 1}", "-1", "1.5", "{\"a\":\"\\u0041\"}", "", "{", "1 1", "0"] {
        assert_eq!(pack(text), None, "{text}");
    }
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(pack(&deep), None);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        "[a-f0-9]{16,64}".prop_map(Into::into),
        "(agt|ses|itm|xyz)_[a-f0-9]{32}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map("(kind|step|item|[a-z\"\\\\]{0,6})", inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn packed_fields_round_trip(value in json()) {
        let text = value.to_string();
        if let Some(packed) = pack(&text) {
            prop_assert_eq!(unpack(&packed), Some(text));
        }
    }

    #[test]
    fn no_bytes_are_too_strange_to_refuse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(unpack(&bytes));
    }

    #[test]
    fn a_changed_byte_is_another_text_or_none(at in 0_usize..1000, by in 1_u8..) {
        let mut packed = pack(STARTED).expect("it packs");
        let at = at % packed.len();
        packed[at] ^= by;
        prop_assert_ne!(unpack(&packed), Some(STARTED.to_owned()));
    }
}
