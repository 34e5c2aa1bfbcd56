//! Values as C holds them: what a context is made of, and what a flag answers.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use libflags::evaluate::{List as CoreList, ListSource, Object as CoreObject, ObjectSource, Value as CoreValue};

use crate::view;

/// What a `flags_value` holds, and what `flags_evaluate` is asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// In a context: null, as if the attribute were absent. Asked for: whatever type the flag has. In an answer: no value,
    /// the caller's own default stands.
    None = 0,
    /// `as.boolean`.
    Bool = 1,
    /// `as.integer`. Asked for: a number flag whose value is whole.
    Int = 2,
    /// `as.number`.
    Double = 3,
    /// `as.string`.
    String = 4,
    /// Only in answers and asked for: `as.string` holds the compact JSON text of an object or array.
    Json = 5,
    /// Only in a context: `as.list`.
    List = 6,
    /// Only in a context: `as.object`.
    Object = 7,
}

impl Type {
    /// Parses a number that came from C; `None` for one that names no type.
    #[inline]
    pub(crate) fn parse(number: MaybeUninit<Self>) -> Option<Self> {
        // SAFETY: C has no uninitialised parameters, and an initialised enum of C is 32 bits that are all valid as u32.
        let number = unsafe { number.as_ptr().cast::<u32>().read() };
        Some(match number {
            0 => Self::None,
            1 => Self::Bool,
            2 => Self::Int,
            3 => Self::Double,
            4 => Self::String,
            5 => Self::Json,
            6 => Self::List,
            7 => Self::Object,
            _ => return None,
        })
    }
}

/// Text: `length` bytes at `data`, usually UTF-8. Not NUL-terminated unless said otherwise. `data` may be NULL where
/// `length` is 0.
///
/// Print one with `printf("%.*s", (int)text.length, text.data)`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes.
    pub length: usize,
}

/// An ordered list of `count` values.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The first value.
    pub items: *const Value,
    /// How many.
    pub count: usize,
}

/// `count` named values. Of two with one name the first counts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// The first member.
    pub members: *const Attribute,
    /// How many.
    pub count: usize,
}

/// What a `flags_value` holds; its `type` says which member.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Payload {
    /// `FLAGS_TYPE_BOOL`.
    pub boolean: bool,
    /// `FLAGS_TYPE_INT`. Rules compute in doubles: beyond 2^53 a comparison may round.
    pub integer: i64,
    /// `FLAGS_TYPE_DOUBLE`.
    pub number: f64,
    /// `FLAGS_TYPE_STRING` and `FLAGS_TYPE_JSON`.
    pub string: Text,
    /// `FLAGS_TYPE_LIST`.
    pub list: List,
    /// `FLAGS_TYPE_OBJECT`.
    pub object: Object,
}

/// A typed value.
///
/// In a context it borrows: what it points to must stay unchanged while a function of this library reads it, and is never
/// kept beyond that call. A value that cannot be (an unknown type, NULL with a length, a length beyond the address space)
/// reads as null. Nesting is as deep as you like.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    /// Which member of `as` counts.
    pub r#type: MaybeUninit<Type>,
    /// The value.
    pub r#as: Payload,
}

/// A named value of a context or of an object.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// The name, usually UTF-8. An attribute whose name is NULL is skipped.
    pub name: *const c_char,
    /// How many bytes the name has, or 0 where it ends with a NUL.
    pub name_length: usize,
    /// The value.
    pub value: Value,
}

impl Text {
    /// No text: NULL.
    pub(crate) const NULL: Self = Self { data: std::ptr::null(), length: 0 };

    /// A text that lives in a snapshot, or in the library.
    #[inline]
    pub(crate) fn borrowed(text: &str) -> Self {
        Self { data: text.as_ptr().cast(), length: text.len() }
    }
}

impl Value {
    /// No value.
    pub(crate) const NONE: Self = Self { r#type: MaybeUninit::new(Type::None), r#as: Payload { integer: 0 } };

    pub(crate) fn bool(boolean: bool) -> Self {
        // The whole union is written, so that no byte of an answer is left as it was.
        let mut payload = Payload { integer: 0 };
        payload.boolean = boolean;
        Self { r#type: MaybeUninit::new(Type::Bool), r#as: payload }
    }

    pub(crate) fn int(integer: i64) -> Self {
        Self { r#type: MaybeUninit::new(Type::Int), r#as: Payload { integer } }
    }

    pub(crate) fn double(number: f64) -> Self {
        Self { r#type: MaybeUninit::new(Type::Double), r#as: Payload { number } }
    }

    pub(crate) fn string(text: &str) -> Self {
        Self { r#type: MaybeUninit::new(Type::String), r#as: Payload { string: Text::borrowed(text) } }
    }

    pub(crate) fn json(text: &str) -> Self {
        Self { r#type: MaybeUninit::new(Type::Json), r#as: Payload { string: Text::borrowed(text) } }
    }

    /// The value where it stands; `None` where it reads as null.
    #[inline]
    fn read(&self) -> Option<CoreValue<'_>> {
        let payload = &raw const self.r#as;
        // Each member is read through a pointer to plain bytes or numbers, so that only what the type names needs to be
        // initialised, and a boolean that is neither 0 nor 1 is true rather than undefined.
        // SAFETY (all of them): the caller of the library vouches that the member its `type` names is initialised, and
        // that what it points to stays for as long as the context is borrowed.
        Some(match Type::parse(self.r#type)? {
            Type::None | Type::Json => return None,
            Type::Bool => CoreValue::Bool(
                // SAFETY: as above.
                unsafe { payload.cast::<u8>().read() } != 0,
            ),
            Type::Int => CoreValue::Int(
                // SAFETY: as above.
                unsafe { payload.cast::<i64>().read() },
            ),
            Type::Double => CoreValue::Float(
                // SAFETY: as above.
                unsafe { payload.cast::<f64>().read() },
            ),
            Type::String => {
                // SAFETY: as above.
                let text = unsafe { payload.cast::<Text>().read() };
                // SAFETY: as above.
                CoreValue::Text(unsafe { view::array(text.data.cast::<u8>(), text.length) }?)
            }
            Type::List => {
                // SAFETY: as above; the union is aligned for each of its members.
                let list: &List = unsafe { &*payload.cast::<List>() };
                list.values()?;
                CoreValue::List(CoreList::foreign(list))
            }
            Type::Object => {
                // SAFETY: as above; the union is aligned for each of its members.
                let object: &Object = unsafe { &*payload.cast::<Object>() };
                object.attributes()?;
                CoreValue::Object(CoreObject::foreign(object))
            }
        })
    }
}

impl List {
    #[inline]
    fn values(&self) -> Option<&[Value]> {
        // SAFETY: the caller of the library vouches for `count` values that stay while the context is borrowed.
        unsafe { view::array(self.items, self.count) }
    }
}

impl ListSource for List {
    fn len(&self) -> usize {
        self.values().map_or(0, <[Value]>::len)
    }

    fn element(&self, index: usize) -> Option<CoreValue<'_>> {
        // An element that cannot be is null in its place, not the end of the list.
        self.values()?.get(index).map(|value| value.read().unwrap_or(CoreValue::Null))
    }
}

impl Object {
    #[inline]
    fn attributes(&self) -> Option<&[Attribute]> {
        // SAFETY: the caller of the library vouches for `count` members that stay while the context is borrowed.
        unsafe { view::array(self.members, self.count) }
    }
}

impl ObjectSource for Object {
    fn member(&self, name: &[u8]) -> Option<CoreValue<'_>> {
        find(self.attributes()?, name)
    }
}

/// The value called `name`: `None` where there is none, and where it reads as null.
#[inline]
pub(crate) fn find<'a>(attributes: &'a [Attribute], name: &[u8]) -> Option<CoreValue<'a>> {
    attributes.iter().find(|attribute| attribute.is_called(name)).and_then(|attribute| attribute.value.read())
}

impl Attribute {
    #[inline]
    fn is_called(&self, name: &[u8]) -> bool {
        if self.name.is_null() {
            return false;
        }
        // Compared byte by byte up to the first difference: without measuring the name first, and without a call, for which the whole
        // search would keep its registers on the stack.
        let first = self.name.cast::<u8>();
        // SAFETY: each byte is read only if it is one of the `name_length` that the caller vouches for, or if those before it equal the
        // bytes of `name` and are not the NUL, so that it is inside the text or is its NUL.
        let byte = |index: usize| unsafe { first.wrapping_add(index).read() };
        if self.name_length == 0 {
            return name.iter().enumerate().all(|(index, &wanted)| wanted != 0 && byte(index) == wanted)
                && byte(name.len()) == 0;
        }
        name.len() == self.name_length && name.iter().enumerate().all(|(index, &wanted)| byte(index) == wanted)
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payload may point anywhere: only its type is shown.
        f.debug_struct("Value").field("type", &Type::parse(self.r#type)).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &'static std::ffi::CStr, value: Value) -> Attribute {
        Attribute { name: name.as_ptr(), name_length: 0, value }
    }

    #[test]
    fn names_are_compared_whole() {
        let plan = attribute(c"plan", Value::int(1));
        assert!(plan.is_called(b"plan"));
        for other in [&b"pla"[..], b"plans", b"plan\0", b"", b"\0", b"Plan"] {
            assert!(!plan.is_called(other), "{other:?}");
        }
        assert!(attribute(c"", Value::int(1)).is_called(b""));

        let sized = Attribute { name: c"planet".as_ptr(), name_length: 4, value: Value::int(1) };
        assert!(sized.is_called(b"plan"));
        assert!(!sized.is_called(b"planet"));
        assert!(!Attribute { name: std::ptr::null(), name_length: 0, value: Value::int(1) }.is_called(b""));
    }

    #[test]
    fn values_are_read_where_they_stand() {
        assert_eq!(Value::bool(true).read().map(|value| matches!(value, CoreValue::Bool(true))), Some(true));
        assert!(matches!(Value::int(-5).read(), Some(CoreValue::Int(-5))));
        assert!(matches!(Value::double(0.5).read(), Some(CoreValue::Float(value)) if value == 0.5));
        assert!(matches!(Value::string("é").read(), Some(CoreValue::Text(text)) if text == "é".as_bytes()));
        assert!(Value::NONE.read().is_none());
        assert!(Value::json("{}").read().is_none());

        let items = [Value::int(1), Value::NONE, Value::string("x")];
        let mut list = Value::NONE;
        list.r#type = MaybeUninit::new(Type::List);
        list.r#as.list = List { items: items.as_ptr(), count: items.len() };
        let Some(CoreValue::List(read)) = list.read() else { panic!("a list") };
        assert_eq!(read.len(), 3);
        assert!(matches!(read.element(1), Some(CoreValue::Null)));
        assert!(matches!(read.element(2), Some(CoreValue::Text(b"x"))));
        assert!(read.element(3).is_none());

        let members = [attribute(c"a", Value::int(1)), attribute(c"a", Value::int(2)), attribute(c"b", list)];
        let mut object = Value::NONE;
        object.r#type = MaybeUninit::new(Type::Object);
        object.r#as.object = Object { members: members.as_ptr(), count: members.len() };
        let Some(CoreValue::Object(read)) = object.read() else { panic!("an object") };
        assert!(matches!(read.member(b"a"), Some(CoreValue::Int(1))));
        assert!(matches!(read.member(b"b"), Some(CoreValue::List(list)) if list.len() == 3));
        assert!(read.member(b"c").is_none());
    }

    #[test]
    fn values_that_cannot_be_read_as_null() {
        let mut value = Value::NONE;
        // Any number can come from C.
        // SAFETY: a u32 has room in an enum of C.
        unsafe { value.r#type.as_mut_ptr().cast::<u32>().write(77) };
        assert!(value.read().is_none());

        value.r#type = MaybeUninit::new(Type::String);
        value.r#as.string = Text { data: std::ptr::null(), length: 3 };
        assert!(value.read().is_none());
        value.r#as.string = Text { data: c"x".as_ptr(), length: usize::MAX };
        assert!(value.read().is_none());
        value.r#as.string = Text { data: std::ptr::null(), length: 0 };
        assert!(matches!(value.read(), Some(CoreValue::Text(b""))));

        value.r#type = MaybeUninit::new(Type::List);
        value.r#as.list = List { items: std::ptr::null(), count: 1 };
        assert!(value.read().is_none());
        value.r#type = MaybeUninit::new(Type::Object);
        value.r#as.object = Object { members: std::ptr::dangling(), count: usize::MAX };
        assert!(value.read().is_none());
    }
}
