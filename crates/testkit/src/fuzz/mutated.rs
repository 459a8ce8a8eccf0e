//! Changed forms of a seed: what is near it, and what parsers stumble over.

/// Changes a seed in a way that the number chooses; the same number does the same.
pub fn mutated(seed: &[u8], number: u64) -> Vec<u8> {
    let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut data = seed.to_vec();
    for _ in 0..=dice.below(3) {
        let (from, to) = dice.range(data.len());
        match dice.below(6) {
            0 => data.truncate(from),
            1 => drop(data.drain(from..to)),
            2 => {
                let copy = data[from..to].to_vec();
                data.splice(to..to, copy);
            }
            3 if from < data.len() => data[from] ^= 1 << dice.below(8),
            4 => data.reverse(),
            _ => {
                let nasty = NASTY[dice.below(NASTY.len())];
                data.splice(from..from, nasty.iter().copied());
            }
        }
    }
    data
}

/// Pieces that parsers stumble over.
const NASTY: [&[u8]; 16] = [
    b"\xef\xbb\xbf",
    b"\r",
    b"\n\n",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xc3",
    b"[[[[[[[[",
    b"{\"a\":",
    b"99999999999999999999",
    b"-0",
    b"1e400",
    b"null",
    b"\"",
    b"\xe2\x80\xae",
];

/// Numbers in a row that look random; no two tests share one.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % bound.max(1)
    }

    /// Chooses a range of at most 64 within a length.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        (from, (from + self.below(64)).min(length))
    }
}
