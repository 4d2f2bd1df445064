/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Programs in sections "bind", "cgroup/..." and "sockops": what processes do with sockets. */
#pragma once

#include "bpf2sys.h"

enum address_family {
    AF_INET = 2,
    AF_INET6 = 23, /* as in Winsock; Linux has another number */
};

/* -- "bind": a process asks for a local address and port. ---------------------------------------------------------- */

enum bind_operation {
    BIND_OPERATION_BIND = 0,      /* asked for; the verdict counts */
    BIND_OPERATION_POST_BIND = 1, /* granted; a system-chosen port is known now */
    BIND_OPERATION_UNBIND = 2,    /* given back */
};

typedef struct {
    uint8_t *app_id_start;         /* file name of the process's image: UTF-16, without terminator */
    uint8_t *app_id_end;           /* one past its last byte */
    uint64_t process_id;
    uint8_t socket_address[16];    /* starts with a uint16_t family; then, in network order, a uint16_t port; then for
                                      AF_INET the uint32_t address. IPv6 addresses are cut off. */
    uint8_t socket_address_length; /* bytes */
    uint32_t operation;            /* enum bind_operation */
    uint8_t protocol;              /* IP protocol number */
} bind_md_t;

BPF2SYS_OFFSET(bind_md_t, app_id_start, 0);
BPF2SYS_OFFSET(bind_md_t, app_id_end, 8);
BPF2SYS_OFFSET(bind_md_t, process_id, 16);
BPF2SYS_OFFSET(bind_md_t, socket_address, 24);
BPF2SYS_OFFSET(bind_md_t, socket_address_length, 40);
BPF2SYS_OFFSET(bind_md_t, operation, 44);
BPF2SYS_OFFSET(bind_md_t, protocol, 48);
BPF2SYS_SIZE(bind_md_t, 56);

enum bind_action {
    BIND_PERMIT_SOFT = 0, /* allow, unless a filter of lower priority blocks */
    BIND_DENY = 1,
    BIND_REDIRECT = 2,    /* the provider treats it as BIND_PERMIT_SOFT */
    BIND_PERMIT_HARD = 3, /* allow, finally */
};

/* -- "cgroup/connect4", "cgroup/connect6" and the other socket address hooks. -------------------------------------- */

typedef struct {
    uint32_t family;           /* AF_INET or AF_INET6 */
    union {
        uint32_t msg_src_ip4;  /* local address, network order */
        uint32_t msg_src_ip6[4];
    };
    uint16_t msg_src_port;     /* local port, network order */
    union {
        uint32_t user_ip4;     /* remote address, network order; a connect program redirects by writing it */
        uint32_t user_ip6[4];
    };
    uint16_t user_port;        /* remote port, network order; a connect program redirects by writing it */
    uint32_t protocol;         /* IP protocol number */
    uint32_t compartment_id;
    uint64_t interface_luid;   /* 0 in connect programs */
} bpf_sock_addr_t;

BPF2SYS_OFFSET(bpf_sock_addr_t, family, 0);
BPF2SYS_OFFSET(bpf_sock_addr_t, msg_src_ip4, 4);
BPF2SYS_OFFSET(bpf_sock_addr_t, msg_src_ip6, 4);
BPF2SYS_OFFSET(bpf_sock_addr_t, msg_src_port, 20);
BPF2SYS_OFFSET(bpf_sock_addr_t, user_ip4, 24);
BPF2SYS_OFFSET(bpf_sock_addr_t, user_ip6, 24);
BPF2SYS_OFFSET(bpf_sock_addr_t, user_port, 40);
BPF2SYS_OFFSET(bpf_sock_addr_t, protocol, 44);
BPF2SYS_OFFSET(bpf_sock_addr_t, compartment_id, 48);
BPF2SYS_OFFSET(bpf_sock_addr_t, interface_luid, 56);
BPF2SYS_SIZE(bpf_sock_addr_t, 64);

/* Any other value rejects too. */
enum bpf_sock_addr_verdict {
    BPF_SOCK_ADDR_VERDICT_REJECT = 0,
    BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT = 1, /* allow, unless a filter of lower priority blocks */
    BPF_SOCK_ADDR_VERDICT_PROCEED_HARD = 2, /* allow, finally */
};

/* Hands `size` bytes to the process that a connection is redirected to: it asks Winsock for them by
 * SIO_QUERY_WFP_CONNECTION_REDIRECT_CONTEXT. Only in connect4 and connect6 programs; fails (-1) elsewhere. */
static int (*const bpf_sock_addr_set_redirect_context)(bpf_sock_addr_t *context, const void *data,
                                                       uint32_t size) = (void *)0x10001;

/* -- "sockops": a connection was made or went away. ---------------------------------------------------------------- */

enum bpf_sock_op_type {
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 0,  /* this machine connected */
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 1, /* this machine accepted */
    BPF_SOCK_OPS_CONNECTION_DELETED_CB = 2,
};

typedef struct {
    uint32_t op;              /* enum bpf_sock_op_type */
    uint32_t family;          /* AF_INET or AF_INET6 */
    union {
        uint32_t local_ip4;   /* network order */
        uint32_t local_ip6[4];
    };
    uint32_t local_port;      /* network order, in the first two bytes */
    union {
        uint32_t remote_ip4;  /* network order */
        uint32_t remote_ip6[4];
    };
    uint32_t remote_port;     /* network order, in the first two bytes */
    uint8_t protocol;         /* IP protocol number */
    uint32_t compartment_id;
    uint64_t interface_luid;
} bpf_sock_ops_t;

BPF2SYS_OFFSET(bpf_sock_ops_t, op, 0);
BPF2SYS_OFFSET(bpf_sock_ops_t, family, 4);
BPF2SYS_OFFSET(bpf_sock_ops_t, local_ip4, 8);
BPF2SYS_OFFSET(bpf_sock_ops_t, local_ip6, 8);
BPF2SYS_OFFSET(bpf_sock_ops_t, local_port, 24);
BPF2SYS_OFFSET(bpf_sock_ops_t, remote_ip4, 28);
BPF2SYS_OFFSET(bpf_sock_ops_t, remote_ip6, 28);
BPF2SYS_OFFSET(bpf_sock_ops_t, remote_port, 44);
BPF2SYS_OFFSET(bpf_sock_ops_t, protocol, 48);
BPF2SYS_OFFSET(bpf_sock_ops_t, compartment_id, 52);
BPF2SYS_OFFSET(bpf_sock_ops_t, interface_luid, 56);
BPF2SYS_SIZE(bpf_sock_ops_t, 64);

/* A number that stays the same from a connection's first event to its last. */
static uint64_t (*const bpf_sock_ops_get_flow_id)(bpf_sock_ops_t *context) = (void *)0x10000;
