/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Tracks each worker from poll to poll.
 *
 * A worker is observed only at switches and samples. Between two observations the scheduler's
 * counters tell how its time was spent, and Tokio's tick how many polls ran; where in that time a
 * poll ended or began is estimated from the worker's mean poll.
 */
#ifndef HUD_POLL_BPF_H
#define HUD_POLL_BPF_H

#include "interval.bpf.h"
#include "stack.bpf.h"
#include "tokio.bpf.h"

/* A run-queue wait shorter than this right after a wake-up is part of the sleep's cost. */
#define WAKE_DELAY_NS (1000 * 1000ull)
/* A wait in a poll is long from this fraction of the threshold on. */
#define LONG_WAIT_DIVISOR 8
/* No scheduling round is shorter: below it, another thread had the core in between. */
#define MIN_ROUND_NS 16
/* The mean poll until rounds have been observed. */
#define FIRST_MEAN_NS (20 * 1000ull)
/* A poll this many times longer than the mean is not an ordinary one. */
#define FAR_ABOVE_MEAN 4
/* Upper limit of the time between a wake-up and a poll, and between a poll and a park. */
#define MAX_GAP_NS (20 * 1000ull)
/* An edge between polls is uncertain if it lies in an interval of more than twice this. */
#define UNCERTAIN_NS (250 * 1000ull)

/* Charges the open poll with the part of the interval that certainly belongs to it. */
static __always_inline void charge_poll(struct hud_thread *thread, struct interval *span, u64 now)
{
	struct hud_poll *poll = &thread->poll;
	u32 site = thread->site;

	poll->run_queue_ns += span->run_queue;
	if (thread->observed_as == HUD_OBSERVED_STOPPED) {
		poll->stopped_ns += span->asleep;
	} else {
		poll->blocked_ns += span->asleep;
	}
	if (thread->observed_as != HUD_OBSERVED_BLOCKED)
		return;
	if (span->run_queue < WAKE_DELAY_NS)
		poll->wake_delay_ns += span->run_queue;
	if (site < HUD_SITES)
		poll->sites[site].blocked_ns += span->asleep;
	if (span->asleep >= config.threshold_ns / LONG_WAIT_DIVISOR &&
	    saturating_sub(now, poll->start_clock) >= config.threshold_ns)
		count(work.long_waits);
	settle_captures(thread);
}

/*
 * Whether a poll that ends at `end` is slow. Its edges are estimates: so it must also have been
 * observed for half the threshold, as samples ensure for every poll of twice the threshold.
 */
static __always_inline bool is_slow(struct hud_poll *poll, u64 end, u64 last_seen)
{
	return saturating_sub(end, poll->start_clock) >= config.threshold_ns &&
	       saturating_sub(last_seen, poll->first_seen_clock) >= config.threshold_ns / 2;
}

/*
 * Updates the mean poll from rounds that took `round_ns` each. `mixed`: the rounds may include part
 * of a long poll, and so raise the mean only slowly.
 */
static __always_inline void update_mean_poll(struct hud_thread *thread, u64 round_ns, bool mixed)
{
	u64 mean = thread->mean_poll_ns;

	if (!mean)
		mean = mixed ? min_u64(round_ns, FIRST_MEAN_NS) : round_ns;
	else if (mixed && round_ns > mean * FAR_ABOVE_MEAN)
		mean += mean / 8 + 1;
	else
		mean = (mean * 7 + round_ns) / 8;
	thread->mean_poll_ns = mean;
}

/*
 * Ends the open poll at `end`; it was observed running until `last_seen`. A global function, for
 * the same reason as send_captures.
 */
__noinline int close_poll(u32 index, u64 end, u64 last_seen)
{
	struct hud_thread *thread = bpf_map_lookup_elem(&threads, &index);
	struct hud_poll_end_event *event;
	struct hud_poll *poll;
	u64 held;

	if (!thread)
		return 0;
	poll = &thread->poll;
	held = saturating_sub(end, poll->start_clock);
	thread->usage.polls_observed++;
	if (thread->round_ns && !(poll->flags & HUD_POLL_SLOW))
		update_mean_poll(thread, thread->round_ns, true);
	if (held > thread->usage.longest_poll_ns)
		thread->usage.longest_poll_ns = held;
	if (poll->flags & HUD_POLL_SLOW || is_slow(poll, end, last_seen)) {
		poll->flags |= HUD_POLL_SLOW;
		send_captures(index);
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
		if (event) {
			fill_header(&event->header, HUD_EVENT_POLL_END, thread->tid, end);
			event->end_clock = end;
			bpf_probe_read_kernel(&event->poll, sizeof(event->poll), poll);
			bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
		} else {
			count(losses.ring_full);
		}
	}
	drop_captures(thread);
	return 0;
}

static __always_inline void open_poll(struct hud_thread *thread, struct tokio_state *state,
				      u64 start, u64 now)
{
	struct hud_poll *poll = &thread->poll;

	poll->sequence++;
	poll->core = state->core;
	poll->task = state->task;
	poll->budget_left = state->budget_left;
	poll->tick = state->tick;
	poll->start_clock = start;
	poll->first_seen_clock = now;
	poll->on_cpu_ns = saturating_sub(now, start);
	poll->run_queue_ns = 0;
	poll->blocked_ns = 0;
	poll->stopped_ns = 0;
	poll->wake_delay_ns = 0;
	poll->faults = 0;
	poll->flags = state->constrained ? 0 : HUD_POLL_UNCONSTRAINED;
	if (thread->phase == HUD_PHASE_UNKNOWN && start <= attached_at)
		poll->flags |= HUD_POLL_BEGAN_BEFORE;
	poll->site_count = 0;
	thread->site = HUD_SITES;
	thread->captured_clock = 0;
	thread->released_wait_ns = 0;
}

/* Stolen time counts as run queue. */
static __always_inline void add_stolen(struct hud_poll *poll, u64 ns)
{
	poll->run_queue_ns += ns;
	if (ns)
		poll->flags |= HUD_POLL_STOLEN;
}

/*
 * The shortest gap observed so far between a wake-up and a poll, or a poll and a park, where
 * `width` is one more observation. It grows slowly, so that an outlier is forgotten.
 */
static __always_inline u64 update_gap(u64 *shortest, u64 width)
{
	*shortest = *shortest ? min_u64(*shortest + *shortest / 16, width) : width;
	return min_u64(*shortest, MAX_GAP_NS);
}

/* Estimated edges of polls between two observations. */
struct edges {
	u64 end;    /* of the poll before */
	u64 start;  /* of the poll now */
	u64 stolen; /* stolen time that each of these polls bears */
	/* As in struct hud_thread: for the poll now. */
	u64 round_ns;
};

/*
 * The worker went from one poll (`was_poll`) or none to another (`is_poll`) or none. Estimates when
 * the first ended and the second began, both within [span->running_from, at->now].
 */
static __always_inline void estimate_edges(struct hud_thread *thread, struct tokio_state *state,
					   struct interval *span, struct observation *at,
					   bool was_poll, bool is_poll, struct edges *out)
{
	u64 now = at->now, width = saturating_sub(now, span->running_from);
	u64 mean = thread->mean_poll_ns ? thread->mean_poll_ns : FIRST_MEAN_NS;
	/* Scheduling rounds since the tick was last read, and their CPU time. */
	u64 rounds = 0, on_cpu = thread->tick_on_cpu_ns;
	/* Of the width: what neither poll had, and what one or both had. */
	u64 others = 0, own, part;

	out->stolen = 0;
	out->round_ns = 0;
	if (config.by_frames && !state->tick_known) {
		/* It may have run any number of polls: only the sleep certainly belongs to one. */
		out->end = span->running_from;
		out->start = now;
		return;
	}
	if (state->tick_known && thread->tick_core == state->tick_core)
		rounds = (u32)(state->tick - thread->tick);
	if (rounds > 1 && rounds * MIN_ROUND_NS < on_cpu) {
		/* Whole polls ran in between. */
		others = (rounds - 1) * mean;
		/* The rest of a slow poll tells nothing about ordinary ones. */
		if (!span->asleep && !(was_poll && thread->poll.flags & HUD_POLL_SLOW)) {
			if (is_poll)
				out->round_ns = on_cpu / rounds;
			else
				update_mean_poll(thread, on_cpu / rounds, was_poll);
		}
	} else if (!thread->mean_poll_ns && !was_poll && state->tick > 1) {
		/* A worker new to hud: the CPU time of its life bounds the mean. */
		others = saturating_sub(width, at->exec / state->tick * FAR_ABOVE_MEAN);
	}
	/* Between two polls with an unreadable tick: short polls ran in between. */
	if (was_poll && state->phase == HUD_PHASE_DETACHED && !state->tick_known &&
	    at->as != HUD_OBSERVED_BLOCKED && mean * FAR_ABOVE_MEAN < width)
		others = width;
	if (!was_poll && is_poll && span->asleep)
		others += update_gap(&thread->wake_to_poll_ns, width);
	else if (was_poll && state->phase == HUD_PHASE_IDLE && at->as == HUD_OBSERVED_BLOCKED)
		others += update_gap(&thread->poll_to_park_ns, width);
	/* Whose time was stolen is not known: it is shared out by on-CPU time. */
	own = saturating_sub(width, span->stolen);
	part = saturating_sub(own, others);
	if (own)
		out->stolen = part * 1024 / own * span->stolen / 1024;
	else if (others < width / 2)
		out->stolen = span->stolen;
	part += out->stolen;
	if (was_poll && is_poll) {
		part /= 2;
		out->stolen /= 2;
	}
	out->end = span->running_from + part;
	out->start = now - part;
}

/*
 * Updates a worker's state by one observation: what it is doing (`state`), and the scheduler's
 * counters. All changes of the state's phase and poll are made here, within a write of the seqlock.
 * Returns whether the worker is in a poll. (Where no caller used the returned value, clang would
 * leave the register undefined, and the verifier would reject that.)
 */
static __noinline int observe(struct hud_thread *thread, u32 index, struct observation *at,
			      struct tokio_state *state)
{
	bool was_poll = thread->phase == HUD_PHASE_POLL;
	bool is_poll = state->phase == HUD_PHASE_POLL;
	struct hud_poll *poll = &thread->poll;
	struct interval span;
	struct edges edges;
	u64 until_end;

	measure_interval(thread, at, &span);
	add_usage(thread, &span);
	thread->tick_on_cpu_ns += span.on_cpu;
	if (was_poll)
		charge_poll(thread, &span, at->now);
	if (was_poll && is_poll && poll->core == state->core && poll->tick == state->tick &&
	    poll->task == state->task && poll->budget_left == state->budget_left) {
		poll->on_cpu_ns += span.on_cpu;
		poll->faults += span.faults;
		add_stolen(poll, span.stolen);
	} else {
		estimate_edges(thread, state, &span, at, was_poll, is_poll, &edges);
		if (was_poll) {
			until_end =
				saturating_sub(saturating_sub(span.on_cpu + span.stolen,
							      saturating_sub(at->now, edges.end)),
					       edges.stolen);
			poll->on_cpu_ns += until_end;
			poll->estimated_ns += until_end;
			add_stolen(poll, edges.stolen);
			/* Between two polls, faults are attributed to neither. */
			if (!is_poll)
				poll->faults += span.faults;
			close_poll(index, edges.end, span.running_from);
			if (is_poll && poll->flags & HUD_POLL_SLOW &&
			    saturating_sub(edges.end, span.running_from) > UNCERTAIN_NS)
				thread->uncertain_edges++;
		}
		if (is_poll) {
			open_poll(thread, state, edges.start, at->now);
			poll->on_cpu_ns -= edges.stolen;
			poll->estimated_ns = poll->on_cpu_ns;
			add_stolen(poll, edges.stolen);
			if (!was_poll)
				poll->faults = span.faults;
		}
		thread->round_ns = edges.round_ns;
	}
	/* Asleep without a core, it may next run another worker, whose idle task id differs. */
	if (state->phase == HUD_PHASE_DETACHED && at->as == HUD_OBSERVED_BLOCKED)
		thread->idle_core = 0;
	thread->phase = state->phase;
	thread->observed_as = at->as;
	thread->observed_clock = at->now;
	thread->observed_run_delay = at->run_delay;
	thread->observed_exec = at->exec;
	thread->observed_faults = at->faults;
	thread->skipped = 0;
	if (state->tick_known) {
		thread->tick_core = state->tick_core;
		thread->tick = state->tick;
		thread->tick_on_cpu_ns = 0;
	} else if (state->phase != HUD_PHASE_DETACHED) {
		thread->tick_core = 0;
	}
	if (is_poll && !(poll->flags & HUD_POLL_SLOW) && is_slow(poll, at->now, at->now)) {
		poll->flags |= HUD_POLL_SLOW;
		send_captures(index);
	}
	return is_poll;
}

/*
 * Whether to capture the running poll's stack: always until it is slow, then after ever longer
 * times.
 */
static __always_inline bool should_capture_running(struct hud_thread *thread, u64 now)
{
	u64 held = saturating_sub(now, thread->poll.start_clock);

	if (!(thread->poll.flags & HUD_POLL_SLOW))
		return true;
	return saturating_sub(now, thread->captured_clock) >= held / 32;
}

#endif
