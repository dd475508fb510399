/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Differences between kernels, each with the commit that made it. No other file checks versions. */
#ifndef HUD_COMPAT_BPF_H
#define HUD_COMPAT_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "hud.h"

extern int LINUX_KERNEL_VERSION __kconfig;

/*
 * The state in which `prev` leaves the CPU; 0: runnable. 5.18 (fa2c3254d7cf) added it to the
 * tracepoint; before, it is read from the task, whose field 5.14 (2f064a59a11f) renamed.
 */
static __always_inline u32 switch_state(u64 *ctx, struct task_struct *prev)
{
	if (ctx[0]) /* preempted, maybe after it set its state in order to sleep */
		return 0;
	if (LINUX_KERNEL_VERSION >= KERNEL_VERSION(5, 18, 0))
		return ctx[3];
	if (bpf_core_field_exists(prev->__state))
		return prev->__state;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)prev, state);
}

static __always_inline u32 task_state(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state);
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
}

/* Whether the thread runs now. Without CONFIG_SMP no other CPU could observe that. */
static __always_inline bool is_on_cpu(struct task_struct *task)
{
	return bpf_core_field_exists(task->on_cpu) && BPF_CORE_READ(task, on_cpu);
}

/* The helper bpf_task_pt_regs: 5.15 (dd6e10fbd9fb). */
static __always_inline bool has_task_pt_regs(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs);
}

/* The clock of the task's run queue: needs CONFIG_FAIR_GROUP_SCHED, as all distributions set. */
static __always_inline bool has_group_clock(struct task_struct *task)
{
	return bpf_core_field_exists(task->se.cfs_rq);
}

/*
 * Whether CPU bandwidth control throttles the thread: a field of the task since 6.18
 * (e1fad12dcb66), before that a count of its group's run queue.
 */
static __always_inline bool is_throttled(struct task_struct *task)
{
	if (bpf_core_field_exists(task->throttled))
		return task->throttled;
	if (has_group_clock(task) && bpf_core_field_exists(task->se.cfs_rq->throttle_count))
		return task->se.cfs_rq->throttle_count > 0;
	return false;
}

#endif
