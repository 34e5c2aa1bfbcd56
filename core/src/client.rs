//! The client: flags for a program.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Error, Status,
    compile::{Compilation, Compiler},
    definition::{Document, Format, Limits, Problem, Selector},
    evaluate::{Attributes, Details, ErrorCode, FlagValue, Want},
    snapshot::{
        Evaluation, Snapshot,
        index::{Answer, Look, SHORT_KEY},
        list_file,
    },
    store::{self, Guard, MemoryFiles, OpenOptions, Reader, Region},
};

/// The longest flag set identifier and key, with the NUL between them, that a client with a selector looks for.
const MAX_QUALIFIED_BYTES: usize = 1024;

/// Feature flags, read from the host's shared memory.
///
/// Open one for each process and share it by reference: every method takes `&self`, any number of threads may call them at once,
/// and none of them waits for another. A client has no thread and no connection; it keeps working in the child of a `fork`. Reading a
/// flag takes no lock, makes no system call and allocates nothing, and never fails: where there is no answer, the caller's default is the answer.
///
/// ```
/// use libflags::{Client, Context, definition::Format};
///
/// let client = Client::from_definition(
///     r#"{"flags": {"new-cart": {
///         "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
///         "targeting": {"if": [{"==": [{"var": "tier"}, "premium"]}, "on"]}
///     }}}"#,
///     Format::Json,
/// )?;
/// assert!(client.bool("new-cart", &Context::new("user-1").with("tier", "premium"), false));
/// assert!(!client.bool("new-cart", &Context::new("user-2"), true));
/// assert!(client.bool("no-such-flag", &Context::anonymous(), true));
/// # Ok::<(), libflags::Error>(())
/// ```
#[derive(Debug)]
pub struct Client {
    reader: Reader<Snapshot>,
    number: u64,
    /// Ahead of the key in every look-up: the identifier of a flag set; `None` without a selector.
    flag_set: Option<FlagSet>,
    /// Of a client that compiles in process.
    local: Option<Box<Local>>,
}

/// What a selector narrows look-ups to.
#[derive(Clone, Debug)]
struct FlagSet(Option<Arc<str>>);

#[derive(Debug)]
struct Local {
    /// Where to read again from.
    path: Option<PathBuf>,
    compiler: Mutex<Compiler>,
}

/// The answer to one flag, resolved once a version: what [`FlagHandle`] and the C ABI's `flags_ref` keep.
///
/// It belongs to the first client that uses it; other clients look the flag up each time. Copies of the answer are never stale: it
/// is kept together with the version it was read at, and a newer version makes it look again. (The version is kept in 32 bits, so an answer
/// that is not looked at for exactly 2^32 versions would pass for current.)
#[derive(Debug, Default)]
#[repr(C)]
pub struct FlagCache {
    /// The number of the client; 0 before the first use.
    owner: AtomicU64,
    /// The version's low 32 bits above what the index says.
    word: AtomicU64,
}

impl FlagCache {
    /// A cache that holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { owner: AtomicU64::new(0), word: AtomicU64::new(0) }
    }

    /// What the index said when the version was `version`, if that is what it holds.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the version is kept in 32 bits; the low half is the answer")]
    fn answer(&self, client: u64, version: u64) -> Option<Answer> {
        // ORDERING: Relaxed; `word` is written by the owner alone, and it is an answer whole in itself: nothing is read through it
        // that the generation of its own version would not show.
        let word = (self.owner.load(Ordering::Relaxed) == client).then(|| self.word.load(Ordering::Relaxed))?;
        let answer = Answer(word as u32);
        ((word >> 32) as u32 == version as u32 && answer.0 != 0).then_some(answer)
    }

    fn keep(&self, client: u64, version: u64, answer: Answer) {
        // ORDERING: Relaxed, as above. Whoever comes first owns the cache for good.
        let owner = self.owner.compare_exchange(0, client, Ordering::Relaxed, Ordering::Relaxed);
        if owner.is_ok() || owner == Err(client) {
            // ORDERING: Relaxed, as above.
            self.word.store(version << 32 | u64::from(answer.0), Ordering::Relaxed);
        }
    }
}

impl Client {
    /// Opens the store at `store`, or where it is by default: `$FLAGS_STORE`, `/run/flags/default`,
    /// `$XDG_RUNTIME_DIR/flags/default`, `/dev/shm/flags-<uid>/default`.
    ///
    /// # Errors
    ///
    /// [`Error::NoStore`] names every path tried; [`Error::NothingPublished`] where there is a store but no flags yet; [`Error::Untrusted`],
    /// [`Error::Corrupt`], [`Error::UnknownFormat`], [`Error::Io`] where it cannot be used. To open a client that
    /// answers with defaults until there is a store: [`Client::open_with`] and [`OpenOptions::wait`].
    pub fn open(store: Option<&Path>) -> Result<Self, Error> {
        let options = OpenOptions::new();
        Self::open_with(&match store {
            Some(store) => options.store(store),
            None => options,
        })
    }

    /// Opens a store with options.
    ///
    /// # Errors
    ///
    /// As [`Client::open`].
    pub fn open_with(options: &OpenOptions) -> Result<Self, Error> {
        Ok(Self::over(Reader::open(options)?, None))
    }

    /// Compiles a definition file (JSON, or YAML where it ends in `.yaml` or `.yml`) in this process: no daemon, no store, the same answers.
    ///
    /// The file is read once; [`Client::reload`] reads it again.
    ///
    /// # Errors
    ///
    /// [`Error::Definition`] where it cannot be read or is no definition at all. A broken flag is no error: it answers `PARSE_ERROR` and
    /// [`Client::reload`] tells.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let document = Document::load(path, &Limits::default())?;
        Self::compiled(&document, Some(path.to_owned()))
    }

    /// Compiles a definition in this process.
    ///
    /// # Errors
    ///
    /// [`Error::Definition`] where it is no definition at all.
    pub fn from_definition(text: &str, format: Format) -> Result<Self, Error> {
        let document = Document::parse("definition", crate::buffer::text(text), format, &Limits::default())?;
        Self::compiled(&document, None)
    }

    /// Narrows the client to the flags of one flag set: `flagSetId=ID`, or `flagSetId=` for those in none.
    ///
    /// # Errors
    ///
    /// [`Error::Payload`] for a selector by source: which sources there are is flagsd's to know, and to select.
    pub fn with_selector(mut self, selector: &Selector) -> Result<Self, Error> {
        self.flag_set = match selector {
            Selector::All => None,
            Selector::FlagSet(id) => Some(FlagSet(Some(Arc::from(id.as_str())))),
            Selector::NoFlagSet => Some(FlagSet(None)),
            other => return Err(Error::Payload(format!("a client cannot select by {other}"))),
        };
        // What was cached for another selection is not this one's.
        self.number = next_number();
        Ok(self)
    }

    /// Reads the definition file again, for a client from [`Client::from_file`]; gives what is wrong with it. Flags that broke stay in
    /// their last good form.
    ///
    /// # Errors
    ///
    /// [`Error::Definition`] where it cannot be read or is no definition at all: what was there stays. [`Error::Payload`] for a client of a store.
    pub fn reload(&self) -> Result<Vec<Problem>, Error> {
        let Some((local, path)) = self.local.as_ref().and_then(|local| Some((local, local.path.as_ref()?))) else {
            return Err(Error::Payload("only a client of a definition file can be reloaded".to_owned()));
        };
        let document = Document::load(path, &Limits::default())?;
        let mut compiler = local.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        // The lists that the previous snapshot holds are handed over by it; those read anew come with the compilation.
        let compilation = compiler.compile(std::slice::from_ref(&document), &Selector::All)?;
        self.reader.replace(Region::of_compiled(Arc::clone(&compilation.snapshot)), &memory_files(&compilation))?;
        Ok(compilation.problems)
    }

    fn compiled(document: &Document, path: Option<PathBuf>) -> Result<Self, Error> {
        let mut compiler = Compiler::new(Limits::default());
        let compilation = compiler.compile(std::slice::from_ref(document), &Selector::All)?;
        let reader =
            Reader::private(Region::of_compiled(Arc::clone(&compilation.snapshot)), &memory_files(&compilation))?;
        Ok(Self::over(reader, Some(Box::new(Local { path, compiler: Mutex::new(compiler) }))))
    }

    fn over(reader: Reader<Snapshot>, local: Option<Box<Local>>) -> Self {
        Self { reader, number: next_number(), flag_set: None, local }
    }

    /// The value of a boolean flag, or `default`.
    #[inline]
    pub fn bool<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: bool) -> bool {
        // Only what a constant flag with a short key needs is done in here. All else is the last call of this function, which takes the
        // guard along, so that the usual way saves no registers for it.
        let key = key.as_ref();
        if self.flag_set.is_some() {
            return self.bool_slowly(key, context, default);
        }
        let Some(guard) = self.reader.enter_now() else { return self.bool_slowly(key, context, default) };
        let Some(snapshot) = guard.payload() else { return default };
        if key.len() > SHORT_KEY {
            return bool_of_long_key(guard, key, context, default);
        }
        let hash = snapshot.index().hash_of_short(key);
        match snapshot.index().look_first(hash) {
            Some(Look::Found(answer)) => match answer.constant() {
                Some(value) => value,
                None => bool_by_rule(guard, answer, context, default),
            },
            Some(Look::Other) => bool_further(guard, hash, context, default),
            None => default,
        }
    }

    /// [`Client::bool`] where there is a flag set to look in, or something else to be done first.
    #[inline(never)]
    fn bool_slowly<A: Attributes + ?Sized>(&self, key: &[u8], context: &A, default: bool) -> bool {
        let guard = self.reader.enter();
        let answer = guard.payload().and_then(|snapshot| find(self.flag_set.as_ref(), snapshot, key));
        bool_of(&guard, answer, context, default)
    }

    /// The value of a number flag that is whole, or `default`.
    #[inline]
    pub fn int<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: i64) -> i64 {
        self.read(key.as_ref(), Want::Int, context, |value| match value {
            Some(FlagValue::Int(value)) => value,
            _ => default,
        })
    }

    /// The value of a number flag, or `default`.
    #[inline]
    pub fn float<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: f64) -> f64 {
        self.read(key.as_ref(), Want::Float, context, |value| match value {
            Some(FlagValue::Float(value)) => value,
            _ => default,
        })
    }

    /// A copy of the value of a string flag, or of `default`. To read it without a copy: [`Client::with_string`], or
    /// [`Pinned::string`].
    pub fn string<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: &str) -> String {
        self.with_string(key, context, |value| value.unwrap_or(default).to_owned())
    }

    /// A copy of the value of an object flag as compact JSON text, or of `default`. To read it without a copy:
    /// [`Client::with_object`], or [`Pinned::object`].
    pub fn object<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: &str) -> String {
        self.with_object(key, context, |value| value.unwrap_or(default).to_owned())
    }

    /// Calls `read` with the value of a string flag; `None` where the default stands. Keep it short: the generation that the value lies in stays mapped
    /// meanwhile.
    #[inline]
    pub fn with_string<A: Attributes + ?Sized, R>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        read: impl FnOnce(Option<&str>) -> R,
    ) -> R {
        self.read(key.as_ref(), Want::Text, context, |value| match value {
            Some(FlagValue::Text(value)) => read(Some(value)),
            _ => read(None),
        })
    }

    /// Calls `read` with the value of an object flag as compact JSON text; `None` where the default stands.
    #[inline]
    pub fn with_object<A: Attributes + ?Sized, R>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        read: impl FnOnce(Option<&str>) -> R,
    ) -> R {
        self.read(key.as_ref(), Want::Json, context, |value| match value {
            Some(FlagValue::Json(value)) => read(Some(value)),
            _ => read(None),
        })
    }

    /// Evaluates a flag of any type and calls `read` with the answer, which borrows from the current generation.
    pub fn evaluate<A: Attributes + ?Sized, R>(
        &self,
        key: impl AsRef<[u8]>,
        want: Want,
        context: &A,
        read: impl FnOnce(Evaluation<'_>) -> R,
    ) -> R {
        let guard = self.reader.enter();
        read(evaluate(guard.payload(), self.flag_set.as_ref(), key.as_ref(), want, context))
    }

    /// The value of a boolean flag, and where it comes from.
    pub fn bool_details<A: Attributes + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: bool,
    ) -> Details<bool> {
        self.details(key, Want::Bool, context, |value| match value {
            Some(FlagValue::Bool(value)) => value,
            _ => default,
        })
    }

    /// The value of a number flag that is whole, and where it comes from.
    pub fn int_details<A: Attributes + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: i64,
    ) -> Details<i64> {
        self.details(key, Want::Int, context, |value| match value {
            Some(FlagValue::Int(value)) => value,
            _ => default,
        })
    }

    /// The value of a number flag, and where it comes from.
    pub fn float_details<A: Attributes + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: f64,
    ) -> Details<f64> {
        self.details(key, Want::Float, context, |value| match value {
            Some(FlagValue::Float(value)) => value,
            _ => default,
        })
    }

    /// The value of a string flag, and where it comes from.
    pub fn string_details<A: Attributes + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: &str,
    ) -> Details<String> {
        self.details(key, Want::Text, context, |value| match value {
            Some(FlagValue::Text(value)) => value.to_owned(),
            _ => default.to_owned(),
        })
    }

    /// The value of an object flag as compact JSON text, and where it comes from.
    pub fn object_details<A: Attributes + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: &str,
    ) -> Details<String> {
        self.details(key, Want::Json, context, |value| match value {
            Some(FlagValue::Json(value)) => value.to_owned(),
            _ => default.to_owned(),
        })
    }

    fn details<A: Attributes + ?Sized, T>(
        &self,
        key: impl AsRef<[u8]>,
        want: Want,
        context: &A,
        value: impl FnOnce(Option<FlagValue<'_>>) -> T,
    ) -> Details<T> {
        self.evaluate(key, want, context, |evaluation| evaluation.into_details(value))
    }

    /// One version of the flags, for many reads: a request that takes several decisions takes them all from the same one.
    ///
    /// While it lives, its generation stays in memory.
    #[must_use]
    pub fn snapshot(&self) -> Pinned {
        Pinned { pinned: self.reader.pin(), flag_set: self.flag_set.clone() }
    }

    /// A flag resolved once and again whenever the flags change, for code that asks for the same flag over and over.
    #[must_use]
    pub fn flag(&self, key: impl AsRef<[u8]>) -> FlagHandle<'_> {
        FlagHandle { client: self, key: key.as_ref().into(), cache: FlagCache::new() }
    }

    /// As [`Client::bool`], with the flag's place remembered in `cache`, which must always be used with the same key.
    #[inline]
    pub fn bool_cached<A: Attributes + ?Sized>(
        &self,
        cache: &FlagCache,
        key: &[u8],
        context: &A,
        default: bool,
    ) -> bool {
        let known = cache.answer(self.number, self.reader.newest_version());
        if let Some(value) = known.and_then(Answer::constant) {
            return value;
        }
        self.read_cached(cache, key, Want::Bool, context, |value| match value {
            Some(FlagValue::Bool(value)) => value,
            _ => default,
        })
    }

    /// Where the newest version stands as long as the client lives, and the number that this client's [`FlagCache`]s have: what the C header needs to
    /// answer from a cache without a call.
    #[doc(hidden)]
    #[must_use]
    pub fn face(&self) -> (*const u64, u64) {
        (self.reader.version_word(), self.number)
    }

    /// How current the flags are, and whether anybody keeps them so.
    #[must_use]
    pub fn status(&self) -> Status {
        self.reader.status()
    }

    #[inline]
    fn read<A: Attributes + ?Sized, R>(
        &self,
        key: &[u8],
        want: Want,
        context: &A,
        read: impl FnOnce(Option<FlagValue<'_>>) -> R,
    ) -> R {
        let guard = self.reader.enter();
        let value = guard.payload().and_then(|snapshot| {
            let answer = find(self.flag_set.as_ref(), snapshot, key);
            snapshot.answer_value(answer?, want, context)
        });
        read(value)
    }

    /// Of its own, so that the way of an answer that is known saves no registers for it.
    #[inline(never)]
    fn read_cached<A: Attributes + ?Sized, R>(
        &self,
        cache: &FlagCache,
        key: &[u8],
        want: Want,
        context: &A,
        read: impl FnOnce(Option<FlagValue<'_>>) -> R,
    ) -> R {
        let guard = self.reader.enter();
        let Some(snapshot) = guard.payload() else { return read(None) };
        let Some(answer) = self.find_cached(&guard, snapshot, cache, key) else { return read(None) };
        read(snapshot.answer_value(answer, want, context))
    }

    #[inline]
    fn find_cached(
        &self,
        guard: &Guard<'_, Snapshot>,
        snapshot: &Snapshot,
        cache: &FlagCache,
        key: &[u8],
    ) -> Option<Answer> {
        let version = guard.version();
        if let Some(answer) = version.and_then(|version| cache.answer(self.number, version)) {
            return (answer != Answer::ABSENT).then_some(answer);
        }
        let found = find(self.flag_set.as_ref(), snapshot, key);
        if let Some(version) = version {
            cache.keep(self.number, version, found.unwrap_or(Answer::ABSENT));
        }
        found
    }
}

/// One version of the flags, kept for as long as it is wanted. Outlives the client it comes from.
#[derive(Clone, Debug)]
pub struct Pinned {
    pinned: Option<store::Pinned<Snapshot>>,
    flag_set: Option<FlagSet>,
}

impl Pinned {
    /// Evaluates a flag of any type. The answer borrows from the snapshot; nothing is allocated.
    pub fn evaluate<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, want: Want, context: &A) -> Evaluation<'_> {
        evaluate(self.flags(), self.flag_set.as_ref(), key.as_ref(), want, context)
    }

    /// The value of a boolean flag, or `default`.
    pub fn bool<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: bool) -> bool {
        match self.value(key.as_ref(), Want::Bool, context) {
            Some(FlagValue::Bool(value)) => value,
            _ => default,
        }
    }

    /// The value of a number flag that is whole, or `default`.
    pub fn int<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: i64) -> i64 {
        match self.value(key.as_ref(), Want::Int, context) {
            Some(FlagValue::Int(value)) => value,
            _ => default,
        }
    }

    /// The value of a number flag, or `default`.
    pub fn float<A: Attributes + ?Sized>(&self, key: impl AsRef<[u8]>, context: &A, default: f64) -> f64 {
        match self.value(key.as_ref(), Want::Float, context) {
            Some(FlagValue::Float(value)) => value,
            _ => default,
        }
    }

    /// The value of a string flag, or `default`; not copied.
    pub fn string<'a, A: Attributes + ?Sized>(
        &'a self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: &'a str,
    ) -> &'a str {
        match self.value(key.as_ref(), Want::Text, context) {
            Some(FlagValue::Text(value)) => value,
            _ => default,
        }
    }

    /// The value of an object flag as compact JSON text, or `default`; not copied.
    pub fn object<'a, A: Attributes + ?Sized>(
        &'a self,
        key: impl AsRef<[u8]>,
        context: &A,
        default: &'a str,
    ) -> &'a str {
        match self.value(key.as_ref(), Want::Json, context) {
            Some(FlagValue::Json(value)) => value,
            _ => default,
        }
    }

    /// The keys of the flags in the order of their bytes.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.flags().into_iter().flat_map(Snapshot::keys)
    }

    /// The flags themselves; `None` where the client had none.
    #[must_use]
    pub fn flags(&self) -> Option<&Snapshot> {
        self.pinned.as_ref().map(store::Pinned::payload)
    }

    /// The number of the generation; 0 where the client had none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.pinned.as_ref().map_or(0, |pinned| pinned.generation().0)
    }

    /// The revision of the source that the generation was made from; 0 where sources have none.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.pinned.as_ref().map_or(0, |pinned| pinned.record().revision)
    }

    fn value<A: Attributes + ?Sized>(&self, key: &[u8], want: Want, context: &A) -> Option<FlagValue<'_>> {
        let snapshot = self.flags()?;
        let answer = find(self.flag_set.as_ref(), snapshot, key);
        snapshot.answer_value(answer?, want, context)
    }
}

/// A flag of one client, resolved once a version.
#[derive(Debug)]
pub struct FlagHandle<'c> {
    client: &'c Client,
    key: Box<[u8]>,
    cache: FlagCache,
}

impl FlagHandle<'_> {
    /// The value of a boolean flag, or `default`.
    #[inline]
    pub fn bool<A: Attributes + ?Sized>(&self, context: &A, default: bool) -> bool {
        self.client.bool_cached(&self.cache, &self.key, context, default)
    }

    /// The value of a number flag that is whole, or `default`.
    pub fn int<A: Attributes + ?Sized>(&self, context: &A, default: i64) -> i64 {
        self.read(Want::Int, context, |value| match value {
            Some(FlagValue::Int(value)) => value,
            _ => default,
        })
    }

    /// The value of a number flag, or `default`.
    pub fn float<A: Attributes + ?Sized>(&self, context: &A, default: f64) -> f64 {
        self.read(Want::Float, context, |value| match value {
            Some(FlagValue::Float(value)) => value,
            _ => default,
        })
    }

    /// A copy of the value of a string flag, or of `default`.
    pub fn string<A: Attributes + ?Sized>(&self, context: &A, default: &str) -> String {
        self.read(Want::Text, context, |value| match value {
            Some(FlagValue::Text(value)) => value.to_owned(),
            _ => default.to_owned(),
        })
    }

    /// A copy of the value of an object flag as compact JSON text, or of `default`.
    pub fn object<A: Attributes + ?Sized>(&self, context: &A, default: &str) -> String {
        self.read(Want::Json, context, |value| match value {
            Some(FlagValue::Json(value)) => value.to_owned(),
            _ => default.to_owned(),
        })
    }

    fn read<A: Attributes + ?Sized, R>(
        &self,
        want: Want,
        context: &A,
        read: impl FnOnce(Option<FlagValue<'_>>) -> R,
    ) -> R {
        self.client.read_cached(&self.cache, &self.key, want, context, read)
    }
}

impl FlagSet {
    /// Looks for `key` in the set, without allocating.
    #[inline(never)]
    fn find(&self, snapshot: &Snapshot, key: &[u8]) -> Option<Answer> {
        if !snapshot.is_qualified() {
            // No flag is in a set, so all are in none.
            return self.0.is_none().then(|| snapshot.find(key))?;
        }
        let set = self.0.as_deref().unwrap_or_default().as_bytes();
        let mut qualified = [0; MAX_QUALIFIED_BYTES];
        let len = set.len() + 1 + key.len();
        let (before, rest) = qualified.get_mut(..len)?.split_at_mut_checked(set.len())?;
        before.copy_from_slice(set);
        rest.get_mut(1..)?.copy_from_slice(key);

        snapshot.find(qualified.get(..len)?)
    }
}

/// [`Client::bool`] of a key that is not hashed in place.
#[inline(never)]
fn bool_of_long_key<A: Attributes + ?Sized>(
    guard: Guard<'_, Snapshot>,
    key: &[u8],
    context: &A,
    default: bool,
) -> bool {
    bool_of(&guard, guard.payload().and_then(|snapshot| snapshot.find(key)), context, default)
}

/// [`Client::bool`] of a key that is not in its own place.
#[inline(never)]
fn bool_further<A: Attributes + ?Sized>(guard: Guard<'_, Snapshot>, hash: u128, context: &A, default: bool) -> bool {
    match guard.payload().and_then(|snapshot| snapshot.index().look_further(hash)) {
        Some(answer) => match answer.constant() {
            Some(value) => value,
            None => bool_by_rule(guard, answer, context, default),
        },
        None => default,
    }
}

/// [`Client::bool`] of a flag that is not the same for everybody.
#[inline(never)]
fn bool_by_rule<A: Attributes + ?Sized>(
    guard: Guard<'_, Snapshot>,
    answer: Answer,
    context: &A,
    default: bool,
) -> bool {
    guard.payload().and_then(|snapshot| snapshot.rule_truth(answer, context)).unwrap_or(default)
}

#[inline(always)]
fn bool_of<A: Attributes + ?Sized>(
    guard: &Guard<'_, Snapshot>,
    answer: Option<Answer>,
    context: &A,
    default: bool,
) -> bool {
    let truth = guard.payload().and_then(|snapshot| snapshot.answer_truth(answer?, context));
    truth.unwrap_or(default)
}

/// What the index says of `key`, in the flag set that a selector narrows to.
#[inline(always)]
fn find(flag_set: Option<&FlagSet>, snapshot: &Snapshot, key: &[u8]) -> Option<Answer> {
    match flag_set {
        None => snapshot.find(key),
        Some(flag_set) => flag_set.find(snapshot, key),
    }
}

fn evaluate<'a, A: Attributes + ?Sized>(
    snapshot: Option<&'a Snapshot>,
    flag_set: Option<&FlagSet>,
    key: &[u8],
    want: Want,
    context: &A,
) -> Evaluation<'a> {
    let Some(snapshot) = snapshot else { return Evaluation::error(ErrorCode::ProviderNotReady) };
    match find(flag_set, snapshot, key) {
        Some(answer) => snapshot.answer_evaluation(answer, want, context),
        None => Evaluation::error(ErrorCode::FlagNotFound),
    }
}

/// The id lists that a compilation hands out, for a reader in the same process.
fn memory_files(compilation: &Compilation) -> MemoryFiles {
    let built = compilation.lists.iter().filter_map(|list| Some((list.name, list.built.as_ref()?)));
    MemoryFiles(built.map(|(name, built)| (list_file(name), Region::copy_of(&built.to_bytes()))).collect())
}

/// A number that no other client has, so that a [`FlagCache`] knows whose answer it holds; not 0, which is nobody's. Random, since a
/// library that was unloaded and loaded again would begin to count anew.
fn next_number() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}
