// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Sends TCP connections to a local proxy, by destination, for IPv4 and IPv6, and tells the proxy where they were going.
//
// A rule names a destination address and port; port 0 in a rule means every port of that address. The proxy's own
// connections are left alone, or it could never reach the destination.

#include "bpf2sys_net.h"
#include "bpf2sys_packet.h"

// Set before or while the program runs, through the map that holds this section.
static volatile struct {
    uint32_t proxy_process_id; // connections of this process are not redirected; 0: none
    uint32_t block_unlisted;   // nonzero: reject what no rule names
} config = {
    .proxy_process_id = 0,
    .block_unlisted = 0,
};

// An address and a port, in network byte order. An IPv4 address fills the first word, the others are 0.
struct endpoint {
    uint32_t address[4];
    uint16_t port;
    uint16_t zero;
};

enum action {
    ACTION_PERMIT = 0,   // also with block_unlisted
    ACTION_REDIRECT = 1,
    ACTION_REJECT = 2,
};

struct rule {
    uint32_t action;     // enum action
    struct endpoint to;  // ACTION_REDIRECT: where the connection goes instead
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct endpoint);
    __type(value, struct rule);
    __uint(max_entries, 1024);
} rules4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct endpoint);
    __type(value, struct rule);
    __uint(max_entries, 1024);
} rules6 SEC(".maps");

enum counter {
    COUNT_PERMITTED,
    COUNT_REDIRECTED,
    COUNT_REJECTED,
    COUNT_FROM_PROXY,
    COUNTERS,
};

// Connections by what became of them, per processor: readers add the values up.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, COUNTERS);
} counters SEC(".maps");

// What the proxy gets from SIO_QUERY_WFP_CONNECTION_REDIRECT_CONTEXT.
struct redirect_context {
    struct endpoint destination;  // as the process asked for it
    uint32_t family;
    uint64_t process_id;
};

BPF_INLINE void
count(uint32_t index)
{
    uint64_t *value = bpf_map_lookup_elem(&counters, &index);
    if (value) {
        *value += 1;
    }
}

// The rule for `destination`: for its port, else for every port of its address, else NULL.
BPF_INLINE const struct rule *
find_rule(void *rules, const struct endpoint *destination)
{
    const struct rule *rule = bpf_map_lookup_elem(rules, destination);
    if (!rule) {
        struct endpoint any_port = *destination;
        any_port.port = 0;
        rule = bpf_map_lookup_elem(rules, &any_port);
    }
    return rule;
}

// Decides on a connection and counts it. Gives the rule to redirect by, or NULL and the verdict.
BPF_INLINE const struct rule *
decide(bpf_sock_addr_t *context, void *rules, const struct endpoint *destination, int *verdict)
{
    uint64_t process_id = bpf_get_current_pid_tgid() >> 32;
    *verdict = BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT;

    uint32_t proxy = config.proxy_process_id;
    if (proxy && process_id == proxy) {
        count(COUNT_FROM_PROXY);
        return NULL;
    }
    const struct rule *rule = find_rule(rules, destination);
    uint32_t action = rule ? rule->action : config.block_unlisted ? ACTION_REJECT : ACTION_PERMIT;
    if (action == ACTION_PERMIT) {
        count(COUNT_PERMITTED);
        return NULL;
    }
    if (rule && action == ACTION_REDIRECT) {
        struct redirect_context original = {
            .destination = *destination,
            .family = context->family,
            .process_id = process_id,
        };
        // Without its context the proxy cannot serve the connection.
        if (bpf_sock_addr_set_redirect_context(context, &original, sizeof(original)) == 0) {
            count(COUNT_REDIRECTED);
            return rule;
        }
    }
    count(COUNT_REJECTED);
    *verdict = BPF_SOCK_ADDR_VERDICT_REJECT;
    return NULL;
}

SEC("cgroup/connect4")
int
connect_redirect4(bpf_sock_addr_t *context)
{
    if (context->protocol != IP_TCP) {
        return BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT;
    }
    struct endpoint destination = {
        .address = {context->user_ip4},
        .port = context->user_port,
    };
    int verdict;
    const struct rule *rule = decide(context, &rules4, &destination, &verdict);
    if (rule) {
        context->user_ip4 = rule->to.address[0];
        context->user_port = rule->to.port;
    }
    return verdict;
}

SEC("cgroup/connect6")
int
connect_redirect6(bpf_sock_addr_t *context)
{
    if (context->protocol != IP_TCP) {
        return BPF_SOCK_ADDR_VERDICT_PROCEED_SOFT;
    }
    struct endpoint destination = {
        .address = {context->user_ip6[0], context->user_ip6[1], context->user_ip6[2], context->user_ip6[3]},
        .port = context->user_port,
    };
    int verdict;
    const struct rule *rule = decide(context, &rules6, &destination, &verdict);
    if (rule) {
        for (int i = 0; i < 4; i++) {
            context->user_ip6[i] = rule->to.address[i];
        }
        context->user_port = rule->to.port;
    }
    return verdict;
}
