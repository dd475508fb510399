//! Whether the kernel side writes a worker's state only while its sequence is odd.
//!
//! If it does, two copies of a state that have the same even sequence are equal. This reads the
//! states of busy workers, through hud's own map, as often as it can.

use std::fs;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use hud::bpf::types::hud_thread;
use libbpf_rs::{MapCore, MapHandle};

use testing::fixtures::Build;
use testing::target::Target;

const WORDS: usize = size_of::<hud_thread>() / 4;
const SEQUENCE: usize = offset_of!(hud_thread, sequence) / 4;
/// What the sequence guards.
const GUARDED: std::ops::Range<usize> =
    offset_of!(hud_thread, tid) / 4..offset_of!(hud_thread, has_own_clock) / 4;

/// hud's map of worker states, mapped into this process for the rest of its life.
fn worker_states(hud: u32) -> Option<Vec<&'static [AtomicU32; WORDS]>> {
    let descriptors = fs::read_dir(format!("/proc/{hud}/fdinfo")).ok()?;
    let map = descriptors
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            let id = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
            MapHandle::from_map_id(id.trim().parse().ok()?).ok()
        })
        .find(|map| map.name() == "threads")?;
    let states = map.max_entries() as usize;
    // SAFETY: a fresh mapping of the map's own descriptor, which is that long.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            states * size_of::<hud_thread>(),
            libc::PROT_READ,
            libc::MAP_SHARED,
            map.as_fd().as_raw_fd(),
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    let first = NonNull::new(address)?.cast::<[AtomicU32; WORDS]>();
    // SAFETY: in bounds of the mapping, which is never unmapped, and only read, atomically.
    Some(
        (0..states)
            .map(|at| unsafe { first.add(at).as_ref() })
            .collect(),
    )
}

/// A part of a state small enough for many copies to fit into the shortest write.
const PART: usize = 16;
/// Copies of one part in a row.
const IN_A_ROW: usize = 500;

/// A copy of a part with its sequence, if no write overlapped it as far as the sequence tells.
fn copy(state: &[AtomicU32; WORDS], part: usize) -> Option<(u32, [u32; PART])> {
    let sequence = state[SEQUENCE].load(Ordering::Acquire);
    if !sequence.is_multiple_of(2) {
        return None;
    }
    let words = std::array::from_fn(|word| match part + word {
        at if GUARDED.contains(&at) => state[at].load(Ordering::Relaxed),
        _ => 0,
    });
    fence(Ordering::Acquire);
    (state[SEQUENCE].load(Ordering::Relaxed) == sequence).then_some((sequence, words))
}

/// Reads the states of a scenario's workers for two seconds: no two copies may contradict.
fn check(scenario: &str, arguments: &[&str]) {
    let arguments = [&["--scenario", scenario, "--duration", "60"], arguments].concat();
    let target = Target::start(&Build::Release.program(), &arguments);
    let mut hud = target.hud(&["--duration", "6"]);
    let mut hud = hud
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let workers = loop {
        let states = worker_states(hud.id()).unwrap_or_default();
        let of_workers =
            |state: &&[AtomicU32; WORDS]| state[GUARDED.start].load(Ordering::Relaxed) != 0;
        let workers: Vec<_> = states.into_iter().filter(of_workers).collect();
        if !workers.is_empty() {
            break workers;
        }
        assert!(Instant::now() < until, "{scenario}: hud tracks no worker");
        thread::sleep(Duration::from_millis(20));
    };
    let (mut writes, mut repeats) = (0, 0);
    let until = Instant::now() + Duration::from_secs(2);
    let parts = GUARDED.step_by(PART).cycle();
    for (part, worker) in parts.flat_map(|part| workers.iter().map(move |worker| (part, worker))) {
        if Instant::now() >= until {
            break;
        }
        let mut last = None;
        for now in (0..IN_A_ROW).filter_map(|_| copy(worker, part)) {
            match last.replace(now) {
                Some((sequence, words)) if sequence == now.0 => {
                    repeats += 1;
                    let other = words.iter().zip(&now.1).position(|(a, b)| a != b);
                    assert_eq!(
                        other.map(|at| (part + at) * 4),
                        None,
                        "{scenario}: the field at this offset is written outside of the seqlock"
                    );
                }
                _ => writes += 1,
            }
        }
    }
    hud.kill().unwrap();
    hud.wait().unwrap();
    eprintln!("{scenario}: {writes} writes seen, {repeats} copies compared");
    assert!(
        writes > 20 && repeats > 1000,
        "{writes} writes, {repeats} copies"
    );
}

#[test]
fn worker_states_are_written_under_their_seqlock_only() {
    check("file_io", &["--block-ms", "20"]);
    check("lock", &["--block-ms", "20"]);
    check("cpu", &["--block-ms", "50"]);
    check("healthy_busy", &[]);
}
