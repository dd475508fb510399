/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Differences between kernels, each with the change that made it. Nothing else looks at versions.
 */
#ifndef HUD_COMPAT_BPF_H
#define HUD_COMPAT_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "hud.h"

extern int LINUX_KERNEL_VERSION __kconfig;

/*
 * Why `prev` leaves the CPU: 0 while it could go on. 5.18 (fa2c3254d7cf) added the state to the
 * tracepoint; before, it is read from the task, whose field 5.14 (2f064a59a11f) renamed.
 */
static __always_inline u32 switch_state(u64 *ctx, struct task_struct *prev)
{
	if (ctx[0]) /* preempted: the state may already say asleep */
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

/* Whether the thread runs right now. Without CONFIG_SMP there is nobody else to look at it. */
static __always_inline bool is_on_cpu(struct task_struct *task)
{
	return bpf_core_field_exists(task->on_cpu) && BPF_CORE_READ(task, on_cpu);
}

/* bpf_task_pt_regs: 5.15 (dd6e10fbd9fb). */
static __always_inline bool has_task_pt_regs(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs);
}

/* The group's clock needs CONFIG_FAIR_GROUP_SCHED; all distributions set it. */
static __always_inline bool has_group_clock(struct task_struct *task)
{
	return bpf_core_field_exists(task->se.cfs_rq);
}

/*
 * CPU bandwidth control holds the thread back. Since 6.18 (e1fad12dcb66) the task itself says so;
 * before, its run queue is counted as throttled.
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
