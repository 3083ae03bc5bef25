//! The small macros that declare constants, flag sets, enumerations and structures, so that each is one list.
//!
//! Names are Linux's own, and their meaning is that of the manual pages; the macros give each a doc line.

/// Declares plain constants of one type.
macro_rules! consts {
    ($ty:ty: $($(#[$meta:meta])* $name:ident = $value:expr,)*) => {
        $(
            $(#[$meta])*
            #[doc = concat!("Linux's `", stringify!($name), "`.")]
            pub const $name: $ty = $value;
        )*
    };
}

/// Declares a set of flags without a way to print it; overlapping names go largest first.
macro_rules! flag_set {
    ($(#[$($meta:tt)*])* pub struct $name:ident: $repr:ident { $($(#[$($fmeta:tt)*])* $flag:ident = $value:expr,)* }) => {
        ::bitflags::bitflags! {
            $(#[$($meta)*])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $name: $repr {
                $(
                    $(#[$($fmeta)*])*
                    #[doc = concat!("Linux's `", stringify!($flag), "`.")]
                    const $flag = $value;
                )*
            }
        }
        impl $crate::FromRegister for $name {
            fn from_register(value: u64) -> Self {
                Self::from_bits_retain(value as $repr)
            }
        }
    };
}

/// Declares a set of flags that prints as `A|B|0x40`; an empty one as the name after `zero`, or `0`.
macro_rules! flags {
    (zero $zero:ident; $(#[$($meta:tt)*])* pub struct $name:ident: $repr:ident { $($body:tt)* }) => {
        flag_set! { $(#[$($meta)*])* pub struct $name: $repr { $($body)* } }
        impl $name {
            #[doc = concat!("Linux's `", stringify!($zero), "`: no flag at all.")]
            pub const $zero: Self = Self::empty();
        }
        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                $crate::macros::spell(f, stringify!($zero), self)
            }
        }
    };
    ($(#[$($meta:tt)*])* pub struct $name:ident: $repr:ident { $($body:tt)* }) => {
        flag_set! { $(#[$($meta)*])* pub struct $name: $repr { $($body)* } }
        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                $crate::macros::spell(f, "0", self)
            }
        }
    };
}

/// Writes the names of the flags that are set, then what has no name in hexadecimal.
pub(crate) fn spell<B, F>(f: &mut core::fmt::Formatter<'_>, zero: &str, flags: &F) -> core::fmt::Result
where
    B: core::fmt::LowerHex + PartialEq + bitflags::Bits,
    F: bitflags::Flags<Bits = B>,
{
    let mut names = flags.iter_names();
    let mut bar = "";
    for (name, _) in names.by_ref() {
        write!(f, "{bar}{name}")?;
        bar = "|";
    }
    let rest = names.remaining().bits();
    match (bar, rest == B::EMPTY) {
        ("", true) => f.write_str(zero),
        (_, true) => Ok(()),
        (_, false) => write!(f, "{bar}{rest:#x}"),
    }
}

/// Declares a number whose values have names, open to values without one.
macro_rules! named {
    ($(#[$meta:meta])* pub struct $name:ident($repr:ident) { $($(#[$cmeta:meta])* $const:ident = $value:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($repr);

        impl $name {
            $(
                $(#[$cmeta])*
                #[doc = concat!("Linux's `", stringify!($const), "`.")]
                pub const $const: Self = Self($value);
            )*

            /// The value with this number, whether or not it has a name.
            pub const fn from_raw(raw: $repr) -> Self {
                Self(raw)
            }

            /// The number itself.
            pub const fn raw(self) -> $repr {
                self.0
            }
        }

        impl $crate::Named for $name {
            fn name(&self) -> Option<&'static str> {
                const NAMES: &[($repr, &str)] = &[$(($name::$const.0, stringify!($const))),*];
                NAMES.iter().find(|(value, _)| *value == self.0).map(|(_, name)| *name)
            }
        }

        impl $crate::FromRegister for $name {
            fn from_register(value: u64) -> Self {
                Self(value as $repr)
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match $crate::Named::name(self) {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{:#x}", self.0),
                }
            }
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    };
}

/// Declares structures as they lie in guest memory, each with the size Linux gives it; the default is all zero.
macro_rules! layout {
    ($($(#[$meta:meta])* pub struct $name:ident: $size:literal { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(
                Clone,
                Copy,
                Debug,
                PartialEq,
                Eq,
                ::zerocopy::FromBytes,
                ::zerocopy::IntoBytes,
                ::zerocopy::Immutable,
                ::zerocopy::KnownLayout,
            )]
            #[repr(C)]
            pub struct $name {
                $(
                    $(#[$fmeta])*
                    #[doc = concat!("Linux's `", stringify!($field), "`.")]
                    pub $field: $ty,
                )*
            }

            impl Default for $name {
                fn default() -> Self {
                    ::zerocopy::FromZeros::new_zeroed()
                }
            }

            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}
