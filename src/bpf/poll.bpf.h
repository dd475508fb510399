/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Follows each worker from poll to poll.
 *
 * A worker is observed at switches and samples only. Between two observations the scheduler's own
 * counters say how its time was spent, and Tokio's tick says how many polls came and went; where
 * exactly a poll ended or began in that span is estimated from the worker's mean poll.
 */
#ifndef HUD_POLL_BPF_H
#define HUD_POLL_BPF_H

#include "stack.bpf.h"
#include "tokio.bpf.h"

/* Run-queue wait below this right after a wake belongs to the sleep: it is the wake's own cost. */
#define WAKE_DELAY_NS (1000 * 1000ull)
/* On the CPU, less than this that the thread did not get is rounding, or an interrupt's due. */
#define STOLEN_NS (1000 * 1000ull)
/* Of the waits in a poll those are long that last this part of the threshold. */
#define LONG_WAIT_PART 8

/* What the scheduler knows of a thread at one moment. */
struct moment {
	u64 now;
	u64 arrival; /* when it last got onto a CPU */
	u64 delay;   /* all run-queue wait of its life */
	u64 exec;    /* all CPU time of its life */
	u64 stolen;  /* on the CPU, newly known to have been taken from it */
	u64 faults;  /* all page faults of its life */
	u32 seen_as;
	u32 unused;
};

/* How the time since the previous observation was spent. */
struct interval {
	u64 on_cpu;
	u64 run_queue;
	u64 off;    /* neither: asleep, or stopped */
	u64 stolen; /* on the CPU, but taken away by the hypervisor or interrupts */
	u64 low;    /* since when it has been on the CPU under no one's eyes */
	u64 faults; /* page faults; 0 where not known */
};

/*
 * What `a` is above `b`, or 0. Times lie far below 2^63. Without a branch: the verifier would go
 * both ways from each of them, again and again.
 */
static __always_inline u64 less(u64 a, u64 b)
{
	s64 difference = a - b;
	u64 negative = difference >> 63;

	barrier_var(negative); /* or clang makes a branch of it */
	return difference & ~negative;
}

static __always_inline u64 smaller(u64 a, u64 b)
{
	return a - less(a, b);
}

static __always_inline void measure(struct hud_thread *thread, struct moment *at,
				    struct interval *out)
{
	u64 wall = less(at->now, thread->seen_clock);

	out->faults = thread->faults_seen ? less(at->faults, thread->faults_seen) : 0;
	out->run_queue = 0;
	out->off = 0;
	out->on_cpu = wall;
	out->low = thread->seen_clock;
	out->stolen = smaller(at->stolen, wall);
	if (at->arrival <= thread->seen_clock) {
		out->on_cpu -= out->stolen;
		return;
	}
	out->low = at->arrival;
	/* More than one stint on the CPU: only the scheduler's sum tells. */
	out->on_cpu =
		thread->skipped ? less(at->exec, thread->exec_seen) : less(at->now, at->arrival);
	out->on_cpu = smaller(out->on_cpu, wall);
	out->run_queue = smaller(less(at->delay, thread->delay_seen), wall - out->on_cpu);
	out->off = wall - out->on_cpu - out->run_queue;
	if (thread->seen_as == HUD_SEEN_RUNNABLE || thread->seen_as == HUD_SEEN_SAMPLED) {
		/* It never slept. A sample's sum is not up to date. */
		if (thread->skipped && at->seen_as != HUD_SEEN_SAMPLED && out->off >= STOLEN_NS)
			out->stolen = out->off;
		else
			out->on_cpu += out->off;
		out->off = 0;
	}
	if (thread->skipped && at->seen_as != HUD_SEEN_SAMPLED)
		return;
	out->stolen = smaller(out->stolen, out->on_cpu);
	out->on_cpu -= out->stolen;
}

static __always_inline void add_usage(struct hud_thread *thread, struct interval *span)
{
	if (thread->phase != HUD_PHASE_POLL && thread->phase != HUD_PHASE_IDLE)
		return;
	thread->usage.on_cpu_ns += span->on_cpu;
	thread->usage.run_queue_ns += span->run_queue + span->stolen;
	if (thread->phase == HUD_PHASE_POLL)
		thread->usage.blocked_ns += span->off;
	else
		thread->usage.parked_ns += span->off;
}

/* Charges the poll with what happened while it surely still ran. */
static __always_inline void charge_poll(struct hud_thread *thread, struct interval *span, u64 now)
{
	struct hud_poll *poll = &thread->poll;
	u32 site = thread->site;

	poll->run_queue_ns += span->run_queue;
	if (thread->seen_as == HUD_SEEN_STOPPED) {
		poll->stopped_ns += span->off;
	} else {
		poll->blocked_ns += span->off;
	}
	if (thread->seen_as != HUD_SEEN_BLOCKED)
		return;
	if (span->run_queue < WAKE_DELAY_NS)
		poll->wake_delay_ns += span->run_queue;
	if (site < HUD_SITES)
		poll->sites[site].blocked_ns += span->off;
	if (span->off >= config.threshold_ns / LONG_WAIT_PART &&
	    less(now, poll->start_clock) >= config.threshold_ns)
		count(work.long_waits);
	settle_captures(thread);
}

/*
 * Whether a poll that lasts until `now` is slow. Its edges are estimates: it must also have been
 * seen to last half the threshold, which every poll of twice the threshold is (the samples come
 * often enough).
 */
static __always_inline bool is_slow(struct hud_poll *poll, u64 now, u64 last_seen)
{
	return less(now, poll->start_clock) >= config.threshold_ns &&
	       less(last_seen, poll->first_seen_clock) >= config.threshold_ns / 2;
}

/* No scheduling round takes less: where it looks so, the core was elsewhere meanwhile. */
#define MIN_ROUND_NS 16

/* Rounds are taken to be this short until some were seen. */
#define FIRST_MEAN_NS (20 * 1000ull)
/* Far above the mean: a part of a long poll is in it. */
#define FAR_ABOVE 4

/*
 * Learns from scheduling rounds that took `poll_ns` each. If a long poll reaches into them
 * (`from_inside`), they are no ordinary ones: the mean grows but slowly.
 */
static __always_inline void learn_mean(struct hud_thread *thread, u64 poll_ns, bool from_inside)
{
	u64 mean = thread->mean_poll_ns;

	if (!mean)
		mean = from_inside ? smaller(poll_ns, FIRST_MEAN_NS) : poll_ns;
	else if (from_inside && poll_ns > mean * FAR_ABOVE)
		mean += mean / 8 + 1;
	else
		mean = (mean * 7 + poll_ns) / 8;
	thread->mean_poll_ns = mean;
}

/*
 * Ends the poll at `end`; it was seen to run until `last_seen`. Global, as send_captures is: the
 * verifier looks at it once, and not anew for each way that leads to it. Such functions take
 * numbers only.
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
	held = less(end, poll->start_clock);
	thread->usage.polls_observed++;
	if (thread->round_ns && !(poll->flags & HUD_POLL_SLOW))
		learn_mean(thread, thread->round_ns, true);
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
	thread->kept_valid = 0;
	thread->newest_valid = 0;
	thread->sample_valid = 0;
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
	poll->on_cpu_ns = less(now, start);
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
	thread->last_sample_clock = 0;
	thread->told_wait_ns = 0;
}

/* The poll was on the CPU, and did not get that much of it. */
static __always_inline void add_stolen(struct hud_poll *poll, u64 ns)
{
	poll->run_queue_ns += ns;
	if (ns)
		poll->flags |= HUD_POLL_STOLEN;
}

/* What a worker does between a sleep and a poll is known to take no longer than this. */
#define MOST_BETWEEN_NS (20 * 1000ull)

/*
 * How long a worker takes at least from a sleep to a poll, or from a poll to its park: the shortest
 * way seen, of which `width` is one more. Forgotten slowly.
 */
static __always_inline u64 least_between(u64 *least, u64 width)
{
	*least = *least ? smaller(*least + *least / 16, width) : width;
	return smaller(*least, MOST_BETWEEN_NS);
}

/* The edge between two polls may lie this far from where it is taken to be: it is unsure. */
#define UNSURE_NS (250 * 1000ull)

/* Where an old poll ended and a new one began, between two observations. */
struct edges {
	u64 end;
	u64 start;
	u64 stolen; /* on the CPU, but taken away: how much each of them bears */
	/* What the rounds in between teach of a poll's length, if the new one is not slow; else 0.
	 */
	u64 round_ns;
};

/*
 * Between the last observation and this one the thread went from one poll (or none) to another (or
 * none). Estimates the edges, both within [low, now].
 */
static __always_inline void estimate_edges(struct hud_thread *thread, struct tokio_state *state,
					   struct interval *span, struct moment *at, bool was_poll,
					   bool is_poll, struct edges *out)
{
	u64 now = at->now, width = less(now, span->low), others = 0, own, part;
	u64 mean = thread->mean_poll_ns ? thread->mean_poll_ns : FIRST_MEAN_NS;
	/* Scheduling rounds since the tick was read last, where known, and the CPU time they took.
	 */
	u64 rounds = 0, on_cpu = thread->tick_on_cpu_ns;

	out->stolen = 0;
	out->round_ns = 0;
	if (config.by_frames && !state->tick_known) {
		/* While it ran it may have been in any number of polls: only the sleep is sure. */
		out->end = span->low;
		out->start = now;
		return;
	}
	if (state->tick_known && thread->tick_core == state->tick_core)
		rounds = (u32)(state->tick - thread->tick);
	if (rounds > 1 && rounds * MIN_ROUND_NS < on_cpu) {
		/* Whole polls that came and went in between. */
		others = (rounds - 1) * mean;
		/* What is left of a slow poll says nothing of ordinary ones. */
		if (!span->off && !(was_poll && thread->poll.flags & HUD_POLL_SLOW)) {
			if (is_poll)
				out->round_ns = on_cpu / rounds;
			else
				learn_mean(thread, on_cpu / rounds, was_poll);
		}
	} else if (!thread->mean_poll_ns && !was_poll && state->tick > 1) {
		/* A worker met at work: all its life's polls say how long one takes at most. */
		others = less(width, at->exec / state->tick * FAR_ABOVE);
	}
	/* Between two polls, and the tick cannot be read either: short ones came and went. */
	if (was_poll && state->phase == HUD_PHASE_DETACHED && !state->tick_known &&
	    at->seen_as != HUD_SEEN_BLOCKED && mean * FAR_ABOVE < width)
		others = width;
	if (!was_poll && is_poll && span->off)
		others += least_between(&thread->to_poll_ns, width);
	else if (was_poll && state->phase == HUD_PHASE_IDLE && at->seen_as == HUD_SEEN_BLOCKED)
		others += least_between(&thread->to_park_ns, width);
	/* Whose time was stolen is not known: each bears as much of it as it has of the rest. */
	own = less(width, span->stolen);
	part = less(own, others);
	if (own)
		out->stolen = part * 1024 / own * span->stolen / 1024;
	else if (others < width / 2)
		out->stolen = span->stolen;
	part += out->stolen;
	if (was_poll && is_poll) {
		part /= 2;
		out->stolen /= 2;
	}
	out->end = span->low + part;
	out->start = now - part;
}

/*
 * Takes in one observation: what the thread is doing (`state`) at a moment. The single place where
 * a worker's state changes. Returns whether it is inside a poll. (If no caller used what a
 * function returns, clang would leave anything in the register, and the verifier refuse it.)
 */
static __noinline int observe(struct hud_thread *thread, u32 index, struct moment *at,
			      struct tokio_state *state)
{
	bool was_poll = thread->phase == HUD_PHASE_POLL;
	bool is_poll = state->phase == HUD_PHASE_POLL;
	struct hud_poll *poll = &thread->poll;
	struct interval span;
	struct edges edges;
	u64 until_end;

	thread->sequence++;
	measure(thread, at, &span);
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
			until_end = less(less(span.on_cpu + span.stolen, less(at->now, edges.end)),
					 edges.stolen);
			poll->on_cpu_ns += until_end;
			poll->estimated_ns += until_end;
			add_stolen(poll, edges.stolen);
			/* Those between two polls are nobody's. */
			if (!is_poll)
				poll->faults += span.faults;
			close_poll(index, edges.end, span.low);
			if (is_poll && poll->flags & HUD_POLL_SLOW &&
			    less(edges.end, span.low) > UNSURE_NS)
				thread->unsure_edges++;
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
	/* Asleep without its core it may run another worker next, in a blocking task of another id.
	 */
	if (state->phase == HUD_PHASE_DETACHED && at->seen_as == HUD_SEEN_BLOCKED)
		thread->idle_core = 0;
	thread->phase = state->phase;
	thread->seen_clock = at->now;
	thread->delay_seen = at->delay;
	thread->exec_seen = at->exec;
	thread->faults_seen = at->faults;
	thread->seen_as = at->seen_as;
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
	thread->sequence++;
	return is_poll;
}

/* A running poll's stack is worth taking: always the first, then ever more rarely. */
static __always_inline bool wants_running_stack(struct hud_thread *thread, u64 now)
{
	u64 held = less(now, thread->poll.start_clock);

	if (!(thread->poll.flags & HUD_POLL_SLOW))
		return true;
	return less(now, thread->last_sample_clock) >= held / 32;
}

#endif
