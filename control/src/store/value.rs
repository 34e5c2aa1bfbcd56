//! What goes into a statement and comes out of a query.

use super::StoreError;

/// A value of a column. Times, counts and truth are integers, JSON is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of what a query gives.
#[derive(Debug)]
pub(crate) struct Row(pub(super) Vec<Value>);

impl Row {
    fn value(&mut self, column: usize) -> Value {
        self.0.get_mut(column).map_or(Value::Null, |value| std::mem::replace(value, Value::Null))
    }

    pub(crate) fn integer(&mut self, column: usize) -> Result<i64, StoreError> {
        match self.value(column) {
            Value::Integer(integer) => Ok(integer),
            other => Err(unexpected(column, &other)),
        }
    }

    pub(crate) fn optional_integer(&mut self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Integer(integer) => Ok(Some(integer)),
            other => Err(unexpected(column, &other)),
        }
    }

    /// Takes the text out of the row.
    pub(crate) fn text(&mut self, column: usize) -> Result<String, StoreError> {
        match self.value(column) {
            Value::Text(text) => Ok(text),
            other => Err(unexpected(column, &other)),
        }
    }

    pub(crate) fn optional_text(&mut self, column: usize) -> Result<Option<String>, StoreError> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            other => Err(unexpected(column, &other)),
        }
    }

    pub(crate) fn bytes(&mut self, column: usize) -> Result<Vec<u8>, StoreError> {
        match self.value(column) {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(unexpected(column, &other)),
        }
    }

    pub(crate) fn optional_bytes(&mut self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(unexpected(column, &other)),
        }
    }

    /// A number that is never below 0.
    pub(crate) fn count(&mut self, column: usize) -> Result<u64, StoreError> {
        let integer = self.integer(column)?;
        u64::try_from(integer).map_err(|_| unexpected(column, &Value::Integer(integer)))
    }
}

fn unexpected(column: usize, value: &Value) -> StoreError {
    let kind = match value {
        Value::Null => "null",
        Value::Integer(_) => "an integer",
        Value::Text(_) => "a text",
        Value::Bytes(_) => "bytes",
    };
    StoreError::Broken(format!("column {column} holds {kind}"))
}
