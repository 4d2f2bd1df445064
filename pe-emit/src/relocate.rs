//! Fields of sections that depend on addresses: checked before the layout, filled in after it.

use crate::address::Rva;
use crate::error::{LinkError, RelocationProblem};
use crate::native_object::{Machine, Relocation, RelocationKind, Section, SectionKind};
use crate::symbols::Addresses;

/// Checks what is known without addresses: every field is inside its section, aligned, of a kind that its section and
/// machine allow, and shares no byte with another field.
pub(crate) fn check(machine: Machine, section: &Section) -> Result<(), LinkError> {
    let mut fields: Vec<&Relocation> = section.relocations.iter().collect();
    fields.sort_by_key(|field| field.offset);
    let mut previous: Option<&Relocation> = None;
    for field in fields {
        check_field(machine, section, field).map_err(error(section, field))?;
        if let Some(other) = previous.filter(|p| field.offset - p.offset < width(p.kind)) {
            return Err(error(section, field)(RelocationProblem::Overlap {
                other: other.offset,
            }));
        }
        previous = Some(field);
    }
    Ok(())
}

/// The contents of a section at `start`, with every field filled in. The section has passed [`check`].
pub(crate) fn contents(section: &Section, start: Rva, image: &Addresses) -> Result<Vec<u8>, LinkError> {
    let mut data = section.data.clone();
    for relocation in &section.relocations {
        let &Relocation {
            offset,
            kind,
            symbol,
            addend,
        } = relocation;
        let error = error(section, relocation);
        let symbol = image
            .symbol(symbol)
            .ok_or_else(|| error(RelocationProblem::UnknownSymbol { symbol: symbol.0 }))?;
        // The addend is any 64-bit number, so the sum is made in more bits.
        let target = i128::from(symbol.0) + i128::from(addend);
        let bytes = data.get_mut(offset as usize..).unwrap_or_default();
        fill(bytes, kind, start.plus(offset), target, image).map_err(error)?;
    }
    Ok(data)
}

fn error<'a>(section: &'a Section, field: &'a Relocation) -> impl Fn(RelocationProblem) -> LinkError + 'a {
    |problem| LinkError::Relocation {
        section: section.name.clone(),
        offset: field.offset,
        problem,
    }
}

/// Bytes of the field.
fn width(kind: RelocationKind) -> u32 {
    match kind {
        RelocationKind::Absolute64 => 8,
        RelocationKind::ImageRelative32
        | RelocationKind::Relative32
        | RelocationKind::Arm64Page21
        | RelocationKind::Arm64PageOffset12
        | RelocationKind::Arm64LoadOffset12
        | RelocationKind::Arm64Branch26 => 4,
    }
}

/// The part of an instruction word that says what it is, and what it must be: `adrp`; `add` of 64 bits with an unshifted
/// immediate; `ldr` of 64 bits with an unsigned immediate; `b` and `bl`. (Arm Architecture Reference Manual, C4.1.)
fn instruction(kind: RelocationKind) -> Option<(u32, u32)> {
    match kind {
        RelocationKind::Absolute64 | RelocationKind::ImageRelative32 | RelocationKind::Relative32 => None,
        RelocationKind::Arm64Page21 => Some((0x9F00_0000, 0x9000_0000)),
        RelocationKind::Arm64PageOffset12 => Some((0xFFC0_0000, 0x9100_0000)),
        RelocationKind::Arm64LoadOffset12 => Some((0xFFC0_0000, 0xF940_0000)),
        RelocationKind::Arm64Branch26 => Some((0x7C00_0000, 0x1400_0000)),
    }
}

/// The bits of an instruction word that a relocation fills in: `immhi` and `immlo`; `imm12`, twice; `imm26`.
fn immediate(kind: RelocationKind) -> u32 {
    match kind {
        RelocationKind::Absolute64 | RelocationKind::ImageRelative32 | RelocationKind::Relative32 => 0,
        RelocationKind::Arm64Page21 => 0x60FF_FFE0,
        RelocationKind::Arm64PageOffset12 | RelocationKind::Arm64LoadOffset12 => 0x003F_FC00,
        RelocationKind::Arm64Branch26 => 0x03FF_FFFF,
    }
}

fn check_field(machine: Machine, section: &Section, field: &Relocation) -> Result<(), RelocationProblem> {
    let Relocation { offset, kind, .. } = *field;
    let bytes = section
        .data
        .get(offset as usize..)
        .and_then(|rest| rest.get(..width(kind) as usize))
        .ok_or(RelocationProblem::OutOfSection)?;
    let code = section.kind == SectionKind::Code;
    if matches!(kind, RelocationKind::Absolute64 | RelocationKind::ImageRelative32) {
        if code {
            return Err(RelocationProblem::AbsoluteInCode);
        }
        return aligned(offset, width(kind));
    }
    let Some((mask, expected)) = instruction(kind) else {
        return Ok(());
    };
    if !code {
        return Err(RelocationProblem::InstructionInData);
    }
    aligned(offset, width(kind))?;
    let word = bytes.first_chunk().map(|word| u32::from_le_bytes(*word));
    if machine != Machine::Arm64 || word.is_none_or(|word| word & mask != expected) {
        return Err(RelocationProblem::WrongInstruction);
    }
    Ok(())
}

fn aligned(offset: u32, align: u32) -> Result<(), RelocationProblem> {
    if offset.is_multiple_of(align) {
        Ok(())
    } else {
        Err(RelocationProblem::Unaligned { align })
    }
}

/// Fills in one field. `place` is P, `target` is S + A; both count from the start of the image.
fn fill(
    bytes: &mut [u8],
    kind: RelocationKind,
    place: Rva,
    target: i128,
    image: &Addresses,
) -> Result<(), RelocationProblem> {
    let place = i128::from(place.0);
    let distance = target - place;
    match kind {
        RelocationKind::Absolute64 => {
            *field(bytes)? = image.virtual_address(inside(target, image)?).to_le_bytes();
            Ok(())
        }
        RelocationKind::ImageRelative32 => {
            *field(bytes)? = inside(target, image)?.0.to_le_bytes();
            Ok(())
        }
        RelocationKind::Relative32 => {
            *field(bytes)? = signed(distance, 32)?.to_le_bytes();
            Ok(())
        }
        RelocationKind::Arm64Page21 => {
            let pages = signed((target >> 12) - (place >> 12), 21)
                .map_err(|_| RelocationProblem::OutOfRange { value: distance })?;
            // Bits 0 and 1 go to bits 29 and 30, the 19 above to bits 5 to 23.
            patch(bytes, immediate(kind), (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5)
        }
        RelocationKind::Arm64PageOffset12 => patch(bytes, immediate(kind), ((target & 0xFFF) as u32) << 10),
        RelocationKind::Arm64LoadOffset12 => {
            // The immediate counts 8 bytes.
            if target & 7 != 0 {
                return Err(RelocationProblem::OutOfRange { value: distance });
            }
            patch(bytes, immediate(kind), ((target & 0xFFF) as u32 >> 3) << 10)
        }
        RelocationKind::Arm64Branch26 => {
            if distance & 3 != 0 {
                return Err(RelocationProblem::OutOfRange { value: distance });
            }
            patch(bytes, immediate(kind), signed(distance, 28)? >> 2)
        }
    }
}

/// A place of the image. Its end is one too that a pointer may name, as the end of any array is.
fn inside(target: i128, image: &Addresses) -> Result<Rva, RelocationProblem> {
    let target = u32::try_from(target).ok().filter(|target| *target <= image.size);
    target.map(Rva).ok_or(RelocationProblem::OutsideImage)
}

/// Makes what a relocation patches in an instruction 0.
pub(crate) fn clear_immediate(bytes: &mut [u8], kind: RelocationKind) -> Result<(), RelocationProblem> {
    patch(bytes, immediate(kind), 0)
}

/// Replaces the bits of `mask` in an instruction word.
fn patch(bytes: &mut [u8], mask: u32, bits: u32) -> Result<(), RelocationProblem> {
    let word = field(bytes)?;
    *word = (u32::from_le_bytes(*word) & !mask | bits & mask).to_le_bytes();
    Ok(())
}

/// The bytes of a field at the start of `bytes`.
pub(crate) fn field<const N: usize>(bytes: &mut [u8]) -> Result<&mut [u8; N], RelocationProblem> {
    bytes.first_chunk_mut().ok_or(RelocationProblem::OutOfSection)
}

/// The value as two's complement, if `bits` bits hold it.
pub(crate) fn signed(value: i128, bits: u32) -> Result<u32, RelocationProblem> {
    let limit = 1i128 << (bits - 1);
    if (-limit..limit).contains(&value) {
        Ok(value as u32)
    } else {
        Err(RelocationProblem::OutOfRange { value })
    }
}
