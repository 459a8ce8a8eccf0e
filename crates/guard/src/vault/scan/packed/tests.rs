//! What is found in packed texts, what is held back while they go on, and where the bounds are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::tests::{gzip, zlib};
use super::mark::GZIP;
use super::*;

fn opened(text: &[u8]) -> Vec<(Range<usize>, Vec<u8>)> {
    let (mut room, mut found) = (ScanBudget::default(), Vec::new());
    open_each(text, &mut room, &mut |range, inside, _| found.push((range, inside.to_vec())));
    assert_eq!(room.depth, DEPTH_MAX, "what was gone into was left");
    found
}

/// Opens what lies in one another, and counts how deep.
fn down(text: &[u8], room: &mut ScanBudget, levels: &mut usize) {
    open_each(text, room, &mut |_, inside, room| {
        *levels += 1;
        down(inside, room, levels);
    });
}

#[test]
fn packed_data_is_opened_anywhere_and_without_its_end() {
    let packed = gzip(b"hello hello hello");
    let text = [&b"it says"[..], &packed[..], b" behind"].concat();
    let found = opened(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, b"hello hello hello");
    assert_eq!(found[0].0.start, 7);
    assert_eq!(found[0].0.end, 7 + packed.len() - 8, "up to its sum");
    let cut = opened(&packed[..packed.len() - 8]);
    assert_eq!(cut[0].1, b"hello hello hello");
}

#[test]
fn a_head_with_everything_in_it_is_passed() {
    let plain = gzip(b"hello");
    let mut packed = plain[..10].to_vec();
    packed[3] = 2 | 4 | 8 | 16;
    packed.extend_from_slice(&[3, 0, b'x', b'y', b'z']);
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
fn unpacking_stops_at_its_bounds_of_bytes_and_tries() {
    let bomb = gzip(&vec![0; BYTES_MAX + 100]);
    assert!(opened(&bomb).iter().map(|(_, inside)| inside.len()).sum::<usize>() <= BYTES_MAX);
    assert_eq!(opened(&b"H4sIA.".repeat(PIECES_MAX + 10)).len(), PIECES_MAX);
    let mut deep = b"core".to_vec();
    for _ in 0..DEPTH_MAX + 3 {
        deep = gzip(&deep);
    }
    let (mut room, mut levels) = (ScanBudget::default(), 0);
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
        ("H", 0),
        ("eJ", 0),
    ] {
        assert_eq!(open_from(text.as_bytes()), open, "{text}");
    }
}

/// Read once for each mark, this would take hours.
#[test]
fn a_text_of_many_broken_marks_is_read_once() {
    for mark in ["H4sIA", "eJwrA"] {
        let text = format!("{}!", mark.repeat(400_000));
        assert_eq!(open_from(text.as_bytes()), text.len(), "{mark}");
    }
}

#[test]
fn zlib_is_opened_raw_and_at_any_offset_of_base64() {
    let text = b"hello hello hello".repeat(400);
    let packed = zlib(&text);
    let raw = [&b"before "[..], &packed[..], b" behind"].concat();
    let found = opened(&raw);
    assert_eq!((found[0].0.start, &found[0].1), (7, &text));
    assert_eq!(found[0].0.end, 7 + packed.len() - 4, "up to its sum");
    assert_eq!(opened(&packed[..packed.len() - 4])[0].1, text, "without its sum");
    for before in ["", "u", "us", "use", "user: "] {
        for packed in [zlib(&text), gzip(&text)] {
            let encoded = STANDARD.encode([before.as_bytes(), &packed[..], b" and more"].concat());
            let mut found = Vec::new();
            open_each(encoded.as_bytes(), &mut ScanBudget::default(), &mut |_, inside, room| {
                found.push(inside.to_vec());
                open_each(inside, room, &mut |_, inside, _| found.push(inside.to_vec()));
            });
            assert!(found.contains(&text), "behind {before:?}");
        }
    }
}

/// What no packing makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

#[test]
fn what_is_packed_is_read_to_its_end_and_paid_for() {
    for length in [100, 10_000, 200_000] {
        let text = noise(length);
        let packed = zlib(&text);
        let encoded = STANDARD.encode(&packed).trim_end_matches('=').to_owned();
        for written in [packed.clone(), encoded.into_bytes()] {
            let (mut room, mut found) = (ScanBudget::default(), Vec::new());
            open_each(&written, &mut room, &mut |range, inside, _| found.push((range, inside.to_vec())));
            let (range, inside) = &found[0];
            assert_eq!(inside, &text, "{length}");
            let is_raw = written == packed;
            assert_eq!(*range, 0..written.len() - if is_raw { 4 } else { 0 }, "{length}");
            let is_read_twice = !is_raw && length > 1000;
            let most = length + if is_read_twice { packed.len() } else { 0 };
            // In much of it are marks by chance, which are tried too.
            let costs = if length > 100_000 { most..2 * most } else { most..most + 400 };
            assert!(costs.contains(&(BYTES_MAX - room.bytes)), "{length}: {room:?}");
        }
    }
}

#[test]
fn data_resembling_zlib_hides_no_secret() {
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
fn a_zlib_bomb_stops_at_the_bound_in_every_form() {
    let bomb = zlib(&vec![0; BYTES_MAX + 100]);
    for bomb in [bomb.clone(), STANDARD.encode(&bomb).into_bytes(), bomb.repeat(8)] {
        let (mut room, mut unpacked) = (ScanBudget::default(), 0);
        open_each(&bomb, &mut room, &mut |_, inside, _| unpacked += inside.len());
        assert!((1..=BYTES_MAX).contains(&unpacked), "{unpacked}");
    }
    let mut room = ScanBudget::default();
    open_each(&b"eJwrAAAA.".repeat(TRIES_MAX + 10), &mut room, &mut |_, _, _| {});
    assert_eq!((room.tries, room.depth), (0, DEPTH_MAX));
}

#[test]
fn zlib_in_base64_is_held_until_it_ends_or_breaks() {
    let packed = STANDARD.encode(zlib(&b"hello hello hello, and so on. ".repeat(9)));
    let told = format!("it says {}", &packed[..packed.len() - 12]);
    assert_eq!(open_from(told.as_bytes()), 8);
    assert_eq!(open_from(format!("{told}. And!").as_bytes()), told.len() + 6, "it broke off");
    let chance = format!("it says {}", "eJxyz ".repeat(20));
    assert!(open_from(chance.as_bytes()) > 8, "what is no zlib is not held back");
}

/// What a quick look found is all that there is, or it says that there may be more: whatever a look with room finds besides,
/// the quick one said that it was cut short.
#[test]
fn a_quick_look_says_where_it_did_not_look() {
    let text = b"hello hello hello".repeat(20);
    let nothing = [0x02_u8, 0x08, 0x20, 0x80, 0x00].repeat(2_000);
    let mut barren = GZIP.to_vec();
    barren.extend([0; 7]);
    barren.extend(&nothing);
    for (text, is_all) in [
        (b"plain words, and no more of them".to_vec(), true),
        (gzip(&text), true),
        (STANDARD.encode(gzip(&text)).into_bytes(), true),
        (gzip(&vec![0; QUICK_BYTES_MAX]), false),
        (STANDARD.encode(zlib(&vec![0; QUICK_BYTES_MAX])).into_bytes(), false),
        (STANDARD.encode(gzip(&barren)).repeat(4).into_bytes(), false),
        (barren.clone(), false),
        (gzip(&barren), false),
        (STANDARD.encode([zlib(&noise(3_000)), vec![0; 40_000]].concat()).into_bytes(), false),
        (b"H4sIA.".repeat(QUICK_PIECES_MAX), false),
        (b"eJwrAAAA.".repeat(QUICK_TRIES_MAX), false),
    ] {
        let (mut room, mut levels) = (ScanBudget::quick_scan(), 0);
        down(&text, &mut room, &mut levels);
        assert_eq!(!room.is_spent(), is_all, "{:?}", String::from_utf8_lossy(&text[..text.len().min(40)]));
    }
}

/// So many marks that may each be the beginning of something: from the first that is not tried on, all is held back.
#[test]
fn a_text_with_too_many_marks_is_held_from_there() {
    let chance = "eJxy".repeat(OPEN_TRIES_MAX + 40);
    let open = open_from(chance.as_bytes());
    assert_eq!(open, 4 * OPEN_TRIES_MAX);
}
