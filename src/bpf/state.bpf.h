/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The maps and globals that the programs share, the clock, and counters of what was dropped. */
#ifndef HUD_STATE_BPF_H
#define HUD_STATE_BPF_H

#include "compat.bpf.h"
#include "hud.h"

const volatile struct hud_config config;

struct hud_losses losses;
struct hud_work work;

/* Whether samples for the profile of all poll time are sent. User space writes it at any time. */
volatile u32 profiling;

/* Whether sched_waking is attached, so that last_stacks are needed. Written as `profiling` is. */
volatile u32 tracking_wakes;

/*
 * CLOCK_MONOTONIC minus the scheduler's clock, and when they were compared last (0: never). The
 * former takes a read of the hardware clock, the latter a load; they drift apart by parts per
 * million.
 */
s64 mono_minus_clock;
u64 compared_at;
#define COMPARE_EVERY_NS (10 * 1000 * 1000ull)

/* When hud attached, on the scheduler's clock. */
u64 attached_at;

struct hud_core_ticks core_ticks;

/* Learnt from ticks that interrupted hud itself in user mode. */
struct hud_tick tick_signature;

/* One of each type that only events carry, for the generated Rust. */
struct hud_stack_head stack_type;
struct hud_poll_end_event poll_end_type;
struct hud_thread_exit_event thread_exit_type;
struct hud_release_event release_type;
struct hud_enums enums_type;

#define RING_BYTES (8 * 1024 * 1024)
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

/* Thread id -> index into `threads` plus 1; 0: not known as a worker. Sized to pid_max. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u16);
} slots SEC(".maps");
/* A worker for which `threads` has no room. */
#define SLOT_UNTRACKED 0xffff

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hud_thread);
} threads SEC(".maps");

/* By the same index. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hud_captures);
} captures SEC(".maps");

/* Unused indices of `threads`. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, u32);
} free_slots SEC(".maps");

/*
 * The last stack of each thread of the target, worker or not, by thread id modulo the array's size:
 * what the thread was doing while another one waited for it.
 */
#define LAST_STACKS 256
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LAST_STACKS);
	__type(key, u32);
	__type(value, struct hud_partial_stack);
} last_stacks SEC(".maps");

#define count(counter) ((void)__sync_fetch_and_add(&(counter), 1))

/* The scheduler's clock at a switch, which has just brought it up to date. */
static __always_inline u64 switch_clock(struct task_struct *prev)
{
	if (has_group_clock(prev))
		return prev->se.cfs_rq->rq->clock;
	return bpf_ktime_get_ns();
}

/* The scheduler's clock now, where it is not up to date: costs a read of the hardware clock. */
static __always_inline u64 clock_now(void)
{
	return bpf_ktime_get_ns() - mono_minus_clock;
}

/* Updates mono_minus_clock if that is due; `clock` must be up to date. */
static __always_inline void compare_clocks(u64 clock)
{
	if (compared_at && clock - compared_at < COMPARE_EVERY_NS)
		return;
	mono_minus_clock = bpf_ktime_get_ns() - clock;
	compared_at = clock;
}

static __always_inline void fill_header(struct hud_event_header *header, u32 kind, u32 tid,
					u64 clock)
{
	header->kind = kind;
	header->tid = tid;
	header->clock = clock;
	header->mono = clock + mono_minus_clock;
}

/*
 * A token bucket: it gains a token every `every` ns and holds `burst` of them. Takes a token and
 * returns true, or returns false if there is none. `*credit` is when the bucket was last empty.
 */
static __always_inline bool take_credit(u64 *credit, u64 now, u64 every, u64 burst)
{
	u64 empty_at = *credit;

	if (empty_at + every * burst < now)
		empty_at = now - every * burst;
	if (empty_at > now)
		return false;
	*credit = empty_at + every;
	return true;
}

#endif
