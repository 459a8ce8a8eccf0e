//! Arguments of reads, as a store hands them to a thread of its own.
//!
//! A read may borrow a name or a page's place from its caller, which a thread cannot. What an argument owns travels, and the
//! thread lends it to what answers the read.

use jiff::Timestamp;

use super::row::{ApprovalFilter, DeliveryFilter, PageRequest, RunFilter, TailLimits};
use crate::agent::{AgentState, HandleSlug};
use crate::digest::Digest;
use crate::id::TypedId;
use crate::id_fragment::{IdFragment, IdKind};
use crate::session::{InboxOwner, SessionKey};

/// An argument of a read.
pub trait ReadArgument {
    /// The argument without a borrow.
    type Owned: LendArgument + Send + 'static;

    /// Takes the argument out of the caller's hands.
    fn into_owned_argument(self) -> Self::Owned;
}

/// An argument that a thread owns.
pub trait LendArgument {
    /// The argument as what answers the read takes it.
    type Lent<'x>
    where
        Self: 'x;

    /// Lends the argument to one attempt at the read.
    fn lend_argument(&self) -> Self::Lent<'_>;
}

/// Other arguments that are copied.
macro_rules! copied_arguments {
    ($($kind:ty),+ $(,)?) => {
        $(impl ReadArgument for $kind {
            type Owned = Self;

            fn into_owned_argument(self) -> Self {
                self
            }
        }

        impl LendArgument for $kind {
            type Lent<'x> = Self;

            fn lend_argument(&self) -> Self {
                *self
            }
        })+
    };
}

impl<I: TypedId> ReadArgument for I {
    type Owned = Self;

    fn into_owned_argument(self) -> Self {
        self
    }
}

impl<I: TypedId> LendArgument for I {
    type Lent<'x> = Self;

    fn lend_argument(&self) -> Self {
        *self
    }
}

copied_arguments! {
    bool, u64, usize, Timestamp, Digest, AgentState, InboxOwner, RunFilter, ApprovalFilter, TailLimits, IdKind, IdFragment,
}

/// Arguments that are kept as they are and lent by reference.
macro_rules! lent_arguments {
    ($($kind:ty as $lent:ty),+ $(,)?) => {
        $(impl LendArgument for $kind {
            type Lent<'x> = &'x $lent;

            fn lend_argument(&self) -> &$lent {
                self
            }
        }

        impl ReadArgument for &$lent {
            type Owned = $kind;

            fn into_owned_argument(self) -> $kind {
                self.to_owned()
            }
        })+
    };
}

lent_arguments! { String as str, HandleSlug as HandleSlug, SessionKey as SessionKey, DeliveryFilter as DeliveryFilter, Vec<InboxOwner> as [InboxOwner] }

impl ReadArgument for String {
    type Owned = Self;

    fn into_owned_argument(self) -> Self {
        self
    }
}

impl ReadArgument for DeliveryFilter {
    type Owned = Self;

    fn into_owned_argument(self) -> Self {
        self
    }
}

impl<T: ReadArgument> ReadArgument for Option<T> {
    type Owned = Option<T::Owned>;

    fn into_owned_argument(self) -> Self::Owned {
        self.map(ReadArgument::into_owned_argument)
    }
}

impl<T: LendArgument> LendArgument for Option<T> {
    type Lent<'x>
        = Option<T::Lent<'x>>
    where
        T: 'x;

    fn lend_argument(&self) -> Self::Lent<'_> {
        self.as_ref().map(LendArgument::lend_argument)
    }
}

impl<T: ReadArgument> ReadArgument for PageRequest<T> {
    type Owned = PageRequest<T::Owned>;

    fn into_owned_argument(self) -> Self::Owned {
        PageRequest { after: self.after.into_owned_argument(), limit: self.limit }
    }
}

impl<T: LendArgument> LendArgument for PageRequest<T> {
    type Lent<'x>
        = PageRequest<T::Lent<'x>>
    where
        T: 'x;

    fn lend_argument(&self) -> Self::Lent<'_> {
        PageRequest { after: self.after.lend_argument(), limit: self.limit }
    }
}

/// The places of pages of several parts.
macro_rules! places {
    ($(($($part:ident: $index:tt),+))+) => {
        $(impl<$($part: ReadArgument),+> ReadArgument for ($($part,)+) {
            type Owned = ($($part::Owned,)+);

            fn into_owned_argument(self) -> Self::Owned {
                ($(self.$index.into_owned_argument(),)+)
            }
        }

        impl<$($part: LendArgument),+> LendArgument for ($($part,)+) {
            type Lent<'x> = ($($part::Lent<'x>,)+) where $($part: 'x),+;

            fn lend_argument(&self) -> Self::Lent<'_> {
                ($(self.$index.lend_argument(),)+)
            }
        })+
    };
}

places! { (A: 0, B: 1) (A: 0, B: 1, C: 2) }
