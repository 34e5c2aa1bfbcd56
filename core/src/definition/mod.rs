//! What people write: parsing and checking flag definition files.

pub mod flag;
