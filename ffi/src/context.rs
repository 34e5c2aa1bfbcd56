//! The evaluation context as C holds it.

use std::ffi::c_char;
use std::mem::size_of;

use libflags::Value as CoreValue;
use libflags::evaluate::Attributes;

use crate::value::{Attribute, find};
use crate::view;

/// Who is asking: on the caller's stack, usually, and only what a rule needs of it is read.
///
/// Set `struct_size` to `sizeof(flags_context)` (`FLAGS_CONTEXT_INIT` does) and leave what you don't use zero. The context
/// and all it points to must stay unchanged during a call, and is never kept beyond it. NULL stands for an empty context.
///
/// A context that cannot be (an impossible `struct_size`, `attributes` NULL with a `count`) makes the `flags_bool` family
/// answer the fallback, and `flags_evaluate` answer `FLAGS_ERROR_INVALID_CONTEXT`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// `sizeof(flags_context)`.
    pub struct_size: usize,
    /// Who or what the flag is decided for, usually a user's or session's id; NULL where there is none.
    pub targeting_key: *const c_char,
    /// Everything else that is known, `count` of them. No attribute stands in for `targetingKey` or `$flagd`.
    pub attributes: *const Attribute,
    /// How many attributes.
    pub count: usize,
    /// How many bytes the targeting key has, or 0 where it ends with a NUL.
    pub targeting_key_length: usize,
}

/// The first version of the struct ended here.
const SMALLEST: usize = size_of::<Context>();

/// A context whose outside is checked, and whose inside is read when a rule asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    targeting_key: *const c_char,
    targeting_key_length: usize,
    attributes: &'a [Attribute],
}

impl Checked<'_> {
    /// No targeting key and no attributes.
    pub(crate) const EMPTY: Self = Self { targeting_key: std::ptr::null(), targeting_key_length: 0, attributes: &[] };

    /// Checks what C gave as a context; `None` where it cannot be one.
    ///
    /// # Safety
    /// `context` is NULL, or points to a `flags_context` that keeps what its comment says for as long as this value lives.
    #[inline(always)]
    pub(crate) unsafe fn new(context: *const Context) -> Option<Self> {
        if context.is_null() {
            return Some(Self::EMPTY);
        }
        if !context.is_aligned() {
            return None;
        }
        // SAFETY: not NULL and aligned; the caller vouches for at least the `size_t` at the beginning.
        let struct_size = unsafe { context.cast::<usize>().read() };
        if !(SMALLEST..=view::STRUCT_SIZE_MAX).contains(&struct_size) {
            return None;
        }
        // SAFETY: `struct_size` says the whole struct is there, and any bytes are a valid one.
        let context = unsafe { &*context };
        // SAFETY: the caller vouches for `count` attributes.
        let attributes = unsafe { view::array(context.attributes, context.count) }?;
        let (targeting_key, targeting_key_length) = (context.targeting_key, context.targeting_key_length);
        Some(Self { targeting_key, targeting_key_length, attributes })
    }
}

impl Attributes for Checked<'_> {
    #[inline]
    fn targeting_key(&self) -> Option<CoreValue<'_>> {
        // SAFETY: the caller of `new` vouches for the text for as long as `self` lives.
        unsafe { view::sized_or_terminated(self.targeting_key, self.targeting_key_length) }.map(CoreValue::Text)
    }

    #[inline]
    fn attribute(&self, name: &[u8]) -> Option<CoreValue<'_>> {
        find(self.attributes, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    const EMPTY: Context = Context {
        struct_size: size_of::<Context>(),
        targeting_key: std::ptr::null(),
        attributes: std::ptr::null(),
        count: 0,
        targeting_key_length: 0,
    };

    #[test]
    fn a_context_is_read_in_place() {
        let attributes = [Attribute { name: c"plan".as_ptr(), name_length: 0, value: Value::string("pro") }];
        let context = Context {
            targeting_key: c"user-1".as_ptr(),
            attributes: attributes.as_ptr(),
            count: attributes.len(),
            ..EMPTY
        };
        // SAFETY: everything lives until the end of the test.
        let checked = unsafe { Checked::new(&context) }.expect("a context");
        assert!(matches!(checked.targeting_key(), Some(CoreValue::Text(b"user-1"))));
        assert!(matches!(checked.attribute(b"plan"), Some(CoreValue::Text(b"pro"))));
        assert!(checked.attribute(b"tier").is_none());

        let sized = Context { targeting_key_length: 4, ..context };
        // SAFETY: as above.
        let checked = unsafe { Checked::new(&sized) }.expect("a context");
        assert!(matches!(checked.targeting_key(), Some(CoreValue::Text(b"user"))));
    }

    #[test]
    fn a_null_context_is_empty() {
        // SAFETY: NULL is allowed.
        let checked = unsafe { Checked::new(std::ptr::null()) }.expect("a context");
        assert!(checked.targeting_key().is_none());
        assert!(checked.attribute(b"plan").is_none());
    }

    #[test]
    fn a_context_that_cannot_be_is_refused() {
        let wrong = [
            Context { struct_size: 0, ..EMPTY },
            Context { struct_size: SMALLEST - 1, ..EMPTY },
            Context { struct_size: usize::MAX, ..EMPTY },
            Context { count: 1, ..EMPTY },
            Context { attributes: std::ptr::dangling(), count: usize::MAX, ..EMPTY },
        ];
        for context in wrong {
            // SAFETY: refused before anything it points to is read.
            assert!(unsafe { Checked::new(&context) }.is_none(), "{context:?}");
        }
        // SAFETY: a later version of the struct is longer; what this one knows of it is all there.
        assert!(unsafe { Checked::new(&Context { struct_size: SMALLEST + 64, ..EMPTY }) }.is_some());
    }
}
