//! What is found in packed texts, what is held back while they go on, and where the bounds are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec;

use super::super::in_hex;
use super::super::tests::{gzip, zlib};
use super::mark::GZIP;
use super::*;

fn opened(text: &[u8]) -> Vec<(Range<usize>, Vec<u8>)> {
    let (mut room, mut found) = (Room::default(), Vec::new());
    each(text, &mut room, &mut |range, inside, _| found.push((range, inside.to_vec())));
    assert_eq!(room.depth, DEPTH_MAX, "what was gone into was left");
    found
}

/// Opens what lies in one another, and counts how deep.
fn down(text: &[u8], room: &mut Room, levels: &mut usize) {
    each(text, room, &mut |_, inside, room| {
        *levels += 1;
        down(inside, room, levels);
    });
}

#[test]
fn a_piece_is_unpacked_where_it_stands_and_also_without_its_end() {
    let packed = gzip(b"hello hello hello");
    // These words are no deflate, not even by chance.
    let text = [&b"it says"[..], &packed[..], b" behind"].concat();
    let found = opened(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, b"hello hello hello");
    assert_eq!(found[0].0.start, 7);
    assert!(found[0].0.end <= 7 + packed.len(), "{:?}", found[0].0);
    let cut = opened(&packed[..packed.len() - 8]);
    assert_eq!(cut[0].1, b"hello hello hello");
}

#[test]
fn a_head_with_everything_in_it_is_passed() {
    let plain = gzip(b"hello");
    let mut packed = plain[..10].to_vec();
    packed[3] = 2 | 4 | 8 | 16;
    packed.extend_from_slice(&[2, 0, b'x', b'y']);
    packed.extend_from_slice(b"name\0remark\0");
    packed.extend_from_slice(&[0, 0]);
    packed.extend_from_slice(&plain[10..]);
    assert_eq!(opened(&packed)[0].1, b"hello");
    for length in 0..packed.len() {
        // Wherever it ends: nothing panics.
        let _found = opened(&packed[..length]);
    }
}

#[test]
fn a_bomb_ends_at_the_bound_and_so_do_many_marks() {
    let bomb = gzip(&vec![0; BYTES_MAX + 100]);
    assert!(opened(&bomb).iter().map(|(_, inside)| inside.len()).sum::<usize>() <= BYTES_MAX);
    assert_eq!(opened(&b"H4sIA.".repeat(PIECES_MAX + 10)).len(), PIECES_MAX);
    let mut deep = b"core".to_vec();
    for _ in 0..DEPTH_MAX + 3 {
        deep = gzip(&deep);
    }
    let (mut room, mut levels) = (Room::default(), 0);
    down(&deep, &mut room, &mut levels);
    assert_eq!(levels, DEPTH_MAX);
}

#[test]
fn base64_is_open_while_it_goes_on() {
    for (text, open) in [
        ("it says H4sIAAAA", 8),
        ("it says H4sIAA\n AA", 8),
        ("it says H4sIAAAA. And!", 22),
        ("it says H4s", 8),
        ("it says H", 8),
        ("it says y", 9),
        ("it says eJwr", 8),
        ("it says eJ", 8),
        ("it says teJ", 9),
        ("", 0),
    ] {
        assert_eq!(open_from(text.as_bytes()), open, "{text}");
    }
}

/// Read once for each mark, this would take hours.
#[test]
fn a_run_with_many_marks_that_broke_off_is_read_once() {
    for mark in ["H4sIA", "eJwrA"] {
        let text = format!("{}!", mark.repeat(400_000));
        assert_eq!(open_from(text.as_bytes()), text.len(), "{mark}");
    }
}

#[test]
fn zlib_is_opened_as_it_is_and_wherever_in_base64_it_begins() {
    let text = b"hello hello hello".repeat(400);
    let packed = zlib(&text);
    let raw = [&b"before "[..], &packed[..], b" behind"].concat();
    let found = opened(&raw);
    assert_eq!((found[0].0.start, &found[0].1), (7, &text));
    assert!(found[0].0.end <= 7 + packed.len(), "{:?}", found[0].0);
    assert_eq!(opened(&packed[..packed.len() - 4])[0].1, text, "without its sum");
    for before in ["", "u", "us", "use", "user: "] {
        for packed in [zlib(&text), gzip(&text)] {
            let encoded = STANDARD.encode([before.as_bytes(), &packed[..], b" and more"].concat());
            let mut found = Vec::new();
            each(encoded.as_bytes(), &mut Room::default(), &mut |_, inside, room| {
                found.push(inside.to_vec());
                each(inside, room, &mut |_, inside, _| found.push(inside.to_vec()));
            });
            assert!(found.contains(&text), "behind {before:?}");
        }
    }
}

#[test]
fn what_looks_like_zlib_hides_nothing_and_takes_nothing_away() {
    let text = b"hello hello hello".repeat(20);
    // Marks by chance, before gzip and in one run of base64 with it.
    for chance in [&b"eJwrAAAA "[..], b"eJxyz ", b"\x78\x9c\x01", b"hC x^ "] {
        let decoys = chance.repeat(TRIES_MAX + 10);
        let hidden = [&decoys[..], STANDARD.encode(gzip(&text)).as_bytes()].concat();
        let found = opened(&hidden);
        assert!(found.iter().any(|(_, inside)| inside.starts_with(&GZIP)), "{chance:?}");
    }
    let few = [&b"eJwrAAAA eJxyz "[..], STANDARD.encode(zlib(&text)).as_bytes()].concat();
    assert!(opened(&few).iter().any(|(_, inside)| *inside == text));
}

#[test]
fn a_bomb_of_zlib_ends_at_the_bound_as_it_is_and_in_base64() {
    let bomb = zlib(&vec![0; BYTES_MAX + 100]);
    for bomb in [bomb.clone(), STANDARD.encode(&bomb).into_bytes(), bomb.repeat(8)] {
        let (mut room, mut unpacked) = (Room::default(), 0);
        each(&bomb, &mut room, &mut |_, inside, _| unpacked += inside.len());
        assert!((1..=BYTES_MAX).contains(&unpacked), "{unpacked}");
    }
    let mut room = Room::default();
    each(&b"eJwrAAAA.".repeat(TRIES_MAX + 10), &mut room, &mut |_, _, _| {});
    assert_eq!((room.tries, room.depth), (0, DEPTH_MAX));
}

#[test]
fn zlib_in_base64_is_open_until_it_ends_or_is_none() {
    let packed = STANDARD.encode(zlib(&b"hello hello hello, and so on. ".repeat(9)));
    let told = format!("it says {}", &packed[..packed.len() - 12]);
    assert_eq!(open_from(told.as_bytes()), 8);
    assert_eq!(open_from(format!("{told}. And!").as_bytes()), told.len() + 6, "it broke off");
    let chance = format!("it says {}", "eJxyz ".repeat(20));
    assert!(open_from(chance.as_bytes()) > 8, "what is no zlib is not held back");
}

#[test]
fn raw_deflate_is_opened_where_a_text_or_a_run_begins_and_nowhere_else() {
    let text = b"hello hello hello, and so on, and more";
    for text in [text.to_vec(), text.repeat(4000)] {
        let packed = compress_to_vec(&text, 6);
        for whole in [packed.clone(), [&packed[..], b" behind"].concat()] {
            let found = opened(&whole);
            let (range, _) = found.iter().find(|(_, inside)| *inside == text).expect("it is found");
            assert!(range.start == 0 && range.end <= packed.len(), "{range:?}");
        }
        let cut = &packed[..packed.len() - 1];
        assert!(opened(cut).iter().any(|(_, inside)| inside.starts_with(b"hello hello")), "without its end");
        let (base64, hex) = (STANDARD.encode(&packed), in_hex(&packed));
        for run in [base64.clone(), base64.replace('=', ""), hex.to_uppercase(), hex] {
            let told = format!("it says {run}. And!");
            let found = opened(told.as_bytes());
            let (range, _) = found.iter().find(|(_, inside)| *inside == text).expect("it is found");
            assert!(range.start == 8 && range.end <= told.len(), "{range:?}");
        }
        for whole in [gzip(&text), zlib(&text)] {
            assert!(opened(in_hex(&whole).as_bytes()).iter().any(|(_, inside)| *inside == text), "in hex");
        }
        let behind = [&b"it says"[..], &packed[..]].concat();
        assert!(opened(&behind).iter().all(|(_, inside)| *inside != text), "behind other bytes");
        let behind = STANDARD.encode(&behind);
        assert!(opened(behind.as_bytes()).iter().all(|(_, inside)| *inside != text), "the same in base64");
    }
}

#[test]
fn a_bomb_of_raw_deflate_ends_at_the_bound_however_it_is_written() {
    let bomb = compress_to_vec(&vec![0; BYTES_MAX + 100], 6);
    for bomb in [bomb.clone(), STANDARD.encode(&bomb).into_bytes(), in_hex(&bomb).into_bytes()] {
        let bombs = [&bomb[..], b"."].concat().repeat(8);
        for bomb in [bomb, bombs] {
            let (mut room, mut unpacked) = (Room::default(), 0);
            each(&bomb, &mut room, &mut |_, inside, _| unpacked += inside.len());
            assert!((1..=BYTES_MAX).contains(&unpacked), "{unpacked}");
            assert_eq!(room.depth, DEPTH_MAX);
        }
    }
}

/// A KiB of blocks with nothing in them, in base64, two thousand times: what is read for nothing is counted, so the look ends.
#[test]
fn guesses_that_come_to_nothing_end_at_the_bound() {
    let nothing = STANDARD.encode([0x02_u8, 0x08, 0x20, 0x80, 0x00].repeat(200)) + ".";
    let (mut room, mut found) = (Room::default(), 0);
    each(nothing.repeat(2000).as_bytes(), &mut room, &mut |_, _, _| found += 1);
    assert_eq!((room.bytes, found), (0, 0));
    assert!(GUESSES_MAX - room.guesses < 400, "{} guesses are left", room.guesses);
    // What is none at the first byte costs nothing but a guess.
    let mut room = Room::default();
    each("BwcHBwcHBwcHBwcH.".repeat(GUESSES_MAX + 10).as_bytes(), &mut room, &mut |_, _, _| {});
    assert_eq!((room.guesses, room.bytes, room.depth), (0, BYTES_MAX, DEPTH_MAX));
}

/// What is guessed takes no room from what has a mark, wherever in the text that stands.
#[test]
fn guesses_come_behind_what_has_a_mark() {
    let bomb = STANDARD.encode(compress_to_vec(&vec![0; BYTES_MAX], 6));
    let text = b"hello hello hello".repeat(20);
    let told = format!("{bomb}.{}", STANDARD.encode(gzip(&text)));
    let mut found = Vec::new();
    each(told.as_bytes(), &mut Room::default(), &mut |_, inside, room| {
        each(inside, room, &mut |_, inside, _| found.push(inside.to_vec()));
    });
    assert!(found.contains(&text));
}

#[test]
fn raw_deflate_in_a_run_is_open_until_it_ends_or_is_none() {
    let packed = compress_to_vec(&b"hello hello hello, and so on. ".repeat(9), 6);
    for (run, left) in [(STANDARD.encode(&packed), 6), (in_hex(&packed), 6)] {
        let told = format!("it says {}", &run[..run.len() - left]);
        assert_eq!(open_from(told.as_bytes()), 8, "{told}");
        assert_eq!(open_from(format!("{told}. And!").as_bytes()), told.len() + 6, "it broke off");
        assert!(open_from(format!("it says {run} and").as_bytes()) > 8, "it has ended");
    }
}
