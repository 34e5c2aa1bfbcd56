//! The evaluation context: who is asking.

use super::operator::{SHORT, same, same_short};
use super::value::{Object, ObjectSource, Value};

/// Where a rule finds the attributes it names. Implemented by [`Context`] and by each language's own context type, so that
/// only what a rule needs is ever read.
pub trait Attributes {
    /// The targeting key: who or what the flag is decided for, usually a user's or session's id.
    /// `None` and [`Value::Null`] both mean there is none.
    fn targeting_key(&self) -> Option<Value<'_>>;

    /// The attribute called `name` (text as bytes, usually UTF-8), `None` where there is none. Never asked for
    /// `targetingKey` or `$flagd`: those are the evaluator's, so that no attribute can stand in for them.
    fn attribute(&self, name: &[u8]) -> Option<Value<'_>>;
}

/// How many attributes a [`Context`] holds in place.
const INLINE: usize = 8;

/// An evaluation context that borrows everything: building and reading one allocates nothing up to eight
/// attributes added by [`with`](Self::with), and nothing at all when they come as one slice.
///
/// ```
/// use libflags::Context;
/// let context = Context::new("user-1").with("tier", "premium").with("age", 42);
/// # let _ = context;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    targeting_key: Option<&'a str>,
    borrowed: &'a [(&'a str, Value<'a>)],
    inline: [(&'a str, Value<'a>); INLINE],
    inline_len: usize,
    spilled: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Context<'a> {
    /// A context with a targeting key and no attributes.
    #[must_use]
    pub fn new(targeting_key: &'a str) -> Self {
        Self { targeting_key: Some(targeting_key), ..Self::default() }
    }

    /// A context without a targeting key.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A context over attributes the caller keeps, in one slice.
    #[must_use]
    pub fn from_slice(targeting_key: Option<&'a str>, attributes: &'a [(&'a str, Value<'a>)]) -> Self {
        Self { targeting_key, borrowed: attributes, ..Self::default() }
    }

    /// Adds an attribute; of two with one name the one added last counts. Past eight attributes it allocates.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: impl Into<Value<'a>>) -> Self {
        let attribute = (name, value.into());
        match self.inline.get_mut(self.inline_len) {
            Some(place) => {
                *place = attribute;
                self.inline_len += 1;
            }
            None => self.spilled.push(attribute),
        }
        self
    }
}

impl Attributes for Context<'_> {
    #[inline]
    fn targeting_key(&self) -> Option<Value<'_>> {
        self.targeting_key.map(Value::from)
    }

    #[inline]
    fn attribute(&self, name: &[u8]) -> Option<Value<'_>> {
        if !self.spilled.is_empty() || !self.borrowed.is_empty() || name.len() > SHORT {
            return self.attribute_anywhere(name);
        }
        let found = last_called(self.inline.get(..self.inline_len)?, |other| same_short(other, name));
        found.map(|(_, value)| *value)
    }
}

impl<'a> Context<'a> {
    /// What was added last counts, and what was added counts before what the context was made of.
    #[inline(never)]
    fn attribute_anywhere(&self, name: &[u8]) -> Option<Value<'a>> {
        let inline = self.inline.get(..self.inline_len).unwrap_or_default();
        let places = [&self.spilled, inline, self.borrowed].into_iter();
        let found = places.filter_map(|attributes| last_called(attributes, |other| same(other, name))).next();
        found.map(|(_, value)| *value)
    }
}

#[inline(always)]
fn last_called<'c, 'a>(
    attributes: &'c [(&'a str, Value<'a>)],
    is_called: impl Fn(&[u8]) -> bool,
) -> Option<&'c (&'a str, Value<'a>)> {
    let mut left = attributes;
    while let [before @ .., last] = left {
        if is_called(last.0.as_bytes()) {
            return Some(last);
        }
        left = before;
    }
    None
}

/// A context is an object in the reader's own words: `{"var": "a"}` asks it for `a`.
impl ObjectSource for Context<'_> {
    fn member(&self, name: &[u8]) -> Option<Value<'_>> {
        self.attribute(name)
    }
}

impl Attributes for Object<'_> {
    fn targeting_key(&self) -> Option<Value<'_>> {
        self.member(b"targetingKey")
    }

    fn attribute(&self, name: &[u8]) -> Option<Value<'_>> {
        self.member(name)
    }
}
