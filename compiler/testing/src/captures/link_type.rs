//! What a captured packet begins with: names of link types, and what to do about those that are not Ethernet.

use std::fmt;

/// A link type, by its number in the registry of link types (`draft-ietf-opsawg-pcaplinktype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// Ethernet frames, from the destination address on.
    pub const ETHERNET: LinkType = LinkType(1);

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "BSD loopback",
            1 => "Ethernet",
            6 => "token ring",
            9 | 50 => "PPP",
            12 | 14 | 101 => "raw IP",
            51 => "PPP over Ethernet",
            104 => "Cisco HDLC",
            105 => "IEEE 802.11",
            108 => "OpenBSD loopback",
            113 => "Linux cooked",
            119 | 127 | 163 => "IEEE 802.11 with radio information",
            147..=162 => "private use",
            189 | 220 | 249 => "USB",
            187 | 201 => "Bluetooth",
            192 => "per-packet information",
            227 => "CAN",
            228 => "raw IPv4",
            229 => "raw IPv6",
            239 => "Linux netfilter log",
            253 => "Linux netlink",
            276 => "Linux cooked, version 2",
            _ => "not known by name",
        }
    }

    /// How to come by Ethernet frames instead.
    pub(super) fn advice(self) -> &'static str {
        match self.0 {
            113 | 276 => "record on one Ethernet interface instead of `any`",
            0 | 12 | 14 | 101 | 108 | 228 | 229 => {
                "record on an Ethernet interface instead of a tunnel or the loopback, or let `tcprewrite --dlt=enet` \
                 put Ethernet headers before the packets"
            }
            105 | 119 | 127 | 163 => "record without monitor mode, or on a wired interface",
            147..=162 => "if they are Ethernet frames, `editcap -T ether` says so in the file",
            _ => "record on an Ethernet interface",
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}
