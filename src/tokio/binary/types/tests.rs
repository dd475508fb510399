//! Tokio's types in a small `.debug_info` made by hand: usual, unusual and damaged forms.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::tokio::binary::sections::Sections;

/// The abbreviations below, by their codes.
const UNIT: u8 = 1;
const NAMESPACE: u8 = 2;
const STRUCT: u8 = 3;
const MEMBER: u8 = 4;
const POINTER: u8 = 5;
const BASE: u8 = 6;
const PART: u8 = 7;
const PART_WITHOUT_DISCRIMINANT: u8 = 8;
const VARIANT: u8 = 9;

/// Forms of attributes: string, udata, ref4.
const STR: u8 = 0x08;
const NUM: u8 = 0x0f;
const REF: u8 = 0x13;

/// Attributes with their forms.
type Attributes = &'static [(u8, u8)];

/// Code, tag, has children, attributes.
const ABBREVIATIONS: [(u8, u8, u8, Attributes); 9] = [
    (UNIT, 0x11, 1, &[(0x03, STR)]),
    (NAMESPACE, 0x39, 1, &[(0x03, STR)]),
    (STRUCT, 0x13, 1, &[(0x03, STR), (0x0b, NUM)]),
    (MEMBER, 0x0d, 0, &[(0x03, STR), (0x49, REF), (0x38, NUM)]),
    (POINTER, 0x0f, 0, &[(0x49, REF)]),
    (BASE, 0x24, 0, &[(0x0b, NUM)]),
    (PART, 0x33, 1, &[(0x15, REF)]),
    (PART_WITHOUT_DISCRIMINANT, 0x33, 1, &[]),
    (VARIANT, 0x19, 1, &[(0x16, NUM)]),
];

enum Value {
    Text(&'static str),
    Number(u8),
    To(&'static str),
}
use Value::{Number, Text, To};

/// One unit under construction; references are patched in at the end.
struct Assembler {
    bytes: Vec<u8>,
    labels: HashMap<&'static str, u32>,
    references: Vec<(usize, &'static str)>,
}

impl Assembler {
    fn new() -> Self {
        // DWARF 4, 32-bit: length (later), version, abbreviations at 0, 8-byte addresses.
        let bytes = vec![0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8];
        Assembler {
            bytes,
            labels: HashMap::new(),
            references: Vec::new(),
        }
    }

    /// A unit of Tokio's of that name, with the integers that its types are made of.
    fn tokio(name: &'static str) -> Self {
        let mut a = Assembler::new();
        a.entry("unit", UNIT, &[Text(name)]);
        a.entry("u8", BASE, &[Number(1)]);
        a.entry("u32", BASE, &[Number(4)]);
        a.entry("u64", BASE, &[Number(8)]);
        a
    }

    /// `id`, an option of that many bytes, and `flag`, whose discriminant is its second byte.
    fn options(&mut self, id: u8) {
        for (label, name, size, tag, of, at) in [
            ("id", "Option<Id>", id, "id tag", "u64", 0),
            ("flag", "Option<u8>", 2, "flag tag", "u8", 1),
        ] {
            self.entry(label, STRUCT, &[Text(name), Number(size)]);
            self.entry("", PART, &[To(tag)]);
            self.member(tag, "", of, at);
            self.end(2);
        }
    }

    fn entry(&mut self, label: &'static str, code: u8, values: &[Value]) {
        self.labels.insert(label, self.bytes.len() as u32);
        self.bytes.push(code);
        for value in values {
            match value {
                Text(text) => {
                    self.bytes.extend_from_slice(text.as_bytes());
                    self.bytes.push(0);
                }
                Number(number) => {
                    assert!(*number < 128, "one byte of LEB128");
                    self.bytes.push(*number);
                }
                To(label) => {
                    self.references.push((self.bytes.len(), label));
                    self.bytes.extend_from_slice(&[0; 4]);
                }
            }
        }
    }

    fn member(&mut self, label: &'static str, name: &'static str, to: &'static str, at: u8) {
        self.entry(label, MEMBER, &[Text(name), To(to), Number(at)]);
    }

    fn end(&mut self, count: usize) {
        self.bytes.extend(std::iter::repeat_n(0, count));
    }

    fn finish(mut self) -> Vec<u8> {
        for (at, label) in self.references {
            self.bytes[at..at + 4].copy_from_slice(&self.labels[label].to_le_bytes());
        }
        let length = self.bytes.len() as u32 - 4;
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes
    }
}

fn abbreviations() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, tag, children, attributes) in ABBREVIATIONS {
        bytes.extend_from_slice(&[code, tag, children]);
        for (name, form) in attributes {
            bytes.extend_from_slice(&[*name, *form]);
        }
        bytes.extend_from_slice(&[0, 0]);
    }
    bytes.push(0);
    bytes
}

/// What differs between the tests.
#[derive(Clone, Copy)]
struct Shape {
    /// Size of `Option<Id>`.
    id: u8,
    multi_thread: bool,
    /// Size of the flavor's discriminant.
    tag: u8,
}

const USUAL: Shape = Shape {
    id: 8,
    multi_thread: true,
    tag: 8,
};

/// Tokio's types with one wrapper around most values, at offsets no compiler has chosen yet.
fn info(shape: Shape) -> Vec<u8> {
    let mut a = Assembler::tokio("/x/tokio-1.99.0/src/lib.rs/@/tokio.ab-cgu.0");
    a.entry("tag", BASE, &[Number(shape.tag)]);

    a.entry("inner", STRUCT, &[Text("ArcInner<Worker>"), Number(40)]);
    a.member("", "data", "worker", 8);
    a.end(1);
    a.entry("worker", STRUCT, &[Text("Worker"), Number(24)]);
    a.member("", "index", "u64", 16);
    a.end(1);
    a.entry("to inner", POINTER, &[To("inner")]);
    a.entry("core", STRUCT, &[Text("Core"), Number(120)]);
    a.member("", "tick", "u32", 100);
    a.end(1);
    a.entry("to core", POINTER, &[To("core")]);
    // RefCell<Option<Box<Core>>>, the option as a niche.
    a.entry("cell", STRUCT, &[Text("RefCell"), Number(16)]);
    a.member("", "borrow", "u64", 8);
    a.member("", "value", "option", 0);
    a.end(1);
    a.entry("option", STRUCT, &[Text("Option"), Number(8)]);
    a.entry("", PART, &[To("option tag")]);
    a.member("option tag", "", "u64", 0);
    a.entry("", VARIANT, &[Number(1)]);
    a.member("", "Some", "some", 0);
    a.end(3);
    a.entry("some", STRUCT, &[Text("Some"), Number(8)]);
    a.member("", "__0", "to core", 0);
    a.end(1);

    a.entry("mt", STRUCT, &[Text("Context"), Number(32)]);
    a.member("", "core", "cell", 0);
    a.member("", "worker", "to inner", 16);
    a.end(1);
    a.entry("ct", STRUCT, &[Text("Context"), Number(32)]);
    a.member("", "core", "cell", 8);
    a.end(1);

    // enum Context { CurrentThread(ct), MultiThread(mt) }
    a.entry("flavors", STRUCT, &[Text("Context"), Number(64)]);
    if shape.multi_thread {
        a.entry("", PART, &[To("flavor")]);
        a.member("flavor", "", "tag", 48);
    } else {
        a.entry("", PART_WITHOUT_DISCRIMINANT, &[]);
    }
    a.entry("", VARIANT, &[Number(5)]);
    a.member("", "CurrentThread", "ct", 16);
    a.end(1);
    if shape.multi_thread {
        a.entry("", VARIANT, &[Number(6)]);
        a.member("", "MultiThread", "mt", 8);
        a.end(1);
    }
    a.end(2);
    a.entry("to flavors", POINTER, &[To("flavors")]);

    a.options(shape.id);
    a.entry("wrapped flag", STRUCT, &[Text("Cell"), Number(4)]);
    a.member("", "value", "flag", 2);
    a.end(1);

    for name in ["tokio", "runtime", "context"] {
        a.entry("", NAMESPACE, &[Text(name)]);
    }
    a.entry("root", STRUCT, &[Text("Context"), Number(100)]);
    a.member("", "current", "to core", 72);
    a.member("", "scheduler", "to flavors", 64);
    a.member("", "current_task_id", "id", 24);
    a.member("", "runtime", "flag", 3);
    a.member("", "budget", "wrapped flag", 8);
    a.end(5);
    a.finish()
}

fn read(info: Vec<u8>, abbrev: Vec<u8>) -> Result<Vec<PollPaths>> {
    let sections = Sections::of(info, abbrev);
    poll_paths(&Dwarf::new(&sections)?)
}

fn one(shape: Shape) -> PollPaths {
    let all = read(info(shape), abbreviations()).unwrap();
    assert_eq!(all.len(), 1);
    all[0]
}

#[test]
fn every_offset_is_followed_through_its_wrappers() {
    let expected = PollPaths {
        source: Source::DebugInfo,
        context: ContextFields {
            task_id: Some(TaskId {
                offset: 24,
                wide: false,
            }),
            budget: 8 + 2 + 1,
            scheduler: Some(64),
            runtime: Some(3 + 1),
            handle: Some(72),
        },
        flavor_tag: Some(48),
        current_thread: Some(FlavorPaths {
            tag: 5,
            core: 16 + 8,
            tick: 100,
            beside_tick: BesideTick::Unknown,
            worker: None,
            worker_index: None,
            handle: None,
        }),
        multi_thread: Some(FlavorPaths {
            tag: 6,
            core: 8,
            tick: 100,
            beside_tick: BesideTick::Unknown,
            worker: Some(8 + 16),
            worker_index: Some(8 + 16),
            handle: None,
        }),
    };
    assert_eq!(one(USUAL), expected);
}

#[test]
fn wide_ids_are_distinguished_from_niches() {
    let id = one(Shape { id: 16, ..USUAL }).context.task_id;
    assert!(id.unwrap().wide);
    assert!(read(info(Shape { id: 12, ..USUAL }), abbreviations()).is_err());
}

#[test]
fn one_flavor_alone_has_no_tag() {
    let paths = one(Shape {
        multi_thread: false,
        ..USUAL
    });
    assert!(paths.flavor_tag.is_none());
    assert_eq!(paths.multi_thread, None);
    assert_eq!(paths.current_thread.unwrap().core, 24);
}

/// Tokio before 1.29, whose flavors have contexts of their own; `context`: since 1.22.
fn info_before_1_29(context: bool) -> Vec<u8> {
    let mut a = Assembler::tokio("/x/tokio-1.2x.0/src/lib.rs/@/tokio.ab-cgu.0");
    a.entry("to shared", POINTER, &[To("u64")]);
    a.entry("inner", STRUCT, &[Text("ArcInner<Worker>"), Number(40)]);
    a.member("", "data", "worker", 16);
    a.end(1);
    a.entry("worker", STRUCT, &[Text("Worker"), Number(24)]);
    a.member("", "shared", "to shared", 4);
    a.member("", "index", "u64", 12);
    a.end(1);
    a.entry("to inner", POINTER, &[To("inner")]);
    a.entry("core", STRUCT, &[Text("Core"), Number(48)]);
    a.member("", "tick", "u32", 32);
    a.member("", "global_queue_interval", "u32", 36);
    a.end(1);
    a.entry("to core", POINTER, &[To("core")]);
    a.options(16);
    let current_thread = |a: &mut Assembler| {
        a.entry("", STRUCT, &[Text("Context"), Number(24)]);
        a.member("", "spawner", "to shared", 8);
        a.member("", "core", "to core", 16);
        a.end(1);
    };
    let multi_thread = |a: &mut Assembler| {
        a.entry("", NAMESPACE, &[Text("worker")]);
        a.entry("", STRUCT, &[Text("Context"), Number(24)]);
        a.member("", "worker", "to inner", 0);
        a.member("", "core", "to core", 24);
        a.end(2);
    };
    a.entry("", NAMESPACE, &[Text("tokio")]);
    if context {
        a.entry("", NAMESPACE, &[Text("runtime")]);
        a.entry("", NAMESPACE, &[Text("context")]);
        a.entry("", STRUCT, &[Text("Context"), Number(56)]);
        a.member("", "handle", "to shared", 16);
        a.member("", "current_task_id", "id", 32);
        a.member("", "runtime", "flag", 50);
        a.member("", "budget", "flag", 48);
        a.end(2);
        a.entry("", NAMESPACE, &[Text("scheduler")]);
        a.entry("", NAMESPACE, &[Text("current_thread")]);
        current_thread(&mut a);
        a.end(1);
        a.entry("", NAMESPACE, &[Text("multi_thread")]);
        multi_thread(&mut a);
        a.end(5);
    } else {
        a.entry("", NAMESPACE, &[Text("coop")]);
        a.entry("", STRUCT, &[Text("Budget"), Number(2)]);
        a.member("", "__0", "flag", 0);
        a.end(2);
        a.entry("", NAMESPACE, &[Text("runtime")]);
        a.entry("", NAMESPACE, &[Text("basic_scheduler")]);
        current_thread(&mut a);
        a.end(1);
        a.entry("", NAMESPACE, &[Text("thread_pool")]);
        multi_thread(&mut a);
        a.end(4);
    }
    a.finish()
}

#[test]
fn before_1_29_each_flavor_has_a_context_of_its_own() {
    let expected = PollPaths {
        source: Source::DebugInfo,
        context: ContextFields {
            task_id: Some(TaskId {
                offset: 32,
                wide: true,
            }),
            budget: 48 + 1,
            scheduler: None,
            runtime: Some(50 + 1),
            handle: Some(16),
        },
        flavor_tag: None,
        current_thread: Some(FlavorPaths {
            tag: 0,
            core: 16,
            tick: 32,
            beside_tick: BesideTick::Interval,
            worker: None,
            worker_index: None,
            handle: Some(8),
        }),
        multi_thread: Some(FlavorPaths {
            tag: 0,
            core: 24,
            tick: 32,
            beside_tick: BesideTick::Interval,
            worker: Some(0),
            worker_index: Some(16 + 12),
            handle: Some(16 + 4),
        }),
    };
    let found = read(info_before_1_29(true), abbreviations()).unwrap();
    assert_eq!(found, [expected]);
    // Before 1.22 there is no `Context`, but the budget.
    let found = read(info_before_1_29(false), abbreviations()).unwrap();
    let context = ContextFields {
        task_id: None,
        budget: 1,
        runtime: None,
        handle: None,
        ..expected.context
    };
    assert_eq!(
        found,
        [PollPaths {
            context,
            ..expected
        }]
    );
}

#[test]
fn a_tag_of_another_size_is_refused() {
    assert!(read(info(Shape { tag: 4, ..USUAL }), abbreviations()).is_err());
}

#[test]
fn no_types_is_no_error() {
    let mut a = Assembler::new();
    a.entry("unit", UNIT, &[Text("src/main.rs/@/app.cd-cgu.0")]);
    a.end(1);
    assert_eq!(read(a.finish(), abbreviations()).unwrap(), []);
    assert_eq!(read(Vec::new(), abbreviations()).unwrap(), []);
}

#[test]
fn types_inside_themselves_end() {
    let mut a = Assembler::new();
    a.entry("unit", UNIT, &[Text("x/@/tokio.ab-cgu.0")]);
    a.entry("loop", STRUCT, &[Text("Loop"), Number(8)]);
    for _ in 0..20 {
        a.member("", "again", "loop", 0);
    }
    a.end(1);
    for name in ["tokio", "runtime", "context"] {
        a.entry("", NAMESPACE, &[Text(name)]);
    }
    a.entry("root", STRUCT, &[Text("Context"), Number(8)]);
    a.member("", "scheduler", "loop", 0);
    a.end(5);
    assert!(read(a.finish(), abbreviations()).is_err());
}

proptest! {
    /// Whatever is damaged, reading ends without a panic.
    #[test]
    fn damage_is_survived(
        in_info in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        in_abbrev in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut info = info(USUAL);
        let mut abbrev = abbreviations();
        for (at, byte) in in_info {
            let at = at.index(info.len());
            info[at] = byte;
        }
        for (at, byte) in in_abbrev {
            let at = at.index(abbrev.len());
            abbrev[at] = byte;
        }
        if cut {
            info.truncate(keep.index(info.len()));
        }
        let _ = read(info, abbrev);
    }
}
