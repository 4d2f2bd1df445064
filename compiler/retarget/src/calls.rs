//! What stands in the place of calls of helpers.

use bpf2sys_bytecode::{
    AluOp, Condition, GlobalIndex, GlobalSection, Imm64, Instruction, MapIndex, MapOrigin, Module, Operand, Reg, Width,
    WordSize,
};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{InsnFacts, Object, RegisterFact, RegisterKind};

use crate::rules::{Helper, ResultBits, Sequence};
use crate::sequence::{alu, alu32, call, copy, jump, load, mov, register, sign32, skip, store, unless_equal, width};

/// `-EINVAL` of Linux.
const INVALID: i32 = -22;
/// Map types of Linux whose entries no program can delete.
const ARRAYS: [u32; 2] = [2, 6];
/// Most bytes that are copied from or to the packet one by one.
const COPIED: u64 = 256;
/// Offsets of a packet are smaller.
const MOST_OFFSET: i32 = 0xffff;

/// A call of a helper of Linux.
pub(crate) struct Called<'a> {
    pub(crate) helper: &'a Helper,
    /// What is known at it.
    pub(crate) facts: &'a InsnFacts,
    /// What is known of registers.
    pub(crate) registers: [RegisterFact; Reg::COUNT],
    /// The module, for Linux still.
    pub(crate) module: &'a Module,
    /// The program type of Windows.
    pub(crate) program_type: &'a str,
    /// Windows.
    pub(crate) windows: &'a Platform,
    /// Whether the program looks at more of the answer than its sign.
    pub(crate) number_used: bool,
}

/// What stands in the place of a call.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) ops: Vec<Instruction>,
    /// What the program lacks.
    pub(crate) degraded: Option<String>,
    /// A text that the registers of the first two arguments are to have, address and size: it goes into this section.
    pub(crate) text: Option<(GlobalIndex, Vec<u8>)>,
}

impl Called<'_> {
    /// What stands in its place, or why nothing can.
    pub(crate) fn replace(&self) -> Result<Answer, String> {
        let helper = self.helper;
        if let Some(value) = helper.value {
            let mut ops = Vec::new();
            if let Some([pointer, size]) = helper.clears {
                let size = self.register(size).constant().and_then(|size| u32::try_from(size).ok());
                ops = self.zeros(pointer, size.ok_or("the size of its buffer is no constant")?)?;
            }
            ops.push(mov(Reg::R0, value));
            return Ok(Answer {
                ops,
                degraded: helper.degraded.clone(),
                text: None,
            });
        }
        if let Some((number, most)) = helper.most
            && self.register(number).range().unsigned.1 > most
        {
            return Err(format!(
                "its argument {number} may be larger than {most}, which Windows does not know"
            ));
        }
        let mut ops = match helper.inline {
            Some(Sequence::Delete) if self.deletes_from_array()? => {
                return Ok(Answer::exact([mov(Reg::R0, INVALID)]));
            }
            Some(Sequence::Printk) => return Ok(self.printk()),
            Some(Sequence::Checksum) => {
                let (seed, carry) = (register(5), Reg::R0);
                vec![
                    alu32(AluOp::Mov, carry, Operand::Reg(seed)),
                    alu32(AluOp::Rsh, carry, Operand::Imm(16)),
                    alu32(AluOp::And, seed, Operand::Imm(0xffff)),
                    alu32(AluOp::Add, seed, Operand::Reg(carry)),
                ]
            }
            Some(Sequence::Pop | Sequence::Peek) => self.cleared()?,
            Some(Sequence::NetworkNamespace) => return self.network_namespace(),
            Some(Sequence::PacketLength) => {
                let start = register(2);
                return Ok(Answer::exact([
                    load(Width::Dw, Reg::R0, Reg::R1, 8),
                    load(Width::Dw, start, Reg::R1, 0),
                    alu(AluOp::Sub, Reg::R0, Operand::Reg(start)),
                ]));
            }
            Some(Sequence::LoadBytes) => return self.copied(false),
            Some(Sequence::StoreBytes) => return self.copied(true),
            Some(Sequence::Submit) => return self.submitted(),
            Some(Sequence::Discard) => return self.record().map(|_| Answer::exact([mov(Reg::R0, 0)])),
            Some(Sequence::Delete) | None => Vec::new(),
        };
        let windows = helper.windows.ok_or("there is no rule for it")?;
        ops.push(call(windows));
        match helper.result {
            Some(ResultBits::Sign32) => ops.push(sign32(Reg::R0)),
            Some(ResultBits::Zero32) => ops.push(alu32(AluOp::Mov, Reg::R0, Operand::Reg(Reg::R0))),
            None => {}
        }
        if helper.errors && self.number_used {
            let pairs: Vec<_> = helper
                .error_numbers()
                .filter(|[windows, linux]| windows != linux)
                .collect();
            let not_failed = jump(
                WordSize::W64,
                Condition::Sge,
                Reg::R0,
                Operand::Imm(0),
                pairs.len() as i16 * 3,
            );
            ops.push(not_failed);
            for (index, [windows, linux]) in pairs.iter().enumerate() {
                let rest = (pairs.len() - index - 1) as i32 * 3;
                ops.extend([unless_equal(Reg::R0, *windows, 2), mov(Reg::R0, *linux), skip(rest)]);
            }
        }
        Ok(Answer {
            ops,
            ..Answer::default()
        })
    }

    fn register(&self, number: u8) -> &RegisterFact {
        &self.registers[usize::from(number)]
    }

    /// The type of the map that it is given.
    fn map_type(&self) -> Result<(u32, u32), String> {
        let map = self.facts.map.ok_or("which map it is given is not known here")?;
        let definition = &self.module.maps[map.index()].definition;
        Ok((definition.map_type, definition.value_size))
    }

    fn deletes_from_array(&self) -> Result<bool, String> {
        // A map that another map holds has the definition of its template, which is not told.
        Ok(ARRAYS.contains(&self.map_type()?.0))
    }

    /// Zeros where a value is to be written: Linux leaves zeros there if there is none, and Windows what was there.
    fn cleared(&self) -> Result<Vec<Instruction>, String> {
        self.zeros(2, self.map_type()?.1)
    }

    /// Stores of zeros behind an address in a register.
    fn zeros(&self, pointer: u8, size: u32) -> Result<Vec<Instruction>, String> {
        const MOST: u32 = 512;
        if size > MOST {
            return Err(format!("{size} bytes are too many to clear"));
        }
        let target = register(pointer);
        let aligned = self
            .register(pointer)
            .stack_offset
            .is_some_and(|offset| offset % 8 == 0);
        let mut ops = Vec::new();
        let mut at = 0;
        while at < size {
            let step = if aligned && size - at >= 8 { 8 } else { 1 };
            let wide = width(step).ok_or("there is no such store")?;
            // At most `MOST`.
            ops.push(store(wide, target, at as i16, Operand::Imm(0)));
            at += step;
        }
        Ok(ops)
    }

    /// The ring buffer and the size of the record in the first argument.
    fn record(&self) -> Result<(MapIndex, u32), String> {
        let unknown = "which call of bpf_ringbuf_reserve made its record is not known here";
        let record = self.register(1);
        let Some((Object::Map(map), (0, 0))) = record.object.zip(record.offset) else {
            return Err(unknown.to_owned());
        };
        let map = &self.module.maps[map.index()];
        match map.origin {
            MapOrigin::Record(ring) => Ok((ring, map.definition.value_size)),
            _ => Err(unknown.to_owned()),
        }
    }

    /// A record, sent whole. Windows wakes readers in any case.
    fn submitted(&self) -> Result<Answer, String> {
        let (ring, size) = self.record()?;
        let windows = self.helper.windows.ok_or("there is no rule for it")?;
        Ok(Answer::exact([
            copy(register(2), Reg::R1),
            Instruction::LoadImm64 {
                dst: Reg::R1,
                value: Imm64::Map(ring),
            },
            mov(register(3), size.cast_signed()),
            mov(register(4), 0),
            call(windows),
        ]))
    }

    fn network_namespace(&self) -> Result<Answer, String> {
        match (self.register(1).kind, self.register(1).constant()) {
            // The initial one.
            (_, Some(0)) => Ok(Answer::exact([mov(Reg::R0, 1)])),
            (RegisterKind::Context, _) => {
                let types = &self.windows.program_types;
                let at = types
                    .iter()
                    .find(|t| t.name == self.program_type)
                    .and_then(|t| t.context.fields.iter().find(|f| f.name == "compartment_id"))
                    .and_then(|field| i16::try_from(field.offset).ok())
                    .ok_or("the context of Windows has no compartment")?;
                Ok(Answer::exact([load(Width::W, Reg::R0, Reg::R1, at)]))
            }
            _ => Err("whether it is given the context or null is not known here".into()),
        }
    }

    /// Bytes from the packet to memory, or the other way round.
    fn copied(&self, to_packet: bool) -> Result<Answer, String> {
        let size = self
            .register(4)
            .constant()
            .filter(|size| *size <= COPIED)
            .ok_or_else(|| format!("its size is no constant up to {COPIED}, which is not done yet"))?;
        let size = size as i32;
        let [packet, offset, memory, end] = [1, 2, 3, 5].map(register);
        let mut body = Vec::new();
        for at in 0..size as i16 {
            let (from, to) = if to_packet { (memory, packet) } else { (packet, memory) };
            body.push(load(Width::B, Reg::R0, from, at));
            body.push(store(Width::B, to, at, Operand::Reg(Reg::R0)));
        }
        body.push(mov(Reg::R0, 0));
        let mut failed = vec![mov(Reg::R0, INVALID)];
        if !to_packet {
            // Memory counts as written on Linux even then.
            failed.extend((0..size as i16).map(|at| store(Width::B, memory, at, Operand::Imm(0))));
        }
        body.push(skip(failed.len() as i32));
        let far = |behind: usize| (body.len() + behind) as i16;
        let mut ops = vec![
            alu32(AluOp::Mov, offset, Operand::Reg(offset)),
            load(Width::Dw, end, packet, 8),
            load(Width::Dw, packet, packet, 0),
            jump(WordSize::W64, Condition::Gt, offset, Operand::Imm(MOST_OFFSET), far(4)),
            alu(AluOp::Add, packet, Operand::Reg(offset)),
            copy(Reg::R0, packet),
            alu(AluOp::Add, Reg::R0, Operand::Imm(size)),
            jump(WordSize::W64, Condition::Gt, Reg::R0, Operand::Reg(end), far(0)),
        ];
        ops.extend(body);
        ops.extend(failed);
        Ok(Answer {
            ops,
            ..Answer::default()
        })
    }

    /// The call that prints as many values as the text has conversions.
    fn printk(&self) -> Answer {
        const HELPERS: u32 = 12;
        let printed = self
            .text()
            .and_then(|(section, text)| Ok((section, text, conversions(text)?)));
        match printed {
            Ok((section, text, (count, copy))) => Answer {
                ops: vec![call(HELPERS + count), sign32(Reg::R0)],
                degraded: None,
                text: (copy != text).then_some((section, copy)),
            },
            Err(why) => Answer {
                ops: vec![mov(Reg::R0, INVALID)],
                degraded: Some(format!("nothing is printed: {why}")),
                text: None,
            },
        }
    }

    /// The text that is printed, and the section that it is in.
    fn text(&self) -> Result<(GlobalIndex, &[u8]), &'static str> {
        const UNKNOWN: &str = "the text is not known here";
        let (text, size) = (self.register(1), self.register(2).constant().ok_or(UNKNOWN)?);
        let (Some(Object::Global(global)), Some((at, last))) = (text.object, text.offset) else {
            return Err(UNKNOWN);
        };
        let GlobalSection { data, read_only, .. } = &self.module.globals[global.index()];
        let range = usize::try_from(at).ok().zip(usize::try_from(size).ok());
        let bytes = range.and_then(|(at, size)| data.get(at..at.checked_add(size)?));
        let bytes = bytes.filter(|_| at == last && *read_only).ok_or(UNKNOWN)?;
        Ok((global, bytes))
    }
}

impl Answer {
    fn exact<const N: usize>(ops: [Instruction; N]) -> Answer {
        Answer {
            ops: ops.into(),
            ..Answer::default()
        }
    }
}

/// How many values a text prints, and the text that has Windows print what Linux does.
fn conversions(text: &[u8]) -> Result<(u32, Vec<u8>), &'static str> {
    const OTHER: &str = "Windows knows only %d, %i, %u and %x, with l and ll";
    const MOST: usize = 510;
    let body = text.strip_suffix(&[0]).ok_or("the text does not end with its size")?;
    if body.is_empty() || body.contains(&0) {
        return Err("the text is empty, or ends before its size");
    }
    let (mut count, mut copy) = (0, Vec::new());
    for (index, part) in body.split(|c| *c == b'%').enumerate() {
        if index == 0 {
            copy.extend(part);
            continue;
        }
        let conversion = part.strip_prefix(b"ll").or(part.strip_prefix(b"l")).unwrap_or(part);
        if !matches!(conversion.first(), Some(b'd' | b'i' | b'u' | b'x')) {
            return Err(OTHER);
        }
        // One l is 64 bits on Linux and 32 on Windows.
        copy.extend(if conversion.len() == part.len() {
            &b"%"[..]
        } else {
            b"%ll"
        });
        copy.extend(conversion);
        count += 1;
    }
    copy.push(0);
    match count {
        0..=3 if copy.len() <= MOST => Ok((count, copy)),
        0..=3 => Err("it is longer than 509 characters"),
        _ => Err("it prints more than three values"),
    }
}

#[cfg(test)]
mod tests {
    use super::conversions;

    #[test]
    fn texts_are_printed_as_on_linux_or_not_at_all() {
        for (text, expected) in [
            (&b"plain\0"[..], Some((0, &b"plain\0"[..]))),
            (b"%d %i %u\0", Some((3, b"%d %i %u\0"))),
            (b"%lu and %llx\0", Some((2, b"%llu and %llx\0"))),
            (b"%d%d%d%d\0", None),
            (b"%s\0", None),
            (b"%pI4\0", None),
            (b"%08x\0", None),
            (b"100%%\0", None),
            (b"100%\0", None),
            (b"no end", None),
            (b"two\0ends\0", None),
            (b"\0", None),
        ] {
            let found = conversions(text).ok();
            assert_eq!(found, expected.map(|(count, copy)| (count, copy.to_vec())), "{text:?}");
        }
        assert!(conversions(&[&[b'x'; 509][..], &[0]].concat()).is_ok());
        assert!(conversions(&[&[b'x'; 510][..], &[0]].concat()).is_err());
    }
}
