//! One pinned version of all flags.

use std::sync::RwLock;

use libflags::{FlagValue, Pinned, Want};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBool, PyInt, PyString};

use crate::answer::{self, Source};
use crate::context::Context;
use crate::details::Details;

/// One version of all flags. Made by ``Client.snapshot``; outlives the client.
///
/// Nobody ever waits for the lock: it is only tried. Whoever finds it taken for writing meets a snapshot that is being closed;
/// closing one that is being read in another thread leaves it to the object's end.
#[pyclass(frozen, module = "libflags")]
pub(crate) struct Snapshot(RwLock<Option<Pinned>>);

impl Snapshot {
    pub(crate) fn new(pinned: Option<Pinned>) -> Self {
        Self(RwLock::new(pinned))
    }

    #[inline]
    fn read<R>(&self, read: impl FnOnce(&Pinned) -> R) -> Option<R> {
        self.0.try_read().ok()?.as_ref().map(read)
    }
}

impl Source for Snapshot {
    #[inline]
    fn bool(&self, key: &str, context: &Context<'_, '_>, default: bool) -> bool {
        self.read(|pinned| pinned.bool(key, context, default)).unwrap_or(default)
    }

    #[inline]
    fn int(&self, key: &str, context: &Context<'_, '_>, default: i64) -> i64 {
        self.read(|pinned| pinned.int(key, context, default)).unwrap_or(default)
    }

    #[inline]
    fn float(&self, key: &str, context: &Context<'_, '_>, default: f64) -> f64 {
        self.read(|pinned| pinned.float(key, context, default)).unwrap_or(default)
    }

    #[inline]
    fn text<R>(&self, key: &str, context: &Context<'_, '_>, read: impl FnOnce(&str) -> R) -> Option<R> {
        self.read(|pinned| match pinned.evaluate(key, Want::Text, context).value {
            Some(FlagValue::Text(text)) => Some(read(text)),
            _ => None,
        })?
    }

    fn pin(&self) -> Option<Pinned> {
        self.read(Clone::clone)
    }
}

#[pymethods]
impl Snapshot {
    /// Lets go of the version.
    fn close(&self) {
        if let Ok(mut pinned) = self.0.try_write() {
            *pinned = None;
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_value, traceback, /))]
    fn __exit__(&self, exc_type: &Bound<'_, PyAny>, exc_value: &Bound<'_, PyAny>, traceback: &Bound<'_, PyAny>) {
        let _ = (exc_type, exc_value, traceback);
        self.close();
    }

    /// The version's number in the store; 0 where there is none.
    #[getter]
    fn generation(&self) -> u64 {
        self.read(Pinned::generation).unwrap_or_default()
    }

    /// The revision of the source it was made from; 0 where the source has none.
    #[getter]
    fn revision(&self) -> u64 {
        self.read(Pinned::revision).unwrap_or_default()
    }

    /// The keys of all flags, in no particular order.
    fn keys(&self) -> Vec<String> {
        self.read(|pinned| pinned.keys().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The flag's value, a boolean; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_boolean_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyBool>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBool>> {
        answer::boolean(self, key, default, context)
    }

    /// The flag's value, text; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_string_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyString>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        answer::string(self, key, default, context)
    }

    /// The flag's value, a whole number; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_integer_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyInt>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::integer(self, key, default, context)
    }

    /// The flag's value, a number; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_float_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::float(self, key, default, context)
    }

    /// The flag's value, an object or array; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_object_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::object(self, key, default, context)
    }

    /// As ``get_boolean_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_boolean_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyBool>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Bool, default, context, targeting_key)
    }

    /// As ``get_string_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_string_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyString>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Text, default, context, targeting_key)
    }

    /// As ``get_integer_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_integer_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyInt>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Int, default, context, targeting_key)
    }

    /// As ``get_float_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_float_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::check_number(default)?;
        answer::details(self, key, Want::Float, default, context, targeting_key)
    }

    /// As ``get_object_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_object_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Json, default, context, targeting_key)
    }
}
