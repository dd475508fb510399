/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Reads Tokio's thread-local state: what the current thread is doing. */
#ifndef HUD_TOKIO_BPF_H
#define HUD_TOKIO_BPF_H

#include "thread.bpf.h"

struct tokio_state {
	u64 scheduler; /* address of scheduler::Context; 0: the thread runs no scheduler */
	u64 core;
	u64 task;
	u64 tick_core; /* the core that `tick` was read from */
	u32 tick;
	u32 phase;
	u32 flavor;
	u32 constrained; /* the coop budget is in force */
	u32 tick_known;
	u32 budget_left;    /* as in struct hud_poll */
	u32 unknown_frames; /* tier 4: no path explains the return addresses */
};

/* The u64 at an offset from user space, which has checked it; the mask is for the verifier. */
static __always_inline u64 u64_at(const u8 *bytes, u32 offset, u32 size)
{
	return *(const u64 *)(bytes + (offset & (size - 1) & ~7u));
}

/* Decodes Context: the budget and the task id. */
static __always_inline void decode_context(const u8 *bytes, struct tokio_state *state)
{
	u32 budget = config.tokio.budget;

	state->constrained = bytes[budget & (HUD_CONTEXT_BYTES - 1)] == 1;
	if (!config.tokio.has_task_id) {
		if (state->constrained)
			state->budget_left = bytes[(budget + 1) & (HUD_CONTEXT_BYTES - 1)];
	} else if (config.tokio.task_id_wide) {
		if (u64_at(bytes, config.tokio.task_id, HUD_CONTEXT_BYTES))
			state->task = u64_at(bytes, config.tokio.task_id + 8, HUD_CONTEXT_BYTES);
	} else {
		state->task = u64_at(bytes, config.tokio.task_id, HUD_CONTEXT_BYTES);
	}
}

/*
 * Reads a flavor's scheduler and core through the thread-local at `offset`, if that is set.
 * Returns 0, or -1 for unreadable memory.
 */
static __always_inline int read_own_thread_local(u64 thread_pointer, s64 offset, u32 core,
						 u32 flavor, struct tokio_state *state)
{
	u64 scheduler = 0;

	if (!offset)
		return 0;
	if (bpf_probe_read_user(&scheduler, sizeof(scheduler), (void *)(thread_pointer + offset)))
		return -1;
	if (!scheduler)
		return 0;
	if (bpf_probe_read_user(&state->core, sizeof(state->core), (void *)(scheduler + core)))
		return -1;
	state->scheduler = scheduler;
	state->flavor = flavor;
	return 0;
}

/*
 * Before Tokio 1.29. A worker in block_in_place may run a current_thread runtime on top of its own:
 * both pointers are set then, and the worker has no core.
 */
static __always_inline int read_own_thread_locals(u64 thread_pointer, u8 *bytes,
						  struct tokio_state *state)
{
	if (read_own_thread_local(thread_pointer, config.tokio.multi_thread_scheduler,
				  config.tokio.multi_thread_core, HUD_FLAVOR_MULTI_THREAD, state))
		return -1;
	if (!state->core &&
	    read_own_thread_local(thread_pointer, config.tokio.current_thread_scheduler,
				  config.tokio.current_thread_core, HUD_FLAVOR_CURRENT_THREAD,
				  state))
		return -1;
	if (!state->scheduler)
		return 0;
	if (bpf_probe_read_user(bytes, HUD_CONTEXT_BYTES,
				(void *)(thread_pointer + config.tokio.context)))
		return -1;
	decode_context(bytes, state);
	return 0;
}

/* EnterRuntime: at and above this value the thread is in no runtime. */
#define NOT_ENTERED 2

/*
 * A thread in a runtime but not in its scheduler: it runs block_on, and polls a root future while
 * the budget is in force. The runtime's handle stands for the scheduler and its core.
 */
static __always_inline void decode_root(const u8 *bytes, struct tokio_state *state)
{
	u64 handle;

	if (!config.tokio.has_root ||
	    bytes[config.tokio.runtime & (HUD_CONTEXT_BYTES - 1)] >= NOT_ENTERED)
		return;
	handle = u64_at(bytes, config.tokio.handle, HUD_CONTEXT_BYTES);
	if (!handle)
		return;
	decode_context(bytes, state);
	/* block_on sets no task id. What is left of the budget distinguishes its polls. */
	state->task = 0;
	if (state->constrained)
		state->budget_left = bytes[(config.tokio.budget + 1) & (HUD_CONTEXT_BYTES - 1)];
	state->scheduler = handle;
	state->core = handle;
	state->flavor = HUD_FLAVOR_ROOT;
}

/* Since Tokio 1.29: Context points to scheduler::Context, which points to the core. */
static __always_inline int read_context(u64 thread_pointer, u8 *bytes, struct tokio_state *state)
{
	u64 tag;

	if (bpf_probe_read_user(bytes, HUD_CONTEXT_BYTES,
				(void *)(thread_pointer + config.tokio.context)))
		return -1;
	state->scheduler = u64_at(bytes, config.tokio.scheduler, HUD_CONTEXT_BYTES);
	if (!state->scheduler) {
		decode_root(bytes, state);
		return 0;
	}
	decode_context(bytes, state);
	if (bpf_probe_read_user(bytes, HUD_SCHEDULER_CONTEXT_BYTES, (void *)state->scheduler))
		return -1;
	tag = config.tokio.current_thread_tag;
	if (config.tokio.has_flavor)
		tag = u64_at(bytes, config.tokio.flavor, HUD_SCHEDULER_CONTEXT_BYTES);
	if (tag == config.tokio.multi_thread_tag) {
		state->flavor = HUD_FLAVOR_MULTI_THREAD;
		state->core =
			u64_at(bytes, config.tokio.multi_thread_core, HUD_SCHEDULER_CONTEXT_BYTES);
	} else if (tag == config.tokio.current_thread_tag) {
		state->flavor = HUD_FLAVOR_CURRENT_THREAD;
		state->core = u64_at(bytes, config.tokio.current_thread_core,
				     HUD_SCHEDULER_CONTEXT_BYTES);
	} else {
		state->flavor = HUD_FLAVOR_OTHER;
		return -1;
	}
	return 0;
}

/*
 * Follows Tokio's state to the worker's Core in the memory of the current thread; at a switch that
 * is still `prev`. `thread` is its state so far, or NULL: where no budget is in force, only the
 * task id that its Context holds while it polls nothing distinguishes a poll from a park.
 * Returns 0, or -1 for unreadable memory or an unknown flavor.
 *
 * Not inlined: `bytes` would stay on the stack below everything that the caller calls later. A
 * chain of calls has 512 bytes in all, and older kernels round each frame up to 32.
 */
static __noinline int read_tokio(u64 thread_pointer, struct hud_thread *thread,
				 struct tokio_state *state)
{
	u8 bytes[HUD_CONTEXT_BYTES] __attribute__((aligned(8)));
	u32 tick;
	int error;

	__builtin_memset(state, 0, sizeof(*state));
	if (config.tokio.own_thread_locals)
		error = read_own_thread_locals(thread_pointer, bytes, state);
	else
		error = read_context(thread_pointer, bytes, state);
	if (error)
		return -1;
	if (!state->core)
		state->phase = HUD_PHASE_DETACHED;
	else if (state->constrained)
		state->phase = HUD_PHASE_POLL;
	else if (thread && thread->idle_core == state->core && state->task &&
		 state->task != thread->idle_task)
		state->phase = HUD_PHASE_POLL;
	else
		state->phase = HUD_PHASE_IDLE;
	if (state->flavor == HUD_FLAVOR_ROOT)
		return 0; /* no tick */
	state->tick_core = state->core;
	/* Between two polls the worker's loop owns the core, which stays at the same address. */
	if (!state->core && thread && state->scheduler)
		state->tick_core = thread->tick_core;
	if (!state->tick_core)
		return 0;
	tick = state->flavor == HUD_FLAVOR_MULTI_THREAD ? core_ticks.multi_thread
							: core_ticks.current_thread;
	if (!bpf_probe_read_user(&state->tick, sizeof(state->tick),
				 (void *)(state->tick_core + tick)))
		state->tick_known = 1;
	else if (state->core)
		return -1;
	return 0;
}

#endif
