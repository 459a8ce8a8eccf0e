//! How many approvals and rules there are, how large they are, and which go where there are more.
//!
//! Only numbers, and where to look for what goes. Nothing is counted or removed here: the store does both.

/// The most approvals that one run may leave waiting.
pub const WAITING_MAX: usize = 8;

/// The most approvals that are answered together with another one.
pub const ALSO_MAX: usize = 32;

/// The most approvals of a tenant that are open; no person is asked for one more.
pub const OPEN_MAX: usize = 1024;

/// The most approvals of a tenant that are kept when they are not open any more. With each one that is asked for beyond
/// them, the oldest go that nothing will move ([`sweep_looks`]): none that was approved and has not begun, and none whose run
/// goes on.
pub const KEPT_MAX: usize = 4096;

/// The most approvals that go with one that is asked for.
pub const SWEPT_MAX: usize = 16;

/// The most approvals of one look for those that go; one that is asked for has two such looks made.
pub const SWEEP_LOOKS_MAX: usize = 256;

/// Returns how many of the oldest each look for those that go skips, where so many are beyond [`KEPT_MAX`]. The first
/// skips none. The second is for when those may not go yet: it takes its turns over what lies behind them, as far as
/// the number beyond, which grows with each turn that finds nothing. So what may not go holds up nothing else.
pub const fn sweep_looks(beyond: usize) -> [usize; 2] {
    let turns = beyond / SWEEP_LOOKS_MAX + 1;
    [0, SWEEP_LOOKS_MAX * (1 + beyond % turns)]
}

/// The most bytes of the arguments of a call that a person is asked about.
pub const ARGUMENTS_BYTES_MAX: usize = 128 << 10;

/// The most rules of a tenant.
pub const RULES_MAX: usize = 256;

/// The most bytes of a reason that comes with an answer.
pub const REASON_BYTES_MAX: usize = 1024;

/// The most bytes of a text that are quoted for an argument which it contains.
pub const QUOTE_BYTES_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_for_what_goes_come_behind_what_may_not_go() {
        for stuck in
            [0, 1, SWEEP_LOOKS_MAX - 1, SWEEP_LOOKS_MAX, 2 * SWEEP_LOOKS_MAX - 1, 2 * SWEEP_LOOKS_MAX, 5_000]
        {
            // Each turn that finds nothing leaves one more beyond what is kept.
            let finds =
                |beyond: usize| sweep_looks(beyond).iter().any(|passed| passed + SWEEP_LOOKS_MAX > stuck);
            assert!((1..=stuck.max(1)).any(finds), "{stuck} hold up what is behind them");
        }
    }
}
