//! Flag sets: which set a flag belongs to, and which sets a client asks for.

use super::flag::Scalar;
use std::fmt;

/// Which flags a client asks for: flagd's selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Selector {
    /// Every flag: the empty selector.
    #[default]
    All,
    /// `flagSetId=ID`: the flags of that set.
    FlagSet(String),
    /// `flagSetId=`: the flags that belong to no set.
    NoFlagSet,
    /// `source=NAME`, or a bare `NAME`: the flags of that source.
    Source(String),
}

impl Selector {
    /// Reads a selector: `""`, `flagSetId=ID`, `flagSetId=`, `source=NAME` or `NAME`.
    ///
    /// ```
    /// use libflags::definition::Selector;
    ///
    /// let selector = Selector::parse("flagSetId=checkout")?;
    /// assert!(selector.matches(Some("checkout"), "flags.json"));
    /// assert!(!selector.matches(None, "flags.json"));
    /// # Ok::<(), libflags::definition::SelectorError>(())
    /// ```
    ///
    /// # Errors
    /// Any other key, or more than one pair.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let Some((key, value)) = text.split_once('=') else {
            return Ok(if text.is_empty() { Self::All } else { Self::Source(text.to_owned()) });
        };
        if value.contains(['=', ',']) {
            return Err(SelectorError { message: format!("{text:?}: more than one pair, expected one") });
        }
        match key {
            "flagSetId" if value.is_empty() => Ok(Self::NoFlagSet),
            "flagSetId" => Ok(Self::FlagSet(value.to_owned())),
            "source" if value.is_empty() => {
                Err(SelectorError { message: format!("{text:?}: no source, expected its name after `=`") })
            }
            "source" => Ok(Self::Source(value.to_owned())),
            _ => Err(SelectorError { message: format!("{text:?}: unknown key {key:?}, expected flagSetId or source") }),
        }
    }

    /// Whether it asks for a flag of that set (`None`: of no set) from that source.
    #[must_use]
    pub fn matches(&self, flag_set_id: Option<&str>, source: &str) -> bool {
        match self {
            Self::All => true,
            Self::FlagSet(wanted) => flag_set_id == Some(wanted),
            Self::NoFlagSet => flag_set_id.is_none(),
            Self::Source(wanted) => wanted == source,
        }
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::FlagSet(id) => write!(f, "flagSetId={id}"),
            Self::NoFlagSet => f.write_str("flagSetId="),
            Self::Source(source) => write!(f, "source={source}"),
        }
    }
}

/// A text that is no [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    message: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad selector {}", self.message)
    }
}

impl std::error::Error for SelectorError {}

/// A flag's metadata as its result shows it: the set's overlaid by its own, in the order written, the set's first.
#[must_use]
pub fn merged_metadata<'a>(set: &'a [(String, Scalar)], flag: &'a [(String, Scalar)]) -> Vec<(&'a str, &'a Scalar)> {
    let own = |name: &str| flag.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    let in_set = |name: &str| set.iter().any(|(other, _)| other == name);
    let from_set = set.iter().map(|(name, value)| (&**name, own(name).unwrap_or(value)));
    let only_own = flag.iter().filter(|(name, _)| !in_set(name)).map(|(name, value)| (&**name, value));
    from_set.chain(only_own).collect()
}

/// The flag set a flag belongs to: `flagSetId` of its merged metadata. `None` where that is absent, empty or no text.
#[must_use]
pub fn flag_set_id<'a>(set: &'a [(String, Scalar)], flag: &'a [(String, Scalar)]) -> Option<&'a str> {
    let named = |metadata: &'a [(String, Scalar)]| {
        metadata.iter().rev().find(|(name, _)| name == "flagSetId").map(|(_, value)| value)
    };
    match named(flag).or_else(|| named(set)) {
        Some(Scalar::Text(id)) if !id.is_empty() => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Scalar {
        Scalar::Text(value.to_owned())
    }

    #[test]
    fn selectors_are_read_and_shown() {
        for (written, read, shown) in [
            ("", Selector::All, ""),
            ("flagSetId=a", Selector::FlagSet("a".to_owned()), "flagSetId=a"),
            ("flagSetId=", Selector::NoFlagSet, "flagSetId="),
            ("source=/etc/flags.json", Selector::Source("/etc/flags.json".to_owned()), "source=/etc/flags.json"),
            ("flags.json", Selector::Source("flags.json".to_owned()), "source=flags.json"),
        ] {
            assert_eq!(Selector::parse(written).unwrap(), read);
            assert_eq!(read.to_string(), shown);
        }
        for wrong in ["key=a", "source=", "flagSetId=a,source=b", "flagSetId=a=b", "=a"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Selector::parse("team=a").unwrap_err().to_string(),
            "bad selector \"team=a\": unknown key \"team\", expected flagSetId or source"
        );
    }

    #[test]
    fn selectors_match_by_set_or_source() {
        let matches = |selector: &str, set, source| Selector::parse(selector).unwrap().matches(set, source);
        assert!(matches("", Some("a"), "s") && matches("", None, "s"));
        assert!(matches("flagSetId=a", Some("a"), "s"));
        assert!(!matches("flagSetId=a", Some("b"), "s") && !matches("flagSetId=a", None, "a"));
        assert!(matches("flagSetId=", None, "s") && !matches("flagSetId=", Some("a"), "s"));
        assert!(matches("s", None, "s") && !matches("s", Some("s"), "t"));
    }

    #[test]
    fn a_flags_metadata_overlays_its_sets() {
        let set = [("flagSetId".to_owned(), text("set")), ("version".to_owned(), text("1"))];
        let flag = [("owner".to_owned(), text("me")), ("version".to_owned(), text("2"))];
        let merged = merged_metadata(&set, &flag);
        assert_eq!(merged, [("flagSetId", &text("set")), ("version", &text("2")), ("owner", &text("me"))]);
        assert_eq!(flag_set_id(&set, &flag), Some("set"));
        assert_eq!(flag_set_id(&set, &[("flagSetId".to_owned(), text("own"))]), Some("own"));
        assert_eq!(flag_set_id(&set, &[("flagSetId".to_owned(), text(""))]), None);
        assert_eq!(flag_set_id(&[], &[("flagSetId".to_owned(), Scalar::Number(1.0))]), None);
        assert_eq!(flag_set_id(&[], &flag), None);
    }
}
