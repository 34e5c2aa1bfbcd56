//! What an evaluation context holds: values borrowed from the caller, never copied.

use std::fmt;

use crate::snapshot::island::Literals;

/// One value of an evaluation context, or of a rule in the middle of its evaluation.
///
/// A value borrows: building one allocates nothing. Text is bytes, usually UTF-8; text that is not UTF-8 compares as
/// the bytes it is and is never refused, so that a C caller pays for no check.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Value<'a> {
    /// JSON `null`; also what an absent attribute reads as.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. Rules compute in IEEE 754 doubles, so beyond ±(2^53-1) a comparison may round.
    Int(i64),
    /// A double. JSON has no NaN or infinity, but a C caller may pass one: it then compares as JavaScript's would.
    Float(f64),
    /// Text.
    Text(&'a [u8]),
    /// An ordered list.
    List(List<'a>),
    /// Named values.
    Object(Object<'a>),
}

/// An ordered list of [`Value`]s: a slice, or something foreign that can be asked for its elements.
#[derive(Clone, Copy)]
pub struct List<'a>(pub(crate) ListKind<'a>);

#[derive(Clone, Copy)]
pub(crate) enum ListKind<'a> {
    Slice(&'a [Value<'a>]),
    Foreign(&'a dyn ListSource),
    /// Written in the rule.
    Literal(Literals<'a>),
}

/// Named [`Value`]s: a slice of pairs, or something foreign that can be asked by name.
#[derive(Clone, Copy)]
pub struct Object<'a>(pub(crate) ObjectKind<'a>);

#[derive(Clone, Copy)]
pub(crate) enum ObjectKind<'a> {
    Slice(&'a [(&'a str, Value<'a>)]),
    Foreign(&'a dyn ObjectSource),
    /// Written in the rule.
    Literal(Literals<'a>),
    /// What `reduce` shows its rule.
    Step(&'a [Value<'a>; 2]),
}

/// A list in somebody else's memory layout (a C array, a Python list), read in place.
pub trait ListSource {
    /// How many elements it has.
    fn len(&self) -> usize;
    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The element at `index`; `None` past the end.
    fn element(&self, index: usize) -> Option<Value<'_>>;
}

/// Named values in somebody else's memory layout, read in place.
pub trait ObjectSource {
    /// The value called `name` (text as bytes, usually UTF-8); `None` where there is none.
    fn member(&self, name: &[u8]) -> Option<Value<'_>>;
}

impl<'a> List<'a> {
    /// A list over elements the caller keeps.
    #[must_use]
    pub const fn new(elements: &'a [Value<'a>]) -> Self {
        Self(ListKind::Slice(elements))
    }

    /// A list read through `source`.
    #[must_use]
    pub const fn foreign(source: &'a dyn ListSource) -> Self {
        Self(ListKind::Foreign(source))
    }

    /// How many elements it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            ListKind::Slice(elements) => elements.len(),
            ListKind::Foreign(source) => source.len(),
            ListKind::Literal(literals) => literals.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`; `None` past the end.
    #[must_use]
    pub fn element(&self, index: usize) -> Option<Value<'a>> {
        match self.0 {
            ListKind::Slice(elements) => elements.get(index).copied(),
            ListKind::Foreign(source) => source.element(index),
            ListKind::Literal(literals) => literals.element(index),
        }
    }
}

impl<'a> Object<'a> {
    /// An object over members the caller keeps; where a name stands twice the first counts.
    #[must_use]
    pub const fn new(members: &'a [(&'a str, Value<'a>)]) -> Self {
        Self(ObjectKind::Slice(members))
    }

    /// An object read through `source`.
    #[must_use]
    pub const fn foreign(source: &'a dyn ObjectSource) -> Self {
        Self(ObjectKind::Foreign(source))
    }

    /// The member called `name`; `None` where there is none.
    #[must_use]
    pub fn member(&self, name: &[u8]) -> Option<Value<'a>> {
        match self.0 {
            ObjectKind::Slice(members) => {
                members.iter().find(|(other, _)| other.as_bytes() == name).map(|(_, value)| *value)
            }
            ObjectKind::Foreign(source) => source.member(name),
            ObjectKind::Literal(literals) => literals.member(name),
            ObjectKind::Step([current, accumulator]) => match name {
                b"current" => Some(*current),
                b"accumulator" => Some(*accumulator),
                _ => None,
            },
        }
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).filter_map(|index| self.element(index))).finish()
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ObjectKind::Slice(members) => {
                f.debug_map().entries(members.iter().map(|(name, value)| (name, value))).finish()
            }
            _ => f.write_str("{..}"),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.as_bytes())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl<'a> From<List<'a>> for Value<'a> {
    fn from(list: List<'a>) -> Self {
        Self::List(list)
    }
}

impl<'a> From<Object<'a>> for Value<'a> {
    fn from(object: Object<'a>) -> Self {
        Self::Object(object)
    }
}

impl<'a> From<&'a [Value<'a>]> for Value<'a> {
    fn from(elements: &'a [Value<'a>]) -> Self {
        Self::List(List::new(elements))
    }
}
