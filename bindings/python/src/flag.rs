//! A flag that remembers where it lies.

use libflags::{FlagCache, Pinned, Want};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBool, PyInt, PyString};

use crate::answer::{self, Source};
use crate::client::Client;
use crate::context::Context;
use crate::details::Details;

/// One flag of a client by its key. Made by ``Client.flag``; follows updates.
#[pyclass(frozen, module = "libflags")]
pub(crate) struct Flag {
    client: Py<Client>,
    key: Py<PyString>,
    cache: FlagCache,
}

impl Flag {
    pub(crate) fn new(client: &Bound<'_, Client>, key: &Bound<'_, PyString>) -> Self {
        Self { client: client.clone().unbind(), key: key.clone().unbind(), cache: FlagCache::new() }
    }
}

impl Source for Flag {
    #[inline]
    fn bool(&self, key: &str, context: &Context<'_, '_>, default: bool) -> bool {
        let client = self.client.get().open();
        client.map_or(default, |client| client.bool_cached(&self.cache, key.as_bytes(), context, default))
    }

    // Only for booleans does it pay to remember where the flag lies: the rest makes an object for its answer.

    #[inline]
    fn int(&self, key: &str, context: &Context<'_, '_>, default: i64) -> i64 {
        self.client.get().int(key, context, default)
    }

    #[inline]
    fn float(&self, key: &str, context: &Context<'_, '_>, default: f64) -> f64 {
        self.client.get().float(key, context, default)
    }

    #[inline]
    fn text<R>(&self, key: &str, context: &Context<'_, '_>, read: impl FnOnce(&str) -> R) -> Option<R> {
        self.client.get().text(key, context, read)
    }

    fn pin(&self) -> Option<Pinned> {
        self.client.get().pin()
    }
}

#[pymethods]
impl Flag {
    /// The flag key.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        self.key.bind(py).clone()
    }

    /// The flag's value, a boolean; ``default`` where there is none.
    #[pyo3(signature = (default, context=None))]
    fn get_boolean_value<'py>(
        &self,
        default: &Bound<'py, PyBool>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBool>> {
        answer::boolean(self, self.key.bind(default.py()), default, context)
    }

    /// The flag's value, text; ``default`` where there is none.
    #[pyo3(signature = (default, context=None))]
    fn get_string_value<'py>(
        &self,
        default: &Bound<'py, PyString>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        answer::string(self, self.key.bind(default.py()), default, context)
    }

    /// The flag's value, a whole number; ``default`` where there is none.
    #[pyo3(signature = (default, context=None))]
    fn get_integer_value<'py>(
        &self,
        default: &Bound<'py, PyInt>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::integer(self, self.key.bind(default.py()), default, context)
    }

    /// The flag's value, a number; ``default`` where there is none.
    #[pyo3(signature = (default, context=None))]
    fn get_float_value<'py>(
        &self,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::float(self, self.key.bind(default.py()), default, context)
    }

    /// The flag's value, an object or array; ``default`` where there is none.
    #[pyo3(signature = (default, context=None))]
    fn get_object_value<'py>(
        &self,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::object(self, self.key.bind(default.py()), default, context)
    }

    /// As ``get_boolean_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (default, context=None, *, targeting_key=None))]
    fn get_boolean_details<'py>(
        &self,
        default: &Bound<'py, PyBool>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, self.key.bind(default.py()), Want::Bool, default, context, targeting_key)
    }

    /// As ``get_string_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (default, context=None, *, targeting_key=None))]
    fn get_string_details<'py>(
        &self,
        default: &Bound<'py, PyString>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, self.key.bind(default.py()), Want::Text, default, context, targeting_key)
    }

    /// As ``get_integer_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (default, context=None, *, targeting_key=None))]
    fn get_integer_details<'py>(
        &self,
        default: &Bound<'py, PyInt>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, self.key.bind(default.py()), Want::Int, default, context, targeting_key)
    }

    /// As ``get_float_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (default, context=None, *, targeting_key=None))]
    fn get_float_details<'py>(
        &self,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::check_number(default)?;
        answer::details(self, self.key.bind(default.py()), Want::Float, default, context, targeting_key)
    }

    /// As ``get_object_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (default, context=None, *, targeting_key=None))]
    fn get_object_details<'py>(
        &self,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, self.key.bind(default.py()), Want::Json, default, context, targeting_key)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<libflags.Flag {}>", self.key.bind(py).repr()?))
    }
}
