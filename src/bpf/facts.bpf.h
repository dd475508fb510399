/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Kernel facts about a thread: the file that a syscall uses, whether the thread has children. */
#ifndef HUD_FACTS_BPF_H
#define HUD_FACTS_BPF_H

#include "arch.bpf.h"
#include "hud.h"

/* The file of a descriptor, or NULL. */
static __always_inline struct file *file_of(struct files_struct *files, s32 fd)
{
	struct fdtable *table;
	struct file **slot, *file = NULL;

	if (fd < 0 || !files)
		return NULL;
	table = BPF_CORE_READ(files, fdt);
	if ((u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	slot = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slot + fd);
	return file;
}

/* i_mode of a descriptor's file; 0 if there is none. */
static __always_inline u16 file_mode(struct files_struct *files, s32 fd)
{
	struct file *file = file_of(files, fd);

	return file ? BPF_CORE_READ(file, f_inode, i_mode) : 0;
}

/* The descriptor that a syscall waits for: its argument 0, or the first pollfd's. */
static __always_inline s32 awaited_fd(struct user_regs *regs)
{
	s32 fd = -1;

	if (!is_poll(regs->syscall))
		return regs->args[0] > 0x7fffffff ? -1 : (s32)regs->args[0];
	if (regs->args[1] && regs->args[0])
		bpf_probe_read_user(&fd, sizeof(fd), (void *)regs->args[0]);
	return fd;
}

static __always_inline bool has_children(struct task_struct *task)
{
	return (void *)BPF_CORE_READ(task, children.next) !=
	       (void *)__builtin_preserve_access_index(&task->children);
}

#endif
