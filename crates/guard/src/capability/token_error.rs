//! Why bytes are no capability token, or why one cannot be narrowed.

/// Says why a token is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than a token may be.
    #[error("the token is longer than 65536 bytes")]
    TooLong,
    /// It was narrowed too often.
    #[error("the token has more than 16 blocks")]
    TooDeep,
    /// A block has too many rights.
    #[error("there are {found} rights; a block holds at most 64")]
    TooManyRights {
        /// How many there are.
        found: usize,
    },
    /// There are too many keys.
    #[error("there are {found} root keys; at most 2 count at a time")]
    TooManyRoots {
        /// How many there are.
        found: usize,
    },
    /// It begins with a key that does not count: another tenant's, or one that was replaced.
    #[error("the token begins with a root key that is not valid here")]
    UnknownRoot,
    /// Its bytes are no token, or a signature does not hold.
    #[error("the token cannot be read, or one of its signatures is wrong")]
    Forged,
    /// It has a block with a third-party signature.
    #[error("another key signed a block of the token")]
    ThirdParty,
    /// A block of it is none that a program like this one writes.
    #[error("a block of the token contains more than rights")]
    Strange,
    /// A right has a place that no token can hold.
    #[error("the place of a right contains one of ( ) $ \" ; <; grant the directory above instead")]
    Place,
    /// It does not say whose it is.
    #[error("the token does not name the agent that holds it")]
    Nobody,
    /// It is sealed, so no block can be appended.
    #[error("the token is sealed, so it cannot be narrowed or delegated")]
    Sealed,
    /// The bytes of a key are no key.
    #[error("the bytes are not a key")]
    Key,
}
