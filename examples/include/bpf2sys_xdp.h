/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Programs in sections "xdp*": they see each frame that a network interface receives, before the network stack. */
#pragma once

#include "bpf2sys.h"

/*
 * The frame. Only its first buffer is visible: a program must not take data_end for the end of the frame.
 * Bytes in [data, data_end) may be read and written.
 */
typedef struct {
    uint8_t *data;            /* first byte */
    uint8_t *data_end;        /* one past the last byte */
    uint64_t data_meta;       /* 0 for live traffic: do not use */
    uint32_t ingress_ifindex; /* index of the receiving interface */
} xdp_md_t;

BPF2SYS_OFFSET(xdp_md_t, data, 0);
BPF2SYS_OFFSET(xdp_md_t, data_end, 8);
BPF2SYS_OFFSET(xdp_md_t, data_meta, 16);
BPF2SYS_OFFSET(xdp_md_t, ingress_ifindex, 24);
BPF2SYS_SIZE(xdp_md_t, 32);

/* What becomes of the frame. Programs return nothing else. */
enum xdp_action {
    XDP_PASS = 1, /* go on to the network stack */
    XDP_DROP = 2,
    XDP_TX = 3,   /* send it back out of the receiving interface */
};
