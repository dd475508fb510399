/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Stolen time: the thread was on the CPU, but the hypervisor ran something else there, or
 * interrupts took it. The run queue's clock includes that time, the thread's own does not.
 */
#ifndef HUD_STOLEN_BPF_H
#define HUD_STOLEN_BPF_H

#include "interval.bpf.h"

/*
 * Takes `in_stint`, the time stolen in the stint on the CPU that began at `arrival` (`more`: since
 * the last call), and returns the part of it that is new.
 */
static __always_inline u64 newly_stolen(struct hud_thread *thread, u64 arrival, u64 in_stint,
					bool more)
{
	u64 before = thread->stint_arrival == arrival ? thread->stint_stolen : 0;

	if (more)
		in_stint += before;
	thread->stint_arrival = arrival;
	thread->stint_stolen = in_stint > before ? in_stint : before;
	return thread->stint_stolen - before;
}

/* Where the thread's own clock (`at->exec`) is up to date: at a switch, and just after a tick. */
static __always_inline u64 stolen_until_now(struct hud_thread *thread, struct observation *at)
{
	u64 lost;

	if (!thread->switched_out_exec)
		return 0;
	lost = saturating_sub(saturating_sub(at->now, at->arrival),
			      saturating_sub(at->exec, thread->switched_out_exec));
	return lost < STOLEN_NS ? 0 : newly_stolen(thread, at->arrival, lost, false);
}

/* At the end of a stint on the CPU. */
static __always_inline u64 stolen_until_switch(struct hud_thread *thread, struct observation *at)
{
	u64 stolen = stolen_until_now(thread, at);

	thread->switched_out_exec = at->exec;
	return stolen;
}

/*
 * At an interrupt of a perf clock, the one before being at `last`: one that arrives late was held
 * up. When in its period the CPU was taken is not known: on average half a period before.
 */
static __always_inline u64 stolen_until_interrupt(struct hud_thread *thread, u64 last,
						  struct observation *at)
{
	u64 period = config.sample_period_ns, since, late;

	if (!last)
		return 0;
	since = last > at->arrival ? last : at->arrival;
	late = saturating_sub(at->now, since + period);
	return late < min_u64(STOLEN_NS, period / 2)
		       ? 0
		       : newly_stolen(thread, at->arrival, late + period / 2, true);
}

#endif
