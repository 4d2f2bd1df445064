/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Processes that start and end, and events of the network stack.
 * Facts from microsoft/ntosebpfext 0.7.0.
 * The network stack reports an event.
 * Program type netevent_monitor, {fc4adc85-49c3-4f0a-8393-facce89cde91}. Sections and attach types:
 * - "netevent_monitor" EBPF_ATTACH_TYPE_NETEVENT {68011b08-ab6b-4b46-85e4-67bae1afe741}
 * Written by `bpf2sys platform header`.
 */
#ifndef BPF2SYS_NETEVENT_H
#define BPF2SYS_NETEVENT_H

#include "bpf2sys.h"

enum netevent_type {
    NETEVENT_EVENT_TYPE_PKTMON_DROP = 100, /* a packet was dropped */
    NETEVENT_EVENT_TYPE_PKTMON_FLOW = 101, /* a packet passed */
};

/* What the metadata of an event starts with. */
typedef struct {
    uint8_t type;     /* enum netevent_type */
    uint16_t version; /* currently 1 */
} netevent_data_header_t;

BPF2SYS_OFFSET(netevent_data_header_t, type, 0);
BPF2SYS_OFFSET(netevent_data_header_t, version, 2);
BPF2SYS_SIZE(netevent_data_header_t, 4);

typedef struct {
    uint8_t *data_meta; /* starts with a netevent_data_header_t */
    uint8_t *data;      /* first byte of the event */
    uint8_t *data_end;  /* one past its last byte */
} netevent_event_md_t;

BPF2SYS_OFFSET(netevent_event_md_t, data_meta, 0);
BPF2SYS_OFFSET(netevent_event_md_t, data, 8);
BPF2SYS_OFFSET(netevent_event_md_t, data_end, 16);
BPF2SYS_SIZE(netevent_event_md_t, 24);

/* Return values are NTSTATUS codes. */

/* event handled */
#ifndef STATUS_SUCCESS
#define STATUS_SUCCESS 0
#endif

/*
 * Pushes the event to a ring buffer of the provider.
 * The provider does not publish its address: a program that calls it does not load.
 */
BPF_HELPER(0x10000, int, bpf_netevent_push_event, (netevent_event_md_t *context));

#endif /* BPF2SYS_NETEVENT_H */
