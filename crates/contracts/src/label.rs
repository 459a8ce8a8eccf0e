//! Information-flow labels: how far a text may be trusted, and who may read it.
//!
//! Every content part carries one. Joining two labels never raises trust and never widens the readers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::parsed::parsed;

/// Whether a text may steer actions by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntegrityLevel {
    /// The authenticated actor's typed text, the operator's files, facts of built-in tools.
    Trusted,
    /// Everything else: files of unknown origin, model output, other systems.
    Untrusted,
}

/// Who may read a text; each set contains the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReaderSet {
    /// Anyone.
    Public,
    /// Everyone of the tenant.
    Tenant,
    /// The agent and those it works for.
    Agent,
    /// The one actor.
    Actor,
}

/// Integrity and readers of one content part. Its text form is `trusted/actor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label {
    /// How far the text may be trusted.
    pub integrity: IntegrityLevel,
    /// Who may read it.
    pub readers: ReaderSet,
}

impl Label {
    /// The label of what an authenticated actor typed.
    pub const ACTOR_TEXT: Self = Self { integrity: IntegrityLevel::Trusted, readers: ReaderSet::Actor };
    /// The label of a fact that a built-in tool states, such as the time.
    pub const PUBLIC_FACT: Self = Self { integrity: IntegrityLevel::Trusted, readers: ReaderSet::Public };
    /// The label of a file whose origin is not recorded.
    pub const UNKNOWN_FILE: Self = Self { integrity: IntegrityLevel::Untrusted, readers: ReaderSet::Agent };

    /// The label of what another system answered: it is untrusted here, and what an agent asked for is its own.
    pub const OUTSIDE: Self = Self { integrity: IntegrityLevel::Untrusted, readers: ReaderSet::Agent };

    /// The label of what an actor says that an assistant or a tool said before: this server did not see it. And of a
    /// picture that an actor shows: who made it is unknown.
    pub const CLAIM: Self = Self { integrity: IntegrityLevel::Untrusted, readers: ReaderSet::Actor };

    /// Joins two labels: the lower trust and the narrower readers.
    pub fn join(self, other: Self) -> Self {
        Self { integrity: self.integrity.max(other.integrity), readers: self.readers.max(other.readers) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let integrity = match self.integrity {
            IntegrityLevel::Trusted => "trusted",
            IntegrityLevel::Untrusted => "untrusted",
        };
        let readers = match self.readers {
            ReaderSet::Public => "public",
            ReaderSet::Tenant => "tenant",
            ReaderSet::Agent => "agent",
            ReaderSet::Actor => "actor",
        };
        write!(f, "{integrity}/{readers}")
    }
}

/// Says that a text names no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a label such as trusted/actor, found {0:?}")]
pub struct ParseLabelError(pub String);

impl FromStr for Label {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseLabelError(text.chars().take(64).collect());
        let (integrity, readers) = text.split_once('/').ok_or_else(unknown)?;
        let integrity = match integrity {
            "trusted" => IntegrityLevel::Trusted,
            "untrusted" => IntegrityLevel::Untrusted,
            _ => return Err(unknown()),
        };
        let readers = match readers {
            "public" => ReaderSet::Public,
            "tenant" => ReaderSet::Tenant,
            "agent" => ReaderSet::Agent,
            "actor" => ReaderSet::Actor,
            _ => return Err(unknown()),
        };
        Ok(Self { integrity, readers })
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGRITIES: [IntegrityLevel; 2] = [IntegrityLevel::Trusted, IntegrityLevel::Untrusted];
    const READERS: [ReaderSet; 4] =
        [ReaderSet::Public, ReaderSet::Tenant, ReaderSet::Agent, ReaderSet::Actor];

    #[test]
    fn joining_never_raises_trust_and_never_widens_readers() {
        let labels = || {
            INTEGRITIES
                .into_iter()
                .flat_map(|integrity| READERS.into_iter().map(move |readers| Label { integrity, readers }))
        };
        for a in labels() {
            assert_eq!(a.join(Label::PUBLIC_FACT), a, "a public fact taints nothing");
            for b in labels() {
                let joined = a.join(b);
                assert!(joined.integrity >= a.integrity && joined.readers >= a.readers);
                assert_eq!(joined, b.join(a));
                assert_eq!(a.join(joined), joined, "joining again changes nothing");
                assert!(labels().all(|c| a.join(b).join(c) == a.join(b.join(c))));
                assert_eq!(joined.to_string().parse(), Ok(joined));
            }
        }
    }
}
