/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Frames that network interfaces receive, before the network stack sees them.
 * Facts from microsoft/xdp-for-windows eb7c50bd6e91b8db8303d96b881455b23595fe7a.
 * A network interface received a frame.
 * Program type xdp, {f1832a85-85d5-45b0-98a0-7069d63013b0}. Sections and attach types:
 * - "xdp" EBPF_ATTACH_TYPE_XDP {85e0d8ef-579e-4931-b072-8ee226bb2e9d}
 * Written by `bpf2sys platform header`.
 */
#ifndef BPF2SYS_XDP_H
#define BPF2SYS_XDP_H

#include "bpf2sys.h"

/*
 * The frame. Only its first buffer is visible: a program must not take data_end for the end of the frame. Bytes in
 * [data, data_end) may be read and written.
 */
typedef struct {
    uint8_t *data;            /* first byte */
    uint8_t *data_end;        /* one past the last byte */
    uint64_t data_meta;       /* metadata before the frame; always null: do not follow it */
    uint32_t ingress_ifindex; /* index of the receiving interface */
} xdp_md_t;

BPF2SYS_OFFSET(xdp_md_t, data, 0);
BPF2SYS_OFFSET(xdp_md_t, data_end, 8);
BPF2SYS_OFFSET(xdp_md_t, data_meta, 16);
BPF2SYS_OFFSET(xdp_md_t, ingress_ifindex, 24);
BPF2SYS_SIZE(xdp_md_t, 32);

/* What becomes of the frame. Programs return nothing else. */
enum xdp_action {
    XDP_PASS = 1, /* let the frame continue */
    XDP_DROP = 2, /* drop the frame */
    XDP_TX = 3,   /* send the frame back out of the receiving interface */
};

/*
 * Moves the start of the frame by `delta` bytes.
 * Every call fails.
 * The driver's implementation always fails (-1).
 */
BPF_HELPER(0x10000, int, bpf_xdp_adjust_head, (xdp_md_t *context, int delta));

#endif /* BPF2SYS_XDP_H */
