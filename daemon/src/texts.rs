//! What the state directory has of the texts that are in force: each once whole, and after it the changes since, so that remembering a
//! change costs what the change costs. When the changes are long against the text, it is written anew.

use std::path::PathBuf;

use crate::input::{Content, Input};
use crate::keep::Keep;
use crate::source::Patch;

/// Changes may become so long before the text is written anew, or a quarter of the text.
const MOST_CHANGES_BYTES: u64 = 64 << 10;

/// The texts on the disk, as far as this flagsd has written them.
#[derive(Debug, Default)]
pub(crate) struct Texts(Vec<OnDisk>);

#[derive(Debug)]
struct OnDisk {
    source: String,
    path: PathBuf,
    content: Content,
    text_bytes: u64,
    changes_bytes: u64,
}

impl Texts {
    /// Makes the state directory hold `inputs`, and nothing else; `patch` may have led to one of them.
    ///
    /// # Errors
    ///
    /// A sentence, where one cannot be written; the others are then.
    pub(crate) fn save(&mut self, keep: &Keep, inputs: &[Input], patch: Option<&Patch>) -> Result<(), String> {
        let mut outcome = Ok(());
        let before = std::mem::take(&mut self.0);
        for input in inputs {
            let source = input.source.to_string();
            let known = before.iter().find(|known| known.source == source && known.path == input.path);
            match write(keep, source, input, known, patch) {
                Ok(on_disk) => self.0.push(on_disk),
                Err(error) => {
                    outcome = outcome.and(Err(format!("the text of {} cannot be kept: {error}", input.path.display())));
                }
            }
        }
        let as_before = before.len() == inputs.len()
            && before
                .iter()
                .zip(inputs)
                .all(|(known, input)| known.path == input.path && known.source == input.source.to_string());
        if !as_before {
            keep.forget_other_texts(inputs.iter().map(|input| (&input.source, input.path.as_path())));
        }
        outcome
    }

    /// Writes all of them anew the next time.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

fn write(
    keep: &Keep,
    source: String,
    input: &Input,
    known: Option<&OnDisk>,
    patch: Option<&Patch>,
) -> std::io::Result<OnDisk> {
    let (path, content) = (input.path.clone(), input.content.clone());
    if let Some(&OnDisk { content: ref before, text_bytes, changes_bytes, .. }) = known {
        if before.is(&content) {
            return Ok(OnDisk { source, path, content, text_bytes, changes_bytes });
        }
        if let Some(patch) = patch.filter(|patch| before.leads_to(&content, patch))
            && changes_bytes <= (text_bytes / 4).max(MOST_CHANGES_BYTES)
        {
            let changes_bytes = keep.append_change(&input.source, &path, &patch.change)?;
            return Ok(OnDisk { source, path, content, text_bytes, changes_bytes });
        }
    }
    let text = input.text();
    keep.save_text(&input.source, &path, &text, input.stamp())?;
    Ok(OnDisk { source, path, content, text_bytes: text.len() as u64, changes_bytes: 0 })
}
