/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The states of the workers: found, added, and written under their seqlocks. */
#ifndef HUD_THREAD_BPF_H
#define HUD_THREAD_BPF_H

#include "state.bpf.h"

/*
 * begin_write and end_write enclose every write to the guarded fields of struct hud_thread. There
 * is one writer at a time: the program that runs on the thread's own CPU with interrupts off, or at
 * the thread's exit, when `slots` no longer leads to it.
 *
 * barrier() binds the compiler; x86 keeps stores in order by itself. BPF has no store barrier: its
 * ordered atomics need Linux 5.12, on aarch64 5.18. There the reader waits instead (threads.rs).
 */
static __always_inline void begin_write(struct hud_thread *thread)
{
	*(volatile u32 *)&thread->sequence = thread->sequence | 1;
	barrier();
}

static __always_inline void end_write(struct hud_thread *thread)
{
	barrier();
	*(volatile u32 *)&thread->sequence = thread->sequence + 1;
}

/* The state of a thread known as a worker, else NULL. */
static __always_inline struct hud_thread *find_thread(u32 tid, u32 *index)
{
	u32 key = tid;
	u16 *slot = bpf_map_lookup_elem(&slots, &key);

	if (!slot || !*slot || *slot == SLOT_UNTRACKED)
		return NULL;
	*index = *slot - 1;
	return bpf_map_lookup_elem(&threads, index);
}

/* Counts a worker that cannot be tracked, once per thread. */
static __always_inline void count_untracked(u32 tid)
{
	u16 *slot = bpf_map_lookup_elem(&slots, &tid);

	if (!slot || *slot)
		return;
	*slot = SLOT_UNTRACKED;
	count(losses.worker_untracked);
}

/*
 * Gives a thread a state of its own, and begins a write of it. Returns NULL if the thread has one
 * or none is free.
 */
static __noinline struct hud_thread *add_thread(u32 tid, u32 *index)
{
	u32 key = tid, free = 0;
	u16 *slot = bpf_map_lookup_elem(&slots, &key);
	struct hud_thread *thread;

	if (!slot || *slot)
		return NULL;
	if (bpf_map_pop_elem(&free_slots, &free)) {
		count_untracked(tid);
		return NULL;
	}
	thread = bpf_map_lookup_elem(&threads, &free);
	if (!thread)
		return NULL;
	*slot = free + 1;
	*index = free;
	begin_write(thread);
	/* All but the sequence, and the sequence of the poll: it counts on from the last thread. */
	thread->tid = tid;
	thread->phase = HUD_PHASE_UNKNOWN;
	thread->newest_valid = 0;
	thread->costliest_valid = 0;
	thread->sample_valid = 0;
	thread->uncertain_edges = 0;
	__builtin_memset(&thread->usage, 0, sizeof(thread->usage));
	thread->has_own_clock = 0;
	__builtin_memset(&thread->frame_bases, 0, sizeof(thread->frame_bases));
	thread->skipped = 0;
	thread->last_syscall = -1;
	thread->seeded = 0;
	thread->switched_out_exec = 0;
	thread->idle_core = 0;
	thread->tick_core = 0;
	thread->profile_samples = 0;
	thread->profiled_cpu_ns = 0;
	thread->profile_ns = 0;
	thread->mean_poll_ns = 0;
	thread->round_ns = 0;
	thread->wake_to_poll_ns = 0;
	thread->poll_to_park_ns = 0;
	thread->sampled_clock = 0;
	thread->interrupted_clock = 0;
	thread->read_credit_clock = 0;
	thread->capture_credit_clock = 0;
	thread->preempted_credit_clock = 0;
	__builtin_memset(&thread->parks, 0, sizeof(thread->parks));
	return thread;
}

#endif
