/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The maps and globals that hud's programs share, and what is counted when they run out. */
#ifndef HUD_STATE_BPF_H
#define HUD_STATE_BPF_H

#include "compat.bpf.h"
#include "hud.h"

const volatile struct hud_config config;

struct hud_losses losses;
struct hud_work work;

/* All poll time: samples inside polls, slow or not, are sent. Set by user space at any time. */
volatile u32 profiling;

/* Wake-ups are listened to, so what wakers did before is worth keeping. Set as `profiling` is. */
volatile u32 hears_wakes;

/*
 * CLOCK_MONOTONIC minus the scheduler's clock. The latter comes free with every switch, the former
 * costs 40 ns: so they are compared now and then. They drift apart by parts per million.
 */
s64 mono_minus_clock;
u64 compared_at;
/* When hud attached, on the scheduler's clock. */
u64 attached_at;

struct hud_core_ticks core_ticks;

/* Where Tokio's state cannot be read: learnt by user space while hud runs. */
struct hud_way ways[HUD_WAYS];

/* What the scheduler's tick looks like, learnt from ticks of hud itself in user mode. */
struct hud_tick tick_seen;

/* The types of the events, for the generated Rust. */
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

/* pid -> index into `threads` plus 1; 0: not a worker as far as is known. Sized to pid_max. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u16);
} slots SEC(".maps");
#define SLOT_UNTRACKED 0xffff

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hud_thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hud_captures);
} captures SEC(".maps");

/*
 * The last stack of each thread of the target, worker or not, by thread id modulo the array's size:
 * what it was doing while another waited for it.
 */
#define LAST_STACKS 256
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LAST_STACKS);
	__type(key, u32);
	__type(value, struct hud_other_stack);
} last_stacks SEC(".maps");

/* The indices of `threads` that are free. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, u32);
} free_slots SEC(".maps");

#define count(counter) ((void)__sync_fetch_and_add(&(counter), 1))

/* The scheduler's clock at a switch, where it has just been brought up to date. */
static __always_inline u64 switch_clock(struct task_struct *prev)
{
	if (has_group_clock(prev))
		return prev->se.cfs_rq->rq->clock;
	return bpf_ktime_get_ns();
}

/* Keeps mono_minus_clock true; `clock` must be fresh. */
static __always_inline void compare_clocks(u64 clock)
{
	if (compared_at && clock - compared_at < 10 * 1000 * 1000)
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

/* The state of a thread known to be a worker, else NULL. */
static __always_inline struct hud_thread *find_thread(u32 tid, u32 *index)
{
	u32 key = tid;
	u16 *slot = bpf_map_lookup_elem(&slots, &key);

	if (!slot || !*slot || *slot == SLOT_UNTRACKED)
		return NULL;
	*index = *slot - 1;
	return bpf_map_lookup_elem(&threads, index);
}

/*
 * A credit that fills by one every `every` ns, up to `burst` of them. Takes one, or returns false.
 */
static __always_inline bool take_credit(u64 *clock, u64 now, u64 every, u64 burst)
{
	u64 credit = *clock;

	if (credit + every * burst < now)
		credit = now - every * burst;
	if (credit > now)
		return false;
	*clock = credit + every;
	return true;
}

/* Counts a worker that is not watched, once. */
static __always_inline void leave_untracked(u32 tid)
{
	u16 *slot = bpf_map_lookup_elem(&slots, &tid);

	if (!slot || *slot)
		return;
	*slot = SLOT_UNTRACKED;
	count(losses.worker_untracked);
}

/* Gives a thread a state of its own; NULL when all are taken, which is counted once a thread. */
static __noinline struct hud_thread *add_thread(u32 tid, u32 *index)
{
	u32 key = tid, free = 0;
	u16 *slot = bpf_map_lookup_elem(&slots, &key);
	struct hud_thread *thread;

	if (!slot || *slot)
		return NULL;
	if (bpf_map_pop_elem(&free_slots, &free)) {
		leave_untracked(tid);
		return NULL;
	}
	thread = bpf_map_lookup_elem(&threads, &free);
	if (!thread)
		return NULL;
	*slot = free + 1;
	*index = free;
	__builtin_memset(&thread->parks, 0, sizeof(thread->parks));
	__builtin_memset(&thread->ways, 0, sizeof(thread->ways));
	thread->phase = HUD_PHASE_UNKNOWN;
	thread->idle_core = 0;
	thread->skipped = 0;
	thread->seeded = 0;
	thread->read_credit_clock = 0;
	thread->mean_poll_ns = 0;
	thread->exec_out = 0;
	thread->round_ns = 0;
	thread->to_poll_ns = 0;
	thread->to_park_ns = 0;
	thread->sampled_clock = 0;
	thread->interrupted_clock = 0;
	thread->profile_samples = 0;
	thread->profiled_cpu_ns = 0;
	thread->profile_ns = 0;
	thread->tick_core = 0;
	thread->closely = 0;
	thread->unsure_edges = 0;
	thread->kept_valid = 0;
	thread->newest_valid = 0;
	thread->sample_valid = 0;
	thread->capture_credit_clock = 0;
	thread->preempted_credit_clock = 0;
	thread->last_syscall = -1;
	__builtin_memset(&thread->usage, 0, sizeof(thread->usage));
	thread->tid = tid;
	return thread;
}

#endif
