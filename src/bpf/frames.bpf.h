/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Tier 4: where Tokio's state cannot be read, the return addresses on a worker's stack show whether
 * it is in a poll.
 *
 * A worker's loop runs in the same frames at the same addresses for as long as it runs. While the
 * thread is inside a call, the word below the caller's frame is that call's return address, and the
 * stack pointer is below it. Three such words at known distances therefore show that the thread is
 * inside the call that polls. User space learns which addresses and where from unwound stacks.
 *
 * The other files depend on this tier by `read_worker`, `report_unknown_frames`,
 * `config.by_frames` in estimate_edges, and what hud.h and struct tokio_state mark "tier 4".
 */
#ifndef HUD_FRAMES_BPF_H
#define HUD_FRAMES_BPF_H

#include "stack.bpf.h"
#include "tokio.bpf.h"

/* Rate limit for stacks that no path explains. */
#define UNKNOWN_EVERY_NS (20 * 1000 * 1000ull)
#define UNKNOWN_BURST 4

/* Written by user space while hud runs. */
struct hud_frame_path frame_paths[HUD_FRAME_PATHS];

u64 unknown_credit_clock;

/* The word at an address of the current thread; 0 if that is unreadable. */
static __always_inline u64 read_word(u64 address)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)address);
	return word;
}

static __always_inline bool contains(const u64 *addresses, u64 word)
{
	for (u32 i = 0; i < HUD_FRAME_VARIANTS; i++) {
		if (word && addresses[i] == word)
			return true;
	}
	return false;
}

/* The return address of the thread's call at one level of the path; 0 if it is not in a call. */
static __always_inline u64 return_address(struct hud_frame_path *path, u64 base, u32 level, u64 sp)
{
	u64 slot = base + path->slots[level];

	return sp > slot ? 0 : read_word(slot);
}

/*
 * Distinguishes polls by the numbers that grow with the worker's rounds. Without any, each
 * observation counts as a poll of its own, and only an uninterrupted sleep is known to be in one.
 */
static __always_inline void read_counters(struct hud_frame_path *path, u64 base,
					  struct hud_thread *thread, struct tokio_state *state)
{
	u64 pointer = 0, rest = 0;
	u32 slot = 0, value;

	/* The sequence of this write is odd: no other observation has it, nor a seed. */
	state->tick = thread->sequence;
	for (u32 i = 0; i < HUD_FRAME_COUNTERS; i++) {
		struct hud_frame_counter *counter = &path->counters[i];

		if (i >= path->counter_count)
			break;
		if (!pointer || counter->pointer != slot) {
			slot = counter->pointer;
			pointer = read_word(base + slot);
		}
		value = 0;
		if (!pointer || bpf_probe_read_user(&value, sizeof(value),
						    (void *)(pointer + counter->offset))) {
			/* It is between two rounds. */
			state->tick = thread->sequence;
			state->tick_known = 0;
			return;
		}
		if (i == 0) {
			state->tick = value;
			state->tick_known = 1;
		} else {
			rest = rest * 31 + value;
		}
	}
	state->task = rest;
}

/*
 * As read_tokio, from the stack of the current thread, whose user stack pointer is `sp`. Always
 * returns 0.
 */
static __noinline int read_frames(struct hud_thread *thread, u64 sp, u32 observed_as,
				  struct tokio_state *state)
{
	__builtin_memset(state, 0, sizeof(*state));
	state->phase = HUD_PHASE_DETACHED;
	if (!thread) {
		state->unknown_frames = observed_as == HUD_OBSERVED_RUNNING;
		return 0;
	}
	for (u32 i = 0; i < HUD_FRAME_PATHS; i++) {
		struct hud_frame_path *path = &frame_paths[i];
		u64 base = thread->frame_bases[i], from_loop, to_poll;

		if (!base || !contains(path->returns[2], return_address(path, base, 2, sp)))
			continue;
		state->scheduler = base;
		state->flavor = path->flavor;
		state->core = base;
		state->tick_core = base;
		state->constrained = 1;
		state->phase = HUD_PHASE_IDLE;
		read_counters(path, base, thread, state);
		from_loop = return_address(path, base, 1, sp);
		if (!contains(path->returns[1], from_loop)) {
			state->unknown_frames =
				from_loop && !contains(path->park_returns, from_loop);
			continue;
		}
		to_poll = return_address(path, base, 0, sp);
		if (!contains(path->returns[0], to_poll)) {
			state->unknown_frames = to_poll != 0;
			continue;
		}
		state->unknown_frames = 0;
		/* Nothing distinguishes this poll from the next one, unless it sleeps in it. */
		if (!state->tick_known && observed_as != HUD_OBSERVED_BLOCKED)
			return 0;
		/* block_in_place: another thread has the core by now. */
		if (path->core && !read_word(base + path->core)) {
			state->core = 0;
			state->phase = HUD_PHASE_DETACHED;
			return 0;
		}
		state->phase = HUD_PHASE_POLL;
		return 0;
	}
	return 0;
}

/* What the current thread is doing, as far as this session can read it. */
static __always_inline int read_worker(u64 thread_pointer, struct hud_thread *thread, u64 sp,
				       u32 observed_as, struct tokio_state *state)
{
	if (config.by_frames)
		return read_frames(thread, sp, observed_as, state);
	return read_tokio(thread_pointer, thread, state);
}

static __noinline int send_unknown_frames(struct user_regs *regs, u32 tid, u64 now)
{
	struct hud_stack_event *event;
	u64 base = regs->sp & ~(u64)(HUD_PAGE - 1);

	if (!take_credit(&unknown_credit_clock, now, UNKNOWN_EVERY_NS, UNKNOWN_BURST) ||
	    bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > RING_BYTES / 2)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0; /* not counted as lost: others follow */
	__builtin_memset(&event->head, 0, sizeof(event->head));
	fill_header(&event->head.header, HUD_EVENT_UNKNOWN_FRAMES, tid, now);
	event->head.stack_kind = HUD_STACK_SAMPLE;
	event->head.ip = regs->ip;
	event->head.sp = regs->sp;
	event->head.fp = regs->fp;
	event->head.lr = regs->lr;
	event->head.stack_base = base;
	event->head.stack_bytes = copy_user_stack(event->stack, base, HUD_STACK_PAGES);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Sends the stack of a thread that may be a worker, or of a worker at an unknown place. */
static __always_inline void report_unknown_frames(struct tokio_state *state, struct user_regs *regs,
						  u32 tid, u64 now)
{
	if (config.by_frames && state->unknown_frames)
		send_unknown_frames(regs, tid, now);
}

#endif
