//! Changes of contexts: field by field, with values that the field can have.

use bpf2sys_platform::{ByteOrder, Context, Field, FieldKind, Format};

use super::random::Random;
use crate::contexts::layout::Layout;

const PROTOCOLS: [u64; 6] = [6, 17, 1, 58, 0, 255];
const PORTS: [u64; 8] = [0, 1, 53, 80, 443, 1023, 1024, 65535];
const NUMBERS: [u64; 10] = [0, 1, 2, 4, 16, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX];

/// The fields of a context that are not pointers: those a run sets itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub size: usize,
    fields: Vec<Field>,
}

impl Fields {
    pub fn of(context: Option<&Context>) -> Fields {
        context.map_or_else(Fields::default, |context| Fields {
            size: context.size.max(0) as usize,
            fields: Layout::new(context).fields.into_iter().cloned().collect(),
        })
    }

    /// Changes a field.
    pub fn change(&self, context: &mut Vec<u8>, random: &mut Random) {
        context.resize(self.size, 0);
        let Some(field) = self.fields.get(random.below(self.fields.len())) else {
            return;
        };
        let start = field.offset as usize;
        let Some(place) = context.get_mut(start..start + field.size as usize) else {
            return;
        };
        let bits = match field.format {
            _ if !field.values.is_empty() && random.percent(90) => {
                let known = random.below(field.values.len());
                field.values[known].value as u64
            }
            Some(Format::IpProtocol) if random.percent(80) => random.pick(&PROTOCOLS).unwrap_or_default(),
            Some(Format::Port) => {
                let port = if random.percent(60) {
                    random.pick(&PORTS).unwrap_or_default()
                } else {
                    random.next()
                };
                // In the first two bytes, whatever the field has behind.
                place.fill(0);
                for (place, byte) in place.iter_mut().zip((port as u16).to_be_bytes()) {
                    *place = byte;
                }
                return;
            }
            Some(Format::Ipv4 | Format::Ipv6 | Format::SocketAddress | Format::Sid) => return bytes(place, random),
            _ if field.kind == Some(FieldKind::Bytes) || field.size > 8 => return bytes(place, random),
            _ if random.percent(70) => random.pick(&NUMBERS).unwrap_or_default(),
            _ => random.next(),
        };
        let mut low = bits.to_le_bytes()[..place.len().min(8)].to_vec();
        if field.byte_order == Some(ByteOrder::Network) {
            low.reverse();
        }
        for (place, byte) in place.iter_mut().zip(low) {
            *place = byte;
        }
    }
}

/// Changes some bytes of many.
fn bytes(place: &mut [u8], random: &mut Random) {
    match random.below(4) {
        0 => place.fill(0),
        1 => place.iter_mut().for_each(|byte| *byte = random.byte()),
        _ => {
            let at = random.below(place.len());
            if let Some(byte) = place.get_mut(at) {
                *byte = random.pick(&[0, 1, 2, 0x17, 0x7f, 0xff]).unwrap_or_default();
            }
        }
    }
}
