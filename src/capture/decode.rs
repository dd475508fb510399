//! Bytes from the ring buffer (and from the capture buffers) to [`Event`]s.
//!
//! The bytes come from our own BPF program, but nothing here trusts a length or a kind: what does
//! not fit is a [`DecodeError`], which the caller counts.

use std::fmt;
use std::mem::{offset_of, size_of};

use plain::Plain;

use super::events::{
    Capture, Event, OtherStack, PollEnd, PollTimes, Released, Site, StackKind, ThreadExit, Usage,
};
use crate::arch::Registers;
use crate::bpf::types::{
    hud_event_header, hud_event_kind, hud_partial_stack, hud_poll, hud_poll_end_event,
    hud_poll_flags, hud_release_event, hud_release_kind, hud_site, hud_stack_event, hud_stack_head,
    hud_stack_kind, hud_thread_exit_event, hud_usage,
};
use crate::model::{HeldBack, Release};
use crate::text::comm;

// SAFETY: generated, `repr(C)`, integers only: valid for every bit pattern.
unsafe impl Plain for hud_event_header {}
// SAFETY: as above.
unsafe impl Plain for hud_stack_head {}
// SAFETY: as above.
unsafe impl Plain for hud_poll_end_event {}
// SAFETY: as above.
unsafe impl Plain for hud_thread_exit_event {}
// SAFETY: as above.
unsafe impl Plain for hud_release_event {}

const EVENT_STACK: u32 = hud_event_kind::HUD_EVENT_STACK.0;
const EVENT_POLL_END: u32 = hud_event_kind::HUD_EVENT_POLL_END.0;
const EVENT_THREAD_EXIT: u32 = hud_event_kind::HUD_EVENT_THREAD_EXIT.0;
const EVENT_EXEC: u32 = hud_event_kind::HUD_EVENT_EXEC.0;
const EVENT_RELEASE: u32 = hud_event_kind::HUD_EVENT_RELEASE.0;
const EVENT_PROFILE: u32 = hud_event_kind::HUD_EVENT_PROFILE.0;
const EVENT_UNKNOWN_FRAMES: u32 = hud_event_kind::HUD_EVENT_UNKNOWN_FRAMES.0;

/// Bytes that are no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the kind needs.
    Short { kind: u32, bytes: usize },
    /// No such kind.
    Kind(u32),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short { kind, bytes } => {
                write!(f, "event of kind {kind} with only {bytes} bytes")
            }
            DecodeError::Kind(kind) => write!(f, "event of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Copies a `T` from the front of bytes that may be unaligned.
fn front<T: Plain + Default>(kind: u32, bytes: &[u8]) -> Result<T, DecodeError> {
    let mut value = T::default();
    value
        .copy_from_bytes(bytes)
        .map_err(|_| DecodeError::Short {
            kind,
            bytes: bytes.len(),
        })?;
    Ok(value)
}

/// Decodes one ring buffer record.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let header: hud_event_header = front(0, bytes)?;
    match header.kind {
        EVENT_STACK => stack(bytes).map(|capture| Event::Stack(Box::new(capture))),
        EVENT_PROFILE => {
            let head: hud_stack_head = front(header.kind, bytes)?;
            stack(bytes).map(|capture| Event::Profile(Box::new(capture), head.profile_ns))
        }
        EVENT_UNKNOWN_FRAMES => stack(bytes).map(|capture| Event::UnknownFrames(Box::new(capture))),
        EVENT_POLL_END => {
            let event: hud_poll_end_event = front(header.kind, bytes)?;
            let offset = clock_offset(&header);
            Ok(Event::PollEnd(Box::new(PollEnd {
                tid: header.tid,
                end_ns: event.end_clock.wrapping_add_signed(offset),
                poll: poll_times(&event.poll, offset),
                sites: sites(&event.poll),
            })))
        }
        EVENT_THREAD_EXIT => {
            let event: hud_thread_exit_event = front(header.kind, bytes)?;
            Ok(Event::ThreadExit(ThreadExit {
                tid: header.tid,
                at_ns: header.mono,
                usage: usage(&event.usage),
            }))
        }
        EVENT_EXEC => Ok(Event::Exec),
        EVENT_RELEASE => released(bytes).map(|released| Event::Release(Box::new(released))),
        kind => Err(DecodeError::Kind(kind)),
    }
}

/// Decodes a stack event from the front of `bytes`, which may be longer than it.
pub fn stack(bytes: &[u8]) -> Result<Capture, DecodeError> {
    let head: hud_stack_head = front(EVENT_STACK, bytes)?;
    let kind = match hud_stack_kind(head.stack_kind) {
        hud_stack_kind::HUD_STACK_SAMPLE => StackKind::Sample,
        hud_stack_kind::HUD_STACK_BLOCKED => StackKind::Blocked,
        hud_stack_kind::HUD_STACK_PREEMPTED => StackKind::Preempted,
        other => return Err(DecodeError::Kind(other.0)),
    };
    let length = head.stack_bytes as usize;
    let start = offset_of!(hud_stack_event, stack);
    let stack = bytes
        .get(start..start.saturating_add(length))
        .ok_or(DecodeError::Short {
            kind: EVENT_STACK,
            bytes: bytes.len(),
        })?;
    let kernel_count = (head.kernel_count as usize).min(head.kernel.len());
    let offset = clock_offset(&head.header);
    Ok(Capture {
        tid: head.header.tid,
        at_ns: head.header.mono,
        kind,
        poll: PollTimes {
            sequence: head.poll_sequence,
            task: head.task,
            start_ns: head.start_clock.wrapping_add_signed(offset),
            on_cpu_ns: head.on_cpu_ns,
            run_queue_ns: head.run_queue_ns,
            blocked_ns: head.blocked_ns,
            ..with_flags(head.poll_flags)
        },
        site: site(&head.site),
        registers: Registers {
            ip: head.ip,
            sp: head.sp,
            fp: head.fp,
            lr: head.lr,
        },
        kernel: without_interrupt(&head.kernel[..kernel_count], head.interrupt_entry).to_vec(),
        stack_base: head.stack_base,
        stack: stack.to_vec(),
        cut: length >= size_of::<hud_stack_event>() - start,
    })
}

fn released(bytes: &[u8]) -> Result<Released, DecodeError> {
    let event: hud_release_event = front(EVENT_RELEASE, bytes)?;
    let how = match hud_release_kind(event.release_kind) {
        hud_release_kind::HUD_RELEASE_FUTEX => Release::Futex,
        hud_release_kind::HUD_RELEASE_EXIT => Release::Exit,
        hud_release_kind::HUD_RELEASE_FILE => Release::File,
        other => return Err(DecodeError::Kind(other.0)),
    };
    Ok(Released {
        tid: event.header.tid,
        sequence: event.poll_sequence,
        at_ns: event.header.mono,
        wait_ns: event.wait_ns,
        waited_for: event.waited_for,
        how,
        waker: event.at_wake.tid,
        waker_name: comm(&event.comm),
        at_wake: other_stack(&event.at_wake),
        meanwhile: (event.has_during_wait != 0).then(|| other_stack(&event.during_wait)),
    })
}

fn other_stack(raw: &hud_partial_stack) -> OtherStack {
    let length = (raw.stack_bytes as usize).min(raw.stack.len());
    OtherStack {
        registers: Registers {
            ip: raw.ip,
            sp: raw.sp,
            fp: raw.fp,
            lr: raw.lr,
        },
        syscall: raw.syscall,
        arg0: raw.arg0,
        base: raw.stack_base,
        bytes: raw.stack[..length].to_vec(),
    }
}

fn clock_offset(header: &hud_event_header) -> i64 {
    header.mono.wrapping_sub(header.clock) as i64
}

fn with_flags(flags: u32) -> PollTimes {
    let has = |flag: hud_poll_flags| flags & flag.0 != 0;
    PollTimes {
        began_before_attach: has(hud_poll_flags::HUD_POLL_BEGAN_BEFORE),
        held_back: HeldBack {
            throttled: has(hud_poll_flags::HUD_POLL_THROTTLED),
            stolen: has(hud_poll_flags::HUD_POLL_STOLEN),
        },
        slow: has(hud_poll_flags::HUD_POLL_SLOW),
        unconstrained: has(hud_poll_flags::HUD_POLL_UNCONSTRAINED),
        ..PollTimes::default()
    }
}

/// Converts a poll as BPF keeps it; `offset` is `CLOCK_MONOTONIC` minus the scheduler's clock.
pub(super) fn poll_times(poll: &hud_poll, offset: i64) -> PollTimes {
    PollTimes {
        sequence: poll.sequence,
        task: poll.task,
        start_ns: poll.start_clock.wrapping_add_signed(offset),
        on_cpu_ns: poll.on_cpu_ns,
        estimated_ns: poll.estimated_ns,
        run_queue_ns: poll.run_queue_ns,
        blocked_ns: poll.blocked_ns,
        stopped_ns: poll.stopped_ns,
        wake_delay_ns: poll.wake_delay_ns,
        faults: poll.faults,
        ..with_flags(poll.flags)
    }
}

pub(super) fn usage(raw: &hud_usage) -> Usage {
    Usage {
        on_cpu_ns: raw.on_cpu_ns,
        run_queue_ns: raw.run_queue_ns,
        blocked_ns: raw.blocked_ns,
        parked_ns: raw.parked_ns,
        polls_observed: raw.polls_observed,
        longest_poll_ns: raw.longest_poll_ns,
    }
}

/// The sites in use.
pub(super) fn sites(poll: &hud_poll) -> Vec<Site> {
    poll.sites
        .iter()
        .take(poll.site_count as usize)
        .map(site)
        .collect()
}

fn site(site: &hud_site) -> Site {
    Site {
        syscall: site.syscall,
        previous_syscall: site.previous_syscall,
        args: site.args,
        sp: site.sp,
        fd_mode: site.fd_mode,
        in_iowait: site.in_iowait != 0,
        has_children: site.has_children != 0,
        count: site.count,
        blocked_ns: site.blocked_ns,
    }
}

/// Kernel frames without those of the interrupt that took the sample, if one did: none are left if
/// it interrupted user mode.
fn without_interrupt(kernel: &[u64], entry: u64) -> &[u64] {
    match kernel.iter().position(|ip| *ip == entry) {
        Some(at) if entry != 0 => &kernel[at + 1..],
        _ => kernel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of<T: Plain>(value: &T) -> Vec<u8> {
        // SAFETY: `Plain` types are plain bytes.
        unsafe { plain::as_bytes(value) }.to_vec()
    }

    fn stack_bytes(stack: &[u8], claimed: u32) -> Vec<u8> {
        let head = hud_stack_head {
            header: hud_event_header {
                kind: EVENT_STACK,
                tid: 7,
                clock: 1_000,
                mono: 5_000,
            },
            start_clock: 400,
            poll_flags: hud_poll_flags::HUD_POLL_SLOW.0 | hud_poll_flags::HUD_POLL_THROTTLED.0,
            stack_kind: hud_stack_kind::HUD_STACK_BLOCKED.0,
            kernel_count: 2,
            stack_bytes: claimed,
            stack_base: 0x7000,
            ..hud_stack_head::default()
        };
        let mut bytes = bytes_of(&head);
        bytes.extend_from_slice(stack);
        bytes
    }

    #[test]
    fn stack_times_are_monotonic_and_flags_are_named() {
        let Ok(Event::Stack(capture)) = decode(&stack_bytes(&[1, 2, 3, 4], 4)) else {
            panic!("not a stack");
        };
        assert_eq!(capture.tid, 7);
        assert_eq!(capture.poll.start_ns, 4_400);
        assert!(capture.poll.slow && capture.poll.held_back.throttled);
        assert!(!capture.poll.began_before_attach && !capture.poll.unconstrained);
        assert_eq!(capture.stack, [1, 2, 3, 4]);
        assert_eq!(capture.kernel.len(), 2);
        assert!(!capture.cut);
    }

    #[test]
    fn frames_of_the_sampling_interrupt_are_none_of_the_stack() {
        let (timer, entry, fault) = (0xa, 0xb, 0xc);
        assert_eq!(without_interrupt(&[timer, entry, fault], entry), [fault]);
        assert_eq!(without_interrupt(&[timer, entry], entry), [0; 0]);
        assert_eq!(without_interrupt(&[fault], entry), [fault]);
        assert_eq!(without_interrupt(&[0, 0], 0), [0, 0]);
    }

    #[test]
    fn a_sample_of_all_poll_time_says_what_it_stands_for() {
        let head = hud_stack_head {
            header: hud_event_header {
                kind: EVENT_PROFILE,
                tid: 7,
                ..hud_event_header::default()
            },
            profile_ns: 8_000_000,
            ip: 0x1234,
            ..hud_stack_head::default()
        };
        let Ok(Event::Profile(capture, weight_ns)) = decode(&bytes_of(&head)) else {
            panic!("not a sample");
        };
        assert_eq!((capture.registers.ip, weight_ns), (0x1234, 8_000_000));
        let short = &bytes_of(&head)[..100];
        assert!(matches!(decode(short), Err(DecodeError::Short { .. })));
    }

    #[test]
    fn a_claimed_length_beyond_the_bytes_is_an_error() {
        assert_eq!(
            decode(&stack_bytes(&[0; 8], 9)),
            Err(DecodeError::Short {
                kind: EVENT_STACK,
                bytes: offset_of!(hud_stack_event, stack) + 8
            })
        );
    }

    #[test]
    fn only_the_used_sites_of_a_poll_are_taken() {
        let mut event = hud_poll_end_event {
            header: hud_event_header {
                kind: EVENT_POLL_END,
                tid: 9,
                clock: 0,
                mono: 100,
            },
            end_clock: 50,
            ..hud_poll_end_event::default()
        };
        event.poll.site_count = 1;
        event.poll.sites[0].syscall = 202;
        event.poll.sites[0].in_iowait = 1;
        let Ok(Event::PollEnd(end)) = decode(&bytes_of(&event)) else {
            panic!("not a poll's end");
        };
        assert_eq!(end.end_ns, 150);
        assert_eq!(end.sites.len(), 1);
        assert_eq!(end.sites[0].syscall, 202);
        assert!(end.sites[0].in_iowait);
        event.poll.site_count = u32::MAX;
        let Ok(Event::PollEnd(end)) = decode(&bytes_of(&event)) else {
            panic!("not a poll's end");
        };
        assert_eq!(end.sites.len(), event.poll.sites.len());
    }

    #[test]
    fn unknown_kinds_are_errors() {
        let header = hud_event_header {
            kind: 99,
            ..hud_event_header::default()
        };
        assert_eq!(decode(&bytes_of(&header)), Err(DecodeError::Kind(99)));
    }

    #[test]
    fn a_release_names_the_waker_and_trusts_no_length() {
        let mut event = hud_release_event {
            header: hud_event_header {
                kind: EVENT_RELEASE,
                tid: 9,
                clock: 0,
                mono: 100,
            },
            wait_ns: 30,
            release_kind: hud_release_kind::HUD_RELEASE_FUTEX.0,
            ..hud_release_event::default()
        };
        event.at_wake.tid = 12;
        event.at_wake.stack_bytes = u32::MAX;
        event.comm[0] = b'x' as i8;
        let Ok(Event::Release(released)) = decode(&bytes_of(&event)) else {
            panic!("not a release");
        };
        assert_eq!((released.tid, released.waker), (9, 12));
        assert_eq!(released.waker_name, "x");
        assert_eq!(released.at_wake.bytes.len(), event.at_wake.stack.len());
        assert_eq!(released.meanwhile, None);
        event.release_kind = 0;
        assert_eq!(decode(&bytes_of(&event)), Err(DecodeError::Kind(0)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), kind in 0u32..8) {
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&kind.to_ne_bytes());
            }
            let _ = decode(&bytes);
        }
    }
}
