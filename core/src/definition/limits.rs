//! How much a definition may hold.

/// How much a definition may hold. What exceeds a limit is refused with a message that names the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Flags in one document. Default: 1 000 000.
    pub flags: usize,
    /// Bytes of one document. Default: 256 MiB; never more than 4 GiB - 1.
    pub document_bytes: usize,
    /// Bytes of a flag key. Default: 256.
    pub key_bytes: usize,
    /// Variants of one flag. Default: 256.
    pub variants: usize,
    /// How deep rules, and values of object variants, may nest. Default: 64; for rules never more than 512.
    pub rule_depth: usize,
    /// Values and operators in one flag's targeting, every `$ref` replaced by what it stands for. Default: 10 000.
    ///
    /// Scalars that stand in a literal list (the right side of an `in`) are not counted: up to a hundred times as many
    /// are allowed in a flag.
    pub rule_nodes: usize,
    /// Ids in one id list. Default: 10 000 000.
    pub list_ids: usize,
}

impl Limits {
    /// Scalars in the literal lists of one flag, and roughly the JSON values in one flag's text.
    pub(crate) fn literals(&self) -> usize {
        self.rule_nodes.saturating_mul(100)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flags: 1_000_000,
            document_bytes: 256 << 20,
            key_bytes: 256,
            variants: 256,
            rule_depth: 64,
            rule_nodes: 10_000,
            list_ids: 10_000_000,
        }
    }
}
