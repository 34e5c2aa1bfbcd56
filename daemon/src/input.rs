//! What a set is made from: what each source says, whole, and where it came from.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use flags_sync::Stamp;
use libflags::definition::{DefinitionError, Document, Format, Limits};

use crate::keep::Text;
use crate::source::{Definition, Patch, SourceSpec};

/// What one file says, or one control plane.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) source: SourceSpec,
    /// Of a control plane its source's name.
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
}

/// Cheap to copy.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    File(Arc<Document>),
    Control(Definition),
}

impl Input {
    /// What was remembered of a source; `None` where that is no definition any more.
    pub(crate) fn from_text(source: &SourceSpec, text: Text, limits: &Limits) -> Option<Self> {
        let Text { path, text, stamp, changes } = text;
        let name = path.display().to_string();
        let content = match stamp {
            None => Content::File(Arc::new(Document::parse(&name, text, Format::from_path(&path), limits).ok()?)),
            Some(stamp) => {
                let mut definition = Definition::from_text(&text, stamp).ok()?;
                for change in changes {
                    // What does not follow is in the text already.
                    definition = definition.after(change).unwrap_or(definition);
                }
                definition.document(&name, limits).ok()?;
                Content::Control(definition)
            }
        };
        Some(Self { source: source.clone(), path, content })
    }

    /// Its path and document, of a file.
    pub(crate) fn into_file(self) -> Option<(PathBuf, Arc<Document>)> {
        if let Content::File(document) = self.content { Some((self.path, document)) } else { None }
    }

    /// Of a control plane.
    pub(crate) fn into_definition(self) -> Option<Definition> {
        if let Content::Control(definition) = self.content { Some(definition) } else { None }
    }

    /// All of it, taken apart.
    ///
    /// # Errors
    ///
    /// Of a control plane's: where it is beyond the limits.
    pub(crate) fn document(&self, limits: &Limits) -> Result<Arc<Document>, DefinitionError> {
        match &self.content {
            Content::File(document) => Ok(Arc::clone(document)),
            Content::Control(definition) => definition.document(&self.path.display().to_string(), limits),
        }
    }

    /// All of it, as a text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match &self.content {
            Content::File(document) => document.text().into(),
            Content::Control(definition) => definition.text().into(),
        }
    }

    /// Of a control plane: which state this is.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        match &self.content {
            Content::File(_) => None,
            Content::Control(definition) => Some(definition.stamp()),
        }
    }

    /// The most flags that have gone since `before` without anybody's word, where that is known. Of a file it is as long as it
    /// is the same, and has no id lists: those are files too, and flags may break with them.
    pub(crate) fn lost_since(&self, before: &Self) -> Option<u64> {
        match (&self.content, &before.content) {
            _ if self.path != before.path => None,
            (Content::Control(now), Content::Control(before)) => now.stamp().lost_since(before.stamp()),
            (Content::File(now), Content::File(before)) => {
                (Arc::ptr_eq(now, before) && now.lists().is_empty()).then_some(0)
            }
            _ => None,
        }
    }

    /// Whether `other` is the very same, not only alike.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.path == other.path && self.content.is(&other.content)
    }

    /// Whether both say the same.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.path == other.path
            && match (&self.content, &other.content) {
                (Content::Control(one), Content::Control(other)) => one.says_the_same(other),
                (Content::File(one), Content::File(other)) => Arc::ptr_eq(one, other) || one.text() == other.text(),
                _ => false,
            }
    }
}

impl Content {
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => Arc::ptr_eq(one, other),
            (Self::Control(one), Self::Control(other)) => one.id() == other.id(),
            _ => false,
        }
    }

    /// Whether `patch` leads from this to `after`.
    pub(crate) fn leads_to(&self, after: &Self, patch: &Patch) -> bool {
        match (self, after) {
            (Self::Control(before), Self::Control(after)) => (before.id(), after.id()) == (patch.from, patch.to),
            _ => false,
        }
    }
}
