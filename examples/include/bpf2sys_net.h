/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What processes do with sockets: bind, connect and accept, and connections that are made and go away.
 * Facts from microsoft/ebpf-for-windows 1.6.0.
 * Written by `bpf2sys platform header`.
 */
#ifndef BPF2SYS_NET_H
#define BPF2SYS_NET_H

#include "bpf2sys.h"

/* What bpf_sock_addr_get_network_context tells. */
typedef struct {
    uint32_t version;                 /* currently 1 */
    uint32_t interface_type;          /* IANA interface type, 0xffffffff if unknown */
    uint32_t tunnel_type;             /* IANA tunnel type, 0 none, 0xffffffff if unknown */
    uint64_t next_hop_interface_luid; /* 0 if unknown, and at bind4 and bind6 */
    uint32_t sub_interface_index;     /* 0 if unknown, and at bind4 and bind6 */
} bpf_sock_addr_network_context_t;

BPF2SYS_OFFSET(bpf_sock_addr_network_context_t, version, 0);
BPF2SYS_OFFSET(bpf_sock_addr_network_context_t, interface_type, 4);
BPF2SYS_OFFSET(bpf_sock_addr_network_context_t, tunnel_type, 8);
BPF2SYS_OFFSET(bpf_sock_addr_network_context_t, next_hop_interface_luid, 16);
BPF2SYS_OFFSET(bpf_sock_addr_network_context_t, sub_interface_index, 24);
BPF2SYS_SIZE(bpf_sock_addr_network_context_t, 32);

/* -- Program type bind -------------------------------------------------------------------------------------------- */

/*
 * A process asks for a local address and port, gets it, or gives it back.
 * Program type bind, {608c517c-6c52-4a26-b677-bb1c34425adf}. Sections and attach types:
 * - "bind" EBPF_ATTACH_TYPE_BIND {b9707e04-8127-4c72-833e-05b1fb439496}
 */

enum bind_operation {
    BIND_OPERATION_BIND = 0,      /* asked for; the verdict counts */
    BIND_OPERATION_POST_BIND = 1, /* granted; a system-chosen port is known now */
    BIND_OPERATION_UNBIND = 2,    /* given back */
};

typedef struct {
    uint8_t *app_id_start;         /* file name of the process's image: UTF-16, without terminator */
    uint8_t *app_id_end;           /* one past its last byte */
    uint64_t process_id;
    /*
     * starts with a uint16_t family; then, in network order, a uint16_t port; then for AF_INET the uint32_t address.
     * IPv6 addresses are cut off; when written: ignored
     */
    uint8_t socket_address[16];
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

/* What programs return. */
enum bind_action {
    BIND_PERMIT_SOFT = 0, /* allow; lower-priority filters may still block */
    BIND_DENY = 1,        /* block */
    BIND_REDIRECT = 2,    /* treated as soft permit */
    BIND_PERMIT_HARD = 3, /* allow, final */
};

/* -- Program type sock_addr --------------------------------------------------------------------------------------- */

/*
 * A process connects, accepts, binds or listens.
 * Program type sock_addr, {92ec8e39-aeec-11ec-9a30-18602489beee}. Sections and attach types:
 * - "cgroup/connect4" EBPF_ATTACH_TYPE_CGROUP_INET4_CONNECT {a82e37b1-aee7-11ec-9a30-18602489beee}: before a route
 *   is chosen: can redirect
 * - "cgroup/connect6" EBPF_ATTACH_TYPE_CGROUP_INET6_CONNECT {a82e37b2-aee7-11ec-9a30-18602489beee}: before a route
 *   is chosen: can redirect
 * - "cgroup/recv_accept4" EBPF_ATTACH_TYPE_CGROUP_INET4_RECV_ACCEPT {a82e37b3-aee7-11ec-9a30-18602489beee}
 * - "cgroup/recv_accept6" EBPF_ATTACH_TYPE_CGROUP_INET6_RECV_ACCEPT {a82e37b4-aee7-11ec-9a30-18602489beee}
 * - "cgroup/connect_authorization4" EBPF_ATTACH_TYPE_CGROUP_INET4_CONNECT_AUTHORIZATION
 *   {6076c13a-f04f-4ff8-8380-908553f22276}: after a route was chosen
 * - "cgroup/connect_authorization6" EBPF_ATTACH_TYPE_CGROUP_INET6_CONNECT_AUTHORIZATION
 *   {54b0b6ed-432a-4674-8b27-8d9f5b40c675}: after a route was chosen
 * - "cgroup/bind4" EBPF_ATTACH_TYPE_CGROUP_INET4_BIND {0d7ce21a-7773-405c-93b6-d5bfb92e74bc}
 * - "cgroup/bind6" EBPF_ATTACH_TYPE_CGROUP_INET6_BIND {81de64c0-2973-468d-8382-6769f033d759}
 * - "cgroup/listen4" EBPF_ATTACH_TYPE_CGROUP_INET4_LISTEN {e1b0cb3d-d70c-4ee2-b23a-0742bedb06d6}
 * - "cgroup/listen6" EBPF_ATTACH_TYPE_CGROUP_INET6_LISTEN {4e72f92e-5ed0-4fe5-b851-b124fe14074d}
 */

enum address_family {
    AF_INET = 2,
    AF_INET6 = 23, /* as in Winsock; Linux has another number */
};

typedef struct {
    uint32_t family; /* enum address_family */
    union {
        uint32_t msg_src_ip4;    /* local address; network byte order */
        uint32_t msg_src_ip6[4]; /* local address; network byte order */
    };
    uint16_t msg_src_port; /* local port; network byte order */
    union {
        /*
         * remote address; network byte order; when written: the connection goes there, from connect4 and connect6;
         * undone by connect_authorization4 and 6; ignored elsewhere
         */
        uint32_t user_ip4;
        uint32_t user_ip6[4]; /* remote address; network byte order; when written: as user_ip4 */
    };
    uint16_t user_port;      /* remote port; network byte order; when written: as user_ip4 */
    uint32_t protocol;       /* IP protocol number */
    uint32_t compartment_id;
    uint64_t interface_luid; /* 0 in connect4 and connect6 */
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

/* What becomes of it. Any other value rejects, too. */
enum bpf_sock_addr_verdict {
    BPF_SOCK_ADDR_VERDICT_REJECT = 0,       /* block; any unlisted value means the same */
    BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT = 1, /* allow, overridable */
    BPF_SOCK_ADDR_VERDICT_PROCEED_HARD = 2, /* allow, final */
};

/*
 * Hands `size` bytes to the process that a connection is redirected to: it asks Winsock for them by
 * SIO_QUERY_WFP_CONNECTION_REDIRECT_CONTEXT.
 * Works only at: connect4, connect6.
 * Returns -1 elsewhere.
 */
BPF_HELPER(0x10001, int, bpf_sock_addr_set_redirect_context,
           (bpf_sock_addr_t *context, const void *data, uint32_t size));

/*
 * Writes a bpf_sock_addr_network_context_t, or its first `size` bytes, and zeros behind it.
 * Works only at: connect_authorization4, connect_authorization6, recv_accept4, recv_accept6, bind4, bind6, listen4,
 * listen6.
 * Returns -1 at connect4 and connect6.
 */
BPF_HELPER(0x10002, int, bpf_sock_addr_get_network_context, (bpf_sock_addr_t *context, void *buffer, uint32_t size));

/* -- Program type sockops ----------------------------------------------------------------------------------------- */

/*
 * A connection was made or went away.
 * Program type sockops, {43fb224d-68f8-46d6-aa3f-c856518cbb32}. Sections and attach types:
 * - "sockops" EBPF_ATTACH_TYPE_CGROUP_SOCK_OPS {837d02cd-3251-4632-8d94-60d3b45769f2}
 */

enum bpf_sock_op_type {
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 0,  /* this machine connected */
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 1, /* this machine accepted */
    BPF_SOCK_OPS_CONNECTION_DELETED_CB = 2,  /* the connection went away */
};

typedef struct {
    uint32_t op;     /* what happened; enum bpf_sock_op_type */
    uint32_t family; /* enum address_family */
    union {
        uint32_t local_ip4;    /* network byte order */
        uint32_t local_ip6[4]; /* network byte order */
    };
    uint32_t local_port; /* in the first two bytes; network byte order */
    union {
        uint32_t remote_ip4;    /* network byte order */
        uint32_t remote_ip6[4]; /* network byte order */
    };
    uint32_t remote_port;    /* in the first two bytes; network byte order */
    uint8_t protocol;        /* IP protocol number */
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

/* A program returns 0: success; anything else is an error value. */

/* A number that stays the same from a connection's first event to its last. */
BPF_HELPER(0x10000, uint64_t, bpf_sock_ops_get_flow_id, (bpf_sock_ops_t *context));

#endif /* BPF2SYS_NET_H */
