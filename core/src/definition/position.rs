//! From a byte offset to line and column, without a walk through the text for each.

/// Where lines begin in a text, and how many characters lie before each block of it.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Byte offset of each line's first byte.
    starts: Vec<u32>,
    /// Characters before each [`BLOCK`] of bytes; empty for ASCII, where characters are bytes.
    characters: Vec<u32>,
}

const BLOCK: usize = 1024;

#[expect(clippy::cast_possible_truncation, reason = "a document is shorter than 4 GiB")]
impl Lines {
    /// Of a text below 4 GiB.
    pub(crate) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut starts = vec![0];
        starts.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u32 + 1));
        let mut characters = Vec::new();
        if !text.is_ascii() {
            let mut before = 0;
            for block in bytes.chunks(BLOCK) {
                characters.push(before);
                before += begun(block);
            }
            characters.push(before);
        }
        Self { starts, characters }
    }

    /// Line and column, both from 1, the column in characters.
    pub(crate) fn position(&self, text: &str, offset: usize) -> (u32, u32) {
        let offset = offset.min(text.len());
        let line = self.starts.partition_point(|start| *start as usize <= offset);
        let start = self.starts[line - 1] as usize;
        (line as u32, self.characters_before(text, offset) - self.characters_before(text, start) + 1)
    }

    fn characters_before(&self, text: &str, offset: usize) -> u32 {
        if self.characters.is_empty() {
            return offset as u32;
        }
        let block = offset / BLOCK;
        self.characters[block] + begun(&text.as_bytes()[block * BLOCK..offset])
    }
}

/// How many characters begin in `bytes` of UTF-8.
#[expect(clippy::cast_possible_truncation, reason = "a document is shorter than 4 GiB")]
fn begun(bytes: &[u8]) -> u32 {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u32
}
