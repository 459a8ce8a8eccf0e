//! Parts of ids, as people type them: the first or the last digits of an id, at least [`IdFragment::DIGITS_MIN`].
//!
//! An id begins with its time and ends with randomness, so the last eight digits of an id are what tells it from others. A
//! part may fit several ids; it names one only where a store finds no second. This module finds nothing.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{ApprovalId, CapabilityId, DeliveryId, RunId, SessionId, TokenId};

/// A noun whose ids are found by a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdKind {
    /// Runs.
    Run,
    /// Sessions.
    Session,
    /// Approvals.
    Approval,
    /// Deliveries.
    Delivery,
    /// Capabilities.
    Capability,
    /// Tokens.
    Token,
}

impl IdKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Run, Self::Session, Self::Approval, Self::Delivery, Self::Capability, Self::Token];

    /// Returns the noun.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Session => "session",
            Self::Approval => "approval",
            Self::Delivery => "delivery",
            Self::Capability => "capability",
            Self::Token => "token",
        }
    }

    /// Returns the noun for several.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Run => "runs",
            Self::Session => "sessions",
            Self::Approval => "approvals",
            Self::Delivery => "deliveries",
            Self::Capability => "capabilities",
            Self::Token => "tokens",
        }
    }

    /// Returns the prefix of the text form of its ids.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Run => RunId::PREFIX,
            Self::Session => SessionId::PREFIX,
            Self::Approval => ApprovalId::PREFIX,
            Self::Delivery => DeliveryId::PREFIX,
            Self::Capability => CapabilityId::PREFIX,
            Self::Token => TokenId::PREFIX,
        }
    }

    /// Takes the prefix of a kind off a text that has one, as `run` off `run_0199c0de`.
    pub fn split_prefix(text: &str) -> Option<(Self, &str)> {
        let (prefix, digits) = text.split_once('_')?;
        let kind = Self::ALL.into_iter().find(|kind| kind.prefix() == prefix)?;
        Some((kind, digits))
    }

    /// Writes the 16 bytes of one of its ids in their text form.
    pub fn format_id(self, id: [u8; 16]) -> String {
        format!("{}_{:032x}", self.prefix(), u128::from_be_bytes(id))
    }
}

/// Says why a text is no part of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a part of an id is {} to 32 hex digits", IdFragment::DIGITS_MIN)]
pub struct ParseFragmentError;

/// The first or the last digits of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdFragment {
    value: u128,
    digits: u32,
}

impl IdFragment {
    /// The fewest digits that are looked for: fewer fit too many ids.
    pub const DIGITS_MIN: usize = 4;

    /// Returns the first and the last id that begin with these digits.
    pub fn prefix_range(self) -> ([u8; 16], [u8; 16]) {
        let below = 4 * (32 - self.digits);
        let first = self.value << below;
        (first.to_be_bytes(), (first | ((1 << below) - 1)).to_be_bytes())
    }

    /// Returns the whole bytes with which each id ends that ends with these digits. An odd digit is in none of them.
    pub fn last_bytes(self) -> Vec<u8> {
        let bytes = self.value.to_be_bytes();
        bytes[bytes.len() - self.digits as usize / 2..].to_vec()
    }

    /// Returns whether an id begins or ends with these digits.
    pub fn fits_id(self, id: &[u8; 16]) -> bool {
        let (first, last) = self.prefix_range();
        (first..=last).contains(id) || self.ends_id(id)
    }

    /// Returns whether an id ends with these digits.
    pub fn ends_id(self, id: &[u8; 16]) -> bool {
        let above = 4 * (32 - self.digits);
        (u128::from_be_bytes(*id) << above) >> above == self.value
    }
}

impl fmt::Display for IdFragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.value, digits = self.digits as usize)
    }
}

impl FromStr for IdFragment {
    type Err = ParseFragmentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = u32::try_from(text.len()).map_err(|_| ParseFragmentError)?;
        if !is_hex || !(Self::DIGITS_MIN..=32).contains(&text.len()) {
            return Err(ParseFragmentError);
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| ParseFragmentError)?;
        Ok(Self { value, digits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199c0de1234567890abcdef0badcafe";

    fn id_bytes() -> [u8; 16] {
        u128::from_str_radix(ID, 16).expect("an id").to_be_bytes()
    }

    #[test]
    fn a_part_fits_the_ids_that_it_begins_or_ends() {
        for (text, fits) in [
            ("0199", true),
            ("0199C0DE", true),
            ("cafe", true),
            ("0badcafe", true),
            ("badcafe", true),
            (ID, true),
            ("c0de", false),
            ("0198", false),
            ("0000", false),
        ] {
            let part: IdFragment = text.parse().expect("a part");
            assert_eq!(part.fits_id(&id_bytes()), fits, "{text}");
            assert_eq!(part.to_string(), text.to_lowercase());
            assert!(!part.ends_id(&id_bytes()) || id_bytes().ends_with(&part.last_bytes()), "{text}");
        }
    }

    #[test]
    fn too_few_digits_and_other_characters_are_no_part() {
        for bad in ["", "abc", "run_", "+123", "abcg", &"a".repeat(33)] {
            assert_eq!(bad.parse::<IdFragment>(), Err(ParseFragmentError), "{bad}");
        }
    }

    #[test]
    fn a_prefix_names_the_kind_and_is_written_back() {
        for kind in IdKind::ALL {
            let text = kind.format_id(id_bytes());
            assert_eq!(IdKind::split_prefix(&text), Some((kind, ID)));
        }
        assert_eq!(IdKind::split_prefix("agt_0199"), None);
    }

    #[test]
    fn the_last_eight_digits_of_an_id_are_random() {
        let made = |random: [u8; 10]| {
            let uuid = uuid::Builder::from_unix_timestamp_millis(1_780_000_000_000, &random).into_uuid();
            RunId::from_uuid(uuid).to_string()
        };
        let (zeros, ones) = (made([0; 10]), made([0xff; 10]));
        assert!(zeros.ends_with("00000000") && ones.ends_with("ffffffff"), "{zeros} {ones}");
    }
}
