/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The aarch64 part of vmlinux.h. */
#ifndef HUD_VMLINUX_ARM64_H
#define HUD_VMLINUX_ARM64_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_struct {
	struct {
		unsigned long tp_value;
	} uw;
};

struct pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 orig_x0;
	__s32 syscallno;
};

#pragma clang attribute pop

#endif
