//! What the BPF programs ask of the kernel's verifier: stack, call depth, and work.
//!
//! Linux before 5.13 rounds each stack frame up to 32 bytes, and every kernel limits a chain of
//! calls to 512 bytes and 8 frames. The programs load on this kernel with more, so the chains are
//! computed from the instructions. How much work the verifier has is compared with
//! `tests/data/verifier.txt`; `UPDATE=1` writes that file anew.
//!
//! Needs root: `make test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::mem::MaybeUninit;

use hud::bpf::types::{hud_config, hud_tokio};
use hud::bpf::{HudSkelBuilder, TasksSkelBuilder};
use libbpf_rs::libbpf_sys::{self, bpf_insn};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{AsRawLibbpf, Object, OpenObject};

const MAX_STACK: usize = 512;
const MAX_FRAMES: usize = 8;
/// Frames are rounded up to this before Linux 5.13.
const FRAME_ALIGN: usize = 32;

/// `BPF_LOG_STATS`: only the figures.
const LOG_STATS: u32 = 4;
const LOG_BYTES: usize = 64 * 1024;

/// By how much the verifier's work may exceed the table's: in percent, on the same kernel and
/// compiler, and on others.
const TOLERANCE: u64 = 10;
const TOLERANCE_ELSEWHERE: u64 = 150;

const TABLE: &str = "tests/data/verifier.txt";

/// How the kernel side tracks polls, which decides what of the programs is dead code.
const MODES: [&str; 3] = ["context", "own_thread_locals", "frames"];

/// What the verifier said of a program, and its instructions as they were loaded.
struct Loaded {
    name: String,
    processed: u64,
    /// Of each function that is called.
    stack_depths: Vec<usize>,
    instructions: Vec<bpf_insn>,
}

fn config(mode: &str) -> hud_config {
    hud_config {
        // As in a release build of Tokio 1.47 and 1.20 on x86_64; what matters is what is 0.
        tokio: hud_tokio {
            context: -0xb0,
            multi_thread_tag: 1,
            task_id: 48,
            budget: 68,
            scheduler: 40,
            current_thread_core: 24,
            multi_thread_core: 24,
            has_flavor: 1,
            has_root: (mode == "context").into(),
            runtime: 70,
            handle: 16,
            current_thread_scheduler: -0x200,
            multi_thread_scheduler: -0x210,
            own_thread_locals: (mode == "own_thread_locals").into(),
            has_task_id: (mode != "own_thread_locals").into(),
            ..hud_tokio::default()
        },
        threshold_ns: 5_000_000,
        sample_period_ns: 4_000_000,
        tick_ns: 4_000_000,
        tgid: 1,
        own_tgid: std::process::id(),
        profile_stride: 1,
        by_frames: (mode == "frames").into(),
    }
}

fn load_hud(mode: &str) -> Vec<Loaded> {
    let mut storage = MaybeUninit::uninit();
    let mut open = HudSkelBuilder::default().open(&mut storage).unwrap();
    let maps = &mut open.maps;
    for map in [&mut maps.threads, &mut maps.captures, &mut maps.free_slots] {
        map.set_max_entries(32).unwrap();
    }
    maps.slots.set_max_entries(32_769).unwrap();
    maps.rodata_data.as_deref_mut().unwrap().config = config(mode);
    let logs = keep_logs(open.open_object_mut());
    let skeleton = open.load().unwrap();
    loaded(skeleton.object(), logs)
}

fn load_tasks() -> Vec<Loaded> {
    let mut storage = MaybeUninit::uninit();
    let mut open = TasksSkelBuilder::default().open(&mut storage).unwrap();
    let logs = keep_logs(open.open_object_mut());
    let skeleton = open.load().unwrap();
    loaded(skeleton.object(), logs)
}

/// Makes the verifier write a log for each program.
fn keep_logs(object: &mut OpenObject) -> Vec<Box<[u8; LOG_BYTES]>> {
    let mut logs = Vec::new();
    for mut program in object.progs_mut() {
        let mut log = Box::new([0; LOG_BYTES]);
        program.set_log_level(LOG_STATS);
        // SAFETY: the buffer outlives the load: `loaded` reads it afterwards.
        let error = unsafe {
            libbpf_sys::bpf_program__set_log_buf(
                program.as_libbpf_object().as_ptr(),
                log.as_mut_ptr().cast(),
                LOG_BYTES as libbpf_sys::size_t,
            )
        };
        assert_eq!(error, 0);
        logs.push(log);
    }
    logs
}

fn loaded(object: &Object, logs: Vec<Box<[u8; LOG_BYTES]>>) -> Vec<Loaded> {
    let programs = object.progs().zip(logs).map(|(program, log)| {
        let name = program.name().to_string_lossy().into_owned();
        let end = log.iter().position(|byte| *byte == 0).unwrap();
        let log = String::from_utf8_lossy(&log[..end]).into_owned();
        let after = |what: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{name}: no {what:?} in {log:?}"))
        };
        let processed = after("processed ").split(' ').next().unwrap();
        let depths = after("stack depth ").split('+');
        Loaded {
            processed: processed.parse().unwrap(),
            // Newer kernels add their own sum as the last part.
            stack_depths: depths.map_while(|depth| depth.parse().ok()).collect(),
            instructions: program.insns().to_vec(),
            name,
        }
    });
    programs.collect()
}

/// A function of a program.
#[derive(Debug, Default, PartialEq)]
struct Function {
    /// Bytes of stack that its instructions reach.
    stack: usize,
    /// Starts of the functions that it calls.
    calls: BTreeSet<usize>,
}

const FRAME_POINTER: u8 = 10;

/// The functions of a program by the index of their first instruction.
fn functions(instructions: &[bpf_insn]) -> BTreeMap<usize, Function> {
    let callee = |at: usize, instruction: &bpf_insn| {
        let is_call = u32::from(instruction.code) == libbpf_sys::BPF_JMP | libbpf_sys::BPF_CALL
            && u32::from(instruction.src_reg()) == libbpf_sys::BPF_PSEUDO_CALL;
        is_call.then(|| (at as i64 + 1 + i64::from(instruction.imm)) as usize)
    };
    let calls = instructions.iter().enumerate();
    let starts: BTreeSet<usize> = calls
        .filter_map(|(at, instruction)| callee(at, instruction))
        .chain([0])
        .collect();
    let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
    let function = |(&start, end): (&usize, usize)| {
        let mut function = Function::default();
        // Registers that hold a copy of the frame pointer.
        let mut copies = [false; 16];
        for (at, instruction) in (start..end).zip(&instructions[start..end]) {
            function.calls.extend(callee(at, instruction));
            let reach = reach(instruction, &mut copies);
            function.stack = function.stack.max(reach);
        }
        (start, function)
    };
    starts.iter().zip(ends).map(function).collect()
}

/// How far below the frame pointer an instruction reaches.
fn reach(instruction: &bpf_insn, copies: &mut [bool; 16]) -> usize {
    let code = u32::from(instruction.code);
    let (to, from) = (instruction.dst_reg(), instruction.src_reg());
    let below = |offset: i32| usize::try_from(-i64::from(offset)).unwrap_or(0);
    match code & 7 {
        libbpf_sys::BPF_ST | libbpf_sys::BPF_STX if to == FRAME_POINTER => {
            below(instruction.off.into())
        }
        libbpf_sys::BPF_LDX if from == FRAME_POINTER => below(instruction.off.into()),
        libbpf_sys::BPF_ALU64 => {
            let is_copy = std::mem::take(&mut copies[usize::from(to)]);
            if code == libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_X {
                copies[usize::from(to)] = from == FRAME_POINTER;
            }
            let is_add = code == libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_ADD;
            if is_copy && is_add {
                below(instruction.imm)
            } else {
                0
            }
        }
        _ => 0,
    }
}

/// Stack and frames of the chain of calls from a function that needs the most of each.
fn chain(functions: &BTreeMap<usize, Function>, start: usize) -> (usize, usize) {
    let function = &functions[&start];
    let below = function.calls.iter().map(|call| chain(functions, *call));
    let (stack, frames) = below.fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)));
    let own = function.stack.max(1).next_multiple_of(FRAME_ALIGN);
    (own + stack, 1 + frames)
}

/// Everything that is loaded, with its mode.
fn load_all() -> Vec<(&'static str, Loaded)> {
    let hud = MODES.iter().flat_map(|mode| {
        let programs = load_hud(mode);
        programs.into_iter().map(move |program| (*mode, program))
    });
    let tasks = load_tasks().into_iter().map(|program| ("any", program));
    hud.chain(tasks).collect()
}

/// The compiler and the kernel that the figures depend on.
fn setting() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel: Vec<&str> = release.split(['.', '-']).take(2).collect();
    let machine = std::env::consts::ARCH;
    format!(
        "clang {}, Linux {}, {machine}",
        env!("BPF_CLANG"),
        kernel.join(".")
    )
}

#[test]
fn programs_fit_the_verifiers_limits() {
    let loaded = load_all();
    let mut table = format!("{}\n", setting());
    for (mode, program) in &loaded {
        let functions = functions(&program.instructions);
        let stacks: Vec<usize> = functions.values().map(|function| function.stack).collect();
        let Loaded {
            name,
            processed,
            stack_depths,
            ..
        } = program;
        // The verifier drops functions that are not called on this kernel: the others are among them.
        assert!(
            stacks.iter().max() >= stack_depths.iter().max(),
            "{name} by {mode}: {stacks:?} in the instructions, {stack_depths:?} by the verifier"
        );
        let (stack, frames) = chain(&functions, 0);
        assert!(
            stack <= MAX_STACK && frames <= MAX_FRAMES,
            "{name} by {mode}: {stack} bytes of stack in {frames} frames: {functions:#?}"
        );
        writeln!(table, "{mode} {name} {processed} {stack}").unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(TABLE, table).unwrap();
    }
    let known = std::fs::read_to_string(TABLE).unwrap();
    let (known_setting, known_rows) = known.split_once('\n').unwrap();
    let tolerance = match setting() == known_setting {
        true => TOLERANCE,
        false => TOLERANCE_ELSEWHERE,
    };
    for (mode, program) in &loaded {
        let Loaded {
            name, processed, ..
        } = program;
        let row = known_rows
            .lines()
            .find_map(|row| row.strip_prefix(&format!("{mode} {name} ")));
        let row = row.unwrap_or_else(|| panic!("{TABLE} has no {name} by {mode}: write it anew"));
        let known: u64 = row.split(' ').next().unwrap().parse().unwrap();
        assert!(
            *processed * 100 <= known * (100 + tolerance),
            "{name} by {mode}: the verifier processed {processed} instructions, {known} before"
        );
    }
}

#[test]
fn chains_of_calls_are_summed_up() {
    // r1 = r10; r1 += -40; call 2; exit | *(u64 *)(r10 - 8) = r1; call 1; exit | r0 = 0; exit
    let instruction = |code: u32, registers: u8, off: i16, imm: i32| bpf_insn {
        code: code as u8,
        _bitfield_1: bpf_insn::new_bitfield_1(registers & 15, registers >> 4),
        off,
        imm,
        ..bpf_insn::default()
    };
    let program = [
        instruction(0xbf, 0xa1, 0, 0),
        instruction(0x07, 0x01, 0, -40),
        instruction(0x85, 0x10, 0, 1),
        instruction(0x95, 0, 0, 0),
        instruction(0x7b, 0x1a, -8, 0),
        instruction(0x85, 0x10, 0, 1),
        instruction(0x95, 0, 0, 0),
        instruction(0xb7, 0, 0, 0),
        instruction(0x95, 0, 0, 0),
    ];
    let functions = functions(&program);
    let stacks: Vec<_> = functions
        .iter()
        .map(|(start, f)| (*start, f.stack))
        .collect();
    assert_eq!(stacks, [(0, 40), (4, 8), (7, 0)]);
    assert_eq!(chain(&functions, 0), (64 + 32 + 32, 3));
}
