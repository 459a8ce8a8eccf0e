//! A shorter form of an entry's fields.
//!
//! Fields are JSON, most of it names of keys and ids in hex, and every turn writes some. Packed, a key is one byte,
//! an id seventeen and a digest half of its digits. The form is a way to store, not a second meaning: what does not
//! come back byte for byte is stored as the text that it is, because the chain is over the text.
//!
//! A value is a tag and what the tag asks for; the tags are here, the tables that they point into in `packed_fields/dictionary.rs`.
//! The numbers are in files: new ones are added at the end, and none is ever taken away or used for something else.

mod dictionary;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use dictionary::{KEYS, PREFIXES, WORDS};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
/// A whole number that is not negative: a varint.
const NUMBER: u8 = 3;
/// A length and UTF-8.
const TEXT: u8 = 4;
/// A place in `WORDS`.
const WORD: u8 = 5;
/// A place in `PREFIXES` and 16 bytes.
const ID: u8 = 6;
/// A length in bytes, and bytes whose hex digits are the text.
const HEX: u8 = 7;
/// Values up to `END`.
const ARRAY: u8 = 8;
/// Keys and values up to a key that is `KEY_END`.
const OBJECT: u8 = 9;
const END: u8 = 10;

/// A key that is written in full: a length and UTF-8.
const KEY_TEXT: u64 = 0;
const KEY_END: u64 = 1;
/// The number of the first key of `KEYS`.
const KEY_FIRST: u64 = 2;

/// The deepest nesting that is read back; fields are a few levels deep.
const DEPTH_MAX: usize = 16;
/// Shorter hex is kept as text.
const HEX_DIGITS_MIN: usize = 16;
const ID_BYTES: usize = 16;

/// The index of each word in `WORDS`, and of each key in `KEYS`.
static NUMBERS_OF_WORDS: LazyLock<HashMap<&str, u64>> = LazyLock::new(|| number_words(WORDS));
static NUMBERS_OF_KEYS: LazyLock<HashMap<&str, u64>> = LazyLock::new(|| number_words(KEYS));

fn number_words(table: &'static [&'static str]) -> HashMap<&'static str, u64> {
    table.iter().copied().zip(0..).collect()
}

/// Packs JSON text, unless that would not be shorter or not come back as it was.
pub(crate) fn pack(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut json = serde_json::Deserializer::from_str(text);
    ValuePacker(&mut bytes).deserialize(&mut json).ok()?;
    json.end().ok()?;
    (bytes.len() < text.len() && unpack(&bytes).as_deref() == Some(text)).then_some(bytes)
}

/// Gives back the text that was packed. `None` if the bytes are none that [`pack`] makes.
pub(crate) fn unpack(bytes: &[u8]) -> Option<String> {
    let mut unpacker = JsonUnpacker { rest: bytes, text: String::with_capacity(bytes.len() * 3) };
    let tag = unpacker.take_byte()?;
    unpacker.unpack_value(tag, 0)?;
    unpacker.rest.is_empty().then_some(unpacker.text)
}

/// Writes one value.
struct ValuePacker<'p>(&'p mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for ValuePacker<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValuePacker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fields without negative or broken numbers")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(NULL);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.push(NUMBER);
        push_number(self.0, value);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if let Some(word) = NUMBERS_OF_WORDS.get(value) {
            self.0.push(WORD);
            push_number(self.0, *word);
        } else if let Some((prefix, id)) = as_id(value) {
            self.0.push(ID);
            push_number(self.0, prefix as u64);
            self.0.extend(id);
        } else if let Some(bytes) = as_hex(value).filter(|_| value.len() >= HEX_DIGITS_MIN) {
            self.0.push(HEX);
            push_number(self.0, bytes.len() as u64);
            self.0.extend(bytes);
        } else {
            self.0.push(TEXT);
            push_text(self.0, value);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        self.0.push(ARRAY);
        while values.next_element_seed(ValuePacker(self.0))?.is_some() {}
        self.0.push(END);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.push(OBJECT);
        while fields.next_key_seed(KeyPacker(self.0))?.is_some() {
            fields.next_value_seed(ValuePacker(self.0))?;
        }
        push_number(self.0, KEY_END);
        Ok(())
    }
}

/// Writes one key.
struct KeyPacker<'p>(&'p mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for KeyPacker<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyPacker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        if let Some(number) = NUMBERS_OF_KEYS.get(key) {
            push_number(self.0, KEY_FIRST + number);
        } else {
            push_number(self.0, KEY_TEXT);
            push_text(self.0, key);
        }
        Ok(())
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_number(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn as_id(text: &str) -> Option<(usize, Vec<u8>)> {
    let (prefix, digits) = text.split_once('_')?;
    let prefix = PREFIXES.iter().position(|known| *known == prefix)?;
    let bytes = as_hex(digits).filter(|bytes| bytes.len() == ID_BYTES)?;
    Some((prefix, bytes))
}

fn as_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Reads packed bytes, which a damaged disk may have changed in any way.
struct JsonUnpacker<'b> {
    rest: &'b [u8],
    text: String,
}

impl JsonUnpacker<'_> {
    fn unpack_value(&mut self, tag: u8, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match tag {
            NULL => self.text.push_str("null"),
            FALSE => self.text.push_str("false"),
            TRUE => self.text.push_str("true"),
            NUMBER => {
                let number = self.take_number()?;
                write!(self.text, "{number}").ok()?;
            }
            TEXT => self.unpack_string()?,
            WORD => {
                let word = known_word(WORDS, self.take_number()?)?;
                self.write_quoted(word)?;
            }
            ID => {
                let prefix = known_word(PREFIXES, self.take_number()?)?;
                write!(self.text, "\"{prefix}_").ok()?;
                self.unpack_digits(ID_BYTES)?;
                self.text.push('"');
            }
            HEX => {
                let length = usize::try_from(self.take_number()?).ok()?;
                self.text.push('"');
                self.unpack_digits(length)?;
                self.text.push('"');
            }
            ARRAY => self.unpack_array(depth)?,
            OBJECT => self.unpack_object(depth)?,
            _ => return None,
        }
        Some(())
    }

    fn unpack_array(&mut self, depth: usize) -> Option<()> {
        self.text.push('[');
        let mut first = true;
        loop {
            let tag = self.take_byte()?;
            if tag == END {
                self.text.push(']');
                return Some(());
            }
            if !std::mem::take(&mut first) {
                self.text.push(',');
            }
            self.unpack_value(tag, depth + 1)?;
        }
    }

    fn unpack_object(&mut self, depth: usize) -> Option<()> {
        self.text.push('{');
        let mut first = true;
        loop {
            let key = self.take_number()?;
            if key == KEY_END {
                self.text.push('}');
                return Some(());
            }
            if !std::mem::take(&mut first) {
                self.text.push(',');
            }
            match key.checked_sub(KEY_FIRST) {
                Some(key) => self.write_quoted(known_word(KEYS, key)?)?,
                None => self.unpack_string()?,
            }
            self.text.push(':');
            let tag = self.take_byte()?;
            self.unpack_value(tag, depth + 1)?;
        }
    }

    fn unpack_string(&mut self) -> Option<()> {
        let length = usize::try_from(self.take_number()?).ok()?;
        let text = std::str::from_utf8(self.take_bytes(length)?).ok()?;
        self.write_quoted(text)
    }

    fn write_quoted(&mut self, text: &str) -> Option<()> {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().all(is_plain) {
            self.text.push('"');
            self.text.push_str(text);
            self.text.push('"');
        } else {
            self.text.push_str(&serde_json::to_string(text).ok()?);
        }
        Some(())
    }

    fn unpack_digits(&mut self, length: usize) -> Option<()> {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        for byte in self.take_bytes(length)? {
            self.text.push(DIGITS[usize::from(byte >> 4)]);
            self.text.push(DIGITS[usize::from(byte & 0xf)]);
        }
        Some(())
    }
}

impl<'b> JsonUnpacker<'b> {
    fn take_byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take_bytes(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn take_number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take_byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

fn known_word(table: &'static [&'static str], number: u64) -> Option<&'static str> {
    table.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests;
