// SPDX-License-Identifier: MIT OR Apache-2.0
// What the programs here need of <linux/bpf.h>, <linux/if_ether.h>, <linux/ip.h> and <bpf/bpf_helpers.h>, so that they compile on any machine.
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, of) typeof(of) *name

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_DEVMAP = 14, BPF_MAP_TYPE_RINGBUF = 27 };
enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };

struct xdp_md {
    __u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

struct ethhdr {
    __u8 h_dest[6], h_source[6];
    __u16 h_proto;
} __attribute__((packed));

struct iphdr {
    __u8 ihl : 4, version : 4, tos;
    __u16 tot_len, id, frag_off;
    __u8 ttl, protocol;
    __u16 check;
    __u32 saddr, daddr;
};

struct bpf_fib_lookup {
    __u8 family, l4_protocol;
    __u16 sport, dport, tot_len;
    __u32 ifindex, tos, ipv4_src, rest[3], ipv4_dst, more[3];
    __u16 vlan[2];
    __u8 smac[6], dmac[6];
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
static long (*bpf_fib_lookup)(void *context, struct bpf_fib_lookup *parameters, int size, __u32 flags) = (void *)69;
static void *(*bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *record, __u64 flags) = (void *)132;
