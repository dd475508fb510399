/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Where Tokio's state cannot be read: whether a worker is in a poll, by the return addresses on its
 * stack.
 *
 * A worker's loop has the same frames at the same addresses as long as it runs. While the thread is
 * inside a call, the word below the caller's frame is where that call returns to, and the stack
 * pointer is below it. So three such words, one above the other, say that it is inside the call
 * that polls. Which of them do, and where, is learnt in user space from unwound stacks.
 */
#ifndef HUD_FRAMES_BPF_H
#define HUD_FRAMES_BPF_H

#include "stack.bpf.h"
#include "tokio.bpf.h"

/* Of what is not known so many stacks are sent, and a burst of these. */
#define STRANGERS_EVERY_NS (20 * 1000 * 1000ull)
#define STRANGERS_BURST 4

static __always_inline u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)address);
	return word;
}

static __always_inline bool is_among(const u64 *returns, u64 word)
{
	for (u32 i = 0; i < HUD_WAY_RETURNS; i++) {
		if (word && returns[i] == word)
			return true;
	}
	return false;
}

/* Where the thread's call at one level of the way returns to; 0 if it is in none there. */
static __always_inline u64 return_at(struct hud_way *way, u64 lowest, u32 level, u64 sp)
{
	u64 place = lowest + way->places[level];

	return sp > place ? 0 : word_at(place);
}

/*
 * The numbers that grow with the worker's rounds tell its polls apart. Where none is known, each
 * observation is of a poll of its own, and only an uninterrupted sleep is sure to be in one.
 */
static __always_inline void read_counters(struct hud_way *way, u64 lowest,
					  struct hud_thread *thread, struct tokio_state *state)
{
	u64 pointer = 0, others = 0;
	u32 at = 0, value;

	/* Odd: no other observation has it, nor a seed. */
	state->tick = thread->sequence + 1;
	for (u32 i = 0; i < HUD_WAY_COUNTERS; i++) {
		struct hud_counter *counter = &way->counters[i];

		if (i >= way->counter_count)
			break;
		if (!pointer || counter->pointer != at) {
			at = counter->pointer;
			pointer = word_at(lowest + at);
		}
		value = 0;
		if (!pointer || bpf_probe_read_user(&value, sizeof(value),
						    (void *)(pointer + counter->offset))) {
			/* It is between two rounds. */
			state->tick = thread->sequence + 1;
			state->tick_known = 0;
			return;
		}
		if (i == 0) {
			state->tick = value;
			state->tick_known = 1;
		} else {
			others = others * 31 + value;
		}
	}
	state->task = others;
}

/* As read_tokio, from the stack of the current thread: its user stack pointer, and how it is seen.
 */
static __noinline int read_frames(struct hud_thread *thread, u64 sp, u32 seen_as,
				  struct tokio_state *state)
{
	__builtin_memset(state, 0, sizeof(*state));
	state->phase = HUD_PHASE_DETACHED;
	if (!thread)
		return 0;
	for (u32 i = 0; i < HUD_WAYS; i++) {
		struct hud_way *way = &ways[i];
		u64 lowest = thread->ways[i], from_loop, to_poll;

		if (!lowest || !is_among(way->returns[2], return_at(way, lowest, 2, sp)))
			continue;
		state->scheduler = lowest;
		state->flavor = way->flavor;
		state->core = lowest;
		state->tick_core = lowest;
		state->constrained = 1;
		state->phase = HUD_PHASE_IDLE;
		read_counters(way, lowest, thread, state);
		from_loop = return_at(way, lowest, 1, sp);
		if (!is_among(way->returns[1], from_loop)) {
			state->doubtful = from_loop && !is_among(way->parks, from_loop);
			continue;
		}
		to_poll = return_at(way, lowest, 0, sp);
		if (!is_among(way->returns[0], to_poll)) {
			state->doubtful = to_poll != 0;
			continue;
		}
		state->doubtful = 0;
		/* Nothing would tell this poll from the next one, unless it falls asleep in it. */
		if (!state->tick_known && seen_as != HUD_SEEN_BLOCKED)
			return 0;
		/* block_in_place: the core is another thread's by now. */
		if (way->core && !word_at(lowest + way->core)) {
			state->core = 0;
			state->phase = HUD_PHASE_DETACHED;
			return 0;
		}
		state->phase = HUD_PHASE_POLL;
		return 0;
	}
	return 0;
}

/* What the current thread is doing, in whichever way this session can know. */
static __always_inline int read_worker(u64 thread_pointer, struct hud_thread *thread, u64 sp,
				       u32 seen_as, struct tokio_state *state)
{
	if (config.by_frames)
		return read_frames(thread, sp, seen_as, state);
	return read_tokio(thread_pointer, thread, state);
}

u64 strangers_credit;

/*
 * Sends the stack of a thread that may turn out to be a worker, or of a worker in a place that is
 * not known, now and then.
 */
static __noinline int send_stranger(struct user_regs *regs, u32 tid, u64 now)
{
	struct hud_stack_event *event;
	u64 base = regs->sp & ~(u64)(HUD_PAGE - 1);

	if (!take_credit(&strangers_credit, now, STRANGERS_EVERY_NS, STRANGERS_BURST) ||
	    bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > RING_BYTES / 2)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0; /* no loss: it is one of many */
	__builtin_memset(&event->head, 0, sizeof(event->head));
	fill_header(&event->head.header, HUD_EVENT_STRANGER, tid, now);
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

#endif
