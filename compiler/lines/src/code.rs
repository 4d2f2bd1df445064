//! Which code an image has, whatever is around it.

use object::LittleEndian as LE;
use object::pe::IMAGE_SCN_MEM_EXECUTE;
use object::read::pe::PeFile64;
use sha2::{Digest, Sha256};

use crate::{LinesError, malformed};

/// SHA-256 over the executable sections of an image in the order of its headers, as lower-case hexadecimal: of each the RVA and the size in
/// memory, as 32-bit little-endian numbers, and what the file has of it. A signature, a version resource or a checksum do not
/// change it.
///
/// # Errors
/// It is no 64-bit PE image, or a section is not all in the file.
pub fn code_hash(image: &[u8]) -> Result<String, LinesError> {
    let file = PeFile64::parse(image).map_err(malformed)?;
    let mut hash = Sha256::new();
    for section in file.section_table().iter() {
        if !section.characteristics.get(LE).contains(IMAGE_SCN_MEM_EXECUTE) {
            continue;
        }
        hash.update(section.virtual_address.get(LE).to_le_bytes());
        hash.update(section.virtual_size.get(LE).to_le_bytes());
        hash.update(section.pe_data(image).map_err(malformed)?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
