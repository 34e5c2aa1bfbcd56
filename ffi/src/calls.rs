//! Calls of the C interface in an order and with arguments that some bytes choose, within what `flags.h` allows: for the
//! fuzzer's target `c_api`, and for the test below, which repeats what it found.
//!
//! Everything that is handed over lies in an allocation that ends where it ends, so that AddressSanitizer sees a byte too many
//! that is read or written. Answers of different functions to one question are compared.

#![expect(clippy::cast_possible_truncation, reason = "any number will do")]
#![expect(
    clippy::vec_box,
    reason = "the library knows a `flags_ref` by its address, which a vector that grows would change"
)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::process;
use std::ptr::{null, null_mut};

use libflags::compile::Compiler;
use libflags::definition::{Document, Format, Limits, Selector};
use libflags::store::{PublishMeta, Publisher, PublisherOptions, WriterState};

use crate::client::{
    Client, flags_bool, flags_close, flags_double, flags_int, flags_json, flags_open, flags_open_file, flags_string,
};
use crate::client_status::{ClientStatus, flags_get_status};
use crate::context::Context;
use crate::flag_ref::{FlagRef, flags_bool_ref};
use crate::metadata::{Metadata, flags_snapshot_metadata};
use crate::options::Options;
use crate::result::EvaluationResult;
use crate::snapshot::{
    Snapshot, flags_evaluate, flags_snapshot_acquire, flags_snapshot_generation, flags_snapshot_release,
};
use crate::status::{Status, flags_last_error, flags_status_text};
use crate::value::{Attribute, List, Object, Payload, Text, Type, Value};
use crate::version::{flags_abi_version, flags_version};

/// Makes the calls that `bytes` say.
///
/// # Panics
/// Where an answer is not what `flags.h` promises.
pub fn run(bytes: &[u8]) {
    HOME.with_borrow_mut(|home| {
        home.publish(0);
        let mut calls =
            Calls { home, bytes: Bytes(bytes), clients: [null_mut(); 3], snapshots: [null_mut(); 4], refs: Vec::new() };
        while !calls.bytes.0.is_empty() {
            calls.next();
        }
        for client in calls.clients {
            // SAFETY: it was opened and not closed, or is NULL; nobody uses it any more.
            unsafe { flags_close(client) };
        }
        for snapshot in calls.snapshots {
            // SAFETY: it was acquired and not released, or is NULL; nobody uses it any more.
            unsafe { flags_snapshot_release(snapshot) };
        }
    });
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::new(Home::new());
}

/// A store that this process publishes in, and definition files; the same for all runs.
struct Home {
    folder: PathBuf,
    publisher: Publisher,
    /// Snapshots to publish.
    versions: Vec<Vec<u8>>,
    paths: Vec<CString>,
}

impl Home {
    fn new() -> Self {
        let shared = PathBuf::from("/dev/shm");
        let folder = if shared.is_dir() { shared } else { std::env::temp_dir() };
        let folder = folder.join(format!("flags-calls-{}-{:?}", process::id(), std::thread::current().id()));
        let _ = fs::remove_dir_all(&folder);
        let place = |name: &str| folder.join(name);
        fs::create_dir_all(place("empty")).expect("a folder");
        let write = |name: &str, text: &str| fs::write(place(name), text).expect("a file");
        write("flags.json", DEFINITION);
        write("flags.yaml", "flags:\n  on: {state: ENABLED, variants: {on: true}, defaultVariant: on}\n");
        write("broken.json", "{\"flags\": [");
        let publisher = Publisher::open(&place("store"), &PublisherOptions::default()).expect("a store");
        let versions = [
            DEFINITION.to_owned(),
            DEFINITION.replace("premium", "gold").replace("42", "43"),
            "{\"flags\": {}}".to_owned(),
        ];
        let names = ["store", "empty", "nowhere", "flags.json", "flags.yaml", "broken.json", "store/v1/control"];
        let paths = names
            .iter()
            .map(|name| CString::new(place(name).to_string_lossy().as_bytes()).expect("a path without NUL"));
        Self { paths: paths.collect(), versions: versions.into_iter().map(compiled).collect(), publisher, folder }
    }

    fn publish(&mut self, version: usize) {
        let meta = PublishMeta { revision: version as u64, ..PublishMeta::default() };
        self.publisher.publish(&self.versions[version], &meta).expect("room for a segment");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn compiled(definition: String) -> Vec<u8> {
    let document = Document::parse("flags.json", definition, Format::Json, &Limits::default()).expect("a definition");
    let compilation = Compiler::new(Limits::default()).compile(&[document], &Selector::All).expect("a snapshot");
    compilation.snapshot.to_vec()
}

/// What the C tests use: flags of every type and with every kind of rule.
const DEFINITION: &str = include_str!("../../tests/c/flags.json");

const KEYS: [&CStr; 26] = [
    c"on",
    c"off",
    c"colour",
    c"accented",
    c"empty",
    c"answer",
    c"ratio",
    c"layout",
    c"tiered",
    c"adult",
    c"by-key",
    c"beta",
    c"nested",
    c"listed",
    c"second",
    c"spender",
    c"long",
    c"joined",
    c"bucketed",
    c"disabled",
    c"no-default",
    c"broken",
    c"nowhere",
    c"absent",
    c"",
    c"\xff\xfe",
];

const NAMES: [&CStr; 11] =
    [c"tier", c"age", c"beta", c"account", c"groups", c"orders", c"text", c"deep", c"plan", c"seats", c"total"];

const WORDS: [&[u8]; 8] = [b"premium", b"gold", b"user-1", b"admin", b"dev", b"xEND", b"\xc3", b""];

/// Bytes that choose; zeros when they are used up.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    fn take(&mut self, most: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What one call's arguments point to, for as long as the call takes. Nothing moves when more is added.
#[derive(Default)]
struct Arena {
    texts: Vec<Box<[u8]>>,
    values: Vec<Box<[Value]>>,
    attributes: Vec<Box<[Attribute]>>,
    words: Vec<Box<[u64]>>,
}

impl Arena {
    fn text(&mut self, bytes: Vec<u8>) -> *const c_char {
        self.texts.push(bytes.into_boxed_slice());
        self.texts.last().map_or(null(), |text| text.as_ptr().cast())
    }

    /// NULL, or a text that ends with the only NUL it surely has.
    fn terminated(&mut self, bytes: &mut Bytes<'_>, known: &[&CStr]) -> *const c_char {
        match bytes.below(32) {
            0 => null(),
            1 => {
                let length = bytes.below(40);
                let text = [bytes.take(length), b"\0"].concat();
                self.text(text)
            }
            _ => {
                let known = known[bytes.below(known.len())];
                self.text(known.to_bytes_with_nul().to_vec())
            }
        }
    }

    /// A text and its length, which need not fit together where the header says that this is noticed.
    fn sized(&mut self, bytes: &mut Bytes<'_>) -> (*const c_char, usize) {
        match bytes.below(8) {
            0 => (null(), bytes.below(3)),
            1 => (self.text(b"premium".to_vec()), usize::MAX - bytes.below(3)),
            2 => {
                let length = bytes.below(40);
                let text = bytes.take(length).to_vec();
                let length = text.len();
                (self.text(text), length)
            }
            _ => {
                let word = WORDS[bytes.below(WORDS.len())].to_vec();
                let length = word.len();
                (self.text(word), length)
            }
        }
    }

    fn value(&mut self, bytes: &mut Bytes<'_>, depth: usize) -> Value {
        // The whole union is set: C would have whatever was there before.
        let mut payload = Payload { object: Object { members: null(), count: 0 } };
        let kind = match bytes.below(16) {
            kind @ 0..8 if depth > 0 || kind < 6 => kind as u32,
            8 => bytes.word() as u32,
            _ => Type::String as u32,
        };
        match kind {
            1 => payload.boolean = bytes.byte() & 1 != 0,
            2 => payload.integer = bytes.word() as i64,
            3 => payload.number = f64::from_bits(bytes.word()),
            6 => {
                let items: Vec<Value> = (0..bytes.below(4)).map(|_| self.value(bytes, depth - 1)).collect();
                let count = items.len();
                self.values.push(items.into_boxed_slice());
                let items = self.values.last().map_or(null(), |items| items.as_ptr());
                payload.list = match bytes.below(8) {
                    0 => List { items: null(), count },
                    1 => List { items: items.wrapping_byte_add(1), count },
                    2 => List { items, count: usize::MAX },
                    _ => List { items, count },
                };
            }
            7 => {
                let (members, count) = self.attributes(bytes, depth - 1);
                payload.object = Object { members, count };
            }
            _ => {
                let (data, length) = self.sized(bytes);
                payload.string = Text { data, length };
            }
        }
        let mut r#type = MaybeUninit::<Type>::uninit();
        // SAFETY: an enum of C is 32 bits, and a number that names no type stays behind `MaybeUninit`.
        unsafe { r#type.as_mut_ptr().cast::<u32>().write(kind) };
        Value { r#type, r#as: payload }
    }

    fn attributes(&mut self, bytes: &mut Bytes<'_>, depth: usize) -> (*const Attribute, usize) {
        let attributes: Vec<Attribute> = (0..bytes.below(4))
            .map(|_| {
                let value = self.value(bytes, depth);
                if bytes.below(4) == 0 {
                    let (name, name_length) = self.sized(bytes);
                    // A length of 0 says that it ends with a NUL.
                    let name = if name_length == 0 { null() } else { name };
                    return Attribute { name, name_length, value };
                }
                Attribute { name: self.terminated(bytes, &NAMES), name_length: 0, value }
            })
            .collect();
        let count = attributes.len();
        self.attributes.push(attributes.into_boxed_slice());
        let first = self.attributes.last().map_or(null(), |attributes| attributes.as_ptr());
        match bytes.below(16) {
            0 => (null(), count),
            1 => (first.wrapping_byte_add(1), count),
            2 => (first, usize::MAX - bytes.below(3)),
            _ => (first, count),
        }
    }

    /// Room that begins with its own size, as structs do that may grow: of that size, or too small to be looked at further.
    fn struct_of(&mut self, size: usize, bytes: &mut Bytes<'_>, content: &[u64]) -> *mut u64 {
        let (says, has) = match bytes.below(16) {
            0 => (0, 8),
            1 => (size - 1 - bytes.below(8), size),
            2 => (size + 8, size + 8),
            3 => (4096, 4096),
            4 => (4097, 8),
            5 => (usize::MAX - bytes.below(8), 8),
            _ => (size, size),
        };
        let mut words = vec![0_u64; has.div_ceil(8)];
        words.iter_mut().zip(content).for_each(|(word, content)| *word = *content);
        words[0] = says as u64;
        // What a later version has behind the struct's end.
        words.iter_mut().skip(size / 8).for_each(|word| *word = u64::from(bytes.byte()));
        self.words.push(words.into_boxed_slice());
        self.words.last_mut().map_or(null_mut(), |words| words.as_mut_ptr())
    }

    fn context(&mut self, bytes: &mut Bytes<'_>) -> *const Context {
        if bytes.below(8) == 0 {
            return null();
        }
        let (attributes, count) = self.attributes(bytes, 3);
        let (key, length) = match bytes.below(4) {
            0 => (self.terminated(bytes, &[c"user-1"]), 0),
            1 => match self.sized(bytes) {
                (_, 0) => (null(), 0),
                sized => sized,
            },
            _ => (null(), 0),
        };
        let content =
            [0, key.expose_provenance() as u64, attributes.expose_provenance() as u64, count as u64, length as u64];
        self.struct_of(size_of::<Context>(), bytes, &content).cast()
    }
}

/// A program that calls.
struct Calls<'a> {
    home: &'a mut Home,
    bytes: Bytes<'a>,
    clients: [*mut Client; 3],
    snapshots: [*mut Snapshot; 4],
    refs: Vec<Box<FlagRef>>,
}

impl Calls<'_> {
    fn next(&mut self) {
        match self.bytes.below(16) {
            0 => self.open(),
            1 => self.open_file(),
            2 => self.close(),
            3 | 4 => self.read(),
            5 | 6 => self.copy(),
            7 => self.reference(),
            8 | 9 => self.evaluate(),
            10 => self.acquire(),
            11 => self.release(),
            12 => self.metadata(),
            13 => self.status(),
            14 => self.publish(),
            _ => self.words(),
        }
    }

    fn client(&mut self) -> *mut Client {
        self.clients[self.bytes.below(self.clients.len())]
    }

    fn open(&mut self) {
        let place = self.bytes.below(self.clients.len());
        if !self.clients[place].is_null() {
            return;
        }
        let mut arena = Arena::default();
        // Never NULL: what this machine has for a default store is not ours.
        let store = self.home.paths[self.bytes.below(self.home.paths.len())].as_ptr();
        let selector = match self.bytes.below(8) {
            0 => c"flagSetId=".as_ptr(),
            1 => c"flagSetId=checkout".as_ptr(),
            2 => c"nonsense=1".as_ptr(),
            3 => arena.terminated(&mut self.bytes, &[c"flagSetId="]),
            _ => null(),
        };
        // A wait of a millisecond at most.
        let flags = u64::from(self.bytes.byte()) | u64::from(self.bytes.byte() & 1) << 32;
        let options: *const Options = if self.bytes.below(4) == 0 {
            null()
        } else {
            let content = [0, flags, selector.expose_provenance() as u64];
            arena.struct_of(size_of::<Options>(), &mut self.bytes, &content).cast()
        };
        self.opened(place, |out| {
            // SAFETY: the texts end with a NUL, the struct is as long as it says, `out` is NULL or a place for a pointer.
            unsafe { flags_open(store, options, out) }
        });
    }

    fn open_file(&mut self) {
        let place = self.bytes.below(self.clients.len());
        if !self.clients[place].is_null() {
            return;
        }
        let path = match self.bytes.below(8) {
            0 => null(),
            _ => self.home.paths[self.bytes.below(self.home.paths.len())].as_ptr(),
        };
        self.opened(place, |out| {
            // SAFETY: the path is NULL or ends with a NUL; `out` is NULL or a place for a pointer.
            unsafe { flags_open_file(path, out) }
        });
    }

    /// Opens into a place, which is written only if that works.
    fn opened(&mut self, place: usize, open: impl FnOnce(*mut *mut Client) -> Status) {
        if self.bytes.below(16) == 0 {
            assert_eq!(open(null_mut()), Status::FlagsInvalidArgument);
            return;
        }
        let untouched = std::ptr::without_provenance_mut(0x5555);
        let mut client = untouched;
        let status = open(&mut client);
        if status == Status::FlagsOk {
            assert!(!client.is_null() && client != untouched);
            self.clients[place] = client;
        } else {
            assert_eq!(client, untouched);
            assert!(!last_error().is_empty());
        }
    }

    fn close(&mut self) {
        let place = self.bytes.below(self.clients.len());
        let client = std::mem::replace(&mut self.clients[place], null_mut());
        // SAFETY: it was opened and not closed, or is NULL.
        unsafe { flags_close(client) };
    }

    /// Asks each of the functions that give a number, and the long way round.
    fn read(&mut self) {
        let mut arena = Arena::default();
        let client = self.client();
        let key = arena.terminated(&mut self.bytes, &KEYS);
        let context = arena.context(&mut self.bytes);
        // SAFETY: the client is open or NULL; key and context are what the header asks for.
        let yes = unsafe { flags_bool(client, key, context, true) };
        // SAFETY: as above.
        let no = unsafe { flags_bool(client, key, context, false) };
        // SAFETY: as above.
        let integer = unsafe { flags_int(client, key, context, i64::MIN) };
        // SAFETY: as above.
        let number = unsafe { flags_double(client, key, context, -0.25) };
        let value = |want: Type| long_way(client, key, context, want);
        match value(Type::Bool) {
            // SAFETY: the type says so.
            Some((Type::Bool, payload)) => assert_eq!([yes, no], [unsafe { payload.boolean }; 2]),
            _ => assert!(yes && !no, "where there is no boolean the fallback is the answer"),
        }
        match value(Type::Int) {
            // SAFETY: the type says so.
            Some((Type::Int, payload)) => assert_eq!(integer, unsafe { payload.integer }),
            _ => assert_eq!(integer, i64::MIN),
        }
        match value(Type::Double) {
            // SAFETY: the type says so.
            Some((Type::Double, payload)) => assert_eq!(number.to_bits(), unsafe { payload.number }.to_bits()),
            _ => assert_eq!(number, -0.25),
        }
    }

    /// Asks for a text, into a buffer of any size.
    fn copy(&mut self) {
        let mut arena = Arena::default();
        let client = self.client();
        let key = arena.terminated(&mut self.bytes, &KEYS);
        let context = arena.context(&mut self.bytes);
        let fallback = arena
            .terminated(&mut self.bytes, &[c"", c"fallback", c"a\xc3\xa9\xf0\x9f\xa6\x80", c"\x80\x80\x80\x80\x80"]);
        let cap = self.bytes.below(24);
        let mut buffer = vec![0x55_u8; cap].into_boxed_slice();
        let buf = if self.bytes.below(16) == 0 { null_mut() } else { buffer.as_mut_ptr().cast() };
        let text = self.bytes.byte() & 1 == 0;
        let length = if text {
            // SAFETY: the client is open or NULL, the others are what the header asks for; `buf` has room for `cap` or is NULL.
            unsafe { flags_string(client, key, context, fallback, buf, cap) }
        } else {
            // SAFETY: as above.
            unsafe { flags_json(client, key, context, fallback, buf, cap) }
        };
        let snapshot = acquire(client);
        let want = if text { Type::String } else { Type::Json };
        let expected: &[u8] = match ask(snapshot, key, context, want) {
            Some((Type::String | Type::Json, payload)) => {
                // SAFETY: the type says so.
                let text = unsafe { payload.string };
                // SAFETY: it lives in the snapshot, which is released below.
                unsafe { std::slice::from_raw_parts(text.data.cast(), text.length) }
            }
            _ if fallback.is_null() => b"",
            // SAFETY: it ends with a NUL.
            _ => unsafe { CStr::from_ptr(fallback) }.to_bytes(),
        };
        assert_eq!(length, expected.len());
        if !buf.is_null() && cap > 0 {
            let end = buffer.iter().position(|&byte| byte == 0).expect("what is written ends with a NUL");
            assert!(expected.starts_with(&buffer[..end]) || expected.contains(&0));
            assert!(end == length || end + 4 >= cap, "cut off though there was room: {end} of {cap}");
        } else {
            assert!(buffer.iter().all(|&byte| byte == 0x55));
        }
        // SAFETY: acquired above.
        unsafe { flags_snapshot_release(snapshot) };
    }

    fn reference(&mut self) {
        let mut arena = Arena::default();
        let client = self.client();
        if self.bytes.below(16) == 0 {
            // SAFETY: a NULL `ref` is fine.
            assert!(unsafe { flags_bool_ref(client, null_mut(), null(), true) });
            return;
        }
        let place = self.bytes.below(KEYS.len());
        if self.refs.is_empty() || self.bytes.below(4) == 0 {
            let key = KEYS[place];
            let key_length = if self.bytes.byte() & 1 == 0 { 0 } else { key.count_bytes() };
            self.refs.push(Box::new(FlagRef { key: key.as_ptr(), key_length, cache: Default::default() }));
        }
        let context = arena.context(&mut self.bytes);
        let place = self.bytes.below(self.refs.len());
        let reference: *mut FlagRef = &mut *self.refs[place];
        for fallback in [false, true] {
            // SAFETY: the client is open or NULL, the reference lives as long as we do, the context is what the header asks for.
            let short = unsafe { flags_bool_ref(client, reference, context, fallback) };
            let key = self.refs[place].key;
            // SAFETY: as above; the keys end with a NUL.
            let long = unsafe { flags_bool(client, key, context, fallback) };
            assert_eq!(short, long);
        }
    }

    fn evaluate(&mut self) {
        let mut arena = Arena::default();
        let snapshot = self.snapshots[self.bytes.below(self.snapshots.len())];
        let key = arena.terminated(&mut self.bytes, &KEYS);
        let context = arena.context(&mut self.bytes);
        let mut want = MaybeUninit::<Type>::uninit();
        let number = if self.bytes.below(16) == 0 { self.bytes.word() as u32 } else { self.bytes.below(8) as u32 };
        // SAFETY: an enum of C is 32 bits, and a number that names no type stays behind `MaybeUninit`.
        unsafe { want.as_mut_ptr().cast::<u32>().write(number) };
        let out: *mut EvaluationResult = match self.bytes.below(16) {
            0 => null_mut(),
            _ => arena.struct_of(size_of::<EvaluationResult>(), &mut self.bytes, &[0; 16]).cast(),
        };
        // SAFETY: the snapshot is acquired or NULL, the others are what the header asks for.
        let status = unsafe { flags_evaluate(snapshot, key, want, context, out) };
        if status != Status::FlagsOk {
            assert_eq!(status, Status::FlagsInvalidArgument);
            let words = if out.is_null() { &[][..] } else { arena.words.last().map_or(&[][..], |words| words) };
            assert!(
                words.iter().skip(1).take(size_of::<EvaluationResult>() / 8 - 1).all(|&word| word == 0),
                "written in spite of an error"
            );
            return;
        }
        // SAFETY: it was written.
        let result = unsafe { out.read() };
        touch(result.variant);
        // SAFETY: what the library writes is a type that it knows.
        if let Type::String | Type::Json = unsafe { result.value.r#type.assume_init() } {
            // SAFETY: the type says so.
            touch(unsafe { result.value.r#as.string });
        }
    }

    fn acquire(&mut self) {
        let place = self.bytes.below(self.snapshots.len());
        let client = self.client();
        if self.snapshots[place].is_null() {
            self.snapshots[place] = acquire(client);
            assert_eq!(self.snapshots[place].is_null(), client.is_null());
        }
        // SAFETY: acquired or NULL.
        let generation = unsafe { flags_snapshot_generation(self.snapshots[place]) };
        assert!(!self.snapshots[place].is_null() || generation == 0);
    }

    fn release(&mut self) {
        let place = self.bytes.below(self.snapshots.len());
        let snapshot = std::mem::replace(&mut self.snapshots[place], null_mut());
        let address = snapshot.expose_provenance();
        if self.bytes.below(8) == 0 {
            // A thread that never had anything to do with it lets go of it, and ends.
            let other = std::thread::spawn(move || {
                // SAFETY: acquired and not released, or NULL.
                unsafe { flags_snapshot_release(std::ptr::with_exposed_provenance_mut(address)) };
            });
            other.join().expect("releasing does not panic");
        } else {
            // SAFETY: acquired and not released, or NULL.
            unsafe { flags_snapshot_release(snapshot) };
        }
    }

    fn metadata(&mut self) {
        let mut arena = Arena::default();
        let snapshot = self.snapshots[self.bytes.below(self.snapshots.len())];
        let key = arena.terminated(&mut self.bytes, &KEYS);
        let index = match self.bytes.below(8) {
            0 => usize::MAX,
            index => index - 1,
        };
        let out: *mut Metadata = match self.bytes.below(16) {
            0 => null_mut(),
            _ => arena.struct_of(size_of::<Metadata>(), &mut self.bytes, &[0; 16]).cast(),
        };
        // SAFETY: the snapshot is acquired or NULL, the others are what the header asks for.
        match unsafe { flags_snapshot_metadata(snapshot, key, index, out) } {
            Status::FlagsOk => {
                // SAFETY: it was written.
                let entry = unsafe { out.read() };
                touch(entry.name);
                assert!(index < 8);
                // SAFETY: what the library writes is a type that it knows.
                if unsafe { entry.value.r#type.assume_init() } == Type::String {
                    // SAFETY: the type says so.
                    touch(unsafe { entry.value.r#as.string });
                }
            }
            status => assert!(matches!(status, Status::FlagsNotFound | Status::FlagsInvalidArgument), "{status:?}"),
        }
    }

    fn status(&mut self) {
        let mut arena = Arena::default();
        let client = self.client();
        let out: *mut ClientStatus = match self.bytes.below(16) {
            0 => null_mut(),
            _ => arena.struct_of(size_of::<ClientStatus>(), &mut self.bytes, &[0; 64]).cast(),
        };
        // SAFETY: the client is open or NULL; the struct is as long as it says, or says what cannot be.
        if unsafe { flags_get_status(client, out) } == Status::FlagsOk {
            // SAFETY: it was written.
            let status = unsafe { out.read() };
            assert!(status.problem.contains(&0) && status.generations_mapped < 16);
            assert!(status.generation <= self.home.publisher.record().generation.0);
        }
    }

    fn publish(&mut self) {
        match self.bytes.below(8) {
            0 => self.home.publisher.confirm(self.bytes.word()),
            1 => self
                .home
                .publisher
                .set_state([WriterState::Fresh, WriterState::Stale, WriterState::Frozen][self.bytes.below(3)]),
            2 => self.home.publisher.heartbeat(),
            _ => self.home.publish(self.bytes.below(self.home.versions.len())),
        }
    }

    fn words(&mut self) {
        let mut status = MaybeUninit::<Status>::uninit();
        let number = if self.bytes.byte() & 1 == 0 { self.bytes.word() as u32 } else { self.bytes.below(12) as u32 };
        // SAFETY: an enum of C is 32 bits, and a number that names no status stays behind `MaybeUninit`.
        unsafe { status.as_mut_ptr().cast::<u32>().write(number) };
        // SAFETY: these are never NULL and end with a NUL.
        let text = unsafe { CStr::from_ptr(flags_status_text(status)) };
        assert!(!text.is_empty() && flags_abi_version() > 0);
        // SAFETY: as above.
        assert!(!unsafe { CStr::from_ptr(flags_version()) }.is_empty());
        let _ = last_error();
    }
}

fn last_error() -> String {
    // SAFETY: never NULL, ends with a NUL, and no other call comes between.
    unsafe { CStr::from_ptr(flags_last_error()) }.to_str().expect("words are UTF-8").to_owned()
}

fn acquire(client: *const Client) -> *mut Snapshot {
    // SAFETY: the client is open, or NULL.
    unsafe { flags_snapshot_acquire(client) }
}

/// What `flags_evaluate` answers from a snapshot of its own.
fn long_way(client: *const Client, key: *const c_char, context: *const Context, want: Type) -> Option<(Type, Payload)> {
    let snapshot = acquire(client);
    let answer = ask(snapshot, key, context, want);
    // SAFETY: acquired above.
    unsafe { flags_snapshot_release(snapshot) };
    answer
}

fn ask(snapshot: *const Snapshot, key: *const c_char, context: *const Context, want: Type) -> Option<(Type, Payload)> {
    let mut result = MaybeUninit::<EvaluationResult>::zeroed();
    let out = result.as_mut_ptr();
    // SAFETY: the first field is its size.
    unsafe { out.cast::<usize>().write(size_of::<EvaluationResult>()) };
    // SAFETY: the snapshot is acquired or NULL, the others are what the header asks for.
    let status = unsafe { flags_evaluate(snapshot, key, MaybeUninit::new(want), context, out) };
    if status != Status::FlagsOk {
        return None;
    }
    // SAFETY: it was written.
    let value = unsafe { result.assume_init() }.value;
    // SAFETY: what the library writes is a type that it knows.
    Some((unsafe { value.r#type.assume_init() }, value.r#as))
}

/// Reads every byte of a text that the library gave.
fn touch(text: Text) {
    if !text.data.is_null() {
        // SAFETY: the library gave it, with its length.
        let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.length) };
        assert!(std::str::from_utf8(bytes).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// What the fuzzer once found, and a thousand calls of no meaning.
    #[test]
    fn calls_that_once_went_wrong() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let calls: Vec<u8> = (0..4000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 32) as u8
            })
            .collect();
        super::run(&calls);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/c_api");
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            println!("{}", path.display());
            super::run(&std::fs::read(&path).expect("an input"));
        }
    }
}
