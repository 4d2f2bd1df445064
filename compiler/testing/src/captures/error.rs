//! Why a file gives no more packets, or takes none.

use std::io;

use super::{LinkType, MAX_PACKET};

/// Why a file gives no more packets, or takes none. The file is not named: whoever opened it knows it.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system did not read or write.
    #[error("cannot {doing}: {error}")]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// A packet is not as a program at an Ethernet interface sees it.
    #[error("packet {packet} is of link type {link_type}, and programs get Ethernet frames: {}", .link_type.advice())]
    NotEthernet {
        /// Its number, from 1.
        packet: u64,
        /// What it begins with instead.
        link_type: LinkType,
    },
    /// The file ends where more of it was announced.
    #[error("the file ends at byte {offset}, in packet {packet} or the headers before it")]
    Truncated {
        /// Number of the first packet that is not whole, from 1.
        packet: u64,
        /// Bytes in the file.
        offset: u64,
    },
    /// The file contradicts its format.
    #[error("byte {offset}, at packet {packet}: {what}")]
    Malformed {
        /// Number of the packet that was to come, from 1.
        packet: u64,
        /// Where the record or block begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A packet is longer than any that is read or written.
    #[error("packet {packet} has more than {MAX_PACKET} bytes, which is the limit")]
    TooLong {
        /// Its number, from 1.
        packet: u64,
    },
    /// The file is compressed.
    #[error("the file is compressed: `{tool} -d` decompresses it")]
    Compressed {
        /// The command, e.g. `gzip`.
        tool: &'static str,
    },
    /// A format, or a version of one, that is not read.
    #[error("{what}")]
    Unsupported {
        /// Which, and what converts it.
        what: String,
    },
    /// Text that is no hexadecimal dump.
    #[error("line {line}: {what}")]
    Hex {
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
}

impl CaptureError {
    pub(super) fn read(error: io::Error) -> CaptureError {
        CaptureError::Io { doing: "read", error }
    }

    pub(super) fn write(error: io::Error) -> CaptureError {
        CaptureError::Io { doing: "write", error }
    }
}
