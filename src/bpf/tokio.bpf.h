/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Reads from Tokio's own thread-local state what the current thread is doing. */
#ifndef HUD_TOKIO_BPF_H
#define HUD_TOKIO_BPF_H

#include "state.bpf.h"

/* As much of scheduler::Context as holds its discriminant and the core's pointer. */
#define SCHEDULER_CONTEXT_BYTES 64

struct tokio_state {
	u64 scheduler; /* 0: the thread runs no scheduler */
	u64 core;
	u64 task;
	u32 tick;
	u32 phase;
	u32 flavor;
	u32 constrained; /* the coop budget is in force */
	u32 tick_known;
	u32 unused;
};

/* Offsets come from user space, checked there; the masks are for the verifier. */
static __always_inline u64 u64_at(const u8 *bytes, u32 offset, u32 size)
{
	return *(const u64 *)(bytes + (offset & (size - 1) & ~7u));
}

/*
 * Follows Context -> scheduler::Context -> Core in the memory of the *current* thread; at a switch
 * that is still `prev`. `thread` is what is known of it, or NULL: without the budget only the id
 * that its Context holds while it polls nothing tells an unconstrained poll from a park.
 * Returns 0, or -1 for unreadable memory.
 */
static __always_inline int read_tokio(u64 thread_pointer, struct hud_thread *thread,
				      struct tokio_state *state)
{
	u8 bytes[HUD_CONTEXT_BYTES] __attribute__((aligned(8)));
	u64 tag;
	u32 tick;

	__builtin_memset(state, 0, sizeof(*state));
	if (bpf_probe_read_user(bytes, HUD_CONTEXT_BYTES,
				(void *)(thread_pointer + config.tokio.context)))
		return -1;
	state->scheduler = u64_at(bytes, config.tokio.scheduler, HUD_CONTEXT_BYTES);
	if (!state->scheduler) {
		state->phase = HUD_PHASE_DETACHED;
		return 0;
	}
	if (config.tokio.task_id_wide) {
		if (u64_at(bytes, config.tokio.task_id, HUD_CONTEXT_BYTES))
			state->task = u64_at(bytes, config.tokio.task_id + 8, HUD_CONTEXT_BYTES);
	} else {
		state->task = u64_at(bytes, config.tokio.task_id, HUD_CONTEXT_BYTES);
	}
	state->constrained = bytes[config.tokio.budget & (HUD_CONTEXT_BYTES - 1)] == 1;

	if (bpf_probe_read_user(bytes, SCHEDULER_CONTEXT_BYTES, (void *)state->scheduler))
		return -1;
	tag = config.tokio.current_thread_tag;
	if (config.tokio.has_flavor)
		tag = u64_at(bytes, config.tokio.flavor, SCHEDULER_CONTEXT_BYTES);
	if (tag == config.tokio.multi_thread_tag) {
		state->flavor = HUD_FLAVOR_MULTI_THREAD;
		state->core =
			u64_at(bytes, config.tokio.multi_thread_core, SCHEDULER_CONTEXT_BYTES);
		tick = core_ticks.multi_thread;
	} else if (tag == config.tokio.current_thread_tag) {
		state->flavor = HUD_FLAVOR_CURRENT_THREAD;
		state->core =
			u64_at(bytes, config.tokio.current_thread_core, SCHEDULER_CONTEXT_BYTES);
		tick = core_ticks.current_thread;
	} else {
		return -1;
	}
	if (!state->core)
		state->phase = HUD_PHASE_DETACHED;
	else if (state->constrained)
		state->phase = HUD_PHASE_POLL;
	else if (thread && thread->idle_core == state->core && state->task &&
		 state->task != thread->idle_task)
		state->phase = HUD_PHASE_POLL;
	else
		state->phase = HUD_PHASE_IDLE;
	if (state->core) {
		if (bpf_probe_read_user(&state->tick, sizeof(state->tick),
					(void *)(state->core + tick)))
			return -1;
		state->tick_known = 1;
	}
	return 0;
}

#endif
