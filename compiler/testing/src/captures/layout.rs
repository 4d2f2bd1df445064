//! Numbers of pcapng that are both read and written (`draft-ietf-opsawg-pcapng`).

/// Section header block. The bytes are the same in both orders.
pub(super) const SECTION: u32 = 0x0A0D_0D0A;
/// Second field of a section header: tells the byte order of the section.
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// Interface description block.
pub(super) const INTERFACE: u32 = 1;
/// Packet block, obsolete.
pub(super) const PACKET: u32 = 2;
/// Simple packet block.
pub(super) const SIMPLE_PACKET: u32 = 3;
/// Enhanced packet block.
pub(super) const ENHANCED_PACKET: u32 = 6;

/// The major version that is read and written.
pub(super) const MAJOR: u16 = 1;

/// Ends a list of options.
pub(super) const END_OF_OPTIONS: u16 = 0;
/// A comment, of any block.
pub(super) const COMMENT: u16 = 1;
/// `shb_userappl`: the program that wrote the section.
pub(super) const WRITER: u16 = 4;
/// `if_name`.
pub(super) const INTERFACE_NAME: u16 = 2;
/// `if_tsresol`: what a unit of time is.
pub(super) const RESOLUTION: u16 = 9;
/// `if_tsoffset`: seconds to add.
pub(super) const OFFSET: u16 = 14;
/// `epb_flags`: the direction, in the lowest two bits.
pub(super) const FLAGS: u16 = 2;
/// `epb_verdict`: what was decided.
pub(super) const VERDICT: u16 = 7;
