//! The 8-byte slots that instructions are encoded in (RFC 9669 §3).

/// One 8-byte slot. `lddw` takes two, every other instruction one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Class, and what the class makes of the other five bits.
    pub opcode: u8,
    /// Destination register field, 0 to 15.
    pub dst: u8,
    /// Source register field, 0 to 15.
    pub src: u8,
    /// Signed offset field.
    pub offset: i16,
    /// Signed immediate field.
    pub imm: i32,
}

impl Slot {
    /// Size of an encoded slot in bytes.
    pub const SIZE: usize = 8;

    /// Takes a little-endian encoded slot apart.
    pub fn from_bytes(bytes: [u8; Slot::SIZE]) -> Slot {
        let [opcode, registers, o0, o1, i0, i1, i2, i3] = bytes;
        Slot {
            opcode,
            dst: registers & 0xf,
            src: registers >> 4,
            offset: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// The little-endian encoding. Bits of `dst` and `src` above the lowest four are dropped.
    pub fn to_bytes(self) -> [u8; Slot::SIZE] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [self.opcode, (self.src << 4) | (self.dst & 0xf), o0, o1, i0, i1, i2, i3]
    }

    /// The slots of some code, or `None` if its length is no multiple of eight.
    pub fn all_from_bytes(code: &[u8]) -> Option<Vec<Slot>> {
        let (slots, rest) = code.as_chunks::<{ Slot::SIZE }>();
        rest.is_empty()
            .then(|| slots.iter().copied().map(Slot::from_bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;

    #[test]
    fn fields_have_their_places() {
        let slot = Slot::from_bytes([0x63, 0x3a, 0xfc, 0xff, 0x78, 0x56, 0x34, 0x12]);
        let expected = Slot {
            opcode: 0x63,
            dst: 10,
            src: 3,
            offset: -4,
            imm: 0x1234_5678,
        };
        assert_eq!(slot, expected);
        assert_eq!(slot.to_bytes(), [0x63, 0x3a, 0xfc, 0xff, 0x78, 0x56, 0x34, 0x12]);
    }

    #[test]
    fn code_is_a_whole_number_of_slots() {
        assert_eq!(Slot::all_from_bytes(&[0; 16]).map(|s| s.len()), Some(2));
        assert_eq!(Slot::all_from_bytes(&[0; 15]), None);
    }
}
