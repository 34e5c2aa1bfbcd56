//! One checked flag: what the definition stage hands to the compile stage.

use crate::compile::rule::Rule;

/// A flag that broke no rule of the definition format.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// Its key: 1 to 256 bytes of UTF-8 without NUL.
    pub key: String,
    /// Whether `state` is `ENABLED`.
    pub enabled: bool,
    /// The type that all its variants share.
    pub kind: ValueKind,
    /// Its variants in the order written, names unique; at least one.
    pub variants: Vec<Variant>,
    /// Which variant is the default one, by place in `variants`; `None` leaves it to the caller's code default.
    pub default_variant: Option<usize>,
    /// Its targeting; `None` also for `{}` and `null`.
    pub targeting: Option<Rule>,
    /// Its own metadata in the order written, names unique; `null`s left out.
    pub metadata: Vec<(String, Scalar)>,
}

/// A named value of a flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name; not empty.
    pub name: String,
    /// Its value.
    pub value: VariantValue,
}

/// The types a flag can have, with their numbers in the snapshot and in the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// `true` or `false`.
    Bool = 1,
    /// Text.
    Text = 2,
    /// A number; read as an integer where that loses nothing.
    Number = 3,
    /// An object or array.
    Json = 4,
}

/// A variant's value.
#[derive(Clone, Debug, PartialEq)]
pub enum VariantValue {
    /// A boolean flag's.
    Bool(bool),
    /// A string flag's.
    Text(String),
    /// A number flag's: finite, within ±(2^53-1).
    Number(f64),
    /// An object flag's: compact JSON text of an object or array, member order and number spelling as written.
    Json(String),
}

/// A value of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number, within ±(2^53-1).
    Number(f64),
    /// Text.
    Text(String),
}
