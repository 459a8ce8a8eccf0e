//! Ids as they are typed: whole, their first or last digits, or the newest.
//!
//! A whole id is known here. What the others mean only the server knows.

use std::fmt;
use std::str::FromStr;

use dromia_api::{ApprovalId, CapabilityId, DeliveryId, IdFragment, IdKind, RunId, SessionId, TokenId};

/// An id whose noun has a listing.
pub trait ListedId: Copy + fmt::Display + FromStr<Err: fmt::Display> {
    /// The noun.
    const KIND: IdKind;
    /// The path of the listing, to which parameters are added.
    const LISTING: &'static str;
    /// What is said where the listing is empty.
    const NONE: &'static str;
    /// Whether the listing begins with the newest.
    const IS_NEWEST_FIRST: bool;
    /// Whether the listing may be narrowed to an agent.
    const IS_OF_AN_AGENT: bool;
}

macro_rules! listed_ids {
    ($($id:ty: $kind:ident $path:literal, $newest_first:literal, $of_an_agent:literal, $none:literal;)+) => {
        $(impl ListedId for $id {
            const KIND: IdKind = IdKind::$kind;
            const LISTING: &'static str = $path;
            const NONE: &'static str = $none;
            const IS_NEWEST_FIRST: bool = $newest_first;
            const IS_OF_AN_AGENT: bool = $of_an_agent;
        })+
    };
}

listed_ids! {
    RunId: Run "/v1/runs?", true, true, "there is no run yet";
    SessionId: Session "/v1/sessions?", true, true, "there is no session yet";
    ApprovalId: Approval "/v1/approvals?open=true&", true, true, "no call waits for an approval";
    DeliveryId: Delivery "/v1/deliveries?", true, false, "there is no delivery yet";
    CapabilityId: Capability "/v1/capabilities?", false, false, "there is no capability yet";
    TokenId: Token "/v1/tokens?", false, false, "there is no token yet";
}

/// An id as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdReference<I> {
    /// All of it.
    Whole(I),
    /// Its first or last digits.
    Part(IdFragment),
    /// The newest, or the one so many before it.
    Newest(u32),
}

/// How the newest is typed.
pub const NEWEST: &str = "@last";

/// The most that may be counted back from the newest: one page.
const BACK_MAX: u32 = dromia_api::list::LIMIT_MAX - 1;

impl<I: ListedId> FromStr for IdReference<I> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let typed = text.trim();
        if let Ok(id) = typed.parse() {
            return Ok(Self::Whole(id));
        }
        if let Some(rest) = typed.strip_prefix(NEWEST) {
            return parse_back(rest).map(Self::Newest);
        }
        let noun = I::KIND.as_str();
        let digits = match IdKind::split_prefix(typed) {
            Some((kind, digits)) if kind == I::KIND => digits,
            Some((kind, _)) => {
                return Err(format!("{typed} is the id of a {}, and a {noun} is wanted", kind.as_str()));
            }
            None => typed,
        };
        let expected = || {
            format!(
                "expected the id of a {noun}, its first or last digits (at least {}), or {NEWEST}",
                IdFragment::DIGITS_MIN
            )
        };
        let part = digits.parse::<IdFragment>().map_err(|_| expected())?;
        // All digits without the prefix of the noun are a whole id.
        let whole = format!("{}_{part}", I::KIND.prefix()).parse();
        Ok(whole.map_or(Self::Part(part), Self::Whole))
    }
}

/// Reads how many are counted back, as `~2`.
fn parse_back(rest: &str) -> Result<u32, String> {
    if rest.is_empty() {
        return Ok(0);
    }
    let back = rest.strip_prefix('~').and_then(|number| number.parse().ok());
    back.filter(|back| *back <= BACK_MAX)
        .ok_or_else(|| format!("expected {NEWEST}, or {NEWEST}~N with N from 1 to {BACK_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "0199c0de0000700080000000cafe1234";

    fn typed(text: &str) -> Result<IdReference<RunId>, String> {
        text.parse()
    }

    #[test]
    fn an_id_may_be_typed_whole_in_part_or_as_the_newest() {
        let whole = IdReference::Whole(format!("run_{DIGITS}").parse().expect("an id"));
        assert_eq!(typed(&format!("run_{DIGITS}")), Ok(whole));
        assert_eq!(typed(DIGITS), Ok(whole));
        let part = |digits: &str| IdReference::Part(digits.parse().expect("a part"));
        for (text, digits) in [("run_0199", "0199"), ("cafe1234", "cafe1234"), ("CAFE1234", "cafe1234")] {
            assert_eq!(typed(text), Ok(part(digits)), "{text}");
        }
        assert_eq!(typed("@last"), Ok(IdReference::Newest(0)));
        assert_eq!(typed("@last~3"), Ok(IdReference::Newest(3)));
    }

    #[test]
    fn what_is_no_id_of_the_noun_is_refused_with_the_forms() {
        for (bad, word) in [
            (format!("ses_{DIGITS}").as_str(), "is the id of a session"),
            ("ses_0199", "is the id of a session"),
            ("abc", "at least 4"),
            ("newest", "or @last"),
            ("@last~256", "from 1 to 255"),
            ("@last1", "from 1 to 255"),
            ("", "at least 4"),
        ] {
            let refused = typed(bad).expect_err(bad);
            assert!(refused.contains(word), "{bad}: {refused}");
        }
    }
}
