//! A token: made, narrowed, handed on, and checked.
//!
//! The library looks at its time limit between two checks and never within one, so a check that joins many facts would
//! have no bound. A holder of a token can append any block; therefore a block that is not exactly lines and the one
//! check which this program writes is no block of a token.
//!
//! Each block names in its context the agent it is for, if it hands the token on; the last one named is the holder.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use biscuit_auth::builder::{Fact, Term};
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::{AuthorizerBuilder, AuthorizerLimits, Biscuit, BlockBuilder, error};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::AgentId;
use jiff::Timestamp;

use super::right::{Resource, Right};
use super::root::{RootKey, RootKeys, key_of};
use super::token_error::TokenError;

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;
/// The most blocks of a token.
pub const BLOCKS_MAX: usize = 16;
/// The most rights of a block.
pub const RIGHTS_MAX: usize = 64;
/// The most time of one check. A check takes a fraction of a millisecond; a busy machine stops a thread for long.
pub const TIME_MAX: Duration = Duration::from_millis(500);

const FACTS_MAX: u64 = 4096;
const ITERATIONS_MAX: u64 = 32;

/// What a block says that takes away: one of its own lines covers what is asked. It is written as the library prints it.
const NARROWS: &str =
    "check if narrow($k, $p, $u, $m), asks($k), within($p), now($t), wall($w), $t < $u, $w <= $m";
/// What allows: one of the lines that the root key signed covers what is asked.
const ALLOWS: &str =
    "allow if right($k, $p, $u, $m), asks($k), within($p), now($t), wall($w), $t < $u, $w <= $m";

/// Names one block of one token, so that it and everything made from it can be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId(pub Digest);

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One access to check.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// Who presents the token.
    pub presenter: AgentId,
    /// One file, host or tool.
    pub resource: &'a Resource,
    /// How long the call may take, in milliseconds.
    pub wall_ms: u32,
    /// Now.
    pub at: Timestamp,
}

/// A token whose signatures were checked.
#[derive(Debug, Clone)]
pub struct CapabilityToken {
    biscuit: Biscuit,
    holders: Vec<AgentId>,
}

impl CapabilityToken {
    /// Grants rights to an agent. `fresh` are 32 bytes that are used for no other block, before or after.
    pub fn grant_rights(
        root: &RootKey,
        holder: AgentId,
        rights: &[Right],
        fresh: &[u8; 32],
    ) -> Result<Self, TokenError> {
        let mut builder = Biscuit::builder().root_key_id(root.key_id()).context(holder.to_string());
        for right in right_facts("right", rights)? {
            builder = builder.fact(right).map_err(|_| TokenError::Forged)?;
        }
        let biscuit = builder
            .build_with_key_pair(root.key_pair(), SymbolTable::new(), &key_of(fresh)?)
            .map_err(|_| TokenError::Forged)?;
        Self::new(biscuit)
    }

    /// Makes a token that allows what this one and these rights allow both; for another agent, if one is named.
    pub fn narrow_rights(
        &self,
        holder: Option<AgentId>,
        rights: &[Right],
        fresh: &[u8; 32],
    ) -> Result<Self, TokenError> {
        let mut block = BlockBuilder::new();
        if let Some(holder) = holder {
            block = block.context(holder.to_string());
        }
        for line in right_facts("narrow", rights)? {
            block = block.fact(line).map_err(|_| TokenError::Forged)?;
        }
        let block = block.check(NARROWS).map_err(|_| TokenError::Forged)?;
        match self.biscuit.append_with_keypair(&key_of(fresh)?, block) {
            Ok(biscuit) => Self::new(biscuit),
            Err(error::Token::AppendOnSealed | error::Token::AlreadySealed) => Err(TokenError::Sealed),
            Err(_) => Err(TokenError::Forged),
        }
    }

    /// Returns the bytes that [`RootKeys::open_token`](super::RootKeys::open_token) reads.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TokenError> {
        let bytes = self.biscuit.to_vec().map_err(|_| TokenError::Forged)?;
        if bytes.len() > TOKEN_BYTES_MAX { Err(TokenError::TooLong) } else { Ok(bytes) }
    }

    /// Lists whose it was and is, the holder last.
    pub fn holders(&self) -> &[AgentId] {
        &self.holders
    }

    /// Lists what its blocks are revoked by, the first block's first.
    pub fn revocation_ids(&self) -> Vec<RevocationId> {
        let ids = self.biscuit.revocation_identifiers().into_iter();
        ids.map(|id| RevocationId(Digest::from_bytes(*blake3::hash(&id).as_bytes()))).collect()
    }

    /// Says whether the token allows what is asked, now.
    pub fn check_access(
        &self,
        asked: &AccessRequest<'_>,
        revoked: &BTreeSet<RevocationId>,
    ) -> Result<(), TokenDenied> {
        if let Some(block) = self.revocation_ids().iter().position(|id| revoked.contains(id)) {
            return Err(TokenDenied::Revoked { block });
        }
        if self.holders.last() != Some(&asked.presenter) {
            return Err(TokenDenied::NotHolder { presenter: asked.presenter });
        }
        if asked.resource.is_pattern() {
            return Err(TokenDenied::Uncovered { asked: asked.resource.clone() });
        }
        let limits =
            AuthorizerLimits { max_facts: FACTS_MAX, max_iterations: ITERATIONS_MAX, max_time: TIME_MAX };
        let uncovered = || TokenDenied::Uncovered { asked: asked.resource.clone() };
        self.run_authorizer(asked, limits).map_err(|error| match error {
            error::Token::RunLimit(_) => TokenDenied::Exhausted,
            error::Token::FailedLogic(_) => uncovered(),
            _ => TokenDenied::Broken,
        })
    }

    fn run_authorizer(
        &self,
        asked: &AccessRequest<'_>,
        limits: AuthorizerLimits,
    ) -> Result<(), error::Token> {
        let mut builder = AuthorizerBuilder::new()
            .set_limits(limits)
            .fact(named_fact("asks", vec![string_term(asked.resource.kind_name())]))?
            .fact(named_fact("now", vec![Term::Integer(asked.at.as_second())]))?
            .fact(named_fact("wall", vec![Term::Integer(i64::from(asked.wall_ms))]))?;
        for place in asked.resource.enclosing_places() {
            builder = builder.fact(named_fact("within", vec![string_term(&place)]))?;
        }
        builder.policy(ALLOWS)?.build(&self.biscuit)?.authorize().map(drop)
    }

    /// Takes a token whose signatures hold, if it is within its bounds.
    pub(super) fn new(biscuit: Biscuit) -> Result<Self, TokenError> {
        if biscuit.block_count() > BLOCKS_MAX {
            return Err(TokenError::TooDeep);
        }
        if biscuit.external_public_keys().iter().any(Option::is_some) {
            return Err(TokenError::ThirdParty);
        }
        if !(0..biscuit.block_count()).all(|index| is_own(&biscuit, index)) {
            return Err(TokenError::Strange);
        }
        let contexts = biscuit.context();
        let is_named = contexts.first().is_some_and(Option::is_some);
        let holders: Result<Vec<AgentId>, _> = contexts.iter().flatten().map(|text| text.parse()).collect();
        match holders {
            Ok(holders) if is_named => Ok(Self { biscuit, holders }),
            Ok(_) | Err(_) => Err(TokenError::Nobody),
        }
    }
}

/// Tells whether a block is one that this program writes. What the root key signed may say what it likes.
fn is_own(biscuit: &Biscuit, index: usize) -> bool {
    let (Ok(symbols), Ok(source)) = (biscuit.block_symbols(index), biscuit.print_block_source(index)) else {
        return false;
    };
    // Without these a printed line means one thing only.
    if !symbols.iter().all(|symbol| is_plain(symbol)) {
        return false;
    }
    let Some(lines) = source.strip_suffix(";\n").and_then(|source| source.strip_suffix(NARROWS)) else {
        return index == 0;
    };
    let is_fact =
        |line: &str| !line.contains('<') && !line.starts_with("check") && !line.starts_with("reject");
    lines.lines().count() <= RIGHTS_MAX && lines.lines().all(is_fact)
}

/// Tells whether a text has nothing in it that could be taken for the end of a text, for a variable or for a rule.
fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || matches!(c, '(' | ')' | '$' | '"' | ';' | '<'))
}

/// Writes rights as the lines of a block.
fn right_facts(name: &'static str, rights: &[Right]) -> Result<Vec<Fact>, TokenError> {
    if rights.len() > RIGHTS_MAX {
        return Err(TokenError::TooManyRights { found: rights.len() });
    }
    if !rights.iter().all(|right| is_plain(right.resource.place_text())) {
        return Err(TokenError::Place);
    }
    let of = |right: &Right| {
        let until = right.until.map_or(i64::MAX, Timestamp::as_second);
        let wall = right.wall_ms_max.map_or(i64::MAX, i64::from);
        let (kind, place) =
            (string_term(right.resource.kind_name()), string_term(right.resource.place_text()));
        named_fact(name, vec![kind, place, Term::Integer(until), Term::Integer(wall)])
    };
    Ok(rights.iter().map(of).collect())
}

fn named_fact(name: &str, terms: Vec<Term>) -> Fact {
    Fact::new(name.to_owned(), terms)
}

fn string_term(text: &str) -> Term {
    Term::Str(text.to_owned())
}

impl RootKeys {
    /// Checks the signatures of a token, and that it is within its bounds.
    pub fn open_token(&self, bytes: &[u8]) -> Result<CapabilityToken, TokenError> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let keys = self.clone();
        let choose = move |id: Option<u32>| keys.find_key(id).ok_or(error::Format::UnknownPublicKey);
        match Biscuit::from(bytes, choose) {
            Ok(biscuit) => CapabilityToken::new(biscuit),
            Err(error::Token::Format(error::Format::UnknownPublicKey)) => Err(TokenError::UnknownRoot),
            Err(_) => Err(TokenError::Forged),
        }
    }
}

/// Says why a token does not allow what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenDenied {
    /// It, or what it was made from, was revoked.
    #[error("block {block} of the token was revoked")]
    Revoked {
        /// Which block, the first is 0.
        block: usize,
    },
    /// The presenter does not hold it.
    #[error("{presenter} is not the holder of the token")]
    NotHolder {
        /// Who presents it.
        presenter: AgentId,
    },
    /// One of its blocks does not cover it, or not any more, or not for so long.
    #[error("the token does not cover {asked}")]
    Uncovered {
        /// What was asked for.
        asked: Resource,
    },
    /// The check exceeded a bound.
    #[error("the check of the token takes too long")]
    Exhausted,
    /// The token says something that cannot be computed.
    #[error("the token contains a value that cannot be computed")]
    Broken,
}
