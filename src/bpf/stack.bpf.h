/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Captures of stacks inside polls, and when they are sent.
 *
 * A stack is worth sending only if its poll turns out slow, which is known later. Until then the
 * captures wait in three buffers a worker: the blocked stack that has cost most so far, the newest
 * blocked stack, and the newest sample. Once the poll is slow everything is sent at once.
 *
 * All poll time, where it is asked for, is sampled apart from that: its samples are sent at once.
 */
#ifndef HUD_STACK_BPF_H
#define HUD_STACK_BPF_H

#include "arch.bpf.h"
#include "state.bpf.h"

/* At most one capture per this long on average, and a burst of some dozens. */
#define CAPTURE_EVERY_NS (250 * 1000ull)
#define CAPTURE_BURST 64

static __always_inline bool may_capture(struct hud_thread *thread, u64 now)
{
	return take_credit(&thread->capture_credit_clock, now, CAPTURE_EVERY_NS, CAPTURE_BURST);
}

/*
 * Copies the current thread's user stack from `base` up into as many pages as there is room for, as
 * far as it can be read. Returns the bytes copied. `max_pages` must be a constant.
 */
static __always_inline u32 copy_user_stack(u8 *to, u64 base, u32 max_pages)
{
	u32 pages = 0;

	for (u32 i = 0; i < max_pages; i++) {
		if (bpf_probe_read_user(to + i * HUD_PAGE, HUD_PAGE, (void *)(base + i * HUD_PAGE)))
			break;
		pages = i + 1;
	}
	return pages * HUD_PAGE;
}

/* Fills `event` from the current thread: registers, kernel frames, and user stack up to its top. */
static __noinline int capture_stack(void *ctx, struct hud_stack_event *event,
				    struct hud_thread *thread, struct user_regs *regs, u64 now)
{
	struct hud_poll *poll = &thread->poll;
	u64 base = regs->sp & ~(u64)(HUD_PAGE - 1);
	long kernel;

	fill_header(&event->head.header, HUD_EVENT_STACK, thread->tid, now);
	event->head.poll_sequence = poll->sequence;
	event->head.task = poll->task;
	event->head.start_clock = poll->start_clock;
	event->head.on_cpu_ns = poll->on_cpu_ns;
	event->head.run_queue_ns = poll->run_queue_ns;
	event->head.blocked_ns = poll->blocked_ns;
	event->head.poll_flags = poll->flags;
	event->head.ip = regs->ip;
	event->head.sp = regs->sp;
	event->head.fp = regs->fp;
	event->head.lr = regs->lr;
	event->head.stack_base = base;
	event->head.site.syscall = regs->syscall;
	event->head.site.previous_syscall = thread->last_syscall;
	event->head.site.args[0] = regs->args[0];
	event->head.site.args[1] = regs->args[1];
	event->head.site.args[2] = regs->args[2];

	kernel = bpf_get_stack(ctx, event->head.kernel, sizeof(event->head.kernel), 0);
	event->head.kernel_count = kernel > 0 ? kernel / sizeof(u64) : 0;
	event->head.interrupt_entry = tick_seen.user_entry;

	event->head.stack_bytes = copy_user_stack(event->stack, base, HUD_STACK_PAGES);
	if (!event->head.stack_bytes)
		count(losses.stack_unreadable);
	count(work.captures);
	return 0;
}

static __noinline int send_stack(struct hud_stack_event *event)
{
	u64 bytes = event->head.stack_bytes;

	if (bytes > HUD_STACK_BYTES)
		bytes = HUD_STACK_BYTES;
	if (bpf_ringbuf_output(&events, event, offsetof(struct hud_stack_event, stack) + bytes,
			       BPF_RB_NO_WAKEUP))
		count(losses.ring_full);
	return 0;
}

/* Sends what was kept back: the poll is slow. */
__noinline int send_captures(u32 index)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);
	struct hud_thread *thread = bpf_map_lookup_elem(&threads, &index);

	if (!all || !thread)
		return 0;
	if (thread->kept_valid)
		send_stack(thread->kept ? &all->blocked[1] : &all->blocked[0]);
	if (thread->newest_valid)
		send_stack(thread->kept ? &all->blocked[0] : &all->blocked[1]);
	if (thread->sample_valid)
		send_stack(&all->sample);
	thread->kept_valid = 0;
	thread->newest_valid = 0;
	thread->sample_valid = 0;
	return 0;
}

/* Captures where the thread falls asleep. */
static __noinline int capture_blocked(void *ctx, struct hud_thread *thread, u32 index,
				      struct user_regs *regs, u64 now)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);
	struct hud_stack_event *event;
	u32 site = thread->site;

	if (!all || site >= HUD_SITES)
		return 0;
	event = thread->kept ? &all->blocked[0] : &all->blocked[1];
	capture_stack(ctx, event, thread, regs, now);
	event->head.stack_kind = HUD_STACK_BLOCKED;
	event->head.site = thread->poll.sites[site];
	thread->poll.sites[site].captured = 1;
	if (thread->poll.flags & HUD_POLL_SLOW)
		send_stack(event);
	else
		thread->newest_valid = 1;
	return 0;
}

/* Captures a running or preempted thread into its buffer for samples. */
static __noinline int capture_running(void *ctx, struct hud_thread *thread, u32 index,
				      struct user_regs *regs, u64 now)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);

	if (!all)
		return 0;
	capture_stack(ctx, &all->sample, thread, regs, now);
	all->sample.head.stack_kind =
		thread->seen_as == HUD_SEEN_SAMPLED ? HUD_STACK_SAMPLE : HUD_STACK_PREEMPTED;
	return 0;
}

/* What was just captured tells of the poll: it is sent if the poll is slow, and waits otherwise. */
static __noinline int keep_running(struct hud_thread *thread, u32 index, u64 now)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);

	if (!all)
		return 0;
	if (thread->poll.flags & HUD_POLL_SLOW)
		send_stack(&all->sample);
	else
		thread->sample_valid = 1;
	thread->last_sample_clock = now;
	return 0;
}

/*
 * All poll time: what the thread used of the CPU since its sample before goes to what this sample
 * meets. (A sample does not simply stand for one period: threads lose the CPU at the tick, so on a
 * busy machine a tick meets those that have not run for a whole period before it.) Returns whether
 * a stack is to be sent now; it stands for all that has come together. Half of the ring stays free
 * for slow polls.
 */
static __always_inline bool wants_profile_stack(struct hud_thread *thread, bool in_poll)
{
	if (in_poll) {
		thread->profile_ns += thread->usage.on_cpu_ns - thread->profiled_cpu_ns;
		thread->profile_samples++;
	}
	thread->profiled_cpu_ns = thread->usage.on_cpu_ns;
	return in_poll && thread->profile_samples >= config.profile_stride &&
	       bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < RING_BYTES / 2;
}

/* All poll time is off: it begins with the next sample. */
static __always_inline void forget_profile(struct hud_thread *thread)
{
	thread->profiled_cpu_ns = thread->usage.on_cpu_ns;
	thread->profile_ns = 0;
	thread->profile_samples = 0;
}

/* Sends what was just captured for all poll time. */
static __noinline int send_profile(struct hud_thread *thread, u32 index)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);

	if (!all)
		return 0;
	all->sample.head.header.kind = HUD_EVENT_PROFILE;
	all->sample.head.profile_ns = thread->profile_ns;
	send_stack(&all->sample);
	all->sample.head.header.kind = HUD_EVENT_STACK;
	thread->profile_ns = 0;
	thread->profile_samples = 0;
	return 0;
}

/*
 * The thread has run again, so the newest blocked stack's cost is known: of it and the one kept
 * before, the costlier stays.
 */
static __always_inline void settle_captures(struct hud_thread *thread)
{
	u32 site = thread->site, kept = thread->kept_site;

	if (!thread->newest_valid || site >= HUD_SITES || kept >= HUD_SITES)
		return;
	thread->newest_valid = 0;
	if (thread->kept_valid &&
	    thread->poll.sites[kept].blocked_ns >= thread->poll.sites[site].blocked_ns) {
		thread->poll.sites[site].captured = 0;
		return;
	}
	if (thread->kept_valid)
		thread->poll.sites[kept].captured = 0;
	thread->kept ^= 1;
	thread->kept_valid = 1;
	thread->kept_site = site;
}

#endif
