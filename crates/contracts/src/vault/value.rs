//! Values and keys in memory: wiped when they are dropped, with no serde and no `Display`, and with a `Debug` that shows
//! nothing.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

/// The shortest value: too many texts contain a shorter one by chance to look for it.
pub const VALUE_BYTES_MIN: usize = 8;

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 << 10;

/// A secret's value in memory. It is wiped when it is dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

/// Says why a text is no value of a secret, without the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretValueError {
    /// It is too short to be distinguished from other text.
    #[error("a value must have at least {VALUE_BYTES_MIN} bytes")]
    Short,
    /// It is too long.
    #[error("a value may have at most {VALUE_BYTES_MAX} bytes")]
    Long,
    /// It could not be put into a request.
    #[error("a value must not contain control characters; a line break is one")]
    Control,
}

impl SecretValue {
    /// Takes a value.
    pub fn new(text: String) -> Result<Self, SecretValueError> {
        let value = Self(Zeroizing::new(text));
        match value.0.len() {
            0..VALUE_BYTES_MIN => Err(SecretValueError::Short),
            VALUE_BYTES_MIN..=VALUE_BYTES_MAX if value.0.chars().any(char::is_control) => {
                Err(SecretValueError::Control)
            }
            VALUE_BYTES_MIN..=VALUE_BYTES_MAX => Ok(value),
            _ => Err(SecretValueError::Long),
        }
    }

    /// Exposes the value, to seal it, send it or look for it.
    pub fn expose_secret(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(redacted)")
    }
}

/// A key in memory. It is wiped when it is dropped.
#[derive(Clone)]
pub struct KeyBytes(Zeroizing<[u8; 32]>);

impl KeyBytes {
    /// Takes a key; the caller's own copy is wiped.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let key = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        key
    }

    /// Exposes the key, to seal and open.
    pub fn expose_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_bounds() {
        let made = |text: String| SecretValue::new(text).map(drop);
        assert_eq!(made("1234567".to_owned()), Err(SecretValueError::Short));
        assert_eq!(made("12345678".to_owned()), Ok(()));
        assert_eq!(made("x".repeat(VALUE_BYTES_MAX)), Ok(()));
        assert_eq!(made("x".repeat(VALUE_BYTES_MAX + 1)), Err(SecretValueError::Long));
        assert_eq!(made("1234567\n".to_owned()), Err(SecretValueError::Control));
    }
}
