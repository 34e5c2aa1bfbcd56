//! The evaluation context: a Python mapping, of which only what a rule asks for is read.
//!
//! ```text
//! rule wants "tier" → its interned Python string (names.rs) → dict lookup → a value borrowed from the Python object
//! ```
//!
//! A lookup can run any Python code (a key of another type with an `__eq__` of its own), and that code can take the value out
//! of the dict again. So whatever a rule borrows from (text, lists, objects) is kept alive by a reference in [`Kept`]
//! until the evaluation is over. The first four of them lie on the stack.
//!
//! Evaluation itself cannot fail. What cannot be read (an object of a type JSON has no word for, an `__eq__` that raises) is
//! noted in [`Fault`], and whoever asked answers with the caller's default and `INVALID_CONTEXT`.

use std::cell::{Cell, OnceCell};

use libflags::Value;
use libflags::evaluate::{Attributes, List, ListSource, Object, ObjectSource};
use pyo3::exceptions::{PyException, PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMapping, PySequence, PySet, PyString, PyTuple,
};
use pyo3::{intern, types::PyAny};

use crate::names::with_name;

/// How many borrowed objects an evaluation keeps without allocating.
const INLINE: usize = 4;

/// Who is asking, as a Python caller says it: nothing, a dict, or another mapping.
pub(crate) struct Context<'a, 'py> {
    py: Python<'py>,
    attributes: Mapping<'a, 'py>,
    targeting_key: Option<&'a Bound<'py, PyAny>>,
    fault: &'a Fault,
    kept: OnceCell<Kept<'a, 'py>>,
}

/// A context's attributes, known to be such.
#[derive(Clone, Copy)]
pub(crate) enum Mapping<'a, 'py> {
    Empty,
    Dict(&'a Bound<'py, PyDict>),
    Other(&'a Bound<'py, PyMapping>),
}

impl<'a, 'py> Context<'a, 'py> {
    /// A context over `attributes`; a `targeting_key` stands in for the mapping's own.
    #[inline(always)]
    pub(crate) fn new(
        py: Python<'py>,
        attributes: Mapping<'a, 'py>,
        targeting_key: Option<&'a Bound<'py, PyAny>>,
        fault: &'a Fault,
    ) -> Self {
        Self { py, attributes, targeting_key, fault, kept: OnceCell::new() }
    }

    #[inline]
    fn kept(&self) -> &Kept<'a, 'py> {
        self.kept.get_or_init(Kept::new)
    }

    /// The attribute called `name`; a fault reads as absent, and is noted.
    #[inline(always)]
    fn find(&self, name: &Bound<'py, PyString>) -> Option<Value<'_>> {
        let found = self.attributes.find(name).unwrap_or_else(|error| self.fault.raised(error))?;
        read(found, self.kept(), self.fault)
    }
}

impl Attributes for Context<'_, '_> {
    #[inline]
    fn targeting_key(&self) -> Option<Value<'_>> {
        match self.targeting_key {
            Some(key) => read(key.clone(), self.kept(), self.fault),
            None if matches!(self.attributes, Mapping::Empty) => None,
            None => self.find(intern!(self.py, "targetingKey")),
        }
    }

    #[inline]
    fn attribute(&self, name: &[u8]) -> Option<Value<'_>> {
        if matches!(self.attributes, Mapping::Empty) {
            return None;
        }
        with_name(self.py, name, |name| self.find(name))
    }
}

impl<'a, 'py> Mapping<'a, 'py> {
    /// No attributes for `None`.
    ///
    /// # Errors
    /// `TypeError` where `object` is no mapping.
    #[inline]
    pub(crate) fn optional(object: Option<&'a Bound<'py, PyAny>>) -> PyResult<Self> {
        object.map_or(Ok(Self::Empty), Self::parse)
    }

    #[inline]
    fn parse(object: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            return Ok(Self::Dict(dict));
        }
        Self::parse_other(object)
    }

    #[cold]
    fn parse_other(object: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(dict) = object.cast::<PyDict>() {
            return Ok(Self::Dict(dict));
        }
        object.cast::<PyMapping>().map(Self::Other).map_err(|_| {
            PyTypeError::new_err(format!("context must be a dict or another mapping, not {}", type_name(object)))
        })
    }

    #[inline]
    fn find(self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Empty => Ok(None),
            Self::Dict(dict) => dict.get_item(name),
            Self::Other(mapping) => item_of(mapping, name),
        }
    }
}

#[cold]
fn item_of<'py>(mapping: &Bound<'py, PyMapping>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match mapping.get_item(name) {
        Ok(item) => Ok(Some(item)),
        Err(error) if error.is_instance_of::<PyKeyError>(mapping.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A list or object of the context, read in place, with what was read out of it.
struct Node<'a, 'py> {
    object: Bound<'py, PyAny>,
    fault: &'a Fault,
    children: OnceCell<Box<Kept<'a, 'py>>>,
}

impl<'a, 'py> Node<'a, 'py> {
    fn read(&self, found: PyResult<Option<Bound<'py, PyAny>>>) -> Option<Value<'_>> {
        let found = found.unwrap_or_else(|error| self.fault.raised(error))?;
        read(found, self.children.get_or_init(|| Box::new(Kept::new())), self.fault)
    }
}

/// The object is an instance of `list` or `tuple`.
impl ListSource for Node<'_, '_> {
    fn len(&self) -> usize {
        // An exact list or tuple always has a length; a subclass may raise, which reads as empty.
        self.object.len().unwrap_or_else(|error| self.fault.raised(error).map_or(0, |never: usize| never))
    }

    fn element(&self, index: usize) -> Option<Value<'_>> {
        if index >= ListSource::len(self) {
            return None;
        }
        let found = match self.object.cast::<PyList>() {
            Ok(list) => list.get_item(index),
            Err(_) => self.object.get_item(index),
        };
        self.read(found.map(Some))
    }
}

/// The object is a mapping.
impl ObjectSource for Node<'_, '_> {
    fn member(&self, name: &[u8]) -> Option<Value<'_>> {
        let mapping = Mapping::parse(&self.object).ok()?;
        with_name(self.object.py(), name, |name| self.read(mapping.find(name)))
    }
}

/// Reads `object` as the evaluator's kind of value; `None` where it cannot be, which is noted.
#[inline]
fn read<'k, 'a, 'py>(object: Bound<'py, PyAny>, kept: &'k Kept<'a, 'py>, fault: &'a Fault) -> Option<Value<'k>> {
    if object.is_exact_instance_of::<PyString>() {
        let node = kept.keep(object, fault);
        if let Ok(text) = node.object.cast_exact::<PyString>()
            && let Ok(text) = text.to_str()
        {
            return Some(Value::Text(text.as_bytes()));
        }
        return read_lone_surrogates(&node.object, kept, fault);
    }
    if let Some(scalar) = scalar(&object) {
        return Some(scalar);
    }
    read_other(object, kept, fault)
}

/// `None` where `object` is not exactly one of Python's own scalars (a subclass is read further down).
#[inline]
fn scalar(object: &Bound<'_, PyAny>) -> Option<Value<'static>> {
    if object.is_exact_instance_of::<PyBool>() {
        return Some(Value::Bool(object.is_truthy().unwrap_or_default()));
    }
    if object.is_exact_instance_of::<PyInt>() {
        return Some(integer(object));
    }
    if object.is_exact_instance_of::<PyFloat>() {
        return object.extract().ok().map(Value::Float);
    }
    object.is_none().then_some(Value::Null)
}

/// A whole number; outside of 64 bits the nearest double, as a JSON parser would read it.
fn integer(object: &Bound<'_, PyAny>) -> Value<'static> {
    object.extract().map(Value::Int).or_else(|_| object.extract().map(Value::Float)).unwrap_or_else(|_| {
        // Beyond the largest double.
        Value::Float(if object.lt(0).unwrap_or_default() { f64::NEG_INFINITY } else { f64::INFINITY })
    })
}

/// Text that UTF-8 has no form for compares as the bytes Python's `surrogatepass` gives it, and is equal to nothing else.
#[cold]
fn read_lone_surrogates<'k, 'a, 'py>(
    text: &Bound<'py, PyAny>,
    kept: &'k Kept<'a, 'py>,
    fault: &'a Fault,
) -> Option<Value<'k>> {
    let py = text.py();
    let arguments = (intern!(py, "utf-8"), intern!(py, "surrogatepass"));
    // `str.encode`, not the object's own: a subclass may have another.
    let encoded = py
        .get_type::<PyString>()
        .getattr(intern!(py, "encode"))
        .and_then(|encode| encode.call1((text, arguments.0, arguments.1)));
    let encoded = encoded.map(Some).unwrap_or_else(|error| fault.raised(error))?;
    kept.keep(encoded, fault).object.cast::<PyBytes>().ok().map(|bytes| Value::Text(bytes.as_bytes()))
}

#[cold]
#[inline(never)]
fn read_other<'k, 'a, 'py>(object: Bound<'py, PyAny>, kept: &'k Kept<'a, 'py>, fault: &'a Fault) -> Option<Value<'k>> {
    try_read_other(object, kept, fault).unwrap_or_else(|error| fault.raised(error))
}

fn try_read_other<'k, 'a, 'py>(
    object: Bound<'py, PyAny>,
    kept: &'k Kept<'a, 'py>,
    fault: &'a Fault,
) -> PyResult<Option<Value<'k>>> {
    let py = object.py();
    let list = |list| Some(Value::List(List::foreign(kept.keep(list, fault))));
    Ok(if object.is_instance_of::<PyDict>() {
        Some(Value::Object(Object::foreign(kept.keep(object, fault))))
    } else if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        list(object)
    } else if object.is_instance_of::<PyString>() {
        // A subclass, such as a member of a StrEnum: the text it is.
        let node = kept.keep(object, fault);
        match node.object.cast::<PyString>()?.to_str() {
            Ok(text) => Some(Value::Text(text.as_bytes())),
            Err(_) => read_lone_surrogates(&node.object, kept, fault),
        }
    } else if object.is_instance_of::<PyInt>() {
        Some(integer(&object))
    } else if object.is_instance_of::<PyFloat>() {
        Some(Value::Float(object.extract()?))
    } else if object.is_instance_of::<PyBytes>() {
        kept.keep(object, fault).object.cast::<PyBytes>().ok().map(|bytes| Value::Text(bytes.as_bytes()))
    } else if let Some(isoformat) = object.getattr_opt(intern!(py, "isoformat"))? {
        // datetime, date, time and what looks like them.
        let text = isoformat.call0()?.cast_into::<PyString>()?;
        read(text.into_any(), kept, fault)
    } else if object.is_instance_of::<PyMapping>() {
        Some(Value::Object(Object::foreign(kept.keep(object, fault))))
    } else if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
        list(PyList::new(py, object.try_iter()?.collect::<PyResult<Vec<_>>>()?)?.into_any())
    } else if let Ok(sequence) = object.cast::<PySequence>() {
        list(sequence.to_list()?.into_any())
    } else if let Ok(truth) = object.extract::<bool>() {
        // NumPy's, which is none of Python's.
        Some(Value::Bool(truth))
    } else if object.hasattr(intern!(py, "__index__"))? {
        Some(integer(&object))
    } else if object.hasattr(intern!(py, "__float__"))? {
        // Decimal, Fraction, NumPy's floats of other widths.
        Some(Value::Float(object.extract()?))
    } else {
        fault.note(|| Reason::Unreadable(type_name(&object)))
    })
}

/// References to what an evaluation has borrowed from, growing without moving what it holds.
struct Kept<'a, 'py> {
    inline: [OnceCell<Node<'a, 'py>>; INLINE],
    len: Cell<usize>,
    spilled: OnceCell<Box<Spilled<'a, 'py>>>,
}

/// Chunk `n` has `INLINE << n + 1` places, so few chunks hold everything a rule may ever read.
struct Spilled<'a, 'py>([OnceCell<Box<[OnceCell<Node<'a, 'py>>]>>; 32]);

impl<'a, 'py> Kept<'a, 'py> {
    #[inline]
    fn new() -> Self {
        Self { inline: [const { OnceCell::new() }; INLINE], len: Cell::new(0), spilled: OnceCell::new() }
    }

    #[inline]
    fn keep(&self, object: Bound<'py, PyAny>, fault: &'a Fault) -> &Node<'a, 'py> {
        let index = self.len.replace(self.len.get() + 1);
        let place = self.inline.get(index).unwrap_or_else(|| self.spilled(index));
        place.get_or_init(|| Node { object, fault, children: OnceCell::new() })
    }

    #[cold]
    fn spilled(&self, index: usize) -> &OnceCell<Node<'a, 'py>> {
        // Chunk 0 has places 4..12, chunk 1 has 12..28, …
        let chunk = ((index + INLINE) / (2 * INLINE)).ilog2() as usize;
        let start = (INLINE << (chunk + 1)) - INLINE;
        let chunks = self.spilled.get_or_init(|| Box::new(Spilled([const { OnceCell::new() }; 32])));
        let places = chunks.0[chunk].get_or_init(|| (0..INLINE << (chunk + 1)).map(|_| OnceCell::new()).collect());
        &places[index - start]
    }
}

/// The first thing that could not be read, if any.
#[derive(Default)]
pub(crate) struct Fault(OnceCell<Reason>);

enum Reason {
    Raised(PyErr),
    Unreadable(String),
}

impl Fault {
    #[inline]
    pub(crate) fn is_noted(&self) -> bool {
        self.0.get().is_some()
    }

    /// What to tell the caller.
    ///
    /// # Errors
    /// What the context's own code raised, where that is not an `Exception`: a `KeyboardInterrupt` is not content.
    #[cold]
    pub(crate) fn message(&self, py: Python<'_>) -> PyResult<String> {
        match self.0.get() {
            None => Ok(String::new()),
            Some(Reason::Raised(error)) if error.is_instance_of::<PyException>(py) => {
                Ok(format!("reading the context raised {error}"))
            }
            Some(Reason::Raised(error)) => Err(error.clone_ref(py)),
            Some(Reason::Unreadable(name)) => {
                Ok(format!("the flag's rule reads an attribute that is a {name}, which is no JSON value"))
            }
        }
    }

    #[cold]
    fn raised<T>(&self, error: PyErr) -> Option<T> {
        self.note(|| Reason::Raised(error))
    }

    fn note<T>(&self, reason: impl FnOnce() -> Reason) -> Option<T> {
        self.0.get_or_init(reason);
        None
    }
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string_lossy().into_owned())
}
