/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Headers of network packets, as they lie in memory. Numbers of two and four bytes are in network byte order.
 *
 * No structure needs padding, so none is packed: the compiler reads a packed field byte by byte. Headers are often not
 * aligned in a packet (IPv4 starts 14 bytes into an Ethernet frame); the processors that run Windows do not mind.
 */
#pragma once

#include "bpf2sys.h"

/* Ethernet (IEEE 802.3). */
struct ethernet_header {
    uint8_t destination[6];
    uint8_t source[6];
    uint16_t type;
};
BPF2SYS_SIZE(struct ethernet_header, 14);

/* What follows the type of a VLAN tag (IEEE 802.1Q). */
struct vlan_header {
    uint16_t control;
    uint16_t type;
};
BPF2SYS_SIZE(struct vlan_header, 4);

enum ethernet_type {
    ETHERNET_IPV4 = 0x0800,
    ETHERNET_ARP = 0x0806,
    ETHERNET_VLAN = 0x8100,         /* customer tag */
    ETHERNET_SERVICE_VLAN = 0x88a8, /* provider tag (802.1ad) */
    ETHERNET_IPV6 = 0x86dd,
};

/* ARP for IPv4 over Ethernet (RFC 826). */
struct arp_header {
    uint16_t hardware_type;
    uint16_t protocol_type;
    uint8_t hardware_size;
    uint8_t protocol_size;
    uint16_t operation;
    uint8_t sender_hardware[6];
    uint8_t sender_address[4];
    uint8_t target_hardware[6];
    uint8_t target_address[4];
};
BPF2SYS_SIZE(struct arp_header, 28);

/* Values of an IPv4 protocol field and of an IPv6 next header field (IANA protocol numbers). */
enum ip_protocol {
    IP_HOP_BY_HOP = 0, /* IPv6 extension */
    IP_ICMP = 1,
    IP_TCP = 6,
    IP_UDP = 17,
    IP_ROUTING = 43,        /* IPv6 extension */
    IP_FRAGMENT = 44,       /* IPv6 extension, always 8 bytes */
    IP_AUTHENTICATION = 51, /* IPv6 extension; its length counts units of 4 bytes beyond the first 8 */
    IP_ICMPV6 = 58,
    IP_DESTINATION = 60,    /* IPv6 extension: destination options */
};

/* IPv4 (RFC 791). */
struct ipv4_header {
    uint8_t version_and_length; /* version 4 above, header length in units of 4 bytes below */
    uint8_t service;
    uint16_t total_length;
    uint16_t identification;
    uint16_t fragment; /* three flags, then the fragment's offset in units of 8 bytes */
    uint8_t time_to_live;
    uint8_t protocol;
    uint16_t checksum;
    uint32_t source;
    uint32_t destination;
};
BPF2SYS_SIZE(struct ipv4_header, 20);

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* IPv6 (RFC 8200). */
struct ipv6_header {
    uint32_t version_and_flow;
    uint16_t payload_length;
    uint8_t next_header;
    uint8_t hop_limit;
    uint8_t source[16];
    uint8_t destination[16];
};
BPF2SYS_SIZE(struct ipv6_header, 40);

/* The start of an IPv6 extension header (RFC 6564). */
struct ipv6_extension {
    uint8_t next_header;
    uint8_t length;    /* units of 8 bytes beyond the first 8; reserved in a fragment header */
    uint16_t fragment; /* only in a fragment header: 13 bits of offset in units of 8 bytes, 2 zero, 1 "more" */
    uint32_t rest;
};
BPF2SYS_SIZE(struct ipv6_extension, 8);

#define IPV6_FRAGMENT_OFFSET 0xfff8

/* Whether a next header value stands for an extension header that another header follows. */
BPF_INLINE int
ipv6_is_extension(uint8_t next_header)
{
    return next_header == IP_HOP_BY_HOP || next_header == IP_ROUTING || next_header == IP_FRAGMENT ||
           next_header == IP_AUTHENTICATION || next_header == IP_DESTINATION;
}

/* The size in bytes of an extension header of that type: 8 to 2048. */
BPF_INLINE uint32_t
ipv6_extension_size(uint8_t type, const struct ipv6_extension *extension)
{
    uint32_t size = sizeof(*extension);
    if (type != IP_FRAGMENT) {
        /* Added up rather than multiplied by 4 or 8: the compiler would make one shift by a variable of that, and the
         * verifier has no bounds for its result. */
        size += extension->length * 4;
        if (type != IP_AUTHENTICATION) {
            size += extension->length * 4;
        }
    }
    return size;
}

/* UDP (RFC 768). */
struct udp_header {
    uint16_t source;
    uint16_t destination;
    uint16_t length; /* header and data, at least 8; 0 in a jumbogram (RFC 2675) */
    uint16_t checksum;
};
BPF2SYS_SIZE(struct udp_header, 8);

/* ICMP (RFC 792) and ICMPv6 (RFC 4443): what all messages start with. */
struct icmp_header {
    uint8_t type;
    uint8_t code;
    uint16_t checksum;
    uint32_t rest;
};
BPF2SYS_SIZE(struct icmp_header, 8);

enum icmp_type {
    ICMP_ECHO_REPLY = 0,
    ICMP_ECHO_REQUEST = 8,
    ICMPV6_ROUTER_ADVERTISEMENT = 134, /* RFC 4861 */
    ICMPV6_REDIRECT = 137,             /* RFC 4861 */
};
