//! What must hold of whatever gives a right or proves what was done: labels, tokens, the question to a policy, the action
//! that somebody approves, and the files of the audit.
//!
//! Nobody writes a signature by hand, so the inputs of what is signed are recipes: what is to be signed, a NUL, and what
//! somebody changes in it afterwards, four bytes a change. Their makers and readers belong to rooms that this one does not
//! see, and are handed in.

use std::fmt::Debug;

use dromia_contracts::Digest;
use dromia_contracts::label::Label;

use super::is_said_in_few_words;

/// The most labels of one input: joining is tried in several orders.
const LABELS_MAX: usize = 64;
/// The most changes of one input.
const CHANGES_MAX: usize = 16;
/// The most records of one file.
const RECORDS_MAX: usize = 32;
/// The rule that denies what cannot be put to a policy.
const BROKEN: &str = "policy-broken";

/// Labels, one a line, join to the same in every order; the join is trusted no more and read by no more than each of them,
/// and no less than the worst of them.
pub fn label_join(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let labels: Vec<Label> = text.lines().filter_map(|line| line.parse().ok()).take(LABELS_MAX).collect();
    let Some(joined) = labels.iter().copied().reduce(Label::join) else { return };
    assert_eq!(labels.iter().rev().copied().reduce(Label::join), Some(joined), "another order");
    let (head, tail) = labels.split_at(labels.len() / 2);
    let halves = [head, tail].map(|half| half.iter().copied().reduce(Label::join));
    assert_eq!(halves.into_iter().flatten().reduce(Label::join), Some(joined), "other brackets");
    for label in &labels {
        assert!(joined.integrity >= label.integrity, "{joined} is trusted more than {label}");
        assert!(joined.readers >= label.readers, "{joined} is read by more than {label}");
        assert_eq!(joined.join(*label), joined, "joining again changes something");
    }
    assert!(labels.iter().any(|label| label.integrity == joined.integrity), "{joined} is of nobody's trust");
    assert!(labels.iter().any(|label| label.readers == joined.readers), "{joined} has nobody's readers");
    assert_eq!(joined.to_string().parse(), Ok(joined));
}

/// What a reader says of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRead {
    /// Whose it was and is.
    pub holders: Vec<String>,
    /// Its bytes, written anew.
    pub bytes: Vec<u8>,
    /// What of a list of places its holder may do.
    pub allows: Vec<String>,
}

/// A token that somebody changed is refused in few words, or allows nothing that it did not allow before; bytes that
/// nobody signed are none. A recipe has the rights of the first block on its first line and those of one more block on each
/// further line.
pub fn token(
    make: impl Fn(&str) -> Option<Vec<u8>>,
    open: impl Fn(&[u8]) -> Result<TokenRead, String>,
    data: &[u8],
) {
    let (recipe, changes) = parts(data);
    match open(changes) {
        Ok(read) => panic!("nobody signed it, and it is a token: {read:?}"),
        Err(words) => is_said_in_few_words(&words, data),
    }
    let Some(made) = std::str::from_utf8(recipe).ok().and_then(make) else { return };
    let first = open(&made).expect("what was signed is a token");
    let again = open(&first.bytes).expect("what was read can be read again");
    assert_eq!((&again.holders, &again.bytes), (&first.holders, &first.bytes));
    match open(&changed(&made, changes)) {
        Ok(read) => {
            let more = read.allows.iter().find(|place| !first.allows.contains(place));
            assert_eq!(more, None, "whoever changed it may do more");
        }
        Err(words) => is_said_in_few_words(&words, data),
    }
}

/// A call is judged the same each time; a lower layer never makes the verdict milder; and what cannot be put to a policy is
/// denied by name. The first line is the tool, the second a label, the rest the arguments; a later verdict is a
/// stricter one. `judge` is told whether the lower layer counts.
pub fn policy_input<V: PartialOrd + Debug>(
    judge: impl Fn(&str, Label, &str, bool) -> (V, String),
    deny: &V,
    data: &[u8],
) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (tool, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (label, arguments) = rest.split_once('\n').unwrap_or((rest, "{}"));
    let label = label.parse().unwrap_or(Label::UNKNOWN_FILE);
    let plain = judge(tool, label, arguments, false);
    assert_eq!(judge(tool, label, arguments, false), plain, "it is judged otherwise the second time");
    let lower = judge(tool, label, arguments, true);
    assert!(lower.0 >= plain.0, "a lower layer makes {plain:?} milder: {lower:?}");
    for (verdict, rule) in [&plain, &lower] {
        is_said_in_few_words(rule, data);
        if serde_json::from_str::<serde_json::Value>(arguments).is_err() {
            assert_eq!((verdict, rule.as_str()), (deny, BROKEN), "it cannot be put to a policy");
        }
    }
}

/// A call in canonical form: the tool's name, the arguments, and the digest that an approval is bound to.
pub type Canonical = (String, String, Digest);

/// What is approved is what is executed: the canonical form of arguments is its own canonical form, its action is the
/// digest of tool and form, and two calls have one action if and only if they have one form. The first line is the tool;
/// arguments of two calls follow, with a NUL between them.
pub fn approval_hash(prepare: impl Fn(&str, &str) -> Result<Canonical, String>, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (tool, arguments) = text.split_once('\n').unwrap_or((text, "{}"));
    let (one, other) = arguments.split_once('\0').unwrap_or((arguments, "{}"));
    let read = |arguments: &str| match prepare(tool, arguments) {
        Ok((name, form, action)) => {
            let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&form).is_ok();
            assert!(is_object, "{form} is no JSON object");
            let mut hasher = blake3::Hasher::new();
            hasher.update(name.as_bytes()).update(&[0]).update(form.as_bytes());
            assert_eq!(action.as_bytes(), hasher.finalize().as_bytes(), "{form} has another action");
            assert_eq!(prepare(tool, &form), Ok((name, form.clone(), action)), "{form} is not canonical");
            Some((form, action))
        }
        Err(words) => {
            is_said_in_few_words(&words, data);
            None
        }
    };
    if let (Some(one), Some(other)) = (read(one), read(other)) {
        assert_eq!(one.0 == other.0, one.1 == other.1, "{} and {}", one.0, other.0);
    }
}

/// How many texts an approval is bound to, as [`approval_binding`] hands them over.
pub const BOUND_TEXTS: usize = 10;

/// The longest such text that is tried; an actor's name is cut behind more.
const BOUND_BYTES_MAX: usize = 200;

/// An approval is bound to each thing that is judged: the same inputs have one binding, and inputs of which any differs have
/// another one. Two lists of texts with a NUL between them, a text a line.
pub fn approval_binding(bind: impl Fn(&[&str; BOUND_TEXTS]) -> Digest, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let texts = |list: &str| -> [String; BOUND_TEXTS] {
        let mut lines = list.split('\n').map(|line| {
            let mut end = line.len().min(BOUND_BYTES_MAX);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line[..end].to_owned()
        });
        std::array::from_fn(|_| lines.next().unwrap_or_default())
    };
    let bound = |texts: &[String; BOUND_TEXTS]| {
        let texts: [&str; BOUND_TEXTS] = std::array::from_fn(|at| texts[at].as_str());
        let digest = bind(&texts);
        assert_eq!(bind(&texts), digest, "it is bound otherwise the second time");
        digest
    };
    let (one, other) = text.split_once('\0').unwrap_or((text, ""));
    let (one, other) = (texts(one), texts(other));
    let digest = bound(&one);
    assert_eq!(one == other, digest == bound(&other), "{one:?} and {other:?}");
    for (at, text) in other.iter().enumerate() {
        for changed in [text.clone(), format!("{}x", one[at])] {
            let mut mixed = one.clone();
            mixed[at] = changed;
            assert_eq!(mixed == one, bound(&mixed) == digest, "text {at} is not bound: {mixed:?}");
        }
    }
}

/// A file of the audit is whole as it was made, and refused in few words once anything in it is changed; bytes that nobody
/// signed are no file. A recipe is one record a line; the reader counts the records.
pub fn audit_file(
    make: impl Fn(&[&str]) -> Vec<u8>,
    check: impl Fn(&[u8]) -> Result<u64, String>,
    data: &[u8],
) {
    let (recipe, changes) = parts(data);
    match check(changes) {
        Ok(records) => panic!("nobody signed it, and it has {records} records"),
        Err(words) => is_said_in_few_words(&words, data),
    }
    let Ok(recipe) = std::str::from_utf8(recipe) else { return };
    let records: Vec<&str> = recipe.split('\n').take(RECORDS_MAX).collect();
    let made = make(&records);
    assert_eq!(check(&made), Ok(records.len() as u64), "it is as it was made");
    let touched = changed(&made, changes);
    match check(&touched) {
        Ok(_) => assert_eq!(touched, made, "it was changed and nobody noticed"),
        Err(words) => {
            assert_ne!(touched, made, "{words}");
            is_said_in_few_words(&words, data);
        }
    }
}

/// Splits an input into what is made and how it is changed.
fn parts(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// Changes bytes: each change is what to do, where (two bytes), and a byte.
fn changed(made: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = made.to_vec();
    for change in changes.chunks_exact(4).take(CHANGES_MAX) {
        let at = usize::from(u16::from_be_bytes([change[1], change[2]])) % (bytes.len() + 1);
        match change[0] % 4 {
            0 if at < bytes.len() => bytes[at] ^= change[3],
            1 => bytes.insert(at, change[3]),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs nothing: the file is its records, with their number behind them.
    fn counted(records: &[&str]) -> Vec<u8> {
        format!("{}\n{}", records.join("\n"), records.len()).into_bytes()
    }

    fn recounted(bytes: &[u8]) -> Result<u64, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let (records, number) = text.rsplit_once('\n').ok_or("it has no number")?;
        let found = records.split('\n').count() as u64;
        if number.parse() == Ok(found) { Ok(found) } else { Err("it has another number".to_owned()) }
    }

    #[test]
    fn changes_are_what_they_say() {
        assert_eq!(changed(b"abc", &[0, 0, 1, 3, 1, 0, 0, b'x']), b"xaac");
        assert_eq!(changed(b"abc", &[2, 0, 0, 0, 3, 0, 1, 0]), b"b");
        assert_eq!(changed(b"abc", &[0, 0, 3, 9, 7]), b"abc", "behind the end, and a part of a change");
        assert_eq!(parts(b"a\0b\0c"), (&b"a"[..], &b"b\0c"[..]));
    }

    #[test]
    #[should_panic(expected = "nobody noticed")]
    fn a_reader_that_looks_at_the_number_only_is_caught() {
        audit_file(counted, recounted, b"one\ntwo\0\0\0\0\x01");
    }

    #[test]
    #[should_panic(expected = "may do more")]
    fn a_token_that_is_never_verified_is_caught() {
        let open = |bytes: &[u8]| -> Result<TokenRead, String> {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let text = text.strip_prefix("token ").ok_or("it is no token")?;
            Ok(TokenRead { holders: Vec::new(), bytes: bytes.to_vec(), allows: vec![text.to_owned()] })
        };
        token(|recipe| Some(format!("token {recipe}").into_bytes()), open, b"a\0\0\0\x06\x03");
    }

    #[test]
    #[should_panic(expected = "milder")]
    fn a_lower_layer_that_allows_is_caught() {
        let judge = |_: &str, _: Label, _: &str, lower: bool| (u8::from(!lower) * 2, "rule".to_owned());
        policy_input(judge, &2, b"exec\ntrusted/actor\n{}");
    }

    #[test]
    #[should_panic(expected = "is not canonical")]
    fn a_form_that_is_not_canonical_is_caught() {
        let prepare = |tool: &str, arguments: &str| {
            let form = arguments.replacen(' ', "", 1);
            let action = blake3::hash(format!("{tool}\0{form}").as_bytes());
            Ok((tool.to_owned(), form, Digest::from_bytes(*action.as_bytes())))
        };
        approval_hash(prepare, b"t\n{ \"a\": 1}");
    }

    #[test]
    #[should_panic(expected = "text 3 is not bound")]
    fn a_binding_that_leaves_something_out_is_caught() {
        let bind = |texts: &[&str; BOUND_TEXTS]| {
            let left: Vec<_> = texts.iter().enumerate().filter(|(at, _)| *at != 3).collect();
            Digest::from_bytes(*blake3::hash(format!("{left:?}").as_bytes()).as_bytes())
        };
        approval_binding(bind, b"a\nb\0c");
    }

    #[test]
    #[should_panic(expected = "and [")]
    fn a_binding_that_joins_its_texts_is_caught() {
        let bind = |texts: &[&str; BOUND_TEXTS]| {
            Digest::from_bytes(*blake3::hash(texts.concat().as_bytes()).as_bytes())
        };
        approval_binding(bind, b"ab\nc\0a\nbc");
    }

    #[test]
    #[should_panic(expected = "has another action")]
    fn a_digest_of_other_bytes_is_caught() {
        let prepare = |tool: &str, arguments: &str| {
            Ok((tool.to_owned(), arguments.to_owned(), Digest::from_bytes([7; 32])))
        };
        approval_hash(prepare, b"t\n{}");
    }
}
