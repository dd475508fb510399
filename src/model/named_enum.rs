//! Enums whose variants have fixed names, in reports and in the trace.

/// Declares an enum with the name of each variant.
macro_rules! named_enum {
    (
        $(#[$about:meta])*
        pub enum $enum:ident {
            $($(#[$doc:meta])* $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $enum {
            $($(#[$doc])* $variant,)+
        }

        impl $enum {
            /// Every variant, in the order in which tables and legends list them.
            pub const ALL: [$enum; [$($name),+].len()] = [$($enum::$variant),+];

            /// Its name in reports and in the trace.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)+
                }
            }

            /// The variant of that name.
            pub fn from_name(name: &str) -> Option<$enum> {
                $enum::ALL.into_iter().find(|variant| variant.as_str() == name)
            }
        }
    };
}

pub(super) use named_enum;
