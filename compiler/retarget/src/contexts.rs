//! What stands in the place of accesses to the context.
//!
//! Given: a load or store of a context for Linux, whose address is that context's start plus a constant. Computed: instructions that give the
//! same of the context of Windows, whose address is the same register.

use bpf2sys_bytecode::{AluOp, Instruction, Operand, Reg, Width};

use crate::liveness;
use crate::rules::{Context, Field, place};
use crate::sequence::{alu32, load, mov, skip, store, swap16, unless_equal, width};

/// `AF_INET6` of Windows.
const INET6: i32 = 23;

/// An access to a context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    /// The load or store.
    pub(crate) op: Instruction,
    /// How far behind the context's start its base register points.
    pub(crate) base_at: i32,
    /// What Linux's context becomes.
    pub(crate) context: &'a Context,
    /// The sections of the programs that it belongs to.
    pub(crate) sections: &'a [&'a str],
    /// Registers that are needed after it.
    pub(crate) live: u16,
    /// Whether something of the module loads the field.
    pub(crate) read_too: bool,
}

/// What stands in the place of an access.
#[derive(Debug)]
pub(crate) struct Replaced<'a> {
    pub(crate) ops: Vec<Instruction>,
    pub(crate) field: &'a Field,
    /// What it is made of, where it is the same.
    pub(crate) becomes: String,
    /// What the program lacks.
    pub(crate) degraded: Option<String>,
}

impl<'a> Access<'a> {
    /// What stands in its place, or why nothing can.
    pub(crate) fn replace(&self) -> Result<Replaced<'a>, String> {
        let name = &self.context.name;
        let (bytes, offset) = match self.op {
            Instruction::Load {
                width,
                signed: false,
                offset,
                ..
            }
            | Instruction::Store { width, offset, .. } => (width.bytes(), offset),
            _ => return Err(format!("Linux allows only plain loads and stores of struct {name}")),
        };
        let at = self.base_at + i32::from(offset);
        let at = u32::try_from(at).map_err(|_| format!("it lies before struct {name}"))?;
        let field = self
            .context
            .field(at, bytes)
            .ok_or_else(|| format!("{bytes} bytes at {at} of struct {name} are no field, nor part of one"))?;
        let is_store = matches!(self.op, Instruction::Store { .. });
        let widths = if is_store { &field.write } else { &field.read };
        if !widths.contains(&bytes) || !at.is_multiple_of(bytes) {
            let what = if is_store { "stores" } else { "loads" };
            return Err(format!(
                "Linux allows no {what} of {bytes} bytes at {at} of struct {name}, in field {}",
                field.name
            ));
        }
        if let Some(family) = field.family
            && let Some(section) = self.sections.iter().find(|s| !s.ends_with(&family.to_string()))
        {
            return Err(format!(
                "Linux has field {} in no program of section {section}",
                field.name
            ));
        }
        let inside = at - field.at;
        let ops = match self.op {
            Instruction::Load { dst, base, .. } => self.loaded(field, (dst, base), inside, bytes),
            Instruction::Store { base, src, .. } => self.stored(field, (base, src), inside, bytes),
            _ => unreachable!("others were refused above"),
        };
        Ok(Replaced {
            ops: ops.map_err(|why| format!("field {}: {why}", field.name))?,
            field,
            becomes: if is_store {
                field.store.as_ref().map_or_else(String::new, |store| place(store.at))
            } else {
                field.load.becomes()
            },
            degraded: if is_store {
                field.store.as_ref().and_then(|store| store.lost.clone())
            } else {
                field
                    .load
                    .degraded
                    .then(|| format!("it is always {} on Windows", field.load.value.unwrap_or(0)))
            },
        })
    }

    /// The offset of an instruction that accesses `at` of the Windows context.
    fn offset(&self, at: u32) -> Result<i16, String> {
        i16::try_from(i64::from(at) - i64::from(self.base_at))
            .map_err(|_| "it lies too far from its register".to_owned())
    }

    fn loaded(
        &self,
        field: &Field,
        (dst, base): (Reg, Reg),
        inside: u32,
        bytes: u32,
    ) -> Result<Vec<Instruction>, String> {
        let rule = &field.load;
        if let Some(why) = &rule.refuse {
            return Err(why.clone());
        }
        if let Some(deleted) = &rule.deleted {
            let unless = rule.unless.unwrap_or(0);
            let value = deleted.values.get(inside as usize / 4).copied().unwrap_or(unless);
            let selector = load(Width::W, dst, base, self.offset(deleted.at)?);
            return Ok(vec![
                selector,
                unless_equal(dst, deleted.is, 2),
                mov(dst, value),
                skip(1),
                mov(dst, unless),
            ]);
        }
        if let Some(value) = rule.value {
            return Ok(vec![mov(dst, value)]);
        }
        let from = rule.at.ok_or("there is no rule for it")?;
        let wide = match rule.size {
            // A pointer of 4 bytes is one of 8.
            Some(size) if size > field.size => size,
            // What the smaller field lacks is zero.
            Some(size) if inside >= size => return Ok(vec![mov(dst, 0)]),
            Some(size) => bytes.min(size - inside),
            None => bytes,
        };
        let wide = width(wide).ok_or("there is no load of its size")?;
        let whole = load(wide, dst, base, self.offset(from + inside)?);
        let mut ops = Vec::new();
        if let Some(family) = rule.zero_if_v6 {
            // The register of the family must not be that of the context, nor one that is still needed.
            let scratch = if dst == base {
                liveness::free(self.live, &[base, dst]).ok_or("no register is free for the family")?
            } else {
                dst
            };
            let family = load(
                width(4).ok_or("there is no such load")?,
                scratch,
                base,
                self.offset(family)?,
            );
            ops.extend([family, unless_equal(scratch, INET6, 2), mov(dst, 0), skip(1), whole]);
        } else {
            ops.push(whole);
        }
        // Each pair skips what follows it; the last two instructions are the value of all others.
        let tail = rule.otherwise.map_or(0, |_| 1);
        for (index, [windows, linux]) in rule.map.iter().enumerate() {
            let rest = (rule.map.len() - index - 1) as i32 * 3 + tail;
            ops.extend([unless_equal(dst, *windows, 2), mov(dst, *linux), skip(rest)]);
        }
        ops.extend(rule.otherwise.map(|value| mov(dst, value)));
        ops.extend(rule.shift.map(|bits| alu32(AluOp::Lsh, dst, Operand::Imm(bits))));
        if rule.swap {
            ops.push(swap16(dst));
        }
        Ok(ops)
    }

    fn stored(
        &self,
        field: &Field,
        (base, src): (Reg, Operand),
        inside: u32,
        bytes: u32,
    ) -> Result<Vec<Instruction>, String> {
        let rule = field.store.as_ref().ok_or("Linux allows no stores")?;
        if let Some(why) = &rule.refuse {
            return Err(why.clone());
        }
        if rule.lost.is_some() {
            return if self.read_too {
                Err("the program reads it, too, and no bytes of Windows stand for it".into())
            } else {
                Ok(Vec::new())
            };
        }
        if let Some(only) = &rule.only
            && let Some(section) = self.sections.iter().find(|s| !s.starts_with(only.as_str()))
        {
            return Err(format!("a store has no effect on Windows in section {section}"));
        }
        let at = rule.at.ok_or("there is no rule for it")?;
        let bytes = rule.size.map_or(bytes, |size| bytes.min(size));
        let wide = width(bytes).ok_or("there is no store of its size")?;
        Ok(vec![store(wide, base, self.offset(at + inside)?, src)])
    }
}
